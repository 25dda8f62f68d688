use std::time::Duration;

use sandpool_guest::{Error, Pool};

fn half(number: u64) -> Result<u64, String> {
    if number % 2 == 1 { Err(format!("{number} is odd")) } else { Ok(number / 2) }
}

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let pool = Pool::builder().processes(2).build()?;
    if let Ok(result) = pool.apply_async(half, 8)?.get_timeout(Duration::from_secs(10)) {
        println!("{}", result?.map_err(Error::other)?);
    }
    pool.apply_async(half, 6)?
        .callback(|result| println!("callback: {}", result.clone().unwrap_or(0)))
        .wait();
    if let Err(error) = pool.apply_async(half, 5)?.get()? {
        println!("error: {error}");
    }
    pool.close();
    pool.join()?;
    Ok(())
}
