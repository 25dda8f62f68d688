//! `sandpool map`: a task over the records of a file.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::process::module;
use crate::procfs;
use crate::support::{Ended, Run, finish, guest, repository, sandpool};

const USAGE: i32 = 2;
const RECORDS_FAILED: i32 = 118;
const STOPPED: i32 = 119;
const MODULE: i32 = 121;

/// `sandpool map` of a task of the test guest.
fn map(task: &str) -> Command {
    map_of(guest("tasks"), task)
}

fn map_of(module: impl AsRef<Path>, task: &str) -> Command {
    let mut command = sandpool();
    command.args(["map", "--task", task]).arg(module.as_ref());
    command
}

/// Runs it with this input.
#[track_caller]
fn with_input(command: &mut Command, input: &[u8]) -> Ended {
    let (run, mut stdin) = Run::start_with_stdin(command);
    // It may end before it has read all.
    let _ = stdin.write_all(input);
    drop(stdin);
    run.finish()
}

/// What it prints for this input; all must go well.
#[track_caller]
fn output(command: &mut Command, input: &[u8]) -> String {
    with_input(command, input).expect_code(0).stdout
}

/// A folder with an input and an output.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new(input: &str) -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(bench.path("in"), input).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// In this folder, from `in` to `out`.
    fn map(&self, task: &str, arguments: &[&str]) -> Command {
        let mut command = map(task);
        command.args(["--input", "in", "--output", "out"]).args(arguments).current_dir(&self.folder);
        command
    }

    /// Whether the journal says that all is done.
    fn is_finished(&self) -> bool {
        self.read("out.sandpool").contains("\"is_finished\":true")
    }

    /// Waits until the output has so many lines.
    #[track_caller]
    fn wait_for_lines(&self, count: usize) {
        let lines = || fs::read_to_string(self.path("out")).unwrap_or_default().lines().count();
        assert!(procfs::eventually(|| lines() >= count), "{} lines of {count}", lines());
    }

    /// How many records the journal says are done.
    fn done(&self) -> Option<u64> {
        let text = fs::read_to_string(self.path("out.sandpool")).ok()?;
        let (_, behind) = text.split_once("\"done\":")?;
        behind.split(',').next()?.parse().ok()
    }
}

/// Raw records.
fn raw(records: &[&[u8]]) -> Vec<u8> {
    records.iter().flat_map(|record| [&(record.len() as u32).to_le_bytes(), *record].concat()).collect()
}

fn numbers(range: std::ops::Range<u64>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

#[test]
fn lines_of_text_of_json_and_raw_records() {
    assert_eq!(output(&mut map("upper"), b""), "");
    assert_eq!(output(&mut map("upper"), "a\n\nb\r\nstraße".as_bytes()), "A\n\nB\nSTRASSE\n");
    assert_eq!(output(&mut map("identity"), b"1\n 2 \n3\n"), "1\n2\n3\n");
    assert_eq!(output(&mut map("repeat"), b"[\"ab\",3,null]\n"), "ababab\n");
    let scores = output(
        map("score").args(["--format", "jsonl"]),
        b"{\"text\": \"so good!\", \"stars\": 4}\n{\"stars\":1,\"text\":\"\"}",
    );
    assert_eq!(scores, "{\"mood\":5,\"words\":{\"good!\":1,\"so\":1}}\n{\"mood\":1,\"words\":{}}\n");
    for task in ["bytes.reverse", "reverse_bytes"] {
        let large: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let reversed: Vec<u8> = large.iter().rev().copied().collect();
        let input = Bench::new("");
        fs::write(input.path("in"), raw(&[b"ab\n", b"", &large])).unwrap();
        finish(&mut input.map(task, &["--format", "raw"])).expect_code(0);
        assert_eq!(fs::read(input.path("out")).unwrap(), raw(&[b"\nba", b"", &reversed]));
    }
    let ended = with_input(map("reverse_bytes").args(["--format", "raw"]), &raw(&[b"abc"])[..6]);
    let ended = ended.expect_code(125);
    assert!(ended.stderr.contains("cannot read record 0: the input ends within the record"), "{ended}");
}

/// It takes part in the contract, and not in the SDK.
#[test]
fn a_task_without_an_sdk() {
    let module = repository().join("guest-sdk/abi/examples/upper.wat");
    assert_eq!(output(&mut map_of(&module, "upper"), b"Hello, {you}\n"), "HELLO, {YOU}\n");
    let long = "long ".repeat(100_000);
    assert_eq!(output(&mut map_of(&module, "upper"), long.as_bytes()), long.to_uppercase() + "\n");
    let ended = with_input(map_of(&module, "upper").args(["--format", "jsonl"]), b"1\n");
    assert!(ended.stderr.contains("does not know the format jsonl"), "{ended}");
    assert!(!ended.status.success());
}

#[test]
fn results_are_in_order_unless_they_need_not_be() {
    let delays = "30\n0\n20\n1\n10\n2\n0\n0\n5\n0\n";
    assert_eq!(output(&mut map("sleep"), delays.as_bytes()), delays);
    assert_eq!(output(map("sleep").arg("--ordered"), delays.as_bytes()), delays);
    let many = numbers(0..20_000);
    assert_eq!(output(&mut map("identity"), many.as_bytes()), many);

    // One waits until another has been done.
    let gate = Gate::new();
    let mut command = map("gate");
    let arguments = ["--unordered", "--workers", "2", "--dir", &gate.grant()];
    let (run, mut stdin) = Run::start_with_stdin(command.args(arguments));
    stdin.write_all(b"gate\nquick\nquick\n").unwrap();
    run.wait_for_line("quick");
    gate.has_begun();
    gate.opens();
    drop(stdin);
    run.finish().expect_code(0).expect_stdout(&["quick", "quick", "gate"]);
}

/// What the task `gate` waits for.
struct Gate {
    folder: TempDir,
}

impl Gate {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for pipe in ["begun", "go"] {
            nix::unistd::mkfifo(&folder.path().join(pipe), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        Self { folder }
    }

    /// The value of `--dir`.
    fn grant(&self) -> String {
        format!("{}:/gate:ro", self.folder.path().display())
    }

    /// Waits until the task has begun.
    #[track_caller]
    fn has_begun(&self) {
        self.open("begun");
    }

    /// Lets it go on.
    #[track_caller]
    fn opens(&self) {
        self.open("go");
    }

    #[track_caller]
    fn open(&self, pipe: &str) {
        let path = self.folder.path().join(pipe);
        let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
        // It fails as long as nobody reads.
        let open = || OpenOptions::new().write(true).custom_flags(flags).open(&path).is_ok();
        assert!(procfs::eventually(open), "no task waits for {pipe}");
    }
}

#[test]
fn results_do_not_wait_for_the_end_of_the_input() {
    let (run, mut stdin) = Run::start_with_stdin(&mut map("upper"));
    for line in ["one", "two", "three"] {
        writeln!(stdin, "{line}").unwrap();
        run.wait_for_line(&line.to_uppercase());
    }
    drop(stdin);
    run.finish().expect_code(0);
}

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
fn tasks_have_what_they_were_granted_and_a_fresh_sandbox_if_they_are_to() {
    let calls = "\n".repeat(3);
    let worker = ["--workers", "1"];
    assert_eq!(output(map("read_set").args(worker), calls.as_bytes()), "[0,1]\n[0,2]\n[0,3]\n");
    let fresh = ["--isolation", "task"];
    assert_eq!(output(map("read_set").args(worker).args(fresh), calls.as_bytes()), "[0,1]\n[0,1]\n[0,1]\n");
    assert_eq!(output(map("variable").args(["--env", "A=1"]), b"A\nB\n"), "\"1\"\nnull\n");
    assert_eq!(output(&mut map("forked_sum"), b"[1,2,3]\n[]\n"), "6\n0\n");
    assert_eq!(output(&mut map("print"), b"text\n"), "text\n", "what tasks print is no result");
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
fn failures_of_before_count_and_can_be_tried_again_alone() {
    let names = ["/f/1", "/f/2", "/f/3", "/f/1"].map(|name| format!("{name}\n")).concat();
    let bench = Bench::new(&names);
    let gate = Gate::new();
    // What fails at first is no failure of the module's: it is the file that isn't there.
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
fn a_byte_order_mark_is_no_part_of_a_record() {
    assert_eq!(output(&mut map("identity"), b"\xef\xbb\xbf5\n6\n"), "5\n6\n");
    assert_eq!(output(&mut map("length"), "\u{feff}abc\n\u{feff}\n".as_bytes()), "3\n3\n");
    assert_eq!(output(map("upper").args(["--format", "jsonl"]), b"\xef\xbb\xbf\"a\"\n"), "\"A\"\n");
    assert_eq!(output(&mut map("upper"), "\u{feff}".as_bytes()), "");
}

#[test]
fn empty_lines_of_json_are_passed_over_and_keep_their_number() {
    let jsonl = ["--format", "jsonl"];
    assert_eq!(output(map("identity").args(jsonl), b"\n1\n\n \t\r\n2\n\n"), "1\n2\n");
    assert_eq!(output(map("identity").args(jsonl), b"\n\n"), "");
    let bench = Bench::new("1\n\n2\nx\n\n3\n\n");
    let ended = finish(&mut bench.map("identity", &jsonl)).expect_code(STOPPED);
    assert!(ended.stderr.contains("error: record 3 failed: "), "{ended}");
    assert!(ended.stderr.contains("stopped before record 3; "), "{ended}");
    for order in ["--ordered", "--unordered"] {
        let arguments = ["--resume", "--on-error", "record", "--errors", "failed", order];
        let ended = finish(bench.map("identity", &jsonl).args(arguments)).expect_code(RECORDS_FAILED);
        assert!(order == "--unordered" || ended.stderr.starts_with("2 records in "), "{ended}");
        assert_eq!((bench.read("out"), bench.done()), ("1\n2\n3\n".to_owned(), Some(7)));
        assert!(bench.read("failed").starts_with("{\"index\":3,"), "{}", bench.read("failed"));
    }
    // As lines they are records, as ever.
    assert_eq!(output(&mut map("upper"), b"\na\n\n"), "\nA\n\n");
}

#[test]
fn records_may_end_with_nul() {
    let nul = ["--format", "nul"];
    assert_eq!(output(map("upper").args(nul), b"a\nb\0c\0"), "A\nB\0C\0");
    assert_eq!(output(map("identity").args(nul), b"1\x00 2 \x003"), "1\x002\x003\x00");
    let ended = with_input(map("reverse_bytes").arg("--on-error").arg("record"), b"a\0b\n").expect_code(0);
    assert_eq!(ended.stdout, "b\0a\n", "a NUL is no end of a line");
    let arguments = ["--on-error", "record"];
    let ended = with_input(map("json_text").args(nul).args(arguments), b"\"a\\u0000\"\0\"b\"\0");
    let ended = ended.expect_code(RECORDS_FAILED);
    assert!(ended.stderr.contains("the output has a NUL byte"), "{ended}");
    assert_eq!(ended.stdout, "b\0");
    let ended = with_input(map("json_text").args(arguments), b"\"a\\nb\"\n\"b\"\n");
    let ended = ended.expect_code(RECORDS_FAILED);
    assert!(ended.stderr.contains("the output has a line break, which ends a record"), "{ended}");
    assert_eq!(ended.stdout, "b\n");
}

/// Numbers are what they were, or the record fails.
#[test]
fn numbers_go_through_json_unchanged_or_not_at_all() {
    let ends = |task: &str, format: &str, input: &str| {
        let arguments = ["--format", format, "--on-error", "record"];
        let ended = with_input(map_of(guest("identity"), task).args(arguments), input.as_bytes());
        (ended.status.code(), ended.stdout, ended.stderr)
    };
    for (task, same) in [
        ("integer", "0\n18446744073709551615\n"),
        (
            "float",
            "0.1\n0.30000000000000004\n2.2250738585072014e-308\n5e-324\n-0.0\n1.7976931348623157e+308\n",
        ),
        ("json", "18446744073709551615\n-9223372036854775808\n{\"a\":[9007199254740993,0.1,null]}\n"),
        ("text", "\"18446744073709551616\"\n"),
    ] {
        let (code, stdout, stderr) = ends(task, "jsonl", same);
        assert_eq!((code, stdout.as_str()), (Some(0), same), "{task}: {stderr}");
    }
    for (task, lost) in [
        ("json", "18446744073709551616"),
        ("json", "{\"a\":[1,-9223372036854775809]}"),
        ("integer", "18446744073709551616"),
        ("float", "18446744073709551617"),
        ("float", "9007199254740993"),
        ("float", "1e400"),
    ] {
        let (code, stdout, stderr) = ends(task, "jsonl", &format!("{lost}\n"));
        assert_eq!((code, stdout.as_str()), (Some(RECORDS_FAILED), ""), "{task} of {lost}: {stderr}");
        assert!(stderr.contains("\"cause\":\"refused\""), "{stderr}");
    }
    assert_eq!(ends("text", "lines", "18446744073709551616\n").1, "18446744073709551616\n");
    for format in ["jsonl", "lines"] {
        for name in ["NaN", "inf", "-inf"] {
            let input = if format == "jsonl" { format!("\"{name}\"\n") } else { format!("{name}\n") };
            let (code, stdout, stderr) = ends("named", format, &input);
            assert_eq!((code, stdout.as_str()), (Some(RECORDS_FAILED), ""), "{name}: {stderr}");
            assert!(stderr.contains(&format!("JSON has no number {name}")), "{stderr}");
        }
    }
    assert_eq!(ends("named", "lines", "1.5\nnone\n").1, "[1,1.5]\n[1,null]\n");
}

/// Of a disk that fills up, exactly what is on it is summed up.
#[test]
fn no_more_is_said_to_be_done_than_is_written() {
    let bench = Bench::new(&numbers(0..300_000));
    let ended =
        finish(map("identity").args(["--input", "in", "--output", "/dev/full"]).current_dir(&bench.folder));
    let ended = ended.expect_code(125);
    assert!(ended.stderr.starts_with("0 records in ") && ended.stderr.contains("No space left"), "{ended}");
    assert!(ended.stderr.contains("\nstopped before record 0\n"), "{ended}");
    let script = r#"mount -t tmpfs -o size=256k none disk || exit 77
        "$@" > disk/out; echo "code: $?"; echo "whole: $(grep -c '' < disk/out)"; tail -c 1 disk/out | od -An -c"#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    let map = map("identity");
    command.arg(map.get_program()).args(map.get_args()).args(["--input", "in"]).current_dir(&bench.folder);
    fs::create_dir(bench.path("disk")).unwrap();
    let ended = finish(&mut command);
    if ended.status.code() != Some(0) {
        eprintln!("skipped: nothing can be mounted here: {ended}");
        return;
    }
    assert_eq!(ended.all("code: "), ["125"], "{ended}");
    let lines: u64 = ended.all("whole: ")[0].parse().unwrap();
    // A last line without its end is counted there.
    let whole = lines - u64::from(!ended.stdout.trim_end().ends_with("\\n"));
    let summary = ended.stderr.lines().find(|line| line.contains(" records in ")).unwrap();
    assert_eq!(summary.split(' ').next().unwrap().parse(), Ok(whole), "{ended}");
    assert!(ended.stderr.contains(&format!("stopped before record {whole}\n")), "{ended}");
}

#[test]
fn a_closed_stream_is_refused_before_anything_is_done() {
    let bench = Bench::new("a\n");
    fs::write(bench.path("out"), "precious").unwrap();
    for (closed, name) in [("<&-", "stdin is"), (">&-", "stdout is"), (">&- <&-", "stdin and stdout are")] {
        for to in ["-", "out"] {
            let words = map("upper");
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exec \"$@\" {closed}"), "sh"]).arg(words.get_program());
            command.args(words.get_args()).args(["--input", "in", "--output", to]);
            let ended = finish(command.current_dir(&bench.folder)).expect_code(USAGE);
            assert!(ended.stderr.starts_with(&format!("error: {name} closed\nhint: ")), "{ended}");
            assert_eq!(bench.read("out"), "precious");
        }
    }
    // A /dev/null that was given is fine, even if it is open for both.
    let both = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    let mut command = bench.map("upper", &[]);
    command.stdin(both.try_clone().unwrap()).stdout(both.try_clone().unwrap()).stderr(both);
    assert_eq!(command.status().unwrap().code(), Some(0));
    assert_eq!(bench.read("out"), "A\n");
}

#[test]
fn streams_that_do_not_wait_are_waited_for() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::os::fd::AsFd as _;
    let pipe = || {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        for end in [&reader, &writer] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        }
        (File::from(reader), File::from(writer))
    };
    let blocking = |end: &File| fcntl(end, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
    let is_full = |writer: &File| {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        poll(&mut [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO) == Ok(0)
    };
    // Both ends of a pipe are of one open file each, so that a test can wait at its own.
    let (input, mut feed) = pipe();
    let (mut results, output) = pipe();
    let (failures, errors) = pipe();
    blocking(&feed);
    blocking(&results);
    blocking(&failures);
    let mut command = map("even");
    command.args(["--on-error", "record"]);
    command.stdin(input).stdout(output.try_clone().unwrap()).stderr(errors.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    drop(command);
    feed.write_all(b"2\n").unwrap();
    let mut first = [0; 2];
    results.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"2\n");
    // By now it waits for more.
    let feeder = std::thread::spawn(move || {
        for number in 0..100_000 {
            writeln!(feed, "{number}").unwrap();
        }
    });
    assert!(procfs::eventually(|| is_full(&errors)), "it has not come to a full pipe");
    drop((output, errors));
    let read = |mut end: File| {
        std::thread::spawn(move || {
            let mut text = String::new();
            end.read_to_string(&mut text).unwrap();
            text
        })
    };
    let (results, failures) = (read(results), read(failures));
    feeder.join().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(RECORDS_FAILED));
    let evens: String = (0..50_000).map(|half| format!("{}\n", half * 2)).collect();
    assert!(results.join().unwrap() == evens);
    let failures = failures.join().unwrap();
    assert_eq!(failures.lines().filter(|line| line.starts_with("{\"index\":")).count(), 50_000);
    assert!(failures.trim_end().ends_with(", 50000 failed"), "{}", &failures[failures.len() - 200..]);
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
            // What was being written when the machine stopped.
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

#[test]
fn whoever_has_read_enough_ends_it_quietly() {
    let bench = Bench::new(&numbers(0..1_000_000));
    let mut command = map("identity");
    command.arg("--input").arg(bench.path("in")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "0\n");
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    // As of a command that SIGPIPE ends.
    assert_eq!(child.wait().unwrap().code(), Some(141), "{stderr}");
    assert_eq!(stderr.lines().count(), 2, "{stderr}");
    assert!(stderr.lines().nth(1).unwrap().starts_with("stopped before record "), "{stderr}");
}

#[test]
fn progress_is_lines_where_there_is_no_terminal() {
    let (run, mut stdin) = Run::start_with_stdin(map("upper").args(["--progress", "always"]));
    stdin.write_all(b"a\n").unwrap();
    run.wait_for_line("A");
    assert!(procfs::eventually(|| run.printed().contains("\n1 record, ")), "{}", run.printed());
    drop(stdin);
    run.finish().expect_code(0);
    let ended = with_input(map("upper").args(["--progress", "auto"]), b"a\n").expect_code(0);
    assert_eq!(ended.stderr.lines().count(), 1, "the summary: {ended}");
}

/// A task that gives back what it gets, as fast as can be.
const ECHO: &str = r#"(module
    (import "sandpool_task" "input" (func $input (param i32 i32) (result i64)))
    (import "sandpool_task" "output" (func $output (param i32 i32) (result i32)))
    (memory (export "memory") 48)
    (func (export "sandpool_task_echo") (param i32 i32) (result i32)
        (drop (call $input (i32.const 1024) (local.get 1)))
        (drop (call $output (i32.const 1024) (local.get 1)))
        (i32.const 0)))"#;

/// Nor do large ones: what waits is bounded in bytes, whoever is slow.
#[test]
fn five_hundred_large_records_take_no_more_memory_than_a_few() {
    const RECORDS: u64 = 500;
    const LEN: u64 = 2 << 20;
    const MOST_KIB: u64 = 300 << 10;

    let bench = Bench::new("");
    let module = module(ECHO);
    let input = File::create(bench.path("in")).unwrap();
    // All zeros, which take no disk.
    input.set_len(RECORDS * (4 + LEN)).unwrap();
    for record in 0..RECORDS {
        input.write_all_at(&(LEN as u32).to_le_bytes(), record * (4 + LEN)).unwrap();
    }
    let mut command = map_of(module.path(), "echo");
    command.args(["--format", "raw", "--workers", "2", "--input", "in"]).current_dir(&bench.folder);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut stdout, pid) = (child.stdout.take().unwrap(), child.id());
    let anonymous = move || {
        // A process that has ended has no memory.
        let line = procfs::status_line(pid, "RssAnon");
        line.map_or(0, |line| line.trim_end_matches(" kB").parse().unwrap())
    };
    let (mut bytes, mut chunk, mut peak) = (0, vec![0; 1 << 20], 0_u64);
    loop {
        let len = stdout.read(&mut chunk).unwrap();
        if len == 0 {
            break;
        }
        bytes += len as u64;
        peak = peak.max(anonymous());
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(bytes, RECORDS * (4 + LEN));
    assert!((1..MOST_KIB).contains(&peak), "{peak} KiB");
}

#[test]
fn ten_million_lines_take_no_more_memory_than_a_few() {
    const LINES: u64 = 10_000_000;
    const MOST_KIB: u64 = 96 << 10;

    let bench = Bench::new("");
    let mut input = BufWriter::new(File::create(bench.path("in")).unwrap());
    for number in 0..LINES {
        writeln!(input, "{number}").unwrap();
    }
    drop(input);
    let mut child = bench.map("identity", &[]).stderr(Stdio::piped()).spawn().unwrap();
    let mut peak = 0_u64;
    assert!(procfs::eventually(|| {
        // A process that has ended has no memory.
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        if let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            peak = line.trim().trim_end_matches(" kB").parse().unwrap();
        }
        child.try_wait().unwrap().is_some()
    }));
    assert!(child.wait().unwrap().success());
    assert!((1..MOST_KIB).contains(&peak), "{peak} KiB");
    let same = Command::new("cmp").args(["in", "out"]).current_dir(&bench.folder).status().unwrap();
    assert!(same.success());
}
