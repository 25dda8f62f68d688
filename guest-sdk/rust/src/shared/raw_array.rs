//! Elements of one type, without a lock.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytemuck::Pod;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::segment::Segment;
use super::{Atomic, Integer};
use crate::Error;
use crate::object::{Object, Role, Use};
use crate::raw::shared::Mapping;

/// An array that several processes see, without a lock.
///
/// ```no_run
/// use sandpool_guest::{Process, RawArray};
///
/// let squares = RawArray::<u64>::new(4)?;
/// let workers = (0..4)
///     .map(|n| Process::fork(|| squares.set(n, (n * n) as u64)))
///     .collect::<Result<Vec<_>, _>>()?;
/// for worker in &workers {
///     worker.join()?;
/// }
/// assert_eq!(squares.to_vec()?, [0, 1, 4, 9]);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// A `RawArray` is for processes that agree on who uses which element when: each has elements of its own, or waits
/// for the other. [`Array`](crate::Array) has a lock.
///
/// Its elements are of any type of [plain data](Pod): Python's typecodes are
///
/// | `c`, `B` | `b` | `H` | `h` | `I`, `L` | `i`, `l` | `Q` | `q` | `f` | `d` | `u` |
/// | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
/// | `u8` | `i8` | `u16` | `i16` | `u32` | `i32` | `u64` | `i64` | `f32` | `f64` | `u32`, as `char::from_u32` takes it |
///
/// (where `l` and `L` have 64 bits, `i64` and `u64`). Arrays, and structures with `#[derive(Pod)]` of
/// [`bytemuck`](crate::shared::bytemuck), are elements as well.
///
/// # Who sees what when
///
/// A single element of 1, 2, 4 or 8 bytes is never seen half changed. Larger ones, and ranges, may be, while another
/// process changes them. [`atomic`](Self::atomic) gives operations that happen at one instant.
///
/// A forked process has all arrays of its creator. An array is also data, for spawned processes, queues and pipes.
/// A clone is the same array; its memory is free when the last process has dropped it and no message holds it.
#[doc(alias = "sharedctypes")]
#[doc(alias = "lock=False")]
pub struct RawArray<T> {
    segment: Arc<Segment>,
    len: usize,
    elements: PhantomData<fn(T) -> T>,
}

impl<T: Pod> RawArray<T> {
    /// Makes an array of zeroes.
    ///
    /// # Errors
    /// [`Error::ArenaFull`], [`Error::TooLarge`], [`Error::TooManyObjects`].
    pub fn new(len: usize) -> Result<Self, Error> {
        Self::create(len, Use::RawArray)
    }

    /// Makes the elements of an object.
    pub(crate) fn create(len: usize, r#use: Use) -> Result<Self, Error> {
        Self::create_with(len, r#use, 0)
    }

    /// Like `create`, for an object with a lock, given by the lock's handle.
    pub(super) fn create_with(len: usize, r#use: Use, lock: u64) -> Result<Self, Error> {
        const { assert!(size_of::<T>() > 0, "an element has at least one byte") };
        let size = len.checked_mul(size_of::<T>()).ok_or(Error::TooLarge)?;
        // The host doesn't make shared memory of zero bytes.
        let segment = Segment::create(size.max(1), 0, "")?;
        segment.object().made_as(r#use, size_of::<T>(), lock)?;
        Ok(Self { segment: Arc::new(segment), len, elements: PhantomData })
    }

    /// Makes an array of these elements.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_slice(elements: &[T]) -> Result<Self, Error> {
        let array = Self::new(elements.len())?;
        array.copy_from(0, elements)?;
        Ok(array)
    }

    pub(crate) fn mapping(&self) -> Result<&Arc<Mapping>, Error> {
        self.segment.mapping()
    }

    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the array has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns element `index`.
    ///
    /// The first access maps the array into this process's memory: whole pages of 64 KiB. From then on the call is a
    /// load.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`]; [`Error::OutOfMemory`] if there are no addresses left to map the array to.
    pub fn get(&self, index: usize) -> Result<T, Error> {
        self.check(index)?;
        self.segment.get(index)
    }

    /// Changes element `index`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn set(&self, index: usize, value: T) -> Result<(), Error> {
        self.check(index)?;
        self.segment.set(index, value)
    }

    /// Copies elements of the array into `elements`, from `first` on.
    ///
    /// ```no_run
    /// # let array = sandpool_guest::RawArray::<u8>::new(8)?;
    /// let mut middle = [0; 4];
    /// array.copy_to(2, &mut middle)?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], and nothing is copied.
    pub fn copy_to(&self, first: usize, elements: &mut [T]) -> Result<(), Error> {
        self.check_range(first, elements.len())?;
        self.segment.read(first, elements)
    }

    /// Copies `elements` into the array, from `first` on.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], and nothing is copied. Source elements in shared memory are an error, too.
    pub fn copy_from(&self, first: usize, elements: &[T]) -> Result<(), Error> {
        self.check_range(first, elements.len())?;
        self.segment.write(first, elements)
    }

    /// Returns a copy of all elements.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn to_vec(&self) -> Result<Vec<T>, Error> {
        let mut elements = Vec::new();
        elements.try_reserve_exact(self.len).map_err(|_| Error::OutOfMemory)?;
        elements.resize(self.len, T::zeroed());
        self.copy_to(0, &mut elements)?;
        Ok(elements)
    }

    /// Returns element `index`, for atomic operations.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`].
    pub fn atomic(&self, index: usize) -> Result<Atomic<'_, T>, Error>
    where
        T: Integer,
    {
        self.check(index)?;
        Atomic::new(&self.segment, index * size_of::<T>())
    }

    /// Returns all elements, in place.
    ///
    /// ```no_run
    /// # let numbers = sandpool_guest::RawArray::<f64>::new(1000)?;
    /// // SAFETY: all processes that change the array have ended.
    /// let sum: f64 = unsafe { numbers.as_slice() }?.iter().sum();
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Safety
    /// As long as the slice lives, nobody changes the elements: not another process, not this process by any other way to
    /// the same array, and not a process that is forked meanwhile.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there are no addresses left to map the array to.
    #[allow(unsafe_code, reason = "the caller has to see to what can't be checked")]
    pub unsafe fn as_slice(&self) -> Result<&[T], Error> {
        // SAFETY: that is this function's own contract.
        unsafe { self.segment.mapping()?.slice(self.len) }.ok_or(Error::OutOfBounds)
    }

    /// Returns all elements, in place, to be changed.
    ///
    /// ```no_run
    /// # let mut rows = sandpool_guest::RawArray::<u8>::new(1000)?;
    /// // SAFETY: no process but this one has the array yet.
    /// unsafe { rows.as_mut_slice() }?.fill(7);
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Safety
    /// As long as the slice lives, nobody reads or changes the elements in any other way: not another process, not this
    /// process by a clone or by another way to the same array, and not a process that is forked meanwhile.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there are no addresses left to map the array to.
    #[allow(unsafe_code, reason = "the caller has to see to what can't be checked")]
    pub unsafe fn as_mut_slice(&mut self) -> Result<&mut [T], Error> {
        // SAFETY: that is this function's own contract.
        unsafe { self.segment.mapping()?.slice_mut(self.len) }.ok_or(Error::OutOfBounds)
    }

    fn check(&self, index: usize) -> Result<(), Error> {
        if index < self.len { Ok(()) } else { Err(Error::OutOfBounds) }
    }

    fn check_range(&self, first: usize, len: usize) -> Result<(), Error> {
        let end = first.checked_add(len);
        if end.is_some_and(|end| end <= self.len) { Ok(()) } else { Err(Error::OutOfBounds) }
    }
}

impl<T> RawArray<T> {
    pub(super) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Encodes the array: the number of elements, and the object.
    pub(super) fn encode<E: serde::ser::Error>(&self, role: Role) -> Result<(u64, u32), E> {
        Ok((self.len as u64, self.segment.object().offer(role.what)?))
    }

    /// Decodes an array that has this role, and the handle of its lock.
    pub(super) fn decode<E: serde::de::Error>(
        role: Role,
        (len, index): (u64, u32),
    ) -> Result<(Self, u64), E> {
        const { assert!(size_of::<T>() > 0, "an element has at least one byte") };
        let claimed = Object::claim::<E>(index, &role.of(size_of::<T>()))?;
        let segment = Segment::adopt(claimed.object, false).map_err(E::custom)?;
        let len = usize::try_from(len)
            .ok()
            .filter(|len| len.checked_mul(size_of::<T>()).is_some_and(|size| size.max(1) == segment.size()));
        let len = len.ok_or_else(|| E::custom("the array in the message has other elements"))?;
        Ok((Self { segment: Arc::new(segment), len, elements: PhantomData }, claimed.partner))
    }

    /// Decodes an array that has this role.
    pub(crate) fn deserialize_as<'de, D: Deserializer<'de>>(
        role: Role,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        Ok(Self::decode(role, Deserialize::deserialize(deserializer)?)?.0)
    }
}

/// A clone is the same array.
impl<T> Clone for RawArray<T> {
    fn clone(&self) -> Self {
        Self { segment: self.segment.clone(), len: self.len, elements: PhantomData }
    }
}

impl<T> fmt::Debug for RawArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawArray({:#x}, len {})", self.segment.handle(), self.len)
    }
}

/// Whether they are the same array.
impl<T> PartialEq for RawArray<T> {
    fn eq(&self, other: &Self) -> bool {
        self.segment.handle() == other.segment.handle()
    }
}

impl<T> Eq for RawArray<T> {}

/// Puts the array into a message, or the arguments of a spawned process: any other serializer gets an error.
impl<T> Serialize for RawArray<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.encode::<S::Error>(Role::RAW_ARRAY)?.serialize(serializer)
    }
}

/// Takes the array out of a message, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de, T> Deserialize<'de> for RawArray<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::deserialize_as(Role::RAW_ARRAY, deserializer)
    }
}
