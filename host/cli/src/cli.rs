//! Reads the command line, which [`commands`](crate::commands) defines, and says in plain words why a command line is refused.

use clap::Parser as _;
use clap::error::ErrorKind;
use sandpool::Error;

use crate::commands::{Cli, Command};

/// Reads the command line. A request for help is answered here, and ends the process.
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

/// Makes a message and a hint of the many lines that clap draws.
fn usage_error(drawn: &str) -> Error {
    let message: Vec<_> = drawn.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let message = message.join(" ");
    let tip = drawn.lines().find_map(|line| line.trim_start().strip_prefix("tip: "));
    Error::Invalid {
        what: message.strip_prefix("error: ").unwrap_or(&message).to_owned(),
        hint: Some(tip.unwrap_or("--help lists all arguments, with examples").to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_errors_are_a_message_and_a_hint() {
        for (arguments, message, hint) in [
            (&["run", "--enb", "A=1", "x"][..], "unexpected argument '--enb' found", "'--env'"),
            (&["run"], "the following required arguments were not provided: <MODULE|SOURCE>", "--help"),
            (&["rum"], "unrecognized subcommand 'rum'", "'run'"),
        ] {
            let error = Cli::try_parse_from([&["sandpool"], arguments].concat()).map(|_| ());
            let error = usage_error(&error.err().map(|error| error.render().to_string()).unwrap_or_default());
            assert_eq!(error.to_string(), message);
            assert!(error.hint().unwrap_or_default().contains(hint), "{error:?}");
        }
    }
}
