//! Modules of today, of any compiler, use these: proposals of WebAssembly, reactors, preview 0, no memory, imports that nobody
//! provides, deep stacks.

mod collected;
mod proposals;
mod unknown_imports;

use std::path::{Path, PathBuf};
use std::process::Command;

use sandpool::{ExitStatus, Module, Run, Sandbox, Trap};
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
/// How a program of the library's ends.
#[track_caller]
fn ends(sandbox: Sandbox, text: &str) -> ExitStatus {
    sandpool::set_executable(sandpool_bin());
    let module = Module::builder().sandbox(sandbox.clone()).load("guest", text.as_bytes()).unwrap();
    Run::builder(&module).sandbox(sandbox).start().unwrap().wait().unwrap().status
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
