//! Guests that mean harm, beside honest ones: those come to the right result, and are not held up until the others are
//! ended.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use crate::procfs;
use crate::support::{Ended, Run, finish, guest, repository, run, sandpool_bin};

/// Far more than an honest program needs, and far less than the machine has.
const LIMITS: [&str; 8] =
    ["--memory-max", "64MiB", "--arena-size", "16MiB", "--processes-max", "24", "--on-deadlock", "report"];

/// The deeds that a hostile guest does without end; see the guest.
const ENDLESS: [&str; 9] =
    ["loop", "fork", "spawn", "output", "objects", "arena", "handles", "protocol", "wake"];

fn hostile(arguments: &[&str]) -> Run {
    // A flood that nobody reads would soon be none.
    let mut command = std::process::Command::new("sh");
    command.args(["-c", r#"exec "$@" >/dev/null"#, "sh"]).arg(sandpool_bin()).arg("run").args(LIMITS);
    command.arg(guest("hostile")).arg("--").args(arguments);
    Run::start(&mut command)
}

fn beside(what: &str) -> Ended {
    let mut command = run(guest("hostile"));
    // So that the table is full before the machine is. And the table of objects before the arena: who shares one shares its
    // room.
    let limits = LIMITS.map(|limit| if limit == "16MiB" && what == "objects" { "256MiB" } else { limit });
    command.args(limits).args(["--", "beside", what]);
    finish(&mut command)
}

/// Each in a run of its own, all at once, and an honest run among them.
#[test]
fn hostile_runs_do_not_keep_an_honest_one_from_its_end() {
    let runs: Vec<_> = ENDLESS.into_iter().map(|what| (what, hostile(&[what]))).collect();
    for (_, run) in &runs {
        run.wait_for_error_line("at it");
    }
    for _ in 0..3 {
        let ended = finish(run(guest("hostile")).args(["--", "beside", "nothing"])).expect_code(0);
        assert_eq!(ended.all("ok: "), ["3000 items went there and back"], "{ended}");
    }
    for (what, run) in runs {
        // Not one had to end first.
        assert!(procfs::parent(run.embedder()).is_some(), "{what} has ended\n{}", run.printed());
        assert!(procfs::kill(run.embedder(), Signal::SIGKILL, |pid| pid == run.embedder()));
        run.finish().expect_signal(Signal::SIGKILL);
    }
}

/// In the same run: one arena, one process table, the same standard streams.
#[test]
fn a_hostile_process_does_not_keep_its_neighbours_from_their_end() {
    // Not `arena`: who shares one shares its room.
    for what in ENDLESS.into_iter().filter(|what| *what != "arena") {
        let ended = beside(what).expect_code(0);
        // A line that is longer than 64 KiB doesn't wait for its end; so the flood may have left one open.
        let honest = ended.stdout.matches("ok: 3000 items went there and back\n").count();
        let hostile = ended.stdout.matches("hostile: killed: SIGKILL\n").count();
        assert_eq!((honest, hostile), (1, 1), "{what}");
    }
}

#[test]
fn a_hostile_process_that_goes_too_far_ends_alone() {
    for (what, end) in [("recursion", "limited: stack 1 MiB"), ("nothing", "exited: 0")] {
        let ended = beside(what).expect_code(0);
        let lines: Vec<_> = ended.stdout.lines().collect();
        assert_eq!(lines, ["ok: 3000 items went there and back", &format!("hostile: {end}")], "{ended}");
    }
    let ended = beside("memory").expect_code(0);
    assert!(ended.all("ok: ") == ["3000 items went there and back"], "{ended}");
}

/// Modules that somebody would write by hand, and what becomes of them.
#[test]
fn hostile_modules_are_refused_or_end() {
    let program = |inside: &str, start: &str| {
        format!(r#"(module {inside} (memory (export "memory") 1) (func (export "_start") {start}))"#)
    };
    let tables: String = (0..90).map(|_| "(table 1000000 funcref)").collect();
    let data = "x".repeat(1 << 20);
    // Each is another one than all before.
    let types: String = (0..20_000)
        .map(|at| {
            let fields: String =
                (0..15).map(|bit| if at >> bit & 1 == 0 { " i32" } else { " i64" }).collect();
            format!("(type (struct (field{fields})))")
        })
        .collect();
    let hierarchy = |depth: usize| -> String {
        let below = (1..depth).map(|at| format!("(type $t{at} (sub $t{} (struct (field i32))))", at - 1));
        std::iter::once("(type $t0 (sub (struct (field i32))))".to_owned()).chain(below).collect()
    };
    for (name, text, code) in [
        ("tables", program(&tables, ""), 134),
        ("a table without end", program("(table 4000000000 funcref)", ""), 134),
        (
            "a table that grows",
            program(
                "(table $t 1 funcref)",
                "(loop $l (br_if $l (i32.ne (i32.const -1)
                   (table.grow $t (ref.null func) (i32.const 100000)))))",
            ),
            0,
        ),
        (
            "memory that grows",
            program("", "(loop $l (br_if $l (i32.ne (i32.const -1) (memory.grow (i32.const 100)))))"),
            0,
        ),
        (
            "a giant segment",
            program("", "").replace(" 1)", &format!(" 17) (data (i32.const 0) \"{data}\")")),
            0,
        ),
        (
            "a segment outside",
            program("", "").replace(" 1)", " 1) (data (i32.const 65530) \"12345678\")"),
            134,
        ),
        (
            "a start function that never returns",
            r#"(module (memory (export "memory") 1) (func $s (call $s)) (start $s) (func (export "_start")))"#.to_owned(),
            134,
        ),
        ("memory beyond the limit from the start", program("", "").replace(" 1)", " 65536)"), 134),
        (
            "an array that is larger than any memory",
            program("(type $a (array i64))", "(drop (array.new $a (i64.const 0) (i32.const -1)))"),
            134,
        ),
        (
            "objects without end",
            program(
                "(type $l (struct (field (ref null $l)))) (global $all (mut (ref null $l)) (ref.null $l))",
                "(loop $l (global.set $all (struct.new $l (global.get $all))) (br $l))",
            ),
            134,
        ),
        (
            "a table of objects that is as large as can be",
            program(
                "(type $s (struct)) (table $t 1 (ref null $s))",
                "(local $i i32)
                 (loop $l (br_if $l (i32.ne (i32.const -1) (table.grow $t (struct.new $s) (i32.const 10000)))))
                 (loop $l (drop (struct.new $s))
                    (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000000))))",
            ),
            0,
        ),
        (
            "exceptions from far below",
            program(
                "(tag $t) (func $down (param i32)
                    (if (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1)))) (else (throw $t))))
                 (func $once (block $caught (try_table (catch $t $caught) (call $down (i32.const 5000)))))",
                "(local $i i32) (loop $l (call $once)
                    (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100))))",
            ),
            0,
        ),
        (
            "exceptions that throw in their handlers",
            program(
                "(tag $t) (func $again (block $caught (try_table (catch_all $caught) (throw $t))) (call $again))",
                "(call $again)",
            ),
            134,
        ),
        ("types by the ten thousand", program(&types, ""), 0),
        ("a hierarchy as deep as can be", program(&hierarchy(63), ""), 0),
        ("a hierarchy that is deeper", program(&hierarchy(65), ""), 121),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hostile.wat");
        fs::write(&path, text).unwrap();
        let ended = finish(run(&path).args(LIMITS));
        assert_settled(name, &ended);
        assert_eq!(ended.status.code(), Some(code), "{name}\n{ended}");
    }
}

/// It ended in a way that is documented, and said so in plain words if it didn't end well.
#[track_caller]
fn assert_settled(name: &str, ended: &Ended) {
    let code = ended.status.code().unwrap_or_else(|| panic!("{name} has killed the command\n{ended}"));
    assert!(!ended.stderr.contains("panicked"), "{name}\n{ended}");
    assert!(code == 0 || ended.stderr.contains("error: "), "{name}\n{ended}");
    // Neither the supervisor's end nor anything internal.
    assert!([0, 1, 121, 134].contains(&code), "{name}\n{ended}");
}

/// Modules that a generator has made, which call the imports with whatever they have: see tests/fuzz/corpus/modules.
fn corpus() -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(repository().join("tests/fuzz/corpus/modules"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some("wasm".as_ref()))
        .collect();
    all.sort();
    assert!(all.len() >= 40, "only {} modules", all.len());
    all
}

#[test]
fn generated_modules_end_or_are_ended() {
    let mut ends = std::collections::BTreeMap::new();
    for module in corpus() {
        let name = Path::new(module.file_name().unwrap()).display().to_string();
        let started = Run::start(run(&module).args(LIMITS));
        // Some loop for ever: an honest run later, what hasn't ended is ended.
        finish(run(guest("hostile")).args(["--", "beside", "nothing"])).expect_code(0);
        let was_killed =
            procfs::kill(started.embedder(), Signal::SIGKILL, |pid| procfs::parent(pid).is_some());
        let ended = started.finish();
        if was_killed && ended.status.code().is_none() {
            ended.expect_signal(Signal::SIGKILL);
            *ends.entry("endless".to_owned()).or_insert(0) += 1;
        } else {
            assert_settled(&name, &ended);
            *ends.entry(format!("{:?}", ended.status.code())).or_insert(0) += 1;
        }
    }
    // A corpus of nothing but refusals would test little.
    eprintln!("{ends:?}");
    assert!(ends.len() >= 3, "{ends:?}");
}
