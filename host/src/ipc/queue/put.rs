//! How items come into a queue.

use sandpool_abi::Errno;

use super::{
    INLINE, INLINE_MAX, LINK, MESSAGE, Port, QueueState, SEGMENT_HEAD, SEGMENT_MAX, SegmentHead, capacity,
    new_segment,
};
use crate::ipc::arena::Participant;
use crate::ipc::claims::ClaimSlot;
use crate::ipc::lock::Guard;
use crate::ipc::message::{self, Carry};
use crate::ipc::object::Handle;
use crate::ipc::process_table::Register;
use crate::ipc::{Result, collections};
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex::Deadline;

/// Puts one item, waiting for room.
///
/// `AGAIN` or `TIMEDOUT`, `CLOSED`, `MSGSIZE` if the item can never fit, `BADF` if a handle isn't the caller's.
pub(crate) fn put(
    participant: &Participant,
    port: Port<'_>,
    item: &[u8],
    handles: &[Handle],
    deadline: Deadline,
) -> Result<()> {
    put_parts(participant, port, &[item], handles, deadline)
}

/// Puts one item whose bytes stand in several places. If there is more than one part, the item has pages of its own.
pub(crate) fn put_parts(
    participant: &Participant,
    port: Port<'_>,
    parts: &[&[u8]],
    handles: &[Handle],
    deadline: Deadline,
) -> Result<()> {
    put_for(participant, port, parts, handles, None, deadline)
}

/// Puts the result of the first claimed item, in parts as [`put_parts`] has them, and gives the claim up in the same
/// commit. `finisher` is the process that has claimed the item.
///
/// `INVAL` if there is no claim, otherwise as [`put`].
pub(crate) fn finish(
    participant: &Participant,
    port: Port<'_>,
    parts: &[&[u8]],
    handles: &[Handle],
    finisher: u32,
    deadline: Deadline,
) -> Result<()> {
    let claims = &participant.arena.process(finisher)?.claims;
    if !claims.has_some() {
        return Err(Errno::Inval);
    }
    claims.end();
    put_for(participant, port, parts, handles, Some(claims), deadline)
}

fn put_for(
    participant: &Participant,
    port: Port<'_>,
    parts: &[&[u8]],
    handles: &[Handle],
    finished: Option<&ClaimSlot>,
    deadline: Deadline,
) -> Result<()> {
    let _operation = participant.begin(port.object)?;
    let len = parts.iter().map(|part| part.len() as u64).sum();
    if let [item] = parts
        && item.len() <= INLINE_MAX
        && handles.is_empty()
    {
        return waiting_for_room(participant, port, len, deadline, || {
            try_put(participant, port.queue, Item::Inline(item), finished)
        });
    }
    if port.queue.is_closed() {
        return Err(Errno::Closed);
    }
    let register = participant.slot()?.register(Register::Outgoing);
    let result = waiting_for_room(participant, port, len, deadline, || {
        message::compose(participant, parts, handles, Carry::Counted, register)
    })
    .and_then(|page| {
        waiting_for_room(participant, port, len, deadline, || {
            try_put(participant, port.queue, Item::Message(page, len), finished)
        })
    });
    if result.is_err() && register.load(Ordering::Relaxed) != 0 {
        // The caller still holds the handles, so none of their objects goes with the message.
        message::discard(participant, register, &mut Vec::new())?;
    }
    result
}

/// Tries until there is room in the queue and in the arena.
fn waiting_for_room<T>(
    participant: &Participant,
    port: Port<'_>,
    len: u64,
    deadline: Deadline,
    attempt: impl Fn() -> Result<T>,
) -> Result<T> {
    let heap = &participant.arena.header()?.heap;
    let Port { queue, waiting, .. } = port;
    loop {
        let frees = heap.frees();
        match attempt() {
            Err(Errno::Again) => {
                let ready = || !queue.is_full(len) || queue.is_closed();
                queue.not_full.wait(participant, waiting, deadline, ready)
            }
            // An attempt that composes a message, or finds no room for another segment, hasn't looked whether the queue
            // is closed.
            Err(Errno::Nomem) if queue.is_closed() => return Err(Errno::Closed),
            Err(Errno::Nomem) => {
                // Objects that nobody can reach may be in the way.
                collections::want(&participant.arena)?;
                let ready = || heap.frees() != frees || queue.is_closed();
                heap.freed.wait(participant, waiting, deadline, ready)
            }
            result => return result,
        }?;
    }
}

/// An item to put.
#[derive(Clone, Copy)]
enum Item<'a> {
    /// The item lies in the segment itself.
    Inline(&'a [u8]),
    /// The item is a message in the caller's register: its page, and its length.
    Message(u64, u64),
}

/// Tries to put an item: `AGAIN` if the queue is full, `NOMEM` if the arena is.
fn try_put(
    participant: &Participant,
    queue: &QueueState,
    item: Item<'_>,
    finished: Option<&ClaimSlot>,
) -> Result<()> {
    let guard = queue.tail.lock(participant)?;
    append(participant, queue, &guard, item, finished)?;
    queue.tail.publish();
    queue.not_empty.unlock_and_notify_one(guard, &participant.arena);
    Ok(())
}

/// Puts as many of these items as there is room for, waiting for the first. Returns the number of items that it put.
///
/// `MSGSIZE` if the first is too long to lie in a segment.
pub(crate) fn put_many<'i>(
    participant: &Participant,
    port: Port<'_>,
    items: impl Iterator<Item = &'i [u8]> + Clone,
    deadline: Deadline,
) -> Result<u64> {
    let _operation = participant.begin(port.object)?;
    let Port { queue, .. } = port;
    let Some(first) = items.clone().next() else { return Ok(0) };
    if first.len() > INLINE_MAX {
        return Err(Errno::Msgsize);
    }
    waiting_for_room(participant, port, first.len() as u64, deadline, || {
        let guard = queue.tail.lock(participant)?;
        let mut put = 0;
        for item in items.clone().take_while(|item| item.len() <= INLINE_MAX) {
            match append(participant, queue, &guard, Item::Inline(item), None) {
                Ok(()) => put += 1,
                Err(_) if put != 0 => break,
                Err(error) => return Err(error),
            }
            // The next item is measured against the waiting items, this one included.
            queue.tail.publish();
        }
        queue.not_empty.unlock_and_notify_all(guard, &participant.arena);
        Ok(put)
    })
}

/// Writes a record after the last and commits it, together with the end of a claim. The caller still has to publish the
/// record.
fn append(
    participant: &Participant,
    queue: &QueueState,
    guard: &Guard<'_>,
    item: Item<'_>,
    finished: Option<&ClaimSlot>,
) -> Result<()> {
    let slot = participant.slot()?;
    let arena = &*participant.arena;
    let tail = &queue.tail;
    let len = match item {
        Item::Inline(bytes) => bytes.len() as u64,
        Item::Message(_, len) => len,
    };
    if queue.is_closed() {
        return Err(Errno::Closed);
    }
    if !queue.has_room(len) {
        return Err(Errno::Again);
    }
    let bytes = if let Item::Inline(_) = item { len } else { 8 };
    let need = 8 + bytes.next_multiple_of(8);
    let mut segment = tail.segment.load(Ordering::Relaxed);
    let mut offset = tail.offset.load(Ordering::Relaxed);
    let room = capacity(participant, segment)?;
    if offset > room {
        return Err(Errno::Io);
    }
    if room - offset < need {
        let fit = (SEGMENT_HEAD + need).next_power_of_two();
        let next = new_segment(participant, ((room + SEGMENT_HEAD) * 4).max(fit).min(SEGMENT_MAX))?;
        if offset < room {
            arena.in_heap::<AtomicU64>(segment, SEGMENT_HEAD + offset)?.store(LINK, Ordering::Relaxed);
        }
        guard.set(&arena.in_heap::<SegmentHead>(segment, 0)?.next, next)?;
        guard.set(&tail.segment, next)?;
        guard.set(&tail.offset, 0)?;
        guard.set(slot.register(Register::Segment), 0)?;
        guard.commit();
        (segment, offset) = (next, 0);
    }
    let record: &AtomicU64 = arena.in_heap(segment, SEGMENT_HEAD + offset)?;
    match item {
        Item::Inline(bytes) => {
            record.store(len << 8 | INLINE, Ordering::Relaxed);
            arena.write(segment, SEGMENT_HEAD + offset + 8, bytes)?;
        }
        Item::Message(page, _) => {
            record.store(8 << 8 | MESSAGE, Ordering::Relaxed);
            arena.in_heap::<AtomicU64>(segment, SEGMENT_HEAD + offset + 8)?.store(page, Ordering::Relaxed);
            guard.set(slot.register(Register::Outgoing), 0)?;
        }
    }
    if let Some(claims) = finished {
        claims.give_up(guard)?;
    }
    tail.advance(guard, offset + need, len)?;
    guard.commit();
    Ok(())
}
