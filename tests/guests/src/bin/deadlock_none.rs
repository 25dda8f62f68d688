//! Runs in which all processes but one wait, and that one doesn't, or not for ever: `deadlock_none CASE`. They end.

use std::io::Read;
use std::time::{Duration, Instant};

use sandpool_guest::{Event, Lock, Process, Queue};
use sandpool_test_guests::{Outcome, argument, ended_well, same};

/// Longer than it takes to find a deadlock, several times.
const LONG_ENOUGH: Duration = Duration::from_secs(3);

/// Long enough for the other to fall asleep.
const TURN: Duration = Duration::from_micros(100);

#[sandpool_guest::main]
fn main() -> Outcome {
    match argument(0, String::new()).as_str() {
        "sleep" => while_others_wait(|| {
            std::thread::sleep(LONG_ENOUGH);
            Ok(())
        }),
        "compute" => while_others_wait(|| {
            compute(LONG_ENOUGH);
            Ok(())
        }),
        "stdin" => while_others_wait(read),
        "timeout" => {
            while_others_wait(|| same("nobody sets it", Event::new()?.wait_timeout(LONG_ENOUGH)?, false))
        }
        "stopped" => while_others_wait(|| {
            println!("main {}\nready", sandpool_guest::current_process()?.pid());
            until_there_is("/go")
        }),
        "echo" => echo(),
        "ping-pong" => ping_pong(),
        other => Err(format!("no case {other:?}").into()),
    }
}

/// The main process does something while its children wait: one for an event, one for a lock, one for the other.
fn while_others_wait(something: impl FnOnce() -> Outcome) -> Outcome {
    let (event, lock) = (Event::new()?, Lock::new()?);
    let guard = lock.acquire()?;
    let one = Process::fork(|| -> Outcome { Ok(event.wait()?) })?;
    let two = Process::fork(|| -> Outcome {
        drop(lock.acquire()?);
        Ok(())
    })?;
    // Ended with this one.
    let _three = Process::builder()
        .daemon()
        .fork(|| -> Outcome { Ok(sandpool_guest::parent_process()?.ok_or("none")?.join()?) })?;
    something()?;
    drop(guard);
    event.set()?;
    ended_well(&one)?;
    ended_well(&two)?;
    println!("ended");
    Ok(())
}

fn compute(time: Duration) {
    let start = Instant::now();
    let mut number = 1_u64;
    while start.elapsed() < time {
        for _ in 0..1_000 {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
    }
}

/// Reads all there is.
fn read() -> Outcome {
    println!("ready");
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    same("what came at last", text.as_str(), "at last\n")
}

/// Looks without a pause: that is no wait.
fn until_there_is(path: &str) -> Outcome {
    while !std::fs::exists(format!("/d{path}"))? {}
    Ok(())
}

/// A child that was woken, but is stopped and can't go on, while its parent waits for its answer.
fn echo() -> Outcome {
    let (there, back) = (Queue::<u32>::new()?, Queue::<u32>::new()?);
    let child = Process::fork(|| -> Outcome {
        println!("child {}", sandpool_guest::current_process()?.pid());
        Ok(back.put(&there.get()?)?)
    })?;
    println!("ready");
    until_there_is("/go")?;
    println!("gone");
    there.put(&7)?;
    same("the answer", back.get()?, 7)?;
    ended_well(&child)?;
    println!("ended");
    Ok(())
}

/// Two processes, of which always just one waits; but it takes a while from when it is woken until it says that it
/// doesn't, and by then the other may wait.
fn ping_pong() -> Outcome {
    let (ping, pong) = (Queue::<u64>::new()?, Queue::<u64>::new()?);
    let (set, reset) = (Event::new()?, Event::new()?);
    let child = Process::fork(|| -> Outcome {
        for number in &ping {
            compute(TURN);
            pong.put(&number?)?;
            set.wait()?;
            set.clear()?;
            reset.set()?;
        }
        Ok(())
    })?;
    let (start, mut number) = (Instant::now(), 0);
    while start.elapsed() < LONG_ENOUGH {
        ping.put(&number)?;
        if pong.get()? != number {
            return Err("another number".into());
        }
        compute(TURN);
        set.set()?;
        reset.wait()?;
        reset.clear()?;
        number += 1;
    }
    ping.close()?;
    ended_well(&child)?;
    println!("ended");
    Ok(())
}
