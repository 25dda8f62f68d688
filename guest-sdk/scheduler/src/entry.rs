//! Entries: the work that is given out, and the record of it.

/// The content of an [`Entry`]: one task, a chunk of several, or none.
pub trait Work: Sized {
    /// The number of tasks. An entry without tasks wakes a worker, or has it leave; it is never given out again.
    fn tasks(&self) -> u32;

    /// The number of bytes that the entry takes in the queue.
    fn bytes(&self) -> u64;

    /// Returns the tasks from index `from` to before `to`. Where `from` is `to`, the result has no tasks.
    fn slice(&self, from: u32, to: u32) -> Self;
}

/// An entry of the backlog or of the ledger.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Entry<W> {
    /// The content.
    pub work: W,
    pub(crate) attempts: u32,
    pub(crate) done: u32,
    /// The bytes that were counted when the entry was put.
    pub(crate) bytes: u64,
}

impl<W> Entry<W> {
    /// How often the entry was tried. An attempt counts from when the entry is put, and no longer if the entry turns
    /// out not to have been begun.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The number of tasks at the beginning of the entry that have results.
    #[must_use]
    pub fn done(&self) -> u32 {
        self.done
    }

    /// Whether tasks of the entry may be tried again, if a task may be tried `retries` times after its first attempt.
    #[must_use]
    pub fn may_retry(&self, retries: u32) -> bool {
        self.attempts <= retries
    }
}

impl<W: Work> Entry<W> {
    pub(crate) fn new(work: W) -> Self {
        Self { work, attempts: 0, done: 0, bytes: 0 }
    }

    pub(crate) fn slice(&self, from: u32, to: u32) -> Self {
        Self { work: self.work.slice(from, to), attempts: self.attempts, done: 0, bytes: 0 }
    }

    /// Returns the tasks that have no result yet.
    #[inline]
    #[must_use]
    pub fn rest(self) -> Self {
        if self.done == 0 { self } else { self.slice(self.done, self.work.tasks()) }
    }
}
