//! Elements of one type, with a lock.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::borrowed::{self, Borrow};
use super::{AcquireError, RLock, RLockGuard, RawArray, without_guard};
use crate::Error;
use crate::object::{Object, Role, Use, mismatched};
use crate::raw::shared::Exclusive;

/// An array that several processes use, one process at a time.
///
/// ```no_run
/// use sandpool_guest::{Array, Process};
///
/// let counts = Array::<u64>::new(26)?;
/// let workers = ["some text", "and more of it"]
///     .map(|text| {
///         Process::fork(|| -> Result<(), sandpool_guest::Error> {
///             let letters = text.bytes().filter(u8::is_ascii_lowercase);
///             counts.update(|counts| letters.for_each(|letter| counts[usize::from(letter - b'a')] += 1))
///         })
///     });
/// for worker in workers {
///     worker?.join()?;
/// }
/// println!("{:?}", counts.to_vec()?);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// Under its lock, an array is a slice: [`update`](Self::update) and [`lock`](Self::lock) give the slice, and a loop
/// over it is as fast as one over a `Vec`. The other methods take the lock for each call. The lock belongs to the
/// array, and isn't available without it; if several arrays are to change together, lock each of them, always in the
/// same order, or guard them all by an `RLock` of your own. Where no lock is needed, use [`RawArray`], which also
/// lists the possible types of elements.
///
/// A forked process has all arrays of its creator. An array is also data, for spawned processes, queues and pipes.
/// A clone is the same array; its memory is free when the last process has dropped it and no message holds it.
///
/// # When the holder of the lock dies
///
/// The next process that takes the lock is told: [`AcquireError::OwnerDied`], which has the guard, because the content
/// of the array may be half changed; or [`Error::OwnerDied`] from the methods that take the lock themselves, which
/// then have done nothing. The death is reported once.
///
/// # Panics
/// In a process that has an [`ArrayGuard`], every other access to the same array panics, as with a `RefCell`. Waiting for
/// the guard would never end, because only the same process can drop it.
pub struct Array<T> {
    elements: RawArray<T>,
    lock: RLock,
}

impl<T: Pod> Array<T> {
    /// Makes an array of zeroes.
    ///
    /// # Errors
    /// [`Error::ArenaFull`], [`Error::TooLarge`], [`Error::TooManyObjects`].
    pub fn new(len: usize) -> Result<Self, Error> {
        let lock = RLock::new_for_array()?;
        let elements = RawArray::create_with(len, Use::Array, lock.object().handle())?;
        Ok(Self { elements, lock })
    }

    /// Makes an array of these elements.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_slice(elements: &[T]) -> Result<Self, Error> {
        let array = Self::new(elements.len())?;
        array.elements.copy_from(0, elements)?;
        Ok(array)
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether the array has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Returns element `index`.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::OwnerDied`]; [`Error::OutOfMemory`] if there are no addresses left to map the
    /// array to.
    pub fn get(&self, index: usize) -> Result<T, Error> {
        self.locked(|elements| elements.get(index))
    }

    /// Changes element `index`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn set(&self, index: usize, value: T) -> Result<(), Error> {
        self.locked(|elements| elements.set(index, value))
    }

    /// Copies elements of the array into `elements`, from `first` on.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::OwnerDied`]; nothing is copied.
    pub fn read_into(&self, first: usize, elements: &mut [T]) -> Result<(), Error> {
        self.locked(|array| array.copy_to(first, elements))
    }

    /// Copies `elements` into the array, from `first` on.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::OwnerDied`]; nothing is copied. Source elements in shared memory are an error,
    /// too.
    pub fn write_from(&self, first: usize, elements: &[T]) -> Result<(), Error> {
        self.locked(|array| array.copy_from(first, elements))
    }

    /// Returns a copy of all elements.
    ///
    /// # Errors
    /// [`Error::OwnerDied`], [`Error::OutOfMemory`].
    pub fn to_vec(&self) -> Result<Vec<T>, Error> {
        self.locked(RawArray::to_vec)
    }

    /// Takes the lock, and passes all elements to `change`.
    ///
    /// ```no_run
    /// # let balances = sandpool_guest::Array::<i64>::new(2)?;
    /// balances.update(|balances| {
    ///     balances[0] -= 5;
    ///     balances[1] += 5;
    /// })?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OwnerDied`], and `change` isn't called; [`Error::OutOfMemory`] if there are no addresses left to map the
    /// array to.
    pub fn update<R>(&self, change: impl FnOnce(&mut [T]) -> R) -> Result<R, Error> {
        Ok(change(&mut self.lock().map_err(without_guard)?))
    }

    /// Takes the lock, waiting for it if another process has it, until the guard is dropped. The guard is the slice of all
    /// elements.
    ///
    /// ```no_run
    /// # let numbers = sandpool_guest::Array::<u32>::new(100)?;
    /// use sandpool_guest::sync::AcquireError;
    ///
    /// let mut guard = match numbers.lock() {
    ///     Err(AcquireError::OwnerDied(mut guard)) => {
    ///         guard.fill(0);
    ///         guard
    ///     }
    ///     locked => locked?,
    /// };
    /// guard.sort();
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`AcquireError::OwnerDied`], which holds the guard, if the last holder has ended without releasing it;
    /// [`AcquireError::Host`], with `Nomem` if there are no addresses left to map the array to.
    pub fn lock(&self) -> Result<ArrayGuard<T>, AcquireError<ArrayGuard<T>>> {
        self.lock_by(RLock::acquire)
    }

    /// Like [`lock`](Self::lock), but waits for at most `timeout`.
    ///
    /// # Errors
    /// As [`lock`](Self::lock); [`AcquireError::TimedOut`] when the time is over.
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ArrayGuard<T>, AcquireError<ArrayGuard<T>>> {
        self.lock_by(|lock| lock.acquire_timeout(timeout))
    }

    /// Takes the lock, if no other process has it, as [`lock`](Self::lock) does.
    ///
    /// # Errors
    /// As [`lock`](Self::lock); [`AcquireError::WouldBlock`] if another process has the lock.
    pub fn try_lock(&self) -> Result<ArrayGuard<T>, AcquireError<ArrayGuard<T>>> {
        self.lock_by(RLock::try_acquire)
    }

    #[allow(unsafe_code, reason = "one place has to say that all others take the lock")]
    fn lock_by(
        &self,
        acquire: impl FnOnce(&RLock) -> Result<RLockGuard, AcquireError<RLockGuard>>,
    ) -> Result<ArrayGuard<T>, AcquireError<ArrayGuard<T>>> {
        borrowed::check(self.elements.segment().handle());
        let mapping = self.elements.segment().mapping().map_err(|error| match error {
            Error::Host(errno) => AcquireError::Host(errno),
            _ => AcquireError::Host(sandpool_abi::Errno::Nomem),
        })?;
        let guard = |lock: RLockGuard| {
            let borrow = Borrow::new(self.elements.segment().handle());
            // SAFETY: all uses of the elements of an `Array` are here or in `locked`, under the array's own lock, which
            // nobody can get at to release it before the guard does. So no other process uses them. In this process, the
            // lock could be had twice, but `borrow` refuses that, and to fork a copy of this process.
            let elements =
                unsafe { Exclusive::new(mapping.clone(), self.len()) }.map_err(AcquireError::Host)?;
            Ok(ArrayGuard { elements, _borrow: borrow, _lock: lock })
        };
        match acquire(&self.lock) {
            Ok(lock) => guard(lock),
            Err(AcquireError::OwnerDied(lock)) => Err(AcquireError::OwnerDied(guard(lock)?)),
            Err(AcquireError::Host(errno)) => Err(AcquireError::Host(errno)),
            Err(AcquireError::TimedOut) => Err(AcquireError::TimedOut),
            Err(AcquireError::WouldBlock) => Err(AcquireError::WouldBlock),
        }
    }

    /// Returns the elements without the lock. An array that never needs a lock should be a [`RawArray`] from the
    /// start.
    ///
    /// ```no_run
    /// # let progress = sandpool_guest::Array::<u32>::new(4)?;
    /// // SAFETY: nobody ever locks this array, nor updates it.
    /// let done = unsafe { progress.get_obj() }.get(2)?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Safety
    /// As long as any process has an [`ArrayGuard`] of this array or is in [`update`](Self::update), no process uses the
    /// returned value, or a clone of it: the holder of a guard has the elements as a slice.
    #[allow(unsafe_code, reason = "the caller has to see to what can't be checked")]
    #[must_use]
    pub unsafe fn get_obj(&self) -> &RawArray<T> {
        &self.elements
    }

    fn locked<R>(&self, access: impl FnOnce(&RawArray<T>) -> Result<R, Error>) -> Result<R, Error> {
        borrowed::check(self.elements.segment().handle());
        let _lock = self.lock.acquire().map_err(without_guard)?;
        access(&self.elements)
    }
}

/// A clone is the same array.
impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Self { elements: self.elements.clone(), lock: self.lock.clone() }
    }
}

impl<T> fmt::Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array").field("elements", &self.elements).field("lock", &self.lock).finish()
    }
}

/// Whether they are the same array.
impl<T> PartialEq for Array<T> {
    fn eq(&self, other: &Self) -> bool {
        self.elements == other.elements
    }
}

impl<T> Eq for Array<T> {}

/// Puts the array into a message, or the arguments of a spawned process: any other serializer gets an error.
impl<T> Serialize for Array<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let elements = self.elements.encode::<S::Error>(Role::ARRAY)?;
        (elements, self.lock.object().offer::<S::Error>(Role::ARRAY.what)?).serialize(serializer)
    }
}

/// Takes the array out of a message, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de, T> Deserialize<'de> for Array<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (elements, lock) = Deserialize::deserialize(deserializer)?;
        let (elements, partner) = RawArray::decode::<D::Error>(Role::ARRAY, elements)?;
        let lock = Object::claim::<D::Error>(lock, &Role::ARRAY_LOCK)?.object;
        if lock.handle() != partner {
            return Err(mismatched(Role::ARRAY.what));
        }
        Ok(Self { elements, lock: RLock::from_object(lock) })
    }
}

/// All elements of an [`Array`], in place. The array's lock is released when the guard is dropped.
///
/// ```no_run
/// # let array = sandpool_guest::Array::<u32>::new(100)?;
/// let mut guard = array.lock()?;
/// guard[7] = 8;
/// guard[50..].reverse();
/// let sum: u32 = guard.iter().sum();
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// While a process has a guard, the process can't fork ([`Error::ArrayBorrowed`]): the child would have the slice, but
/// not the lock. As the elements are memory that other processes see, they can't be passed to the host directly: copy
/// them first (`to_vec`) to write them to a file or send them as bytes.
pub struct ArrayGuard<T> {
    // The order matters: the slice ends before others may have the elements.
    elements: Exclusive<T>,
    _borrow: Borrow,
    _lock: RLockGuard,
}

impl<T: Pod> Deref for ArrayGuard<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.elements.as_slice()
    }
}

impl<T: Pod> DerefMut for ArrayGuard<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.elements.as_mut_slice()
    }
}

impl<T: Pod> fmt::Debug for ArrayGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArrayGuard({:#x}, len {})", self.elements.handle(), self.len())
    }
}
