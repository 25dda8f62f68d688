//! Nothing is left of a run, whichever of its processes ends, and whatever the others do at that moment.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid as ProcessGroup;

use crate::procfs::{self, Pid};
use crate::support::{Ended, Random, Run, finish, guest, run, run_with, sandpool_bin};

/// The works that a crowd can be at; see the guest.
const STATES: [&str; 9] = ["sleep", "spin", "get", "put", "pass", "fork", "spawn", "storm", "family"];

/// The exit code of `sandpool run` when the supervisor is gone.
const SUPERVISOR_LOST: i32 = 123;

fn crowd(what: &str, count: usize) -> Run {
    let mut command = run_with("crowd", &[what, &count.to_string()]);
    if what == "storm" {
        // The table is full soon, and room in it is fought for.
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = crate::support::sandpool();
        command.args(["run", "--processes-max", "60"]).args(&arguments[1..]);
    }
    Run::start(&mut command)
}

fn kill(pid: Pid, parent: Pid, signal: Signal) -> bool {
    procfs::kill(pid, signal, |pid| procfs::parent(pid) == Some(parent))
}

fn kill_embedder(run: &Run) {
    assert!(kill(run.embedder(), std::process::id(), Signal::SIGKILL));
}

fn kill_supervisor(run: &Run) {
    assert!(kill(run.supervisor(), run.embedder(), Signal::SIGKILL));
}

fn supervisor_was_killed(ended: Ended) {
    let ended = ended.expect_code(SUPERVISOR_LOST);
    assert!(ended.stderr.contains("error: the supervisor is gone: killed by signal 9\n"), "{ended}");
}

fn main_guest_was_killed(ended: Ended) {
    let ended = ended.expect_code(137);
    assert!(ended.stderr.contains("error: the guest was killed: SIGKILL\n"), "{ended}");
}

/// The numbers of the main guest and of its children, as they know them.
fn family(run: &Run) -> Vec<Pid> {
    let printed = run.printed();
    let line = printed.lines().find_map(|line| line.strip_prefix("processes: ")).unwrap();
    line.split(' ').map(|pid| pid.parse().unwrap()).collect()
}

/// Kills the guest that has this number in the run.
fn kill_guest(run: &Run, number: Pid) {
    let pid = run.guest(number);
    assert!(kill(pid, run.supervisor(), Signal::SIGKILL), "{pid} isn't a guest\n{}", run.printed());
}

#[test]
fn a_killed_embedder_takes_all_processes_along() {
    for state in STATES {
        let run = crowd(state, 4);
        run.wait_for_line("ready");
        kill_embedder(&run);
        run.finish().expect_signal(Signal::SIGKILL);
    }
}

#[test]
fn a_killed_supervisor_takes_all_guests_along() {
    for state in STATES {
        let run = crowd(state, 4);
        run.wait_for_line("ready");
        kill_supervisor(&run);
        supervisor_was_killed(run.finish());
    }
}

/// It may have few open files: too few for one of its first steps after the other.
#[test]
fn a_supervisor_that_cannot_go_on_says_why() {
    finish(&mut run(guest("hello"))).expect_code(0);
    let mut reasons = Vec::new();
    for files in 4..40 {
        let mut command = Command::new("sh");
        // Descriptors that the tests were started with would be closed on the way, and leave the supervisor more room than its owner.
        let script = "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; ulimit -n $0 && exec \"$@\"";
        command.args(["-c", script, &files.to_string()]);
        let ended = finish(command.arg(sandpool_bin()).arg("run").arg(guest("hello")));
        assert!(!ended.stderr.contains("exited with"), "with {files}: {ended}");
        reasons.extend(ended.stderr.lines().find_map(|line| Some(line.strip_prefix("error: ")?.to_owned())));
    }
    let told = |reason: &String| {
        reason.starts_with("the supervisor is gone: cannot ") && reason.contains("(os error ")
    };
    assert!(reasons.iter().any(told), "{reasons:?}");
}

#[test]
fn a_killed_main_guest_takes_all_others_along() {
    for state in STATES {
        let run = crowd(state, 4);
        run.wait_for_line("ready");
        kill_guest(&run, family(&run)[0]);
        main_guest_was_killed(run.finish());
    }
}

/// The others are told, and go on.
#[test]
fn others_are_told_of_a_killed_child_and_go_on() {
    // Not in a storm: there the table is full of processes that nobody waits for.
    for state in STATES.into_iter().filter(|state| *state != "storm") {
        let run = crowd(state, 4);
        run.wait_for_line("ready");
        kill_guest(&run, family(&run)[2]);
        let ended = run.finish().expect_code(0);
        assert_eq!(ended.all("a child was "), ["Signaled(Signal(9))"], "{state}\n{ended}");
    }
}

/// A process that is killed while it stands by is nobody's child yet: the next to be spawned doesn't need it.
#[test]
fn a_spawn_works_when_the_process_that_stands_by_was_killed() {
    let (run, mut stdin) = Run::start_with_stdin(&mut run_with("process_many", &["1", "spawn"]));
    run.wait_for_line("1 processes");
    for count in 2..20 {
        let mut standby = None;
        assert!(procfs::eventually(|| (standby = run.standby(), standby.is_some()).1), "{}", run.printed());
        assert!(kill(standby.unwrap(), run.supervisor(), Signal::SIGKILL));
        writeln!(stdin, "{count}").unwrap();
        run.wait_for_line(&format!("{count} processes"));
    }
    drop(stdin);
    run.finish().expect_code(0);
}

/// It may be at anything: about to be ready, claimed, or on its way to be somebody's child.
#[test]
fn a_storm_of_spawns_goes_on_when_processes_that_stand_by_are_killed() {
    // More would have none stand by for long.
    let run = crowd("spawn", 1);
    run.wait_for_line("ready");
    let mut killed = 0;
    let enough = || {
        if let Some(standby) = run.standby() {
            killed += u32::from(kill(standby, run.supervisor(), Signal::SIGKILL));
        }
        killed >= 10
    };
    assert!(procfs::eventually(enough), "{}", run.printed());
    kill_guest(&run, family(&run)[1]);
    let ended = run.finish().expect_code(0);
    assert_eq!(ended.all("a child was "), ["Signaled(Signal(9))"], "{ended}");
}

/// A process that is stopped can't do anything about its end.
#[test]
fn stopped_processes_end_too() {
    let run = crowd("sleep", 4);
    run.wait_for_line("ready");
    let supervisor = run.supervisor();
    for pid in run.guests() {
        assert!(kill(pid, supervisor, Signal::SIGSTOP));
    }
    kill_embedder(&run);
    run.finish().expect_signal(Signal::SIGKILL);
}

#[test]
fn ctrl_c_ends_a_run_whatever_its_guests_do() {
    for state in ["sleep", "spin", "get", "fork", "storm"] {
        let run = crowd(state, 4);
        run.wait_for_line("ready");
        // As a terminal does it: all processes of the group get it.
        killpg(ProcessGroup::from_raw(run.embedder().try_into().unwrap()), Signal::SIGINT).unwrap();
        let ended = run.finish().expect_signal(Signal::SIGINT);
        assert!(["", "interrupted\n"].contains(&ended.stderr.as_str()), "{state}\n{ended}");
    }
}

#[test]
fn a_signal_to_the_embedder_alone_ends_the_run() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        for state in ["sleep", "spin", "fork", "storm"] {
            let run = crowd(state, 4);
            run.wait_for_line("ready");
            assert!(kill(run.embedder(), std::process::id(), signal));
            let ended = run.finish().expect_signal(signal);
            // A guest may be ready before its embedder is ready to say something.
            assert!(["", "interrupted\n"].contains(&ended.stderr.as_str()), "{state}\n{ended}");
        }
    }
}

/// At any moment of a storm of forks, in which a process is always being born.
#[test]
fn kills_in_a_storm_of_forks_leave_no_process() {
    let mut random = Random::new();
    for round in 0..30 {
        let run = crowd(if round % 2 == 0 { "storm" } else { "fork" }, 6);
        run.wait_for_line("ready");
        random.pause(Duration::from_millis(20));
        match round % 3 {
            0 => {
                kill_embedder(&run);
                run.finish().expect_signal(Signal::SIGKILL);
            }
            1 => {
                kill_supervisor(&run);
                supervisor_was_killed(run.finish());
            }
            _ => {
                kill_guest(&run, family(&run)[0]);
                main_guest_was_killed(run.finish());
            }
        }
    }
}

/// At any moment of the start: of the embedder, the supervisor, the first guests.
#[test]
fn kills_while_a_run_starts_leave_no_process() {
    let mut random = Random::new();
    for _ in 0..40 {
        let run = crowd("fork", 4);
        random.pause(Duration::from_millis(30));
        kill_embedder(&run);
        run.finish().expect_signal(Signal::SIGKILL);
    }
}

/// A main guest that ends doesn't leave what isn't its child: a grandchild whose parent was killed.
#[test]
fn orphans_end_with_the_main_guest() {
    let run = crowd("family", 1);
    run.wait_for_line("ready");
    assert!(procfs::eventually(|| run.guests().len() == 4), "{}", run.printed());
    kill_guest(&run, family(&run)[1]);
    let ended = run.finish().expect_code(0);
    assert_eq!(ended.all("a child was "), ["Signaled(Signal(9))"], "{ended}");
}
