//! Ordinary programs in an application: one run with streams of its own, and pools that run a program for each command.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandpool::limits::Limit;
use sandpool::pool::{Command, Failure, Isolation, Output};
use sandpool::run::{Builder, Keep, Stdio};
use sandpool::{Error, ExitStatus, Limits, Module, Pool, Run, Sandbox, Signal, Trap};

use crate::procfs::{self, Pid};
use crate::support::{deadline, guest, load, load_text};

fn program() -> Module {
    load(guest("command"))
}

fn builder<'a>(module: &'a Module, words: &[&str]) -> Builder<'a> {
    Run::builder(module).arg("program").args(words.iter().copied())
}

const EXITED_WELL: ExitStatus = ExitStatus::Exited(0);

// One run.

#[test]
fn the_output_of_a_run_is_collected() {
    let module = program();
    let output = builder(&module, &["upper"]).stdin(Stdio::bytes("some text")).output().unwrap();
    assert_eq!(output.summary.status, EXITED_WELL);
    assert_eq!(output.stdout.bytes, b"SOME TEXT");
    assert!(output.stdout.is_whole() && output.stderr.bytes.is_empty());
    assert!(output.summary.cpu > Duration::ZERO && output.summary.cpu < output.summary.wall * 8);

    let output = builder(&module, &["fail", "no luck"]).output().unwrap();
    assert_eq!(output.summary.status, ExitStatus::Exited(3));
    assert_eq!((&*output.stdout.bytes, &*output.stderr.bytes), (&b"before the failure"[..], &b"no luck"[..]));

    // Without anything else, stdin is empty.
    let output = builder(&module, &["upper"]).output().unwrap();
    assert_eq!((output.summary.status, output.stdout.bytes.len()), (EXITED_WELL, 0));

    let output = builder(&module, &["trap"]).output().unwrap();
    assert_eq!(output.summary.status, ExitStatus::Trapped(Trap::Unreachable));
    assert!(output.stderr.to_string().contains("error: process 'MainProcess' trapped"), "{}", output.stderr);
}

/// More than any pipe has room for, in both directions at once.
#[test]
fn large_inputs_and_outputs_pass_whole() {
    let module = program();
    let input = "a line\n".repeat(1 << 17);
    let output = builder(&module, &["upper"]).stdin(Stdio::bytes(&input)).output().unwrap();
    assert_eq!(output.summary.status, EXITED_WELL);
    assert!(output.stdout.bytes == input.to_uppercase().as_bytes());
}

#[test]
fn more_than_is_kept_ends_the_run_or_is_left_out() {
    let module = program();
    let output = builder(&module, &["write-without-end"]).keep_max(100_000).output().unwrap();
    assert_eq!(output.summary.status, ExitStatus::Limited(Limit::Output(100_000)));
    assert_eq!(output.stdout.bytes.len(), 100_000);
    assert!(!output.stdout.is_whole());

    for (keep, kept, gap) in [
        (Keep::Head, 1000, 1000),
        (Keep::Tail, 1000, 0),
        (Keep::HeadAndTail, 1000, 500),
        (Keep::End, 300_000, 300_000),
    ] {
        let output = builder(&module, &["write", "300000"]).keep_max(kept).keep(keep).output().unwrap();
        assert_eq!(output.summary.status, EXITED_WELL, "{keep:?}");
        assert_eq!((output.stdout.bytes.len() as u64, output.stdout.gap), (kept, gap), "{keep:?}");
        assert_eq!(output.stdout.left_out, 300_000 - kept, "{keep:?}");
    }
}

#[test]
fn the_owner_has_the_other_ends_of_pipes() {
    let module = program();
    let mut run = builder(&module, &["upper"]).stdin(Stdio::piped()).stdout(Stdio::piped()).start().unwrap();
    assert!(run.try_wait().unwrap().is_none(), "the guest waits for its input");
    run.stdin.take().unwrap().write_all(b"by a pipe").unwrap();
    let mut text = String::new();
    run.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "BY A PIPE");
    let summary = loop {
        if let Some(summary) = run.try_wait().unwrap() {
            break summary;
        }
        thread::yield_now();
    };
    assert_eq!(summary.status, EXITED_WELL);
    // A second look gets the same.
    assert_eq!(run.wait().unwrap(), summary);

    // A pipe that is left in the run is closed, or its guest would wait for ever.
    let summary = builder(&module, &["upper"]).stdin(Stdio::piped()).stdout(Stdio::null()).status().unwrap();
    assert_eq!(summary.status, EXITED_WELL);
    let summary = builder(&module, &["write", "1000000"]).stdout(Stdio::piped()).status().unwrap();
    assert_eq!(summary.status, EXITED_WELL, "nobody reads, and yet nobody waits");
}

#[test]
fn files_and_callbacks_are_streams() {
    let module = program();
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(b"before, from a file").unwrap();
    input.seek(std::io::SeekFrom::Start(8)).unwrap();
    let mut output = tempfile::tempfile().unwrap();
    let summary =
        builder(&module, &["upper"]).stdin(input).stdout(output.try_clone().unwrap()).status().unwrap();
    assert_eq!(summary.status, EXITED_WELL);
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "FROM A FILE");

    let heard = Arc::new(Mutex::new([0_usize; 2]));
    let count = |stream: usize| {
        let heard = heard.clone();
        Stdio::callback(move |bytes| heard.lock().unwrap()[stream] += bytes.len())
    };
    let summary =
        builder(&module, &["write-both", "500000"]).stdout(count(0)).stderr(count(1)).status().unwrap();
    assert_eq!(summary.status, EXITED_WELL);
    assert_eq!(*heard.lock().unwrap(), [500_000, "before\nafter\n".len()]);
}

/// The guest learns that nobody listens any more, and the owner of the function learns of the panic.
#[test]
fn a_callback_that_panics_is_a_panic_of_the_wait() {
    let module = program();
    let run = builder(&module, &["write", "500000"])
        .stdin(Stdio::null())
        .stdout(Stdio::callback(|_| panic!("of the callback")))
        .start()
        .unwrap();
    let waited = thread::spawn(move || run.wait()).join();
    assert_eq!(waited.unwrap_err().downcast_ref(), Some(&"of the callback"));
}

#[test]
fn a_stream_that_makes_no_sense_is_refused() {
    let module = program();
    for builder in [
        builder(&module, &["upper"]).stdin(Stdio::callback(|_| ())),
        builder(&module, &["upper"]).stdout(Stdio::bytes("")),
        builder(&module, &["upper"]).stderr(Stdio::bytes("")),
    ] {
        let error = builder.start().unwrap_err();
        assert!(matches!(&error, Error::Invalid { hint: Some(_), .. }), "{error:?}");
    }
}

/// A child fills a pipe that nobody reads. Its parent, which writes to the other stream, and the supervisor go on.
#[test]
fn a_pipe_that_nobody_reads_holds_up_those_who_write_to_it_alone() {
    let module = program();
    let mut run = builder(&module, &["flood-in-a-child"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .start()
        .unwrap();
    let lines = BufReader::new(run.stderr.take().unwrap()).lines();
    let (sender, heard) = mpsc::channel();
    let reading = thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    // A pipe has room for 64 KiB, or for 4 if the user has many.
    let pipe = run.stdout.as_ref().unwrap();
    assert!(procfs::eventually(|| {
        let mut flood = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        let is_written = poll(&mut flood, PollTimeout::ZERO) == Ok(1);
        let guests = procfs::children(run.supervisor_pid());
        let sleeps =
            |pid: &Pid| procfs::status_line(*pid, "State").is_some_and(|state| state.starts_with('S'));
        is_written && guests.iter().filter(|pid| procfs::name(**pid) == "sandpool-guest").all(sleeps)
    }));
    heard.try_iter().for_each(drop);
    for _ in 0..100 {
        assert_eq!(heard.recv_timeout(deadline()).as_deref(), Ok("still here"));
    }
    run.stopper().stop(Signal::TERM);
    assert_eq!(run.wait().unwrap().status, ExitStatus::Signaled(Signal::TERM));
    reading.join().unwrap();
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn a_run_can_be_awaited() {
    let module = program();
    let run = builder(&module, &["exit", "7"]).start().unwrap();
    assert_eq!(block_on(async { run.await }).unwrap().status, ExitStatus::Exited(7));
    let run =
        builder(&module, &["upper"]).stdin(Stdio::bytes("text")).stdout(Stdio::piped()).start().unwrap();
    assert_eq!(block_on(run.into_output_future()).unwrap().stdout.bytes, b"TEXT");

    // Nobody wants the end of this one any more, so the run ends.
    let run = builder(&module, &["sleep"]).start().unwrap();
    let supervisor = run.supervisor_pid();
    drop(run.into_future());
    assert!(procfs::eventually(|| procfs::parent(supervisor).is_none()));
}

// Pools.

fn pool(module: &Module) -> Pool {
    Pool::builder(module).processes(2).build().unwrap()
}

fn command(words: &[&str]) -> Command {
    Command::new("program").args(words.iter().copied())
}

#[test]
fn a_pool_runs_a_program_for_each_command() {
    let module = program();
    let pool = pool(&module);
    let output = pool.run(&command(&["upper"]).stdin("some text")).unwrap();
    assert_eq!((output.status, &*output.stdout), (EXITED_WELL, &b"SOME TEXT"[..]));
    let output = pool.run(&command(&["echo", "two", "words"])).unwrap();
    assert_eq!(output.stdout, b"program: two words\n");
    let output = pool.run(&command(&["fail", "no luck"])).unwrap();
    assert_eq!(output.status, ExitStatus::Exited(3));
    assert_eq!((&*output.stdout, output.stderr.raw()), (&b"before the failure"[..], "no luck"));
    // The next command finds nothing of the one before.
    assert_eq!(pool.run(&command(&["echo"])).unwrap().stderr.raw(), "");
    for _ in 0..3 {
        assert_eq!(pool.run(&command(&["count"])).unwrap().stdout, b"0");
    }

    let lens = (0..40).map(|n| n * 7919);
    let commands = lens.clone().map(|len| command(&["write", &len.to_string()]));
    let outputs = pool.imap_commands(commands).map(|output| output.unwrap().stdout.len());
    assert!(outputs.eq(lens.clone()), "in the order of the commands");
    let commands = lens.clone().map(|len| command(&["write", &len.to_string()]));
    let mut outputs: Vec<_> =
        pool.imap_commands_unordered(commands).map(|output| output.unwrap().stdout.len()).collect();
    outputs.sort_unstable();
    assert!(outputs.into_iter().eq(lens));

    let name = OsStr::from_bytes(b"no text: \xff");
    let output = pool.run(&Command::new(name).arg("count").env("A", name)).unwrap();
    assert_eq!(output.status, EXITED_WELL, "any bytes but NUL are an argument");

    let future = pool.submit_command(&command(&["exit", "200"])).unwrap();
    assert_eq!(block_on(future).unwrap().status, ExitStatus::Exited(200));
}

#[test]
fn a_command_has_the_variables_of_its_pool_and_its_own() {
    let module = program();
    let sandbox = Sandbox::new().env("SHARED", "of the pool").env("OTHER", "of the pool");
    let pool = Pool::builder(&module).processes(1).sandbox(sandbox).build().unwrap();
    let env = |name: &str, command: Command| {
        let output = pool.run(&command.args(["env", name])).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let own = Command::new("program").env("OTHER", "of the command").env("NEW", "first").env("NEW", "second");
    assert_eq!(env("SHARED", own.clone()), "of the pool\n");
    assert_eq!(env("OTHER", own.clone()), "of the command\n");
    assert_eq!(env("NEW", own), "second\n");
    assert_eq!(env("NEW", Command::new("program")), "unset\n");
    assert_eq!(env("OTHER", Command::new("program")), "of the pool\n");
}

#[test]
fn a_command_that_ends_otherwise_is_a_failure_and_nobody_elses() {
    let module = program();
    let limits = Limits::default().memory_max(64 << 20).cpu_time(Duration::from_secs(1));
    let pool = Pool::builder(&module)
        .processes(2)
        .sandbox(Sandbox::new().limits(limits))
        .task_timeout(Duration::from_secs(30))
        .output_max(100_000)
        .retries(1)
        .build()
        .unwrap();
    let failed = |words: &[&str]| pool.run(&command(words)).unwrap_err();

    let error = failed(&["trap"]);
    assert_eq!(error.cause, Failure::Ended(ExitStatus::Trapped(Trap::Unreachable)));
    assert_eq!(error.attempts, 2);
    assert!(error.stderr.raw().contains("trapped"), "{}", error.stderr);
    // Endless output ends at its limit, and isn't tried again.
    let error = failed(&["write-without-end"]);
    assert_eq!((error.cause, error.attempts), (Failure::OutputTooLarge(Limit::Output(100_000)), 1));
    assert_eq!(pool.run(&command(&["write", "100000"])).unwrap().stdout.len(), 100_000);
    let error = failed(&["write", "100001"]);
    assert_eq!(error.cause, Failure::OutputTooLarge(Limit::Output(100_000)));
    assert_eq!(pool.run(&command(&["exit", "0"])).unwrap().status, EXITED_WELL);
}

#[test]
fn a_command_that_takes_too_long_is_killed() {
    let module = program();
    let pool = Pool::builder(&module).processes(2).task_timeout(Duration::from_millis(300)).build().unwrap();
    let other = pool.submit_command(&command(&["echo", "on"])).unwrap();
    for words in [&["sleep"][..], &["leave-a-child"]] {
        let error = pool.run(&command(words)).unwrap_err();
        assert_eq!(error.cause, Failure::TimedOut(Duration::from_millis(300)), "{words:?}");
    }
    assert_eq!(other.result().unwrap().stdout, b"program: on\n");
    // The two workers.
    assert!(procfs::eventually(|| procfs::children(pool.supervisor_pid()).len() == 2));
}

/// A command may start processes. They have an empty stdin, and what the command was given is read by nobody else.
#[test]
fn a_command_may_fork() {
    let module = program();
    let pool = pool(&module);
    let output = pool.run(&command(&["fork"]).stdin("one\ntwo\n")).unwrap();
    assert_eq!(output.stdout, b"parent one\ntwo\n");
    assert_eq!(output.stderr.raw(), "the child has 0 bytes of stdin");
}

/// However a command ends, its use of processor and memory is known.
#[test]
fn what_a_command_has_used_is_reported() {
    let module = program();
    let timeout = Duration::from_secs(60);
    let limits = Limits::default().cpu_time(Duration::from_secs(1));
    let sandbox = Sandbox::new().limits(limits);
    let pool = Pool::builder(&module).processes(1).sandbox(sandbox).task_timeout(timeout).build().unwrap();
    let small = pool.submit_command(&command(&["exit", "1"])).unwrap().completed().unwrap().usage;
    let large = pool.submit_command(&command(&["grow", "40"])).unwrap().completed().unwrap().usage;
    let grown = large.peak_memory.unwrap() - small.peak_memory.unwrap();
    assert!((40 << 20..41 << 20).contains(&grown), "{grown}");
    assert!(small.cpu.unwrap() > Duration::ZERO && small.cpu.unwrap() <= small.wall, "{small:?}");

    let error = pool.run(&command(&["trap"])).unwrap_err();
    assert_eq!(error.usage.peak_memory, small.peak_memory);
    assert!(error.usage.cpu.unwrap() > Duration::ZERO && error.usage.wall > Duration::ZERO);
    let error = pool.run(&command(&["spin"])).unwrap_err();
    assert_eq!(error.cause, Failure::Ended(ExitStatus::Limited(Limit::CpuTime(Duration::from_secs(1)))));
    assert!(error.usage.cpu.unwrap() > Duration::from_millis(900), "{:?}", error.usage);
}

#[test]
fn output_goes_where_the_pool_says() {
    let module = program();
    let pool = Pool::builder(&module).processes(1).output(Output::Capture).build().unwrap();
    let text = "x".repeat(50_000);
    let output = pool.run(&command(&["fail", &text])).unwrap();
    assert_eq!((&*output.stdout, output.stderr.raw()), (&b"before the failure"[..], &*text));
}

#[test]
fn commands_that_cannot_be_are_refused() {
    let module = program();
    let pool = pool(&module);
    for wrong in [
        command(&["a\0b"]),
        command(&[]).env("A", "b\0"),
        command(&[]).env("", "value"),
        command(&[]).env("A=B", "value"),
    ] {
        let error = pool.run(&wrong).unwrap_err();
        assert!(matches!(error.cause, Failure::Encode(_)), "{error}");
        let mut outputs = pool.imap_commands([command(&["exit", "0"]), wrong, command(&["exit", "1"])]);
        assert_eq!(outputs.next().unwrap().unwrap().status, EXITED_WELL);
        assert!(matches!(outputs.next().unwrap().unwrap_err().cause, Failure::Encode(_)));
        assert_eq!(outputs.next().unwrap().unwrap().status, ExitStatus::Exited(1));
        assert!(outputs.next().is_none());
    }

    let shared = Pool::builder(&module).processes(1).isolation(Isolation::Worker).build().unwrap();
    let error = shared.run(&command(&["exit", "0"])).unwrap_err();
    assert!(matches!(&error.cause, Failure::Refused(why) if why.raw().contains("isolation task")), "{error}");
    assert!(matches!(shared.stream_commands().unwrap_err().cause, Failure::Refused(_)));

    let tasks = load_text(
        "tasks",
        r#"(module (memory (export "memory") 1)
            (func (export "sandpool_task_nothing") (param i32 i32) (result i32) (i32.const 0)))"#,
    );
    let tasks = Pool::builder(&tasks).processes(1).isolation(Isolation::Task).build().unwrap();
    let error = tasks.run(&command(&[])).unwrap_err();
    assert!(matches!(&error.cause, Failure::Refused(why) if why.raw().contains("_start")), "{error}");
    let error = tasks.imap_commands([command(&[])]).next().unwrap().unwrap_err();
    assert!(matches!(error.cause, Failure::Refused(_)), "{error}");
}

/// Two threads: one feeds, the other takes; a command that can't be has its number, too.
#[test]
fn a_stream_of_commands_has_two_ends() {
    let module = program();
    let pool = pool(&module);
    let (mut feed, results) = pool.stream_commands().unwrap();
    let feeding = thread::spawn(move || {
        for n in 0..200 {
            let wrong = if n % 50 == 49 { "\0" } else { "" };
            assert!(feed.put(&command(&["echo", &format!("{n}{wrong}")])));
        }
    });
    let mut count = 0;
    for (number, outcome) in results {
        assert_eq!(number, count);
        match outcome {
            Ok(completed) => {
                assert_eq!(completed.value.stdout, format!("program: {number}\n").as_bytes());
                assert_eq!(completed.attempts, 1);
            }
            Err(error) => assert!(number % 50 == 49 && matches!(error.cause, Failure::Encode(_)), "{error}"),
        }
        count += 1;
    }
    feeding.join().unwrap();
    assert_eq!(count, 200);
}
