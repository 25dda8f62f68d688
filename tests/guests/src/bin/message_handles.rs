//! Messages with handles that can't be decoded as what they are taken for: nothing of them stays. To be run with room for
//! few objects.

use std::cell::Cell;

use sandpool_guest::pipe::RecvError;
use sandpool_guest::queue::GetError;
use sandpool_guest::{JoinableQueue, Pipe, Process, Queue};
use sandpool_test_guests::{Outcome, check, ended_well};
use serde::de::{Deserializer, Error as _};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

/// Where decoding a message fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Point {
    Nowhere,
    BeforeAny,
    BetweenTwo,
    BehindAll,
    /// It doesn't fail, but takes one handle for a number.
    Unclaimed,
}

const POINTS: [Point; 4] = [Point::BeforeAny, Point::BetweenTwo, Point::BehindAll, Point::Unclaimed];

/// More often than there is room for objects.
const ROUNDS: usize = 100;

thread_local! {
    static POINT: Cell<Point> = const { Cell::new(Point::Nowhere) };
}

/// Two queues, and the point at which they are bad.
struct Message {
    point: Point,
    queues: Option<[Queue<u8>; 2]>,
}

impl Message {
    fn new(point: Point) -> Result<Self, sandpool_guest::Error> {
        Ok(Self { point, queues: Some([Queue::new()?, Queue::new()?]) })
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [first, second] = self.queues.as_ref().ok_or_else(|| serde::ser::Error::custom("none"))?;
        (self.point, (), first, (), second, ()).serialize(serializer)
    }
}

/// Fails if this is the point.
struct Trap<const AT: u8>;

impl<'de, const AT: u8> Deserialize<'de> for Trap<AT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        let is_here = match AT {
            0 => POINT.get() == Point::BeforeAny,
            1 => POINT.get() == Point::BetweenTwo,
            _ => POINT.get() == Point::BehindAll,
        };
        if is_here { Err(D::Error::custom("as it must")) } else { Ok(Self) }
    }
}

/// A queue, or the number that stands for it.
struct Second(Option<Queue<u8>>);

impl<'de> Deserialize<'de> for Second {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match POINT.get() {
            Point::Unclaimed => u32::deserialize(deserializer).map(|_| Self(None)),
            _ => Queue::deserialize(deserializer).map(|queue| Self(Some(queue))),
        }
    }
}

/// The point is known before the rest is decoded.
struct Known(Point);

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let point = Point::deserialize(deserializer)?;
        POINT.set(point);
        Ok(Self(point))
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        type Parts = (Known, Trap<0>, Queue<u8>, Trap<1>, Second, Trap<2>);
        let (Known(point), _, first, _, Second(second), _) = Parts::deserialize(deserializer)?;
        Ok(Self { point, queues: second.map(|second| [first, second]) })
    }
}

#[sandpool_guest::main]
fn main() -> Outcome {
    let queue = Queue::<Message>::new()?;
    let joinable = JoinableQueue::<Message>::new()?;
    let (receiver, sender) = Pipe::simplex()?;
    for point in POINTS {
        for round in 0..ROUNDS {
            let refused = |what: &str, holds: bool| match holds {
                true => Ok(()),
                false => Err(format!("failed: {what}: {point:?} in round {round}")),
            };
            queue.put(&Message::new(point)?)?;
            refused("a queue", matches!(queue.get(), Err(GetError::Decode(_))))?;
            joinable.put(&Message::new(point)?)?;
            refused("a joinable queue", joinable.get().is_err())?;
            sender.send(&Message::new(point)?)?;
            refused("a pipe", matches!(receiver.recv::<Message>(), Err(RecvError::Decode(_))))?;
        }
        println!("ok: {point:?}: nothing stays");
    }
    for _ in 0..ROUNDS {
        queue.put(&Message::new(Point::Nowhere)?)?;
        let queues = queue.get()?.queues.ok_or("two queues")?;
        queues.iter().try_for_each(|queue| queue.put(&7))?;
        let both = queues.iter().map(Queue::get).collect::<Result<Vec<_>, _>>()?;
        if both != [7, 7] {
            return Err("another queue".into());
        }
    }
    check("what is right is received", true)?;
    // Nor does anything stay of what a process was spawned with.
    for _ in 0..10 {
        let child = Process::spawn(|message: Message| drop(message), Message::new(Point::Nowhere)?)?;
        ended_well(&child)?;
    }
    for point in POINTS {
        for _ in 0..10 {
            let child = Process::spawn(|message: Message| drop(message), Message::new(point)?)?;
            check("a child with bad arguments fails", !child.join()?.success())?;
        }
    }
    Ok(())
}
