use sandpool_guest::Pool;
use sandpool_guest::pool::PoolError;

fn square(number: u64) -> u64 {
    number * number
}

#[sandpool_guest::main]
fn main() -> Result<(), PoolError> {
    let pool = Pool::builder().processes(2).build()?;
    for result in pool.imap(square, 0..3)? {
        println!("{}", result?);
    }
    let squares = pool.options().chunksize(50).imap_unordered(square, 0..1000)?;
    println!("{}", squares.sum::<Result<u64, _>>()?);
    Ok(())
}
