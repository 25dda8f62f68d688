//! The smallest guest.

#![forbid(unsafe_code)]

use sandpool_guest::{Error, Process};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    Process::fork(|| println!("hello from a process"))?.join()?;
    println!("hello from the main process");
    Ok(())
}
