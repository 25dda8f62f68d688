use sandpool_guest::Process;

fn square(number: u64) {
    println!("{}", number * number);
}

#[sandpool_guest::main]
fn main() -> Result<(), sandpool_guest::Error> {
    let process = Process::spawn(square, 7)?;
    process.join()?;
    Ok(())
}
