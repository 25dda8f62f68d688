use sandpool_guest::{Error, RLock};

fn inner(lock: &RLock) -> Result<(), Error> {
    let _guard = lock.acquire()?;
    println!("held twice");
    Ok(())
}

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let lock = RLock::new()?;
    let _guard = lock.acquire()?;
    inner(&lock)
}
