//! The promises of a `Queue` to one process and to a few.

use std::time::{Duration, Instant};

use sandpool_guest::queue::{GetError, PutError};
use sandpool_guest::{Bytes, ExitStatus, Process, Queue};
use sandpool_test_guests::{Outcome, check, same};
use serde::{Deserialize, Serialize};

const SHORT: Duration = Duration::from_millis(30);
const LONG: Duration = Duration::from_secs(60);

#[sandpool_guest::main]
fn main() -> Outcome {
    order()?;
    bounds()?;
    timeouts()?;
    closing()?;
    sizes()?;
    byte_vectors()?;
    handles()?;
    encoding()
}

fn order() -> Outcome {
    let queue = Queue::<(u32, String)>::new()?;
    same("a new queue is empty", (queue.qsize()?, queue.is_empty()?), (0, true))?;
    for n in 0..1000 {
        queue.put(&(n, format!("item {n}")))?;
    }
    same("as many as were put", (queue.qsize()?, queue.is_empty()?), (1000, false))?;
    for n in 0..1000 {
        if queue.get()? != (n, format!("item {n}")) {
            return Err(format!("item {n} is out of order").into());
        }
    }
    println!("ok: first in, first out");
    same("drained", queue.qsize()?, 0)
}

fn bounds() -> Outcome {
    let queue = Queue::<u8>::bounded(2)?;
    same("maxsize", queue.maxsize()?, Some(2))?;
    same("no maxsize", Queue::<u8>::new()?.maxsize()?, None)?;
    same("a bound of 0 is none", Queue::<u8>::bounded(0)?.maxsize()?, None)?;
    queue.put(&1)?;
    same("not full", queue.is_full()?, false)?;
    queue.try_put(&2)?;
    same("full", queue.is_full()?, true)?;
    check("try_put", matches!(queue.try_put(&3), Err(PutError::Full)))?;
    let before = Instant::now();
    check("put_timeout", matches!(queue.put_timeout(&3, SHORT), Err(PutError::Full)))?;
    check("it waited", before.elapsed() >= SHORT)?;
    same("nothing was put", (queue.qsize()?, queue.get()?, queue.get()?), (2, 1, 2))?;

    queue.put(&1)?;
    queue.put(&2)?;
    let child = Process::fork(|| queue.put(&3))?;
    same("a put waits for room", child.join_timeout(SHORT)?, None)?;
    same("there is room", queue.get()?, 1)?;
    same("it goes on", child.join_timeout(LONG)?, Some(ExitStatus::Exited(0)))?;
    same("in order", (queue.get()?, queue.get()?), (2, 3))
}

fn timeouts() -> Outcome {
    let queue = Queue::<u8>::new()?;
    check("try_get", matches!(queue.try_get(), Err(GetError::Empty)))?;
    let before = Instant::now();
    check("get_timeout", matches!(queue.get_timeout(SHORT), Err(GetError::Empty)))?;
    check("it waited", before.elapsed() >= SHORT)?;
    let child = Process::fork(|| -> Outcome {
        std::thread::sleep(SHORT);
        Ok(queue.put(&7)?)
    })?;
    same("a get waits for an item", queue.get()?, 7)?;
    same("the child ended well", child.join()?, ExitStatus::Exited(0))
}

fn closing() -> Outcome {
    let queue = Queue::<u8>::new()?;
    queue.put(&1)?;
    queue.put(&2)?;
    queue.close()?;
    queue.close()?;
    check("put after close", matches!(queue.put(&3), Err(PutError::Closed)))?;
    check("try_put after close", matches!(queue.try_put(&3), Err(PutError::Closed)))?;
    same("what waits is delivered", queue.iter().collect::<Result<Vec<_>, _>>()?, vec![1, 2])?;
    check("get when drained", matches!(queue.get(), Err(GetError::Closed)))?;
    check("try_get when drained", matches!(queue.try_get(), Err(GetError::Closed)))?;
    check("get_timeout when drained", matches!(queue.get_timeout(LONG), Err(GetError::Closed)))?;

    let empty = Queue::<u8>::new()?;
    let getter = Process::fork(|| i32::from(matches!(empty.get(), Err(GetError::Closed))))?;
    let full = Queue::<u8>::bounded(1)?;
    full.put(&1)?;
    let putter = Process::fork(|| i32::from(matches!(full.put(&2), Err(PutError::Closed))))?;
    std::thread::sleep(SHORT);
    empty.close()?;
    full.close()?;
    same("close wakes who gets", getter.join_timeout(LONG)?, Some(ExitStatus::Exited(1)))?;
    same("close wakes who puts", putter.join_timeout(LONG)?, Some(ExitStatus::Exited(1)))
}

fn sizes() -> Outcome {
    let queue = Queue::<String>::new()?;
    let child = Process::fork(|| -> Outcome {
        for item in &queue {
            let item = item?;
            if item.bytes().enumerate().any(|(index, byte)| byte != letter(index)) {
                return Err(format!("an item of {} bytes is damaged", item.len()).into());
            }
        }
        Ok(())
    })?;
    // Around the size of the receive buffer, and far beyond it.
    for size in [0, 1, 7, 4096, 65_531, 65_532, 65_533, 65_536, 65_537, 1_000_000, 5_000_000] {
        let item: String = (0..size).map(|index| char::from(letter(index))).collect();
        queue.put(&item)?;
    }
    queue.close()?;
    same("items of 0 bytes to 5 MB", child.join()?, ExitStatus::Exited(0))?;
    let units = Queue::<()>::new()?;
    units.put(&())?;
    same("an item of no bytes at all", units.get()?, ())
}

/// Large ones go as they are: around the sizes from which on they do.
fn byte_vectors() -> Outcome {
    let (vectors, bytes) = (Queue::<Vec<u8>>::new()?, Queue::<Bytes>::new()?);
    for size in [0, 1, 8183, 8184, 8185, 8191, 8192, 8193, 65_528, 65_536, 65_537, 1_000_000, 5_000_000] {
        let item: Vec<u8> = (0..size).map(letter).collect();
        vectors.put(&item)?;
        bytes.put(&Bytes::from(&*item))?;
        vectors.put_many(&[item.clone(), vec![1]])?;
        if vectors.get()? != item || bytes.get()?.into_vec() != item || vectors.get_many(1)? != [&*item] {
            return Err(format!("an item of {size} bytes is damaged").into());
        }
        if vectors.get()? != [1] {
            return Err(format!("what came behind {size} bytes is damaged").into());
        }
    }
    println!("ok: vectors of 0 bytes to 5 MB");
    Ok(())
}

fn letter(index: usize) -> u8 {
    b'a' + (index % 23) as u8
}

#[derive(Serialize, Deserialize)]
struct Request {
    number: u64,
    reply: Option<Queue<u64>>,
    others: Vec<Queue<u64>>,
}

fn handles() -> Outcome {
    let requests = Queue::<Request>::new()?;
    let server = Process::fork(|| -> Outcome {
        for request in &requests {
            let Request { number, reply, others } = request?;
            for queue in reply.iter().chain(&others) {
                queue.put(&(number * number))?;
            }
        }
        Ok(())
    })?;
    // Made after the fork, so the server knows it from the message only.
    let reply = Queue::<u64>::new()?;
    requests.put(&Request { number: 3, reply: Some(reply.clone()), others: Vec::new() })?;
    same("a queue through a queue", reply.get()?, 9)?;
    requests.put(&Request { number: 4, reply: None, others: vec![reply.clone(), reply.clone()] })?;
    same("twice in one item", (reply.get()?, reply.get()?), (16, 16))?;
    let others: Vec<_> = (0..100).map(|_| Queue::new()).collect::<Result<_, _>>()?;
    requests.put(&Request { number: 5, reply: Some(reply.clone()), others })?;
    same("among a hundred", reply.get()?, 25)?;
    requests.close()?;
    same("the server ended well", server.join()?, ExitStatus::Exited(0))?;

    // The item holds its queue, also when the one who put it is gone.
    let items = Queue::<Queue<String>>::new()?;
    let child = Process::fork(|| -> Outcome {
        let inner = Queue::new()?;
        inner.put(&"from the dead".to_owned())?;
        Ok(items.put(&inner)?)
    })?;
    child.join()?;
    same("a queue outlives its maker", items.get()?.get()?, "from the dead".to_owned())?;

    // A handle that isn't taken out of an item is given back: far more than there is room for objects at a time.
    let items = Queue::<Vec<Queue<u8>>>::bounded(2)?;
    for _ in 0..5_000 {
        let batch = (0..20).map(|_| Queue::new()).collect::<Result<Vec<_>, _>>()?;
        items.put(&batch)?;
        drop(batch);
        items.get()?;
    }
    println!("ok: 100000 queues, some at a time");
    Ok(())
}

/// Encodes half of itself, a queue in it, and then fails.
#[derive(Deserialize)]
struct Failing(Queue<u8>);

impl Serialize for Failing {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::{Error, SerializeTuple};
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&self.0)?;
        Err(S::Error::custom("on purpose"))
    }
}

/// An item with or without a queue in it.
#[derive(Serialize, Deserialize)]
enum Either {
    Text(String),
    Queue(Queue<Either>),
}

fn encoding() -> Outcome {
    let queue = Queue::<Failing>::new()?;
    let failed = queue.put(&Failing(Queue::new()?));
    check("what can't be encoded is an error", matches!(failed, Err(PutError::Encode(_))))?;
    same("the queue is as it was", queue.qsize()?, 0)?;

    let texts = Queue::<Either>::new()?;
    texts.put(&Either::Text("text".into()))?;
    texts.put(&Either::Queue(texts.clone()))?;
    check("an item", matches!(texts.get()?, Either::Text(text) if text == "text"))?;
    check("a queue that holds itself", matches!(texts.get()?, Either::Queue(queue) if queue == texts))?;

    // The same queue by another type: a queue's type isn't part of the message.
    let numbers = Queue::<Disguise>::new()?;
    numbers.put(&Disguise::Texts(texts.clone()))?;
    let numbers = numbers.get()?.numbers()?;
    texts.put(&Either::Text("not a number".into()))?;
    texts.put(&Either::Queue(texts.clone()))?;
    check("an item of another type is an error", matches!(numbers.get(), Err(GetError::Decode(_))))?;
    check("also one with a queue in it", matches!(numbers.get(), Err(GetError::Decode(_))))?;
    texts.put(&Either::Text("fine".into()))?;
    check("the next one is fine", matches!(texts.get()?, Either::Text(text) if text == "fine"))
}

/// Encodes a queue of texts, and decodes it as one of numbers.
enum Disguise {
    Texts(Queue<Either>),
    Numbers(Queue<(u64, u64)>),
}

impl Disguise {
    fn numbers(self) -> Result<Queue<(u64, u64)>, &'static str> {
        match self {
            Self::Numbers(queue) => Ok(queue),
            Self::Texts(_) => Err("it wasn't sent"),
        }
    }
}

impl Serialize for Disguise {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Texts(queue) => queue.serialize(serializer),
            Self::Numbers(queue) => queue.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Disguise {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Queue::deserialize(deserializer).map(Self::Numbers)
    }
}
