//! The common part of all guards.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use sandpool_abi::Errno;

use super::error::{AcquireError, Patience, ReleaseError};
use crate::object::Object;
use crate::raw;

/// A lock or unit that was acquired, to be released once.
///
/// A fork copies this value with all other memory, but the child hasn't acquired anything, so only the process that did
/// releases. Checking who holds the lock isn't enough: the child may have acquired the lock as well by the time that it
/// drops its copy of an older guard.
pub(super) struct Held<W: What = Lock> {
    object: Arc<Object>,
    /// 0 once the lock or unit was released or forgotten.
    owner: u64,
    what: PhantomData<W>,
}

/// The kind of thing that is held.
pub(super) trait What {
    fn release(object: u64) -> Result<(), Errno>;
}

/// A lock.
pub(super) enum Lock {}

/// A unit of a semaphore.
pub(super) enum Unit {}

impl What for Lock {
    #[inline]
    fn release(object: u64) -> Result<(), Errno> {
        raw::sync::lock_release(object)
    }
}

impl What for Unit {
    fn release(object: u64) -> Result<(), Errno> {
        raw::sync::semaphore_release(object, 1)
    }
}

impl Held<Lock> {
    /// Acquires a lock.
    #[inline]
    pub(super) fn lock(lock: &Arc<Object>, patience: Patience) -> Result<Self, AcquireError<Self>> {
        let held = Self::prepared(lock).map_err(AcquireError::Host)?;
        match raw::sync::lock_acquire(lock.handle(), patience.timeout()) {
            Ok(()) => Ok(held),
            Err(errno) => Err(held.not_acquired(errno, patience)),
        }
    }

    #[cold]
    fn not_acquired(self, errno: Errno, patience: Patience) -> AcquireError<Self> {
        if errno == Errno::Ownerdead {
            return AcquireError::OwnerDied(self);
        }
        self.forget();
        AcquireError::new(errno, patience)
    }
}

impl Held<Unit> {
    /// Acquires a unit of a semaphore.
    pub(super) fn unit(semaphore: &Arc<Object>, patience: Patience) -> Result<Self, AcquireError> {
        let held = Self::prepared(semaphore).map_err(AcquireError::Host)?;
        match raw::sync::semaphore_acquire(semaphore.handle(), patience.timeout()) {
            Ok(()) => Ok(held),
            Err(other) => {
                held.forget();
                Err(AcquireError::new(other, patience))
            }
        }
    }
}

impl<W: What> Held<W> {
    /// Does everything that can fail before acquiring, because what is acquired would be lost by a later failure.
    #[inline]
    fn prepared(object: &Arc<Object>) -> Result<Self, Errno> {
        Ok(Self { object: Arc::clone(object), owner: raw::process::current()?, what: PhantomData })
    }

    pub(super) fn handle(&self) -> u64 {
        self.object.handle()
    }

    pub(super) fn release(mut self) -> Result<(), ReleaseError> {
        self.give_back()
    }

    /// Keeps the lock or unit acquired.
    pub(super) fn forget(mut self) {
        self.owner = 0;
    }

    #[inline]
    fn give_back(&mut self) -> Result<(), ReleaseError> {
        let owner = std::mem::take(&mut self.owner);
        if owner == 0 {
            return Ok(());
        }
        if raw::process::current()? != owner {
            return Err(ReleaseError::NotOwner);
        }
        Ok(W::release(self.object.handle())?)
    }
}

impl<W: What> Drop for Held<W> {
    #[inline]
    fn drop(&mut self) {
        // The lock or unit belongs to another process, or another process has released it: then nothing is to be done
        // here.
        let _ = self.give_back();
    }
}

impl<W: What> fmt::Debug for Held<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.object.handle())
    }
}
