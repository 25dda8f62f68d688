//! The promises of a `Barrier`, also when a process dies that waits at it.

use std::time::Duration;

use sandpool_guest::sync::BarrierError;
use sandpool_guest::{Barrier, Condition, Error, Event, ExitStatus, Process, Queue, Semaphore};
use sandpool_test_guests::{LONG, Outcome, check, ended_well, eventually, hang, kill, same};

const SHORT: Duration = Duration::from_millis(10);
const PARTIES: usize = 5;
const ROUNDS: u64 = 200;

#[sandpool_guest::main]
fn main() -> Outcome {
    alone()?;
    in_step()?;
    actions()?;
    failing_actions()?;
    aborts_and_resets()?;
    timeouts()?;
    messages()?;
    dead_waiters()?;
    dead_actors()?;
    actions_that_wait()?;
    dead_actors_that_wait()
}

/// Processes that wait at a barrier, of which each ends with its index, or with 100 when it is broken.
fn start(barrier: &Barrier, count: usize) -> Result<Vec<Process>, Error> {
    let wait = || match barrier.wait() {
        Ok(index) => index as i32,
        Err(BarrierError::Broken) => BROKEN.into(),
        Err(_) => 101,
    };
    (0..count).map(|_| Process::fork(wait)).collect()
}

const BROKEN: u8 = 100;

/// How those processes have ended, in order.
fn ends(processes: &[Process]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut codes = Vec::new();
    for process in processes {
        match process.join_timeout(LONG)? {
            Some(ExitStatus::Exited(code)) => codes.push(code),
            other => return Err(format!("{}: {other:?}", process.name()).into()),
        }
    }
    codes.sort_unstable();
    Ok(codes)
}

fn all_wait(barrier: &Barrier, count: usize) -> Outcome {
    eventually("they wait", || Ok(barrier.n_waiting()? == count))
}

fn alone() -> Outcome {
    let barrier = Barrier::new(1)?;
    same("a new barrier", (barrier.parties()?, barrier.n_waiting()?, barrier.is_broken()?), (1, 0, false))?;
    same("one is enough for one", (barrier.wait()?, barrier.wait()?), (0, 0))?;
    same("in no time", barrier.wait_timeout(Duration::ZERO)?, 0)?;
    let mut acted = 0;
    let mut act = || {
        acted += 1;
        Ok::<_, Error>(())
    };
    same(
        "with an action",
        (barrier.wait_with(&mut act)?, barrier.wait_with_timeout(LONG, &mut act)?),
        (0, 0),
    )?;
    same("which runs each time", acted, 2)?;
    same("nobody waits", (barrier.n_waiting()?, barrier.is_broken()?), (0, false))?;
    check("a barrier for nobody", matches!(Barrier::new(0), Err(Error::OutOfRange(_))))?;
    same("a clone is the same barrier", barrier.clone(), barrier.clone())?;
    check("another barrier is another", barrier != Barrier::new(1)?)
}

/// Nobody is ever a step ahead.
fn in_step() -> Outcome {
    let barrier = Barrier::new(PARTIES)?;
    let arrived = Semaphore::new(0)?;
    let indices = Queue::new()?;
    let body = || -> Outcome {
        for round in 1..=ROUNDS {
            arrived.release()?;
            let index = barrier.wait()?;
            let there = arrived.value()?;
            // All of this round, and at most the others of the next one.
            if !(round * PARTIES as u64..(round + 1) * PARTIES as u64).contains(&there) {
                return Err(format!("{there} have arrived in round {round}").into());
            }
            indices.put(&(round, index))?;
        }
        Ok(())
    };
    let children = (1..PARTIES).map(|_| Process::fork(body)).collect::<Result<Vec<_>, _>>()?;
    body()?;
    children.iter().try_for_each(ended_well)?;
    indices.close()?;
    let mut all = indices.iter().collect::<Result<Vec<_>, _>>()?;
    all.sort_unstable();
    let expected = (1..=ROUNDS).flat_map(|round| (0..PARTIES).map(move |index| (round, index)));
    check("each index once in each round", all.into_iter().eq(expected))?;
    same("as new afterwards", (barrier.n_waiting()?, barrier.is_broken()?), (0, false))
}

/// Once in each round, and before anybody goes on.
fn actions() -> Outcome {
    let barrier = Barrier::new(PARTIES)?;
    let acted = Semaphore::new(0)?;
    let body = || -> Outcome {
        for round in 1..=ROUNDS {
            barrier.wait_with(|| acted.release())?;
            if acted.value()? != round {
                return Err(format!("{} actions in round {round}", acted.value()?).into());
            }
            barrier.wait()?;
        }
        Ok(())
    };
    let children = (1..PARTIES).map(|_| Process::fork(body)).collect::<Result<Vec<_>, _>>()?;
    body()?;
    children.iter().try_for_each(ended_well)?;
    same("one action in each round", acted.value()?, ROUNDS)
}

fn failing_actions() -> Outcome {
    let barrier = Barrier::new(3)?;
    let children = start(&barrier, 2)?;
    all_wait(&barrier, 2)?;
    let waited = barrier.wait_with(|| Err("on purpose"));
    check("the error of an action", matches!(waited, Err(BarrierError::Action("on purpose"))))?;
    same("breaks it for the others", ends(&children)?, vec![BROKEN; 2])?;
    same("until it is reset", barrier.is_broken()?, true)?;
    check("for everybody", matches!(barrier.wait(), Err(BarrierError::Broken)))?;
    barrier.reset()?;
    let children = start(&barrier, 2)?;
    all_wait(&barrier, 2)?;
    same("then it is as new", (barrier.wait()?, ends(&children)?), (2, vec![0, 1]))?;

    let children = start(&barrier, 2)?;
    all_wait(&barrier, 2)?;
    let last = Process::fork(|| -> Outcome {
        barrier.wait_with(|| -> Result<(), Error> { panic!("on purpose") })?;
        Ok(())
    })?;
    same("an action may panic", last.join()?, ExitStatus::Exited(1))?;
    same("a panic does so, too", ends(&children)?, vec![BROKEN; 2])
}

fn aborts_and_resets() -> Outcome {
    let barrier = Barrier::new(4)?;
    let children = start(&barrier, 3)?;
    all_wait(&barrier, 3)?;
    barrier.abort()?;
    same("who waits learns of an abort", ends(&children)?, vec![BROKEN; 3])?;
    same("it is broken", (barrier.is_broken()?, barrier.n_waiting()?), (true, 0))?;
    check("who comes later learns of it", matches!(barrier.wait(), Err(BarrierError::Broken)))?;
    let late = barrier.wait_with(|| Err("not to be called"));
    check("and doesn't act", matches!(late, Err(BarrierError::Broken)))?;
    barrier.abort()?;
    barrier.reset()?;
    same("reset", barrier.is_broken()?, false)?;

    let children = start(&barrier, 3)?;
    all_wait(&barrier, 3)?;
    barrier.reset()?;
    same("who waits learns of a reset", ends(&children)?, vec![BROKEN; 3])?;
    same("which doesn't break it", (barrier.is_broken()?, barrier.n_waiting()?), (false, 0))?;
    let children = start(&barrier, 3)?;
    all_wait(&barrier, 3)?;
    same("it works as before", (barrier.wait()?, ends(&children)?), (3, vec![0, 1, 2]))
}

fn timeouts() -> Outcome {
    let barrier = Barrier::new(3)?;
    check("not in no time", matches!(barrier.wait_timeout(Duration::ZERO), Err(BarrierError::Broken)))?;
    same("which breaks it", barrier.is_broken()?, true)?;
    barrier.reset()?;
    let children = start(&barrier, 1)?;
    all_wait(&barrier, 1)?;
    check("not in some time", matches!(barrier.wait_timeout(SHORT), Err(BarrierError::Broken)))?;
    same("for everybody", (ends(&children)?, barrier.is_broken()?), (vec![BROKEN], true))?;
    barrier.reset()?;
    let late = barrier.wait_with_timeout(SHORT, || Err("not to be called"));
    check("without an action", matches!(late, Err(BarrierError::Broken)))?;

    let barrier = Barrier::with_timeout(2, SHORT)?;
    check("a timeout of its own", matches!(barrier.wait(), Err(BarrierError::Broken)))?;
    barrier.reset()?;
    let child = Process::fork(|| barrier.wait_timeout(LONG).map_or(101, |index| index as i32))?;
    all_wait(&barrier, 1)?;
    same("which a wait can replace", (barrier.wait()?, child.join()?), (1, ExitStatus::Exited(0)))
}

fn spawned((barrier, impatient, barriers): (Barrier, Barrier, Queue<Barrier>)) -> Outcome {
    same("it is the same in the queue", barriers.get()?, barrier.clone())?;
    check("its timeout comes with it", matches!(impatient.wait(), Err(BarrierError::Broken)))?;
    barriers.put(&Barrier::new(7)?)?;
    barrier.wait()?;
    Ok(())
}

fn messages() -> Outcome {
    let (barrier, impatient) = (Barrier::new(2)?, Barrier::with_timeout(2, SHORT)?);
    let barriers = Queue::new()?;
    barriers.put(&barrier)?;
    let child = Process::spawn(spawned, (barrier.clone(), impatient.clone(), barriers.clone()))?;
    check("a spawned process gets the barrier", barrier.wait_timeout(LONG).is_ok())?;
    ended_well(&child)?;
    same("one that it has broken", impatient.is_broken()?, true)?;
    same("a barrier from a process that has ended", barriers.get()?.parties()?, 7)
}

fn dead_waiters() -> Outcome {
    let barrier = Barrier::new(3)?;
    for round in 0..20 {
        let children = start(&barrier, 2)?;
        all_wait(&barrier, 2)?;
        kill(&children[round % 2])?;
        if ends(&children[1 - round % 2..][..1])? != [BROKEN] || !barrier.is_broken()? {
            return Err(format!("round {round}: not broken").into());
        }
        barrier.reset()?;
    }
    println!("ok: who waits can be killed");

    let elsewhere = Process::fork(hang)?;
    let children = start(&barrier, 2)?;
    all_wait(&barrier, 2)?;
    kill(&elsewhere)?;
    same("who is elsewhere doesn't break it", (barrier.is_broken()?, barrier.n_waiting()?), (false, 2))?;
    same("so it works", (barrier.wait()?, ends(&children)?), (2, vec![0, 1]))?;

    // At any moment: the others get an index or the news, and nobody hangs.
    for round in 0..50 {
        let children = start(&barrier, 3)?;
        children[round % 3].kill()?;
        children[round % 3].join()?;
        let others = [&children[(round + 1) % 3], &children[(round + 2) % 3]];
        // If the dead one had not come yet, they wait in vain.
        while others.iter().any(|process| process.exit_status().is_none()) {
            if barrier.n_waiting()? == 2 {
                barrier.abort()?;
            }
            std::thread::yield_now();
        }
        let codes = [others[0].exitcode(), others[1].exitcode()];
        if codes.iter().any(|code| !matches!(code, Some(0..3 | 100))) {
            return Err(format!("round {round}: {codes:?}").into());
        }
        barrier.reset()?;
    }
    println!("ok: at any moment");
    Ok(())
}

/// The process that acts is killed: the others don't go on as if it had.
fn dead_actors() -> Outcome {
    let barrier = Barrier::new(3)?;
    let acting = Event::new()?;
    let children = start(&barrier, 2)?;
    all_wait(&barrier, 2)?;
    let actor = Process::fork(|| -> Outcome {
        barrier.wait_with(|| -> Result<(), Error> {
            acting.set()?;
            Event::new()?.wait()
        })?;
        Ok(())
    })?;
    acting.wait()?;
    same("they wait for the action", children[0].join_timeout(SHORT)?, None)?;
    kill(&actor)?;
    same("who acts can be killed", ends(&children)?, vec![BROKEN; 2])?;
    same("which breaks it", barrier.is_broken()?, true)?;
    barrier.reset()?;
    let children = start(&barrier, 2)?;
    all_wait(&barrier, 2)?;
    same("a reset is enough", (barrier.wait()?, ends(&children)?), (2, vec![0, 1]))
}

/// An action is code as any other.
fn actions_that_wait() -> Outcome {
    let (barrier, inner, condition) = (Barrier::new(3)?, Barrier::new(2)?, Condition::new()?);
    for _ in 0..20 {
        let children = start(&barrier, 2)?;
        all_wait(&barrier, 2)?;
        let acting = Event::new()?;
        let other = Process::fork(|| -> Outcome {
            acting.wait()?;
            // Free only once the action waits.
            condition.acquire()?.notify_one()?;
            inner.wait()?;
            Ok(())
        })?;
        let index = barrier.wait_with(|| -> Outcome {
            let guard = condition.acquire()?;
            acting.set()?;
            if !guard.wait_timeout(LONG)? {
                return Err("not notified".into());
            }
            drop(guard);
            inner.wait_with(|| condition.acquire().map(drop))?;
            Ok(())
        });
        let ended = (index?, ends(&children)?);
        ended_well(&other)?;
        if ended != (2, vec![0, 1]) {
            return Err(format!("{ended:?}").into());
        }
    }
    same("an action waits for a condition, and at another barrier", barrier.is_broken()?, false)?;

    let children = start(&barrier, 2)?;
    all_wait(&barrier, 2)?;
    let waited = barrier.wait_with(|| -> Outcome {
        let guard = condition.acquire()?;
        barrier.reset()?;
        same("it is reset while an action waits", guard.wait_timeout(SHORT)?, false)
    });
    check("which the one who acts is told", matches!(waited, Err(BarrierError::Broken)))?;
    same("and the others", ends(&children)?, vec![BROKEN; 2])?;
    let children = start(&barrier, 2)?;
    all_wait(&barrier, 2)?;
    same("and is as new", (barrier.wait()?, ends(&children)?), (2, vec![0, 1]))
}

fn dead_actors_that_wait() -> Outcome {
    let (barrier, condition) = (Barrier::new(3)?, Condition::new()?);
    for round in 0..20 {
        let children = start(&barrier, 2)?;
        all_wait(&barrier, 2)?;
        let acting = Event::new()?;
        let actor = Process::fork(|| -> Outcome {
            barrier.wait_with(|| -> Outcome {
                let guard = condition.acquire()?;
                acting.set()?;
                Ok(guard.wait()?)
            })?;
            Ok(())
        })?;
        acting.wait()?;
        if round % 2 == 0 {
            // It has the lock, or waits already.
            drop(condition.acquire()?);
        }
        kill(&actor)?;
        if ends(&children)? != [BROKEN; 2] || !barrier.is_broken()? {
            return Err(format!("round {round}: not broken").into());
        }
        // The dead doesn't wait any more, at either.
        let notified = match condition.acquire() {
            Ok(guard) => guard.notify_all()?,
            Err(_) => condition.acquire()?.notify_all()?,
        };
        barrier.reset()?;
        let children = start(&barrier, 2)?;
        all_wait(&barrier, 2)?;
        let after = (notified, barrier.wait()?, ends(&children)?);
        if after != (0, 2, vec![0, 1]) {
            return Err(format!("round {round}: {after:?}").into());
        }
    }
    println!("ok: who waits in an action can be killed");
    Ok(())
}
