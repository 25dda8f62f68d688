//! Runs whose system calls are seen, and made to fail, or met by a kill: the moments that chance hits once in a thousand runs.

mod journal;
mod moments;
mod registers;

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::procfs;
use crate::support::deadline;

/// Of which processes system calls are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Of all threads of the command, and of no process that it starts.
    Command,
    /// Of all processes of the run as well.
    Run,
}

/// Where a thread is in a system call.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Entry { number: i64, args: [u64; 6] },
    Exit { result: i64 },
}

/// The fate of a system call that begins, or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    GoOn,
    /// The call isn't made, and fails with this error. Only at an entry.
    Fail(Errno),
    /// The process is killed before anything else happens.
    Kill,
}

/// Runs a command to its end, and asks `judge` at each stage of each system call.
#[allow(clippy::zombie_processes, reason = "`waitpid` waits for it, as for its threads")]
fn trace(
    command: &Command,
    stdout: Stdio,
    stderr: Stdio,
    seen: Seen,
    mut judge: impl FnMut(Pid, Stage) -> Verdict,
) -> ExitStatus {
    // The shell waits until it is traced, and is the command then.
    let mut shell = Command::new("sh");
    shell.args(["-c", "read -r _; exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        shell.current_dir(dir);
    }
    shell.stdin(Stdio::piped()).stdout(stdout).stderr(stderr);
    let mut child = shell.process_group(0).spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let mut options =
        Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    if seen == Seen::Run {
        options |= Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK;
    }
    ptrace::seize(pid, options).unwrap();
    ptrace::interrupt(pid).unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    // A process that hangs is killed, by its number, which is nobody else's as long as this thread hasn't waited for it.
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let hangs = is_done.recv_timeout(deadline()) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if hangs {
            procfs::kill(pid.as_raw().unsigned_abs(), Signal::SIGKILL, |_| true);
        }
        hangs
    });
    let mut failing = HashMap::new();
    let status = loop {
        // Other tests' children are other threads'.
        let status = waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)).unwrap();
        let (thread, signal) = match status {
            WaitStatus::Exited(ended, code) if ended == pid => break ExitStatus::from_raw(code << 8),
            WaitStatus::Signaled(ended, signal, _) if ended == pid => {
                break ExitStatus::from_raw(signal as i32);
            }
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => continue,
            WaitStatus::PtraceSyscall(thread) => {
                if let Some(stage) = stage(thread) {
                    obey(thread, stage, judge(thread, stage), &mut failing);
                }
                (thread, None)
            }
            WaitStatus::PtraceEvent(thread, ..) => (thread, None),
            WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
            _ => continue,
        };
        match ptrace::syscall(thread, signal) {
            // It may have been killed meanwhile.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => panic!("{error}"),
        }
    };
    drop(done);
    assert!(!watch.join().unwrap(), "it hangs");
    status
}

#[allow(unsafe_code, reason = "the kernel says which field of a union there is")]
fn stage(thread: Pid) -> Option<Stage> {
    const ENTRY: u8 = 1;
    const EXIT: u8 = 2;
    let info = ptrace::syscall_info(thread).ok()?;
    match info.op {
        ENTRY => {
            // SAFETY: this is what it has at an entry.
            let entry = unsafe { info.u.entry };
            Some(Stage::Entry { number: entry.nr as i64, args: entry.args })
        }
        EXIT => {
            // SAFETY: this is what it has at an exit.
            let exit = unsafe { info.u.exit };
            Some(Stage::Exit { result: exit.sval })
        }
        _ => None,
    }
}

/// Does to a thread what was decided; `failing` are the threads in calls that are to fail.
fn obey(thread: Pid, stage: Stage, verdict: Verdict, failing: &mut HashMap<Pid, Errno>) {
    match (stage, verdict) {
        (Stage::Entry { .. }, Verdict::Fail(error)) => {
            // The jail knows this call, and no call of the guest's comes in between.
            registers::set_call(thread, libc::SYS_sched_yield);
            failing.insert(thread, error);
        }
        (_, Verdict::Kill) => {
            procfs::kill(thread.as_raw().unsigned_abs(), Signal::SIGKILL, |_| true);
        }
        (Stage::Exit { .. }, _) => {
            if let Some(error) = failing.remove(&thread) {
                registers::set_result(thread, -i64::from(error as i32));
            }
        }
        (Stage::Entry { .. }, Verdict::GoOn) => {}
    }
}
