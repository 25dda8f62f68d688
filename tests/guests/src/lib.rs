//! What several test guests use.

use std::error::Error;

use sandpool_guest::{ExitStatus, Process};

/// What a test guest returns: any error is its message and exit code 1.
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

/// Kills a process, and fails unless that is how it ended.
pub fn kill(process: &Process) -> Outcome {
    process.kill()?;
    ended(process, ExitStatus::Signaled(9))
}

/// Fails unless a process ends so.
pub fn ended(process: &Process, expected: ExitStatus) -> Outcome {
    let status = process.join()?;
    if status == expected {
        Ok(())
    } else {
        Err(format!("{} ended with {status}, not {expected}", process.name()).into())
    }
}

/// Fails unless a process ends with exit code 0.
pub fn ended_well(process: &Process) -> Outcome {
    ended(process, ExitStatus::Exited(0))
}
