use sandpool_guest::{Process, SimpleQueue};

type Failure = Box<dyn std::error::Error>;

#[sandpool_guest::main]
fn main() -> Result<(), Failure> {
    let (questions, answers) = (SimpleQueue::<String>::new()?, SimpleQueue::<usize>::new()?);
    let process = Process::fork(|| -> Result<(), Failure> {
        answers.put(&questions.get()?.len())?;
        Ok(())
    })?;
    questions.put(&"how long is this?".to_owned())?;
    println!("{}", answers.get()?);
    process.join()?;
    Ok(())
}
