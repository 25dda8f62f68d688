//! Pools that guests make, also where tasks and workers die.

use crate::support::{Ended, finish, guest, run};

/// Runs a guest, which fails by itself where something doesn't hold, and looks whether it came as far as this.
#[track_caller]
fn promises(name: &str, options: &[&str], checks: &[&str]) -> Ended {
    finish(run(guest(name)).args(options)).expect_code(0).expect_checks(checks)
}

#[test]
fn what_a_pool_promises() {
    promises(
        "pool_basics",
        &[],
        &[
            "Fork: all results, each in its place",
            "Spawn: all results, each in its place",
            "Fork: results of 0 bytes to 5 MB",
            "Spawn: results of 0 bytes to 5 MB",
            "an error is a result",
            "Spawn: workers are daemonic",
            "none does more than it may",
            "Fork: none is lost by that",
            "Spawn: none is lost by that",
            "Fork: a state in each call",
            "Spawn: a state in each call",
            "it is decoded once in a chunk",
            "Spawn: a state of 0 bytes to 3 MB",
            "a state with many handles",
            "a state that can't be encoded",
            "not in no time",
            "one that was dropped is done",
            "an error callback",
            "the callback for values",
            "the callback for errors",
            "a callback may use the pool",
            "the input is read as results are taken",
            "not far ahead where tasks are long",
            "nor behind short tasks of another function",
            "the first comes last",
            "in their order",
            "the rest was cancelled",
            "a worker may have one",
            "and that has ended nothing",
            "not after close",
            "close, and all is done",
            "nothing is left of it",
            "leaving scope terminates",
            "fewer workers",
            "and none was lost",
            "queues as results",
            "all were put",
        ],
    );
}

#[test]
fn pools_and_all_else_may_be_made_in_workers() {
    promises(
        "pool_nested",
        &[],
        &[
            "pools in pools in pools",
            "spawned ones",
            "scoped maps in scoped maps",
            "exchanges in exchanges",
            "each in a worker",
            "which is daemonic",
            "each in a scope",
            "each in an exchange",
            "a daemon has no pool",
            "nobody is left",
            "takes along what its task has started",
            "terminated, a pool does the same",
            "a killed owner takes its workers along",
            "no child is left",
        ],
    );
}

#[test]
fn pools_in_pools_end_at_the_limit_of_processes() {
    let mut command = run(guest("pool_nested"));
    command.args(["--processes-max", "40", "--", "limits"]);
    let ended = finish(&mut command).expect_code(0);
    assert_eq!(
        ended.all("ok: "),
        ["some pools in each other", "one process too many", "and then there is room again"],
        "{ended}"
    );
}

#[test]
fn a_pool_takes_closures_by_value() {
    let each = ["Fork", "Spawn"].into_iter().flat_map(|method| {
        [
            "a closure in each call",
            "of no size",
            "aligned to 16 bytes",
            "with what is static",
            "of 80 KB",
            "a new worker gets it",
            "a task that is tried again",
        ]
        .map(|what| format!("{method}: {what}"))
    });
    let leaked = ["a leaked model is read in workers, where it is", "also in those that came later"];
    let all: Vec<_> = each.chain(leaked.map(str::to_owned)).collect();
    let all: Vec<_> = all.iter().map(String::as_str).chain(["an executor takes it"]).collect();
    promises("pool_by_value", &[], &all);
}

/// The crash matrix: what goes wrong (an error, a panic, an exit, a trap, SIGKILL), and where.
#[test]
fn exactly_the_task_that_goes_wrong_fails() {
    let all: Vec<_> = ["Fork", "Spawn"]
        .into_iter()
        .flat_map(|method| {
            [
                "exactly one fails, with 0 bytes",
                "exactly one fails, with 3145728 bytes",
                "workers were lost",
                "exactly one of a chunk fails",
                "none of a chunk is done twice",
                "the first that fails",
                "the pool still works",
                "an initializer that fails ends the pool, once",
                "each worker is initialized",
                "idle workers are replaced",
                "a result is lost in delivery",
                "during shutdown, exactly one fails",
            ]
            .map(|what| format!("{method}: {what}"))
        })
        .chain(
            [
                "what goes wrong with a state fails those that have it",
                "retries after Error",
                "retries after Panic",
                "retries after Exit",
                "retries after Trap",
                "too long, in chunks of 1",
                "too long, in chunks of 10",
                "one that may take longer",
                "a result",
                "an argument",
            ]
            .map(str::to_owned),
        )
        .collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    // So small that what is too large for it is in no hurry to be made.
    promises("pool_failures", &["--arena-size", "64MiB"], &all);
}

#[test]
fn large_arguments_and_results_arrive_and_leave_nothing() {
    let each = ["Fork", "Spawn"].map(|method| format!("{method}: all ways there and back"));
    let others = [
        "each length",
        "one that is tried again",
        "with another worker",
        "one fails",
        "an error that is large",
        "a result that never fits",
        "of workers that leave",
        "what is cancelled",
        "what is dropped",
    ];
    let all: Vec<_> = each.iter().map(String::as_str).chain(others).collect();
    promises("pool_large", &["--arena-size", "24MiB"], &all);
}

#[test]
fn too_little_memory_for_results_or_workers_is_an_error() {
    let results =
        ["no memory for a result", "nor for those of a chunk", "but for the next", "the worker goes on"];
    promises("pool_unready", &[], &[&results[..], &["and starts no more of them", "another works"]].concat());
}

#[test]
fn a_callback_may_read_its_result() {
    promises(
        "pool_callbacks",
        &[],
        &[
            "a future's result is there in its own callback",
            "and is as good as the first",
            "also that of a map",
            "and a failure",
            "one is added in another",
            "one calls another",
            "and the pool works on",
            "a child of a callback ends by its panic",
            "a new worker isn't panicking",
        ],
    );
}

/// Nothing goes on behind a panic: neither the callback's frames nor those that called it would be as safe code left them.
#[test]
fn a_callback_that_panics_ends_its_process() {
    for (how, code, message) in [
        ("panic", 1, ": the first\n"),
        ("late", 1, ": the square is 9\n"),
        ("future", 1, ": of a future\n"),
        ("decode", 1, ": not welcome\n"),
        ("abort", 134, "trapped: "),
        ("exit", 7, ""),
    ] {
        let ended = finish(run(guest("pool_callbacks")).args(["--", how])).expect_code(code);
        assert_eq!(ended.stdout, "", "{how}");
        assert!(ended.stderr.contains(message), "{how}: {ended}");
    }
}

#[test]
fn a_worker_that_cannot_be_started_now_is_started_later() {
    promises(
        "pool_refused",
        &[],
        &[
            "none can be started",
            "but when the guard is gone",
            "and so it goes on",
            "who waits with the guard is told",
            "of each task",
            "the pool hasn't ended",
            "all are counted",
            "and none is done later",
        ],
    );
}

#[test]
fn a_task_that_ends_its_worker_leaves_the_end_of_its_stderr() {
    promises(
        "pool_stderr",
        &["--memory-max", "100MiB"],
        &[
            "Fork: the stderr of each end",
            "Spawn: the stderr of each end",
            "in a chunk",
            "no more than the end",
            "a future: Panic",
            "a future: TooLong",
            "a scoped map",
            "an exchange",
            "of a process that runs",
            "not of another's",
            "of one that was killed",
            "of one that was spawned",
            "of one that writes none",
            "it is kept",
        ],
    );
}

#[test]
fn what_an_executor_promises() {
    promises(
        "pool_executor",
        &[],
        &[
            "each has its result",
            "map",
            "with a state",
            "running",
            "what runs can't be cancelled",
            "callbacks in their order",
            "what waits can be cancelled",
            "its exception",
            "which alone were done",
            "cancelled or done, never both",
            "the first",
            "not in time",
            "an error is an exception",
            "the first that fails",
            "the slow one comes last",
            "as completed, not in time",
            "futures of two executors",
            "a death breaks one future",
            "and nobody is left",
            "others are cancelled",
            "what ran is done",
        ],
    );
}

#[test]
fn each_task_has_a_mark_of_its_own() {
    let all = ["one breaks", "all that wait are cancelled", "and no other", "whose results are theirs"];
    promises("pool_marks", &[], &all);
}

#[test]
fn a_task_that_was_never_given_out_keeps_no_mark() {
    let all = ["all are cancelled", "the first is done", "and so is a new one", "and many"];
    promises("pool_lost_marks", &["--arena-size", "4MiB"], &all);
}

#[test]
fn what_a_scoped_map_promises() {
    promises(
        "pool_scoped",
        &[],
        &[
            "it borrows what it likes",
            "what it changes, it changes elsewhere",
            "no worker is left",
            "which fail",
            "and why",
            "all others are there",
            "a map fails as a whole",
            "retries",
            "a timeout",
            "queues",
            "in a child",
        ],
    );
}

#[test]
fn what_an_exchange_promises() {
    promises(
        "pool_exchange",
        &[],
        &[
            "never more than the limit",
            "by their index",
            "as they arrive",
            "it comes first",
            "then it is",
            "a queue as a result",
            "an exit",
            "a trap",
            "a panic",
            "what can't be encoded",
            "it is killed with the exchange",
            "and right",
        ],
    );
}
