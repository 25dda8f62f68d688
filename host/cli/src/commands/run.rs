//! `sandpool run`: one run of a module, with what it was granted.

use sandpool::run::{LimitRefusal, OnDeadlock, ProcessReport, Summary};
use sandpool::{ExitStatus, Run, Signal};

use crate::commands::guest::{GuestArgs, ModuleArgs};
use crate::interrupt::Interrupt;
use crate::{commands, exit_code, text};

const EXAMPLES: &str = "\
Examples:
  sandpool run guest.wasm
      Runs a module, which may start processes; the module gets no files and no environment

  sandpool run --profile untrusted --memory-max 64MiB stranger.wasm
      Code that nobody trusts: each limit has a value, --memory-max this one, and all layers of the jail are required

  sandpool run --dir data:/data:ro --dir out guest.wasm -- /data/in.txt out/result.txt
      Grants two directories, one of them read-only, and passes arguments

  sandpool run --env LANG --env LOG=debug --summary my-crate --bin worker
      Builds the crate first, passes LANG on, and prints a table of all processes afterwards

  sandpool run --config limits.toml --run-cpu-time 1min --memory-max 256MiB guest.wasm
      Reads limits from a file, and overrides two of them; `sandpool config` prints such a file

  sandpool run --unknown-imports trap half-linked.wasm
      Runs a module that imports functions which nobody provides, as long as it calls none of them

  sandpool run --on-deadlock report guest.wasm
      If no process can go on, reports what each process waits for, and leaves the run to a debugger";

/// Run a WebAssembly module and all processes that it starts.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit_code::help()))]
pub(crate) struct RunArgs {
    #[command(flatten)]
    guest: GuestArgs,

    /// If every process waits for another, report on stderr what each of them waits for; kill also ends the run, with
    /// exit code 124
    #[arg(long, value_name = "kill|report", default_value = "kill")]
    on_deadlock: OnDeadlock,

    /// Print a table of all processes after the run
    #[arg(long)]
    summary: bool,

    #[command(flatten)]
    module: ModuleArgs,

    /// Arguments for the guest
    #[arg(last = true)]
    args: Vec<String>,
}

pub(crate) fn run(args: RunArgs) -> anyhow::Result<u8> {
    let interrupt = Interrupt::watch()?;
    let sandbox = args.guest.sandbox()?;
    let path = args.module.path(&sandbox)?;
    let module = commands::load(&path, &sandbox)?;
    let run = Run::builder(&module)
        .arg(module.name())
        .args(args.args)
        .sandbox(sandbox)
        .on_deadlock(args.on_deadlock)
        .start()?;
    args.guest.report(module.jail(), run.jail());
    let stopper = run.stopper();
    interrupt.calls(move |signal, is_first| {
        stopper.stop(if is_first { Signal(signal as i32) } else { Signal::KILL })
    });
    let result = run.wait();
    if let (true, Ok(summary)) = (args.summary, &result) {
        text::note_lines(&table(summary));
    }
    interrupt.die_if_caught(match &result {
        Ok(Summary { status: ExitStatus::Signaled(signal), .. }) => Some(signal.0),
        _ => None,
    });
    let summary = result?;
    for line in summary.reports.iter().filter_map(refusals) {
        text::note(&line);
    }
    // A trap was reported by the process that trapped.
    if let ExitStatus::Signaled(_) | ExitStatus::Limited(_) = summary.status {
        text::note(&format!("error: the guest was {}", summary.status));
    }
    if summary.status == ExitStatus::Forbidden {
        text::note("error: the guest was killed for a system call that its jail forbids");
        text::note(
            "hint: WebAssembly code makes no system calls: please report this with the kernel's log (dmesg, type=1326)",
        );
    }
    if let ExitStatus::Strays(_) = summary.status {
        text::note(&format!("error: the run was {}", summary.status));
        text::note(
            "hint: WebAssembly code starts no process that the run does not know of: please report this",
        );
    }
    if summary.status == ExitStatus::Deadlocked {
        text::note("error: deadlock: every process of the run waits, and nobody is left to end it");
        text::note(
            "hint: see above what each process waits for; --on-deadlock report does not end the processes",
        );
    }
    Ok(summary.status.shell_code())
}

/// Limits that refused a process something, if the process then failed: they may be why. A limit that has ended the process is
/// reported elsewhere.
fn refusals(report: &ProcessReport) -> Option<String> {
    let of = |refusal: &&LimitRefusal| report.status != ExitStatus::Limited(refusal.limit);
    let refused: Vec<_> = report
        .refused
        .iter()
        .filter(of)
        .map(|LimitRefusal { limit, times, .. }| match times {
            1 => format!("{limit} (`{}`)", limit.name()),
            _ => format!("{limit} (`{}`, {times} times)", limit.name()),
        })
        .collect();
    let failed = !report.status.success() && !refused.is_empty();
    failed
        .then(|| format!("note: '{}' was refused more than its limits: {}", report.name, refused.join(", ")))
}

fn table(summary: &Summary) -> String {
    let mut rows = vec![["process", "ended", "wall", "cpu", "peak memory"].map(str::to_owned)];
    rows.extend(summary.reports.iter().map(|report| {
        [
            report.name.to_string(),
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
