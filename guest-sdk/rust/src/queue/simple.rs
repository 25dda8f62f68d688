//! A queue with few methods.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::object::{Object, Role, Use};
use crate::queue::{GetError, PutError};
use crate::{Error, Queue, wait};

/// A [`Queue`] without a bound, batches and the other options, for programs that want to show that they use none of
/// these.
///
/// ```no_run
/// use sandpool_guest::{Process, SimpleQueue};
///
/// let queue = SimpleQueue::<String>::new()?;
/// let process = Process::fork(|| queue.put(&"hello".to_owned()))?;
/// assert_eq!(queue.get()?, "hello");
/// process.join()?;
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// In Python `SimpleQueue` is also the faster one; here both are equally fast.
#[doc(alias = "multiprocessing.SimpleQueue")]
pub struct SimpleQueue<T>(Queue<T>);

impl<T> SimpleQueue<T> {
    /// Makes a queue for as many items as the arena holds.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn new() -> Result<Self, Error> {
        let queue = Queue::new()?;
        queue.object().made_as(Use::SimpleQueue, 0, 0)?;
        Ok(Self(queue))
    }

    /// Whether the queue is empty. With other processes at work, the answer may have changed already.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> Result<bool, Error> {
        self.0.is_empty()
    }

    /// Closes the queue for every process, as [`Queue::close`] does.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn close(&self) -> Result<(), Error> {
        self.0.close()
    }
}

impl<T: Serialize> SimpleQueue<T> {
    /// Puts an item. The call waits only if the arena is full.
    ///
    /// # Errors
    /// [`PutError`], but never [`PutError::Full`].
    pub fn put(&self, item: &T) -> Result<(), PutError> {
        self.0.put(item)
    }

    /// Puts an item, and waits for room in the arena for at most `timeout`.
    ///
    /// # Errors
    /// [`PutError`]; [`PutError::Full`] when the time is over.
    pub fn put_timeout(&self, item: &T, timeout: Duration) -> Result<(), PutError> {
        self.0.put_timeout(item, timeout)
    }

    /// Puts an item if the arena has room at once.
    ///
    /// # Errors
    /// [`PutError`]; [`PutError::Full`] when there is no room.
    pub fn try_put(&self, item: &T) -> Result<(), PutError> {
        self.0.try_put(item)
    }
}

impl<T: DeserializeOwned> SimpleQueue<T> {
    /// Takes the oldest item, and waits while there is none.
    ///
    /// # Errors
    /// [`GetError`], but never [`GetError::Empty`].
    pub fn get(&self) -> Result<T, GetError> {
        self.0.get()
    }

    /// Takes the oldest item, and waits for one for at most `timeout`.
    ///
    /// # Errors
    /// [`GetError`]; [`GetError::Empty`] when the time is over.
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.0.get_timeout(timeout)
    }

    /// Takes the oldest item if there is one at once.
    ///
    /// # Errors
    /// [`GetError`]; [`GetError::Empty`] when there is none.
    pub fn try_get(&self) -> Result<T, GetError> {
        self.0.try_get()
    }
}

/// A clone is the same queue.
impl<T> Clone for SimpleQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for SimpleQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimpleQueue({:#x})", self.0.handle())
    }
}

/// Whether they are the same queue.
impl<T> PartialEq for SimpleQueue<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for SimpleQueue<T> {}

/// Puts the queue into a message, or the arguments of a spawned process: any other serializer gets an error.
impl<T> Serialize for SimpleQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Takes the queue out of a message, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de, T> Deserialize<'de> for SimpleQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Queue::from_object(Object::deserialize(&Role::SIMPLE_QUEUE, deserializer)?)))
    }
}

/// Ready when the queue has an item, or is closed.
impl<T> wait::Waitable for SimpleQueue<T> {}

impl<T> wait::Handle for SimpleQueue<T> {
    fn handle(&self) -> u64 {
        self.0.handle()
    }
}
