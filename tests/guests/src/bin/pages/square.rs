use sandpool_guest::Pool;
use sandpool_guest::pool::PoolError;

fn square(n: u64) -> u64 {
    n * n
}

#[sandpool_guest::main]
fn main() -> Result<(), PoolError> {
    let pool = Pool::builder().processes(4).build()?;
    println!("{:?}", pool.map(square, 0..10)?);
    for result in pool.imap_unordered(square, 0..1_000_000)? {
        println!("{}", result?);
    }
    Ok(())
}
