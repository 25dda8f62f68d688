use std::time::Duration;

use sandpool_guest::{Error, Process, Queue};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let (numbers, doubled) = (Queue::<u64>::bounded(10)?, Queue::new()?);
    let process = Process::fork(|| -> Result<(), Error> {
        for number in &numbers {
            doubled.put(&(2 * number?))?;
        }
        Ok(())
    })?;
    for number in 0..5 {
        numbers.put(&number)?;
    }
    numbers.close()?;
    let all = (0..5).map(|_| doubled.get_timeout(Duration::from_secs(10)));
    println!("{:?}", all.collect::<Result<Vec<_>, _>>()?);
    process.join()?;
    Ok(())
}
