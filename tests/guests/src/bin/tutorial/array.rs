use sandpool_guest::{Array, Error, Process};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let numbers = Array::<i64>::from_slice(&[1, 2, 3])?;
    let process =
        Process::fork(|| numbers.update(|numbers| numbers.iter_mut().for_each(|number| *number *= 2)))?;
    process.join()?;
    println!("{:?}", numbers.to_vec()?);
    Ok(())
}
