//! A process that is woken for an item and killed before it takes it must not be the last to know: `queue_handover [ROUNDS]`.
//!
//! Two consumers wait. The main process puts one item, which wakes one of them, and kills one of them at once. The item
//! is then taken by the other, or was taken already: it never stays where it is. The same with producers and room.

use std::time::{Duration, Instant};

use sandpool_guest::{Error, Process, Queue};
use sandpool_test_guests::{Outcome, argument};

/// Nothing here takes a thousandth of this.
const LONG: Duration = Duration::from_secs(30);

#[sandpool_guest::main]
fn main() -> Outcome {
    let rounds: u32 = argument(0, 1000);
    let queue = Queue::<u32>::bounded(1)?;
    let consume = || -> Outcome {
        loop {
            queue.get()?;
        }
    };
    kill_in_each_round(
        rounds,
        consume,
        |round| {
            queue.put(&round)?;
            Ok(())
        },
        || queue.is_empty(),
    )?;
    println!("ok: items are taken");

    let queue = Queue::<u32>::bounded(1)?;
    let produce = || -> Outcome {
        loop {
            queue.put(&0)?;
        }
    };
    kill_in_each_round(
        rounds,
        produce,
        |_| {
            queue.get()?;
            Ok(())
        },
        || queue.is_full(),
    )?;
    println!("ok: room is filled");
    Ok(())
}

fn kill_in_each_round(
    rounds: u32,
    work: impl Fn() -> Outcome,
    wake: impl Fn(u32) -> Outcome,
    is_done: impl Fn() -> Result<bool, Error>,
) -> Outcome {
    let start = || Process::fork(&work);
    let mut workers = [start()?, start()?];
    for round in 0..rounds {
        // Let both fall asleep, and wake one.
        let until = Instant::now() + LONG;
        while !is_done()? {
            if Instant::now() > until {
                return Err(format!("round {round}: nobody was woken").into());
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        let sleep = u64::from(round % 8) * 20;
        std::thread::sleep(Duration::from_micros(100));
        wake(round)?;
        std::thread::sleep(Duration::from_micros(sleep));
        let victim = &mut workers[round as usize % 2];
        victim.kill()?;
        victim.join()?;
        // Looked at with the one that is left only.
        let until = Instant::now() + LONG;
        while !is_done()? {
            if Instant::now() > until {
                return Err(format!("round {round}: the one that is left was not woken").into());
            }
            std::thread::sleep(Duration::from_micros(20));
        }
        *victim = start()?;
    }
    for worker in &workers {
        worker.kill()?;
        worker.join()?;
    }
    Ok(())
}
