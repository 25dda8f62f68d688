//! A manager, for processes that make values in it.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::client::{Door, DoorEnd};
use crate::{
    Barrier, BoundedSemaphore, Condition, Error, Event, JoinableQueue, Lock, Queue, RLock, Semaphore,
};

/// A manager, for processes that make values in it.
///
/// A clone is the same manager. It is also data: it can be an argument of a spawned process, and a part of an item of a
/// queue. The manager's end doesn't depend on it.
#[derive(Debug, Clone)]
pub struct ManagerHandle {
    door: Arc<Door>,
}

impl ManagerHandle {
    pub(super) fn new(door: Arc<Door>) -> Self {
        Self { door }
    }

    pub(super) fn door(&self) -> &Door {
        &self.door
    }
}

/// Objects that Python's managers make, and that need no manager here: each of these is the same as `new` of its type, and lives
/// as long as any process has it.
#[allow(clippy::unused_self, reason = "as in Python, it is asked of a manager")]
impl ManagerHandle {
    /// Makes a [`Dict`](crate::Dict).
    ///
    /// # Errors
    /// As [`Dict::new`](crate::Dict::new).
    pub fn dict<K, V>(&self) -> Result<crate::Dict<K, V>, Error> {
        crate::Dict::new()
    }

    /// Makes a [`List`](crate::List).
    ///
    /// # Errors
    /// As [`List::new`](crate::List::new).
    pub fn list<T>(&self) -> Result<crate::List<T>, Error> {
        crate::List::new()
    }

    /// Makes a [`Set`](crate::Set).
    ///
    /// # Errors
    /// As [`Set::new`](crate::Set::new).
    pub fn set<T>(&self) -> Result<crate::Set<T>, Error> {
        crate::Set::new()
    }

    /// Makes a [`Namespace`](crate::Namespace).
    ///
    /// # Errors
    /// As [`Namespace::new`](crate::Namespace::new).
    #[doc(alias = "Namespace")]
    pub fn namespace(&self) -> Result<crate::Namespace, Error> {
        crate::Namespace::new()
    }

    /// Makes a [`Queue`], for at most `maxsize` items unless that is 0.
    ///
    /// # Errors
    /// As [`Queue::bounded`].
    #[doc(alias = "Queue")]
    pub fn queue<T>(&self, maxsize: usize) -> Result<Queue<T>, Error> {
        Queue::bounded(maxsize)
    }

    /// Makes a [`JoinableQueue`], for at most `maxsize` items unless that is 0.
    ///
    /// # Errors
    /// As [`JoinableQueue::bounded`].
    #[doc(alias = "JoinableQueue")]
    pub fn joinable_queue<T>(&self, maxsize: usize) -> Result<JoinableQueue<T>, Error> {
        JoinableQueue::bounded(maxsize)
    }

    /// Makes a [`Lock`].
    ///
    /// # Errors
    /// As [`Lock::new`].
    #[doc(alias = "Lock")]
    pub fn lock(&self) -> Result<Lock, Error> {
        Lock::new()
    }

    /// Makes an [`RLock`].
    ///
    /// # Errors
    /// As [`RLock::new`].
    #[doc(alias = "RLock")]
    pub fn rlock(&self) -> Result<RLock, Error> {
        RLock::new()
    }

    /// Makes a [`Semaphore`].
    ///
    /// # Errors
    /// As [`Semaphore::new`].
    #[doc(alias = "Semaphore")]
    pub fn semaphore(&self, units: u64) -> Result<Semaphore, Error> {
        Semaphore::new(units)
    }

    /// Makes a [`BoundedSemaphore`].
    ///
    /// # Errors
    /// As [`BoundedSemaphore::new`].
    #[doc(alias = "BoundedSemaphore")]
    pub fn bounded_semaphore(&self, units: u64) -> Result<BoundedSemaphore, Error> {
        BoundedSemaphore::new(units)
    }

    /// Makes an [`Event`].
    ///
    /// # Errors
    /// As [`Event::new`].
    #[doc(alias = "Event")]
    pub fn event(&self) -> Result<Event, Error> {
        Event::new()
    }

    /// Makes a [`Condition`].
    ///
    /// # Errors
    /// As [`Condition::new`].
    #[doc(alias = "Condition")]
    pub fn condition(&self) -> Result<Condition, Error> {
        Condition::new()
    }

    /// Makes a [`Barrier`].
    ///
    /// # Errors
    /// As [`Barrier::new`].
    #[doc(alias = "Barrier")]
    pub fn barrier(&self, parties: usize) -> Result<Barrier, Error> {
        Barrier::new(parties)
    }

    /// Makes a [`Value`](crate::Value).
    ///
    /// # Errors
    /// As [`Value::new`](crate::Value::new).
    #[doc(alias = "Value")]
    pub fn value<T: crate::shared::Pod>(&self, value: T) -> Result<crate::Value<T>, Error> {
        crate::Value::new(value)
    }

    /// Makes an [`Array`](crate::Array) of `len` zeroes.
    ///
    /// # Errors
    /// As [`Array::new`](crate::Array::new).
    #[doc(alias = "Array")]
    pub fn array<T: crate::shared::Pod>(&self, len: usize) -> Result<crate::Array<T>, Error> {
        crate::Array::new(len)
    }
}

/// Whether they are the same manager.
impl PartialEq for ManagerHandle {
    fn eq(&self, other: &Self) -> bool {
        self.door.handle() == other.door.handle()
    }
}

impl Eq for ManagerHandle {}

/// Puts the handle into a message, or the arguments of a spawned process: any other serializer gets an error.
impl Serialize for ManagerHandle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.door.offer::<S::Error>()?.serialize(serializer)
    }
}

/// Takes the handle out of a message, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de> Deserialize<'de> for ManagerHandle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let DoorEnd(object) = DoorEnd::deserialize(deserializer)?;
        Ok(Self::new(Door::from_object(object)))
    }
}
