use sandpool_guest::RLock;

type Failure = Box<dyn std::error::Error>;

fn inner(lock: &RLock) -> Result<(), Failure> {
    let _guard = lock.acquire()?;
    println!("held twice");
    Ok(())
}

#[sandpool_guest::main]
fn main() -> Result<(), Failure> {
    let lock = RLock::new()?;
    let _guard = lock.acquire()?;
    inner(&lock)
}
