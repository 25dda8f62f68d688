//! One file for each command: its arguments and its work. Each command returns the exit code. Each flag is defined once, here
//! beside its command, and feeds parser, help, completions and manual.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod doctor;
mod guest;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod map;
pub(crate) mod new;
pub(crate) mod run;

use std::error::Error as _;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use clap::Subcommand;
use clap::builder::Styles;
use sandpool::{Module, Sandbox};

use crate::{exit_code, text};

/// Multiprocessing for sandboxed WebAssembly.
#[derive(Debug, clap::Parser)]
#[command(name = "sandpool", version, styles = Styles::plain(), after_help = exit_code::help())]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    New(new::NewArgs),
    Run(run::RunArgs),
    Map(Box<map::MapArgs>),
    Build(build::BuildArgs),
    Inspect(inspect::InspectArgs),
    Bench(bench::BenchArgs),
    Doctor(doctor::DoctorArgs),
    Config(config::ConfigArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Runs the command that the command line chooses.
pub(crate) fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::New(args) => new::run(args),
        Command::Run(args) => run::run(args),
        Command::Map(args) => map::run(*args),
        Command::Build(args) => build::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Config(args) => config::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

/// Loads the module for this sandbox, and tells a user who waits at a terminal why it takes long.
fn load(path: &Path, sandbox: &Sandbox) -> anyhow::Result<Module> {
    let module = load_patiently(path, sandbox)?;
    if let Some(error) = module.uncached() {
        let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        text::note(&format!("warning: the compiled module is not kept: {error}{why}"));
    }
    Ok(module)
}

fn load_patiently(path: &Path, sandbox: &Sandbox) -> sandpool::Result<Module> {
    const PATIENCE: Duration = Duration::from_millis(500);
    let builder = Module::builder().sandbox(sandbox.clone());
    if !io::stderr().is_terminal() {
        return builder.load_file(path);
    }
    let notice = format!("compiling {} …", path.display());
    let (loaded, waiting) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                text::note(&notice);
            }
        });
        let module = builder.load_file(path);
        drop(loaded);
        module
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }
}
