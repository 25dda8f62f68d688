//! Prints its arguments and its environment, in the main process, a forked and a spawned one.

use sandpool_guest::{Process, current_process};
use sandpool_test_guests::Outcome;

#[sandpool_guest::main]
fn main() -> Outcome {
    show()?;
    Process::fork(show)?.join()?;
    Process::spawn(|()| show(), ())?.join()?;
    Ok(())
}

fn show() -> Outcome {
    let name = current_process()?.name().to_owned();
    for (index, argument) in std::env::args().enumerate().skip(1) {
        println!("{name}: argument {index}: {argument}");
    }
    let mut variables: Vec<_> = std::env::vars().collect();
    variables.sort();
    for (key, value) in variables {
        println!("{name}: variable {key}={value}");
    }
    Ok(())
}
