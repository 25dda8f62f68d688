//! Nothing that a guest says reaches a terminal or a log raw: not by its name, its errors, its functions' names, nor its file's.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{Ended, finish, repository, run, sandpool};

/// A colour, a title, a DEL, C1 controls, marks of direction, ends of lines and of paragraphs, what can't be seen, and a line
/// that isn't the host's.
const EVIL: &str = "x\u{1b}[31m\u{1b}]0;t\u{7}\u{7f}\u{9b}2J\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\u{2029}\u{200b}\u{feff}\r\nerror: forged";

/// The same in the text of a module.
fn in_wat(text: &str) -> String {
    text.bytes().map(|byte| format!("\\{byte:02x}")).collect()
}

/// Nothing here steers, forges or hides.
#[track_caller]
fn is_fit(text: &str) {
    let is_unfit = |c: &char| {
        (c.is_control() && *c != '\n')
            || matches!(c, '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    assert_eq!(text.chars().find(is_unfit), None, "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("error: forged")), "{text}");
}

/// All that the command has printed is fit for a terminal, and says this.
#[track_caller]
fn says(ended: &Ended, what: &str) {
    is_fit(&ended.stdout);
    is_fit(&ended.stderr);
    assert!(ended.stdout.contains(what) || ended.stderr.contains(what), "no {what}: {ended}");
}

fn case(name: &str) -> PathBuf {
    repository().join("tests/cases").join(name).with_extension("wat")
}

/// A module in a file, in a folder of its own.
fn module(name: &str, text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    (folder, path)
}

const SHOWN: &str = r"x\u{1b}[31m\u{1b}]0;t\u{7}\u{7f}\u{9b}2J\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\u{2029}\u{200b}\u{feff}\r\nerror: forged";

#[test]
fn names_of_processes_cannot_steer_a_terminal() {
    let ended = finish(run(case("name")).arg("--summary"));
    says(
        &ended,
        r"error: process 'x\u{1b}[31mRED\u{1b}]0;title\u{7}\nerror: forged line' trapped: unreachable executed",
    );
    says(&ended, "\nx\\u{1b}[31mRED\\u{1b}]0;title\\u{7}\\nerror: forged line  trapped");
    for (child, says_so) in [
        ("unreachable", format!("error: process '{SHOWN}' trapped: unreachable executed")),
        ("(drop (call $wait (call $event) (i64.const -1)))", format!("deadlock: process '{SHOWN}' (pid ")),
        (
            "(drop (call $event)) (drop (call $event)) unreachable",
            format!("note: '{SHOWN}' was refused more than its limits"),
        ),
    ] {
        let wat = format!(
            r#"(module $child
                (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
                (import "sandpool_process" "join" (func $join (param i64 i64) (result i32)))
                (import "sandpool_sync" "event_create" (func $event (result i64)))
                (import "sandpool_sync" "event_wait" (func $wait (param i64 i64) (result i32)))
                (memory (export "memory") 1)
                (data (i32.const 0) "{evil}")
                (func $child (@name "{evil}") {child})
                (func (export "_start") (local $p i64)
                    (local.set $p (call $fork (i32.const 0) (i32.const {len}) (i32.const 0)))
                    (if (i64.eqz (local.get $p)) (then (call $child)))
                    (drop (call $join (local.get $p) (i64.const -1)))))"#,
            evil = in_wat(EVIL),
            len = EVIL.len(),
        );
        let (_folder, path) = module("child.wat", &wat);
        let ended = finish(run(&path).args(["--summary", "--objects-max", "1"]));
        says(&ended, &says_so);
        // And the function's.
        says(&ended, &format!("child!{SHOWN}\n"));
    }
}

/// A module's imports and exports, the description of its tasks, and its custom sections.
#[test]
fn the_text_in_a_module_cannot_steer_a_terminal() {
    let evil = in_wat(EVIL);
    let wat = format!(
        r#"(module
            (import "{evil}" "{evil}" (func (param i32)))
            (@custom "{evil}" "x")
            (@custom "sandpool-tasks" "task\00{evil}\00{evil}\00{evil}\00{evil}\00")
            (memory (export "memory") 1)
            (func (export "sandpool_task_task") (param i32 i32) (result i32) (i32.const 0))
            (func (export "{evil}")) (func (export "_start")))"#
    );
    let (folder, path) = module("module.wat", &wat);
    let ended = finish(sandpool().arg("inspect").arg(&path)).expect_code(0);
    says(&ended, SHOWN);
    let ended = finish(&mut run(&path)).expect_code(121);
    says(&ended, &format!("module.wat imports {SHOWN}.{SHOWN}, which Sandpool does not provide"));
    let known = wat.replacen(&evil, "sandpool_queue", 1).replacen(&evil, "putt\u{9b}", 1);
    fs::write(&path, known.replace("putt\u{9b}", "putt\\c2\\9b")).unwrap();
    says(&finish(&mut run(&path)).expect_code(121), r"sandpool_queue.putt\u{9b}, which");
    // An embedder that logs an error logs the same.
    sandpool::set_executable(crate::support::sandpool_bin());
    let error = sandpool::Module::from_file(&path).unwrap_err();
    is_fit(&format!("{error} {error:?} {:?}", error.hint()));
    for text in
        [EVIL.to_owned(), format!("(module (func {EVIL}))"), format!("(module (func $a) (func ${EVIL}")]
    {
        fs::write(&path, text).unwrap();
        for command in ["run", "inspect"] {
            let ended = finish(sandpool().arg(command).arg(&path)).expect_code(121);
            says(&ended, "error: module.wat is not a usable WebAssembly module");
        }
    }
    drop(folder);
}

#[test]
fn names_of_files_cannot_steer_a_terminal() {
    // All but the end of a name, of which there can be one.
    let name = format!("{}.wat", EVIL.replace('\0', ""));
    let (folder, path) = module(&name, "(modul");
    for arguments in [&["run"][..], &["inspect"], &["map", "--task", "t"]] {
        says(&finish(sandpool().args(arguments).arg(&path)), &format!("{SHOWN}.wat"));
        let missing = path.with_extension("missing");
        says(&finish(sandpool().args(arguments).arg(&missing)), &format!("{SHOWN}.missing"));
    }
    let error = sandpool::module::Inspection::from_file(path.with_extension("missing")).unwrap_err();
    is_fit(&error.to_string());
    let upper = repository().join("guest-sdk/abi/examples/upper.wat");
    let map = |flag: &str, name: &str| {
        let mut command = sandpool();
        command.args(["map", "--task", "upper"]).arg(&upper).arg(flag).arg(folder.path().join(name));
        finish(&mut command)
    };
    for flag in ["--output", "--errors", "--input", "--config"] {
        says(&map(flag, &format!("none/{EVIL}/x")), SHOWN);
    }
    says(&finish(run(&path).args(["--config"]).arg(&path)), SHOWN);
    says(&finish(run(&upper).arg(format!("--{EVIL}"))).expect_code(2), "error: unexpected argument");
    says(&map("--dir", "x\u{1b}[2J\u{9b}"), r"x\u{1b}[2J\u{9b}");
}

/// Each failure of a map, on stderr and in records.
#[test]
fn errors_of_tasks_cannot_steer_a_terminal() {
    for (name, said, shown) in [
        ("esc", "bad \u{1b}]0;owned\u{7}\u{202e}rtl", r"bad \u{1b}]0;owned\u{7}\u{202e}rtl"),
        ("c1", "bad \u{9b}31mRED\u{7f}\u{202e}rtl", r"bad \u{9b}31mRED\u{7f}\u{202e}rtl"),
    ] {
        fails_with(&case(name), "c1", said, shown, "");
    }
    // One that has written to its stderr as well.
    let wat = format!(
        r#"(module
            (import "sandpool_task" "output" (func $output (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            (@custom "sandpool-tasks" "evil\00text\00text\00\00\00")
            (data (i32.const 0) "{evil}")
            (func (export "sandpool_task_evil") (param i32 i32) (result i32)
                (i32.store (i32.const 500) (i32.const 0))
                (i32.store (i32.const 504) (i32.const {len}))
                (drop (call $write (i32.const 2) (i32.const 500) (i32.const 1) (i32.const 600)))
                (drop (call $output (i32.const 0) (i32.const {len})))
                (i32.const 1)))"#,
        evil = in_wat(EVIL),
        len = EVIL.len(),
    );
    let (_folder, path) = module("evil.wat", &wat);
    fails_with(&path, "evil", EVIL, SHOWN, EVIL);
}

#[track_caller]
fn fails_with(module: &Path, task: &str, said: &str, shown: &str, stderr: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("in"), "a\n").unwrap();
    let map = |arguments: &[&str]| {
        let mut command = sandpool();
        command.current_dir(&folder).args(["map", "--task", task, "--input", "in"]).arg(module);
        finish(command.args(arguments))
    };
    let ended = map(&[]);
    says(&ended, &format!("error: record 0 failed: {shown}\n"));
    assert!(
        stderr.is_empty() || ended.stderr.contains("\n  error: forged\n"),
        "as a part of the message: {ended}"
    );
    let ended = map(&["--on-error", "record"]);
    is_fit(&ended.stderr);
    map(&["--on-error", "record", "--errors", "failed"]);
    let failed = fs::read_to_string(folder.path().join("failed")).unwrap();
    is_fit(&failed);
    assert_eq!(ended.stderr.lines().next(), failed.lines().next());
    // A reader of the record finds the guest's own text.
    let record: serde_json::Value = serde_json::from_str(&failed).unwrap();
    assert_eq!((record["detail"].as_str(), record["stderr"].as_str()), (Some(said), Some(stderr)));
    // And an application that logs it, what people may see.
    let loaded = crate::support::load(module);
    let pool = sandpool::Pool::builder(&loaded).build().unwrap();
    let error = pool.submit_record(task, sandpool::pool::Format::Text, b"a").unwrap().result().unwrap_err();
    is_fit(&format!("{error} {error:?} {}", error.stderr));
    assert_eq!(error.cause, sandpool::pool::Failure::Failed(said.into()));
}
