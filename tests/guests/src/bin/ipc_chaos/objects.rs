//! The objects of a round, and what goes through them.

use std::time::Duration;

use sandpool_guest::pipe::{RecvError, SendError};
use sandpool_guest::queue::{GetError, PutError};
use sandpool_guest::sync::{Abandoned, AcquireError};
use sandpool_guest::{
    Array, Barrier, BoundedSemaphore, Condition, Connection, Error, Event, JoinableQueue, Lock, Pipe, Queue,
    RLock, RawArray, Semaphore, Value,
};
use serde::{Deserialize, Serialize};

use crate::ledger::{JOBS, PARTIES, UNITS};
use crate::random::Random;

/// A number that goes from one process to another.
#[derive(Serialize, Deserialize)]
pub struct Item {
    pub number: u64,
    pub producer: u64,
    pub payload: Vec<u8>,
    pub thing: Thing,
}

/// Something that goes with it. Each can be told from others of its kind by what is in it.
#[derive(Serialize, Deserialize)]
pub enum Thing {
    Nothing,
    Queue(Queue<u64>),
    End(Connection),
    Units(Semaphore),
    Memory(RawArray<u64>),
    Event(Event, Lock, Barrier, Condition),
}

impl Thing {
    pub fn new(random: &mut Random, number: u64) -> Result<Self, Box<dyn std::error::Error>> {
        Ok(match random.below(40) {
            0 => {
                let queue = Queue::new()?;
                queue.put(&number)?;
                Self::Queue(queue)
            }
            1 => {
                let (receiver, sender) = Pipe::simplex()?;
                sender.send(&number)?;
                Self::End(receiver)
            }
            2 => Self::Units(Semaphore::new(number)?),
            3 => Self::Memory(RawArray::from_slice(&[number, !number])?),
            4 => {
                let event = Event::new()?;
                event.set()?;
                Self::Event(event, Lock::new()?, Barrier::new(2)?, Condition::new()?)
            }
            _ => Self::Nothing,
        })
    }

    pub fn is_of(&self, number: u64) -> Result<bool, Box<dyn std::error::Error>> {
        Ok(match self {
            Self::Nothing => true,
            Self::Queue(queue) => queue.try_get()? == number,
            // The sender is gone, or will be.
            Self::End(receiver) => receiver.recv::<u64>()? == number,
            Self::Units(semaphore) => semaphore.value()? == number,
            Self::Memory(memory) => memory.to_vec()? == [number, !number],
            Self::Event(event, lock, barrier, condition) => {
                let guard = lock.try_acquire()?;
                event.is_set()? && barrier.parties()? == 2 && condition.acquire()?.notify_all()? == 0 && {
                    drop(guard);
                    true
                }
            }
        })
    }
}

/// All that is shared in a round.
pub struct Objects {
    pub queues: [Queue<Item>; 2],
    pub jobs: JoinableQueue<Item>,
    pub duplex: [Connection; 2],
    pub simplex: [Connection; 2],
    pub lock: (Lock, RawArray<u64>),
    pub rlock: (RLock, RawArray<u64>),
    pub value: Value<[u64; 2]>,
    pub array: Array<u64>,
    pub condition: (Condition, RawArray<u64>),
    pub lost: Semaphore,
    pub returned: BoundedSemaphore,
    pub event: Event,
    pub barrier: Barrier,
}

impl Objects {
    pub fn new(random: &mut Random) -> Result<Self, Error> {
        let pair = || RawArray::new(2);
        let (left, right) = Pipe::builder().capacity(1 << random.below(16)).duplex()?;
        let (receiver, sender) = Pipe::builder().capacity(1 << random.below(16)).simplex()?;
        Ok(Self {
            queues: [Queue::bounded(1 + random.below(8) as usize)?, Queue::new()?],
            jobs: JoinableQueue::bounded(1 + random.below(16) as usize)?,
            duplex: [left, right],
            simplex: [sender, receiver],
            lock: (Lock::new()?, pair()?),
            rlock: (RLock::new()?, pair()?),
            value: Value::new([0, 0])?,
            array: Array::new(2)?,
            condition: (Condition::new()?, pair()?),
            lost: Semaphore::with_policy(UNITS, Abandoned::Lost)?,
            returned: BoundedSemaphore::new(UNITS)?,
            event: Event::new()?,
            barrier: Barrier::new(PARTIES)?,
        })
    }

    /// The queue of a channel that is one.
    fn queue(&self, channel: usize) -> Option<&Queue<Item>> {
        match channel {
            JOBS => Some(&self.jobs),
            _ => self.queues.get(channel),
        }
    }

    /// The ends of a channel that is a pipe: where to send, and where to receive.
    fn ends(&self, channel: usize) -> [&Connection; 2] {
        let ([left, right], [sender, receiver]) = (&self.duplex, &self.simplex);
        match channel {
            3 => [left, right],
            4 => [right, left],
            _ => [sender, receiver],
        }
    }

    /// Whether it was sent: not if there was no room for so long.
    pub fn send(
        &self,
        channel: usize,
        item: &Item,
        timeout: Duration,
    ) -> Result<bool, Box<dyn std::error::Error>> {
        if let Some(queue) = self.queue(channel) {
            return match queue.put_timeout(item, timeout) {
                Ok(()) => Ok(true),
                Err(PutError::Full) => Ok(false),
                Err(other) => Err(other.into()),
            };
        }
        match self.ends(channel)[0].send_timeout(item, timeout) {
            Ok(()) => Ok(true),
            Err(SendError::Full) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    pub fn receive(
        &self,
        channel: usize,
        timeout: Duration,
    ) -> Result<Option<Item>, Box<dyn std::error::Error>> {
        if let Some(queue) = self.queue(channel) {
            return match queue.get_timeout(timeout) {
                Ok(item) => Ok(Some(item)),
                Err(GetError::Empty) => Ok(None),
                Err(other) => Err(other.into()),
            };
        }
        match self.ends(channel)[1].recv_timeout(timeout) {
            Ok(item) => Ok(Some(item)),
            Err(RecvError::Empty) => Ok(None),
            Err(other) => Err(other.into()),
        }
    }

    pub fn is_empty(&self, channel: usize) -> Result<bool, Box<dyn std::error::Error>> {
        match self.queue(channel) {
            Some(queue) => Ok(queue.is_empty()?),
            None => Ok(!self.ends(channel)[1].poll(Duration::ZERO)?),
        }
    }
}

/// Whether the arena had no room: the items of the others may fill it.
pub fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(Error::ArenaFull | Error::TooManyObjects))
}

/// A guard, and whether it comes from one who died.
pub fn taken<G>(guard: Result<G, AcquireError<G>>) -> Result<(G, bool), Box<dyn std::error::Error>> {
    match guard {
        Ok(guard) => Ok((guard, false)),
        Err(AcquireError::OwnerDied(guard)) => Ok((guard, true)),
        Err(other) => Err(format!("a lock: {other}").into()),
    }
}
