//! A pool has marks for half a million tasks that can be cancelled at a time. A task that is cancelled before the pool
//! could give it out keeps none. Run with a small arena.
#![forbid(unsafe_code)]

use sandpool_guest::pool::futures::Executor;
use sandpool_guest::queue::PutError;
use sandpool_guest::{Event, Pool, Queue};
use sandpool_test_guests::{Outcome, same};

/// More tasks than there are marks.
const TASKS: u64 = (1 << 19) + 10_000;

/// More bytes than the page holds in which the pool's last task lies.
const LEN: usize = 5000;

fn wait((is_there, go): (Event, Event)) -> bool {
    is_there.set().and_then(|()| go.wait()).is_ok()
}

fn double(n: u64) -> u64 {
    2 * n
}

fn count(bytes: Vec<u8>) -> usize {
    bytes.len()
}

#[sandpool_guest::main]
fn main() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(1))?;
    let (is_there, go) = (Event::new()?, Event::new()?);
    // A task of a map has no mark that would be free again later.
    let first = executor.pool().map_async(wait, [(is_there.clone(), go.clone())])?;
    is_there.wait()?;

    let filler = Queue::<Vec<u8>>::new()?;
    let mut len = 1 << 20;
    while len != 0 {
        match filler.try_put(&vec![0; len]) {
            Ok(()) => {}
            Err(PutError::Full | PutError::TooLarge) => len /= 2,
            Err(other) => return Err(other.into()),
        }
    }
    for n in 0..TASKS {
        if !executor.submit(count, vec![0; LEN])?.cancel() {
            return Err(format!("task {n} can't be cancelled").into());
        }
    }
    same("all are cancelled", executor.pool().stats().cancelled, TASKS)?;

    while filler.try_get().is_ok() {}
    go.set()?;
    same("the first is done", first.get()?, vec![true])?;
    same("and so is a new one", executor.submit(double, 4)?.result()?, 8)?;
    let many = (0..1000).map(|n| executor.submit(double, n)).collect::<Result<Vec<_>, _>>()?;
    let results = many.into_iter().map(|future| future.result()).collect::<Result<Vec<_>, _>>()?;
    same("and many", results, (0..1000).map(double).collect())
}
