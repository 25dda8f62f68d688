//! Items that are made to harm who decodes them, and items that can't be decoded: errors, one for each, and nothing is lost.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use sandpool_guest::pipe::RecvError;
use sandpool_guest::queue::{GetError, GetManyError};
use sandpool_guest::{Event, JoinableQueue, Lock, Pipe, Pool, Process, Queue};
use sandpool_test_guests::{LONG, Outcome, check, ended_well, most_objects, same};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Serialize, Serializer};

#[sandpool_guest::main]
fn main() -> Outcome {
    let before = most_objects()?;
    too_deep()?;
    without_bytes()?;
    lengths()?;
    each_is_told()?;
    each_is_done()?;
    one_is_told()?;
    handles()?;
    check("no handle is lost", most_objects()? == before)
}

#[derive(Serialize, Deserialize)]
enum List {
    Nil,
    Cons(Box<List>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Node(Vec<Node>);

/// Bytes, as they are.
struct Raw(Vec<u8>);

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| bytes.serialize_element(byte))?;
        bytes.end()
    }
}

/// Why these bytes aren't a `T`.
fn refusal<T: serde::de::DeserializeOwned>(bytes: Vec<u8>) -> Result<String, Box<dyn std::error::Error>> {
    let (a, b) = Pipe::simplex()?;
    b.send(&Raw(bytes))?;
    match a.recv::<T>() {
        Err(RecvError::Decode(error)) => Ok(error.to_string()),
        Ok(_) => Err("it was decoded".into()),
        Err(other) => Err(other.into()),
    }
}

fn too_deep() -> Outcome {
    // 400 KB, each of which is one deeper.
    let deep = 1_u32.to_le_bytes().repeat(100_000);
    let why = refusal::<List>([&*deep, &[0; 4]].concat())?;
    check("values in values in values", why.contains("more than 256 deep"))?;
    let why = refusal::<Node>(1_u64.to_le_bytes().repeat(100_000))?;
    check("sequences in sequences", why.contains("more than 256 deep"))?;
    let why = refusal::<Option<Box<List>>>([&[1], &*deep].concat())?;
    check("in an option", why.contains("more than 256 deep"))?;
    let mut node = Node(vec![]);
    for _ in 0..100 {
        node = Node(vec![node, Node(vec![])]);
    }
    let queue = Queue::<Node>::new()?;
    queue.put(&node)?;
    check("what isn't too deep is what it was", queue.get()? == node)?;
    let mut list = List::Nil;
    for _ in 0..1000 {
        list = List::Cons(Box::new(list));
    }
    let pool = Pool::builder().processes(1).build()?;
    let deep = pool.apply(|_: List| (), list).err().ok_or("it is too deep")?;
    check("in a task", deep.to_string().contains("more than 256 deep"))
}

fn without_bytes() -> Outcome {
    let many = u64::from(u32::MAX).to_le_bytes().to_vec();
    for (what, why) in [
        ("nothing, four billion times", refusal::<Vec<()>>(many.clone())?),
        ("nothing in nothing", refusal::<Vec<[(); 3]>>(many.clone())?),
        ("nothing by nothing", refusal::<BTreeMap<(), ()>>(many.clone())?),
    ] {
        check(what, why.contains("take no bytes"))?;
    }
    let queue = Queue::<Vec<()>>::new()?;
    queue.put(&vec![(); 1000])?;
    same("some are none too many", queue.get()?.len(), 1000)
}

/// Lengths of what isn't there take no memory.
fn lengths() -> Outcome {
    for length in [1 << 30, (1 << 32) - 1, 1 << 33, u64::MAX] {
        let lie = [length.to_le_bytes().as_slice(), &[b'x'; 100]].concat();
        refusal::<String>(lie.clone())?;
        refusal::<(String, u8)>(lie.clone())?;
        refusal::<Vec<String>>(lie.clone())?;
        refusal::<Vec<u64>>(lie.clone())?;
        refusal::<(Vec<u64>, u8)>(lie.clone())?;
        refusal::<(sandpool_guest::Bytes, u8)>(lie.clone())?;
        refusal::<BTreeMap<u64, u64>>(lie)?;
    }
    println!("ok: lengths that are lies");
    Ok(())
}

/// A value that some take for one thing, and others for another.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Two(u8, u8);

/// The same queue, for items of two types.
fn disguised() -> Result<(JoinableQueue<bool>, JoinableQueue<Two>), Box<dyn std::error::Error>> {
    let queue = JoinableQueue::<bool>::new()?;
    let (a, b) = Pipe::simplex()?;
    b.send(&queue)?;
    Ok((queue, a.recv()?))
}

fn each_is_told() -> Outcome {
    let (bools, twos) = disguised()?;
    bools.put(&true)?;
    twos.put_many(&[Two(0, 0), Two(1, 1)])?;
    bools.put(&false)?;
    twos.put(&Two(2, 2))?;
    let Err(GetManyError::Items(results)) = bools.get_many(10) else { return Err("all are bools".into()) };
    let results: Vec<_> = results
        .into_iter()
        .map(|result| match result {
            Ok(item) => item.to_string(),
            Err(GetError::Decode(_)) => "error".to_owned(),
            Err(other) => other.to_string(),
        })
        .collect();
    same(
        "a result for each, in order",
        results,
        ["true", "error", "error", "false", "error"].map(String::from).to_vec(),
    )?;
    same("none is left", bools.qsize()?, 0)?;
    check(
        "then there is nothing",
        matches!(bools.try_get_many(1), Err(GetManyError::Nothing(GetError::Empty))),
    )?;
    // Alternately small and large: one comes in a batch, and the other doesn't.
    let vectors = Queue::<Vec<bool>>::new()?;
    let (a, b) = Pipe::simplex()?;
    b.send(&vectors)?;
    let texts: Queue<String> = a.recv()?;
    for len in [1, 20_000, 2, 70_000] {
        texts.put(&"7".repeat(len))?;
        vectors.put(&vec![true; len])?;
    }
    let Err(GetManyError::Items(results)) = vectors.get_many(100) else { return Err("7 is a bool".into()) };
    let lens: Vec<_> = results.iter().map(|result| result.as_ref().ok().map(Vec::len)).collect();
    let expected = [None, Some(1), None, Some(20_000), None, Some(2), None, Some(70_000)];
    same("also of large items", lens, expected.to_vec())
}

fn each_is_done() -> Outcome {
    let (bools, twos) = disguised()?;
    for number in 0..3 {
        twos.put(&Two(number, number))?;
    }
    bools.put(&true)?;
    let Err(GetManyError::Items(results)) = bools.get_many(10) else { return Err("all are bools".into()) };
    for _ in results {
        bools.task_done()?;
    }
    bools.join_timeout(LONG)?;
    println!("ok: each is done with");
    let waits = Process::fork(|| -> Outcome { Ok(bools.join()?) })?;
    ended_well(&waits)
}

fn one_is_told() -> Outcome {
    let (bools, twos) = disguised()?;
    twos.put(&Two(7, 7))?;
    bools.put(&true)?;
    let all: Vec<_> = bools.iter().take(2).map(|item| item.ok()).collect();
    same("an iterator goes on", all, vec![None, Some(true)])
}

/// A type that takes a lock, and then something that isn't there.
#[derive(Serialize, Deserialize)]
struct Locked(Lock, bool);

/// Handles of what can't be decoded: taken by what was decoded before, not reached, or too many.
fn handles() -> Outcome {
    let (a, b) = Pipe::simplex()?;
    let lock = Lock::new()?;
    for _ in 0..300 {
        b.send(&(&lock, 7_u8))?;
        check_quietly(matches!(a.recv::<Locked>(), Err(RecvError::Decode(_))))?;
        b.send(&(7_u8, &lock))?;
        check_quietly(matches!(a.recv::<Locked>(), Err(RecvError::Decode(_))))?;
        b.send(&(7_u8, &lock))?;
        check_quietly(matches!(a.recv::<(bool, Lock)>(), Err(RecvError::Decode(_))))?;
        b.send(&(&lock, &lock, 1_u32))?;
        check_quietly(matches!(a.recv::<(Lock, u32, u32)>(), Err(RecvError::Decode(_))))?;
        b.send(&(&lock, Event::new()?))?;
        check_quietly(matches!(a.recv::<(Lock, Lock)>(), Err(RecvError::Decode(_))))?;
        b.send(&(&lock, Event::new()?))?;
        check_quietly(a.recv_bytes()?.len() == 8)?;
    }
    println!("ok: a thousand failures");
    Ok(())
}

fn check_quietly(holds: bool) -> Outcome {
    if holds { Ok(()) } else { Err("it was decoded".into()) }
}
