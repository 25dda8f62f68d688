use std::time::Duration;

use sandpool_guest::{Error, Lock, Process, RawValue};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let (lock, total) = (Lock::new()?, RawValue::new(0_i32)?);
    let count = || -> Result<(), Error> {
        for _ in 0..1000 {
            let _guard = lock.acquire()?;
            total.set(total.get()? + 1)?;
        }
        Ok(())
    };
    for process in [Process::fork(count)?, Process::fork(count)?] {
        process.join()?;
    }
    println!("{}", total.get()?);
    println!("{}", if lock.acquire_timeout(Duration::from_secs(1)).is_ok() { "free" } else { "taken" });
    Ok(())
}
