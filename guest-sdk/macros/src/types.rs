//! Types as tokens: lists of them, and their text.

use proc_macro::{Delimiter, Spacing, TokenTree};

/// The depth in angle brackets, which aren't groups of tokens.
#[derive(Default)]
pub(crate) struct Depth {
    depth: usize,
    /// Whether a `-` came right before, which makes a following `>` an arrow.
    after_minus: bool,
}

impl Depth {
    /// Passes a token, and returns whether the token is outside of all angle brackets.
    pub(crate) fn is_outside(&mut self, token: &TokenTree) -> bool {
        let TokenTree::Punct(punct) = token else {
            self.after_minus = false;
            return self.depth == 0;
        };
        match punct.as_char() {
            '<' => self.depth += 1,
            '>' if !self.after_minus => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        self.after_minus = punct.as_char() == '-' && punct.spacing() == Spacing::Joint;
        self.depth == 0
    }
}

/// Splits a list at its commas.
pub(crate) fn split(list: impl IntoIterator<Item = TokenTree>) -> Vec<Vec<TokenTree>> {
    let mut depth = Depth::default();
    let mut parts = vec![Vec::new()];
    for token in list {
        if depth.is_outside(&token) && is(&token, ',') {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(token);
        }
    }
    // A comma at the end separates nothing.
    if parts.last().is_some_and(Vec::is_empty) {
        parts.pop();
    }
    parts
}

/// The arguments of a type that is a `Result`, under whatever path.
pub(crate) fn of_result(ty: &[TokenTree]) -> Option<Vec<Vec<TokenTree>>> {
    let (last, ty) = ty.split_last().filter(|(last, _)| is(last, '>'))?;
    let open = ty.iter().position(|token| is(token, '<'))?;
    let (path, arguments) = ty.split_at_checked(open)?;
    let is_path = path.iter().all(|token| matches!(token, TokenTree::Ident(_)) || is(token, ':'));
    let is_result = path.last().is_some_and(|name| name.to_string() == "Result");
    // One list, which the last token closes.
    let mut depth = Depth::default();
    let is_one = arguments.iter().all(|token| !depth.is_outside(token)) && depth.is_outside(last);
    let arguments = arguments.get(1..)?;
    (is_path && is_result && is_one).then(|| split(arguments.iter().cloned()))
}

/// Whether it is this punctuation mark.
pub(crate) fn is(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

/// A type as people write it.
pub(crate) fn text(tokens: impl IntoIterator<Item = TokenTree>) -> String {
    let mut out = String::new();
    write(&mut out, tokens);
    out
}

fn write(out: &mut String, tokens: impl IntoIterator<Item = TokenTree>) {
    let mut was_word = false;
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_word = matches!(token, TokenTree::Ident(_) | TokenTree::Literal(_));
        if was_word && is_word {
            out.push(' ');
        }
        was_word = is_word;
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                out.push_str(open);
                write(out, group.stream());
                out.push_str(close);
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                '-' => out.push_str(" -"),
                '>' if out.ends_with('-') => out.push_str("> "),
                mark @ ('+' | '=') => out.extend([' ', mark, ' ']),
                mark @ (',' | ';') if tokens.peek().is_some() => out.extend([mark, ' ']),
                mark => out.push(mark),
            },
            word => out.push_str(&word.to_string()),
        }
    }
}
