//! Moments at which a call of the kernel fails, or a process is killed, and that come to pass only then.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;

use super::{Seen, Stage, Verdict, trace};
use crate::procfs::{self, Pid};
use crate::support::{Ended, guest, sandpool};

const GUEST: &str = "sandpool-guest";
const FORK_SERVER: &str = "sandpool-forks";
const STANDBY: &str = "sandpool-spare";
const SUPERVISOR: &str = "sandpool-superv";

/// A system call of one of the run's processes begins, or has ended.
struct Moment {
    pid: Pid,
    process: String,
    call: i64,
    args: [u64; 6],
    result: Option<i64>,
}

impl Moment {
    fn begins(&self, name: &str, call: i64) -> bool {
        self.process == name && self.call == call && self.result.is_none()
    }

    fn is_fork_by(&self, name: &str) -> bool {
        self.begins(name, libc::SYS_clone) || self.begins(name, libc::SYS_clone3)
    }

    /// A guest is about to write to stderr.
    fn is_word_by_guest(&self) -> bool {
        let is_write = self.begins(GUEST, libc::SYS_write) || self.begins(GUEST, libc::SYS_writev);
        is_write && self.args[0] == 2
    }

    /// The supervisor has reaped a process.
    fn has_reaped(&self) -> bool {
        self.process == SUPERVISOR && self.call == libc::SYS_wait4 && self.result.is_some_and(|pid| pid > 0)
    }
}

/// `sandpool run OPTIONS moments ARGUMENTS`; `judge` decides at each moment.
fn run(options: &[&str], arguments: &[&str], mut judge: impl FnMut(&Moment) -> Verdict) -> Ended {
    let mut command = sandpool();
    command.arg("run").args(options).arg(guest("moments")).arg("--").args(arguments);
    let [mut stdout, mut stderr] = [(); 2].map(|()| tempfile::tempfile().unwrap());
    let to = |file: &File| file.try_clone().unwrap().into();
    let mut calls = HashMap::new();
    let status = trace(&command, to(&stdout), to(&stderr), Seen::Run, |thread, stage| {
        let pid = thread.as_raw().unsigned_abs();
        let result = match stage {
            Stage::Entry { number, args } => {
                calls.insert(pid, (number, args));
                None
            }
            Stage::Exit { result } => Some(result),
        };
        let (call, args) = calls.get(&pid).copied().unwrap_or((-1, [0; 6]));
        judge(&Moment { pid, process: procfs::name(pid), call, args, result })
    });
    let [stdout, stderr] = [&mut stdout, &mut stderr].map(|file| {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    });
    Ended { status, stdout, stderr }
}

const REFUSED: &str = "refused: the operating system has no room for another process";

/// There is room for two processes, the main one among them.
const TWO: [&str; 4] = ["--processes-max", "2", "--run-memory-max", "4MiB"];

/// Runs the guest while the kernel refuses forks of the process with this name: of those after the main process has begun, the ones
/// with these numbers, from 1.
fn run_refusing(name: &str, which: impl Fn(u32) -> bool, arguments: &[&str]) -> Ended {
    let (mut has_begun, mut forks, mut refused) = (false, 0, 0);
    let ended = run(&TWO, arguments, |moment| {
        has_begun |= moment.process == GUEST;
        if !has_begun || !moment.is_fork_by(name) {
            return Verdict::GoOn;
        }
        forks += 1;
        if !which(forks) {
            return Verdict::GoOn;
        }
        refused += 1;
        Verdict::Fail(Errno::EAGAIN)
    });
    assert!(refused > 0, "no fork was refused\n{ended}");
    ended
}

/// A fork that is refused keeps no slot, no memory, and no number.
#[test]
fn a_fork_that_the_kernel_refuses_is_refused_to_the_guest() {
    run_refusing(GUEST, |fork| fork <= 3, &["fork", "5"]).expect_code(0).expect_stdout(&[
        REFUSED,
        REFUSED,
        REFUSED,
        "Process-1: exited: 7",
        "Process-2: exited: 7",
    ]);
}

/// The parent of a spawned process sleeps until the supervisor tells it.
#[test]
fn a_spawn_that_the_kernel_refuses_to_the_fork_server_is_refused_to_the_guest() {
    run_refusing(FORK_SERVER, |_| true, &["spawn", "3"]).expect_code(0).expect_stdout(&[REFUSED; 3]);
    run_refusing(FORK_SERVER, |fork| fork == 1, &["spawn", "3"]).expect_code(0).expect_stdout(&[
        REFUSED,
        "Process-1: exited: 7",
        "Process-2: exited: 7",
    ]);
}

/// The supervisor can start neither a fork server nor the process; or no fork server, and then it starts all processes itself.
#[test]
fn a_spawn_that_the_kernel_refuses_to_the_supervisor_is_refused_to_the_guest() {
    run_refusing(SUPERVISOR, |_| true, &["spawn", "3"]).expect_code(0).expect_stdout(&[REFUSED; 3]);
    run_refusing(SUPERVISOR, |fork| fork == 1, &["spawn", "3"]).expect_code(0).expect_stdout(&[
        "Process-1: exited: 7",
        "Process-2: exited: 7",
        "Process-3: exited: 7",
    ]);
}

/// The supervisor starts the process, and all later ones.
#[test]
fn a_process_starts_for_which_the_fork_server_was_asked_that_is_killed() {
    let mut killed = 0;
    let ended = run(&TWO, &["spawn", "2"], |moment| match moment.is_fork_by(FORK_SERVER) {
        true => {
            killed += 1;
            Verdict::Kill
        }
        false => Verdict::GoOn,
    });
    ended.expect_code(0).expect_stdout(&["Process-1: exited: 7", "Process-2: exited: 7"]);
    assert_eq!(killed, 1);
}

/// The process that stood by is killed when it is woken for a slot: the slot gets another.
#[test]
fn a_process_starts_for_which_one_was_taken_that_stood_by_and_is_killed() {
    let (mut waits, mut killed) = (false, 0);
    let ended = run(&TWO, &["spawn", "20"], |moment| {
        if moment.begins(STANDBY, libc::SYS_futex) {
            waits = true;
        } else if moment.process == STANDBY && waits && killed < 3 {
            (waits, killed) = (false, killed + 1);
            return Verdict::Kill;
        }
        Verdict::GoOn
    });
    let expected: Vec<_> = (1..=20).map(|number| format!("Process-{number}: exited: 7")).collect();
    ended.expect_code(0).expect_stdout(&expected.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(killed > 0, "none stood by");
}

/// Its parent has learned its exit code before the kernel ends it.
#[test]
fn a_process_that_is_killed_when_it_has_said_how_it_ends_has_ended_so() {
    let mut killed = 0;
    let ended = run(&["--summary"], &["fork", "3"], |moment| {
        if moment.begins(GUEST, libc::SYS_exit_group) && killed < 3 {
            killed += 1;
            return Verdict::Kill;
        }
        Verdict::GoOn
    })
    .expect_code(0);
    assert_eq!(killed, 3);
    for number in 1..=3 {
        let row = format!("Process-{number}");
        let row = ended.stderr.lines().find(|line| line.starts_with(&row)).unwrap();
        assert!(row.split_whitespace().skip(1).take(2).eq(["exited:", "7"]), "{ended}");
    }
    assert!(!ended.stderr.contains("killed"), "{ended}");
}

/// A process that is killed when it has reserved what its child is to have: the memory is the run's again.
#[test]
fn a_child_that_its_parent_cannot_start_any_more_keeps_nothing() {
    let (mut forks, limits) = (0, ["--processes-max", "3", "--run-memory-max", "5MiB"]);
    let ended = run(&limits, &["nested", "5"], |moment| {
        forks += u32::from(moment.is_fork_by(GUEST));
        // Each process forks once, and the main process for each of them.
        if moment.is_fork_by(GUEST) && [2, 4, 6].contains(&forks) { Verdict::Kill } else { Verdict::GoOn }
    });
    ended.expect_code(0).expect_stdout(&[
        "Process-1: killed: SIGKILL",
        "Process-2: killed: SIGKILL",
        "Process-3: killed: SIGKILL",
        "Process-4: exited: 7",
        "Process-5: exited: 7",
    ]);
}

/// A parent dies while its child, which is dead, is still swept up after.
#[test]
fn a_slot_is_given_to_another_process_when_all_of_the_one_before_is_settled() {
    let (mut parent, mut has_killed_child) = (None, false);
    let ended = run(&["--processes-max", "3"], &["forks"], |moment| {
        if moment.is_word_by_guest() {
            if parent.is_some() {
                has_killed_child = true;
                return Verdict::Kill;
            }
            parent = Some(moment.pid);
        } else if has_killed_child && moment.has_reaped() {
            has_killed_child = false;
            assert!(procfs::kill(parent.unwrap(), Signal::SIGKILL, |_| true));
        }
        Verdict::GoOn
    });
    ended.expect_code(0).expect_stdout(&NEXT_TWO);
}

const NEXT_TWO: [&str; 5] = [
    "Process-1: killed: SIGKILL",
    "ok: it is not taken for the dead one",
    "ok: it is not taken for the dead one",
    "Process-2: exited: 0",
    "Process-3: exited: 0",
];

/// A parent dies when it has let go a process that stood by, and hasn't woken it. The process runs, and its slot is free then.
#[test]
fn a_process_that_was_let_go_runs_though_its_parent_is_killed() {
    let mut word = None;
    let ended = run(&["--processes-max", "3"], &["spawns"], |moment| {
        if moment.begins(STANDBY, libc::SYS_futex) {
            word = Some(moment.args[0]);
        } else if moment.begins(GUEST, libc::SYS_futex) && word == Some(moment.args[0]) {
            word = None;
            return Verdict::Kill;
        }
        Verdict::GoOn
    });
    ended.expect_code(0).expect_stdout(&NEXT_TWO);
}
