//! Exceeds a limit: `limits WHAT`. In most cases a child does, beside an honest one that waits until it has ended; then
//! both say how they have ended.
//!
//! | WHAT | what it does |
//! | --- | --- |
//! | `spin`, `print`, `hoard`, `recurse` | a child is busy, prints, takes memory, calls itself, without end |
//! | `spin-on`, `print-on`, `sleep-on` | each child does so for a while, and then starts another that goes on |
//! | `after HOW WHAT` | children one after the other, by `fork` or `spawn`: each does so for a while (`spin`, `print`, `sleep`), or writes a file (`write`), and has ended before the next |
//! | `hoard-and-end` | a child takes memory without end, and another one starts when that child's place is free |
//! | `sleep` | the main process sleeps |
//! | `open`, `write` | opens files in `/rw`, writes one there, until that is refused |
//! | `write-many`, `grow` | writes files of 1000 bytes in `/rw`, makes one larger by as much, until that is refused |
//! | `write-on` | each child writes such a file, and then starts another that goes on |
//! | `processes` | starts processes until that is refused, and fails |
//! | `memory-on N` | each child takes N MiB, and then starts another that goes on |
//! | `memory-again N` | has N MiB, and 200 times starts a child and waits until it has ended, by itself or killed |
//! | `memory-fresh N` | has N MiB, and spawns a child |
//! | `say NAME…` | says where these limits lie |
//! | `queues`, `items` | makes queues, puts items into some, until that is refused or they hold 2000 |
//! | `count` | prints numbers without end |
//! | `deep N` | calls itself so often, and says that it is back |

use std::error::Error as StdError;
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use sandpool_guest::queue::PutError;
use sandpool_guest::{Error, Event, Process, Queue, current_process, limit};
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
        "hoard-and-end" => hoard_and_end(),
        "recurse" => beside_an_honest_one(|| {
            recurse(u64::MAX);
        }),
        "spin-on" => go_on(&|| spin(Duration::from_millis(100))),
        "print-on" => go_on(&print),
        "sleep-on" => go_on(&|| std::thread::sleep(Duration::from_millis(20))),
        "after" => one_after_another(&argument(1, String::new()), argument(2, String::new())),
        "sleep" => {
            std::thread::sleep(Duration::from_secs(600));
            Ok(())
        }
        "open" => open(),
        "write" => write(),
        "write-many" => write_many(),
        "grow" => grow(),
        "write-on" => go_on(&write_a_file_of_its_own),
        "processes" => processes(),
        "memory-on" => {
            let bytes = argument::<usize>(1, 0) << 20;
            go_on(&|| std::mem::forget(std::hint::black_box(vec![1_u8; bytes])))
        }
        "memory-again" => memory_again(argument::<usize>(1, 0) << 20),
        "memory-fresh" => {
            let _mine = std::hint::black_box(vec![1_u8; argument::<usize>(1, 0) << 20]);
            let child = Process::spawn(|()| println!("it runs"), ())?;
            println!("spawned: {}", child.join()?);
            Ok(())
        }
        "say" => {
            for name in std::env::args().skip(2) {
                match limit(&name) {
                    Some(limit) => println!("{limit}"),
                    None => println!("no {name}"),
                }
            }
            Ok(())
        }
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

/// Has child after child do it, and waits for each, until one fails.
fn one_after_another(how: &str, what: String) -> Outcome {
    loop {
        let child = match how {
            "fork" => Process::fork(|| do_for_a_while(what.clone()))?,
            _ => Process::spawn(do_for_a_while, what.clone())?,
        };
        if !child.join()?.success() {
            return Ok(());
        }
    }
}

fn do_for_a_while(what: String) {
    match what.as_str() {
        "spin" => spin(Duration::from_millis(30)),
        "print" => print(),
        "sleep" => std::thread::sleep(Duration::from_millis(20)),
        _ => write_a_file_of_its_own(),
    }
}

/// Under a name that no other process has.
fn write_a_file_of_its_own() {
    let name = format!("/rw/{}", current_process().map_or(0, |process| process.pid()));
    if let Err(error) = std::fs::write(name, [b'x'; 1000]) {
        say_refused("it goes on", &error);
        std::process::exit(1);
    }
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

fn hoard_and_end() -> Outcome {
    Process::fork(hoard)?.join()?;
    let next = loop {
        match Process::fork(|| ()) {
            Ok(child) => break child,
            Err(_) => std::thread::yield_now(),
        }
    };
    next.join()?;
    Ok(())
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

fn say_refused(what: &str, error: &std::io::Error) {
    println!("refused after {what}: {}", error.raw_os_error().unwrap_or_default());
}

fn write_many() -> Outcome {
    let mut files = 0;
    let error = loop {
        match std::fs::write(format!("/rw/{files}"), [b'x'; 1000]) {
            Ok(()) => files += 1,
            Err(error) => break error,
        }
    };
    say_refused(&files.to_string(), &error);
    // Bytes that are overwritten count as written; to cut a file gives nothing back.
    std::fs::remove_file("/rw/0")?;
    let mut file = File::options().write(true).open("/rw/1")?;
    println!("no more: {}", file.write(&[b'y'; 1000]).is_err());
    // But a little is left.
    println!("less: {}", file.write(&[b'y'; 300]).is_ok());
    let honest = Process::fork(|| -> std::io::Result<()> { std::fs::write("/rw/0", [b'z'; 1000]) })?;
    println!("another process: {}", honest.join()?);
    Err("as it must".into())
}

fn grow() -> Outcome {
    let file = File::create("/rw/grows")?;
    let mut size = 0;
    let error = loop {
        match file.set_len(size + 1000) {
            Ok(()) => size += 1000,
            Err(error) => break error,
        }
    };
    say_refused(&size.to_string(), &error);
    file.set_len(0)?;
    println!("no more: {}", file.set_len(1000).is_err());
    Ok(())
}

fn processes() -> Outcome {
    let go = Event::new()?;
    let mut processes = Vec::new();
    loop {
        match Process::fork(|| go.wait()) {
            Ok(process) => processes.push(process),
            Err(error) => {
                println!("refused after {}: {error}", processes.len() + 1);
                break;
            }
        }
    }
    go.set()?;
    Err("as it must".into())
}

fn memory_again(bytes: usize) -> Outcome {
    let mine = std::hint::black_box(vec![1_u8; bytes]);
    let stop = Event::new()?;
    for round in 0..200 {
        let child = Process::fork(|| {
            if round % 2 == 1 {
                drop(stop.wait())
            }
        })?;
        if round % 2 == 1 {
            child.kill()?;
        }
        child.join()?;
    }
    println!("200 times");
    // Two at once are too many.
    let first = Process::fork(|| stop.wait())?;
    match Process::fork(|| ()) {
        Ok(_) => println!("two at once"),
        Err(error) => println!("refused: {error}"),
    }
    stop.set()?;
    first.join()?;
    drop(mine);
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
