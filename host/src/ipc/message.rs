//! A message: bytes and handles, in a run of heap pages of its own.
//!
//! ```text
//!  length | handles | counted handles | –  handle … handle  bytes
//! ```
//!
//! A queue holds a message for a large item, or for an item that carries handles; a spawned process is given one.

use sandpool_abi::{Errno, MESSAGE_HANDLES_MAX};

use super::Result;
use super::arena::{PAGE, Participant};
use super::heap;
use super::object::Handle;
use super::transit;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::mem::shared;

shared! {
    struct MessageHead {
        len: AtomicU64,
        handle_count: AtomicU64,
        /// how many of the handles are counted as being in transit
        in_transit: AtomicU64,
        /// page of the next message in the same register, or 0; means nothing elsewhere
        next: AtomicU64,
    }
}

const HEAD: u64 = size_of::<MessageHead>() as u64;

/// The holder of the objects whose handles a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carry {
    /// The message itself: it counts as a holder.
    Counted,
    /// Another holder, who looks after them.
    Uncounted,
}

/// Writes a message into a run of its own, which stands in `register`, in the hands of the caller.
pub(crate) fn compose(
    participant: &Participant,
    parts: &[&[u8]],
    handles: &[Handle],
    carry: Carry,
    register: &AtomicU64,
) -> Result<u64> {
    if handles.len() > MESSAGE_HANDLES_MAX {
        return Err(Errno::Inval);
    }
    let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
    let page = heap::allocate(participant, HEAD + handles.len() as u64 * 8 + len, register)?;
    let arena = &*participant.arena;
    let head: &MessageHead = arena.in_heap(page, 0)?;
    head.len.store(len, Ordering::Relaxed);
    head.handle_count.store(handles.len() as u64, Ordering::Relaxed);
    let mut at = HEAD;
    for handle in handles {
        arena.in_heap::<AtomicU64>(page, at)?.store(handle.0, Ordering::Relaxed);
        at += 8;
    }
    for part in parts {
        arena.write(page, at, part)?;
        at += part.len() as u64;
    }
    if carry == Carry::Counted && !handles.is_empty() {
        transit::enter_transit(participant, handles, &head.in_transit)?;
    }
    Ok(page)
}

/// A message in the caller's hands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    page: u64,
    pub(crate) len: u64,
    pub(crate) handle_count: u64,
}

impl Message {
    /// Looks at the message that starts at `page`.
    pub(crate) fn at(participant: &Participant, page: u64) -> Result<Self> {
        let room = heap::run_pages(&participant.arena, page)? * PAGE as u64;
        let head: &MessageHead = participant.arena.in_heap(page, 0)?;
        let len = head.len.load(Ordering::Relaxed);
        let handle_count = head.handle_count.load(Ordering::Relaxed);
        let fits =
            handle_count <= MESSAGE_HANDLES_MAX as u64 && len <= room.saturating_sub(HEAD + handle_count * 8);
        if fits { Ok(Self { page, len, handle_count }) } else { Err(Errno::Io) }
    }

    /// The handles of the message.
    pub(crate) fn handles(&self, participant: &Participant) -> Result<Vec<Handle>> {
        (0..self.handle_count)
            .map(|at| participant.arena.in_heap::<AtomicU64>(self.page, HEAD + at * 8))
            .map(|handle| Ok(Handle(handle?.load(Ordering::Relaxed))))
            .collect()
    }

    /// Copies the bytes of the message, all of which must fit.
    pub(crate) fn read(&self, participant: &Participant, buffer: &mut [u8]) -> Result<()> {
        let bytes =
            buffer.get_mut(..usize::try_from(self.len).map_err(|_| Errno::Io)?).ok_or(Errno::Inval)?;
        self.read_at(participant, 0, bytes)
    }

    /// Fills `buffer` with the bytes of the message that begin at `at`.
    pub(crate) fn read_at(&self, participant: &Participant, at: u64, buffer: &mut [u8]) -> Result<()> {
        if at.checked_add(buffer.len() as u64).is_none_or(|end| end > self.len) {
            return Err(Errno::Inval);
        }
        participant.arena.read(self.page, HEAD + self.handle_count * 8 + at, buffer)
    }

    /// Makes the handles of the message the caller's; the caller held none of this message's handles before.
    pub(crate) fn arrive(&self, participant: &Participant, handles: &[Handle]) -> Result<()> {
        let head: &MessageHead = participant.arena.in_heap(self.page, 0)?;
        transit::arrive(participant, handles, &head.in_transit)
    }
}

/// Sets the message that follows the one at `page` in a register.
pub(crate) fn link(participant: &Participant, page: u64, next: u64) -> Result<()> {
    Message::at(participant, page)?;
    participant.arena.in_heap::<MessageHead>(page, 0)?.next.store(next, Ordering::Relaxed);
    Ok(())
}

/// Moves the message in `from` to the beginning of those in `to`.
pub(crate) fn prepend(participant: &Participant, from: &AtomicU64, to: &AtomicU64) -> Result<()> {
    let head: &MessageHead = participant.arena.in_heap(from.load(Ordering::Relaxed), 0)?;
    heap::prepend(participant, from, to, &head.next)
}

/// Writes a copy of a message into a run of its own, which stands in `register`. The copy holds the same objects, which
/// the message holds until this has returned.
pub(crate) fn duplicate(participant: &Participant, of: &Message, register: &AtomicU64) -> Result<Message> {
    let handles = of.handles(participant)?;
    let arena = &*participant.arena;
    let page = heap::allocate(participant, HEAD + of.handle_count * 8 + of.len, register)?;
    let head: &MessageHead = arena.in_heap(page, 0)?;
    head.len.store(of.len, Ordering::Relaxed);
    head.handle_count.store(of.handle_count, Ordering::Relaxed);
    let (mut at, end) = (HEAD, HEAD + of.handle_count * 8 + of.len);
    let mut part = [0; PAGE];
    while at < end {
        let part = part.get_mut(..(end - at).min(PAGE as u64) as usize).ok_or(Errno::Io)?;
        arena.read(of.page, at, part)?;
        arena.write(page, at, part)?;
        at += part.len() as u64;
    }
    transit::keep(participant, &handles, &head.in_transit)?;
    Message::at(participant, page)
}

/// Throws away the message in `register`. Objects that only the message held are added to `unused`.
pub(crate) fn discard(participant: &Participant, register: &AtomicU64, unused: &mut Vec<u32>) -> Result<()> {
    leave(participant, register, unused)?;
    heap::free(participant, register)
}

/// Throws away the first message of a chain in `register`, and returns whether it was the last.
pub(super) fn discard_first(
    participant: &Participant,
    register: &AtomicU64,
    unused: &mut Vec<u32>,
) -> Result<bool> {
    let next = leave(participant, register, unused)?;
    heap::free_first(participant, register, next)?;
    Ok(next == 0)
}

/// Throws away the chain of messages in `register`.
pub(super) fn discard_chain(
    participant: &Participant,
    register: &AtomicU64,
    unused: &mut Vec<u32>,
) -> Result<()> {
    while !discard_first(participant, register, unused)? {}
    Ok(())
}

/// Ends the holds of the message in `register`, and returns the message that follows.
fn leave(participant: &Participant, register: &AtomicU64, unused: &mut Vec<u32>) -> Result<u64> {
    let page = register.load(Ordering::Relaxed);
    let Ok(message) = Message::at(participant, page) else { return Ok(0) };
    let head: &MessageHead = participant.arena.in_heap(page, 0)?;
    if head.in_transit.load(Ordering::Relaxed) != 0 {
        transit::discard(participant, &message.handles(participant)?, &head.in_transit, unused)?;
    }
    Ok(head.next.load(Ordering::Relaxed))
}
