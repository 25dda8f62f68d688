use sandpool_guest::{Error, JoinableQueue, Process};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let jobs = JoinableQueue::new()?;
    let _worker = Process::builder().daemon().fork(|| -> Result<(), Error> {
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
