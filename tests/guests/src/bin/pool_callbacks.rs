//! Callbacks use their results, and a process ends whose callback panics.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use sandpool_guest::pool::futures::{Executor, Future};
use sandpool_guest::pool::{AsyncResult, Cause};
use sandpool_guest::{ExitStatus, Pool, Process, Queue};
use sandpool_test_guests::{Outcome, check, ended, same};
use serde::{Deserialize, Deserializer, Serialize};

#[sandpool_guest::main]
fn main() -> Outcome {
    match std::env::args().nth(1).as_deref() {
        None => {
            read_in_its_own_callback()?;
            failures_are_read_too()?;
            added_in_a_callback()?;
            in_one_another()?;
            panics_of_children()
        }
        Some("panic") => end_in_a_callback(|| panic!("the first")),
        Some("late") => {
            let pool = Pool::builder().processes(2).build()?;
            let done = done(&pool, 3)?;
            let _ = done.callback(|square| panic!("the square is {square}"));
            println!("the process has gone on");
            Ok(())
        }
        Some("future") => {
            let executor = Executor::build(Pool::builder().processes(1))?;
            let future = executor.submit(square, 7)?;
            future.add_done_callback(|_| panic!("of a future"));
            let _ = future.result();
            println!("the process has gone on");
            Ok(())
        }
        Some("abort") => end_in_a_callback(|| std::process::abort()),
        Some("exit") => end_in_a_callback(|| std::process::exit(7)),
        Some("decode") => panic_where_results_are_taken(),
        Some(other) => Err(format!("there is no {other}").into()),
    }
}

fn square(n: u64) -> u64 {
    n * n
}

fn done(pool: &Pool, n: u64) -> Result<AsyncResult<u64>, Box<dyn std::error::Error>> {
    let result = pool.apply_async(square, n)?;
    result.wait();
    Ok(result)
}

/// A place for the future whose own callback looks there.
type Place<T> = Rc<RefCell<Option<T>>>;

fn read_in_its_own_callback() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(1))?;
    let (place, read): (Place<Future<u64>>, _) = (Rc::default(), Rc::new(Cell::new(None)));
    let future = executor.submit(square, 7)?;
    let (own, told) = (place.clone(), read.clone());
    future.add_done_callback(move |shown| {
        let Some(future) = own.take() else { return };
        let (done, failed) = (future.done(), future.exception().is_some());
        told.set(Some((shown.as_ref().ok().copied(), done, failed, future.result().ok())));
    });
    place.replace(Some(future));
    executor.shutdown()?;
    let expected = (Some(49), true, false, Some(49));
    same("a future's result is there in its own callback", read.take(), Some(expected))?;

    // With a handle, of which both have their own.
    let pool = Pool::builder().processes(1).build()?;
    let (place, read): (Place<AsyncResult<Queue<u64>>>, _) = (Rc::default(), Rc::new(Cell::new(None)));
    let (own, told) = (place.clone(), read.clone());
    let result = pool.apply_async(
        |n: u64| {
            let queue = Queue::new().expect("a queue");
            queue.put(&n).expect("an open queue");
            queue
        },
        5,
    )?;
    let result = result.on_done(move |shown| {
        let taken = own.take().map(AsyncResult::get);
        let both = [shown.as_ref().ok().cloned(), taken.and_then(Result::ok)];
        told.set(Some(both.map(|queue| queue.map(|queue| (queue.qsize().ok(), queue.try_get().ok())))));
    });
    place.replace(Some(result));
    pool.close();
    pool.join()?;
    let expected = [Some((Some(1), Some(5))), Some((Some(0), None))];
    same("and is as good as the first", read.take(), Some(expected))?;

    let (place, read): (Place<AsyncResult<Vec<u64>>>, _) = (Rc::default(), Rc::new(Cell::new(None)));
    let pool = Pool::builder().processes(1).build()?;
    let (own, told) = (place.clone(), read.clone());
    let result = pool.map_async(square, 1..=4)?.callback(move |_| {
        told.set(own.take().and_then(|result| result.get().ok()));
    });
    place.replace(Some(result));
    pool.close();
    pool.join()?;
    same("also that of a map", read.take(), Some(vec![1, 4, 9, 16]))
}

fn failures_are_read_too() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(1))?;
    let (place, read): (Place<Future<u64>>, _) = (Rc::default(), Rc::new(Cell::new(None)));
    let future = executor.submit(|n: u64| if n == 1 { std::process::exit(3) } else { n }, 1)?;
    let (own, told) = (place.clone(), read.clone());
    future.add_done_callback(move |_| {
        let Some(future) = own.take() else { return };
        let exception = future.exception().map(|error| error.cause().clone());
        told.set(Some((exception, future.result().err().map(|error| error.cause().clone()))));
    });
    place.replace(Some(future));
    executor.shutdown()?;
    let cause = Some(Cause::Ended(ExitStatus::Exited(3)));
    same("and a failure", read.take(), Some((cause.clone(), cause)))
}

/// A callback that is added in one of the same result is called behind it.
fn added_in_a_callback() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(1))?;
    let future = Rc::new(executor.submit(square, 3)?);
    let (same_future, steps) = (future.clone(), Rc::new(RefCell::new(Vec::new())));
    let (first, second) = (steps.clone(), steps.clone());
    future.add_done_callback(move |_| {
        same_future.add_done_callback(move |result| second.borrow_mut().push(result.as_ref().ok().copied()));
        first.borrow_mut().push(None);
    });
    executor.shutdown()?;
    same("one is added in another", steps.take(), vec![None, Some(9)])
}

fn in_one_another() -> Outcome {
    let pool = Rc::new(Pool::builder().processes(1).build()?);
    let steps = Rc::new(RefCell::new(Vec::new()));
    let (again, outer) = (pool.clone(), steps.clone());
    let _ = done(&pool, 1)?.on_done(move |_| {
        let inner = outer.clone();
        let result =
            done(&again, 2).expect("a result").callback(move |square| inner.borrow_mut().push(*square));
        outer.borrow_mut().push(result.get().expect("a square") + 1);
    });
    same("one calls another", steps.take(), vec![4, 5])?;
    same("and the pool works on", pool.apply(square, 5)?, 25)
}

/// A forked child is in the callback, too, and only the child ends.
fn panics_of_children() -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    let status = Rc::new(Cell::new(None));
    let told = status.clone();
    let _ = done(&pool, 1)?.on_done(move |_| {
        let child = Process::fork(|| -> () { panic!("in a child") }).expect("a child");
        told.set(child.join().ok());
    });
    same("a child of a callback ends by its panic", status.take(), Some(ExitStatus::Exited(1)))?;
    // In a child, and in a new worker, nobody panics, whatever others have done.
    let child = Process::fork(|| {
        std::panic::set_hook(Box::new(|_| ()));
        i32::from(std::thread::panicking())
    })?;
    ended(&child, ExitStatus::Exited(0))?;
    let _ = pool.apply(|n: u64| if n == 0 { n } else { std::process::exit(1) }, 1);
    check("a new worker isn't panicking", !pool.apply(|()| std::thread::panicking(), ())?)
}

fn end_in_a_callback(end: fn()) -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    let _ = done(&pool, 1)?.on_done(move |_| end());
    println!("the process has gone on");
    Ok(())
}

/// A value that can't be decoded by whoever takes it.
#[derive(Serialize)]
struct Unwelcome;

impl<'de> Deserialize<'de> for Unwelcome {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("not welcome")
    }
}

fn panic_where_results_are_taken() -> Outcome {
    let pool = Rc::new(Pool::builder().processes(1).build()?);
    let again = pool.clone();
    let _ = done(&pool, 1)?.on_done(move |_| {
        let _ = again.apply(|()| Unwelcome, ());
    });
    println!("the process has gone on");
    Ok(())
}
