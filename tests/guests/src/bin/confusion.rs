//! Handles that a message says are something else, in safe code: each is an error before it is used, and none is lost.
//!
//! A message holds a handle as a number, so anybody can make the bytes around it those of another type. Here, each
//! object that the SDK sends is received as each type that it receives, and each pair of them as each type that has two.
#![forbid(unsafe_code)]

use std::time::Duration;

use sandpool_guest::pipe::RecvError;
use sandpool_guest::shared::ListItem;
use sandpool_guest::{
    Array, Barrier, BoundedSemaphore, Condition, Connection, Error, Event, JoinableQueue, Lock, Pipe, Pool,
    Process, Queue, RLock, RawArray, RawValue, Semaphore, ShareableList, SharedMemory, SimpleQueue, Value,
};
use sandpool_test_guests::{Outcome, check, ended_well, most_objects, same};
use serde::de::DeserializeOwned;
use serde::ser::{Error as _, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[sandpool_guest::main]
fn main() -> Outcome {
    let before = most_objects()?;
    singles()?;
    pairs()?;
    by_other_ways()?;
    an_array_in_parts()?;
    memory_as_an_array()?;
    read_only()?;
    twice()?;
    check("no handle is lost", most_objects()? == before)
}

/// A message of these numbers, which has the handles of these values, in their order.
struct Forged<'a> {
    values: &'a [&'a dyn Offer],
    numbers: Vec<Number>,
}

#[derive(Clone, Copy)]
enum Number {
    Byte(u8),
    Short(u32),
    Long(u64),
}

use Number::{Byte, Long, Short};

/// Adds its handles to the message that is being encoded.
trait Offer {
    fn offer(&self) -> Result<(), serde_json::Error>;
}

impl<T: Serialize> Offer for T {
    fn offer(&self) -> Result<(), serde_json::Error> {
        // Their values there are of no interest.
        serde_json::to_value(self).map(drop)
    }
}

impl Serialize for Forged<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.values.iter().try_for_each(|value| value.offer()).map_err(S::Error::custom)?;
        let mut message = serializer.serialize_tuple(self.numbers.len())?;
        for number in &self.numbers {
            match number {
                Byte(number) => message.serialize_element(number)?,
                Short(number) => message.serialize_element(number)?,
                Long(number) => message.serialize_element(number)?,
            }
        }
        message.end()
    }
}

/// Why a message isn't a `T`, if it isn't.
fn refusal<T: DeserializeOwned>(
    values: &[&dyn Offer],
    numbers: Vec<Number>,
) -> Result<Option<String>, String> {
    let (a, b) = Pipe::simplex().map_err(|error| error.to_string())?;
    b.send(&Forged { values, numbers }).map_err(|error| error.to_string())?;
    match a.recv::<T>() {
        Ok(_) => Ok(None),
        Err(RecvError::Decode(error)) => Ok(Some(error.to_string())),
        Err(other) => Err(other.to_string()),
    }
}

/// An object of each kind: what it is, and the value that has it.
struct Things {
    queue: Queue<u64>,
    joinable: JoinableQueue<u64>,
    simple: SimpleQueue<u64>,
    connection: Connection,
    _other: Connection,
    lock: Lock,
    rlock: RLock,
    semaphore: Semaphore,
    bounded: BoundedSemaphore,
    event: Event,
    barrier: Barrier,
    memory: SharedMemory,
    view: SharedMemory,
    list: ShareableList,
    raw_array: RawArray<u64>,
    raw_value: RawValue<u64>,
    /// With two handles each.
    condition: Condition,
    array: Array<u64>,
    value: Value<u64>,
}

impl Things {
    fn new() -> Result<Self, Error> {
        let (connection, other) = Pipe::simplex()?;
        let memory = SharedMemory::create(8)?;
        Ok(Self {
            queue: Queue::new()?,
            joinable: JoinableQueue::new()?,
            simple: SimpleQueue::new()?,
            connection,
            _other: other,
            lock: Lock::new()?,
            rlock: RLock::new()?,
            semaphore: Semaphore::new(1)?,
            bounded: BoundedSemaphore::new(1)?,
            event: Event::new()?,
            barrier: Barrier::new(1)?,
            view: SharedMemory::attach_read_only(memory.name())?,
            memory,
            list: ShareableList::new([ListItem::None])?,
            raw_array: RawArray::new(1)?,
            raw_value: RawValue::new(1)?,
            condition: Condition::new()?,
            array: Array::new(1)?,
            value: Value::new(1)?,
        })
    }

    /// Each handle that there is: a name, the value that offers it, and which of the value's it is.
    fn handles(&self) -> Vec<(&'static str, &dyn Offer, u32)> {
        vec![
            ("queue", &self.queue, 0),
            ("joinable queue", &self.joinable, 0),
            ("simple queue", &self.simple, 0),
            ("connection", &self.connection, 0),
            ("lock", &self.lock, 0),
            ("rlock", &self.rlock, 0),
            ("semaphore", &self.semaphore, 0),
            ("bounded semaphore", &self.bounded, 0),
            ("event", &self.event, 0),
            ("barrier", &self.barrier, 0),
            ("memory", &self.memory, 0),
            ("view", &self.view, 0),
            ("list", &self.list, 0),
            ("raw array", &self.raw_array, 0),
            ("raw value", &self.raw_value, 0),
            ("condition", &self.condition, 0),
            ("condition's lock", &self.condition, 1),
            ("array", &self.array, 0),
            ("array's lock", &self.array, 1),
            ("value", &self.value, 0),
            ("value's lock", &self.value, 1),
        ]
    }

    fn unlink(&self) -> Result<(), Error> {
        self.memory.unlink()?;
        self.list.unlink()
    }
}

/// A type with one handle: its name, what is one, what stands before the number of the handle, behind it, and how it is decoded.
type Target = (&'static str, &'static [&'static str], Vec<Number>, Vec<Number>, Decode);
type Decode = fn(&[&dyn Offer], Vec<Number>) -> Result<Option<String>, String>;

fn targets() -> Vec<Target> {
    let plain = |name, what, decode| -> Target { (name, what, vec![], vec![], decode) };
    vec![
        plain("Queue", &["queue", "joinable queue"], refusal::<Queue<u64>>),
        plain("JoinableQueue", &["joinable queue"], refusal::<JoinableQueue<u64>>),
        plain("SimpleQueue", &["simple queue"], refusal::<SimpleQueue<u64>>),
        plain("Connection", &["connection"], refusal::<Connection>),
        plain("Lock", &["lock"], refusal::<Lock>),
        plain("RLock", &["rlock", "condition's lock", "value's lock"], refusal::<RLock>),
        plain("Semaphore", &["semaphore", "bounded semaphore"], refusal::<Semaphore>),
        plain("BoundedSemaphore", &["bounded semaphore"], refusal::<BoundedSemaphore>),
        plain("Event", &["event"], refusal::<Event>),
        ("Barrier", &["barrier"], vec![], vec![Byte(0)], refusal::<Barrier>),
        plain("SharedMemory", &["memory", "view", "list"], refusal::<SharedMemory>),
        plain("ShareableList", &["list"], refusal::<ShareableList>),
        ("RawArray", &["raw array"], vec![Long(1)], vec![], refusal::<RawArray<u64>>),
        ("RawArray of halves", &[], vec![Long(2)], vec![], refusal::<RawArray<u32>>),
        plain("RawValue", &["raw value", "value"], refusal::<RawValue<u64>>),
        plain("RawValue of halves", &[], refusal::<RawValue<u32>>),
    ]
}

/// Looks whether a message was refused as it has to be: because it holds something else.
fn expect(what: &str, allowed: bool, refusal: Option<String>) -> Outcome {
    let is_right = match &refusal {
        None => allowed,
        // The rest is that of a value with two handles, of which one was to be had.
        Some(why) if allowed => why.contains("handles of it are left"),
        Some(why) => {
            ["something else", "more than one", "such a list"].iter().any(|known| why.contains(known))
        }
    };
    if is_right { Ok(()) } else { Err(format!("{what}: {refusal:?}").into()) }
}

fn singles() -> Outcome {
    let things = Things::new()?;
    let mut count = 0;
    for (source, value, at) in things.handles() {
        for (target, allowed, before, behind, decode) in targets() {
            let numbers = [&*before, &[Short(at)], &*behind].concat();
            // A list of another size is a block with something else in it.
            let refusal = decode(&[value], numbers)?;
            // A list holds what tells it, and not its kind: it is attached to by its name as well.
            let allowed = allowed.contains(&source);
            expect(&format!("{source} as {target}"), allowed, refusal)?;
            count += 1;
        }
    }
    things.unlink()?;
    same("each object as each type", count, 21 * 16)
}

fn pairs() -> Outcome {
    let (things, others) = (Things::new()?, Things::new()?);
    let own = things.handles();
    let all: Vec<_> = own.iter().map(|handle| (true, *handle)).collect();
    let all: Vec<_> =
        all.into_iter().chain(others.handles().into_iter().map(|handle| (false, handle))).collect();
    let mut count = 0;
    for (first, value, at) in &own {
        for (is_same, (second, other, other_at)) in &all {
            // Both handles of one value come with it; those of another value are behind them.
            let (values, other_at): (Vec<&dyn Offer>, _) =
                match (is_same, first.split('\'').next(), second.split('\'').next()) {
                    (true, one, two) if one == two => (vec![*value], *other_at),
                    _ => (vec![*value, *other], *other_at + handles_of(first)),
                };
            let numbers = |before: &[Number]| [before, &[Short(*at), Short(other_at)]].concat();
            for (target, whole, refusal) in [
                (
                    "Condition",
                    ("condition", "condition's lock"),
                    refusal::<Condition>(&values, numbers(&[]))?,
                ),
                ("Value", ("value", "value's lock"), refusal::<Value<u64>>(&values, numbers(&[]))?),
                ("Array", ("array", "array's lock"), refusal::<Array<u64>>(&values, numbers(&[Long(1)]))?),
            ] {
                let allowed = *is_same && (*first, *second) == whole;
                // Twice the same is a handle that is gone.
                let is_twice = values.len() == 1 && *at == other_at;
                if !(is_twice && refusal.is_some()) {
                    expect(&format!("{first} and {second} ({is_same}) as {target}"), allowed, refusal)?;
                }
                count += 1;
            }
        }
    }
    things.unlink()?;
    others.unlink()?;
    same("each two objects as each type that has two", count, 21 * 42 * 3)
}

/// How many handles the value has that a handle is of.
fn handles_of(handle: &str) -> u32 {
    let kind = handle.split('\'').next();
    if matches!(kind, Some("condition" | "array" | "value")) { 2 } else { 1 }
}

/// A lock and elements that have nothing to do with each other, which are decoded as an array.
#[derive(Clone)]
enum Swapped {
    Parts(RawArray<u64>, RLock),
    Whole(Array<u64>),
}

impl Swapped {
    fn new() -> Result<Self, Error> {
        Ok(Self::Parts(RawArray::new(4)?, RLock::new()?))
    }

    fn len(&self) -> u64 {
        match self {
            Self::Parts(elements, _) => elements.len() as u64,
            Self::Whole(array) => array.len() as u64,
        }
    }
}

impl Serialize for Swapped {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Parts(elements, lock) => {
                let numbers = vec![Long(4), Short(0), Short(1)];
                Forged { values: &[elements, lock], numbers }.serialize(serializer)
            }
            Self::Whole(array) => array.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Swapped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Array::deserialize(deserializer).map(Self::Whole)
    }
}

fn takes(swapped: Swapped) -> u64 {
    swapped.len()
}

fn gives(_: u64) -> Swapped {
    Swapped::new().unwrap_or_else(|error| panic!("{error}"))
}

fn told<T>(result: Result<T, impl std::fmt::Display>) -> bool {
    result.is_err_and(|error| error.to_string().contains("something else"))
}

fn by_other_ways() -> Outcome {
    let queue = Queue::<Swapped>::new()?;
    queue.put(&Swapped::new()?)?;
    check("in an item", told(queue.get()))?;
    queue.put_many(&[Swapped::new()?, Swapped::new()?])?;
    check("in items", told(queue.get_many(2)))?;
    let pool = Pool::builder().processes(1).build()?;
    check("as the arguments of a task", told(pool.apply(takes, Swapped::new()?)))?;
    check("as the result of a task", told(pool.apply(gives, 1)))?;
    let partial = pool.partial(&Swapped::new()?).apply(|swapped: &Swapped, n: u64| swapped.len() + n, 1);
    check("as the state of tasks", told(partial))?;
    Ok(())
}

/// An array that one end takes for its lock and its elements: none of them can be had, so nobody can release the lock.
fn an_array_in_parts() -> Outcome {
    let array = Array::<u64>::new(4)?;
    let (a, b) = Pipe::duplex()?;
    a.send(&array)?;
    check("its lock", told(b.recv::<(RawArray<u64>, RLock)>()))?;
    a.send(&array)?;
    check("its lock alone", told(b.recv::<(u64, u32, RLock)>()))?;
    a.send(&array)?;
    let again: Array<u64> = b.recv()?;
    check("and whole, it is the same", again == array)?;
    let (is_held, go) = (Event::new()?, Event::new()?);
    let child = Process::fork(|| -> Outcome {
        let mut elements = again.lock()?;
        is_held.set()?;
        go.wait()?;
        elements.fill(9);
        Ok(())
    })?;
    is_held.wait()?;
    go.set()?;
    let elements = array.lock()?;
    check("with one lock", elements.iter().all(|element| *element == 9))?;
    drop(elements);
    ended_well(&child)
}

fn memory_as_an_array() -> Outcome {
    let memory = SharedMemory::create(64)?;
    let lock = RLock::new()?;
    let numbers = || vec![Long(8), Short(0), Short(1)];
    let refused = refusal::<Array<u64>>(&[&memory, &lock], numbers())?;
    check("a block as the elements of an array", refused.is_some_and(|why| why.contains("something else")))?;
    Ok(memory.unlink()?)
}

fn read_only() -> Outcome {
    let memory = SharedMemory::create_named("kept", 4096)?;
    let view = SharedMemory::attach_read_only("kept")?;
    check("it is the same block", view == memory && view.name() == memory.name() && view.size() == 4096)?;
    let (a, b) = Pipe::duplex()?;
    let child = Process::fork(|| -> Outcome {
        let received: SharedMemory = b.recv()?;
        check("so is what is sent", received == memory && received == view)?;
        check("it can be read", received.get(7)? == 7 && received.is_read_only())?;
        check("and not be set", matches!(received.set(7, 8), Err(Error::ReadOnly)))?;
        check("nor be written", matches!(received.write_from(7, &[8]), Err(Error::ReadOnly)))?;
        b.send(&received)?;
        Ok(())
    })?;
    memory.set(7, 7)?;
    a.send(&view)?;
    ended_well(&child)?;
    let back: SharedMemory = a.recv()?;
    check("also what comes back", back.is_read_only() && back == view)?;
    // Without the name and the block, views keep it.
    memory.unlink()?;
    drop((memory, view));
    check("a view keeps the block", back.get(7)? == 7)
}

/// One handle can't be taken twice.
fn twice() -> Outcome {
    let lock = Lock::new()?;
    let refused = refusal::<(Lock, Lock)>(&[&lock], vec![Short(0), Short(0)])?;
    check("twice the same", refused.is_some_and(|why| why.contains("doesn't hold this handle")))?;
    let refused = refusal::<Lock>(&[&lock], vec![Short(u32::MAX)])?;
    check("one that there isn't", refused.is_some_and(|why| why.contains("doesn't hold this handle")))?;
    let (a, b) = Pipe::simplex()?;
    b.send(&(&lock, &lock))?;
    let (one, other): (Lock, Lock) = a.recv()?;
    drop(one);
    let guard = other.try_acquire()?;
    check("each use is one", lock.acquire_timeout(Duration::ZERO).is_err())?;
    drop(guard);
    Ok(())
}
