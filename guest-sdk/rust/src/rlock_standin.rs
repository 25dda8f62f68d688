//! Stands in for `sync::RLock` until that is merged, which replaces this file: no more of it than is needed.

use std::fmt;
use std::sync::Arc;

use sandpool_abi::sync::RECURSIVE;
use sandpool_abi::{Errno, FOREVER};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::object::Object;
use crate::{Error, raw};

/// A lock that the process which holds it may acquire again: it is free when it was released as often.
#[derive(Clone)]
pub struct RLock {
    object: Arc<Object>,
}

impl RLock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn new() -> Result<Self, Error> {
        Ok(Self { object: Object::adopt(raw::sync_standin::lock_create(RECURSIVE)?) })
    }

    /// Acquires it, and waits for that while another process has it.
    ///
    /// # Errors
    /// [`AcquireError::OwnerDied`], which holds the guard; [`AcquireError::Host`].
    pub fn acquire(&self) -> Result<RLockGuard, AcquireError<RLockGuard>> {
        let guard = RLockGuard { object: self.object.clone() };
        match raw::sync_standin::lock_acquire(self.object.handle(), FOREVER) {
            Ok(()) => Ok(guard),
            Err(Errno::Ownerdead) => Err(AcquireError::OwnerDied(guard)),
            Err(errno) => {
                std::mem::forget(guard);
                Err(AcquireError::Host(errno))
            }
        }
    }
}

impl fmt::Debug for RLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RLock({:#x})", self.object.handle())
    }
}

/// Whether they are the same lock.
impl PartialEq for RLock {
    fn eq(&self, other: &Self) -> bool {
        self.object.handle() == other.object.handle()
    }
}

impl Eq for RLock {}

/// Only inside of a message, or the arguments of a spawned process: it is an error for any other serializer.
impl Serialize for RLock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize("lock", serializer)
    }
}

/// As [`Serialize`].
impl<'de> Deserialize<'de> for RLock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { object: Object::deserialize("lock", deserializer)? })
    }
}

/// The right to what an [`RLock`] guards.
pub struct RLockGuard {
    object: Arc<Object>,
}

impl fmt::Debug for RLockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RLockGuard({:#x})", self.object.handle())
    }
}

impl Drop for RLockGuard {
    fn drop(&mut self) {
        let _ = raw::sync_standin::lock_release(self.object.handle());
    }
}

/// Why something wasn't acquired; or that it was, but from a process that has ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError<G> {
    /// It would have to wait.
    WouldBlock,
    /// It **is** acquired, and this is the guard; what it guards may be half changed.
    OwnerDied(G),
    /// Anything else that the host reported.
    Host(Errno),
}

impl<G> fmt::Display for AcquireError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("it would have to wait"),
            Self::OwnerDied(_) => Errno::Ownerdead.fmt(f),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

impl<G: fmt::Debug> std::error::Error for AcquireError<G> {}
