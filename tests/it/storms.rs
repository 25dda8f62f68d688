//! Guests that keep the supervisor as busy as they can, by calls that any guest may make. Their end comes soon after somebody
//! asks for it, whatever they do, also beside others who want the processors.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sandpool::pool::{Failure, Format};
use sandpool::{Limits, Pool, Sandbox};

use crate::ordinary_user::Home;
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
/// be slower. Without the promise, it takes twenty and more.
fn soon() -> Duration {
    let seconds = std::env::var("SANDPOOL_STORM_SECONDS").map_or(10, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

/// Processes that compute for ever, as long as this lives.
struct Crowd(Vec<Child>);

impl Crowd {
    fn new(count: usize) -> Self {
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

/// Where a storm is ended: beside how many busy loops, and whether it is an ordinary user's.
#[derive(Debug, Clone, Copy)]
struct Place {
    busy: usize,
    is_users: bool,
}

const PLACES: [Place; 4] = [
    Place { busy: 0, is_users: false },
    Place { busy: 8, is_users: true },
    Place { busy: 8, is_users: false },
    Place { busy: 0, is_users: true },
];

/// Has each storm end in each of the places; or, unless `SANDPOOL_STORMS` is `all`, in one of them, which isn't the same for
/// all storms. `way` is a number for the way to end them, so that it isn't the same for all ways either.
fn each(way: usize, places: &[Place], end: impl Fn(&Storm, Place)) {
    let _alone = alone();
    let all = std::env::var_os("SANDPOOL_STORMS").is_some_and(|which| which == "all");
    for (number, (name, text)) in STORMS.into_iter().enumerate() {
        let storm = Storm { name, text };
        for (turn, place) in places.iter().enumerate() {
            if all || (number + way) % places.len() == turn {
                eprintln!("{name}: {place:?}");
                end(&storm, *place);
            }
        }
    }
}

struct Storm {
    name: &'static str,
    text: &'static str,
}

impl Storm {
    /// `sandpool run` of it.
    fn command(&self, home: &Home, place: Place, flags: &[&str]) -> Command {
        let path = home.file(&format!("{}.wat", self.name), self.text);
        let mut command = if place.is_users { home.sandpool() } else { sandpool() };
        command.args(["run", "--arena-size", "4GiB"]).args(flags).arg(path);
        command
    }

    /// The same as a task of the name `storm`.
    fn as_task(&self) -> String {
        let text = self.text.replace("(func (export \"_start\")", "(func $all");
        assert_ne!(text, self.text, "{}", self.name);
        let (text, _) = text.rsplit_once(')').unwrap();
        format!(
            r#"{text} (func (export "sandpool_task_storm") (param i32 i32) (result i32) (call $all) (i32.const 0)))"#
        )
    }

    #[track_caller]
    fn expect_soon(&self, asked: Instant, place: Place) {
        let took = asked.elapsed();
        assert!(took <= soon(), "{}: {place:?}: the end came after {took:?}", self.name);
    }
}

/// Asks for the end of each storm by a signal to its embedder.
fn end_by(way: usize, signal: Signal, flags: &[&str]) {
    let home = Home::new();
    each(way, &PLACES, |storm, place| {
        let run = Run::start(&mut storm.command(&home, place, flags));
        run.wait_for_error_line("at it");
        let crowd = Crowd::new(place.busy);
        let asked = Instant::now();
        assert!(procfs::kill(run.embedder(), signal, |pid| pid == run.embedder()));
        run.finish().expect_signal(signal);
        storm.expect_soon(asked, place);
        drop(crowd);
    });
}

#[test]
fn a_storm_ends_by_ctrl_c() {
    end_by(0, Signal::SIGINT, &[]);
}

#[test]
fn a_storm_ends_by_sigterm() {
    end_by(1, Signal::SIGTERM, &[]);
}

#[test]
fn a_storm_ends_with_its_owner() {
    end_by(2, Signal::SIGKILL, &[]);
}

/// The processes are killed one after the other then, and some fork while others are killed.
#[test]
fn a_storm_ends_without_a_namespace_of_its_processes() {
    end_by(3, Signal::SIGTERM, &["--without-layer", "pid-namespace"]);
}

#[test]
fn a_storm_ends_at_a_limit_of_time() {
    let home = Home::new();
    each(3, &PLACES, |storm, place| {
        // So that it is compiled: the clock of a run begins after that.
        finish(&mut storm.command(&home, place, &["--run-wall-time", "1ms"])).expect_code(134);
        let _crowd = Crowd::new(place.busy);
        let begun = Instant::now();
        let ended = finish(&mut storm.command(&home, place, &["--run-wall-time", "3s"])).expect_code(134);
        assert!(ended.stderr.contains("limited: wall time of the run 3 s"), "{}: {ended}", storm.name);
        storm.expect_soon(begun + Duration::from_secs(3), place);
    });
}

/// Those of this program, which is its embedder.
const OWN: [Place; 2] = [PLACES[0], PLACES[2]];

/// Ends a storm some time after it has begun, and sees that it is gone.
fn end_own(storm: &Storm, place: Place, supervisor: procfs::Pid, least: usize, end: impl FnOnce()) {
    let has_begun = procfs::eventually(|| procfs::children(supervisor).len() >= least);
    assert!(has_begun, "{}: it doesn't begin", storm.name);
    let _crowd = Crowd::new(place.busy);
    Random::new().pause(Duration::from_secs(2));
    let asked = Instant::now();
    end();
    storm.expect_soon(asked, place);
    assert!(procfs::eventually(|| procfs::parent(supervisor).is_none()), "{}: it is left", storm.name);
}

/// A sandbox with a large arena.
fn large() -> Sandbox {
    Sandbox::new().limits(Limits::default().arena_size(4 << 30))
}

/// Starts a run of each storm, and ends it at some moment.
fn end_run_by(way: usize, end: impl Fn(sandpool::Run)) {
    each(way, &OWN, |storm, place| {
        let module = load_text(storm.name, storm.text);
        let run = sandpool::Run::builder(&module).sandbox(large()).start().unwrap();
        end_own(storm, place, run.supervisor_pid(), 2, || end(run));
    });
}

#[test]
fn a_storm_ends_by_a_stop() {
    end_run_by(0, |run| {
        run.stopper().stop(sandpool::Signal::TERM);
        let (done, wait) = mpsc::channel();
        std::thread::spawn(move || done.send(run.wait().map(|summary| summary.status)));
        wait.recv_timeout(deadline()).unwrap().unwrap();
    });
}

#[test]
fn a_storm_ends_when_its_run_is_dropped() {
    end_run_by(1, drop);
}

/// Has two workers of a pool run each storm, and ends the pool at some moment.
fn end_pool_by(way: usize, end: impl Fn(Pool)) {
    each(way, &OWN, |storm, place| {
        let module = load_text(storm.name, &storm.as_task());
        let pool = Pool::builder(&module).processes(2).sandbox(large()).build().unwrap();
        let tasks = [(); 2].map(|()| pool.submit_record("storm", Format::Bytes, &[]).unwrap());
        end_own(storm, place, pool.supervisor_pid(), 4, || end(pool));
        for task in tasks {
            let failure = task.result().unwrap_err();
            assert!(matches!(failure.cause, Failure::PoolEnded(_) | Failure::NotRunning), "{failure}");
        }
    });
}

#[test]
fn a_storm_of_tasks_ends_by_terminate() {
    end_pool_by(0, |pool| pool.terminate());
}

#[test]
fn a_storm_of_tasks_ends_when_its_pool_is_dropped() {
    end_pool_by(1, drop);
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
