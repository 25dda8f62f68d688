//! Many producers, many consumers, one queue: `queue_many [PRODUCERS] [CONSUMERS] [ITEMS] [MAXSIZE]`, ITEMS of each
//! producer.

use sandpool_guest::{Error, ExitStatus, Process, Queue};
use sandpool_test_guests::{Outcome, argument, check, same};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Item {
    producer: u64,
    number: u64,
    padding: Vec<u8>,
}

/// The items that a consumer has seen: how often each item, and whether each producer's items came in order.
#[derive(Serialize, Deserialize)]
struct Seen {
    items: Vec<(u64, u64)>,
    ordered: bool,
}

#[sandpool_guest::main]
fn main() -> Outcome {
    let producers: u64 = argument(0, 4);
    let consumers: u64 = argument(1, 4);
    let items: u64 = argument(2, 5_000);
    let queue = Queue::<Item>::bounded(argument(3, 16))?;
    let reports = Queue::<Seen>::new()?;

    let consuming = start(consumers, |_| {
        let mut seen = Seen { items: Vec::new(), ordered: true };
        let mut last = vec![None; producers as usize];
        for item in &queue {
            let Item { producer, number, padding } = item?;
            let last = last.get_mut(producer as usize).ok_or("an unknown producer")?;
            seen.ordered &= *last < Some(number) && padding.len() as u64 == number % 97;
            *last = Some(number);
            seen.items.push((producer, number));
        }
        Ok(reports.put(&seen)?)
    })?;
    let producing = start(producers, |producer| {
        for number in 0..items {
            queue.put(&Item { producer, number, padding: vec![7; (number % 97) as usize] })?;
        }
        Ok(())
    })?;

    for process in &producing {
        same(process.name(), process.join()?, ExitStatus::Exited(0))?;
    }
    queue.close()?;
    let mut all = Vec::new();
    let mut ordered = true;
    for _ in 0..consumers {
        let seen = reports.get()?;
        all.extend(seen.items);
        ordered &= seen.ordered;
    }
    for process in &consuming {
        same(process.name(), process.join()?, ExitStatus::Exited(0))?;
    }
    all.sort_unstable();
    let expected = (0..producers).flat_map(|producer| (0..items).map(move |number| (producer, number)));
    check("each item once", all.iter().copied().eq(expected))?;
    check("in the order of each producer", ordered)?;
    println!("{} items", all.len());
    Ok(())
}

fn start(count: u64, body: impl Fn(u64) -> Outcome) -> Result<Vec<Process>, Error> {
    (0..count).map(|number| Process::fork(|| body(number))).collect()
}
