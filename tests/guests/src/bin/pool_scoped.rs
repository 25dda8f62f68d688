//! The promises of a scoped map.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use sandpool_guest::pool::{Cause, PoolError, Scoped};
use sandpool_guest::{ExitStatus, Process, Queue, RawValue, active_children, current_process, scoped_map};
use sandpool_test_guests::{Outcome, check, ended_well, same};

#[sandpool_guest::main]
fn main() -> Outcome {
    // Neither can be sent: an `Rc`, a reference, a function that captures both.
    let words = Rc::new(RefCell::new(vec!["one".to_owned(), "three".to_owned()]));
    let lines: Vec<String> = (0..10_000).map(|n| format!("line {n}")).collect();
    let calls = Cell::new(0);
    let lengths = scoped_map(&lines, |line| {
        calls.set(calls.get() + 1);
        line.len() + words.borrow().len()
    })?;
    check("it borrows what it likes", lengths.iter().zip(&lines).all(|(len, line)| *len == line.len() + 2))?;
    same("what it changes, it changes elsewhere", calls.get(), 0)?;
    same("nothing", scoped_map(Vec::<u64>::new(), |n| n)?, Vec::new())?;
    same("a single one", scoped_map([7], |n| n + 1)?, vec![8])?;
    check("no worker is left", active_children()?.is_empty())?;

    for chunksize in [1, 3, 1000] {
        let scoped = Scoped::new().processes(3).chunksize(chunksize);
        let squares = scoped.map(0..1000_u64, |n| n * n)?;
        check("in their order", squares.iter().zip(0..).all(|(square, n)| *square == n * n))?;

        let text = String::from("a borrowed message");
        let outcomes = scoped.outcomes(0..100_u64, |n| match n {
            10 => panic!("{text}"),
            20 => std::process::exit(3),
            30 => std::process::abort(),
            n => n,
        })?;
        let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        same("which fail", failed.iter().map(|error| error.index()).collect(), vec![10, 20, 30])?;
        let causes: Vec<_> = failed.iter().map(|error| error.cause()).collect();
        check(
            "and why",
            matches!(
                causes[..],
                [
                    Cause::Panicked(message),
                    Cause::Ended(ExitStatus::Exited(3)),
                    Cause::Ended(ExitStatus::Trapped(_))
                ] if *message == text
            ),
        )?;
        same("all others are there", outcomes.iter().flatten().sum::<u64>(), 4950 - 60)?;
    }
    let failed = Scoped::new().map(0..10, |n| assert!(n < 4));
    check("a map fails as a whole", matches!(failed, Err(PoolError::Task(error)) if error.index() == 4))?;

    let tries = RawValue::<u32>::new(0)?;
    let third = Scoped::new().retries(2).map([()], |()| {
        if tries.atomic().fetch_add(1) < 2 {
            std::process::exit(1);
        }
        tries.atomic().load()
    })?;
    same("retries", third, vec![3])?;
    let timeout = Duration::from_millis(1000);
    let late = Scoped::new().task_timeout(timeout).outcomes(0..3, |n| {
        if n == 1 {
            std::thread::sleep(Duration::from_secs(600));
        }
    })?;
    let causes: Vec<_> =
        late.iter().map(|outcome| outcome.as_ref().err().map(|error| error.cause().clone())).collect();
    same("a timeout", causes, vec![None, Some(Cause::TimedOut(timeout)), None])?;
    check("no processes", matches!(Scoped::new().processes(0).map([1], |n| n), Err(PoolError::Zero(_))))?;

    // Queues are there as in any fork, and results may have some.
    let queue = Queue::<u64>::new()?;
    let queues = Scoped::new().chunksize(2).map(0..5, |n| queue.put(&n).map(|()| queue.clone()).ok())?;
    same("queues", (queue.qsize()?, queues.iter().flatten().all(|other| *other == queue)), (5, true))?;

    // In a process that isn't the main one, and in one of those for the next.
    let child = Process::fork(|| -> Outcome {
        let names = scoped_map(0..4, |_| {
            current_process().is_ok_and(|this| this.name().starts_with("ScopedWorker-"))
        })?;

        same("in a child", names, vec![true; 4])
    });
    ended_well(&child?)
}
