//! A process that waits for its parent, without a timeout, learns of its end, whenever that comes: `process_orphan
//! [ROUNDS]`.

use std::time::Duration;

use sandpool_guest::{Process, Queue, parent_process};
use sandpool_test_guests::{Outcome, argument};

#[sandpool_guest::main]
fn main() -> Outcome {
    let (ready, told) = (Queue::<()>::new()?, Queue::<u32>::new()?);
    for round in 0..argument(0, 500) {
        let parent = Process::fork(|| -> Outcome {
            Process::fork(|| -> Outcome {
                let parent = parent_process()?.ok_or("no parent")?;
                ready.put(&())?;
                parent.join()?;
                Ok(told.put(&round)?)
            })?
            .join()?;
            Ok(())
        })?;
        ready.get()?;
        // It is about to sleep, or sleeps.
        std::thread::sleep(Duration::from_micros(u64::from(round % 10) * 30));
        parent.kill()?;
        parent.join()?;
        if told.get_timeout(Duration::from_secs(30)).ok() != Some(round) {
            return Err(format!("round {round}: a process was not told of its parent's end").into());
        }
    }
    println!("ok: all were told");
    Ok(())
}
