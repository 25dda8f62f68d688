//! `#[sandpool_guest::main]`.

use proc_macro::{Delimiter, Group, Span, TokenStream, TokenTree};

use crate::{MacroError, abi_version, parse, respan};

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, MacroError> {
    if let Some(token) = arguments.into_iter().next() {
        return Err((token.span(), "#[sandpool_guest::main] takes no arguments"));
    }
    let output = check(item.clone())?;

    // The user's function stays whole, as an inner one: all errors about it point at what the user wrote.
    let mut body = parse(&abi_version());
    body.extend(item);
    // With the span of the return type, so that a type which isn't an exit code is reported there.
    body.extend(respan(parse("::sandpool_guest::start::run(main)"), output));

    let mut expansion = parse("fn main()");
    expansion.extend([TokenTree::Group(Group::new(Delimiter::Brace, body))]);
    Ok(expansion)
}

/// Refuses everything except a plain `fn main()`, and returns the place of its return type, or else of its name.
fn check(item: TokenStream) -> Result<Span, MacroError> {
    const NOT_A_MAIN: &str = "#[sandpool_guest::main] goes on `fn main()`";

    let mut tokens = item.into_iter();
    loop {
        match tokens.next() {
            Some(TokenTree::Ident(word)) => match word.to_string().as_str() {
                "fn" => break,
                "async" => {
                    return Err((
                        word.span(),
                        "`main` can't be async: a guest process has one thread, so block instead",
                    ));
                }
                "pub" => {}
                "const" | "unsafe" | "extern" => return Err((word.span(), "`main` is a plain `fn`")),
                _ => return Err((word.span(), NOT_A_MAIN)),
            },
            // Attributes, doc comments, and the group of `pub(crate)`.
            Some(TokenTree::Punct(_) | TokenTree::Group(_)) => {}
            Some(other) => return Err((other.span(), NOT_A_MAIN)),
            None => return Err((Span::call_site(), NOT_A_MAIN)),
        }
    }

    let name = match tokens.next() {
        Some(TokenTree::Ident(name)) if name.to_string() == "main" => name.span(),
        Some(other) => return Err((other.span(), NOT_A_MAIN)),
        None => return Err((Span::call_site(), NOT_A_MAIN)),
    };
    match tokens.next() {
        Some(TokenTree::Group(parameters)) if parameters.delimiter() == Delimiter::Parenthesis => {
            if let Some(token) = parameters.stream().into_iter().next() {
                return Err((token.span(), "`main` takes no arguments: read them with `std::env::args()`"));
            }
        }
        Some(other) => return Err((other.span(), "`main` can't be generic")),
        None => return Err((name, NOT_A_MAIN)),
    }

    let output = tokens.find(|token| !matches!(token, TokenTree::Punct(_) | TokenTree::Group(_)));
    Ok(output.map_or(name, |token| token.span()))
}
