//! Imports as WebAssembly calls them: with arguments that no SDK passes.

use sandpool::{ExitStatus, Run};

use crate::support::load_text;

/// Runs a program that ends with the number of the first check that doesn't hold, or with 0.
///
/// `$is` checks that two numbers are the same, and `$made` that a handle is one.
#[track_caller]
fn holds(checks: &str) {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "sandpool_queue" "create" (func $create (param i64 i32) (result i64)))
            (import "sandpool_queue" "put" (func $put (param i64 i32 i32 i32 i32 i64) (result i32)))
            (import "sandpool_queue" "get" (func $get (param i64 i32 i32 i64 i32) (result i32)))
            (import "sandpool_queue" "get_many" (func $get_many (param i64 i32 i32 i32 i32 i64) (result i64)))
            (import "sandpool_queue" "take" (func $take (param i32 i32 i32 i32) (result i32)))
            (import "sandpool_queue" "qsize" (func $qsize (param i64) (result i64)))
            (import "sandpool_sync" "lock_create" (func $lock (param i32) (result i64)))
            (import "sandpool_sync" "semaphore_create" (func $semaphore (param i64 i32) (result i64)))
            (import "sandpool_shared" "create" (func $share (param i64 i32 i32 i32) (result i64)))
            (import "sandpool_shared" "map" (func $map (param i64 i32) (result i64)))
            (import "sandpool_shared" "write" (func $write (param i64 i64 i32 i32) (result i32)))
            (import "sandpool_handle" "release" (func $release (param i64) (result i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "at first")
            (global $check (mut i32) (i32.const 0))
            (func $is (param i64 i64)
                (global.set $check (i32.add (global.get $check) (i32.const 1)))
                (if (i64.ne (local.get 0) (local.get 1)) (then (call $exit (global.get $check)))))
            (func $made (param i64) (result i64)
                (call $is (i64.extend_i32_u (i64.gt_s (local.get 0) (i64.const 0))) (i64.const 1))
                (local.get 0))
            (func (export "_start") (local $a i64) (local $b i64) (local $at i32)
                {checks}))"#
    );
    let summary = Run::builder(&load_text("imports", &text)).start().unwrap().wait().unwrap();
    assert_eq!(summary.status, ExitStatus::Exited(0), "the number of the check that doesn't hold");
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
