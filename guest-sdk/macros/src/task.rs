//! `#[sandpool_guest::task]`.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

use crate::types::{self, Depth};
use crate::{MacroError, abi_version, parse, respan};

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, MacroError> {
    let chosen = chosen_name(arguments)?;
    let task = Task::read(item.clone())?;
    let export = chosen.unwrap_or_else(|| task.name.to_string().trim_start_matches("r#").to_owned());
    let (output, error) = task.result();
    let docs: String = task.docs.iter().map(|line| format!("{line}, \"\\n\", ")).collect();

    let call = task.call()?;
    // The user's function stays as it is: all errors about it point at what the user wrote.
    let mut expansion = item;
    expansion.extend(parse("const _: () ="));
    let mut body = parse(&format!(
        r#"
        const SANDPOOL_TASK_TEXT: &str = ::core::concat!(
            {export:?}, "\0", {input:?}, "\0", {output:?}, "\0", {error:?}, "\0", {docs} "\0",
        );
        #[cfg(target_arch = "wasm32")]
        #[used]
        #[unsafe(link_section = "{section}")]
        static SANDPOOL_TASK: [u8; SANDPOOL_TASK_TEXT.len()] =
            ::sandpool_guest::task::description(SANDPOOL_TASK_TEXT);
        {abi_version}
        #[allow(dead_code, reason = "only the host calls it, and only WebAssembly has a host")]
        #[cfg_attr(target_arch = "wasm32", unsafe(export_name = "{prefix}{export}"))]
        extern "C" fn sandpool_task_call(format: u32, len: u32) -> u32
        "#,
        input = types::text(task.input()),
        section = sandpool_abi::task::SECTION,
        prefix = sandpool_abi::task::EXPORT_PREFIX,
        abi_version = abi_version(),
    ));
    body.extend([group(Delimiter::Brace, call)]);
    expansion.extend([group(Delimiter::Brace, body)]);
    expansion.extend(parse(";"));
    Ok(expansion)
}

/// The name in `#[task(name = "…")]`.
fn chosen_name(arguments: TokenStream) -> Result<Option<String>, MacroError> {
    const USAGE: &str = "#[sandpool_guest::task] takes nothing, or `name = \"…\"`";
    const NAME: &str = "a task's name has letters, digits, `_`, `-` and `.`";

    let arguments: Vec<_> = arguments.into_iter().collect();
    let Some(first) = arguments.first() else { return Ok(None) };
    match arguments.as_slice() {
        [TokenTree::Ident(key), equals, TokenTree::Literal(name)]
            if key.to_string() == "name" && types::is(equals, '=') =>
        {
            let text = name.to_string();
            let quoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            let is_name = |name: &&str| {
                !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
            };
            let quoted = quoted.filter(is_name).ok_or((name.span(), NAME))?;
            Ok(Some(quoted.to_owned()))
        }
        _ => Err((first.span(), USAGE)),
    }
}

/// The facts about a function that becomes a task.
struct Task {
    name: Ident,
    /// The values of the function's `doc` attributes, as code.
    docs: Vec<TokenStream>,
    /// The types of the arguments.
    arguments: Vec<Vec<TokenTree>>,
    /// The type of the result, if the function has one.
    output: Vec<TokenTree>,
}

impl Task {
    fn read(item: TokenStream) -> Result<Self, MacroError> {
        const NOT_A_TASK: &str = "#[sandpool_guest::task] goes on a function";
        const GENERIC: &str = "a task can't be generic: its input has one type";

        let mut tokens = item.into_iter();
        let mut docs = Vec::new();
        loop {
            match tokens.next() {
                Some(TokenTree::Ident(word)) => match word.to_string().as_str() {
                    "fn" => break,
                    "pub" | "const" => {}
                    "async" => {
                        return Err((
                            word.span(),
                            "a task can't be async: a guest process has one thread, so block instead",
                        ));
                    }
                    "unsafe" | "extern" => return Err((word.span(), "a task is a plain `fn`")),
                    _ => return Err((word.span(), NOT_A_TASK)),
                },
                Some(TokenTree::Group(attribute)) => docs.extend(doc(attribute.stream())),
                // Punctuation of attributes.
                Some(TokenTree::Punct(_)) => {}
                Some(other) => return Err((other.span(), NOT_A_TASK)),
                None => return Err((Span::call_site(), NOT_A_TASK)),
            }
        }
        let name = match tokens.next() {
            Some(TokenTree::Ident(name)) => name,
            Some(other) => return Err((other.span(), NOT_A_TASK)),
            None => return Err((Span::call_site(), NOT_A_TASK)),
        };
        let arguments = match tokens.next() {
            Some(TokenTree::Group(arguments)) if arguments.delimiter() == Delimiter::Parenthesis => {
                types::split(arguments.stream()).into_iter().map(argument).collect::<Result<_, _>>()?
            }
            Some(other) => return Err((other.span(), GENERIC)),
            None => return Err((name.span(), NOT_A_TASK)),
        };

        let mut depth = Depth::default();
        let is_in_type = |token: &TokenTree| {
            !depth.is_outside(token)
                || match token {
                    TokenTree::Group(body) => body.delimiter() != Delimiter::Brace,
                    TokenTree::Ident(word) => word.to_string() != "where",
                    other => !types::is(other, ';'),
                }
        };
        // Without the arrow.
        let output = tokens.take_while(is_in_type).skip(2).collect();
        Ok(Self { name, docs, arguments, output })
    }

    /// The type of the task's input: `()` for no argument, a tuple for several.
    fn input(&self) -> TokenStream {
        if let [one] = self.arguments.as_slice() {
            return one.iter().cloned().collect();
        }
        let mut list = TokenStream::new();
        for (at, ty) in self.arguments.iter().enumerate() {
            if at > 0 {
                list.extend(parse(","));
            }
            list.extend(ty.iter().cloned());
        }
        group(Delimiter::Parenthesis, list).into()
    }

    /// The text of the types of the output and of the error. Empty if there is no error; `_` for an error type that the
    /// signature doesn't name.
    fn result(&self) -> (String, String) {
        let of_result = types::of_result(&self.output).unwrap_or_default();
        match of_result.as_slice() {
            [output, error] => (types::text(output.clone()), types::text(error.clone())),
            [output] => (types::text(output.clone()), "_".to_owned()),
            _ if self.output.is_empty() => ("()".to_owned(), String::new()),
            _ => (types::text(self.output.clone()), String::new()),
        }
    }

    /// The body of the export.
    fn call(&self) -> Result<TokenStream, MacroError> {
        let names: Vec<_> = (0..self.arguments.len())
            .map(|n| Ident::new(&format!("argument{n}"), Span::call_site()))
            .collect();
        let list = || names.iter().flat_map(|name| parse(&format!("{name},"))).collect::<TokenStream>();
        let pattern = match names.as_slice() {
            [one] => TokenTree::Ident(one.clone()).into(),
            _ => group(Delimiter::Parenthesis, list()).into(),
        };

        let mut returned: TokenStream = TokenTree::Ident(self.name.clone()).into();
        returned.extend([group(Delimiter::Parenthesis, list())]);
        let mut closure: TokenStream = parse("|");
        closure.extend::<TokenStream>(pattern);
        closure.extend(parse("| ::sandpool_guest::task::Returned"));
        closure.extend([group(Delimiter::Parenthesis, returned)]);
        // With the span of the result's type, so that a type which can't be encoded is reported there.
        let place = self.output.first().map_or(self.name.span(), TokenTree::span);
        closure.extend(respan(parse(".outcome()"), place));

        let mut call = parse("use ::sandpool_guest::task::Plain as _; ::sandpool_guest::task::run::<");
        call.extend(self.input());
        call.extend(parse(", _>"));
        let mut arguments = parse("format, len,");
        arguments.extend(closure);
        call.extend([group(Delimiter::Parenthesis, arguments)]);
        Ok(call)
    }
}

/// Returns the documentation that an attribute's tokens set, if any.
fn doc(attribute: TokenStream) -> Option<TokenStream> {
    let mut tokens = attribute.into_iter();
    let is_doc = tokens.next().is_some_and(|word| word.to_string() == "doc");
    let is_set = tokens.next().is_some_and(|equals| types::is(&equals, '='));
    (is_doc && is_set).then(|| tokens.collect())
}

/// The type of an argument.
fn argument(tokens: Vec<TokenTree>) -> Result<Vec<TokenTree>, MacroError> {
    let span = tokens.first().map_or_else(Span::call_site, TokenTree::span);
    let colon = tokens.iter().enumerate().position(|(at, token)| {
        // A path has two colons.
        let is_colon =
            |at: Option<usize>| at.and_then(|at| tokens.get(at)).is_some_and(|t| types::is(t, ':'));
        types::is(token, ':') && !is_colon(at.checked_add(1)) && !is_colon(at.checked_sub(1))
    });
    let Some(colon) = colon else { return Err((span, "a task is a free function, without `self`")) };
    let ty: Vec<_> = tokens.into_iter().skip(colon + 1).collect();
    match ty.first() {
        Some(TokenTree::Punct(and)) if and.as_char() == '&' => {
            Err((and.span(), "a task can't borrow its input, which nobody else has: take it by value"))
        }
        Some(TokenTree::Ident(word)) if word.to_string() == "impl" => {
            Err((word.span(), "a task can't be generic: its input has one type"))
        }
        _ => Ok(ty),
    }
}

fn group(delimiter: Delimiter, tokens: TokenStream) -> TokenTree {
    TokenTree::Group(Group::new(delimiter, tokens))
}
