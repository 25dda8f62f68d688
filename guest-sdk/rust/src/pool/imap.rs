//! Results one after another, while the input is read.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use sandpool_abi::NO_WAIT;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::core::Core;
use super::error::{Cause, PoolError, TaskError};
use super::feed::{Feed, Shape};
use super::job::{Job, Stream};
use crate::deadline::Deadline;
use crate::raw;

/// The results of an [`imap`](crate::Pool::imap) or [`imap_unordered`](crate::Pool::imap_unordered).
///
/// A failed task is an error in its place, and other results follow.
///
/// The input is read as results are taken. When the iterator is dropped, tasks that haven't begun are never run.
#[must_use = "it gives out tasks as results are taken"]
pub struct IMap<'p, I, A, R> {
    core: &'p Core<'static>,
    feed: Feed<I, A>,
    stream: Rc<Stream<R>>,
    job: Rc<dyn Job>,
    /// The time limit for all tasks together, if any, and its deadline.
    total: Option<(Duration, Deadline)>,
    is_over: bool,
}

impl<'p, I, A, R> IMap<'p, I, A, R>
where
    I: Iterator<Item = A>,
    A: Serialize,
    R: DeserializeOwned + 'static,
{
    pub(super) fn new(core: &'p Core<'static>, input: I, shape: Shape, is_ordered: bool) -> Self {
        let stream = Rc::new(Stream::new(is_ordered));
        let job = stream.clone();
        let feed = Feed::new(input, shape);
        let mut imap = Self { core, feed, stream, job, total: None, is_over: false };
        imap.feed();
        imap
    }

    /// Limits the time that all tasks together may take from now on. When the time is over, the next item is an
    /// error, [`Cause::OutOfTime`], and the last; tasks that haven't begun are never run.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # let pool = sandpool_guest::Pool::new()?;
    /// for square in pool.imap(|n: u64| n * n, 0..1000)?.within(Duration::from_secs(5)) {
    ///     println!("{}", square?);
    /// }
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    #[doc(alias = "timeout")]
    pub fn within(mut self, total: Duration) -> Self {
        self.total = Some((total, Deadline::after(total)));
        self
    }

    /// Like `next`, but waits for the result for at most `timeout`: then it returns [`PoolError::TimedOut`], the task goes
    /// on, and the next call waits again.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use sandpool_guest::pool::PoolError;
    ///
    /// # let pool = sandpool_guest::Pool::new()?;
    /// let mut squares = pool.imap(|n: u64| n * n, 0..1000)?;
    /// while let Some(square) = squares.next_timeout(Duration::from_secs(1)) {
    ///     match square {
    ///         Err(PoolError::TimedOut) => println!("still waiting"),
    ///         square => println!("{}", square?),
    ///     }
    /// }
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// A failed task is [`PoolError::Task`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<R, PoolError>> {
        self.next_by(Deadline::after(timeout))
    }

    /// Like `next`, but doesn't wait: without a result it returns [`PoolError::TimedOut`].
    pub fn try_next(&mut self) -> Option<Result<R, PoolError>> {
        self.next_by(Deadline::NOW)
    }

    fn next_by(&mut self, deadline: Deadline) -> Option<Result<R, PoolError>> {
        let deadline = match self.total {
            Some((_, total)) => total.earlier(deadline),
            None => deadline,
        };
        match self.next_until(deadline)? {
            Some(result) => Some(result.map_err(PoolError::Task)),
            None => match self.out_of_time() {
                Some(error) => Some(Err(PoolError::Task(error))),
                None => Some(Err(PoolError::TimedOut)),
            },
        }
    }

    /// The next result, or an inner `None` if the time is over first. The outer `None` means that no other result
    /// comes.
    #[inline]
    fn next_until(&mut self, deadline: Deadline) -> Option<Option<Result<R, TaskError>>> {
        let mut in_time = true;
        while !self.is_over {
            self.feed();
            if let Some(result) = self.stream.next() {
                return Some(Some(result));
            }
            let is_over = self.feed.is_over() && self.feed.read() == self.stream.taken();
            if is_over || !self.core.is_owner() {
                return None;
            }
            if !in_time {
                return Some(None);
            }
            in_time = self.core.step(deadline) || deadline.left() != NO_WAIT;
        }
        None
    }

    /// Gives the rest up, if the time for all tasks is over.
    fn out_of_time(&mut self) -> Option<TaskError> {
        let (total, _) = self.total.filter(|(_, deadline)| deadline.left() == NO_WAIT)?;
        self.give_up();
        Some(TaskError::new(self.stream.taken(), None, Cause::OutOfTime(total)))
    }

    fn feed(&mut self) {
        if self.core.is_owner() {
            self.feed.feed(self.core, &self.job, self.stream.taken());
        }
    }
}

impl<I, A, R> IMap<'_, I, A, R> {
    fn give_up(&mut self) {
        self.is_over = true;
        self.stream.cancel();
        self.core.cancel_all(&self.job);
    }
}

impl<I, A, R> Iterator for IMap<'_, I, A, R>
where
    I: Iterator<Item = A>,
    A: Serialize,
    R: DeserializeOwned + 'static,
{
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let deadline = self.total.map_or(Deadline::NEVER, |(_, deadline)| deadline);
        match self.next_until(deadline)? {
            Some(result) => Some(result),
            None => self.out_of_time().map(Err),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let under_way = self.feed.read() - self.stream.taken();
        let (least, most) = self.feed.hint();
        (least + under_way, most.and_then(|most| most.checked_add(under_way)))
    }
}

impl<I, A, R> Drop for IMap<'_, I, A, R> {
    fn drop(&mut self) {
        raw::mute::aloud(|| {
            if self.core.is_owner() {
                self.give_up();
            }
        });
    }
}

impl<I, A, R> fmt::Debug for IMap<'_, I, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IMap").field("taken", &self.stream.taken()).finish_non_exhaustive()
    }
}
