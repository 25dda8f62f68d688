//! The promises of a `Condition`, also when a process dies that waits or holds its lock.

use std::time::Duration;

use sandpool_guest::sync::{AcquireError, ConditionError, Guard, ReleaseError};
use sandpool_guest::{Condition, Event, ExitStatus, Lock, Process, Queue, RLock, Semaphore};
use sandpool_test_guests::{LONG, Outcome, check, ended_well, hang, kill, same};

const SHORT: Duration = Duration::from_millis(10);

#[sandpool_guest::main]
fn main() -> Outcome {
    alone()?;
    owners()?;
    counts()?;
    predicates()?;
    whole_release()?;
    two_of_one_lock()?;
    messages()?;
    dead_waiters()?;
    dead_holders()
}

fn alone() -> Outcome {
    let condition = Condition::new()?;
    let guard = condition.acquire()?;
    same("nobody is notified", (guard.notify_one()?, guard.notify(7)?, guard.notify_all()?), (false, 0, 0))?;
    same("not in no time", guard.wait_timeout(Duration::ZERO)?, false)?;
    same("not in some time", guard.wait_timeout(SHORT)?, false)?;
    same("a notification isn't kept", (guard.notify_all()?, guard.wait_timeout(SHORT)?), (0, false))?;
    let inner = condition.try_acquire()?;
    drop(condition.acquire_timeout(Duration::ZERO)?);
    same("its own lock is recursive", inner.release(), Ok(()))?;
    same("released by its guard", guard.release(), Ok(()))?;
    same("nobody can release it now", condition.release(), Err(ReleaseError::TooManyTimes))?;
    condition.acquire()?.forget();
    same("forgotten", condition.release(), Ok(()))?;

    let lock = Lock::new()?;
    let condition = Condition::with_lock(&lock)?;
    let guard = condition.acquire()?;
    check("its lock is the one that was given", lock.locked()?)?;
    check("which isn't recursive", matches!(condition.try_acquire(), Err(AcquireError::WouldBlock)))?;
    check("nor in some time", matches!(condition.acquire_timeout(SHORT), Err(AcquireError::TimedOut)))?;
    same("a wait takes it back", (guard.wait_timeout(SHORT)?, lock.locked()?), (false, true))?;
    drop(guard);
    same("released by a drop", lock.locked()?, false)?;
    same("a clone is the same condition", condition.clone(), condition.clone())?;
    check("another condition is another", condition != Condition::with_lock(&lock)?)
}

/// Only who holds the lock may wait and notify.
fn owners() -> Outcome {
    let condition = Condition::new()?;
    let guard = condition.acquire()?;
    let child = Process::fork(|| -> Outcome {
        let refused = |what: &str, result: Result<u64, ConditionError>| {
            same(what, result, Err(ConditionError::NotOwner))
        };
        refused("a copy of a guard can't wait", guard.wait().map(|()| 0))?;
        refused("nor for some time", guard.wait_timeout(SHORT).map(u64::from))?;
        refused("nor for something", guard.wait_for(|| false).map(|()| 0))?;
        refused("nor notify", guard.notify(1))?;
        refused("nor notify all", guard.notify_all())?;
        check("nor is the lock free", matches!(condition.try_acquire(), Err(AcquireError::WouldBlock)))
    })?;
    ended_well(&child)?;
    same("the owner can", guard.notify_all()?, 0)?;

    let (lock, other) = (Lock::new()?, RLock::new()?);
    let held = lock.acquire()?;
    check("not with another lock's guard", matches!(condition.under(&held), Err(ConditionError::NotOwner)))?;
    let held = other.acquire()?;
    check("of either kind", matches!(condition.under(&held), Err(ConditionError::NotOwner)))?;
    let with_other = Condition::with_rlock(&other)?;
    same("but with its own lock's", with_other.under(&held)?.wait_timeout(Duration::ZERO)?, false)?;
    same("which that doesn't release", other.depth()?, 1)
}

/// A notification wakes the number of processes that it asks for, and those first that have waited longest.
fn counts() -> Outcome {
    let condition = Condition::new()?;
    let (waiting, woken) = (Queue::new()?, Queue::new()?);
    let mut children = Vec::new();
    for number in 0..7 {
        let (condition, waiting, woken) = (&condition, &waiting, &woken);
        children.push(Process::fork(move || -> Outcome {
            let guard = condition.acquire()?;
            waiting.put(&())?;
            guard.wait()?;
            Ok(woken.put(&number)?)
        })?);
        waiting.get()?;
        // The lock is free when it waits: so they wait in this order.
        drop(condition.acquire()?);
    }
    let numbers = |count: usize| -> Result<Vec<u32>, Box<dyn std::error::Error>> {
        let mut numbers = (0..count).map(|_| woken.get_timeout(LONG)).collect::<Result<Vec<_>, _>>()?;
        numbers.sort_unstable();
        Ok(numbers)
    };

    let guard = condition.acquire()?;
    same("one is notified", guard.notify_one()?, true)?;
    check("and can't go on yet", woken.get_timeout(SHORT).is_err())?;
    drop(guard);
    same("the first", numbers(1)?, vec![0])?;
    check("and no other", woken.get_timeout(SHORT).is_err())?;
    let guard = condition.acquire()?;
    same("two are notified", guard.notify(2)?, 2)?;
    drop(guard);
    same("the next two", numbers(2)?, vec![1, 2])?;
    let guard = condition.acquire()?;
    same("one by one", (guard.notify(1)?, guard.notify(1)?), (1, 1))?;
    drop(guard);
    same("two more", numbers(2)?, vec![3, 4])?;
    let guard = condition.acquire()?;
    same("all are notified", guard.notify_all()?, 2)?;
    same("there are no more", (guard.notify_all()?, guard.notify_one()?), (0, false))?;
    drop(guard);
    same("the last two", numbers(2)?, vec![5, 6])?;
    children.iter().try_for_each(ended_well)?;
    let guard = condition.acquire()?;
    same("nobody is left", guard.notify(u64::MAX)?, 0)
}

fn predicates() -> Outcome {
    let condition = Condition::new()?;
    let guard = condition.acquire()?;
    let mut calls = 0;
    guard.wait_for(|| {
        calls += 1;
        true
    })?;
    same("nothing to wait for", calls, 1)?;
    same("in time", guard.wait_for_timeout(Duration::ZERO, || true)?, true)?;
    let mut calls = 0;
    let never = |calls: &mut u32| {
        *calls += 1;
        false
    };
    same("never, in no time", guard.wait_for_timeout(Duration::ZERO, || never(&mut calls))?, false)?;
    same("never, in some time", guard.wait_for_timeout(SHORT, || never(&mut calls))?, false)?;
    check("it was looked at", calls >= 2)?;
    drop(guard);

    // The state is a number; who changes it holds the lock.
    let state = Semaphore::new(0)?;
    let waiting = Event::new()?;
    let child = Process::fork(|| -> Outcome {
        let guard = condition.acquire()?;
        waiting.set()?;
        guard.wait_for(|| state.value().is_ok_and(|value| value == 4))?;
        same("a predicate", state.value()?, 4)?;
        waiting.set()?;
        let in_time = guard.wait_for_timeout(LONG, || state.value().is_ok_and(|value| value == 6))?;
        same("a predicate with a timeout", (in_time, state.value()?), (true, 6))
    })?;
    for step in 0..6 {
        if step % 4 == 0 {
            waiting.wait()?;
            waiting.clear()?;
        }
        let guard = condition.acquire()?;
        state.release()?;
        guard.notify_all()?;
    }
    ended_well(&child)
}

/// A wait releases a lock wholly, and takes it back as often as it was held.
fn whole_release() -> Outcome {
    let lock = RLock::new()?;
    let condition = Condition::with_rlock(&lock)?;
    let waiting = Event::new()?;
    let child = Process::fork(|| -> Outcome {
        let _outer = lock.acquire()?;
        let _middle = lock.acquire()?;
        let guard = condition.acquire()?;
        waiting.set()?;
        guard.wait()?;
        same("as often as before", lock.depth()?, 3)?;
        same("also without a notification", (guard.wait_timeout(SHORT)?, lock.depth()?), (false, 3))
    })?;
    waiting.wait()?;
    let guard = condition.acquire()?;
    same("the lock is wholly released", lock.depth()?, 1)?;
    guard.notify_one()?;
    drop(guard);
    ended_well(&child)
}

/// A buffer with room for three, and a condition for each side.
fn two_of_one_lock() -> Outcome {
    const ITEMS: u64 = 500;
    let lock = Lock::new()?;
    let (not_empty, not_full) = (Condition::with_lock(&lock)?, Condition::with_lock(&lock)?);
    let (buffer, sums) = (Queue::new()?, Queue::new()?);
    let consume = || -> Outcome {
        let mut sum = 0;
        loop {
            let guard = not_empty.acquire()?;
            guard.wait_for(|| buffer.qsize().is_ok_and(|size| size > 0))?;
            let item: u64 = buffer.try_get()?;
            tell(&not_full, &guard)?;
            drop(guard);
            if item == 0 {
                return Ok(sums.put(&sum)?);
            }
            sum += item;
        }
    };
    let put = |item: u64| -> Outcome {
        let guard = lock.acquire()?;
        not_full.under(&guard)?.wait_for(|| buffer.qsize().is_ok_and(|size| size < 3))?;
        buffer.put(&item)?;
        if buffer.qsize()? > 3 {
            return Err("more than there is room for".into());
        }
        tell(&not_empty, &guard)
    };
    let consumers = [Process::fork(consume)?, Process::fork(consume)?];
    let producers =
        (0..3).map(|_| Process::fork(|| (1..=ITEMS).try_for_each(put))).collect::<Result<Vec<_>, _>>()?;
    producers.iter().try_for_each(ended_well)?;
    put(0)?;
    put(0)?;
    consumers.iter().try_for_each(ended_well)?;
    same("a buffer with two conditions", sums.get()? + sums.get()?, 3 * ITEMS * (ITEMS + 1) / 2)?;
    same("is empty", (buffer.qsize()?, lock.locked()?), (0, false))
}

fn tell(condition: &Condition, guard: &impl Guard) -> Outcome {
    condition.under(guard)?.notify_one()?;
    Ok(())
}

fn spawned((condition, lock, conditions): (Condition, Lock, Queue<Condition>)) -> Outcome {
    let guard = condition.acquire()?;
    same("a spawned process gets the condition", conditions.get()?, condition.clone())?;
    check("and its lock", lock.locked()?)?;
    conditions.put(&Condition::new()?)?;
    check("its creator waits", guard.notify_one()?)
}

fn messages() -> Outcome {
    let lock = Lock::new()?;
    let (condition, conditions) = (Condition::with_lock(&lock)?, Queue::new()?);
    let guard = condition.acquire()?;
    conditions.put(&condition)?;
    let child = Process::spawn(spawned, (condition.clone(), lock.clone(), conditions.clone()))?;
    same("notified by a spawned process", guard.wait_timeout(LONG)?, true)?;
    drop(guard);
    ended_well(&child)?;
    let received = conditions.get()?;
    same("a condition from a process that has ended", received.acquire()?.wait_timeout(SHORT)?, false)
}

fn dead_waiters() -> Outcome {
    let condition = Condition::new()?;
    let (waiting, woken) = (Queue::new()?, Queue::new()?);
    let start = |number: u32| -> Result<Process, Box<dyn std::error::Error>> {
        let child = Process::fork(|| -> Outcome {
            let guard = condition.acquire()?;
            waiting.put(&())?;
            guard.wait()?;
            Ok(woken.put(&number)?)
        })?;
        waiting.get()?;
        drop(condition.acquire()?);
        Ok(child)
    };
    for round in 0..30 {
        let (first, second) = (start(round)?, start(1000 + round)?);
        kill(&first)?;
        let guard = condition.acquire()?;
        if round % 2 == 0 {
            guard.notify_one()?;
        } else {
            guard.notify_all()?;
        }
        drop(guard);
        if woken.get_timeout(LONG)? != 1000 + round {
            return Err("a dead process was woken".into());
        }
        ended_well(&second)?;
    }
    println!("ok: a notification doesn't go to the dead");

    let alone = start(0)?;
    kill(&alone)?;
    let guard = condition.acquire()?;
    same("nobody is left to be notified", guard.notify_all()?, 0)?;
    drop(guard);

    // One who was notified dies before it gets the lock, or after: the lock is free, or taken over.
    for _ in 0..30 {
        let child = start(0)?;
        let guard = condition.acquire().or_else(AcquireError::into_inner)?;
        guard.notify_all()?;
        drop(guard);
        child.kill()?;
        child.join()?;
        drop(condition.acquire().or_else(AcquireError::into_inner)?);
    }
    println!("ok: who was notified can be killed");
    Ok(())
}

/// A process that waits learns that the lock comes from a dead process.
fn dead_holders() -> Outcome {
    let condition = Condition::new()?;
    let waiting = Event::new()?;
    let wait = || -> Outcome {
        let guard = condition.acquire()?;
        waiting.set()?;
        same(
            "notified, but the lock was a dead one's",
            guard.wait(),
            Err(ConditionError::OwnerDied { notified: true }),
        )?;
        // It has the lock all the same, and nobody is told again.
        same("and is held all the same", guard.notify_all(), Ok(0))?;
        same("said once", guard.wait_timeout(SHORT), Ok(false))
    };
    let child = Process::fork(wait)?;
    waiting.wait()?;
    waiting.clear()?;
    let holder = Process::fork(|| -> Outcome {
        let guard = condition.acquire()?;
        guard.notify_one()?;
        guard.forget();
        Ok(())
    })?;
    ended_well(&holder)?;
    ended_well(&child)?;

    let child = Process::fork(|| -> Outcome {
        let guard = condition.acquire()?;
        waiting.set()?;
        // Until it happens while somebody else has the lock.
        let error = loop {
            match guard.wait_timeout(SHORT) {
                Ok(false) => {}
                Ok(true) => return Err("nobody has notified it".into()),
                Err(error) => break error,
            }
        };
        same("late, and the lock was a dead one's", error, ConditionError::OwnerDied { notified: false })
    })?;
    waiting.wait()?;
    let held = Event::new()?;
    let holder = Process::fork(|| -> Outcome {
        condition.acquire()?.forget();
        held.set()?;
        hang()
    })?;
    held.wait()?;
    kill(&holder)?;
    same("it goes on", child.join_timeout(LONG)?, Some(ExitStatus::Exited(0)))?;
    drop(condition.acquire()?);
    Ok(())
}
