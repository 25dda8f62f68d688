//! Receiving messages, from queues and from pipes.

use std::borrow::Cow;
use std::cell::Cell;

use sandpool_abi::Errno;
use sandpool_abi::queue::Item;
use serde::de::DeserializeOwned;

use crate::error::DecodeError;
use crate::handles::Handles;
use crate::{codec, flat, raw};

pub(crate) use crate::flat::Failure;

/// Messages of at most this size are received without an allocation.
const RECEIVE_BUFFER: usize = 64 * 1024;

/// Passes a reusable buffer to `use_it`.
pub(crate) fn with_buffer<R>(use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    thread_local! {
        /// The buffer is taken out while it is in use: a `Deserialize` may itself take something from a queue.
        static BUFFER: Cell<Option<Box<[u8; RECEIVE_BUFFER]>>> = const { Cell::new(None) };
    }
    let mut buffer = BUFFER.take().unwrap_or_else(|| Box::new([0; RECEIVE_BUFFER]));
    let result = use_it(buffer.as_mut_slice());
    BUFFER.set(Some(buffer));
    result
}

/// Receives a message by `get`, which gets the buffer, and passes the bytes and handles on.
pub(crate) fn receive<R>(
    get: impl FnOnce(&mut [u8]) -> Result<Item, Errno>,
    then: impl FnOnce(Cow<'_, [u8]>, Handles) -> R,
) -> Result<R, Failure> {
    with_buffer(|buffer| {
        let item = get(buffer).map_err(Failure::Host)?;
        let (bytes, handles) = take(item, buffer)?;
        Ok(then(bytes, handles))
    })
}

/// Receives a value by `get`, which gets the buffer.
pub(crate) fn receive_value<T: DeserializeOwned>(
    get: impl FnOnce(&mut [u8]) -> Result<Item, Errno>,
) -> Result<Result<T, DecodeError>, Failure> {
    with_buffer(|buffer| {
        let most = if flat::is_flat::<T>() { flat::COPIED } else { RECEIVE_BUFFER };
        let item = get(buffer.get_mut(..most).unwrap_or_default()).map_err(Failure::Host)?;
        take_value(item, 0, buffer)
    })
}

/// Decodes the value that `get` has received, after the bytes before it. The message is in `buffer` already, or is
/// taken from the host.
fn take_value<T: DeserializeOwned>(
    item: Item,
    before: usize,
    buffer: &mut [u8],
) -> Result<Result<T, DecodeError>, Failure> {
    if let Some(value) = flat::take(item, before) {
        return value;
    }
    let (bytes, handles) = take(item, buffer)?;
    Ok(codec::decode(bytes.get(before..).unwrap_or_default(), handles))
}

/// An encoded value.
pub(crate) enum Encoded<'a> {
    /// The value is in these bytes, with these handles.
    Here(&'a [u8], Handles),
    /// The value is in a message that the host holds, after this number of its bytes.
    Held(Item, usize),
}

impl Encoded<'_> {
    pub(crate) fn decode<T: DeserializeOwned>(self) -> Result<Result<T, DecodeError>, Failure> {
        match self {
            Self::Here(bytes, handles) => Ok(codec::decode(bytes, handles)),
            Self::Held(item, before) => take_value(item, before, &mut []),
        }
    }

    /// Drops a value that nobody wants.
    pub(crate) fn discard(self) {
        match self {
            Self::Here(_, handles) => drop(handles),
            // A message that can't be taken is dropped with the next message that is held.
            Self::Held(item, _) => drop(take(item, &mut [])),
        }
    }
}

/// Returns the message that `get` has received: it is in `buffer` already, or is taken from the host, into `buffer`
/// if it fits.
pub(crate) fn take(item: Item, buffer: &mut [u8]) -> Result<(Cow<'_, [u8]>, Handles), Failure> {
    let len = usize::try_from(item.len).map_err(|_| Failure::OutOfMemory)?;
    if item.held == 0 {
        let bytes = buffer.get(..len).ok_or(Failure::Host(Errno::Io))?;
        return Ok((Cow::Borrowed(bytes), Handles::default()));
    }
    let count = usize::try_from(item.handle_count).map_err(|_| Failure::OutOfMemory)?;
    if let Some(bytes) = buffer.get_mut(..len) {
        let handles = Handles::received(count, |records| raw::queue::take(bytes, records));
        return Ok((Cow::Borrowed(bytes), handles.map_err(Failure::Host)?));
    }
    let mut bytes = Vec::new();
    let handles = Handles::received(count, |records| {
        // The host has enough memory.
        bytes = raw::queue::take_vec(&mut [], len, records).unwrap_or(Err(Errno::Nomem))?;
        Ok(())
    });
    match handles {
        Ok(handles) => Ok((Cow::Owned(bytes), handles)),
        Err(Errno::Nomem) => Err(Failure::OutOfMemory),
        Err(errno) => Err(Failure::Host(errno)),
    }
}
