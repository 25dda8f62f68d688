//! Imports that nobody provides.

use sandpool::module::UnknownImports;
use sandpool::{ErrorKind, ExitStatus, Module, Sandbox, Trap};

use super::{Folder, MODULE, TRAPPED, ends, runs, task};
use crate::support::{Ended, finish};

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
