//! Processes: start, join, exit status, and what a program sees of them.

use std::io::Write;

use crate::support::{Run, finish, guest, run, run_with};

/// A section of the guest that checks a `Process` from inside.
fn section(name: &str) {
    let ended = finish(&mut run_with("process_basics", &[name])).expect_code(0);
    assert_eq!(ended.all("done: "), [name], "{ended}");
    assert!(ended.all("ok: ").len() >= 2, "{ended}");
}

#[test]
fn processes_have_the_names_that_python_gives_or_their_own() {
    section("names");
}

#[test]
fn exit_codes_say_how_a_process_has_ended() {
    section("exit_codes");
}

#[test]
fn terminate_and_kill_end_a_process_by_their_signals() {
    section("signals");
}

#[test]
fn a_join_waits_for_the_end_or_its_timeout() {
    section("join");
}

#[test]
fn close_refuses_a_process_that_is_alive() {
    section("close");
}

#[test]
fn a_daemon_ends_with_its_parent_and_has_no_children() {
    section("daemon");
}

#[test]
fn inherited_processes_are_not_children() {
    section("inherited");
}

#[test]
fn active_children_are_those_that_are_alive() {
    section("active_children");
}

#[test]
fn a_parent_is_known_and_its_end_is_told() {
    section("parent");
}

#[test]
fn the_end_of_a_parent_is_not_missed() {
    finish(&mut run(guest("process_orphan"))).expect_code(0).expect_stdout(&["ok: all were told"]);
}

#[test]
fn sentinels_are_ready_once_their_process_has_ended() {
    section("wait");
}

#[test]
fn a_process_is_shown_as_python_shows_it() {
    section("repr");
}

/// One run for all: what one section leaves must not matter to the next.
#[test]
fn all_sections_pass_in_one_run() {
    let ended = finish(&mut run(guest("process_basics"))).expect_code(0);
    assert_eq!(ended.all("done: ").len(), 11, "{ended}");
}

#[test]
fn hello_is_printed_by_both_processes() {
    finish(&mut run(guest("hello")))
        .expect_code(0)
        .expect_stdout(&["hello from a process", "hello from the main process"]);
}

#[test]
fn closures_take_what_they_borrow_along() {
    let ended = finish(&mut run(guest("process_borrow"))).expect_code(0);
    assert_eq!(
        ended.all("ok: "),
        [
            "the child ended well",
            "borrowed data",
            "changed in the child",
            "shared data, changed in the child",
            "a boxed closure",
            "unchanged in the parent",
            "shared data, unchanged in the parent",
            "captured by move",
            "in pieces",
        ],
        "{ended}"
    );
}

#[test]
fn spawn_has_fresh_memory_and_arguments() {
    let checks = ["fresh memory", "large arguments", "a spawn by a forked process", "the queue"];
    let ended = finish(&mut run(guest("process_spawn"))).expect_code(0).expect_checks(&checks);
    assert!(ended.stderr.contains("on purpose"), "the panic of a spawned process is silent\n{ended}");
}

#[test]
fn spawn_without_an_entry_point_is_an_error() {
    finish(&mut run(guest("process_spawn_without_entry"))).expect_code(0).expect_stdout(&[
        "main runs",
        "ok: spawn needs #[sandpool_guest::main] on main; a task of an application's pool can only fork",
        "ok: a panic",
    ]);
}

#[test]
fn a_full_table_is_an_error_and_has_room_again() {
    for (processes_max, others) in [("2", 1), ("7", 6), ("65", 64)] {
        let ended = finish(run(guest("process_table_full")).args(["--processes-max", processes_max]));
        ended.expect_code(0).expect_stdout(&[
            &format!("{others} processes beside the main one"),
            "ok: as many again",
            "ok: the room of dropped processes comes back",
        ]);
    }
}

#[test]
fn a_run_that_may_have_one_process_has_one() {
    let ended = finish(run(guest("hello")).args(["--processes-max", "1"])).expect_code(1);
    let error = "error: too many processes: the run's limit is 1 (`processes-max`)\n\
                 note: 'MainProcess' was refused more than its limits: processes of the run 1 (`processes-max`)\n";
    assert_eq!(ended.stderr, error, "{ended}");
}

/// A slot for the main process and one for another: each start needs the slot of the one before.
#[test]
fn ten_thousand_processes_have_room_in_two_slots() {
    for how in ["fork", "spawn"] {
        let mut command = run(guest("process_many"));
        command.args(["--processes-max", "2", "--", "10000", how]);
        finish(&mut command).expect_code(0).expect_stdout(&["10000 processes"]);
    }
}

#[test]
fn the_exit_status_of_a_run_is_that_of_its_main_guest() {
    let exits = |code: i32| {
        format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                 (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))"#
        )
    };
    for (code, expected) in
        [(0, 0), (1, 1), (3, 3), (120, 120), (125, 125), (126, 126), (255, 255), (256, 0), (-1, 255)]
    {
        let ended = finish(&mut run(module(&exits(code)).path())).expect_code(expected);
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""), "{code}");
    }
}

/// A module from its text.
pub(crate) fn module(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".wat").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn a_trap_has_a_backtrace_with_function_names() {
    let ended = finish(&mut run_with("trap_backtrace", &["main"])).expect_code(134).expect_stdout(&[]);
    assert!(ended.stderr.starts_with("error: process 'MainProcess' trapped: "), "{ended}");
    let mut rest = ended.stderr.as_str();
    // Innermost first.
    for name in ["innermost_function", "middle_function", "outermost_function", "_start"] {
        rest = rest.split_once(name).unwrap_or_else(|| panic!("no {name} in order\n{ended}")).1;
    }
    assert!(ended.stderr.contains("unreachable"), "{ended}");
    assert!(!ended.stderr.contains("RUST_BACKTRACE") && !ended.stderr.contains("panicked"), "{ended}");
}

#[test]
fn a_trap_in_a_child_is_the_childs() {
    let ended = finish(&mut run_with("trap_backtrace", &["child"])).expect_code(0);
    let ended = ended.expect_stdout(&["child: trapped: unreachable executed"]);
    assert!(ended.stderr.starts_with("error: process 'Process-1' trapped: "), "{ended}");
    assert!(ended.stderr.contains("innermost_function"), "{ended}");
}

#[test]
fn a_panic_is_exit_code_1_and_no_trap() {
    let ended = finish(&mut run_with("trap_backtrace", &["panic"])).expect_code(1).expect_stdout(&[]);
    assert!(ended.stderr.contains("on purpose") && !ended.stderr.contains("trapped"), "{ended}");
}

#[test]
fn the_limit_of_memory_is_a_cause_of_its_own() {
    let greedy = module(
        r#"(module (memory (export "memory") 1) (func (export "_start")
             (if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable))))"#,
    );
    finish(&mut run(greedy.path())).expect_code(0);
    let ended = finish(run(greedy.path()).args(["--memory-max", "1MiB"])).expect_code(134);
    assert!(ended.stderr.ends_with("error: the guest was limited: memory 1 MiB\n"), "{ended}");
}

/// Each spawned process runs the code that instantiation runs, and no other process does so in its place.
#[test]
fn a_start_function_runs_in_each_process() {
    let module = module(
        r#"(module
             (import "sandpool_process" "fork" (func (param i32 i32 i32) (result i64)))
             (import "sandpool_process" "spawn" (func $spawn (param i32 i32 i32 i32 i32 i32 i32) (result i64)))
             (import "sandpool_process" "join" (func $join (param i64 i64) (result i32)))
             (import "sandpool_process" "status" (func $status (param i64 i32) (result i32)))
             (import "sandpool_process" "current" (func $current (result i64)))
             (import "sandpool_process" "parent" (func $parent (result i64)))
             (memory (export "memory") 1)
             (global $began_as (mut i64) (i64.const 0))
             (func $begin (global.set $began_as (call $current)))
             (start $begin)
             (func (export "_start") (local $child i64)
               (if (i64.ne (global.get $began_as) (call $current)) (then unreachable))
               (if (i64.ne (call $parent) (i64.const 0)) (then return))
               (local.set $child (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
                 (i32.const 0) (i32.const 0)))
               (if (call $join (local.get $child) (i64.const -1)) (then unreachable))
               (if (call $status (local.get $child) (i32.const 16)) (then unreachable))
               (if (i32.ne (i32.load (i32.const 16)) (i32.const 1)) (then unreachable))))"#,
    );
    finish(&mut run(module.path())).expect_code(0);
}

/// A language without a runtime of ours can use `sandpool_aborted`.
#[test]
fn a_module_says_whether_its_abort_was_a_panic() {
    let aborting = |export: &str, body: &str| {
        module(&format!(
            r#"(module
                 (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
                 (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                 (memory (export "memory") 1)
                 (global $began (mut i32) (i32.const 0))
                 {export}
                 (func (export "_start") (global.set $began (i32.const 9)) {body}))"#
        ))
    };
    let export = |body: &str| format!(r#"(func (export "sandpool_aborted") {body})"#);
    let exit = "(call $exit (global.get $began))";
    for (what, export, body, code) in [
        ("a panic", export(exit), "unreachable", 9),
        ("no panic", export(""), "unreachable", 134),
        ("another abort", export("unreachable"), "unreachable", 134),
        (
            "one panic after the other",
            export(
                "(global.set $began (i32.sub (global.get $began) (i32.const 1)))
                 (if (i32.eqz (global.get $began)) (then (call $exit (i32.const 5))))
                 unreachable",
            ),
            "unreachable",
            5,
        ),
        ("a fault of its own", export("(drop (i32.div_u (i32.const 1) (i32.const 0)))"), "unreachable", 134),
        ("another trap", export(exit), "(drop (i32.div_u (i32.const 1) (i32.const 0)))", 134),
        ("a return", export(exit), "", 0),
        ("an exit", export(exit), "(call $exit (i32.const 3))", 3),
        ("no export", String::new(), "unreachable", 134),
        (
            "one of another type",
            r#"(func (export "sandpool_aborted") (param i32))"#.to_owned(),
            "unreachable",
            134,
        ),
        (
            "a fork in it",
            export("(drop (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))"),
            "unreachable",
            134,
        ),
    ] {
        let ended = finish(&mut run(aborting(&export, body).path()));
        assert_eq!(ended.status.code(), Some(code), "{what}: {ended}");
    }
}

#[test]
fn a_process_that_ends_gives_back_what_its_children_wait_for() {
    let ended = finish(&mut run(guest("process_ends"))).expect_code(0);
    let all = ended.all("ok: ");
    for how in ["Return", "Exit", "Panic", "Abort"] {
        for what in ["a lock", "a recursive lock", "a value", "an array", "a condition", "a place", "an item"]
        {
            assert!(all.contains(&&*format!("{how}: {what}")), "{how}: {what}\n{ended}");
        }
        for what in ["a sender", "a receiver"] {
            assert!(all.contains(&&*format!("{how}: {what}")), "{how}: {what}\n{ended}");
        }
    }
    ended.expect_checks(&[
        "and no daemonic child went on",
        "what children use stays",
        "and the process ends behind them",
        "killed on its way out, it holds nothing back",
    ]);
}

#[test]
fn the_main_process_gives_back_what_its_children_wait_for() {
    for (how, code, stdout) in [
        ("return", 0, "the child: its owner died\n"),
        ("exit", 3, "the child: its owner died\n"),
        ("panic", 1, "the child: its owner died\n"),
        // It does nothing for its children, which end with it.
        ("abort", 134, ""),
    ] {
        let ended = finish(run(guest("process_ends")).args(["--", how])).expect_code(code);
        if how != "abort" {
            assert_eq!(ended.stdout, stdout, "{how}: {ended}");
        }
    }
}

#[test]
fn what_is_moved_into_a_child_is_the_childs() {
    let directory = tempfile::tempdir().unwrap();
    let grant = format!("{}:/data", directory.path().display());
    let limits = ["--objects-max", "64", "--memory-max", "64MiB", "--open-files-max", "64"];
    let ended = finish(run(guest("process_moved")).args(["--dir", &grant]).args(limits)).expect_code(0);
    // In the middle of a line, where another text without an end precedes the check.
    for what in [
        "a file is there for the child that it was moved into",
        "which removes it",
        "and for one that it was sent to",
        "which removes it, too",
        "what is buffered is written once",
        "only the child makes and renames files",
        "nobody is told what the child is to tell",
        "the child tells it, once",
        "a pipeline of ends that were moved",
        "and its end",
        "what was moved leaves nothing behind",
        "what is borrowed is given back",
        "and drops what it would have moved",
    ] {
        assert!(ended.stdout.contains(&format!("ok: {what}\n")), "no {what:?}\n{ended}");
    }
    assert_eq!(ended.all("MainProcess removes"), Vec::<&str>::new(), "{ended}");
    assert_eq!(ended.all("Process-1 removes"), [" a file"], "{ended}");
    assert_eq!(ended.stdout.matches("(and that is done)").count(), 1, "{ended}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "{ended}");
}

#[test]
fn a_panic_is_one_whatever_its_hook_does() {
    finish(&mut run(guest("panics"))).expect_code(0).expect_checks(&[
        "a hook that says nothing",
        "a hook that panics",
        "none but the standard library's",
        "a hook that starts a process",
        "an abort is none",
        "a task whose hook says nothing",
        "a task whose hook says nothing, which drops what a child has",
        "a pool of a program whose hook says nothing",
        "in the middle of a line",
        "in a destructor, of what was moved into a child",
        "in the encoding of an item",
        "in the decoding of an item",
        "with a lock",
        "in an input",
        "in an initializer",
        "in the decoding of arguments",
        "what others have is as it was",
    ]);
    let silent = finish(run(guest("panics")).args(["--", "silent"])).expect_code(1);
    assert_eq!((&*silent.stdout, &*silent.stderr), ("before", ""));
    finish(run(guest("panics")).args(["--", "in-hook"])).expect_code(1);
    finish(run(guest("panics")).args(["--memory-max", "64MiB", "--", "memory"])).expect_code(1);
}

#[test]
fn children_inherit_nothing_that_was_read_ahead() {
    let (run, mut stdin) = Run::start_with_stdin(&mut run(guest("stdin_lines")));
    let long = "x".repeat(100_000);
    write!(stdin, "first\nsecond\n\n{long}\nthe end, without one").unwrap();
    drop(stdin);
    run.finish().expect_code(0).expect_checks(&[
        "workers read nothing",
        "the one behind it",
        "and all the rest, long lines too",
        "and the end of it",
    ]);
}
