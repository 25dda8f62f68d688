//! Runs a module, or native code in the place of a guest's: in the jail, as if it had broken out of WebAssembly.
//!
//! ```text
//! sandpool-probe [--without-layer LAYER] [--without-call RULE] [--require-layer LAYER] [--dir GRANT] …
//!     [--without-compiler-call RULE] [--compile-memory-max SIZE] MODULE [ARG]…
//! ```
//!
//! If the first argument is `native`, the guest process isn't to run the module, but the action that the second one
//! names; if it is the first line of the module, nor is the compiler to compile it. What ends the guest is what ends this
//! program: `sandpool run` does the same.

#![allow(clippy::print_stderr, reason = "it says what it can't do")]

use std::process::ExitCode;

use sandpool::{CompileLimits, Module, Result, Run};

mod native;

fn main() -> ExitCode {
    sandpool::init_with_native(native::act);
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<u8> {
    let mut args = std::env::args().skip(1);
    let mut options = Vec::new();
    let path = loop {
        let arg = args.next().unwrap_or_default();
        match arg.starts_with("--") {
            true => options.push((arg, args.next().unwrap_or_default())),
            false => break arg,
        }
    };
    let (of_compiler, options): (Vec<_>, Vec<_>) =
        options.into_iter().partition(|(option, _)| option.contains("compile"));
    let mut loader = Module::builder();
    for (option, value) in of_compiler {
        match option.as_str() {
            "--without-compiler-call" => loader.without_call(value),
            _ => {
                let mut limits = CompileLimits::default();
                limits.set(option.trim_start_matches('-'), &value)?;
                loader.limits(limits)
            }
        };
    }
    let module = loader.load_file(path)?;
    let mut builder = Run::builder(&module);
    for (option, value) in options {
        match option.as_str() {
            "--without-layer" => builder.without_layer(value.parse()?),
            "--require-layer" => builder.require_jail([value.parse()?]),
            "--without-call" => builder.without_call(value),
            "--dir" => builder.dir(value.parse()?),
            _ => {
                let hint = Some("look at its source".to_owned());
                return Err(sandpool::Error::Invalid { what: format!("there is no {option}"), hint });
            }
        };
    }
    for arg in args {
        builder.arg(arg);
    }
    Ok(builder.start()?.wait()?.status.shell_code())
}
