//! Waits for room in a full arena: a wait ends at once when nothing more can come of it, and takes no time of a processor
//! until then. Run with a limit for that which is far below how long it waits.
#![forbid(unsafe_code)]

use std::thread::sleep;
use std::time::Duration;

use sandpool_guest::pipe::SendError;
use sandpool_guest::queue::PutError;
use sandpool_guest::{Connection, Event, Pipe, Pool, Process, Queue};
use sandpool_test_guests::{Outcome, check, ended_well, same};

/// Longer than the limit for time on a processor.
const WAIT: Duration = Duration::from_millis(1500);
const LARGE: usize = 600_000;

#[sandpool_guest::main]
fn main() -> Outcome {
    let filler = Queue::<Vec<u8>>::new()?;
    closed("a large item", &filler, |queue| queue.put(&vec![1; LARGE]))?;
    closed("many small items", &filler, |queue| {
        queue.put_many(&vec![vec![1; 1000]; 2000]).map_err(|error| error.error)
    })?;
    closed("many large items", &filler, |queue| {
        queue.put_many(&vec![vec![1; LARGE]; 4]).map_err(|error| error.error)
    })?;
    received_by_nobody(&filler)?;
    pools(&filler)
}

/// Takes all room that there is.
fn fill(filler: &Queue<Vec<u8>>) -> Outcome {
    let mut len = 1 << 20;
    while len > 8 {
        match filler.try_put(&vec![0; len]) {
            Ok(()) => {}
            Err(PutError::Full | PutError::TooLarge) => len /= 2,
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

fn empty(filler: &Queue<Vec<u8>>) -> Outcome {
    while filler.try_get().is_ok() {}
    Ok(())
}

fn closed(
    what: &str,
    filler: &Queue<Vec<u8>>,
    put: impl Fn(&Queue<Vec<u8>>) -> Result<(), PutError>,
) -> Outcome {
    let (queue, about_to) = (Queue::<Vec<u8>>::new()?, Event::new()?);
    let child = Process::fork(|| -> Outcome {
        about_to.wait()?;
        check(what, matches!(put(&queue), Err(PutError::Closed)))
    })?;
    fill(filler)?;
    about_to.set()?;
    sleep(WAIT);
    queue.close()?;
    ended_well(&child)?;
    empty(filler)
}

/// Sends what is too large for now.
fn send((end, about_to, receives): (Connection, Event, Event)) -> Outcome {
    receives.set()?;
    about_to.wait()?;
    check("a large message", matches!(end.send(&vec![1_u8; LARGE]), Err(SendError::BrokenPipe)))
}

fn received_by_nobody(filler: &Queue<Vec<u8>>) -> Outcome {
    let (receiver, sender) = Pipe::builder().capacity(1 << 30).simplex()?;
    let (about_to, is_there) = (Event::new()?, Event::new()?);
    let child = Process::spawn(send, (sender, about_to.clone(), is_there.clone()))?;
    is_there.wait()?;
    fill(filler)?;
    about_to.set()?;
    sleep(WAIT);
    drop(receiver);
    ended_well(&child)?;
    empty(filler)
}

fn pools(filler: &Queue<Vec<u8>>) -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    pool.apply(|n: u64| n, 1)?;
    fill(filler)?;
    let child = Process::fork(|| -> Outcome {
        sleep(WAIT);
        empty(filler)
    })?;
    same("an input waits", pool.apply(|bytes: Vec<u8>| bytes.len(), vec![0; LARGE])?, LARGE)?;
    ended_well(&child)?;

    let (about_to, go) = (Event::new()?, Event::new()?);
    let result = pool.apply_async(
        |(about_to, go): (Event, Event)| {
            let waited = about_to.set().and_then(|()| go.wait());
            vec![u8::from(waited.is_ok()); LARGE]
        },
        (about_to.clone(), go.clone()),
    )?;
    about_to.wait()?;
    fill(filler)?;
    go.set()?;
    check("a result waits", !result.wait_timeout(WAIT))?;
    empty(filler)?;
    same("and is put when there is room", result.get()?, vec![1; LARGE])
}
