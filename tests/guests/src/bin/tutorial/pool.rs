use sandpool_guest::{Pool, cpu_count};
use sandpool_guest::pool::PoolError;

fn square(number: u64) -> u64 {
    number * number
}

fn add((left, right): (u64, u64)) -> u64 {
    left + right
}

#[sandpool_guest::main]
fn main() -> Result<(), PoolError> {
    let pool = Pool::builder().processes(cpu_count()).build()?;
    println!("{:?}", pool.map(square, 0..5)?);
    println!("{:?}", pool.map(add, [(1, 2), (3, 4)])?);
    println!("{}", pool.apply(square, 7)?);
    Ok(())
}
