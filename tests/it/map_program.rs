//! `sandpool map` with a whole program: one process for each record.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::procfs;
use crate::support::{Ended, Run, finish, guest, sandpool};

/// `sandpool map` of the program with these options and arguments.
fn map(options: &[&str], args: &[&str]) -> Command {
    let mut command = sandpool();
    command.arg("map").arg(guest("command")).args(options).arg("--").args(args);
    command
}

fn mapped(input: &str, options: &[&str], args: &[&str]) -> Ended {
    let (run, mut stdin) = Run::start_with_stdin(&mut map(options, args));
    // The command may end before it has read everything.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    run.finish()
}

/// The lines of a report, without the figures that differ from time to time.
fn report(path: &Path) -> Vec<(u64, Option<String>, Option<u64>)> {
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["wall"].as_f64().unwrap() >= 0.0 && line["attempts"].as_u64().is_some(), "{line}");
        (line["index"].as_u64().unwrap(), line["cause"].as_str().map(str::to_owned), line["exit"].as_u64())
    };
    fs::read_to_string(path).unwrap().lines().map(line).collect()
}

#[test]
fn a_record_is_stdin_with_its_end_or_stands_in_the_arguments() {
    mapped("one\ntwo\n", &[], &["upper"]).expect_code(0).expect_stdout(&["ONE", "TWO"]);
    // The last line has no end, and the program gets one.
    mapped("one\ntwo", &[], &["upper"]).expect_code(0).expect_stdout(&["ONE", "TWO"]);
    mapped("dir/a.txt\nb\n", &[], &["echo", "{}", "-i{.}", "{/}", "{//}", "{/.}", "n{#}"])
        .expect_code(0)
        .expect_stdout(&["command.wasm: dir/a.txt -idir/a a.txt dir a n1", "command.wasm: b -ib b . b n2"]);
    // The number alone is no record.
    mapped("one\n", &[], &["echo", "{#}"]).expect_code(0).expect_stdout(&["command.wasm: 1"]);
    let ended = mapped("a b\nit's\0one\0", &["--format", "nul"], &["echo", "{}"]).expect_code(0);
    assert_eq!(ended.stdout, "command.wasm: a b\nit's\ncommand.wasm: one\n", "no shell takes it apart");
    let ended = mapped("\u{3}\0\0\0a\nb\u{1}\0\0\0c", &["--format", "raw"], &["upper"]).expect_code(0);
    assert_eq!(ended.stdout, "\u{3}\0\0\0A\nB\u{1}\0\0\0C");
}

#[test]
fn several_records_are_given_to_one_process() {
    let ended =
        mapped("1\n2\n3\n4\n5\n", &["--records-per-process", "2"], &["echo", "{}", "x"]).expect_code(0);
    ended.expect_stdout(&["command.wasm: 1 2 x", "command.wasm: 3 4 x", "command.wasm: 5 x"]);
    let ended = mapped("a\nb\nc\n", &["--records-per-process", "2"], &["upper"]).expect_code(0);
    assert_eq!(ended.stdout, "A\nB\nC\n");
    // Empty lines of JSON are no records.
    let json = ["--records-per-process", "2", "--format", "jsonl"];
    mapped("1\n\n2\n3\n\n\n", &json, &["echo", "{}"])
        .expect_code(0)
        .expect_stdout(&["command.wasm: 1", "command.wasm: 2 3"]);
    let raw = ["--records-per-process", "2", "--format", "raw"];
    let ended = mapped("", &raw, &["upper"]).expect_code(2);
    assert!(ended.stderr.contains("several raw records"), "{ended}");
}

#[test]
fn an_exit_code_is_a_failure_and_stands_in_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.jsonl");
    let report_is = ["--report", path.to_str().unwrap(), "--on-error"];
    let ended =
        mapped("0\n7\n0\n9\n", &[&report_is[..], &["record"]].concat(), &["exit", "{}"]).expect_code(118);
    assert!(
        ended
            .stderr
            .contains(r#"{"index":1,"cause":"exit","detail":"its process ended: exited: 7","attempts":1"#),
        "{ended}"
    );
    let exit = |index, code| (index, Some("exit".to_owned()), Some(code));
    let first = [(0, None, Some(0)), exit(1, 7), (2, None, Some(0)), exit(3, 9)];
    assert_eq!(report(&path), first);

    // Only what has failed is done again, and the report goes on. A part of a line is no line.
    let mut file = fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"{\"index\":2,\"cau").unwrap();
    let retry = [&report_is[..], &["skip", "--retry-failed"]].concat();
    let ended = mapped("0\n7\n0\n9\n", &retry, &["echo", "{}"]).expect_code(0);
    let ended = ended.expect_stdout(&["command.wasm: 7", "command.wasm: 9"]);
    assert!(ended.stderr.starts_with("2 records in "), "{ended}");
    let second = [(1, None, Some(0)), (3, None, Some(0))];
    assert_eq!(report(&path), [&first[..], &second].concat());
    let ended = mapped("0\n7\n0\n9\n", &retry, &["echo", "{}"]).expect_code(0).expect_stdout(&[]);
    assert_eq!(ended.stderr, "nothing left to do: no record has failed\n");

    // Without --retry-failed the report begins anew.
    mapped("5\n", &report_is[..2], &["echo", "{}"]).expect_code(0);
    assert_eq!(report(&path), [(0, None, Some(0))]);

    fs::write(&path, "no report\n").unwrap();
    let ended = mapped("5\n", &retry, &["echo", "{}"]).expect_code(2);
    assert!(ended.stderr.starts_with("error: line 1 of "), "{ended}");
    let ended = mapped("5\n", &["--retry-failed"], &["echo", "{}"]).expect_code(2);
    assert!(ended.stderr.contains("hint: add --resume, or name the file"), "{ended}");
}

#[test]
fn a_report_tells_every_cause_and_what_was_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.jsonl");
    let options = [
        "--on-error",
        "skip",
        "--report",
        path.to_str().unwrap(),
        "--cpu-time",
        "1s",
        "--memory-max",
        "32MiB",
    ];
    let (run, mut stdin) =
        Run::start_with_stdin(sandpool().arg("map").arg(guest("command")).args(options).args(["--", "{}"]));
    stdin.write_all(b"trap\nspin\ncount\n").unwrap();
    drop(stdin);
    run.finish().expect_code(118);
    let lines = fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let causes: Vec<_> = lines.iter().map(|line| line["cause"].as_str()).collect();
    assert_eq!(causes, [Some("trap"), Some("limit"), None]);
    assert!(lines[1]["cpu"].as_f64().unwrap() > 0.9, "{}", lines[1]);
    assert_eq!(lines[2]["bytes"], 1);
    for line in &lines {
        assert!(line["peak_memory"].as_u64().unwrap() >= 1 << 20, "{line}");
    }
}

#[test]
fn results_are_files_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("results");
    let dir = dir.to_str().unwrap();
    let ended = mapped("one\ntwo\n", &["--results", dir], &["echo", "{}"]).expect_code(0).expect_stdout(&[]);
    assert!(ended.stderr.starts_with("2 records in "), "{ended}");
    let read = |name: &str| fs::read_to_string(Path::new(dir).join(name));
    assert_eq!(
        (read("0.out").unwrap(), read("1.out").unwrap()),
        ("command.wasm: one\n".into(), "command.wasm: two\n".into())
    );
    // The directory is there already, and files are replaced.
    let ended = mapped("one\n", &["--results", dir, "--output", "-"], &["upper"]).expect_code(0);
    assert_eq!((ended.stdout.as_str(), read("0.out").unwrap().as_str()), ("ONE\n", "ONE\n"));
    mapped("x\n", &["--results", dir, "--on-error", "skip"], &["fail", "why {}"]).expect_code(118);
    assert_eq!(read("0.err").unwrap(), "why x");

    // Guests could lead the host elsewhere.
    let grant = format!("{}:/data", folder.path().display());
    let ended = mapped("x\n", &["--dir", &grant, "--results", dir], &["echo", "{}"]).expect_code(2);
    assert!(ended.stderr.contains("guests may write"), "{ended}");
    // Nor is a directory made where a link of theirs leads.
    let (granted, elsewhere) = (folder.path().join("granted"), folder.path().join("elsewhere"));
    fs::create_dir(&granted).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, granted.join("link")).unwrap();
    let grant = format!("{}:/data", granted.display());
    let through = granted.join("link/results");
    let ended = mapped("x\n", &["--dir", &grant, "--results", through.to_str().unwrap()], &["echo", "{}"]);
    assert!(ended.expect_code(2).stderr.contains("guests may write"));
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    fs::write(folder.path().join("file"), "").unwrap();
    symlink("results", folder.path().join("link")).unwrap();
    let file = folder.path().join("file");
    mapped("x\n", &["--results", file.to_str().unwrap()], &["echo", "{}"]).expect_code(125);
}

#[test]
fn a_map_halts_when_it_is_told_to() {
    let ones = "1\n".repeat(5000);
    for (halt, code, least, most) in [
        ("soon,fail=3", 119, 3, 4999),
        ("now,fail=3", 119, 3, 3),
        ("now,fail=50%", 119, 3, 3),
        ("soon,done=2", 118, 2, 4999),
        ("now,done=4", 118, 4, 4),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.jsonl");
        let options = ["--halt", halt, "--errors", "/dev/null", "--report", path.to_str().unwrap()];
        let ended = mapped(&ones, &options, &["exit", "{}"]).expect_code(code);
        let done = report(&path).len();
        assert!((least..=most).contains(&done), "{halt}: {done} records");
        let told = ended.stderr.matches("halting when the records that have begun are done").count();
        assert_eq!(told, usize::from(halt.starts_with("soon")), "{halt}: {ended}");
    }
    let zeros = "0\n".repeat(500);
    mapped(&zeros, &["--halt", "soon,success=3"], &["exit", "{}"]).expect_code(0);
    let ended = mapped(&zeros, &["--halt", "soon,fail=1"], &["exit", "{}"]).expect_code(0);
    assert!(ended.stderr.starts_with("500 records"), "{ended}");
    let ended = finish(&mut map(&["--halt", "later"], &[])).expect_code(2);
    assert!(ended.stderr.contains("soon,fail=3"), "{ended}");
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.jsonl");
    let options = ["--dry-run", "--report", report.to_str().unwrap()];
    mapped("a b\nc\x1b[31m\n", &options, &["echo", "{}", "--out={.}.o"]).expect_code(0).expect_stdout(&[
        "command.wasm echo 'a b' '--out=a b.o'",
        r"command.wasm echo 'c\u{1b}[31m' '--out=c\u{1b}[31m.o'",
    ]);
    mapped("one\n", &options, &["upper"])
        .expect_code(0)
        .expect_stdout(&["command.wasm upper < record 0 (3 bytes)"]);
    assert!(!report.exists());
    let mut command = sandpool();
    command.arg("map").arg(guest("tasks")).args(["--task", "upper", "--dry-run"]).stdin(Stdio::null());
    finish(&mut command).expect_code(0).expect_stdout(&[]);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (options, args, what) in [
        (&["--isolation", "worker"][..], &[][..], "cannot share a process"),
        (&["--records-per-process", "0"], &[], "records-per-process"),
        (&["--task", "upper"], &["x"], "cannot be used with"),
        (&["--task", "upper"], &[], "has no task upper"),
    ] {
        let mut command = sandpool();
        command.arg("map").arg(guest("command")).args(options);
        if !args.is_empty() {
            command.arg("--").args(args);
        }
        let ended = finish(&mut command);
        assert!(!ended.status.success() && ended.stderr.contains(what), "{options:?}: {ended}");
    }
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("tasks.wat");
    let text = r#"(module (memory (export "memory") 1)
        (func (export "sandpool_task_one") (param i32 i32) (result i32) (i32.const 0)))"#;
    fs::write(&module, text).unwrap();
    let ended = finish(sandpool().arg("map").arg(&module)).expect_code(2);
    assert!(ended.stderr.contains("hint: name a task with --task: one"), "{ended}");
    fs::write(&module, r#"(module (memory (export "memory") 1))"#).unwrap();
    let ended = finish(sandpool().arg("map").arg(&module));
    assert!(!ended.status.success() && ended.stderr.contains("hint: "), "{ended}");
}

/// The journal knows a program by its arguments as well.
#[test]
fn an_interrupted_map_of_a_program_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.txt");
    let input = folder.path().join("in.txt");
    let lines: String = (0..3000).map(|n| format!("{n}\n")).collect();
    fs::write(&input, &lines).unwrap();
    let options =
        ["--input", input.to_str().unwrap(), "--output", output.to_str().unwrap(), "--progress", "never"];
    let run = Run::start(&mut map(&options, &["upper"]));
    assert!(procfs::eventually(|| fs::metadata(&output).is_ok_and(|file| file.len() > 0)));
    procfs::kill(run.embedder(), Signal::SIGINT, |pid| pid == run.embedder());
    let ended = run.finish();
    assert!(ended.stderr.contains("--resume goes on from there") || ended.status.success(), "{ended}");
    let resume = [&options[..], &["--resume"]].concat();
    let ended = finish(&mut map(&resume, &["echo", "{}"])).expect_code(2);
    assert!(ended.stderr.contains("is of another task"), "{ended}");
    finish(&mut map(&resume, &["upper"])).expect_code(0);
    assert_eq!(fs::read_to_string(&output).unwrap(), lines);
}
