//! Random numbers differ between siblings, between a child and its parent, and so do the seeds of hash maps.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use sandpool_guest::{Error, Process, Queue};
use sandpool_test_guests::{Outcome, check};

#[sandpool_guest::main]
fn main() -> Outcome {
    let results = Queue::<(u128, u64)>::new()?;
    // The parent draws first, so that a generator's state, if there is one, is copied by the forks. It has no hash map
    // before them: the standard library keeps the first seed of a thread, which a fork copies like all memory.
    let mut random = BTreeSet::from([bytes()?]);
    let mut processes = (0..50)
        .map(|_| Process::fork(|| -> Outcome { Ok(results.put(&(bytes()?, seed()))?) }))
        .collect::<Result<Vec<_>, Error>>()?;
    for _ in 0..10 {
        processes.push(Process::spawn(
            |results: Queue<(u128, u64)>| -> Outcome { Ok(results.put(&(bytes()?, seed()))?) },
            results.clone(),
        )?);
    }
    let mut seeds = BTreeSet::new();
    for process in &processes {
        process.join()?;
        let (bytes, seed) = results.get()?;
        random.insert(bytes);
        seeds.insert(seed);
    }
    check("random bytes differ in each process", random.len() == 61)?;
    check("hash seeds differ in each process", seeds.len() == 60)
}

fn seed() -> u64 {
    RandomState::new().hash_one("the same key")
}

fn bytes() -> Result<u128, Box<dyn std::error::Error>> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    Ok(u128::from_le_bytes(bytes))
}
