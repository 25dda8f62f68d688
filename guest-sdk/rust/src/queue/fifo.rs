//! A queue between any processes of a run.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use sandpool_abi::queue::BATCH_ITEM_MAX;
use sandpool_abi::{Errno, FOREVER, NO_WAIT};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::deadline::{Deadline, nanoseconds};
use crate::message::{self, Failure};
use crate::object::{Object, Role};
use crate::{EncodeError, Error, codec, raw, wait};

use super::{GetError, GetManyError, PutError, PutManyError};

/// A queue, first in, first out, between any number of producers and consumers in any processes.
///
/// ```no_run
/// use sandpool_guest::{Process, Queue};
///
/// let squares = Queue::new()?;
/// let process = Process::fork(|| {
///     (1..=3u64).try_for_each(|n| squares.put(&(n * n)))
/// })?;
/// process.join()?;
/// squares.close()?;
/// let all: Result<Vec<u64>, _> = squares.iter().collect();
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// A forked process has all queues of its creator. A queue is also data: it can be an argument of a spawned process
/// and an item, or part of an item, of another queue. A clone is the same queue; the queue is gone when the last
/// process has dropped it and no item holds it.
///
/// [`put`](Self::put) itself encodes the item, so an item that can't be encoded is an error there and leaves the queue
/// as it is. No `None` item or other marker is needed to tell consumers to stop: [`close`](Self::close) the queue.
pub struct Queue<T> {
    object: Arc<Object>,
    // A queue of `T` owns no `T`: it is `Send` and `Sync` whatever `T` is.
    items: PhantomData<fn(T) -> T>,
}

impl<T> Queue<T> {
    /// Makes a queue for as many items as the arena holds.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn new() -> Result<Self, Error> {
        Self::bounded(0)
    }

    /// Makes a queue for at most `maxsize` items; 0 means no bound.
    ///
    /// ```no_run
    /// use sandpool_guest::Queue;
    /// use sandpool_guest::queue::PutError;
    ///
    /// let queue = Queue::bounded(1)?;
    /// queue.put(&"first")?;
    /// assert!(matches!(queue.try_put(&"second"), Err(PutError::Full)));
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn bounded(maxsize: usize) -> Result<Self, Error> {
        Self::create(maxsize, 0)
    }

    pub(crate) fn create(maxsize: usize, flags: u32) -> Result<Self, Error> {
        Ok(Self::from_object(Object::adopt(raw::queue::create(maxsize as u64, flags)?)))
    }

    pub(crate) fn from_object(object: Arc<Object>) -> Self {
        Self { object, items: PhantomData }
    }

    pub(crate) fn handle(&self) -> u64 {
        self.object.handle()
    }

    pub(crate) fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// The number of items that wait. With other processes at work, the number may have changed already.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn qsize(&self) -> Result<usize, Error> {
        Ok(raw::queue::qsize(self.handle())?)
    }

    /// Whether the queue is empty.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.qsize()? == 0)
    }

    /// Whether the queue holds as many items as its bound allows. A queue without a bound is never full.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> Result<bool, Error> {
        match self.maxsize()? {
            Some(maxsize) => Ok(self.qsize()? >= maxsize),
            None => Ok(false),
        }
    }

    /// The bound that the queue was made with.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn maxsize(&self) -> Result<Option<usize>, Error> {
        let maxsize = raw::queue::maxsize(self.handle())?;
        Ok((maxsize != 0).then_some(maxsize))
    }

    /// Closes the queue for every process: each put fails from now on, and each get fails once the items that wait
    /// are taken. Processes that wait in either call are woken. To close a queue again is no error.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn close(&self) -> Result<(), Error> {
        match raw::queue::close(self.handle()) {
            Ok(()) | Err(Errno::Closed) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts an item, and waits while there is no room.
    ///
    /// # Errors
    /// [`PutError`], but never [`PutError::Full`].
    pub fn put(&self, item: &T) -> Result<(), PutError> {
        self.put_within(item, FOREVER)
    }

    /// Puts an item, and waits for room for at most `timeout`.
    ///
    /// # Errors
    /// [`PutError`]; [`PutError::Full`] when the time is over.
    pub fn put_timeout(&self, item: &T, timeout: Duration) -> Result<(), PutError> {
        self.put_within(item, nanoseconds(timeout))
    }

    /// Puts an item if there is room at once.
    ///
    /// # Errors
    /// [`PutError`]; [`PutError::Full`] when there is no room.
    #[doc(alias = "put_nowait")]
    pub fn try_put(&self, item: &T) -> Result<(), PutError> {
        self.put_within(item, NO_WAIT)
    }

    fn put_within(&self, item: &T, timeout: u64) -> Result<(), PutError> {
        let put = |item: &[&[u8]], handles: &[u64]| raw::queue::put(self.handle(), item, handles, timeout);
        codec::encode(item, put).map_err(PutError::Encode)?.map_err(PutError::from_errno)
    }

    /// Puts several items in their order, and waits while there is no room.
    ///
    /// ```no_run
    /// # let queue = sandpool_guest::Queue::<u64>::new()?;
    /// let squares: Vec<u64> = (1..=10_000).map(|n| n * n).collect();
    /// queue.put_many(&squares)?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// Small items are put many at a time, which costs a fraction of the same number of calls of [`put`](Self::put).
    /// They remain single items: items of other producers may come between them.
    ///
    /// # Errors
    /// [`PutManyError`], which tells how many items were put before, but never with [`PutError::Full`] in it.
    pub fn put_many(&self, items: &[T]) -> Result<(), PutManyError> {
        self.put_batches(items, Deadline::NEVER).map(drop)
    }

    /// Puts several items, and waits for room for at most `timeout` in all. Returns the number of items that were
    /// put, which is fewer than all when the time is over.
    ///
    /// # Errors
    /// [`PutManyError`], but never with [`PutError::Full`] in it.
    pub fn put_many_timeout(&self, items: &[T], timeout: Duration) -> Result<usize, PutManyError> {
        self.put_batches(items, Deadline::after(timeout))
    }

    /// Puts as many of several items as there is room for at once, and returns the number of items that were put.
    ///
    /// # Errors
    /// [`PutManyError`], but never with [`PutError::Full`] in it.
    pub fn try_put_many(&self, items: &[T]) -> Result<usize, PutManyError> {
        self.put_batches(items, Deadline::NOW)
    }

    fn put_batches(&self, items: &[T], deadline: Deadline) -> Result<usize, PutManyError> {
        let mut put = 0;
        let mut bytes = Vec::new();
        let mut lens = Vec::new();
        while let Some(rest) = items.get(put..).filter(|rest| !rest.is_empty()) {
            bytes.clear();
            lens.clear();
            let after = fill_batch(rest, &mut bytes, &mut lens);
            let batch = put_batch(self.handle(), &bytes, &lens, deadline, &mut put);
            let done = match (batch, after) {
                (Ok(()), None) => Ok(()),
                (Ok(()), Some(Ok(single))) => {
                    let message = bytes.get(single.start..).unwrap_or_default();
                    raw::queue::put(self.handle(), &[message], &single.handles, deadline.left())
                        .map(|()| put += 1)
                        .map_err(PutError::from_errno)
                }
                (Ok(()), Some(Err(error))) => Err(PutError::Encode(error)),
                (Err(errno), _) => Err(PutError::from_errno(errno)),
            };
            match done {
                Ok(()) => {}
                Err(PutError::Full) => break,
                Err(error) => return Err(PutManyError { put, error }),
            }
        }
        Ok(put)
    }
}

/// A batch is full when it has more bytes than this.
const BATCH_BYTES: usize = 64 * 1024;
/// The maximum number of items that are taken at a time.
const BATCH_ITEMS: usize = 4096;

/// An item that is put by itself after a batch. It lies in the same buffer.
struct Single {
    start: usize,
    handles: Vec<u64>,
}

/// Encodes items until there are enough, or until an item can't be part of a batch: the item has handles, is too
/// long, or can't be encoded.
fn fill_batch<T: Serialize>(
    items: &[T],
    bytes: &mut Vec<u8>,
    lens: &mut Vec<u32>,
) -> Option<Result<Single, EncodeError>> {
    for item in items {
        if bytes.len() > BATCH_BYTES {
            break;
        }
        let start = bytes.len();
        let handles = match codec::append(bytes, item) {
            Ok(handles) => handles,
            Err(error) => {
                bytes.truncate(start);
                return Some(Err(error));
            }
        };
        match u32::try_from(bytes.len() - start) {
            Ok(len) if handles.is_empty() && bytes.len() - start <= BATCH_ITEM_MAX => lens.push(len),
            _ => return Some(Ok(Single { start, handles })),
        }
    }
    None
}

/// Puts the items of a batch, and counts them.
fn put_batch(
    queue: u64,
    mut bytes: &[u8],
    mut lens: &[u32],
    deadline: Deadline,
    put: &mut usize,
) -> Result<(), Errno> {
    // Bytes after the batch aren't part of it.
    bytes = bytes.get(..total(lens)).ok_or(Errno::Inval)?;
    while !lens.is_empty() {
        let count = raw::queue::put_many(queue, bytes, lens, deadline.left())?;
        let (done, rest) = lens.split_at_checked(count).filter(|_| count > 0).ok_or(Errno::Io)?;
        bytes = bytes.get(total(done)..).ok_or(Errno::Io)?;
        lens = rest;
        *put += count;
    }
    Ok(())
}

fn total(lens: &[u32]) -> usize {
    lens.iter().map(|len| *len as usize).sum()
}

/// Items that were taken at once. From the first item that can't be returned on, each item has a result of its own.
struct Taken<T> {
    items: Vec<T>,
    results: Vec<Result<T, GetError>>,
}

impl<T> Taken<T> {
    fn len(&self) -> usize {
        self.items.len() + self.results.len()
    }

    #[inline]
    fn add(&mut self, item: Result<T, GetError>) {
        match item {
            Ok(item) if self.results.is_empty() => self.items.push(item),
            item => {
                self.results.extend(self.items.drain(..).map(Ok));
                self.results.push(item);
            }
        }
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the oldest item, and waits while there is none.
    ///
    /// # Errors
    /// [`GetError`], but never [`GetError::Empty`].
    pub fn get(&self) -> Result<T, GetError> {
        self.get_within(FOREVER)
    }

    /// Takes the oldest item, and waits for one for at most `timeout`.
    ///
    /// # Errors
    /// [`GetError`]; [`GetError::Empty`] when the time is over.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_within(nanoseconds(timeout))
    }

    /// Takes the oldest item if there is one at once.
    ///
    /// # Errors
    /// [`GetError`]; [`GetError::Empty`] when there is none.
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_within(NO_WAIT)
    }

    /// Takes items, and waits for them, until the queue is closed and drained.
    ///
    /// ```no_run
    /// # let queue = sandpool_guest::Queue::<String>::new()?;
    /// for line in &queue {
    ///     println!("{}", line?);
    /// }
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// An item that can't be decoded is an error in its place, and the other items follow. After any other error the
    /// iterator ends.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self, over: false }
    }

    /// Takes the oldest items, as many as there are, but at most `max`, and waits while there is no item.
    ///
    /// ```no_run
    /// # let queue = sandpool_guest::Queue::<u64>::new()?;
    /// while let Ok(numbers) = queue.get_many(1000) {
    ///     for number in numbers {
    ///         println!("{number}");
    ///     }
    /// }
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// Small items are taken many at a time, which costs a fraction of the same number of calls of [`get`](Self::get).
    /// The result has at least one item, unless `max` is 0.
    ///
    /// # Errors
    /// [`GetManyError::Items`] if some of the items can't be decoded: this error has a result for each item, so that no
    /// item is lost because of another. [`GetManyError::Nothing`] if no item was taken, but never with
    /// [`GetError::Empty`].
    pub fn get_many(&self, max: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_batches(max, Deadline::NEVER)
    }

    /// Takes the oldest items, at most `max`, and waits for the first for at most `timeout`.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many); [`GetError::Empty`] in [`GetManyError::Nothing`] when the time is over.
    pub fn get_many_timeout(&self, max: usize, timeout: Duration) -> Result<Vec<T>, GetManyError<T>> {
        self.get_batches(max, Deadline::after(timeout))
    }

    /// Takes the oldest items, at most `max`, if there are any at once.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many); [`GetError::Empty`] in [`GetManyError::Nothing`] when there is none.
    pub fn try_get_many(&self, max: usize) -> Result<Vec<T>, GetManyError<T>> {
        self.get_batches(max, Deadline::NOW)
    }

    fn get_batches(&self, max: usize, mut deadline: Deadline) -> Result<Vec<T>, GetManyError<T>> {
        let mut taken = Taken { items: Vec::new(), results: Vec::new() };
        let mut lens = vec![0; max.min(BATCH_ITEMS)];
        while taken.len() < max {
            match self.get_batch(&mut taken, max, &mut lens, deadline) {
                Ok(()) => deadline = Deadline::NOW,
                // If the error is more than a lack of items, the next call reports it.
                Err(_) if taken.len() != 0 => break,
                Err(error) => return Err(GetManyError::Nothing(error)),
            }
        }
        if taken.results.is_empty() { Ok(taken.items) } else { Err(GetManyError::Items(taken.results)) }
    }

    /// Takes at least one item.
    fn get_batch(
        &self,
        taken: &mut Taken<T>,
        max: usize,
        lens: &mut [u32],
        deadline: Deadline,
    ) -> Result<(), GetError> {
        let count = lens.len().min(max - taken.len());
        let lens = lens.get_mut(..count).unwrap_or_default();
        let got = message::with_buffer(|buffer| {
            let got = raw::queue::get_many(self.handle(), buffer, lens, deadline.left())
                .map_err(GetError::from_errno)?;
            let mut bytes = &*buffer;
            for len in lens.get(..got).ok_or(GetError::Host(Errno::Io))? {
                let (item, rest) = bytes.split_at_checked(*len as usize).ok_or(GetError::Host(Errno::Io))?;
                bytes = rest;
                taken.add(codec::decode_plain(item).map_err(GetError::Decode));
            }
            Ok(got)
        })?;
        if got == 0 {
            // The next item can't be part of a batch.
            match self.get_within(deadline.left()) {
                Err(error) if !error.is_of_an_item() => return Err(error),
                item => taken.add(item),
            }
        }
        Ok(())
    }

    fn get_within(&self, timeout: u64) -> Result<T, GetError> {
        let get = |buffer: &mut [u8]| raw::queue::get(self.handle(), buffer, timeout);
        match message::receive_value(get) {
            Ok(item) => item.map_err(GetError::Decode),
            Err(Failure::OutOfMemory) => Err(GetError::OutOfMemory),
            Err(Failure::Host(errno)) => Err(GetError::from_errno(errno)),
        }
    }
}

/// A clone is the same queue.
impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { object: Arc::clone(&self.object), items: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({:#x})", self.handle())
    }
}

/// Whether they are the same queue.
impl<T> PartialEq for Queue<T> {
    fn eq(&self, other: &Self) -> bool {
        self.handle() == other.handle()
    }
}

impl<T> Eq for Queue<T> {}

/// Puts the queue into a message, or the arguments of a spawned process: any other serializer gets an error.
impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(Role::QUEUE.what, serializer)
    }
}

/// Takes the queue out of a message, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize(&Role::QUEUE, deserializer).map(Self::from_object)
    }
}

/// Ready when the queue has an item, or is closed.
impl<T> wait::Waitable for Queue<T> {}

impl<T> wait::Handle for Queue<T> {
    fn handle(&self) -> u64 {
        self.object.handle()
    }
}

/// The items of a queue: see [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    queue: &'a Queue<T>,
    over: bool,
}

impl<T: DeserializeOwned> Iter<'_, T> {
    /// Like `next`, but waits for an item for at most `timeout`: then it returns [`GetError::Empty`], and the next call
    /// goes on.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<Result<T, GetError>> {
        self.next_within(nanoseconds(timeout))
    }

    /// Like `next`, but doesn't wait: without an item it returns [`GetError::Empty`], and the next call goes on.
    pub fn try_next(&mut self) -> Option<Result<T, GetError>> {
        self.next_within(NO_WAIT)
    }

    fn next_within(&mut self, timeout: u64) -> Option<Result<T, GetError>> {
        if self.over {
            return None;
        }
        let item = self.queue.get_within(timeout);
        match item {
            Ok(_) | Err(GetError::Decode(_) | GetError::Empty) => {}
            Err(GetError::Closed) => {
                self.over = true;
                return None;
            }
            Err(_) => self.over = true,
        }
        Some(item)
    }
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_within(FOREVER)
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
