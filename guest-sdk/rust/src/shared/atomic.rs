//! Atomic operations, and the integers that they work on.

use std::marker::PhantomData;

use bytemuck::Pod;
use sandpool_abi::shared::{ADD, AND, OR, SUB, SWAP, XOR};

use super::segment::Segment;
use crate::{Error, raw};

/// An integer of 8 to 64 bits, which atomic operations work on.
///
/// ```no_run
/// use sandpool_guest::RawValue;
/// use sandpool_guest::shared::Integer;
///
/// fn count_up<T: Integer + From<u8>>(counter: &RawValue<T>) -> T {
///     counter.atomic().fetch_add(T::from(1))
/// }
/// # drop(count_up::<u64>);
/// ```
///
/// The trait can't be implemented for other types.
pub trait Integer: Pod + Bits {}

/// How the host sees an integer.
pub(crate) mod sealed {
    pub trait Bits: Copy {
        /// The number of bytes.
        const WIDTH: u32;
        fn to_bits(self) -> u64;
        /// Converts from `WIDTH` bytes; the other bytes don't count.
        fn from_bits(bits: u64) -> Self;
    }
}

use sealed::Bits;

macro_rules! integers {
    ($($unsigned:ident $signed:ident)*) => {$(
        impl Integer for $unsigned {}

        impl Bits for $unsigned {
            const WIDTH: u32 = size_of::<$unsigned>() as u32;

            #[allow(trivial_numeric_casts, reason = "not for all of them")]
            fn to_bits(self) -> u64 {
                self as u64
            }

            #[allow(clippy::cast_possible_truncation, reason = "the others don't count")]
            fn from_bits(bits: u64) -> Self {
                bits as $unsigned
            }
        }

        impl Integer for $signed {}

        impl Bits for $signed {
            const WIDTH: u32 = size_of::<$signed>() as u32;

            fn to_bits(self) -> u64 {
                self.cast_unsigned().to_bits()
            }

            fn from_bits(bits: u64) -> Self {
                $unsigned::from_bits(bits).cast_signed()
            }
        }
    )*};
}

integers! { u8 i8 u16 i16 u32 i32 u64 i64 usize isize }

/// An integer in shared memory, for operations that happen at one instant for all processes, and in one order.
///
/// ```no_run
/// use sandpool_guest::{Process, RawValue};
///
/// let counter = RawValue::<u64>::new(0)?;
/// let process = Process::fork(|| for _ in 0..1000 { counter.atomic().fetch_add(1); })?;
/// for _ in 0..1000 {
///     counter.atomic().fetch_add(1);
/// }
/// process.join()?;
/// assert_eq!(counter.get()?, 2000);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// It comes from [`RawValue::atomic`](crate::RawValue::atomic), [`RawArray::atomic`](crate::RawArray::atomic) or
/// [`SharedMemory::atomic`](crate::SharedMemory::atomic). Each operation is one call of the host, and sequentially
/// consistent.
#[derive(Debug, Clone, Copy)]
pub struct Atomic<'a, T> {
    handle: u64,
    offset: u64,
    integer: PhantomData<&'a T>,
}

impl<T: Integer> Atomic<'_, T> {
    /// The integer at this offset, which must be inside the memory, and aligned.
    pub(crate) fn new(segment: &Segment, offset: usize) -> Result<Self, Error> {
        let width = T::WIDTH as usize;
        let end = offset.checked_add(width).filter(|_| offset.is_multiple_of(width));
        if end.is_none_or(|end| end > segment.size()) {
            return Err(Error::OutOfBounds);
        }
        Ok(Self { handle: segment.handle(), offset: offset as u64, integer: PhantomData })
    }

    /// The integer at the beginning of the memory, which must be large enough.
    pub(crate) fn first(segment: &Segment) -> Self {
        Self { handle: segment.handle(), offset: 0, integer: PhantomData }
    }

    /// Returns the value.
    #[must_use]
    pub fn load(self) -> T {
        T::from_bits(raw::shared::load(self.handle, self.offset, T::WIDTH))
    }

    /// Sets the integer to `value`.
    pub fn store(self, value: T) {
        raw::shared::store(self.handle, self.offset, T::WIDTH, value.to_bits());
    }

    /// Sets the integer to `value`, and returns the previous value.
    pub fn swap(self, value: T) -> T {
        self.change(SWAP, value)
    }

    /// Adds, wrapping around, and returns the previous value.
    pub fn fetch_add(self, value: T) -> T {
        self.change(ADD, value)
    }

    /// Subtracts, wrapping around, and returns the previous value.
    pub fn fetch_sub(self, value: T) -> T {
        self.change(SUB, value)
    }

    /// Keeps only the bits that `value` has, too, and returns the previous value.
    pub fn fetch_and(self, value: T) -> T {
        self.change(AND, value)
    }

    /// Adds the bits that `value` has, and returns the previous value.
    pub fn fetch_or(self, value: T) -> T {
        self.change(OR, value)
    }

    /// Flips the bits that `value` has, and returns the previous value.
    pub fn fetch_xor(self, value: T) -> T {
        self.change(XOR, value)
    }

    /// Sets the integer to `new` if it is `expected`, and returns the previous value.
    ///
    /// ```no_run
    /// # let highest = sandpool_guest::RawValue::<u32>::new(0)?;
    /// # let candidate = 7;
    /// let mut seen = highest.atomic().load();
    /// while candidate > seen {
    ///     match highest.atomic().compare_exchange(seen, candidate) {
    ///         Ok(_) => break,
    ///         Err(other) => seen = other,
    ///     }
    /// }
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// The current value, if it isn't `expected`: the integer is unchanged.
    pub fn compare_exchange(self, expected: T, new: T) -> Result<T, T> {
        let (expected, new) = (expected.to_bits(), new.to_bits());
        let was = raw::shared::compare_exchange(self.handle, self.offset, T::WIDTH, expected, new);
        if was == expected { Ok(T::from_bits(was)) } else { Err(T::from_bits(was)) }
    }

    fn change(self, operation: u32, operand: T) -> T {
        let operand = operand.to_bits();
        T::from_bits(raw::shared::rmw(self.handle, self.offset, T::WIDTH, operation, operand))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_zero_extended_and_cut() {
        assert_eq!((-1_i8).to_bits(), 0xff);
        assert_eq!(i8::from_bits(0xff), -1);
        assert_eq!(u16::from_bits(0x1_2345), 0x2345);
        assert_eq!(i64::MIN.to_bits(), 1 << 63);
        assert_eq!(i64::from_bits(1 << 63), i64::MIN);
        assert_eq!((u8::WIDTH, i16::WIDTH, u32::WIDTH, i64::WIDTH), (1, 2, 4, 8));
    }
}
