//! Bad input gets one message with a cause, a hint where there is one, and the documented exit code.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

const USAGE: i32 = 2;
const MODULE: i32 = 121;
const GRANT: i32 = 122;
const INTERNAL: i32 = 125;

/// A guest that does nothing, and does it well.
const NOTHING: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// A folder with a module in it and a cache of its own.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// `sandpool`, in this folder
    fn sandpool(&self, arguments: &[&str]) -> Command {
        let mut command = crate::support::sandpool();
        command.args(arguments).current_dir(self.folder.path()).env("SANDPOOL_CACHE_DIR", self.cache());
        command
    }

    /// The only module in the cache.
    fn cached(&self) -> PathBuf {
        let files = fs::read_dir(self.cache()).unwrap().map(|file| file.unwrap().path());
        let mut files = files.filter(|file| file.extension().is_some_and(|extension| extension == "cwasm"));
        let file = files.next().unwrap();
        assert!(files.next().is_none(), "one module, one file");
        file
    }
}

/// Runs a command that must fail as it should, and returns its message and its hint.
fn refusal(command: &mut Command, code: i32) -> (String, String) {
    let output = command.env("RUST_BACKTRACE", "1").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "");
    assert!(stderr.lines().count() <= 3, "{stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("backtrace"), "{stderr}");
    let line =
        |start| stderr.lines().find_map(|line: &str| line.strip_prefix(start)).unwrap_or_default().to_owned();
    (line("error: "), line("hint: "))
}

/// Refuses a module with this exit code, and with these words in message and hint.
fn refuses(name: &str, contents: impl AsRef<[u8]>, message: &str, hint: &str) {
    let bench = Bench::new();
    bench.file(name, contents);
    let (said, hinted) = refusal(&mut bench.sandpool(&["run", name]), MODULE);
    assert!(said.contains(name) && said.contains(message), "{said:?} lacks {message:?}");
    assert!(hinted.contains(hint), "{hinted:?} lacks {hint:?}");
}

/// A module with this text inside, and all that a program needs.
fn program(inside: &str) -> String {
    format!(r#"(module {inside} (memory (export "memory") 1) (func (export "_start")))"#)
}

fn runs(bench: &Bench, name: &str) {
    let output = bench.sandpool(&["run", name]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn text_and_binary_modules_load() {
    let bench = Bench::new();
    bench.file("nothing.wat", NOTHING);
    bench.file("nothing.wasm", wat::parse_str(NOTHING).unwrap());
    runs(&bench, "nothing.wat");
    runs(&bench, "nothing.wasm");
    runs(&bench, "nothing.wasm");
}

#[test]
fn files_that_are_something_else_are_refused_by_name() {
    const ADVICE: &str = "wasm32-wasip1";
    refuses("empty.wasm", "", "the file is empty", ADVICE);
    refuses("true.wasm", b"\x7fELF\x02\x01\x01\0", "ELF", ADVICE);
    refuses("a.zip", b"PK\x03\x04rest", "zip archive", "unpack");
    refuses("a.gz", b"\x1f\x8b\x08\0rest", "gzip", "unpack");
    refuses("a.sh", "#!/bin/sh\n", "script", ADVICE);
    refuses("notes.txt", "Dear reader,\n", "text", ".wat");
    refuses("noise.wasm", b"\xff\xfe\xfd\xfc\xfb", "no WebAssembly header", ADVICE);
    refuses("future.wasm", b"\0asm\x02\0\0\0", "version", "");
}

#[test]
fn truncated_modules_are_refused() {
    let whole = wat::parse_str(program("(func (drop (i32.const 1)))")).unwrap();
    for len in [1, 4, 7, whole.len() / 2, whole.len() - 1] {
        refuses("cut.wasm", whole.get(..len).unwrap(), "truncated", "");
    }
}

#[test]
fn malformed_modules_are_refused_with_the_cause() {
    refuses("a.wat", "(module\n  (fun))", "line 2, column 4", "");
    refuses("a.wat", program("(func (result i32))"), "type mismatch", "");
    let mut garbled = wat::parse_str(NOTHING).unwrap();
    garbled.extend([99, 0]);
    refuses("a.wasm", garbled, "section", "");
}

#[test]
fn more_memories_than_a_process_has_addresses_for_are_refused() {
    let memories = |count| program(&"(memory 0)".repeat(count));
    refuses("a.wat", memories(8), "it has 9 memories", "a module may have 8");
    let bench = Bench::new();
    bench.file("b.wat", memories(7));
    runs(&bench, "b.wat");
}

#[test]
fn modules_without_the_exports_of_a_program_are_refused() {
    refuses("a.wat", r#"(module (memory (export "memory") 1))"#, "does not export _start", "as a program");
    let takes = r#"(module (memory (export "memory") 1) (func (export "_start") (param i32)))"#;
    refuses("a.wat", takes, "_start is (i32) -> (), not () -> ()", "");
    let swapped = r#"(module (memory (export "_start") 1) (func (export "memory")))"#;
    refuses("a.wat", swapped, "_start is memory", "");
}

/// A module that has one task, and these exports beside it.
fn with_task(exports: &str) -> String {
    format!(
        r#"(module (memory (export "memory") 1)
            (func (export "sandpool_task_work") (param i32 i32) (result i32) (i32.const 0)) {exports})"#
    )
}

#[test]
fn tasks_without_a_program_are_inspected_and_not_run() {
    let (message, hint) = ("exports no _start: the module has tasks, but is not a program", "sandpool map");
    refuses("a.wat", with_task(""), message, hint);
    refuses("a.wat", with_task(r#"(func (export "_initialize"))"#), message, hint);

    let bench = Bench::new();
    bench.file("tasks.wat", with_task(r#"(@custom "sandpool-tasks" "work\00In\00Out\00E\00 Works.\n\00")"#));
    let output = bench.sandpool(&["inspect", "tasks.wat"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("\ntasks (1)\n  work(In) -> Result<Out, E>  Works.\n"), "{stdout}");
    // Refused with and without it in the cache.
    for _ in 0..2 {
        assert_eq!(
            refusal(&mut bench.sandpool(&["run", "tasks.wat"]), MODULE).0,
            format!("tasks.wat {message}")
        );
    }
}

#[test]
fn tasks_that_are_none_are_refused() {
    let ty = "its export sandpool_task_other is (i32) -> i32, not (i32, i32) -> i32";
    let other = r#"(func (export "sandpool_task_other") (param i32) (result i32) (i32.const 0))"#;
    refuses("a.wat", with_task(other), ty, "");
    refuses("a.wat", program(other), ty, "");
    refuses(
        "a.wat",
        with_task(r#"(func (export "_initialize") (param i32))"#),
        "_initialize is (i32) -> ()",
        "",
    );
    let unnamed = r#"(func (export "sandpool_task_") (param i32 i32) (result i32) (i32.const 0))"#;
    refuses("a.wat", program(unnamed), "name of its task", "another name");
}

#[test]
fn a_task_without_an_sdk_has_its_signature_and_summary() {
    let path = crate::support::repository().join("guest-sdk/abi/examples/upper.wat");
    let module = crate::support::load(path);
    let task = module.task("upper").unwrap();
    assert_eq!(
        (task.signature().as_str(), task.summary().raw()),
        ("upper(text) -> text", "Makes small ASCII letters large.")
    );
}

/// `inspect` reads the text that the macro writes.
#[test]
fn inspect_describes_tasks() {
    let found = sandpool::module::Inspection::from_file(crate::support::guest("tasks")).unwrap();
    let task = |name: &str| found.tasks.iter().find(|task| task.name == name).unwrap();
    for (name, signature, docs) in [
        ("identity", "identity(u64) -> u64", "The input, unchanged."),
        (
            "score",
            "score(Review) -> Result<Score, TooManyStars>",
            "How well somebody likes it.\n\nAn exclamation mark counts as much as a star.",
        ),
        ("bytes.reverse", "bytes.reverse(Vec<u8>) -> Vec<u8>", ""),
        ("repeat", "repeat(String, usize, Option<(char, u8)>) -> String", "Several arguments are a tuple."),
        ("nothing", "nothing()", ""),
        (
            "forked_sum",
            "forked_sum(Vec<u64>) -> Result<u64, Box<dyn std::error::Error>>",
            "A sum that forked processes compute.",
        ),
        (
            "read_set",
            "read_set() -> (u64, u64)",
            "The value that `set` has set, and how often this was called in this process.",
        ),
        ("read_file", "read_file(String) -> Result<String, _>", "The content of a file."),
        ("lines", "lines(String) -> Lines", "The result's type has another name."),
    ] {
        assert_eq!((task(name).signature().as_str(), task(name).docs.raw()), (signature, docs));
    }
    assert_eq!(found.abi_version, Some(1));
    let module = crate::support::load(crate::support::guest("tasks"));
    assert_eq!(module.tasks(), found.tasks);
    assert_eq!(module.task("score").unwrap().name, "score");
    for (wrong, hint) in
        [("scroe", "the nearest name is score"), ("nonsense", "there are: behave, bytes.reverse, ")]
    {
        let error = module.task(wrong).unwrap_err();
        assert_eq!(error.to_string(), format!("tasks.wasm has no task {wrong}"));
        assert!(error.hint().unwrap().starts_with(hint), "{error:?}");
    }
}

#[test]
fn unknown_imports_name_the_nearest() {
    let import = |module, name| program(&format!(r#"(import "{module}" "{name}" (func))"#));
    refuses("a.wat", import("sandpool_process", "forkk"), "sandpool_process.forkk", "sandpool_process.fork");
    refuses("a.wat", import("sandpool_queues", "put"), "sandpool_queues.put", "sandpool_queue.put");
    refuses(
        "a.wat",
        import("wasi_snapshot_preview2", "fd_write"),
        "wasi_snapshot_preview2",
        "wasi_snapshot_preview1.fd_write",
    );
    refuses("a.wat", import("env", "SDL_CreateWindow"), "env.SDL_CreateWindow", "");
    refuses("a.wat", program(r#"(import "env" "table" (table 1 funcref))"#), "env.table", "");
}

#[test]
fn names_in_a_module_cannot_steer_the_terminal() {
    refuses("a.wat", program(r#"(import "env" "\1b[2J" (func))"#), "env.\\u{1b}[2J", "");
}

#[test]
fn imports_of_the_wrong_type_are_refused_with_both_types() {
    let import = program(r#"(import "sandpool_process" "fork" (func (param i32) (result i32)))"#);
    let message = "sandpool_process.fork as (i32) -> i32, but it is (i32, i32, i32) -> i64";
    refuses("a.wat", import, message, "SDK");
    let import = program(r#"(import "wasi_snapshot_preview1" "proc_exit" (global i32))"#);
    refuses("a.wat", import, "proc_exit as global, but it is (i32) -> ()", "");
}

#[test]
fn threads_and_foreign_memories_are_refused() {
    let shared = r#"(module (memory (export "memory") 1 2 shared) (func (export "_start")))"#;
    refuses("a.wat", shared, "threads", "without threads");
    let imported = r#"(module (memory (import "env" "memory") 1) (export "memory" (memory 0)) (func (export "_start")))"#;
    refuses("a.wat", imported, "imports its memory", "--import-memory");
    let wide = r#"(module (memory (export "memory") i64 1) (func (export "_start")))"#;
    refuses("a.wat", wide, "memory64", "64-bit memories");
}

#[test]
fn guests_of_another_abi_version_are_refused() {
    let version =
        |bytes: &str| program(&format!(r#"(@custom "sandpool-abi" "{bytes}") (import "env" "x" (func))"#));
    refuses("old.wat", version("\\00\\00\\00\\00"), "was built for ABI version 0", "rebuild the guest");
    refuses("new.wat", version("\\ff\\00\\00\\00"), "was built for ABI version 255", "update Sandpool");
    refuses("odd.wat", version("\\01"), "too short", "");
    let bench = Bench::new();
    bench.file("same.wat", program(r#"(@custom "sandpool-abi" "\01\00\00\00")"#));
    runs(&bench, "same.wat");
}

#[test]
fn files_that_cannot_be_read_are_named_with_the_cause() {
    let bench = Bench::new();
    let (message, _) = refusal(&mut bench.sandpool(&["run", "nowhere.wasm"]), MODULE);
    assert_eq!(message, "cannot read nowhere.wasm: No such file or directory (os error 2)");
    let (message, _) = refusal(&mut bench.sandpool(&["inspect", "nowhere.wasm"]), MODULE);
    assert!(message.starts_with("cannot read nowhere.wasm"), "{message}");
}

#[test]
fn bad_command_lines_are_refused_with_advice() {
    let bench = Bench::new();
    bench.file("nothing.wat", NOTHING);
    for (arguments, words, advice) in [
        (&["run", "--enb", "A=1", "nothing.wat"][..], "'--enb'", "'--env'"),
        (&["run"], "<MODULE|SOURCE>", "--help"),
        (&["rum"], "'rum'", "'run'"),
        (&["run", "--env", "=1", "nothing.wat"], "the name is missing", "--help"),
        (
            &["run", "--env", "SANDPOOL_NOT_SET_ANYWHERE", "nothing.wat"],
            "does not have the variable",
            "--help",
        ),
        (&["run", "--dir", "data:/in:rw", "nothing.wat"], "not a directory grant", "--help"),
        (&["run", "--arena-size", "1GB", "nothing.wat"], "MiB", "--help"),
        (&["run", "--processes-max", "0", "nothing.wat"], "processes-max", "--help"),
        (&["run", "--bin", "worker", "nothing.wat"], "is a file", "leave --bin out"),
    ] {
        let (message, hint) = refusal(&mut bench.sandpool(arguments), USAGE);
        assert!(message.contains(words), "{message:?} lacks {words:?}");
        assert!(hint.contains(advice), "{hint:?} lacks {advice:?}");
    }
}

#[test]
fn directories_that_cannot_be_granted_are_refused() {
    let bench = Bench::new();
    bench.file("nothing.wat", NOTHING);
    let (message, hint) = refusal(&mut bench.sandpool(&["run", "--dir", "nowhere", "nothing.wat"]), GRANT);
    assert!(message.starts_with("cannot grant the directory nowhere: "), "{message}");
    assert!(hint.contains("make the directory first"), "{hint}");
    let (message, _) =
        refusal(&mut bench.sandpool(&["run", "--dir", "nothing.wat:/in", "nothing.wat"]), GRANT);
    assert!(message.starts_with("cannot grant the directory nothing.wat: "), "{message}");
}

#[test]
fn a_cache_that_others_can_reach_is_refused() {
    let bench = Bench::new();
    bench.file("nothing.wat", NOTHING);
    fs::create_dir(bench.cache()).unwrap();
    fs::set_permissions(bench.cache(), fs::Permissions::from_mode(0o750)).unwrap();
    let (message, hint) = refusal(&mut bench.sandpool(&["run", "nothing.wat"]), INTERNAL);
    assert!(message.contains("cannot use the module cache") && message.contains("0750"), "{message}");
    assert!(hint.contains("0700") && hint.contains("SANDPOOL_CACHE_DIR"), "{hint}");
}

#[test]
fn a_cache_behind_a_link_is_refused() {
    let bench = Bench::new();
    bench.file("nothing.wat", NOTHING);
    fs::create_dir(bench.folder.path().join("elsewhere")).unwrap();
    symlink("elsewhere", bench.cache()).unwrap();
    let (message, _) = refusal(&mut bench.sandpool(&["run", "nothing.wat"]), INTERNAL);
    assert!(message.contains("symbolic link"), "{message}");
}

/// A module runs, also where the machine lacks room for something; and somebody is told why it takes longer.
#[test]
fn without_a_cache_a_module_is_compiled_each_time() {
    let bench = Bench::new();
    bench.file("nothing.wat", NOTHING);
    bench.file("file", "");
    fs::create_dir(bench.folder.path().join("disk")).unwrap();
    let warned = |command: &mut Command, why: &str| {
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.starts_with("warning: the compiled module is not kept: ") && stderr.contains(why),
            "{stderr}"
        );
    };
    let run = || bench.sandpool(&["run", "nothing.wat"]);
    warned(run().env_clear(), "neither XDG_CACHE_HOME nor HOME is set");
    warned(run().env("SANDPOOL_CACHE_DIR", "file"), "cannot use the module cache file: ");
    warned(run().env("SANDPOOL_CACHE_DIR", "file/below"), "cannot use the module cache file/below: ");
    let mut map = bench.sandpool(&["map", "--task", "upper", "--input", "/dev/null"]);
    map.arg(crate::support::repository().join("guest-sdk/abi/examples/upper.wat"));
    let output = map.env("SANDPOOL_CACHE_DIR", "file").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && stderr.starts_with("warning: the compiled module is not kept: "),
        "{stderr}"
    );

    // A full disk, and one that can't be written; then what was in its cache already is used.
    let words = run();
    let script = r#"mount -t tmpfs -o size=8k,mode=700 none disk || exit 77
        echo x > disk/fill; dd if=/dev/zero of=disk/full 2>/dev/null; SANDPOOL_CACHE_DIR=disk "$@" || exit
        mount -o remount,size=8m disk && rm disk/full && SANDPOOL_CACHE_DIR=disk "$@" || exit
        mount -o remount,ro disk && SANDPOOL_CACHE_DIR=disk "$@" || exit
        cp nothing.wat other.wat && echo ';; another' >> other.wat && SANDPOOL_CACHE_DIR=disk "$1" run other.wat"#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(words.get_program()).args(words.get_args()).current_dir(bench.folder.path());
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    if output.status.code() == Some(77) || stderr.starts_with("unshare") {
        eprintln!("skipped: nothing can be mounted here: {stderr}");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(lines[0].ends_with("No space left on device (os error 28)"), "{stderr}");
    assert!(lines[1].ends_with("Read-only file system (os error 30)"), "{stderr}");
}

#[test]
fn the_cache_is_private() {
    let bench = Bench::new();
    bench.file("nothing.wat", NOTHING);
    runs(&bench, "nothing.wat");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&bench.cache()), 0o700);
    assert_eq!(mode(&bench.cached()), 0o600);
}

#[test]
fn a_damaged_artifact_is_compiled_again() {
    let bench = Bench::new();
    bench.file("nothing.wat", NOTHING);
    runs(&bench, "nothing.wat");
    let artifact = bench.cached();
    let whole = fs::read(&artifact).unwrap();
    let mut flipped = whole.clone();
    *flipped.get_mut(whole.len() / 2).unwrap() ^= 0xff;
    for damaged in [Vec::new(), flipped, whole.get(..whole.len() / 2).unwrap().to_vec()] {
        fs::write(&artifact, damaged).unwrap();
        runs(&bench, "nothing.wat");
        assert_eq!(fs::read(bench.cached()).unwrap().len(), whole.len(), "replaced");
    }
    fs::set_permissions(&artifact, fs::Permissions::from_mode(0o644)).unwrap();
    runs(&bench, "nothing.wat");
    assert_eq!(fs::metadata(bench.cached()).unwrap().permissions().mode() & 0o7777, 0o600, "replaced");
}

#[test]
fn inspect_lists_what_run_refuses() {
    let bench = Bench::new();
    bench.file(
        "odd.wat",
        program(r#"(@custom "sandpool-abi" "\07\00\00\00") (import "env" "fork" (func (param i64)))"#),
    );
    let output = bench.sandpool(&["inspect", "odd.wat"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for line in ["ABI version      7 (this Sandpool has 1)", "memory           64.0 KiB, without a maximum"] {
        assert!(stdout.contains(line), "{stdout}");
    }
    assert!(
        stdout.contains("  env  fork  (i64) -> ()  unknown; the nearest is sandpool_process.fork"),
        "{stdout}"
    );
    assert!(stdout.contains("  _start  () -> ()\n"), "{stdout}");
}

#[test]
fn every_command_explains_itself() {
    for arguments in [&["--help"][..], &["run", "--help"], &["map", "--help"]] {
        let output = crate::support::sandpool().args(arguments).output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(
            stdout.contains("Exit codes:") && stdout.contains("121    the module was refused"),
            "{stdout}"
        );
    }
    for command in ["run", "map", "inspect", "completions", "man"] {
        let output = crate::support::sandpool().args([command, "--help"]).output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains("Examples:\n"), "{command}");
    }
}

#[test]
fn completions_and_manual_pages_know_every_flag() {
    let bench = Bench::new();
    let script = bench.sandpool(&["completions", "bash"]).output().unwrap();
    assert!(String::from_utf8(script.stdout).unwrap().contains("--processes-max"));
    assert!(bench.sandpool(&["man", "pages"]).status().unwrap().success());
    let page = fs::read_to_string(bench.folder.path().join("pages/sandpool-run.1")).unwrap();
    assert!(page.contains("processes\\-max"), "{page}");
}
