//! `sandpool config`: a configuration file.

use crate::text;

const EXAMPLES: &str = "\
Examples:
  sandpool config > limits.toml
      A file to change, in which everything is as it is without it

  sandpool run --config limits.toml guest.wasm
      Runs a module with the limits of a file";

/// Print a configuration file, with all that can be set and what holds if it isn't.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArgs {}

pub(crate) fn run(_: ConfigArgs) -> anyhow::Result<u8> {
    text::print(sandpool::DEFAULT_CONFIG)?;
    Ok(sandpool::ExitCode::Success.code())
}
