//! The command line: each flag is defined once, beside its command, and feeds parser, help, completions and manual.

use std::fmt::Write as _;

use clap::builder::Styles;
use clap::error::ErrorKind;
use clap::{Parser as _, Subcommand};
use sandpool::Error;

use crate::commands::{bench, build, completions, config, doctor, inspect, man, map, run};
use crate::exit_code::ExitCode;

/// Multiprocessing for sandboxed WebAssembly.
#[derive(Debug, clap::Parser)]
#[command(name = "sandpool", version, styles = Styles::plain(), after_help = exit_codes())]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(run::RunArgs),
    Map(map::MapArgs),
    Build(build::BuildArgs),
    Inspect(inspect::InspectArgs),
    Bench(bench::BenchArgs),
    Doctor(doctor::DoctorArgs),
    Config(config::ConfigArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Reads the command line. Asking for help is answered here, and ends the process.
pub(crate) fn parse() -> anyhow::Result<Command> {
    match Cli::try_parse() {
        Ok(cli) => Ok(cli.command),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
            _ => Err(usage_error(&error.render().to_string()).into()),
        },
    }
}

/// What clap draws over many lines, as a message and a hint.
fn usage_error(drawn: &str) -> Error {
    let message: Vec<_> = drawn.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let message = message.join(" ");
    let tip = drawn.lines().find_map(|line| line.trim_start().strip_prefix("tip: "));
    Error::Invalid {
        what: message.strip_prefix("error: ").unwrap_or(&message).to_owned(),
        hint: Some(tip.unwrap_or("--help shows what there is, with examples").to_owned()),
    }
}

/// The help text on exit codes, from the enum that they come from.
pub(crate) fn exit_codes() -> String {
    let mut help = "Exit codes:\n".to_owned();
    for code in ExitCode::ALL {
        // Writing to a string can't fail.
        let _ = writeln!(help, "  {:<6} {}", code.code(), code.meaning());
    }
    help.push_str(
        "  other  the guest's own: its exit code, 128 + the signal that killed it, or 134 after a trap",
    );
    help
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        let help = exit_codes();
        for code in ExitCode::ALL {
            assert!(help.contains(&format!("  {:<6} {}", code.code(), code.meaning())));
        }
    }

    #[test]
    fn usage_errors_are_a_message_and_a_hint() {
        for (arguments, message, hint) in [
            (&["run", "--enb", "A=1", "x"][..], "unexpected argument '--enb' found", "'--env'"),
            (&["run"], "the following required arguments were not provided: <MODULE|CRATE_DIR>", "--help"),
            (&["rum"], "unrecognized subcommand 'rum'", "'run'"),
        ] {
            let error = Cli::try_parse_from([&["sandpool"], arguments].concat()).map(|_| ());
            let error = usage_error(&error.err().map(|error| error.render().to_string()).unwrap_or_default());
            assert_eq!(error.to_string(), message);
            assert!(error.hint().unwrap_or_default().contains(hint), "{error:?}");
        }
    }
}
