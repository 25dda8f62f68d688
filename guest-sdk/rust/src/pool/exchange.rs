//! One process for each call, a few at a time.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sandpool_abi::{Errno, NO_WAIT};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Cause, PoolError, TaskError};
use crate::deadline::Deadline;
use crate::message::{self, Failure};
use crate::process::{Builder, Sentinel};
use crate::queue::PutError;
use crate::wait::wait_until;
use crate::{Error, Process, Queue, Waitable, codec, cpu_count, raw};

/// Calls each closure in a process of its own, and returns the results: pprocess' `Exchange`, `Map` and `Queue`.
///
/// ```no_run
/// use sandpool_guest::Exchange;
///
/// let texts = vec!["some words".to_owned(), "and more".to_owned()];
/// let mut exchange = Exchange::new(4)?;
/// for text in &texts {
///     // Forks, unless four are at work already: then it waits for the end of one.
///     exchange.start(|| text.split(' ').count())?;
/// }
/// // In their order, or, with `next`, as they arrive.
/// println!("{} {}", exchange.get(1)?, exchange.get(0)?);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// A closure is called once, in a process that was forked for it; so the closure may borrow and capture anything, and
/// closures of one exchange may differ. Each call costs a fork: for many short calls, a [`Pool`](crate::Pool) or
/// [`scoped_map`](crate::scoped_map) does better.
///
/// Dropping an `Exchange` kills the processes that are still at work.
pub struct Exchange<R> {
    limit: usize,
    /// Results with the index of the call, or with the reason if the result can't be encoded.
    results: Queue<(u64, Result<R, String>)>,
    started: usize,
    at_work: Vec<(usize, Process)>,
    /// Results that have arrived and weren't taken, in the order of their arrival.
    arrived: VecDeque<(usize, Result<R, TaskError>)>,
}

/// The index of a call, and its result or failure.
type Numbered<R> = (usize, Result<R, Cause>);

impl<R> Exchange<R>
where
    R: Serialize + DeserializeOwned,
{
    /// Makes an exchange for at most `limit` processes at a time.
    ///
    /// # Errors
    /// [`PoolError::Zero`], [`PoolError::Start`].
    pub fn new(limit: usize) -> Result<Self, PoolError> {
        if limit == 0 {
            return Err(PoolError::Zero("the limit"));
        }
        Ok(Self { limit, results: Queue::new()?, started: 0, at_work: Vec::new(), arrived: VecDeque::new() })
    }

    /// Makes an exchange for one process on each processor.
    ///
    /// # Errors
    /// [`PoolError::Start`].
    pub fn for_all_processors() -> Result<Self, PoolError> {
        Self::new(cpu_count())
    }

    /// Lets a process call the closure, and returns the index of its result, which counts from 0 on. Waits while the
    /// maximum number of processes is at work.
    ///
    /// # Errors
    /// [`PoolError::Start`].
    #[doc(alias = "manage")]
    pub fn start(&mut self, closure: impl FnOnce() -> R) -> Result<usize, PoolError> {
        self.start_by(closure, Deadline::NEVER)
    }

    /// Like [`start`](Self::start), but waits for at most `timeout`.
    ///
    /// # Errors
    /// As [`start`](Self::start); [`PoolError::TimedOut`] when the time is over: the closure wasn't called.
    pub fn start_timeout(
        &mut self,
        closure: impl FnOnce() -> R,
        timeout: Duration,
    ) -> Result<usize, PoolError> {
        self.start_by(closure, Deadline::after(timeout))
    }

    /// Like [`start`](Self::start), but doesn't wait.
    ///
    /// # Errors
    /// As [`start`](Self::start); [`PoolError::TimedOut`] if the maximum number of processes is at work: the closure
    /// wasn't called.
    pub fn try_start(&mut self, closure: impl FnOnce() -> R) -> Result<usize, PoolError> {
        self.start_by(closure, Deadline::NOW)
    }

    fn start_by(&mut self, closure: impl FnOnce() -> R, deadline: Deadline) -> Result<usize, PoolError> {
        self.until(deadline, |exchange| (exchange.at_work.len() < exchange.limit).then_some(()))?;
        let index = self.started;
        let results = &self.results;
        let body = || match results.put(&(index as u64, Ok(closure()))) {
            Err(error @ (PutError::Encode(_) | PutError::TooLarge)) => {
                results.put(&(index as u64, Err(error.to_string())))
            }
            put => put,
        };
        let name = format!("Exchange-{}", index + 1);
        let process = Builder::worker(name).fork(body)?;
        self.started += 1;
        self.at_work.push((index, process));
        Ok(index)
    }

    /// The number of processes that are at work.
    #[must_use]
    pub fn active(&self) -> usize {
        self.at_work.len()
    }

    /// The number of results that weren't taken yet, including those that have not arrived.
    #[must_use]
    #[doc(alias = "unfinished")]
    pub fn len(&self) -> usize {
        self.at_work.len() + self.arrived.len()
    }

    /// Whether all results were taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the next result is there, waiting for at most `timeout`.
    ///
    /// # Errors
    /// [`PoolError::Start`], if the host can't wait.
    pub fn ready(&mut self, timeout: Duration) -> Result<bool, PoolError> {
        let arrived = self.until(Deadline::after(timeout), |exchange| {
            (!exchange.arrived.is_empty() || exchange.at_work.is_empty()).then_some(())
        });
        match arrived {
            Ok(()) | Err(PoolError::TimedOut) => Ok(!self.arrived.is_empty()),
            Err(error) => Err(error),
        }
    }

    /// Waits for the result of the call with this index, while other calls go on.
    ///
    /// # Errors
    /// [`PoolError::Task`]; [`PoolError::NoSuchResult`] if there was no such call, or its result was taken.
    pub fn get(&mut self, index: usize) -> Result<R, PoolError> {
        self.get_by(index, Deadline::NEVER)
    }

    /// Like [`get`](Self::get), but waits for at most `timeout`.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`PoolError::TimedOut`] when the time is over. The call goes on, and its result can be
    /// waited for again.
    pub fn get_timeout(&mut self, index: usize, timeout: Duration) -> Result<R, PoolError> {
        self.get_by(index, Deadline::after(timeout))
    }

    /// Returns the result of the call with this index, if it has arrived.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`PoolError::TimedOut`] if the result hasn't arrived.
    pub fn try_get(&mut self, index: usize) -> Result<R, PoolError> {
        self.get_by(index, Deadline::NOW)
    }

    fn get_by(&mut self, index: usize, deadline: Deadline) -> Result<R, PoolError> {
        self.until(deadline, |exchange| {
            if let Some(place) = exchange.arrived.iter().position(|(arrived, _)| *arrived == index)
                && let Some((_, result)) = exchange.arrived.remove(place)
            {
                return Some(result.map_err(PoolError::Task));
            }
            let is_at_work = exchange.at_work.iter().any(|(at_work, _)| *at_work == index);
            (!is_at_work).then_some(Err(PoolError::NoSuchResult))
        })?
    }

    /// Like `next`, but waits for a result for at most `timeout`: then it returns [`PoolError::TimedOut`], and the next
    /// call goes on.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<R, PoolError>> {
        self.next_by(Deadline::after(timeout))
    }

    /// Like `next`, but doesn't wait: without a result it returns [`PoolError::TimedOut`].
    pub fn try_next(&mut self) -> Option<Result<R, PoolError>> {
        self.next_by(Deadline::NOW)
    }

    fn next_by(&mut self, deadline: Deadline) -> Option<Result<R, PoolError>> {
        let next = self.until(deadline, |exchange| match exchange.arrived.pop_front() {
            Some((_, result)) => Some(Some(result.map_err(PoolError::Task))),
            None => exchange.at_work.is_empty().then_some(None),
        });
        match next {
            Ok(next) => next,
            Err(PoolError::TimedOut) => Some(Err(PoolError::TimedOut)),
            Err(error) => {
                self.kill();
                Some(Err(error))
            }
        }
    }

    /// Waits until `look` finds something.
    fn until<T>(
        &mut self,
        deadline: Deadline,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, PoolError> {
        let mut in_time = true;
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if !in_time {
                return Err(PoolError::TimedOut);
            }
            self.wait(deadline)?;
            in_time = deadline.left() != NO_WAIT;
        }
    }

    /// Waits until a result has arrived, or a process has ended.
    fn wait(&mut self, deadline: Deadline) -> Result<(), PoolError> {
        let sentinels: Vec<Sentinel> = self.at_work.iter().map(|(_, process)| process.sentinel()).collect();
        let mut things: Vec<&dyn Waitable> = vec![&self.results];
        things.extend(sentinels.iter().map(|sentinel| sentinel as &dyn Waitable));
        let ready = wait_until(&things, deadline)?;
        let ended = ready.into_iter().filter_map(|thing| self.at_work.get(thing.checked_sub(1)?));
        let ended: Vec<usize> = ended.map(|(index, _)| *index).collect();
        // A process that has ended has put its result before, if it has one.
        while let Some((index, result)) = self.next_result()? {
            self.arrive(index, result);
        }
        for index in ended {
            let process = self.at_work.iter().find(|(at_work, _)| *at_work == index);
            let Some((_, process)) = process else { continue };
            let cause = match process.join()? {
                status if status.success() => Cause::Decode("its process has ended without one".to_owned()),
                status => Cause::Ended(status),
            };
            self.arrive(index, Err(cause));
        }
        Ok(())
    }

    /// Returns a result that has arrived. The index stands before the result, so that each result that can't be
    /// decoded is reported.
    fn next_result(&self) -> Result<Option<Numbered<R>>, PoolError> {
        let get = |buffer: &mut [u8]| raw::queue::get(self.results.handle(), buffer, NO_WAIT);
        let received = message::receive(get, |bytes, handles| {
            let (index, result) = bytes.split_first_chunk().ok_or(Errno::Io)?;
            let index = usize::try_from(u64::from_le_bytes(*index)).map_err(|_| Errno::Io)?;
            Ok((index, codec::decode::<Result<R, String>>(result, handles)))
        });
        match received {
            Ok(Ok((index, Ok(result)))) => Ok(Some((index, result.map_err(Cause::Encode)))),
            Ok(Ok((index, Err(error)))) => Ok(Some((index, Err(Cause::Decode(error.to_string()))))),
            Err(Failure::Host(Errno::Again)) => Ok(None),
            Ok(Err(errno)) | Err(Failure::Host(errno)) => Err(Error::Host(errno).into()),
            Err(Failure::OutOfMemory) => Err(Error::OutOfMemory.into()),
        }
    }

    fn arrive(&mut self, index: usize, result: Result<R, Cause>) {
        if let Some(place) = self.at_work.iter().position(|(at_work, _)| *at_work == index) {
            let (_, process) = self.at_work.swap_remove(place);
            let label = (Arc::from(process.name()), process.pid());
            let error = |cause| TaskError::new(index, Some(label), cause).with_stderr(process.stderr());
            let result = result.map_err(error);
            self.arrived.push_back((index, result));
        }
    }
}

/// The results in the order of their arrival.
impl<R> Iterator for Exchange<R>
where
    R: Serialize + DeserializeOwned,
{
    type Item = Result<R, PoolError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_by(Deadline::NEVER)
    }
}

impl<R> Exchange<R> {
    fn kill(&mut self) {
        for (_, process) in self.at_work.drain(..) {
            // In a fork, the processes aren't its own.
            if process.kill().is_ok() {
                let _ = process.join();
            }
        }
    }
}

impl<R> Drop for Exchange<R> {
    fn drop(&mut self) {
        raw::mute::aloud(|| self.kill());
    }
}

impl<R> fmt::Debug for Exchange<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("active", &self.at_work.len()).finish_non_exhaustive()
    }
}
