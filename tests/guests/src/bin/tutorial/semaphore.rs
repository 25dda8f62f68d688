use sandpool_guest::{BoundedSemaphore, Error, Process, Semaphore};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let (places, done) = (BoundedSemaphore::new(2)?, Semaphore::new(0)?);
    let work = || -> Result<(), Error> {
        let _place = places.acquire()?;
        done.release()?;
        Ok(())
    };
    let processes = (0..4).map(|_| Process::fork(work)).collect::<Result<Vec<_>, _>>()?;
    for process in &processes {
        process.join()?;
    }
    println!("{} places, {} done", places.value()?, done.value()?);
    Ok(())
}
