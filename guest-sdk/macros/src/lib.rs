//! The attribute macros of `sandpool-guest`, which re-exports and documents them.

mod managed;
mod program;
mod task;
mod types;

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
/// The function runs in the main process only: a spawned process runs the function that it was spawned with. The
/// return value becomes the exit code, by `sandpool_guest::start::Termination`. The guest also gets the version of
/// Sandpool's contract that it was built against, so that a host of another version can report the mismatch.
///
/// # Errors
/// The attribute compiles only on a `fn main()` that is not `async` and has neither arguments nor generics.
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    program::expand(arguments, item).unwrap_or_else(|(span, message)| {
        // With a `main`, so that a missing `main` isn't reported as a second error.
        compile_error(span, message).into_iter().chain(parse("fn main() {}")).collect()
    })
}

/// Makes a function a task, which the host calls with inputs of its own: `sandpool map`, or a pool of an application.
///
/// ```no_run
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// struct Review {
///     text: String,
///     stars: u8,
/// }
///
/// #[derive(Serialize)]
/// struct Score {
///     mood: i32,
/// }
///
/// /// How well the author likes it.
/// #[sandpool_guest::task]
/// fn score(review: Review) -> Result<Score, String> {
///     if review.stars > 5 {
///         return Err(format!("{} stars of 5", review.stars));
///     }
///     Ok(Score { mood: i32::from(review.stars) + review.text.matches('!').count() as i32 })
/// }
///
/// // A guest that only has tasks is a program all the same.
/// fn main() {}
/// ```
///
/// The function itself doesn't change, and can be called as before. Its argument is anything that serde deserializes,
/// and its result anything that serde serializes, or a `Result` of that whose error can be displayed. A task without an
/// argument takes `()`, a task with several a tuple of them. The task's name is that of the function, or another by
/// `#[task(name = "…")]`: letters, digits, `_`, `-` and `.`. Types and documentation are in the module for `sandpool
/// inspect` to show.
///
/// | format of the host | input | output |
/// | --- | --- | --- |
/// | serde | as in queues | as in queues |
/// | JSON | JSON | JSON, in one line |
/// | text, such as a line | what can be made of a string is; everything else is read as JSON; a `Vec<u8>` is the text's bytes | a string or bytes as they are; nothing for `()`; anything else as JSON |
/// | bytes | what can be made of a string or of bytes | a string or bytes; nothing for `()` |
///
/// Numbers in JSON keep their value: a task isn't called with an integer that its type would change, such as one of more than 64
/// bits for a `serde_json::Value`, and NaN can't be an output. Floats have all of their bits.
///
/// A task that panics ends its process with exit code 1, as `main` does. Queues and other objects of a run can't be part
/// of an input or output. A task may fork processes; it can spawn a process only in a guest that began with `main`.
///
/// # Errors
/// The attribute compiles only on a free function that is neither `async` nor `unsafe`, has no generics, and whose
/// arguments are no references. Two tasks with the same name in a guest don't compile or link either.
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, item: TokenStream) -> TokenStream {
    task::expand(arguments, item.clone()).unwrap_or_else(|(span, message)| {
        // With the function, so that a missing function isn't reported as well.
        item.into_iter().chain(compile_error(span, message)).collect()
    })
}

/// Makes a type one whose values can live in a manager, and writes the type of their proxies.
///
/// ```no_run
/// use sandpool_guest::Manager;
///
/// struct Counter(u64);
///
/// #[sandpool_guest::managed]
/// impl Counter {
///     fn new(from: u64) -> Self {
///         Self(from)
///     }
///
///     fn add(&mut self, number: u64) -> u64 {
///         self.0 += number;
///         self.0
///     }
/// }
///
/// let manager = Manager::builder().register::<Counter>().start()?;
/// let counter = CounterProxy::new(&manager, 7)?;
/// assert_eq!(counter.add(1)?, 8);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// The block itself doesn't change. For a type `T`, the attribute writes a type `TProxy` with the same methods. Each of them
/// takes `&self` and the same arguments, makes a call of the manager, and returns a `Result` of the method's result and
/// a `sandpool_guest::manager::CallError`. A function without `self` makes a value: it returns `Self` or `Result<Self, E>`,
/// and its counterpart takes the manager first. All arguments and results are what serde encodes and decodes, and may be
/// proxies, queues, locks and the like. A method makes another value of the manager by `TProxy::host`, and returns the proxy.
///
/// Calls are done one after another, so a method is one step for all processes. A method that waits for something holds up
/// all other calls of the manager.
///
/// A method that panics is an error of that call, `CallError::Panicked`. Later calls of the same value are
/// `CallError::Poisoned`. With `#[managed(restore)]`, the value is as it was before the call that panicked: it is cloned
/// before each call.
///
/// # Errors
/// The attribute compiles only on an `impl` block of a type without generics, whose methods take `&self` or `&mut self`, have
/// no generics, and neither take nor return references. Other methods and constants go into another block.
#[proc_macro_attribute]
pub fn managed(arguments: TokenStream, item: TokenStream) -> TokenStream {
    managed::expand(arguments, item.clone()).unwrap_or_else(|(span, message)| {
        // With the block, so that its methods aren't reported as missing.
        item.into_iter().chain(compile_error(span, message)).collect()
    })
}

/// The place of an error, and its message.
type MacroError = (Span, &'static str);

/// The version of the contract, in the section where the host looks for it.
fn abi_version() -> String {
    format!(
        r#"
        #[cfg(target_arch = "wasm32")]
        #[used]
        #[unsafe(link_section = "{}")]
        static SANDPOOL_ABI_VERSION: [u8; 4] = ::sandpool_guest::ABI_VERSION.to_le_bytes();
        "#,
        sandpool_abi::ABI_SECTION,
    )
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
    TokenStream::from_iter([TokenTree::Ident(Ident::new("compile_error", span)), bang.into(), group.into()])
}
