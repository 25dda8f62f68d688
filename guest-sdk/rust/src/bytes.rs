//! Bytes that are encoded at once, not byte by byte.

use std::borrow::Borrow;
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A `Vec<u8>` that serde copies at once, and not byte by byte.
///
/// ```no_run
/// use sandpool_guest::{Bytes, Queue};
///
/// // A name and a file: encoded about as fast as memory is copied.
/// let files = Queue::<(String, Bytes)>::new()?;
/// files.put(&("a".to_owned(), Bytes::from(vec![0; 1 << 20])))?;
/// let (name, content) = files.get()?;
/// assert_eq!(content.len(), 1 << 20);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// `Bytes` is for bytes *inside* of an item. A value that is a whole item, a message, or a pool's argument or result doesn't
/// need it: a `Vec` of bytes or of other numbers (`u8` to `u64`, `i8` to `i64`, `f32`, `f64`) is copied at once without it,
/// and the guest doesn't copy more than 8 KiB of such a `Vec` at all; the same holds for a `String`, and for `Bytes`. `Bytes`
/// and a `Vec<u8>` have the same encoding, so one process may send either type and another may receive the other. Instead of
/// this type, `#[serde(with = "serde_bytes")]` at a field does as well.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    /// Makes an empty value.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Returns the vector.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Deref for Bytes {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Bytes {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.0
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsVec;

        impl<'de> Visitor<'de> for AsVec {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }

            /// Reads a sequence, for a format that has no bytes of its own.
            fn visit_seq<A: SeqAccess<'de>>(self, mut bytes: A) -> Result<Vec<u8>, A::Error> {
                let mut all = Vec::new();
                while let Some(byte) = bytes.next_element()? {
                    all.push(byte);
                }
                Ok(all)
            }
        }

        deserializer.deserialize_bytes(AsVec).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_and_bytes_are_encoded_alike() {
        let len = if cfg!(miri) { 700 } else { 70_000 };
        let bytes: Vec<u8> = (0..=255).cycle().take(len).collect();
        let configuration = bincode::config::standard().with_fixed_int_encoding();
        let by_serde = bincode::serde::encode_to_vec(&bytes, configuration).ok();
        let at_once = bincode::serde::encode_to_vec(Bytes::from(bytes.clone()), configuration).ok();
        assert!(by_serde.is_some());
        assert_eq!(at_once, by_serde);
        let back = bincode::serde::decode_from_slice::<Bytes, _>(&at_once.unwrap_or_default(), configuration);
        assert_eq!(back.ok().map(|(back, _)| back.into_vec()), Some(bytes));
    }
}
