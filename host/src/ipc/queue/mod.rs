//! A queue: first in, first out, with any number of producers and consumers, and items of any size.
//!
//! # Where the items are
//!
//! Items lie in a chain of *segments*, which are runs of heap pages. Producers append records to the last segment,
//! consumers take them from the first. A record is a word (length, kind) and
//!
//! * `INLINE`: the item's bytes,
//! * `MESSAGE`: the page of a [message](super::message), for a large item or one that carries handles,
//! * `LINK`: nothing; the rest of the segment is unused, and the reader goes on in the next.
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
//! `put` and `got` are copies of the committed sequences, which the other side reads. So an item exists once `put` says
//! so, and a record is written before it is counted. Each side looks at the other's counter only when the items or the
//! room that it saw there last are used up. If an owner dies before its commit, nothing happened; if it dies after its
//! commit, the operation is done, and the next owner of the lock renews the copy.
//!
//! A large item is written and read outside of the locks, while its run is in the hands of the producer or the consumer
//! (its `inflight` register): the run changes hands in the commit.
//!
//! # A joinable queue
//!
//! A joinable queue also counts, under the consumers' lock, the items that each process has taken and isn't done with.
//! When that process ends, these items are lost, and nobody waits for them any more.
//!
//! # A claimed queue
//!
//! A process that takes an item notes the item's number in its slot, until it puts the result into another queue: see
//! [`claims`](super::claims).
//!
//! Each direction of a [pipe](super::pipe) is such a queue too, with a bound in bytes.

mod contents;
mod get;
mod put;
#[cfg(test)]
mod tests;

use sandpool_abi::Errno;

use self::get::settled;
pub(crate) use self::get::{Taken, get, get_many, join, task_done};
pub(crate) use self::put::{finish, put, put_many, put_parts};
use super::Result;
use super::arena::{PAGE, Participant};
use super::event::Event;
use super::heap;
use super::kind::{self, ObjectState, Position, Share, Version, Waitable};
use super::lock::{Guard, Lock};
use super::message;
use super::object::{self, Handle};
use super::process_table::Register;
pub(crate) use super::states::QueueState;
use super::states::Side;
use super::waiting::Waiting;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex;
use crate::sys::mem::shared;

/// Items up to this size lie in the segment itself and are copied under the lock, which takes less than a
/// microsecond; larger ones have a run of their own.
const INLINE_MAX: usize = sandpool_abi::queue::BATCH_ITEM_MAX;

/// Bytes of the largest segment. The first segment is one page, and each next one is four times the one before.
const SEGMENT_MAX: u64 = 64 << 10;

/// How long a consumer lets a stream of items come: as long as about ten items take.
const STREAM_PAUSES: u32 = 6;

const INLINE: u64 = 1;
const MESSAGE: u64 = 2;
const LINK: u64 = 3;

/// The bound counts bytes, not items.
const BYTES: u32 = 1;
/// Items are on an account until they are done with.
const JOINABLE: u32 = 2;
/// Processes that take items claim them.
const CLAIMED: u32 = 4;

shared! {
    struct SegmentHead {
        /// first page of the next segment; 0 in the last
        next: AtomicU64,
        /// bytes after this head
        capacity: AtomicU64,
    }
}

const SEGMENT_HEAD: u64 = size_of::<SegmentHead>() as u64;

impl Side {
    /// Locks the side, and renews the published copies if an owner died.
    #[inline]
    fn lock<'a>(&'a self, participant: &'a Participant) -> Result<Guard<'a>> {
        let guard = self.lock.lock(participant)?;
        if guard.recovered {
            self.publish();
        }
        Ok(guard)
    }

    #[inline]
    fn publish(&self) {
        self.published_bytes.store(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.published.store(self.sequence.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Reads the number that the other side has published. To read it each time would take its cache line from the
    /// process that works there.
    #[inline]
    fn look_at(&self, other: &Self) {
        self.seen.store(other.published.load(Ordering::Acquire), Ordering::Relaxed);
    }

    /// Moves the position past one more record, of an item of `len` bytes.
    #[inline]
    fn advance(&self, guard: &Guard<'_>, offset: u64, len: u64) -> Result<()> {
        guard.set(&self.offset, offset)?;
        guard.set(&self.bytes, self.bytes.load(Ordering::Relaxed).wrapping_add(len))?;
        guard.set(&self.sequence, self.sequence.load(Ordering::Relaxed).wrapping_add(1))
    }

    #[inline]
    fn place(&self, segment: u64) {
        let Self { published, sequence, offset, published_bytes, bytes, seen, .. } = self;
        for word in [published, sequence, offset, published_bytes, bytes, seen] {
            word.store(0, Ordering::Relaxed);
        }
        self.segment.store(segment, Ordering::Relaxed);
    }
}

/// The bound of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// This number of items, or any number if it is 0.
    Items(u64),
    /// This number of bytes. A longer item is put when no other waits.
    Bytes(u64),
}

/// The account that a queue keeps of taken items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Account {
    Nothing = 0,
    /// The number of items that each process has, until processes say that they are done.
    Joinable = JOINABLE,
    /// The items that each process has, until it puts their results.
    Claimed = CLAIMED,
}

impl ObjectState for QueueState {
    /// The kind of account that the queue keeps, as the flag by which a guest asks for it.
    fn flags(&self) -> u32 {
        match (self.has(JOINABLE), self.has(CLAIMED)) {
            (true, _) => sandpool_abi::queue::JOINABLE,
            (_, true) => sandpool_abi::queue::CLAIMED,
            _ => 0,
        }
    }

    fn version(&self) -> Option<Version> {
        Some(self.items_version())
    }

    fn handles(
        &self,
        participant: &Participant,
        position: Option<Position>,
        each: &mut dyn FnMut(Handle),
    ) -> Result<Option<Position>> {
        self.handles_from(participant, position, each)
    }

    fn locks<'a>(&'a self, _: &'a Participant) -> Result<Vec<&'a Lock>> {
        Ok(vec![&self.tail.lock, &self.head.lock])
    }

    fn events<'a>(&'a self, _: &'a Participant) -> Result<Vec<&'a Event>> {
        Ok(vec![&self.not_empty, &self.not_full, &self.all_settled])
    }

    fn recover(&self, participant: &Participant) -> Result<()> {
        self.tail.lock(participant)?;
        self.lock_head(participant)?;
        Ok(())
    }

    /// Counts the items as lost that a process has taken and isn't done with.
    fn settle(&self, participant: &Participant, index: u32, process: u32) -> Result<()> {
        if !self.has(JOINABLE) {
            return Ok(());
        }
        let _operation = participant.begin(index)?;
        let guard = self.lock_head(participant)?;
        let taken = self.taken.take(participant, &guard, process, u64::MAX)?;
        if taken == 0 {
            return Ok(());
        }
        let open =
            self.tail.published.load(Ordering::Acquire).saturating_sub(self.settled.load(Ordering::Relaxed));
        guard.set(&self.lost, self.lost.load(Ordering::Relaxed).wrapping_add(taken.min(open)))?;
        settled(participant, self, guard);
        Ok(())
    }

    /// Throws away the items of a segment, or those up to the first message, and gives the memory back. Returns whether
    /// that was the last of the queue. The destruction can be taken up again where it was left.
    ///
    /// Nobody holds the queue, so the producers' side says where the last record ends, whatever the counters say.
    fn destroy_some(&self, participant: &Participant, unused: &mut Vec<u32>) -> Result<bool> {
        let slot = participant.slot()?;
        let arena = &*participant.arena;
        let QueueState { head, tail, .. } = self;
        let guard = self.lock_head(participant)?;
        let segment = head.segment.load(Ordering::Relaxed);
        if segment == 0 {
            let detached = self.taken.detach(participant, &guard)?;
            guard.commit();
            drop(guard);
            if detached {
                heap::free(participant, slot.register(Register::Segment))?;
            }
            return Ok(true);
        }
        let room = capacity(participant, segment)?;
        let is_last = segment == tail.segment.load(Ordering::Relaxed);
        let end = if is_last { room.min(tail.offset.load(Ordering::Relaxed)) } else { room };
        let mut offset = head.offset.load(Ordering::Relaxed);
        while end.checked_sub(offset).is_some_and(|left| left >= 8) {
            let record = arena.in_heap::<AtomicU64>(segment, SEGMENT_HEAD + offset)?.load(Ordering::Relaxed);
            let len = record >> 8;
            match record & 0xff {
                LINK => break,
                INLINE | MESSAGE if len <= INLINE_MAX as u64 => {}
                _ => return Err(Errno::Io),
            }
            let at = SEGMENT_HEAD + offset + 8;
            offset += 8 + len.next_multiple_of(8);
            if record & 0xff == MESSAGE {
                let page = arena.in_heap::<AtomicU64>(segment, at)?.load(Ordering::Relaxed);
                guard.set(slot.register(Register::Discarded), page)?;
                guard.set(&head.offset, offset)?;
                guard.commit();
                drop(guard);
                message::discard(participant, slot.register(Register::Discarded), unused)?;
                return Ok(false);
            }
        }
        let next = match is_last {
            true => 0,
            false => arena.in_heap::<SegmentHead>(segment, 0)?.next.load(Ordering::Relaxed),
        };
        guard.set(slot.register(Register::Segment), segment)?;
        guard.set(&head.segment, next)?;
        guard.set(&head.offset, 0)?;
        guard.commit();
        drop(guard);
        heap::free(participant, slot.register(Register::Segment))?;
        Ok(false)
    }

    fn shares(&self, participant: &Participant, index: u32) -> Option<Vec<Share>> {
        kind::shares_of_holders(participant, index, |process| self.taken.held_by(participant, process))
    }

    fn waitable(&self) -> Option<&dyn Waitable> {
        Some(self)
    }

    fn waiting(&self, index: u32) -> Option<Waiting> {
        Some(Waiting::Get(index))
    }
}

impl Waitable for QueueState {
    fn changed(&self) -> &Event {
        &self.not_empty
    }

    fn is_ready(&self) -> bool {
        self.has_news()
    }
}

impl QueueState {
    /// Makes this an empty queue, with its first segment.
    pub(super) fn reset(&self, bound: Bound, account: Account, segment: u64) {
        let (bound, unit) = match bound {
            Bound::Items(items) => (items, 0),
            Bound::Bytes(bytes) => (bytes, BYTES),
        };
        self.bound.store(bound, Ordering::Relaxed);
        self.flags.store(unit | account as u32, Ordering::Relaxed);
        self.closed.store(0, Ordering::Relaxed);
        for word in [&self.done, &self.lost, &self.settled, &self.waited] {
            word.store(0, Ordering::Relaxed);
        }
        self.tail.place(segment);
        self.head.place(segment);
        self.taken.reset();
    }

    /// The event that consumers wait for.
    pub(crate) fn not_empty(&self) -> &Event {
        &self.not_empty
    }

    /// The event that producers wait for.
    pub(super) fn not_full(&self) -> &Event {
        &self.not_full
    }

    #[inline]
    fn lock_head<'a>(&'a self, participant: &'a Participant) -> Result<Guard<'a>> {
        let guard = self.head.lock(participant)?;
        if guard.recovered {
            self.publish_settled();
        }
        Ok(guard)
    }

    #[inline]
    fn publish_settled(&self) {
        self.settled.store(self.settled_so_far(), Ordering::Release);
    }

    /// Items that are done with or lost, under the consumers' lock. The accounts of processes have the items that were
    /// taken beyond these: nobody says which item is done with, and each is to be counted once.
    #[inline]
    fn settled_so_far(&self) -> u64 {
        self.done.load(Ordering::Relaxed).wrapping_add(self.lost.load(Ordering::Relaxed))
    }

    #[inline]
    fn is_empty(&self) -> bool {
        let got = self.head.published.load(Ordering::Acquire);
        // Items that consumers have seen and not yet got are still there.
        got == self.head.seen.load(Ordering::Acquire) && got == self.tail.published.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) != 0
    }

    /// Whether there is an item, or there will never be one again.
    pub(crate) fn has_news(&self) -> bool {
        !self.is_empty() || self.is_closed()
    }

    /// Lets some time pass before the wait for the next item, if there were several since the last wait. Such items
    /// come one after the other, and a consumer that takes each at once takes the cache lines of the segment from the
    /// producer that writes to them.
    #[inline]
    fn let_some_come(&self) {
        let got = self.head.published.load(Ordering::Relaxed);
        // The word is only a hint: other processes that wait overwrite it.
        let before = self.waited.load(Ordering::Relaxed);
        self.waited.store(got, Ordering::Relaxed);
        if got.wrapping_sub(before) > 1 {
            futex::pause(STREAM_PAUSES);
        }
    }

    /// The number of items that wait.
    pub(crate) fn size(&self) -> u64 {
        let got = self.head.published.load(Ordering::Acquire);
        self.tail.published.load(Ordering::Acquire).saturating_sub(got)
    }

    /// The most items, or bytes, that may wait; 0 for no bound.
    pub(crate) fn bound(&self) -> u64 {
        self.bound.load(Ordering::Relaxed)
    }

    /// Whether a process that takes an item claims it.
    pub(crate) fn is_claimed(&self) -> bool {
        self.has(CLAIMED)
    }

    #[inline]
    fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Whether there is an item, for a caller that holds the consumers' lock.
    #[inline]
    fn has_item(&self) -> bool {
        let got = self.head.sequence.load(Ordering::Relaxed);
        if self.head.seen.load(Ordering::Relaxed) == got {
            self.head.look_at(&self.tail);
        }
        self.head.seen.load(Ordering::Relaxed) != got
    }

    /// Whether there is room for an item of `len` bytes, for a caller that holds the producers' lock.
    #[inline]
    fn has_room(&self, len: u64) -> bool {
        let bound = self.bound();
        let waiting =
            self.tail.sequence.load(Ordering::Relaxed).wrapping_sub(self.tail.seen.load(Ordering::Relaxed));
        // The producer looks at the consumers' words only if they matter: a look takes their cache line from the
        // consumers.
        if !self.has(BYTES) && (bound == 0 || waiting < bound) {
            return true;
        }
        self.tail.look_at(&self.head);
        !self.is_full(len)
    }

    /// Whether an item of `len` bytes has to wait.
    #[inline]
    pub(super) fn is_full(&self, len: u64) -> bool {
        let bound = self.bound();
        if !self.has(BYTES) {
            return bound != 0 && self.size() >= bound;
        }
        if self.is_empty() {
            return false;
        }
        let got = self.head.published_bytes.load(Ordering::Acquire);
        let waiting = self.tail.published_bytes.load(Ordering::Acquire).wrapping_sub(got);
        waiting.saturating_add(len) > bound
    }

    /// Whether all items that were put are done with or lost.
    #[inline]
    fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire) >= self.tail.published.load(Ordering::Acquire)
    }
}

/// Makes a queue for at most `maxsize` items, or any number if `maxsize` is 0.
pub(crate) fn create(participant: &Participant, maxsize: u64, account: Account) -> Result<Handle> {
    let register = participant.slot()?.register(Register::Segment);
    let segment = first_segment(participant)?;
    let made = object::create(participant, register, |queue: &QueueState| {
        queue.reset(Bound::Items(maxsize), account, segment);
        Ok(())
    });
    if made.is_err() {
        heap::free(participant, register)?;
    }
    made
}

/// Makes a first segment, in the caller's register.
pub(super) fn first_segment(participant: &Participant) -> Result<u64> {
    new_segment(participant, PAGE as u64)
}

fn new_segment(participant: &Participant, bytes: u64) -> Result<u64> {
    let page = heap::allocate(participant, bytes, participant.slot()?.register(Register::Segment))?;
    let head: &SegmentHead = participant.arena.in_heap(page, 0)?;
    head.next.store(0, Ordering::Relaxed);
    head.capacity.store(bytes - SEGMENT_HEAD, Ordering::Relaxed);
    Ok(page)
}

/// Capacity of a segment, checked against the run it lies in.
#[inline]
fn capacity(participant: &Participant, segment: u64) -> Result<u64> {
    let head: &SegmentHead = participant.arena.in_heap(segment, 0)?;
    let capacity = head.capacity.load(Ordering::Relaxed);
    if capacity > SEGMENT_MAX || !capacity.is_multiple_of(8) { Err(Errno::Io) } else { Ok(capacity) }
}

/// A queue and its use: an object itself, or a direction of a pipe.
#[derive(Clone, Copy)]
pub(crate) struct Port<'a> {
    pub(crate) queue: &'a QueueState,
    /// The object that the caller works on, for the sweep.
    pub(crate) object: u32,
    /// The note of a process that waits here.
    pub(crate) waiting: Waiting,
}

/// Closes the queue for everybody. The producers' lock is held, so that nothing is put after a process has seen that
/// the queue is closed.
pub(crate) fn close(participant: &Participant, port: Port<'_>) -> Result<()> {
    let _operation = participant.begin(port.object)?;
    shut(participant, port.queue)
}

/// Closes the queue in the midst of an operation.
pub(super) fn shut(participant: &Participant, queue: &QueueState) -> Result<()> {
    let guard = queue.tail.lock(participant)?;
    queue.closed.store(1, Ordering::Release);
    drop(guard);
    queue.not_empty.notify_all(&participant.arena);
    queue.not_full.notify_all(&participant.arena);
    participant.arena.header()?.heap.freed.notify_all(&participant.arena);
    Ok(())
}
