use sandpool_guest::{Error, Process, Queue};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let numbers = Queue::<u64>::new()?;
    let squares = Queue::new()?;

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
    numbers.close()?;

    let mut total = 0;
    for _ in 0..1000 {
        total += squares.get()?;
    }
    for worker in &workers {
        worker.join()?;
    }
    println!("{total}");
    Ok(())
}
