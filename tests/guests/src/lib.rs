//! Helpers of several test guests.

use std::error::Error;
use std::time::{Duration, Instant};

use sandpool_guest::queue::PutError;
use sandpool_guest::{Event, ExitStatus, Process, Queue, Signal};

/// The result of a test guest: any error is its message and exit code 1.
pub type Outcome = Result<(), Box<dyn Error>>;

/// Prints `ok: what` if it holds, and fails otherwise.
pub fn check(what: &str, holds: bool) -> Outcome {
    if holds {
        println!("ok: {what}");
        Ok(())
    } else {
        Err(format!("failed: {what}").into())
    }
}

/// Prints `ok: what` if both are the same, and fails otherwise, with both.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected {
        println!("ok: {what}");
        Ok(())
    } else {
        Err(format!("failed: {what}: found {found:?}, expected {expected:?}").into())
    }
}

/// The argument at `index` (the first is 0), or else `default`.
pub fn argument<T: std::str::FromStr>(index: usize, default: T) -> T {
    std::env::args().nth(index + 1).and_then(|argument| argument.parse().ok()).unwrap_or(default)
}

/// Waits until it holds, for what nobody reports by itself; prints `ok: what`.
pub fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool, sandpool_guest::Error>) -> Outcome {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > LONG {
            return Err(format!("failed: not in time: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("ok: {what}");
    Ok(())
}

/// Longer than anything takes that isn't a hang.
pub const LONG: Duration = Duration::from_secs(60);

/// A process that waits for what never comes, until it is killed.
pub fn hang() -> Outcome {
    Ok(Event::new()?.wait()?)
}

/// Kills a process, and fails unless that is how it ended.
pub fn kill(process: &Process) -> Outcome {
    process.kill()?;
    ended(process, ExitStatus::Signaled(Signal::KILL))
}

/// Waits for a process that ends in this way.
pub fn ended(process: &Process, expected: ExitStatus) -> Outcome {
    match process.join()? {
        status if status == expected => Ok(()),
        other => Err(format!("{} ended with {other}, not {expected}", process.name()).into()),
    }
}

/// Fails unless a process ends with exit code 0.
pub fn ended_well(process: &Process) -> Outcome {
    ended(process, ExitStatus::Exited(0))
}

/// Two processes wait; one of them is killed, and what they wait for is given: in this order, or in the other. Then the
/// one that is left goes on. `round` chooses who and in which order.
pub fn one_of_two_is_killed(
    round: usize,
    wait: impl Fn() -> Outcome,
    give: impl FnOnce() -> Outcome,
) -> Outcome {
    let about_to = Queue::new()?;
    let waiting = || -> Outcome {
        about_to.put(&())?;
        wait()
    };
    let waiters = [Process::fork(waiting)?, Process::fork(waiting)?];
    about_to.get()?;
    about_to.get()?;
    let (victim, other) = (&waiters[round % 2], &waiters[1 - round % 2]);
    if round % 4 < 2 {
        kill(victim)?;
        give()?;
    } else {
        // It may have been given what it waits for when it dies, or even be through.
        give()?;
        victim.kill()?;
        victim.join()?;
    }
    ended_well(other)
}

/// How many objects there can be at once, beside those that there are.
pub fn most_objects() -> Result<usize, sandpool_guest::Error> {
    let mut events = Vec::new();
    loop {
        match Event::new() {
            Ok(event) => events.push(event),
            Err(sandpool_guest::Error::TooManyObjects) => return Ok(events.len()),
            Err(other) => return Err(other),
        }
    }
}

/// The size of the largest item that the arena has room for.
pub fn largest_item() -> Result<usize, Box<dyn Error>> {
    let queue = Queue::<Vec<u8>>::new()?;
    let (mut fits, mut too_large) = (0, 64 << 20);
    while too_large - fits > 1 {
        let middle = fits + (too_large - fits) / 2;
        match queue.try_put(&vec![0; middle]) {
            Ok(()) => {
                queue.try_get()?;
                fits = middle;
            }
            Err(PutError::Full | PutError::TooLarge) => too_large = middle,
            Err(other) => return Err(other.into()),
        }
    }
    Ok(fits)
}

/// A `main` that runs one of several programs, each of them whole and in a file of its own. The first argument names
/// the program.
///
/// The files are included, because pages show them as they are: the `main` of each is private.
#[macro_export]
macro_rules! programs {
    ($($name:ident)*) => {
        $(mod $name {
            include!(concat!(stringify!($name), ".rs"));

            pub(crate) fn program() {
                main();
            }
        })*

        fn main() {
            match std::env::args().nth(1).as_deref() {
                $(Some(stringify!($name)) => $name::program(),)*
                other => panic!("the page has no program {other:?}"),
            }
        }
    };
}
