//! `sandpool completions`: a script that completes this command in a shell.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::commands::Cli;
use crate::exit_code::ExitCode;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  sandpool completions bash > ~/.local/share/bash-completion/completions/sandpool
      For bash, from the next shell on

  sandpool completions fish | source
      For the running fish";

/// Print a script that completes this command in a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompletionsArgs {
    /// Shell that the script is for
    shell: Shell,
}

pub(crate) fn run(args: CompletionsArgs) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sandpool", &mut script);
    text::print(&String::from_utf8(script)?)?;
    Ok(ExitCode::Success.code())
}
