//! Clocks go on, and sleeping works, in the main process, in a forked and in a spawned one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sandpool_guest::{ExitStatus, Process};
use sandpool_test_guests::{Outcome, check, same};

#[sandpool_guest::main]
fn main() -> Outcome {
    sleep()?;
    same("a forked child", Process::fork(sleep)?.join()?, ExitStatus::Exited(0))?;
    same("a spawned child", Process::spawn(|()| sleep(), ())?.join()?, ExitStatus::Exited(0))
}

fn sleep() -> Outcome {
    let (monotonic, wall) = (Instant::now(), SystemTime::now());
    check("the wall clock is set", wall.duration_since(UNIX_EPOCH)? > Duration::from_secs(1_600_000_000))?;
    for milliseconds in [0, 1, 20, 50] {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }
    let slept = monotonic.elapsed();
    check("by the monotonic clock", slept >= Duration::from_millis(71) && slept < Duration::from_secs(10))?;
    let slept = wall.elapsed()?;
    check("by the wall clock", slept >= Duration::from_millis(60) && slept < Duration::from_secs(10))
}
