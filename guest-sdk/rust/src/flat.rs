//! Values whose memory is their encoding, except for the length before it: text, and vectors of numbers.
//!
//! Serde visits a vector element by element. A vector that is a whole message is copied at once, and the guest doesn't copy
//! a large one at all: the host gets the [`Head`] and the location of the elements, and writes them to their final place.

use std::fmt;
use std::rc::Rc;
use std::str::Utf8Error;

use bytemuck::Pod;
use sandpool_abi::Errno;
use sandpool_abi::queue::{BATCH_ITEM_MAX, Item};

use crate::bytes::Bytes;
use crate::error::DecodeError;
use crate::raw;
use crate::raw::cast::{self, Whole};

const _: () = assert!(cfg!(target_endian = "little"), "numbers are encoded with the least byte first");

/// The bytes before the elements: the number of elements.
pub(crate) type Head = [u8; 8];

/// The guest copies elements up to this number of bytes: the host takes parts for a message that has pages of its own.
pub(crate) const COPIED: usize = BATCH_ITEM_MAX;

/// A value with more bytes than this before it isn't taken this way.
pub(crate) const BEFORE_MAX: usize = 32;

/// Arguments and results of a pool's tasks with at least this number of bytes stay where they are, and each is a
/// message by itself.
const APART: usize = 64 << 10;

/// The reason why nothing was received.
pub(crate) enum Failure {
    Host(Errno),
    /// The message was taken, but there is no memory for it.
    OutOfMemory,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(errno) => errno.fmt(f),
            Self::OutOfMemory => f.write_str("not enough memory for its bytes"),
        }
    }
}

trait Flat: Whole + Sized {
    type Element: Pod;

    fn elements(&self) -> &[Self::Element];

    fn from_elements(elements: Vec<Self::Element>) -> Result<Self, Utf8Error>;
}

impl Flat for Bytes {
    type Element = u8;

    fn elements(&self) -> &[u8] {
        self
    }

    fn from_elements(elements: Vec<u8>) -> Result<Self, Utf8Error> {
        Ok(elements.into())
    }
}

impl Flat for String {
    type Element = u8;

    fn elements(&self) -> &[u8] {
        self.as_bytes()
    }

    fn from_elements(elements: Vec<u8>) -> Result<Self, Utf8Error> {
        Self::from_utf8(elements).map_err(|error| error.utf8_error())
    }
}

impl<N: Pod> Flat for Vec<N>
where
    Self: Whole,
{
    type Element = N;

    fn elements(&self) -> &[N] {
        self
    }

    fn from_elements(elements: Self) -> Result<Self, Utf8Error> {
        Ok(elements)
    }
}

/// Returns `$then` if `$type` is flat, with `$flat` as its name there. An encoded `usize` is longer than one in memory, and
/// not all bits are a `bool` or a `char`.
macro_rules! for_type {
    ($type:ident, $flat:ident => $then:expr) => {
        for_type!($type, $flat => $then;
            Bytes, String, Vec<u8>, Vec<u16>, Vec<u32>, Vec<u64>, Vec<i8>, Vec<i16>, Vec<i32>, Vec<i64>, Vec<f32>, Vec<f64>
        )
    };
    ($type:ident, $flat:ident => $then:expr; $($one:ty),*) => {
        $(if cast::is_same::<$type, $one>() {
            type $flat = $one;
            return $then;
        })*
    };
}

/// The bytes of a value that has been moved.
pub(crate) trait Elements {
    fn bytes(&self) -> &[u8];
}

impl<F: Flat> Elements for F {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self.elements())
    }
}

/// A value's head and elements.
#[inline(always)]
pub(crate) fn parts<T: ?Sized>(value: &T) -> Option<(Head, &[u8])> {
    for_type!(T, F => cast::as_same::<T, F>(value).map(|value| (head(value), value.bytes())));
    None
}

/// Returns the head and the elements of a large value, which is kept for them; gives any other value back.
#[inline(always)]
pub(crate) fn set_apart<T>(value: T) -> Result<(Head, Rc<dyn Elements>), T> {
    if parts(&value).is_some_and(|(_, elements)| elements.len() >= APART) {
        for_type!(T, F => {
            let keep = |value: F| -> (Head, Rc<dyn Elements>) { (head(&value), Rc::new(value)) };
            cast::from_same(value).map(keep)
        });
    }
    Err(value)
}

/// The value at the beginning of `bytes`, and the number of bytes that belong to it.
#[inline(always)]
pub(crate) fn decode<T>(bytes: &[u8]) -> Option<Result<(T, usize), DecodeError>> {
    for_type!(T, F => match decode_as::<F>(bytes) {
        Ok((value, len)) => cast::into_same(value).map(|value| Ok((value, len))),
        Err(error) => Some(Err(error)),
    });
    None
}

/// The value of a message that is held for this process and has `before` bytes before the value, if it can be taken
/// this way.
#[inline(always)]
pub(crate) fn take<T>(item: Item, before: usize) -> Option<Result<Result<T, DecodeError>, Failure>> {
    for_type!(T, F => match take_as::<F>(item, before)? {
        Ok(Ok(value)) => cast::into_same(value).map(|value| Ok(Ok(value))),
        Ok(Err(error)) => Some(Ok(Err(error))),
        Err(failure) => Some(Err(failure)),
    });
    None
}

fn head<F: Flat>(value: &F) -> Head {
    (value.elements().len() as u64).to_le_bytes()
}

/// Whether values of this type are flat.
#[inline(always)]
pub(crate) fn is_flat<T: ?Sized>() -> bool {
    for_type!(T, F => size_of::<F>() != 0);
    false
}

fn decode_as<F: Flat>(bytes: &[u8]) -> Result<(F, usize), DecodeError> {
    let (head, rest) =
        bytes.split_first_chunk().ok_or_else(|| DecodeError::missing(size_of::<Head>() - bytes.len()))?;
    let elements = rest.get(..len::<F>(*head, rest.len())?).unwrap_or_default();
    let vec = cast::vec_from_bytes(elements).ok_or_else(|| DecodeError::new("not enough memory"))?;
    Ok((finish(vec)?, size_of::<Head>() + elements.len()))
}

fn take_as<F: Flat>(item: Item, before: usize) -> Option<Result<Result<F, DecodeError>, Failure>> {
    let mut start = [0; BEFORE_MAX + size_of::<Head>()];
    let start = start.get_mut(..before + size_of::<Head>())?;
    let behind = usize::try_from(item.len).ok()?.checked_sub(start.len())?;
    let count = behind / size_of::<F::Element>();
    if item.held == 0 || item.handle_count != 0 || behind % size_of::<F::Element>() != 0 {
        return None;
    }
    Some(match raw::queue::take_vec(start, count, &mut []) {
        None => Err(Failure::OutOfMemory),
        Some(Err(errno)) => Err(Failure::Host(errno)),
        Some(Ok(elements)) => {
            let head = start.last_chunk().copied().unwrap_or_default();
            Ok(len::<F>(head, behind).and_then(|len| match behind - len {
                0 => finish(elements),
                left => Err(DecodeError::left(left, size_of::<Head>() + behind)),
            }))
        }
    })
}

/// The number of bytes of the elements that a head describes, with `behind` bytes after the head.
fn len<F: Flat>(head: Head, behind: usize) -> Result<usize, DecodeError> {
    let count = usize::try_from(u64::from_le_bytes(head)).ok();
    let len = count.and_then(|count| count.checked_mul(size_of::<F::Element>())).unwrap_or(usize::MAX);
    if len <= behind { Ok(len) } else { Err(DecodeError::missing(len - behind)) }
}

fn finish<F: Flat>(elements: Vec<F::Element>) -> Result<F, DecodeError> {
    F::from_elements(elements).map_err(DecodeError::new)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::fmt::Debug;

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;

    /// Encodes and decodes by serde, and by this file: the same bytes, and the same value.
    #[track_caller]
    fn is_as_serde_has_it<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
        let configuration = bincode::config::standard().with_fixed_int_encoding();
        let by_serde = bincode::serde::encode_to_vec(&value, configuration).unwrap();
        let (head, elements) = parts(&value).unwrap();
        assert_eq!([&head, elements].concat(), by_serde);

        // At any alignment.
        let long = [&[0], by_serde.as_slice(), &[0; 9]].concat();
        let (_, long) = long.split_first().unwrap();
        assert_eq!(decode(long).unwrap().unwrap(), (value, by_serde.len()));
        for len in 0..by_serde.len() {
            let why = decode::<T>(by_serde.get(..len).unwrap()).unwrap().unwrap_err().to_string();
            assert!(why.contains("bytes are missing"), "{why}");
        }
        for head in [u64::MAX, u64::MAX / 8, 1 << 61, 1 << 32] {
            let lie = [head.to_le_bytes().as_slice(), &[0; 64]].concat();
            assert!(decode::<T>(&lie).unwrap().is_err());
        }
    }

    #[test]
    fn values_are_encoded_as_serde_does_it() {
        is_as_serde_has_it(Bytes::from(vec![1, 2, 255]));
        is_as_serde_has_it("a \u{e9} \u{1f600}".to_owned());
        is_as_serde_has_it(String::new());
        is_as_serde_has_it::<Vec<u8>>((0..=255).collect());
        is_as_serde_has_it(vec![1_u16, u16::MAX]);
        is_as_serde_has_it(vec![1_u32, u32::MAX]);
        is_as_serde_has_it(vec![1_u64, u64::MAX]);
        is_as_serde_has_it(vec![1_i8, i8::MIN]);
        is_as_serde_has_it(vec![1_i16, i16::MIN]);
        is_as_serde_has_it(vec![1_i32, i32::MIN]);
        is_as_serde_has_it(vec![1_i64, i64::MIN]);
        is_as_serde_has_it(vec![1.5_f32, f32::NEG_INFINITY]);
        is_as_serde_has_it(vec![1.5_f64, f64::MIN_POSITIVE]);
        is_as_serde_has_it(Vec::<f64>::new());
    }

    #[test]
    fn text_is_text() {
        let why = decode::<String>(b"\x02\0\0\0\0\0\0\0\xc3\x28").unwrap().unwrap_err();
        assert!(why.to_string().contains("invalid utf-8"), "{why}");
    }

    #[test]
    fn what_has_another_encoding_is_not_flat() {
        assert!(is_flat::<Vec<f64>>() && !is_flat::<Vec<usize>>());
        assert!(parts(&vec![1_usize]).is_none() && parts(&vec![true]).is_none() && parts("text").is_none());
        assert!(decode::<Vec<char>>(&[0; 8]).is_none() && decode::<u64>(&[0; 8]).is_none());
    }
}
