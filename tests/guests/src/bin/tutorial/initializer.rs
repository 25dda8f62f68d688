use std::sync::atomic::{AtomicU64, Ordering};

use sandpool_guest::Pool;
use sandpool_guest::pool::PoolError;

static FACTOR: AtomicU64 = AtomicU64::new(0);

fn prepare(value: u64) {
    FACTOR.store(value, Ordering::Relaxed);
}

fn scale(number: u64) -> u64 {
    FACTOR.load(Ordering::Relaxed) * number
}

#[sandpool_guest::main]
fn main() -> Result<(), PoolError> {
    let pool = Pool::builder().processes(2).initializer(prepare, 10).maxtasksperchild(100).build()?;
    println!("{:?}", pool.map(scale, 0..4)?);
    Ok(())
}
