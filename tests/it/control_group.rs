//! The control group of a run, where one is delegated: who is in it, what it limits, and that it goes with the run. Where
//! nobody may make groups, nothing is made, and the report says that it doesn't apply.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::delegated::{Delegated, group_of};
use crate::procfs;
use crate::support::{Run, finish, guest, run, sandpool_bin};

/// The exit code of a run that lacks a layer which is required.
const JAIL: i32 = 117;

/// The command, in this group.
fn command_in(group: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]).arg(group).arg(sandpool_bin());
    command
}

/// The same, in the group below.
fn command(delegated: &Delegated) -> Command {
    command_in(&delegated.below())
}

/// A main process and two children of it that sleep.
fn sleepers(delegated: &Delegated, limits: &[&str]) -> Run {
    let mut command = command(delegated);
    command.args(["run", "--jail-report"]).args(limits).arg(guest("crowd")).args(["--", "sleep", "2"]);
    let run = Run::start(&mut command);
    run.wait_for_line("ready");
    run
}

/// Groups of runs that there are.
fn groups(delegated: &Delegated) -> Vec<String> {
    let entries = fs::read_dir(&delegated.path).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("sandpool-run-")).collect()
}

/// Whether a controller can be had for the groups below.
fn has(delegated: &Delegated, controller: &str) -> bool {
    let controllers = fs::read_to_string(delegated.path.join("cgroup.controllers")).unwrap();
    controllers.split_whitespace().any(|had| had == controller)
}

/// The report's line of a run's group.
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
    let run = sleepers(&delegated, &[]);
    let made = groups(&delegated);
    assert_eq!(made.len(), 1, "{made:?}\n{}", run.printed());
    let guests = run.guests();
    assert_eq!(guests.len(), 3);
    for pid in guests {
        assert!(group_of(pid).ends_with(&made[0]), "{}", procfs::describe(pid));
    }
    for pid in [run.embedder(), run.supervisor()] {
        assert!(group_of(pid).ends_with("/command"), "{}", procfs::describe(pid));
    }
    // Another run has one of its own.
    let other = sleepers(&delegated, &[]);
    assert_eq!(groups(&delegated).len(), 2);
    other.finish_by(Signal::SIGTERM);
    assert_eq!(groups(&delegated), made);
    run.finish_by(Signal::SIGTERM);
    assert!(groups(&delegated).is_empty());
    finish(command(&delegated).args(["run", "--require-jail", "seccomp"]).arg(guest("hello"))).expect_code(0);
    assert!(groups(&delegated).is_empty());
}

#[test]
fn a_group_goes_whoever_is_killed() {
    let Some(delegated) = Delegated::new() else { return };
    let gone = || procfs::eventually(|| groups(&delegated).is_empty());

    let run = sleepers(&delegated, &[]);
    assert!(procfs::kill(run.supervisor(), Signal::SIGKILL, |_| true));
    run.finish().expect_code(123);
    assert!(groups(&delegated).is_empty());

    let run = sleepers(&delegated, &[]);
    assert!(procfs::kill(run.embedder(), Signal::SIGKILL, |_| true));
    run.finish().expect_signal(Signal::SIGKILL);
    assert!(gone(), "{:?}", groups(&delegated));

    // Nobody is left to remove it, until the next one comes.
    let run = sleepers(&delegated, &[]);
    assert!(procfs::kill(run.embedder(), Signal::SIGSTOP, |_| true));
    assert!(procfs::kill(run.supervisor(), Signal::SIGKILL, |_| true));
    assert!(procfs::kill(run.embedder(), Signal::SIGKILL, |_| true));
    run.finish().expect_signal(Signal::SIGKILL);
    assert_eq!(groups(&delegated).len(), 1);
    let others = delegated.path.join("sandpool-main");
    fs::create_dir(&others).unwrap();
    finish(command(&delegated).arg("run").arg(guest("hello"))).expect_code(0);
    assert!(groups(&delegated).is_empty(), "{:?}", groups(&delegated));
    assert!(others.is_dir(), "it is not one of a run's");
}

/// The owner doesn't know of the group yet.
#[test]
fn a_group_goes_when_the_supervisor_is_killed_before_it_has_reported() {
    let Some(delegated) = Delegated::new() else { return };
    for _ in 0..10 {
        let run = Run::start(command(&delegated).arg("run").arg(guest("crowd")).args(["--", "sleep", "1"]));
        assert!(procfs::eventually(|| !groups(&delegated).is_empty()), "{}", run.printed());
        assert!(procfs::kill(run.supervisor(), Signal::SIGKILL, |_| true));
        run.finish().expect_code(123);
        assert!(groups(&delegated).is_empty());
    }
}

#[test]
fn a_group_limits_what_all_guests_have_together() {
    let Some(delegated) = Delegated::new() else { return };
    let limits =
        ["--processes-max", "20", "--run-memory-max", "1GiB", "--arena-size", "64MiB", "--stack-max", "1MiB"];
    let run = sleepers(&delegated, &limits);
    let read = |file| fs::read_to_string(delegated.path.join(&groups(&delegated)[0]).join(file));
    // Of the limits, twice what is in linear memories and the arena, and 9 MiB for each process; 8 more processes.
    let wanted = [("pids", "pids.max", 28_u64), ("memory", "memory.max", (2 * (1024 + 64) + 20 * 9) << 20)];
    let mut lacks = Vec::new();
    for (controller, file, most) in wanted {
        match has(&delegated, controller) {
            true => assert_eq!(read(file).unwrap().trim(), most.to_string(), "{file}"),
            false => lacks.push(format!("{file}: the delegated group has no such controller")),
        }
    }
    let expected =
        if lacks.is_empty() { "full".to_owned() } else { format!("partial: {}", lacks.join(", ")) };
    assert_eq!(hold(&run.printed_with_report()), expected);
    run.finish_by(Signal::SIGTERM);
    let ended =
        finish(command(&delegated).args(["run", "--require-jail", "control-group"]).arg(guest("hello")));
    assert_eq!(ended.status.code(), Some(if has(&delegated, "pids") { 0 } else { JAIL }), "{ended}");
}

/// A process in the delegated group itself, beside the groups below.
#[test]
fn a_group_with_processes_of_its_own_gives_no_limits() {
    let Some(delegated) = Delegated::new() else { return };
    let mut command = command_in(&delegated.path);
    let ended = finish(command.args(["run", "--jail-report"]).arg(guest("hello"))).expect_code(0);
    assert_eq!(
        hold(&ended.stderr),
        "partial: pids.max: there are processes in the delegated group itself",
        "{ended}"
    );
    assert!(groups(&delegated).is_empty());
}

/// A control group whose groups are for threads takes no process in.
#[test]
fn a_group_of_threads_is_none_for_processes() {
    let Some(delegated) = Delegated::new() else { return };
    fs::create_dir(delegated.path.join("threads")).unwrap();
    fs::write(delegated.path.join("threads/cgroup.type"), "threaded").unwrap();
    let mut command = command_in(&delegated.path);
    let ended = finish(command.args(["run", "--jail-report"]).arg(guest("hello")));
    fs::remove_dir(delegated.path.join("threads")).unwrap();
    assert_eq!(hold(&ended.expect_code(0).stderr), "absent: the delegated group is one of threads");
    assert!(groups(&delegated).is_empty());
}
