//! Closures that capture something, in a standing pool.

#![allow(unsafe_code, reason = "that a worker has what a closure refers to is the caller's to say")]

use std::hint::black_box;
use std::process::exit;
use std::ptr::from_ref;

use sandpool_guest::pool::futures::Executor;
use sandpool_guest::pool::{Cause, PoolError, StartMethod};
use sandpool_guest::{ExitStatus, Pool, RawValue};
use sandpool_test_guests::{Outcome, check, same};

#[sandpool_guest::main]
fn main() -> Outcome {
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        closures(method)?;
        layouts(method)?;
        replaced(method)?;
    }
    leaked()?;
    executor()
}

fn closures(method: StartMethod) -> Outcome {
    let pool = Pool::builder().processes(2).start_method(method).build()?;
    let (by, plus) = (3, 0.5);
    // SAFETY: the closure holds numbers only.
    let scaled = unsafe { pool.partial_by_value(move |n: u32| f64::from(n * by) + plus) };
    let expected: Vec<f64> = (0..1000).map(|n| f64::from(3 * n) + 0.5).collect();
    let mut arrived = scaled.imap_unordered(|f, n| f(n), 0..1000)?.collect::<Result<Vec<_>, _>>()?;
    arrived.sort_unstable_by(f64::total_cmp);
    let all = [
        scaled.map(|f, n| f(n), 0..1000)?,
        scaled.clone().chunksize(7).map(|f, n| f(n), 0..1000)?,
        scaled.map_async(|f, n| f(n), 0..1000)?.get()?,
        scaled.imap(|f, n| f(n), 0..1000)?.collect::<Result<_, _>>()?,
        arrived,
        (0..1000).map(|n| scaled.apply(|f, n| f(n), n)).collect::<Result<_, _>>()?,
        (0..1000)
            .map(|n| scaled.submit(|f, n| f(n), n)?.result().map_err(PoolError::Task))
            .collect::<Result<_, _>>()?,
    ];
    check(&format!("{method:?}: a closure in each call"), all.iter().all(|all| *all == expected))?;
    // SAFETY: a number.
    let other = unsafe { pool.options().chunksize(2).partial_by_value(by) };
    same("a value that is no closure", other.map(|by, n: u32| by + n, 0..4)?, vec![3, 4, 5, 6])
}

/// A closure, or what is like one, of any size and alignment.
fn layouts(method: StartMethod) -> Outcome {
    fn twice(n: u64) -> u64 {
        2 * n
    }
    #[derive(Clone, Copy)]
    struct Empty;
    impl Empty {
        fn double(self, n: u64) -> u64 {
            2 * n
        }
    }
    let pool = Pool::builder().processes(2).start_method(method).build()?;
    let empty = Empty;
    // SAFETY: it holds a value without a size, which stands for nothing.
    let of_nothing = unsafe { pool.partial_by_value(move |n| empty.double(n)) };
    same(&format!("{method:?}: of no size"), of_nothing.map(|f, n| f(n), 0..4)?, vec![0, 2, 4, 6])?;

    let (flag, large) = (true, u128::MAX - 1);
    let closure = move |n: u8| if flag { large - u128::from(n) } else { 0 };
    check("it is aligned to 16 bytes", align_of_val(&closure) == 16)?;
    // SAFETY: it holds numbers only.
    let wide = unsafe { pool.options().chunksize(1).partial_by_value(closure) };
    // Of several messages that are taken together, each begins elsewhere.
    let inputs = (0..100_u8).map(|n| (n, "x".repeat(n.into())));
    let found = wide.map(
        |f, (n, text): (u8, String)| {
            // The compiler takes it for granted.
            let address = black_box(from_ref(f)).addr();
            (f(n), address % 16, text.len())
        },
        inputs,
    )?;
    let expected: Vec<_> = (0..100_u8).map(|n| (large - u128::from(n), 0, n.into())).collect();
    same(&format!("{method:?}: aligned to 16 bytes"), found, expected)?;

    // SAFETY: the text and the function are those of the program.
    let of_program = unsafe { pool.partial_by_value((twice as fn(u64) -> u64, "of the program")) };
    let found = of_program.apply(|(twice, text), n| (twice(n), text.to_string()), 4)?;
    same(&format!("{method:?}: with what is static"), found, (8, "of the program".to_owned()))?;

    // In a message of its own.
    let table = [7_u64; 10_000];
    // SAFETY: numbers only.
    let long = unsafe { pool.partial_by_value(move |at: usize| table[at]) };
    same(&format!("{method:?}: of 80 KB"), long.map(|f, at| f(at), [0, 9_999])?, vec![7, 7])
}

/// A value that was leaked before the pool was made, in forked workers.
fn leaked() -> Outcome {
    let model: &'static [f64] = (0..100_000).map(f64::from).collect::<Vec<_>>().leak();
    let pool = Pool::builder().processes(2).maxtasksperchild(5).build()?;
    // SAFETY: it was leaked before the pool was made, whose workers are forked.
    let of_model = unsafe { pool.partial_by_value(move |n: usize| (model[n], model.as_ptr().addr())) };
    let found = of_model.chunksize(10).map(|f, n| f(n), 0..1000)?;
    let here = model.as_ptr().addr();
    let expected = |(n, found): (u32, _)| found == (f64::from(n), here);
    check("a leaked model is read in workers, where it is", (0..).zip(found).all(expected))?;
    check("also in those that came later", pool.stats().workers_started > 2)
}

/// A worker that comes in place of one that has ended gets it as well.
fn replaced(method: StartMethod) -> Outcome {
    let pool = Pool::builder().processes(2).start_method(method).build()?;
    let by = 5;
    let closure = move |n: u64| if n % 10 == 3 { exit(9) } else { n * by };
    // SAFETY: it holds a number only.
    let deadly = unsafe { pool.options().chunksize(4).partial_by_value(closure) };
    let found: Vec<_> = deadly.imap(|f, n| f(n), 0..100)?.collect();
    let is_right = |(n, found): (u64, &Result<_, sandpool_guest::pool::TaskError>)| match found {
        Ok(found) => n % 10 != 3 && *found == n * 5,
        Err(error) => n % 10 == 3 && *error.cause() == Cause::Ended(ExitStatus::Exited(9)),
    };
    check(&format!("{method:?}: a new worker gets it"), (0..).zip(&found).all(is_right))?;
    same("as often as one ended", (found.len(), pool.stats().workers_lost), (100, 10))?;

    let closure = move |(n, tries): (u64, RawValue<u64>)| {
        if tries.atomic().fetch_add(1) == 0 { exit(9) } else { n * by }
    };
    // SAFETY: it holds a number only.
    let again = unsafe { pool.options().retries(1).partial_by_value(closure) };
    let tries = (0..10).map(|_| RawValue::new(0)).collect::<Result<Vec<_>, _>>()?;
    let found = again.map(|f, input| f(input), (0..).zip(tries))?;
    same(&format!("{method:?}: a task that is tried again"), found, (0..10).map(|n| n * 5).collect())?;
    same("each once", pool.stats().retried, 10)
}

fn executor() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(1))?;
    let by = 4;
    // SAFETY: it holds a number only.
    let future = unsafe { executor.partial_by_value(move |n: u64| n * by) }.submit(|f, n| f(n), 5)?;
    same("an executor takes it", future.result()?, 20)
}
