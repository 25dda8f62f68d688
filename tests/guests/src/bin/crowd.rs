//! Processes that do one thing until somebody kills them: `crowd WHAT [N]`. The main process prints the numbers of all,
//! and `ready`, and waits for the end of one of its N children; then it says how that ended, and ends the others.
//!
//! | WHAT | what each child does |
//! | --- | --- |
//! | `sleep` | sleeps |
//! | `spin` | is busy |
//! | `get` | waits for an item in a queue that stays empty |
//! | `put` | waits for room in a queue that stays full |
//! | `pass` | puts an item into a queue and takes one, for ever |
//! | `fork` | starts and joins processes, for ever |
//! | `spawn` | the same with fresh memory |
//! | `storm` | starts processes that start processes, and joins none |
//! | `family` | has a child that has a child that sleeps |
//! | `outlived` | sleeps, as the main process does, whatever becomes of the child |
//! | `wasi` | has called much of WASI, and sleeps |

use std::convert::Infallible;
use std::error::Error as StdError;
use std::time::{Duration, Instant, SystemTime};

use sandpool_guest::{Error, Process, Queue, current_process, wait};
use sandpool_test_guests::{Outcome, argument};

type Endless = Result<Infallible, Box<dyn StdError>>;

#[sandpool_guest::main]
fn main() -> Outcome {
    let what: String = argument(0, "sleep".to_owned());
    let count: usize = argument(1, 4);
    let queue = Queue::<Vec<u8>>::bounded(8)?;
    let (ready, go) = (Queue::<()>::new()?, Queue::<()>::new()?);
    if what == "put" {
        while !queue.is_full()? {
            queue.put(&vec![1; 20_000])?;
        }
    }
    if what == "wasi" {
        call_wasi()?;
    }
    let body = || -> Outcome {
        if what == "wasi" {
            call_wasi()?;
        }
        ready.put(&())?;
        // Nobody takes the room that others need to start.
        go.get()?;
        match what.as_str() {
            "spin" => loop {
                std::hint::spin_loop();
            },
            "get" => drop(queue.get()?),
            "put" => queue.put(&vec![1; 20_000])?,
            "pass" => match pass(&queue)? {},
            "fork" => match start_and_join(&|| Process::fork(|| ()))? {},
            "spawn" => match start_and_join(&|| Process::spawn(|()| (), ()))? {},
            "storm" => match storm()? {},
            "family" => {
                Process::fork(|| Process::fork(sleep).and_then(|child| child.join()).map(drop))?.join()?;
            }
            _ => sleep(),
        }
        Err("nobody killed it".into())
    };
    let mut children = (0..count).map(|_| Process::fork(body)).collect::<Result<Vec<_>, _>>()?;
    if what == "wasi" {
        children.push(Process::spawn(
            |ready: Queue<()>| -> Outcome {
                call_wasi()?;
                ready.put(&())?;
                sleep();
                Ok(())
            },
            ready.clone(),
        )?);
    }
    for _ in &children {
        ready.get()?;
    }
    for _ in 0..count {
        go.put(&())?;
    }
    let pids: Vec<_> = children.iter().map(|child| child.pid().to_string()).collect();
    println!("processes: {} {}", current_process()?.pid(), pids.join(" "));
    println!("ready");
    if what == "outlived" {
        sleep();
    }

    let sentinels: Vec<_> = children.iter().map(Process::sentinel).collect();
    wait(&sentinels, None)?;
    for child in &children {
        if let Some(status) = child.exit_status() {
            println!("a child was {status:?}");
        }
        child.kill()?;
        child.join()?;
    }
    Ok(())
}

fn sleep() {
    std::thread::sleep(Duration::from_secs(3600));
}

/// Items large and small, so that both ways through the arena are used.
fn pass(queue: &Queue<Vec<u8>>) -> Endless {
    for size in [8, 20_000].into_iter().cycle() {
        // Not for ever: all might wait for room at once.
        let _ = queue.put_timeout(&vec![1; size], Duration::from_millis(1));
        let _ = queue.try_get();
    }
    Err("that was for ever".into())
}

fn start_and_join(start: &dyn Fn() -> Result<Process, Error>) -> Endless {
    loop {
        start()?.join()?;
    }
}

/// Grows until the table of processes is full, and keeps it so.
fn storm() -> Endless {
    loop {
        match Process::fork(|| storm().map(drop)) {
            Ok(_) | Err(Error::TooManyProcesses) => {}
            Err(other) => return Err(other.into()),
        }
    }
}

/// Clocks, random bytes, sleep, and files where there is a `/data`.
fn call_wasi() -> Outcome {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    std::hint::black_box((Instant::now(), SystemTime::now()));
    std::thread::sleep(Duration::from_millis(1));
    if std::fs::exists("/data")? {
        for entry in std::fs::read_dir("/data")? {
            std::fs::read(entry?.path())?;
        }
        std::fs::write("/data/written.txt", bytes)?;
    }
    Ok(())
}
