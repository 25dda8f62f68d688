//! The library, in a program with many threads.

use std::io;
use std::time::Duration;

use sandpool::{DirGrant, Error, ExitStatus, Limits, Module, Run, Sandbox, Signal, Trap};

use crate::procfs;
use crate::support::load_text;

/// A guest that does this, and prints nothing.
fn module(body: &str) -> Module {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "_start") {body}))"#
    );
    load_text("guest", &text)
}

/// Sleeps for a minute by WASI's clock.
const SLEEP: &str =
    "(i64.store (i32.const 24) (i64.const 60000000000)) (i32.store (i32.const 16) (i32.const 1))
    (drop (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))";

#[test]
fn a_summary_says_how_a_run_ended() {
    for (body, status) in [
        ("", ExitStatus::Exited(0)),
        ("(call $exit (i32.const 300))", ExitStatus::Exited(44)),
        ("unreachable", ExitStatus::Trapped(Trap::Unreachable)),
    ] {
        let summary = Run::builder(&module(body)).start().unwrap().wait().unwrap();
        assert_eq!((summary.status, summary.processes), (status, 1), "{body}");
        assert_eq!(summary.reports[0].name, "MainProcess");
        assert!(summary.peak_memory > 0);
    }
}

#[test]
fn many_runs_at_once() {
    let module = module("(call $exit (i32.const 7))");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let summary = Run::builder(&module).start().unwrap().wait().unwrap();
                assert_eq!(summary.status, ExitStatus::Exited(7));
            });
        }
    });
}

#[test]
fn another_thread_stops_a_run() {
    let module = module(SLEEP);
    let started = Run::builder(&module).start().unwrap();
    let stopper = started.stopper();
    let stop = std::thread::spawn(move || stopper.stop(Signal::TERM));
    assert_eq!(started.wait().unwrap().status, ExitStatus::Signaled(Signal::TERM));
    stop.join().unwrap();
}

#[test]
fn a_run_that_is_dropped_is_gone() {
    let module = module(SLEEP);
    let started = Run::builder(&module).start().unwrap();
    let supervisor = started.supervisor_pid();
    let guests = procfs::children(supervisor);
    assert_eq!(guests.len(), 1);
    drop(started);
    assert!(procfs::eventually(|| guests.iter().all(|guest| procfs::parent(*guest).is_none())));
    assert_eq!(procfs::parent(supervisor), None);
}

#[test]
fn a_supervisor_that_is_killed_is_an_error() {
    let module = module(SLEEP);
    let started = Run::builder(&module).start().unwrap();
    let supervisor = started.supervisor_pid();
    assert!(procfs::kill(supervisor, nix::sys::signal::Signal::SIGKILL, |_| true));
    let error = started.wait().unwrap_err();
    assert!(matches!(&error, Error::SupervisorLost(why) if why == "killed by signal 9"), "{error}");
}

#[test]
fn settings_that_make_no_sense_are_errors() {
    let module = module("");
    for sandbox in [
        Sandbox::new().limits(Limits::default().processes_max(0)),
        Sandbox::new().limits(Limits::default().arena_size(100)),
        Sandbox::new().env("A=B", ""),
    ] {
        let refused = Run::builder(&module).sandbox(sandbox).start();
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    assert!(matches!(Run::builder(&module).arg("\0").start(), Err(Error::Invalid { .. })));
    let missing = Sandbox::new().dir(DirGrant::writable("/no/such/folder", "/folder"));
    let missing = Run::builder(&module).sandbox(missing).start();
    assert!(matches!(missing, Err(Error::Grant { source, .. }) if source.kind() == io::ErrorKind::NotFound));
    assert!(Duration::ZERO < Run::builder(&module).start().unwrap().wait().unwrap().wall);
}
