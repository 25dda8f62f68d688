//! How a limit that was met is told: to the guest, in the summary, and as a type.

use std::time::Duration;

use sandpool::limits::Limit;
use sandpool::run::Stdio;
use sandpool::{ExitStatus, Limits, Run, Sandbox};

use crate::support::{guest, load};

use super::limited;

#[test]
fn a_refusal_says_which_limit_it_was_and_where_it_lies() {
    let ended = limited(&["--processes-max", "5"], &["processes"]).expect_code(1);
    let ended =
        ended.expect_stdout(&["refused after 5: too many processes: the run's limit is 5 (`processes-max`)"]);
    let note =
        "note: 'MainProcess' was refused more than its limits: processes of the run 5 (`processes-max`)\n";
    assert!(ended.stderr.ends_with(note), "{ended}");
    let ended = limited(&["--objects-max", "40"], &["queues"]).expect_code(0);
    assert!(
        ended
            .stdout
            .starts_with("refused after 40: too many objects: the run's limit is 40 (`objects-max`)\n"),
        "{ended}"
    );
    assert_eq!(ended.stderr, "", "who has not failed has known what to do");
    let names = ["memory-max", "run-memory-max", "queue-items-max", "cpu-time", "open-files-max", "nonsense"];
    let limits = ["--queue-items-max", "7", "--cpu-time", "5s"];
    limited(&limits, &[&["say"], &names[..]].concat()).expect_code(0).expect_stdout(&[
        "memory 4 GiB",
        "no run-memory-max",
        "items of a queue 7",
        "cpu time 5 s",
        "open files 256",
        "no nonsense",
    ]);
}

#[test]
fn the_summary_of_the_library_says_what_was_refused() {
    let module = load(guest("limits"));
    let refused = |what: &str, limits: Limits| {
        let sandbox = Sandbox::new().limits(limits);
        let run = Run::builder(&module).arg("limits").arg(what).sandbox(sandbox).start().unwrap();
        let summary = run.wait().unwrap();
        let main = summary.reports.into_iter().find(|report| report.name == "MainProcess").unwrap();
        main.refused.into_iter().map(|refusal| (refusal.limit, refusal.times)).collect::<Vec<_>>()
    };
    let limits = Limits::default().objects_max(40);
    assert_eq!(refused("queues", limits), [(Limit::Objects(40), 1)]);
    let limits = Limits::default().queue_items_max(5);
    assert_eq!(refused("items", limits), [(Limit::QueueItems(5), 2)]);
    assert_eq!(refused("items", Limits::default()), []);
}

#[test]
fn the_summary_says_at_which_limit_a_process_was() {
    let ended = limited(&["--summary", "--cpu-time", "200ms"], &["spin"]).expect_code(0);
    assert!(ended.stderr.contains("Process-2    limited: cpu time 200 ms"), "{ended}");
}

#[test]
fn the_library_gives_the_limit_as_a_type() {
    let module = load(guest("limits"));
    let time = Duration::from_millis(150);
    let sandbox = Sandbox::new().limits(Limits::default().run_wall_time(time));
    let summary = Run::builder(&module).arg("limits").arg("sleep").sandbox(sandbox).start();
    // The command is the supervisor: this is no program that calls `init`.
    let summary = summary.unwrap().wait().unwrap();
    assert_eq!(summary.status, ExitStatus::Limited(Limit::RunWallTime(time)));
    assert_eq!(summary.status.to_string(), "limited: wall time of the run 150 ms");
    let sandbox = Sandbox::new().limits(Limits::default().stack_max(1));
    let error = Run::builder(&module).sandbox(sandbox).start().unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("at least 64KiB"));
}

/// Each of them was killed, and none for something that it did itself.
#[test]
fn all_who_end_with_the_run_are_told_to_have_reached_its_limit() {
    let module = load(guest("limits"));
    let time = Duration::from_millis(400);
    let sandbox = Sandbox::new().limits(Limits::default().run_wall_time(time));
    let run = Run::builder(&module).arg("limits").arg("sleep-on").sandbox(sandbox).start().unwrap();
    let summary = run.wait().unwrap();
    let limited = ExitStatus::Limited(Limit::RunWallTime(time));
    assert!(summary.reports.len() > 1, "{summary:?}");
    assert!(summary.reports.iter().all(|report| report.status == limited), "{summary:?}");
}

/// The largest process isn't the last one that ends.
#[test]
fn the_peak_of_a_run_is_that_of_its_largest_process() {
    let module = load(guest("limits"));
    let sandbox = Sandbox::new().limits(Limits::default().memory_max(64 << 20).processes_max(2));
    let run = Run::builder(&module).arg("limits").arg("hoard-and-end").sandbox(sandbox).start().unwrap();
    let summary = run.wait().unwrap();
    let last = summary.reports.last().unwrap();
    let peak = summary.reports.iter().map(|report| report.peak_memory).max().unwrap();
    assert!(last.peak_memory < peak, "{summary:?}");
    assert_eq!(summary.peak_memory, peak, "{summary:?}");
}

/// There is room for the reports of 64 processes.
#[test]
fn the_main_process_is_reported_after_any_number_of_others() {
    let module = load(guest("process_many"));
    let run = Run::builder(&module).args(["process_many", "100"]).stdin(Stdio::null()).stdout(Stdio::null());
    let summary = run.start().unwrap().wait().unwrap();
    assert_eq!(summary.reports.len(), 64);
    assert!(summary.reports.last().unwrap().name == "MainProcess", "{summary:?}");
}
