use sandpool_guest::{Condition, Process, RawValue};

type Failure = Box<dyn std::error::Error>;

#[sandpool_guest::main]
fn main() -> Result<(), Failure> {
    let (changed, count) = (Condition::new()?, RawValue::new(0_i32)?);
    let process = Process::fork(|| -> Result<(), Failure> {
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
