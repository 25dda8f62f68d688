//! Records that fail, and commands that are refused.

use std::fs;
use std::io::Write as _;

use nix::sys::signal::Signal;

use crate::procfs;
use crate::support::{Run, finish};

use super::{Bench, Gate, MODULE, RECORDS_FAILED, STOPPED, USAGE, map, with_input};

#[test]
fn a_record_that_fails_stops_all_is_skipped_or_is_recorded() {
    let input = "a\nb\nfail\nc\npanic\nd\n";
    let bench = Bench::new(input);
    let ended = finish(&mut bench.map("behave", &[])).expect_code(STOPPED);
    assert!(ended.stderr.contains("error: record 2 failed: as it was told\n"), "{ended}");
    assert!(ended.stderr.contains("stopped before record 2; --resume goes on from there\n"), "{ended}");
    assert_eq!((bench.read("out"), bench.done()), ("a\nb\n".to_owned(), Some(2)));

    let ended = finish(&mut bench.map("behave", &["--on-error", "skip"])).expect_code(RECORDS_FAILED);
    assert_eq!(bench.read("out"), "a\nb\nc\nd\n");
    assert!(bench.is_finished());
    assert!(ended.stderr.starts_with("6 records in ") && ended.stderr.ends_with(", 2 failed\n"), "{ended}");
    assert!(!ended.stderr.contains("told"), "{ended}");

    let ended = finish(&mut bench.map("behave", &["--on-error", "record"])).expect_code(RECORDS_FAILED);
    let first = r#"{"index":2,"cause":"error","detail":"as it was told","attempts":1,"stderr":""}"#;
    assert!(ended.stderr.starts_with(&format!("{first}\n{{\"index\":4,\"cause\":\"exit\"")), "{ended}");

    let arguments = ["--on-error", "record", "--errors", "failed", "--unordered"];
    let ended = finish(&mut bench.map("behave", &arguments)).expect_code(RECORDS_FAILED);
    assert!(!ended.stderr.contains("told"), "{ended}");
    let failed = bench.read("failed");
    let mut failed: Vec<_> = failed.lines().collect();
    failed.sort_unstable();
    assert_eq!(failed[0], first);
    assert!(failed[1].starts_with(r#"{"index":4,"cause":"exit","detail":"its process ended: exited: 1","#));
    assert!(failed[1].contains("panicked at") && failed[1].ends_with("as it was told\\n\"}"), "{failed:?}");
}

#[test]
fn each_cause_has_its_name() {
    let input = "a\ntrap\nb\npanic\nexit\nfail\nexhaust\nloop\nc\n";
    let causes = ["trap", "exit", "exit", "error", "limit", "timeout"];
    for isolation in ["worker", "task"] {
        let arguments = ["--on-error", "record", "--isolation", isolation];
        let limits = ["--task-timeout", "500ms", "--memory-max", "16MiB"];
        let ended = with_input(map("behave").args(arguments).args(limits), input.as_bytes());
        let ended = ended.expect_code(RECORDS_FAILED).expect_stdout(&["a", "b", "c"]);
        let records = ended.stderr.lines().filter(|line| line.starts_with('{'));
        let found: Vec<_> = records
            .map(|record| record.split("\"cause\":\"").nth(1).unwrap().split('"').next().unwrap())
            .collect();
        assert_eq!(found, causes, "{ended}");
    }
    let ended =
        with_input(map("identity").args(["--on-error", "record"]), b"x\n").expect_code(RECORDS_FAILED);
    assert!(
        ended.stderr.contains("\"cause\":\"refused\",\"detail\":\"the input can't be decoded: "),
        "{ended}"
    );
    let ended = with_input(&mut map("complain"), b"3\n").expect_code(STOPPED);
    assert!(
        ended.stderr.contains("failed: its process ended: exited: 1\n  line 0\n  line 1\n  line 2\n"),
        "{ended}"
    );
}

#[test]
fn a_worker_that_is_killed_is_replaced_and_its_task_tried_again() {
    for (retries, code, lines) in
        [("0", RECORDS_FAILED, &["quick", "quick"][..]), ("1", 0, &["quick", "gate", "quick"])]
    {
        let gate = Gate::new();
        let arguments =
            ["--on-error", "record", "--workers", "1", "--retries", retries, "--dir", &gate.grant()];
        let (run, mut stdin) = Run::start_with_stdin(map("gate").args(arguments));
        stdin.write_all(b"quick\ngate\nquick\n").unwrap();
        drop(stdin);
        gate.has_begun();
        let workers = run.guests();
        assert!(procfs::kill(workers[0], Signal::SIGKILL, |_| true));
        // Until then it is still the one who waits at the gate.
        assert!(procfs::eventually(|| procfs::parent(workers[0]).is_none()));
        if retries == "1" {
            gate.has_begun();
            gate.opens();
        }
        let ended = run.finish().expect_code(code).expect_stdout(lines);
        assert!(retries == "1" || ended.stderr.contains(r#"{"index":1,"cause":"signal","#), "{ended}");
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let bench = Bench::new("a\n");
    fs::write(bench.path("out"), "precious").unwrap();
    for (task, arguments, code, message, hint) in [
        ("uper", &[][..], MODULE, "tasks.wasm has no task uper", "the nearest name is upper"),
        ("upper", &["--output", "in"], USAGE, "input and output are the same file", "choose another"),
        ("upper", &["--errors", "out"], USAGE, "output and --errors are the same file", "choose another"),
        ("upper", &["--errors", "in"], USAGE, "input and --errors are the same file", "choose another"),
        (
            "upper",
            &["--errors", "out.sandpool"],
            USAGE,
            "--errors and the journal are the same file",
            "choose another",
        ),
        (
            "upper",
            &["--output", "-", "--resume"],
            USAGE,
            "--resume needs an output that is a file",
            "--output",
        ),
        ("upper", &["--input", "nowhere"], 125, "cannot read nowhere: No such file", ""),
        ("upper", &["--input", "."], 125, "cannot read .: is a directory", ""),
        ("upper", &["--output", "no/where"], 125, "cannot write no/where: No such file", ""),
        ("upper", &["--workers", "0"], USAGE, "--workers", "--help"),
        ("upper", &["--task-timeout", "5"], USAGE, "ms, s, min or h", "--help"),
        ("upper", &["--format", "csv"], USAGE, "`csv` is no format of records", "--help"),
        ("upper", &["--ordered", "--unordered"], USAGE, "cannot be used with", "--help"),
    ] {
        let mut command = map(task);
        command.current_dir(&bench.folder);
        for (flag, value) in [("--input", "in"), ("--output", "out")] {
            if !arguments.contains(&flag) {
                command.args([flag, value]);
            }
        }
        let ended = finish(command.args(arguments)).expect_code(code);
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains(message), "{ended}");
        assert!(ended.stderr.contains(hint), "{ended}");
        assert_eq!((bench.read("in"), bench.read("out")), ("a\n".to_owned(), "precious".to_owned()));
        assert!(!bench.path("out.sandpool").exists(), "{ended}");
    }
}

#[test]
fn a_second_command_does_not_write_to_the_same_output() {
    let bench = Bench::new("a\n");
    let mut first = map("upper");
    first.args(["--output", "out"]).current_dir(&bench.folder);
    let (run, mut stdin) = Run::start_with_stdin(&mut first);
    stdin.write_all(b"first\n").unwrap();
    bench.wait_for_lines(1);
    let ended = finish(&mut bench.map("upper", &[])).expect_code(USAGE);
    assert!(ended.stderr.contains("another command is writing out"), "{ended}");
    drop(stdin);
    run.finish().expect_code(0);
    assert_eq!(bench.read("out"), "FIRST\n");
    finish(&mut bench.map("upper", &[])).expect_code(0);
    assert_eq!(bench.read("out"), "A\n");
}
