//! Special cases of single calls of the SDK, each of which a small mistake would change without any other test noticing.

use crate::support::{Ended, finish, guest, run, run_with};

/// Runs a guest to a good end, and looks for checks that must have been made.
#[track_caller]
fn passes(name: &str, checks: &[&str]) -> Ended {
    finish(&mut run(guest(name))).expect_code(0).expect_checks(checks)
}

#[test]
fn special_cases_of_processes_and_objects_are_as_documented() {
    let ended = passes(
        "small_print",
        &[
            "get is told of a holder that died",
            "set is told of a holder that died",
            "update is told of a holder that died",
            "a borrowed lock can be given back",
            "nothing has no name",
            "of the same block",
            "without the manager it has none",
            "there is room for one byte more",
            "an item longer than its room is damaged",
            "zeroes are no empty list",
            "its sentinel is no use",
            "after its end as well",
            "children that end are left out of the list",
        ],
    );
    assert_eq!(ended.stdout.lines().last(), Some("half of a line"), "{ended}");
}

#[test]
fn special_cases_of_pools_are_as_documented() {
    passes(
        "pool_rules",
        &[
            "a callback of a task that a shutdown cancels",
            "all callbacks in their order",
            "isn't made again",
            "idle workers leave",
            "those after it have another",
            "the shortest counts",
            "each task of a chunk has its own time",
            "an iterator says how many are left",
            "nothing is at work, and nobody waits for it",
            "each is counted that was",
            "what was moved away has no pool",
        ],
    );
}

#[test]
fn items_for_which_there_is_no_memory_are_errors_and_leave_the_rest() {
    passes(
        "queue_short",
        &[
            "which is gone",
            "each of several has a result",
            "which says why",
            "which ends it",
            "and leaves the rest",
        ],
    );
}

/// The log says what the host does, which terminates only daemons.
#[test]
fn a_child_that_is_waited_for_is_joined_and_not_terminated() {
    let ended = finish(&mut run_with("small_print", &["ends"])).expect_code(0);
    assert!(ended.stderr.contains("calling join() for process waits\n"), "{ended}");
    assert!(!ended.stderr.contains("calling terminate()"), "{ended}");
}

/// Nothing of such a drop is heard but this.
#[test]
fn a_panic_while_a_parent_drops_what_it_has_moved_is_printed_once() {
    let ended = finish(&mut run_with("small_print", &["drop"])).expect_code(1);
    assert!(ended.stderr.contains(": not here\n"), "{ended}");
}
