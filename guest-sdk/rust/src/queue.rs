//! A queue between any processes of a run.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use sandpool_abi::{Errno, FOREVER, NO_WAIT};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::object::Object;
use crate::{DecodeError, EncodeError, Error, codec, nanoseconds, raw};

/// First in, first out, between any number of producers and consumers in any processes.
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
/// An item is encoded by [`put`](Self::put) itself, so what can't be encoded is an error there and leaves the queue as
/// it is. `None` items or the like aren't needed to tell consumers to stop: [`close`](Self::close) it.
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
    /// use sandpool_guest::{PutError, Queue};
    ///
    /// let queue = Queue::bounded(1)?;
    /// queue.put(&"first")?;
    /// assert!(matches!(queue.try_put(&"second"), Err(PutError::Full)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn bounded(maxsize: usize) -> Result<Self, Error> {
        Ok(Self::adopt(raw::queue::create(maxsize as u64)?))
    }

    fn adopt(handle: u64) -> Self {
        Self { object: Object::adopt(handle), items: PhantomData }
    }

    /// How many items wait. With other processes at work, that was true a moment ago.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn qsize(&self) -> Result<usize, Error> {
        Ok(raw::queue::qsize(self.object.handle())?)
    }

    /// Whether no item waits.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.qsize()? == 0)
    }

    /// Whether it holds as many items as its bound allows. A queue without a bound never is.
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

    /// The bound that it was made with.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn maxsize(&self) -> Result<Option<usize>, Error> {
        let maxsize = raw::queue::maxsize(self.object.handle())?;
        Ok((maxsize != 0).then_some(maxsize))
    }

    /// Closes it for every process: puts fail from now on, gets once the items that wait are taken. Those who wait in
    /// either are woken. To close it again is no error.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn close(&self) -> Result<(), Error> {
        match raw::queue::close(self.object.handle()) {
            Ok(()) | Err(Errno::Closed) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts an item, and waits for room while there is none.
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
        codec::encode(&[], item, |bytes, handles| {
            raw::queue::put(self.object.handle(), bytes, handles, timeout)
        })
        .map_err(PutError::Encode)?
        .map_err(|errno| match errno {
            Errno::Again | Errno::Timedout => PutError::Full,
            Errno::Closed => PutError::Closed,
            Errno::Msgsize => PutError::TooLarge,
            other => PutError::Host(other),
        })
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the oldest item, and waits for one while there is none.
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
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// An item that can't be decoded is an error in its place, after which the others follow. Any other error is the
    /// last thing that comes.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self, over: false }
    }

    fn get_within(&self, timeout: u64) -> Result<T, GetError> {
        thread_local! {
            /// Taken out while it is in use: a `Deserialize` may itself take something from a queue.
            static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
        }
        let mut buffer = BUFFER.take();
        buffer.resize(RECEIVE_BUFFER, 0);
        let result = self.receive(&mut buffer, timeout);
        BUFFER.set(buffer);
        result
    }

    fn receive(&self, buffer: &mut [u8], timeout: u64) -> Result<T, GetError> {
        let item = raw::queue::get(self.object.handle(), buffer, timeout).map_err(|errno| match errno {
            Errno::Again | Errno::Timedout => GetError::Empty,
            Errno::Closed => GetError::Closed,
            other => GetError::Host(other),
        })?;
        let len = usize::try_from(item.len).map_err(|_| GetError::OutOfMemory)?;
        if item.held == 0 {
            let bytes = buffer.get(..len).ok_or(GetError::Host(Errno::Io))?;
            return codec::decode(bytes, Vec::new()).map_err(GetError::Decode);
        }

        let mut handles = vec![0; usize::try_from(item.handle_count).map_err(|_| GetError::OutOfMemory)?];
        let mut exact = Vec::new();
        let bytes = match buffer.get_mut(..len) {
            Some(bytes) => bytes,
            None => {
                exact.try_reserve_exact(len).map_err(|_| GetError::OutOfMemory)?;
                exact.resize(len, 0);
                &mut exact
            }
        };
        raw::queue::take(bytes, &mut handles).map_err(GetError::Host)?;
        codec::decode(bytes, handles).map_err(GetError::Decode)
    }
}

/// Items of at most this size are received without an allocation.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// The same queue once more.
impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { object: Arc::clone(&self.object), items: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({:#x})", self.object.handle())
    }
}

/// Whether they are the same queue.
impl<T> PartialEq for Queue<T> {
    fn eq(&self, other: &Self) -> bool {
        self.object.handle() == other.object.handle()
    }
}

impl<T> Eq for Queue<T> {}

/// Only inside an item of a queue, or the arguments of a spawned process: it is an error for any other serializer.
impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize("queue", serializer)
    }
}

/// As [`Serialize`].
impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { object: Object::deserialize("queue", deserializer)?, items: PhantomData })
    }
}

/// The items of a queue: see [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'a, T> {
    queue: &'a Queue<T>,
    over: bool,
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = Result<T, GetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let item = self.queue.get();
        match item {
            Ok(_) | Err(GetError::Decode(_)) => {}
            Err(GetError::Closed) => {
                self.over = true;
                return None;
            }
            Err(_) => self.over = true,
        }
        Some(item)
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a Queue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Why an item wasn't put. The queue is as it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum PutError {
    /// There is no room: Python's `queue.Full`.
    Full,
    /// The queue is closed.
    Closed,
    /// The item doesn't fit into the arena, ever.
    TooLarge,
    /// The item can't be encoded.
    Encode(EncodeError),
    /// Anything else that the host reported.
    Host(Errno),
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the queue is full"),
            Self::Closed => f.write_str("the queue is closed"),
            Self::TooLarge => f.write_str("the item doesn't fit into the arena"),
            Self::Encode(error) => error.fmt(f),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

// No `source`, here and below: the variants that wrap an error say the same as the wrapped one.
impl std::error::Error for PutError {}

/// Why no item was returned.
#[derive(Debug)]
#[non_exhaustive]
pub enum GetError {
    /// There is none: Python's `queue.Empty`.
    Empty,
    /// The queue is closed, and all its items were taken.
    Closed,
    /// The item was taken, but isn't of the queue's type.
    Decode(DecodeError),
    /// The item was taken, but this process has no memory for it. It is lost with the next item that is taken.
    OutOfMemory,
    /// Anything else that the host reported.
    Host(Errno),
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the queue is empty"),
            Self::Closed => f.write_str("the queue is closed"),
            Self::Decode(error) => error.fmt(f),
            Self::OutOfMemory => f.write_str("not enough memory for the item"),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

impl std::error::Error for GetError {}
