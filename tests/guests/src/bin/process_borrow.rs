//! A forked closure has everything that it captured or borrowed, and changes only its own copy.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use sandpool_guest::{ExitStatus, Process, Queue};
use sandpool_test_guests::{Outcome, same};

#[sandpool_guest::main]
fn main() -> Outcome {
    let results = Queue::<u64>::new()?;
    let borrowed: Vec<u64> = (0..1_000_000).collect();
    let shared = Rc::new(RefCell::new(HashMap::from([("a", 1), ("b", 2)])));
    let mut counter = 10;
    let boxed: Box<dyn Fn(u64) -> u64> = Box::new(|n| n * 2);

    let child = Process::fork(|| -> Outcome {
        counter += 1;
        shared.borrow_mut().insert("c", 3);
        let shared: i32 = shared.borrow().values().sum();
        results.put(&borrowed.iter().sum())?;
        results.put(&counter)?;
        results.put(&u64::try_from(shared)?)?;
        Ok(results.put(&boxed(21))?)
    })?;
    same("the child ended well", child.join()?, ExitStatus::Exited(0))?;
    same("borrowed data", results.get()?, 499_999_500_000)?;
    same("changed in the child", results.get()?, 11)?;
    same("shared data, changed in the child", results.get()?, 6)?;
    same("a boxed closure", results.get()?, 42)?;
    same("unchanged in the parent", counter, 10)?;
    same("shared data, unchanged in the parent", shared.borrow().len(), 2)?;

    let captured = String::from("moved");
    let child = Process::fork(move || captured.len() as i32)?;
    same("captured by move", child.join()?, ExitStatus::Exited(5))?;

    let children = borrowed
        .chunks(250_000)
        .map(|chunk| Process::fork(|| -> Outcome { Ok(results.put(&chunk.iter().sum())?) }))
        .collect::<Result<Vec<_>, _>>()?;
    let mut sum = 0;
    for child in &children {
        child.join()?;
        sum += results.get()?;
    }
    same("in pieces", sum, 499_999_500_000)
}
