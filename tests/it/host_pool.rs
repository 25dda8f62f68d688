//! Pools of the library: what an application makes.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::Future as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use nix::sys::signal::Signal;
use sandpool::{
    Error, Event, ExitStatus, Failure, Feed, Format, Isolation, Limit, Limits, Module, Output, Pool,
    PoolBuilder, PoolEnd, Results, Sandbox, TaskError, TaskFuture, Trap, as_completed,
};

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

fn pool(module: &Module) -> PoolBuilder<'_> {
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

/// What becomes of inputs that another thread feeds, with their numbers.
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
        let results: Vec<_> = records(&pool, "echo", inputs.clone(), ordered)
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
                ("fail", Failure::Failed("no such luck".into())),
                ("trap", Failure::Ended(ExitStatus::Trapped(Trap::Unreachable))),
                ("exit", Failure::Ended(ExitStatus::Exited(3))),
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
        assert_eq!((stats.finished, stats.failed, stats.submitted), (200, 30, 230));
        pool.close();
        pool.join().unwrap();
    }
}

#[test]
fn a_task_that_takes_too_long_is_killed_and_no_other() {
    let module = module();
    for isolation in [Isolation::Worker, Isolation::Task] {
        let timeout = Duration::from_millis(500);
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

/// A worker that comes to the end of a task when it is about to be killed for the task's time waits for that.
#[test]
fn a_worker_that_is_done_before_it_is_killed_is_killed_all_the_same() {
    let module = module();
    let timeout = Duration::from_millis(10);
    let pool = pool(&module).processes(1).task_timeout(timeout).build().unwrap();
    let events = pool.events();
    assert_eq!(bytes(&pool, "echo", b"1").unwrap(), b"1");
    let supervisor = pool.supervisor_pid();
    let worker = procfs::children(supervisor)[0];
    // It is the supervisor who kills, which can't now.
    assert!(procfs::kill(supervisor, Signal::SIGSTOP, |_| true));
    let future = pool.submit_record("busy", Format::Bytes, b"").unwrap();
    assert!(events.iter().any(|event| matches!(event, Event::Started { task, .. } if task == "busy")));
    let has_ended = || procfs::describe(worker).contains(") Z ");
    assert!(procfs::eventually(|| stands(worker) || has_ended()), "{}", procfs::describe(worker));
    let ended = has_ended();
    assert!(procfs::kill(supervisor, Signal::SIGCONT, |_| true));
    assert!(!ended, "it made a system call that it may not");
    assert_eq!(future.result().unwrap_err().cause, Failure::TimedOut(timeout));
    let status = events.iter().find_map(|event| match event {
        Event::WorkerEnded { status, .. } => Some(status),
        _ => None,
    });
    assert_eq!(status, Some(ExitStatus::Signaled(sandpool::Signal::KILL)));
}

#[test]
fn an_output_is_as_large_as_it_may_be() {
    let module = module();
    for isolation in [Isolation::Worker, Isolation::Task] {
        let pool = pool(&module).isolation(isolation).output_max(100_000).build().unwrap();
        for task in ["long", "long_and_says_so"] {
            let too_large = Failure::OutputTooLarge(Limit::Output(100_000));
            assert_eq!(bytes(&pool, task, b"").unwrap_err(), too_large, "{task}");
        }
        assert_eq!(bytes(&pool, "long_then_short", b"").unwrap(), b"no such luck");
        assert_eq!(bytes(&pool, "echo", b"").unwrap(), b"", "what one has tried is nothing to the next");
    }
}

#[test]
fn a_worker_that_is_not_ready_in_time_ends_the_pool() {
    let text = r#"(module (memory (export "memory") 1) (start $loop) (func $loop (loop $l (br $l)))
        (func (export "sandpool_task_any") (param i32 i32) (result i32) (i32.const 0)))"#;
    let module = load_text("stuck", text);
    let error = pool(&module).start_timeout(Duration::from_millis(50)).build().unwrap_err();
    let Error::Pool(PoolEnd::Worker(why)) = error else { panic!("{error}") };
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
    procfs::kill(pool.supervisor_pid(), Signal::SIGKILL, |_| true);
    let lost = PoolEnd::SupervisorLost("killed by signal 9".to_owned());
    assert!(procfs::eventually(|| pool.ended() == Some(lost.clone())));
}

#[test]
fn what_a_terminal_sends_to_all_is_nothing_to_workers() {
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
        let pool = pool(&module).isolation(isolation).processes(1).build().unwrap();
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
fn workers_have_the_streams_of_the_application_only_if_they_are_to() {
    let module = module();
    let of = |pid: procfs::Pid| [1, 2].map(|fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok());
    let null = [Some("/dev/null".into()), Some("/dev/null".into())];
    for (output, expected) in
        [(Output::Discard, null.clone()), (Output::Capture, null), (Output::Inherit, of(std::process::id()))]
    {
        let pool = pool(&module).output(output).build().unwrap();
        let supervisor = pool.supervisor_pid();
        for process in procfs::children(supervisor).into_iter().chain([supervisor]) {
            assert_eq!(of(process), expected, "{output:?}");
        }
    }
}

#[test]
fn workers_that_are_killed_are_replaced() {
    let module = module();
    let pool = pool(&module).retries(3).build().unwrap();
    let events = pool.events();
    let mut killed = 0;
    for round in 0..20_u32 {
        let results = records(&pool, "echo", (0..2000_u32).map(u32::to_le_bytes), true);
        for (number, result) in results {
            if number == 100 {
                let worker = procfs::children(pool.supervisor_pid()).into_iter().next();
                killed += u64::from(worker.is_some_and(kill));
            }
            assert_eq!(result.unwrap().value, (number as u32).to_le_bytes(), "round {round}");
        }
        assert!(procfs::eventually(|| pool.stats().workers_lost == killed), "{killed} {pool:?}");
    }
    assert!(killed > 0);
    drop(pool);
    // Those that were killed before they were ready have never been told of.
    let lost = events.iter().filter(|event| matches!(event, Event::WorkerEnded { is_lost: true, .. }));
    assert!(lost.count() as u64 <= killed);
}

const ISOLATIONS: [Isolation; 2] = [Isolation::Worker, Isolation::Task];

/// The tasks of a test guest.
fn tasks() -> Module {
    load(guest("tasks"))
}

#[test]
fn values_of_all_types_go_in_and_come_out() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    assert_eq!(pool.apply::<u64, u64>("identity", &(1 << 60)).unwrap(), 1 << 60);
    assert_eq!(pool.apply::<_, String>("upper", "straße").unwrap(), "STRASSE");
    let repeated = pool.apply::<_, String>("repeat", &("ab", 3_usize, None::<(char, u8)>)).unwrap();
    assert_eq!(repeated, "ababab", "several arguments are a tuple");
    pool.apply::<(), ()>("nothing", &()).unwrap();
    assert_eq!(pool.map::<i64, i64>("even", (0..1000).map(|n| n * 2)).unwrap().len(), 1000);
    let error = pool.map::<i64, i64>("even", [2, 3, 4, 5]).unwrap_err();
    assert_eq!(error.cause, Failure::Failed("3 is odd".into()), "the first of them");
    assert_eq!(error.to_string(), "task even failed: 3 is odd");
    let results: Vec<_> = pool.imap::<i64, i64>("even", [2, 3, 4]).map(|result| result.ok()).collect();
    assert_eq!(results, [Some(2), None, Some(4)], "each in its place");
    let mut numbers: Vec<_> =
        pool.imap_unordered::<u64, u64>("identity", 0..5000).map(Result::unwrap).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..5000));
    let as_text =
        |format, input: &[u8]| pool.submit_record("score", format, input).unwrap().result().unwrap();
    assert_eq!(
        as_text(Format::Json, br#"{"text": "good!", "stars": 4}"#),
        br#"{"mood":5,"words":{"good!":1}}"#
    );
}

#[test]
fn what_does_not_fit_the_type_is_an_error() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    let cause = |result: Result<u64, TaskError>| result.unwrap_err().cause;
    assert!(matches!(cause(pool.apply("identity", "no number at all")), Failure::Refused(_)));
    assert!(matches!(cause(pool.apply("upper", "text")), Failure::Decode(_)));
    assert_eq!(cause(pool.apply("idenity", &1_u64)), Failure::NoTask(Some("identity".to_owned())));
    let error = pool.apply::<u64, u64>("idenity", &1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "task idenity failed: the module has no such task; the nearest name is identity"
    );
    let results: Vec<_> = pool.imap::<u64, u64>("idenity", [1, 2]).collect();
    assert_eq!(results.len(), 2);
    assert!(results.into_iter().all(|result| matches!(result.unwrap_err().cause, Failure::NoTask(_))));
    assert!(matches!(cause(pool.apply("queue", &())), Failure::Refused(_)), "a handle can't be an output");
    assert_eq!(pool.apply::<u64, u64>("identity", &5).unwrap(), 5);
}

/// Bytes that a task hands over as they are.
struct Raw(Vec<u8>);

impl serde::Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple as _;
        let mut bytes = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| bytes.serialize_element(byte))?;
        bytes.end()
    }
}

/// A type that contains itself.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Tree(Vec<Tree>);

#[test]
fn an_output_that_is_made_to_harm_is_an_error_of_its_task() {
    let module = module();
    let pool = pool(&module).build().unwrap();
    // It gives what it is told to.
    let deep = Raw(vec![1; 200_000]);
    let endless = Raw(u64::MAX.to_le_bytes().to_vec());
    let refusals = [
        pool.apply::<_, Tree>("echo", &deep).unwrap_err(),
        pool.imap::<_, Tree>("echo", [&deep]).next().unwrap().unwrap_err(),
        pool.submit::<_, Vec<()>>("echo", &endless).unwrap().result().unwrap_err(),
        pool.map::<_, Vec<()>>("echo", [&endless]).unwrap_err(),
    ];
    let too_deep = "its values lie within each other more than 256 deep";
    let too_many = "more than 1048576 of its elements take no bytes";
    for (refusal, why) in refusals.into_iter().zip([too_deep, too_deep, too_many, too_many]) {
        assert_eq!(refusal.cause, Failure::Decode(why.into()));
    }
    let tree = Tree(vec![Tree(Vec::new()), Tree(vec![Tree(Vec::new())])]);
    assert_eq!(pool.apply::<_, Tree>("echo", &tree).unwrap(), tree);
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

/// How a task is ended, and what is learned of it. A kill is by the deadline.
fn ways_to_end(timeout: Duration) -> [(&'static str, Failure); 4] {
    [
        ("panic", Failure::Ended(ExitStatus::Exited(1))),
        ("exit", Failure::Ended(ExitStatus::Exited(3))),
        ("trap", Failure::Ended(ExitStatus::Trapped(Trap::Unreachable))),
        ("kill", Failure::TimedOut(timeout)),
    ]
}

#[test]
fn wherever_and_however_a_task_ends_it_alone_fails() {
    let module = load(guest("task_crashes"));
    let timeout = Duration::from_millis(500);
    for isolation in ISOLATIONS {
        let pool = pool(&module).isolation(isolation).task_timeout(timeout).build().unwrap();
        // Small ones, which are taken in batches, and large ones, which are in flight as messages.
        for len in [0_u64, 100_000] {
            let load: Vec<u64> = (0..len).collect();
            let submit = |place, how| pool.submit::<_, Vec<u64>>("crash", &(place, how, &load)).unwrap();
            for place in ["decode", "task", "encode"] {
                let before: Vec<_> = (0..8).map(|_| submit("nowhere", "")).collect();
                let bad = ways_to_end(timeout).map(|(how, cause)| (submit(place, how), cause));
                let error = submit(place, "error");
                let after: Vec<_> = (0..8).map(|_| submit("nowhere", "")).collect();
                for (future, cause) in bad {
                    let error = future.result().unwrap_err();
                    assert_eq!(error.cause, cause, "{isolation:?} {place} {len}");
                    let says = |text| error.stderr.raw().contains(text);
                    assert!(place != "task" || says("about to end"), "{error:?}");
                    assert!(
                        cause != Failure::Ended(ExitStatus::Exited(1)) || says("panicked at"),
                        "{error:?}"
                    );
                }
                let cause = error.result().unwrap_err().cause;
                match place {
                    "task" => assert_eq!(cause, Failure::Failed("as it was told".into())),
                    _ => assert!(
                        matches!(&cause, Failure::Refused(why) if why.raw().contains("as it was told")),
                        "{cause:?}"
                    ),
                }
                for future in before.into_iter().chain(after) {
                    assert_eq!(future.result().unwrap(), load);
                }
            }
        }
    }
}

#[test]
fn an_initializer_that_fails_ends_the_pool_once_with_its_error() {
    let module = load(guest("task_crashes"));
    for isolation in ISOLATIONS {
        for (how, why) in [
            ("error", "as it was told"),
            ("panic", "exited: 1: process 'PoolWorker-"),
            ("exit", "exited: 3"),
            ("trap", "trapped: unreachable executed"),
        ] {
            let error = pool(&module).isolation(isolation).initializer("set_up", how).build().unwrap_err();
            let Error::Pool(PoolEnd::Initializer(said)) = &error else { panic!("{error:?}") };
            assert!(said.raw().starts_with(why), "{said}");
        }
        let missing = pool(&module).initializer("setup", "").build().unwrap_err();
        assert!(
            matches!(&missing, Error::UnknownTask { hint: Some(hint), .. } if hint.ends_with("set_up")),
            "{missing:?}"
        );
        // A worker that is killed in its initializer is one that fails there.
        let mark = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::new().dir(grant(&mark));
        let builder = pool(&module).isolation(isolation).initializer("set_up", "kill").sandbox(sandbox);
        let error = std::thread::scope(|scope| {
            let building = scope.spawn(|| builder.build().unwrap_err());
            // By chance once is no failure; again and again is.
            assert!(procfs::eventually(|| {
                has(&mark).into_iter().for_each(|pid| _ = kill(pid));
                building.is_finished()
            }));
            building.join().unwrap()
        });
        assert!(
            matches!(&error, Error::Pool(PoolEnd::Initializer(why)) if *why == "killed: SIGKILL"),
            "{error:?}"
        );
        let pool = pool(&module).isolation(isolation).initializer("set_up", "").build().unwrap();
        assert_eq!(pool.apply::<(), u64>("was_set_up", &()).unwrap(), 7);
    }
}

#[test]
fn a_worker_that_is_killed_while_idle_is_replaced_and_nothing_fails() {
    let module = tasks();
    for isolation in ISOLATIONS {
        let pool = pool(&module).isolation(isolation).build().unwrap();
        for round in 1..=5 {
            assert_eq!(pool.map::<u64, u64>("identity", 0..10).unwrap().len(), 10);
            assert!(procfs::eventually(|| procfs::children(pool.supervisor_pid()).len() == 2));
            for worker in procfs::children(pool.supervisor_pid()) {
                assert!(kill(worker));
            }
            assert!(procfs::eventually(|| pool.stats().workers_lost == 2 * round), "{pool:?}");
        }
        assert_eq!(pool.stats().failed, 0);
    }
}

#[test]
fn what_is_done_when_workers_die_at_shutdown() {
    let module = tasks();
    for isolation in ISOLATIONS {
        let pool = pool(&module).isolation(isolation).retries(10).build().unwrap();
        let futures: Vec<_> = (0..200).map(|n| pool.submit::<u64, u64>("identity", &n).unwrap()).collect();
        pool.close();
        for worker in procfs::children(pool.supervisor_pid()) {
            kill(worker);
        }
        assert_eq!(pool.submit::<u64, u64>("identity", &1).unwrap_err().cause, Failure::NotRunning);
        for (n, future) in futures.into_iter().enumerate() {
            assert_eq!(future.result().unwrap(), n as u64);
        }
        let supervisor = pool.supervisor_pid();
        pool.join().unwrap();
        assert_eq!(procfs::parent(supervisor), None);
    }
}

#[test]
fn however_a_task_ends_at_shutdown_it_alone_fails() {
    let module = load(guest("task_crashes"));
    let timeout = Duration::from_millis(100);
    for isolation in ISOLATIONS {
        for place in ["decode", "task", "encode"] {
            let pool = pool(&module).isolation(isolation).task_timeout(timeout).build().unwrap();
            let submit =
                |place, how| pool.submit::<_, Vec<u64>>("crash", &(place, how, vec![7_u64; 5])).unwrap();
            let bad = ways_to_end(timeout).map(|(how, cause)| (submit(place, how), cause));
            let good: Vec<_> = (0..8).map(|_| submit("nowhere", "")).collect();
            pool.close();
            for (future, cause) in bad {
                assert_eq!(future.result().unwrap_err().cause, cause, "{isolation:?} {place}");
            }
            for future in good {
                assert_eq!(future.result().unwrap(), [7; 5]);
            }
            pool.join().unwrap();
        }
    }
}

#[test]
fn limits_end_the_offender_only() {
    let module = tasks();
    for isolation in ISOLATIONS {
        let pool = pool(&module)
            .isolation(isolation)
            .sandbox(limits(Limits::default().memory_max(64 << 20)))
            .output_max(100_000)
            .build()
            .unwrap();
        let exhausted = pool.submit::<(), ()>("exhaust", &()).unwrap();
        let too_large = pool.submit::<usize, Vec<u8>>("produce", &200_000).unwrap();
        let fits = pool.submit::<usize, Vec<u8>>("produce", &90_000).unwrap();
        assert_eq!(
            exhausted.result().unwrap_err().cause,
            Failure::Ended(ExitStatus::Limited(Limit::Memory(64 << 20)))
        );
        assert_eq!(too_large.result().unwrap_err().cause, Failure::OutputTooLarge(Limit::Output(100_000)));
        assert_eq!(fits.result().unwrap().len(), 90_000);
    }
    let small = pool(&module).sandbox(limits(Limits::default().arena_size(1 << 20))).build().unwrap();
    let too_large = small.submit_record("bytes.reverse", Format::Bytes, &vec![1; 2 << 20]).unwrap();
    assert_eq!(too_large.result().unwrap_err().cause, Failure::InputTooLarge(Limit::Arena(1 << 20)));
    let results = records(&small, "bytes.reverse", (0..50).map(|n| vec![n; 100_000]), true);
    assert!(
        results.map(|(_, result)| result.unwrap().value.len()).eq(std::iter::repeat_n(100_000, 50)),
        "there is room for each"
    );
}

#[test]
fn tasks_may_start_processes() {
    let module = tasks();
    for isolation in ISOLATIONS {
        let pool = pool(&module).isolation(isolation).build().unwrap();
        for round in 0..20_u64 {
            let numbers: Vec<u64> = (0..1000 + round).collect();
            assert_eq!(pool.apply::<_, u64>("forked_sum", &numbers).unwrap(), numbers.iter().sum::<u64>());
        }
    }
}

#[test]
fn a_task_may_make_pools_of_its_own() {
    let module = tasks();
    let numbers: Vec<u64> = (0..1000).collect();
    for isolation in ISOLATIONS {
        let pool = pool(&module).isolation(isolation).build().unwrap();
        for _ in 0..10 {
            let sums = pool.apply::<_, [u64; 3]>("nested_sums", &numbers);
            assert_eq!(sums.unwrap(), [499_500; 3], "{isolation:?}");
        }
    }
}

#[test]
fn a_pool_can_be_used_by_many_threads_at_once() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let pool = &pool;
            scope.spawn(move || {
                let inputs = (0..2000).map(|n| n * 8 + thread);
                assert!(pool.map::<u64, u64>("identity", inputs.clone()).unwrap().into_iter().eq(inputs));
                for n in 0..50 {
                    assert_eq!(pool.apply::<u64, u64>("identity", &n).unwrap(), n);
                }
            });
        }
    });
    assert_eq!(pool.stats().finished, 8 * 2050);
}

/// A waker that holds up whoever calls it.
struct Hold(Mutex<mpsc::Receiver<()>>);

impl Wake for Hold {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().unwrap().recv();
    }
}

/// Whether a process sleeps, and has for a while.
fn stands(pid: procfs::Pid) -> bool {
    let before = procfs::describe(pid);
    let stays = || {
        std::thread::sleep(Duration::from_millis(1));
        procfs::describe(pid) == before
    };
    before.contains(") S ") && (0..20).all(|_| stays())
}

/// The column "in delivery" of the crash matrix. Only SIGKILL can end a process there, because no code of the program runs.
#[test]
fn a_process_that_is_killed_in_delivery_fails_its_task_alone() {
    const LEN: usize = 7 << 19;
    const WORKERS: usize = 4;
    let module = tasks();
    for (isolation, youngest) in
        [(Isolation::Worker, true), (Isolation::Task, true), (Isolation::Task, false)]
    {
        let pool = pool(&module)
            .isolation(isolation)
            .processes(WORKERS)
            .sandbox(limits(Limits::default().arena_size(16 << 20)))
            .build()
            .unwrap();
        // Nobody takes results while the pool's thread is held up: the arena has no room for as many as there are workers.
        let (release, held) = mpsc::channel();
        let waker = Waker::from(Arc::new(Hold(Mutex::new(held))));
        let mut first = Box::pin(pool.submit::<u64, u64>("sleep", &50).unwrap());
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(first.wait_timeout(Duration::from_secs(60)));
        let large: Vec<_> =
            (0..2 * WORKERS).map(|_| pool.submit::<usize, Vec<u8>>("produce", &LEN).unwrap()).collect();
        let all = || procfs::children(pool.supervisor_pid());
        let count = if isolation == Isolation::Task { 2 * WORKERS } else { WORKERS };
        assert!(procfs::eventually(|| all().len() == count && all().into_iter().all(stands)), "{pool:?}");
        let victim = if youngest { all().into_iter().max() } else { all().into_iter().min() }.unwrap();
        // What does a worker's task goes with it.
        let left = if isolation == Isolation::Task && !youngest { count - 2 } else { count };
        let more: Vec<_> = (0..20).map(|n| pool.submit::<u64, u64>("identity", &n).unwrap()).collect();
        assert!(kill(victim));
        assert!(procfs::eventually(|| !all().contains(&victim) && all().len() <= left), "{:?}", all());
        release.send(()).unwrap();
        let results: Vec<_> = large.into_iter().map(TaskFuture::result).collect();
        let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        assert_eq!(failed.len(), 1, "{isolation:?}: {failed:?}");
        assert_eq!(
            failed[0].cause,
            Failure::Ended(ExitStatus::Signaled(sandpool::Signal::KILL)),
            "{isolation:?}"
        );
        assert!(results.iter().flatten().all(|output| output.len() == LEN));
        assert!(more.into_iter().map(|future| future.result().unwrap()).eq(0..20), "each has its own result");
        assert_eq!(pool.stats().failed, 1);
        assert!(procfs::eventually(|| all().len() == WORKERS), "nothing is left of it: {pool:?}");
    }
}

/// A waker that panics.
struct Startled;

impl Wake for Startled {
    fn wake(self: Arc<Self>) {
        panic!("woken");
    }
}

/// A value that panics when it is encoded, if it is 3.
struct Three(u64);

impl serde::Serialize for Three {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert_ne!(self.0, 3, "three");
        serializer.serialize_u64(self.0)
    }
}

#[test]
fn what_panics_outside_of_a_task_harms_no_pool() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    // On the pool's thread, and on that of whoever terminates it.
    let waker = Waker::from(Arc::new(Startled));
    let startle = |future: TaskFuture<u64>| {
        let mut future = Box::pin(future);
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        future
    };
    let mut woken = startle(pool.submit::<u64, u64>("sleep", &50).unwrap());
    let others: Vec<_> = (0..100).map(|n| pool.submit::<u64, u64>("identity", &n).unwrap()).collect();
    assert!(others.into_iter().map(|future| future.result().unwrap()).eq(0..100));
    assert!(woken.wait_timeout(Duration::from_secs(60)), "it is done all the same");
    assert!(matches!(woken.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(50))));
    assert_eq!(pool.apply::<u64, u64>("identity", &1).unwrap(), 1);

    let catch = |run: &mut dyn FnMut() -> Option<u64>| catch_unwind(AssertUnwindSafe(run)).ok();
    for ordered in [true, false] {
        // An input panics, and one can't be encoded: they are left out, and the others follow.
        let inputs = (0..100).map(|n| if n == 50 { panic!("fifty") } else { Three(n) });
        let mut results: Box<dyn Iterator<Item = _>> = match ordered {
            true => Box::new(pool.imap::<Three, u64>("identity", inputs)),
            false => Box::new(pool.imap_unordered::<Three, u64>("identity", inputs)),
        };
        let (mut found, mut panics) = (Vec::new(), 0);
        loop {
            match catch(&mut || results.next().map(Result::unwrap)) {
                Some(Some(n)) => found.push(n),
                Some(None) => break,
                None => panics += 1,
            }
        }
        assert!(!ordered || found.is_sorted());
        found.sort_unstable();
        assert!(found.into_iter().eq((0..100).filter(|n| ![3, 50].contains(n))), "ordered: {ordered}");
        assert_eq!(panics, 2);
    }
    assert!(catch(&mut || pool.apply("identity", &Three(3)).ok()).is_none());
    assert_eq!(pool.apply::<u64, u64>("identity", &2).unwrap(), 2);

    let woken = startle(pool.submit::<u64, u64>("sleep", &300_000).unwrap());
    let busy: Vec<_> = (0..10).map(|_| pool.submit::<u64, u64>("sleep", &300_000).unwrap()).collect();
    pool.terminate();
    for future in busy.into_iter().chain([*Pin::into_inner(woken)]) {
        assert_eq!(future.result().unwrap_err().cause, Failure::PoolEnded(PoolEnd::Terminated));
    }
    pool.join().unwrap();
}

#[test]
fn an_imap_takes_no_more_inputs_than_its_window() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    for window in [1, 2, 10, 1000] {
        for ordered in [true, false] {
            let read = Cell::new(0);
            let inputs = (0..3000).inspect(|_| read.set(read.get() + 1));
            let results: Box<dyn Iterator<Item = _>> = match ordered {
                true => Box::new(pool.imap::<u64, u64>("identity", inputs).window(window)),
                false => Box::new(pool.imap_unordered::<u64, u64>("identity", inputs).window(window)),
            };
            let mut most = 0;
            let mut taken = 0;
            for result in results {
                most = most.max(read.get() - taken);
                taken += 1;
                result.unwrap();
            }
            assert_eq!(taken, 3000);
            assert!(most <= window, "{most} of {window}");
            // It is filled, too.
            assert!(most * 2 > window.min(100), "{most} of {window}");
        }
    }
}

/// A waker that counts.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_future_can_be_awaited_waited_for_and_cancelled() {
    let module = tasks();
    let pool = pool(&module).processes(1).build().unwrap();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut future = Box::pin(pool.submit::<u64, u64>("sleep", &30).unwrap());
    let mut context = Context::from_waker(&waker);
    assert!(future.as_mut().poll(&mut context).is_pending());
    assert!(procfs::eventually(|| wakes.0.load(Ordering::SeqCst) == 1));
    assert!(matches!(future.as_mut().poll(&mut context), Poll::Ready(Ok(30))));

    let busy = pool.submit::<u64, u64>("sleep", &300_000).unwrap();
    let others: Vec<_> = (0..10).map(|n| pool.submit::<u64, u64>("identity", &n).unwrap()).collect();
    assert!(!busy.wait_timeout(Duration::from_millis(1)));
    assert!(busy.is_running() && !busy.is_done());
    assert!(!busy.cancel(), "it was handed to a worker");
    let last = others.last().unwrap();
    assert!(last.cancel() && last.cancel() && last.is_done());
    assert_eq!(others.into_iter().next_back().unwrap().result().unwrap_err().cause, Failure::Cancelled);
    pool.terminate();
    assert_eq!(busy.result().unwrap_err().cause, Failure::PoolEnded(PoolEnd::Terminated));
    pool.join().unwrap();
}

#[test]
fn futures_come_as_they_are_completed() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    let futures: Vec<_> = [400, 1].map(|ms| pool.submit::<u64, u64>("sleep", &ms).unwrap()).into();
    let order: Vec<_> = as_completed(futures).map(|future| future.result().unwrap()).collect();
    assert_eq!(order, [1, 400]);
    assert_eq!(as_completed(Vec::<TaskFuture<u64>>::new()).count(), 0);
}

#[test]
fn inputs_are_taken_as_outputs_are() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    let taken = AtomicUsize::new(0);
    let inputs = (0..).inspect(|_| {
        taken.fetch_add(1, Ordering::SeqCst);
    });
    let mut outputs = pool.imap::<u64, u64>("identity", inputs).window(10);
    for n in 0..100 {
        assert_eq!(outputs.next().unwrap().unwrap(), n);
        assert!(taken.load(Ordering::SeqCst) <= n as usize + 11);
    }
    drop(outputs);
    assert!(procfs::eventually(|| pool.stats().pending == 0), "the rest is given up");
}

#[test]
fn workers_come_and_go_as_they_are_wanted() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    for workers in [5, 1, 3] {
        pool.resize(workers);
        let has =
            || pool.stats().workers == workers && procfs::children(pool.supervisor_pid()).len() == workers;
        assert!(procfs::eventually(has), "{workers}: {pool:?}");
        assert_eq!(pool.map::<u64, u64>("identity", 0..1000).unwrap().len(), 1000);
    }
    assert_eq!(pool.stats().workers_lost, 0);
    let once = self::pool(&module).maxtasksperchild(1).build().unwrap();
    let calls: Vec<_> = once.map::<(), (u64, u64)>("read_set", [(); 20]).unwrap();
    assert!(calls.into_iter().all(|(_, calls)| calls == 1), "each worker does one task");
    assert_eq!((once.stats().workers_lost, once.stats().failed), (0, 0));
}

#[test]
fn what_crashed_is_tried_again_if_it_is_to() {
    let module = tasks();
    let pool = pool(&module).retries(2).build().unwrap();
    let events = pool.events();
    let error = pool.apply::<_, u64>("panic", "always").unwrap_err();
    assert_eq!((error.attempts, error.cause), (3, Failure::Ended(ExitStatus::Exited(1))));
    let error = pool.apply::<_, ()>("fail", "its own").unwrap_err();
    assert_eq!((error.attempts, error.cause), (1, Failure::Failed("its own".into())));
    pool.close();
    pool.join().unwrap();
    drop(pool);
    let events: Vec<_> = events.into_iter().collect();
    let count = |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Retried { .. })), 2);
    assert_eq!(count(|event| matches!(event, Event::Failed { .. })), 2);
    assert_eq!(count(|event| matches!(event, Event::Started { .. })), 2);
    assert_eq!(count(|event| matches!(event, Event::WorkerEnded { is_lost: true, .. })), 3);
}

/// A module whose task does something else each time it is tried: it knows by the names that are there.
const TRIES: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open"
        (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "firstsecond")
    ;; Makes a file; whether there was none of its name.
    (func $make (param $at i32) (param $len i32) (result i32)
        (i32.eqz (call $open (i32.const 3) (i32.const 0) (local.get $at) (local.get $len) (i32.const 5)
            (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 32))))
    (func (export "sandpool_task_try") (param i32 i32) (result i32)
        (if (call $make (i32.const 0) (i32.const 5)) (then (loop $l (br $l))))
        (if (call $make (i32.const 5) (i32.const 6)) (then (call $exit (i32.const 3))))
        unreachable))"#;

/// The outcome of one attempt is none of the next one's.
#[test]
fn each_attempt_of_a_task_has_a_cause_of_its_own() {
    let module = load_text("tries", TRIES);
    let timeout = Duration::from_millis(300);
    for isolation in [Isolation::Worker, Isolation::Task] {
        let causes = [
            Failure::TimedOut(timeout),
            Failure::Ended(ExitStatus::Exited(3)),
            Failure::Ended(ExitStatus::Trapped(Trap::Unreachable)),
        ];
        for retries in 0..3 {
            let directory = tempfile::tempdir().unwrap();
            let builder =
                pool(&module).processes(1).isolation(isolation).task_timeout(timeout).retries(retries);
            let pool = builder.sandbox(Sandbox::new().dir(grant(&directory))).build().unwrap();
            let events = pool.events();
            let error = pool.submit_record("try", Format::Bytes, b"").unwrap().result().unwrap_err();
            let last = &causes[retries as usize];
            assert_eq!((&error.cause, error.attempts), (last, retries + 1), "{isolation:?}");
            drop(pool);
            let retried = events.into_iter().filter_map(|event| match event {
                Event::Retried { cause, attempt, .. } => Some((cause, attempt)),
                _ => None,
            });
            let expected = causes.iter().cloned().zip(2..).take(retries as usize);
            assert!(retried.eq(expected), "{isolation:?} with {retries} retries");
        }
    }
}

/// Each is killed before it is ready: not by its own fault, but for how long?
#[test]
fn workers_that_are_killed_again_and_again_are_not_started_for_ever() {
    let text = r#"(module (memory (export "memory") 1) (start $loop) (func $loop (loop $l (br $l)))
        (func (export "sandpool_task_any") (param i32 i32) (result i32) (i32.const 0)))"#;
    let module = load_text("stuck", text);
    let directory = tempfile::tempdir().unwrap();
    let (module, directory) = (&module, &directory);
    std::thread::scope(|scope| {
        let sandbox = Sandbox::new().dir(grant(directory));
        let built = scope.spawn(move || pool(module).processes(1).sandbox(sandbox).build().map(drop));
        let mut killed = 0;
        let ended = procfs::eventually(|| {
            killed += has(directory).into_iter().filter(|worker| kill(*worker)).count();
            built.is_finished()
        });
        if !ended {
            // It would go on, and nobody else can end it.
            eprintln!("workers are started for ever: {killed} were killed");
            std::process::abort();
        }
        let error = built.join().unwrap().unwrap_err();
        let Error::Pool(PoolEnd::Worker(why)) = error else { panic!("{error}") };
        assert_eq!(why, "killed: SIGKILL");
        // One may have been killed more than once.
        assert!(killed >= 4, "{killed}");
    });
}

#[test]
fn grants_are_what_tasks_have() {
    let module = tasks();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "content").unwrap();
    let pool =
        pool(&module).sandbox(Sandbox::new().dir(grant(&directory)).env("NAME", "value")).build().unwrap();
    assert_eq!(pool.apply::<_, String>("read_file", "/mark/file").unwrap(), "content");
    assert!(matches!(
        pool.apply::<_, String>("read_file", "/etc/passwd").unwrap_err().cause,
        Failure::Failed(_)
    ));
    assert_eq!(pool.apply::<_, Option<String>>("variable", "NAME").unwrap().as_deref(), Some("value"));
    assert_eq!(pool.apply::<_, Option<String>>("variable", "HOME").unwrap(), None);
}

#[test]
fn settings_of_pools_that_make_no_sense_are_errors() {
    let module = tasks();
    assert!(matches!(pool(&module).processes(0).build(), Err(Error::Invalid { .. })));
    let few = limits(Limits::default().processes_max(2));
    assert!(matches!(pool(&module).sandbox(few).build(), Err(Error::Invalid { .. })));
    assert!(matches!(pool(&module).task_timeout(Duration::ZERO).build(), Err(Error::Invalid { .. })));
    let unnamed = Sandbox::new().env("A=B", "");
    assert!(matches!(pool(&module).sandbox(unnamed).build(), Err(Error::Invalid { .. })));
    let running = pool(&module).build().unwrap();
    assert!(
        matches!(running.join(), Err(Error::Invalid { what, .. }) if what == "the pool is still running")
    );
    // A worker that can't even be made ready.
    let error = pool(&module).sandbox(limits(Limits::default().memory_max(1))).build().unwrap_err();
    assert!(matches!(&error, Error::Pool(PoolEnd::Worker(_))), "{error:?}");
}

#[test]
fn a_pool_that_is_dropped_or_loses_its_supervisor_is_gone() {
    let module = tasks();
    let dropped = pool(&module).build().unwrap();
    let spinning = dropped.submit::<u64, ()>("spin", &0).unwrap();
    let supervisor = dropped.supervisor_pid();
    let workers = procfs::children(supervisor);
    drop(dropped);
    assert_eq!(spinning.result().unwrap_err().cause, Failure::PoolEnded(PoolEnd::Terminated));
    assert!(workers.into_iter().chain([supervisor]).all(|pid| procfs::parent(pid).is_none()));

    let lost = pool(&module).build().unwrap();
    let spinning = lost.submit::<u64, ()>("spin", &0).unwrap();
    let workers = procfs::children(lost.supervisor_pid());
    assert!(kill(lost.supervisor_pid()));
    let end = PoolEnd::SupervisorLost("killed by signal 9".to_owned());
    assert_eq!(spinning.result().unwrap_err().cause, Failure::PoolEnded(end.clone()));
    assert!(matches!(lost.join(), Err(Error::Pool(PoolEnd::SupervisorLost(_)))));
    let error = lost.apply::<u64, u64>("identity", &1).unwrap_err();
    assert_eq!(error.cause, Failure::PoolEnded(end));
    assert!(procfs::eventually(|| workers.iter().all(|pid| procfs::parent(*pid).is_none())));
}

#[test]
fn a_stream_is_fed_by_one_thread_and_read_by_another() {
    let module = module();
    let pool = pool(&module).build().unwrap();
    for ordered in [true, false] {
        let (mut feed, results) = open("echo", &pool, ordered);
        let feeder = std::thread::spawn(move || (0..10_000_u32).all(|n| feed.put(&n.to_le_bytes())));
        let mut numbers = Vec::new();
        for (number, outcome) in results {
            assert_eq!(outcome.unwrap().value, (number as u32).to_le_bytes());
            numbers.push(number);
        }
        assert!(feeder.join().unwrap());
        assert!(!ordered || numbers.is_sorted());
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..10_000));
    }
}

#[test]
fn a_stream_takes_no_more_than_there_is_room_for_and_ends_when_it_is_stopped() {
    let module = module();
    let pool = pool(&module).build().unwrap();
    for ordered in [true, false] {
        let (mut feed, mut results) = open("echo", &pool, ordered);
        let fed = Arc::new(AtomicUsize::new(0));
        let counter = fed.clone();
        // It ends because nothing is wanted any more, and not for want of inputs.
        let feeder = std::thread::spawn(move || {
            while feed.put(&[0; 1000]) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (number, outcome) = results.next().unwrap();
        assert!(outcome.is_ok() && (!ordered || number == 0));
        results.stopper().stop();
        feeder.join().unwrap();
        let mut done = 1;
        let mut cancelled = 0;
        for (_, outcome) in results {
            match outcome {
                Ok(_) => done += 1,
                Err(error) => {
                    assert_eq!(error.cause, Failure::Cancelled);
                    cancelled += 1;
                }
            }
        }
        assert!(done + cancelled <= fed.load(Ordering::Relaxed) + 1, "{done} done, {cancelled} cancelled");
        assert_eq!(bytes(&pool, "echo", b"x").unwrap(), b"x", "the pool goes on");

        // Whoever drops the results wants no more either.
        let (mut feed, results) = open("echo", &pool, ordered);
        drop(results);
        while feed.put(b"") {}
    }
    // Large inputs and outputs fill it as well.
    let (mut feed, results) = pool.stream("echo", Format::Bytes);
    let feeder = std::thread::spawn(move || (0..100).all(|_| feed.put(&vec![1; 200_000])));
    assert_eq!(results.filter(|(_, outcome)| outcome.is_ok()).count(), 100);
    assert!(feeder.join().unwrap());
}
