use sandpool_guest::{Error, Process};

fn square(number: u64) {
    println!("{}", number * number);
}

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let process = Process::spawn(square, 7)?;
    process.join()?;
    Ok(())
}
