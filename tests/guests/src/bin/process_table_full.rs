//! Fills the process table, and uses it again: start it with a small `--processes-max`.

use std::time::Duration;

use sandpool_guest::process::Sentinel;
use sandpool_guest::{Error, Process, wait};
use sandpool_test_guests::{Outcome, check, same};

#[sandpool_guest::main]
fn main() -> Outcome {
    let fill = || -> Result<Vec<Process>, Error> {
        let mut processes = Vec::new();
        loop {
            match Process::fork(|| std::thread::sleep(Duration::from_secs(60))) {
                Ok(process) => processes.push(process),
                Err(Error::TooManyProcesses) => return Ok(processes),
                Err(other) => return Err(other),
            }
        }
    };
    let first = fill()?;
    println!("{} processes beside the main one", first.len());
    for process in &first {
        process.kill()?;
        process.join()?;
    }
    // `first` is still there: a process that was joined takes no room.
    let second = fill()?;
    same("as many again", second.len(), first.len())?;
    for process in &second {
        process.kill()?;
    }
    let mut left: Vec<Sentinel> = second.iter().map(Process::sentinel).collect();
    drop(second);
    // Nobody asks about those any more. Their room comes back with their end, without a join.
    while !left.is_empty() {
        for ended in wait(&left, None)?.into_iter().rev() {
            left.swap_remove(ended);
        }
    }
    let third = fill()?;
    check("the room of dropped processes comes back", third.len() == first.len())?;
    for process in &third {
        process.kill()?;
        process.join()?;
    }
    Ok(())
}
