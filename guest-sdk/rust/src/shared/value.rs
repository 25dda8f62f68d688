//! One value, with or without a lock.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::Pod;
use sandpool_abi::shared::{SMALL, SMALL_MAX};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::segment::Segment;
use super::{Atomic, Integer, RLock, without_guard};
use crate::object::{Object, Role, Use, mismatched};
use crate::{Error, raw};

/// A value that several processes see, without a lock.
///
/// ```no_run
/// use sandpool_guest::{Process, RawValue};
///
/// let progress = RawValue::<f64>::new(0.0)?;
/// let process = Process::fork(|| (1..=100).try_for_each(|n| progress.set(f64::from(n) / 100.0)))?;
/// println!("{:.0} %", progress.get()? * 100.0);
/// process.join()?;
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// The value is of any type of plain data: see [`RawArray`](crate::RawArray). A value of 1, 2, 4 or 8 bytes is never
/// seen half changed. [`Value`] has a lock.
///
/// Values of up to 512 bytes take little room: there can be thousands. A forked process has all values of its creator. A
/// value is also data, for spawned processes, queues and pipes. A clone is the same value.
pub struct RawValue<T> {
    segment: Arc<Segment>,
    value: PhantomData<fn(T) -> T>,
}

impl<T: Pod> RawValue<T> {
    /// Makes a value.
    ///
    /// # Errors
    /// [`Error::ArenaFull`], [`Error::TooManyObjects`].
    pub fn new(value: T) -> Result<Self, Error> {
        Self::create(value, Use::RawValue, 0)
    }

    /// Makes the bytes of an object, with the handle of its lock, if any.
    fn create(value: T, r#use: Use, lock: u64) -> Result<Self, Error> {
        const { assert!(size_of::<T>() > 0, "a value has at least one byte") };
        let flags = if size_of::<T>() as u64 <= SMALL_MAX { SMALL } else { 0 };
        let segment = Arc::new(Segment::create(size_of::<T>(), flags, "")?);
        segment.object().made_as(r#use, size_of::<T>(), lock)?;
        let this = Self { segment, value: PhantomData };
        this.set(value)?;
        Ok(this)
    }

    /// Returns the value.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    #[doc(alias = "value")]
    pub fn get(&self) -> Result<T, Error> {
        let mut value = T::zeroed();
        if is_word::<T>() {
            let bits = raw::shared::load(self.segment.handle(), 0, size_of::<T>() as u32).to_le_bytes();
            let bytes = bytemuck::bytes_of_mut(&mut value);
            bytes.copy_from_slice(bits.get(..size_of::<T>()).unwrap_or_default());
        } else {
            self.segment.read(0, std::slice::from_mut(&mut value))?;
        }
        Ok(value)
    }

    /// Sets the value to `value`.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn set(&self, value: T) -> Result<(), Error> {
        if !is_word::<T>() {
            return self.segment.write(0, &[value]);
        }
        let mut bits = [0; 8];
        for (bits, byte) in bits.iter_mut().zip(bytemuck::bytes_of(&value)) {
            *bits = *byte;
        }
        let bits = u64::from_le_bytes(bits);
        raw::shared::store(self.segment.handle(), 0, size_of::<T>() as u32, bits);
        Ok(())
    }

    /// Returns the value for atomic operations.
    #[must_use]
    pub fn atomic(&self) -> Atomic<'_, T>
    where
        T: Integer,
    {
        Atomic::first(&self.segment)
    }
}

/// Whether the type is loaded and stored at once.
fn is_word<T>() -> bool {
    matches!(size_of::<T>(), 1 | 2 | 4 | 8)
}

impl<T> RawValue<T> {
    fn encode<E: ser::Error>(&self) -> Result<u32, E> {
        self.segment.object().offer(Role::VALUE.what)
    }

    /// Decodes a value that has this role, and the handle of its lock.
    fn decode<E: de::Error>(role: Role, index: u32) -> Result<(Self, u64), E> {
        let claimed = Object::claim::<E>(index, &role.of(size_of::<T>()))?;
        let segment = Segment::adopt(claimed.object, false).map_err(E::custom)?;
        if segment.size() != size_of::<T>() {
            return Err(E::custom("the value in the message is of another size"));
        }
        Ok((Self { segment: Arc::new(segment), value: PhantomData }, claimed.partner))
    }
}

/// A clone is the same value.
impl<T> Clone for RawValue<T> {
    fn clone(&self) -> Self {
        Self { segment: self.segment.clone(), value: PhantomData }
    }
}

impl<T> fmt::Debug for RawValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawValue({:#x})", self.segment.handle())
    }
}

/// Whether they are the same value, not whether they are equal.
impl<T> PartialEq for RawValue<T> {
    fn eq(&self, other: &Self) -> bool {
        self.segment.handle() == other.segment.handle()
    }
}

impl<T> Eq for RawValue<T> {}

/// Puts the value into a message, or the arguments of a spawned process: any other serializer gets an error.
impl<T> Serialize for RawValue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.encode::<S::Error>()?.serialize(serializer)
    }
}

/// Takes the value out of a message, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de, T> Deserialize<'de> for RawValue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::decode::<D::Error>(Role::RAW_VALUE, Deserialize::deserialize(deserializer)?)?.0)
    }
}

/// A value that several processes see, with a lock.
///
/// ```no_run
/// use sandpool_guest::{Process, Value};
///
/// let counter = Value::new(0_u64)?;
/// let count = || (0..1000).try_for_each(|_| counter.update(|n| *n += 1));
/// let process = Process::fork(count)?;
/// count()?;
/// process.join()?;
/// assert_eq!(counter.get()?, 2000);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// Each method takes the lock; [`update`](Self::update) holds it from reading to writing, where Python's `v.value +=
/// 1` loses counts. To do more under the lock, take it yourself: a process that holds the lock can acquire it again.
///
/// ```no_run
/// # use sandpool_guest::Value;
/// # let (minimum, maximum) = (Value::new(0.0_f64)?, Value::new(1.0_f64)?);
/// let guard = maximum.get_lock().acquire()?;
/// if maximum.get()? < minimum.get()? {
///     maximum.set(minimum.get()?)?;
/// }
/// drop(guard);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// If the last holder of the lock has ended without releasing it, the next process that takes the lock gets
/// [`Error::OwnerDied`], and has done nothing.
pub struct Value<T> {
    value: RawValue<T>,
    lock: RLock,
}

impl<T: Pod> Value<T> {
    /// Makes a value, with a lock of its own.
    ///
    /// # Errors
    /// [`Error::ArenaFull`], [`Error::TooManyObjects`].
    pub fn new(value: T) -> Result<Self, Error> {
        Self::with_lock(value, RLock::new()?)
    }

    /// Makes a value with a lock that also guards other things.
    ///
    /// ```no_run
    /// use sandpool_guest::{RLock, Value};
    ///
    /// let lock = RLock::new()?;
    /// let minimum = Value::with_lock(0_i32, lock.clone())?;
    /// let maximum = Value::with_lock(9_i32, lock)?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[doc(alias = "synchronized")]
    pub fn with_lock(value: T, lock: RLock) -> Result<Self, Error> {
        Ok(Self { value: RawValue::create(value, Use::Value, lock.object().handle())?, lock })
    }

    /// Returns the value.
    ///
    /// # Errors
    /// [`Error::OwnerDied`].
    #[doc(alias = "value")]
    pub fn get(&self) -> Result<T, Error> {
        let _lock = self.lock.acquire().map_err(without_guard)?;
        self.value.get()
    }

    /// Sets the value to `value`.
    ///
    /// # Errors
    /// [`Error::OwnerDied`].
    pub fn set(&self, value: T) -> Result<(), Error> {
        let _lock = self.lock.acquire().map_err(without_guard)?;
        self.value.set(value)
    }

    /// Lets `change` change the value, while no other process can, and returns the result of `change`.
    ///
    /// ```no_run
    /// # let next = sandpool_guest::Value::new(0_u64)?;
    /// let ticket = next.update(|next| {
    ///     *next += 1;
    ///     *next
    /// })?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OwnerDied`], and `change` isn't called.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        let _lock = self.lock.acquire().map_err(without_guard)?;
        let mut value = self.value.get()?;
        let result = change(&mut value);
        self.value.set(value)?;
        Ok(result)
    }

    /// Returns the lock.
    #[must_use]
    pub fn get_lock(&self) -> &RLock {
        &self.lock
    }

    /// Returns the value without the lock: also for [atomic operations](RawValue::atomic), which need no lock, but don't
    /// respect it either.
    #[must_use]
    pub fn get_obj(&self) -> &RawValue<T> {
        &self.value
    }
}

/// A clone is the same value.
impl<T> Clone for Value<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), lock: self.lock.clone() }
    }
}

impl<T> fmt::Debug for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value").field("value", &self.value).field("lock", &self.lock).finish()
    }
}

/// Whether they are the same value, not whether they are equal.
impl<T> PartialEq for Value<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T> Eq for Value<T> {}

/// Puts the value into a message, or the arguments of a spawned process: any other serializer gets an error.
impl<T> Serialize for Value<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.value, &self.lock).serialize(serializer)
    }
}

/// Takes the value out of a message, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de, T> Deserialize<'de> for Value<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (value, lock) = <(u32, RLock)>::deserialize(deserializer)?;
        let (value, partner) = RawValue::decode::<D::Error>(Role::VALUE, value)?;
        if lock.object().handle() != partner {
            return Err(mismatched(Role::VALUE.what));
        }
        Ok(Self { value, lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that the host copies in any other way may be seen half changed.
    #[test]
    fn each_size_that_a_load_has_is_a_word() {
        let is_word = [is_word::<u8>(), is_word::<i16>(), is_word::<f32>(), is_word::<[u8; 8]>()];
        assert_eq!(is_word, [true; 4]);
        assert_eq!([super::is_word::<[u8; 3]>(), super::is_word::<u128>()], [false; 2]);
    }
}
