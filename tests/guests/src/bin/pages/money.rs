use sandpool_guest::{Error, Process, Value};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let money = Value::new(100_i64)?;
    let spender = Process::fork(|| money.update(|money| *money -= 30))?;
    match money.update(|money| *money -= 20) {
        // The spender was killed in its update: this one hasn't been made, and the next one works.
        Err(Error::OwnerDied) => money.set(0)?,
        updated => updated?,
    }
    spender.join()?;
    println!("{}", money.get()?);
    Ok(())
}
