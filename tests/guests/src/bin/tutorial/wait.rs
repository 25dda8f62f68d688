use sandpool_guest::pipe::RecvError;
use sandpool_guest::{Error, Pipe, Process, wait};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let (mut receivers, mut squares) = (Vec::new(), Vec::new());
    for number in 0..3_u64 {
        let (receiver, sender) = Pipe::simplex()?;
        Process::fork(move || sender.send(&(number * number)))?;
        receivers.push(receiver);
    }
    while !receivers.is_empty() {
        // From the last index to the first, so that a removal moves no receiver that is still to come.
        for index in wait(&receivers, None)?.into_iter().rev() {
            match receivers[index].recv::<u64>() {
                Ok(square) => squares.push(square),
                Err(RecvError::Eof) => drop(receivers.remove(index)),
                Err(other) => return Err(other.into()),
            }
        }
    }
    squares.sort_unstable();
    println!("{squares:?}");
    Ok(())
}
