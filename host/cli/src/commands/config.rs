//! `sandpool config`: a configuration file.

use sandpool::limits::Profile;

use crate::exit_code::ExitCode;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  sandpool config > limits.toml
      Writes a file to edit; as it is, the file sets what holds without a file

  sandpool run --config limits.toml guest.wasm
      Runs a module with the limits of a file

  sandpool config --profile untrusted
      Prints the limits that --profile untrusted sets";

/// Print a configuration file with all settings, and what holds for each that is not set.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ConfigArgs {
    /// Print a file that chooses this profile, with the settings of the profile
    #[arg(long, value_name = "untrusted")]
    profile: Option<Profile>,
}

pub(crate) fn run(args: ConfigArgs) -> anyhow::Result<u8> {
    match args.profile {
        Some(profile) => text::print(&profile.config())?,
        None => text::print(sandpool::limits::DEFAULT_CONFIG)?,
    }
    Ok(ExitCode::Success.code())
}
