//! Runs a module, or native code in the place of a guest's: in the jail, as if it had broken out of WebAssembly.
//!
//! ```text
//! sandpool-probe [--without-layer LAYER] [--without-call RULE] [--require-layer LAYER] [--dir GRANT] … MODULE [ARG]…
//! ```
//!
//! If the first argument is `native`, the guest process isn't to run the module, but the action that the second one
//! names. What ends the guest is what ends this program: `sandpool run` does the same.

#![allow(clippy::print_stderr, reason = "it says what it can't do")]

use std::process::ExitCode;

use sandpool::{Module, Result, Run};

mod native;

fn main() -> ExitCode {
    sandpool::init_with_native(native::act);
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code().code())
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
    let module = Module::from_file(path)?;
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
