//! Values to bytes and back: the only file that knows about bincode.
//!
//! A value may contain handles, such as a queue. Handles don't travel as bytes, because the host must know who holds
//! which object: while a value is encoded, each handle in it goes to a separate list, and the bytes hold its index in
//! that list. While a value is decoded, each index takes its handle from the list that came with the bytes. Nested
//! encoding (a `Serialize` that itself puts something into a queue) is fine: the outer list is set aside meanwhile.
//!
//! A [`flat`] value takes another path, to the same encoding.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::thread::LocalKey;

use bincode::config::{Configuration, Fixint, LittleEndian};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError as Malformed, EncodeError as Failure};
use sandpool_abi::handle::Record;
use sandpool_abi::nesting::Bounded;
use sandpool_abi::{Errno, MESSAGE_HANDLES_MAX};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::object::{Object, Role};
use crate::{flat, raw};

/// The encoding of all messages. Numbers keep their full length: making short ones shorter takes longer than copying them.
const CONFIGURATION: Configuration<LittleEndian, Fixint> =
    bincode::config::standard().with_fixed_int_encoding();

/// A buffer larger than this goes back to the allocator after use.
pub(crate) const KEEP: usize = 1 << 20;

thread_local! {
    static ENCODING: Cell<Span> = const { Cell::new(Span::NONE) };
    static DECODING: Cell<Span> = const { Cell::new(Span::NONE) };
    /// The handles of the messages that are being encoded, one message inside the other.
    static OFFERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    /// The handles of the messages that are being decoded, as the host knows them; `None` for a handle that was
    /// claimed.
    static RECEIVED: RefCell<Vec<Option<Record>>> = const { RefCell::new(Vec::new()) };
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The range of handles that belong to the innermost message. Most messages have none, and touch nothing else.
#[derive(Clone, Copy)]
struct Span {
    first: usize,
    end: usize,
}

impl Span {
    /// No message.
    const NONE: Self = Self { first: usize::MAX, end: 0 };

    fn is_none(self) -> bool {
        self.first > self.end
    }

    /// The span of a message inside this one.
    fn inside(self, count: usize) -> Self {
        Self { first: self.end, end: self.end + count }
    }
}

/// Begins a message inside the innermost one, and returns the span of the latter.
#[inline(always)]
fn begin(innermost: &'static LocalKey<Cell<Span>>, handles: usize) -> Span {
    // `LocalKey::set` and the like are function calls, made for each value. This isn't; and a thread-local without a
    // destructor always exists.
    innermost.try_with(|span| span.replace(span.get().inside(handles))).unwrap_or(Span::NONE)
}

/// Makes a message the innermost one, and returns the previous one.
#[inline(always)]
fn replace(innermost: &'static LocalKey<Cell<Span>>, span: Span) -> Span {
    innermost.try_with(|innermost| innermost.replace(span)).unwrap_or(Span::NONE)
}

/// A value that can't be encoded, and why.
#[derive(Debug, Clone)]
pub struct EncodeError(String);

impl EncodeError {
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value can't be encoded: {}", self.0)
    }
}

impl EncodeError {
    /// Returns the reason, as a fragment of a sentence.
    pub(crate) fn into_reason(self) -> String {
        self.0
    }
}

impl std::error::Error for EncodeError {}

/// Bytes that aren't an encoded value of the type that was asked for, and why.
#[derive(Debug)]
pub struct DecodeError(String);

impl DecodeError {
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }

    /// The error for a value that lacks at least this number of bytes.
    #[cold]
    pub(crate) fn missing(bytes: usize) -> Self {
        Self::new(format_args!("{bytes} bytes are missing"))
    }

    /// The error for bytes that don't belong to the value.
    #[cold]
    pub(crate) fn left(bytes: usize, all: usize) -> Self {
        Self::new(format_args!("{bytes} bytes of {all} are left"))
    }

    /// Returns the reason, as a fragment of a sentence.
    pub(crate) fn into_reason(self) -> String {
        self.0
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the item isn't of the type that was asked for: {}", self.0)
    }
}

impl std::error::Error for DecodeError {}

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
    let outer = begin(&ENCODING, 0);
    let encoded = bincode::serde::encode_into_writer(value, sink, CONFIGURATION);
    let own = replace(&ENCODING, outer);
    let handles = if own.first == own.end { Vec::new() } else { offered(own.first) };
    match encoded {
        Ok(()) => Ok(handles),
        Err(failure) => Err(refused(failure)),
    }
}

/// The handles of a message that has at least one.
#[cold]
fn offered(first: usize) -> Vec<u64> {
    OFFERED.with_borrow_mut(|all| all.split_off(first))
}

#[cold]
fn refused(failure: Failure) -> EncodeError {
    EncodeError(match failure {
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

/// The handles that came with a message. Handles that nobody takes are given back.
#[derive(Debug, Default)]
pub(crate) struct Handles(Vec<Record>);

impl Handles {
    /// Reserves `count` handles, which `receive` writes. If `receive` doesn't write them, there are none.
    pub(crate) fn received(
        count: usize,
        receive: impl FnOnce(&mut [Record]) -> Result<(), Errno>,
    ) -> Result<Self, Errno> {
        let mut records = if count == 0 { Vec::new() } else { vec![NO_RECORD; count] };
        receive(&mut records)?;
        Ok(Self(records))
    }

    /// Splits off the first handles, which belong to a part of the message.
    pub(crate) fn split_first(&mut self, count: usize) -> Self {
        if count == 0 {
            return Self::default();
        }
        let rest = self.0.split_off(count.min(self.0.len()));
        Self(mem::replace(&mut self.0, rest))
    }
}

impl Drop for Handles {
    #[inline]
    fn drop(&mut self) {
        for record in &self.0 {
            release(record.handle);
        }
    }
}

/// A placeholder, which the host overwrites.
const NO_RECORD: Record = Record { handle: 0, kind: 0, tag: 0, partner: 0 };

/// Decodes a value. The handles belong to this call: it releases those that the value doesn't take.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], mut handles: Handles) -> Result<T, DecodeError> {
    let count = handles.0.len();
    if count != 0 {
        RECEIVED.with_borrow_mut(|all| all.extend(mem::take(&mut handles.0).into_iter().map(Some)));
    }
    decode_with(bytes, count)
}

/// Decodes a value without handles, which most values are.
#[inline(always)]
pub(crate) fn decode_plain<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    decode_with(bytes, 0)
}

/// Decodes a value, with the number of handles that were received last.
#[inline(always)]
fn decode_with<T: DeserializeOwned>(bytes: &[u8], handles: usize) -> Result<T, DecodeError> {
    let outer = begin(&DECODING, handles);
    if let Some(decoded) = flat::decode(bytes) {
        let unclaimed = end(outer);
        return decoded.and_then(|(value, len)| whole(value, len, bytes.len(), unclaimed));
    }
    let decoded = bincode::serde::seed_decode_from_slice(Bounded::<T>::of(bytes), bytes, CONFIGURATION);
    let unclaimed = end(outer);
    match decoded {
        Ok((value, len)) => whole(value, len, bytes.len(), unclaimed),
        Err(failure) => Err(malformed(failure)),
    }
}

/// Makes `outer` the innermost message again, and returns the number of handles that the inner message's value hasn't
/// taken.
#[inline(always)]
fn end(outer: Span) -> usize {
    let own = replace(&DECODING, outer);
    if own.first == own.end { 0 } else { release_unclaimed(own.first) }
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
        Malformed::OtherString(reason) => DecodeError(reason),
        Malformed::UnexpectedEnd { additional } => DecodeError::missing(additional),
        failure => DecodeError::new(failure),
    }
}

/// Gives back the handles that the value of a message hasn't taken, and returns their number.
#[cold]
fn release_unclaimed(first: usize) -> usize {
    let left = RECEIVED.with_borrow_mut(|all| all.split_off(first));
    let left = Handles(left.into_iter().flatten().collect());
    left.0.len()
}

/// Adds a handle to the message that is being encoded, and returns the index that stands for it there.
pub(crate) fn offer(handle: u64) -> Result<u32, &'static str> {
    let own = ENCODING.get();
    if own.is_none() {
        return Err("it can only be sent in a message, or to a spawned process");
    }
    let index = own.end - own.first;
    let number = u32::try_from(index).ok().filter(|_| index < MESSAGE_HANDLES_MAX);
    let number = number.ok_or("too many handles in one message")?;
    OFFERED.with_borrow_mut(|all| all.push(handle));
    ENCODING.set(Span { end: own.end + 1, ..own });
    Ok(number)
}

/// Takes a handle, and the duty to release it, from the message that is being decoded, if its object has the expected
/// role. Nobody gets a handle of a message in another way: [`Object::claim`] calls this function for all.
pub(crate) fn claim(index: u32, role: &Role) -> Result<Record, &'static str> {
    let own = DECODING.get();
    if own.is_none() {
        return Err("it can only be received in a message, or by a spawned process");
    }
    let place = usize::try_from(index).ok().and_then(|index| own.first.checked_add(index));
    RECEIVED.with_borrow_mut(|all| match place.and_then(|place| all.get_mut(place)) {
        Some(Some(record)) if !role.is_met(record) => Err("what the message holds is something else"),
        Some(place) => place.take().ok_or(GONE),
        None => Err(GONE),
    })
}

/// The reason why a handle can't be taken.
const GONE: &str = "the message doesn't hold this handle";

/// Takes separate uses of these handles, so that they outlive the value that was encoded.
pub(crate) fn keep(handles: Vec<u64>) -> Result<Vec<Arc<Object>>, Errno> {
    handles.into_iter().map(|handle| raw::handle::retain(handle).map(|()| Object::adopt(handle))).collect()
}

/// Gives one use of a handle back. If that fails, the handle names nothing any more, so nothing is left to give back.
pub(crate) fn release(handle: u64) {
    let _ = raw::handle::release(handle);
}
