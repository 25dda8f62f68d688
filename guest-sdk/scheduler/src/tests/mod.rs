//! An owner that does with the scheduler what both pools do, and checks after each step that no task was lost or done
//! twice.

use std::collections::BTreeMap;

use super::*;

mod decisions;
mod model;
mod outcomes;

/// How often a task may be tried after its first attempt.
const RETRIES: u32 = 1;

/// Some tasks that are given out together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chunk {
    ids: Vec<u32>,
    is_cancelled: bool,
}

impl Work for Chunk {
    fn tasks(&self) -> u32 {
        self.ids.len() as u32
    }

    fn bytes(&self) -> u64 {
        5 + self.ids.iter().map(|id| u64::from(*id)).sum::<u64>()
    }

    fn slice(&self, from: u32, to: u32) -> Self {
        Self { ids: self.ids[from as usize..to as usize].to_vec(), is_cancelled: false }
    }
}

/// The owner of a pool.
#[derive(Debug, Clone, Default)]
struct Owner {
    scheduler: Scheduler<Chunk>,
    /// Entries in the queue, each as it was put.
    queue: Vec<(u64, Chunk)>,
    /// Number of tasks that were submitted: their ids are those below.
    submitted: u32,
    /// Number of outcomes of each task.
    outcomes: BTreeMap<u32, u32>,
    /// Number of failed attempts of each task.
    failures: BTreeMap<u32, u32>,
    has_ended: bool,
}

impl Owner {
    fn submit(&mut self, tasks: u32) {
        if self.has_ended {
            return;
        }
        let ids = (self.submitted..self.submitted + tasks).collect();
        self.submitted += tasks;
        self.scheduler.submit(Chunk { ids, is_cancelled: false });
    }

    /// Gives out at most `most` entries; the queue has room for `room` of them, and the next of them may be too large
    /// for any.
    fn give_out(&mut self, most: usize, room: usize, is_too_large: bool) {
        let mut dropped = Vec::new();
        let mut offered = Vec::new();
        let count = self.scheduler.offer(
            |entry| dropped.push(entry),
            |number, chunk, ahead| {
                if chunk.is_cancelled {
                    return Take::Drop;
                }
                if ahead.entries >= most {
                    return Take::Stop;
                }
                offered.push((number, chunk.clone()));
                if ahead.entries + 1 == most { Take::Last } else { Take::Next }
            },
        );
        assert_eq!(count, offered.len());
        dropped.into_iter().for_each(|entry| self.done(&entry.work.ids));
        let put = room.min(count);
        let mut told = Vec::new();
        self.scheduler.put(put, |number, chunk| told.push((number, chunk.clone())));
        assert_eq!(told, offered[..put], "each has the number, and the place, that it was offered with");
        self.queue.extend(told);
        if is_too_large
            && put < count
            && let Some(entry) = self.scheduler.too_large()
        {
            self.done(&entry.work.ids);
        }
    }

    /// Notes an outcome of each of these tasks.
    fn done(&mut self, ids: &[u32]) {
        ids.iter().for_each(|id| *self.outcomes.entry(*id).or_default() += 1);
    }

    /// Handles a failed attempt of a task.
    fn failed(&mut self, entry: &Entry<Chunk>, part: u32) {
        let id = entry.work.ids[part as usize];
        *self.failures.entry(id).or_default() += 1;
        if !self.scheduler.retry_part(entry, part, RETRIES) {
            self.done(&[id]);
        }
    }

    /// Delivers results of the first tasks of an entry, one of which may have failed.
    fn deliver(&mut self, entry: Entry<Chunk>, parts: u32, failed: Option<u32>) {
        if entry.work.is_cancelled {
            return self.done(&entry.work.ids);
        }
        let parts = parts.min(entry.work.tasks());
        for part in 0..parts {
            if failed == Some(part) {
                self.failed(&entry, part);
            } else {
                self.done(&entry.work.ids[part as usize..=part as usize]);
            }
        }
        self.scheduler.rest_not_begun(&entry, parts);
    }

    /// Takes the last result of an entry.
    fn finished(&mut self, number: u64, parts: u32, failed: Option<u32>) {
        if let Some(entry) = self.scheduler.finished(number) {
            assert!(self.scheduler.finished(number).is_none() && self.scheduler.get(number).is_none());
            let is_cancelled = entry.work.is_cancelled;
            let mut rest = entry.rest();
            rest.work.is_cancelled = is_cancelled;
            self.deliver(rest, parts, failed);
        }
    }

    fn partly_finished(&mut self, number: u64, parts: u32, failed: Option<u32>) {
        if let Some(entry) = self.scheduler.partly_finished(number, parts) {
            assert!(entry.work.tasks() <= parts);
            self.deliver(entry, parts, failed);
        }
    }

    /// Buries a worker. The tasks of the entry that it was at have left results, up to this one. Owners take that
    /// entry before the others or after them.
    fn bury(&mut self, claims: Claims, at: u32, is_first: bool) {
        let before = self.scheduler.clone();
        let mut begun = is_first.then(|| self.scheduler.take_begun(&claims)).flatten();
        let mut dropped = Vec::new();
        self.scheduler.give_back(&claims, |entry| {
            if !entry.work.is_cancelled {
                return Some(entry);
            }
            dropped.push(entry);
            None
        });
        self.check_order(&before, &claims);
        begun = begun.or_else(|| self.scheduler.take_begun(&claims));
        for entry in dropped {
            let done = entry.done() as usize;
            self.done(&entry.work.ids[done..]);
        }
        let Some(entry) = begun else { return };
        let (done, tasks) = (entry.done(), entry.work.tasks());
        if entry.work.is_cancelled {
            return self.done(&entry.work.ids[done as usize..]);
        }
        if done == tasks {
            return;
        }
        let at = at.clamp(done, tasks - 1);
        self.done(&entry.work.ids[done as usize..at as usize]);
        self.scheduler.rest_not_begun(&entry, at + 1);
        self.failed(&entry, at);
    }

    /// Entries that are given out again are before others, and in the order in which they were put.
    fn check_order(&self, before: &Scheduler<Chunk>, claims: &Claims) {
        let claimed = before.ledger.iter().flatten().zip(before.numbers()).filter(|(_, number)| {
            let is_begun = claims.has_begun && *number == claims.first;
            (claims.first..claims.end).contains(number) && !is_begun
        });
        let mut expected: Vec<Vec<u32>> = claimed
            .filter(|(entry, _)| !entry.work.is_cancelled)
            .map(|(entry, _)| entry.work.ids[entry.done() as usize..].to_vec())
            .filter(|ids| !ids.is_empty())
            .collect();
        expected.extend(before.backlog().map(|entry| entry.work.ids.clone()));
        let backlog: Vec<_> = self.scheduler.backlog().map(|entry| entry.work.ids.clone()).collect();
        assert_eq!(backlog, expected);
    }

    /// Cancels the tasks with these remainders: those that wait are gone, and those that were put are marked.
    fn cancel(&mut self, remainder: u32) {
        let is_it = |chunk: &Chunk| chunk.ids.first().is_some_and(|id| id % 4 == remainder);
        let mut cancelled = Vec::new();
        self.scheduler.cancel(|chunk| {
            if is_it(chunk) {
                cancelled.extend(chunk.ids.clone());
            }
            is_it(chunk)
        });
        self.done(&cancelled);
        self.scheduler.put_mut().filter(|chunk| is_it(chunk)).for_each(|chunk| chunk.is_cancelled = true);
    }

    /// Marks tasks as cancelled that still wait, as an application does.
    fn give_up_waiting(&mut self, remainder: u32) {
        for entry in &mut self.scheduler.backlog {
            entry.work.is_cancelled |= entry.work.ids.first().is_some_and(|id| id % 4 == remainder);
        }
    }

    fn end(&mut self) {
        self.has_ended = true;
        let left = self.scheduler.drain();
        left.iter().for_each(|entry| self.done(&entry.work.ids));
        assert_eq!((self.scheduler.unfinished(), self.scheduler.under_way()), (0, Counts::default()));
    }

    fn start_over(&mut self) {
        let left = self.scheduler.start_over();
        left.iter().for_each(|entry| self.done(&entry.work.ids));
        self.queue.clear();
    }

    /// Checks that each task is in one place, and that all counts agree with the contents.
    fn check(&self) {
        let scheduler = &self.scheduler;
        let mut places = self.outcomes.clone();
        for entry in scheduler.backlog() {
            assert_eq!(entry.done(), 0);
            entry.work.ids.iter().for_each(|id| *places.entry(*id).or_default() += 1);
        }
        let mut counts = Counts::default();
        for entry in scheduler.ledger.iter().flatten() {
            counts.entries += 1;
            counts.tasks += u64::from(entry.work.tasks());
            counts.bytes += entry.work.bytes();
            let left = &entry.work.ids[entry.done() as usize..];
            left.iter().for_each(|id| *places.entry(*id).or_default() += 1);
            assert!((1..=RETRIES + 1).contains(&entry.attempts()), "{entry:?}");
        }
        assert_eq!(scheduler.under_way(), counts);
        assert_eq!(scheduler.unfinished(), counts.entries + scheduler.waiting());
        assert!(!matches!(scheduler.ledger.front(), Some(None)), "the ledger doesn't grow with the pool");
        let expected = (0..self.submitted).map(|id| (id, 1)).collect();
        assert_eq!(places, expected, "each task is in one place, or has one outcome");
        assert!(self.failures.values().all(|failures| *failures <= RETRIES + 1), "{:?}", self.failures);
        assert!(scheduler.backlog().all(|entry| entry.attempts() <= RETRIES), "there is one attempt left");
    }
}
