//! The promises of a `Lock` and an `RLock`, also when their holder dies.

use std::cell::RefCell;
use std::time::Duration;

use sandpool_guest::sync::{AcquireError, LockGuard, ReleaseError};
use sandpool_guest::{Event, ExitStatus, Lock, Process, Queue, RLock, Semaphore};
use sandpool_test_guests::{LONG, Outcome, check, ended_well, hang, kill, one_of_two_is_killed, same};

const SHORT: Duration = Duration::from_millis(10);

#[sandpool_guest::main]
fn main() -> Outcome {
    alone()?;
    recursive()?;
    exclusion()?;
    others()?;
    forks()?;
    messages()?;
    dead_holders()?;
    dead_waiters()
}

fn alone() -> Outcome {
    let lock = Lock::new()?;
    same("a new lock is free", lock.locked()?, false)?;
    same("nobody can release it", lock.release(), Err(ReleaseError::TooManyTimes))?;
    let guard = lock.acquire()?;
    same("acquired", lock.locked()?, true)?;
    check("not twice", matches!(lock.try_acquire(), Err(AcquireError::WouldBlock)))?;
    check("not in no time", matches!(lock.acquire_timeout(Duration::ZERO), Err(AcquireError::TimedOut)))?;
    check("not in some time", matches!(lock.acquire_timeout(SHORT), Err(AcquireError::TimedOut)))?;
    same("those didn't release it", lock.locked()?, true)?;
    drop(guard);
    same("released by a drop", lock.locked()?, false)?;
    drop(lock.try_acquire()?);
    drop(lock.acquire_timeout(Duration::ZERO)?);
    drop(lock.acquire_timeout(Duration::MAX)?);
    same("released each time", lock.locked()?, false)?;

    same("released by its guard", lock.acquire()?.release(), Ok(()))?;
    lock.acquire()?.forget();
    same("forgotten", lock.locked()?, true)?;
    same("released without a guard", lock.release(), Ok(()))?;
    same("once", lock.release(), Err(ReleaseError::TooManyTimes))?;
    let guard = lock.acquire()?;
    lock.release()?;
    same("a guard that comes too late", guard.release(), Err(ReleaseError::TooManyTimes))?;

    same("a clone is the same lock", lock.clone(), lock.clone())?;
    check("another lock is another", lock != Lock::new()?)?;
    let guard = lock.acquire()?;
    let clone = lock.clone();
    drop(lock);
    same("a clone is as good", clone.locked()?, true)?;
    drop(clone);
    same("a guard keeps its lock", guard.release(), Ok(()))
}

fn recursive() -> Outcome {
    let lock = RLock::new()?;
    same("a new recursive lock is free", (lock.locked()?, lock.depth()?), (false, 0))?;
    same("nobody can release that", lock.release(), Err(ReleaseError::TooManyTimes))?;
    let first = lock.acquire()?;
    let second = lock.try_acquire()?;
    let third = lock.acquire_timeout(Duration::ZERO)?;
    same("three times", (lock.locked()?, lock.depth()?), (true, 3))?;
    drop(first);
    drop(third);
    same("in any order", (lock.locked()?, lock.depth()?), (true, 1))?;

    let child = Process::fork(|| -> Outcome {
        same("another process sees that", (lock.locked()?, lock.depth()?), (true, 0))?;
        same("another process can't release it", lock.release(), Err(ReleaseError::NotOwner))?;
        check(
            "another process can't acquire it",
            matches!(lock.try_acquire(), Err(AcquireError::WouldBlock))
                && matches!(lock.acquire_timeout(Duration::ZERO), Err(AcquireError::TimedOut))
                && matches!(lock.acquire_timeout(SHORT), Err(AcquireError::TimedOut)),
        )
    })?;
    ended_well(&child)?;
    same("still once", lock.depth()?, 1)?;
    drop(second);
    same("free after as many releases", (lock.locked()?, lock.depth()?), (false, 0))?;
    same("and no more", lock.release(), Err(ReleaseError::TooManyTimes))?;

    lock.acquire()?.forget();
    lock.acquire()?.forget();
    same("forgotten twice", lock.depth()?, 2)?;
    lock.release()?;
    lock.release()?;
    let child = Process::fork(|| -> Outcome {
        let _outer = lock.acquire()?;
        let _inner = lock.acquire()?;
        same("another process can nest", lock.depth()?, 2)
    })?;
    ended_well(&child)?;
    same("and has released both", lock.locked()?, false)?;
    check("a recursive lock is another, too", lock != RLock::new()?)
}

/// No two are inside at once.
fn exclusion() -> Outcome {
    let (lock, recursive) = (Lock::new()?, RLock::new()?);
    let inside = [Semaphore::new(0)?, Semaphore::new(0)?];
    let body = || -> Outcome {
        for _ in 0..500 {
            let guard = lock.acquire()?;
            alone_in(&inside[0])?;
            drop(guard);
            let outer = recursive.acquire()?;
            let inner = recursive.acquire()?;
            drop(outer);
            alone_in(&inside[1])?;
            drop(inner);
        }
        Ok(())
    };
    let children = (0..4).map(|_| Process::fork(body)).collect::<Result<Vec<_>, _>>()?;
    body()?;
    children.iter().try_for_each(ended_well)?;
    println!("ok: one at a time");
    Ok(())
}

fn alone_in(room: &Semaphore) -> Outcome {
    room.release()?;
    let there = room.value()?;
    room.try_acquire()?.forget();
    if there == 1 { Ok(()) } else { Err(format!("{there} at once").into()) }
}

fn others() -> Outcome {
    let lock = Lock::new()?;
    let (about_to, has) = (Event::new()?, Event::new()?);
    let guard = lock.acquire()?;
    let child = Process::fork(|| -> Outcome {
        check("another process sees that it is held", lock.locked()?)?;
        check("it isn't for two", matches!(lock.try_acquire(), Err(AcquireError::WouldBlock)))?;
        about_to.set()?;
        let _guard = lock.acquire()?;
        has.set()?;
        Ok(())
    })?;
    about_to.wait()?;
    same("it waits", has.wait_timeout(SHORT)?, false)?;
    drop(guard);
    same("until it is released", has.wait_timeout(LONG)?, true)?;
    ended_well(&child)?;

    lock.acquire()?.forget();
    let child = Process::fork(|| -> Outcome { Ok(lock.release()?) })?;
    ended_well(&child)?;
    same("anybody may release it", lock.locked()?, false)
}

fn forks() -> Outcome {
    let lock = Lock::new()?;
    let guard = RefCell::new(Some(lock.acquire()?));
    let child = Process::fork(|| -> Outcome {
        drop(guard.take());
        same("a copy of a guard doesn't release", lock.locked()?, true)
    })?;
    ended_well(&child)?;
    let child = Process::fork(|| -> Outcome {
        let copy = guard.take().ok_or("no guard")?;
        same("nor when it is told to", copy.release(), Err(ReleaseError::NotOwner))?;
        same("it is held as before", lock.locked()?, true)
    })?;
    ended_well(&child)?;
    // It exits where it is: nothing that its creator has is dropped in it.
    ended_well(&Process::fork(|| std::process::exit(0))?)?;
    same("the end of a fork doesn't release", lock.locked()?, true)?;

    // The child has the lock by itself when it drops its copy of the older guard.
    let (about_to, dropped) = (Event::new()?, Event::new()?);
    let child = Process::fork(|| -> Outcome {
        about_to.set()?;
        let own = lock.acquire()?;
        drop(guard.take());
        same("a copy doesn't release what is the child's own", lock.locked()?, true)?;
        dropped.set()?;
        same("that is released by its own guard", own.release(), Ok(()))
    })?;
    about_to.wait()?;
    same("the owner releases", guard.take().ok_or("no guard")?.release(), Ok(()))?;
    dropped.wait()?;
    ended_well(&child)?;

    // A closure that owns the guard has it in both processes, and drops it in both.
    let moved: LockGuard = lock.acquire()?;
    let (go, about_to) = (Event::new()?, Event::new()?);
    let go_on = go.clone();
    let asked = about_to.clone();
    let child = Process::fork(move || -> Outcome {
        asked.set()?;
        go_on.wait()?;
        drop(moved);
        Ok(())
    })?;
    about_to.wait()?;
    same("a guard that moves into a fork is dropped by its owner", lock.locked()?, false)?;
    let _guard = lock.acquire()?;
    go.set()?;
    ended_well(&child)?;
    same("and its copy does nothing", lock.locked()?, true)
}

type Locks = (Lock, RLock, Queue<Lock>);

fn spawned((lock, recursive, locks): Locks) -> Outcome {
    check("a spawned process gets the lock", matches!(lock.try_acquire(), Err(AcquireError::WouldBlock)))?;
    check("and the recursive one", matches!(recursive.try_acquire(), Err(AcquireError::WouldBlock)))?;
    same("it is the same in the queue", locks.get()?, lock.clone())?;
    let made = Lock::new()?;
    made.acquire()?.forget();
    locks.put(&made)?;
    lock.release()?;
    same("still not released by another", recursive.release(), Err(ReleaseError::NotOwner))
}

fn messages() -> Outcome {
    let (lock, recursive, locks) = (Lock::new()?, RLock::new()?, Queue::new()?);
    lock.acquire()?.forget();
    let _guard = recursive.acquire()?;
    locks.put(&lock)?;
    ended_well(&Process::spawn(spawned, (lock.clone(), recursive.clone(), locks.clone()))?)?;
    same("it has released the lock", lock.locked()?, false)?;
    // Its holder has ended by now, but the lock has not.
    let received = locks.get()?;
    check(
        "a lock from a process that has ended",
        matches!(received.acquire(), Err(AcquireError::OwnerDied(_))),
    )?;

    let locks = Queue::<Vec<Lock>>::new()?;
    locks.put(&vec![lock.clone(), Lock::new()?, lock.clone()])?;
    let received = locks.get()?;
    same(
        "the same lock twice",
        (received.len(), received[0] == lock, received[0] == received[2]),
        (3, true, true),
    )?;
    check("one that was only in the queue", received[1].acquire()?.release().is_ok())
}

fn dead_holders() -> Outcome {
    let lock = Lock::new()?;
    let recursive = RLock::new()?;
    let held = Event::new()?;
    let hold = || -> Outcome {
        lock.acquire().or_else(AcquireError::into_inner)?.forget();
        for _ in 0..3 {
            recursive.acquire().or_else(AcquireError::into_inner)?.forget();
        }
        held.set()?;
        hang()
    };
    let inherit = |how: &str| -> Outcome {
        let Err(AcquireError::OwnerDied(guard)) = lock.acquire() else {
            return Err(format!("{how}: not told").into());
        };
        check(how, lock.locked()?)?;
        drop(guard);
        drop(lock.acquire().map_err(|error| format!("{how}: told twice: {error}"))?);
        let Err(AcquireError::OwnerDied(guard)) = recursive.acquire_timeout(LONG) else {
            return Err(format!("{how}: not told of the recursive lock").into());
        };
        if recursive.depth()? != 1 {
            return Err(format!("{how}: it was inherited with its depth").into());
        }
        drop(guard);
        drop(recursive.acquire()?);
        held.clear()?;
        Ok(())
    };

    let child = Process::fork(hold)?;
    held.wait()?;
    check("held by one who is to be killed", matches!(lock.try_acquire(), Err(AcquireError::WouldBlock)))?;
    kill(&child)?;
    inherit("a killed holder")?;

    let child = Process::fork(|| -> Outcome {
        lock.acquire()?.forget();
        recursive.acquire()?.forget();
        Ok(())
    })?;
    ended_well(&child)?;
    inherit("a holder that returned")?;

    let child = Process::fork(|| {
        let _guards = (lock.acquire(), recursive.acquire());
        std::process::abort();
    })?;
    child.join()?;
    inherit("a holder that trapped")?;

    let child = Process::fork(|| {
        let _guards = (lock.acquire(), recursive.acquire());
        panic!("on purpose");
    })?;
    same("it panicked", child.join()?, ExitStatus::Exited(1))?;
    inherit("a holder that panicked")?;

    // One of the processes that wait already is told, and only one.
    let child = Process::fork(hold)?;
    held.wait()?;
    let about_to = Queue::new()?;
    let waiting = || -> Result<i32, Box<dyn std::error::Error>> {
        about_to.put(&())?;
        match lock.acquire() {
            Ok(_guard) => Ok(10),
            Err(AcquireError::OwnerDied(_guard)) => Ok(11),
            Err(other) => Err(other.into()),
        }
    };
    let waiters = (0..3).map(|_| Process::fork(waiting)).collect::<Result<Vec<_>, _>>()?;
    for _ in &waiters {
        about_to.get()?;
    }
    kill(&child)?;
    let mut codes = waiters.iter().map(Process::join).collect::<Result<Vec<_>, _>>()?;
    codes.sort_by_key(ToString::to_string);
    let expected = [10, 10, 11].map(ExitStatus::Exited).to_vec();
    same("one of those who wait is told", codes, expected)
}

/// One of two who wait is killed, at any moment, and the other one gets the lock.
fn dead_waiters() -> Outcome {
    let lock = Lock::new()?;
    let recursive = RLock::new()?;
    for round in 0..100 {
        let guards = (lock.acquire()?, recursive.acquire()?);
        let has = Event::new()?;
        let waiting = || -> Outcome {
            let guard = recursive.acquire().or_else(AcquireError::into_inner)?;
            let _guard = lock.acquire().or_else(AcquireError::into_inner)?;
            drop(guard);
            Ok(has.set()?)
        };
        one_of_two_is_killed(round, waiting, || {
            drop(guards);
            Ok(())
        })?;
        check_silently("it has", has.is_set()?)?;
        drop(lock.acquire().or_else(AcquireError::into_inner)?);
        drop(recursive.acquire().or_else(AcquireError::into_inner)?);
    }
    println!("ok: who waits can be killed");
    Ok(())
}

fn check_silently(what: &str, holds: bool) -> Outcome {
    if holds { Ok(()) } else { Err(format!("failed: {what}").into()) }
}
