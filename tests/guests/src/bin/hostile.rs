//! A guest that means harm: `hostile WHAT`. It says `at it` on stderr before it begins, and most never end by
//! themselves.
//!
//! | WHAT | what it does |
//! | --- | --- |
//! | `loop` | computes for ever |
//! | `recursion` | calls itself without end |
//! | `memory` | takes memory until there is none, and then tries again |
//! | `fork` | each process starts others for as long as it can |
//! | `spawn` | the same with fresh memory |
//! | `output` | prints for ever, with and without ends of lines |
//! | `objects` | makes all objects that it can, takes each lock, and keeps them |
//! | `arena` | fills queues with large items, and keeps them |
//! | `handles` | makes calls with each handle that there could be, for ever |
//! | `protocol` | leaves off in the middle: items that it asks for and doesn't take, messages to itself, children that die |
//! | `nothing` | nothing: the others are to have a bystander |
//! | `wake` | wakes and bothers all that it can, for ever |
//!
//! `hostile beside WHAT` is the same in a process of its own, started with no handle of the others, beside two honest
//! ones that pass items to each other: it prints what these have found.

use std::error::Error as StdError;
use std::hint::black_box;
use std::io::Write as _;

use sandpool_guest::{Event, Lock, Process, Queue, Semaphore, SharedMemory};
use sandpool_test_guests::{Outcome, argument, ended_well};

/// The imports that an attacker calls who doesn't use the SDK.
#[allow(unsafe_code, reason = "the SDK makes no call with a handle that it wasn't given")]
mod raw {
    #[link(wasm_import_module = "sandpool_queue")]
    unsafe extern "C" {
        #[link_name = "close"]
        pub safe fn queue_close(queue: i64) -> i32;
        pub safe fn qsize(queue: i64) -> i64;
        pub safe fn task_done(queue: i64) -> i32;
    }
    #[link(wasm_import_module = "sandpool_sync")]
    unsafe extern "C" {
        pub safe fn lock_acquire(lock: i64, timeout: i64) -> i32;
        pub safe fn lock_release(lock: i64) -> i32;
        pub safe fn semaphore_release(semaphore: i64, count: i64) -> i32;
        pub safe fn event_set(event: i64) -> i32;
        pub safe fn barrier_abort(barrier: i64) -> i32;
    }
    #[link(wasm_import_module = "sandpool_shared")]
    unsafe extern "C" {
        pub safe fn map(shared: i64, flags: i32) -> i64;
        pub safe fn store(shared: i64, offset: i64, width: i32, value: i64) -> i64;
    }
    #[link(wasm_import_module = "sandpool_handle")]
    unsafe extern "C" {
        pub safe fn retain(object: i64) -> i32;
        pub safe fn release(object: i64) -> i32;
    }
    #[link(wasm_import_module = "sandpool_process")]
    unsafe extern "C" {
        pub safe fn signal(process: i64, signal: i32) -> i32;
        pub safe fn detach(process: i64) -> i32;
        #[link_name = "close"]
        pub safe fn process_close(process: i64) -> i32;
        pub safe fn current() -> i64;
    }
}

/// How often an item goes there and back.
const ROUNDS: u64 = 3000;

#[sandpool_guest::main]
fn main() -> Outcome {
    let what: String = argument(0, "loop".to_owned());
    if what == "beside" { beside(argument(1, "loop".to_owned())) } else { harm(what) }
}

fn harm(what: String) -> Outcome {
    eprintln!("at it");
    match what.as_str() {
        "nothing" => {}
        "loop" => loop {
            black_box(());
        },
        "recursion" => {
            black_box(recurse(black_box(1)));
        }
        "memory" => loop {
            let mut kept = Vec::new();
            let mut block = Vec::<u8>::new();
            while block.try_reserve_exact(1 << 20).is_ok() {
                block.resize(1 << 20, 1);
                kept.push(std::mem::take(&mut block));
            }
        },
        "fork" => fork(),
        "spawn" => spawn(()),
        "output" => loop {
            let _ = std::io::stdout().write_all(&[b'x'; 70_000]);
            let _ = std::io::stdout().write_all(b"\n\x1b[2J\r\0");
        },
        "objects" => hoard()?,
        "arena" => {
            let mut queues = Vec::new();
            for size in [1 << 20, 1 << 12, 1] {
                let queue = Queue::<Vec<u8>>::new()?;
                while queue.try_put(&vec![1; size]).is_ok() {}
                queues.push(queue);
            }
            sleep();
        }
        "handles" => loop {
            guess()?;
        },
        "protocol" => loop {
            leave_off()?;
        },
        "wake" => loop {
            bother()?;
        },
        other => return Err(format!("there is no {other}").into()),
    }
    Ok(())
}

fn sleep() {
    loop {
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
}

#[expect(unconditional_recursion, reason = "that is the harm")]
fn recurse(depth: u64) -> u64 {
    black_box(recurse(black_box(depth + 1))) + depth
}

fn fork() {
    loop {
        // Neither joined nor kept: what is left over goes on.
        drop(Process::fork(fork));
    }
}

fn spawn(_: ()) {
    loop {
        drop(Process::spawn(spawn, ()));
    }
}

fn hoard() -> Outcome {
    let (mut locks, mut blocks, mut semaphores) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0_u64.. {
        let named = SharedMemory::create_named(&format!("hoard-{number}"), 16);
        let (lock, semaphore) = (Lock::new(), Semaphore::new(1));
        if named.is_err() && lock.is_err() && semaphore.is_err() {
            break;
        }
        blocks.extend(named);
        semaphores.extend(semaphore);
        if let Ok(lock) = lock {
            std::mem::forget(lock.acquire());
            locks.push(lock);
        }
    }
    sleep();
    Ok(())
}

/// Calls with handles that this process was not given. None may do anything.
fn guess() -> Outcome {
    let own = raw::current();
    for generation in 0..4_i64 {
        for index in 0..2048_i64 {
            for handle in
                [generation << 32 | index, index << 32 | generation, generation << 20 | index, -index]
            {
                if handle == own {
                    continue;
                }
                let answers = [
                    raw::queue_close(handle),
                    raw::task_done(handle),
                    raw::lock_acquire(handle, 0),
                    raw::lock_release(handle),
                    raw::semaphore_release(handle, 1),
                    raw::event_set(handle),
                    raw::barrier_abort(handle),
                    raw::retain(handle),
                    raw::release(handle),
                    raw::signal(handle, 9),
                    raw::detach(handle),
                    raw::process_close(handle),
                ];
                if let Some(call) = answers.iter().position(|answer| *answer == 0) {
                    return Err(format!("call {call} with handle {handle:#x} has succeeded").into());
                }
                if raw::qsize(handle) >= 0 || raw::map(handle, 0) >= 0 {
                    return Err(format!("handle {handle:#x} can be read").into());
                }
            }
        }
    }
    // This one has no errno: it traps, and takes nobody along.
    let trap = Process::spawn(
        |()| {
            raw::store(1 << 32 | 1, 0, 8, -1);
        },
        (),
    )?;
    if trap.join()?.success() {
        return Err("a store to what isn't held has succeeded".into());
    }
    Ok(())
}

/// Ends, is killed, or goes away in the middle of things.
fn leave_off() -> Outcome {
    let queue = Queue::<Queue<Vec<u8>>>::new()?;
    let inner = Queue::<Vec<u8>>::new()?;
    inner.put(&vec![1; 100_000])?;
    // A queue that holds itself, by way of another.
    for _ in 0..4 {
        queue.put(&inner)?;
    }
    let lock = Lock::new()?;
    let event = Event::new()?;
    let child = Process::fork(|| -> Outcome {
        let _held = lock.acquire()?;
        event.set()?;
        while queue.get().is_ok() {}
        Ok(())
    })?;
    event.wait()?;
    child.kill()?;
    child.join()?;
    drop(lock.acquire());
    Ok(())
}

/// Signals to processes that end anyway, events that nobody waits for, waits that end at once.
fn bother() -> Outcome {
    let event = Event::new()?;
    for _ in 0..1000 {
        event.set()?;
        event.clear()?;
    }
    let child = Process::fork(|| ())?;
    for _ in 0..1000 {
        if child.terminate().is_err() {
            break;
        }
    }
    child.join()?;
    Ok(())
}

/// Two processes that pass items to each other, and one that means harm.
fn beside(what: String) -> Outcome {
    let (there, back) = (Queue::<(u64, Vec<u8>)>::bounded(4)?, Queue::<(u64, Vec<u8>)>::bounded(4)?);
    let (ready, go) = (Queue::<()>::new()?, Queue::<()>::new()?);
    let answers = Process::fork(|| -> Outcome {
        ready.put(&())?;
        for expected in 0..ROUNDS {
            let (number, mut item) = there.get()?;
            if number != expected {
                return Err(format!("got {number}, not {expected}").into());
            }
            item.reverse();
            back.put(&(number, item))?;
        }
        Ok(())
    })?;
    let asks = Process::fork(|| -> Outcome {
        ready.put(&())?;
        go.get()?;
        for number in 0..ROUNDS {
            // Small ones, and now and then one that has pages of its own.
            let item: Vec<u8> = (0..if number % 100 == 0 { 20_000 } else { 64 }).map(|at| at as u8).collect();
            there.put(&(number, item.clone()))?;
            let (answered, mut answer) = back.get()?;
            answer.reverse();
            if (answered, &answer) != (number, &item) {
                return Err(format!("a wrong answer to {number}").into());
            }
        }
        Ok(())
    })?;
    ready.get()?;
    ready.get()?;
    let hostile = Process::spawn(entry, what)?;
    go.put(&())?;
    ended_well(&asks)?;
    ended_well(&answers)?;
    println!("ok: {ROUNDS} items went there and back");
    hostile.kill()?;
    println!("hostile: {}", hostile.join()?);
    Ok(())
}

fn entry(what: String) -> Result<(), Box<dyn StdError>> {
    harm(what)
}
