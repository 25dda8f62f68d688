//! The attribute macros of `sandpool-guest`, which re-exports and documents them.

use proc_macro::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};

/// Makes a function the start of a guest.
///
/// ```no_run
/// #[sandpool_guest::main]
/// fn main() -> Result<(), sandpool_guest::Error> {
///     sandpool_guest::Process::fork(|| println!("hello from a process"))?.join()?;
///     Ok(())
/// }
/// ```
///
/// It runs in the main process only: a process that was spawned runs the function that it was spawned with. What it
/// returns is the exit code, by `sandpool_guest::Termination`. The guest also gets the version of Sandpool's
/// contract that it was built against, so that a host of another version can say so.
///
/// # Errors
/// It doesn't compile on anything but a `fn main()` that is not `async` and has neither arguments nor generics.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments, item).unwrap_or_else(|(span, message)| compile_error(span, message))
}

type Refusal = (Span, &'static str);

fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, Refusal> {
    if let Some(token) = arguments.into_iter().next() {
        return Err((token.span(), "#[sandpool_guest::main] takes no arguments"));
    }
    let output = check(item.clone())?;

    // The user's function stays whole, as an inner one: all errors about it point at what the user wrote.
    let section = format!(
        r#"
        #[cfg(target_arch = "wasm32")]
        #[used]
        #[unsafe(link_section = "{}")]
        static SANDPOOL_ABI_VERSION: [u8; 4] = ::sandpool_guest::ABI_VERSION.to_le_bytes();
        "#,
        sandpool_abi::ABI_SECTION,
    );
    let mut body = parse(&section);
    body.extend(item);
    // With the span of the return type, so that a type which is no exit code is reported there.
    body.extend(respan(parse("::sandpool_guest::start::run(main)"), output));

    let mut expansion = parse("fn main()");
    expansion.extend([TokenTree::Group(Group::new(Delimiter::Brace, body))]);
    Ok(expansion)
}

/// Refuses all but a plain `fn main()`, and returns where its return type, or else its name, stands.
fn check(item: TokenStream) -> Result<Span, Refusal> {
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

fn parse(code: &str) -> TokenStream {
    code.parse().unwrap_or_else(|_| compile_error(Span::call_site(), "sandpool-guest-macros made bad code"))
}

fn respan(tokens: TokenStream, span: Span) -> TokenStream {
    tokens
        .into_iter()
        .map(|token| match token {
            TokenTree::Group(group) => {
                let mut group = Group::new(group.delimiter(), respan(group.stream(), span));
                group.set_span(span);
                TokenTree::Group(group)
            }
            mut token => {
                token.set_span(span.resolved_at(token.span()));
                token
            }
        })
        .collect()
}

fn compile_error(span: Span, message: &str) -> TokenStream {
    use proc_macro::{Literal, Punct, Spacing};
    let mut message = TokenTree::Literal(Literal::string(message));
    message.set_span(span);
    let mut group = Group::new(Delimiter::Brace, message.into());
    group.set_span(span);
    let mut bang = Punct::new('!', Spacing::Alone);
    bang.set_span(span);
    let error = [TokenTree::Ident(Ident::new("compile_error", span)), bang.into(), group.into()];
    // With a `main`, so that its absence isn't reported as a second error.
    error.into_iter().chain("fn main() {}".parse::<TokenStream>().into_iter().flatten()).collect()
}
