//! Limits: who exceeds one is refused or ended, with the cause and the figure, and nobody else is.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use sandpool::{
    Error, ExitStatus, Failure, Format, Isolation, Limit, Limits, Module, Pool, PoolEnd, Run, Sandbox, Trap,
};

use crate::procfs;
use crate::support::{Ended, Run as Watched, finish, guest, load, load_text, run, sandpool, sandpool_bin};

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
fn too_many_open_files_are_refused() {
    for n in [3, 40] {
        let folder = tempfile::tempdir().unwrap();
        let dir = format!("{}:/rw", folder.path().display());
        let ended = limited(&["--dir", &dir, "--open-files-max", &n.to_string()], &["open"]).expect_code(0);
        let mut lines = ended.stdout.lines();
        // One more is for listing directories. The number is WASI's `EMFILE`.
        assert_eq!(lines.next(), Some(&*format!("refused after {}: 33", n + 1)), "{ended}");
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

#[test]
fn what_a_process_writes_to_too_many_files_is_refused() {
    let (folder, grant) = folder();
    let limits = ["--dir", &grant, "--file-bytes-max", "10500", "--run-file-bytes-max", "1MiB"];
    let ended = limited(&limits, &["write-many"]).expect_code(1).expect_stdout(&[
        &format!("refused after 10: {QUOTA}"),
        "no more: true",
        "less: true",
        "another process: exited: 0",
    ]);
    assert!(
        ended.stderr.ends_with(
            "note: 'MainProcess' was refused more than its limits: bytes of files 10500 B (`file-bytes-max`, 2 times)\n"
        ),
        "{ended}"
    );
    assert_eq!(bytes_in(&folder), 10_000);
}

#[test]
fn what_a_run_writes_to_files_is_refused_whoever_does() {
    let (folder, grant) = folder();
    // Each process writes much less.
    let limits = ["--dir", &grant, "--run-file-bytes-max", "20500", "--file-bytes-max", "5000"];
    let ended =
        limited(&limits, &["write-on"]).expect_stdout(&[&format!("refused after it goes on: {QUOTA}")]);
    assert_eq!(bytes_in(&folder), 20_000, "{ended}");
}

#[test]
fn what_a_file_grows_by_counts_as_written() {
    let (folder, grant) = folder();
    limited(&["--dir", &grant, "--file-bytes-max", "10KiB"], &["grow"])
        .expect_code(0)
        .expect_stdout(&[&format!("refused after 10000: {QUOTA}"), "no more: true"]);
    assert_eq!(bytes_in(&folder), 0);
}

/// The use of a process that has ended counts.
#[test]
fn no_limit_of_a_run_is_dodged_by_processes_one_after_another() {
    for how in ["fork", "spawn"] {
        for (limit, figure, what, said) in [
            ("--run-cpu-time", "400ms", "spin", "cpu time of the run 400 ms"),
            ("--run-wall-time", "300ms", "sleep", "wall time of the run 300 ms"),
            ("--run-stdio-max", "1500", "print", "stdout and stderr of the run 1500 B"),
        ] {
            let ended = limited(&[limit, figure], &["after", how, what]).expect_code(134);
            let last = format!("error: the guest was limited: {said}");
            assert_eq!(ended.stderr.lines().last(), Some(&*last), "{how}: {ended}");
            assert_eq!(ended.stdout.len(), if what == "print" { 1500 } else { 0 }, "{how}: {ended}");
        }
        let (folder, grant) = folder();
        let limits = ["--dir", &grant, "--run-file-bytes-max", "10500"];
        limited(&limits, &["after", how, "write"])
            .expect_code(0)
            .expect_stdout(&[&format!("refused after it goes on: {QUOTA}")]);
        assert_eq!(bytes_in(&folder), 10_000, "{how}");
    }
}

/// A limit of the kernel's, which holds when the supervisor doesn't come to see to its own.
#[test]
fn the_kernel_ends_what_takes_a_processor_for_too_long() {
    let mut command = run(guest("limits"));
    let run = Watched::start(command.args(["--cpu-time", "1s", "--", "spin"]));
    let guests = || {
        let inside = procfs::children(run.embedder()).into_iter().flat_map(procfs::children);
        inside.filter(|pid| procfs::name(*pid) == "sandpool-guest").count()
    };
    assert!(procfs::eventually(|| guests() == 3), "{}", run.printed());
    let supervisor = run.supervisor();
    let guests = run.guests();
    assert!(procfs::kill(supervisor, Signal::SIGSTOP, |_| true));
    // The one that is ended isn't reaped meanwhile.
    let is_dead = |pid: &procfs::Pid| procfs::parent(*pid).is_none();
    let ended_in_time = procfs::eventually(|| guests.iter().any(is_dead));
    assert!(procfs::kill(supervisor, Signal::SIGCONT, |_| true));
    assert!(ended_in_time, "nobody has ended it\n{}", run.printed());
    let ended = run.finish().expect_code(0);
    assert_eq!(ended.stderr, "offender limited: cpu time 1 s\nhonest exited: 7\n");
}

#[test]
fn a_limit_of_nothing_is_refused_wherever_it_is_set() {
    for key in sandpool::LimitKey::ALL {
        let zero = match key.value {
            "TIME" => "0s",
            _ => "0",
        };
        let ended = finish(run(guest("hello")).args([&*format!("--{}", key.name), zero])).expect_code(2);
        let said = format!("invalid value '{zero}' for '--{} <{}>'", key.name, key.value);
        assert!(ended.stderr.contains(&said), "{ended}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("[limits]\n{} = '{zero}'\n", key.name)).unwrap();
        let ended = finish(run(guest("hello")).arg("--config").arg(file.path())).expect_code(2);
        assert!(ended.stderr.contains(&format!("is no value for limits.{}", key.name)), "{ended}");
    }
    // Nor is it one by the library, where nothing was parsed.
    let module = tasks();
    let program = load_text("program", r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    let (time, base) = (Some(Duration::ZERO), Limits::default());
    for limits in [
        base.clone().processes_max(0),
        base.clone().objects_max(0),
        base.clone().arena_size(0),
        base.clone().queue_items_max(0),
        base.clone().memory_max(0),
        base.clone().run_memory_max(0),
        base.clone().stack_max(0),
        base.clone().cpu_time(time),
        base.clone().wall_time(time),
        base.clone().run_cpu_time(time),
        base.clone().run_wall_time(time),
        base.clone().fuel(0),
        base.clone().stdio_max(0),
        base.clone().run_stdio_max(0),
        base.clone().file_size_max(0),
        base.clone().file_bytes_max(0),
        base.clone().run_file_bytes_max(0),
        base.open_files_max(0),
    ] {
        let sandbox = Sandbox::new().limits(limits);
        let pool = Pool::builder(&module).isolation(Isolation::Task).sandbox(sandbox.clone()).build();
        assert!(matches!(pool, Err(Error::Invalid { .. })), "{sandbox:?}");
        let run = Run::builder(&program).sandbox(sandbox.clone()).start();
        assert!(matches!(run, Err(Error::Invalid { .. })), "{sandbox:?}");
    }
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

#[test]
fn a_refusal_says_which_limit_it_was_and_where_it_lies() {
    let ended = limited(&["--processes-max", "5"], &["processes"]).expect_code(1);
    let ended =
        ended.expect_stdout(&["refused after 5: too many processes: the run's limit is 5 (`processes-max`)"]);
    let note =
        "note: 'MainProcess' was refused more than its limits: processes of the run 5 (`processes-max`)\n";
    assert!(ended.stderr.ends_with(note), "{ended}");
    let ended = limited(&["--objects-max", "40"], &["queues"]).expect_code(0);
    assert!(
        ended
            .stdout
            .starts_with("refused after 40: too many objects: the run's limit is 40 (`objects-max`)\n"),
        "{ended}"
    );
    assert_eq!(ended.stderr, "", "who has not failed has known what to do");
    let names = ["memory-max", "run-memory-max", "queue-items-max", "cpu-time", "open-files-max", "nonsense"];
    let limits = ["--queue-items-max", "7", "--cpu-time", "5s"];
    limited(&limits, &[&["say"], &names[..]].concat()).expect_code(0).expect_stdout(&[
        "memory 4 GiB",
        "no run-memory-max",
        "items of a queue 7",
        "cpu time 5 s",
        "open files 256",
        "no nonsense",
    ]);
}

#[test]
fn the_summary_of_the_library_says_what_was_refused() {
    let module = load(guest("limits"));
    let refused = |what: &str, limits: Limits| {
        let sandbox = Sandbox::new().limits(limits);
        let run = Run::builder(&module).arg("limits").arg(what).sandbox(sandbox).start().unwrap();
        let summary = run.wait().unwrap();
        let main = summary.reports.into_iter().find(|report| report.name == "MainProcess").unwrap();
        main.refused.into_iter().map(|refusal| (refusal.limit, refusal.times)).collect::<Vec<_>>()
    };
    let limits = Limits::default().objects_max(40);
    assert_eq!(refused("queues", limits), [(Limit::Objects(40), 1)]);
    let limits = Limits::default().queue_items_max(5);
    assert_eq!(refused("items", limits), [(Limit::QueueItems(5), 2)]);
    assert_eq!(refused("items", Limits::default()), []);
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
    sandpool::set_executable(sandpool_bin());
    let counting = Sandbox::new().limits(Limits::default().fuel(1));
    let module = Module::builder().sandbox(counting).load_file(guest("hello")).unwrap();
    assert!(Run::builder(&module).start().unwrap().wait().unwrap().status.success());
}

#[test]
fn each_task_has_fuel_of_its_own() {
    sandpool::set_executable(sandpool_bin());
    let sandbox = Sandbox::new().limits(Limits::default().fuel(10_000));
    let module = Module::builder().sandbox(sandbox.clone()).load("tasks", TASKS.as_bytes()).unwrap();
    for isolation in [Isolation::Worker, Isolation::Task] {
        let builder = Pool::builder(&module).processes(1).isolation(isolation);
        let pool = builder.sandbox(sandbox.clone()).build().unwrap();
        let submit = |task| pool.submit_record(task, Format::Bytes, b"").unwrap().result();
        for _ in 0..20 {
            submit("thousand").unwrap();
        }
        let error = submit("spin").unwrap_err();
        assert_eq!(error.cause, Failure::Ended(ExitStatus::Limited(Limit::Fuel(10_000))));
        submit("thousand").unwrap();
    }
    let error = Pool::builder(&tasks()).sandbox(sandbox).build().unwrap_err();
    assert!(error.hint().unwrap().contains("limits fuel"), "{error}");
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
    let sandbox = Sandbox::new().limits(Limits::default().run_wall_time(time));
    let summary = Run::builder(&module).arg("limits").arg("sleep").sandbox(sandbox).start();
    // The command is the supervisor: this is no program that calls `init`.
    let summary = summary.unwrap().wait().unwrap();
    assert_eq!(summary.status, ExitStatus::Limited(Limit::RunWallTime(time)));
    assert_eq!(summary.status.to_string(), "limited: wall time of the run 150 ms");
    let sandbox = Sandbox::new().limits(Limits::default().stack_max(1));
    let error = Run::builder(&module).sandbox(sandbox).start().unwrap_err();
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
            "the nearest name is limits.memory-max",
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
    assert_eq!(ended.stderr, "error: `1` is no value for stack-max\nhint: at least 64KiB\n");
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

/// Without the jail, which not every machine has whole.
fn untrusted(more: &[&str], what: &[&str]) -> Ended {
    limited(&[&["--profile", "untrusted", "--require-jail", "none"], more].concat(), what)
}

#[test]
fn a_profile_bounds_what_has_no_limit_by_default() {
    let ended = finish(sandpool().args(["config", "--profile", "untrusted"])).expect_code(0);
    assert_eq!(ended.stdout, sandpool::Profile::Untrusted.config());
    for line in [
        "profile = \"untrusted\"",
        "memory-max = \"256MiB\"",
        "run-wall-time = \"600s\"",
        "objects-max = 4096",
    ] {
        assert!(ended.stdout.lines().any(|there| there == line), "{line}: {ended}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let hoards = |limits: &[&str], figure: &str| {
        let ended = limited(limits, &["hoard"]).expect_code(0);
        assert!(ended.stderr.contains(&format!("offender limited: memory {figure}")), "{ended}");
    };
    std::fs::write(path, &ended.stdout).unwrap();
    hoards(&["--profile", "untrusted", "--require-jail", "none"], "256 MiB");
    hoards(&["--config", path, "--require-jail", "none"], "256 MiB");
    // A flag goes before both.
    hoards(
        &["--config", path, "--profile", "untrusted", "--require-jail", "none", "--memory-max", "300MiB"],
        "300 MiB",
    );
    // Of the profile and the file, the lower one; but a file with a profile of its own says what it is to be.
    for (text, flag, figure) in [
        ("[limits]\nmemory-max = '64MiB'", &["--profile", "untrusted"][..], "64 MiB"),
        ("[limits]\nmemory-max = '300MiB'", &["--profile", "untrusted"], "256 MiB"),
        ("profile = 'untrusted'\n[limits]\nmemory-max = '300MiB'", &[], "300 MiB"),
    ] {
        std::fs::write(path, text).unwrap();
        hoards(&[flag, &["--config", path, "--require-jail", "none"]].concat(), figure);
    }
    let ended = untrusted(&["--run-cpu-time", "300ms"], &["spin"]).expect_code(134);
    assert!(ended.stderr.ends_with("error: the guest was limited: cpu time of the run 300 ms\n"), "{ended}");
    let ended = untrusted(&[], &["queues"]).expect_code(0);
    assert!(ended.stdout.starts_with("refused after 409"), "{ended}");
    let ended = finish(sandpool().args(["run", "--profile", "trusted", "x"])).expect_code(2);
    assert!(ended.stderr.contains("there is no profile trusted"), "{ended}");
}

#[test]
fn a_profile_requires_the_whole_jail() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "profile = 'untrusted'").unwrap();
    for profile in [["--profile", "untrusted"], ["--config", file.path().to_str().unwrap()]] {
        let full = finish(run(guest("hello")).args(["--require-jail", "full"]));
        let ended = finish(run(guest("hello")).args(profile));
        assert_eq!((ended.status, &ended.stderr), (full.status, &full.stderr));
        let ended =
            finish(run(guest("hello")).args(profile).args(["--without-layer", "seccomp"])).expect_code(2);
        assert!(
            ended.stderr.contains("the layer seccomp of the jail is required, and switched off"),
            "{ended}"
        );
        finish(run(guest("hello")).args(profile).args([
            "--require-jail",
            "rlimits",
            "--without-layer",
            "seccomp",
        ]))
        .expect_code(0);
        finish(run(guest("hello")).args(profile).args([
            "--require-jail",
            "none",
            "--without-layer",
            "seccomp",
        ]))
        .expect_code(0);
    }
}

#[test]
fn a_profile_bounds_each_task_of_a_map() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in"), "a\nloop\nb\n").unwrap();
    let map = |arguments: &[&str]| {
        let mut command = sandpool();
        command.current_dir(&folder).args([
            "map",
            "--task",
            "behave",
            "--input",
            "in",
            "--on-error",
            "record",
        ]);
        command
            .args(["--profile", "untrusted", "--require-jail", "none"])
            .args(arguments)
            .arg(guest("tasks"));
        finish(&mut command).expect_code(118).expect_stdout(&["a", "b"])
    };
    for (arguments, detail) in [
        (&[][..], "it took longer than 10s"),
        (&["--task-timeout", "300ms", "--isolation", "task"], "it took longer than 300ms"),
    ] {
        let ended = map(arguments);
        assert!(ended.stderr.contains(&format!(r#""cause":"timeout","detail":"{detail}""#)), "{ended}");
    }
    // No more workers than there may be processes.
    let ended = map(&["--processes-max", "2", "--task-timeout", "300ms"]);
    assert!(ended.stderr.contains("timeout"), "{ended}");
}

/// Its build scripts are native code.
#[test]
fn a_crate_is_not_built_where_a_jail_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("src")).unwrap();
    std::fs::write(path("Cargo.toml"), "[package]\nname = 'evil'\nversion = '0.0.0'\nedition = '2024'\n")
        .unwrap();
    std::fs::write(path("src/main.rs"), "fn main() {}").unwrap();
    let touch = format!("fn main() {{ std::fs::write({:?}, \"\").unwrap(); }}", path("owned"));
    std::fs::write(path("build.rs"), touch).unwrap();
    std::fs::write(path("limits.toml"), "profile = 'untrusted'").unwrap();
    let config = path("limits.toml");
    for command in [&["run"][..], &["map", "--task", "t"]] {
        for required in [
            ["--profile", "untrusted"],
            ["--config", config.to_str().unwrap()],
            ["--require-jail", "full"],
            ["--require-jail", "seccomp"],
        ] {
            let ended = finish(sandpool().args(command).args(required).arg(folder.path())).expect_code(2);
            assert!(ended.stderr.contains("would run outside of the jail that is required"), "{ended}");
            assert!(
                ended.stderr.contains("hint: if you trust the crate, build it with `sandpool build`"),
                "{ended}"
            );
            assert!(!path("owned").exists());
        }
        let help = finish(sandpool().args([command[0], "--help"])).expect_code(0).stdout;
        assert!(
            help.split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .contains("the build scripts and macros of the crate run"),
            "{help}"
        );
    }
}

/// In a shell that allows less than a run takes by default.
fn in_shell(limit: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limit} && exec \"$@\""), "sh"]).arg(sandpool_bin()).args(arguments);
    finish(&mut command)
}

#[test]
fn a_run_does_with_the_addresses_that_the_shell_allows_if_it_may() {
    let path = |name: &str| guest(name).to_str().unwrap().to_owned();
    let (hello, limits, tasks) = (path("hello"), path("limits"), path("tasks"));
    let little = "ulimit -v 4000000";
    let small = ["--memory-max", "128MiB", "--arena-size", "256MiB"];
    let ended = in_shell(little, &["run", &hello]).expect_code(125);
    assert!(ended.stderr.contains("error: there is no room for the memory of a process, "), "{ended}");
    assert!(ended.stderr.contains("hint: that is the shell's limit: `ulimit -v unlimited`"), "{ended}");
    assert!(ended.stderr.contains("--memory-max"), "{ended}");
    assert_eq!(ended.stdout, "");
    // Memory that grows, is shared, is copied by a fork, and is no larger than it may be.
    for name in ["hello", "shared_memory", "process_basics", "process_spawn"] {
        let module = path(name);
        let arguments = [&["run"][..], &small, &[module.as_str()]].concat();
        in_shell(little, &arguments).expect_code(0);
    }
    // What is beyond is refused, as elsewhere.
    let arguments = ["run", "--memory-max", "16MiB", &limits, "--", "hoard"];
    let [here, there] = ["true", little].map(|limit| in_shell(limit, &arguments));
    assert_eq!(here.status, there.status, "{here}\n{there}");
    assert_eq!(here.stderr.lines().last(), there.stderr.lines().last(), "{here}\n{there}");
    // A pool's owner has it as well.
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    std::fs::write(&input, "[1,2]\n").unwrap();
    let map = ["map", "--task", "forked_sum", "--input", input.to_str().unwrap()];
    let arguments = [&map[..], &small, &[tasks.as_str()]].concat();
    in_shell(little, &arguments).expect_code(0).expect_stdout(&["3"]);
}

/// Where memory is no larger than it may be, what lies behind it isn't reached either.
#[test]
fn an_access_outside_of_memory_traps_there_as_well() {
    let folder = tempfile::tempdir().unwrap();
    for (at, code) in [(0_u32, 0), (65_532, 0), (65_533, 134), (65_536, 134), (1 << 30, 134), (u32::MAX, 134)]
    {
        let path = folder.path().join(format!("{at}.wat"));
        let text = format!(
            r#"(module (memory (export "memory") 1) (func (export "_start") (i32.store (i32.const {}) (i32.const 7))))"#,
            at.cast_signed()
        );
        std::fs::write(&path, text).unwrap();
        let arguments = ["run", "--memory-max", "1MiB", path.to_str().unwrap()];
        for limit in ["true", "ulimit -v 4000000"] {
            let ended = in_shell(limit, &arguments).expect_code(code);
            assert!(
                code == 0 || ended.stderr.contains("out of bounds memory access"),
                "{at}, {limit}: {ended}"
            );
        }
    }
}

#[test]
fn an_arena_is_no_larger_than_the_shell_allows_files_to_be() {
    let path = guest("hello");
    let path = path.to_str().unwrap();
    let blocks = "ulimit -f 1000000";
    let ended = in_shell(blocks, &["run", path]).expect_code(125);
    let message = "there is no room for an arena of 1073741824 bytes and its tables: a file may have 512000000 bytes here";
    assert!(ended.stderr.contains(message), "{ended}");
    assert!(ended.stderr.contains("`ulimit -f unlimited`, or a smaller --arena-size"), "{ended}");
    in_shell(blocks, &["run", "--arena-size", "128MiB", path]).expect_code(0);
    // Compiled anew there, too.
    let folder = tempfile::tempdir().unwrap();
    let cache = format!("{blocks} && export SANDPOOL_CACHE_DIR={}", folder.path().join("c").display());
    let ended = in_shell(&cache, &["run", "--arena-size", "128MiB", path]).expect_code(0);
    assert_eq!(ended.stderr, "");
}

#[test]
fn doctor_sees_what_the_shell_allows() {
    for (limit, name, fix) in [
        ("ulimit -v 4000000", "address space", "ulimit -v unlimited"),
        ("ulimit -f 1000000", "file size", "ulimit -f unlimited"),
    ] {
        let ended = in_shell(limit, &["doctor"]);
        let warns = |line: &str| line.starts_with("warn") && line.contains(name);
        assert!(ended.stdout.lines().any(warns) && ended.stdout.contains(fix), "{ended}");
        let ended = in_shell("true", &["doctor"]);
        assert!(!ended.stdout.lines().any(warns), "{ended}");
    }
}
