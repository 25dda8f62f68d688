//! Prints its arguments and its environment: in the main process, a forked one, a spawned one, and one that has mapped
//! shared memory before it looks.

use sandpool_guest::{Process, RawArray, current_process};
use sandpool_test_guests::Outcome;

#[sandpool_guest::main]
fn main() -> Outcome {
    show()?;
    Process::fork(show)?.join()?;
    Process::spawn(|()| show(), ())?.join()?;
    Process::spawn(show_beside, RawArray::new(1)?)?.join()?;
    Ok(())
}

fn show_beside(array: RawArray<u8>) -> Outcome {
    array.set(0, 1)?;
    show()
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
