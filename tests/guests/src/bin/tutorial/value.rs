use sandpool_guest::{Error, Process, Value};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let total = Value::new(0_i32)?;
    let count = || -> Result<(), Error> {
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
