use std::convert::Infallible;
use std::time::Duration;

use sandpool_guest::{Barrier, Error, Process};

fn report() -> Result<(), Infallible> {
    println!("all have done this step");
    Ok(())
}

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let barrier = Barrier::with_timeout(3, Duration::from_secs(10))?;
    let work = || -> Result<(), Error> {
        for _ in 0..2 {
            barrier.wait_with(report)?;
        }
        Ok(())
    };
    let processes = (0..3).map(|_| Process::fork(work)).collect::<Result<Vec<_>, _>>()?;
    for process in &processes {
        process.join()?;
    }
    Ok(())
}
