//! Exceeds a limit: `limits WHAT`. In most cases a child does, beside an honest one that waits until it has ended; then
//! both say how they have ended.
//!
//! | WHAT | what it does |
//! | --- | --- |
//! | `spin`, `print`, `hoard`, `recurse` | a child is busy, prints, takes memory, calls itself, without end |
//! | `spin-on`, `print-on`, `sleep-on` | each child does so for a while, and then starts another that goes on |
//! | `sleep` | the main process sleeps |
//! | `open`, `write` | opens files in `/rw`, writes one there, until that is refused |
//! | `queues`, `items` | makes queues, puts items into some, until that is refused or they hold 2000 |
//! | `count` | prints numbers without end |
//! | `deep N` | calls itself so often, and says that it is back |

use std::error::Error as StdError;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use sandpool_guest::{Error, Event, Process, PutError, Queue};
use sandpool_test_guests::{Outcome, argument};

#[sandpool_guest::main]
fn main() -> Outcome {
    let what: String = argument(0, "spin".to_owned());
    match what.as_str() {
        "spin" => beside_an_honest_one(|| spin(Duration::MAX)),
        "print" => beside_an_honest_one(|| {
            loop {
                print();
            }
        }),
        "hoard" => beside_an_honest_one(hoard),
        "recurse" => beside_an_honest_one(|| {
            recurse(u64::MAX);
        }),
        "spin-on" => go_on(&|| spin(Duration::from_millis(100))),
        "print-on" => go_on(&print),
        "sleep-on" => go_on(&|| std::thread::sleep(Duration::from_millis(20))),
        "sleep" => {
            std::thread::sleep(Duration::from_secs(600));
            Ok(())
        }
        "open" => open(),
        "write" => write(),
        "queues" => queues(),
        "items" => items(),
        "count" => {
            for n in 0_u64.. {
                println!("{n}");
            }
            Ok(())
        }
        "deep" => {
            recurse(argument(1, 0));
            println!("back");
            Ok(())
        }
        _ => Err("no such case".into()),
    }
}

fn beside_an_honest_one(offend: impl FnOnce()) -> Outcome {
    let go = Event::new()?;
    let honest = Process::fork(|| -> Result<i32, Error> {
        go.wait()?;
        Ok(7)
    })?;
    let offender = Process::fork(offend)?;
    let ended = offender.join()?;
    go.set()?;
    eprintln!("offender {ended}");
    eprintln!("honest {}", honest.join()?);
    Ok(())
}

/// Does it, and has a child go on, which nobody waits for.
fn go_on(act: &dyn Fn()) -> Outcome {
    act();
    let child = Process::fork(|| go_on(act))?;
    child.join()?;
    Ok(())
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn print() {
    println!("{}", "x".repeat(99));
}

fn hoard() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    // Its frames lie on the stack of WebAssembly, not in linear memory.
    if std::hint::black_box(depth) == 0 { 0 } else { 1 + recurse(depth - 1) }
}

fn open() -> Outcome {
    let mut files = Vec::new();
    loop {
        match File::create(format!("/rw/{}", files.len())) {
            Ok(file) => files.push(file),
            Err(error) => {
                println!("refused after {}: {}", files.len(), error.raw_os_error().unwrap_or_default());
                break;
            }
        }
    }
    files.pop();
    File::create("/rw/again")?;
    println!("and one in place of another");
    Ok(())
}

fn write() -> Outcome {
    let mut file = File::create("/rw/large")?;
    let mut len = 0;
    let error = loop {
        match file.write(&[b'x'; 1000]) {
            Ok(written) => len += written,
            Err(error) => break error,
        }
    };
    println!("refused after {len}: {:?}", error.kind());
    std::fs::write("/rw/small", "x")?;
    println!("and another file");
    Ok(())
}

fn queues() -> Outcome {
    let mut queues: Vec<Queue<u8>> = Vec::new();
    let error: Box<dyn StdError> = loop {
        match Queue::new() {
            Ok(queue) => queues.push(queue),
            Err(error) => break error.into(),
        }
    };
    println!("refused after {}: {error}", queues.len());
    queues.pop();
    Queue::<u8>::new()?.put(&1)?;
    println!("and one in place of another");
    Ok(())
}

fn items() -> Outcome {
    for queue in [Queue::<u8>::new()?, Queue::bounded(1000)?, Queue::bounded(2)?] {
        let mut items = 0;
        while items < 2000 {
            match queue.try_put(&1) {
                Ok(()) => items += 1,
                Err(PutError::Full) => break,
                Err(error) => return Err(error.into()),
            }
        }
        queue.get()?;
        queue.put(&1)?;
        println!("holds {items}, one in place of another");
    }
    Ok(())
}
