use sandpool_guest::{Error, Event, Process};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let ready = Event::new()?;
    let process = Process::fork(|| -> Result<(), Error> {
        ready.wait()?;
        println!("begun");
        Ok(())
    })?;
    ready.set()?;
    process.join()?;
    println!("ended");
    Ok(())
}
