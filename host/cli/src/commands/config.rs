//! `sandpool config`: a configuration file.

use sandpool::Profile;

use crate::exit_code::ExitCode;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  sandpool config > limits.toml
      A file to change, in which everything is as it is without it

  sandpool run --config limits.toml guest.wasm
      Runs a module with the limits of a file

  sandpool config --profile untrusted
      The limits that --profile untrusted sets";

/// Print a configuration file, with all that can be set and what holds if it isn't.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArgs {
    /// Print a file that chooses this profile instead, with what it sets
    #[arg(long, value_name = "untrusted")]
    profile: Option<Profile>,
}

pub(crate) fn run(args: ConfigArgs) -> anyhow::Result<u8> {
    match args.profile {
        Some(profile) => text::print(&profile.config())?,
        None => text::print(sandpool::DEFAULT_CONFIG)?,
    }
    Ok(ExitCode::Success.code())
}
