//! Starts processes one after another, while a test makes a system call fail, or kills one of them at a certain moment:
//! `moments HOW [N]`.

use std::time::Duration;

use sandpool_guest::{Bytes, Error, Event, Process, Queue};
use sandpool_test_guests::{Outcome, argument, check};

fn answer(code: i32) -> i32 {
    code
}

#[sandpool_guest::main]
fn main() -> Outcome {
    let how: String = argument(0, String::new());
    let start = match &*how {
        "fork" => || Process::fork(|| answer(7)),
        "spawn" => || Process::spawn(answer, 7),
        "nested" => || Process::fork(answer_of_a_child),
        "forks" => return next_two(Process::fork(fork_one)?),
        "spawns" => return next_two(Process::fork(spawn_some)?),
        other => return Err(format!("there is no {other:?}").into()),
    };
    for _ in 0..argument(1, 1) {
        match start() {
            Ok(child) => println!("{}: {}", child.name(), child.join()?),
            Err(error) => println!("refused: {error}"),
        }
    }
    Ok(())
}

fn answer_of_a_child() -> Result<i32, Error> {
    let child = Process::fork(|| answer(7))?;
    child.join()?;
    Ok(child.exitcode().unwrap_or(1))
}

/// Both this process and its child say when they may be killed.
fn fork_one() -> Result<(), Error> {
    eprintln!("now");
    let child = Process::fork(|| -> Result<(), Error> {
        // The supervisor destroys this one object in many steps.
        let queue = Queue::new()?;
        let item = Bytes::from(vec![7; 5000]);
        let puts = (0..40_000).try_for_each(|_| queue.put(&item));
        assert!(puts.is_ok(), "{puts:?}");
        eprintln!("now");
        Ok(())
    })?;
    child.join().map(drop)
}

fn spawn_some() -> Result<(), Error> {
    for _ in 0..100 {
        Process::spawn(answer, 7)?.join()?;
    }
    Ok(())
}

/// A parent is killed, and has had one child at a time: two processes have the place of both.
fn next_two(parent: Process) -> Outcome {
    println!("{}: {}", parent.name(), parent.join()?);
    drop(parent);
    let go = Event::new()?;
    let start = || loop {
        match Process::fork(|| go.wait()) {
            Err(Error::TooManyProcesses) => std::hint::spin_loop(),
            started => break started,
        }
    };
    let next = [start()?, start()?];
    for process in &next {
        // Each waits for the event; one that has ended was taken for the process that had its slot before.
        check(
            "it is not taken for the dead one",
            process.join_timeout(Duration::from_millis(200))?.is_none(),
        )?;
    }
    go.set()?;
    for process in next {
        println!("{}: {}", process.name(), process.join()?);
    }
    Ok(())
}
