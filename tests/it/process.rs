//! Processes: start, join, exit status, and what a program sees of them.

use crate::support::{finish, guest, run, run_with};

/// A section of the guest that checks a `Process` from inside.
fn section(name: &str) {
    let ended = finish(&mut run_with("process_basics", &[name])).expect_code(0);
    assert_eq!(ended.all("done: "), [name], "{ended}");
    assert!(ended.all("ok: ").len() >= 2, "{ended}");
}

#[test]
fn names() {
    section("names");
}

#[test]
fn exit_codes() {
    section("exit_codes");
}

#[test]
fn terminate_and_kill() {
    section("signals");
}

#[test]
fn join_with_and_without_a_timeout() {
    section("join");
}

#[test]
fn close() {
    section("close");
}

#[test]
fn daemons() {
    section("daemon");
}

#[test]
fn inherited_processes_are_not_children() {
    section("inherited");
}

#[test]
fn active_children() {
    section("active_children");
}

#[test]
fn parents() {
    section("parent");
}

#[test]
fn the_end_of_a_parent_is_not_missed() {
    finish(&mut run(guest("process_orphan"))).expect_code(0).expect_stdout(&["ok: all were told"]);
}

#[test]
fn sentinels() {
    section("wait");
}

#[test]
fn representations() {
    section("repr");
}

/// One run for all: what one section leaves must not matter to the next.
#[test]
fn all_sections_in_one_run() {
    let ended = finish(&mut run(guest("process_basics"))).expect_code(0);
    assert_eq!(ended.all("done: ").len(), 11, "{ended}");
}

#[test]
fn hello() {
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
    let ended = finish(&mut run(guest("process_spawn"))).expect_code(0);
    for what in ["fresh memory", "large arguments", "a spawn by a forked process", "the queue"] {
        assert!(ended.all("ok: ").contains(&what), "no {what:?}\n{ended}");
    }
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
                 note: 'MainProcess' was refused what is beyond: processes of the run 1 (`processes-max`)\n";
    assert_eq!(ended.stderr, error, "{ended}");
}

/// A slot for the main process and one for another: each start needs the slot of the one before.
#[test]
fn ten_thousand_in_two_slots() {
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

/// What instantiation runs, each spawned process is to run, and not another one in its place.
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

/// What a language without a runtime of ours has of `catch`: the program ends with what that returned.
#[test]
fn only_unreachable_that_was_announced_is_caught() {
    let catching = |export: &str, panicking: u32| {
        module(&format!(
            r#"(module
                 (import "sandpool_process" "catch" (func $catch (param i32 i32) (result i64)))
                 (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                 (memory (export "memory") 1)
                 (data (i32.const 8) "\01")
                 {export}
                 (func (export "_start") (local $result i64)
                   (local.set $result (call $catch (i32.const 7) (i32.const {panicking})))
                   (call $exit (i32.wrap_i64 (i64.and (local.get $result) (i64.const 0xff))))))"#
        ))
    };
    let export = |body: &str| format!(r#"(func (export "sandpool_catch") (param i32) {body})"#);
    let (announced, not_announced, nowhere) = (8, 16, u32::MAX - 1);
    for (what, export, panicking, code) in [
        ("it returns", export("(if (i32.ne (local.get 0) (i32.const 7)) (then unreachable))"), announced, 0),
        ("a panic", export("unreachable"), announced, 1),
        ("no panic", export("unreachable"), not_announced, 134),
        ("a place that is none", export("unreachable"), nowhere, 134),
        ("another trap", export("(drop (i32.div_u (i32.const 1) (i32.const 0)))"), announced, 134),
        ("an exit", export("(call $exit (i32.const 9))"), announced, 9),
        ("no export", String::new(), announced, 0x100 - 2),
        ("one of another type", r#"(func (export "sandpool_catch"))"#.to_owned(), announced, 0x100 - 2),
    ] {
        let ended = finish(&mut run(catching(&export, panicking).path()));
        assert_eq!(ended.status.code(), Some(code), "{what}: {ended}");
    }
}
