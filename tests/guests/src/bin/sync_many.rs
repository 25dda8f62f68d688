//! Very many semaphores at the same time: `sync_many [COUNT]`.

use sandpool_guest::{Process, Queue, Semaphore};
use sandpool_test_guests::{Outcome, argument, check, ended_well};

#[sandpool_guest::main]
fn main() -> Outcome {
    let count: u64 = argument(0, 40_000);
    for pass in ["all there", "and once more"] {
        let semaphores =
            (0..count).map(|number| Semaphore::new(number % 7)).collect::<Result<Vec<_>, _>>()?;
        let holds = |changed: u64| -> Result<bool, sandpool_guest::Error> {
            for (semaphore, number) in semaphores.iter().zip(0..) {
                if semaphore.value()? != number % 7 + changed {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        check(pass, holds(0)?)?;
        let child = Process::fork(|| -> Outcome {
            for semaphore in &semaphores {
                semaphore.release()?;
            }
            Ok(())
        })?;
        ended_well(&child)?;
        check("each by itself", holds(1)?)?;

        let queue = Queue::<Vec<Semaphore>>::new()?;
        queue.put(&semaphores.iter().take(1000).cloned().collect())?;
        let child = Process::spawn(received, queue.clone())?;
        ended_well(&child)?;
        check(
            "in a message",
            semaphores.iter().take(1000).all(|semaphore| semaphore.value().is_ok_and(|value| value == 99)),
        )?;
        // All of them are gone now, or there is no room for the next.
    }
    Ok(())
}

fn received(queue: Queue<Vec<Semaphore>>) -> Outcome {
    for semaphore in queue.get()? {
        let value = semaphore.value()?;
        semaphore.release_many(99 - value)?;
    }
    Ok(())
}
