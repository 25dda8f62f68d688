use std::thread::sleep;
use std::time::Duration;

use sandpool_guest::{Error, Process, wait};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let slow = Process::builder().name("slow").fork(|| sleep(Duration::from_secs(60)))?;
    let fast = Process::builder().name("fast").fork(|| sleep(Duration::ZERO))?;
    let processes = [&slow, &fast];
    for index in wait(&processes.map(Process::sentinel), None)? {
        println!("{} has ended", processes[index].name());
    }
    slow.kill()?;
    slow.join()?;
    println!("{} ended with {}", slow.name(), slow.exitcode().expect("the process has ended"));
    Ok(())
}
