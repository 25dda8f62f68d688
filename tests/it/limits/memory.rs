//! Memory of a process and of a run, shared memory, stack, objects and items of queues.

use sandpool::{ExitStatus, Run, Trap};

use crate::support::load_text;

use super::{ends_the_offender, ends_the_run, holds, limited};

#[test]
fn a_process_that_takes_too_much_memory_is_ended() {
    ends_the_offender(&["--memory-max", "32MiB"], "hoard", "memory 32 MiB");
}

/// Shared memory counts as the arena's, so what a guest has of its own there, before or behind it, or when it is gone, would
/// count as nobody's.
#[test]
fn where_shared_memory_lies_no_memory_is_had_that_nobody_counts() {
    let tries = |size: u32, body: &str| {
        let text = format!(
            r#"(module
                (import "sandpool_shared" "create" (func $create (param i64 i32 i32 i32) (result i64)))
                (import "sandpool_shared" "map" (func $map (param i64 i32) (result i64)))
                (import "sandpool_shared" "unmap" (func $unmap (param i32) (result i32)))
                (import "sandpool_shared" "read" (func $read (param i64 i64 i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 3)
                (func (export "_start") (local $shared i64) (local $at i32) (local $end i32)
                    (local.set $shared (call $create (i64.const {size}) (i32.const 0) (i32.const 0) (i32.const 0)))
                    (local.set $at (i32.wrap_i64 (call $map (local.get $shared) (i32.const 0))))
                    (local.set $end (i32.mul (memory.size) (i32.const 65536)))
                    ;; The memory itself can be written.
                    (i32.store (local.get $at) (i32.const 1))
                    {body}))"#
        );
        let module = load_text("shared", &text);
        Run::builder(&module).start().unwrap().wait().unwrap().status
    };
    let stores = ExitStatus::Trapped(Trap::MemoryOutOfBounds);
    let unmap = "(if (call $unmap (local.get $at)) (then unreachable))";
    const LARGE: u32 = 5 << 20;
    for (size, place) in [
        // In front of what begins with a huge page, and behind what is no page of WebAssembly's.
        (LARGE, "(i32.const 196608)"),
        (LARGE, "(i32.sub (local.get $at) (i32.const 8))"),
        (70_000, "(i32.sub (local.get $end) (i32.const 8))"),
    ] {
        let load = format!("(call $exit (i32.load {place}))");
        assert_eq!(tries(size, &load), ExitStatus::Exited(0), "{load}");
        assert_eq!(tries(size, &format!("(i32.store {place} (i32.const 1))")), stores, "{place}");
    }
    for size in [LARGE, 70_000, 4096] {
        for place in ["(local.get $at)", "(i32.sub (local.get $end) (i32.const 8))"] {
            let load = format!("{unmap} (call $exit (i32.load {place}))");
            assert_eq!(tries(size, &load), ExitStatus::Exited(0), "{size}: {load}");
            let store = format!("{unmap} (i32.store {place} (i32.const 1))");
            assert_eq!(tries(size, &store), stores, "{size}: {store}");
        }
        // Nor is it had by the host: `FAULT`, of Sandpool and of WASI.
        let calls = format!(
            "{unmap}
            (if (i32.ne (call $random (local.get $at) (i32.const 8)) (i32.const 21)) (then unreachable))
            (if (i32.ne (call $read (local.get $shared) (i64.const 0) (local.get $at) (i32.const 8)) (i32.const 14))
                (then unreachable))
            ;; Mapped again, it is memory as before.
            (if (i64.ne (call $map (local.get $shared) (i32.const 0)) (i64.extend_i32_u (local.get $at)))
                (then unreachable))
            (call $exit (i32.add (i32.load (local.get $at)) (i32.const 6)))"
        );
        assert_eq!(tries(size, &calls), ExitStatus::Exited(7), "{size}");
    }
}

#[test]
fn a_process_that_calls_too_deep_is_ended() {
    ends_the_offender(&[], "recurse", "stack 1 MiB");
    ends_the_offender(&["--stack-max", "64KiB"], "recurse", "stack 64 KiB");
    // Each call takes more than 21 bytes of it, as it takes 16 of linear memory.
    let deep = ["deep", "50000"];
    assert!(limited(&[], &deep).expect_code(134).stderr.ends_with("limited: stack 1 MiB\n"));
    limited(&["--stack-max", "64MiB"], &deep).expect_code(0).expect_stdout(&["back"]);
}

#[test]
fn too_many_objects_are_refused() {
    let ended = limited(&["--objects-max", "40"], &["queues"]).expect_code(0);
    assert!(ended.stdout.starts_with("refused after 40: "), "{ended}");
    assert!(ended.stdout.ends_with("and one in place of another\n"), "{ended}");
}

#[test]
fn too_many_items_make_a_queue_full() {
    let ended = limited(&["--queue-items-max", "5"], &["items"]).expect_code(0);
    ended.expect_stdout(&[&holds(5), &holds(5), &holds(2)]);
}

#[test]
fn a_process_that_takes_too_much_memory_of_the_run_is_ended() {
    ends_the_offender(&["--run-memory-max", "64MiB"], "hoard", "memory of the run 64 MiB");
}

#[test]
fn no_memory_of_the_run_is_had_by_starting_others() {
    // Each takes much less than it may: the one for which there is none left ends, or isn't started.
    for (mebibytes, limit) in [("5", "30MiB"), ("1", "64MiB"), ("40", "100MiB")] {
        let limits = ["--run-memory-max", limit, "--memory-max", "1GiB"];
        let ended = limited(&limits, &["memory-on", mebibytes]);
        let amount = format!("{} MiB", limit.strip_suffix("MiB").unwrap());
        let is_ended = ended.stderr.contains(&format!("limited: memory of the run {amount}"));
        let is_refused = ended
            .stderr
            .contains(&format!("too much memory: the run's limit is {amount} (`run-memory-max`)"));
        assert!(is_ended || is_refused, "{ended}");
    }
}

#[test]
fn memory_of_the_run_is_free_again_when_a_process_has_ended() {
    // For the first and one that was forked from it, and not for two.
    limited(&["--run-memory-max", "60MiB"], &["memory-again", "25"]).expect_code(0).expect_stdout(&[
        "200 times",
        "refused: too much memory: the run's limit is 60 MiB (`run-memory-max`)",
    ]);
}

#[test]
fn a_process_with_fresh_memory_of_which_there_is_none_left_ends_at_the_limit() {
    limited(&["--run-memory-max", "40MiB"], &["memory-fresh", "10"])
        .expect_code(0)
        .expect_stdout(&["it runs", "spawned: exited: 0"]);
    let ended = limited(&["--run-memory-max", "20MiB"], &["memory-fresh", "18"]).expect_code(0);
    ended.expect_stdout(&["spawned: limited: memory of the run 20 MiB"]);
    // Nor does one begin that is too large from the start.
    ends_the_run(&["--run-memory-max", "64KiB"], "spin", "memory of the run 64 KiB");
}
