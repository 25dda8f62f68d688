//! How items leave a queue, and are done with.

use sandpool_abi::Errno;

use super::{
    INLINE, INLINE_MAX, JOINABLE, LINK, MESSAGE, Port, QueueState, SEGMENT_HEAD, SegmentHead, capacity,
};
use crate::ipc::arena::Participant;
use crate::ipc::lock::Guard;
use crate::ipc::message::Message;
use crate::ipc::process_table::Register;
use crate::ipc::{Result, heap};
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex::Deadline;

/// An item that was taken.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The bytes of the item are in the buffer; their number.
    Copied(usize),
    /// The item didn't fit into the buffer; its bytes.
    Bytes(Vec<u8>),
    /// The item is in the caller's hands, in the register for incoming messages.
    Message(Message),
}

/// Takes the oldest item, waiting for one. A short item without handles is copied to `buffer` if it fits. No item will
/// come if the queue is closed, or while `is_over` says so.
///
/// `AGAIN` or `TIMEDOUT`; `CLOSED` when no item will come.
pub(crate) fn get(
    participant: &Participant,
    port: Port<'_>,
    is_over: impl Fn() -> bool,
    buffer: &mut [u8],
    deadline: Deadline,
) -> Result<Taken> {
    let _operation = participant.begin(port.object)?;
    check_claims(participant, port.queue)?;
    waiting_for_item(participant, port, is_over, deadline, || {
        let queue = port.queue;
        if queue.is_empty() {
            return Err(Errno::Again);
        }
        let guard = queue.lock_head(participant)?;
        let taken = take(participant, queue, &guard, Fits::Any(buffer))?;
        queue.head.publish();
        queue.not_full.unlock_and_notify_one(guard, &participant.arena);
        Ok(taken)
    })
}

/// Takes the items that are there, waiting for the first, and hands the length of each to `note`, which says whether to
/// take another. The items are copied to `buffer`, one after the other. The function stops before an item that doesn't
/// fit or isn't for a batch. Returns the number of items that were taken.
pub(crate) fn get_many(
    participant: &Participant,
    port: Port<'_>,
    buffer: &mut [u8],
    mut note: impl FnMut(usize) -> bool,
    deadline: Deadline,
) -> Result<u64> {
    let _operation = participant.begin(port.object)?;
    let queue = port.queue;
    check_claims(participant, queue)?;
    let mut rest = buffer;
    waiting_for_item(
        participant,
        port,
        || false,
        deadline,
        || {
            if queue.is_empty() {
                return Err(Errno::Again);
            }
            let guard = queue.lock_head(participant)?;
            let mut count = 0;
            loop {
                match take(participant, queue, &guard, Fits::Only(&mut *rest)) {
                    Ok(Taken::Copied(len)) => {
                        count += 1;
                        rest = std::mem::take(&mut rest).get_mut(len..).ok_or(Errno::Io)?;
                        if !note(len) {
                            break;
                        }
                    }
                    Ok(_) => return Err(Errno::Io),
                    Err(Errno::Msgsize) => break,
                    Err(Errno::Again) if count != 0 => break,
                    Err(error) => return Err(error),
                }
            }
            queue.head.publish();
            drop(guard);
            if count != 0 {
                queue.not_full.notify_all(&participant.arena);
            }
            Ok(count)
        },
    )
}

/// Refuses to take more while the caller has claims: a worker claims only items that it takes at once, as their numbers
/// wouldn't follow one another otherwise.
///
/// `BUSY` if the caller has claims.
fn check_claims(participant: &Participant, queue: &QueueState) -> Result<()> {
    if queue.is_claimed() && participant.claims()?.has_some() { Err(Errno::Busy) } else { Ok(()) }
}

fn waiting_for_item<T>(
    participant: &Participant,
    port: Port<'_>,
    is_over: impl Fn() -> bool,
    deadline: Deadline,
    mut attempt: impl FnMut() -> Result<T>,
) -> Result<T> {
    let queue = port.queue;
    // A process that doesn't wait may be the one that puts the next item.
    let is_over = || queue.is_closed() || (deadline != Deadline::NOW && is_over());
    loop {
        match attempt() {
            Err(Errno::Again) => {
                // `is_over` comes first: an item that was put before it is then seen.
                if is_over() && queue.is_empty() {
                    return Err(Errno::Closed);
                }
                if deadline != Deadline::NOW {
                    queue.let_some_come();
                }
                queue
                    .not_empty
                    .wait(participant, port.waiting, deadline, || !queue.is_empty() || is_over())?;
            }
            result => return result,
        }
    }
}

/// Where an item from a segment goes.
enum Fits<'a> {
    /// Into this buffer, or into memory of its own.
    Any(&'a mut [u8]),
    /// Into this buffer, or the item stays.
    Only(&'a mut [u8]),
}

/// Takes the first record and commits that; the caller still has to publish it.
///
/// `AGAIN` if the queue is empty, `MSGSIZE` if the item stays.
fn take(participant: &Participant, queue: &QueueState, guard: &Guard<'_>, place: Fits<'_>) -> Result<Taken> {
    let slot = participant.slot()?;
    let arena = &*participant.arena;
    let head = &queue.head;
    if !queue.has_item() {
        // Otherwise a damaged copy would say for ever that there is something to take.
        head.publish();
        return Err(Errno::Again);
    }
    let mut links = 0;
    let (segment, offset, record, room) = loop {
        let segment = head.segment.load(Ordering::Relaxed);
        let offset = head.offset.load(Ordering::Relaxed);
        let room = capacity(participant, segment)?;
        let left = room.checked_sub(offset).ok_or(Errno::Io)?;
        if left >= 8 {
            let record = arena.in_heap::<AtomicU64>(segment, SEGMENT_HEAD + offset)?.load(Ordering::Relaxed);
            if record & 0xff != LINK {
                break (segment, offset, record, left - 8);
            }
        }
        // A chain without an end is damaged.
        links += 1;
        if links > arena.geometry.heap_pages {
            return Err(Errno::Io);
        }
        let next = arena.in_heap::<SegmentHead>(segment, 0)?.next.load(Ordering::Relaxed);
        guard.set(&head.segment, next)?;
        guard.set(&head.offset, 0)?;
        guard.set(slot.register(Register::Segment), segment)?;
        guard.commit();
        heap::free(participant, slot.register(Register::Segment))?;
    };
    let len = record >> 8;
    let end = offset + 8 + len.next_multiple_of(8);
    let at = SEGMENT_HEAD + offset + 8;
    if len > room || len > INLINE_MAX as u64 {
        return Err(Errno::Io);
    }
    let (taken, bytes) = match (record & 0xff, place) {
        (INLINE, Fits::Any(buffer)) => {
            let len = len as usize;
            if let Some(bytes) = buffer.get_mut(..len) {
                arena.read(segment, at, bytes)?;
                (Taken::Copied(len), len as u64)
            } else {
                let mut bytes = vec![0; len];
                arena.read(segment, at, &mut bytes)?;
                (Taken::Bytes(bytes), len as u64)
            }
        }
        (INLINE, Fits::Only(buffer)) => {
            let bytes = buffer.get_mut(..len as usize).ok_or(Errno::Msgsize)?;
            arena.read(segment, at, bytes)?;
            (Taken::Copied(len as usize), len)
        }
        (MESSAGE, Fits::Any(_)) => {
            let page = arena.in_heap::<AtomicU64>(segment, at)?.load(Ordering::Relaxed);
            let message = Message::at(participant, page)?;
            guard.set(slot.register(Register::Incoming), page)?;
            (Taken::Message(message), message.len)
        }
        (MESSAGE, Fits::Only(_)) => return Err(Errno::Msgsize),
        _ => return Err(Errno::Io),
    };
    // An item that was said to be done before it was taken goes on no account.
    if queue.has(JOINABLE) && queue.settled_so_far() <= head.sequence.load(Ordering::Relaxed) {
        queue.taken.add(participant, guard)?;
    }
    if queue.is_claimed() {
        slot.claims.claim(guard, head.sequence.load(Ordering::Relaxed))?;
    }
    head.advance(guard, end, bytes)?;
    guard.commit();
    Ok(taken)
}

/// Says that an item is done with, whichever process took it. The item leaves the caller's account, or that of another
/// process that has one: so it isn't lost as well when that process dies.
///
/// `OVERFLOW` if all items are done with.
pub(crate) fn task_done(participant: &Participant, port: Port<'_>) -> Result<()> {
    let queue = port.queue;
    if !queue.has(JOINABLE) {
        return Err(Errno::Inval);
    }
    let _operation = participant.begin(port.object)?;
    let guard = queue.lock_head(participant)?;
    if queue.is_settled() {
        return Err(Errno::Overflow);
    }
    queue.taken.take_of_any(participant, &guard)?;
    guard.set(&queue.done, queue.done.load(Ordering::Relaxed).wrapping_add(1))?;
    settled(participant, queue, guard);
    Ok(())
}

/// Commits a change of the settled items.
pub(super) fn settled(participant: &Participant, queue: &QueueState, guard: Guard<'_>) {
    guard.commit();
    queue.publish_settled();
    drop(guard);
    if queue.is_settled() {
        queue.all_settled.notify_all(&participant.arena);
    }
}

/// Waits until all items that were put are done with or lost, and returns how many were lost so far.
pub(crate) fn join(participant: &Participant, port: Port<'_>, deadline: Deadline) -> Result<u64> {
    let queue = port.queue;
    if !queue.has(JOINABLE) {
        return Err(Errno::Inval);
    }
    while !queue.is_settled() {
        queue.all_settled.wait(participant, port.waiting, deadline, || queue.is_settled())?;
    }
    let _operation = participant.begin(port.object)?;
    let _guard = queue.lock_head(participant)?;
    Ok(queue.lost.load(Ordering::Relaxed))
}
