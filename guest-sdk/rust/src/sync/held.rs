//! What all guards are made of.

use std::fmt;
use std::sync::Arc;

use sandpool_abi::Errno;

use super::error::{AcquireError, Patience, ReleaseError};
use crate::object::Object;
use crate::raw;

/// Something acquired, to be released once.
///
/// A fork copies it with all other memory, but the child hasn't acquired anything, so only the process that did
/// releases. A look at who holds the lock wouldn't do: the child may have acquired it as well by the time that it drops
/// its copy of an older guard.
pub(super) struct Held {
    object: Arc<Object>,
    owner: u64,
    /// `None` once it was released or forgotten.
    release: Option<fn(u64) -> Result<(), Errno>>,
}

impl Held {
    /// Acquires a lock.
    pub(super) fn lock(lock: &Arc<Object>, patience: Patience) -> Result<Self, AcquireError<Self>> {
        let held = Self::prepared(lock, raw::sync::lock_release).map_err(AcquireError::Host)?;
        match raw::sync::lock_acquire(lock.handle(), patience.timeout()) {
            Ok(()) => Ok(held),
            Err(Errno::Ownerdead) => Err(AcquireError::OwnerDied(held)),
            Err(other) => {
                held.forget();
                Err(AcquireError::new(other, patience))
            }
        }
    }

    /// Acquires a unit of a semaphore.
    pub(super) fn unit(semaphore: &Arc<Object>, patience: Patience) -> Result<Self, AcquireError> {
        let release = |semaphore| raw::sync::semaphore_release(semaphore, 1);
        let held = Self::prepared(semaphore, release).map_err(AcquireError::Host)?;
        match raw::sync::semaphore_acquire(semaphore.handle(), patience.timeout()) {
            Ok(()) => Ok(held),
            Err(other) => {
                held.forget();
                Err(AcquireError::new(other, patience))
            }
        }
    }

    /// All that can fail, before anything is acquired that would be lost then.
    fn prepared(object: &Arc<Object>, release: fn(u64) -> Result<(), Errno>) -> Result<Self, Errno> {
        Ok(Self { object: Arc::clone(object), owner: raw::process::current()?, release: Some(release) })
    }

    pub(super) fn handle(&self) -> u64 {
        self.object.handle()
    }

    pub(super) fn release(mut self) -> Result<(), ReleaseError> {
        self.give_back()
    }

    /// It stays acquired.
    pub(super) fn forget(mut self) {
        self.release = None;
    }

    fn give_back(&mut self) -> Result<(), ReleaseError> {
        let Some(release) = self.release.take() else {
            return Ok(());
        };
        if raw::process::current()? != self.owner {
            return Err(ReleaseError::NotOwner);
        }
        Ok(release(self.object.handle())?)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Somebody else's, or released already by somebody else: then there is nothing to be done here.
        let _ = self.give_back();
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.object.handle())
    }
}
