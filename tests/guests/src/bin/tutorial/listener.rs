use sandpool_guest::{Client, Error, Listener, Process};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let listener = Listener::builder().authkey("secret").bind("tcp:127.0.0.1:0")?;
    let process = Process::fork(|| -> Result<(), Error> {
        let connection = Client::builder().authkey("secret").connect(listener.address())?;
        connection.send(&7_u64)?;
        println!("answer: {}", connection.recv::<u64>()?);
        Ok(())
    })?;
    let connection = listener.accept()?;
    let number = connection.recv::<u64>()?;
    connection.send(&(number * number))?;
    process.join()?;
    Ok(())
}
