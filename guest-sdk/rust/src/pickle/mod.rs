//! Values as Python's `pickle` writes and reads them, for programs of Python at the other end of a
//! [connection](crate::Client).
//!
//! ```
//! use sandpool_guest::pickle;
//!
//! // pickle.dumps({'name': 'Ada', 'points': [3, 4]})
//! let bytes = b"\x80\x04\x95\x21\0\0\0\0\0\0\0}\x94(\x8c\x04name\x94\x8c\x03Ada\x94\x8c\x06points\x94]\x94(K\x03K\x04eu.";
//! # #[derive(serde::Deserialize)]
//! struct Player {
//!     name: String,
//!     points: Vec<u32>,
//! }
//!
//! let player: Player = pickle::from_slice(bytes)?;
//! assert_eq!((player.name.as_str(), player.points), ("Ada", vec![3, 4]));
//! // In Python: pickle.loads(bytes) == (1, 'two', None)
//! let bytes = pickle::to_vec(&(1, "two", None::<u8>))?;
//! # assert_eq!(pickle::from_slice::<(u8, String, Option<u8>)>(&bytes)?, (1, "two".to_owned(), None));
//! # Ok::<(), sandpool_guest::Error>(())
//! ```
//!
//! | Rust | Python |
//! | --- | --- |
//! | numbers, `bool`, `String`, `char`, `()` and `None` | `int`, `float`, `bool`, `str`, `None` |
//! | bytes (`serde_bytes`) | `bytes`; a `bytearray` is read as well |
//! | `Vec`, slices and sets | `list`; a `tuple`, `set` or `frozenset` is read as well |
//! | tuples and arrays | `tuple`; a `list` is read as well |
//! | maps and structs | `dict` |
//! | variants of an enum | a `str`, if the variant has no fields; a `dict` with one entry, its key the variant's name |
//!
//! # Plain data only
//!
//! In Python, a pickle is a program: it can call any function. Here it is data. A pickle that has an object of a class, or
//! calls anything, is an error, and so is one that refers to itself, is nested deeper than [`DEPTH_MAX`], or becomes much
//! larger than its bytes by references to its own parts. What Python does with the bytes of [`to_vec`] is plain data as
//! well.
//!
//! Pickles are read in the protocols 2 to 5, and written in protocol 4, which Python has had since 3.4.

mod decode;
mod machine;
mod write;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{DecodeError, EncodeError};

/// The deepest nesting of a value that is read.
pub const DEPTH_MAX: usize = 64;

/// Writes a value as a pickle.
///
/// ```
/// // In Python: pickle.loads(bytes) == [1, 2]
/// let bytes = sandpool_guest::pickle::to_vec(&[1, 2][..])?;
/// assert!(bytes.starts_with(b"\x80\x04") && bytes.ends_with(b"."));
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// # Errors
/// [`EncodeError`] if the value's own `Serialize` fails, as that of queues, locks and other objects of a run does, or if there
/// is no memory for the bytes.
#[doc(alias = "dumps")]
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    write::to_vec(value).map_err(|failure| EncodeError::new(failure.0))
}

/// Reads a value from a pickle.
///
/// ```
/// // pickle.dumps((1, 2.5), protocol=2)
/// let pair: (u32, f64) = sandpool_guest::pickle::from_slice(b"\x80\x02K\x01G@\x04\0\0\0\0\0\0\x86q\0.")?;
/// assert_eq!(pair, (1, 2.5));
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// # Errors
/// [`DecodeError`] if the bytes are no pickle of [plain data](self#plain-data-only), or the value isn't of this type.
#[doc(alias = "loads")]
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let read = || {
        let pickle = machine::read(bytes)?;
        decode::decode(&pickle, bytes.len())
    };
    read().map_err(|failure: Failure| DecodeError::new(failure.0))
}

/// The reason why something can't be read or written, as a fragment of a sentence.
#[derive(Debug)]
struct Failure(String);

impl Failure {
    #[cold]
    fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    #[cold]
    fn no_memory() -> Self {
        Self::new("there is no memory for it")
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl serde::ser::Error for Failure {
    fn custom<T: std::fmt::Display>(reason: T) -> Self {
        Self::new(reason.to_string())
    }
}

impl serde::de::Error for Failure {
    fn custom<T: std::fmt::Display>(reason: T) -> Self {
        Self::new(reason.to_string())
    }
}

#[cfg(test)]
mod tests;
