//! The work of one process in a round.

use std::collections::HashMap;
use std::time::Duration;

use sandpool_guest::queue::{GetError, GetManyError};
use sandpool_guest::sync::{BarrierError, ConditionError, LockGuard, RLockGuard, SemaphorePermit};
use sandpool_guest::{
    Connection, Error, Event, ExitStatus, Pipe, Process, Queue, RawArray, Semaphore, SharedMemory, Signal,
    Waitable, parent_process, wait,
};
use sandpool_test_guests::{LONG, Outcome};

use crate::ledger::{
    BEGUN, CHANNELS, JOBS, LOCKS, Ledger, NAMES, PARTIES, RECEIVED, REFUSED, SENT, UNITS, common, doing,
};
use crate::objects::{Item, Objects, Thing, is_full, taken};
use crate::random::Random;

/// One who does things: a worker, or the main process.
pub struct Worker<'a> {
    pub ledger: &'a Ledger,
    pub objects: &'a Objects,
    pub random: Random,
    /// Where it stands in the ledger.
    pub slot: usize,
    /// No other of the round has had this one.
    pub id: u64,
    /// The last item of each producer in each channel.
    pub seen: HashMap<(usize, u64), u64>,
}

impl Worker<'_> {
    pub fn work(&mut self) -> Outcome {
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

    pub fn send(&mut self, channel: usize, timeout: Duration) -> Result<bool, Box<dyn std::error::Error>> {
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

    pub fn receive(&mut self, channel: usize, timeout: Duration) -> Result<bool, Box<dyn std::error::Error>> {
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

    pub fn add(&self, pair: &RawArray<u64>, died: bool, which: usize) -> Outcome {
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
