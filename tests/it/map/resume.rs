//! Maps that are interrupted or fail, and go on from there.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use nix::sys::signal::Signal;

use crate::procfs;

use crate::support::{Run, finish};

use super::{Bench, Gate, RECORDS_FAILED, STOPPED, USAGE, map, numbers, output, with_input};

/// A terminal's Ctrl-C goes to all processes in the foreground, and the signal of timeout(1) to its process group.
fn signal(run: &Run, signal: Signal) {
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(run.embedder() as i32), signal).unwrap();
}

#[test]
fn an_interrupt_lets_what_has_begun_finish_and_resume_does_the_rest() {
    for (cause, isolation, order, behind) in [
        (Signal::SIGINT, "worker", "--ordered", 20_000),
        (Signal::SIGTERM, "worker", "--ordered", 20_000),
        (Signal::SIGHUP, "worker", "--unordered", 20_000),
        (Signal::SIGINT, "task", "--ordered", 500),
        (Signal::SIGTERM, "task", "--unordered", 500),
    ] {
        let quick = |count| "quick\n".repeat(count);
        let bench = Bench::new(&format!("{}gate\n{}", quick(50), quick(behind)));
        let gate = Gate::new();
        let grant = gate.grant();
        let arguments = ["--dir", &grant, "--workers", "1", "--isolation", isolation, order];
        let run = Run::start(&mut bench.map("gate", &arguments));
        gate.has_begun();
        signal(&run, cause);
        assert!(procfs::eventually(|| run.printed().contains("stopping when ")), "{}", run.printed());
        gate.opens();
        let ended = run.finish().expect_signal(cause);
        let done = bench.done().unwrap();
        // With it, what was handed over to the workers together with it.
        assert!((51..51 + behind as u64).contains(&done), "{done}");
        let message = format!("stopped before record {done}; --resume goes on from there\ninterrupted\n");
        assert!(ended.stderr.ends_with(&message), "{ended}");
        let out = bench.read("out");
        assert_eq!((out.lines().count() as u64, out.lines().nth(50)), (done, Some("gate")), "{ended}");

        let ended = finish(bench.map("gate", &arguments).arg("--resume")).expect_code(0);
        assert!(ended.stderr.contains(&format!(", {done} before that\n")), "{ended}");
        assert_eq!(bench.read("out"), bench.read("in"));
        assert!(bench.is_finished());
    }
}

/// The other worker has done records that come after the one that is to be tried again, and won't be.
#[test]
fn results_in_order_end_before_the_first_record_that_was_not_done() {
    let quick = |count| "quick\n".repeat(count);
    for before in [0, 7, 100] {
        let bench = Bench::new(&format!("{}gate\n{}", quick(before), quick(20_000)));
        let gate = Gate::new();
        let grant = gate.grant();
        let arguments = ["--dir", &grant, "--workers", "2", "--ordered", "--retries", "3"];
        let run = Run::start(&mut bench.map("gate", &arguments));
        gate.has_begun();
        // One waits at the gate, and the other for more to do.
        assert!(procfs::eventually(
            || run.guests().len() == 2 && run.guests().into_iter().all(procfs::stands)
        ));
        signal(&run, Signal::SIGINT);
        assert!(procfs::eventually(|| run.printed().contains("stopping when ")), "{}", run.printed());
        for worker in run.guests() {
            procfs::kill(worker, Signal::SIGKILL, |_| true);
        }
        let ended = run.finish().expect_signal(Signal::SIGINT);
        let out = bench.read("out");
        assert_eq!(bench.done(), Some(out.lines().count() as u64), "{ended}");
        assert_eq!(out, quick(before), "{ended}");
    }
}

/// A task's child gets its parent's signals all the same.
#[test]
fn a_task_can_terminate_what_it_has_started() {
    assert_eq!(output(&mut map("terminated"), b"\n"), "Some(-15)\n");
}

#[test]
fn a_second_signal_ends_all_at_once() {
    let (run, mut stdin) = Run::start_with_stdin(&mut map("behave"));
    stdin.write_all(b"a\nloop\n").unwrap();
    run.wait_for_line("a");
    signal(&run, Signal::SIGINT);
    assert!(procfs::eventually(|| run.printed().contains("stopping when ")), "{}", run.printed());
    assert!(procfs::kill(run.embedder(), Signal::SIGTERM, |_| true));
    run.finish().expect_signal(Signal::SIGTERM);
}

#[test]
fn after_a_failure_resume_begins_with_the_record_that_failed() {
    let bench = Bench::new("1\n2\n3\n5\n4\n");
    let resume =
        |arguments: &[&str]| finish(bench.map("even", arguments).args(["--resume", "--errors", "failed"]));
    resume(&["--on-error", "record"]).expect_code(RECORDS_FAILED);
    assert_eq!((bench.read("out"), bench.read("failed").lines().count()), ("2\n4\n".to_owned(), 3));
    // Without --resume, it begins anew.
    finish(&mut bench.map("even", &["--errors", "failed"])).expect_code(STOPPED);
    assert_eq!((bench.read("out"), bench.done()), (String::new(), Some(0)));
    resume(&[]).expect_code(STOPPED);
    assert_eq!((bench.read("out"), bench.read("failed").lines().count()), (String::new(), 1));
    let ended = resume(&["--on-error", "skip"]).expect_code(RECORDS_FAILED);
    assert_eq!(bench.read("out"), "2\n4\n");
    assert!(ended.stderr.ends_with("3 failed\n"), "{ended}");

    fs::write(bench.path("in"), "2\n4\n1\n").unwrap();
    finish(&mut bench.map("even", &[])).expect_code(STOPPED);
    for (arguments, task, what) in [
        (&["--format", "jsonl"][..], "even", "format"),
        (&[], "identity", "task"),
        (&["--input", "other"], "even", "input"),
    ] {
        fs::write(bench.path("other"), "2\n").unwrap();
        let mut command = map(task);
        command.current_dir(&bench.folder).args(["--output", "out", "--resume"]).args(arguments);
        if !arguments.contains(&"--input") {
            command.args(["--input", "in"]);
        }
        let ended = finish(&mut command).expect_code(USAGE);
        assert!(
            ended.stderr.contains(&format!("cannot resume: out.sandpool is of another {what}")),
            "{ended}"
        );
        assert_eq!((bench.read("out"), bench.done()), ("2\n4\n".to_owned(), Some(2)));
    }
    fs::write(bench.path("out"), "2\n").unwrap();
    let ended = finish(bench.map("even", &["--resume"]).args(["--on-error", "skip"])).expect_code(USAGE);
    assert!(ended.stderr.contains("cannot resume: out has 2 bytes of 4"), "{ended}");
    finish(bench.map("even", &["--on-error", "skip"]).arg("--errors").arg("failed"))
        .expect_code(RECORDS_FAILED);
    assert_eq!((bench.read("out"), bench.is_finished()), ("2\n4\n".to_owned(), true));
}

#[test]
fn a_file_of_failures_that_is_too_short_is_refused() {
    let bench = Bench::new("");
    let mut command = map("even");
    command.args(["--output", "out", "--errors", "failed", "--on-error", "record", "--resume"]);
    command.current_dir(&bench.folder);
    with_input(&mut command, b"1\n2\n").expect_code(RECORDS_FAILED);
    let failed = bench.read("failed");
    fs::write(bench.path("failed"), &failed[1..]).unwrap();
    let ended = with_input(&mut command, b"1\n2\n4\n").expect_code(USAGE);
    let (len, rest) = (failed.len(), failed.len() - 1);
    assert!(ended.stderr.contains(&format!("cannot resume: failed has {rest} bytes of {len}")), "{ended}");
    assert_eq!((bench.read("out").as_str(), bench.read("failed").as_str()), ("2\n", &failed[1..]));
    fs::write(bench.path("failed"), &failed).unwrap();
    // No record has failed since, but one has before.
    let ended = with_input(&mut command, b"1\n2\n4\n").expect_code(RECORDS_FAILED);
    assert!(
        ended.stderr.starts_with("1 record in ") && ended.stderr.ends_with("; 1 failed in all\n"),
        "{ended}"
    );
    assert_eq!((bench.read("out").as_str(), bench.read("failed")), ("2\n4\n", failed));
}

#[test]
fn failures_of_before_count_and_can_be_tried_again_alone() {
    let names = ["/f/1", "/f/2", "/f/3", "/f/1"].map(|name| format!("{name}\n")).concat();
    let bench = Bench::new(&names);
    let gate = Gate::new();
    // The first failure isn't the module's: the file isn't there.
    let files = tempfile::tempdir().unwrap();
    let folder = format!("{}:/f:ro", files.path().display());
    let grant = gate.grant();
    let arguments = ["--on-error", "record", "--errors", "failed", "--workers", "1", "--dir", &folder];
    fs::write(files.path().join("2"), "two").unwrap();
    let read = |more: &[&str]| finish(bench.map("read_file", &arguments).args(more));
    let ended = read(&[]).expect_code(RECORDS_FAILED);
    assert!(ended.stderr.starts_with("4 records in ") && ended.stderr.ends_with(", 3 failed\n"), "{ended}");
    assert_eq!((bench.read("out"), bench.read("failed").lines().count()), ("two\n".to_owned(), 3));

    // These alone, and what still fails is said anew.
    fs::write(files.path().join("1"), "one").unwrap();
    let ended = read(&["--resume", "--retry-failed"]).expect_code(RECORDS_FAILED);
    assert!(ended.stderr.starts_with("3 records in ") && ended.stderr.contains(", 1 failed"), "{ended}");
    assert!(ended.stderr.ends_with("; 1 failed in all\n"), "{ended}");
    assert_eq!(bench.read("out"), "two\none\none\n");
    assert!(bench.read("failed").starts_with("{\"index\":2,") && bench.read("failed").lines().count() == 1);
    let again = read(&["--resume"]).expect_code(RECORDS_FAILED);
    let nothing = "nothing left to do: 4 records done before, 1 failed; --retry-failed does those again\n";
    assert_eq!((again.stderr.as_str(), bench.read("out").as_str()), (nothing, "two\none\none\n"));
    // A retry that stops says how it goes on.
    let stop = ["--resume", "--retry-failed", "--on-error", "stop", "--workers", "1", "--dir", &folder];
    let ended = finish(&mut bench.map("read_file", &stop)).expect_code(STOPPED);
    let stopped =
        "stopped before all that had failed was done again; --resume --retry-failed goes on from there\n";
    assert!(ended.stderr.ends_with(stopped), "{ended}");
    fs::write(files.path().join("3"), "three").unwrap();
    let ended = read(&["--resume", "--retry-failed"]).expect_code(0);
    assert!(ended.stderr.ends_with("; 0 failed in all\n"), "{ended}");
    assert_eq!((bench.read("out"), bench.read("failed")), ("two\none\none\nthree\n".into(), String::new()));
    for more in [&["--resume"][..], &["--resume", "--retry-failed"]] {
        assert_eq!(read(more).expect_code(0).stderr, "nothing left to do: 4 records done before\n");
    }
    assert_eq!(bench.read("out"), "two\none\none\nthree\n");
    let ended = finish(&mut bench.map("read_file", &["--retry-failed"])).expect_code(USAGE);
    assert!(ended.stderr.contains("--resume"), "{ended}");

    // Interrupted, with failures before and after.
    let bench = Bench::new(&format!("fail\na\ngate\n{}fail\n", "c\n".repeat(5000)));
    let arguments = ["--on-error", "record", "--errors", "failed", "--workers", "1", "--dir", &grant];
    let run = Run::start(&mut bench.map("fail_or_gate", &arguments));
    gate.has_begun();
    signal(&run, Signal::SIGTERM);
    assert!(procfs::eventually(|| run.printed().contains("stopping when ")), "{}", run.printed());
    gate.opens();
    let ended = run.finish().expect_signal(Signal::SIGTERM);
    assert!(ended.stderr.contains(", 1 failed\n"), "{ended}");
    let resume = |more: &[&str]| finish(bench.map("fail_or_gate", &arguments).arg("--resume").args(more));
    let ended = resume(&[]).expect_code(RECORDS_FAILED);
    assert!(
        ended.stderr.contains(", 1 failed, ") && ended.stderr.ends_with("; 2 failed in all\n"),
        "{ended}"
    );
    assert_eq!((bench.read("out").lines().count(), bench.read("failed").lines().count()), (5002, 2));
    let ended = resume(&["--retry-failed"]).expect_code(RECORDS_FAILED);
    assert!(
        ended.stderr.starts_with("2 records in ") && ended.stderr.ends_with("; 2 failed in all\n"),
        "{ended}"
    );
    assert_eq!((bench.read("out").lines().count(), bench.read("failed").lines().count()), (5002, 2));
}

/// The file of failures is emptied when a retry begins, and the journal has to say so before the first record is done.
#[test]
fn after_a_retry_that_is_killed_resume_goes_on() {
    let bench = Bench::new("");
    let files = tempfile::tempdir().unwrap();
    let folder = format!("{}:/f:ro", files.path().display());
    let read = |more: &[&str]| {
        let mut command = map("read_file");
        command.args(["--output", "out", "--errors", "failed", "--on-error", "record", "--workers", "1"]);
        command.args(["--dir", &folder, "--resume"]).args(more).current_dir(&bench.folder);
        command
    };
    with_input(&mut read(&[]), b"/f/1\n/f/2\n").expect_code(RECORDS_FAILED);
    assert_eq!(bench.read("failed").lines().count(), 2);
    // The task waits until somebody opens the pipe for writing.
    nix::unistd::mkfifo(&files.path().join("1"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (run, mut stdin) = Run::start_with_stdin(&mut read(&["--retry-failed"]));
    stdin.write_all(b"/f/1\n/f/2\n").unwrap();
    assert!(procfs::eventually(|| bench.read("failed").is_empty()));
    assert!(procfs::kill(run.embedder(), Signal::SIGKILL, |_| true));
    run.finish().expect_signal(Signal::SIGKILL);
    fs::remove_file(files.path().join("1")).unwrap();
    fs::write(files.path().join("1"), "one").unwrap();
    // The file of failures is shorter than it was, and that is no damage.
    let ended = with_input(&mut read(&[]), b"/f/1\n/f/2\n/f/1\n").expect_code(RECORDS_FAILED);
    assert!(ended.stderr.ends_with("; 2 failed in all\n"), "{ended}");
    let ended = with_input(&mut read(&["--retry-failed"]), b"/f/1\n/f/2\n/f/1\n").expect_code(RECORDS_FAILED);
    assert!(ended.stderr.ends_with("; 1 failed in all\n"), "{ended}");
    assert_eq!((bench.read("out").as_str(), bench.read("failed").lines().count()), ("one\none\n", 1));
}

#[test]
fn a_report_goes_on_where_the_map_does() {
    let bench = Bench::new("2\n4\n5\n6\n");
    let run = |more: &[&str]| finish(bench.map("even", &["--report", "report"]).args(more));
    let records = || -> Vec<u64> {
        let text = bench.read("report");
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| line["index"].as_u64().unwrap()).collect()
    };
    run(&[]).expect_code(STOPPED);
    assert_eq!(records(), [0, 1, 2]);
    run(&["--resume", "--on-error", "skip"]).expect_code(RECORDS_FAILED);
    assert_eq!(records(), [0, 1, 2, 2, 3]);
    // Anew: the report as well.
    run(&["--on-error", "skip"]).expect_code(RECORDS_FAILED);
    assert_eq!(records(), [0, 1, 2, 3]);
}

#[test]
fn a_map_that_is_finished_is_left_alone() {
    let bench = Bench::new("a\nb\n");
    finish(&mut bench.map("upper", &[])).expect_code(0);
    // Somebody else's, by now; but not less than was written.
    fs::write(bench.path("out"), "A\nB\nmine\n").unwrap();
    let ended = finish(&mut bench.map("upper", &["--resume"])).expect_code(0);
    assert_eq!(ended.stderr, "nothing left to do: 2 records done before\n");
    assert_eq!(bench.read("out"), "A\nB\nmine\n");
    fs::write(bench.path("out"), "A\n").unwrap();
    let ended = finish(&mut bench.map("upper", &["--resume"])).expect_code(USAGE);
    assert!(ended.stderr.contains("cannot resume: out has 2 bytes of 4"), "{ended}");
    // Of a pipe nobody knows: there may be more.
    let mut piped = map("upper");
    piped.args(["--output", "out", "--resume"]).current_dir(&bench.folder);
    fs::remove_file(bench.path("out.sandpool")).unwrap();
    with_input(&mut piped, b"a\n").expect_code(0);
    let ended = with_input(&mut piped, b"a\n").expect_code(0);
    assert_eq!(ended.stderr, "nothing left to do: 1 record done before\n");
    let ended = with_input(&mut piped, b"a\nb\n").expect_code(0);
    assert!(
        ended.stderr.starts_with("1 record in ") && ended.stderr.ends_with(", 1 before that\n"),
        "{ended}"
    );
    assert_eq!(bench.read("out"), "A\nB\n");
}

#[test]
fn after_sigkill_resume_leaves_no_record_out_and_does_none_twice() {
    let input = numbers(0..3000);
    for order in ["--ordered", "--unordered"] {
        let bench = Bench::new("");
        let mut command = map("identity");
        command.args(["--output", "out", "--resume", order]).current_dir(&bench.folder);
        // It is killed again and again, each time further on.
        for round in 1..=3 {
            let (run, mut stdin) = Run::start_with_stdin(&mut command);
            let known = bench.done();
            let lines: Vec<_> = input.split_inclusive('\n').take(round * 700).collect();
            stdin.write_all(lines.concat().as_bytes()).unwrap();
            bench.wait_for_lines(lines.len());
            assert!(procfs::eventually(|| bench.done() > known));
            // And a few that the journal needn't know of.
            stdin
                .write_all(
                    input.split_inclusive('\n').skip(lines.len()).take(50).collect::<String>().as_bytes(),
                )
                .unwrap();
            bench.wait_for_lines(lines.len() + 50);
            assert!(procfs::kill(run.embedder(), Signal::SIGKILL, |_| true));
            run.finish().expect_signal(Signal::SIGKILL);
            // The text that was being written when the machine stopped.
            OpenOptions::new().append(true).open(bench.path("out")).unwrap().write_all(b"12\n3").unwrap();
            fs::write(bench.path(".out.sandpool.0123456789abcdef.tmp"), b"{\"version\":").unwrap();
        }
        with_input(&mut command, input.as_bytes()).expect_code(0);
        let mut out: Vec<u64> = bench.read("out").lines().map(|line| line.parse().unwrap()).collect();
        if order == "--unordered" {
            out.sort_unstable();
        }
        assert!(out.into_iter().eq(0..3000), "{order}");
        assert_eq!(
            fs::read_dir(&bench.folder).unwrap().count(),
            3,
            "{order}: only input, output and journal are left"
        );
    }
}

/// A record of its own on each line; the one that waits stands among them.
#[test]
fn a_record_that_was_under_way_is_done_again_and_none_is_written_twice() {
    let (before, behind) = (50, 250);
    let input = format!("{}gate\n{}", numbers(0..before), numbers(before..before + behind));
    // Some of the others are in the hands of the worker that waits.
    let others = (before + behind) as usize - 64;
    for (isolation, order) in
        [("worker", "--ordered"), ("worker", "--unordered"), ("task", "--ordered"), ("task", "--unordered")]
    {
        for stop in ["killed", "two signals", "a signal and no worker", "halted"] {
            let is_ordered = order == "--ordered";
            if stop == "halted" && is_ordered {
                continue;
            }
            let what = format!("{isolation} {order} {stop}");
            let bench = Bench::new(&input);
            let gate = Gate::new();
            let grant = gate.grant();
            let arguments = ["--dir", &grant, "--workers", "2", "--isolation", isolation, order];
            let mut first = bench.map("gate", &arguments);
            if stop == "halted" {
                first.args(["--halt", &format!("now,done={others}")]);
            }
            let run = Run::start(&mut first);
            gate.has_begun();
            bench.wait_for_lines(if is_ordered { before as usize } else { others });
            match stop {
                "killed" => {
                    assert!(
                        procfs::eventually(|| bench.done() == Some(before)),
                        "{what}: {:?}",
                        bench.done()
                    );
                    assert!(procfs::kill(run.embedder(), Signal::SIGKILL, |_| true));
                    run.finish().expect_signal(Signal::SIGKILL);
                }
                "two signals" => {
                    signal(&run, Signal::SIGINT);
                    assert!(procfs::eventually(|| run.printed().contains("stopping when ")), "{what}");
                    signal(&run, Signal::SIGTERM);
                    run.finish().expect_signal(Signal::SIGTERM);
                }
                "a signal and no worker" => {
                    signal(&run, Signal::SIGINT);
                    assert!(procfs::eventually(|| run.printed().contains("stopping when ")), "{what}");
                    for guest in run.guests() {
                        procfs::kill(guest, Signal::SIGKILL, |_| true);
                    }
                    let ended = run.finish().expect_signal(Signal::SIGINT);
                    assert!(ended.stderr.contains("stopped before record 50;"), "{what}: {ended}");
                    assert!(!ended.stderr.contains("failed"), "{what}: {ended}");
                }
                _ => drop(run.finish().expect_code(0)),
            }
            assert!(!bench.read("out").contains("gate"), "{what}");

            let run = Run::start(bench.map("gate", &arguments).arg("--resume"));
            gate.has_begun();
            gate.opens();
            run.finish().expect_code(0);
            let (out, mut expected) = (bench.read("out"), input.lines().collect::<Vec<_>>());
            let mut lines: Vec<_> = out.lines().collect();
            if !is_ordered {
                lines.sort_unstable();
                expected.sort_unstable();
            }
            assert_eq!(lines, expected, "{what}");
            assert!(bench.is_finished(), "{what}");
        }
    }
}
