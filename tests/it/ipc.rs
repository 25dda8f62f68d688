//! Batches, joinable and simple queues, pipes, shared memory: each guest checks area by area what one of them promises.

use crate::support::{finish, guest, run};

/// Runs a guest to a good end, and looks for checks that must have been made.
#[track_caller]
fn passes(name: &str, checks: &[&str]) {
    finish(&mut run(guest(name))).expect_code(0).expect_checks(checks);
}

/// Runs a guest in an arena that is soon full.
#[track_caller]
fn passes_in(arena_size: &str, name: &str, checks: &[&str]) {
    let mut command = run(guest(name));
    command.args(["--arena-size", arena_size, "--", "small"]);
    finish(&mut command).expect_code(0).expect_checks(checks);
}

#[test]
fn batches_keep_their_order_and_lose_no_item() {
    passes(
        "queue_batches",
        &[
            "in order, each once",
            "as many as there is room for",
            "put_many waits for room",
            "get_many waits",
            "small, large, and with handles: in order",
            "sizes around all limits",
            "what can't be encoded is reported after what can",
            "the others aren't lost",
            "put_many after close",
            "get_many when drained",
            "many producers, many consumers",
            "what a killed producer has put is a beginning of it",
            "who is killed in get_many takes nothing along",
            "bytes in an item",
        ],
    );
}

#[test]
fn a_joinable_queue_is_joined_once_each_item_is_done() {
    passes(
        "queue_joinable",
        &[
            "a new queue is joined at once",
            "done by another",
            "too many",
            "each once",
            "all who join are woken",
            "who is killed in get or join takes nothing along",
            "the rest is done, one is lost",
            "who joins is woken by a death",
            "one more, at an end",
            "done before the death",
            "an argument of a spawned process",
            "an item of a queue",
        ],
    );
}

#[test]
fn simple_queues_keep_their_order_whoever_is_killed() {
    passes(
        "queue_simple",
        &[
            "in order",
            "between processes",
            "with a spawned process",
            "put after close",
            "readers were killed",
            "what a reader had is gone with it, no more",
            "who puts and gets can be killed",
        ],
    );
}

/// By the imports, as an attacker or an SDK for another language calls them.
#[test]
fn messages_in_parts_arrive_whole_or_not_at_all() {
    passes(
        "message_parts",
        &[
            "an item in four parts",
            "it can be seen how it begins",
            "too little room",
            "it was still held",
            "and is what was put",
            "nothing was put",
            "received at once",
            "nothing was sent",
        ],
    );
}

#[test]
fn pipes_carry_whole_messages_both_ways() {
    passes(
        "pipe_basics",
        &[
            "both ways at once",
            "send at the receiver",
            "recv at the sender",
            "4 MB there and back",
            "does no harm",
            "messages stay apart",
            "messages of up to 10 MB",
            "bytes, received in a struct",
            "a vector of another length",
            "nor one with a queue",
            "too short for it",
            "more than 5",
            "not readable any more",
            "a send waits for room",
            "the end is something, too",
            "then the end",
            "a broken pipe",
            "with a spawned process",
            "a connection through a connection",
            "an item has its connection",
        ],
    );
}

#[test]
fn a_pipe_refuses_a_message_larger_than_its_arena() {
    passes_in("1MiB", "pipe_basics", &["larger than the arena", "there is room again"]);
}

#[test]
fn pipes_whose_users_die_keep_their_messages_whole() {
    passes(
        "pipe_death",
        &[
            "messages outlive their sender",
            "killed, it doesn't",
            "nobody waits for themselves",
            "a sender killed in send leaves whole messages, and an end",
            "the other sender goes on",
            "a receiver killed in recv takes nothing along",
            "who waits for room learns that nobody is left",
            "its other end is gone",
            "until it is gone itself",
            "large messages are whole or not there",
        ],
    );
}

#[test]
fn a_wait_for_many_objects_is_ended_by_any_of_them() {
    passes(
        "wait_many",
        &[
            "all objects",
            "also when it was joined",
            "the end of messages",
            "a closed queue",
            "who waits for ten is woken by one",
            "who is killed in wait takes nothing along",
            "who waits again and again can be killed",
            "all who wait are woken",
            "4096 things",
        ],
    );
}

#[test]
fn shared_values_lose_no_update() {
    passes(
        "shared_value",
        &[
            "a structure",
            "more than 512 bytes",
            "compare_exchange",
            "update loses nothing",
            "nor does compare_exchange",
            "nobody else can",
            "the death of its holder is told",
            "who waits for the lock is told",
            "a number isn't half changed by who is killed",
            "spawned processes count",
            "a value outlives its maker",
            "thousands at a time",
        ],
    );
}

#[test]
fn shared_arrays_lose_no_change_and_go_with_their_last_user() {
    passes(
        "shared_array",
        &[
            "a slice in place",
            "atomic elements",
            "structures",
            "no elements",
            "2000000 elements",
            "changes under the lock",
            "atomic changes",
            "no fork while it is borrowed",
            "beside a guard, access is a panic",
            "who is next repairs what is half changed",
            "who waited is gone, too",
            "an array through a queue",
            "an array outlives its maker",
            "in three places",
            "thousands of arrays, one at a time",
            "hundreds at a time",
            "shared memory can't be sent as it is",
        ],
    );
}

#[test]
fn arrays_are_refused_by_a_full_arena_which_has_room_again() {
    passes_in(
        "2MiB",
        "shared_array",
        &["larger than the arena", "the arena is full", "and has room again, for zeroes"],
    );
}

#[test]
fn shared_blocks_are_found_by_name_and_stay_until_they_are_removed() {
    passes(
        "shared_memory",
        &[
            "is taken",
            "nothing of that name",
            "size 0",
            "what one writes the other reads",
            "an atomic integer in it",
            "that others see",
            "it stays when nobody has it",
            "it outlives its maker",
            "thousands, one at a time",
            "who makes and attaches can be killed",
            "a store traps",
            "also in what a fork has mapped",
            "read only, also when sent",
        ],
    );
}

#[test]
fn shareable_lists_give_their_items_back_and_refuse_longer_ones() {
    passes(
        "shared_list",
        &[
            "items come back",
            "its format",
            "too long",
            "nothing was changed",
            "zeroes and long characters stay",
            "also of bytes",
            "what isn't a list",
            "other processes change it",
            "in a message",
        ],
    );
}

/// Stores trap there. An operation of the engine's own on a whole range ends the process by the signal that it gets.
#[test]
fn memory_that_may_only_be_read_is_not_filled() {
    for (operation, code) in [
        ("(i32.store (local.get $at) (i32.const 1))", 134),
        ("(memory.fill (local.get $at) (i32.const 1) (i32.const 1000))", 139),
        ("(memory.copy (local.get $at) (i32.const 1) (i32.const 1000))", 139),
        ("(memory.init $some (local.get $at) (i32.const 0) (i32.const 64))", 139),
        ("(memory.copy (i32.const 1) (local.get $at) (i32.const 1000))", 0),
    ] {
        let some = "some".repeat(16);
        let text = format!(
            r#"(module
              (import "sandpool_shared" "create" (func $create (param i64 i32 i32 i32) (result i64)))
              (import "sandpool_shared" "map" (func $map (param i64 i32) (result i64)))
              (memory (export "memory") 1)
              (data $some "{some}")
              (func (export "_start") (local $at i32)
                (local.set $at (i32.wrap_i64 (call $map
                  (call $create (i64.const 65536) (i32.const 0) (i32.const 0) (i32.const 0)) (i32.const 1))))
                {operation}))"#
        );
        let file = crate::process::module(&text);
        let ended = finish(&mut run(file.path())).expect_code(code);
        assert!(!ended.stderr.contains("forbids"), "{operation}\n{ended}");
    }
}

#[test]
fn shared_memory_is_not_for_wasi() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = run(guest("shared_wasi"));
    command.arg("--dir").arg(format!("{}:/out", dir.path().display()));
    finish(&mut command).expect_code(0).expect_stdout(&[
        "ok: a loop reads it",
        "ok: a write from it",
        "ok: nor one of several pieces",
        "ok: a copy can be written",
        "ok: a read into it",
        "ok: nothing was read",
        "ok: random bytes into it",
        "ok: a path is a copy",
        "ok: all else works",
        "ok: output as well",
    ]);
}

/// In safe code, no handle is taken for what it isn't, and none is lost for that.
#[test]
fn handles_are_what_the_host_recorded() {
    let mut command = run(guest("confusion"));
    command.args(["--objects-max", "150"]);
    finish(&mut command).expect_code(0).expect_checks(&[
        "each object as each type",
        "each two objects as each type that has two",
        "in an item",
        "in items",
        "as the arguments of a task",
        "as the result of a task",
        "as the state of tasks",
        "its lock",
        "and whole, it is the same",
        "with one lock",
        "a block as the elements of an array",
        "so is what is sent",
        "nor be written",
        "also what comes back",
        "a view keeps the block",
        "twice the same",
        "each use is one",
        "no handle is lost",
    ]);
}

#[test]
fn items_that_cannot_be_decoded_are_errors_and_lose_no_handle() {
    let mut command = run(guest("decoding"));
    command.args(["--objects-max", "100", "--cpu-time", "20s"]);
    finish(&mut command).expect_code(0).expect_checks(&[
        "values in values in values",
        "sequences in sequences",
        "in an option",
        "what isn't too deep is what it was",
        "in a task",
        "nothing, four billion times",
        "nothing in nothing",
        "nothing by nothing",
        "some are none too many",
        "lengths that are lies",
        "a result for each, in order",
        "also of large items",
        "each is done with",
        "an iterator goes on",
        "a thousand failures",
        "no handle is lost",
    ]);
}

#[test]
fn numbers_at_their_ends_are_errors_or_mean_the_same_and_never_trap() {
    passes(
        "numbers",
        &[
            "a queue's maxsize",
            "its capacity",
            "units to release",
            "no party",
            "one more",
            "an end",
            "elements with a lock",
            "an item of a list",
            "workers",
            "more workers",
            "a chunk of all",
            "a result of an exchange",
        ],
    );
}

/// A process waits for room in the arena for longer than it may compute.
#[test]
fn a_wait_for_room_in_the_arena_takes_no_processor_time() {
    let mut command = run(guest("full_arena"));
    command.args(["--arena-size", "4MiB", "--cpu-time", "1s"]);
    finish(&mut command).expect_code(0).expect_checks(&[
        "a large item",
        "many small items",
        "many large items",
        "a large message",
        "an input waits",
        "a result waits",
        "and is put when there is room",
    ]);
}

/// By a view, wasm of any kind reads, and no more: it is the host that knows what it is.
#[test]
fn a_view_is_for_reading() {
    for (call, expected) in [
        // All of these are 1, `PERM`.
        ("(call $write (local.get $view) (i64.const 0) (i32.const 0) (i32.const 8))", "1"),
        ("(i32.sub (i32.const 0) (i32.wrap_i64 (call $map (local.get $view) (i32.const 0))))", "1"),
        ("(i32.wrap_i64 (call $store (local.get $view) (i64.const 0) (i32.const 8) (i64.const 7)))", "trap"),
        (
            "(i32.wrap_i64 (call $rmw (local.get $view) (i64.const 0) (i32.const 8) (i32.const 0) (i64.const 7)))",
            "trap",
        ),
        (
            "(i32.wrap_i64 (call $exchange (local.get $view) (i64.const 0) (i32.const 8) (i64.const 5) (i64.const 7)))",
            "trap",
        ),
        (
            "(i32.store (i32.wrap_i64 (call $map (local.get $view) (i32.const 1))) (i32.const 7)) (i32.const 0)",
            "trap",
        ),
        ("(call $write (call $view (local.get $view)) (i64.const 0) (i32.const 0) (i32.const 8))", "1"),
        // These aren't.
        ("(call $read (local.get $view) (i64.const 0) (i32.const 0) (i32.const 8))", "0"),
        ("(i32.wrap_i64 (call $load (local.get $view) (i64.const 0) (i32.const 8)))", "5"),
        ("(i32.load (i32.wrap_i64 (call $map (local.get $view) (i32.const 1))))", "5"),
        ("(call $write (local.get $all) (i64.const 0) (i32.const 0) (i32.const 8))", "0"),
        // One of few bytes has no page that could be another's: 22, `INVAL`.
        (
            "(i32.sub (i32.const 0) (i32.wrap_i64 (call $view (call $create (i64.const 8) (i32.const 1) (i32.const 0) (i32.const 0)))))",
            "22",
        ),
    ] {
        let text = format!(
            r#"(module
              (import "sandpool_shared" "create" (func $create (param i64 i32 i32 i32) (result i64)))
              (import "sandpool_shared" "view" (func $view (param i64) (result i64)))
              (import "sandpool_shared" "map" (func $map (param i64 i32) (result i64)))
              (import "sandpool_shared" "read" (func $read (param i64 i64 i32 i32) (result i32)))
              (import "sandpool_shared" "write" (func $write (param i64 i64 i32 i32) (result i32)))
              (import "sandpool_shared" "load" (func $load (param i64 i64 i32) (result i64)))
              (import "sandpool_shared" "store" (func $store (param i64 i64 i32 i64) (result i64)))
              (import "sandpool_shared" "rmw" (func $rmw (param i64 i64 i32 i32 i64) (result i64)))
              (import "sandpool_shared" "compare_exchange"
                (func $exchange (param i64 i64 i32 i64 i64) (result i64)))
              (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
              (memory (export "memory") 1)
              (func (export "_start") (local $all i64) (local $view i64)
                (local.set $all (call $create (i64.const 65536) (i32.const 0) (i32.const 0) (i32.const 0)))
                (drop (call $store (local.get $all) (i64.const 0) (i32.const 8) (i64.const 5)))
                (local.set $view (call $view (local.get $all)))
                (call $exit {call})))"#
        );
        let file = crate::process::module(&text);
        let code = if expected == "trap" { 134 } else { expected.parse().unwrap() };
        finish(&mut run(file.path())).expect_code(code);
    }
}

/// An object's maker says once what the object is, before others have it.
#[test]
fn what_is_recorded_stays() {
    // Each is 0, or the errno that it is to be: 1 is `PERM`, 9 `BADF`, 22 `INVAL`.
    for (call, expected) in [
        ("(call $record (local.get $lock) (i32.const 7) (i64.const 0))", 0),
        ("(call $record (local.get $lock) (i32.const 7) (local.get $queue))", 0),
        ("(call $record (local.get $lock) (i32.const 0) (i64.const 0))", 22),
        ("(call $record (i64.const 12345) (i32.const 7) (i64.const 0))", 9),
        ("(call $record (local.get $lock) (i32.const 7) (i64.const 12345))", 9),
        (
            "(drop (call $record (local.get $lock) (i32.const 7) (i64.const 0)))
             (call $record (local.get $lock) (i32.const 8) (i64.const 0))",
            1,
        ),
        // A message holds it as well.
        (
            "(i64.store (i32.const 0) (local.get $lock))
             (drop (call $put (local.get $queue) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i64.const 0)))
             (call $record (local.get $lock) (i32.const 7) (i64.const 0))",
            1,
        ),
        // Another process does, which waits for this one's end.
        (
            "(drop (call $acquire (local.get $lock) (i64.const -1)))
             (if (i64.eqz (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))
               (then (drop (call $acquire (local.get $lock) (i64.const -1)))))
             (call $record (local.get $lock) (i32.const 7) (i64.const 0))",
            1,
        ),
        // The receiver is told: its kind, the tag, and the partner.
        (
            "(drop (call $record (local.get $lock) (i32.const 7) (local.get $queue)))
             (i64.store (i32.const 0) (local.get $lock))
             (drop (call $put (local.get $queue) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i64.const 0)))
             (drop (call $get (local.get $queue) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 32)))
             (drop (call $take (i32.const 0) (i32.const 0) (i32.const 64) (i32.const 1)))
             (i32.or (i64.ne (i64.load (i32.const 64)) (local.get $lock))
               (i32.or (i32.ne (i32.load (i32.const 72)) (i32.const 0x103))
                 (i32.or (i32.ne (i32.load (i32.const 76)) (i32.const 7))
                   (i64.ne (i64.load (i32.const 80)) (local.get $queue)))))",
            0,
        ),
    ] {
        let text = format!(
            r#"(module
              (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
              (import "sandpool_sync" "lock_create" (func $lock (param i32) (result i64)))
              (import "sandpool_sync" "lock_acquire" (func $acquire (param i64 i64) (result i32)))
              (import "sandpool_queue" "create" (func $queue (param i64 i32) (result i64)))
              (import "sandpool_queue" "put" (func $put (param i64 i32 i32 i32 i32 i64) (result i32)))
              (import "sandpool_queue" "get" (func $get (param i64 i32 i32 i64 i32) (result i32)))
              (import "sandpool_queue" "take" (func $take (param i32 i32 i32 i32) (result i32)))
              (import "sandpool_handle" "record" (func $record (param i64 i32 i64) (result i32)))
              (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
              (memory (export "memory") 1)
              (func $try (param $lock i64) (param $queue i64) (result i32) {call})
              (func (export "_start")
                (call $exit (call $try (call $lock (i32.const 1)) (call $queue (i64.const 0) (i32.const 0))))))"#
        );
        let file = crate::process::module(&text);
        finish(&mut run(file.path())).expect_code(expected);
    }
}

#[test]
fn of_messages_that_cannot_be_decoded_nothing_stays() {
    finish(run(guest("message_handles")).args(["--objects-max", "10"])).expect_code(0).expect_checks(&[
        "BeforeAny: nothing stays",
        "BetweenTwo: nothing stays",
        "BehindAll: nothing stays",
        "Unclaimed: nothing stays",
        "what is right is received",
    ]);
}

/// Names go with who has them made, however that ends.
#[test]
fn a_manager_of_shared_memory_takes_its_names_along() {
    passes(
        "shared_manager",
        &[
            "it makes names",
            "others attach",
            "a copy makes nothing",
            "nor ends anything",
            "shutdown takes all names away",
            "who has the memory keeps it",
            "the names are free",
            "so does a drop",
            "a return takes them away",
            "exit takes them away",
            "a panic takes them away",
            "an error takes them away",
            "SIGKILL takes them away",
            "not the memory",
            "other names stay",
        ],
    );
}

#[test]
fn attacks_in_safe_code_reach_nothing_of_other_processes() {
    passes(
        "attacks",
        &[
            "as itself, and not once more as what it was spawned for",
            "a result is what it was, or an error",
            "the clone was made",
            "the guard's alone",
            "no fork",
            "no pool",
            "no scoped map",
            "no exchange",
            "each has its own",
            "a handle out of a message",
            "as long as it lives",
            "and then it is told",
            "handles that are gone",
            "to be spawned with",
        ],
    );
}
