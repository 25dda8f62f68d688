use sandpool_guest::{Error, Process, SimpleQueue};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let (questions, answers) = (SimpleQueue::<String>::new()?, SimpleQueue::new()?);
    let process = Process::fork(|| -> Result<(), Error> {
        answers.put(&questions.get()?.len())?;
        Ok(())
    })?;
    questions.put(&"how long is this?".to_owned())?;
    println!("{}", answers.get()?);
    process.join()?;
    Ok(())
}
