//! Managers, and the collections that need none: each guest checks area by area what one of them promises.

use crate::support::{Ended, finish, guest, run};

#[track_caller]
fn passes(ended: Ended, what: &[&str]) {
    let ended = ended.expect_code(0);
    for what in what {
        assert!(ended.all("ok: ").contains(what), "no {what:?}\n{ended}");
    }
}

#[test]
fn managers_answer_each_call_and_outlive_their_clients() {
    passes(
        finish(&mut run(guest("managers"))),
        &[
            "a call and its result",
            "from forked and spawned processes",
            "a proxy tells its manager",
            "through a queue, with the manager",
            "a method returns a proxy of another value",
            "one value calls another",
            "a value can't call itself",
            "and goes on",
            "proxies in values, deep",
            "a cycle is an error",
            "a proxy in a dictionary",
            "large arguments and results",
            "many at once, and none is lost",
            "what a constructor makes",
            "what it refuses",
            "a method that fails",
            "a panic is an error of the call",
            "the value is poisoned",
            "others go on",
            "restored, a hundred times",
            "a panic in a step",
            "holds up nobody, and has changed nothing",
            "a type that isn't registered",
            "a value outside of a manager",
            "a call that takes too long",
            "the next is fine",
            "a clone keeps it",
            "it goes with the last proxy",
            "held by another",
            "a moved proxy lives on",
            "it goes with a killed holder",
            "a message keeps it",
            "it goes with the message",
            "a dictionary keeps it",
            "it goes with the entry",
            "shutdown",
            "drops what there is",
            "a call of a manager that has ended",
            "a client that dies in a call leaves nothing",
            "a call of a killed manager",
            "nor is anything made there",
            "its shutdown says how it ended",
            "a copy ends nothing",
            "the name",
            "the initializer",
            "a manager is dropped",
            "an initializer that panics",
            "an initializer that fails",
            "a manager that is busy is killed",
            "it is alive",
            "a lock of the manager's",
        ],
    );
}

#[test]
fn collections_change_by_whole_steps_and_lose_none() {
    passes(
        finish(&mut run(guest("collections"))),
        &[
            "a new one is empty",
            "a new key",
            "the same key",
            "items in order",
            "keys and values",
            "setdefault",
            "pop",
            "popitem",
            "remove",
            "update",
            "modify",
            "compare_and_set",
            "what is left",
            "clear",
            "as a map of this process",
            "all keys in another process",
            "large values",
            "changed in place, deep",
            "collections in collections",
            "queues and locks in a list",
            "and in its middle",
            "one that was put in just now",
            "a key can't be a list",
            "a value of another type",
            "an empty list",
            "append, extend, insert",
            "get and set",
            "out of range",
            "pop",
            "index, count, contains",
            "remove",
            "slice",
            "sort, reverse, repeat",
            "update",
            "clear",
            "as a vector of this process",
            "taken from the end",
            "used as a queue",
            "new, and not",
            "in order",
            "removed, and not",
            "symmetric_difference_update",
            "intersection_update, difference_update",
            "exactly one is first",
            "values of several types",
            "names",
            "update",
            "removed, and not",
            "it needs no manager",
            "who is killed leaves whole steps",
            "no update is lost",
            "a step that fails changes nothing",
            "a step inside of its own is an error",
            "others see the state before",
            "and then the state after",
            "a large step",
            "all of it removed",
        ],
    );
}

#[test]
fn nobody_does_harm_to_a_manager_or_a_collection() {
    passes(
        finish(&mut run(guest("managers_hostile"))),
        &[
            "honest calls beside it",
            "and after it",
            "beside a flood",
            "a value isn't taken for one of another type",
            "it still counts",
            "any bytes in a collection",
            "changes that make no sense",
            "have changed nothing",
            "a nested value",
            "a value nested too deep is an error",
            "reading beside a section",
            "changing after its death",
            "nothing of it is there",
            "processes with proxies are killed at random",
            "the manager lives",
        ],
    );
}
