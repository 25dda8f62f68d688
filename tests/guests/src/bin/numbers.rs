//! Every number that a caller can give, at its ends: an error of the SDK, or what it means; no trap, and no huge allocation.
#![forbid(unsafe_code)]

use std::fmt::Debug;
use std::time::Duration;

use sandpool_guest::pipe::RecvError;
use sandpool_guest::queue::{GetError, GetManyError};
use sandpool_guest::shared::ListItem;
use sandpool_guest::sync::{AcquireError, BarrierError, ReleaseError};
use sandpool_guest::{
    Array, Barrier, BoundedSemaphore, Condition, Event, Exchange, JoinableQueue, Lock, Pipe, Pool, Process,
    Queue, RLock, RawArray, RawValue, Semaphore, ShareableList, SharedMemory, scoped_map, wait,
};
use sandpool_test_guests::{Outcome, check, ended_well};

const MOST: usize = usize::MAX;
const LONGEST: Duration = Duration::MAX;

#[sandpool_guest::main]
fn main() -> Outcome {
    queues()?;
    pipes()?;
    counts()?;
    timeouts()?;
    memory()?;
    pools()
}

/// Compares a result, as it is printed.
fn is<T: Debug, E: Debug>(what: &str, result: Result<T, E>, expected: &str) -> Outcome {
    let found = match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{error:?}"),
    };
    // A handle is any number.
    let found = found.split("(0x").next().unwrap_or_default();
    if found == expected {
        println!("ok: {what}");
        Ok(())
    } else {
        Err(format!("failed: {what}: {found}, not {expected}").into())
    }
}

/// Compares the beginning of a result: the limit that an error names depends on the run.
fn begins<T: Debug, E: Debug>(what: &str, result: Result<T, E>, expected: &str) -> Outcome {
    let error = result.err().map(|error| format!("{error:?}")).unwrap_or_default();
    match error.strip_prefix(expected) {
        Some(_) => is(what, Ok::<_, E>(()), "()"),
        None => Err(format!("failed: {what}: {error:?}, not {expected}").into()),
    }
}

fn queues() -> Outcome {
    for maxsize in [0, 1, MOST / 2, MOST] {
        let queue = Queue::bounded(maxsize)?;
        queue.put(&1_u8)?;
        let expected = if maxsize == 0 { None } else { Some(maxsize) };
        is("a queue's maxsize", queue.maxsize(), &format!("{expected:?}"))?;
        is("all that there is", queue.get_many(MOST), "[1]")?;
        is("none", queue.get_many(0), "[]")?;
        is(
            "nothing",
            queue.try_get_many(MOST).map_err(|error| matches!(error, GetManyError::Nothing(GetError::Empty))),
            "true",
        )?;
        JoinableQueue::<u8>::bounded(maxsize)?.put(&1)?;
    }
    Ok(())
}

fn pipes() -> Outcome {
    for capacity in [0, 1, MOST / 2, MOST] {
        let (a, b) = Pipe::builder().capacity(capacity).duplex()?;
        for len in [0, 1, 100_000] {
            b.send_bytes(&vec![7; len])?;
            is("recv_bytes_max", a.recv_bytes_max(MOST).map(|bytes| bytes.len()), &len.to_string())?;
        }
        is("its capacity", a.capacity(), &if capacity == 0 { 65_536 } else { capacity }.to_string())?;
        b.send_bytes(&[7])?;
        is("none at all", a.recv_bytes_max(0).map_err(|error| matches!(error, RecvError::TooLong)), "true")?;
    }
    Ok(())
}

fn counts() -> Outcome {
    const UNITS: u64 = 1 << 62;
    const BEYOND: &str = "a semaphore has at most 2^62 units";
    for units in [UNITS + 1, 1 << 63, u64::MAX] {
        is("units", Semaphore::new(units), BEYOND)?;
        is("bounded units", BoundedSemaphore::new(units), BEYOND)?;
        let semaphore = Semaphore::new(1)?;
        is("units to release", semaphore.release_many(units), "TooManyTimes")?;
        is("none was", semaphore.value(), "1")?;
    }
    let semaphore = Semaphore::new(UNITS)?;
    is("one too many", semaphore.release(), "TooManyTimes")?;
    is("all again", semaphore.release_many(UNITS), "TooManyTimes")?;
    is("no unit", semaphore.release_many(0), "()")?;
    is("of all", semaphore.value(), &UNITS.to_string())?;
    is(
        "without any",
        BoundedSemaphore::new(0)?.release().map_err(|error| error == ReleaseError::TooManyTimes),
        "true",
    )?;
    is("no party", Barrier::new(0), "a barrier is for at least one process")?;
    let crowd = Barrier::with_timeout(MOST, Duration::from_millis(1))?;
    is("all parties", crowd.parties(), &MOST.to_string())?;
    is("never all", crowd.wait().map_err(|error| matches!(error, BarrierError::Broken)), "true")?;
    let condition = Condition::new()?;
    let guard = condition.acquire()?;
    for count in [0, 1, 1 << 63, u64::MAX] {
        is("notified", guard.notify(count), "0")?;
    }
    let event = Event::new()?;
    let events: Vec<_> = (0..4097).map(|_| event.clone()).collect();
    is("as many as 4096", wait(&events[..4096], Some(Duration::ZERO)), "[]")?;
    is("one more", wait(&events, Some(Duration::ZERO)), "at most 4096 things can be waited for")
}

/// A wait of the longest time lasts until the thing is there.
fn timeouts() -> Outcome {
    for timeout in [
        LONGEST,
        Duration::from_nanos(u64::MAX),
        Duration::from_nanos(u64::MAX - 1),
        Duration::from_secs(1 << 40),
    ] {
        let (lock, rlock, semaphore, event) =
            (Lock::new()?, RLock::new()?, Semaphore::new(1)?, Event::new()?);
        let (queue, condition, barrier) = (Queue::new()?, Condition::new()?, Barrier::new(2)?);
        let jobs = JoinableQueue::<u8>::new()?;
        let (a, b) = Pipe::duplex()?;
        let guard = condition.acquire()?;
        let child = Process::fork(|| -> Outcome {
            event.set()?;
            queue.put_timeout(&1, timeout)?;
            barrier.wait_timeout(timeout)?;
            b.send_timeout(&1_u8, timeout)?;
            b.send_bytes_timeout(&[1], timeout)?;
            condition.acquire_timeout(timeout)?.notify_all()?;
            Ok(())
        })?;
        drop((
            lock.acquire_timeout(timeout)?,
            rlock.acquire_timeout(timeout)?,
            semaphore.acquire_timeout(timeout)?,
        ));
        check("an event", event.wait_timeout(timeout)?)?;
        check("one of several", wait(&[&event], Some(timeout))? == [0])?;
        check("an item", queue.get_timeout(timeout)? == 1)?;
        queue.put_many_timeout(&[2, 3], timeout)?;
        check("items", queue.get_many_timeout(9, timeout)? == [2, 3])?;
        jobs.join_timeout(timeout)?;
        barrier.wait_timeout(timeout)?;
        check("whether there is a message", a.poll(timeout)?)?;
        check("a message", a.recv_timeout::<u8>(timeout)? == 1)?;
        check("bytes", a.recv_bytes_timeout(timeout)? == [1])?;
        check("a notification", guard.wait_timeout(timeout)?)?;
        check("what holds already", guard.wait_for_timeout(timeout, || true)?)?;
        drop(guard);
        check("an end", child.join_timeout(timeout)?.is_some())?;
        ended_well(&child)?;
        let held = lock.acquire()?;
        check("no time", matches!(lock.acquire_timeout(Duration::ZERO), Err(AcquireError::TimedOut)))?;
        drop(held);
    }
    Ok(())
}

fn memory() -> Outcome {
    for len in [MOST, MOST / 2, 1 << 31] {
        begins("bytes", SharedMemory::create(len), "it doesn't fit into the arena")?;
        begins("elements", RawArray::<u8>::new(len), "it doesn't fit into the arena")?;
        begins("large elements", RawArray::<[u64; 1000]>::new(len), "it doesn't fit into the arena")?;
        begins("elements with a lock", Array::<u64>::new(len), "it doesn't fit into the arena")?;
    }
    is("no bytes", SharedMemory::create(0), "shared memory has at least one byte")?;
    is("no elements", RawArray::<u64>::new(0).map(|array| array.len()), "0")?;
    let memory = SharedMemory::create(64)?;
    let (raw, array) = (RawArray::<u64>::new(8)?, Array::<u64>::new(8)?);
    let list = ShareableList::new([ListItem::Int(1)])?;
    for at in [8, 64, MOST / 8, MOST / 8 + 1, MOST / 2, MOST - 7, MOST] {
        is("an element", raw.get(at), "index out of range")?;
        is("to be set", raw.set(at, 1), "index out of range")?;
        is("elements to read", raw.copy_to(at, &mut [0]), "index out of range")?;
        is("elements to write", raw.copy_from(at, &[0]), "index out of range")?;
        is("an integer", raw.atomic(at).map(drop), "index out of range")?;
        is("one with a lock", array.get(at), "index out of range")?;
        is("to be set with a lock", array.set(at, 1), "index out of range")?;
        is("to read with a lock", array.read_into(at, &mut [0]), "index out of range")?;
        is("to write with a lock", array.write_from(at, &[0]), "index out of range")?;
        is("an item of a list", list.get(at), "index out of range")?;
        is("to be set in a list", list.set(at, 1), "index out of range")?;
    }
    for at in [64, MOST / 2, MOST - 7, MOST] {
        is("a byte", memory.get(at), "index out of range")?;
        is("a byte to be set", memory.set(at, 1), "index out of range")?;
        is("bytes to read", memory.read_into(at, &mut [0; 8]), "index out of range")?;
        is("bytes to write", memory.write_from(at, &[0; 8]), "index out of range")?;
        is("an integer of bytes", memory.atomic::<u64>(at).map(drop), "index out of range")?;
    }
    is("an integer that isn't aligned", memory.atomic::<u64>(4).map(drop), "index out of range")?;
    let value = RawValue::new(u64::MAX)?;
    check("a number beyond the last", value.atomic().fetch_add(2) == u64::MAX && value.get()? == 1)?;
    memory.unlink()?;
    Ok(list.unlink()?)
}

fn pools() -> Outcome {
    for processes in [MOST, MOST / 2, 1 << 31, 1 << 20] {
        let refused = Pool::builder().processes(processes).build();
        begins("workers", refused.map(drop), "Start(too many processes")?;
    }
    let pool = Pool::builder()
        .processes(1)
        .maxtasksperchild(u64::MAX)
        .retries(u32::MAX)
        .task_timeout(LONGEST)
        .build()?;
    for processes in [MOST, MOST / 2, 1 << 31, 1 << 20] {
        begins("more workers", pool.resize(processes), "Start(too many processes")?;
    }
    is("no worker", pool.resize(0), "Zero(\"processes\")")?;
    is("as many as before", pool.resize(1), "()")?;
    is("a chunk of all", pool.options().chunksize(MOST).map(|n: u64| n, 0..100).map(|all| all.len()), "100")?;
    let all = pool.options().chunksize(MOST).window(MOST).imap(|n: u64| n, 0..100)?.count();
    check("a window for all", all == 100)?;
    is("no chunk", pool.options().chunksize(0).map(|n: u64| n, 0..100), "Zero(\"chunksize\")")?;
    is("no window", pool.options().window(0).imap(|n: u64| n, 0..100).map(drop), "Zero(\"window\")")?;
    let result = pool.apply_async(|n: u64| n, 1)?;
    check("a result", result.wait_timeout(LONGEST))?;
    check("its value", matches!(result.get_timeout(LONGEST), Ok(Ok(1))))?;
    let mut exchange = Exchange::<u64>::new(MOST)?;
    exchange.start(|| 7)?;
    check("a result of an exchange", exchange.ready(LONGEST)?)?;
    is("one that isn't under way", exchange.get(MOST), "NoSuchResult")?;
    is("which it is", exchange.get(0), "7")?;
    is("no process at once", Exchange::<u64>::new(0).map(drop), "Zero(\"the limit\")")?;
    is("a scoped map", scoped_map([1_u64, 2], |n| n).map(|all| all.len()), "2")
}
