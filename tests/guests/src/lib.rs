//! What several test guests use.

use std::error::Error;

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
