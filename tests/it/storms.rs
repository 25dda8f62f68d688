//! Guests that keep the supervisor as busy as they can, by calls that any guest may make. Whoever asks for their end gets it
//! soon, whatever they do, also beside others who want the processors.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::procfs;
use crate::support::{Random, Run, deadline, finish, load_text, sandpool};

/// A module of its own each; see there.
const STORMS: [(&str, &str); 7] = [
    ("chains", include_str!("../storms/chains.wat")),
    ("killed", include_str!("../storms/killed.wat")),
    ("long_queue", include_str!("../storms/long_queue.wat")),
    ("names", include_str!("../storms/names.wat")),
    ("waiters", include_str!("../storms/waiters.wat")),
    ("deep", include_str!("../storms/deep.wat")),
    ("messages", include_str!("../storms/messages.wat")),
];

/// An end comes within this time: `SANDPOOL_STORM_SECONDS`. One second is promised; beside all other tests, a machine may
/// be slower. Without the promise, it takes ten and more.
fn soon() -> Duration {
    let seconds = std::env::var("SANDPOOL_STORM_SECONDS").map_or(6, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

/// Processes that compute for ever, as long as this lives.
struct Crowd(Vec<Child>);

impl Crowd {
    fn of(count: usize) -> Self {
        let busy = |_| Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn();
        Self((0..count).map(busy).collect::<Result<_, _>>().unwrap())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One at a time: else it is another storm that an end waits for.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `sandpool run` of a storm.
fn storm(name: &str, text: &str, flags: &[&str]) -> (Run, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join(name).with_extension("wat");
    fs::write(&path, text).unwrap();
    let mut command = sandpool();
    command.args(["run", "--arena-size", "4GiB"]).args(flags).arg(path);
    (Run::start(&mut command), folder)
}

#[track_caller]
fn is_soon(asked: Instant, name: &str, how: &str) {
    let took = asked.elapsed();
    assert!(took <= soon(), "{name}: the end by {how} came after {took:?}");
}

/// Asks for the end of each storm by a signal to its embedder.
fn end_by(signal: Signal, busy: usize) {
    let _alone = alone();
    for (name, text) in STORMS {
        eprintln!("{name}");
        let (run, _folder) = storm(name, text, &[]);
        run.wait_for_error_line("at it");
        let crowd = Crowd::of(busy);
        let asked = Instant::now();
        assert!(procfs::kill(run.embedder(), signal, |pid| pid == run.embedder()));
        run.finish().expect_signal(signal);
        is_soon(asked, name, signal.as_str());
        drop(crowd);
    }
}

#[test]
fn a_storm_ends_by_ctrl_c() {
    end_by(Signal::SIGINT, 0);
}

#[test]
fn a_storm_ends_by_sigterm_beside_busy_loops() {
    end_by(Signal::SIGTERM, 8);
}

#[test]
fn a_storm_ends_with_its_owner() {
    end_by(Signal::SIGKILL, 0);
}

#[test]
fn a_storm_ends_at_a_limit_of_time() {
    let _alone = alone();
    for (name, text) in STORMS {
        // So that it is compiled: the clock of a run begins after that.
        storm(name, text, &["--run-wall-time", "1ms"]).0.finish().expect_code(134);
        let _crowd = Crowd::of(8);
        let begun = Instant::now();
        let (run, _folder) = storm(name, text, &["--run-wall-time", "3s"]);
        let ended = run.finish().expect_code(134);
        assert!(ended.stderr.contains("limited: wall time of the run 3 s"), "{name}: {ended}");
        is_soon(begun + Duration::from_secs(3), name, "its limit");
    }
}

/// An embedder stops the run, or drops it, at some moment of the storm.
#[test]
fn a_storm_ends_when_its_embedder_says_so() {
    let _alone = alone();
    let mut random = Random::new();
    for (name, text) in STORMS {
        let module = load_text(name, text);
        for drops in [false, true] {
            let mut builder = sandpool::Run::builder(&module);
            let run = builder.arena_size(4 << 30).start().unwrap();
            let supervisor = run.supervisor_pid();
            assert!(
                procfs::eventually(|| procfs::children(supervisor).len() >= 2),
                "{name}: it doesn't begin"
            );
            random.pause(Duration::from_secs(2));
            let asked = Instant::now();
            if drops {
                drop(run);
            } else {
                run.stopper().stop(Signal::SIGTERM as i32);
                let (done, wait) = mpsc::channel();
                std::thread::spawn(move || done.send(run.wait().map(|summary| summary.status)));
                wait.recv_timeout(deadline()).unwrap().unwrap();
            }
            is_soon(asked, name, if drops { "a drop" } else { "a stop" });
            assert!(procfs::eventually(|| procfs::parent(supervisor).is_none()), "{name}: it is left");
        }
    }
}

/// Queues that hold their own handle, or each other's, five times as many as there is room for.
#[test]
fn queues_that_hold_themselves_go() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("circles.wat");
    fs::write(&path, include_str!("../storms/circles.wat")).unwrap();
    for size in ["4MiB", "1GiB"] {
        let mut command = sandpool();
        command.args(["run", "--arena-size", size, "--objects-max", "1000"]).arg(&path);
        finish(&mut command).expect_code(0);
    }
}
