//! A lock that one process holds at a time, and a lock that its holder may acquire again.

use std::sync::Arc;
use std::time::Duration;

use sandpool_abi::sync::{ELSEWHERE, RECURSIVE};

use super::error::{AcquireError, Patience, ReleaseError};
use super::held::Held;
use crate::object::{Object, Use};
use crate::{Error, raw};

/// A lock that at most one process holds at a time.
///
/// ```no_run
/// use sandpool_guest::{Lock, Process};
///
/// let lock = Lock::new()?;
/// let process = Process::fork(|| -> Result<(), sandpool_guest::Error> {
///     let _guard = lock.acquire()?;
///     println!("these two lines");
///     println!("stay together");
///     Ok(())
/// })?;
/// let guard = lock.acquire()?;
/// println!("and so do");
/// println!("these two");
/// drop(guard);
/// process.join()?;
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// A lock guards whatever the program says that it guards: it holds no value, because processes share no memory by
/// themselves. A process that acquires a lock which it already holds waits for itself; see [`RLock`].
///
/// A forked process has all locks of its creator, but holds none of them: its copy of a guard releases nothing. A lock
/// is also data: it can be an argument of a spawned process and an item, or part of an item, of a queue. A clone is
/// the same lock.
///
/// **When the holder ends** without releasing the lock, killed or not, the next process to acquire the lock gets it,
/// together with [`AcquireError::OwnerDied`]. Nobody waits for ever.
#[derive(Clone)]
pub struct Lock {
    pub(super) object: Arc<Object>,
}

same_object!(Lock, "lock", LOCK);

impl Lock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn new() -> Result<Self, Error> {
        Ok(Self { object: Object::adopt(raw::sync::lock_create(0)?) })
    }

    /// Makes the lock of a collection, which belongs to nothing else.
    pub(crate) fn new_for_shelf() -> Result<Self, Error> {
        let lock = Self::new()?;
        lock.object.made_as(Use::ShelfLock, 0, 0)?;
        Ok(lock)
    }

    /// Makes a `Lock` of an object that is one.
    pub(crate) fn from_object(object: Arc<Object>) -> Self {
        Self { object }
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// Acquires the lock, and waits while somebody else holds it. The lock is released when the guard is dropped.
    ///
    /// ```no_run
    /// use sandpool_guest::Lock;
    /// use sandpool_guest::sync::AcquireError;
    ///
    /// let lock = Lock::new()?;
    /// let guard = match lock.acquire() {
    ///     Err(AcquireError::OwnerDied(guard)) => {
    ///         println!("cleaning up after somebody who can't any more");
    ///         guard
    ///     }
    ///     acquired => acquired?,
    /// };
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`AcquireError::OwnerDied`], which holds the guard, if the last holder has ended without releasing it;
    /// [`AcquireError::Host`].
    #[inline]
    pub fn acquire(&self) -> Result<LockGuard, AcquireError<LockGuard>> {
        self.acquire_within(Patience::Endless)
    }

    /// Acquires the lock, and waits for at most `timeout`.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`AcquireError::TimedOut`] when the time is over.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<LockGuard, AcquireError<LockGuard>> {
        self.acquire_within(Patience::Limited(timeout))
    }

    /// Acquires the lock if nobody holds it.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`AcquireError::WouldBlock`] if any process, also this one, holds the lock.
    pub fn try_acquire(&self) -> Result<LockGuard, AcquireError<LockGuard>> {
        self.acquire_within(Patience::None)
    }

    #[inline]
    fn acquire_within(&self, patience: Patience) -> Result<LockGuard, AcquireError<LockGuard>> {
        Held::lock(&self.object, patience).map(LockGuard).map_err(|error| error.map(LockGuard))
    }

    /// Releases the lock, whoever holds it: for a guard that was [forgotten](LockGuard::forget), perhaps in another
    /// process.
    ///
    /// ```no_run
    /// use sandpool_guest::{Lock, Process};
    ///
    /// let lock = Lock::new()?;
    /// lock.acquire()?.forget();
    /// Process::fork(|| lock.release())?.join()?;
    /// lock.acquire()?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ReleaseError::TooManyTimes`] if nobody holds the lock.
    pub fn release(&self) -> Result<(), ReleaseError> {
        if raw::mute::is_on() {
            return Ok(());
        }
        Ok(raw::sync::lock_release(self.object.handle())?)
    }

    /// Whether somebody holds the lock. With other processes at work, the answer may have changed already.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn locked(&self) -> Result<bool, Error> {
        locked(&self.object)
    }
}

/// Guard of a [`Lock`]: the right to use what the lock guards. The lock is released when the guard is dropped.
///
/// ```no_run
/// use sandpool_guest::Lock;
///
/// let lock = Lock::new()?;
/// let guard = lock.acquire()?;
/// assert!(lock.locked()?);
/// guard.release()?;
/// assert!(!lock.locked()?);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// The guard belongs to the process that acquired the lock. In a forked child, the copy of the guard does nothing.
/// The guard borrows nothing, so that [`AcquireError::OwnerDied`], which holds one, can be passed on by `?`.
#[derive(Debug)]
#[must_use = "the lock is released at once if the guard isn't kept"]
pub struct LockGuard(pub(super) Held);

impl LockGuard {
    /// Releases the lock, as dropping the guard does, and reports if the lock wasn't held any more.
    ///
    /// # Errors
    /// [`ReleaseError::NotOwner`] in a forked child; [`ReleaseError::TooManyTimes`] if somebody has released the
    /// lock.
    pub fn release(self) -> Result<(), ReleaseError> {
        self.0.release()
    }

    /// Keeps the lock acquired without the guard. [`Lock::release`] releases it.
    ///
    /// `std::mem::forget` would also keep the lock acquired, but the process would never give back its use of the
    /// lock object.
    pub fn forget(self) {
        self.0.forget();
    }
}

/// A lock that its holder may acquire again: the lock is free once it was released as often as it was acquired.
///
/// ```no_run
/// use sandpool_guest::RLock;
///
/// let lock = RLock::new()?;
/// let outer = lock.acquire()?;
/// let inner = lock.acquire()?;
/// assert_eq!(lock.depth()?, 2);
/// drop((inner, outer));
/// assert_eq!(lock.depth()?, 0);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// Otherwise an `RLock` works like a [`Lock`], except that only the process that holds it can release it. So guards
/// nest, and the order in which they are dropped doesn't matter.
#[derive(Clone)]
pub struct RLock {
    pub(super) object: Arc<Object>,
}

same_object!(RLock, "lock", RLOCK);

impl RLock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn new() -> Result<Self, Error> {
        Ok(Self { object: Object::adopt(raw::sync::lock_create(RECURSIVE)?) })
    }

    /// Makes the lock of an array, which belongs to nothing else.
    pub(crate) fn new_for_array() -> Result<Self, Error> {
        let lock = Self::new()?;
        lock.object.made_as(Use::ArrayLock, 0, 0)?;
        Ok(lock)
    }

    /// Makes an `RLock` of an object that is one.
    pub(crate) fn from_object(object: Arc<Object>) -> Self {
        Self { object }
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// Acquires the lock, once more if this process holds it, and waits while another process holds it. The lock is
    /// released, once, when the guard is dropped.
    ///
    /// # Errors
    /// [`AcquireError::OwnerDied`], which holds the guard, if the last holder has ended without releasing it;
    /// [`AcquireError::Host`].
    #[inline]
    pub fn acquire(&self) -> Result<RLockGuard, AcquireError<RLockGuard>> {
        self.acquire_within(Patience::Endless)
    }

    /// Acquires the lock, and waits for at most `timeout`.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`AcquireError::TimedOut`] when the time is over.
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<RLockGuard, AcquireError<RLockGuard>> {
        self.acquire_within(Patience::Limited(timeout))
    }

    /// Acquires the lock if no other process holds it.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`AcquireError::WouldBlock`] if another process holds the lock.
    pub fn try_acquire(&self) -> Result<RLockGuard, AcquireError<RLockGuard>> {
        self.acquire_within(Patience::None)
    }

    #[inline]
    fn acquire_within(&self, patience: Patience) -> Result<RLockGuard, AcquireError<RLockGuard>> {
        Held::lock(&self.object, patience).map(RLockGuard).map_err(|error| error.map(RLockGuard))
    }

    /// Releases the lock, once: for a guard that was [forgotten](RLockGuard::forget).
    ///
    /// # Errors
    /// [`ReleaseError::TooManyTimes`] if nobody holds the lock, [`ReleaseError::NotOwner`] if another process does.
    /// (Python says `AssertionError` in both cases.)
    pub fn release(&self) -> Result<(), ReleaseError> {
        if raw::mute::is_on() {
            return Ok(());
        }
        Ok(raw::sync::lock_release(self.object.handle())?)
    }

    /// Whether somebody holds the lock. With other processes at work, the answer may have changed already.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn locked(&self) -> Result<bool, Error> {
        locked(&self.object)
    }

    /// The number of times that this process holds the lock: 0 if it doesn't.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn depth(&self) -> Result<u64, Error> {
        let held = raw::sync::lock_held(self.object.handle())?;
        Ok(if held == ELSEWHERE.cast_unsigned() { 0 } else { held })
    }
}

/// Guard of an [`RLock`]: the right to use what the lock guards. The lock is released, once, when the guard is
/// dropped.
///
/// ```no_run
/// use sandpool_guest::RLock;
///
/// let lock = RLock::new()?;
/// let guard = lock.acquire()?;
/// lock.acquire()?.release()?;
/// assert!(lock.locked()?);
/// guard.release()?;
/// assert!(!lock.locked()?);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// The guard belongs to the process that acquired the lock. In a forked child, the copy of the guard does nothing.
#[derive(Debug)]
#[must_use = "the lock is released at once if the guard isn't kept"]
pub struct RLockGuard(pub(super) Held);

impl RLockGuard {
    /// Releases the lock, once, as dropping the guard does, and reports if the lock wasn't held any more.
    ///
    /// # Errors
    /// [`ReleaseError::NotOwner`] in a forked child; [`ReleaseError::TooManyTimes`] if the lock was released too
    /// often.
    pub fn release(self) -> Result<(), ReleaseError> {
        self.0.release()
    }

    /// Keeps the lock acquired without the guard. [`RLock::release`] releases it.
    pub fn forget(self) {
        self.0.forget();
    }
}

fn locked(lock: &Object) -> Result<bool, Error> {
    Ok(raw::sync::lock_held(lock.handle())? != 0)
}
