use std::thread::sleep;
use std::time::Duration;

use sandpool_guest::{Error, Process};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let process = Process::builder().name("sleeper").fork(|| sleep(Duration::from_secs(60)))?;
    if process.join_timeout(Duration::from_millis(100))?.is_none() {
        process.terminate()?;
    }
    process.join()?;
    println!("{} ended with {}", process.name(), process.exitcode().expect("the process has ended"));
    Ok(())
}
