//! One process for each call, a few at a time.

use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use sandpool_abi::{Errno, NO_WAIT};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Cause, PoolError, TaskError};
use crate::message::{self, Failure};
use crate::{Error, Process, PutError, Queue, Sentinel, Waitable, codec, cpu_count, raw, wait};

/// Calls closures in processes of their own, and has their results: pprocess' `Exchange`, `Map` and `Queue`.
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
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A closure is called once, in a process that was forked for it; so it may borrow and capture whatever there is, and
/// closures of one exchange may differ. It costs a fork for each call: for many short ones, a [`Pool`](crate::Pool) or
/// [`scoped_map`](crate::scoped_map) does better.
///
/// What is still at work when it is dropped is killed.
pub struct Exchange<R> {
    limit: usize,
    /// With the index of the call, and the reason if the result can't be encoded.
    results: Queue<(u64, Result<R, String>)>,
    started: usize,
    at_work: Vec<(usize, Process)>,
    /// Results that are there and weren't taken, in the order in which they came.
    arrived: VecDeque<(usize, Result<R, TaskError>)>,
}

impl<R> Exchange<R>
where
    R: Serialize + DeserializeOwned,
{
    /// Makes one for so many processes at a time.
    ///
    /// # Errors
    /// [`PoolError::Zero`], [`PoolError::Start`].
    pub fn new(limit: usize) -> Result<Self, PoolError> {
        if limit == 0 {
            return Err(PoolError::Zero("the limit"));
        }
        Ok(Self { limit, results: Queue::new()?, started: 0, at_work: Vec::new(), arrived: VecDeque::new() })
    }

    /// Makes one for a process on each processor.
    ///
    /// # Errors
    /// [`PoolError::Start`].
    pub fn for_all_processors() -> Result<Self, PoolError> {
        Self::new(cpu_count())
    }

    /// Has a process call the closure, and returns the index of its result, which counts from 0 on. Waits while as many are
    /// at work as may be.
    ///
    /// # Errors
    /// [`PoolError::Start`].
    #[doc(alias = "manage")]
    pub fn start(&mut self, closure: impl FnOnce() -> R) -> Result<usize, PoolError> {
        while self.at_work.len() >= self.limit {
            self.wait(None)?;
        }
        let index = self.started;
        let results = &self.results;
        let body = || match results.put(&(index as u64, Ok(closure()))) {
            Err(error @ (PutError::Encode(_) | PutError::TooLarge)) => {
                results.put(&(index as u64, Err(error.to_string())))
            }
            put => put,
        };
        let name = format!("Exchange-{}", index + 1);
        let process = Process::builder().name(name).daemon(true).fork(body)?;
        self.started += 1;
        self.at_work.push((index, process));
        Ok(index)
    }

    /// How many are at work.
    #[must_use]
    pub fn active(&self) -> usize {
        self.at_work.len()
    }

    /// How many results are still to be taken, of those that are there and those that will be.
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

    /// Whether the next result is there, or is within `timeout`.
    ///
    /// # Errors
    /// [`PoolError::Start`], when the host can't wait.
    pub fn ready(&mut self, timeout: Duration) -> Result<bool, PoolError> {
        if self.arrived.is_empty() && !self.at_work.is_empty() {
            self.wait(Some(timeout))?;
        }
        Ok(!self.arrived.is_empty())
    }

    /// Waits for the result of the call with this index, while others go on.
    ///
    /// # Errors
    /// [`PoolError::Task`]; [`PoolError::NoSuchResult`] if there was no such call, or its result was taken.
    pub fn get(&mut self, index: usize) -> Result<R, PoolError> {
        loop {
            if let Some(place) = self.arrived.iter().position(|(arrived, _)| *arrived == index)
                && let Some((_, result)) = self.arrived.remove(place)
            {
                return Ok(result?);
            }
            if !self.at_work.iter().any(|(at_work, _)| *at_work == index) {
                return Err(PoolError::NoSuchResult);
            }
            self.wait(None)?;
        }
    }

    /// Waits until something has arrived, or somebody has ended.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), PoolError> {
        let sentinels: Vec<Sentinel> = self.at_work.iter().map(|(_, process)| process.sentinel()).collect();
        let mut things: Vec<&dyn Waitable> = vec![&self.results];
        things.extend(sentinels.iter().map(|sentinel| sentinel as &dyn Waitable));
        let ready = wait(&things, timeout)?;
        let ended = ready.into_iter().filter_map(|thing| self.at_work.get(thing.checked_sub(1)?));
        let ended: Vec<usize> = ended.map(|(index, _)| *index).collect();
        // Who has ended has put its result before, if it has one.
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

    /// A result, or that there is none. Its process is at its end.
    /// A result that is there. Which one it is stands before it, so that each that can't be decoded is told.
    fn next_result(&self) -> Result<Option<(usize, Result<R, Cause>)>, PoolError> {
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
            let label = (Rc::from(process.name()), process.pid());
            let error = |cause| TaskError::new(index, Some(label), cause).with_stderr(process.stderr());
            let result = result.map_err(error);
            self.arrived.push_back((index, result));
        }
    }
}

/// Results as they arrive.
impl<R> Iterator for Exchange<R>
where
    R: Serialize + DeserializeOwned,
{
    type Item = Result<R, PoolError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((_, result)) = self.arrived.pop_front() {
                return Some(result.map_err(PoolError::Task));
            }
            if self.at_work.is_empty() {
                return None;
            }
            if let Err(error) = self.wait(None) {
                self.kill();
                return Some(Err(error));
            }
        }
    }
}

impl<R> Exchange<R> {
    fn kill(&mut self) {
        for (_, process) in self.at_work.drain(..) {
            // In a fork, they aren't its own.
            if process.kill().is_ok() {
                let _ = process.join();
            }
        }
    }
}

impl<R> Drop for Exchange<R> {
    fn drop(&mut self) {
        self.kill();
    }
}

impl<R> fmt::Debug for Exchange<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("active", &self.at_work.len()).finish_non_exhaustive()
    }
}
