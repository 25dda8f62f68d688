//! The first program of the README, where the program is called `squares`.

use sandpool_guest::{Error, Process, Queue};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let squares = Queue::<u64>::new()?;
    let workers = [1, 2, 3].map(|number| Process::fork(|| squares.put(&(number * number))));
    for worker in workers {
        worker?.join()?;
    }
    println!("{}", squares.get()? + squares.get()? + squares.get()?);
    Ok(())
}
