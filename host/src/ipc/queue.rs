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

use sandpool_abi::Errno;

use super::Result;
use super::arena::{PAGE, Participant};
use super::claims::ClaimSlot;
use super::collections;
use super::event::Event;
use super::heap;
use super::kind::{self, ObjectState, Share, Waitable};
use super::lock::{Guard, Lock};
use super::message::{self, Carry, Message};
use super::object::{self, Handle};
use super::process_table::Register;
use super::tally::Tally;
use super::waiting::Waiting;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::futex::{self, Deadline};
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
    /// The state of a queue.
    #[repr(align(64))]
    pub(crate) struct QueueState {
        /// the most items or bytes that may wait; 0 for no bound
        bound: AtomicU64,
        closed: AtomicU32,
        flags: AtomicU32,
        not_empty: Event,
        not_full: Event,
        /// items that are done with
        done: AtomicU64,
        /// items that were taken by processes which ended before they were done with them
        lost: AtomicU64,
        /// copy of the sum of `done` and `lost`, for the processes that wait
        settled: AtomicU64,
        all_settled: Event,
        tail: Side,
        head: Side,
        taken: Tally,
        /// number of items that had been got when a process last had to wait for one
        waited: AtomicU64,
        reserved: [AtomicU64; 7],
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
        /// offset in the segment
        offset: AtomicU64,
        /// copy of `bytes` for the other side
        published_bytes: AtomicU64,
        /// bytes of items put or got so far
        bytes: AtomicU64,
        /// the other side's `published` as last seen; it may have grown since
        seen: AtomicU64,
        lock: Lock,
    }

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

    fn publish(&self) {
        self.published_bytes.store(self.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.published.store(self.sequence.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Reads the number that the other side has published. To read it each time would take its cache line from the
    /// process that works there.
    fn look_at(&self, other: &Self) {
        self.seen.store(other.published.load(Ordering::Acquire), Ordering::Relaxed);
    }

    /// Moves the position past one more record, of an item of `len` bytes.
    fn advance(&self, guard: &Guard<'_>, offset: u64, len: u64) -> Result<()> {
        guard.set(&self.offset, offset)?;
        guard.set(&self.bytes, self.bytes.load(Ordering::Relaxed).wrapping_add(len))?;
        guard.set(&self.sequence, self.sequence.load(Ordering::Relaxed).wrapping_add(1))
    }

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

    fn contents(&self) -> Option<&QueueState> {
        Some(self)
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

    #[inline]
    fn lock_head<'a>(&'a self, participant: &'a Participant) -> Result<Guard<'a>> {
        let guard = self.head.lock(participant)?;
        if guard.recovered {
            self.publish_settled();
        }
        Ok(guard)
    }

    fn publish_settled(&self) {
        self.settled.store(self.settled_so_far(), Ordering::Release);
    }

    /// Items that are done with or lost, under the consumers' lock. The accounts of processes have the items that were
    /// taken beyond these: nobody says which item is done with, and each is to be counted once.
    fn settled_so_far(&self) -> u64 {
        self.done.load(Ordering::Relaxed).wrapping_add(self.lost.load(Ordering::Relaxed))
    }

    fn is_empty(&self) -> bool {
        let got = self.head.published.load(Ordering::Acquire);
        // Items that consumers have seen and not yet got are still there.
        got == self.head.seen.load(Ordering::Acquire) && got == self.tail.published.load(Ordering::Acquire)
    }

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

    fn has(&self, flag: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Whether there is an item, for a caller that holds the consumers' lock.
    fn has_item(&self) -> bool {
        let got = self.head.sequence.load(Ordering::Relaxed);
        if self.head.seen.load(Ordering::Relaxed) == got {
            self.head.look_at(&self.tail);
        }
        self.head.seen.load(Ordering::Relaxed) != got
    }

    /// Whether there is room for an item of `len` bytes, for a caller that holds the producers' lock.
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
    fn is_full(&self, len: u64) -> bool {
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
fn settled(participant: &Participant, queue: &QueueState, guard: Guard<'_>) {
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

/// The version of a queue's items: every change of the items changes the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version([u64; 4]);

/// The position of a process that looks through a queue without taking anything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    segment: u64,
    offset: u64,
    segments_left: u64,
}

/// Messages plus handles after which one look ends.
const LOOKED_AT_ONCE: usize = 256;

impl QueueState {
    pub(super) fn version(&self) -> Version {
        let Self { head, tail, .. } = self;
        let words = [&head.sequence, &head.segment, &tail.sequence, &tail.segment];
        Version(words.map(|word| word.load(Ordering::Acquire)))
    }

    /// Gives `each` some of the handles that lie in the queue, from this position on or from the first, and returns
    /// where to go on. Items that change meanwhile may be passed over, or given twice.
    ///
    /// `IO` if nothing sensible is there.
    pub(super) fn handles(
        &self,
        participant: &Participant,
        position: Option<Position>,
        mut each: impl FnMut(Handle),
    ) -> Result<Option<Position>> {
        let arena = &*participant.arena;
        let mut position = position.unwrap_or_else(|| Position {
            segment: self.head.segment.load(Ordering::Acquire),
            offset: self.head.offset.load(Ordering::Acquire),
            segments_left: u64::from(arena.geometry.heap_pages),
        });
        let segment = position.segment;
        if segment == 0 {
            return Ok(None);
        }
        let room = capacity(participant, segment)?;
        let is_last = segment == self.tail.segment.load(Ordering::Acquire);
        let end = if is_last { room.min(self.tail.offset.load(Ordering::Acquire)) } else { room };
        let mut looked_at = 0;
        while end.checked_sub(position.offset).is_some_and(|left| left >= 8) {
            let at = SEGMENT_HEAD + position.offset;
            let record = arena.in_heap::<AtomicU64>(segment, at)?.load(Ordering::Acquire);
            match record & 0xff {
                LINK => break,
                INLINE => {}
                MESSAGE => {
                    let page = arena.in_heap::<AtomicU64>(segment, at + 8)?.load(Ordering::Acquire);
                    let handles = Message::at(participant, page)?.handles(participant)?;
                    looked_at += 1 + handles.len();
                    handles.into_iter().for_each(&mut each);
                }
                _ => return Err(Errno::Io),
            }
            position.offset = (record >> 8)
                .checked_next_multiple_of(8)
                .and_then(|len| len.checked_add(8)?.checked_add(position.offset))
                .ok_or(Errno::Io)?;
            if looked_at >= LOOKED_AT_ONCE {
                return Ok(Some(position));
            }
        }
        position.segments_left = position.segments_left.checked_sub(1).ok_or(Errno::Io)?;
        position.segment = match is_last {
            true => 0,
            false => arena.in_heap::<SegmentHead>(segment, 0)?.next.load(Ordering::Acquire),
        };
        position.offset = 0;
        Ok((position.segment != 0).then_some(position))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::ipc::arena::{Arena, Geometry, Patience};
    use crate::ipc::sweep::{Sweep, sweep};

    const PROCESSES: u32 = 3;

    fn port(participant: &Participant, handle: Handle) -> Port<'_> {
        let object::Object { index, state } = object::resolve(participant, handle).unwrap();
        Port { queue: state, object: index, waiting: Waiting::TasksDone(index) }
    }

    fn put_one(participant: &Participant, handle: Handle) {
        put(participant, port(participant, handle), b"item", &[], Deadline::NOW).unwrap();
    }

    fn get_one(participant: &Participant, handle: Handle) -> Result<Taken> {
        get(participant, port(participant, handle), || false, &mut [0; 8], Deadline::NOW)
    }

    /// One process takes `taken` of three items, another says that `done` of them are done with, and the first dies.
    fn after_the_death(taken: u64, done: u64, check: impl Fn(&Participant, Handle)) {
        let geometry = Geometry { processes_max: PROCESSES, objects_max: 4, heap_pages: 16 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let participant = |index| Participant { arena: arena.clone(), index, patience: Patience::Brief };
        let [other, holder, supervisor] = [0, 1, PROCESSES].map(participant);
        let handle = create(&other, 0, Account::Joinable).unwrap();
        object::share(&other, handle, holder.index).unwrap();
        (0..3).for_each(|_| put_one(&other, handle));
        (0..taken).for_each(|_| drop(get_one(&holder, handle).unwrap()));
        (0..done).for_each(|_| task_done(&other, port(&other, handle)).unwrap());
        sweep(Sweep::from_dead(holder.index, true), &supervisor).unwrap();
        check(&other, handle);
    }

    #[test]
    fn items_that_another_is_done_with_are_not_lost_as_well() {
        for (taken, done) in [(1, 0), (3, 0), (1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)] {
            after_the_death(taken, done, |other, handle| {
                let of = || port(other, handle);
                // The other items are still to be taken, and to be done.
                let settled = taken.max(done);
                for _ in taken..3 {
                    get_one(other, handle).unwrap();
                }
                for _ in settled..3 {
                    assert_eq!(join(other, of(), Deadline::NOW), Err(Errno::Again), "{taken} and {done}");
                    task_done(other, of()).unwrap();
                }
                assert_eq!(join(other, of(), Deadline::NOW), Ok(settled - done), "{taken} and {done}");
                assert_eq!(task_done(other, of()), Err(Errno::Overflow));
                // An item that is put from now on is to be done: no more items were counted than there had been.
                put_one(other, handle);
                assert_eq!(join(other, of(), Deadline::NOW), Err(Errno::Again), "{taken} and {done}");
                get_one(other, handle).unwrap();
                task_done(other, of()).unwrap();
                assert_eq!(join(other, of(), Deadline::NOW), Ok(settled - done));
            });
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Put,
        Get(u32),
        Done(u32),
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

        /// Each item is settled once, whichever process says so of whichever item, before or after it was taken, and
        /// before or after others were put: the items open in the end are those that were put, less those that were
        /// taken or done with.
        #[test]
        fn each_item_is_settled_once(steps in prop::collection::vec(
            prop_oneof![Just(Step::Put), (0..50_u32).prop_map(Step::Get), (0..50_u32).prop_map(Step::Done)], 0..200,
        )) {
            let geometry = Geometry { processes_max: 50, objects_max: 4, heap_pages: 16 };
            let arena = Arc::new(Arena::create(geometry).unwrap().1);
            let participant = |index| Participant { arena: arena.clone(), index, patience: Patience::Brief };
            let [maker, supervisor] = [0, 50].map(participant);
            let handle = create(&maker, 0, Account::Joinable).unwrap();
            (1..50).for_each(|index| object::share(&maker, handle, index).unwrap());
            let [mut put, mut taken, mut done] = [0_u64; 3];
            for step in steps {
                match step {
                    Step::Put => {
                        put_one(&maker, handle);
                        put += 1;
                    }
                    Step::Get(index) => {
                        let got = get_one(&participant(index), handle).is_ok();
                        prop_assert_eq!(got, taken < put);
                        taken += u64::from(got);
                    }
                    Step::Done(index) => {
                        let other = participant(index);
                        let is_done = task_done(&other, port(&other, handle)).is_ok();
                        prop_assert_eq!(is_done, done < put);
                        done += u64::from(is_done);
                    }
                }
            }
            // The maker goes on; the items that it has taken are its own to finish.
            let left = object::resolve::<QueueState>(&maker, handle).unwrap().state.taken.held_by(&maker, 0);
            (1..50).for_each(|index| sweep(Sweep::from_dead(index, true), &supervisor).unwrap());
            let mut open = 0;
            while task_done(&maker, port(&maker, handle)).is_ok() {
                open += 1;
            }
            prop_assert_eq!(open, put - taken.max(done) + left);
        }
    }

    fn participant() -> Participant {
        let geometry = Geometry { processes_max: PROCESSES, objects_max: 8, heap_pages: 64 };
        Participant {
            arena: Arc::new(Arena::create(geometry).unwrap().1),
            index: 0,
            patience: Patience::Brief,
        }
    }

    #[test]
    fn a_closed_queue_takes_nothing_and_gives_what_it_has() {
        let participant = participant();
        let [handle, other] = [0, 0].map(|bound| create(&participant, bound, Account::Nothing).unwrap());
        let of = || port(&participant, handle);
        (0..2).for_each(|_| put_one(&participant, handle));
        put(&participant, of(), b"large", &[other], Deadline::NOW).unwrap();
        close(&participant, of()).unwrap();
        for deadline in [Deadline::NOW, Deadline::NEVER] {
            let small = put(&participant, of(), b"item", &[], deadline);
            let with_a_handle = put(&participant, of(), b"item", &[other], deadline);
            let large = put(&participant, of(), &[0; 2 * INLINE_MAX], &[], deadline);
            let several = put_many(&participant, of(), [&b"item"[..]; 2].into_iter(), deadline).map(drop);
            assert_eq!([small, with_a_handle, large, several], [Err(Errno::Closed); 4]);
        }
        assert!(of().queue.has_news() && of().queue.size() == 3);
        for _ in 0..2 {
            assert!(matches!(get_one(&participant, handle), Ok(Taken::Copied(4))));
        }
        assert!(matches!(get_one(&participant, handle), Ok(Taken::Message(message)) if message.len == 5));
        for _ in 0..2 {
            assert!(matches!(get_one(&participant, handle), Err(Errno::Closed)));
        }
    }

    #[test]
    fn a_queue_holds_as_many_items_as_its_bound_and_no_more() {
        for bound in [1, 2, 7] {
            let participant = participant();
            let handle = create(&participant, bound, Account::Nothing).unwrap();
            let put_now = || put(&participant, port(&participant, handle), b"item", &[], Deadline::NOW);
            for _ in 0..3 {
                for _ in 0..bound {
                    put_now().unwrap();
                }
                assert_eq!(put_now(), Err(Errno::Again), "{bound}");
                let several = [&b"item"[..]; 3].into_iter();
                let several = put_many(&participant, port(&participant, handle), several, Deadline::NOW);
                assert_eq!(several, Err(Errno::Again), "{bound}");
                get_one(&participant, handle).unwrap();
                put_now().unwrap();
                assert_eq!(put_now(), Err(Errno::Again), "{bound}");
                (0..bound).for_each(|_| drop(get_one(&participant, handle).unwrap()));
                assert!(matches!(get_one(&participant, handle), Err(Errno::Again)));
            }
        }
    }

    /// A worker takes what it can at once, and then nothing until it is finished with that.
    #[test]
    fn who_has_claims_takes_nothing_more() {
        let participant = participant();
        let [claimed, results] =
            [Account::Claimed, Account::Nothing].map(|account| create(&participant, 0, account).unwrap());
        (0..3).for_each(|_| put_one(&participant, claimed));
        put_one(&participant, results);
        let get_several =
            |handle| get_many(&participant, port(&participant, handle), &mut [0; 8], |_| true, Deadline::NOW);
        get_one(&participant, claimed).unwrap();
        for _ in 0..2 {
            assert!(matches!(get_one(&participant, claimed), Err(Errno::Busy)));
            assert_eq!(get_several(claimed), Err(Errno::Busy));
        }
        // Others can have the items that nobody has claimed.
        get_one(&participant, results).unwrap();
        participant.claims().unwrap().begin(0).unwrap();
        finish(&participant, port(&participant, results), &[b"done"], &[], participant.index, Deadline::NOW)
            .unwrap();
        assert_eq!(get_several(claimed), Ok(2));
        assert_eq!(get_several(claimed), Err(Errno::Busy));
    }

    #[test]
    fn what_finds_no_room_leaves_none_behind() {
        let participant = participant();
        let used = || participant.arena.header().unwrap().heap.used_pages();
        let [full, other] = [1, 0].map(|bound| create(&participant, bound, Account::Nothing).unwrap());
        put_one(&participant, full);
        let before = used();
        for _ in 0..3 {
            let large = put(&participant, port(&participant, full), &[0; 2 * INLINE_MAX], &[], Deadline::NOW);
            let with_a_handle = put(&participant, port(&participant, full), b"item", &[other], Deadline::NOW);
            assert_eq!([large, with_a_handle], [Err(Errno::Again); 2]);
            assert_eq!(used(), before);
        }
        let mut made = Vec::new();
        while let Ok(handle) = create(&participant, 0, Account::Nothing) {
            made.push(handle);
        }
        let before = used();
        for _ in 0..3 {
            assert_eq!(create(&participant, 0, Account::Nothing), Err(Errno::Nfile));
            assert!(crate::ipc::pipe::create(&participant, 100, 0).is_err());
            assert_eq!(used(), before);
        }
        for handle in made.into_iter().chain([full, other]) {
            object::release(&participant, handle).unwrap();
        }
        assert_eq!(used(), 0);
        assert_eq!(object::count_live(&participant.arena), Ok(0));
    }

    #[test]
    fn a_pipe_holds_as_many_bytes_as_its_bound_and_one_message_however_long() {
        let participant = participant();
        let [receiver, sender] = crate::ipc::pipe::create(&participant, 100, 0).unwrap();
        let send = |len: usize| {
            let sender = object::resolve(&participant, sender).unwrap();
            crate::ipc::pipe::send(&participant, sender, &[&vec![0; len]], &[], Deadline::NOW)
        };
        let recv = || {
            let receiver = object::resolve(&participant, receiver).unwrap();
            crate::ipc::pipe::recv(&participant, receiver, &mut [0; 5000], Deadline::NOW).map(|taken| {
                match taken {
                    Taken::Copied(len) => len,
                    other => panic!("{other:?}"),
                }
            })
        };
        send(60).unwrap();
        assert_eq!(send(41), Err(Errno::Again));
        send(40).unwrap();
        assert_eq!(send(1), Err(Errno::Again));
        assert_eq!(recv(), Ok(60));
        send(60).unwrap();
        assert_eq!((recv(), recv()), (Ok(40), Ok(60)));
        send(4000).unwrap();
        assert_eq!(send(1), Err(Errno::Again));
        assert_eq!(recv(), Ok(4000));
        send(1).unwrap();
    }
}
