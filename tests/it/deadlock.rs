//! Runs in which nobody can go on, and runs in which it only looks like it.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;

use crate::procfs::{self, Pid};
use crate::support::{Ended, Run, finish, guest, run, run_with};

const DEADLOCK: i32 = 124;

/// One process's report of its wait.
#[derive(Debug)]
struct Report {
    /// Process ids are `N`, and so are numbers of objects, of which the digits follow in `numbers`.
    what: String,
    /// The numbers of the objects.
    numbers: Vec<u32>,
    pid: Pid,
    seconds: f64,
    /// One line for each function.
    frames: Vec<String>,
}

impl Report {
    /// All reports, in order, with the name of the process.
    #[track_caller]
    fn all(stderr: &str) -> Vec<(String, Self)> {
        let mut reports = Vec::new();
        for line in stderr.lines() {
            if let Some(report) = line.strip_prefix("deadlock: process ") {
                reports.push(Self::from_line(report).unwrap_or_else(|| panic!("what is this: {line:?}")));
            } else if let Some((_, report)) = reports.last_mut()
                && line.starts_with("  ")
            {
                report.frames.push(line.to_owned());
            }
        }
        reports
    }

    fn from_line(line: &str) -> Option<(String, Self)> {
        let (name, rest) = line.strip_prefix('\'')?.split_once("' (pid ")?;
        let (pid, rest) = rest.split_once(") has waited ")?;
        let (seconds, what) = rest.split_once(" s for ")?;
        let (what, numbers) = numbered(what);
        let (pid, seconds) = (pid.parse().ok()?, seconds.parse().ok()?);
        Some((name.to_owned(), Self { what, numbers, pid, seconds, frames: Vec::new() }))
    }
}

/// Takes the process ids out, and the numbers of objects apart.
fn numbered(what: &str) -> (String, Vec<u32>) {
    let mut words = Vec::new();
    let mut numbers = Vec::new();
    let mut before = "";
    for word in what.split(' ') {
        let digits = word.trim_end_matches([')', ',']);
        let rest = &word[digits.len()..];
        match digits.parse() {
            Ok(_) if before == "(pid" => words.push(format!("N{rest}")),
            Ok(number)
                if ["queue", "end", "lock", "semaphore", "event", "condition", "barrier"]
                    .contains(&before) =>
            {
                numbers.push(number);
                words.push(format!("N{rest}"));
            }
            _ => words.push(word.to_owned()),
        }
        before = word;
    }
    (words.join(" "), numbers)
}

/// Runs a case to its end, and looks at what each process has said: name, what it waits for, and a function that it
/// does so in, if it is in one.
#[track_caller]
fn expect(case: &str, expected: &[(&str, &str, &str)]) -> BTreeMap<String, Report> {
    let ended = finish(&mut run_with("deadlock_cases", &[case])).expect_code(DEADLOCK);
    let reports = Report::all(&ended.stderr);
    assert_eq!(reports.len(), expected.len(), "{ended}");
    let reports: BTreeMap<_, _> = reports.into_iter().collect();
    for (name, what, function) in expected {
        let report = reports.get(*name).unwrap_or_else(|| panic!("nothing of {name}\n{ended}"));
        assert_eq!(report.what, *what, "of {name}\n{ended}");
        // A wait that is shorter than the time between two looks of the supervisor is no deadlock yet.
        assert!(report.seconds >= 0.2, "{name} after {} s\n{ended}", report.seconds);
        assert_eq!(report.frames.is_empty(), function.is_empty(), "of {name}\n{ended}");
        let frame = format!("deadlock_cases::{function}");
        let is_there = report.frames.iter().any(|line| line.trim_end().ends_with(&frame));
        assert!(is_there || function.is_empty(), "no {function} of {name}\n{ended}");
    }
    let last: Vec<_> = ended.stderr.lines().rev().take(2).collect();
    assert!(last[1].starts_with("error: deadlock: ") && last[0].starts_with("hint: "), "{ended}");
    reports
}

#[test]
fn two_locks_in_opposite_order() {
    let reports = expect(
        "locks",
        &[
            ("left", "lock N, held by 'right' (pid N)", "wants_the_second"),
            ("right", "lock N, held by 'left' (pid N)", "wants_the_first"),
            ("MainProcess", "the end of process 'left' (pid N)", "waits_for_left"),
        ],
    );
    assert_ne!(reports["left"].numbers, reports["right"].numbers, "two locks can be told apart");
    let mut pids: Vec<_> = reports.values().map(|report| report.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 3, "{reports:?}");
}

#[test]
fn a_lock_acquired_twice() {
    expect("own-lock", &[("MainProcess", "lock N, held by itself", "takes_it_twice")]);
}

#[test]
fn a_full_pipe_that_nobody_reads() {
    expect(
        "pipe",
        &[
            (
                "MainProcess",
                "room to send at pipe end N, whose other end is with 'reader' (pid N)",
                "sends_too_much",
            ),
            ("reader", "event N to be set, shared with 'MainProcess' (pid N)", "waits_to_begin"),
        ],
    );
}

#[test]
fn a_join_of_a_process_that_joins() {
    expect(
        "join",
        &[
            ("MainProcess", "the end of process 'joiner' (pid N)", "joins_the_joiner"),
            ("joiner", "the end of process 'MainProcess' (pid N)", "joins_its_parent"),
        ],
    );
}

#[test]
fn queues_that_nobody_else_uses() {
    let what = |what: &str| format!("{what} queue N, which no other process has");
    expect("get", &[("MainProcess", &what("an item of"), "takes_three")]);
    expect("put", &[("MainProcess", &what("room in"), "puts_three")]);
}

#[test]
fn items_that_nobody_is_done_with() {
    let waits = "event N to be set, shared with 'MainProcess' (pid N)";
    let what = "all items of queue N to be done, of which 'worker' (pid N) holds 1";
    expect("tasks", &[("MainProcess", what, "joins_the_tasks"), ("worker", waits, "waits_to_begin")]);
}

#[test]
fn a_semaphore_whose_units_are_kept() {
    let waits = "event N to be set, shared with 'MainProcess' (pid N)";
    let what = "a unit of semaphore N, of which 'keeper' (pid N) holds 2";
    expect("semaphore", &[("MainProcess", what, "wants_a_unit"), ("keeper", waits, "waits_to_begin")]);
}

#[test]
fn a_barrier_with_too_few_parties() {
    let what = |other: &str| format!("the others at barrier N (2 of 3 there), shared with '{other}' (pid N)");
    let (main, party) = (what("party"), what("MainProcess"));
    let reports = expect("barrier", &[("MainProcess", &main, "comes_to"), ("party", &party, "comes_to")]);
    assert_eq!(reports["MainProcess"].numbers, reports["party"].numbers, "it is the same one");
}

#[test]
fn a_condition_that_nobody_notifies() {
    let what = "a notification of condition N, shared with 'MainProcess' (pid N)";
    expect(
        "condition",
        &[
            ("MainProcess", "the end of process 'listener' (pid N)", "waits_for_left"),
            ("listener", what, "waits_for_news"),
        ],
    );
}

#[test]
fn a_wait_for_several() {
    let what = "one of 4 things: an item of queue N, shared with 'sleeper' (pid N), or event N to be set, shared with \
                'sleeper' (pid N), or a message at pipe end N, whose other end is with 'sleeper' (pid N), or the end \
                of process 'sleeper' (pid N)";
    expect(
        "several",
        &[
            ("MainProcess", what, "waits_for_one_of"),
            ("sleeper", "event N to be set, shared with 'MainProcess' (pid N)", "waits_to_begin"),
        ],
    );
}

/// The main function has returned, so there is nowhere that it could be said to be.
#[test]
fn a_child_that_never_ends() {
    expect(
        "children",
        &[
            ("MainProcess", "the end of its child 'stays' (pid N)", ""),
            ("stays", "event N to be set, which no other process has", "waits_to_begin"),
        ],
    );
}

#[test]
fn many_processes_are_not_all_named() {
    let ended = finish(&mut run_with("deadlock_cases", &["many"])).expect_code(DEADLOCK);
    let reports = Report::all(&ended.stderr);
    assert_eq!(reports.len(), 7, "{ended}");
    for (name, report) in reports {
        assert!(report.what.starts_with("event N to be set, shared with '"), "{name}: {}", report.what);
        assert!(report.what.ends_with(") and 2 more"), "{name}: {}", report.what);
        assert_eq!(report.what.matches("(pid N)").count(), 4, "{name}: {}", report.what);
    }
}

/// How often the supervisor has slept: each look for a deadlock is behind such a sleep.
fn looks(run: &Run) -> u64 {
    procfs::status(run.supervisor(), "voluntary_ctxt_switches")
}

/// Waits until the supervisor has had the time to find any deadlock several times.
#[track_caller]
fn wait_for_looks(run: &Run) {
    let before = looks(run);
    assert!(
        procfs::eventually(|| looks(run) >= before + 10),
        "the supervisor doesn't look\n{}",
        run.printed()
    );
}

/// Waits until this number of processes have reported.
#[track_caller]
fn wait_for_reports(run: &Run, count: usize) {
    let reported = || run.printed().matches("deadlock: process ").count();
    assert!(procfs::eventually(|| reported() >= count), "not {count} reports\n{}", run.printed());
}

#[test]
fn a_report_comes_once_and_the_run_goes_on() {
    let mut command = run(guest("deadlock_cases"));
    command.args(["--on-deadlock", "report", "--", "again"]);
    let run = Run::start(&mut command);
    wait_for_reports(&run, 2);
    wait_for_looks(&run);
    let printed = run.printed();
    assert_eq!(printed.matches("deadlock: process ").count(), 2, "it was reported again\n{printed}");

    // The lock's holder is gone, so the other has it, and waits for something else: that is a deadlock by itself.
    let reports = Report::all(&printed);
    let keeper = reports.iter().find(|(name, _)| name == "keeper").unwrap().1.pid;
    let keeper = run.guest(keeper);
    assert!(procfs::kill(keeper, Signal::SIGKILL, |pid| run.guests().contains(&pid)));
    wait_for_reports(&run, 3);
    wait_for_looks(&run);

    assert!(procfs::kill(run.embedder(), Signal::SIGTERM, |_| true));
    let ended = run.finish().expect_signal(Signal::SIGTERM).expect_stdout(&["taken over"]);
    let reports: Vec<_> =
        Report::all(&ended.stderr).into_iter().map(|(name, report)| (name, report.what)).collect();
    let what = |name: &str, what: &str| (name.to_owned(), what.to_owned());
    let mut first = reports[..2].to_vec();
    first.sort();
    assert_eq!(
        first,
        [
            what("MainProcess", "lock N, held by 'keeper' (pid N)"),
            what("keeper", "event N to be set, shared with 'MainProcess' (pid N)"),
        ],
        "{ended}"
    );
    assert_eq!(
        reports[2..],
        [what("MainProcess", "event N to be set, which no other process has")],
        "{ended}"
    );
}

/// The run has ended by itself, without a word of a deadlock.
#[track_caller]
fn no_alarm(ended: Ended) {
    let ended = ended.expect_code(0);
    assert_eq!((ended.stdout.lines().last(), &*ended.stderr), (Some("ended"), ""), "{ended}");
}

#[test]
fn a_process_that_sleeps_or_computes_can_go_on() {
    for case in ["sleep", "compute", "timeout"] {
        no_alarm(finish(&mut run_with("deadlock_none", &[case])));
    }
}

#[test]
fn a_process_that_reads_can_go_on() {
    use std::io::Write as _;
    let (run, mut stdin) = Run::start_with_stdin(&mut run_with("deadlock_none", &["stdin"]));
    run.wait_for_line("ready");
    wait_for_looks(&run);
    stdin.write_all(b"at last\n").unwrap();
    drop(stdin);
    no_alarm(run.finish());
}

/// Whether the kernel says so of a process: `S`, asleep; `T`, stopped.
fn is_in_state(pid: Pid, state: char) -> bool {
    procfs::describe(pid).contains(&format!(") {state} "))
}

/// Runs a case that waits for a file `/d/go`, stops the process that calls itself `who` before there is one, and
/// continues it after a while.
#[track_caller]
fn stopped_for_a_while(case: &str, who: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = run(guest("deadlock_none"));
    command.arg("--dir").arg(format!("{}:/d", folder.path().display())).args(["--", case]);
    let run = Run::start(&mut command);
    run.wait_for_line("ready");
    let pid = || run.printed().lines().find_map(|line| line.strip_prefix(who)?.trim().parse().ok());
    assert!(procfs::eventually(|| pid().is_some()), "{}", run.printed());
    let pid = run.guest(pid().unwrap());
    // The child is to be asleep when it is stopped.
    assert!(procfs::eventually(|| who == "main" || is_in_state(pid, 'S')), "{}", procfs::describe(pid));
    let is_meant = |pid| run.guests().contains(&pid);
    assert!(procfs::kill(pid, Signal::SIGSTOP, is_meant));
    assert!(procfs::eventually(|| is_in_state(pid, 'T')), "{}", procfs::describe(pid));
    std::fs::write(folder.path().join("go"), "").unwrap();
    wait_for_looks(&run);
    assert!(is_in_state(pid, 'T'), "{}\n{}", procfs::describe(pid), run.printed());
    assert!(procfs::kill(pid, Signal::SIGCONT, is_meant));
    no_alarm(run.finish());
}

#[test]
fn a_process_that_is_stopped_can_go_on() {
    stopped_for_a_while("stopped", "main");
}

/// It says that it waits, but what it waits for has come.
#[test]
fn a_process_that_was_woken_and_is_stopped_can_go_on() {
    stopped_for_a_while("echo", "child");
}

#[test]
fn processes_that_wait_in_turn_go_on() {
    no_alarm(finish(&mut run_with("deadlock_none", &["ping-pong"])));
}
