//! Runs a module, or native code in the place of a guest's: in the jail, as if it had broken out of WebAssembly.
//!
//! ```text
//! sandpool-probe [--without-layer LAYER] [--without-call RULE] [--require-layer LAYER] [--dir GRANT] …
//!     [--without-compiler-call RULE] [--compile-memory-max SIZE] MODULE [ARG]…
//! ```
//!
//! If the first argument is `native`, the guest process isn't to run the module, but the action that the second one
//! names; if it is the first line of the module, nor is the compiler to compile it. This program ends as the guest
//! ends: `sandpool run` does the same.

#![allow(clippy::print_stderr, reason = "it says what it can't do")]

use std::process::ExitCode;

use sandpool::{Module, Result, Run, Sandbox};

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
    let (mut loader, mut sandbox) = (Module::builder(), Sandbox::new());
    let mut required = Vec::new();
    for (option, value) in options {
        match option.as_str() {
            "--without-compiler-call" => loader = loader.without_compiler_call(value),
            "--without-layer" => sandbox = sandbox.without_layer(value.parse()?),
            "--require-layer" => required.push(value.parse()?),
            "--without-call" => sandbox = sandbox.without_call(value),
            "--dir" => sandbox = sandbox.dir(value.parse()?),
            _ => sandbox.compile_limits.set(option.trim_start_matches('-'), &value)?,
        }
    }
    let module = loader.sandbox(sandbox.clone()).load_file(path)?;
    let run = Run::builder(&module).sandbox(sandbox.require_jail(required)).args(args).start()?;
    Ok(run.wait()?.status.shell_code())
}
