use sandpool_guest::{Error, Process};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let name = "Ada";
    let process = Process::fork(|| {
        println!("hello {name}");
        3
    })?;
    process.join()?;
    println!("exit code {}", process.exitcode().expect("the process has ended"));
    Ok(())
}
