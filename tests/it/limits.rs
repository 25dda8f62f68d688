//! Limits: who exceeds one is refused or ended, with the cause and the figure, and nobody else is.

use std::time::Duration;

use sandpool::{Error, ExitStatus, Failure, Format, Isolation, Limit, Limits, Module, Pool, PoolEnd, Run};

use crate::support::{Ended, finish, guest, load, load_text, run, sandpool, sandpool_bin};

/// `sandpool run` of the guest, with these limits.
fn limited(limits: &[&str], what: &[&str]) -> Ended {
    finish(run(guest("limits")).args(limits).arg("--").args(what))
}

/// What the guest says of a queue.
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

#[test]
fn a_process_that_takes_a_processor_for_too_long_is_ended() {
    ends_the_offender(&["--cpu-time", "300ms"], "spin", "cpu time 300 ms");
    ends_the_offender(&["--cpu-time", "1s"], "spin", "cpu time 1 s");
}

#[test]
fn a_run_that_takes_processors_for_too_long_is_ended_whoever_does() {
    // Each process takes much less.
    ends_the_run(&["--run-cpu-time", "500ms", "--cpu-time", "5s"], "spin-on", "cpu time of the run 500 ms");
    ends_the_run(&["--run-cpu-time", "300ms"], "spin", "cpu time of the run 300 ms");
}

#[test]
fn a_process_that_takes_too_long_is_ended() {
    ends_the_run(&["--wall-time", "200ms"], "sleep", "wall time 200 ms");
}

#[test]
fn a_run_that_takes_too_long_is_ended_whoever_is_left_of_it() {
    ends_the_run(&["--run-wall-time", "300ms"], "sleep-on", "wall time of the run 300 ms");
    ends_the_run(&["--run-wall-time", "200ms"], "sleep", "wall time of the run 200 ms");
}

#[test]
fn a_process_that_prints_too_much_is_ended() {
    let ended = ends_the_offender(&["--stdio-max", "20000"], "print", "stdout and stderr 20000 B");
    assert_eq!(ended.stdout.len(), 20_000, "what it may print is there");
    assert!(
        ended.stderr.contains("error: process 'Process-2' was limited: stdout and stderr 20000 B; "),
        "{ended}"
    );
}

#[test]
fn a_run_that_prints_too_much_is_ended_whoever_does() {
    let limits = ["--run-stdio-max", "20000", "--stdio-max", "1000"];
    let ended = ends_the_run(&limits, "print-on", "stdout and stderr of the run 20000 B");
    assert_eq!(ended.stdout.len(), 20_000);
}

#[test]
fn a_process_that_takes_too_much_memory_is_ended() {
    ends_the_offender(&["--memory-max", "32MiB"], "hoard", "memory 32 MiB");
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
fn too_many_open_files_are_refused() {
    for n in [3, 40] {
        let folder = tempfile::tempdir().unwrap();
        let dir = format!("{}:/rw", folder.path().display());
        let ended = limited(&["--dir", &dir, "--open-files-max", &n.to_string()], &["open"]).expect_code(0);
        let mut lines = ended.stdout.lines();
        // One more is for listing directories.
        assert!(lines.next().unwrap().starts_with(&format!("refused after {}: ", n + 1)), "{ended}");
        assert_eq!(lines.next(), Some("and one in place of another"));
    }
}

#[test]
fn what_would_make_a_file_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = format!("{}:/rw", folder.path().display());
    let ended = limited(&["--dir", &dir, "--file-size-max", "64KiB"], &["write"]).expect_code(0);
    ended.expect_stdout(&["refused after 65536: FileTooLarge", "and another file"]);
    assert_eq!(folder.path().join("large").metadata().unwrap().len(), 65_536);
}

#[test]
fn fuel_ends_a_process_at_the_same_place_wherever_it_runs() {
    let of = |fuel| {
        let ended = limited(&["--fuel", fuel], &["count"]).expect_code(134);
        assert!(ended.stderr.ends_with(&format!("error: the guest was limited: fuel {fuel}\n")), "{ended}");
        ended.stdout
    };
    let (first, second, more) = (of("3000000"), of("3000000"), of("6000000"));
    assert!(!first.is_empty());
    assert_eq!(first, second);
    assert!(more.len() > first.len() && more.starts_with(&first));
    ends_the_offender(&["--fuel", "100000000"], "spin", "fuel 100000000");
    // Who counts without a limit goes on.
    let mut builder = Module::builder();
    sandpool::set_executable(sandpool_bin());
    let module = builder.count_fuel(true).load_file(guest("hello")).unwrap();
    assert!(Run::builder(&module).start().unwrap().wait().unwrap().status.success());
}

#[test]
fn each_task_has_fuel_of_its_own() {
    sandpool::set_executable(sandpool_bin());
    let module = Module::builder().count_fuel(true).load("tasks", TASKS.as_bytes()).unwrap();
    let limits = Limits { fuel: Some(10_000), ..Limits::default() };
    for isolation in [Isolation::Worker, Isolation::Task] {
        let mut builder = Pool::builder(&module);
        let pool = builder.workers(1).isolation(isolation).limits(limits.clone()).build().unwrap();
        let submit = |task| pool.submit_record(task, Format::Bytes, b"").unwrap().result();
        for _ in 0..20 {
            submit("thousand").unwrap();
        }
        let error = submit("spin").unwrap_err();
        assert_eq!(error.cause, Failure::Ended(ExitStatus::Limited(Limit::Fuel(10_000))));
        submit("thousand").unwrap();
    }
    let error = Pool::builder(&tasks()).limits(limits).build().unwrap_err();
    assert!(error.hint().unwrap().contains("count_fuel"), "{error}");
}

#[test]
fn the_summary_says_at_which_limit_a_process_was() {
    let ended = limited(&["--summary", "--cpu-time", "200ms"], &["spin"]).expect_code(0);
    assert!(ended.stderr.contains("Process-2    limited: cpu time 200 ms"), "{ended}");
}

#[test]
fn the_library_gives_the_limit_as_a_type() {
    let module = load(guest("limits"));
    let time = Duration::from_millis(150);
    let limits = Limits { run_wall_time: Some(time), ..Limits::default() };
    let mut builder = Run::builder(&module);
    let summary = builder.arg("limits").arg("sleep").limits(limits).start();
    // The command is the supervisor: this is no program that calls `init`.
    let summary = summary.unwrap().wait().unwrap();
    assert_eq!(summary.status, ExitStatus::Limited(Limit::RunWallTime(time)));
    assert_eq!(summary.status.to_string(), "limited: wall time of the run 150 ms");
    let limits = Limits { stack_max: 1, ..Limits::default() };
    let error = Run::builder(&module).limits(limits).start().unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("between 64KiB and 64MiB"));
}

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

#[test]
fn of_a_pool_exactly_the_task_that_exceeds_a_limit_fails() {
    let module = tasks();
    let time = Duration::from_secs(1);
    let base = Limits::default();
    for (task, limit, limits) in [
        ("spin", Limit::CpuTime(time), Limits { cpu_time: Some(time), ..base.clone() }),
        ("sleep", Limit::WallTime(time), Limits { wall_time: Some(time), ..base.clone() }),
        ("print", Limit::Stdio(10_000), Limits { stdio_max: Some(10_000), ..base }),
    ] {
        let mut builder = Pool::builder(&module);
        let pool = builder.workers(2).isolation(Isolation::Task).limits(limits).build().unwrap();
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
fn a_pool_ends_at_a_limit_of_the_run() {
    let module = tasks();
    let time = Duration::from_millis(300);
    let limits = Limits { run_cpu_time: Some(time), ..Limits::default() };
    let pool = Pool::builder(&module).workers(2).limits(limits).build().unwrap();
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
    for limits in [
        Limits { cpu_time: time, ..Limits::default() },
        Limits { wall_time: time, ..Limits::default() },
        Limits { stdio_max: Some(1), ..Limits::default() },
    ] {
        let error = Pool::builder(&module).limits(limits).build().unwrap_err();
        assert!(matches!(&error, Error::Invalid { .. }), "{error}");
        assert!(error.hint().unwrap().contains("isolation"), "{error}");
    }
}

#[test]
fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[limits]\nstdio-max = 5000\nqueue-items-max = 3\n").unwrap();
    let config = ["--config", file.path().to_str().unwrap()];
    let of = |limits: &[&str]| limited(&[&config, limits].concat(), &["items"]).expect_code(0);
    of(&[]).expect_stdout(&[&holds(3), &holds(3), &holds(2)]);
    of(&["--queue-items-max", "4"]).expect_stdout(&[&holds(4), &holds(4), &holds(2)]);
    of(&["--queue-items-max", "none"]).expect_stdout(&[&holds(2000), &holds(1000), &holds(2)]);
}

#[test]
fn what_is_wrong_with_a_configuration_is_said() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    for (text, message, hint) in [
        (
            "[limits]\nmemroy-max = 1\n",
            "line 2: there is no key limits.memroy-max",
            "the nearest that there is: limits.memory-max",
        ),
        (
            "[limits]\ncpu-time = 5\n",
            "line 2: `5` is no value for limits.cpu-time",
            "give a number with ms, s, min or h; or none",
        ),
    ] {
        std::fs::write(file.path(), text).unwrap();
        let ended = limited(&["--config", path], &[]).expect_code(2);
        let expected = format!("error: cannot use the configuration file {path}: {message}\nhint: {hint}\n");
        assert_eq!(ended.stderr, expected);
    }
    let ended = limited(&["--config", "/no/such.toml"], &[]).expect_code(2);
    assert!(
        ended.stderr.starts_with("error: cannot use the configuration file /no/such.toml: cannot read it: "),
        "{ended}"
    );
    let ended = limited(&["--cpu-time", "5"], &[]).expect_code(2);
    assert!(ended.stderr.contains("give a number with ms, s, min or h; or none"), "{ended}");
    let ended = limited(&["--stack-max", "1"], &[]).expect_code(2);
    assert_eq!(ended.stderr, "error: `1` is no value for stack-max\nhint: between 64KiB and 64MiB\n");
}

#[test]
fn the_command_prints_a_file_with_what_holds_without_one() {
    let ended = finish(sandpool().arg("config")).expect_code(0);
    assert_eq!(ended.stdout, sandpool::DEFAULT_CONFIG);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &ended.stdout).unwrap();
    let ended = limited(&["--config", file.path().to_str().unwrap()], &["items"]).expect_code(0);
    ended.expect_stdout(&[2000, 1000, 2].map(holds).each_ref().map(String::as_str));
}
