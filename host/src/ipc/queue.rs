//! A queue: first in, first out, any number of producers and consumers, items of any size.
//!
//! # Where the items are
//!
//! In a chain of *segments*, which are runs of heap pages. Producers append records to the last segment, consumers
//! take them from the first. A record is a word (length, kind) and
//!
//! * `INLINE`: the item's bytes,
//! * `MESSAGE`: the page of a [message](super::message), for a large item or one that carries handles,
//! * `LINK`: nothing; the rest of the segment is unused, go on in the next.
//!
//! # Who may do what
//!
//! Producers share one lock (`tail`), consumers another (`head`), and the two sides meet in two counters:
//!
//! ```text
//!  put: lock tail — room? — write the record behind the end — commit(end, sequence) — put = sequence — unlock
//!  get: lock head — got < put? — copy the item out — commit(start, sequence) — got = sequence — unlock
//! ```
//!
//! `put` and `got` are copies of the committed sequences, for the other side to read. So an item is there when `put`
//! says so, and a record is written before it is counted. If an owner dies before its commit, nothing happened; if
//! it dies behind it, it is done, and the next owner of the lock renews the copy.
//!
//! A large item is written and read outside of the locks, while its run is in the hands of the producer or the
//! consumer (its `inflight` register): it changes hands in the commit.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use sandpool_abi::Errno;

use super::Result;
use super::arena::{Member, PAGE};
use super::event::{Event, TimedOut};
use super::heap;
use super::lock::{Guard, Lock};
use super::message::{self, Carry, Message};
use super::object::{Handle, Object};
use super::process_table::Register;
use crate::sys::futex::Deadline;
use crate::sys::mem::shared;

/// Items up to this size lie in the segment itself and are copied under the lock, which takes less than a
/// microsecond; larger ones have a run of their own.
const INLINE_MAX: usize = 8192;

/// Bytes of the largest segment. The first is one page, and each is four times the one before.
const SEGMENT_MAX: u64 = 64 << 10;

const INLINE: u64 = 1;
const MESSAGE: u64 = 2;
const LINK: u64 = 3;

shared! {
    /// What a queue keeps in its object slot.
    #[repr(align(64))]
    pub(crate) struct QueueState {
        maxsize: AtomicU64,
        closed: AtomicU32,
        reserved: AtomicU32,
        not_empty: Event,
        not_full: Event,
        unused: [AtomicU64; 4],
        tail: Side,
        head: Side,
    }

    /// One end of a queue.
    #[repr(align(64))]
    struct Side {
        /// copy of `sequence` for the other side
        published: AtomicU64,
        /// records put or got so far
        sequence: AtomicU64,
        /// first page of the segment
        segment: AtomicU64,
        /// where in it
        offset: AtomicU64,
        lock: Lock,
        unused: [AtomicU64; 2],
    }

    struct SegmentHead {
        /// first page of the next segment; 0 in the last
        next: AtomicU64,
        /// bytes behind this head
        capacity: AtomicU64,
    }
}

const SEGMENT_HEAD: u64 = size_of::<SegmentHead>() as u64;

impl Side {
    /// The lock, with the published copy made good if an owner died.
    fn lock<'a>(&'a self, member: &'a Member) -> Result<Guard<'a>> {
        let guard = self.lock.lock(member)?;
        if guard.recovered {
            self.publish();
        }
        Ok(guard)
    }

    fn publish(&self) {
        self.published.store(self.sequence.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Sets the position behind one record more.
    fn advance(&self, guard: &Guard<'_>, offset: u64) -> Result<()> {
        guard.set(&self.offset, offset)?;
        guard.set(&self.sequence, self.sequence.load(Ordering::Relaxed) + 1)
    }

    fn place(&self, segment: u64) {
        self.published.store(0, Ordering::Relaxed);
        self.sequence.store(0, Ordering::Relaxed);
        self.segment.store(segment, Ordering::Relaxed);
        self.offset.store(0, Ordering::Relaxed);
    }
}

impl QueueState {
    /// The locks of both sides, for the sweep.
    pub(super) fn locks(&self) -> [&Lock; 2] {
        [&self.tail.lock, &self.head.lock]
    }

    /// Both events, for the sweep.
    pub(super) fn events(&self) -> [&Event; 2] {
        [&self.not_empty, &self.not_full]
    }

    /// Rolls back what dead owners of the locks left.
    pub(super) fn recover(&self, member: &Member) -> Result<()> {
        self.tail.lock(member)?;
        self.head.lock(member)?;
        Ok(())
    }

    fn is_empty(&self) -> bool {
        self.head.published.load(Ordering::Acquire) == self.tail.published.load(Ordering::Acquire)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) != 0
    }

    /// How many items wait.
    pub(crate) fn size(&self) -> u64 {
        let got = self.head.published.load(Ordering::Acquire);
        self.tail.published.load(Ordering::Acquire).saturating_sub(got)
    }

    /// The most items that may wait; 0 for no bound.
    pub(crate) fn maxsize(&self) -> u64 {
        self.maxsize.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        let maxsize = self.maxsize();
        maxsize != 0 && self.size() >= maxsize
    }
}

/// Makes a queue for at most `maxsize` items, or any number if that is 0.
pub(crate) fn create(member: &Member, maxsize: u64) -> Result<Handle> {
    let register = member.slot()?.register(Register::Segment);
    let segment = new_segment(member, PAGE as u64)?;
    let made = super::object::create(member, register, |slot| {
        let queue = &slot.queue;
        queue.maxsize.store(maxsize, Ordering::Relaxed);
        queue.closed.store(0, Ordering::Relaxed);
        queue.tail.place(segment);
        queue.head.place(segment);
        Ok(())
    });
    if made.is_err() {
        heap::free(member, register)?;
    }
    made
}

fn new_segment(member: &Member, bytes: u64) -> Result<u64> {
    let page = heap::allocate(member, bytes, member.slot()?.register(Register::Segment))?;
    let head: &SegmentHead = member.arena.in_heap(page, 0)?;
    head.next.store(0, Ordering::Relaxed);
    head.capacity.store(bytes - SEGMENT_HEAD, Ordering::Relaxed);
    Ok(page)
}

/// Capacity of a segment, checked against the run it lies in.
fn capacity(member: &Member, segment: u64) -> Result<u64> {
    let head: &SegmentHead = member.arena.in_heap(segment, 0)?;
    let capacity = head.capacity.load(Ordering::Relaxed);
    if capacity > SEGMENT_MAX || !capacity.is_multiple_of(8) { Err(Errno::Io) } else { Ok(capacity) }
}

fn no_time(deadline: Deadline) -> impl Fn(TimedOut) -> Errno {
    move |_| if deadline == Deadline::NOW { Errno::Again } else { Errno::Timedout }
}

/// Puts one item, waiting for room.
///
/// `AGAIN` or `TIMEDOUT`, `CLOSED`, `MSGSIZE` if it can never fit, `BADF` if a handle isn't the caller's.
pub(crate) fn put(
    member: &Member,
    object: Object<'_>,
    item: &[u8],
    handles: &[Handle],
    deadline: Deadline,
) -> Result<()> {
    let queue = &object.slot.queue;
    let _operation = member.begin(object.index)?;
    if handles.is_empty() && item.len() <= INLINE_MAX {
        return waiting_for_room(member, queue, deadline, || try_put(member, queue, Some(item)));
    }
    if queue.is_closed() {
        return Err(Errno::Closed);
    }
    let register = member.slot()?.register(Register::Outgoing);
    let result = waiting_for_room(member, queue, deadline, || {
        message::compose(member, &[item], handles, Carry::Counted, register)
    })
    .and_then(|_| waiting_for_room(member, queue, deadline, || try_put(member, queue, None)));
    if result.is_err() && register.load(Ordering::Relaxed) != 0 {
        // The caller still holds the handles: none of their objects goes with the message.
        message::discard(member, register, &mut Vec::new())?;
    }
    result
}

/// Tries until there is room, in the queue and in the arena.
fn waiting_for_room<T>(
    member: &Member,
    queue: &QueueState,
    deadline: Deadline,
    attempt: impl Fn() -> Result<T>,
) -> Result<T> {
    let heap = &member.arena.header()?.heap;
    loop {
        let frees = heap.frees();
        match attempt() {
            Err(Errno::Again) => queue.not_full.wait(deadline, || !queue.is_full() || queue.is_closed()),
            Err(Errno::Nomem) => heap.freed.wait(deadline, || heap.frees() != frees || queue.is_closed()),
            result => return result,
        }
        .map_err(no_time(deadline))?;
    }
}

/// `AGAIN` if the queue is full, `NOMEM` if the arena is.
fn try_put(member: &Member, queue: &QueueState, inline: Option<&[u8]>) -> Result<()> {
    let slot = member.slot()?;
    let arena = &*member.arena;
    let tail = &queue.tail;
    let guard = tail.lock(member)?;
    if queue.is_closed() {
        return Err(Errno::Closed);
    }
    if queue.is_full() {
        return Err(Errno::Again);
    }
    let bytes = inline.map_or(8, |item| item.len() as u64).next_multiple_of(8);
    let need = 8 + bytes;
    let mut segment = tail.segment.load(Ordering::Relaxed);
    let mut offset = tail.offset.load(Ordering::Relaxed);
    let room = capacity(member, segment)?;
    if offset > room {
        return Err(Errno::Io);
    }
    if room - offset < need {
        let fit = (SEGMENT_HEAD + need).next_power_of_two();
        let next = new_segment(member, ((room + SEGMENT_HEAD) * 4).max(fit).min(SEGMENT_MAX))?;
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
    match inline {
        Some(item) => {
            record.store((item.len() as u64) << 8 | INLINE, Ordering::Relaxed);
            arena.write(segment, SEGMENT_HEAD + offset + 8, item)?;
        }
        None => {
            record.store(8 << 8 | MESSAGE, Ordering::Relaxed);
            let page = slot.register(Register::Outgoing).load(Ordering::Relaxed);
            arena.in_heap::<AtomicU64>(segment, SEGMENT_HEAD + offset + 8)?.store(page, Ordering::Relaxed);
            guard.set(slot.register(Register::Outgoing), 0)?;
        }
    }
    tail.advance(&guard, offset + need)?;
    guard.commit();
    tail.publish();
    drop(guard);
    queue.not_empty.notify_one();
    Ok(())
}

/// An item that was taken.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Its bytes are in the buffer: so many.
    Copied(usize),
    /// It didn't fit there; its bytes.
    Bytes(Vec<u8>),
    /// It is in the caller's hands, in the register for what comes in.
    Message(Message),
}

/// Takes the oldest item, waiting for one. A short item without handles is copied to `buffer` if it fits.
///
/// `AGAIN` or `TIMEDOUT`; `CLOSED` when it is closed and drained.
pub(crate) fn get(
    member: &Member,
    object: Object<'_>,
    buffer: &mut [u8],
    deadline: Deadline,
) -> Result<Taken> {
    let queue = &object.slot.queue;
    let _operation = member.begin(object.index)?;
    loop {
        match try_get(member, queue, buffer, Register::Incoming) {
            Err(Errno::Again) => {
                // Closed is looked at first: what was put before that is seen then.
                if queue.is_closed() && queue.is_empty() {
                    return Err(Errno::Closed);
                }
                queue
                    .not_empty
                    .wait(deadline, || !queue.is_empty() || queue.is_closed())
                    .map_err(no_time(deadline))?;
            }
            result => return result,
        }
    }
}

/// `AGAIN` if the queue is empty. A message goes into that register.
fn try_get(member: &Member, queue: &QueueState, buffer: &mut [u8], into: Register) -> Result<Taken> {
    if queue.is_empty() {
        return Err(Errno::Again);
    }
    let slot = member.slot()?;
    let arena = &*member.arena;
    let head = &queue.head;
    let guard = head.lock(member)?;
    if head.sequence.load(Ordering::Relaxed) == queue.tail.published.load(Ordering::Acquire) {
        return Err(Errno::Again);
    }
    let (segment, offset, record, room) = loop {
        let segment = head.segment.load(Ordering::Relaxed);
        let offset = head.offset.load(Ordering::Relaxed);
        let room = capacity(member, segment)?;
        let left = room.checked_sub(offset).ok_or(Errno::Io)?;
        if left >= 8 {
            let record = arena.in_heap::<AtomicU64>(segment, SEGMENT_HEAD + offset)?.load(Ordering::Relaxed);
            if record & 0xff != LINK {
                break (segment, offset, record, left - 8);
            }
        }
        let next = arena.in_heap::<SegmentHead>(segment, 0)?.next.load(Ordering::Relaxed);
        guard.set(&head.segment, next)?;
        guard.set(&head.offset, 0)?;
        guard.set(slot.register(Register::Segment), segment)?;
        guard.commit();
        heap::free(member, slot.register(Register::Segment))?;
    };
    let len = record >> 8;
    let end = offset + 8 + len.next_multiple_of(8);
    let at = SEGMENT_HEAD + offset + 8;
    if len > room || len > INLINE_MAX as u64 {
        return Err(Errno::Io);
    }
    let taken = match record & 0xff {
        INLINE => {
            let len = len as usize;
            if let Some(bytes) = buffer.get_mut(..len) {
                arena.read(segment, at, bytes)?;
                Taken::Copied(len)
            } else {
                let mut bytes = vec![0; len];
                arena.read(segment, at, &mut bytes)?;
                Taken::Bytes(bytes)
            }
        }
        MESSAGE => {
            let page = arena.in_heap::<AtomicU64>(segment, at)?.load(Ordering::Relaxed);
            let message = Message::at(member, page)?;
            guard.set(slot.register(into), page)?;
            Taken::Message(message)
        }
        _ => return Err(Errno::Io),
    };
    head.advance(&guard, end)?;
    guard.commit();
    head.publish();
    drop(guard);
    queue.not_full.notify_one();
    Ok(taken)
}

/// Closes the queue for everybody. Under the producers' lock, so that nothing is put after it is seen to be closed.
pub(crate) fn close(member: &Member, object: Object<'_>) -> Result<()> {
    let queue = &object.slot.queue;
    let _operation = member.begin(object.index)?;
    let guard = queue.tail.lock(member)?;
    queue.closed.store(1, Ordering::Release);
    drop(guard);
    queue.not_empty.notify_all();
    queue.not_full.notify_all();
    member.arena.header()?.heap.freed.notify_all();
    Ok(())
}

/// Throws all items away and gives the memory back. Can be begun again where it was left.
pub(super) fn destroy(member: &Member, queue: &QueueState, unused: &mut Vec<u32>) -> Result<()> {
    let slot = member.slot()?;
    while queue.head.segment.load(Ordering::Relaxed) != 0 {
        match try_get(member, queue, &mut [], Register::Discarded) {
            Ok(Taken::Message(_)) => message::discard(member, slot.register(Register::Discarded), unused)?,
            Ok(_) => {}
            Err(Errno::Again) => {
                let guard = queue.head.lock(member)?;
                guard.set(slot.register(Register::Segment), queue.head.segment.load(Ordering::Relaxed))?;
                guard.set(&queue.head.segment, 0)?;
                guard.commit();
                drop(guard);
                heap::free(member, slot.register(Register::Segment))?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
