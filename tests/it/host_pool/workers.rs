//! Workers: what they have, and how they come and go.

use std::time::Duration;

use nix::sys::signal::Signal;
use sandpool::pool::{Event, Failure, Isolation, Output, PoolEnd};
use sandpool::{Error, Limits, Sandbox};

use crate::procfs;
use crate::support::{guest, load, load_text};

use super::{ISOLATIONS, bytes, grant, has, kill, limits, module, pool, records, tasks};

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
fn a_process_that_the_initializer_has_started_lives_as_long_as_the_worker() {
    let module = load(guest("task_processes"));
    for isolation in ISOLATIONS {
        let pool = pool(&module).isolation(isolation).processes(1).initializer("start_helper", &());
        let pool = pool.build().unwrap();
        for number in 0..5_u64 {
            assert_eq!(pool.apply::<_, u64>("double", &number).unwrap(), 2 * number, "{isolation:?}");
        }
    }
}

/// Nobody else would ever end it.
#[test]
fn a_process_in_a_task_ends_with_the_process_that_has_started_it() {
    let module = load(guest("task_processes"));
    for isolation in ISOLATIONS {
        let pool = pool(&module).isolation(isolation).build().unwrap();
        for _ in 0..5 {
            assert!(pool.apply::<_, bool>("kill_parent_of_owner", &()).unwrap(), "{isolation:?}");
        }
    }
}

#[test]
fn a_child_that_is_refused_takes_no_number() {
    let module = load(guest("task_processes"));
    for isolation in ISOLATIONS {
        let sandbox = limits(Limits::default().processes_max(10));
        let pool = pool(&module).isolation(isolation).sandbox(sandbox).build().unwrap();
        for _ in 0..2 {
            let (last, next) = pool.apply::<_, (u64, u64)>("numbers_around_a_refusal", &()).unwrap();
            assert_eq!(next, last + 1, "{isolation:?}");
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
    // A worker takes many quick tasks at a time: not more than it may do.
    for (most, tasks) in [(1, 20), (10, 2000)] {
        let pool = self::pool(&module).maxtasksperchild(most).build().unwrap();
        let calls: Vec<_> = pool.map::<(), (u64, u64)>("read_set", vec![(); tasks]).unwrap();
        assert_eq!(calls.into_iter().map(|(_, calls)| calls).max(), Some(most), "calls in one worker");
        assert_eq!((pool.stats().workers_lost, pool.stats().failed), (0, 0));
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
