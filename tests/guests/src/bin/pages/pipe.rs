use sandpool_guest::{Pipe, Process};

#[sandpool_guest::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (receiver, sender) = Pipe::simplex()?;
    let child = Process::fork(|| (1..=3_u64).try_for_each(|n| sender.send(&n)))?;
    sender.close(); // or the loop below would never end
    while let Ok(number) = receiver.recv::<u64>() {
        println!("{number}");
    }
    child.join()?;
    Ok(())
}
