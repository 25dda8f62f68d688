//! Producers and consumers that somebody else kills, at any instruction: `queue_chaos [PRODUCERS] [CONSUMERS]`,
//! CONSUMERS of each queue, with a directory `/logs` to write to.
//!
//! Items go through a bounded queue and one that only the arena bounds. The main process replaces who was killed, until
//! there is a file `/logs/stop`; then it has all of them end, and looks whether the arena is as empty as it was before.
//!
//! Each worker says what it does in a file of its own, `p` or `c` and its number, line by line:
//!
//! | line | says |
//! | --- | --- |
//! | `B QUEUE NUMBER` | a producer is about to put |
//! | `A QUEUE NUMBER` | it has put |
//! | `G QUEUE PRODUCER NUMBER` | a consumer has got |

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use sandpool_guest::queue::{GetError, PutError};
use sandpool_guest::{Error, ExitStatus, Process, Queue, Signal, current_process, wait};
use sandpool_test_guests::{Outcome, argument, check, largest_item, same};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Item {
    producer: u64,
    number: u64,
    /// Holds the number.
    queue: Option<Queue<u64>>,
    payload: Vec<u8>,
}

/// The queues that workers share. The first is bounded.
struct Queues([Queue<Item>; 2]);

#[sandpool_guest::main]
fn main() -> Outcome {
    // By kind: producers, consumers of the one queue, consumers of the other.
    let consumers: usize = argument(1, 2);
    let counts: [usize; 3] = [argument(0, 4), consumers, consumers];
    println!("main {}", current_process()?.pid());
    let room = largest_item()?;
    println!("room for an item of {room} bytes");
    let queues = Queues([Queue::bounded(6)?, Queue::new()?]);

    let mut started = [0; 3];
    let mut workers = Vec::<(usize, Process)>::new();
    let (mut killed, mut is_started) = ([0; 3], false);
    while !must_stop()? {
        for (kind, count) in counts.into_iter().enumerate() {
            while workers.iter().filter(|(other, _)| *other == kind).count() < count {
                let number = started[kind];
                started[kind] += 1;
                workers.push((kind, start(kind, number, &queues)?));
            }
        }
        if !is_started {
            println!("started");
            is_started = true;
        }
        let sentinels: Vec<_> = workers.iter().map(|(_, worker)| worker.sentinel()).collect();
        wait(&sentinels, Some(Duration::from_millis(20)))?;
        let mut failed = None;
        workers.retain(|(kind, worker)| match worker.exit_status() {
            None => true,
            Some(ExitStatus::Signaled(Signal::KILL)) => {
                killed[*kind] += 1;
                false
            }
            // A producer that has seen that it must stop.
            Some(ExitStatus::Exited(0)) => false,
            Some(other) => {
                failed = Some(format!("{}: {other}", worker.name()));
                false
            }
        });
        failed.map_or(Ok(()), Err)?;
    }
    println!("stopping");
    end(0, &workers, &mut killed)?;
    for queue in &queues.0 {
        queue.close()?;
    }
    end(1, &workers, &mut killed)?;
    end(2, &workers, &mut killed)?;
    println!("killed producers: {}", killed[0]);
    println!("killed consumers: {}", killed[1] + killed[2]);
    // If all consumers of a queue were killed last of all, something is left.
    for from in [0, 1] {
        consume(&format!("c{from}-main"), from, &queues)?;
    }

    for queue in &queues.0 {
        same("drained", queue.qsize()?, 0)?;
        check("closed", matches!(queue.try_get(), Err(GetError::Closed)))?;
    }
    drop(queues);
    drop(workers);
    same("as much room in the arena as before", largest_item()?, room)
}

fn must_stop() -> Result<bool, std::io::Error> {
    std::fs::exists("/logs/stop")
}

/// Joins the workers of a kind.
fn end(kind: usize, workers: &[(usize, Process)], killed: &mut [u64; 3]) -> Outcome {
    for (_, worker) in workers.iter().filter(|(other, _)| *other == kind) {
        match worker.join()? {
            ExitStatus::Exited(0) => {}
            ExitStatus::Signaled(Signal::KILL) => killed[kind] += 1,
            other => return Err(format!("{}: {other}", worker.name()).into()),
        }
    }
    Ok(())
}

fn start(kind: usize, number: u64, queues: &Queues) -> Result<Process, Error> {
    if kind == 0 {
        Process::builder().name(format!("p{number}")).fork(|| produce(number, queues))
    } else {
        let (from, name) = (kind - 1, format!("c{}-{number}", kind - 1));
        Process::builder().name(name.as_str()).fork(|| consume(&name, from, queues))
    }
}

fn produce(producer: u64, queues: &Queues) -> Outcome {
    let mut log = File::create_new(format!("/logs/p{producer}"))?;
    for number in 0.. {
        if must_stop()? {
            return Ok(());
        }
        let mixed = mix(producer, number);
        let queue = match Queue::new() {
            _ if !mixed.is_multiple_of(4) => None,
            Ok(queue) => match queue.put(&number) {
                Ok(()) => Some(queue),
                Err(other) => return Err(other.into()),
            },
            // The items of the other queue fill it.
            Err(Error::ArenaFull) => None,
            Err(other) => return Err(other.into()),
        };
        let item = Item { producer, number, queue, payload: payload(producer, number) };
        let to = (mixed >> 8) as usize % 2;
        log.write_all(format!("B {to} {number}\n").as_bytes())?;
        loop {
            match queues.0[to].put_timeout(&item, Duration::from_millis(100)) {
                Ok(()) => break,
                // So that it sees that it must stop, also where the one consumer of a queue is gone.
                Err(PutError::Full) if must_stop()? => return Ok(()),
                Err(PutError::Full) => {}
                Err(other) => return Err(other.into()),
            }
        }
        log.write_all(format!("A {to} {number}\n").as_bytes())?;
    }
    Ok(())
}

fn consume(name: &str, from: usize, queues: &Queues) -> Outcome {
    let mut log = File::create_new(format!("/logs/{name}"))?;
    for item in &queues.0[from] {
        let Item { producer, number, queue, payload: found } = item?;
        log.write_all(format!("G {from} {producer} {number}\n").as_bytes())?;
        if found != payload(producer, number) {
            return Err(format!("item {number} of producer {producer} is damaged").into());
        }
        if let Some(queue) = queue
            && queue.try_get()? != number
        {
            return Err(format!("the queue in item {number} of producer {producer} is another").into());
        }
    }
    Ok(())
}

fn mix(producer: u64, number: u64) -> u64 {
    let mut mixed = (producer << 32 | number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^= mixed >> 29;
    mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}

/// 8 bytes to 200 KiB, most of them short, no two alike.
fn payload(producer: u64, number: u64) -> Vec<u8> {
    let mixed = mix(producer, number);
    let length = match mixed % 16 {
        0..10 => 8 + mixed % 100,
        10..13 => 1000 + mixed % 7_000,
        13 => 8_150 + mixed % 60,
        14 => 8_192 + mixed % 60_000,
        _ => 100_000 + mixed % 104_800,
    };
    (mixed..mixed + length).map(|byte| byte as u8).collect()
}
