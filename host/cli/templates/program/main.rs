//! Two processes compute squares. The main process gives them the numbers, and adds the squares up.

use sandpool_guest::{Error, Process, Queue};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let numbers = Queue::<u64>::new()?;
    let squares = Queue::<u64>::new()?;

    // Each process has a sandbox of its own, and a copy of the memory. All share the queues.
    let workers = (0..2)
        .map(|_| {
            Process::fork(|| -> Result<(), Error> {
                for number in &numbers {
                    let number = number?;
                    squares.put(&(number * number))?;
                }
                Ok(())
            })
        })
        .collect::<Result<Vec<_>, _>>()?;

    for number in 1..=1000 {
        numbers.put(&number)?;
    }
    // The loops over a closed queue end after the last item.
    numbers.close()?;

    let mut total = 0;
    for _ in 0..1000 {
        total += squares.get()?;
    }
    println!("total: {total}");
    for worker in &workers {
        println!("{}: {}", worker.name(), worker.join()?);
    }
    Ok(())
}
