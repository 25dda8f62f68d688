//! Standard streams that many processes share.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, Stdio};
use std::{io, thread};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::process::module;
use crate::procfs;
use crate::support::{Ended, Run, finish, guest, run, run_with};

const PROCESSES: usize = 8;
const LINES: usize = 200;

fn ended() -> Ended {
    let (processes, lines) = (PROCESSES.to_string(), LINES.to_string());
    let (run, mut stdin) = Run::start_with_stdin(&mut run_with("stdio", &[&processes, &lines]));
    stdin.write_all(b"for the main process only\nand more\n").unwrap();
    drop(stdin);
    run.finish().expect_code(0)
}

#[test]
fn lines_stay_whole_and_nothing_is_printed_twice() {
    let ended = ended();
    let mut lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(
        lines.drain(..4).collect::<Vec<_>>(),
        [
            "once, and then the child",
            "before a spawn, the spawned child",
            "ok: a child's standard input is empty",
            "the main process reads \"for the main process only\\n\"",
        ]
    );
    assert_eq!(lines.pop(), Some("the end"), "a last line without an end is lost");
    assert!(ended.stdout.ends_with("the end"), "an end of line was added");

    let mut next = [0; PROCESSES];
    for line in &lines {
        let words: Vec<_> = line.split(' ').collect();
        let &["line", process, number, text] = words.as_slice() else { panic!("not a whole line: {line:?}") };
        let (process, number): (usize, usize) = (process.parse().unwrap(), number.parse().unwrap());
        assert_eq!(number, next[process], "a line of process {process} is missing or out of order");
        next[process] += 1;
        let letter = char::from(b'a' + u8::try_from(process).unwrap());
        assert_eq!(text.len(), 10 + (number * 37) % 6_000, "{line}");
        assert!(text.chars().all(|found| found == letter), "lines are mixed: {line:?}");
    }
    assert_eq!(next, [LINES; PROCESSES]);
}

/// A guest is told that nobody reads its pipe, and the command says nothing of its own.
#[test]
fn a_pipe_that_nobody_reads_is_a_broken_pipe_to_the_guest() {
    let mut command = run_with("edges", &["write"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.len(), 1000);
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert_eq!(stderr, "BrokenPipe after some lines: true\n");
}

#[test]
fn a_guests_streams_that_do_not_wait_are_waited_for() {
    let pipe = || {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        (File::from(reader), File::from(writer))
    };
    let without_waiting = |end: &File| fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let (input, mut feed) = pipe();
    let (mut results, output) = pipe();
    without_waiting(&input);
    without_waiting(&output);
    let mut command = run_with("edges", &["copy"]);
    let mut child = command.stdin(input).stdout(output).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    let pid = child.id();
    // By now there is a guest, which reads from an empty pipe, or will.
    assert!(procfs::eventually(|| !procfs::children(pid).is_empty()), "no supervisor");
    let text: Vec<u8> = b"0123456789abcde\n".repeat(50_000);
    let sent = text.clone();
    let feeder = thread::spawn(move || feed.write_all(&sent).unwrap());
    feeder.join().unwrap();
    let mut copied = Vec::new();
    results.read_to_end(&mut copied).unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{stderr}");
    assert!(copied == text, "{} bytes of {}: {stderr}", copied.len(), text.len());
    assert_eq!(stderr, "800000 bytes\n");
}

#[test]
fn a_closed_stream_is_refused_before_a_guest_begins() {
    let words = run(guest("hello"));
    let closed = |streams: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec \"$@\" {streams}"), "sh"]);
        finish(command.arg(words.get_program()).args(words.get_args())).expect_code(2)
    };
    for (streams, name) in [("<&-", "stdin is"), (">&-", "stdout is"), ("<&- >&-", "stdin and stdout are")] {
        let ended = closed(streams);
        assert!(ended.stderr.starts_with(&format!("error: {name} closed\nhint: ")), "{ended}");
        assert_eq!(ended.stdout, "", "nothing has begun");
    }
    assert_eq!(closed("2>&-").stdout, "", "nothing has begun");
}

/// A child that writes more than a pipe holds, and its parent, which says how it has ended.
const WRITER: &str = r#"(module
    (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
    (import "sandpool_process" "join" (func $join (param i64 i64) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (data (i32.const 16) "the others go on\0a")
    (func (export "_start") (local $child i64)
        (i32.store (i32.const 0) (i32.const 16)) (i32.store (i32.const 4) (i32.const 17))
        (i32.store (i32.const 8) (i32.const 64)) (i32.store (i32.const 12) (i32.const 60000))
        (i32.store8 (i32.const 60063) (i32.const 10))
        (local.set $child (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))
        (if (i64.eqz (local.get $child))
            (then (loop $l (drop (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 40))) (br $l))))
        (if (call $join (local.get $child) (i64.const -1)) (then unreachable))
        (if (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 40)) (then unreachable))))"#;

/// It has what keeps lines whole while it waits for somebody to read. Others write elsewhere.
#[test]
fn who_is_killed_while_a_write_is_blocked_keeps_nobody_from_writing() {
    let file = module(WRITER);
    // Nobody reads here.
    let (unread, full) = io::pipe().unwrap();
    let probe = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&full)))
        .unwrap();
    let mut command = run(file.path());
    command.stdin(Stdio::null()).stdout(full).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(command);
    let guests = || {
        let inside: Vec<_> = procfs::children(child.id()).into_iter().flat_map(procfs::children).collect();
        inside.into_iter().filter(|pid| procfs::name(*pid) == "sandpool-guest").collect::<Vec<_>>()
    };
    let is_full = || {
        let mut fds = [PollFd::new(probe.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 0
    };
    assert!(procfs::eventually(|| guests().len() == 2 && is_full()));
    // The youngest.
    let writer = guests().into_iter().max_by_key(|pid| procfs::inner_number(*pid)).unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    assert!(procfs::kill(writer, Signal::SIGKILL, |_| true));
    let mut status = None;
    let ended = procfs::eventually(|| {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !ended {
        // Its supervisor and its guests go with it.
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let text = reader.join().unwrap();
    assert!(ended, "nobody can write any more\n{text}");
    assert_eq!((status.unwrap().code(), &*text), (Some(0), "the others go on\n"));
    drop(unread);
}
