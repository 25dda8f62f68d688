use sandpool_guest::{Condition, Error, Process, RawValue};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let (changed, count) = (Condition::new()?, RawValue::new(0_i32)?);
    let process = Process::fork(|| -> Result<(), Error> {
        let guard = changed.acquire()?;
        guard.wait_for(|| count.get().is_ok_and(|count| count == 3))?;
        println!("there are three");
        Ok(())
    })?;
    for _ in 0..3 {
        let guard = changed.acquire()?;
        count.set(count.get()? + 1)?;
        guard.notify_all()?;
    }
    process.join()?;
    Ok(())
}
