//! Names of traps, and the report of a trap that a person sees.

use std::fmt::Write as _;

use sandpool_abi::process::Trap;
use wasmtime::{GcHeapOutOfMemory, ThrownException, UnknownImportError, WasmBacktrace};

use crate::engine::inspection::printable;
use crate::guest_text::Escaped;

/// The most frames that are shown. A Rust panic has about ten of its own before the first frame of the program.
const FRAMES_SHOWN: usize = 16;

/// An import needs the guest's memory, and the module exports none.
#[derive(Debug, thiserror::Error)]
#[error("{}", Trap::MissingMemory.message())]
pub(crate) struct MissingMemory;

/// A component has called a function that nobody provides.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", Trap::UnknownImport.message(), .0)]
pub(crate) struct UnknownFunction(pub(crate) String);

/// Which trap ended a guest's call; `None` if the host ended it by an error of its own.
pub(crate) fn classify(error: &wasmtime::Error) -> Option<Trap> {
    use wasmtime::Trap as Engine;
    if error.is::<ThrownException>() {
        return Some(Trap::UncaughtException);
    }
    if error.is::<UnknownImportError>() || error.is::<UnknownFunction>() {
        return Some(Trap::UnknownImport);
    }
    if error.is::<MissingMemory>() {
        return Some(Trap::MissingMemory);
    }
    // The heap of collected objects is as large as it can get. If a limit of Sandpool was the reason, its name goes before this.
    if error.is::<GcHeapOutOfMemory<()>>() {
        return Some(Trap::Other);
    }
    Some(match error.downcast_ref::<Engine>()? {
        Engine::UnreachableCodeReached => Trap::Unreachable,
        Engine::StackOverflow => Trap::StackOverflow,
        Engine::MemoryOutOfBounds => Trap::MemoryOutOfBounds,
        Engine::TableOutOfBounds => Trap::TableOutOfBounds,
        Engine::IndirectCallToNull => Trap::IndirectCallToNull,
        Engine::BadSignature => Trap::BadSignature,
        Engine::IntegerOverflow => Trap::IntegerOverflow,
        Engine::IntegerDivisionByZero => Trap::IntegerDivisionByZero,
        Engine::BadConversionToInteger => Trap::BadConversionToInteger,
        Engine::NullReference => Trap::NullReference,
        Engine::ArrayOutOfBounds => Trap::ArrayOutOfBounds,
        Engine::CastFailure => Trap::CastFailure,
        _ => Trap::Other,
    })
}

/// The reason why a guest's call ended, and where it was: one line for the reason, and one for each function, innermost first.
/// Names come from the guest, so control characters in them are escaped.
///
/// ```text
/// out of bounds memory access
///     0: app.wasm!app::parse
///     1: app.wasm!main
/// ```
pub(crate) fn report(error: &wasmtime::Error) -> String {
    let mut report = match classify(error) {
        Some(Trap::Other) | None => printable(&error.root_cause().to_string()),
        Some(trap) => trap.message().to_owned(),
    };
    if let Some(import) = error.downcast_ref::<UnknownImportError>() {
        let _ = write!(report, ": {}", printable(&format!("{}.{}", import.module(), import.name())));
    }
    if let Some(UnknownFunction(name)) = error.downcast_ref() {
        let _ = write!(report, ": {}", printable(name));
    }
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        report.push_str(&frames(backtrace));
    }
    report
}

/// One line for each function, innermost first, each after a line break.
pub(crate) fn frames(backtrace: &WasmBacktrace) -> String {
    let text = described(backtrace);
    let mut lines = text.lines().skip(1);
    let mut frames = String::new();
    for frame in lines.by_ref().take(FRAMES_SHOWN) {
        // Writing to a string can't fail.
        let _ = write!(frames, "\n  {}", printable(&without_hashes(frame)));
    }
    match lines.count() {
        0 => {}
        more => _ = write!(frames, "\n    … and {more} more"),
    }
    frames
}

/// A heading, and one line for each frame.
fn described(backtrace: &WasmBacktrace) -> String {
    fn has_lines(name: Option<&str>) -> bool {
        name.is_some_and(|name| name.contains(['\r', '\n']))
    }
    // wasmtime demangles names only where it prints a backtrace. It prints names as they are, so one name could look like several
    // frames.
    if !backtrace
        .frames()
        .iter()
        .any(|frame| has_lines(frame.func_name()) || has_lines(frame.module().name()))
    {
        return backtrace.to_string();
    }
    let mut text = String::new();
    for (at, frame) in backtrace.frames().iter().enumerate() {
        let module = Escaped(frame.module().name().unwrap_or("<unknown>"));
        // Writing to a string can't fail.
        let _ = match frame.func_name() {
            Some(name) => write!(text, "\n{at:>5}: {module}!{}", Escaped(name)),
            None => write!(text, "\n{at:>5}: {module}!<wasm function {}>", frame.func_index()),
        };
    }
    text
}

/// A name without the hashes that tell crates, or functions, of the same name apart: `app[73abd50c2426eb1f]::parse`, and
/// as other compilers have it, `app::parse::h73abd50c2426eb1f`.
fn without_hashes(name: &str) -> String {
    let is_hash = |hash: &str| hash.len() >= 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = name.rsplit_once("::h").filter(|(_, hash)| is_hash(hash)).map_or(name, |(name, _)| name);
    let mut parts = name.split('[');
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((hash, rest)) if is_hash(hash) => short.push_str(rest),
            _ => {
                short.push('[');
                short.push_str(part);
            }
        }
    }
    short
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use wasmtime::{Instance, Module, Store};

    use super::*;

    fn run(body: &str) -> wasmtime::Error {
        let engine = crate::engine::config::engine(Default::default()).unwrap();
        let text = format!(
            r#"(module $app (memory 1) (table 1 funcref) (type $nullary (func))
                (func $_ZN3app5parse17h0123456789abcdefE {body})
                (func (export "_start") call $_ZN3app5parse17h0123456789abcdefE))"#
        );
        let mut store = Store::new(&engine, ());
        let module = Module::new(&engine, text).unwrap();
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        instance.get_typed_func::<(), ()>(&mut store, "_start").unwrap().call(&mut store, ()).unwrap_err()
    }

    #[test]
    fn traps_have_their_names() {
        for (body, trap) in [
            ("unreachable", Trap::Unreachable),
            ("call $_ZN3app5parse17h0123456789abcdefE", Trap::StackOverflow),
            ("(drop (i32.load (i32.const -4)))", Trap::MemoryOutOfBounds),
            ("(table.set 0 (i32.const 9) (ref.null func))", Trap::TableOutOfBounds),
            ("(call_indirect (type $nullary) (i32.const 0))", Trap::IndirectCallToNull),
            ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", Trap::IntegerDivisionByZero),
            ("(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", Trap::IntegerOverflow),
            ("(drop (i32.trunc_f32_u (f32.const nan)))", Trap::BadConversionToInteger),
        ] {
            let error = run(body);
            assert_eq!(classify(&error), Some(trap), "{body}");
            assert!(report(&error).starts_with(trap.message()), "{body}");
        }
    }

    #[test]
    fn a_report_names_functions_innermost_first() {
        let report = report(&run("unreachable"));
        let lines: Vec<_> = report.lines().map(str::trim).collect();
        assert_eq!(lines, ["unreachable executed", "0: app!app::parse", "1: app!<wasm function 1>"]);
    }

    #[test]
    fn names_are_shown_without_hashes() {
        let name =
            "app.wasm!<app[73abd50c2426eb1f]::List<[u8; 4]> as core[b6cb6fd164d2c48e]::fmt::Debug>::fmt";
        assert_eq!(without_hashes(name), "app.wasm!<app::List<[u8; 4]> as core::fmt::Debug>::fmt");
        assert_eq!(without_hashes("app.wasm!app::main::h8b34a332d279c0a2"), "app.wasm!app::main");
        assert_eq!(without_hashes("app.wasm!app::here"), "app.wasm!app::here");
    }

    #[test]
    fn a_deep_backtrace_is_cut() {
        let report = report(&run("call $_ZN3app5parse17h0123456789abcdefE"));
        assert_eq!(report.lines().count(), FRAMES_SHOWN + 2);
        assert!(report.lines().last().unwrap().contains("more"));
    }

    #[test]
    fn a_name_is_one_line() {
        let engine = crate::engine::config::engine(Default::default()).unwrap();
        let text = r#"(module $app (func (@name "a\0a    1: app!forged") (export "f") unreachable))"#;
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &Module::new(&engine, text).unwrap(), &[]).unwrap();
        let call = instance.get_typed_func::<(), ()>(&mut store, "f").unwrap();
        let report = report(&call.call(&mut store, ()).unwrap_err());
        let lines: Vec<_> = report.lines().map(str::trim).collect();
        assert_eq!(lines, ["unreachable executed", r"0: app!a\n    1: app!forged"]);
    }

    #[test]
    fn an_error_of_the_host_is_no_trap() {
        let error = wasmtime::Error::msg("gone\u{1b}[2J");
        assert_eq!(classify(&error), None);
        assert_eq!(report(&error), "gone\\u{1b}[2J");
    }
}
