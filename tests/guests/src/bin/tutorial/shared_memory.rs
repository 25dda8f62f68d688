use sandpool_guest::{Error, Process, SharedMemory};

fn fill(name: String) -> Result<(), Error> {
    SharedMemory::attach(&name)?.write_from(0, b"hello")
}

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let memory = SharedMemory::create(5)?;
    let process = Process::spawn(fill, memory.name().to_owned())?;
    process.join()?;
    let mut bytes = [0; 5];
    memory.read_into(0, &mut bytes)?;
    println!("{}", str::from_utf8(&bytes)?);
    memory.unlink()?;
    Ok(())
}
