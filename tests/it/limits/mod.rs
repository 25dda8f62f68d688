//! Limits: who exceeds one is refused or ended, with the cause and the figure, and nobody else is.

mod files;
mod fuel;
mod memory;
mod pools;
mod profile;
mod reports;
mod settings;
mod shell;
mod time;

use sandpool::Module;

use crate::support::{Ended, finish, guest, load_text, run};

/// `sandpool run` of the guest, with these limits.
fn limited(limits: &[&str], what: &[&str]) -> Ended {
    finish(run(guest("limits")).args(limits).arg("--").args(what))
}

/// The guest's report of a queue.
fn holds(items: usize) -> String {
    format!("holds {items}, one in place of another")
}

/// A child is ended and says so, and another goes on.
#[track_caller]
fn ends_the_offender(limits: &[&str], what: &str, how: &str) -> Ended {
    let ended = limited(limits, &[what]).expect_code(0);
    let lines: Vec<_> = ended.stderr.lines().rev().take(2).collect();
    assert_eq!(lines, ["honest exited: 7", &*format!("offender limited: {how}")], "{ended}");
    ended
}

/// All processes are ended, however many there were.
#[track_caller]
fn ends_the_run(limits: &[&str], what: &str, how: &str) -> Ended {
    let ended = limited(limits, &[what]).expect_code(134);
    let last = format!("error: the guest was limited: {how}");
    assert_eq!(ended.stderr.lines().last(), Some(&*last), "{ended}");
    ended
}

/// A directory for guests, as `/rw`.
fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let grant = format!("{}:/rw", folder.path().display());
    (folder, grant)
}

/// Bytes in all files of a folder.
fn bytes_in(folder: &tempfile::TempDir) -> u64 {
    std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

/// WASI's `EDQUOT`.
const QUOTA: &str = "19";

fn tasks() -> Module {
    load_text("tasks", TASKS)
}

/// Tasks without an SDK.
const TASKS: &str = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "sandpool_task_nothing") (param i32 i32) (result i32) (i32.const 0))
        (func (export "sandpool_task_spin") (param i32 i32) (result i32) (loop $l (br $l)) (i32.const 0))
        (func (export "sandpool_task_sleep") (param i32 i32) (result i32)
            (i64.store (i32.const 24) (i64.const 600000000000)) (i32.store (i32.const 16) (i32.const 1))
            (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200))) (i32.const 0))
        (func (export "sandpool_task_print") (param i32 i32) (result i32)
            (i32.store (i32.const 64) (i32.const 0)) (i32.store (i32.const 68) (i32.const 1000))
            (loop $l (drop (call $write (i32.const 2) (i32.const 64) (i32.const 1) (i32.const 80))) (br $l))
            (i32.const 0))
        (func (export "sandpool_task_thousand") (param i32 i32) (result i32)
            (local.set 0 (i32.const 1000))
            (loop $l (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
            (i32.const 0)))"#;
