use sandpool_guest::{Error, Process, current_process};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let child = Process::builder().name("child").fork(|| -> Result<(), Error> {
        println!("hello from {}", current_process()?.name());
        Ok(())
    })?;
    println!("{}: {}", child.name(), child.join()?);
    Ok(())
}
