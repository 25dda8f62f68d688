//! The promises of a `SimpleQueue`.

use sandpool_guest::queue::{GetError, PutError};
use sandpool_guest::{Process, SimpleQueue};
use sandpool_test_guests::{Outcome, check, ended_well, hang, kill, one_of_two_is_killed, same};
use serde::{Deserialize, Serialize, Serializer};

const LETTERS: [&str; 3] = ["a", "b", "c"];

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

    deaths()
}

fn deaths() -> Outcome {
    let queue = SimpleQueue::<String>::new()?;
    for round in 0..20 {
        let wait = || -> Outcome {
            queue.get()?;
            Ok(())
        };
        // The second is for the one that goes on, if the first went with the one that is killed.
        let give = || -> Outcome {
            queue.put(&"first".into())?;
            Ok(queue.put(&"second".into())?)
        };
        one_of_two_is_killed(round, wait, give)?;
        if !queue.is_empty()? {
            queue.get()?;
        }
        if !queue.is_empty()? {
            return Err(format!("round {round}: an item came twice").into());
        }
    }
    println!("ok: readers were killed");

    let taken = SimpleQueue::<()>::new()?;
    queue.put(&"one".into())?;
    queue.put(&"two".into())?;
    let reader = Process::fork(|| -> Outcome {
        queue.get()?;
        taken.put(&())?;
        hang()
    })?;
    taken.get()?;
    kill(&reader)?;
    same("what a reader had is gone with it, no more", queue.get()?, "two".to_owned())?;
    check("the rest was there", queue.is_empty()?)?;

    // Some lie in the queue, some beside it.
    let item = |number: usize| LETTERS[number % LETTERS.len()].repeat(1 << (number % 15));
    let is_whole = |item: &str| {
        item.len().is_power_of_two() && LETTERS.iter().any(|letter| letter.repeat(item.len()) == item)
    };
    for round in 0..40 {
        let user = Process::fork(|| -> Outcome {
            for number in 0.. {
                queue.put(&item(number))?;
                queue.put(&item(number + 7))?;
                queue.get()?;
                taken.put(&())?;
            }
            Ok(())
        })?;
        for _ in 0..=round {
            taken.get()?;
        }
        kill(&user)?;
        while !taken.is_empty()? {
            taken.get()?;
        }
        let mut left = 0;
        while !queue.is_empty()? {
            let found = queue.get()?;
            left += 1;
            if !is_whole(&found) {
                return Err(format!("round {round}: an item isn't whole: {} bytes", found.len()).into());
            }
        }
        if left < round {
            return Err(format!("round {round}: only {left} items were left").into());
        }
    }
    println!("ok: who puts and gets can be killed");
    Ok(())
}
