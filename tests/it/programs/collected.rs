//! Objects that the engine collects: what they count for, and what forks and spawned processes have of them.

use sandpool::limits::Limit;
use sandpool::{ExitStatus, Limits, Sandbox};

use super::{TRAPPED, ends, program, runs};

/// Makes lists of `$count` elements. All but the last list are garbage.
const LISTS: &str = "
    (type $list (struct (field i64) (field (ref null $list))))
    (global $kept (mut (ref null $list)) (ref.null $list))
    (func $make (param $count i32)
        (global.set $kept (ref.null $list))
        (loop $more
            (global.set $kept (struct.new $list (i64.const 1) (global.get $kept)))
            (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))
    (func $len (result i32) (local $at (ref null $list)) (local $len i32)
        (local.set $at (global.get $kept))
        (block $end (loop $next
            (br_if $end (ref.is_null (local.get $at)))
            (local.set $len (i32.add (local.get $len) (i32.const 1)))
            (local.set $at (struct.get $list 1 (local.get $at)))
            (br $next)))
        (local.get $len))";

/// Repeats this ten times.
fn ten_times(body: &str) -> String {
    format!(
        "(local $round i32)
        (loop $again {body}
            (br_if $again (i32.lt_u (local.tee $round (i32.add (local.get $round) (i32.const 1))) (i32.const 10))))"
    )
}

#[test]
fn collected_objects_count_as_memory() {
    let kept = program(LISTS, "(call $make (i32.const 4000000))");
    let sandbox = |limits: Limits| Sandbox::new().limits(limits);
    // More than 100 MB of objects that are all in use.
    assert_eq!(ends(Sandbox::new(), &kept), ExitStatus::Exited(0));
    let limit = 32 << 20;
    let ended = runs(&["--memory-max", "32MiB"], &kept).expect_code(TRAPPED);
    assert!(ended.stderr.contains("limited: memory 32 MiB"), "{ended}");
    assert_eq!(
        ends(sandbox(Limits::default().memory_max(limit)), &kept),
        ExitStatus::Limited(Limit::Memory(limit))
    );
    assert_eq!(
        ends(sandbox(Limits::default().run_memory_max(limit)), &kept),
        ExitStatus::Limited(Limit::RunMemory(limit))
    );
    // These lists have as many bytes, and few of the bytes are in use at once.
    let garbage = program(LISTS, &ten_times("(call $make (i32.const 100000))"));
    assert_eq!(ends(sandbox(Limits::default().memory_max(limit)), &garbage), ExitStatus::Exited(0));
    // Exceptions are objects, and most are garbage at once.
    let thrown = program(
        "(tag $a (param i64)) (func $round (local $left i32) (local.set $left (i32.const 300000))
            (loop $more
                (block $caught (result i64) (try_table (catch $a $caught) (throw $a (i64.const 1))) unreachable) (drop)
                (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))",
        "(call $round)",
    );
    assert_eq!(ends(sandbox(Limits::default().memory_max(2 << 20)), &thrown), ExitStatus::Exited(0));
}

/// The account of the run has a fork's objects as well.
#[test]
fn collected_objects_of_a_fork_count_for_the_run() {
    let forks = program(
        LISTS,
        "(call $make (i32.const 200000))
         (call $exit (i64.lt_s (call $fork (i32.const 0) (i32.const 0) (i32.const 0)) (i64.const 0)))",
    );
    let limits = |run| Sandbox::new().limits(Limits::default().run_memory_max(run));
    assert_eq!(ends(limits(64 << 20), &forks), ExitStatus::Exited(0));
    assert_eq!(ends(limits(24 << 20), &forks), ExitStatus::Exited(1), "there is no room for two");
}

/// Each process has its own objects: parent and child both go on with theirs, and both collect.
#[test]
fn forked_processes_have_objects_of_their_own() {
    let round = ten_times("(call $make (i32.const 50000))");
    let text = program(
        LISTS,
        &format!(
            "(local $child i64) (local $mine i32) {round}
             (local.set $child (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))
             (if (i64.eqz (local.get $child)) (then
                (if (i32.ne (call $len) (i32.const 50000)) (then unreachable))
                (call $make (i32.const 3))
                (if (i32.ne (call $len) (i32.const 3)) (then unreachable))
                (call $make (i32.const 100000)) (call $make (i32.const 100000)) (call $make (i32.const 5))
                (call $exit (call $len))))
             (if (i32.ne (call $len) (i32.const 50000)) (then unreachable))
             (call $make (i32.const 100000)) (call $make (i32.const 2))
             (if (call $join (local.get $child) (i64.const -1)) (then unreachable))
             (if (call $status (local.get $child) (i32.const 8)) (then unreachable))
             (call $exit (i32.add (i32.load (i32.const 16)) (call $len)))"
        ),
    );
    runs(&[], &text).expect_code(7);
}

/// The process that spawned ones are forked from has an empty heap.
#[test]
fn spawned_processes_begin_without_objects() {
    const MORE: &str = r#"
        (import "sandpool_process" "spawn" (func $spawn (param i32 i32 i32 i32 i32 i32 i32) (result i64)))
        (import "sandpool_process" "entry" (func $entry (param i32 i32) (result i64)))"#;
    const ZEROS: &str =
        "(i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)";
    let start = format!(
        "(local $child i64) (local $sum i32)
         (if (i64.ge_s (call $entry (i32.const 0) (i32.const 0)) (i64.const 0)) (then
            (if (call $len) (then unreachable))
            (call $make (i32.const 200000)) (call $make (i32.const 2))
            (call $exit (call $len))))
         (call $make (i32.const 50000))
         {}
         (if (i32.ne (call $len) (i32.const 50000)) (then unreachable))
         (call $exit (local.get $sum))",
        ten_times(&format!(
            "(local.set $child (call $spawn {ZEROS}))
             (if (call $join (local.get $child) (i64.const -1)) (then unreachable))
             (if (call $status (local.get $child) (i32.const 8)) (then unreachable))
             (local.set $sum (i32.add (local.get $sum) (i32.load (i32.const 16))))"
        ))
        .replacen("(local $round i32)", "", 1),
    );
    let text = program(LISTS, &start).replacen("(module", &format!("(module {MORE}"), 1).replacen(
        "(local $sum i32)",
        "(local $sum i32) (local $round i32)",
        1,
    );
    runs(&[], &text).expect_code(20);
}
