//! The proposals of WebAssembly that modules may use, and what is said of the others.

use sandpool::{ExitStatus, Sandbox, Trap};

use super::{IMPORTS, MODULE, TRAPPED, ends, program, runs};

/// Each of these ends with 7 if the proposal does what it should.
#[test]
fn proposals_that_modules_may_use_do_what_they_should() {
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

/// An exception crosses a fork: the child throws to where its parent catches as well.
#[test]
fn an_exception_crosses_a_fork() {
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
