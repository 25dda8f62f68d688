//! `sandpool man`: the manual pages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_mangen::Man;

use crate::commands::Cli;
use crate::exit_code::ExitCode;
use crate::{output, text};

const EXAMPLES: &str = "\
Examples:
  sandpool man | man -l -
      Reads the manual page

  sandpool man ~/.local/share/man/man1
      Installs the pages of this command and of all its subcommands";

/// Print the manual page, or write all manual pages into a directory.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ManArgs {
    /// Directory to write the pages to; it is made if it is missing
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: ManArgs) -> anyhow::Result<u8> {
    let command = Cli::command();
    match args.dir {
        Some(dir) => {
            fs::create_dir_all(&dir)
                .with_context(|| format!("cannot write manual pages to {}", dir.display()))?;
            let mut command = command.disable_help_subcommand(true);
            command.build();
            write_pages(command, &dir)?;
        }
        None => {
            let mut page = Vec::new();
            Man::new(command).render(&mut page)?;
            text::print(&String::from_utf8(page)?)?;
        }
    }
    Ok(ExitCode::Success.code())
}

/// Writes the pages of a command and of all its subcommands.
fn write_pages(command: clap::Command, dir: &Path) -> anyhow::Result<()> {
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_pages(subcommand.clone(), dir)?;
    }
    let man = Man::new(command);
    let mut page = Vec::new();
    man.render(&mut page)?;
    Ok(output::write(&dir.join(man.get_filename()), &page)?)
}
