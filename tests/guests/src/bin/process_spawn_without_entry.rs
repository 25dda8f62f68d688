//! `spawn` in a program without `#[sandpool_guest::main]` is an error, not a second run of `main`.

use sandpool_guest::{Error, ExitStatus, Process};

fn main() {
    println!("main runs");
    match Process::spawn(|()| (), ()) {
        Err(error @ Error::NoEntryPoint) => println!("ok: {error}"),
        other => println!("failed: {other:?}"),
    }
    // `fork` needs nothing, and a panic in it is exit code 1 all the same.
    let status = Process::fork(|| panic!("on purpose")).and_then(|process| process.join());
    match status {
        Ok(ExitStatus::Exited(1)) => println!("ok: a panic"),
        other => println!("failed: {other:?}"),
    }
}
