//! `#[sandpool_guest::managed]`.

use proc_macro::{Delimiter, Ident, Span, TokenStream, TokenTree};

use crate::types::{self, Depth};
use crate::{MacroError, parse};

const NOT_AN_IMPL: &str = "#[sandpool_guest::managed] goes on an `impl` block of a type";

pub(crate) fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, MacroError> {
    let restore = restores(arguments)?;
    let (name, body) = block(item.clone())?;
    let methods = methods(body, &name)?;
    let code = generate(&name.to_string(), &methods, restore);
    // The user's block stays as it is: all errors about it point at what the user wrote.
    let mut expansion = item;
    expansion.extend(parse(&code));
    Ok(expansion)
}

/// Whether the attribute is `#[managed(restore)]`.
fn restores(arguments: TokenStream) -> Result<bool, MacroError> {
    const USAGE: &str = "#[sandpool_guest::managed] takes nothing, or `restore`";
    let arguments: Vec<_> = arguments.into_iter().collect();
    match arguments.as_slice() {
        [] => Ok(false),
        [TokenTree::Ident(word)] if word.to_string() == "restore" => Ok(true),
        [other, ..] => Err((other.span(), USAGE)),
    }
}

/// The type's name, and the content of its block.
fn block(item: TokenStream) -> Result<(Ident, TokenStream), MacroError> {
    let mut tokens = item.into_iter();
    let mut span = Span::call_site();
    loop {
        match tokens.next() {
            Some(TokenTree::Ident(word)) if word.to_string() == "impl" => break,
            // Attributes.
            Some(TokenTree::Punct(_) | TokenTree::Group(_)) => {}
            Some(other) => return Err((other.span(), NOT_AN_IMPL)),
            None => return Err((span, NOT_AN_IMPL)),
        }
    }
    let mut name = None;
    for token in tokens {
        span = token.span();
        match token {
            TokenTree::Ident(word) if matches!(word.to_string().as_str(), "for" | "where") => {
                return Err((
                    word.span(),
                    "#[sandpool_guest::managed] goes on the methods of the type itself",
                ));
            }
            TokenTree::Ident(word) => name = Some(word),
            TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => {
                return Ok((name.ok_or((body.span(), NOT_AN_IMPL))?, body.stream()));
            }
            token if types::is(&token, ':') => {}
            other => {
                return Err((other.span(), "a managed type can't be generic: its proxies have one type"));
            }
        }
    }
    Err((span, NOT_AN_IMPL))
}

struct Method {
    name: Ident,
    /// The visibility, as code.
    visibility: String,
    /// Attributes `doc`, as code.
    docs: String,
    /// Attributes `cfg`, as code.
    cfgs: String,
    /// Names and types of the arguments.
    arguments: Vec<(String, String)>,
    /// The type of the result.
    output: String,
    makes: Makes,
}

/// The result of a method.
enum Makes {
    /// Its result, of an object that there is.
    Result,
    /// An object.
    Object,
    /// An object, or an error of this type.
    ObjectOr(String),
}

fn methods(body: TokenStream, of: &Ident) -> Result<Vec<Method>, MacroError> {
    let mut tokens = body.into_iter().peekable();
    let mut methods = Vec::new();
    let (mut visibility, mut docs, mut cfgs) = (String::new(), String::new(), String::new());
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(mark) if mark.as_char() == '#' => {
                let Some(TokenTree::Group(attribute)) = tokens.next() else { continue };
                let what = attribute.stream().into_iter().next().map(|word| word.to_string());
                match what.as_deref() {
                    Some("doc") => docs += &format!("#{attribute}"),
                    Some("cfg") => cfgs += &format!("#{attribute}"),
                    _ => {}
                }
            }
            TokenTree::Ident(word) => match word.to_string().as_str() {
                "pub" => {
                    visibility = "pub".to_owned();
                    if let Some(TokenTree::Group(of)) = tokens.peek() {
                        visibility += &of.to_string();
                        tokens.next();
                    }
                }
                "fn" => {
                    let (docs, cfgs) = (std::mem::take(&mut docs), std::mem::take(&mut cfgs));
                    let mut method = Method::read(&mut tokens, word.span(), of)?;
                    (method.visibility, method.docs, method.cfgs) =
                        (std::mem::take(&mut visibility), docs, cfgs);
                    methods.push(method);
                }
                "async" => {
                    return Err((
                        word.span(),
                        "a method can't be async: a guest process has one thread, so block instead",
                    ));
                }
                "unsafe" | "extern" => return Err((word.span(), "a method for proxies is a plain `fn`")),
                "const" if !matches!(tokens.peek(), Some(TokenTree::Ident(next)) if next.to_string() == "fn") =>
                {
                    return Err((word.span(), "this block has methods only: put constants into another one"));
                }
                "const" => {}
                _ => return Err((word.span(), "this block has methods only")),
            },
            other => return Err((other.span(), "this block has methods only")),
        }
    }
    Ok(methods)
}

impl Method {
    /// Reads a method after its `fn`.
    fn read(
        tokens: &mut impl Iterator<Item = TokenTree>,
        span: Span,
        of: &Ident,
    ) -> Result<Self, MacroError> {
        const GENERIC: &str = "a method for proxies can't be generic: put it into another `impl` block";
        let Some(TokenTree::Ident(name)) = tokens.next() else { return Err((span, NOT_AN_IMPL)) };
        let arguments = match tokens.next() {
            Some(TokenTree::Group(arguments)) if arguments.delimiter() == Delimiter::Parenthesis => arguments,
            Some(other) => return Err((other.span(), GENERIC)),
            None => return Err((name.span(), NOT_AN_IMPL)),
        };
        let mut depth = Depth::default();
        let mut output: Vec<_> = tokens
            .take_while(|token| {
                !depth.is_outside(token)
                    || !matches!(token, TokenTree::Group(body) if body.delimiter() == Delimiter::Brace)
            })
            .collect();
        if let Some(word) = output.iter().find(|token| token.to_string() == "where") {
            return Err((word.span(), GENERIC));
        }
        // Without the arrow.
        output.drain(..output.len().min(2));

        let mut list = types::split(arguments.stream());
        let receiver = list.first().and_then(|first| receiver(first));
        if receiver.is_some() {
            list.remove(0);
        }
        if let Some(Err(span)) = receiver {
            return Err((
                span,
                "a method for proxies takes `&self` or `&mut self`: the value stays in the manager",
            ));
        }
        let arguments = list.into_iter().enumerate().map(|(at, tokens)| argument(at, tokens, of));
        let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
        let is_self = |tokens: &[TokenTree]| {
            matches!(tokens, [TokenTree::Ident(word)]
                if word.to_string() == "Self" || word.to_string() == of.to_string())
        };
        let makes = match (receiver, types::of_result(&output).as_deref()) {
            (Some(_), _) => Makes::Result,
            (None, Some([value, error])) if is_self(value) => Makes::ObjectOr(text(error.clone(), of)),
            (None, None) if is_self(&output) => Makes::Object,
            _ => {
                return Err((
                    name.span(),
                    "a function without `self` makes a value: it returns `Self` or `Result<Self, E>`; put others into \
                     another `impl` block",
                ));
            }
        };
        if let Some(and) = output.first().filter(|token| types::is(token, '&')) {
            return Err((
                and.span(),
                "a method for proxies can't return a reference: the value is in another process",
            ));
        }
        let output = if output.is_empty() { "()".to_owned() } else { text(output, of) };
        let (visibility, docs, cfgs) = Default::default();
        Ok(Self { name, visibility, docs, cfgs, arguments, output, makes })
    }
}

/// Whether an argument is `&self` or `&mut self`; an error if it is another `self`. `None` if it is none.
fn receiver(tokens: &[TokenTree]) -> Option<Result<(), Span>> {
    let is_self = |token: &TokenTree| token.to_string() == "self";
    let at = tokens.iter().position(is_self)?;
    // A type may name a module `self`.
    if tokens.iter().take(at).any(|token| types::is(token, ':')) {
        return None;
    }
    let is_borrowed = tokens.first().is_some_and(|token| types::is(token, '&')) && at + 1 == tokens.len();
    Some(if is_borrowed { Ok(()) } else { Err(tokens.get(at)?.span()) })
}

/// The name and the type of an argument.
fn argument(at: usize, tokens: Vec<TokenTree>, of: &Ident) -> Result<(String, String), MacroError> {
    let span = tokens.first().map_or_else(Span::call_site, TokenTree::span);
    let colon = tokens.iter().enumerate().position(|(at, token)| {
        let is_colon =
            |at: Option<usize>| at.and_then(|at| tokens.get(at)).is_some_and(|t| types::is(t, ':'));
        types::is(token, ':') && !is_colon(at.checked_add(1)) && !is_colon(at.checked_sub(1))
    });
    let colon = colon.ok_or((span, NOT_AN_IMPL))?;
    let name = match tokens.get(colon.wrapping_sub(1)) {
        Some(TokenTree::Ident(name)) if colon <= 2 && name.to_string() != "_" => name.to_string(),
        _ => format!("argument{at}"),
    };
    let ty: Vec<_> = tokens.into_iter().skip(colon + 1).collect();
    match ty.first() {
        Some(TokenTree::Punct(and)) if and.as_char() == '&' => {
            Err((and.span(), "a method for proxies can't borrow: its arguments come from another process"))
        }
        Some(TokenTree::Ident(word)) if word.to_string() == "impl" => {
            Err((word.span(), "a method for proxies can't be generic: put it into another `impl` block"))
        }
        _ => Ok((name, text(ty, of))),
    }
}

/// A type as code, for a place where `Self` is another type.
fn text(tokens: Vec<TokenTree>, of: &Ident) -> String {
    fn named(tokens: impl IntoIterator<Item = TokenTree>, of: &Ident) -> TokenStream {
        tokens
            .into_iter()
            .map(|token| match token {
                TokenTree::Ident(word) if word.to_string() == "Self" => TokenTree::Ident(of.clone()),
                TokenTree::Group(group) => {
                    TokenTree::Group(proc_macro::Group::new(group.delimiter(), named(group.stream(), of)))
                }
                other => other,
            })
            .collect()
    }
    named(tokens, of).to_string()
}

/// The parts of the generated code that have a piece for each method.
#[derive(Default)]
struct Parts {
    /// The arms of `Managed::call`, and of `Managed::construct`.
    calls: String,
    constructs: String,
    /// The methods of the proxy.
    proxied: String,
    /// The types of all methods: equal in two programs if these agree on what is called.
    signatures: String,
}

impl Parts {
    fn new(name: &str, methods: &[Method]) -> Self {
        let mut parts = Self::default();
        methods.iter().enumerate().for_each(|(number, method)| parts.add(name, number, method));
        parts
    }

    fn add(&mut self, name: &str, number: usize, method: &Method) {
        let Method { name: method_name, visibility, docs, cfgs, arguments, output, makes } = method;
        let names: String = arguments.iter().map(|(name, _)| format!("{name}, ")).collect();
        let list: String = arguments.iter().map(|(_, ty)| format!("{ty}, ")).collect();
        let parameters: String = arguments.iter().map(|(name, ty)| format!("{name}: {ty}, ")).collect();
        self.signatures += &format!("{method_name}({list})->{output};");
        let docs = if docs.is_empty() {
            format!("#[doc = \"Calls `{name}::{method_name}` in the manager.\"]")
        } else {
            docs.clone()
        };
        let (errors, call) = (
            "\n\n# Errors\n[`CallError`](::sandpool_guest::manager::CallError) if the call has no result.",
            format!("|({names}): ({list})|"),
        );
        let head = format!("{cfgs} {docs} #[doc = {errors:?}] {visibility} fn {method_name}");
        let construct = |made: &str, result: &str| {
            format!(
                "{head}(in_manager: &::sandpool_guest::manager::ManagerHandle, {parameters})
                    -> ::core::result::Result<{result}, ::sandpool_guest::manager::CallError>
                {{
                    let made: {made} = ::sandpool_guest::manager::Proxy::<{name}>::construct(
                        in_manager, {number}, &({names}))?;"
            )
        };
        let proxy = format!("::sandpool_guest::manager::Proxy<{name}>");
        match makes {
            Makes::Result => {
                self.calls +=
                    &format!("{cfgs} {number} => call.answer({call} {name}::{method_name}(self, {names})),");
                self.proxied += &format!(
                    "{head}(&self, {parameters}) -> ::core::result::Result<{output}, ::sandpool_guest::manager::CallError> {{
                        self.0.call({number}, &({names}))
                    }}"
                );
            }
            Makes::Object => {
                self.constructs +=
                    &format!("{cfgs} {number} => call.construct({call} {name}::{method_name}({names})),");
                let made = format!("::core::option::Option<{proxy}>");
                self.proxied += &construct(&made, "Self");
                self.proxied += "made.map(Self).ok_or(::sandpool_guest::manager::CallError::NoSuchObject) }";
            }
            Makes::ObjectOr(error) => {
                self.constructs += &format!(
                    "{cfgs} {number} => call.construct_result({call} {name}::{method_name}({names})),"
                );
                let made = format!("::core::result::Result<{proxy}, {error}>");
                self.proxied += &construct(&made, &format!("::core::result::Result<Self, {error}>"));
                self.proxied += "::core::result::Result::Ok(made.map(Self)) }";
            }
        }
    }
}

fn generate(name: &str, methods: &[Method], restore: bool) -> String {
    let visibility =
        methods.iter().map(|method| method.visibility.as_str()).find(|visibility| !visibility.is_empty());
    let visibility = visibility.unwrap_or_default();
    let Parts { calls, constructs, proxied, signatures } = Parts::new(name, methods);
    let checkpoint = if restore {
        "fn checkpoint(&self) -> ::core::option::Option<Self> {
            ::core::option::Option::Some(::core::clone::Clone::clone(self))
        }"
    } else {
        ""
    };
    format!(
        r##"
        #[doc = "A proxy of a [`{name}`] in a manager: its methods are calls of that value's."]
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(dead_code, reason = "a program needn't use all that a proxy has")]
        {visibility} struct {name}Proxy(::sandpool_guest::manager::Proxy<{name}>);

        #[allow(clippy::all, dead_code, unused_mut, reason = "these are the methods that the program has")]
        impl {name}Proxy {{
            {proxied}

            #[doc = "Takes a value into the manager in whose process this is called: see [`Proxy::host`](::sandpool_guest::manager::Proxy::host)."]
            #[doc = ""]
            #[doc = "# Errors"]
            #[doc = "As [`Proxy::host`](::sandpool_guest::manager::Proxy::host)."]
            {visibility} fn host(value: {name}) -> ::core::result::Result<Self, ::sandpool_guest::manager::CallError> {{
                ::sandpool_guest::manager::Proxy::host(value).map(Self)
            }}

            #[doc = "Returns a proxy whose calls take at most `timeout`: see [`Proxy::within`](::sandpool_guest::manager::Proxy::within)."]
            {visibility} fn within(&self, timeout: ::core::time::Duration) -> Self {{
                Self(self.0.within(timeout))
            }}

            #[doc = "Returns the manager that the value lives in."]
            {visibility} fn manager(&self) -> ::sandpool_guest::manager::ManagerHandle {{
                self.0.manager()
            }}
        }}

        #[automatically_derived]
        impl ::sandpool_guest::manager::serde::Serialize for {name}Proxy {{
            fn serialize<S: ::sandpool_guest::manager::serde::Serializer>(&self, serializer: S)
                -> ::core::result::Result<S::Ok, S::Error>
            {{
                ::sandpool_guest::manager::serde::Serialize::serialize(&self.0, serializer)
            }}
        }}

        #[automatically_derived]
        impl<'de> ::sandpool_guest::manager::serde::Deserialize<'de> for {name}Proxy {{
            fn deserialize<D: ::sandpool_guest::manager::serde::Deserializer<'de>>(deserializer: D)
                -> ::core::result::Result<Self, D::Error>
            {{
                ::sandpool_guest::manager::serde::Deserialize::deserialize(deserializer).map(Self)
            }}
        }}

        #[allow(clippy::all, unused_variables, reason = "a type may have no methods of one kind")]
        #[automatically_derived]
        impl ::sandpool_guest::manager::Managed for {name} {{
            const FINGERPRINT: u64 = ::sandpool_guest::manager::fingerprint(
                ::core::concat!(::core::module_path!(), "::", {name:?}, ":", {signatures:?}),
            );

            fn construct(method: u32, call: ::sandpool_guest::manager::Call) -> ::sandpool_guest::manager::Answer {{
                match method {{
                    {constructs}
                    _ => call.no_such_method().into(),
                }}
            }}

            fn call(&mut self, method: u32, call: ::sandpool_guest::manager::Call) -> ::sandpool_guest::manager::Answer {{
                match method {{
                    {calls}
                    _ => call.no_such_method().into(),
                }}
            }}

            {checkpoint}
        }}
        "##
    )
}
