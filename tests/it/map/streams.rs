//! Standard streams that are full, closed or don't wait; progress.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use std::process::{Command, Stdio};

use crate::procfs;
use crate::support::{Run, finish};

use super::{Bench, RECORDS_FAILED, USAGE, map, numbers, with_input};

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

/// Nor is the last result written if its reader has gone by then.
#[test]
fn a_reader_that_is_gone_at_the_end_is_noticed() {
    let bench = Bench::new("a\n");
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    drop(reader);
    let mut command = map("upper");
    command.args(["--input", "in"]).current_dir(&bench.folder).stdin(Stdio::null()).stdout(writer);
    let ended = command.stderr(Stdio::piped()).output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(141), "{stderr}");
    assert!(
        stderr.starts_with("0 records in ") && stderr.ends_with("\nstopped before record 0\n"),
        "{stderr}"
    );
}

/// All records are done, and nobody could know.
#[test]
fn a_journal_that_cannot_be_written_is_an_error() {
    let bench = Bench::new("");
    let mut command = map("upper");
    command.args(["--output", "out"]).current_dir(&bench.folder);
    let (run, mut stdin) = Run::start_with_stdin(&mut command);
    stdin.write_all(b"a\n").unwrap();
    bench.wait_for_lines(1);
    // It may have a journal already, which another may replace at any time.
    let replaced = || {
        let _ = fs::remove_file(bench.path("out.sandpool"));
        fs::create_dir(bench.path("out.sandpool")).is_ok()
    };
    assert!(procfs::eventually(replaced));
    drop(stdin);
    let ended = run.finish().expect_code(125);
    assert!(ended.stderr.contains("error: cannot write out.sandpool: "), "{ended}");
    assert_eq!(bench.read("out"), "A\n");
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
