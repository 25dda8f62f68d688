use sandpool_guest::{Process, Value};

type Failure = Box<dyn std::error::Error>;

#[sandpool_guest::main]
fn main() -> Result<(), Failure> {
    let total = Value::new(0_i32)?;
    let count = || -> Result<(), Failure> {
        for _ in 0..1000 {
            total.update(|total| *total += 1)?;
        }
        Ok(())
    };
    for process in [Process::fork(count)?, Process::fork(count)?] {
        process.join()?;
    }
    println!("{}", total.get()?);
    Ok(())
}
