use sandpool_guest::{JoinableQueue, Process};

type Failure = Box<dyn std::error::Error>;

#[sandpool_guest::main]
fn main() -> Result<(), Failure> {
    let jobs = JoinableQueue::<u64>::new()?;
    let _worker = Process::builder().daemon().fork(|| -> Result<(), Failure> {
        for job in &jobs {
            println!("done: {}", job?);
            jobs.task_done()?;
        }
        Ok(())
    })?;
    for number in 0..3 {
        jobs.put(&number)?;
    }
    jobs.join()?;
    println!("all are done");
    Ok(())
}
