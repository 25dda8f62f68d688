//! Starts and joins processes one after another: `process_many [N] [fork|spawn]`. Then again for each line of stdin that
//! is a number, as many times as it says.

use sandpool_guest::{ExitStatus, Process};
use sandpool_test_guests::{Outcome, argument};

#[sandpool_guest::main]
fn main() -> Outcome {
    let spawn = argument(1, String::new()) == "spawn";
    start_and_join(argument(0, 10_000), spawn)?;
    for line in std::io::stdin().lines() {
        start_and_join(line?.parse()?, spawn)?;
    }
    Ok(())
}

fn start_and_join(count: u64, spawn: bool) -> Outcome {
    for n in 0..count {
        let code = (n % 256) as u8;
        let process =
            if spawn { Process::spawn(i32::from, code)? } else { Process::fork(|| i32::from(code))? };
        let status = process.join()?;
        if status != ExitStatus::Exited(code) {
            return Err(format!("process {n}: {status}").into());
        }
    }
    println!("{count} processes");
    Ok(())
}
