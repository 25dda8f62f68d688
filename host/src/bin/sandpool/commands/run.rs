//! `sandpool run`: one run of a module, with what it was granted.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use sandpool::{DirGrant, ExitStatus, Module, OnDeadlock, Run, Summary};

use crate::interrupt::Interrupt;
use crate::{cli, commands, text};

const EXAMPLES: &str = "\
Examples:
  sandpool run guest.wasm
      Runs a module, which may start processes; no files, no environment

  sandpool run --dir data:/data:ro --dir out guest.wasm -- /data/in.txt out/result.txt
      Two directories for the guest, one of them read-only, and arguments

  sandpool run --env LANG --env LOG=debug --summary my-crate --bin worker
      Builds the crate first; LANG as it is here; afterwards a table of all processes

  sandpool run --on-deadlock report guest.wasm
      If no process can go on, each says what it waits for, and the run stays for a debugger";

/// Run a WebAssembly module and all processes that it starts.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", cli::exit_codes()))]
pub(crate) struct RunArgs {
    /// Let the guest use a directory, read-only with :ro; GUEST is its name there, by default HOST
    #[arg(long, value_name = "HOST[:GUEST][:ro]")]
    dir: Vec<DirGrant>,

    /// Set a variable of the guest's environment, which is empty otherwise; NAME alone takes the value it has here
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = variable)]
    env: Vec<(String, String)>,

    /// How many processes may be alive, or ended and not yet joined, at once [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    processes_max: Option<u32>,

    /// Room for what is in queues and pipes, and for shared memory, such as 64MiB; only what is used takes memory
    /// [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    arena_size: Option<u64>,

    /// How much linear memory each process may have, such as 256MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory_max: Option<u64>,

    /// When every process waits for another, each says on stderr for what; kill also ends the run, with exit code 124
    #[arg(long, value_name = "kill|report", default_value = "kill")]
    on_deadlock: OnDeadlock,

    /// Afterwards print a table of the processes
    #[arg(long)]
    summary: bool,

    /// Which program of the crate
    #[arg(long, value_name = "NAME")]
    bin: Option<String>,

    /// A WebAssembly module, .wasm or .wat, or the directory of a crate to build one from
    #[arg(value_name = "MODULE|CRATE_DIR")]
    module: PathBuf,

    /// Arguments for the guest
    #[arg(last = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: RunArgs) -> anyhow::Result<u8> {
    let interrupt = Interrupt::watch()?;
    let module = load(&commands::module_path(&args.module, args.bin.as_deref())?)?;
    let mut builder = Run::builder(&module);
    builder.arg(module.name());
    for arg in args.args {
        builder.arg(arg);
    }
    for (name, value) in args.env {
        builder.env(name, value);
    }
    for grant in args.dir {
        builder.dir(grant);
    }
    if let Some(n) = args.processes_max {
        builder.processes_max(n);
    }
    if let Some(bytes) = args.arena_size {
        builder.arena_size(bytes);
    }
    if let Some(bytes) = args.memory_max {
        builder.memory_max(bytes);
    }
    builder.on_deadlock(args.on_deadlock);
    let run = builder.start()?;
    interrupt.stops(run.stopper());
    let result = run.wait();
    if let (true, Ok(summary)) = (args.summary, &result) {
        // If stderr is gone, there is nobody left to tell.
        let _ = io::stderr().lock().write_all(table(summary).as_bytes());
    }
    interrupt.die_if_interrupted(result.as_ref().ok().map(|summary| summary.status));
    let summary = result?;
    // A trap was reported by the process that trapped.
    if let ExitStatus::Signaled(_) | ExitStatus::Limited(_) = summary.status {
        text::note(&format!("error: the guest was {}", summary.status));
    }
    if summary.status == ExitStatus::Deadlocked {
        text::note("error: deadlock: every process of the run waits, and nobody is left to end it");
        text::note("hint: above, each says for what; --on-deadlock report leaves them as they are");
    }
    Ok(summary.status.shell_code())
}

/// Loads the module, and tells somebody who waits for it at a terminal why they do.
fn load(path: &Path) -> sandpool::Result<Module> {
    const PATIENCE: Duration = Duration::from_millis(500);
    if !io::stderr().is_terminal() {
        return Module::from_file(path);
    }
    let notice = text::printable(&format!("compiling {} …", path.display()));
    let (loaded, waiting) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if waiting.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                text::note(&notice);
            }
        });
        let module = Module::from_file(path);
        drop(loaded);
        module
    })
}

fn table(summary: &Summary) -> String {
    let mut rows = vec![["process", "ended", "wall", "cpu", "peak memory"].map(str::to_owned)];
    rows.extend(summary.reports.iter().map(|report| {
        [
            text::printable(&report.name),
            report.status.to_string(),
            text::duration(report.wall),
            text::duration(report.cpu),
            text::bytes(report.peak_memory),
        ]
    }));
    let mut table = text::columns("", &rows);
    if summary.processes > summary.reports.len() as u64 {
        table.push_str("…\n");
    }
    table.push_str(&format!(
        "{} {} in {}, peak memory of a process {}\n",
        summary.processes,
        if summary.processes == 1 { "process" } else { "processes" },
        text::duration(summary.wall),
        text::bytes(summary.peak_memory)
    ));
    table
}

/// `NAME=VALUE`, or `NAME` for the value that it has here
fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) | None if text.is_empty() || text.starts_with('=') => {
            Err("the name is missing".to_owned())
        }
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(std::env::VarError::NotPresent) => Err("it is not set here; NAME=VALUE sets it".to_owned()),
            Err(std::env::VarError::NotUnicode(_)) => Err("its value here is not UTF-8".to_owned()),
        },
    }
}

/// Bytes, or a number with KiB, MiB or GiB
fn size(text: &str) -> Result<u64, String> {
    let units = [("KiB", 1_u64 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let (number, unit) = units
        .into_iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
        .unwrap_or((text, 1));
    let number: u64 =
        number.trim().parse().map_err(|_| "give bytes, or a number with KiB, MiB or GiB".to_owned())?;
    number.checked_mul(unit).filter(|bytes| *bytes > 0).ok_or_else(|| "out of range".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn variables() {
        assert_eq!(variable("A=1=2").unwrap(), ("A".to_owned(), "1=2".to_owned()));
        assert_eq!(variable("A=").unwrap(), ("A".to_owned(), String::new()));
        assert_eq!(variable("PATH").unwrap().1, std::env::var("PATH").unwrap());
        for bad in ["", "=", "=1", "SANDPOOL_NOT_SET_ANYWHERE"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4096").unwrap(), 4096);
        assert_eq!(size("64MiB").unwrap(), 64 << 20);
        assert_eq!(size("1 GiB").unwrap(), 1 << 30);
        for bad in ["", "0", "MiB", "1.5GiB", "-1", "10MB", "18446744073709551615KiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
