//! The promises of an `Executor` and its futures.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use sandpool_guest::pool::futures::{Executor, ReturnWhen, as_completed, wait};
use sandpool_guest::pool::{Cause, PoolError};
use sandpool_guest::{Event, Pool, Queue, active_children};
use sandpool_test_guests::{LONG, Outcome, check, eventually, same};

const SHORT: Duration = Duration::from_millis(20);

#[sandpool_guest::main]
fn main() -> Outcome {
    futures()?;
    cancelling()?;
    waiting()?;
    failing()?;
    shutdowns()
}

fn square(n: u64) -> u64 {
    n * n
}

fn pass((go, n): (Event, u64)) -> u64 {
    go.wait().map_or(0, |()| n)
}

fn futures() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(2))?;
    let futures = (0..1000).map(|n| executor.submit(square, n)).collect::<Result<Vec<_>, _>>()?;
    for (n, future) in (0..).zip(futures) {
        if future.result()? != square(n) {
            return Err(format!("{n} differs").into());
        }
    }
    println!("ok: each has its result");
    same("map", executor.map(square, 0..4)?.collect::<Result<Vec<_>, _>>()?, vec![0, 1, 4, 9])?;

    let scaled = executor.partial(&3).submit(|by, n: u64| by * n, 5)?;
    same("with a state", scaled.result()?, 15)?;

    let go = Event::new()?;
    let future = executor.submit(pass, (go.clone(), 7))?;
    check("not done", !future.done() && !future.cancelled())?;
    eventually("running", || Ok(future.running()))?;
    check("what runs can't be cancelled", !future.cancel())?;
    let Err(future) = future.result_timeout(SHORT) else { return Err("there is a result".into()) };
    let called = Rc::new(RefCell::new(Vec::new()));
    for number in [1, 2] {
        let called = called.clone();
        future.add_done_callback(move |result| called.borrow_mut().push((number, result.is_ok())));
    }
    go.set()?;
    check("no exception", future.exception().is_none())?;
    same("callbacks in their order", called.take(), vec![(1, true), (2, true)])?;
    let late = called.clone();
    future.add_done_callback(move |_| late.borrow_mut().push((3, true)));
    same("one that comes late is called at once", called.take(), vec![(3, true)])?;
    check("done, not running", future.done() && !future.running() && !future.cancel())?;
    same("and a result", future.result()?, 7)
}

fn cancelling() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(1))?;
    let go = Event::new()?;
    let first = executor.submit(pass, (go.clone(), 1))?;
    eventually("it runs", || Ok(first.running()))?;
    let (done, next) = (Queue::<u64>::new()?, Event::new()?);
    let task = |(done, n): (Queue<u64>, u64)| done.put(&n).is_ok();
    let others = (0..10).map(|n| executor.submit(task, (done.clone(), n))).collect::<Result<Vec<_>, _>>()?;
    let victim = executor.submit(pass, (next, 2))?;
    check("what waits can be cancelled", victim.cancel() && victim.cancelled() && victim.done())?;
    check("more than once", victim.cancel())?;
    check("several", others.iter().step_by(2).all(|future| future.cancel()))?;
    same("its exception", victim.exception().map(|error| error.cause().clone()), Some(Cause::Cancelled))?;
    go.set()?;
    same("what ran has a result", first.result()?, 1)?;
    let results: Vec<_> = others.into_iter().map(|future| future.result().is_ok()).collect();
    same("and those that weren't cancelled", results, [false, true].repeat(5))?;
    same("which alone were done", done.get_many(100)?, vec![1, 3, 5, 7, 9])?;
    same("all were counted", executor.pool().stats().cancelled, 6)?;

    // To and fro: each is cancelled or done, never both, whoever is faster.
    let executor = Executor::build(Pool::builder().processes(2))?;
    let done = Queue::<u64>::new()?;
    let mut cancelled = 0;
    for n in 0..2000 {
        let future = executor.submit(task, (done.clone(), n))?;
        // A different while each time.
        std::hint::black_box((0..n % 97 * 20).map(std::hint::black_box).sum::<u64>());
        cancelled += usize::from(future.cancel());
        drop(future.result());
    }
    same("cancelled or done, never both", done.qsize()? + cancelled, 2000)
}

fn waiting() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(2))?;
    let go = Event::new()?;
    let quick = executor.submit(square, 3)?;
    let slow = executor.submit(pass, (go.clone(), 4))?;
    let (done, not_done) = wait([slow, quick], None, ReturnWhen::FirstCompleted);
    same("the first", (done.len(), not_done.len()), (1, 1))?;
    let (done, not_done) = wait(not_done, Some(SHORT), ReturnWhen::AllCompleted);
    same("not in time", (done.len(), not_done.len()), (0, 1))?;
    let bad = executor.submit(|n: u64| Err::<u64, _>(n), 5)?;
    let (done, _) = wait([bad], Some(LONG), ReturnWhen::FirstException);
    same("an error is an exception", done.len(), 1)?;
    let panicking = executor.submit(|n: u64| if n == 5 { panic!("five") } else { n }, 5)?;
    let (done, not_done) =
        wait(not_done.into_iter().chain([panicking]), Some(LONG), ReturnWhen::FirstException);
    same("the first that fails", (done.len(), not_done.len()), (1, 1))?;

    let more = (0..20).map(|n| executor.submit(square, n)).collect::<Result<Vec<_>, _>>()?;
    let mut results: Vec<u64> = Vec::new();
    let mut all = as_completed(more.into_iter().chain(not_done), None);
    for future in all.by_ref().take(20) {
        results.push(future?.result()?);
    }
    go.set()?;
    same("the slow one comes last", all.next().ok_or("nothing")??.result()?, 4)?;
    same("all as they are completed", results.len(), 20)?;
    let never = executor.submit(pass, (Event::new()?, 1))?;
    let mut timed = as_completed([never], Some(SHORT));
    let error = timed.next().ok_or("nothing")?.err().ok_or("it is done")?;
    same(
        "as completed, not in time",
        (error.to_string(), error.0.len()),
        ("1 futures are unfinished".to_owned(), 1),
    )?;
    check("that was the last", timed.next().is_none())?;

    // Of two executors.
    let other = Executor::build(Pool::builder().processes(1))?;
    let both = (0..50).map(|n| if n % 2 == 0 { &executor } else { &other }.submit(square, n));
    let both = both.collect::<Result<Vec<_>, _>>()?;
    let (done, not_done) = wait(both, Some(LONG), ReturnWhen::AllCompleted);
    same("futures of two executors", (done.len(), not_done.len()), (50, 0))
}

/// A worker that dies breaks its own future and no other: Python has `BrokenProcessPool` for all.
fn failing() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(2))?;
    let task = |n: u64| if n % 10 == 3 { std::process::exit(9) } else { n };
    let futures = (0..100).map(|n| executor.submit(task, n)).collect::<Result<Vec<_>, _>>()?;
    let results: Vec<_> = futures.into_iter().map(|future| future.result().ok()).collect();
    let expected: Vec<_> = (0..100).map(|n| (n % 10 != 3).then_some(n)).collect();
    same("a death breaks one future", results, expected)?;
    same("and the executor goes on", executor.submit(square, 3)?.result()?, 9)
}

fn shutdowns() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(2))?;
    let futures = (0..50).map(|n| executor.submit(square, n)).collect::<Result<Vec<_>, _>>()?;
    executor.shutdown()?;
    check("all are done", futures.iter().all(|future| future.done() && !future.cancelled()))?;
    check("and nobody is left", active_children()?.is_empty())?;
    check("it takes no more", matches!(executor.submit(square, 1), Err(PoolError::NotRunning)))?;

    let executor = Executor::build(Pool::builder().processes(1))?;
    let go = Event::new()?;
    let first = executor.submit(pass, (go.clone(), 1))?;
    eventually("one runs", || Ok(first.running()))?;
    let others = (0..50).map(|n| executor.submit(square, n)).collect::<Result<Vec<_>, _>>()?;
    executor.cancel_futures();
    check("others are cancelled", others.iter().all(|future| future.cancelled()))?;
    go.set()?;
    same("what ran is done", first.result()?, 1)?;
    executor.cancel_futures();
    Ok(executor.shutdown()?)
}
