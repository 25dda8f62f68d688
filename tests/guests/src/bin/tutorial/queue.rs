use std::time::Duration;

use sandpool_guest::{Process, Queue};

type Failure = Box<dyn std::error::Error>;

#[sandpool_guest::main]
fn main() -> Result<(), Failure> {
    let (numbers, doubled) = (Queue::<u64>::bounded(10)?, Queue::<u64>::new()?);
    let process = Process::fork(|| -> Result<(), Failure> {
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
