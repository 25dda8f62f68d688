//! Components: programs, which are those of `tests/guests` in another form, and exported functions as tasks.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use sandpool::pool::{Failure, Isolation};
use sandpool::{ExitStatus, Limits, Module, Pool, Run as LibraryRun, Sandbox};
use tempfile::TempDir;

use crate::procfs;
use crate::support::{Ended, Run, finish, guest, sandpool, sandpool_bin};

/// The program as a component, which `make guests` makes of `component_program`.
fn program() -> PathBuf {
    guest("component_program").with_extension("component.wasm")
}

/// `sandpool run` of the program with these options and arguments.
fn run(options: &[&str], args: &[&str]) -> Command {
    let mut command = sandpool();
    command.arg("run").args(options).arg(program()).arg("--").args(args);
    command
}

fn with_input(mut command: Command, input: &str) -> Ended {
    let (run, mut stdin) = Run::start_with_stdin(&mut command);
    // The program may end before it has read everything.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    run.finish()
}

#[test]
fn a_program_gets_arguments_variables_stdin_clocks_and_random_bytes() {
    finish(&mut run(&["--env", "A=1=2", "--env", "B="], &["facts", "one", "ü"]))
        .expect_code(0)
        .expect_stdout(&[r#"arguments ["one", "ü"]"#, r#"variables [("A", "1=2"), ("B", "")]"#]);
    let long = "a line\n".repeat(50_000);
    let ended = with_input(run(&[], &["upper"]), &long).expect_code(0);
    assert_eq!(ended.stdout, long.to_uppercase());
    assert_eq!(ended.stderr, "350000 bytes\n");
    finish(&mut run(&[], &["clocks"]))
        .expect_code(0)
        .expect_stdout(&["slept long enough: true", "it is after 2020: true"]);
    finish(&mut run(&[], &["random"])).expect_code(0).expect_stdout(&["random bytes differ: true"]);
}

#[test]
fn a_program_ends_as_a_module_does() {
    finish(&mut run(&[], &["exit", "0"])).expect_code(0);
    finish(&mut run(&[], &["exit", "1"])).expect_code(1);
    let panicked = finish(&mut run(&[], &["panic"])).expect_code(134);
    assert!(panicked.stderr.contains("as it was told"), "{panicked}");
    assert!(
        panicked.stderr.contains("error: process 'MainProcess' trapped: unreachable executed"),
        "{panicked}"
    );
}

/// The only guest of a run that waits: found without the supervisor, which may not be there yet.
fn waiting_guest(run: &Run) -> procfs::Pid {
    let guests = || run.processes().into_iter().filter(|pid| procfs::name(*pid) == "sandpool-guest");
    let sleeps = |pid| procfs::status_line(pid, "State").is_some_and(|state| state.trim().starts_with('S'));
    let found = procfs::eventually(|| guests().count() == 1 && guests().all(sleeps));
    assert!(found, "no guest waits\n{}", run.printed());
    guests().next().unwrap()
}

/// One process, and one thread in it: nothing that a component calls starts another, while it waits or works.
#[test]
fn a_program_has_one_thread() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let grant = format!("{}:/data", dir.path().display());
    let (run, stdin) = Run::start_with_stdin(&mut run(&["--dir", &grant], &["upper"]));
    assert_eq!(procfs::threads(waiting_guest(&run)), 1, "it waits for stdin");
    drop(stdin);
    run.finish().expect_code(0);
    let run = Run::start(&mut self::run(&["--dir", &grant], &["wait"]));
    assert_eq!(procfs::threads(waiting_guest(&run)), 1, "it sleeps");
    run.finish_by(Signal::SIGTERM).expect_signal(Signal::SIGTERM);
}

#[test]
fn a_program_reaches_the_files_of_its_grants_and_no_others() {
    let (ro, rw) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(ro.path().join("input.txt"), "from the host\n").unwrap();
    std::os::unix::fs::symlink(ro.path(), rw.path().join("out")).unwrap();
    let grants = [format!("{}:/ro:ro", ro.path().display()), format!("{}:/rw", rw.path().display())];
    finish(&mut run(&["--dir", &grants[0], "--dir", &grants[1]], &["files", "/ro", "/rw"]))
        .expect_code(0)
        .expect_stdout(&[
            "read: from the host",
            "write where one may only read: true",
            "begin: 01234five901",
            "end: the end, 200007 bytes",
            "read beyond the end: 0",
            "cut: 012",
            "listed: below out",
            "listed: moved",
            "outside: true",
            "outside: true",
            "outside: true",
        ]);
    assert_eq!(fs::read_dir(rw.path()).unwrap().count(), 1, "only the link is left");
    assert_eq!(fs::read_dir(ro.path()).unwrap().count(), 1, "nothing came through the link");
}

#[test]
fn limits_hold_for_a_program() {
    let limited = |options: &[&str], args: &[&str], expected: &str| {
        let ended = finish(&mut run(options, args));
        assert_ne!(ended.status.code(), Some(0), "{ended}");
        assert!(ended.stderr.contains(expected), "{expected}\n{ended}");
    };
    limited(&["--run-wall-time", "300ms"], &["wait"], "300 ms");
    limited(&["--wall-time", "300ms"], &["wait"], "300 ms");
    limited(&["--cpu-time", "300ms"], &["spin"], "300 ms");
    limited(&["--fuel", "10000000"], &["spin"], "fuel 10000000");
    limited(&["--memory-max", "64MiB"], &["grow"], "memory 64 MiB");
    limited(&["--stdio-max", "1MiB"], &["flood"], "1 MiB");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let grant = format!("{}:/data", dir.path().display());
    let size = || fs::metadata(dir.path().join("filled")).unwrap().len();
    let filled = finish(&mut run(&["--dir", &grant, "--file-bytes-max", "1MiB"], &["fill", "/data/filled"]));
    assert!(filled.stdout.starts_with("1048576: "), "{filled}");
    assert_eq!(size(), 1 << 20);
    let filled = finish(&mut run(&["--dir", &grant, "--file-size-max", "512KiB"], &["fill", "/data/filled"]));
    assert!(filled.stdout.starts_with("524288: "), "{filled}");
    assert_eq!(size(), 512 << 10);
    let opened = finish(&mut run(&["--dir", &grant, "--open-files-max", "20"], &["open", "/data/file"]));
    let count: u32 = opened.stdout.split(':').next().unwrap().parse().unwrap();
    // One descriptor more is for a moment's need of the host.
    assert!((20..=21).contains(&count), "{opened}");
}

#[test]
fn a_program_runs_by_the_library_and_in_pools() {
    sandpool::set_executable(sandpool_bin());
    let module = Module::from_file(program()).unwrap();
    assert!(module.is_component() && module.is_program() && module.tasks().is_empty());
    let summary =
        LibraryRun::builder(&module).arg("program").arg("exit").arg("1").start().unwrap().wait().unwrap();
    assert_eq!(summary.status, ExitStatus::Exited(1));
    let pool = Pool::builder(&module).processes(2).build().unwrap();
    let command = |text: &str| sandpool::pool::Command::new("program").arg("upper").stdin(text);
    let texts: Vec<_> = (0..200).map(|number| format!("text {number}")).collect();
    for (text, output) in texts.iter().zip(pool.imap_commands(texts.iter().map(|text| command(text)))) {
        let output = output.unwrap();
        assert_eq!(output.stdout, text.to_uppercase().into_bytes());
    }
    let ended = pool.run(&sandpool::pool::Command::new("program").arg("panic")).unwrap_err();
    assert!(matches!(ended.cause, Failure::Ended(ExitStatus::Trapped(_))), "{ended:?}");
    let mut map = sandpool();
    map.arg("map").arg(program()).args(["--", "tell", "{}"]);
    with_input(map, "one\ntwo\n").expect_code(0).expect_stdout(&["one", "two"]);
}

/// A component whose functions get and return all types. A value that is given by its address is returned by its address.
const TYPES: &str = r#"(component
    (core module $m
        (memory (export "memory") 4)
        (global $next (mut i32) (i32.const 1024))
        (global $count (mut i32) (i32.const 0))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (if (i32.gt_u (global.get $next) (i32.const 200000)) (then (global.set $next (i32.const 1024))))
            (global.set $next (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
            (global.get $next)
            (global.set $next (i32.add (global.get $next) (local.get 3))))
        (func (export "same") (param i32) (result i32) local.get 0)
        (func (export "same64") (param i64) (result i64) local.get 0)
        (func (export "same-f64") (param f64) (result f64) local.get 0)
        (func (export "same-f32") (param f32) (result f32) local.get 0)
        (func (export "text") (param i32 i32) (result i32)
            (i32.store (i32.const 16) (local.get 0)) (i32.store (i32.const 20) (local.get 1)) (i32.const 16))
        (func (export "fail") (param i32 i32) (result i32)
            (i32.store8 (i32.const 16) (i32.const 1))
            (i32.store (i32.const 20) (local.get 0)) (i32.store (i32.const 24) (local.get 1)) (i32.const 16))
        (func (export "count") (result i32)
            (global.set $count (i32.add (global.get $count) (i32.const 1))) (global.get $count))
        (func $deep (export "deep") call $deep)
        (func (export "trap") unreachable)
        (func (export "spin") (loop (br 0)))
        (func (export "huge") (result i32)
            (i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const 250000)) (i32.const 16))
        (func (export "beyond") (result i32)
            (i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const -1)) (i32.const 16)))
    (core instance $i (instantiate $m))
    (alias core export $i "memory" (core memory $memory))
    (alias core export $i "realloc" (core func $realloc))
    (type $choice' (variant (case "nothing") (case "number" u32) (case "text" string)))
    (export $choice "choice" (type $choice'))
    (type $color' (enum "red" "green"))
    (export $color "color" (type $color'))
    (type $marks' (flags "read" "write" "run"))
    (export $marks "marks" (type $marks'))
    (type $every' (record
        (field "bool" bool) (field "s8" s8) (field "u8" u8) (field "s16" s16) (field "u16" u16) (field "s32" s32)
        (field "u32" u32) (field "s64" s64) (field "u64" u64) (field "f32" f32) (field "f64" f64) (field "char" char)
        (field "string" string) (field "bytes" (list u8)) (field "pair" (tuple u8 string)) (field "choice" $choice)
        (field "color" $color) (field "maybe" (option u32)) (field "twice" (option (option u8)))
        (field "outcome" (result u32 (error string))) (field "marks" $marks)))
    (export $every "every" (type $every'))
    (func (export "same") (param "value" $every) (result $every)
        (canon lift (core func $i "same") (memory $memory) (realloc $realloc)))
    (func (export "signed") (param "value" s64) (result s64) (canon lift (core func $i "same64")))
    (func (export "unsigned") (param "value" u64) (result u64) (canon lift (core func $i "same64")))
    (func (export "float") (param "value" f64) (result f64) (canon lift (core func $i "same-f64")))
    (func (export "short-float") (param "value" f32) (result f32) (canon lift (core func $i "same-f32")))
    (func (export "text") (param "value" string) (result string)
        (canon lift (core func $i "text") (memory $memory) (realloc $realloc)))
    (func (export "bytes") (param "value" (list u8)) (result (list u8))
        (canon lift (core func $i "text") (memory $memory) (realloc $realloc)))
    (func (export "pair") (param "one" u32) (param "other" u32) (result (tuple u32 u32))
        (canon lift (core func $i "text") (memory $memory)))
    (func (export "fail") (param "why" string) (result (result u32 (error string)))
        (canon lift (core func $i "fail") (memory $memory) (realloc $realloc)))
    (func (export "count") (result u32) (canon lift (core func $i "count")))
    (func (export "deep") (canon lift (core func $i "deep")))
    (func (export "trap") (canon lift (core func $i "trap")))
    (func (export "spin") (canon lift (core func $i "spin")))
    (func (export "huge") (result (list u8)) (canon lift (core func $i "huge") (memory $memory)))
    (func (export "beyond") (result (list u64)) (canon lift (core func $i "beyond") (memory $memory))))"#;

/// A folder with a component in it.
fn component(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("types.wat");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn map(component: &Path, task: &str, input: &str, options: &[&str]) -> Ended {
    let mut command = sandpool();
    command.arg("map").arg(component).args(["--task", task, "--format", "jsonl"]).args(options);
    with_input(command, input)
}

const EVERY: &str = r#"{"bool":true,"s8":-128,"u8":255,"s16":-32768,"u16":65535,"s32":-2147483648,"u32":4294967295,"s64":-9223372036854775808,"u64":18446744073709551615,"f32":0.1,"f64":0.1,"char":"ü","string":"a \"text\"\n","bytes":[0,1,255],"pair":[7,"seven"],"choice":{"number":5},"color":"green","maybe":4,"twice":{"some":null},"outcome":{"err":"no"},"marks":["read","run"]}"#;

#[test]
fn values_of_all_types_come_back_as_they_went() {
    let (_folder, path) = component(TYPES);
    let others = [
        ("\"choice\":{\"number\":5}", "\"choice\":\"nothing\""),
        ("\"choice\":{\"number\":5}", "\"choice\":{\"text\":\"\"}"),
        ("\"maybe\":4", "\"maybe\":null"),
        ("\"twice\":{\"some\":null}", "\"twice\":{\"some\":3}"),
        ("\"twice\":{\"some\":null}", "\"twice\":null"),
        ("\"outcome\":{\"err\":\"no\"}", "\"outcome\":{\"ok\":3}"),
        ("[\"read\",\"run\"]", "[]"),
    ];
    let mut lines = vec![EVERY.to_owned()];
    lines.extend(others.iter().map(|(from, to)| EVERY.replace(from, to)));
    let ended = map(&path, "same", &(lines.join("\n") + "\n"), &[]).expect_code(0);
    assert_eq!(ended.stdout.lines().collect::<Vec<_>>(), lines, "{ended}");
    // An option may be left out.
    let ended = map(&path, "same", &(EVERY.replace("\"maybe\":4,", "") + "\n"), &[]).expect_code(0);
    assert!(ended.stdout.contains("\"maybe\":null"), "{ended}");
    // Floating-point numbers: each of these is the shortest text of its value.
    let floats = [
        "0.1",
        "-0.0",
        "5e-324",
        "1.7976931348623157e308",
        "2.2250738585072014e-308",
        "9007199254740993.5",
        "\"NaN\"",
        "\"-Infinity\"",
    ];
    let ended = map(&path, "float", &(floats.join("\n") + "\n"), &[]).expect_code(0);
    let back: Vec<_> = ended.stdout.lines().collect();
    for (there, back) in floats.iter().zip(back) {
        match (there.parse::<f64>(), back.parse::<f64>()) {
            (Ok(there), Ok(back)) => assert_eq!(there.to_bits(), back.to_bits(), "{there}"),
            _ => assert_eq!(*there, back),
        }
    }
    let ended = map(&path, "short-float", "0.1\n16777217.0\n", &[]).expect_code(0);
    ended.expect_stdout(&["0.1", "16777216.0"]);
    map(&path, "pair", "[1,2]\n", &[]).expect_code(0).expect_stdout(&["[1,2]"]);
    map(&path, "count", "null\nnull\n", &["--workers", "1"]).expect_code(0).expect_stdout(&["1", "2"]);
}

#[test]
fn values_that_are_none_are_refused_with_the_place() {
    let (_folder, path) = component(TYPES);
    let refused = |task: &str, input: &str, expected: &str| {
        let ended = map(&path, task, &format!("{input}\n"), &[]);
        assert_ne!(ended.status.code(), Some(0), "{ended}");
        assert!(ended.stderr.contains(expected), "{expected}\n{ended}");
    };
    for (from, to, expected) in [
        ("\"u8\":255", "\"u8\":256", ".u8: 256 is not a u8, an integer from 0 to 255"),
        (
            "\"s64\":-9223372036854775808",
            "\"s64\":-9223372036854775809",
            ".s64: -9223372036854775809 is not a s64",
        ),
        ("\"s8\":-128", "\"s8\":1.0", ".s8: 1.0 is not a s8"),
        ("\"char\":\"ü\"", "\"char\":\"ab\"", ".char: "),
        ("[0,1,255]", "[0,true]", ".bytes[1]: true is not a u8"),
        ("[7,\"seven\"]", "[7]", ".pair: an array of 1 items, and not of 2"),
        ("[7,\"seven\"]", "[7,8]", ".pair[1]: 8 is not a string"),
        (
            "{\"number\":5}",
            "{\"numbr\":5}",
            ".choice: an object is not one of the cases nothing, number, text",
        ),
        ("{\"number\":5}", "{\"number\":\"5\"}", ".choice.number: "),
        ("\"color\":\"green\"", "\"color\":\"blue\"", ".color: \\\"blue\\\" is not one of red, green"),
        ("[\"read\",\"run\"]", "[\"read\",\"fly\"]", ".marks[1]: "),
        ("\"bool\":true", "\"bool\":true,\"more\":1", "there is no field more"),
        ("\"bool\":true", "\"bool\":true,\"bool\":true", "the field bool is there twice"),
        ("\"bool\":true,", "", "the field bool is missing"),
        ("\"f64\":0.1", "\"f64\":1e999", ".f64: 1e999 is not a finite f64"),
    ] {
        let expected = expected.replace("\\\"", "\"");
        refused("same", &EVERY.replace(from, to), &expected);
    }
    refused("same", "{", "not JSON");
    refused("pair", "[1]", "an array of 1 items, and not of 2");
    refused("fail", "\"as it was told\"", "as it was told");
    refused("trap", "null", "unreachable");
    refused("beyond", "null", "");
    refused("sam", "1", "the nearest name is same");
}

#[test]
fn functions_are_typed_tasks_of_pools() {
    sandpool::set_executable(sandpool_bin());
    let (_folder, path) = component(TYPES);
    let module = Module::from_file(&path).unwrap();
    assert!(module.is_component() && !module.is_program());
    assert_eq!(module.task("pair").unwrap().signature(), "pair(u32, u32) -> tuple<u32, u32>");
    assert_eq!(module.task("fail").unwrap().signature(), "fail(string) -> Result<u32, string>");
    for isolation in [Isolation::Worker, Isolation::Task] {
        let pool = Pool::builder(&module).processes(2).isolation(isolation).build().unwrap();
        assert_eq!(pool.apply::<_, (u32, u32)>("pair", &(1, 2)).unwrap(), (1, 2));
        assert_eq!(pool.apply::<_, u64>("unsigned", &u64::MAX).unwrap(), u64::MAX);
        let numbers = [i64::MIN, -1, 0, i64::MAX];
        assert_eq!(pool.map::<_, i64>("signed", numbers).unwrap(), numbers);
        let error = pool.apply::<_, u32>("fail", "for a reason").unwrap_err();
        assert!(matches!(&error.cause, Failure::Failed(why) if why.raw() == "for a reason"), "{error:?}");
        let deep = pool.apply::<_, ()>("deep", &()).unwrap_err();
        assert!(
            matches!(deep.cause, Failure::Ended(ExitStatus::Limited(sandpool::limits::Limit::Stack(_)))),
            "{deep:?}"
        );
        let trapped = pool.apply::<_, ()>("trap", &()).unwrap_err();
        assert!(matches!(trapped.cause, Failure::Ended(ExitStatus::Trapped(_))), "{trapped:?}");
        let text =
            pool.submit_record("text", sandpool::pool::Format::Text, b"plain").unwrap().result().unwrap();
        assert_eq!(text, b"plain");
        let bytes =
            pool.submit_record("bytes", sandpool::pool::Format::Bytes, &[0, 255]).unwrap().result().unwrap();
        assert_eq!(bytes, [0, 255]);
        // A process of its own for each task is forked from an instance that has run none.
        let counts: Vec<u32> = pool.map("count", [(); 8]).unwrap();
        match isolation {
            Isolation::Task => assert_eq!(counts, [1; 8]),
            _ => assert!(counts.iter().sum::<u32>() > 8, "{counts:?}"),
        }
    }
}

#[test]
fn tasks_that_never_end_or_return_too_much_are_ended() {
    sandpool::set_executable(sandpool_bin());
    let (_folder, path) = component(TYPES);
    let module = Module::from_file(&path).unwrap();
    let pool = Pool::builder(&module).processes(1).task_timeout(Duration::from_millis(200)).build().unwrap();
    let late = pool.apply::<_, ()>("spin", &()).unwrap_err();
    assert!(matches!(late.cause, Failure::TimedOut(_)), "{late:?}");
    let pool = Pool::builder(&module).processes(1).output_max(1 << 16).build().unwrap();
    let large = pool.apply::<_, Vec<u8>>("huge", &()).unwrap_err();
    assert!(matches!(large.cause, Failure::OutputTooLarge(_)), "{large:?}");
    assert_eq!(pool.apply::<_, u64>("unsigned", &3_u64).unwrap(), 3);
    let sandbox = Sandbox::new().limits(Limits::default().fuel(100_000));
    let counted = Module::builder().sandbox(sandbox.clone()).load_file(&path).unwrap();
    let pool = Pool::builder(&counted).sandbox(sandbox).processes(1).build().unwrap();
    let limited = pool.apply::<_, ()>("spin", &()).unwrap_err();
    assert!(matches!(limited.cause, Failure::Ended(ExitStatus::Limited(_))), "{limited:?}");
}

#[test]
fn inspect_lists_what_a_component_imports_and_exports() {
    let (_folder, path) = component(TYPES);
    let ended = finish(sandpool().arg("inspect").arg(path)).expect_code(0);
    for expected in [
        "kind",
        "component",
        "pair(u32, u32) -> tuple<u32, u32>",
        "func(value: every) -> every",
        "variant { nothing, number(u32), text(string) }",
        "flags { read, write, run }",
    ] {
        assert!(ended.stdout.contains(expected), "{expected}\n{ended}");
    }
    let ended = finish(sandpool().arg("inspect").arg(program())).expect_code(0);
    for expected in
        ["wasi:cli/environment@0.2", "get-arguments", "func() -> list<string>", "wasi:cli/run@0.2"]
    {
        assert!(ended.stdout.contains(expected), "{expected}\n{ended}");
    }
    assert!(!ended.stdout.contains("unknown"), "{ended}");
}

#[test]
fn components_that_need_what_is_not_there_are_refused_with_a_reason() {
    let refused = |inside: &str, message: &str, hint: &str| {
        let (_folder, path) = component(&format!(
            r#"(component {inside}
                (core module $m (func (export "f"))) (core instance $i (instantiate $m))
                (func (export "f") (canon lift (core func $i "f"))))"#
        ));
        let ended = finish(sandpool().arg("map").arg(&path).args(["--task", "f"])).expect_code(121);
        assert!(ended.stderr.contains(message) && ended.stderr.contains(hint), "{message}, {hint}\n{ended}");
    };
    let import = |name: &str| format!(r#"(import "{name}" (instance (export "g" (func))))"#);
    refused(
        &import("wasi:http/outgoing-handler@0.2.3"),
        "wasi:http/outgoing-handler@0.2.3 (g), the network",
        "--unknown-imports trap",
    );
    refused(
        &import("wasi:sockets/tcp@0.2.0"),
        "wasi:sockets/tcp@0.2.0 (g), the network",
        "--unknown-imports trap",
    );
    refused(&import("wasi:cli/stdout@0.3.0"), "asynchronous", "WASI 0.2");
    refused(
        &import("sandpool:process/process"),
        "a component that imports sandpool:process/process",
        "wasm32-wasip1",
    );
    refused(&import("a:b/c"), "imports a:b/c (g), an interface that Sandpool does not provide", "compose");
    refused(r#"(import "m" (core module))"#, "imports m, a core module", "only calls of functions can trap");
    for (text, message) in [
        ("(component)", "exports neither wasi:cli/run nor a function"),
        (r#"(component (type $f (func async)) (import "f" (func (type $f))))"#, "asynchronous"),
    ] {
        let (_folder, path) = component(text);
        let ended = finish(sandpool().arg("run").arg(&path)).expect_code(121);
        assert!(ended.stderr.contains(message), "{message}\n{ended}");
    }
    // Calls of what isn't there trap, if that is wanted.
    let (_folder, path) = component(&format!(
        r#"(component {}
            (alias export $n "g" (func $g)) (core func $lowered (canon lower (func $g)))
            (core module $m (import "" "g" (func $g)) (func (export "f")) (func (export "call") call $g))
            (core instance $i (instantiate $m (with "" (instance (export "g" (func $lowered))))))
            (func (export "f") (canon lift (core func $i "f")))
            (func (export "call") (canon lift (core func $i "call"))))"#,
        r#"(import "wasi:sockets/tcp@0.2.0" (instance $n (export "g" (func))))"#
    ));
    map(&path, "f", "null\n", &["--unknown-imports", "trap"]).expect_code(0).expect_stdout(&["null"]);
    let ended = map(&path, "call", "null\n", &["--unknown-imports", "trap"]);
    assert!(ended.stderr.contains("wasi:sockets/tcp") && ended.status.code() != Some(0), "{ended}");
}

/// The memory that a component makes the host keep has a bound, which is not the host's memory.
#[test]
fn resources_and_handles_are_bounded() {
    let (_folder, path) = component(
        r#"(component
            (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type (sub resource)))))
            (alias export $poll "pollable" (type $pollable))
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                (alias outer 1 $pollable (type $p')) (export "pollable" (type $p (eq $p')))
                (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
            (alias export $clock "subscribe-duration" (func $subscribe))
            (core func $subscribed (canon lower (func $subscribe)))
            (type $own (resource (rep i32)))
            (core func $new (canon resource.new $own))
            (core module $m
                (import "" "subscribe" (func $subscribe (param i64) (result i32)))
                (import "" "new" (func $new (param i32) (result i32)))
                (func (export "pollables") (loop (drop (call $subscribe (i64.const 0))) (br 0)))
                (func (export "handles") (loop (drop (call $new (i32.const 0))) (br 0))))
            (core instance $i (instantiate $m (with "" (instance
                (export "subscribe" (func $subscribed)) (export "new" (func $new))))))
            (func (export "pollables") (canon lift (core func $i "pollables")))
            (func (export "handles") (canon lift (core func $i "handles"))))"#,
    );
    for task in ["pollables", "handles"] {
        let ended = map(&path, task, "null\n", &[]);
        assert_ne!(ended.status.code(), Some(0), "{ended}");
        assert!(ended.stderr.contains("trap"), "{ended}");
    }
}

/// Each attempt ends its own process, with the reason, or goes on in vain until its time is over; the pool goes on.
#[test]
fn hostile_components_end_alone() {
    sandpool::set_executable(sandpool_bin());
    let module = Module::from_bytes("attacks", include_bytes!("component_attacks.wat")).unwrap();
    let pool = Pool::builder(&module).processes(1).task_timeout(Duration::from_secs(30)).build().unwrap();
    for (task, expected) in [
        ("random-all", "more than 67108864 random bytes at once"),
        ("write-hundred", "too much data"),
        ("write-more", "writes more than it may at once"),
        ("write-beyond", "out of bounds"),
        ("zeroes-all", "more zeroes than it may"),
        ("stdouts", "more than 16384 resources"),
        ("poll-million", "handle limit exceeded"),
        ("poll-none", "polls an empty list"),
        ("block-zero", "handle limit exceeded"),
        ("wrong-handle", "unknown handle"),
        ("wrong-type", "wrong type"),
    ] {
        let error = pool.apply::<_, ()>(task, &()).unwrap_err();
        assert!(matches!(error.cause, Failure::Ended(ExitStatus::Trapped(_))), "{task}: {error:?}");
        assert!(error.stderr.to_string().contains(expected), "{task}: {expected}: {}", error.stderr);
        assert_eq!(pool.apply::<_, ()>("write-sixty", &()).ok(), Some(()), "after {task}");
    }
    let pool = Pool::builder(&module).processes(1).task_timeout(Duration::from_millis(200)).build().unwrap();
    for task in ["block-forever", "random-much"] {
        let error = pool.apply::<_, ()>(task, &()).unwrap_err();
        assert!(matches!(error.cause, Failure::TimedOut(_)), "{task}: {error:?}");
    }
}
