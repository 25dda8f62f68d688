//! Pools of the library: what an application makes.

use std::collections::BTreeSet;
use std::time::Duration;

use sandpool::{
    Event, ExitStatus, Failure, Format, Isolation, Module, Output, Pool, PoolBuilder, PoolEnd, Trap,
};

use crate::procfs;
use crate::support::sandpool_bin;

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
        (func (export "sandpool_task_trap") (param i32 i32) (result i32) unreachable)
        (func (export "sandpool_task_exit") (param i32 i32) (result i32) (call $exit (i32.const 3)) (i32.const 0))
        (func (export "sandpool_task_loop") (param i32 i32) (result i32) (loop $l (br $l)) (i32.const 0))
        (func (export "sandpool_task_print") (param i32 i32) (result i32)
            (i32.store (i32.const 64) (i32.const 8)) (i32.store (i32.const 68) (i32.const 12))
            (drop (call $write (i32.const 2) (i32.const 64) (i32.const 1) (i32.const 80)))
            (drop (call $write (i32.const 1) (i32.const 64) (i32.const 1) (i32.const 80)))
            (call $copy (local.get 1)) (local.get 1))
        (func (export "sandpool_task_count") (param i32 i32) (result i32)
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (i32.store (i32.const 64) (global.get $count))
            (drop (call $output (i32.const 64) (i32.const 4))) (i32.const 0)))"#;
    Module::from_bytes("tasks", text.as_bytes()).unwrap()
}

/// This program doesn't call `init` first in `main`, which is the test harness's. The command does.
fn pool(module: &Module) -> PoolBuilder<'_> {
    let mut builder = Pool::builder(module);
    builder.supervisor(sandpool_bin()).workers(2);
    builder
}

fn bytes(pool: &Pool, task: &str, input: &[u8]) -> Result<Vec<u8>, Failure> {
    let future = pool.submit_record(task, Format::Bytes, input).map_err(|error| error.cause)?;
    future.result().map_err(|error| error.cause)
}

#[test]
fn tasks_give_what_they_are_asked_for_in_order() {
    let module = module();
    let pool = pool(&module).build().unwrap();
    assert_eq!(bytes(&pool, "echo", b"hello").unwrap(), b"hello");
    assert_eq!(bytes(&pool, "echo", b"").unwrap(), b"");
    let large = vec![7; 200_000];
    assert_eq!(bytes(&pool, "echo", &large).unwrap(), large);
    let inputs = (0..10_000_u32).map(u32::to_le_bytes);
    for ordered in [true, false] {
        let results: Vec<_> = pool
            .imap_records("echo", Format::Bytes, inputs.clone(), ordered)
            .map(|(number, result)| (number, result.unwrap().value))
            .collect();
        if ordered {
            assert!(results.iter().map(|(number, _)| *number).eq(0..10_000));
        }
        assert_eq!(results.iter().map(|(number, _)| *number).collect::<BTreeSet<_>>().len(), 10_000);
        assert!(results.iter().all(|(number, value)| *value == (*number as u32).to_le_bytes()));
    }
}

#[test]
fn exactly_the_task_fails_that_does() {
    let module = module();
    for isolation in [Isolation::Worker, Isolation::Task] {
        let pool = pool(&module).isolation(isolation).build().unwrap();
        for round in 0..10 {
            let good: Vec<_> =
                (0..20_u8).map(|n| pool.submit_record("echo", Format::Bytes, &[n, round]).unwrap()).collect();
            let cases = [
                ("fail", Failure::Failed("no such luck".to_owned())),
                ("trap", Failure::Ended(ExitStatus::Trapped(Trap::Unreachable))),
                ("exit", Failure::Ended(ExitStatus::Exited(3))),
                ("nothing", Failure::NoTask),
            ];
            let bad =
                cases.map(|(task, cause)| (pool.submit_record(task, Format::Bytes, b"").unwrap(), cause));
            for (n, future) in good.into_iter().enumerate() {
                assert_eq!(future.result().unwrap(), [n as u8, round]);
            }
            for (future, cause) in bad {
                assert_eq!(future.result().unwrap_err().cause, cause, "{isolation:?}");
            }
        }
        let stats = pool.stats();
        assert_eq!((stats.finished, stats.failed, stats.submitted), (200, 40, 240));
        pool.close();
        pool.join().unwrap();
    }
}

#[test]
fn a_task_that_takes_too_long_is_killed_and_no_other() {
    let module = module();
    for isolation in [Isolation::Worker, Isolation::Task] {
        let timeout = Duration::from_millis(50);
        let pool = pool(&module).isolation(isolation).task_timeout(timeout).build().unwrap();
        let slow: Vec<_> = (0..3).map(|_| pool.submit_record("loop", Format::Bytes, b"").unwrap()).collect();
        let quick: Vec<_> =
            (0..100_u8).map(|n| pool.submit_record("echo", Format::Bytes, &[n]).unwrap()).collect();
        for future in slow {
            assert_eq!(future.result().unwrap_err().cause, Failure::TimedOut(timeout));
        }
        for (n, future) in quick.into_iter().enumerate() {
            assert_eq!(future.result().unwrap(), [n as u8]);
        }
    }
}

#[test]
fn an_output_is_as_large_as_it_may_be() {
    let module = module();
    for isolation in [Isolation::Worker, Isolation::Task] {
        let pool = pool(&module).isolation(isolation).output_max(100_000).build().unwrap();
        for task in ["long", "long_and_says_so"] {
            assert_eq!(bytes(&pool, task, b"").unwrap_err(), Failure::OutputTooLarge, "{task}");
        }
        assert_eq!(bytes(&pool, "long_then_short", b"").unwrap(), b"no such luck");
        assert_eq!(bytes(&pool, "echo", b"").unwrap(), b"", "what one has tried is nothing to the next");
    }
}

#[test]
fn a_worker_that_is_not_ready_in_time_ends_the_pool() {
    let text = r#"(module (memory (export "memory") 1) (start $loop) (func $loop (loop $l (br $l)))
        (func (export "sandpool_task_any") (param i32 i32) (result i32) (i32.const 0)))"#;
    let module = Module::from_bytes("stuck", text.as_bytes()).unwrap();
    let error = pool(&module).start_timeout(Duration::from_millis(50)).build().unwrap_err();
    let sandpool::Error::Pool(PoolEnd::Initializer(why)) = error else { panic!("{error}") };
    assert_eq!(why, "it took longer than 50ms");
}

#[test]
fn a_pool_says_how_it_has_ended() {
    let module = module();
    let pool = pool(&module).build().unwrap();
    assert_eq!(pool.ended(), None);
    pool.close();
    pool.join().unwrap();
    assert_eq!(pool.ended(), Some(PoolEnd::Closed));
    let pool = self::pool(&module).build().unwrap();
    procfs::kill(pool.supervisor_pid(), nix::sys::signal::Signal::SIGKILL, |_| true);
    assert!(procfs::eventually(|| pool.ended() == Some(PoolEnd::SupervisorLost)));
}

#[test]
fn what_a_terminal_sends_to_all_is_nothing_to_workers() {
    use nix::sys::signal::Signal;
    let module = module();
    for isolation in [Isolation::Worker, Isolation::Task] {
        let pool = pool(&module).isolation(isolation).build().unwrap();
        for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
            for worker in procfs::children(pool.supervisor_pid()) {
                procfs::kill(worker, signal, |_| true);
            }
        }
        assert_eq!(bytes(&pool, "echo", b"hello").unwrap(), b"hello");
        pool.close();
        pool.join().unwrap();
        assert_eq!(pool.stats().workers_lost, 0, "{isolation:?}");
    }
}

#[test]
fn each_task_has_a_fresh_sandbox_if_it_is_to() {
    let module = module();
    let count = |isolation| {
        let pool = pool(&module).isolation(isolation).workers(1).build().unwrap();
        (0..3).map(|_| bytes(&pool, "count", b"").unwrap()[0]).collect::<Vec<_>>()
    };
    assert_eq!(count(Isolation::Worker), [1, 2, 3]);
    assert_eq!(count(Isolation::Task), [1, 1, 1]);
}

#[test]
fn what_a_task_prints_comes_with_its_result_if_it_is_to() {
    let module = module();
    for isolation in [Isolation::Worker, Isolation::Task] {
        let pool = pool(&module).isolation(isolation).output(Output::Capture).build().unwrap();
        let completed = pool.submit_record("print", Format::Bytes, b"").unwrap().completed().unwrap();
        assert_eq!((&*completed.stdout, &*completed.stderr), (&b"no such luck"[..], &b"no such luck"[..]));
        let discard = self::pool(&module).isolation(isolation).build().unwrap();
        let completed = discard.submit_record("print", Format::Bytes, b"").unwrap().completed().unwrap();
        assert_eq!((&*completed.stdout, &*completed.stderr), (&b""[..], &b""[..]));
        let error = discard.submit_record("print", Format::Bytes, b"x").unwrap().result().unwrap_err();
        assert_eq!(error.stderr, "no such luck", "of a failure, the end is kept");
    }
}

#[test]
fn workers_that_are_killed_are_replaced() {
    let module = module();
    let pool = pool(&module).retries(3).build().unwrap();
    let events = pool.events();
    for round in 0..20_u32 {
        let results = pool.imap_records("echo", Format::Bytes, (0..2000_u32).map(u32::to_le_bytes), true);
        for (number, result) in results {
            if number == 100 {
                for worker in procfs::children(pool.supervisor_pid()).into_iter().take(1) {
                    procfs::kill(worker, nix::sys::signal::Signal::SIGKILL, |_| true);
                }
            }
            assert_eq!(result.unwrap().value, (number as u32).to_le_bytes(), "round {round}");
        }
    }
    assert!(procfs::eventually(|| pool.stats().workers_lost == 20), "{pool:?}");
    drop(pool);
    let lost = events.iter().filter(|event| matches!(event, Event::WorkerEnded { is_lost: true, .. }));
    assert_eq!(lost.count(), 20);
}
