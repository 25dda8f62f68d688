//! Tasks that start processes, also beside a process that their initializer has started.

#![forbid(unsafe_code)]

use std::cell::OnceCell;

use sandpool_guest::sync::AcquireError;
use sandpool_guest::{Error, Lock, Process, Queue};
use sandpool_test_guests::{LONG, Outcome, check, ended_well, hang, kill};

/// A process that doubles numbers.
struct Helper {
    numbers: Queue<u64>,
    doubled: Queue<u64>,
    _process: Process,
}

thread_local! {
    static HELPER: OnceCell<Helper> = const { OnceCell::new() };
}

/// For an initializer.
#[sandpool_guest::task]
fn start_helper() -> Outcome {
    let (numbers, doubled) = (Queue::new()?, Queue::new()?);
    let double = || -> Outcome {
        loop {
            doubled.put(&(2 * numbers.get()?))?;
        }
    };
    let process = Process::builder().daemon().fork(double)?;
    let is_new = HELPER.with(|helper| helper.set(Helper { numbers, doubled, _process: process }).is_ok());
    check("one helper", is_new)
}

/// Has a child ask the helper.
#[sandpool_guest::task]
fn double(number: u64) -> Result<u64, Box<dyn std::error::Error>> {
    HELPER.with(|helper| {
        let Helper { numbers, doubled, .. } = helper.get().ok_or("no helper")?;
        ended_well(&Process::fork(|| -> Outcome { Ok(numbers.put(&number)?) })?)?;
        Ok(doubled.get_timeout(LONG)?)
    })
}

/// A child of a child holds a lock and hangs; the child is killed. Whether the lock's owner has died then.
#[sandpool_guest::task]
fn kill_parent_of_owner() -> Result<bool, Box<dyn std::error::Error>> {
    let (lock, acquired) = (Lock::new()?, Queue::new()?);
    let child = Process::fork(|| -> Outcome {
        Process::fork(|| -> Outcome {
            let _guard = lock.acquire()?;
            acquired.put(&())?;
            hang()
        })?;
        hang()
    })?;
    acquired.get()?;
    kill(&child)?;
    Ok(matches!(lock.acquire_timeout(LONG), Err(AcquireError::OwnerDied(_))))
}

/// The numbers of the last child before one is refused, and of the next that isn't.
#[sandpool_guest::task]
fn numbers_around_a_refusal() -> Result<(u64, u64), Box<dyn std::error::Error>> {
    let number = |child: &Process| -> Result<u64, Box<dyn std::error::Error>> {
        Ok(child.name().rsplit([':', '-']).next().ok_or("no number")?.parse()?)
    };
    let mut children = Vec::new();
    let refusal = loop {
        match Process::fork(hang) {
            Ok(child) => children.push(child),
            Err(error) => break error,
        }
    };
    if !matches!(refusal, Error::TooManyProcesses) {
        return Err(refusal.into());
    }
    let last = children.pop().ok_or("no child")?;
    let number_of_last = number(&last)?;
    kill(&last)?;
    last.close()?;
    let next = Process::fork(|| ())?;
    ended_well(&next)?;
    let numbers = (number_of_last, number(&next)?);
    children.iter().try_for_each(kill)?;
    Ok(numbers)
}

fn main() {}
