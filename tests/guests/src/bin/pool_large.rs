//! Large arguments and results of a pool's tasks, which stay where they are: in an arena that would soon be full of any that
//! was left behind.

use std::fmt::Debug;

use sandpool_guest::pool::futures::Executor;
use sandpool_guest::pool::{Cause, PoolError, StartMethod};
use sandpool_guest::{Bytes, Event, Pool, current_process, scoped_map};
use sandpool_test_guests::{Outcome, check, same};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes, of which the arena has room for 22 times as many.
const LARGE: usize = 1 << 20;

#[sandpool_guest::main]
fn main() -> Outcome {
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let pool = Pool::builder().processes(2).start_method(method).build()?;
        all_ways(&pool, "bytes", |n| Bytes::from(vec![n as u8; LARGE]))?;
        all_ways(&pool, "text", |n| format!("{n}é").repeat(LARGE / 3))?;
        all_ways(&pool, "u8", |n| vec![n as u8; LARGE])?;
        all_ways(&pool, "i16", |n| vec![-n as i16; LARGE / 2])?;
        all_ways(&pool, "u32", |n| vec![n as u32; LARGE / 4])?;
        all_ways(&pool, "f64", |n| vec![n as f64 / 3.0; LARGE / 8])?;
        all_ways(&pool, "usize", |n| vec![n as usize; LARGE / 8])?;
        all_ways(&pool, "numbers and more", |n| (n, vec![n as u64; LARGE / 8]))?;
        println!("ok: {method:?}: all ways there and back");
        at_the_edge(&pool)?;
        goes_wrong(method)?;
    }
    workers_leave()?;
    nobody_waits()
}

/// There and back, by each method.
fn all_ways<T>(pool: &Pool, what: &str, make: fn(i64) -> T) -> Outcome
where
    T: Serialize + DeserializeOwned + PartialEq + Debug + Clone + 'static,
{
    let echo: fn(T) -> T = |value| value;
    let options = pool.options().chunksize(3);
    let expected: Vec<T> = (1..8).map(make).collect();
    let inputs = || expected.iter().cloned();
    let mut unordered = options.imap_unordered(echo, inputs())?.collect::<Result<Vec<_>, _>>()?;
    let place = |value: &T| expected.iter().position(|one| one == value);
    unordered.sort_by_key(place);
    let each = [
        pool.map(echo, inputs())?,
        options.map(echo, inputs())?,
        options.map_async(echo, inputs())?.get()?,
        options.imap(echo, inputs())?.collect::<Result<_, _>>()?,
        unordered,
        inputs().map(|input| pool.apply(echo, input)).collect::<Result<_, _>>()?,
        options
            .partial(&expected[2])
            .map(|state, input: T| if input == *state { state.clone() } else { input }, inputs())?,
        scoped_map(inputs(), |input: T| if input == expected[3] { expected[3].clone() } else { input })?,
    ];
    match each.iter().position(|all| *all != expected) {
        Some(way) => Err(format!("{what} by way {way} is another").into()),
        None => Ok(()),
    }
}

/// Where it begins that they stay where they are, alone and among others.
fn at_the_edge(pool: &Pool) -> Outcome {
    let double = |mut numbers: Vec<u16>| -> Vec<u16> {
        numbers.extend_from_within(..);
        numbers
    };
    let edges = [0, 8_192, 16_384, 32_768, 65_536]
        .into_iter()
        .flat_map(|edge: usize| edge.saturating_sub(24)..edge + 3);
    let inputs: Vec<Vec<u16>> = edges.map(|len| (0..len).map(|at| (at % 251) as u16).collect()).collect();
    for chunksize in [1, 7] {
        let outputs = pool.options().chunksize(chunksize).map(double, inputs.iter().cloned())?;
        let is_right = |(input, output): (&Vec<u16>, &Vec<u16>)| *output == double(input.clone());
        check("each length", outputs.len() == inputs.len() && inputs.iter().zip(&outputs).all(is_right))?;
    }
    Ok(())
}

fn is_all(bytes: &[u8], n: u8) -> bool {
    bytes.len() == LARGE && bytes.iter().all(|byte| *byte == n)
}

/// Ends the first worker, and panics at what begins with 7.
fn dangerous(bytes: Vec<u8>) -> Vec<u8> {
    let is_first = current_process().is_ok_and(|process| process.name() == "PoolWorker-1");
    if is_first {
        std::process::exit(3);
    }
    assert_ne!(bytes.first(), Some(&7), "seven");
    bytes
}

fn goes_wrong(method: StartMethod) -> Outcome {
    let pool = Pool::builder().processes(1).start_method(method).build()?;
    let bytes = pool.options().retries(1).apply(dangerous, vec![1; LARGE])?;
    check("one that is tried again", is_all(&bytes, 1))?;
    same("with another worker", pool.stats().workers_lost, 1)?;
    let results = pool.imap(dangerous, [1, 7, 3].map(|n| vec![n; LARGE]))?;
    let results = results.map(|result| result.map(|bytes| bytes[0]).map_err(|error| error.cause().clone()));
    let seven = |cause: &Cause| matches!(cause, Cause::Panicked(message) if message.contains("seven"));
    let results: Vec<_> = results.collect();
    check("one fails", matches!(results.as_slice(), [Ok(1), Err(cause), Ok(3)] if seven(cause)))?;
    let wrong = pool.apply(|bytes: Vec<u8>| -> Result<Vec<u8>, Vec<u8>> { Err(bytes) }, vec![9; LARGE])?;
    check("an error that is large", wrong.is_err_and(|bytes| is_all(&bytes, 9)))?;
    check("it is one of a task", pool.stats().failed == 2)?;
    let refused = pool.apply(|_: usize| vec![0_u8; 40 << 20], 0);
    check(
        "a result that never fits",
        matches!(refused, Err(PoolError::Task(error)) if *error.cause() == Cause::TooLarge),
    )
}

/// Workers that end after each task: the next one is forked while the last one's result is still to be taken.
fn workers_leave() -> Outcome {
    let pool = Pool::builder().processes(2).maxtasksperchild(1).build()?;
    let results = pool.options().chunksize(1).map(|n: u8| vec![n; LARGE], 0..20)?;
    check("of workers that leave", results.iter().zip(0..).all(|(bytes, n)| is_all(bytes, n)))?;
    check("each has its own", pool.stats().workers_started >= 20)
}

/// A result that nobody waits for leaves no memory behind, of which there isn't enough for all of it.
fn nobody_waits() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(1))?;
    let wait = |event: Event| event.wait().is_ok();
    for _ in 0..15 {
        let go_on = Event::new()?;
        let first = executor.submit(wait, go_on.clone())?;
        let futures = (0..3).map(|_| executor.submit(|bytes: Vec<u8>| bytes, vec![1; LARGE]));
        let [a, b, c] = <[_; 3]>::try_from(futures.collect::<Result<Vec<_>, _>>()?).map_err(|_| "three")?;
        if !(a.cancel() && b.cancel()) {
            return Err("they can't be cancelled, though none has begun".into());
        }
        go_on.set()?;
        if !first.result()? || !is_all(&c.result()?, 1) {
            return Err("another result".into());
        }
    }
    println!("ok: what is cancelled");
    let pool = Pool::builder().processes(2).build()?;
    for _ in 0..15 {
        let mut some = pool.imap(|n: u8| vec![n; LARGE], 0..5)?;
        if some.next().transpose()?.is_none_or(|bytes| !is_all(&bytes, 0)) {
            return Err("another result".into());
        }
    }
    let all = pool.map(|n: u8| vec![n; LARGE], 0..30)?;
    check("what is dropped", all.iter().zip(0..).all(|(bytes, n)| is_all(bytes, n)))
}
