use sandpool_guest::pipe::RecvError;
use sandpool_guest::{Error, Pipe, Process};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let (receiver, sender) = Pipe::simplex()?;
    let process = Process::fork(move || (0..3_u64).try_for_each(|number| sender.send(&number)))?;
    loop {
        match receiver.recv::<u64>() {
            Ok(number) => println!("{number}"),
            Err(RecvError::Eof) => break println!("that is all"),
            Err(other) => return Err(other.into()),
        }
    }
    process.join()?;
    Ok(())
}
