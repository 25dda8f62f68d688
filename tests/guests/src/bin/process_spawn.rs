//! Processes with fresh memory: functions, closures without captures, arguments, and what is refused.

use std::sync::atomic::{AtomicBool, Ordering};

use sandpool_guest::{Error, ExitStatus, Process, Queue, current_process};
use sandpool_test_guests::{Outcome, check, same};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle { radius: f64 },
    Polygon(Vec<(i32, i32)>),
}

/// Its bytes don't say what it says: it can't be decoded.
#[derive(Serialize, Deserialize)]
struct Broken {
    #[serde(serialize_with = "as_bool")]
    number: String,
}

fn as_bool<S: serde::Serializer>(_: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(true)
}

#[derive(Deserialize)]
struct Unencodable;

impl Serialize for Unencodable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("on purpose"))
    }
}

static CHANGED: AtomicBool = AtomicBool::new(false);

fn describe((shape, replies): (Shape, Queue<String>)) -> Outcome {
    let changed = CHANGED.load(Ordering::Relaxed);
    Ok(replies.put(&format!("{shape:?} in {}, changed: {changed}", current_process()?.name()))?)
}

#[sandpool_guest::main]
fn main() -> Outcome {
    CHANGED.store(true, Ordering::Relaxed);
    let replies = Queue::<String>::new()?;

    let first = Process::spawn(describe, (Shape::Point, replies.clone()))?;
    same("default name", first.name(), "Process-1")?;
    same("joined", first.join()?, ExitStatus::Exited(0))?;
    same("fresh memory", replies.get()?, "Point in Process-1, changed: false".to_owned())?;

    let named = Process::builder()
        .name("circles")
        .spawn(describe, (Shape::Circle { radius: 1.5 }, replies.clone()))?;
    named.join()?;
    same("by name", replies.get()?, "Circle { radius: 1.5 } in circles, changed: false".to_owned())?;

    let polygon = Shape::Polygon((0..100_000).map(|n| (n, -n)).collect());
    let expected = format!("{polygon:?} in Process-3, changed: false");
    Process::spawn(describe, (polygon, replies.clone()))?.join()?;
    check("large arguments", replies.get()? == expected)?;

    same("a closure", Process::spawn(|n: i32| n * 2, 21)?.join()?, ExitStatus::Exited(42))?;
    same("no arguments", Process::spawn(|()| (), ())?.join()?, ExitStatus::Exited(0))?;
    same("a panic", Process::spawn(|()| panic!("on purpose"), ())?.join()?, ExitStatus::Exited(1))?;
    let nested = |n: i32| -> Result<i32, Error> {
        let status = Process::spawn(|n: i32| n + 1, n)?.join()?;
        Ok(if status == ExitStatus::Exited(6) { 6 } else { 99 })
    };
    same("a spawn by a spawned process", Process::spawn(nested, 5)?.join()?, ExitStatus::Exited(6))?;
    let forked = Process::fork(|| -> Result<i32, Error> {
        let status = Process::spawn(|n: i32| n + 1, 7)?.join()?;
        Ok(if status == ExitStatus::Exited(8) { 8 } else { 99 })
    })?;
    same("a spawn by a forked process", forked.join()?, ExitStatus::Exited(8))?;

    let refused = Process::spawn(|_: Unencodable| (), Unencodable);
    check("what can't be encoded is the caller's error", matches!(refused, Err(Error::Encode(_))))?;
    let broken =
        Process::spawn(|broken: Broken| println!("{}", broken.number), Broken { number: "7".into() })?;
    same("what can't be decoded is the child's", broken.join()?, ExitStatus::Exited(1))?;

    // Every process has dropped its own use of it, so it is this one's alone, and works.
    replies.put(&"still here".to_owned())?;
    same("the queue", replies.get()?, "still here".to_owned())
}
