//! The promises of a `JoinableQueue`, also when consumers die.

use std::time::Duration;

use sandpool_guest::queue::{JoinError, TaskDoneError};
use sandpool_guest::{Event, ExitStatus, JoinableQueue, Process, Queue, current_process};
use sandpool_test_guests::{Outcome, check, ended_well, kill, same};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

#[sandpool_guest::main]
fn main() -> Outcome {
    alone()?;
    workers()?;
    waiting()?;
    deaths()?;
    done_by_another()?;
    data()
}

fn alone() -> Outcome {
    let queue = JoinableQueue::<u32>::bounded(3)?;
    queue.join()?;
    println!("ok: a new queue is joined at once");
    check("nothing was put", matches!(queue.task_done(), Err(TaskDoneError::TooMany)))?;
    queue.put(&1)?;
    queue.put(&2)?;
    check("two items wait", matches!(queue.join_timeout(Duration::ZERO), Err(JoinError::TimedOut)))?;
    same("it is a queue", (queue.get()?, queue.try_get()?, queue.maxsize()?), (1, 2, Some(3)))?;
    check("taken isn't done", matches!(queue.join_timeout(SHORT), Err(JoinError::TimedOut)))?;
    queue.task_done()?;
    check("one of two is done", matches!(queue.join_timeout(Duration::ZERO), Err(JoinError::TimedOut)))?;
    queue.task_done()?;
    queue.join()?;
    println!("ok: both are done");
    let error = queue.task_done().err().map(|error| error.to_string());
    same("too many", error.as_deref(), Some("task_done() called too many times"))?;
    queue.put_many(&[3, 4, 5])?;
    same("batches count, too", queue.get_many(10)?, vec![3, 4, 5])?;
    for _ in 0..3 {
        queue.task_done()?;
    }
    check("also that they are done", matches!(queue.task_done(), Err(TaskDoneError::TooMany)))?;
    Ok(queue.join()?)
}

/// An item that another has said is done isn't lost when who got it ends.
fn done_by_another() -> Outcome {
    let queue = JoinableQueue::<u32>::new()?;
    for round in 0..3 {
        queue.put(&1)?;
        let (has_it, end) = (Event::new()?, Event::new()?);
        let taker = Process::fork(|| -> Outcome {
            queue.get()?;
            has_it.set()?;
            end.wait()?;
            Ok(())
        })?;
        has_it.wait()?;
        queue.task_done()?;
        if round == 2 {
            kill(&taker)?;
        } else {
            end.set()?;
            ended_well(&taker)?;
        }
        // None was lost, so this one alone is waited for.
        queue.put(&2)?;
        if !matches!(queue.join_timeout(SHORT), Err(JoinError::TimedOut)) {
            return Err("it was counted twice".into());
        }
        queue.get()?;
        queue.task_done()?;
        queue.join()?;
    }
    println!("ok: done by another");
    Ok(())
}

fn workers() -> Outcome {
    let jobs = JoinableQueue::<u64>::bounded(8)?;
    let results = Queue::<u64>::new()?;
    let workers = (0..4)
        .map(|_| {
            Process::fork(|| -> Outcome {
                for job in &jobs {
                    results.put(&(job? * 2))?;
                    jobs.task_done()?;
                }
                Ok(())
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    for round in 1..=3 {
        for job in 0..100 {
            jobs.put(&job)?;
        }
        jobs.join()?;
        same("all are done after a join", results.qsize()?, round * 100)?;
    }
    jobs.close()?;
    for worker in &workers {
        ended_well(worker)?;
    }
    jobs.join()?;
    let mut sum = 0;
    while let Ok(result) = results.try_get() {
        sum += result;
    }
    same("each once", sum, 3 * 99 * 100)
}

fn waiting() -> Outcome {
    let jobs = JoinableQueue::<u64>::new()?;
    let joined = Queue::<bool>::new()?;
    jobs.put(&1)?;
    let joiners = (0..2)
        .map(|_| Process::fork(|| -> Outcome { Ok(joined.put(&jobs.join().is_ok())?) }))
        .collect::<Result<Vec<_>, _>>()?;
    jobs.get()?;
    // Before the first is done, so that nothing was all done in between.
    jobs.put(&2)?;
    jobs.task_done()?;
    check("one more was put", joined.get_timeout(SHORT).is_err())?;
    jobs.get()?;
    jobs.task_done()?;
    same("all who join are woken", (joined.get_timeout(LONG)?, joined.get_timeout(LONG)?), (true, true))?;
    joiners.iter().try_for_each(ended_well)
}

fn deaths() -> Outcome {
    for round in 0..20 {
        let jobs = JoinableQueue::<u64>::new()?;
        let ready = Queue::<()>::new()?;

        // One that waits for an item, and then one that waits for the others.
        let getter = Process::fork(|| -> Outcome {
            ready.put(&())?;
            jobs.get()?;
            Ok(())
        })?;
        ready.get()?;
        kill(&getter)?;
        jobs.put(&1)?;
        let joiner = Process::fork(|| -> Outcome {
            ready.put(&())?;
            Ok(jobs.join()?)
        })?;
        ready.get()?;
        kill(&joiner)?;
        if jobs.get_timeout(LONG)? != 1 {
            return Err(format!("round {round}: the item is another one").into());
        }
        jobs.task_done()?;
        jobs.join()?;
    }
    println!("ok: who is killed in get or join takes nothing along");

    let jobs = JoinableQueue::<u64>::new()?;
    let taken = Queue::<()>::new()?;
    let hold = || -> Outcome {
        jobs.get()?;
        taken.put(&())?;
        std::thread::sleep(LONG);
        Ok(())
    };
    jobs.put_many(&[1, 2, 3])?;
    let holder = Process::fork(hold)?;
    taken.get()?;
    check("somebody works on it", matches!(jobs.join_timeout(SHORT), Err(JoinError::TimedOut)))?;
    kill(&holder)?;
    for _ in 0..2 {
        jobs.get()?;
        jobs.task_done()?;
    }
    check("the rest is done, one is lost", matches!(jobs.join(), Err(JoinError::Lost(1))))?;
    check("nothing is left to be done", matches!(jobs.task_done(), Err(TaskDoneError::TooMany)))?;

    jobs.put(&4)?;
    let holder = Process::fork(hold)?;
    taken.get()?;
    let joiner = Process::fork(|| i32::from(matches!(jobs.join(), Err(JoinError::Lost(2)))))?;
    kill(&holder)?;
    same("who joins is woken by a death", joiner.join()?, ExitStatus::Exited(1))?;

    // It ends well, but without a word about its item.
    jobs.put(&5)?;
    let silent = Process::fork(|| -> Outcome {
        jobs.get()?;
        Ok(())
    })?;
    ended_well(&silent)?;
    check("one more, at an end", matches!(jobs.join(), Err(JoinError::Lost(3))))?;

    jobs.put(&6)?;
    let done = Process::fork(|| -> Outcome {
        jobs.get()?;
        jobs.task_done()?;
        std::process::abort()
    })?;
    done.join()?;
    check("done before the death", matches!(jobs.join(), Err(JoinError::Lost(3))))
}

fn serve((jobs, names): (JoinableQueue<u32>, Queue<String>)) -> Outcome {
    jobs.get()?;
    names.put(&current_process()?.name().to_owned())?;
    Ok(jobs.task_done()?)
}

fn data() -> Outcome {
    let jobs = JoinableQueue::<u32>::new()?;
    let names = Queue::<String>::new()?;
    let worker = Process::builder().name("spawned").spawn(serve, (jobs.clone(), names.clone()))?;
    jobs.put(&1)?;
    jobs.join()?;
    same("an argument of a spawned process", names.get()?, "spawned".to_owned())?;
    ended_well(&worker)?;
    let letters = Queue::<JoinableQueue<u32>>::new()?;
    letters.put(&jobs)?;
    let same_jobs = letters.get()?;
    check("an item of a queue", same_jobs == jobs)?;
    jobs.put(&2)?;
    same_jobs.get()?;
    same_jobs.task_done()?;
    Ok(jobs.join()?)
}
