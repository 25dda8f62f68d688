//! Imports as WebAssembly calls them: with arguments that no SDK passes.

use sandpool::limits::Limit;
use sandpool::run::RunOutput;
use sandpool::{ExitStatus, Limits, Run, Sandbox, Trap};

use crate::support::load_text;

/// Runs a program whose checks hold.
#[track_caller]
fn holds(checks: &str) -> RunOutput {
    let output = run(Limits::default(), checks);
    let status = output.summary.status;
    assert_eq!(status, ExitStatus::Exited(0), "the number of the check that doesn't hold\n{}", output.stderr);
    output
}

/// Runs a program that ends with the number of the first check that doesn't hold, or with 0.
///
/// `$is` checks that two numbers are the same, `$made` that a handle is one, and `$done` that a call has succeeded.
#[track_caller]
fn run(limits: Limits, checks: &str) -> RunOutput {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "sandpool_queue" "create" (func $create (param i64 i32) (result i64)))
            (import "sandpool_queue" "put" (func $put (param i64 i32 i32 i32 i32 i64) (result i32)))
            (import "sandpool_queue" "get" (func $get (param i64 i32 i32 i64 i32) (result i32)))
            (import "sandpool_queue" "get_many" (func $get_many (param i64 i32 i32 i32 i32 i64) (result i64)))
            (import "sandpool_queue" "take" (func $take (param i32 i32 i32 i32) (result i32)))
            (import "sandpool_queue" "qsize" (func $qsize (param i64) (result i64)))
            (import "sandpool_pipe" "create" (func $pipe (param i64 i32 i32) (result i32)))
            (import "sandpool_pipe" "recv" (func $recv (param i64 i32 i32 i64 i32) (result i32)))
            (import "sandpool_sync" "lock_create" (func $lock (param i32) (result i64)))
            (import "sandpool_sync" "lock_acquire" (func $acquire (param i64 i64) (result i32)))
            (import "sandpool_sync" "semaphore_create" (func $semaphore (param i64 i32) (result i64)))
            (import "sandpool_shared" "create" (func $share (param i64 i32 i32 i32) (result i64)))
            (import "sandpool_shared" "map" (func $map (param i64 i32) (result i64)))
            (import "sandpool_shared" "write" (func $write (param i64 i64 i32 i32) (result i32)))
            (import "sandpool_handle" "release" (func $release (param i64) (result i32)))
            (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
            (import "sandpool_process" "join" (func $join (param i64 i64) (result i32)))
            (import "sandpool_process" "status" (func $status (param i64 i32) (result i32)))
            (import "sandpool_process" "signal" (func $signal (param i64 i32) (result i32)))
            (import "sandpool_process" "close" (func $close (param i64) (result i32)))
            (import "sandpool_process" "info" (func $info (param i64 i32) (result i32)))
            (import "sandpool_process" "mute" (func $mute (param i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "at first")
            (global $check (mut i32) (i32.const 0))
            (func $is (param i64 i64)
                (global.set $check (i32.add (global.get $check) (i32.const 1)))
                (if (i64.ne (local.get 0) (local.get 1)) (then (call $exit (global.get $check)))))
            (func $made (param i64) (result i64)
                (call $is (i64.extend_i32_u (i64.gt_s (local.get 0) (i64.const 0))) (i64.const 1))
                (local.get 0))
            (func $done (param i32) (call $is (i64.const 0) (i64.extend_i32_s (local.get 0))))
            ;; Joins a child, all of whose checks must have held.
            (func $succeeds (param i64)
                (call $done (call $join (local.get 0) (i64.const -1)))
                (call $done (call $status (local.get 0) (i32.const 1000)))
                (call $is (i64.const 1) (i64.load32_u (i32.const 1000)))
                (call $is (i64.const 0) (i64.load32_u (i32.const 1004))))
            (func (export "_start") (local $a i64) (local $b i64) (local $at i32)
                {checks}))"#
    );
    Run::builder(&load_text("imports", &text)).sandbox(Sandbox::default().limits(limits)).output().unwrap()
}

/// 14 is `FAULT`. The memory ends at 65536.
#[test]
fn an_item_is_taken_only_if_all_that_is_said_of_it_has_a_place() {
    holds(
        r#"(local.set $a (call $made (call $create (i64.const 0) (i32.const 0))))
        (call $is (i64.const 0) (i64.extend_i32_s
            (call $put (local.get $a) (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0) (i64.const 0))))
        (call $is (i64.const 14) (i64.extend_i32_s
            (call $get (local.get $a) (i32.const 0) (i32.const 8) (i64.const 0) (i32.const 65528))))
        (call $is (i64.const 14) (i64.extend_i32_s
            (call $get (local.get $a) (i32.const 65530) (i32.const 8) (i64.const 0) (i32.const 0))))
        (call $is (i64.const -14)
            (call $get_many (local.get $a) (i32.const 0) (i32.const 80) (i32.const 65528) (i32.const 3) (i64.const 0)))
        (call $is (i64.const -14)
            (call $get_many (local.get $a) (i32.const 65500) (i32.const 80) (i32.const 0) (i32.const 3) (i64.const 0)))
        (call $is (i64.const 1) (call $qsize (local.get $a)))
        (call $is (i64.const 0) (i64.extend_i32_s
            (call $get (local.get $a) (i32.const 0) (i32.const 8) (i64.const 0) (i32.const 16))))
        (call $is (i64.const 8) (i64.load (i32.const 16)))"#,
    );
}

/// 22 is `INVAL`, and 2 `NOENT`. A part is an address and a length; a record has 24 bytes.
#[test]
fn an_item_that_is_held_is_taken_whole_or_stays() {
    holds(
        r#"(local.set $a (call $made (call $create (i64.const 0) (i32.const 0))))
        (local.set $b (call $made (call $lock (i32.const 0))))
        (i64.store (i32.const 100) (local.get $b))
        (call $is (i64.const 0) (i64.extend_i32_s
            (call $put (local.get $a) (i32.const 0) (i32.const 8) (i32.const 100) (i32.const 1) (i64.const 0))))
        (call $is (i64.const 0) (i64.extend_i32_s
            (call $get (local.get $a) (i32.const 200) (i32.const 8) (i64.const 0) (i32.const 16))))
        (call $is (i64.const 1) (i64.load32_u (i32.const 24)))
        (i32.store (i32.const 300) (i32.const 400))
        (i32.store (i32.const 304) (i32.const 8))
        (call $is (i64.const 22) (i64.extend_i32_s
            (call $take (i32.const 300) (i32.const 1) (i32.const 500) (i32.const 0))))
        (call $is (i64.const 22) (i64.extend_i32_s
            (call $take (i32.const 300) (i32.const 1) (i32.const 500) (i32.const 2))))
        (call $is (i64.const 22) (i64.extend_i32_s
            (call $take (i32.const 300) (i32.const 0) (i32.const 500) (i32.const 1))))
        (call $is (i64.const 0) (i64.extend_i32_s
            (call $take (i32.const 300) (i32.const 1) (i32.const 500) (i32.const 1))))
        (call $is (i64.const 2) (i64.extend_i32_s
            (call $take (i32.const 300) (i32.const 1) (i32.const 500) (i32.const 1))))"#,
    );
}

#[test]
fn flags_that_no_call_knows_are_refused() {
    holds(
        "(call $is (i64.const -22) (call $create (i64.const 0) (i32.const 8)))
        (call $is (i64.const -22) (call $lock (i32.const 2)))
        (call $is (i64.const -22) (call $semaphore (i64.const 1) (i32.const 4)))
        (call $is (i64.const -22) (call $share (i64.const 100) (i32.const 64) (i32.const 0) (i32.const 0)))
        (local.set $a (call $made (call $share (i64.const 100) (i32.const 0) (i32.const 0) (i32.const 0))))
        (call $is (i64.const -22) (call $map (local.get $a) (i32.const 2)))",
    );
}

#[test]
fn memory_is_mapped_no_longer_than_its_handle_is_held() {
    holds(
        "(local.set $a (call $made (call $share (i64.const 100) (i32.const 0) (i32.const 0) (i32.const 0))))
        (local.set $at (i32.wrap_i64 (call $made (call $map (local.get $a) (i32.const 0)))))
        (i64.store (local.get $at) (i64.const 7))
        (call $is (i64.const 7) (i64.load (local.get $at)))
        (call $is (i64.const 0) (i64.extend_i32_s (call $release (local.get $a))))
        (call $is (i64.const 0) (i64.load (local.get $at)))
        ;; The pages are another's now.
        (local.set $b (call $made (call $share (i64.const 100) (i32.const 0) (i32.const 0) (i32.const 0))))
        (call $is (i64.const 0) (i64.extend_i32_s
            (call $write (local.get $b) (i64.const 0) (i32.const 0) (i32.const 8))))
        (call $is (i64.const 0) (i64.load (local.get $at)))",
    );
}

/// 2 is `NOENT`. The child's text is "at first".
#[test]
fn a_child_is_not_mute_and_holds_no_item_because_its_parent_does() {
    let checks = r#"(local.set $a (call $made (call $create (i64.const 0) (i32.const 0))))
        (call $done (call $put (local.get $a) (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0) (i64.const 0)))
        (call $done (call $get (local.get $a) (i32.const 200) (i32.const 0) (i64.const 0) (i32.const 16)))
        (i32.store (i32.const 300) (i32.const 400))
        (i32.store (i32.const 304) (i32.const 8))
        (i32.store (i32.const 316) (i32.const 8))
        (call $done (call $mute (i32.const 1)))
        (local.set $b (call $fork (i32.const 0) (i32.const 0) (i32.const 2)))
        (if (i64.eqz (local.get $b)) (then
            (call $is (i64.const 2) (i64.extend_i32_s
                (call $take (i32.const 300) (i32.const 1) (i32.const 0) (i32.const 0))))
            (call $done (call $fd_write (i32.const 1) (i32.const 312) (i32.const 1) (i32.const 320)))
            (call $exit (i32.const 0))))
        (call $succeeds (call $made (local.get $b)))
        (call $done (call $fd_write (i32.const 1) (i32.const 312) (i32.const 1) (i32.const 320)))
        (call $done (call $take (i32.const 300) (i32.const 1) (i32.const 0) (i32.const 0)))
        (call $is (i64.load (i32.const 0)) (i64.load (i32.const 400)))"#;
    assert_eq!(holds(checks).stdout.bytes, b"at first");
}

/// Only the child's item has the end of the pipe at which something could be sent. 108 is `CLOSED`.
#[test]
fn the_end_of_a_process_is_told_when_all_that_it_held_is_given_back() {
    holds(
        "(local.set $a (call $made (call $create (i64.const 0) (i32.const 0))))
        (local.set $at (i32.const 100))
        (loop $again
            (call $done (call $pipe (i64.const 0) (i32.const 0) (i32.const 96)))
            (call $done
                (call $put (local.get $a) (i32.const 0) (i32.const 8) (i32.const 104) (i32.const 1) (i64.const 0)))
            (call $done (call $release (i64.load (i32.const 104))))
            (local.set $b (call $fork (i32.const 0) (i32.const 0) (i32.const 2)))
            (if (i64.eqz (local.get $b)) (then
                (call $done
                    (call $get (local.get $a) (i32.const 200) (i32.const 8) (i64.const 0) (i32.const 16)))
                (call $exit (i32.const 0))))
            (call $succeeds (call $made (local.get $b)))
            (call $is (i64.const 108) (i64.extend_i32_s (call $recv
                (i64.load (i32.const 96)) (i32.const 200) (i32.const 8) (i64.const 0) (i32.const 16))))
            (call $done (call $release (i64.load (i32.const 96))))
            (call $done (call $close (local.get $b)))
            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
            (br_if $again (local.get $at)))",
    );
}

#[test]
fn a_child_that_was_killed_has_the_pid_that_it_had() {
    holds(
        "(local.set $a (call $made (call $create (i64.const 0) (i32.const 0))))
        (local.set $b (call $fork (i32.const 0) (i32.const 0) (i32.const 2)))
        (if (i64.eqz (local.get $b)) (then
            (drop (call $get (local.get $a) (i32.const 200) (i32.const 8) (i64.const -1) (i32.const 16)))
            (call $exit (i32.const 0))))
        (call $done (call $info (call $made (local.get $b)) (i32.const 400)))
        (call $is (i64.const 1) (i64.load32_u (i32.const 420)))
        (call $is (i64.const 0) (i64.extend_i32_u (i32.eqz (i32.load (i32.const 408)))))
        (call $done (call $signal (local.get $b) (i32.const 9)))
        (call $done (call $join (local.get $b) (i64.const -1)))
        (call $done (call $info (local.get $b) (i32.const 500)))
        (call $is (i64.const 0) (i64.load32_u (i32.const 520)))
        (call $is (i64.load32_u (i32.const 408)) (i64.load32_u (i32.const 508)))",
    );
}

/// A child that is daemonic and tied (5) acquires the lock and waits for ever: as long as its parent lives. 130 is `OWNERDEAD`.
#[test]
fn a_tied_process_ends_with_its_parent() {
    holds(
        "(local.set $a (call $made (call $create (i64.const 0) (i32.const 0))))
        (local.set $b (call $made (call $lock (i32.const 0))))
        (i64.store (i32.const 100) (call $made (call $create (i64.const 0) (i32.const 0))))
        (i64.store (i32.const 108) (call $fork (i32.const 0) (i32.const 0) (i32.const 2)))
        (if (i64.eqz (i64.load (i32.const 108))) (then
            (if (i64.eqz (call $fork (i32.const 0) (i32.const 0) (i32.const 5))) (then
                (call $done (call $acquire (local.get $b) (i64.const -1)))
                (call $done (call $put
                    (local.get $a) (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0) (i64.const 0)))))
            (drop (call $get
                (i64.load (i32.const 100)) (i32.const 200) (i32.const 8) (i64.const -1) (i32.const 16)))
            (call $exit (i32.const 0))))
        (call $done (call $get (local.get $a) (i32.const 200) (i32.const 8) (i64.const -1) (i32.const 16)))
        (call $done (call $signal (i64.load (i32.const 108)) (i32.const 9)))
        (call $done (call $join (i64.load (i32.const 108)) (i64.const -1)))
        (call $is (i64.const 130) (i64.extend_i32_s (call $acquire (local.get $b) (i64.const 30000000000))))",
    );
}

/// Shared memory of which a fifth mapping doesn't fit into 4 GiB.
const FOUR_MAPPINGS: &str = "
    (local.set $a (call $made (call $share (i64.const 943718400) (i32.const 0) (i32.const 0) (i32.const 0))))
    (local.set $at (i32.const 4))
    (loop $again
        (drop (call $made (call $map (local.get $a) (i32.const 0))))
        (local.set $at (i32.sub (local.get $at) (i32.const 1)))
        (br_if $again (local.get $at)))";

/// 12 is `NOMEM`.
const MAPPING_FAILS: &str = "(call $is (i64.const -12) (call $map (local.get $a) (i32.const 0)))";

/// The guest has 64 MiB, and wants twice as much.
const GROWTH_FAILS: &str = "(call $is (i64.const -1) (i64.extend_i32_s (memory.grow (i32.const 2048))))";

/// Runs four mappings, and then these checks.
fn run_with_mappings(checks: &[&str]) -> ExitStatus {
    let limits = Limits::default().memory_max(64 << 20).arena_size(1 << 30);
    run(limits, &[&[FOUR_MAPPINGS], checks].concat().concat()).summary.status
}

/// The mapping that fails must not count as memory that isn't the guest's own.
#[test]
fn memory_is_limited_after_a_mapping_that_failed() {
    let grows =
        "(call $is (i64.const 0) (i64.extend_i32_u (i32.eq (i32.const -1) (memory.grow (i32.const 16)))))";
    assert_eq!(run_with_mappings(&[MAPPING_FAILS, GROWTH_FAILS, grows]), ExitStatus::Exited(0));
}

/// The limit has refused the guest something before, but not at last.
#[test]
fn a_trap_after_a_mapping_that_failed_is_not_put_down_to_a_limit() {
    let limited = ExitStatus::Limited(Limit::Memory(64 << 20));
    assert_eq!(run_with_mappings(&[MAPPING_FAILS, GROWTH_FAILS, "unreachable"]), limited);
    let trapped = ExitStatus::Trapped(Trap::Unreachable);
    assert_eq!(run_with_mappings(&[MAPPING_FAILS, GROWTH_FAILS, MAPPING_FAILS, "unreachable"]), trapped);
}
