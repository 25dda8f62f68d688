//! One file a command: its arguments and what it does. Each returns the exit code.

pub(crate) mod build;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod run;

use std::path::{Path, PathBuf};

use sandpool::Error;
use sandpool::toolchain::BuildOptions;

use crate::cli::Command;

/// Does what the command line says.
pub(crate) fn run(command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Run(args) => run::run(args),
        Command::Build(args) => build::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

/// The module's file that an argument `MODULE|CRATE_DIR` means; a directory is compiled.
fn module_path(path: &Path, bin: Option<&str>) -> anyhow::Result<PathBuf> {
    if bin.is_some() && path.is_file() {
        return Err(Error::Invalid {
            what: format!("--bin chooses a program of a crate, but {} is a file", path.display()),
            hint: Some("leave --bin out, or name the crate's directory".to_owned()),
        }
        .into());
    }
    let options = BuildOptions { bin: bin.map(str::to_owned), ..BuildOptions::default() };
    Ok(sandpool::toolchain::module_path(path, &options)?)
}
