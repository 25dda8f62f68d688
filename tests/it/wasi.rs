//! WASI in processes that fork: arguments, environment, clocks, random bytes, directories.

use std::fmt::Write as _;
use std::fs;

use crate::process::module;
use crate::support::{Ended, finish, guest, run, run_with};

const PROCESSES: [&str; 4] = ["MainProcess", "Process-1", "Process-2", "Process-3"];

#[test]
fn arguments_and_environment_are_what_was_granted() {
    let mut command = run(guest("wasi_env_args"));
    command.env("SECRET", "of the host").env("TAKEN", "as it is");
    command.args(["--env", "A=1=2", "--env", "EMPTY=", "--env", "TAKEN", "--", "--flag", "two words", "ü"]);
    let ended = finish(&mut command).expect_code(0);
    let expected: Vec<_> = PROCESSES
        .iter()
        .flat_map(|name| {
            [
                "argument 1: --flag",
                "argument 2: two words",
                "argument 3: ü",
                "variable A=1=2",
                "variable EMPTY=",
                "variable TAKEN=as it is",
            ]
            .map(|line| format!("{name}: {line}"))
        })
        .collect();
    assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn nothing_of_the_hosts_environment_is_granted_by_itself() {
    let ended = finish(run(guest("wasi_env_args")).env("SECRET", "of the host")).expect_code(0);
    ended.expect_stdout(&[]);
}

#[test]
fn sleep_takes_its_time_by_both_clocks_in_each_process() {
    let ended = finish(&mut run(guest("wasi_sleep"))).expect_code(0);
    assert_eq!(
        ended.all("ok: ").iter().filter(|what| **what == "by the monotonic clock").count(),
        3,
        "{ended}"
    );
}

/// A generator with a seed would give forked siblings the same numbers.
#[test]
fn siblings_get_different_random_bytes_and_hash_seeds() {
    for _ in 0..5 {
        finish(&mut run(guest("wasi_random"))).expect_code(0).expect_stdout(&[
            "ok: random bytes differ in each process",
            "ok: hash seeds differ in each process",
        ]);
    }
}

#[test]
fn directories_are_there_as_they_were_granted() {
    let (ro, rw) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(ro.path().join("input.txt"), "from the host\n").unwrap();
    let mut command = run(guest("wasi_files"));
    command.arg("--dir").arg(format!("{}:/ro:ro", ro.path().display()));
    command.arg("--dir").arg(format!("{}:/rw", rw.path().display()));
    let ended = finish(&mut command).expect_code(0);
    for line in
        ["input: from the host", "files: child.txt main.txt spawned.txt", "ok: nothing that wasn't granted"]
    {
        assert!(ended.stdout.lines().any(|found| found == line), "no {line:?}\n{ended}");
    }
    for who in ["main", "child", "spawned"] {
        assert!(
            fs::read_to_string(rw.path().join(who).with_extension("txt")).unwrap().starts_with("written by")
        );
    }
    assert_eq!(
        fs::read_dir(ro.path()).unwrap().count(),
        1,
        "something was written to the read-only directory"
    );
    assert_eq!(fs::read_to_string(ro.path().join("input.txt")).unwrap(), "from the host\n");
}

#[test]
fn no_directory_is_there_without_a_grant() {
    let ended = finish(&mut run(guest("wasi_files"))).expect_code(1);
    assert!(ended.stderr.starts_with("error: "), "{ended}");
}

/// Calls WASI, forks, and waits in the child for two clocks at once, one of them an hour away. The exit code is ten times
/// the number of the clock that has come, and how many have.
fn two_clocks(near: u32, far: u32) -> Ended {
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
          (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
          (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
          (import "sandpool_process" "join" (func $join (param i64 i64) (result i32)))
          (import "sandpool_process" "status" (func $status (param i64 i32) (result i32)))
          (memory (export "memory") 1)
          (func $succeed (param i32) (if (local.get 0) (then unreachable)))
          (func $subscribe (param $at i32) (param $userdata i64) (param $clock i32) (param $nanoseconds i64)
            (i64.store (local.get $at) (local.get $userdata))
            (i32.store offset=16 (local.get $at) (local.get $clock))
            (i64.store offset=24 (local.get $at) (local.get $nanoseconds)))
          (func (export "_start") (local $child i64)
            ;; All that might start a runtime, or a thread, in the parent.
            (call $succeed (call $random (i32.const 0) (i32.const 8)))
            (call $succeed (call $now (i32.const 1) (i64.const 1) (i32.const 0)))
            (call $subscribe (i32.const 256) (i64.const 1) (i32.const 1) (i64.const 1000000))
            (call $succeed (call $poll (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 1024)))
            (local.set $child (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))
            (if (i64.eqz (local.get $child)) (then
              (call $subscribe (i32.const 256) (i64.const 4) (i32.const {far}) (i64.const 3600000000000))
              (call $subscribe (i32.const 304) (i64.const 7) (i32.const {near}) (i64.const 20000000))
              (call $succeed (call $poll (i32.const 256) (i32.const 512) (i32.const 2) (i32.const 1024)))
              (call $exit (i32.add (i32.load (i32.const 1024)) (i32.mul (i32.const 10) (i32.load (i32.const 512)))))))
            (call $succeed (call $join (local.get $child) (i64.const -1)))
            (call $succeed (call $status (local.get $child) (i32.const 2048)))
            (call $exit (i32.load (i32.const 2056)))))"#
    );
    finish(&mut run(module(&text).path()))
}

/// wasmtime-wasi's own `poll_oneoff` hangs or panics here: in the child of a process that has called it before, and
/// with two clocks anywhere.
#[test]
fn a_forked_child_waits_for_two_clocks_at_once() {
    for (near, far) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        two_clocks(near, far).expect_code(71);
    }
}

#[test]
fn a_child_sleeps_after_its_parent_called_wasi() {
    let (run, data) = crate::proc::crowd_that_called_wasi();
    // Its processes are beyond all calls, and asleep.
    drop(run);
    assert_eq!(fs::read(data.path().join("written.txt")).unwrap().len(), 32);
    finish(&mut run_with("wasi_sleep", &[])).expect_code(0);
}

/// In the jail, as every guest is.
#[test]
fn preview_1_call_by_call() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = run(guest("wasi_conformance"));
    command.arg("--dir").arg(format!("{}:/rw", folder.path().display()));
    let ended = finish(&mut command).expect_code(0);
    assert!(ended.all("ok: ").len() > 50, "{ended}");
    let mut left: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["file", "forked", "numbers", "positions", "times"]);
    assert_eq!(fs::read_to_string(folder.path().join("forked")).unwrap(), "parent child");
}

/// Functions of WASI that take pointers: an `i32` each for a descriptor or flags (`i`), a pointer (`p`) and a pointer to
/// vectors (`v`), and for how many bytes or vectors follow one of these (`n`); an `i64` (`l`).
const WITH_POINTERS: [(&str, &str); 32] = [
    ("args_get", "pp"),
    ("args_sizes_get", "pp"),
    ("environ_get", "pp"),
    ("environ_sizes_get", "pp"),
    ("clock_res_get", "ip"),
    ("clock_time_get", "ilp"),
    ("fd_fdstat_get", "ip"),
    ("fd_filestat_get", "ip"),
    ("fd_pread", "ivnlp"),
    ("fd_prestat_get", "ip"),
    ("fd_prestat_dir_name", "ipn"),
    ("fd_pwrite", "ivnlp"),
    ("fd_read", "ivnp"),
    ("fd_readdir", "ipnlp"),
    ("fd_seek", "ilip"),
    ("fd_tell", "ip"),
    ("fd_write", "ivnp"),
    ("path_create_directory", "ipn"),
    ("path_filestat_get", "iipnp"),
    ("path_filestat_set_times", "iipnlli"),
    ("path_link", "iipnipn"),
    ("path_open", "iipnillip"),
    ("path_readlink", "ipnpnp"),
    ("path_remove_directory", "ipn"),
    ("path_rename", "ipnipn"),
    ("path_symlink", "pnipn"),
    ("path_unlink_file", "ipn"),
    ("poll_oneoff", "ppnp"),
    ("random_get", "pn"),
    ("sock_accept", "iip"),
    ("sock_recv", "ivnipp"),
    ("sock_send", "ivnip"),
];

/// Each pointer in turn leads to a mapped range, or from right before it into it; all else is as it should be.
#[test]
fn no_function_uses_what_is_mapped() {
    let (mut imports, mut calls, mut called) = (String::new(), String::new(), Vec::new());
    for (name, params) in WITH_POINTERS {
        let types: String = params.chars().map(|kind| if kind == 'l' { " i64" } else { " i32" }).collect();
        write!(
            imports,
            r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param{types}) (result i32)))"#
        )
        .unwrap();
        for (index, kind) in params.chars().enumerate() {
            // By itself, and for vectors by what one of them says.
            let ways: &[&str] = match kind {
                'p' => &["(local.get $at)"],
                'v' => &["(local.get $at)", "(i32.const 64)"],
                _ => &[],
            };
            for way in ways {
                let others = params.chars().enumerate().map(|(other, kind)| match kind {
                    _ if other == index => *way,
                    'l' => "(i64.const 0)",
                    'n' => "(i32.const 2)",
                    'v' => "(i32.const 128)",
                    'p' => "(i32.const 256)",
                    _ => "(i32.const 1)",
                });
                let arguments: String = others.collect();
                write!(calls, "(call $refused (call ${name} {arguments}) (i32.const {}))", called.len() + 1)
                    .unwrap();
                called.push(format!("{name}, argument {index} as {way}"));
            }
        }
    }
    for read_only in [0, 1] {
        for before in [0, 1] {
            let text = format!(
                r#"(module
                  (import "sandpool_shared" "create" (func $create (param i64 i32 i32 i32) (result i64)))
                  (import "sandpool_shared" "map" (func $map (param i64 i32) (result i64)))
                  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                  {imports}
                  (memory (export "memory") 1)
                  (func $refused (param $errno i32) (param $which i32)
                    (if (i32.ne (local.get $errno) (i32.const 21)) (then (call $exit (local.get $which)))))
                  (func (export "_start") (local $at i32) (local $end i32)
                    (local.set $at (i32.wrap_i64 (call $map
                      (call $create (i64.const 65536) (i32.const 0) (i32.const 0) (i32.const 0))
                      (i32.const {read_only}))))
                    (local.set $end (i32.add (local.get $at) (i32.const 65536)))
                    (local.set $at (i32.sub (local.get $at) (i32.const {before})))
                    (i32.store (i32.const 64) (local.get $at))
                    (i32.store (i32.const 68) (i32.const 8))
                    {calls}
                    (local.set $at (i32.add (local.get $at) (i32.const {before})))
                    (loop $all
                      (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (call $exit (i32.const 110))))
                      (local.set $at (i32.add (local.get $at) (i32.const 8)))
                      (br_if $all (i32.lt_u (local.get $at) (local.get $end))))))"#
            );
            let file = module(&text);
            let mut command = run(file.path());
            command.args(["--env", "NAME=value"]);
            let ended = finish(&mut command);
            let which =
                ended.status.code().and_then(|code| called.get(usize::try_from(code).ok()?.checked_sub(1)?));
            assert_eq!(ended.status.code(), Some(0), "{which:?}, read-only: {read_only}\n{ended}");
        }
    }
}

/// It runs before there is an instance that could have been looked at.
#[test]
fn a_start_function_calls_wasi() {
    let text = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\08\00\00\00")
        (data (i32.const 16) "started\n")
        (func $begin
          (if (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $exit (i32.const 1)))))
        (start $begin)
        (func (export "_start")))"#;
    finish(&mut run(module(text).path())).expect_code(0).expect_stdout(&["started"]);
}

/// WASI has no words for such a name; the others are listed all the same.
#[test]
fn names_that_are_not_utf8_do_not_hide_the_others() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &[u8]| folder.path().join(std::ffi::OsStr::from_bytes(name));
    let list = |dir: &str| {
        let mut command = run(guest("edges"));
        command.args(["--dir", &format!("{}:/d:ro", folder.path().display()), "--", "list", dir]);
        finish(&mut command).expect_code(0).stdout
    };
    fs::create_dir(path(b"sub")).unwrap();
    fs::write(path(b"file"), "").unwrap();
    std::os::unix::fs::symlink("file", path(b"link")).unwrap();
    let expected = "file file\nlink link\nsub directory\n";
    assert_eq!(list("/d"), expected);
    for name in [&b"\xff"[..], b"b\xc3\x28d", b"\xed\xa0\x80"] {
        fs::write(path(name), "").unwrap();
    }
    assert_eq!(list("/d"), expected);
    // More than a buffer holds, in a directory below one that was granted.
    let mut names: Vec<_> =
        (0..2000).map(|number| format!("{number}-{}", "x".repeat(number % 200))).collect();
    for name in &names {
        fs::write(path(b"sub").join(name), "").unwrap();
    }
    fs::write(path(b"sub").join(std::ffi::OsStr::from_bytes(b"\xfe")), "").unwrap();
    names.sort();
    let expected: String = names.iter().map(|name| format!("{name} file\n")).collect();
    assert_eq!(list("/d/sub"), expected);
}

#[test]
fn a_directory_whose_name_has_a_colon_can_be_granted() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("a:b")).unwrap();
    fs::write(folder.path().join("a:b/file"), "").unwrap();
    let list = |grant: &str, path: &str| {
        let mut command = run(guest("edges"));
        finish(command.current_dir(&folder).args(["--dir", grant, "--", "list", path]))
    };
    for (grant, path) in
        [(r"a\:b:/d", "/d"), (r"a\:b:/d:ro", "/d"), (r"a\:b:/x\:y", "/x:y"), (r"a\:b", "a:b")]
    {
        list(grant, path).expect_code(0).expect_stdout(&["file file"]);
    }
    let ended = list("a:b:/d", "/d").expect_code(2);
    assert!(ended.stderr.contains(r"where a colon in a name is written `\:`"), "{ended}");
    let ended = list("a:b", "b").expect_code(122);
    assert!(ended.stderr.contains(r"where a colon in a name is written `\:`"), "{ended}");
}
