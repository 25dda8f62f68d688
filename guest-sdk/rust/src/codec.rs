//! Values to bytes and back: the only file that knows about bincode.
//!
//! A value may contain handles, such as a queue: see [`handles`].
//!
//! A [`flat`] value takes another path, to the same encoding.

use std::cell::RefCell;

use bincode::config::{Configuration, Fixint, LittleEndian};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError as Malformed, EncodeError as Failure};
use sandpool_abi::nesting::Bounded;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{DecodeError, EncodeError};
use crate::flat;
use crate::handles::{self, Handles, Span};

/// The encoding of all messages. Numbers keep their full length: making short ones shorter takes longer than copying them.
const CONFIGURATION: Configuration<LittleEndian, Fixint> =
    bincode::config::standard().with_fixed_int_encoding();

/// A buffer larger than this goes back to the allocator after use.
pub(crate) const KEEP: usize = 1 << 20;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Encodes a value, and passes on the bytes, which may lie in several places, and the handles.
pub(crate) fn encode<T: Serialize + ?Sized, R>(
    value: &T,
    then: impl FnOnce(&[&[u8]], &[u64]) -> R,
) -> Result<R, EncodeError> {
    if let Some((head, elements)) = flat::parts(value)
        && elements.len() > flat::COPIED
    {
        return Ok(then(&[&head, elements], &[]));
    }
    let mut bytes = BUFFER.take();
    bytes.clear();
    let result = append(&mut bytes, value).map(|handles| then(&[&bytes], &handles));
    if bytes.capacity() <= KEEP {
        BUFFER.set(bytes);
    }
    result
}

/// Encodes a value after the content of `bytes`, and returns its handles. After an error, `bytes` may contain a part
/// of the value.
#[inline(always)]
pub(crate) fn append<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) -> Result<Vec<u64>, EncodeError> {
    let mut sink = Sink(bytes);
    if let Some((head, elements)) = flat::parts(value) {
        return match sink.write(&head).and_then(|()| sink.write(elements)) {
            Ok(()) => Ok(Vec::new()),
            Err(failure) => Err(refused(failure)),
        };
    }
    let outer = handles::begin_encoding();
    let encoded = bincode::serde::encode_into_writer(value, sink, CONFIGURATION);
    let handles = handles::end_encoding(outer);
    match encoded {
        Ok(()) => Ok(handles),
        Err(failure) => Err(refused(failure)),
    }
}

#[cold]
fn refused(failure: Failure) -> EncodeError {
    EncodeError::new(match failure {
        Failure::OtherString(reason) => reason,
        Failure::Other(reason) => reason.to_owned(),
        failure => failure.to_string(),
    })
}

/// A vector that reports a lack of memory instead of ending the process.
struct Sink<'a>(&'a mut Vec<u8>);

impl Writer for Sink<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.try_reserve(bytes.len()).map_err(|_| Failure::Other("not enough memory for its bytes"))?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Decodes a value. The handles belong to this call: it releases those that the value doesn't take.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], handles: Handles) -> Result<T, DecodeError> {
    decode_inside(bytes, handles::begin_decoding(handles))
}

/// Decodes a value without handles, which most values are.
#[inline(always)]
pub(crate) fn decode_plain<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_inside(bytes, handles::begin_decoding_plain())
}

/// Decodes the value of the innermost message, which lies in `outer`.
#[inline(always)]
fn decode_inside<T: DeserializeOwned>(bytes: &[u8], outer: Span) -> Result<T, DecodeError> {
    if let Some(decoded) = flat::decode(bytes) {
        let unclaimed = handles::end_decoding(outer);
        return decoded.and_then(|(value, len)| whole(value, len, bytes.len(), unclaimed));
    }
    let decoded = bincode::serde::seed_decode_from_slice(Bounded::<T>::new(bytes), bytes, CONFIGURATION);
    let unclaimed = handles::end_decoding(outer);
    match decoded {
        Ok((value, len)) => whole(value, len, bytes.len(), unclaimed),
        Err(failure) => Err(malformed(failure)),
    }
}

/// Returns the value, if it is everything that the message contained.
#[inline(always)]
fn whole<T>(value: T, len: usize, all: usize, unclaimed: usize) -> Result<T, DecodeError> {
    if len == all && unclaimed == 0 { Ok(value) } else { Err(not_all(all, len, unclaimed)) }
}

#[cold]
fn not_all(all: usize, len: usize, unclaimed: usize) -> DecodeError {
    match all - len {
        // The type has numbers where the message has handles.
        0 => DecodeError::new(format_args!("{unclaimed} handles of it are left")),
        left => DecodeError::left(left, all),
    }
}

#[cold]
fn malformed(failure: Malformed) -> DecodeError {
    match failure {
        Malformed::OtherString(reason) => DecodeError::new(reason),
        Malformed::UnexpectedEnd { additional } => DecodeError::missing(additional),
        failure => DecodeError::new(failure),
    }
}
