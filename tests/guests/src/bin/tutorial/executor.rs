use sandpool_guest::pool::futures::{Executor, as_completed};
use sandpool_guest::{Error, Pool};

fn square(number: u64) -> u64 {
    number * number
}

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let executor = Executor::build(Pool::builder().processes(2))?;
    let futures = (0..4).map(|number| executor.submit(square, number)).collect::<Result<Vec<_>, _>>()?;
    let mut squares = Vec::new();
    for future in as_completed(futures, None) {
        squares.push(future?.result()?);
    }
    squares.sort_unstable();
    println!("{squares:?}");
    println!("{:?}", executor.map(square, 0..4)?.collect::<Result<Vec<_>, _>>()?);
    executor.shutdown()?;
    Ok(())
}
