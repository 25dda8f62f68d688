//! The `sandpool` command.

mod cli;
mod commands;
mod contract;
mod doctor;
mod exit_code;
mod interrupt;
mod json;
mod output;
mod text;
mod toolchain;

use std::process::ExitCode;

fn main() -> ExitCode {
    sandpool::init();
    std::panic::set_hook(Box::new(text::report_panic));
    let begun = output::refuse_closed_streams();
    let result = begun.map_err(Into::into).and_then(|()| cli::parse()).and_then(commands::run);
    ExitCode::from(result.unwrap_or_else(|error| text::report(&error)))
}
