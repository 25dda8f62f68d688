//! Pools of the library: what an application makes.

mod failures;
mod futures;
mod lifetime;
mod streams;
mod values;
mod workers;

use nix::sys::signal::Signal;
use sandpool::pool::{Builder, Failure, Feed, Format, Isolation, Results};
use sandpool::{Limits, Module, Pool, Sandbox};

use crate::procfs;
use crate::support::{guest, load, load_text};

/// Tasks without an SDK: each takes bytes and gives bytes.
fn module() -> Module {
    let text = r#"(module
        (import "sandpool_task" "input" (func $input (param i32 i32) (result i64)))
        (import "sandpool_task" "output" (func $output (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 4)
        (global $count (mut i32) (i32.const 0))
        (data (i32.const 8) "no such luck")
        (func (export "_start"))
        (func $copy (param $len i32)
            (drop (call $input (i32.const 1024) (i32.const 260000)))
            (drop (call $output (i32.const 1024) (local.get $len))))
        (func (export "sandpool_task_echo") (param i32 i32) (result i32)
            (call $copy (local.get 1)) (i32.const 0))
        (func $long (drop (call $output (i32.const 1024) (i32.const 200000))))
        (func (export "sandpool_task_long") (param i32 i32) (result i32) (call $long) (i32.const 0))
        (func (export "sandpool_task_long_and_says_so") (param i32 i32) (result i32) (call $long)
            (drop (call $output (i32.const 8) (i32.const 12))) (i32.const 2))
        (func (export "sandpool_task_long_then_short") (param i32 i32) (result i32) (call $long)
            (drop (call $output (i32.const 8) (i32.const 12))) (i32.const 0))
        (func (export "sandpool_task_fail") (param i32 i32) (result i32)
            (drop (call $output (i32.const 8) (i32.const 12))) (i32.const 1))
        (func (export "sandpool_task_refuse") (param i32 i32) (result i32)
            (drop (call $output (i32.const 8) (i32.const 12))) (i32.const 2))
        (func (export "sandpool_task_trap") (param i32 i32) (result i32) unreachable)
        (func (export "sandpool_task_exit") (param i32 i32) (result i32) (call $exit (i32.const 3)) (i32.const 0))
        (func (export "sandpool_task_loop") (param i32 i32) (result i32) (loop $l (br $l)) (i32.const 0))
        (func (export "sandpool_task_busy") (param i32 i32) (result i32) (local $n i32)
            (loop $l (br_if $l (local.tee $n (i32.add (local.get $n) (i32.const 1))))) (i32.const 0))
        (func (export "sandpool_task_print") (param i32 i32) (result i32)
            (i32.store (i32.const 64) (i32.const 8)) (i32.store (i32.const 68) (i32.const 12))
            (drop (call $write (i32.const 2) (i32.const 64) (i32.const 1) (i32.const 80)))
            (drop (call $write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 80)))
            (call $copy (local.get 1)) (local.get 1))
        (func (export "sandpool_task_count") (param i32 i32) (result i32)
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (i32.store (i32.const 64) (global.get $count))
            (drop (call $output (i32.const 64) (i32.const 4))) (i32.const 0)))"#;
    load_text("tasks", text)
}

fn pool(module: &Module) -> Builder<'_> {
    Pool::builder(module).processes(2)
}

fn limits(limits: Limits) -> Sandbox {
    Sandbox::new().limits(limits)
}

fn bytes(pool: &Pool, task: &str, input: &[u8]) -> Result<Vec<u8>, Failure> {
    let future = pool.submit_record(task, Format::Bytes, input).map_err(|error| error.cause)?;
    future.result().map_err(|error| error.cause)
}

fn open(task: &str, pool: &Pool, ordered: bool) -> (Feed, Results) {
    let open = if ordered { Pool::stream } else { Pool::stream_unordered };
    open(pool, task, Format::Bytes)
}

/// The results of inputs that another thread feeds, with their numbers.
fn records<B: AsRef<[u8]>>(
    pool: &Pool,
    task: &str,
    inputs: impl Iterator<Item = B> + Send + 'static,
    ordered: bool,
) -> Results {
    let (mut feed, results) = open(task, pool, ordered);
    std::thread::spawn(move || {
        for input in inputs {
            feed.put(input.as_ref());
        }
    });
    results
}

const ISOLATIONS: [Isolation; 2] = [Isolation::Worker, Isolation::Task];

/// The tasks of a test guest.
fn tasks() -> Module {
    load(guest("tasks"))
}

fn grant(directory: &tempfile::TempDir) -> sandpool::DirGrant {
    format!("{}:/mark", directory.path().display()).parse().unwrap()
}

/// The workers that were granted this directory: the processes that have it open, but for supervisors, the children of
/// this process, which have for a moment.
fn has(directory: &tempfile::TempDir) -> Vec<procfs::Pid> {
    let opens = |pid: &procfs::Pid| {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.any(|fd| procfs::leads_to(*pid, fd, directory.path()))
    };
    let is_worker = |pid: &procfs::Pid| procfs::parent(*pid) != Some(std::process::id());
    procfs::all().into_iter().filter(opens).filter(is_worker).collect()
}

fn kill(pid: procfs::Pid) -> bool {
    procfs::kill(pid, Signal::SIGKILL, |_| true)
}
