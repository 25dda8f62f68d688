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

/// A task's output is bounded by the flag, and a program's stdout as well.
#[test]
fn an_output_beyond_its_limit_is_a_failure() {
    let input = format!("a\n{}\nb\n", "x".repeat(2000));
    for isolation in ["worker", "task"] {
        let bench = Bench::new(&input);
        let arguments = ["--output-max", "1KiB", "--on-error", "record", "--isolation", isolation];
        let ended = finish(&mut bench.map("upper", &arguments)).expect_code(RECORDS_FAILED);
        assert_eq!(bench.read("out"), "A\nB\n");
        assert!(ended.stderr.contains("{\"index\":1,\"cause\":\"output-too-large\","), "{ended}");
        let ended = finish(&mut bench.map("upper", &["--output-max", "1MiB"])).expect_code(0);
        assert!(bench.read("out").len() == input.len(), "{ended}");
    }
}

/// A reader of JSON gets the text that the task gave; a person gets one that does nothing to a terminal.
#[test]
fn the_text_of_a_failure_is_the_tasks_own() {
    let text = "\u{1b}[31mred";
    let bench = Bench::new(text);
    let arguments = ["--on-error", "record", "--errors", "failed", "--report", "report"];
    let ended = finish(&mut bench.map("fail", &arguments)).expect_code(RECORDS_FAILED);
    assert!(!ended.stderr.contains('\u{1b}'), "{ended}");
    for name in ["failed", "report"] {
        let line = bench.read(name);
        assert!(!line.contains('\u{1b}'), "{line:?}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((line["cause"].as_str(), line["detail"].as_str()), (Some("error"), Some(text)), "{name}");
    }
    let ended = finish(&mut bench.map("fail", &[])).expect_code(STOPPED);
    assert!(ended.stderr.contains(r"error: record 0 failed: \u{1b}[31mred"), "{ended}");
}

/// A failure counts when it has been written, and no record after it before.
#[test]
fn a_failure_that_cannot_be_written_is_not_done() {
    let bench = Bench::new("fail\na\n");
    let arguments = ["--on-error", "record", "--errors", "/dev/full"];
    let ended = finish(&mut bench.map("behave", &arguments)).expect_code(125);
    assert!(ended.stderr.starts_with("0 records in ") && ended.stderr.contains("No space left"), "{ended}");
    assert_eq!(bench.done(), Some(0));
    let ended = finish(&mut bench.map("upper", &["--report", "/dev/full"])).expect_code(125);
    assert!(ended.stderr.contains("cannot write the report: No space left"), "{ended}");
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
        ("upper", &["--output-max", "5MB"], USAGE, "KiB, MiB or GiB", "--help"),
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

/// The file beside an output is its journal; one of that name elsewhere is none.
#[test]
fn a_journal_lies_beside_its_output() {
    let bench = Bench::new("fail\n");
    fs::create_dir(bench.path("sub")).unwrap();
    let arguments = ["--on-error", "record", "--errors", "sub/out.sandpool"];
    finish(&mut bench.map("behave", &arguments)).expect_code(RECORDS_FAILED);
    assert!(bench.read("sub/out.sandpool").starts_with(r#"{"index":0,"#));
    assert!(bench.is_finished());
}

/// It hasn't done all again that had failed.
#[test]
fn a_retry_by_a_report_is_not_finished_if_it_stops() {
    let bench = Bench::new("fail\na\nfail\n");
    let recorded = ["--on-error", "record", "--errors", "failed", "--report", "report"];
    finish(&mut bench.map("behave", &recorded)).expect_code(RECORDS_FAILED);
    assert!(bench.is_finished());
    finish(&mut bench.map("behave", &["--retry-failed", "--report", "report"])).expect_code(STOPPED);
    assert!(!bench.is_finished());
}

#[test]
fn a_second_command_does_not_write_to_the_same_output() {
    let bench = Bench::new("a\n");
    let mut first = map("upper");
    first.args(["--output", "out", "--errors", "failed", "--report", "report"]).current_dir(&bench.folder);
    let (run, mut stdin) = Run::start_with_stdin(&mut first);
    stdin.write_all(b"first\n").unwrap();
    bench.wait_for_lines(1);
    for (name, arguments) in [
        ("out", &[][..]),
        ("failed", &["--output", "other", "--errors", "failed"]),
        ("report", &["--output", "other", "--report", "report"]),
    ] {
        let mut second = map("upper");
        second.args(["--input", "in"]).args(arguments).current_dir(&bench.folder);
        if arguments.is_empty() {
            second.args(["--output", "out"]);
        }
        let ended = finish(&mut second).expect_code(USAGE);
        assert!(ended.stderr.contains(&format!("another command is writing {name}\n")), "{ended}");
    }
    drop(stdin);
    run.finish().expect_code(0);
    assert_eq!(bench.read("out"), "FIRST\n");
    finish(&mut bench.map("upper", &[])).expect_code(0);
    assert_eq!(bench.read("out"), "A\n");
}
