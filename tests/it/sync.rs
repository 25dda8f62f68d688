//! Locks, semaphores, events, conditions and barriers, also where somebody dies.

use crate::support::{finish, guest, run};

/// Runs a guest, which fails by itself where something doesn't hold, and looks whether it came as far as this.
#[track_caller]
fn promises(name: &str, checks: &[&str]) {
    finish(&mut run(guest(name))).expect_code(0).expect_checks(checks);
}

#[test]
fn what_a_lock_promises() {
    promises(
        "sync_lock",
        &[
            "not twice",
            "not in no time",
            "a guard that comes too late",
            "a guard keeps its lock",
            "in any order",
            "another process can't release it",
            "one at a time",
            "until it is released",
            "anybody may release it",
            "a copy of a guard doesn't release",
            "a copy doesn't release what is the child's own",
            "and its copy does nothing",
            "a spawned process gets the lock",
            "a lock from a process that has ended",
            "one that was only in the queue",
            "a killed holder",
            "a holder that returned",
            "a holder that trapped",
            "a holder that panicked",
            "one of those who wait is told",
            "who waits can be killed",
        ],
    );
}

#[test]
fn what_a_semaphore_promises() {
    promises(
        "sync_semaphore",
        &[
            "not in no time",
            "no bound",
            "more than is missing",
            "a bounded one is full",
            "so nothing was released",
            "as many as there were signals",
            "three at a time",
            "a copy of a permit doesn't release",
            "a spawned process gets the semaphores",
            "a bounded one through a queue",
            "units of who is killed",
            "no more units than there may be",
            "and how many in all",
            "but no more than that",
            "who waits gets what is returned",
            "who waits can be killed",
            "a signal doesn't go to the dead",
            "who acquires and releases can be killed",
        ],
    );
}

#[test]
fn forty_thousand_semaphores_count_each_by_itself() {
    promises("sync_many", &["all there", "each by itself", "in a message", "and once more"]);
}

#[test]
fn what_an_event_promises() {
    promises(
        "sync_event",
        &[
            "not in no time",
            "waiting doesn't clear it",
            "all go on",
            "to and fro",
            "a pulse is enough",
            "there and back",
            "who waits can be killed",
            "who sets can be killed",
        ],
    );
}

#[test]
fn what_a_condition_promises() {
    promises(
        "sync_condition",
        &[
            "a notification isn't kept",
            "a wait takes it back",
            "a copy of a guard can't wait",
            "not with another lock's guard",
            "the next two",
            "nobody is left",
            "never, in some time",
            "a predicate",
            "a predicate with a timeout",
            "as often as before",
            "a buffer with two conditions",
            "notified by a spawned process",
            "a condition from a process that has ended",
            "a notification doesn't go to the dead",
            "nobody is left to be notified",
            "who was notified can be killed",
            "notified, but the lock was a dead one's",
            "late, and the lock was a dead one's",
        ],
    );
}

#[test]
fn what_a_barrier_promises() {
    promises(
        "sync_barrier",
        &[
            "one is enough for one",
            "a barrier for nobody",
            "each index once in each round",
            "one action in each round",
            "the error of an action",
            "then it is as new",
            "a panic does so, too",
            "who waits learns of an abort",
            "who waits learns of a reset",
            "it works as before",
            "which breaks it",
            "which a wait can replace",
            "its timeout comes with it",
            "who waits can be killed",
            "who is elsewhere doesn't break it",
            "at any moment",
            "who acts can be killed",
            "a reset is enough",
            "an action waits for a condition, and at another barrier",
            "which the one who acts is told",
            "and is as new",
            "who waits in an action can be killed",
        ],
    );
}
