//! What a `SimpleQueue` promises.

use sandpool_guest::{GetError, Process, PutError, SimpleQueue};
use sandpool_test_guests::{Outcome, check, ended_well, kill, same};
use serde::{Deserialize, Serialize, Serializer};

#[derive(Deserialize)]
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("on purpose"))
    }
}

fn echo((requests, replies): (SimpleQueue<u64>, SimpleQueue<u64>)) -> Outcome {
    while let Ok(number) = requests.get() {
        replies.put(&(number * 2))?;
    }
    Ok(())
}

#[sandpool_guest::main]
fn main() -> Outcome {
    let queue = SimpleQueue::<Option<String>>::new()?;
    check("new, it is empty", queue.is_empty()?)?;
    queue.put(&Some("one".into()))?;
    queue.put(&None)?;
    queue.put(&Some("three".into()))?;
    check("then it isn't", !queue.is_empty()?)?;
    same(
        "in order",
        (queue.get()?, queue.get()?, queue.get()?),
        (Some("one".into()), None, Some("three".into())),
    )?;
    check("empty again", queue.is_empty()?)?;

    let child = Process::fork(|| queue.put(&Some("from a child".into())))?;
    same("between processes", queue.get()?, Some("from a child".into()))?;
    ended_well(&child)?;

    let (requests, replies) = (SimpleQueue::new()?, SimpleQueue::new()?);
    let child = Process::spawn(echo, (requests.clone(), replies.clone()))?;
    requests.put(&21)?;
    same("with a spawned process", replies.get()?, 42)?;
    requests.close()?;
    ended_well(&child)?;
    check("put after close", matches!(requests.put(&1), Err(PutError::Closed)))?;
    check("get after close", matches!(requests.get(), Err(GetError::Closed)))?;

    let picky = SimpleQueue::new()?;
    check("what can't be encoded", matches!(picky.put(&Unencodable), Err(PutError::Encode(_))))?;
    check("isn't put", picky.is_empty()?)?;

    let ready = SimpleQueue::<()>::new()?;
    for _ in 0..20 {
        let child = Process::fork(|| -> Outcome {
            ready.put(&())?;
            queue.get()?;
            Ok(())
        })?;
        ready.get()?;
        kill(&child)?;
        queue.put(&None)?;
        queue.get()?;
    }
    check("readers were killed", queue.is_empty()?)
}
