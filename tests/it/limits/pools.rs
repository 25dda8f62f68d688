//! Limits of tasks, workers and pools.

use std::time::Duration;

use sandpool::limits::Limit;
use sandpool::pool::{Failure, Format, Isolation, PoolEnd};
use sandpool::{Error, ExitStatus, Limits, Pool, Sandbox};

use crate::support::{deadline, load_text};

use super::{TASKS, tasks};

#[test]
fn of_a_pool_exactly_the_task_that_exceeds_a_limit_fails() {
    let module = tasks();
    let time = Duration::from_secs(1);
    let base = Limits::default();
    for (task, limit, limits) in [
        ("spin", Limit::CpuTime(time), base.clone().cpu_time(time)),
        ("sleep", Limit::WallTime(time), base.clone().wall_time(time)),
        ("print", Limit::Stdio(10_000), base.stdio_max(10_000)),
    ] {
        let builder = Pool::builder(&module).processes(2).isolation(Isolation::Task);
        let pool = builder.sandbox(Sandbox::new().limits(limits)).build().unwrap();
        let submit = |task| pool.submit_record(task, Format::Bytes, b"").unwrap();
        for _ in 0..2 {
            let bad = submit(task);
            let good: Vec<_> = (0..20).map(|_| submit("nothing")).collect();
            let error = bad.result().unwrap_err();
            assert_eq!(error.cause, Failure::Ended(ExitStatus::Limited(limit)));
            assert_eq!(error.cause.kind(), "limit");
            for future in good {
                future.result().unwrap();
            }
        }
        // The workers have lived for longer than a process may: they are no task.
        assert_eq!(pool.stats().workers_lost, 0);
    }
}

#[test]
fn a_task_that_can_have_no_process_of_its_own_fails_alone() {
    // A worker has 8 MiB, and so has each process that is forked from it.
    let text = TASKS.replace("(memory (export \"memory\") 1)", "(memory (export \"memory\") 128)");
    let module = load_text("large", &text);
    let memory = |bytes| Limits::default().run_memory_max(bytes);
    let processes = |processes_max| Limits::default().processes_max(processes_max);
    for (too_few, enough, limit) in [
        (memory(12 << 20), memory(16 << 20), Limit::RunMemory(12 << 20)),
        (processes(2), processes(3), Limit::Processes(2)),
    ] {
        let pool = |limits| {
            let builder = Pool::builder(&module).processes(1).isolation(Isolation::Task);
            builder.sandbox(Sandbox::new().limits(limits)).build().unwrap()
        };
        let submit = |pool: &Pool| pool.submit_record("nothing", Format::Bytes, b"").unwrap().result();
        let pool_with_too_few = pool(too_few);
        for _ in 0..3 {
            let error = submit(&pool_with_too_few).unwrap_err();
            assert_eq!(error.cause, Failure::Ended(ExitStatus::Limited(limit)));
        }
        assert_eq!(pool_with_too_few.stats().workers_lost, 0);
        let pool_with_enough = pool(enough);
        for _ in 0..50 {
            submit(&pool_with_enough).unwrap();
        }
    }
    let sandbox = Sandbox::new().limits(memory(4 << 20));
    let error = Pool::builder(&module).processes(1).sandbox(sandbox).build().unwrap_err();
    assert!(
        matches!(&error, Error::Pool(PoolEnd::Worker(why)) if why.raw().starts_with("limited: memory of the run 4 MiB")),
        "{error:?}"
    );
}

#[test]
fn a_pool_ends_at_a_limit_of_the_run() {
    let module = tasks();
    let time = Duration::from_millis(300);
    let sandbox = Sandbox::new().limits(Limits::default().run_cpu_time(time));
    let pool = Pool::builder(&module).processes(2).sandbox(sandbox).build().unwrap();
    let error = pool.submit_record("spin", Format::Bytes, b"").unwrap().result().unwrap_err();
    let limit = Limit::RunCpuTime(time);
    assert!(
        [Failure::Ended(ExitStatus::Limited(limit)), Failure::PoolEnded(PoolEnd::Limited(limit))]
            .contains(&error.cause),
        "{error}"
    );
    pool.close();
    assert!(matches!(pool.join(), Err(Error::Pool(PoolEnd::Limited(found))) if found == limit));
}

#[test]
fn a_limit_that_would_hit_the_wrong_task_is_refused() {
    let module = tasks();
    let time = Some(Duration::from_secs(1));
    for limits in
        [Limits::default().cpu_time(time), Limits::default().wall_time(time), Limits::default().stdio_max(1)]
    {
        let error = Pool::builder(&module).sandbox(Sandbox::new().limits(limits)).build().unwrap_err();
        assert!(matches!(&error, Error::Invalid { .. }), "{error}");
        assert!(error.hint().unwrap().contains("isolation"), "{error}");
    }
}

/// The child isn't a worker, although the supervisor starts it in the same way.
#[test]
fn a_process_that_a_task_spawns_has_the_limits_of_a_process() {
    let text = r#"(module
        (import "sandpool_process" "spawn" (func $spawn (param i32 i32 i32 i32 i32 i32 i32) (result i64)))
        (import "sandpool_process" "join" (func $join (param i64 i64) (result i32)))
        (import "sandpool_process" "status" (func $status (param i64 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start") (loop $l (br $l)))
        ;; fails unless the child's status is that of a limit
        (func (export "sandpool_task_spawn") (param i32 i32) (result i32)
            (local $child i64)
            (local.set $child (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                (i32.const 0) (i32.const 0)))
            (drop (call $join (local.get $child) (i64.const -1)))
            (drop (call $status (local.get $child) (i32.const 1024)))
            (i32.ne (i32.load (i32.const 1024)) (i32.const 4))))"#;
    let module = load_text("spawns", text);
    let limits = Limits::default().cpu_time(Duration::from_millis(200));
    let builder = Pool::builder(&module).processes(1).isolation(Isolation::Task);
    let builder = builder.task_timeout(deadline()).sandbox(Sandbox::new().limits(limits));
    let pool = builder.build().unwrap();
    pool.submit_record("spawn", Format::Bytes, b"").unwrap().result().unwrap();
}
