//! Modules of today, of any compiler, use these: proposals of WebAssembly, reactors, preview 0, no memory, imports that nobody
//! provides, deep stacks.

use std::path::{Path, PathBuf};
use std::process::Command;

use sandpool::limits::Limit;
use sandpool::module::UnknownImports;
use sandpool::{ErrorKind, ExitStatus, Limits, Module, Run, Sandbox, Trap};
use tempfile::TempDir;

use crate::support::{Ended, finish, run, sandpool, sandpool_bin};

const MODULE: i32 = 121;
const TRAPPED: i32 = 134;

/// A folder with modules, and with a cache of its own.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn module(&self, text: &str) -> PathBuf {
        self.file("program.wat", text)
    }

    fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = sandpool();
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env("SANDPOOL_CACHE_DIR", self.0.path().join("cache"));
        command
    }
}

/// A program of this text, with these arguments of `sandpool run`.
#[track_caller]
fn runs(arguments: &[&str], text: &str) -> Ended {
    let folder = Folder::new();
    finish(run(folder.module(text)).args(arguments))
}

/// The features that every module here may use.
const IMPORTS: &str = r#"
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
    (import "sandpool_process" "join" (func $join (param i64 i64) (result i32)))
    (import "sandpool_process" "status" (func $status (param i64 i32) (result i32)))
    (memory (export "memory") 1)"#;

fn program(inside: &str, start: &str) -> String {
    format!(r#"(module {IMPORTS} {inside} (func (export "_start") {start}))"#)
}

/// Each of these ends with 7 if the proposal does what it should.
#[test]
fn proposals_of_webassembly() {
    let exceptions = (
        "(tag $number (param i32)) (func $throws (param i32) (throw $number (local.get 0)))
         (func $nested (param i32) (result i32)
            (block $caught (result i32)
                (try_table (catch $number $caught) (call $throws (local.get 0)))
                (i32.const 1)))",
        "(call $exit (call $nested (i32.const 7)))",
    );
    let rethrown = (
        "(tag $a) (func $f
            (block $again (result exnref) (try_table (catch_all_ref $again) (throw $a)) unreachable) (throw_ref))",
        "(block $done (try_table (catch $a $done) (call $f)) unreachable) (call $exit (i32.const 7))",
    );
    let tail_calls = (
        "(func $down (param i32) (result i32)
            (if (result i32) (local.get 0)
                (then (return_call $down (i32.sub (local.get 0) (i32.const 1)))) (else (i32.const 7))))",
        "(call $exit (call $down (i32.const 10000000)))",
    );
    let functions = (
        "(type $f (func (result i32))) (elem declare func $seven) (func $seven (type $f) (i32.const 7))
         (func $calls (param (ref $f)) (result i32) (call_ref $f (local.get 0)))",
        "(call $exit (call $calls (ref.func $seven)))",
    );
    let structs = (
        "(type $list (struct (field $value i32) (field $next (ref null $list))))",
        "(local $l (ref null $list))
         (local.set $l (struct.new $list (i32.const 3) (struct.new $list (i32.const 4) (ref.null $list))))
         (call $exit (i32.add
            (struct.get $list $value (local.get $l))
            (struct.get $list $value (struct.get $list $next (local.get $l)))))",
    );
    let arrays = (
        "(type $bytes (array (mut i8)))",
        "(local $a (ref $bytes)) (local.set $a (array.new $bytes (i32.const 1) (i32.const 5)))
         (array.set $bytes (local.get $a) (i32.const 4) (i32.const 2))
         (call $exit (i32.add (array.len (local.get $a)) (array.get_u $bytes (local.get $a) (i32.const 4))))",
    );
    let small = ("", "(call $exit (i31.get_u (ref.cast i31ref (ref.i31 (i32.const 7)))))");
    let subtypes = (
        "(type $a (sub (func (result i32)))) (type $b (sub $a (func (result i32)))) (table 1 1 funcref)
         (elem (i32.const 0) $f) (func $f (type $b) (i32.const 7))",
        "(call $exit (call_indirect (type $a) (i32.const 0)))",
    );
    let groups = (
        "(rec (type $a (struct (field (ref null $b)))) (type $b (struct (field i32))))",
        "(call $exit (struct.get $b 0 (struct.get $a 0 (struct.new $a (struct.new $b (i32.const 7))))))",
    );
    let memories = (
        "(memory $second 1)",
        "(i32.store $second (i32.const 8) (i32.const 7)) (call $exit (i32.load $second (i32.const 8)))",
    );
    let relaxed_vectors =
        ("", "(call $exit (i32x4.extract_lane 0 (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 7 7 7 7))))");
    let constants =
        ("(global $seven i32 (i32.add (i32.const 3) (i32.const 4)))", "(call $exit (global.get $seven))");
    for (inside, start) in [
        exceptions,
        rethrown,
        tail_calls,
        functions,
        structs,
        arrays,
        small,
        subtypes,
        groups,
        memories,
        relaxed_vectors,
        constants,
    ] {
        let ended = runs(&[], &program(inside, start));
        assert_eq!(ended.status.code(), Some(7), "{inside}\n{ended}");
    }
}

#[test]
fn proposals_that_are_refused_and_why() {
    let legacy = "(tag $a) (func try throw $a catch_all end)";
    for (inside, problem, hint) in [
        ("(memory $m i64 1)", "memory64", "pointers of WASI and Sandpool have 32 bits"),
        ("(table i64 1 funcref)", "memory64", "pointers of WASI and Sandpool have 32 bits"),
        ("(memory $m 1 1 shared)", "a shared memory", "Sandpool's processes run in parallel"),
        (
            "(func (drop (memory.atomic.notify (i32.const 0) (i32.const 1))))",
            "threads",
            "a guest's process has one",
        ),
        (legacy, "legacy_exceptions", "-wasm-use-legacy-eh=false"),
        ("(type $f (func)) (type $c (cont $f))", "", "without threads and 64-bit memories"),
        (
            "(func (drop (drop (i64.add128 (i64.const 1) (i64.const 1) (i64.const 1) (i64.const 1)))))",
            "",
            "3.0",
        ),
    ] {
        let ended = runs(&[], &program(inside, "")).expect_code(MODULE);
        assert!(ended.stderr.contains(problem) && ended.stderr.contains(hint), "{inside}\n{ended}");
        assert_eq!(ended.stderr.lines().count(), 2, "{ended}");
    }
}

/// Types of the same parameters and results may be different types.
#[test]
fn imports_have_the_type_that_the_host_has() {
    const HOST: &str = "(i32) -> ()";
    for ty in ["(type $t (sub (func (param i32))))", "(rec (type $t (func (param i32))) (type (func)))"] {
        let text = format!(
            r#"(module {ty} (import "wasi_snapshot_preview1" "proc_exit" (func (type $t)))
                (memory (export "memory") 1) (func (export "_start")))"#
        );
        let ended = runs(&[], &text).expect_code(MODULE);
        let expected = format!("proc_exit as {HOST} in a hierarchy of types, but it is {HOST}\n");
        assert!(ended.stderr.contains(&expected), "{ended}");
    }
    // A group of one is no other type.
    let alone = r#"(module (rec (type $t (func (param i32)))) (import "wasi_snapshot_preview1" "proc_exit" (func (type $t)))
        (memory (export "memory") 1) (func (export "_start") (call 0 (i32.const 7))))"#;
    runs(&[], alone).expect_code(7);
}

/// How a program of the library's ends.
#[track_caller]
fn ends(sandbox: Sandbox, text: &str) -> ExitStatus {
    sandpool::set_executable(sandpool_bin());
    let module = Module::builder().sandbox(sandbox.clone()).load("guest", text.as_bytes()).unwrap();
    Run::builder(&module).sandbox(sandbox).start().unwrap().wait().unwrap().status
}

#[test]
fn an_exception_that_nobody_catches_has_its_name() {
    let text = program(
        "(tag $a (param i32)) (func $deep (throw $a (i32.const 1))) (func $outer (call $deep))",
        "(call $outer)",
    );
    let ended = runs(&[], &text).expect_code(TRAPPED);
    assert!(
        ended.stderr.starts_with("error: process 'MainProcess' trapped: uncaught exception\n"),
        "{ended}"
    );
    assert_eq!(ends(Sandbox::new(), &text), ExitStatus::Trapped(Trap::UncaughtException));
    // In what runs first, it is the module's fault as well.
    let early =
        format!("(module {IMPORTS} (tag $a) (func $s (throw $a)) (start $s) (func (export \"_start\")))");
    assert_eq!(ends(Sandbox::new(), &early), ExitStatus::Trapped(Trap::UncaughtException));
}

#[test]
fn traps_of_collected_objects_have_their_names() {
    const TYPES: &str = "(type $s (struct (field i32))) (type $a (array i32))";
    for (start, trap) in [
        ("(drop (struct.get $s 0 (ref.null $s)))", Trap::NullReference),
        (
            "(drop (array.get $a (array.new $a (i32.const 1) (i32.const 1)) (i32.const 1)))",
            Trap::ArrayOutOfBounds,
        ),
        ("(drop (ref.cast (ref $a) (struct.new $s (i32.const 1))))", Trap::CastFailure),
    ] {
        assert_eq!(ends(Sandbox::new(), &program(TYPES, start)), ExitStatus::Trapped(trap), "{start}");
    }
}

/// Makes lists of `$count` elements. All but the last list are garbage.
const LISTS: &str = "
    (type $list (struct (field i64) (field (ref null $list))))
    (global $kept (mut (ref null $list)) (ref.null $list))
    (func $make (param $count i32)
        (global.set $kept (ref.null $list))
        (loop $more
            (global.set $kept (struct.new $list (i64.const 1) (global.get $kept)))
            (br_if $more (local.tee $count (i32.sub (local.get $count) (i32.const 1))))))
    (func $len (result i32) (local $at (ref null $list)) (local $len i32)
        (local.set $at (global.get $kept))
        (block $end (loop $next
            (br_if $end (ref.is_null (local.get $at)))
            (local.set $len (i32.add (local.get $len) (i32.const 1)))
            (local.set $at (struct.get $list 1 (local.get $at)))
            (br $next)))
        (local.get $len))";

/// Repeats this ten times.
fn ten_times(body: &str) -> String {
    format!(
        "(local $round i32)
        (loop $again {body}
            (br_if $again (i32.lt_u (local.tee $round (i32.add (local.get $round) (i32.const 1))) (i32.const 10))))"
    )
}

#[test]
fn collected_objects_count_as_memory() {
    let kept = program(LISTS, "(call $make (i32.const 4000000))");
    let sandbox = |limits: Limits| Sandbox::new().limits(limits);
    // More than 100 MB of objects that are all in use.
    assert_eq!(ends(Sandbox::new(), &kept), ExitStatus::Exited(0));
    let limit = 32 << 20;
    let ended = runs(&["--memory-max", "32MiB"], &kept).expect_code(TRAPPED);
    assert!(ended.stderr.contains("limited: memory 32 MiB"), "{ended}");
    assert_eq!(
        ends(sandbox(Limits::default().memory_max(limit)), &kept),
        ExitStatus::Limited(Limit::Memory(limit))
    );
    assert_eq!(
        ends(sandbox(Limits::default().run_memory_max(limit)), &kept),
        ExitStatus::Limited(Limit::RunMemory(limit))
    );
    // As many bytes, of which few are in use at once.
    let garbage = program(LISTS, &ten_times("(call $make (i32.const 100000))"));
    assert_eq!(ends(sandbox(Limits::default().memory_max(limit)), &garbage), ExitStatus::Exited(0));
    // Exceptions are objects, and most are garbage at once.
    let thrown = program(
        "(tag $a (param i64)) (func $round (local $left i32) (local.set $left (i32.const 300000))
            (loop $more
                (block $caught (result i64) (try_table (catch $a $caught) (throw $a (i64.const 1))) unreachable) (drop)
                (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))",
        "(call $round)",
    );
    assert_eq!(ends(sandbox(Limits::default().memory_max(2 << 20)), &thrown), ExitStatus::Exited(0));
}

/// The account of the run has a fork's objects as well.
#[test]
fn collected_objects_of_a_fork_count_for_the_run() {
    let forks = program(
        LISTS,
        "(call $make (i32.const 200000))
         (call $exit (i64.lt_s (call $fork (i32.const 0) (i32.const 0) (i32.const 0)) (i64.const 0)))",
    );
    let limits = |run| Sandbox::new().limits(Limits::default().run_memory_max(run));
    assert_eq!(ends(limits(64 << 20), &forks), ExitStatus::Exited(0));
    assert_eq!(ends(limits(24 << 20), &forks), ExitStatus::Exited(1), "there is no room for two");
}

/// Each process has its own objects: parent and child both go on with theirs, and both collect.
#[test]
fn forked_processes_have_objects_of_their_own() {
    let round = ten_times("(call $make (i32.const 50000))");
    let text = program(
        LISTS,
        &format!(
            "(local $child i64) (local $mine i32) {round}
             (local.set $child (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))
             (if (i64.eqz (local.get $child)) (then
                (if (i32.ne (call $len) (i32.const 50000)) (then unreachable))
                (call $make (i32.const 3))
                (if (i32.ne (call $len) (i32.const 3)) (then unreachable))
                (call $make (i32.const 100000)) (call $make (i32.const 100000)) (call $make (i32.const 5))
                (call $exit (call $len))))
             (if (i32.ne (call $len) (i32.const 50000)) (then unreachable))
             (call $make (i32.const 100000)) (call $make (i32.const 2))
             (if (call $join (local.get $child) (i64.const -1)) (then unreachable))
             (if (call $status (local.get $child) (i32.const 8)) (then unreachable))
             (call $exit (i32.add (i32.load (i32.const 16)) (call $len)))"
        ),
    );
    runs(&[], &text).expect_code(7);
}

/// The process that spawned ones are forked from has an empty heap.
#[test]
fn spawned_processes_begin_without_objects() {
    const MORE: &str = r#"
        (import "sandpool_process" "spawn" (func $spawn (param i32 i32 i32 i32 i32 i32 i32) (result i64)))
        (import "sandpool_process" "entry" (func $entry (param i32 i32) (result i64)))"#;
    const ZEROS: &str =
        "(i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)";
    let start = format!(
        "(local $child i64) (local $sum i32)
         (if (i64.ge_s (call $entry (i32.const 0) (i32.const 0)) (i64.const 0)) (then
            (if (call $len) (then unreachable))
            (call $make (i32.const 200000)) (call $make (i32.const 2))
            (call $exit (call $len))))
         (call $make (i32.const 50000))
         {}
         (if (i32.ne (call $len) (i32.const 50000)) (then unreachable))
         (call $exit (local.get $sum))",
        ten_times(&format!(
            "(local.set $child (call $spawn {ZEROS}))
             (if (call $join (local.get $child) (i64.const -1)) (then unreachable))
             (if (call $status (local.get $child) (i32.const 8)) (then unreachable))
             (local.set $sum (i32.add (local.get $sum) (i32.load (i32.const 16))))"
        ))
        .replacen("(local $round i32)", "", 1),
    );
    let text = program(LISTS, &start).replacen("(module", &format!("(module {MORE}"), 1).replacen(
        "(local $sum i32)",
        "(local $sum i32) (local $round i32)",
        1,
    );
    runs(&[], &text).expect_code(20);
}

/// An exception crosses a fork: the child throws to where its parent catches as well.
#[test]
fn exceptions_after_a_fork() {
    let text = program(
        "(tag $child) (tag $parent (param i64))
         (func $forks (local $id i64)
            (local.set $id (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))
            (if (i64.eqz (local.get $id)) (then (throw $child)))
            (throw $parent (local.get $id)))",
        "(local $id i64)
         (block $is_child
            (block $is_parent (result i64)
                (try_table (catch $child $is_child) (catch $parent $is_parent) (call $forks))
                unreachable)
            (local.set $id)
            (if (call $join (local.get $id) (i64.const -1)) (then unreachable))
            (if (call $status (local.get $id) (i32.const 8)) (then unreachable))
            (call $exit (i32.add (i32.load (i32.const 16)) (i32.const 1))))
         (call $exit (i32.const 6))",
    );
    runs(&[], &text).expect_code(7);
}

/// A module of a task, `answer`, whose output is one byte.
fn task(inside: &str, byte: &str) -> String {
    format!(
        r#"(module
            (import "sandpool_task" "output" (func $output (param i32 i32) (result i32)))
            (memory (export "memory") 1) {inside}
            (func (export "sandpool_task_answer") (param i32 i32) (result i32)
                (i32.store8 (i32.const 0) {byte})
                (call $output (i32.const 0) (i32.const 1))))"#
    )
}

#[test]
fn a_reactor_is_initialized_before_its_tasks() {
    let folder = Folder::new();
    let reactor = r#"(global $state (mut i32) (i32.const 65))
        (func (export "_initialize") (global.set $state (i32.add (global.get $state) (i32.const 1))))"#;
    let module = folder.module(&task(reactor, "(global.get $state)"));
    folder.file("input", "1\n2\n3\n");
    let map = |more: &[&str]| {
        let mut command = folder.command(&["map", "--task", "answer", "--input", "input"]);
        finish(command.args(more).arg(&module)).expect_code(0).expect_stdout(&["B", "B", "B"]);
    };
    map(&[]);
    map(&["--isolation", "task"]);
    let ended = finish(folder.command(&["run"]).arg(&module)).expect_code(MODULE);
    assert!(ended.stderr.contains("the module has tasks, but is not a program"), "{ended}");
}

#[test]
fn a_reactor_without_tasks_is_no_program() {
    let text = r#"(module (memory (export "memory") 1) (func (export "_initialize")) (func (export "add")))"#;
    let ended = runs(&[], text).expect_code(MODULE);
    assert!(ended.stderr.contains("it is a reactor: a library that exports _initialize"), "{ended}");
    assert!(
        ended.stderr.contains("hint: build it as a program: in C without -mexec-model=reactor"),
        "{ended}"
    );
}

#[test]
fn a_program_without_a_memory() {
    let exits = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
        (func (export "_start") (call $exit (i32.add (i32.const 7) (call $yield)))))"#;
    runs(&[], exits).expect_code(7);
    runs(&[], r#"(module (func (export "_start")))"#).expect_code(0);
    runs(&[], r#"(module (memory 1) (func (export "_start") (i32.store (i32.const 0) (i32.const 1))))"#)
        .expect_code(0);
    for import in [
        r#"(import "wasi_snapshot_preview1" "random_get" (func $call (param i32 i32) (result i32)))"#,
        r#"(import "wasi_unstable" "random_get" (func $call (param i32 i32) (result i32)))"#,
        r#"(import "sandpool_task" "output" (func $call (param i32 i32) (result i32)))"#,
    ] {
        let text = format!(
            r#"(module {import} (memory 1) (func $asks (drop (call $call (i32.const 0) (i32.const 1))))
                (func (export "_start") (call $asks)))"#
        );
        let ended = runs(&[], &text).expect_code(TRAPPED);
        let message =
            "trapped: call of an import that needs a memory, and the module exports none as `memory`\n";
        assert!(ended.stderr.contains(message) && ended.stderr.contains("!asks"), "{ended}");
        assert_eq!(ends(Sandbox::new(), &text), ExitStatus::Trapped(Trap::MissingMemory));
        let early = text.replace("(func (export", "(start $asks) (func (export");
        assert_eq!(ends(Sandbox::new(), &early), ExitStatus::Trapped(Trap::MissingMemory));
    }
}

/// Imports that nobody provides, which `$call` calls.
fn unknown(import: &str, start: &str) -> String {
    format!(
        r#"(module (import "env" "{import}" (func $call (param i64) (result externref))) (memory (export "memory") 1)
            (func $asks (drop (call $call (i64.const 1)))) (func (export "_start") {start}))"#
    )
}

#[test]
fn unknown_imports_trap_if_that_is_asked_for() {
    let folder = Folder::new();
    let module = folder.module(&unknown("mystery", ""));
    let run = |more: &[&str]| finish(folder.command(&["run"]).args(more).arg(&module));
    let refused = |ended: Ended| {
        let ended = ended.expect_code(MODULE);
        assert!(ended.stderr.contains("imports env.mystery, which Sandpool does not provide"), "{ended}");
        assert!(ended.stderr.contains("hint: link a library that defines the import"), "{ended}");
    };
    refused(run(&[]));
    run(&["--unknown-imports", "trap"]).expect_code(0);
    // It is in the cache now, and refused all the same.
    refused(run(&[]));
    refused(run(&["--unknown-imports", "refuse"]));
    run(&["--unknown-imports", "trap"]).expect_code(0);
    let wrong = run(&["--unknown-imports", "ignore"]).expect_code(2);
    assert!(wrong.stderr.contains("`ignore` is not what can be done about unknown imports"), "{wrong}");

    let calls = unknown("mystery", "(call $asks)");
    let ended = runs(&["--unknown-imports", "trap"], &calls).expect_code(TRAPPED);
    let message = "trapped: call of an import that Sandpool does not provide: env.mystery\n";
    assert!(ended.stderr.contains(message) && ended.stderr.contains("!asks"), "{ended}");
    let traps = Sandbox::new().unknown_imports(UnknownImports::Trap);
    assert_eq!(ends(traps.clone(), &calls), ExitStatus::Trapped(Trap::UnknownImport));
    let hidden =
        runs(&["--unknown-imports", "trap"], &unknown("\\1b[2J", "(call $asks)")).expect_code(TRAPPED);
    assert!(hidden.stderr.contains("env.\\u{1b}[2J\n"), "{hidden}");
    let error = Module::builder().load("guest", calls.as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Module);

    // Only calls can trap.
    for (item, what) in [
        ("(table 1 funcref)", "env.x, a table"),
        ("(global i32)", "env.x, a global"),
        ("(tag)", "env.x, a tag"),
    ] {
        let text = format!(
            r#"(module (import "env" "x" {item}) (memory (export "memory") 1) (func (export "_start")))"#
        );
        let ended = runs(&["--unknown-imports", "trap"], &text).expect_code(MODULE);
        assert!(
            ended.stderr.contains(what) && ended.stderr.contains("only calls of functions can trap"),
            "{ended}"
        );
    }
    // One name has one type.
    let twice = r#"(module (import "env" "x" (func)) (import "env" "x" (func (param i32)))
        (memory (export "memory") 1) (func (export "_start")))"#;
    let ended = runs(&["--unknown-imports", "trap"], twice).expect_code(MODULE);
    assert!(ended.stderr.contains("env.x as (i32) -> (), but it is () -> ()"), "{ended}");
}

#[test]
fn unknown_imports_of_tasks_trap() {
    let folder = Folder::new();
    let text = task("", "(block (result i32) (call $x) (i32.const 1))").replacen(
        "(module",
        r#"(module (import "env" "x" (func $x))"#,
        1,
    );
    let module = folder.module(&text);
    folder.file("input", "1\n");
    let map = |more: &[&str]| {
        let mut command = folder.command(&["map", "--task", "answer", "--input", "input"]);
        finish(command.args(more).arg(&module))
    };
    map(&[]).expect_code(MODULE);
    let ended = map(&["--unknown-imports", "trap"]).expect_code(119);
    assert!(ended.stderr.contains("call of an import that Sandpool does not provide"), "{ended}");
}

#[test]
fn modules_for_javascript_say_what_they_are() {
    let go = "build it with GOOS=wasip1 GOARCH=wasm";
    let bindgen = "build the crate for wasm32-wasip1 without wasm-bindgen";
    let emscripten = "build it for wasm32-wasip1 with clang and wasi-libc";
    for (module, name, ty, maker, instead) in [
        ("wbg", "__wbg_log_1d3ae", "(param i32)", "wasm-bindgen", bindgen),
        ("./game_bg.js", "__wbindgen_throw", "(param i32 i32)", "wasm-bindgen", bindgen),
        ("__wbindgen_placeholder__", "__wbindgen_describe", "(param i32)", "wasm-bindgen", bindgen),
        ("gojs", "runtime.wasmExit", "(param i32)", "Go", go),
        ("go", "debug", "(param i32)", "Go", go),
        (
            "rb-js-abi-host",
            "rb_wasm_throw_prohibit_rewind_exception",
            "(param i32 i32)",
            "Ruby's package js",
            "Ruby",
        ),
        ("env", "emscripten_resize_heap", "(param i32) (result i32)", "Emscripten", emscripten),
        ("env", "invoke_vii", "(param i32 i32 i32)", "Emscripten", emscripten),
        ("env", "abort", "(param i32 i32 i32 i32)", "AssemblyScript", "wasi-shim"),
    ] {
        // Such modules may import their memory as well, or have no `_start`.
        let text = format!(
            r#"(module (import "env" "memory" (memory 1)) (import "{module}" "{name}" (func {ty})))"#
        );
        let ended = runs(&[], &text).expect_code(MODULE);
        let message = format!(": it is made for JavaScript, by {maker}: it imports {module}.{name}\n");
        assert!(ended.stderr.contains(&message) && ended.stderr.contains(instead), "{ended}");
        assert_eq!(ended.stderr.lines().count(), 2, "{ended}");
    }
}

/// Preview 0: what differs from preview 1.
#[test]
fn programs_of_preview_0() {
    let folder = Folder::new();
    folder.file("data", "0123456789");
    let text = r#"(module
        (import "wasi_unstable" "proc_exit" (func $exit (param i32)))
        (import "wasi_unstable" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_unstable" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_unstable" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
        (import "wasi_unstable" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
        (import "wasi_unstable" "path_filestat_get" (func $path_stat (param i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_unstable" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_unstable" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "data")
        (data (i32.const 16) "hello from preview 0\n")
        (func $ok (param i32) (if (local.get 0) (then (call $exit (i32.add (i32.const 100) (local.get 0))))))
        (func $same (param i64 i64) (if (i64.ne (local.get 0) (local.get 1)) (then unreachable)))
        (func $check_stat (param $at i32)
            ;; One link in 32 bits, ten bytes, and nothing beyond the end.
            (call $same (i64.load8_u offset=16 (local.get $at)) (i64.const 4))
            (call $same (i64.load32_u offset=20 (local.get $at)) (i64.const 1))
            (call $same (i64.load offset=24 (local.get $at)) (i64.const 10))
            (if (i64.eqz (i64.load offset=40 (local.get $at))) (then unreachable))
            (call $same (i64.load offset=56 (local.get $at)) (i64.const -1)))
        (func $place (param $offset i64) (param $whence i32) (param $expected i64)
            (call $ok (call $seek (i32.load (i32.const 64)) (local.get $offset) (local.get $whence) (i32.const 72)))
            (call $same (i64.load (i32.const 72)) (local.get $expected)))
        (func (export "_start")
            (i32.store (i32.const 48) (i32.const 16)) (i32.store (i32.const 52) (i32.const 21))
            (call $ok (call $write (i32.const 1) (i32.const 48) (i32.const 1) (i32.const 56)))
            (call $ok (call $open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 0) (i64.const 0x4026)
                (i64.const 0) (i32.const 0) (i32.const 64)))
            ;; From the beginning is 2, from the end 1, from the present place 0.
            (call $place (i64.const 4) (i32.const 2) (i64.const 4))
            (call $place (i64.const -1) (i32.const 1) (i64.const 9))
            (call $place (i64.const -3) (i32.const 0) (i64.const 6))
            (if (i32.ne (call $seek (i32.load (i32.const 64)) (i64.const 0) (i32.const 3) (i32.const 72)) (i32.const 28))
                (then unreachable))
            (i64.store (i32.const 184) (i64.const -1)) (i64.store (i32.const 312) (i64.const -1))
            (call $ok (call $stat (i32.load (i32.const 64)) (i32.const 128)))
            (call $check_stat (i32.const 128))
            (call $ok (call $path_stat (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 256)))
            (call $check_stat (i32.const 256))
            (if (i32.ne (call $path_stat (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 256)) (i32.const 44))
                (then unreachable))
            ;; Outside of the memory: FAULT.
            (if (i32.ne (call $path_stat (i32.const 3) (i32.const 0) (i32.const 65533) (i32.const 4) (i32.const 256)) (i32.const 21))
                (then unreachable))
            (if (i32.ne (call $stat (i32.load (i32.const 64)) (i32.const 65520)) (i32.const 21)) (then unreachable))
            ;; A clock an hour away, one a millisecond away, and a descriptor that isn't open.
            (i64.store (i32.const 1024) (i64.const 11)) (i64.store offset=32 (i32.const 1024) (i64.const 3600000000000))
            (i32.store offset=24 (i32.const 1024) (i32.const 1))
            (i64.store (i32.const 1080) (i64.const 12)) (i64.store offset=32 (i32.const 1080) (i64.const 1000000))
            (i32.store offset=24 (i32.const 1080) (i32.const 1)) (i64.store offset=16 (i32.const 1080) (i64.const 99))
            (call $ok (call $poll (i32.const 1024) (i32.const 2048) (i32.const 2) (i32.const 80)))
            (call $same (i64.load32_u (i32.const 80)) (i64.const 1))
            (call $same (i64.load (i32.const 2048)) (i64.const 12))
            (i64.store8 offset=8 (i32.const 1024) (i64.const 1)) (i32.store offset=16 (i32.const 1024) (i32.const 77))
            (call $ok (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 80)))
            (call $same (i64.load (i32.const 2048)) (i64.const 11))
            (call $same (i64.load16_u offset=8 (i32.const 2048)) (i64.const 8))
            (call $exit (i32.const 7))))"#;
    let module = folder.module(text);
    let ended = finish(folder.command(&["run", "--dir", ".:/:ro"]).arg(&module)).expect_code(7);
    ended.expect_stdout(&["hello from preview 0"]);
}

/// Subscribes to descriptors, and returns the error of each event: `(fd, kind, error)`.
fn polled(prepare: &str, subscriptions: &[(i32, i32, i32)]) {
    let mut subscribe = String::new();
    let mut check = String::new();
    for (at, (fd, kind, error)) in subscriptions.iter().enumerate() {
        let (subscription, event) = (1024 + 48 * at, 4096 + 32 * at);
        subscribe += &format!(
            "(i64.store (i32.const {subscription}) (i64.const {at})) (i32.store8 offset=8 (i32.const {subscription}) (i32.const {kind}))
             (i32.store offset=16 (i32.const {subscription}) (i32.const {fd}))"
        );
        check += &format!(
            "(call $same (i64.load (i32.const {event})) (i64.const {at}))
             (call $same (i64.load16_u offset=8 (i32.const {event})) (i64.const {error}))
             (call $same (i64.load8_u offset=10 (i32.const {event})) (i64.const {kind}))"
        );
    }
    let count = subscriptions.len();
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func $same (param i64 i64) (if (i64.ne (local.get 0) (local.get 1)) (then unreachable)))
            (func (export "_start") {prepare} {subscribe}
                (if (call $poll (i32.const 1024) (i32.const 4096) (i32.const {count}) (i32.const 80)) (then unreachable))
                (call $same (i64.load32_u (i32.const 80)) (i64.const {count}))
                {check}))"#
    );
    runs(&[], &text).expect_code(0);
}

#[test]
fn a_descriptor_that_is_not_open_is_an_error_of_its_subscription() {
    const BADF: i32 = 8;
    const READ: i32 = 1;
    const WRITE: i32 = 2;
    polled("", &[(55, READ, BADF), (1, WRITE, 0), (55, WRITE, BADF), (-1, READ, BADF)]);
    polled("(drop (call $close (i32.const 0)))", &[(0, READ, BADF)]);
    polled("(drop (call $close (i32.const 1)))", &[(2, WRITE, 0), (1, WRITE, BADF)]);
}

/// Goes down this many calls, each of which takes 16 bytes of stack or more.
fn deep(calls: u32) -> String {
    program(
        "(global $sink (mut i32) (i32.const 0))
         (func $down (param i32)
            (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1)))))
            (global.set $sink (i32.add (global.get $sink) (i32.const 1))))",
        &format!("(call $down (i32.const {calls})) (call $exit (i32.eq (global.get $sink) (i32.const 0)))"),
    )
}

#[test]
fn a_stack_has_the_room_that_there_are_addresses_for() {
    // More than 160 MB of stack.
    let text = deep(10_000_000);
    let ended = runs(&["--stack-max", "64MiB"], &text).expect_code(TRAPPED);
    assert!(ended.stderr.contains("limited: stack 64 MiB"), "{ended}");
    runs(&["--stack-max", "4GiB"], &text).expect_code(0);
    // Far more than a machine has memory: only what is used takes some.
    runs(&["--stack-max", "16384GiB"], &text).expect_code(0);
    for size in ["200000GiB", "17179869183GiB"] {
        let ended = runs(&["--stack-max", size], &text).expect_code(125);
        assert!(ended.stderr.contains("there is no room for a stack of "), "{ended}");
        assert!(ended.stderr.ends_with("hint: give a smaller --stack-max\n"), "{ended}");
    }
}

#[test]
fn the_hard_limit_of_stacks_is_named() {
    let folder = Folder::new();
    let module = folder.module(&deep(1000));
    let limited = |size: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -H -s 200000 && exec "$@""#, "sh"]);
        command.arg(sandpool_bin()).args(["run", "--stack-max", size]).arg(&module);
        finish(&mut command)
    };
    limited("100MiB").expect_code(0);
    let ended = limited("1GiB").expect_code(125);
    assert!(ended.stderr.contains("a process may have 204800000 bytes here"), "{ended}");
    assert!(
        ended.stderr.contains("hint: that is the shell's hard limit: `ulimit -H -s unlimited`"),
        "{ended}"
    );
}

/// How many bytes the command has read when its guest runs.
fn bytes_read(folder: &Folder, module: &Path) -> u64 {
    let (run, stdin) = crate::support::Run::start_with_stdin(folder.command(&["run"]).arg(module));
    run.wait_for_line("ready");
    let io = std::fs::read_to_string(format!("/proc/{}/io", run.embedder())).unwrap();
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap();
    drop(stdin);
    run.finish().expect_code(0);
    read
}

/// A program that prints a line and waits for the end of its input, in a file of more than 8 MB.
fn large(line: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1) (data (i32.const 64) "{line}\n")
            (func (export "_start")
                (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 6))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    );
    let mut module = wat::parse_str(text).unwrap();
    let len = 8 << 20;
    // A custom section: its length, that of its name, its name, and zeros.
    let mut length = 2 + len;
    module.push(0);
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        module.push(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            break;
        }
    }
    module.extend([1, b'x']);
    module.resize(module.len() + len, 0);
    module
}

#[test]
fn a_module_that_was_loaded_before_is_not_read() {
    // A temporary directory may be in memory, where times tell nothing.
    let folder = Folder(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    let module = folder.file("large.wasm", large("ready"));
    assert!(bytes_read(&folder, &module) > 8 << 20, "it must be read once");
    // As long as the file was changed a moment ago, it is read each time.
    let mut read = 0;
    let is_known = crate::procfs::eventually(|| {
        read = bytes_read(&folder, &module);
        read < 1 << 20
    });
    assert!(is_known, "{read} bytes are read each time");
    // A change is seen at once, also one of a single byte.
    for line in ["other", "third", "ready"] {
        std::fs::write(&module, large(line)).unwrap();
        let (run, stdin) = crate::support::Run::start_with_stdin(folder.command(&["run"]).arg(&module));
        run.wait_for_line(line);
        drop(stdin);
        run.finish().expect_code(0);
    }
    // So is a limit that the file exceeds.
    assert!(crate::procfs::eventually(|| bytes_read(&folder, &module) < 1 << 20));
    let mut command = folder.command(&["run", "--module-size-max", "1MiB"]);
    let ended = finish(command.arg(&module)).expect_code(MODULE);
    assert!(ended.stderr.contains("the module has more than 1048576 bytes"), "{ended}");
}
