//! Callbacks that panic, and those that end the process all the same.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::rc::Rc;

use sandpool_guest::futures::Executor;
use sandpool_guest::{AsyncResult, Cause, ExitStatus, Pool, Process};
use sandpool_test_guests::{Outcome, check, same};
use serde::{Deserialize, Deserializer, Serialize};

#[sandpool_guest::main]
fn main() -> Outcome {
    match std::env::args().nth(1).as_deref() {
        None => {
            caught()?;
            in_one_another()?;
            many_times()?;
            in_children()?;
            of_executors()
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

fn caught() -> Outcome {
    let pool = Pool::builder().processes(2).build()?;
    let seen = Rc::new(RefCell::new(Vec::new()));
    let (before, behind) = (seen.clone(), seen.clone());
    let result = pool
        .apply_async(square, 3)?
        .on_done(move |result| before.borrow_mut().push(result.as_ref().ok().copied()))
        .callback(|square| panic!("the square is {square}"))
        .on_done(move |result| behind.borrow_mut().push(result.as_ref().ok().copied()));
    same("the result is there", result.get()?, 9)?;
    same("and other callbacks are called", seen.take(), vec![Some(9), Some(9)])?;
    let result = pool.apply_async(|n: u64| assert_eq!(n, 0), 1)?.error_callback(|_| panic!("of an error"));
    check(
        "the error is there",
        matches!(result.get().map_err(|error| error.cause().clone()), Err(Cause::Panicked(_))),
    )?;
    let late = done(&pool, 4)?.on_done(|_| panic!("late"));
    same("also behind one that is called at once", late.get()?, 16)?;
    same("the pool still works", pool.map(square, 1..=3)?, vec![1, 4, 9])?;
    // What a panic has borrowed stays so; nothing is dropped.
    let (cell, dropped) = (Rc::new(RefCell::new(0)), Rc::new(()));
    let (borrowed, held) = (cell.clone(), dropped.clone());
    let _ = done(&pool, 1)?.on_done(move |_| {
        let _guard = borrowed.borrow_mut();
        panic!("with a guard, and {held:?}");
    });
    check("nothing is unwound", cell.try_borrow().is_err() && Rc::strong_count(&dropped) == 2)
}

/// The innermost callback is given up, and no other.
fn in_one_another() -> Outcome {
    let pool = Rc::new(Pool::builder().processes(1).build()?);
    let steps = Rc::new(RefCell::new(Vec::new()));
    let (again, outer) = (pool.clone(), steps.clone());
    let _ = done(&pool, 1)?.on_done(move |_| {
        let inner = done(&again, 2).expect("a result").on_done(|_| panic!("inside"));
        outer.borrow_mut().push(inner.get().expect("a square"));
        panic!("outside");
    });
    same("the outer one goes on behind the inner", steps.take(), vec![4])?;
    same("and both are over", pool.apply(square, 5)?, 25)
}

/// Takes as much stack as it can be sure of.
#[inline(never)]
fn deep() {
    let bytes = black_box([1_u8; 16 << 10]);
    panic!("so deep: {}", bytes.len());
}

/// Two hundred times 16 KiB are more than the stack has.
fn many_times() -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    let count = Rc::new(Cell::new(0));
    let mut result = pool.apply_async(square, 1)?;
    for _ in 0..200 {
        let count = count.clone();
        result = result.on_done(move |_| {
            count.set(count.get() + 1);
            deep();
        });
    }
    same("a callback's stack is free behind it", (result.get()?, count.get()), (1, 200))
}

/// A forked child is in the callback, too, but only its parent goes on behind it.
fn in_children() -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    let status = Rc::new(Cell::new(None));
    let told = status.clone();
    let _ = done(&pool, 1)?.on_done(move |_| {
        let child = Process::fork(|| -> () { panic!("in a child") }).expect("a child");
        told.set(child.join().ok());
    });
    same("a child of a callback ends by its panic", status.take(), Some(ExitStatus::Exited(1)))
}

fn of_executors() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(1))?;
    let future = executor.submit(square, 7)?;
    future.add_done_callback(|_| panic!("of a future"));
    same("a future's result is there", future.result()?, 49)
}

/// What is no panic is not caught.
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

/// The pool could not go on behind it: results that it has taken would be lost.
fn panic_where_results_are_taken() -> Outcome {
    let pool = Rc::new(Pool::builder().processes(1).build()?);
    let again = pool.clone();
    let _ = done(&pool, 1)?.on_done(move |_| {
        let _ = again.apply(|()| Unwelcome, ());
    });
    println!("the process has gone on");
    Ok(())
}
