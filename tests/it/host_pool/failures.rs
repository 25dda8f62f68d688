//! Of tasks that end badly, exactly those fail, with the cause.

use std::future::Future as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use nix::sys::signal::Signal;
use sandpool::limits::Limit;
use sandpool::pool::{Event, Failure, Format, Isolation, PoolEnd, TaskFuture};
use sandpool::{ExitStatus, Limits, Sandbox, Trap};

use crate::procfs;
use crate::support::{guest, load, load_text};

use super::{ISOLATIONS, bytes, grant, kill, limits, module, pool, records, tasks};

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
        assert_eq!((stats.succeeded, stats.failed, stats.submitted), (200, 30, 230));
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
        // A worker is told that its task is late, if the task has a process of its own.
        let lost = if isolation == Isolation::Worker { 3 } else { 0 };
        assert!(procfs::eventually(|| pool.stats().workers_lost == lost), "{pool:?}");
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
    assert!(procfs::eventually(|| procfs::stands(worker) || has_ended()), "{}", procfs::describe(worker));
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

/// No task takes as long as this if it comes to its end, even on a busy machine.
const LATE: Duration = Duration::from_secs(2);

/// How a task is ended, and what is learned of it. A kill is because the task is late.
fn ways_to_end() -> [(&'static str, Failure); 4] {
    [
        ("panic", Failure::Ended(ExitStatus::Exited(1))),
        ("exit", Failure::Ended(ExitStatus::Exited(3))),
        ("trap", Failure::Ended(ExitStatus::Trapped(Trap::Unreachable))),
        ("kill", Failure::TimedOut(LATE)),
    ]
}

#[test]
fn wherever_and_however_a_task_ends_it_alone_fails() {
    let module = load(guest("task_crashes"));
    for isolation in ISOLATIONS {
        let pool = pool(&module).isolation(isolation).task_timeout(LATE).build().unwrap();
        // Small ones, which are taken in batches, and large ones, which are in flight as messages.
        for len in [0_u64, 100_000] {
            let load: Vec<u64> = (0..len).collect();
            let submit = |place, how| pool.submit::<_, Vec<u64>>("crash", &(place, how, &load)).unwrap();
            for place in ["decode", "task", "encode"] {
                let before: Vec<_> = (0..8).map(|_| submit("nowhere", "")).collect();
                let bad = ways_to_end().map(|(how, cause)| (submit(place, how), cause));
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
fn however_a_task_ends_at_shutdown_it_alone_fails() {
    let module = load(guest("task_crashes"));
    for isolation in ISOLATIONS {
        for place in ["decode", "task", "encode"] {
            let pool = pool(&module).isolation(isolation).task_timeout(LATE).build().unwrap();
            let submit =
                |place, how| pool.submit::<_, Vec<u64>>("crash", &(place, how, vec![7_u64; 5])).unwrap();
            let bad = ways_to_end().map(|(how, cause)| (submit(place, how), cause));
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

/// A waker that holds up whoever calls it.
struct Hold(Mutex<mpsc::Receiver<()>>);

impl Wake for Hold {
    fn wake(self: Arc<Self>) {
        let _ = self.0.lock().unwrap().recv();
    }
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
        assert!(
            procfs::eventually(|| all().len() == count && all().into_iter().all(procfs::stands)),
            "{pool:?}"
        );
        let victim = if youngest { all().into_iter().max() } else { all().into_iter().min() }.unwrap();
        // The process that does a worker's task ends with the worker.
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
