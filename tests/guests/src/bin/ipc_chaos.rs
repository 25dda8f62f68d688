//! Everything at once: `ipc_chaos [SEED] [OPERATIONS] [WORKERS]`.
//!
//! In rounds, until the given number of operations is done: workers do this and that with objects of all kinds, and the main
//! process kills one after the other, at any instruction, and starts another in its place. All waits of workers are so
//! long that one which comes to its end was never woken; the main process sees to it that there is always something to
//! wake for. At the end of a round all is counted and dropped, and the arena is to be as empty as at the start.
//!
//! A worker says in shared memory what it is in the middle of: so it is known what may be lost with it, and nothing
//! else may be.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sandpool_guest::pipe::{RecvError, SendError};
use sandpool_guest::process::Child;
use sandpool_guest::queue::{GetError, GetManyError, JoinError, PutError};
use sandpool_guest::sync::{
    Abandoned, AcquireError, BarrierError, ConditionError, LockGuard, RLockGuard, SemaphorePermit,
};
use sandpool_guest::{
    Array, Barrier, BoundedSemaphore, Condition, Connection, Error, Event, ExitStatus, JoinableQueue, Lock,
    Pipe, Process, Queue, RLock, RawArray, Semaphore, SharedMemory, Signal, Value, Waitable, active_children,
    parent_process, wait,
};
use sandpool_test_guests::{LONG, Outcome, argument, largest_item, most_objects};
use serde::{Deserialize, Serialize};

/// Operations of one round, on average.
const ROUND: u64 = 10_000;
/// Items that a round can number.
const ITEMS: usize = 1 << 17;
/// Names of shared memory.
const NAMES: u64 = 3;
const UNITS: u64 = 3;
const PARTIES: usize = 3;

// The ways that an item has gone, a bit each; above, how often it was received.
const BEGUN: u8 = 1;
const SENT: u8 = 2;
const REFUSED: u8 = 4;
const RECEIVED: u8 = 16;

/// The operations that a worker may be in the middle of. The number of the channel or lock is added.
mod doing {
    pub const SEND: usize = 1;
    pub const RECEIVE: usize = 10;
    pub const LOCK: usize = 30;
    pub const UNIT: usize = 40;
    pub const BARRIER: usize = 50;
    pub const OTHER: usize = 60;
    pub const KINDS: usize = 64;
}

const CHANNELS: usize = 6;
/// The channel that is a joinable queue.
const JOBS: usize = 2;
const LOCKS: usize = 5;

#[sandpool_guest::main]
fn main() -> Outcome {
    let (mut seed, operations, workers) = (argument(0, 1), argument(1, ROUND), argument(2, 6));
    let (room, objects) = (largest_item()?, most_objects()?);
    let mut total = Total::default();
    while total.operations < operations {
        seed += 1;
        if let Err(error) = round(seed, workers, &mut total) {
            // Else it would wait for them, who may wait for it.
            active_children()?.iter().try_for_each(Child::kill)?;
            return Err(format!("seed {seed}: {error}").into());
        }
        // Children that a killed worker has left behind may still be about to end.
        let start = Instant::now();
        while (largest_item()?, most_objects()?) != (room, objects) {
            if start.elapsed() > LONG {
                let now = (largest_item()?, most_objects()?);
                return Err(
                    format!("seed {seed}: of {room} bytes and {objects} objects, {now:?} are left").into()
                );
            }
        }
    }
    println!("ok: as much room in the arena as before");
    println!("operations: {}", total.operations);
    println!("kills: {}", total.kills);
    println!("items: {}", total.items);
    println!("lost items: {}", total.lost);
    println!("abandoned locks: {}", total.abandoned);
    println!("lost units: {}", total.units);
    Ok(())
}

#[derive(Default)]
struct Total {
    operations: u64,
    kills: u64,
    items: u64,
    lost: u64,
    abandoned: u64,
    units: u64,
}

/// The notes of processes about themselves. Each number is changed in one step, so that none is half written.
struct Ledger {
    /// of each item, by its number
    items: RawArray<u8>,
    /// of each worker: what it is in the middle of, and how many items that is about
    doing: RawArray<u64>,
    /// of each worker: operations so far
    operations: RawArray<u64>,
    /// of each worker: units that it holds of the semaphore that loses them
    units: RawArray<u64>,
    /// what [`common`] names
    common: RawArray<u64>,
}

/// Indices of `Ledger::common`.
mod common {
    pub const STOP: usize = 0;
    pub const NEXT_ITEM: usize = 1;
    pub const ABANDONED: usize = 2;
    pub const ABORTS: usize = 3;
    /// from here on: turns at the barrier, by what it returned
    pub const TURNS: usize = 4;
    /// from here on: changes made under each lock
    pub const CHANGES: usize = 8;
    pub const COUNT: usize = 16;
}

impl Ledger {
    fn new(workers: usize) -> Result<Self, Error> {
        Ok(Self {
            items: RawArray::new(ITEMS)?,
            doing: RawArray::new(workers + 1)?,
            operations: RawArray::new(workers + 1)?,
            units: RawArray::new(workers + 1)?,
            common: RawArray::new(common::COUNT)?,
        })
    }

    fn common(&self, index: usize) -> Result<u64, Error> {
        Ok(self.common.atomic(index)?.load())
    }

    fn count(&self, index: usize) -> Result<u64, Error> {
        Ok(self.common.atomic(index)?.fetch_add(1))
    }
}

/// A number that goes from one process to another.
#[derive(Serialize, Deserialize)]
struct Item {
    number: u64,
    producer: u64,
    payload: Vec<u8>,
    thing: Thing,
}

/// Something that goes with it. Each can be told from others of its kind by what is in it.
#[derive(Serialize, Deserialize)]
enum Thing {
    Nothing,
    Queue(Queue<u64>),
    End(Connection),
    Units(Semaphore),
    Memory(RawArray<u64>),
    Event(Event, Lock, Barrier, Condition),
}

impl Thing {
    fn new(random: &mut Random, number: u64) -> Result<Self, Box<dyn std::error::Error>> {
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

    fn is_of(&self, number: u64) -> Result<bool, Box<dyn std::error::Error>> {
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
struct Objects {
    queues: [Queue<Item>; 2],
    jobs: JoinableQueue<Item>,
    duplex: [Connection; 2],
    simplex: [Connection; 2],
    lock: (Lock, RawArray<u64>),
    rlock: (RLock, RawArray<u64>),
    value: Value<[u64; 2]>,
    array: Array<u64>,
    condition: (Condition, RawArray<u64>),
    lost: Semaphore,
    returned: BoundedSemaphore,
    event: Event,
    barrier: Barrier,
}

impl Objects {
    fn new(random: &mut Random) -> Result<Self, Error> {
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
    fn send(
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

    fn receive(&self, channel: usize, timeout: Duration) -> Result<Option<Item>, Box<dyn std::error::Error>> {
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

    fn is_empty(&self, channel: usize) -> Result<bool, Box<dyn std::error::Error>> {
        match self.queue(channel) {
            Some(queue) => Ok(queue.is_empty()?),
            None => Ok(!self.ends(channel)[1].poll(Duration::ZERO)?),
        }
    }
}

/// One who does things: a worker, or the main process.
struct Worker<'a> {
    ledger: &'a Ledger,
    objects: &'a Objects,
    random: Random,
    /// Where it stands in the ledger.
    slot: usize,
    /// No other of the round has had this one.
    id: u64,
    /// The last item of each producer in each channel.
    seen: HashMap<(usize, u64), u64>,
}

impl Worker<'_> {
    fn work(&mut self) -> Outcome {
        while self.ledger.common(common::STOP)? == 0 {
            self.operation()?;
            self.doing(0, 0)?;
            self.ledger.operations.atomic(self.slot)?.fetch_add(1);
        }
        Ok(())
    }

    /// Says what it is in the middle of, and how many items may be lost by it.
    fn doing(&self, what: usize, items: u64) -> Result<(), Error> {
        self.ledger.doing.atomic(self.slot)?.store(items << 8 | what as u64);
        Ok(())
    }

    fn operation(&mut self) -> Outcome {
        let channel = self.random.below(CHANNELS as u64) as usize;
        // Most don't wait, so that there is much to do for those who do.
        let timeout = if self.random.below(8) == 0 { LONG } else { Duration::ZERO };
        let is_enough = |done: bool| if done || timeout.is_zero() { Ok(()) } else { Err("it wasn't woken") };
        match self.random.below(200) {
            0..40 => Ok(is_enough(self.send(channel, timeout)?)?),
            40..80 => Ok(is_enough(self.receive(channel, timeout)?)?),
            80..90 => self.send_many(timeout),
            90..100 => self.receive_many(timeout),
            100..150 => self.change(),
            150..180 => self.units(),
            180..188 => self.event(),
            188..191 => self.barrier(),
            other => match if other < 199 { self.named_memory() } else { self.passing() } {
                Err(error) if is_full(&*error) => Ok(()),
                result => result,
            },
        }
    }

    fn new_item(&mut self) -> Result<Item, Box<dyn std::error::Error>> {
        self.doing(doing::OTHER, 0)?;
        let number = self.ledger.count(common::NEXT_ITEM)?;
        let thing = match Thing::new(&mut self.random, number) {
            // There is no room left for it: then it goes without.
            Err(error) if is_full(&*error) => Thing::Nothing,
            thing => thing?,
        };
        let length = match self.random.below(40) {
            0 => 100_000 + self.random.below(50_000),
            1..4 => 8_100 + self.random.below(100),
            _ => self.random.below(200),
        };
        let payload = (number..number + length).map(|byte| byte as u8).collect();
        Ok(Item { number, producer: self.id, payload, thing })
    }

    fn note(&self, number: u64, bit: u8) -> Result<u8, Error> {
        Ok(self.ledger.items.atomic(number as usize)?.fetch_or(bit))
    }

    fn send(&mut self, channel: usize, timeout: Duration) -> Result<bool, Box<dyn std::error::Error>> {
        let item = self.new_item()?;
        self.doing(doing::SEND + channel, 1)?;
        self.note(item.number, BEGUN)?;
        let is_sent = self.objects.send(channel, &item, timeout)?;
        self.note(item.number, if is_sent { SENT } else { REFUSED })?;
        Ok(is_sent)
    }

    fn send_many(&mut self, timeout: Duration) -> Outcome {
        let channel = self.random.below(2) as usize;
        let count = 1 + self.random.below(4);
        let items = (0..count).map(|_| self.new_item()).collect::<Result<Vec<_>, _>>()?;
        self.doing(doing::SEND + channel, count)?;
        for item in &items {
            self.note(item.number, BEGUN)?;
        }
        let put = self.objects.queues[channel].put_many_timeout(&items, timeout)?;
        for (at, item) in items.iter().enumerate() {
            self.note(item.number, if at < put { SENT } else { REFUSED })?;
        }
        if put == items.len() || timeout.is_zero() {
            Ok(())
        } else {
            Err("a put of several wasn't woken".into())
        }
    }

    fn receive(&mut self, channel: usize, timeout: Duration) -> Result<bool, Box<dyn std::error::Error>> {
        self.doing(doing::RECEIVE + channel, 1)?;
        let Some(item) = self.objects.receive(channel, timeout)? else { return Ok(false) };
        self.received(channel, &item)?;
        if channel == JOBS {
            self.objects.jobs.task_done()?;
        }
        Ok(true)
    }

    fn receive_many(&mut self, timeout: Duration) -> Outcome {
        let (channel, most) = (self.random.below(2) as usize, 1 + self.random.below(4));
        self.doing(doing::RECEIVE + channel, most)?;
        let items = match self.objects.queues[channel].get_many_timeout(most as usize, timeout) {
            Err(GetManyError::Nothing(GetError::Empty)) if timeout.is_zero() => Vec::new(),
            items => items?,
        };
        items.iter().try_for_each(|item| self.received(channel, item))
    }

    fn received(&mut self, channel: usize, item: &Item) -> Outcome {
        let number = item.number;
        let before = self.ledger.items.atomic(number as usize)?.fetch_add(RECEIVED);
        if before & BEGUN == 0 || before & REFUSED != 0 || before >= RECEIVED {
            return Err(format!("item {number} was received, which is {before:#x}").into());
        }
        if !item.payload.iter().enumerate().all(|(at, byte)| *byte == (number + at as u64) as u8) {
            return Err(format!("item {number} is damaged").into());
        }
        if !item.thing.is_of(number)? {
            return Err(format!("what came with item {number} is another's").into());
        }
        let last = self.seen.insert((channel, item.producer), number);
        if last >= Some(number) {
            return Err(format!("item {number} of {} came behind {last:?}", item.producer).into());
        }
        Ok(())
    }

    /// Adds one to both of two numbers that a lock guards. They differ only if somebody died in between.
    fn change(&mut self) -> Outcome {
        let which = self.random.below(LOCKS as u64) as usize;
        self.doing(doing::LOCK + which, 1)?;
        let objects = self.objects;
        match which {
            0 => {
                let (guard, died) = taken(objects.lock.0.acquire_timeout(LONG))?;
                self.add(&objects.lock.1, died, which)?;
                Ok(LockGuard::release(guard)?)
            }
            1 => {
                let (guard, died) = taken(objects.rlock.0.acquire_timeout(LONG))?;
                let inner = (0..self.random.below(3)).map(|_| objects.rlock.0.try_acquire());
                let inner = inner.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
                self.add(&objects.rlock.1, died, which)?;
                inner.into_iter().try_for_each(RLockGuard::release)?;
                Ok(guard.release()?)
            }
            2 => {
                let (guard, died) = taken(objects.value.get_lock().acquire_timeout(LONG))?;
                let [first, second] = objects.value.get_obj().get()?;
                self.check(first, second, died)?;
                objects.value.get_obj().set([first + 1, second])?;
                linger();
                objects.value.get_obj().set([first + 1, first + 1])?;
                self.ledger.count(common::CHANGES + which)?;
                Ok(guard.release()?)
            }
            3 => {
                let (mut guard, died) = taken(objects.array.lock())?;
                self.check(guard[0], guard[1], died)?;
                guard[0] += 1;
                linger();
                guard[1] = guard[0];
                self.ledger.count(common::CHANGES + which)?;
                drop(guard);
                Ok(())
            }
            _ => self.notify_or_wait(which),
        }
    }

    /// Waits for the next change that somebody makes under the condition's lock, or makes one.
    fn notify_or_wait(&mut self, which: usize) -> Outcome {
        let (condition, pair) = &self.objects.condition;
        let (guard, mut died) = taken(condition.acquire_timeout(LONG))?;
        // The next holder after a dead one puts it right first.
        if !died && self.random.below(8) == 0 {
            let before = pair.atomic(0)?.load();
            while !died && pair.atomic(0)?.load() == before && self.ledger.common(common::STOP)? == 0 {
                match guard.wait_timeout(LONG) {
                    Ok(true) => {}
                    Ok(false) => return Err("a condition wasn't notified".into()),
                    Err(ConditionError::OwnerDied { .. }) => died = true,
                    Err(other) => return Err(other.into()),
                }
            }
        }
        self.add(pair, died, which)?;
        match self.random.below(2) {
            0 => guard.notify(1 + self.random.below(2)).map(drop)?,
            _ => guard.notify_all().map(drop)?,
        }
        Ok(guard.release()?)
    }

    fn add(&self, pair: &RawArray<u64>, died: bool, which: usize) -> Outcome {
        let (first, second) = (pair.atomic(0)?.load(), pair.atomic(1)?.load());
        self.check(first, second, died)?;
        pair.atomic(0)?.store(first + 1);
        linger();
        pair.atomic(1)?.store(first + 1);
        self.ledger.count(common::CHANGES + which)?;
        Ok(())
    }

    fn check(&self, first: u64, second: u64, died: bool) -> Outcome {
        self.ledger.common.atomic(common::ABANDONED)?.fetch_add(u64::from(died));
        // The process that puts right what a dead one has left may die there as well.
        if first == second || (died && first > second) {
            Ok(())
        } else {
            Err(format!("{first} and {second} under one lock, whose owner has died: {died}").into())
        }
    }

    fn units(&mut self) -> Outcome {
        self.doing(doing::UNIT, 1)?;
        if self.random.below(2) == 0 {
            let unit = self.objects.returned.acquire_timeout(LONG)?;
            linger();
            let value = self.objects.returned.value()?;
            SemaphorePermit::release(unit)?;
            return if value < UNITS { Ok(()) } else { Err(format!("{value} units are free").into()) };
        }
        let own = self.ledger.units.atomic(self.slot)?;
        let unit = self.objects.lost.acquire_timeout(LONG)?;
        own.store(1);
        linger();
        let all = self.ledger.units.to_vec()?.iter().sum::<u64>();
        own.store(0);
        unit.release()?;
        if all <= UNITS { Ok(()) } else { Err(format!("{all} units are held").into()) }
    }

    fn event(&mut self) -> Outcome {
        self.doing(doing::OTHER, 0)?;
        match self.random.below(3) {
            0 => Ok(self.objects.event.set()?),
            1 => Ok(self.objects.event.clear()?),
            _ if self.random.below(4) != 0 => Ok(self.objects.event.is_set().map(|_| ())?),
            _ if self.objects.event.wait_timeout(LONG)? => Ok(()),
            _ => Err("an event wasn't set".into()),
        }
    }

    fn barrier(&mut self) -> Outcome {
        self.doing(doing::BARRIER, 1)?;
        let barrier = &self.objects.barrier;
        let index = match self.random.below(4) {
            0 => barrier.wait_with_timeout(LONG, || Ok::<_, Error>(())).map_err(|error| error.to_string()),
            _ => barrier.wait_timeout(LONG).map_err(|error| match error {
                BarrierError::Host(errno) => errno.to_string(),
                _ => BarrierError::<Error>::Broken.to_string(),
            }),
        };
        match index {
            Ok(index) if index < PARTIES => {
                self.ledger.count(common::TURNS + index).map(|_| ()).map_err(Into::into)
            }
            Err(text) if text == BarrierError::<Error>::Broken.to_string() => Ok(()),
            other => Err(format!("a barrier: {other:?}").into()),
        }
    }

    fn named_memory(&mut self) -> Outcome {
        self.doing(doing::OTHER, 0)?;
        let number = self.random.below(NAMES);
        let (name, size) = (format!("chaos-{number}"), 1 + number as usize * 70_000);
        let memory = match SharedMemory::create_named(&name, size) {
            Err(Error::NameTaken) => SharedMemory::attach(&name),
            made => made,
        };
        let memory = match memory {
            Err(Error::NotFound) => return Ok(()),
            memory => memory?,
        };
        let last = memory.get(size - 1)?;
        memory.set(size - 1, last ^ 1)?;
        if memory.size() != size || last & !1 != 0 {
            return Err(format!("{name} has {} bytes, of which the last is {last}", memory.size()).into());
        }
        match memory.unlink() {
            Ok(()) | Err(Error::NotFound) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }

    /// Things that nobody else has, and a process that has them as well, for a moment.
    fn passing(&mut self) -> Outcome {
        self.doing(doing::OTHER, 0)?;
        let (queue, event, semaphore) = (Queue::<u64>::bounded(2)?, Event::new()?, Semaphore::new(0)?);
        let (ours, theirs) = Pipe::duplex()?;
        let child = match Process::fork(|| {
            let _ = be_a_child(&queue, &event, &semaphore, &theirs);
        }) {
            Err(Error::TooManyProcesses) => return Ok(()),
            child => child?,
        };
        ours.send(&7_u64)?;
        let end = match self.random.below(2) {
            0 => {
                semaphore.acquire_timeout(LONG)?.forget();
                event.set()?;
                let answer = (queue.get_timeout(LONG)?, ours.recv_timeout::<u64>(LONG)?);
                if answer != (7, 8) {
                    return Err(format!("the answer was {answer:?}").into());
                }
                ExitStatus::Exited(0)
            }
            _ => {
                child.kill()?;
                ExitStatus::Signaled(Signal::KILL)
            }
        };
        match child.join_timeout(LONG)? {
            Some(status) if status == end => Ok(()),
            other => Err(format!("a child ended: {other:?}").into()),
        }
    }
}

/// Whether the arena had no room: the items of the others may fill it.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(Error::ArenaFull | Error::TooManyObjects))
}

/// The work of a worker's child, unless the worker is killed: then the child is left alone, and all of this may fail.
fn be_a_child(queue: &Queue<u64>, event: &Event, semaphore: &Semaphore, theirs: &Connection) -> Outcome {
    let parent = parent_process()?.ok_or("no parent")?.sentinel()?;
    queue.put(&theirs.recv::<u64>()?)?;
    semaphore.release()?;
    wait(&[event as &dyn Waitable, &parent], None)?;
    Ok(theirs.send(&8_u64)?)
}

/// Stays where it is for a moment, so that some are killed there.
fn linger() {
    (0..2_000).for_each(|number| drop(std::hint::black_box(Box::new(number))));
}

/// A guard, and whether it comes from one who died.
fn taken<G>(guard: Result<G, AcquireError<G>>) -> Result<(G, bool), Box<dyn std::error::Error>> {
    match guard {
        Ok(guard) => Ok((guard, false)),
        Err(AcquireError::OwnerDied(guard)) => Ok((guard, true)),
        Err(other) => Err(format!("a lock: {other}").into()),
    }
}

fn round(seed: u64, workers: usize, total: &mut Total) -> Outcome {
    let mut random = Random::new(seed, 0);
    let ledger = Ledger::new(workers)?;
    let objects = Objects::new(&mut random)?;
    let mut running = Vec::new();
    let (mut started, mut kills) = (0, 0);
    // The operations that killed processes were in the middle of.
    let mut in_doubt = [0; doing::KINDS];
    let mut main = Worker {
        ledger: &ledger,
        objects: &objects,
        random: Random::new(seed, 1),
        slot: workers,
        id: 0,
        seen: HashMap::new(),
    };
    let mut units = 0;
    let mut stopped = None;
    let length = 1 + random.below(ROUND * 2);
    while stopped.is_none() || running.iter().any(Option::is_some) {
        running.resize_with(workers, || None);
        if stopped.is_none() {
            for (slot, worker) in running.iter_mut().enumerate().filter(|(_, worker)| worker.is_none()) {
                started += 1;
                *worker = Some(start(seed, started, slot, &ledger, &objects)?);
            }
        }
        let sentinels: Vec<_> = running.iter().flatten().map(Process::sentinel).collect();
        wait(&sentinels, Some(Duration::from_micros(random.below(2_000))))?;
        for worker in running.iter().flatten() {
            if stopped.is_none() && random.below(8) == 0 {
                worker.kill()?;
            }
        }
        for (slot, place) in running.iter_mut().enumerate() {
            match place.as_ref().and_then(Process::exit_status) {
                None => continue,
                Some(ExitStatus::Exited(0)) => {}
                Some(ExitStatus::Signaled(Signal::KILL)) => {
                    kills += 1;
                    let doing = ledger.doing.atomic(slot)?.swap(0);
                    in_doubt[(doing & 0xff) as usize] += doing >> 8;
                    ledger.units.atomic(slot)?.store(0);
                }
                Some(other) => return Err(format!("a worker ended: {other}").into()),
            }
            *place = None;
        }
        // Given back only when nobody is counted any more as their holder: looked at in this order, each that is counted
        // among the dead's and not yet in their stead is counted here as well.
        let died = objects.lost.died()?;
        let held = ledger.units.to_vec()?.iter().sum();
        while units < died.saturating_sub(held) {
            objects.lost.release()?;
            units += 1;
        }
        see_to_it(&mut main)?;
        let operations: u64 = ledger.operations.to_vec()?.iter().sum();
        let is_full = ledger.common(common::NEXT_ITEM)? + 10_000 > ITEMS as u64;
        if stopped.is_none() && (operations >= length || is_full) {
            ledger.common.atomic(common::STOP)?.store(1);
            stopped = Some(Instant::now());
        }
        if stopped.is_some_and(|since| since.elapsed() > LONG) {
            return Err("workers don't come to their end".into());
        }
    }
    for channel in 0..CHANNELS {
        while main.receive(channel, Duration::ZERO)? {}
    }
    total.operations += ledger.operations.to_vec()?.iter().sum::<u64>();
    total.kills += kills;
    total.units += units;
    total.abandoned += ledger.common(common::ABANDONED)?;
    all_is_counted(&ledger, &objects, &in_doubt, total)?;
    for name in 0..NAMES {
        match SharedMemory::attach(&format!("chaos-{name}")).and_then(|memory| memory.unlink()) {
            Ok(()) | Err(Error::NotFound) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

fn start(seed: u64, id: u64, slot: usize, ledger: &Ledger, objects: &Objects) -> Result<Process, Error> {
    Process::builder().name(format!("worker {id}")).fork(|| {
        let random = Random::new(seed, id + 1);
        let mut worker = Worker { ledger, objects, random, slot, id, seen: HashMap::new() };
        worker.work()
    })
}

/// Sees to it that nobody waits for ever: puts where there is nothing to get, and so on. Never waits itself.
fn see_to_it(main: &mut Worker<'_>) -> Outcome {
    for channel in 0..CHANNELS {
        // A receive helps a process that waits for room, and a send one that waits for an item.
        if main.objects.is_empty(channel)? {
            main.send(channel, Duration::ZERO)?;
        } else if main.random.below(4) == 0 {
            main.receive(channel, Duration::ZERO)?;
        }
    }
    let Objects { event, barrier, condition, returned, .. } = main.objects;
    if !event.is_set()? && main.random.below(2) == 0 {
        event.set()?;
    }
    if barrier.is_broken()? {
        barrier.reset()?;
    } else if barrier.n_waiting()? != 0 && main.random.below(4) == 0 {
        main.ledger.count(common::ABORTS)?;
        barrier.abort()?;
    }
    if returned.value()? > UNITS {
        return Err("more units than there were".into());
    }
    // The holder of the lock notifies when it is done.
    match condition.0.try_acquire() {
        Ok(guard) => guard.notify_all().map(drop)?,
        Err(AcquireError::OwnerDied(guard)) => {
            main.add(&condition.1, true, LOCKS - 1)?;
            guard.notify_all()?;
        }
        Err(AcquireError::WouldBlock) => {}
        Err(other) => return Err(other.to_string().into()),
    }
    Ok(())
}

/// When all workers have ended: nothing is missing but what was in the hands of those who were killed.
fn all_is_counted(
    ledger: &Ledger,
    objects: &Objects,
    in_doubt: &[u64; doing::KINDS],
    total: &mut Total,
) -> Outcome {
    let sum = |from: usize, count: usize| in_doubt[from..from + count].iter().sum::<u64>();
    let (mut sent, mut lost, mut unknown) = (0, 0, 0);
    for item in ledger.items.to_vec()? {
        let is_received = item >= RECEIVED;
        sent += u64::from(item & SENT != 0);
        lost += u64::from(item & SENT != 0 && !is_received);
        unknown += u64::from(item & (BEGUN | SENT | REFUSED) == BEGUN && !is_received);
        if item >= 2 * RECEIVED || (item & REFUSED != 0 && is_received) {
            return Err(format!("an item is {item:#x}").into());
        }
    }
    total.items += sent;
    total.lost += lost;
    let (receives, sends) = (sum(doing::RECEIVE, CHANNELS), sum(doing::SEND, CHANNELS));
    if lost > receives || unknown > sends + receives {
        return Err(format!("{lost} of {receives} lost, {unknown} of {sends} unknown").into());
    }
    for channel in 0..CHANNELS {
        if !objects.is_empty(channel)? {
            return Err(format!("channel {channel} isn't empty").into());
        }
    }
    match objects.jobs.join_timeout(Duration::ZERO) {
        Ok(()) => {}
        Err(JoinError::Lost(jobs)) if jobs as u64 <= in_doubt[doing::RECEIVE + JOBS] => {}
        Err(other) => return Err(other.into()),
    }

    let pairs = |pair: &RawArray<u64>| Ok::<_, Error>((pair.get(0)?, pair.get(1)?));
    let [first, second] = objects.value.get_obj().get()?;
    let elements = taken(objects.array.lock())?.0.to_vec();
    let all = [
        pairs(&objects.lock.1)?,
        pairs(&objects.rlock.1)?,
        (first, second),
        (elements[0], elements[1]),
        pairs(&objects.condition.1)?,
    ];
    for (which, (first, second)) in all.into_iter().enumerate() {
        let died = in_doubt[doing::LOCK + which];
        let changes = ledger.common(common::CHANGES + which)?;
        if first - second > 1 || changes > first || first > changes + died {
            return Err(format!("lock {which}: {first} and {second} by {changes}, {died} in doubt").into());
        }
    }

    let turns =
        (0..PARTIES).map(|index| ledger.common(common::TURNS + index)).collect::<Result<Vec<_>, _>>()?;
    let (most, least) = (turns.iter().max(), turns.iter().min());
    let doubt = in_doubt[doing::BARRIER] + ledger.common(common::ABORTS)?;
    if most > least.map(|least| least + doubt).as_ref() {
        return Err(format!("turns at the barrier: {turns:?}, {doubt} in doubt").into());
    }
    let units = (objects.lost.value()?, objects.returned.value()?);
    if units != (UNITS, UNITS) || objects.lost.died()? + objects.returned.died()? > in_doubt[doing::UNIT] {
        let died = (objects.lost.died()?, objects.returned.died()?);
        return Err(
            format!("{units:?} units, {died:?} of the dead, {} in doubt", in_doubt[doing::UNIT]).into()
        );
    }
    Ok(())
}

struct Random(u64);

impl Random {
    fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self((seed << 20 ^ stream).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..4).for_each(|_| _ = random.below(2));
        random
    }

    /// A number below this.
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }
}
