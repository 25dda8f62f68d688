//! Deadlines that the library's own tests share: no test may wait for ever.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a panic is how a test fails, and it says why it ends all"
)]

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long a test may take before it counts as a hang: as in `tests/it`.
fn deadline() -> Duration {
    let seconds = std::env::var("SANDPOOL_TEST_DEADLINE").map_or(120, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

/// Does work that may wait for something. If the deadline passes, the program ends, with the name of the test: a thread can't be
/// ended in another way.
pub(crate) fn within_deadline<T>(work: impl FnOnce() -> T) -> T {
    within(deadline(), work)
}

/// The same for a test that does the work of this number of tests.
pub(crate) fn within_deadlines<T>(tests: u32, work: impl FnOnce() -> T) -> T {
    within(deadline().saturating_mul(tests.max(1)), work)
}

fn within<T>(deadline: Duration, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = mpsc::channel::<()>();
    let name = thread::current().name().unwrap_or_default().to_owned();
    let watch = thread::spawn(move || {
        if is_done.recv_timeout(deadline) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("the test {name} hangs");
            std::process::abort();
        }
    });
    let result = work();
    drop(done);
    watch.join().unwrap();
    result
}

/// Waits until a thread of this program sleeps: it waits for something, and the thread that wakes it then has one to wake.
pub(crate) fn wait_until_asleep(thread: Pid) {
    let state = || {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next()
    };
    within_deadline(|| {
        while state() != Some('S') {
            thread::yield_now();
        }
    });
}

/// Runs a command, with everything that it starts, to its end or to the deadline.
pub(crate) fn output_within_deadline(command: &mut Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (ends, ended) = mpsc::channel();
    let all = |from: &mut dyn Read| {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    };
    thread::scope(|scope| {
        let stderr = scope.spawn(move || all(&mut stderr));
        let stdout = scope.spawn(move || {
            let bytes = all(&mut stdout);
            ends.send(()).unwrap();
            bytes
        });
        let hangs = ended.recv_timeout(deadline()).is_err();
        if hangs {
            // Nobody has waited for the process yet, so its number isn't another's.
            killpg(group, Signal::SIGKILL).unwrap();
        }
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        let status = child.wait().unwrap();
        assert!(!hangs, "{command:?} hangs\n{}", String::from_utf8_lossy(&stderr));
        Output { status, stdout, stderr }
    })
}

#[test]
fn what_hangs_is_ended() {
    const HANGS: &str = "SANDPOOL_TEST_HANGS";
    if std::env::var_os(HANGS).is_some() {
        return within_deadline(|| thread::sleep(Duration::from_secs(100_000)));
    }
    let output = output_within_deadline(
        Command::new(std::env::current_exe().unwrap())
            .args(["testing::deadline::what_hangs_is_ended", "--exact", "--nocapture"])
            .env(HANGS, "1")
            .env("SANDPOOL_TEST_DEADLINE", "0"),
    );
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the test testing::deadline::what_hangs_is_ended hangs"), "{said}");
}
