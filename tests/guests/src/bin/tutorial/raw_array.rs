use sandpool_guest::{Error, Process, RawArray};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let squares = RawArray::<i64>::new(4)?;
    let fill = |index: usize| Process::fork(|| squares.set(index, (index * index) as i64));
    let processes = (0..4).map(fill).collect::<Result<Vec<_>, _>>()?;
    for process in &processes {
        process.join()?;
    }
    println!("{:?}", squares.to_vec()?);
    Ok(())
}
