//! Units that processes acquire and release.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use sandpool_abi::sync::{BOUNDED, RETURNED};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{AcquireError, Patience, ReleaseError};
use super::held::{Held, Unit};
use crate::object::{Object, Role};
use crate::{Error, raw};

/// The maximum number of units.
const UNITS_MAX: u64 = 1 << 62;

/// The fate of the units that a process holds when it ends.
///
/// ```no_run
/// use sandpool_guest::{BoundedSemaphore, Semaphore};
/// use sandpool_guest::sync::Abandoned;
///
/// // A signal that was received was received, whatever becomes of the receiver.
/// let signals = Semaphore::new(0)?;
/// // A place is free again when who took it is gone.
/// let places = BoundedSemaphore::new(4)?;
/// // And either the other way round.
/// let places = Semaphore::with_policy(4, Abandoned::Returned)?;
/// let fuses = BoundedSemaphore::with_policy(4, Abandoned::Lost)?;
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// A process holds a unit from acquiring it until the process releases one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Abandoned {
    /// The units are lost, as in Python.
    Lost,
    /// The units are free again.
    Returned,
}

impl Abandoned {
    fn flags(self) -> u32 {
        match self {
            Self::Lost => 0,
            Self::Returned => RETURNED,
        }
    }
}

/// A number of units, of which processes acquire and release one or more.
///
/// ```no_run
/// use sandpool_guest::{Process, Semaphore};
///
/// let done = Semaphore::new(0)?;
/// for number in 1..=3 {
///     let done = done.clone();
///     Process::fork(move || {
///         println!("{number}");
///         done.release()
///     })?;
/// }
/// for _ in 1..=3 {
///     // A signal: nobody gives it back.
///     done.acquire()?.forget();
/// }
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// Any process may release, also more units than were acquired: the number has no bound but 2<sup>62</sup>. For a
/// resource of which there is a fixed number, see [`BoundedSemaphore`]. Units that a process holds when it ends are lost
/// by default, as in Python, because a semaphore like this is most often a signal; see [`Abandoned`].
///
/// A forked process has all semaphores of its creator, but holds no unit: its copy of a permit releases nothing. A
/// semaphore is also data: it can be an argument of a spawned process and an item, or part of an item, of a queue. A
/// clone is the same semaphore.
#[derive(Clone)]
pub struct Semaphore {
    object: Arc<Object>,
}

same_object!(Semaphore, "semaphore", SEMAPHORE);

impl Semaphore {
    /// Makes a semaphore with `value` free units. Units that a process holds when it ends are lost.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`]; [`Error::OutOfRange`] for more than 2<sup>62</sup> units.
    pub fn new(value: u64) -> Result<Self, Error> {
        Self::with_policy(value, Abandoned::Lost)
    }

    /// Makes a semaphore with `value` free units, and chooses the fate of the units that a process holds when it
    /// ends.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_policy(value: u64, abandoned: Abandoned) -> Result<Self, Error> {
        Self::create(value, abandoned.flags())
    }

    fn create(value: u64, flags: u32) -> Result<Self, Error> {
        if value > UNITS_MAX {
            return Err(Error::OutOfRange("a semaphore has at most 2^62 units"));
        }
        Ok(Self { object: Object::adopt(raw::sync::semaphore_create(value, flags)?) })
    }

    /// Acquires a unit, and waits while there is none. The unit is released when the permit is dropped.
    ///
    /// # Errors
    /// [`AcquireError::Host`].
    pub fn acquire(&self) -> Result<SemaphorePermit, AcquireError> {
        self.acquire_within(Patience::Endless)
    }

    /// Acquires a unit, and waits for at most `timeout`.
    ///
    /// # Errors
    /// [`AcquireError::TimedOut`] when the time is over; [`AcquireError::Host`].
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<SemaphorePermit, AcquireError> {
        self.acquire_within(Patience::Limited(timeout))
    }

    /// Acquires a unit if there is one at once.
    ///
    /// # Errors
    /// [`AcquireError::WouldBlock`] if there is none; [`AcquireError::Host`].
    pub fn try_acquire(&self) -> Result<SemaphorePermit, AcquireError> {
        self.acquire_within(Patience::None)
    }

    fn acquire_within(&self, patience: Patience) -> Result<SemaphorePermit, AcquireError> {
        Held::unit(&self.object, patience).map(SemaphorePermit)
    }

    /// Releases a unit, which another process may have acquired.
    ///
    /// # Errors
    /// [`ReleaseError::TooManyTimes`] if a [`BoundedSemaphore`] would have more units than it was made with, or any semaphore
    /// more than 2<sup>62</sup>.
    pub fn release(&self) -> Result<(), ReleaseError> {
        self.release_many(1)
    }

    /// Releases `count` units at once, and wakes the same number of waiting processes.
    ///
    /// ```no_run
    /// use sandpool_guest::Semaphore;
    ///
    /// let start = Semaphore::new(0)?;
    /// start.release_many(8)?;
    /// assert_eq!(start.value()?, 8);
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`release`](Self::release); then no unit is released.
    #[doc(alias = "release")]
    pub fn release_many(&self, count: u64) -> Result<(), ReleaseError> {
        if raw::mute::is_on() {
            return Ok(());
        }
        if count > UNITS_MAX {
            return Err(ReleaseError::TooManyTimes);
        }
        Ok(raw::sync::semaphore_release(self.object.handle(), count)?)
    }

    /// The number of free units. With other processes at work, the number may have changed already.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    #[doc(alias = "get_value")]
    pub fn value(&self) -> Result<u64, Error> {
        Ok(raw::sync::semaphore_value(self.object.handle())?)
    }

    /// The number of units, since the semaphore was made, that processes held when they ended: those units were lost,
    /// or returned.
    ///
    /// ```no_run
    /// use sandpool_guest::{BoundedSemaphore, Process};
    ///
    /// let places = BoundedSemaphore::new(2)?;
    /// let process = Process::fork(|| places.acquire().map(std::mem::forget))?;
    /// process.join()?;
    /// assert_eq!((places.value()?, places.died()?), (2, 1));
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn died(&self) -> Result<u64, Error> {
        Ok(raw::sync::semaphore_died(self.object.handle())?)
    }
}

/// A [`Semaphore`] that never has more units than it was made with, for a resource of which there is a fixed number.
///
/// ```no_run
/// use sandpool_guest::{BoundedSemaphore, Process};
///
/// let places = BoundedSemaphore::new(2)?;
/// for number in 1..=8 {
///     let places = places.clone();
///     Process::fork(move || -> Result<(), sandpool_guest::Error> {
///         let _place = places.acquire()?;
///         println!("{number} is one of two at most");
///         Ok(())
///     })?;
/// }
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// Units that a process holds when it ends are returned by default, because they stand for something that no process
/// uses any more; see [`Abandoned`]. As in Python a bounded semaphore is a semaphore: it has all methods of one, and
/// can be passed as one.
#[derive(Clone)]
pub struct BoundedSemaphore(Semaphore);

same_object!(BoundedSemaphore, "semaphore");

impl BoundedSemaphore {
    /// Makes a semaphore with `value` units, all of them free. Units that a process holds when it ends are returned.
    ///
    /// # Errors
    /// As [`Semaphore::new`].
    pub fn new(value: u64) -> Result<Self, Error> {
        Self::with_policy(value, Abandoned::Returned)
    }

    /// Makes a semaphore with `value` units, and chooses the fate of the units that a process holds when it ends.
    ///
    /// # Errors
    /// As [`Semaphore::new`].
    pub fn with_policy(value: u64, abandoned: Abandoned) -> Result<Self, Error> {
        Semaphore::create(value, BOUNDED | abandoned.flags()).map(Self)
    }
}

impl Deref for BoundedSemaphore {
    type Target = Semaphore;

    fn deref(&self) -> &Semaphore {
        &self.0
    }
}

/// Puts the semaphore into an item of a queue, or the arguments of a spawned process: any other serializer gets an error.
impl Serialize for BoundedSemaphore {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Takes the semaphore out of an item of a queue, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de> Deserialize<'de> for BoundedSemaphore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Object::deserialize(&Role::BOUNDED_SEMAPHORE, deserializer)?;
        Ok(Self(Semaphore { object }))
    }
}

/// A unit of a [`Semaphore`], which is released when the permit is dropped.
///
/// ```no_run
/// use sandpool_guest::Semaphore;
///
/// let semaphore = Semaphore::new(2)?;
/// let kept = semaphore.acquire()?;
/// semaphore.acquire()?.forget();
/// assert_eq!(semaphore.value()?, 0);
/// drop(kept);
/// assert_eq!(semaphore.value()?, 1);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// The permit belongs to the process that acquired the unit. In a forked child, the copy of the permit does nothing.
#[derive(Debug)]
#[must_use = "the unit is released at once if the permit isn't kept"]
pub struct SemaphorePermit(Held<Unit>);

impl SemaphorePermit {
    /// Releases the unit, as dropping the permit does, and reports an error if the unit can't be released.
    ///
    /// # Errors
    /// [`ReleaseError::NotOwner`] in a forked child; [`ReleaseError::TooManyTimes`] if a [`BoundedSemaphore`] has all
    /// its units, because somebody has released this one.
    pub fn release(self) -> Result<(), ReleaseError> {
        self.0.release()
    }

    /// Keeps the unit acquired without the permit: for a signal, which nobody gives back, or for a unit that
    /// [`Semaphore::release`] releases.
    pub fn forget(self) {
        self.0.forget();
    }
}
