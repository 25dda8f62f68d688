//! The handles of messages, which don't travel as bytes, because the host must know who holds which object.
//!
//! While a value is encoded, each handle in it goes to a separate list, and the bytes hold its index in that list.
//! While a value is decoded, each index takes its handle from the list that came with the bytes. Nested encoding (a
//! `Serialize` that itself puts something into a queue) is fine: the outer list is set aside meanwhile.

use std::cell::{Cell, RefCell};
use std::mem;
use std::thread::LocalKey;

use sandpool_abi::handle::Record;
use sandpool_abi::{Errno, MESSAGE_HANDLES_MAX};

use crate::raw::handle::release;

thread_local! {
    static ENCODING: Cell<Span> = const { Cell::new(Span::NONE) };
    static DECODING: Cell<Span> = const { Cell::new(Span::NONE) };
    /// The handles of the messages that are being encoded, one message inside the other.
    static OFFERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    /// The handles of the messages that are being decoded, as the host knows them; `None` for a handle that was
    /// claimed.
    static RECEIVED: RefCell<Vec<Option<Record>>> = const { RefCell::new(Vec::new()) };
}

/// The range of handles that belong to the innermost message. Most messages have none, and touch nothing else.
#[derive(Clone, Copy)]
pub(crate) struct Span {
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

/// Begins a message that is encoded, inside the innermost one, and returns the span of the latter.
#[inline(always)]
pub(crate) fn begin_encoding() -> Span {
    begin(&ENCODING, 0)
}

/// Makes `outer` the innermost message again, and returns the handles of the inner message.
#[inline(always)]
pub(crate) fn end_encoding(outer: Span) -> Vec<u64> {
    let own = replace(&ENCODING, outer);
    if own.first == own.end { Vec::new() } else { offered(own.first) }
}

/// The handles of a message that has at least one.
#[cold]
fn offered(first: usize) -> Vec<u64> {
    OFFERED.with_borrow_mut(|all| all.split_off(first))
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

    /// Takes over one use of each of these handles.
    pub(crate) fn from_records(records: Vec<Record>) -> Self {
        Self(records)
    }

    /// Passes the duty to release the handles on.
    pub(crate) fn into_records(mut self) -> Vec<Record> {
        mem::take(&mut self.0)
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

/// Begins a message that is decoded, with these handles, and returns the span of the outer one.
#[inline]
pub(crate) fn begin_decoding(handles: Handles) -> Span {
    let count = handles.0.len();
    if count != 0 {
        receive(handles);
    }
    begin(&DECODING, count)
}

#[cold]
fn receive(mut handles: Handles) {
    RECEIVED.with_borrow_mut(|all| all.extend(mem::take(&mut handles.0).into_iter().map(Some)));
}

/// Begins a message without handles, likewise.
#[inline(always)]
pub(crate) fn begin_decoding_plain() -> Span {
    begin(&DECODING, 0)
}

/// Makes `outer` the innermost message again, and returns the number of handles that the inner message's value hasn't
/// taken.
#[inline(always)]
pub(crate) fn end_decoding(outer: Span) -> usize {
    let own = replace(&DECODING, outer);
    if own.first == own.end { 0 } else { release_unclaimed(own.first) }
}

/// Gives back the handles that the value of a message hasn't taken, and returns their number.
#[cold]
fn release_unclaimed(first: usize) -> usize {
    let left = RECEIVED.with_borrow_mut(|all| all.split_off(first));
    let left = Handles(left.into_iter().flatten().collect());
    left.0.len()
}

/// Gives back all handles of messages that are being encoded or decoded, by code that will never go on.
pub(crate) fn forget_all() {
    ENCODING.set(Span::NONE);
    DECODING.set(Span::NONE);
    // Code that was stopped while it borrowed one of these keeps it.
    let _ = OFFERED.with(|all| all.try_borrow_mut().map(|mut all| all.clear()));
    let left = RECEIVED.with(|all| all.try_borrow_mut().map(|mut all| mem::take(&mut *all)));
    drop(Handles(left.unwrap_or_default().into_iter().flatten().collect()));
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

/// Takes a handle, and the duty to release it, from the message that is being decoded, if its object is the expected
/// one. Nobody gets a handle of a message in another way: `Object::claim` calls this function for all.
pub(crate) fn claim(index: u32, is_expected: impl FnOnce(&Record) -> bool) -> Result<Record, &'static str> {
    let own = DECODING.get();
    if own.is_none() {
        return Err("it can only be received in a message, or by a spawned process");
    }
    let place = usize::try_from(index).ok().and_then(|index| own.first.checked_add(index));
    RECEIVED.with_borrow_mut(|all| match place.and_then(|place| all.get_mut(place)) {
        Some(Some(record)) if !is_expected(record) => Err("what the message holds is something else"),
        Some(place) => place.take().ok_or(GONE),
        None => Err(GONE),
    })
}

/// The reason why a handle can't be taken.
const GONE: &str = "the message doesn't hold this handle";
