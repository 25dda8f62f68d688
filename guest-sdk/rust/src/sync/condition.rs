//! Waiting for a change that other processes announce.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sandpool_abi::sync::{NOTIFIED, OWNER_DIED};
use sandpool_abi::{Errno, FOREVER};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{AcquireError, Patience, ReleaseError};
use super::held::Held;
use super::lock::{Lock, LockGuard, RLock, RLockGuard};
use crate::deadline::nanoseconds;
use crate::error::into_error;
use crate::object::{Object, Role, Use, mismatched};
use crate::{Error, raw};

/// A lock, and processes that wait for a change of the data that it guards.
///
/// ```no_run
/// use sandpool_guest::{Condition, Process, Queue};
///
/// let changed = Condition::new()?;
/// let numbers = Queue::<u32>::new()?;
/// let process = Process::fork(|| -> Result<(), sandpool_guest::Error> {
///     let guard = changed.acquire()?;
///     guard.wait_for(|| numbers.qsize().is_ok_and(|size| size == 2))?;
///     println!("there are two");
///     Ok(())
/// })?;
/// for number in 1..=2 {
///     let guard = changed.acquire()?;
///     numbers.put(&number)?;
///     guard.notify_all()?;
/// }
/// process.join()?;
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// Only the holder of the lock may wait and notify, so both are methods of the guard that [`acquire`](Self::acquire)
/// returns. While a process waits it doesn't hold the lock; when the wait is over, the process holds the lock again.
///
/// A forked process has all conditions of its creator, but holds no lock: it can do nothing with its copy of a guard. A
/// condition is also data, its lock included: it can be an argument of a spawned process and an item, or part of an
/// item, of a queue. A clone is the same condition. A waiting process that ends, in whatever way, leaves the condition
/// in order.
#[derive(Clone)]
pub struct Condition {
    object: Arc<Object>,
    lock: Arc<Object>,
}

same_object!(Condition, "condition");

impl Condition {
    /// Makes a condition with an [`RLock`] of its own.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn new() -> Result<Self, Error> {
        Self::with_rlock(&RLock::new()?)
    }

    /// Makes a condition with the given lock, which other conditions may have as well: see [`under`](Self::under).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[doc(alias = "Condition")]
    pub fn with_lock(lock: &Lock) -> Result<Self, Error> {
        Self::create(&lock.object)
    }

    /// Makes a condition with the given recursive lock. A wait releases the lock wholly, however often it is held.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[doc(alias = "Condition")]
    pub fn with_rlock(lock: &RLock) -> Result<Self, Error> {
        Self::create(&lock.object)
    }

    fn create(lock: &Arc<Object>) -> Result<Self, Error> {
        let object = Object::adopt(raw::sync::condition_create()?);
        object.made_as(Use::Condition, 0, lock.handle())?;
        Ok(Self { object, lock: Arc::clone(lock) })
    }

    /// Acquires the lock, and waits while somebody else holds it. The lock is released when the guard is dropped.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub fn acquire(&self) -> Result<ConditionGuard<'static>, AcquireError<ConditionGuard<'static>>> {
        self.acquire_within(Patience::Endless)
    }

    /// Acquires the lock, and waits for at most `timeout`.
    ///
    /// # Errors
    /// As [`Lock::acquire_timeout`].
    pub fn acquire_timeout(
        &self,
        timeout: Duration,
    ) -> Result<ConditionGuard<'static>, AcquireError<ConditionGuard<'static>>> {
        self.acquire_within(Patience::Limited(timeout))
    }

    /// Acquires the lock if that is possible without waiting.
    ///
    /// # Errors
    /// As [`Lock::try_acquire`].
    pub fn try_acquire(&self) -> Result<ConditionGuard<'static>, AcquireError<ConditionGuard<'static>>> {
        self.acquire_within(Patience::None)
    }

    fn acquire_within(
        &self,
        patience: Patience,
    ) -> Result<ConditionGuard<'static>, AcquireError<ConditionGuard<'static>>> {
        let guard = |held| ConditionGuard { condition: Arc::clone(&self.object), lock: Holding::Own(held) };
        Held::lock(&self.lock, patience).map(guard).map_err(|error| error.map(guard))
    }

    /// Releases the lock: for a guard that was [forgotten](ConditionGuard::forget).
    ///
    /// # Errors
    /// As [`Lock::release`] or [`RLock::release`].
    pub fn release(&self) -> Result<(), ReleaseError> {
        if raw::mute::is_on() {
            return Ok(());
        }
        Ok(raw::sync::lock_release(self.lock.handle())?)
    }

    /// Returns a guard of this condition for an existing guard: of the lock itself, or of another condition with the
    /// same lock. Dropping the returned guard releases nothing.
    ///
    /// ```no_run
    /// use sandpool_guest::{Condition, Lock};
    ///
    /// let lock = Lock::new()?;
    /// let (not_empty, not_full) = (Condition::with_lock(&lock)?, Condition::with_lock(&lock)?);
    ///
    /// let guard = not_full.acquire()?;
    /// // … wait for room, and fill it …
    /// not_empty.under(&guard)?.notify_one()?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ConditionError::NotOwner`] if the guard belongs to another lock.
    pub fn under<'a>(&self, guard: &'a impl Guard) -> Result<ConditionGuard<'a>, ConditionError> {
        let held = guard.held();
        if held.handle() != self.lock.handle() {
            return Err(ConditionError::NotOwner);
        }
        Ok(ConditionGuard { condition: Arc::clone(&self.object), lock: Holding::Borrowed(held) })
    }
}

/// Puts the condition into an item of a queue, or the arguments of a spawned process: any other serializer gets an error.
impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object: u32 = self.object.offer(Role::CONDITION.what)?;
        let lock: u32 = self.lock.offer(Role::CONDITION.what)?;
        (object, lock).serialize(serializer)
    }
}

/// Takes the condition out of an item of a queue, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (object, lock) = Deserialize::deserialize(deserializer)?;
        let condition = Object::claim(object, &Role::CONDITION)?;
        let lock = Object::claim(lock, &Role::ANY_LOCK)?.object;
        if lock.handle() != condition.partner {
            return Err(mismatched(Role::CONDITION.what));
        }
        Ok(Self { object: condition.object, lock })
    }
}

/// A guard that proves that a lock was acquired: the argument of [`Condition::under`].
///
/// ```no_run
/// use sandpool_guest::Condition;
/// use sandpool_guest::sync::{ConditionError, Guard};
///
/// fn tell(everybody: &[Condition], guard: &impl Guard) -> Result<(), ConditionError> {
///     for condition in everybody {
///         condition.under(guard)?.notify_all()?;
///     }
///     Ok(())
/// }
/// ```
///
/// The trait can't be implemented for other types.
pub trait Guard: sealed::Sealed {}

impl Guard for LockGuard {}
impl Guard for RLockGuard {}
impl Guard for ConditionGuard<'_> {}

mod sealed {
    use super::Held;

    pub trait Sealed {
        #[allow(private_interfaces, reason = "it is sealed, so that nobody else can call this")]
        fn held(&self) -> &Held;
    }
}

#[allow(private_interfaces, reason = "as above")]
impl sealed::Sealed for LockGuard {
    fn held(&self) -> &Held {
        &self.0
    }
}

#[allow(private_interfaces, reason = "as above")]
impl sealed::Sealed for RLockGuard {
    fn held(&self) -> &Held {
        &self.0
    }
}

#[allow(private_interfaces, reason = "as above")]
impl sealed::Sealed for ConditionGuard<'_> {
    fn held(&self) -> &Held {
        self.lock.held()
    }
}

/// Guard of a [`Condition`]: the right to wait, to notify others, and to use what the lock guards. The lock is released
/// when the guard is dropped.
///
/// ```no_run
/// use std::time::Duration;
/// use sandpool_guest::Condition;
///
/// let condition = Condition::new()?;
/// let guard = condition.acquire()?;
/// if !guard.wait_timeout(Duration::from_secs(1))? {
///     println!("nobody has notified anybody");
/// }
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// The guard belongs to the process that acquired the lock. In a forked child, to wait or to notify with the copy
/// fails with [`ConditionError::NotOwner`].
#[must_use = "the lock is released at once if the guard isn't kept"]
pub struct ConditionGuard<'a> {
    condition: Arc<Object>,
    lock: Holding<'a>,
}

enum Holding<'a> {
    Own(Held),
    Borrowed(&'a Held),
}

impl Holding<'_> {
    fn held(&self) -> &Held {
        match self {
            Self::Own(held) => held,
            Self::Borrowed(held) => held,
        }
    }
}

impl ConditionGuard<'_> {
    /// Releases the lock, waits until this process is notified, and acquires the lock again, however long that takes.
    ///
    /// # Errors
    /// [`ConditionError`]. After [`ConditionError::OwnerDied`] the lock is held, after any other error it isn't.
    pub fn wait(&self) -> Result<(), ConditionError> {
        self.wait_within(FOREVER).map(drop)
    }

    /// Like [`wait`](Self::wait), but waits no longer than `timeout`. Returns whether this process was notified.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[doc(alias = "wait")]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, ConditionError> {
        self.wait_within(nanoseconds(timeout))
    }

    /// Waits until `predicate` holds: the predicate is called first, and after each notification, each time with the
    /// lock held.
    ///
    /// # Errors
    /// As [`wait`](Self::wait). After [`ConditionError::OwnerDied`] this method may be called again.
    pub fn wait_for(&self, mut predicate: impl FnMut() -> bool) -> Result<(), ConditionError> {
        while !predicate() {
            self.wait()?;
        }
        Ok(())
    }

    /// Like [`wait_for`](Self::wait_for), but waits no longer than `timeout`. Returns the last result of `predicate`.
    ///
    /// ```no_run
    /// # let condition = sandpool_guest::Condition::new()?;
    /// # let jobs = sandpool_guest::Queue::<String>::new()?;
    /// use std::time::Duration;
    ///
    /// let guard = condition.acquire()?;
    /// if !guard.wait_for_timeout(Duration::from_secs(5), || jobs.is_empty().unwrap_or(true))? {
    ///     println!("{} jobs are left", jobs.qsize()?);
    /// }
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    #[doc(alias = "wait_for")]
    pub fn wait_for_timeout(
        &self,
        timeout: Duration,
        mut predicate: impl FnMut() -> bool,
    ) -> Result<bool, ConditionError> {
        let start = Instant::now();
        loop {
            if predicate() {
                return Ok(true);
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(false);
            }
            self.wait_timeout(left)?;
        }
    }

    fn wait_within(&self, timeout: u64) -> Result<bool, ConditionError> {
        let lock = self.lock.held().handle();
        let happened = raw::sync::condition_wait(self.condition.handle(), lock, timeout)?;
        let notified = happened & NOTIFIED.cast_unsigned() != 0;
        if happened & OWNER_DIED.cast_unsigned() == 0 {
            Ok(notified)
        } else {
            Err(ConditionError::OwnerDied { notified })
        }
    }

    /// Wakes up to `count` processes, those that have waited longest, and returns the number of processes that were
    /// woken. They go on when they get the lock.
    ///
    /// # Errors
    /// [`ConditionError::NotOwner`], [`ConditionError::Host`].
    pub fn notify(&self, count: u64) -> Result<u64, ConditionError> {
        // There are never more processes than that.
        let count = count.min(i64::MAX.cast_unsigned());
        Ok(raw::sync::condition_notify(self.condition.handle(), self.lock.held().handle(), count)?)
    }

    /// Wakes the process that has waited longest, if any waits. Returns whether a process was woken.
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    #[doc(alias = "notify")]
    pub fn notify_one(&self) -> Result<bool, ConditionError> {
        Ok(self.notify(1)? != 0)
    }

    /// Wakes all processes that wait, and returns their number.
    ///
    /// # Errors
    /// As [`notify`](Self::notify).
    pub fn notify_all(&self) -> Result<u64, ConditionError> {
        self.notify(u64::MAX)
    }

    /// Releases the lock, as dropping the guard does, and reports if the lock wasn't held any more. With a guard of
    /// [`Condition::under`], it does nothing.
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    pub fn release(self) -> Result<(), ReleaseError> {
        match self.lock {
            Holding::Own(held) => held.release(),
            Holding::Borrowed(_) => Ok(()),
        }
    }

    /// Keeps the lock acquired without the guard. [`Condition::release`] releases it.
    pub fn forget(self) {
        if let Holding::Own(held) = self.lock {
            held.forget();
        }
    }
}

impl fmt::Debug for ConditionGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConditionGuard({:#x})", self.condition.handle())
    }
}

/// The reason why a wait or a notification didn't go as intended.
///
/// ```no_run
/// use sandpool_guest::Condition;
/// use sandpool_guest::sync::ConditionError;
///
/// let condition = Condition::new()?;
/// let guard = condition.acquire()?;
/// match guard.wait() {
///     Ok(()) => println!("notified"),
///     Err(ConditionError::OwnerDied { notified }) => println!("cleaning up; notified: {notified}"),
///     Err(other) => return Err(other.into()),
/// }
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConditionError {
    /// The wait is over and the lock **is** held again. The process that held the lock meanwhile has ended and didn't
    /// release it, so the data that it guards may be half changed. This is reported once.
    OwnerDied {
        /// Whether this process was notified: if not, the time was over.
        notified: bool,
    },
    /// This process doesn't hold the lock, as in a forked child, or the guard belongs to another lock: Python's
    /// `AssertionError`.
    NotOwner,
    /// Anything else that the host reported.
    Host(Errno),
}

impl From<Errno> for ConditionError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::Perm => Self::NotOwner,
            other => Self::Host(other),
        }
    }
}

impl fmt::Display for ConditionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied { .. } => Errno::Ownerdead.fmt(f),
            Self::NotOwner => f.write_str("this process doesn't hold the lock of the condition"),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

// No `source`: the variants that wrap an error say the same as the wrapped one.
impl std::error::Error for ConditionError {}

into_error!(ConditionError);
