//! The promises of a `Semaphore` and a `BoundedSemaphore`, also when a process dies that holds a unit.

use std::cell::RefCell;
use std::time::Duration;

use sandpool_guest::sync::{Abandoned, AcquireError, ReleaseError};
use sandpool_guest::{BoundedSemaphore, Event, ExitStatus, Process, Queue, Semaphore};
use sandpool_test_guests::{LONG, Outcome, check, ended_well, hang, kill, one_of_two_is_killed, same};

const SHORT: Duration = Duration::from_millis(10);

#[sandpool_guest::main]
fn main() -> Outcome {
    alone()?;
    bounded()?;
    signals()?;
    places()?;
    forks()?;
    messages()?;
    dead_holders()?;
    released_by_another()?;
    dead_waiters()?;
    dead_users()
}

fn alone() -> Outcome {
    let semaphore = Semaphore::new(2)?;
    same("a new semaphore has its units", semaphore.value()?, 2)?;
    let first = semaphore.acquire()?;
    same("one less", semaphore.value()?, 1)?;
    let second = semaphore.try_acquire()?;
    same("none left", semaphore.value()?, 0)?;
    exhausted(&semaphore)?;
    drop(first);
    same("released by a drop", semaphore.value()?, 1)?;
    let third = semaphore.acquire_timeout(Duration::ZERO)?;
    same(
        "released by its permit",
        (second.release(), third.release(), semaphore.value()?),
        (Ok(()), Ok(()), 2),
    )?;
    semaphore.acquire_timeout(Duration::MAX)?.forget();
    same("forgotten", semaphore.value()?, 1)?;

    same("released without a permit", (semaphore.release(), semaphore.value()?), (Ok(()), 2))?;
    same("no bound", (semaphore.release(), semaphore.value()?), (Ok(()), 3))?;
    same("several", (semaphore.release_many(1_000_000), semaphore.value()?), (Ok(()), 1_000_003))?;

    let empty = Semaphore::new(0)?;
    exhausted(&empty)?;
    let full = Semaphore::new(1 << 62)?;
    same("a very large one", full.value()?, 1 << 62)?;
    same("is full", full.release(), Err(ReleaseError::TooManyTimes))?;
    full.acquire()?.forget();
    same("more than is missing", full.release_many(2), Err(ReleaseError::TooManyTimes))?;
    same("what is missing", (full.release(), full.value()?), (Ok(()), 1 << 62))?;
    check("too large a one", Semaphore::new(u64::MAX).is_err())?;
    same("a clone is the same semaphore", empty.clone(), empty.clone())?;
    check("another semaphore is another", empty != full)
}

fn exhausted(semaphore: &Semaphore) -> Outcome {
    check("not at once", matches!(semaphore.try_acquire(), Err(AcquireError::WouldBlock)))?;
    check(
        "not in no time",
        matches!(semaphore.acquire_timeout(Duration::ZERO), Err(AcquireError::TimedOut)),
    )?;
    check("not in some time", matches!(semaphore.acquire_timeout(SHORT), Err(AcquireError::TimedOut)))?;
    same("nothing was acquired", semaphore.value()?, 0)
}

fn bounded() -> Outcome {
    for abandoned in [Abandoned::Lost, Abandoned::Returned] {
        let semaphore = BoundedSemaphore::with_policy(3, abandoned)?;
        same("a bounded one is full", semaphore.release(), Err(ReleaseError::TooManyTimes))?;
        semaphore.acquire()?.forget();
        same("all or nothing", semaphore.release_many(2), Err(ReleaseError::TooManyTimes))?;
        same("so nothing was released", semaphore.value()?, 2)?;
        let permit = semaphore.acquire()?;
        same("two at once", (semaphore.release_many(2), semaphore.value()?), (Ok(()), 3))?;
        same("a permit that comes too late", permit.release(), Err(ReleaseError::TooManyTimes))?;
        let permits = [semaphore.acquire()?, semaphore.acquire()?, semaphore.acquire()?];
        exhausted(&semaphore)?;
        drop(permits);
        same("full again", semaphore.value()?, 3)?;
    }
    let none = BoundedSemaphore::new(0)?;
    exhausted(&none)?;
    same("a bound of 0", none.release(), Err(ReleaseError::TooManyTimes))
}

fn signals() -> Outcome {
    let start = Semaphore::new(0)?;
    let done = Semaphore::new(0)?;
    let work = || -> Outcome {
        start.acquire()?.forget();
        Ok(done.release()?)
    };
    let children = (0..6).map(|_| Process::fork(work)).collect::<Result<Vec<_>, _>>()?;
    same("nobody goes before the signal", done.acquire_timeout(SHORT).is_err(), true)?;
    start.release_many(2)?;
    done.acquire()?.forget();
    done.acquire()?.forget();
    same("as many as there were signals", (done.value()?, start.value()?), (0, 0))?;
    start.release_many(4)?;
    children.iter().try_for_each(ended_well)?;
    same("all others", (done.value()?, start.value()?), (4, 0))
}

/// No more than three are inside at once.
fn places() -> Outcome {
    let places = BoundedSemaphore::new(3)?;
    let inside = Semaphore::new(0)?;
    let body = || -> Outcome {
        for _ in 0..300 {
            let _place = places.acquire()?;
            inside.release()?;
            let there = inside.value()?;
            inside.try_acquire()?.forget();
            if !(1..=3).contains(&there) {
                return Err(format!("{there} at once").into());
            }
        }
        Ok(())
    };
    let children = (0..5).map(|_| Process::fork(body)).collect::<Result<Vec<_>, _>>()?;
    children.iter().try_for_each(ended_well)?;
    same("three at a time", (places.value()?, places.died()?), (3, 0))
}

fn forks() -> Outcome {
    let semaphore = BoundedSemaphore::new(2)?;
    let permit = RefCell::new(Some(semaphore.acquire()?));
    let child = Process::fork(|| -> Outcome {
        drop(permit.take());
        same("a copy of a permit doesn't release", semaphore.value()?, 1)
    })?;
    ended_well(&child)?;
    let child = Process::fork(|| -> Outcome {
        let copy = permit.take().ok_or("no permit")?;
        let own = semaphore.acquire()?;
        same("nor when it is told to", copy.release(), Err(ReleaseError::NotOwner))?;
        same("the child's own does", (own.release(), semaphore.value()?), (Ok(()), 1))
    })?;
    ended_well(&child)?;
    same("a forked process held nothing", (semaphore.value()?, semaphore.died()?), (1, 0))?;
    same("the owner releases", permit.take().ok_or("no permit")?.release(), Ok(()))?;
    same("all are free", semaphore.value()?, 2)
}

fn spawned((signal, places, semaphores): (Semaphore, BoundedSemaphore, Queue<Semaphore>)) -> Outcome {
    same("a spawned process gets the semaphores", (signal.value()?, places.value()?), (0, 2))?;
    same("it is the same in the queue", semaphores.get()?, signal.clone())?;
    semaphores.put(&Semaphore::new(7)?)?;
    Ok(signal.release()?)
}

fn messages() -> Outcome {
    let (signal, places, semaphores) = (Semaphore::new(0)?, BoundedSemaphore::new(3)?, Queue::new()?);
    let _place = places.acquire()?;
    semaphores.put(&signal)?;
    let child = Process::spawn(spawned, (signal.clone(), places.clone(), semaphores.clone()))?;
    check("its signal comes", signal.acquire_timeout(LONG).is_ok())?;
    ended_well(&child)?;
    same("a semaphore from a process that has ended", semaphores.get()?.value()?, 7)?;

    let bounded = Queue::<BoundedSemaphore>::new()?;
    bounded.put(&places)?;
    let received = bounded.get()?;
    same("a bounded one through a queue", &received, &places)?;
    same("is still bounded", received.release_many(2), Err(ReleaseError::TooManyTimes))
}

fn dead_holders() -> Outcome {
    let signal = Semaphore::new(4)?;
    let place = BoundedSemaphore::new(4)?;
    let fuse = BoundedSemaphore::with_policy(4, Abandoned::Lost)?;
    let returned = Semaphore::with_policy(4, Abandoned::Returned)?;
    let held = Event::new()?;
    let hold = || -> Outcome {
        for semaphore in [&signal, &place, &fuse, &returned] {
            // Two are held at the end.
            drop(semaphore.acquire()?);
            semaphore.acquire()?.forget();
            semaphore.acquire()?.forget();
        }
        Ok(held.set()?)
    };
    let child = Process::fork(|| -> Outcome {
        hold()?;
        hang()
    })?;
    held.wait()?;
    same("held by one who is to be killed", place.value()?, 2)?;
    kill(&child)?;
    let values = || -> Result<_, sandpool_guest::Error> {
        Ok([signal.value()?, place.value()?, fuse.value()?, returned.value()?])
    };
    let died = || -> Result<_, sandpool_guest::Error> {
        Ok([signal.died()?, place.died()?, fuse.died()?, returned.died()?])
    };
    same("units of who is killed", values()?, [2, 4, 2, 4])?;
    same("and how many", died()?, [2, 2, 2, 2])?;
    ended_well(&Process::fork(hold)?)?;
    same("units of who returns", values()?, [0, 4, 0, 4])?;
    same("and how many in all", died()?, [4, 4, 4, 4])?;
    same("what was lost can be replaced", (signal.release_many(4), signal.value()?), (Ok(()), 4))?;
    same("also in a bounded one", (fuse.release_many(4), fuse.value()?), (Ok(()), 4))?;
    same("but no more than that", fuse.release(), Err(ReleaseError::TooManyTimes))?;

    // A process that waits gets a unit that is returned.
    let place = BoundedSemaphore::new(1)?;
    held.clear()?;
    let holder = Process::fork(|| -> Outcome {
        place.acquire()?.forget();
        held.set()?;
        hang()
    })?;
    held.wait()?;
    let about_to = Event::new()?;
    let waiter = Process::fork(|| -> Outcome {
        about_to.set()?;
        let _place = place.acquire()?;
        Ok(())
    })?;
    about_to.wait()?;
    kill(&holder)?;
    same("who waits gets what is returned", waiter.join_timeout(LONG)?, Some(ExitStatus::Exited(0)))?;
    same("and releases it", (place.value()?, place.died()?), (1, 1))
}

/// One of two who wait is killed, at any moment; a unit that is free then goes to the other one.
/// A unit that another has released isn't there once more when its holder ends.
fn released_by_another() -> Outcome {
    let places = BoundedSemaphore::new(2)?;
    for round in 1..=3 {
        let (has_it, end) = (Event::new()?, Event::new()?);
        let holder = Process::fork(|| -> Outcome {
            places.acquire()?.forget();
            has_it.set()?;
            end.wait()?;
            Ok(())
        })?;
        has_it.wait()?;
        places.release()?;
        if round == 3 {
            kill(&holder)?;
        } else {
            end.set()?;
            ended_well(&holder)?;
        }
        if places.value()? != 2 {
            return Err(format!("{} units of 2", places.value()?).into());
        }
    }
    same("and is full", places.release(), Err(ReleaseError::TooManyTimes))?;
    same("no more units than there may be", places.value()?, 2)
}

fn dead_waiters() -> Outcome {
    let semaphore = BoundedSemaphore::new(1)?;
    for round in 0..100 {
        let permit = semaphore.acquire()?;
        let waiting = || -> Outcome {
            drop(semaphore.acquire()?);
            Ok(())
        };
        one_of_two_is_killed(round, waiting, || {
            drop(permit);
            Ok(())
        })?;
        if semaphore.value()? != 1 {
            return Err(format!("round {round}: {} units", semaphore.value()?).into());
        }
    }
    println!("ok: who waits can be killed");

    for round in 0..50 {
        let signal = Semaphore::new(0)?;
        let about_to = Queue::new()?;
        let waiting = || -> Outcome {
            about_to.put(&())?;
            signal.acquire()?.forget();
            Ok(())
        };
        let waiters = [Process::fork(waiting)?, Process::fork(waiting)?];
        about_to.get()?;
        about_to.get()?;
        kill(&waiters[round % 2])?;
        signal.release()?;
        ended_well(&waiters[1 - round % 2])?;
    }
    println!("ok: a signal doesn't go to the dead");
    Ok(())
}

/// Killed at any moment, who acquires and releases leaves each unit free, or counted as lost.
fn dead_users() -> Outcome {
    let place = BoundedSemaphore::new(3)?;
    let running = Event::new()?;
    for round in 0..50 {
        let signal = Semaphore::new(3)?;
        let child = Process::fork(|| -> Outcome {
            running.set()?;
            loop {
                let _units = (signal.acquire()?, place.acquire()?);
            }
        })?;
        running.wait()?;
        running.clear()?;
        std::thread::sleep(Duration::from_micros(round % 10 * 50));
        kill(&child)?;
        let units = (signal.value()? + signal.died()?, place.value()?);
        if units != (3, 3) {
            return Err(format!("round {round}: {units:?} units").into());
        }
    }
    println!("ok: who acquires and releases can be killed");
    Ok(())
}
