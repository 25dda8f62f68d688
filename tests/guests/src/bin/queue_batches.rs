//! `put_many` and `get_many`: the same queue, many items at a time.

use std::time::Duration;

use sandpool_guest::queue::{GetError, GetManyError, PutError};
use sandpool_guest::{Bytes, Process, Queue};
use sandpool_test_guests::{Outcome, check, ended_well, kill, same};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const LONG: Duration = Duration::from_secs(60);

#[sandpool_guest::main]
fn main() -> Outcome {
    order()?;
    bounds()?;
    mixed()?;
    sizes()?;
    errors()?;
    crowd()?;
    deaths()?;
    bytes()
}

fn order() -> Outcome {
    let queue = Queue::<u64>::new()?;
    let numbers: Vec<u64> = (0..100_000).collect();
    queue.put_many(&[])?;
    check("get_many of none", queue.get_many(0)?.is_empty())?;
    same("nothing was put", queue.qsize()?, 0)?;
    queue.put_many(&numbers)?;
    same("all were put", queue.qsize()?, numbers.len())?;
    same("a few", queue.get_many(3)?, vec![0, 1, 2])?;
    same("one by one, too", (queue.get()?, queue.get()?), (3, 4))?;
    queue.put(&100_000)?;
    let mut got = Vec::new();
    while queue.qsize()? > 0 {
        let some = queue.get_many(7_777)?;
        if some.is_empty() || some.len() > 7_777 {
            return Err(format!("get_many(7777) returned {} items", some.len()).into());
        }
        got.extend(some);
    }
    check("in order, each once", got.into_iter().eq(5..=100_000))?;
    check("try_get_many of an empty queue", is_empty(queue.try_get_many(5)))?;
    check("no time", is_empty(queue.get_many_timeout(5, Duration::ZERO)))
}

fn is_empty<T>(got: Result<Vec<T>, sandpool_guest::queue::GetManyError<T>>) -> bool {
    matches!(got, Err(GetManyError::Nothing(GetError::Empty)))
}

fn bounds() -> Outcome {
    let queue = Queue::<u32>::bounded(3)?;
    let numbers: Vec<u32> = (0..1000).collect();
    same("as many as there is room for", queue.try_put_many(&numbers)?, 3)?;
    same("no room", queue.try_put_many(&numbers)?, 0)?;
    same("no time", queue.put_many_timeout(&numbers, Duration::ZERO)?, 0)?;
    same("not more than there are", queue.get_many(10)?, vec![0, 1, 2])?;

    let producer = Process::fork(|| queue.put_many(&numbers))?;
    let mut got = Vec::new();
    while got.len() < numbers.len() {
        got.extend(queue.get_many_timeout(10, LONG)?);
    }
    ended_well(&producer)?;
    same("put_many waits for room", got, numbers)?;

    let consumer = Process::fork(|| -> Outcome { check("get_many waits", queue.get_many(10)? == [7]) })?;
    queue.put(&7)?;
    ended_well(&consumer)
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Item {
    Number(u64),
    Text(String),
    Queue(Queue<u64>),
}

fn mixed() -> Outcome {
    let queue = Queue::<Item>::new()?;
    let inner = Queue::<u64>::new()?;
    let items: Vec<_> = (0..500_u64)
        .map(|n| match n % 5 {
            0 => Item::Queue(inner.clone()),
            1 => Item::Text("x".repeat(20_000)),
            2 => Item::Text("x".repeat(n as usize * 20)),
            _ => Item::Number(n),
        })
        .collect();
    let producer = Process::fork(|| queue.put_many(&items))?;
    let mut got = Vec::new();
    while got.len() < items.len() {
        got.extend(queue.get_many_timeout(100, LONG)?);
    }
    ended_well(&producer)?;
    check("small, large, and with handles: in order", got == items)
}

fn sizes() -> Outcome {
    let queue = Queue::<String>::new()?;
    // A batch takes 8192 encoded bytes at most, and a buffer 65536.
    let items: Vec<_> = [0, 1, 8188, 8189, 8190, 8191, 8192, 8193, 65_532, 65_533, 65_536, 1_000_000]
        .iter()
        .map(|size| "s".repeat(*size))
        .collect();
    queue.put_many(&items)?;
    same("sizes around all limits", queue.get_many(100)?, items)?;
    let units = Queue::<()>::new()?;
    units.put_many(&[(); 5000])?;
    same("items of no bytes", units.get_many(10_000)?.len(), 5000)
}

#[derive(Deserialize)]
struct Picky(u32);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == 5 { Err(serde::ser::Error::custom("on purpose")) } else { self.0.serialize(serializer) }
    }
}

/// Encodes a queue of bytes, and decodes it as one of booleans.
enum Disguise {
    Bytes(Queue<u8>),
    Bools(Queue<bool>),
}

impl Serialize for Disguise {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(queue) => queue.serialize(serializer),
            Self::Bools(queue) => queue.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Disguise {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Queue::deserialize(deserializer).map(Self::Bools)
    }
}

fn errors() -> Outcome {
    let queue = Queue::<Picky>::new()?;
    let items: Vec<_> = (0..10).map(Picky).collect();
    let failed = queue.put_many(&items);
    check(
        "what can't be encoded is reported after what can",
        matches!(&failed, Err(error) if error.put == 5 && matches!(error.error, PutError::Encode(_))),
    )?;
    same("those before it were put", queue.get_many(10)?.len(), 5)?;

    let bytes = Queue::<u8>::new()?;
    bytes.put_many(&[1, 0, 7, 1])?;
    let disguises = Queue::<Disguise>::new()?;
    disguises.put(&Disguise::Bytes(bytes.clone()))?;
    let Disguise::Bools(bools) = disguises.get()? else { return Err("it wasn't sent".into()) };
    let Err(GetManyError::Items(results)) = bools.get_many(10) else { return Err("7 is a bool".into()) };
    check("what can't be decoded", matches!(results[2], Err(GetError::Decode(_))))?;
    let others: Vec<_> = results.into_iter().flatten().collect();
    same("the others aren't lost", others, vec![true, false, true])?;

    let queue = Queue::<u32>::bounded(100)?;
    queue.put_many(&[1, 2, 3])?;
    queue.close()?;
    let failed = queue.put_many(&[4, 5]).err().ok_or("it is closed")?;
    check("put_many after close", failed.put == 0 && matches!(failed.error, PutError::Closed))?;
    same("what is left", queue.get_many(10)?, vec![1, 2, 3])?;
    let failed = queue.get_many(10).err().ok_or("it is closed")?;
    check("get_many when drained", matches!(failed, GetManyError::Nothing(GetError::Closed)))
}

fn crowd() -> Outcome {
    const PRODUCERS: u64 = 4;
    const ITEMS: u64 = 20_000;
    let queue = Queue::<(u64, u64)>::bounded(500)?;
    let totals = Queue::<(u64, u64)>::new()?;
    let producers = (0..PRODUCERS)
        .map(|producer| {
            let queue = &queue;
            Process::fork(move || -> Outcome {
                let items: Vec<_> = (0..ITEMS).map(|n| (producer, n)).collect();
                for some in items.chunks(777) {
                    queue.put_many(some)?;
                }
                Ok(())
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let consumers = (0..3)
        .map(|_| {
            Process::fork(|| -> Outcome {
                let (mut count, mut sum) = (0, 0);
                let mut last = [None; PRODUCERS as usize];
                loop {
                    let items = match queue.get_many(333) {
                        Err(GetManyError::Nothing(GetError::Closed)) => break,
                        items => items?,
                    };
                    for (producer, n) in items {
                        let last = &mut last[producer as usize];
                        if last.is_some_and(|last| last >= n) {
                            return Err(format!("{n} of {producer} is out of order").into());
                        }
                        *last = Some(n);
                        count += 1;
                        sum += n;
                    }
                }
                Ok(totals.put(&(count, sum))?)
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    producers.iter().try_for_each(ended_well)?;
    queue.close()?;
    consumers.iter().try_for_each(ended_well)?;
    let totals = totals.get_many(3)?;
    let total = totals.iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    same("many producers, many consumers", total, (PRODUCERS * ITEMS, PRODUCERS * (0..ITEMS).sum::<u64>()))
}

fn deaths() -> Outcome {
    let queue = Queue::<u64>::bounded(50)?;
    let started = Queue::<()>::new()?;
    for _ in 0..20 {
        let producer = Process::fork(|| -> Outcome {
            started.put(&())?;
            let numbers: Vec<u64> = (0..1_000_000).collect();
            Ok(queue.put_many(&numbers)?)
        })?;
        started.get()?;
        // At least one batch, so that it is in the middle of putting.
        let mut next = 0;
        let mut in_order = true;
        let mut take = |some: Vec<u64>| {
            for n in some {
                in_order &= n == next;
                next += 1;
            }
        };
        take(queue.get_many_timeout(30, LONG)?);
        kill(&producer)?;
        while let Ok(some) = queue.try_get_many(100) {
            take(some);
        }
        if !in_order {
            return Err("a killed producer's items have gaps".into());
        }
    }
    println!("ok: what a killed producer has put is a beginning of it");
    for _ in 0..20 {
        let consumer = Process::fork(|| -> Outcome {
            started.put(&())?;
            queue.get_many(10)?;
            Ok(())
        })?;
        started.get()?;
        kill(&consumer)?;
        queue.put(&1)?;
        if queue.get_timeout(LONG)? != 1 {
            return Err("the item is another one".into());
        }
    }
    println!("ok: who is killed in get_many takes nothing along");
    Ok(())
}

fn bytes() -> Outcome {
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let whole = Queue::<Vec<u8>>::new()?;
    whole.put(&content)?;
    whole.put(&Vec::new())?;
    check("a vector of bytes", whole.get()? == content)?;
    check("an empty one", whole.get()?.is_empty())?;
    whole.put_many(&[vec![1], vec![2, 3]])?;
    same("in a batch", whole.get_many(2)?, vec![vec![1], vec![2, 3]])?;
    let parts = Queue::<(String, Bytes)>::new()?;
    parts.put(&("name".into(), Bytes::from(content.clone())))?;
    let (name, bytes) = parts.get()?;
    check("bytes in an item", name == "name" && *bytes == content)
}
