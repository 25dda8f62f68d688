//! Safe code tries in vain to let two reach memory that one has, or to read memory that nobody has written.
#![forbid(unsafe_code)]
#![allow(clippy::main_recursion, reason = "it is one of the attacks")]

use std::cell::RefCell;
use std::fmt::Display;

use sandpool_guest::pool::StartMethod;
use sandpool_guest::sync::AcquireError;
use sandpool_guest::{
    Array, Connection, Error, Event, Exchange, ExitStatus, Pipe, Pool, Process, Queue, RLock, scoped_map,
};
use sandpool_test_guests::{Outcome, check, ended, ended_well, same};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[sandpool_guest::main]
fn main() -> Outcome {
    if RUNS_AGAIN.take() {
        return again();
    }
    main_again()?;
    another_message()?;
    two_guards()?;
    forks_under_a_guard()?;
    a_message_in_a_message()?;
    forgotten()?;
    gone_before_it_is_sent()
}

thread_local! {
    /// Whether this process has called `main` by itself.
    static RUNS_AGAIN: RefCell<bool> = const { RefCell::new(false) };
    /// The connection that a clone receives from.
    static NOSY: RefCell<Option<Connection>> = const { RefCell::new(None) };
    static INNER: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

fn again() -> Outcome {
    check("as itself, and not once more as what it was spawned for", true)
}

/// Calls `main` once more, under a guard: if that took the arguments again, their end would release the guard's lock.
fn main_again() -> Outcome {
    let array = Array::<u64>::new(4)?;
    let spawned = |array: Array<u64>| -> Outcome {
        let guard = array.lock()?;
        let forked = Process::fork(|| 7);
        check("it has the lock", matches!(forked, Err(Error::ArrayBorrowed)))?;
        RUNS_AGAIN.set(true);
        // It doesn't return.
        main();
        drop(guard);
        Ok(())
    };
    let child = Process::spawn(spawned, array.clone())?;
    ended_well(&child)?;
    check("and had it until it ended", matches!(array.lock(), Err(AcquireError::OwnerDied(_))))
}

/// A clone of it has another message be held for this process, which it doesn't take.
#[derive(Serialize, Deserialize)]
struct Nosy;

impl Clone for Nosy {
    fn clone(&self) -> Self {
        if let Some(connection) = NOSY.take() {
            assert!(connection.recv_bytes_max(10).is_err(), "it is longer");
        }
        Self
    }
}

/// A result is held for the pool's owner, which starts another worker before it takes it: with arguments whose clone has
/// another, shorter message be held instead. The bytes to be written by that message stay as they were, so they aren't looked at.
fn another_message() -> Outcome {
    let pool = Pool::builder()
        .processes(1)
        .maxtasksperchild(1)
        .start_method(StartMethod::Spawn)
        .initializer(|_: Nosy| (), Nosy)
        .build()?;
    let (a, b) = Pipe::builder().capacity(1 << 20).simplex()?;
    b.send_bytes(&[7; 100_000])?;
    NOSY.set(Some(a));
    let result = pool.apply(|len: usize| vec![9_u8; len], 300_000);
    let is_right = match result {
        Ok(bytes) => bytes == vec![9; 300_000],
        Err(_) => true,
    };
    check("a result is what it was, or an error", is_right)?;
    check("the clone was made", NOSY.take().is_none())
}

/// Both ways to one array lead to the same guard.
fn two_guards() -> Outcome {
    let array = Array::<u64>::new(4)?;
    let queue = Queue::new()?;
    queue.put(&(array.clone(), array.clone()))?;
    let (one, other) = queue.get()?;
    same("both are it", (&one, &other), (&array, &array))?;
    for access in [
        |array: &Array<u64>| drop(array.lock()),
        |array: &Array<u64>| drop(array.get(0)),
        |array: &Array<u64>| drop(array.set(0, 1)),
        |array: &Array<u64>| drop(array.read_into(0, &mut [0])),
        |array: &Array<u64>| drop(array.to_vec()),
    ] {
        let child = Process::fork(|| {
            let guard = one.lock();
            access(&other);
            drop(guard);
        })?;
        ended(&child, ExitStatus::Exited(1))?;
        // It has ended with the lock.
        check("the guard's alone", matches!(array.lock(), Err(AcquireError::OwnerDied(_))))?;
    }
    Ok(())
}

fn is_borrowed<T>(result: Result<T, impl Display>) -> bool {
    result.is_err_and(|error| error.to_string().contains("an array is borrowed"))
}

fn forks_under_a_guard() -> Outcome {
    let array = Array::<u64>::new(4)?;
    array.update(|_| -> Outcome {
        check("no fork", is_borrowed(Process::fork(|| ())))?;
        check("no pool", is_borrowed(Pool::builder().processes(1).build()))?;
        check("no scoped map", is_borrowed::<Vec<u64>>(scoped_map([1, 2], |n| n)))?;
        let mut exchange = Exchange::<u64>::new(1)?;
        check("no exchange", is_borrowed(exchange.start(|| 7)))
    })?
}

/// While it is decoded, it receives a message with other handles; then it takes its own.
struct Outer(RLock, RLock);

impl Serialize for Outer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.0, &self.1).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Outer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let inner = INNER.take().ok_or_else(|| D::Error::custom("nothing to receive from"))?;
        let array = inner.recv::<Array<u64>>().map_err(D::Error::custom)?;
        // The number of a handle of this message, which is no array, and of the other, which is over.
        for number in ["0", "1", "2"] {
            if serde_json::from_str::<Event>(number).is_ok() {
                return Err(D::Error::custom("it isn't an event"));
            }
        }
        drop(array);
        let (first, second) = Deserialize::deserialize(deserializer)?;
        Ok(Self(first, second))
    }
}

fn a_message_in_a_message() -> Outcome {
    let (a, b) = Pipe::simplex()?;
    let (inner, to_inner) = Pipe::simplex()?;
    let locks = Outer(RLock::new()?, RLock::new()?);
    b.send(&locks)?;
    to_inner.send(&Array::<u64>::new(4)?)?;
    INNER.set(Some(inner));
    let received: Outer = a.recv()?;
    same("each has its own", (&received.0, &received.1), (&locks.0, &locks.1))?;
    check("a handle out of a message", serde_json::from_str::<RLock>("0").is_err())
}

/// A guard that nobody drops keeps the lock, until its process ends.
fn forgotten() -> Outcome {
    let array = Array::<u64>::new(4)?;
    let child = Process::fork(|| -> Outcome {
        let elements = Box::leak(Box::new(array.lock()?));
        elements.fill(5);
        check("as long as it lives", is_borrowed(Process::fork(|| ())))
    })?;
    ended_well(&child)?;
    check("and then it is told", matches!(array.lock(), Err(AcquireError::OwnerDied(guard)) if guard[3] == 5))
}

/// A value that makes its handles when it is encoded, and drops them at once.
struct Fleeting;

impl Serialize for Fleeting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let array = Array::<u64>::new(4).map_err(S::Error::custom)?;
        array.serialize(serializer)
    }
}

fn gone_before_it_is_sent() -> Outcome {
    let (_a, b) = Pipe::simplex()?;
    check("handles that are gone", b.send(&Fleeting).is_err())?;
    check("to be spawned with", Process::builder().spawn(|_: Gone| (), Gone).is_err())
}

#[derive(Deserialize)]
struct Gone;

impl Serialize for Gone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Fleeting.serialize(serializer)
    }
}
