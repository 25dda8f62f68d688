//! Processes that end while they hold something that their children wait for. Without an argument, a child of the main
//! process ends so in each way; with one, the main process does, in that way.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::error::Error;

use sandpool_guest::process::Trap;
use sandpool_guest::sync::AcquireError;
use sandpool_guest::{
    Array, BoundedSemaphore, Condition, Event, ExitStatus, JoinableQueue, Lock, Pipe, Process, Queue, RLock,
    Value,
};
use sandpool_test_guests::{LONG, Outcome, check, same};

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Return,
    Exit,
    Panic,
    Abort,
}

impl How {
    const ALL: [Self; 4] = [Self::Return, Self::Exit, Self::Panic, Self::Abort];

    fn end(self) {
        match self {
            Self::Return => {}
            Self::Exit => std::process::exit(3),
            Self::Panic => panic!("in a critical section"),
            Self::Abort => std::process::abort(),
        }
    }

    fn status(self) -> ExitStatus {
        match self {
            Self::Return => ExitStatus::Exited(0),
            Self::Exit => ExitStatus::Exited(3),
            Self::Panic => ExitStatus::Exited(1),
            Self::Abort => ExitStatus::Trapped(Trap::Unreachable),
        }
    }
}

#[sandpool_guest::main]
fn main() -> Outcome {
    match std::env::args().nth(1).as_deref() {
        None => {
            for how in How::ALL {
                holds(how)?;
                takes(how)?;
                has_ends_of_pipes(how)?;
            }
            daemons_are_ended_first()?;
            what_children_use_stays()?;
            killed_on_its_way()
        }
        Some("return") => with_a_child(How::Return),
        Some("exit") => with_a_child(How::Exit),
        Some("panic") => with_a_child(How::Panic),
        Some("abort") => with_a_child(How::Abort),
        Some(other) => Err(format!("there is no {other}").into()),
    }
}

/// The news for a process that acquires something.
fn acquired<G>(result: Result<G, AcquireError<G>>) -> &'static str {
    match result {
        Ok(_) => "acquired",
        Err(AcquireError::OwnerDied(_)) => "its owner died",
        Err(_) => "not acquired",
    }
}

/// Starts a child that waits for something, and tells the main process what has come of that.
type Start<'s> = &'s dyn Fn(&dyn Fn() -> String) -> Outcome;

/// Has a process end that has such a child, and returns what that has told.
fn ends(how: How, what: &str, body: impl Fn(Start<'_>) -> Outcome) -> Result<String, Box<dyn Error>> {
    let (told, go) = (Queue::<String>::new()?, Event::new()?);
    let middle = Process::fork(|| -> Outcome {
        body(&|wait| {
            Process::fork(|| -> Outcome {
                go.wait()?;
                Ok(told.put(&wait())?)
            })?;
            Ok(())
        })?;
        go.set()?;
        how.end();
        Ok(())
    })?;
    let heard = told.get_timeout(LONG)?;
    same(&format!("{how:?}: it ends as it does, {what}"), middle.join_timeout(LONG)?, Some(how.status()))?;
    Ok(heard)
}

fn holds(how: How) -> Outcome {
    let expect = |what: &str, heard: String, expected: &str| {
        same(&format!("{how:?}: {what}"), heard.as_str(), expected)
    };
    let heard = ends(how, "with a lock", |child| {
        let lock = Lock::new()?;
        child(&|| acquired(lock.acquire()).to_owned())?;
        lock.acquire()?.forget();
        Ok(())
    })?;
    expect("a lock", heard, "its owner died")?;
    let heard = ends(how, "with a recursive lock", |child| {
        let lock = RLock::new()?;
        child(&|| acquired(lock.acquire()).to_owned())?;
        lock.acquire()?.forget();
        lock.acquire()?.forget();
        Ok(())
    })?;
    expect("a recursive lock", heard, "its owner died")?;
    let heard = ends(how, "with a value", |child| {
        let value = Value::new(1_u64)?;
        child(&|| value.get().map_or_else(|error| error.to_string(), |value| value.to_string()))?;
        value.get_lock().acquire()?.forget();
        Ok(())
    })?;
    expect("a value", heard, &sandpool_guest::Error::OwnerDied.to_string())?;
    let heard = ends(how, "with an array", |child| {
        let array = Array::<u64>::new(4)?;
        child(&|| acquired(array.lock()).to_owned())?;
        // Where it is locked, nobody can be forked any more.
        std::mem::forget(array.lock()?);
        Ok(())
    })?;
    expect("an array", heard, "its owner died")?;
    let heard = ends(how, "with a condition", |child| {
        let condition = Condition::new()?;
        child(&|| acquired(condition.acquire()).to_owned())?;
        condition.acquire()?.forget();
        Ok(())
    })?;
    expect("a condition", heard, "its owner died")?;
    let heard = ends(how, "with a place", |child| {
        let places = BoundedSemaphore::new(1)?;
        child(&|| places.acquire().map_or("no place", |_| "a place").to_owned())?;
        places.acquire()?.forget();
        Ok(())
    })?;
    expect("a place", heard, "a place")
}

fn takes(how: How) -> Outcome {
    let heard = ends(how, "with an item", |child| {
        let jobs = JoinableQueue::<u64>::new()?;
        jobs.put(&1)?;
        child(&|| format!("{:?}", jobs.join()))?;
        jobs.get()?;
        Ok(())
    })?;
    same(&format!("{how:?}: an item"), heard.as_str(), "Err(Lost(1))")
}

fn has_ends_of_pipes(how: How) -> Outcome {
    let heard = ends(how, "with a sender", |child| {
        let (receiver, sender) = Pipe::simplex()?;
        child(&|| format!("{:?}", receiver.recv::<u64>()))?;
        std::mem::forget(sender);
        Ok(())
    })?;
    same(&format!("{how:?}: a sender"), heard.as_str(), "Err(Eof)")?;
    let heard = ends(how, "with a receiver", |child| {
        let (receiver, sender) = Pipe::simplex()?;
        let receiver = RefCell::new(Some(receiver));
        child(&|| {
            receiver.take();
            loop {
                if let Err(error) = sender.send(&vec![0_u64; 1000]) {
                    return format!("{error:?}");
                }
            }
        })?;
        std::mem::forget(receiver);
        Ok(())
    })?;
    same(&format!("{how:?}: a receiver"), heard.as_str(), "BrokenPipe")
}

/// A daemonic child isn't to see that its parent gives back what it waits for: it is ended before.
fn daemons_are_ended_first() -> Outcome {
    let told = Queue::<u64>::new()?;
    for _ in 0..20 {
        let middle = Process::fork(|| -> Outcome {
            let lock = Lock::new()?;
            lock.acquire()?.forget();
            let waits = || -> Outcome {
                let _ = lock.acquire();
                Ok(told.put(&1)?)
            };
            Process::builder().daemon().fork(waits)?;
            // Or it is given back before the process ends.
            std::mem::forget(lock);
            Ok(())
        })?;
        same("a process with a daemonic child ends", middle.join()?, ExitStatus::Exited(0))?;
    }
    check("and no daemonic child went on", told.is_empty()?)
}

/// Objects of a child and its parent stay for the child when the parent has given them back.
fn what_children_use_stays() -> Outcome {
    let results = Queue::<u64>::new()?;
    let middle = Process::fork(|| -> Outcome {
        let (lock, items) = (Lock::new()?, Queue::<u64>::new()?);
        let sum = Value::new(0_u64)?;
        items.put_many(&[1, 2, 3])?;
        lock.acquire()?.forget();
        Process::fork(|| -> Outcome {
            // By then its parent has given back what it held.
            same("the lock of a process that ends", acquired(lock.acquire()), "its owner died")?;
            while let Ok(item) = items.try_get() {
                sum.update(|sum| *sum += item)?;
            }
            Ok(results.put(&sum.get()?)?)
        })?;
        Ok(())
    })?;
    same("what children use stays", results.get_timeout(LONG)?, 6)?;
    same("and the process ends behind them", middle.join()?, ExitStatus::Exited(0))
}

/// At any instant of its end, a process can be killed: others get what it held all the same.
fn killed_on_its_way() -> Outcome {
    const LOCKS: usize = 12;
    for round in 0..300_u32 {
        let locks = (0..LOCKS).map(|_| Lock::new()).collect::<Result<Vec<_>, _>>()?;
        let go = Event::new()?;
        let acquire_all = || {
            let all = locks.iter().map(|lock| acquired(lock.acquire_timeout(LONG)));
            all.filter(|acquired| *acquired != "not acquired").count()
        };
        let middle = Process::fork(|| -> Outcome {
            for lock in &locks {
                lock.acquire()?.forget();
            }
            Process::fork(|| -> Outcome {
                acquire_all();
                Ok(())
            })?;
            go.set()?;
            Ok(())
        })?;
        go.wait()?;
        for _ in 0..round * 20 {
            std::hint::black_box(round);
        }
        middle.kill()?;
        middle.join()?;
        if acquire_all() != LOCKS {
            return Err(format!("failed: not all locks can be had behind round {round}").into());
        }
    }
    check("killed on its way out, it holds nothing back", true)
}

/// The main process ends, with a lock, and a child that waits for it.
fn with_a_child(how: How) -> Outcome {
    let (lock, go) = (Lock::new()?, Event::new()?);
    let held = lock.acquire()?;
    Process::fork(|| -> Outcome {
        go.set()?;
        println!("the child: {}", acquired(lock.acquire()));
        Ok(())
    })?;
    go.wait()?;
    held.forget();
    how.end();
    Ok(())
}
