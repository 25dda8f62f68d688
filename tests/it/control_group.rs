//! The control group of a run, where one is delegated: who is in it, what it limits, and that it goes with the run. Where
//! nobody may make groups, nothing is made, and the report says that it doesn't apply.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use rustix::fs::{XattrFlags, setxattr};

use crate::procfs::{self, Pid};
use crate::support::{Run, finish, guest, run, sandpool_bin};

/// The exit code of a run that lacks a layer which is required.
const JAIL: i32 = 117;

/// A group as a manager of groups would delegate it, with one below in which commands are.
struct Delegated {
    path: PathBuf,
}

impl Delegated {
    /// `None` where these tests may make no group, which they say.
    fn new() -> Option<Self> {
        let made = Self::make();
        if made.is_none() {
            eprintln!("no control group can be made here, and so nothing is delegated");
        }
        made
    }

    fn make() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = group_of(std::process::id());
        let top = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
        let name = format!("tests-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(top).join(own.strip_prefix('/').unwrap()).join(name);
        fs::create_dir(&path).ok()?;
        let delegated = Self { path };
        fs::create_dir(delegated.below()).unwrap();
        setxattr(&delegated.path, "trusted.delegate", b"1", XattrFlags::empty()).ok()?;
        Some(delegated)
    }

    fn below(&self) -> PathBuf {
        self.path.join("command")
    }

    /// What the command is, in the group below.
    fn command(&self) -> Command {
        Self::command_in(&self.below())
    }

    fn command_in(group: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]).arg(group).arg(sandpool_bin());
        command
    }

    /// A main process and two children of it that sleep.
    fn sleepers(&self, limits: &[&str]) -> Run {
        let mut command = self.command();
        command.args(["run", "--jail-report"]).args(limits).arg(guest("crowd")).args(["--", "sleep", "2"]);
        let run = Run::start(&mut command);
        run.wait_for_line("ready");
        run
    }

    /// Groups of runs that there are.
    fn groups(&self) -> Vec<String> {
        let names =
            fs::read_dir(&self.path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("sandpool-")).collect()
    }

    /// Whether a controller can be had for the groups below.
    fn has(&self, controller: &str) -> bool {
        fs::read_to_string(self.path.join("cgroup.controllers"))
            .unwrap()
            .split_whitespace()
            .any(|it| it == controller)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        // Processes that have ended may be in them for a moment.
        let removed = procfs::eventually(|| {
            let below = fs::read_dir(&self.path).into_iter().flatten().flatten();
            below.filter(|entry| entry.path().is_dir()).for_each(|group| drop(fs::remove_dir(group.path())));
            fs::remove_dir(&self.path).is_ok()
        });
        assert!(removed || std::thread::panicking(), "{} can't be removed", self.path.display());
    }
}

/// The group that a process is in, as the kernel writes it.
fn group_of(pid: Pid) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned()
}

/// What the report says of a run's group.
fn hold(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("control-group "));
    line.unwrap_or_else(|| panic!("no control-group in\n{text}")).trim().to_owned()
}

#[test]
fn where_none_is_delegated_there_is_none() {
    let ended = finish(run(guest("hello")).arg("--jail-report")).expect_code(0);
    assert_eq!(
        hold(&ended.stderr),
        "not applicable: no control group is delegated to this program",
        "{ended}"
    );
    let ended = finish(run(guest("hello")).args(["--require-jail", "control-group"])).expect_code(JAIL);
    assert!(ended.stderr.contains("control-group is not applicable: "), "{ended}");
    let ended = finish(run(guest("hello")).args(["--jail-report", "--without-layer", "control-group"]));
    assert_eq!(hold(&ended.expect_code(0).stderr), "off");
}

#[test]
fn guests_are_in_a_group_which_goes_with_the_run() {
    let Some(delegated) = Delegated::new() else { return };
    let run = delegated.sleepers(&[]);
    let groups = delegated.groups();
    assert_eq!(groups.len(), 1, "{groups:?}\n{}", run.printed());
    let guests = run.guests();
    assert_eq!(guests.len(), 3);
    for pid in guests {
        assert!(group_of(pid).ends_with(&groups[0]), "{}", procfs::describe(pid));
    }
    for pid in [run.embedder(), run.supervisor()] {
        assert!(group_of(pid).ends_with("/command"), "{}", procfs::describe(pid));
    }
    // Another run has one of its own.
    let other = delegated.sleepers(&[]);
    assert_eq!(delegated.groups().len(), 2);
    other.finish_by(Signal::SIGTERM);
    assert_eq!(delegated.groups(), groups);
    run.finish_by(Signal::SIGTERM);
    assert!(delegated.groups().is_empty());
    finish(delegated.command().args(["run", "--require-jail", "seccomp"]).arg(guest("hello"))).expect_code(0);
    assert!(delegated.groups().is_empty());
}

#[test]
fn a_group_goes_whoever_is_killed() {
    let Some(delegated) = Delegated::new() else { return };
    let gone = || procfs::eventually(|| delegated.groups().is_empty());

    let run = delegated.sleepers(&[]);
    assert!(procfs::kill(run.supervisor(), Signal::SIGKILL, |_| true));
    run.finish().expect_code(123);
    assert!(delegated.groups().is_empty());

    let run = delegated.sleepers(&[]);
    assert!(procfs::kill(run.embedder(), Signal::SIGKILL, |_| true));
    run.finish().expect_signal(Signal::SIGKILL);
    assert!(gone(), "{:?}", delegated.groups());

    // Nobody is left to remove it, until the next one comes.
    let run = delegated.sleepers(&[]);
    assert!(procfs::kill(run.embedder(), Signal::SIGSTOP, |_| true));
    assert!(procfs::kill(run.supervisor(), Signal::SIGKILL, |_| true));
    assert!(procfs::kill(run.embedder(), Signal::SIGKILL, |_| true));
    run.finish().expect_signal(Signal::SIGKILL);
    assert_eq!(delegated.groups().len(), 1);
    finish(delegated.command().arg("run").arg(guest("hello"))).expect_code(0);
    assert!(delegated.groups().is_empty(), "{:?}", delegated.groups());
}

#[test]
fn a_group_limits_what_all_guests_have_together() {
    let Some(delegated) = Delegated::new() else { return };
    let limits =
        ["--processes-max", "20", "--run-memory-max", "1GiB", "--arena-size", "64MiB", "--stack-max", "1MiB"];
    let run = delegated.sleepers(&limits);
    let read = |file| fs::read_to_string(delegated.path.join(&delegated.groups()[0]).join(file));
    // Of the limits, twice what is in linear memories and the arena, and 9 MiB for each process; 8 more processes.
    let wanted = [("pids", "pids.max", 28_u64), ("memory", "memory.max", (2 * (1024 + 64) + 20 * 9) << 20)];
    let mut lacks = Vec::new();
    for (controller, file, most) in wanted {
        match delegated.has(controller) {
            true => assert_eq!(read(file).unwrap().trim(), most.to_string(), "{file}"),
            false => lacks.push(format!("{file}: the delegated group has no such controller")),
        }
    }
    let expected =
        if lacks.is_empty() { "full".to_owned() } else { format!("partial: {}", lacks.join(", ")) };
    assert_eq!(hold(&run.printed()), expected);
    run.finish_by(Signal::SIGTERM);
    let ended =
        finish(delegated.command().args(["run", "--require-jail", "control-group"]).arg(guest("hello")));
    assert_eq!(ended.status.code(), Some(if delegated.has("pids") { 0 } else { JAIL }), "{ended}");
}

/// A process in the delegated group itself, beside the groups below.
#[test]
fn a_group_with_processes_of_its_own_gives_no_limits() {
    let Some(delegated) = Delegated::new() else { return };
    let mut command = Delegated::command_in(&delegated.path);
    let ended = finish(command.args(["run", "--jail-report"]).arg(guest("hello"))).expect_code(0);
    assert_eq!(
        hold(&ended.stderr),
        "partial: pids.max: there are processes in the delegated group itself",
        "{ended}"
    );
    assert!(delegated.groups().is_empty());
}

/// Whose groups are for threads takes no process in.
#[test]
fn a_group_of_threads_is_none_for_processes() {
    let Some(delegated) = Delegated::new() else { return };
    fs::create_dir(delegated.path.join("threads")).unwrap();
    fs::write(delegated.path.join("threads/cgroup.type"), "threaded").unwrap();
    let mut command = Delegated::command_in(&delegated.path);
    let ended = finish(command.args(["run", "--jail-report"]).arg(guest("hello")));
    fs::remove_dir(delegated.path.join("threads")).unwrap();
    assert_eq!(hold(&ended.expect_code(0).stderr), "absent: the delegated group is one of threads");
    assert!(delegated.groups().is_empty());
}
