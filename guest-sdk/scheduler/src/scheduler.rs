//! Backlog and ledger: entries that are still to be given out, and entries that were.

use std::collections::VecDeque;

use crate::entry::{Entry, Work};

/// An owner's answer to an entry that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// The entry is for the queue, and so may be the next.
    Next,
    /// The entry is for the queue, and none after it.
    Last,
    /// The entry stays where it is, and so do all after it.
    Stop,
    /// Nobody waits for the entry any more. It leaves the backlog, at the latest when it is the next to be put.
    Drop,
}

/// Counts of entries that are under way: in the queue or claimed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Number of entries, those without tasks included.
    pub entries: usize,
    /// Number of tasks.
    pub tasks: u64,
    /// Number of bytes.
    pub bytes: u64,
}

impl Counts {
    #[inline]
    fn add(&mut self, tasks: u32, bytes: u64) {
        self.entries += 1;
        self.tasks += u64::from(tasks);
        self.bytes += bytes;
    }
}

/// The entries that a worker has claimed and not finished, as the worker's last words have it.
///
/// The numbers may be anything: a worker of a hostile program writes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// Number of the first entry.
    pub first: u64,
    /// Number after that of the last entry.
    pub end: u64,
    /// The worker has begun the first entry.
    pub has_begun: bool,
}

/// The entries of a pool.
#[derive(Debug, Clone)]
pub struct Scheduler<W> {
    /// Entries that are still to be put.
    pub(crate) backlog: VecDeque<Entry<W>>,
    /// Entries that were put and aren't finished, by their numbers, which begin with `first`. The first of them is
    /// `Some`.
    pub(crate) ledger: VecDeque<Option<Entry<W>>>,
    first: u64,
    /// Counts of the entries in the ledger.
    under_way: Counts,
}

impl<W> Default for Scheduler<W> {
    fn default() -> Self {
        Self { backlog: VecDeque::new(), ledger: VecDeque::new(), first: 0, under_way: Counts::default() }
    }
}

impl<W: Work> Scheduler<W> {
    /// A pool without entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes new work, after all other.
    #[inline]
    pub fn submit(&mut self, work: W) {
        self.backlog.push_back(Entry::new(work));
    }

    /// Counts of what was put and isn't finished.
    #[must_use]
    pub fn under_way(&self) -> Counts {
        self.under_way
    }

    /// Number of entries that are still to be put.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.backlog.len()
    }

    /// Number of entries that aren't finished, put or not.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.under_way.entries + self.backlog.len()
    }

    /// The entries that are put next, in their order.
    pub fn backlog(&self) -> impl Iterator<Item = &Entry<W>> {
        self.backlog.iter()
    }

    /// The entries that are put next, in their order.
    pub fn backlog_mut(&mut self) -> impl Iterator<Item = &mut W> {
        self.backlog.iter_mut().map(|entry| &mut entry.work)
    }

    /// The entry that was put first of those that aren't finished.
    #[must_use]
    pub fn oldest(&self) -> Option<&Entry<W>> {
        self.ledger.front()?.as_ref()
    }

    /// Offers entries of the backlog, one after another. `take` gets each with the number that the queue will give
    /// it, and with counts of what is ahead of it: under way, or offered before it. Returns how many entries were
    /// taken: these may be [put](Self::put) now. `dropped` gets entries that nobody waits for.
    #[inline]
    pub fn offer(
        &mut self,
        mut dropped: impl FnMut(Entry<W>),
        mut take: impl FnMut(u64, &mut W, Counts) -> Take,
    ) -> usize {
        let mut number = self.first + self.ledger.len() as u64;
        let mut ahead = self.under_way;
        let mut count = 0;
        while let Some(entry) = self.backlog.get_mut(count) {
            match take(number, &mut entry.work, ahead) {
                Take::Next => {}
                Take::Last => return count + 1,
                Take::Stop => break,
                Take::Drop if count == 0 => {
                    self.backlog.pop_front().into_iter().for_each(&mut dropped);
                    continue;
                }
                Take::Drop => break,
            }
            ahead.add(entry.work.tasks(), entry.work.bytes());
            number += 1;
            count += 1;
        }
        count
    }

    /// Notes that the next `count` entries of the backlog are in the queue now: an attempt of each has begun. `told`
    /// gets each with its number.
    #[inline]
    pub fn put(&mut self, count: usize, mut told: impl FnMut(u64, &mut W)) {
        let count = count.min(self.backlog.len());
        for mut entry in self.backlog.drain(..count) {
            told(self.first + self.ledger.len() as u64, &mut entry.work);
            entry.attempts = entry.attempts.saturating_add(1);
            entry.bytes = entry.work.bytes();
            self.under_way.add(entry.work.tasks(), entry.bytes);
            self.ledger.push_back(Some(entry));
        }
    }

    /// Notes that this work is in the queue now, before what is in the backlog: such as an entry that has a worker
    /// leave.
    pub fn put_at_once(&mut self, work: W) {
        self.backlog.push_front(Entry::new(work));
        self.put(1, |_, _| {});
    }

    /// Notes that the next entry of the backlog can never be put, because it is too large. If it has several tasks,
    /// each of them becomes an entry of its own, in the same place; otherwise the entry is returned.
    #[must_use]
    pub fn too_large(&mut self) -> Option<Entry<W>> {
        let entry = self.backlog.pop_front()?;
        if entry.work.tasks() <= 1 {
            return Some(entry);
        }
        for part in (0..entry.work.tasks()).rev() {
            self.backlog.push_front(entry.slice(part, part + 1));
        }
        None
    }

    /// The numbers of the entries in the ledger.
    #[cfg(test)]
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u64> {
        let numbered = self.ledger.iter().zip(self.first..);
        numbered.filter_map(|(entry, number)| entry.as_ref().map(|_| number))
    }

    #[inline]
    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    /// The entry that was put with this number, if it isn't finished.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Entry<W>> {
        self.ledger.get(self.place(number)?)?.as_ref()
    }

    /// The entry that was put with this number, if it isn't finished.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Entry<W>> {
        let place = self.place(number)?;
        self.ledger.get_mut(place)?.as_mut()
    }

    /// Takes the entry that was put with this number, because no more results of it come. [`Entry::rest`] has its
    /// tasks that have none yet. `None` if there is no such entry, or it was taken before.
    #[inline]
    pub fn finished(&mut self, number: u64) -> Option<Entry<W>> {
        let place = self.place(number)?;
        let entry = self.ledger.get_mut(place)?.take()?;
        while let Some(None) = self.ledger.front() {
            self.ledger.pop_front();
            self.first += 1;
        }
        self.under_way.entries -= 1;
        self.under_way.tasks -= u64::from(entry.work.tasks());
        self.under_way.bytes -= entry.bytes;
        Some(entry)
    }

    /// Takes the next `parts` tasks of an entry that goes on. `None` if there is no such entry, or no such task of it.
    pub fn partly_finished(&mut self, number: u64, parts: u32) -> Option<Entry<W>> {
        let entry = self.get_mut(number)?;
        let from = entry.done;
        entry.done = from.saturating_add(parts).min(entry.work.tasks());
        (from < entry.done).then(|| entry.slice(from, entry.done))
    }

    /// Takes the entry that a dead worker was at, if it was at one. [`Entry::done`] tells which of its tasks have
    /// results.
    pub fn take_begun(&mut self, claims: &Claims) -> Option<Entry<W>> {
        if !claims.has_begun || claims.first >= claims.end {
            return None;
        }
        self.finished(claims.first)
    }

    /// Gives out again what a dead worker had claimed and not begun: before all others, and in the same order. `keep`
    /// gets each of these entries, also those without tasks, and returns those that somebody still waits for.
    pub fn give_back(&mut self, claims: &Claims, mut keep: impl FnMut(Entry<W>) -> Option<Entry<W>>) {
        let first = if claims.has_begun { claims.first.saturating_add(1) } else { claims.first };
        // Cuts claims that no honest worker has.
        let end = claims.end.min(self.first + self.ledger.len() as u64);
        for number in (first.max(self.first)..end).rev() {
            if let Some(entry) = self.finished(number).and_then(&mut keep) {
                self.not_begun(entry);
            }
        }
    }

    /// Gives an entry out again, before all others, because nobody has begun it. Tasks that have a result aren't
    /// given out.
    pub fn not_begun(&mut self, entry: Entry<W>) {
        let mut entry = entry.rest();
        if entry.work.tasks() != 0 {
            entry.attempts = entry.attempts.saturating_sub(1);
            self.backlog.push_front(entry);
        }
    }

    /// Gives the tasks of an entry from the index `from` on out again, before all others, because nobody has begun
    /// them.
    pub fn rest_not_begun(&mut self, entry: &Entry<W>, from: u32) {
        let (from, tasks) = (from.max(entry.done), entry.work.tasks());
        if from < tasks {
            self.not_begun(entry.slice(from, tasks));
        }
    }

    /// Has an entry tried again, before all others.
    ///
    /// # Errors
    /// The entry, if it may not be tried again: it has failed for good.
    pub fn retry(&mut self, entry: Entry<W>, retries: u32) -> Result<(), Entry<W>> {
        if !entry.may_retry(retries) {
            return Err(entry);
        }
        self.backlog.push_front(entry.rest());
        Ok(())
    }

    /// Has one task of an entry tried again, before all others. Returns whether the task may be: otherwise it has
    /// failed for good.
    #[must_use]
    pub fn retry_part(&mut self, entry: &Entry<W>, part: u32, retries: u32) -> bool {
        let may = entry.may_retry(retries) && part < entry.work.tasks();
        if may {
            self.backlog.push_front(entry.slice(part, part + 1));
        }
        may
    }

    /// Removes the entries of the backlog that `is_it` accepts. Of those that were put, each may have been begun,
    /// which only the owner can tell: see [`put_mut`](Self::put_mut).
    pub fn cancel(&mut self, mut is_it: impl FnMut(&W) -> bool) {
        self.backlog.retain(|entry| !is_it(&entry.work));
    }

    /// The entries that were put and aren't finished, for marking them as cancelled.
    pub fn put_mut(&mut self) -> impl Iterator<Item = &mut W> {
        self.ledger.iter_mut().flatten().map(|entry| &mut entry.work)
    }

    /// Takes all that isn't finished, because the pool ends: what was put, then what wasn't, each without the tasks
    /// that have a result. Numbers that were given are not given again.
    #[must_use]
    pub fn drain(&mut self) -> Vec<Entry<W>> {
        let ledger = std::mem::take(&mut self.ledger);
        self.first += ledger.len() as u64;
        self.under_way = Counts::default();
        let put = ledger.into_iter().flatten().map(Entry::rest);
        put.chain(self.backlog.drain(..)).collect()
    }

    /// Like [`drain`](Self::drain), for a pool that goes on with a new queue: numbers begin with 0 again.
    #[must_use]
    pub fn start_over(&mut self) -> Vec<Entry<W>> {
        let left = self.drain();
        self.first = 0;
        left
    }
}
