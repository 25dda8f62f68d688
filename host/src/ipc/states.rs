//! How the states of objects lie in the arena: one for each [kind](super::kind), in the body of its object.
//!
//! As in [`layout`](super::layout), there is no behaviour here: the file of a kind has that, and it alone touches the words.

use sandpool_abi::shared::SMALL_MAX;
use sandpool_abi::shelf::WORDS;

use super::layout::{Event, Lock, Name};
use crate::sys::atomic::{AtomicU32, AtomicU64};
use crate::sys::mem::shared;

/// Processes that have their count in a [`Tally`] itself.
pub(super) const ENTRIES: usize = 39;

shared! {
    /// A count for each process.
    pub(crate) struct Tally {
        /// count: bits 0 to 39, number of the process plus 1: bits 40 to 63; 0 if the entry is free
        pub(super) entries: [AtomicU64; ENTRIES],
        /// first page of the counts of all processes without an entry; 0 if there is none
        pub(super) page: AtomicU64,
    }

    /// The state of a queue.
    #[repr(align(64))]
    pub(crate) struct QueueState {
        /// the most items or bytes that may wait; 0 for no bound
        pub(super) bound: AtomicU64,
        pub(super) closed: AtomicU32,
        pub(super) flags: AtomicU32,
        pub(super) not_empty: Event,
        pub(super) not_full: Event,
        /// items that are done with
        pub(super) done: AtomicU64,
        /// items that were taken by processes which ended before they were done with them
        pub(super) lost: AtomicU64,
        /// copy of the sum of `done` and `lost`, for the processes that wait
        pub(super) settled: AtomicU64,
        pub(super) all_settled: Event,
        pub(super) tail: Side,
        pub(super) head: Side,
        pub(super) taken: Tally,
        /// number of items that had been got when a process last had to wait for one
        pub(super) waited: AtomicU64,
        reserved: [AtomicU64; 7],
    }

    /// One end of a queue.
    #[repr(align(64))]
    pub(super) struct Side {
        /// copy of `sequence` for the other side
        pub(super) published: AtomicU64,
        /// records put or got so far
        pub(super) sequence: AtomicU64,
        /// first page of the segment
        pub(super) segment: AtomicU64,
        /// offset in the segment
        pub(super) offset: AtomicU64,
        /// copy of `bytes` for the other side
        pub(super) published_bytes: AtomicU64,
        /// bytes of items put or got so far
        pub(super) bytes: AtomicU64,
        /// the other side's `published` as last seen; it may have grown since
        pub(super) seen: AtomicU64,
        pub(super) lock: Lock,
    }

    /// The state of an end.
    #[repr(align(64))]
    pub(crate) struct EndState {
        /// handle of the other end
        pub(super) peer: AtomicU64,
        pub(super) flags: AtomicU64,
        /// 1 if the connection with the outside, which the other end stands for, was closed in order
        pub(super) finished: AtomicU64,
        unused: [AtomicU64; 5],
        /// messages that were sent to this end
        pub(super) inbound: QueueState,
    }

    /// The state of shared memory.
    pub(crate) struct SharedState {
        pub(super) size: AtomicU64,
        /// first page of its run; 0 if the bytes are in `small`
        pub(super) page: AtomicU64,
        /// 1 while processes can find it by its name
        pub(super) named: AtomicU64,
        /// handle of the memory of which this is a view; 0 if this is no view
        pub(super) base: AtomicU64,
        /// 1 while the view holds that memory
        pub(super) holds_base: AtomicU64,
        /// number of the process whose hold keeps the name, plus 1; 0 if the name needs no hold
        pub(super) owner: AtomicU64,
        pub(super) name: Name,
        pub(super) small: [AtomicU64; SMALL_MAX as usize / 8],
    }

    /// The state of a lock.
    pub(crate) struct LockState {
        pub(super) word: AtomicU32,
        pub(super) recursive: AtomicU32,
        /// how often the owner has acquired it; only the owner changes it
        pub(super) depth: AtomicU64,
    }

    /// The state of a semaphore.
    pub(crate) struct SemaphoreState {
        pub(crate) lock: Lock,
        /// units that are free
        pub(super) value: AtomicU64,
        /// the most units that may be free
        pub(super) bound: AtomicU64,
        /// 1 if the semaphore was made with a bound
        pub(super) bounded: AtomicU64,
        /// 1 if units of processes that end are returned
        pub(super) returned: AtomicU64,
        /// units that processes held when they ended
        pub(super) died: AtomicU64,
        pub(super) freed: Event,
        pub(super) held: Tally,
    }

    /// The state of an event.
    pub(crate) struct EventState {
        /// the lowest bit if the event is set, and above it how often the event was set
        pub(super) word: AtomicU64,
        pub(super) changed: Event,
    }

    /// The state of a condition.
    pub(crate) struct ConditionState {
        pub(super) lock: Lock,
        /// number of the process that has waited longest, plus 1
        pub(super) first: AtomicU64,
        /// number of the process that came last, plus 1
        pub(super) last: AtomicU64,
    }

    /// The state of a barrier.
    pub(crate) struct BarrierState {
        pub(super) lock: Lock,
        pub(super) parties: AtomicU64,
        /// processes that are inside
        pub(super) inside: AtomicU64,
        /// how far the processes inside have come: see [`barrier`](super::sync::barrier)
        pub(super) state: AtomicU64,
        /// number of the process that is to act, plus 1, until that process has left, in whatever state
        pub(super) actor: AtomicU64,
        pub(super) changed: Event,
    }

    /// The state of an end.
    #[repr(align(64))]
    pub(crate) struct ByteEndState {
        /// handle of the other end
        pub(super) peer: AtomicU64,
        /// `READABLE` or `WRITABLE`
        pub(super) rights: AtomicU64,
        /// 1 if reads or writes fail here where they would wait
        pub(super) nonblocking: AtomicU64,
        /// 1 once nobody holds this end
        pub(super) closed: AtomicU64,
        /// bytes that have gone through this end
        pub(super) position: AtomicU64,
        /// first page of the ring, in the end that reads; 0 if the ring is gone
        pub(super) page: AtomicU64,
        /// notified when there may be bytes, or room, or the other end is closed
        pub(super) changed: Event,
        /// held by a process that reads, or writes
        pub(super) lock: Lock,
    }

    /// The state of a shelf.
    pub(crate) struct ShelfState {
        pub(super) lock: Lock,
        /// counts the changes
        pub(super) version: AtomicU64,
        /// first page of the table; 0 if there is none
        pub(super) table: AtomicU64,
        /// places of the table
        pub(super) places: AtomicU64,
        pub(super) words: [AtomicU64; WORDS],
    }
}
