//! The promises of an `Event`, also when a process dies that waits for it.

use std::time::Duration;

use sandpool_guest::{Event, Process, Queue};
use sandpool_test_guests::{LONG, Outcome, check, ended_well, kill, one_of_two_is_killed, same};

const SHORT: Duration = Duration::from_millis(10);

#[sandpool_guest::main]
fn main() -> Outcome {
    alone()?;
    others()?;
    pulses()?;
    messages()?;
    dead_waiters()?;
    dead_setters()
}

fn alone() -> Outcome {
    let event = Event::new()?;
    same("a new event isn't set", event.is_set()?, false)?;
    same("not in no time", event.wait_timeout(Duration::ZERO)?, false)?;
    same("not in some time", event.wait_timeout(SHORT)?, false)?;
    event.set()?;
    same("set", event.is_set()?, true)?;
    same("seen in no time", event.wait_timeout(Duration::ZERO)?, true)?;
    same("seen in any time", (event.wait_timeout(SHORT)?, event.wait_timeout(Duration::MAX)?), (true, true))?;
    event.wait()?;
    event.wait()?;
    same("waiting doesn't clear it", event.is_set()?, true)?;
    event.set()?;
    same("set twice", event.is_set()?, true)?;
    event.clear()?;
    same("cleared", (event.is_set()?, event.wait_timeout(Duration::ZERO)?), (false, false))?;
    event.clear()?;
    same("cleared twice", event.is_set()?, false)?;
    same("a clone is the same event", event.clone(), event.clone())?;
    check("another event is another", event != Event::new()?)
}

fn others() -> Outcome {
    let (go, about_to, done) = (Event::new()?, Queue::new()?, Queue::new()?);
    let children = (0..8)
        .map(|number| {
            let (go, about_to, done) = (&go, &about_to, &done);
            Process::fork(move || -> Outcome {
                about_to.put(&())?;
                go.wait()?;
                Ok(done.put(&number)?)
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    for _ in &children {
        about_to.get()?;
    }
    check("they wait", done.get_timeout(SHORT).is_err())?;
    go.set()?;
    let mut numbers = children.iter().map(|_| done.get_timeout(LONG)).collect::<Result<Vec<u32>, _>>()?;
    numbers.sort_unstable();
    same("all go on", numbers, (0..8).collect())?;
    children.iter().try_for_each(ended_well)?;

    let (asked, answered) = (Event::new()?, Event::new()?);
    let child = Process::fork(|| -> Outcome {
        for _ in 0..500 {
            asked.wait()?;
            asked.clear()?;
            answered.set()?;
        }
        Ok(())
    })?;
    for _ in 0..500 {
        asked.set()?;
        answered.wait()?;
        answered.clear()?;
    }
    ended_well(&child)?;
    println!("ok: to and fro");
    same("what a child changes is seen", (asked.is_set()?, answered.is_set()?), (false, false))
}

/// An event that is cleared as soon as it is set has been set for all who waited.
fn pulses() -> Outcome {
    let pulse = Event::new()?;
    let about_to = Queue::new()?;
    let waiting = || -> Outcome {
        about_to.put(&())?;
        Ok(pulse.wait()?)
    };
    let children = (0..4).map(|_| Process::fork(waiting)).collect::<Result<Vec<_>, _>>()?;
    for _ in &children {
        about_to.get()?;
    }
    // Nothing says when they have begun to wait: so there are pulses until they don't any more.
    for child in &children {
        while child.join_timeout(Duration::from_millis(1))?.is_none() {
            pulse.set()?;
            pulse.clear()?;
        }
        ended_well(child)?;
    }
    same("a pulse is enough", pulse.is_set()?, false)
}

fn spawned((go, there, back): (Event, Queue<Event>, Queue<Event>)) -> Outcome {
    go.wait()?;
    let made = Event::new()?;
    made.set()?;
    there.put(&made)?;
    let other = back.get()?;
    Ok(other.set()?)
}

fn messages() -> Outcome {
    let (go, there, back) = (Event::new()?, Queue::new()?, Queue::new()?);
    let child = Process::spawn(spawned, (go.clone(), there.clone(), back.clone()))?;
    go.set()?;
    let received = there.get()?;
    same("an event from another process", received.is_set()?, true)?;
    received.clear()?;
    back.put(&received)?;
    same("there and back", received.wait_timeout(LONG)?, true)?;
    ended_well(&child)
}

/// Processes that wait may die: to set the event doesn't wait for them, and the others go on.
fn dead_waiters() -> Outcome {
    for round in 0..100 {
        let event = Event::new()?;
        one_of_two_is_killed(round, || Ok(event.wait()?), || Ok(event.set()?))?;
        event.clear()?;
        if event.wait_timeout(Duration::ZERO)? {
            return Err(format!("round {round}: it isn't cleared").into());
        }
    }
    println!("ok: who waits can be killed");
    Ok(())
}

/// Processes that set and clear may die, at any instruction.
fn dead_setters() -> Outcome {
    let event = Event::new()?;
    let running = Event::new()?;
    for _ in 0..20 {
        let child = Process::fork(|| -> Outcome {
            running.set()?;
            loop {
                event.set()?;
                event.clear()?;
            }
        })?;
        running.wait()?;
        running.clear()?;
        // It is somewhere in there.
        event.wait_timeout(SHORT)?;
        kill(&child)?;
        event.set()?;
        event.wait()?;
        event.clear()?;
    }
    event.set()?;
    same("who sets can be killed", event.is_set()?, true)
}
