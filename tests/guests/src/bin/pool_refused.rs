//! A pool that can't start a worker for now, because its owner has a guard of an array.
#![forbid(unsafe_code)]

use std::time::Duration;

use sandpool_guest::pool::{Cause, PoolEnd, PoolError};
use sandpool_guest::{Array, Error, Pool, active_children};
use sandpool_test_guests::{Outcome, check, same};

#[sandpool_guest::main]
fn main() -> Outcome {
    a_guard()?;
    many_at_once()
}

fn double(n: u64) -> u64 {
    n * 2
}

/// Whether a task failed for want of a worker, and why.
fn no_worker<T>(result: Result<T, PoolError>) -> Option<String> {
    match result {
        Err(PoolError::Task(error)) => match error.cause() {
            Cause::Pool(PoolEnd::NoWorker(why)) => Some(why.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// As somebody does who kills processes: the pool learns of it with its next step.
fn end_workers() -> Outcome {
    for worker in active_children()? {
        worker.kill()?;
        worker.join()?;
    }
    Ok(())
}

fn a_guard() -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    let array = Array::<u64>::new(4)?;
    same("a pool of one worker", pool.apply(double, 1)?, 2)?;
    let guard = array.lock()?;
    end_workers()?;
    let later = pool.apply_async(double, 2)?;
    check("none can be started", !later.wait_timeout(Duration::from_millis(20)))?;
    drop(guard);
    same("but when the guard is gone", later.get()?, 4)?;
    same("and so it goes on", pool.map(double, 1..=5)?, vec![2, 4, 6, 8, 10])?;

    let guard = array.lock()?;
    end_workers()?;
    let why = Error::ArrayBorrowed.to_string();
    same("who waits with the guard is told", no_worker(pool.apply(double, 3)), Some(why.clone()))?;
    let results: Vec<_> = (0..3).map(|n| pool.apply_async(double, n)).collect::<Result<_, _>>()?;
    let failed = results.into_iter().map(|result| no_worker(result.get().map_err(PoolError::Task)));
    same("of each task", failed.collect::<Vec<_>>(), vec![Some(why); 3])?;
    drop(guard);
    same("the pool hasn't ended", pool.apply(double, 4)?, 8)?;
    let stats = pool.stats();
    same("all are counted", (stats.submitted, stats.succeeded, stats.failed), (12, 8, 4))?;
    pool.close();
    Ok(pool.join()?)
}

/// Those that have failed aren't done later, by a worker that comes then.
fn many_at_once() -> Outcome {
    let pool = Pool::builder().processes(2).build()?;
    let (array, done) = (Array::<u64>::new(4)?, Array::<u64>::new(64)?);
    let mark = |(done, n): (Array<u64>, usize)| done.set(n, 1).is_ok();
    for n in 0..4 {
        pool.apply(mark, (done.clone(), n))?;
    }
    let guard = array.lock()?;
    end_workers()?;
    let results: Vec<_> =
        (4..32).map(|n| pool.apply_async(mark, (done.clone(), n))).collect::<Result<_, _>>()?;
    let all = results.into_iter().all(|result| no_worker(result.get().map_err(PoolError::Task)).is_some());
    check("all fail", all)?;
    drop(guard);
    for n in 32..40 {
        pool.apply(mark, (done.clone(), n))?;
    }
    let seen: Vec<usize> =
        done.to_vec()?.iter().enumerate().filter(|(_, n)| **n == 1).map(|(n, _)| n).collect();
    same("and none is done later", seen, (0..4).chain(32..40).collect())
}
