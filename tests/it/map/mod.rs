//! `sandpool map`: a task over the records of a file.

mod failures;
mod memory;
mod records;
mod resume;
mod streams;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::procfs;

use crate::support::{Ended, Run, guest, sandpool};

const USAGE: i32 = 2;
const RECORDS_FAILED: i32 = 118;
const STOPPED: i32 = 119;
const MODULE: i32 = 121;

/// `sandpool map` of a task of the test guest.
fn map(task: &str) -> Command {
    map_of(guest("tasks"), task)
}

fn map_of(module: impl AsRef<Path>, task: &str) -> Command {
    let mut command = sandpool();
    command.args(["map", "--task", task]).arg(module.as_ref());
    command
}

/// Runs it with this input.
#[track_caller]
fn with_input(command: &mut Command, input: &[u8]) -> Ended {
    let (run, mut stdin) = Run::start_with_stdin(command);
    // It may end before it has read all.
    let _ = stdin.write_all(input);
    drop(stdin);
    run.finish()
}

/// Its output for this input; all must go well.
#[track_caller]
fn output(command: &mut Command, input: &[u8]) -> String {
    with_input(command, input).expect_code(0).stdout
}

/// A folder with an input and an output.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new(input: &str) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(bench.path("in"), input).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// In this folder, from `in` to `out`.
    fn map(&self, task: &str, arguments: &[&str]) -> Command {
        let mut command = map(task);
        command.args(["--input", "in", "--output", "out"]).args(arguments).current_dir(&self.folder);
        command
    }

    /// Whether the journal says that all is done.
    fn is_finished(&self) -> bool {
        self.read("out.sandpool").contains("\"is_finished\":true")
    }

    /// Waits until the output has this number of lines.
    #[track_caller]
    fn wait_for_lines(&self, count: usize) {
        let lines = || fs::read_to_string(self.path("out")).unwrap_or_default().lines().count();
        assert!(procfs::eventually(|| lines() >= count), "{} lines of {count}", lines());
    }

    /// How many records the journal says are done.
    fn done(&self) -> Option<u64> {
        let text = fs::read_to_string(self.path("out.sandpool")).ok()?;
        let (_, behind) = text.split_once("\"done\":")?;
        behind.split(',').next()?.parse().ok()
    }
}

/// Raw records.
fn raw(records: &[&[u8]]) -> Vec<u8> {
    records.iter().flat_map(|record| [&(record.len() as u32).to_le_bytes(), *record].concat()).collect()
}

fn numbers(range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

/// The gate that the task `gate` waits for.
struct Gate {
    folder: TempDir,
}

impl Gate {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for pipe in ["begun", "go"] {
            nix::unistd::mkfifo(&folder.path().join(pipe), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        Self { folder }
    }

    /// The value of `--dir`.
    fn grant(&self) -> String {
        format!("{}:/gate:ro", self.folder.path().display())
    }

    /// Waits until the task has begun.
    #[track_caller]
    fn has_begun(&self) {
        self.open("begun");
    }

    /// Lets it go on.
    #[track_caller]
    fn opens(&self) {
        self.open("go");
    }

    #[track_caller]
    fn open(&self, pipe: &str) {
        let path = self.folder.path().join(pipe);
        let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
        // It fails as long as nobody reads.
        let open = || OpenOptions::new().write(true).custom_flags(flags).open(&path).is_ok();
        assert!(procfs::eventually(open), "no task waits for {pipe}");
    }
}
