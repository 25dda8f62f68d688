//! Queues, where nobody dies. See `chaos` for where they do.

use crate::support::{finish, guest, run, run_with};

#[test]
fn what_a_queue_promises() {
    finish(&mut run(guest("queue_basics"))).expect_code(0).expect_checks(&[
        "first in, first out",
        "a put waits for room",
        "a get waits for an item",
        "close wakes who puts",
        "items of 0 bytes to 5 MB",
        "vectors of 0 bytes to 5 MB",
        "a queue through a queue",
        "100000 queues, some at a time",
        "also one with a queue in it",
        "the next one is fine",
    ]);
}

#[test]
fn many_producers_and_consumers_move_each_item_once_in_order() {
    for (producers, consumers, items, maxsize) in
        [("4", "4", "5000", "16"), ("1", "1", "20000", "0"), ("8", "2", "500", "1"), ("2", "8", "2000", "0")]
    {
        let ended =
            finish(&mut run_with("queue_many", &[producers, consumers, items, maxsize])).expect_code(0);
        let all = producers.parse::<u64>().unwrap() * items.parse::<u64>().unwrap();
        assert_eq!(ended.stdout.lines().last(), Some(format!("{all} items").as_str()), "{ended}");
        ended.expect_checks(&["each item once", "in the order of each producer"]);
    }
}

/// The arena is so small that producers wait for room in it.
#[test]
fn an_arena_that_is_full_makes_producers_wait() {
    let mut command = run(guest("queue_many"));
    command.args(["--arena-size", "1MiB", "--", "4", "2", "10000", "0"]);
    let ended = finish(&mut command).expect_code(0);
    assert_eq!(ended.stdout.lines().last(), Some("40000 items"), "{ended}");
}

/// A wake-up that went to one who was killed goes on to the next.
#[test]
fn a_killed_sleeper_does_not_keep_its_wake_up() {
    finish(&mut run_with("queue_handover", &["1000"]))
        .expect_code(0)
        .expect_stdout(&["ok: items are taken", "ok: room is filled"]);
}
