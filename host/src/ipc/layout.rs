//! How the tables of the arena lie in the shared memory: each word that processes share, but for the [states](super::states) of
//! objects and the content of the heap.
//!
//! This file has no behaviour, and imports nothing of the other files here, so that the [arena](super::arena) can be laid out by it
//! below them. Each struct belongs to the file that has its operations; the other files leave the words of the struct that aren't
//! `pub(crate)` alone.

use sandpool_abi::NAME_MAX;
use sandpool_abi::process::Limit;

use crate::sys::atomic::{AtomicU32, AtomicU64};
use crate::sys::mem::shared;

/// Bytes of a page of the heap. The kernel's are as large or larger.
pub(crate) const PAGE: usize = 4096;

/// More words than any critical section overwrites.
pub(super) const JOURNAL: usize = 24;

/// The number of size classes of the heap.
pub(super) const CLASSES: usize = 32;

/// The number of runs of heap pages that can be in the hands of a process.
pub(super) const REGISTERS: usize = 4;

/// Words of a name.
pub(super) const NAME_WORDS: usize = (NAME_MAX + 1) / 8;

/// Bytes of the state of an object.
const BODY: usize = 1408;

/// Places for processes that stand by. There are two: one process may stand by while another is on its way to its slot.
pub(super) const STANDBYS: usize = 2;

shared! {
    /// The start of the arena.
    pub(crate) struct Header {
        pub(crate) heap: HeapHead,
        pub(crate) objects: ObjectTable,
        pub(crate) processes: ProcessTable,
        /// Held while a process writes to a terminal or pipe that it shares with others: one for stdout, and one for stderr
        /// if that is another file. A pipe that nobody reads then holds up only those who write to it.
        pub(crate) stdio: [Lock; 2],
        /// Bytes that guests have written to stdout and stderr, if they have a limit together.
        pub(crate) written: AtomicU64,
        /// Bytes that guests have written to files, if they have a limit together.
        pub(crate) file_bytes: AtomicU64,
        /// Whether a process wants a search for objects that no process can reach.
        pub(crate) collections: Collections,
        /// Linear memory of all processes together, if it has a limit.
        pub(crate) memory: Budget,
        /// Notified together with each event that a process watches while it waits for several.
        pub(crate) watched: Event,
        /// Notified together with each event that the gateway watches.
        pub(crate) outside: Event,
        /// Processes that stand by.
        pub(crate) standbys: [StandbyPlace; STANDBYS],
    }

    /// A lock, and the journal of its owner.
    pub(crate) struct Lock {
        pub(super) word: AtomicU32,
        pub(super) journal_len: AtomicU32,
        pub(super) journal: [Entry; JOURNAL],
    }

    /// A word that the owner of a lock has overwritten.
    pub(super) struct Entry {
        /// offset in the arena
        pub(super) at: AtomicU64,
        pub(super) old: AtomicU64,
    }

    /// A futex that counts changes.
    pub(crate) struct Event {
        pub(super) word: AtomicU32,
        /// a bit if a process waits for several events, of which this is one, and a bit if the gateway does
        pub(super) watched: AtomicU32,
    }

    /// The free runs.
    pub(crate) struct HeapHead {
        pub(super) lock: Lock,
        pub(super) used_pages: AtomicU64,
        /// how often something was freed
        pub(super) frees: AtomicU64,
        /// bit *c*: class *c* has a run
        pub(super) classes_present: AtomicU64,
        /// first page of the first run of each class; page 0 is never part of a run
        pub(super) classes: [AtomicU64; CLASSES],
        /// notified when something was freed
        pub(crate) freed: Event,
    }

    /// The descriptor of a page, if a run starts or ends there.
    pub(crate) struct PageDescriptor {
        /// kind and pages of the run
        pub(super) tag: AtomicU64,
        pub(super) next: AtomicU64,
        pub(super) prev: AtomicU64,
        reserved: AtomicU64,
    }

    /// The free slots.
    pub(crate) struct ObjectTable {
        pub(super) lock: Lock,
        /// number of the first slot that was given back, plus 1
        pub(super) free: AtomicU64,
        /// slots from here on were never used
        pub(super) high_water: AtomicU64,
        /// secret on which the places of names depend; guests can't read it
        pub(super) secret: [AtomicU64; 2],
    }

    /// An object, without the state of its kind. The states lie in a table of their own, because a fork writes to the slot of
    /// each object that the process holds: the fewer pages these slots are in, the fewer pages each process maps.
    pub(crate) struct ObjectSlot {
        /// generation: bits 32 to 61, destroyer: bits 8 to 31, state: bits 0 to 7
        pub(super) state: AtomicU64,
        pub(super) in_transit: AtomicU64,
        pub(super) next_free: AtomicU64,
        /// one of [`ObjectKind`](super::kind::ObjectKind)
        pub(super) kind: AtomicU64,
        /// how often the object was shared: see `is_held` of [`object`](super::object)
        pub(super) shares: AtomicU64,
        /// number of the next object whose name is in the same place, plus 1
        pub(super) next_named: AtomicU64,
        /// the scope to which the object belongs: see [`scope`](super::scope)
        pub(super) scope: AtomicU64,
        /// the use that the maker has recorded; 0 if the maker has recorded none
        pub(super) tag: AtomicU64,
        /// handle of another object that belongs to it; 0 if none does
        pub(super) partner: AtomicU64,
        reserved: [AtomicU64; 7],
    }

    /// Room for the state of an object of any kind.
    #[repr(align(64))]
    pub(super) struct Body {
        pub(super) words: [AtomicU64; BODY / 8],
    }

    /// Where to look for a free slot first.
    pub(crate) struct ProcessTable {
        pub(super) hint: AtomicU64,
    }

    /// A process.
    pub(crate) struct ProcessSlot {
        /// changes when the process, or a child of it, ends or has started
        pub(crate) event: Event,
        /// end that the process claims before it exits: kind and detail
        pub(super) claim: AtomicU64,
        /// how the process ended, as the supervisor saw it
        pub(super) exit: AtomicU64,
        /// signals that its parent wants it to get, a bit for each
        pub(crate) wanted_signals: AtomicU32,
        /// errno of a spawn that failed
        pub(crate) failure: AtomicU32,
        /// handle of its parent
        pub(super) parent: AtomicU64,
        /// process id of its parent, which may be long gone
        pub(crate) parent_pid: AtomicU32,
        unused: AtomicU32,
        /// name of its parent
        pub(super) parent_name: Name,
        /// number of the object that the process is working on, plus 1
        pub(super) operation: AtomicU64,
        /// runs of heap pages in its hands: see [`Register`](super::process_table::Register)
        pub(super) inflight: [AtomicU64; REGISTERS],
        /// objects that it may hold
        pub(super) holds: Holds,
        /// object that it waits for
        pub(crate) waits: Waits,
        /// place of the process among those that wait in a condition or barrier
        pub(crate) place: Place,
        /// items that it has taken and isn't finished with, if it is a worker
        pub(crate) claims: ClaimSlot,
        /// scope of the objects that it makes
        pub(crate) scope: ScopeSlot,
        /// where the end of its stderr lies
        pub(crate) tail: TailSlot,
        /// its process id, when it has ended
        pub(crate) ended_pid: AtomicU32,
        reserved: AtomicU32,
        /// when it started, in nanoseconds of the monotonic clock
        pub(crate) started: AtomicU64,
        /// its share of the memory of all processes: see [`budget`](super::budget)
        pub(super) memory: AtomicU64,
        /// processor time of a process that has ended, in nanoseconds
        pub(crate) cpu: AtomicU64,
        /// the most bytes that its linear memories and tables have had
        pub(crate) linear_memory: AtomicU64,
        /// how often each limit has refused it something, by the limit's code; an even number of places, so that there is no padding
        pub(super) refused: [AtomicU32; (Limit::CODES as usize).next_multiple_of(2)],
        pub(super) name: Name,
    }

    /// The place of a process among others in a [condition](super::sync::condition) or [barrier](super::sync::barrier),
    /// while the process waits there: so a process is in one of them at a time. The lock of that object guards it.
    pub(crate) struct Place {
        /// number of the object, plus 1
        pub(crate) object: AtomicU64,
        /// number of the process after it, plus 1
        pub(crate) next: AtomicU64,
        /// number of the process before it, plus 1
        pub(crate) prev: AtomicU64,
    }

    /// A name, with its length.
    pub(crate) struct Name {
        pub(super) len: AtomicU64,
        pub(super) words: [AtomicU64; NAME_WORDS],
    }

    /// The bits of the first objects.
    pub(crate) struct Holds {
        pub(super) first: AtomicU64,
        /// 1 if there may be bits in the row
        pub(super) more: AtomicU64,
    }

    /// The wait of a process.
    pub(crate) struct Waits {
        /// [`Waiting`](super::waiting::Waiting), packed; 0 if the process doesn't wait
        pub(super) what: AtomicU64,
        /// start of the wait, in nanoseconds of the monotonic clock
        pub(super) since: AtomicU64,
        /// offset of the futex that the process sleeps on
        pub(super) at: AtomicU64,
        /// how often the process has begun to wait
        pub(super) count: AtomicU64,
        /// one of [`Alarm`](super::waiting::Alarm)
        pub(super) alarm: AtomicU32,
        reserved: AtomicU32,
    }

    /// The claims of a process.
    pub(crate) struct ClaimSlot {
        /// number of the first item that isn't finished
        pub(super) first: AtomicU64,
        /// number of the item after the last
        pub(super) end: AtomicU64,
        /// count of the work that the worker has begun, shifted left by one, and the lowest bit if the worker is doomed; 0 if the
        /// worker works on nothing
        pub(super) work: AtomicU64,
        /// how often the worker has begun something
        pub(super) begun: AtomicU64,
        /// when the worker began its work, in nanoseconds of the monotonic clock
        pub(super) since: AtomicU64,
        /// which part of the first item the worker works on
        pub(super) part: AtomicU64,
    }

    /// The scope of a process, and the counts of a worker.
    pub(crate) struct ScopeSlot {
        /// 0 if the process has no scope
        pub(super) scope: AtomicU64,
        /// objects of the worker and its tasks
        pub(super) objects: AtomicU64,
        /// the most objects of the worker and its tasks
        pub(super) objects_max: AtomicU64,
        /// the most processes, beside the worker
        pub(super) processes_max: AtomicU64,
        /// objects of the worker's own scope that have a name
        pub(super) names: AtomicU64,
        /// objects of its tasks that have a name
        pub(super) names_of_tasks: AtomicU64,
    }

    /// The slot's record of the ring of a process. So a process that writes nothing touches no page of the ring.
    pub(crate) struct TailSlot {
        /// bytes that were ever written
        pub(super) written: AtomicU64,
        /// value of `written` when the task began
        pub(super) begun: AtomicU64,
        /// the page of the heap that begins with the word; 0 if there is none
        pub(super) page: AtomicU64,
        /// value of the word when the process last wrote
        pub(super) word: AtomicU64,
    }

    /// The memory of all processes together.
    pub(crate) struct Budget {
        pub(super) lock: Lock,
        pub(super) used: AtomicU64,
    }

    /// The state of collections: whether one is wanted, and how many were done.
    pub(crate) struct Collections {
        /// 1 if a process wants one
        pub(super) wanted: AtomicU32,
        /// 1 if there is a supervisor that collects
        pub(super) is_on: AtomicU32,
        /// how many were begun and ended
        pub(super) begun: AtomicU64,
        pub(super) ended: AtomicU64,
        /// how often an object may have been left to messages alone, and how much of that a collection has looked into
        pub(super) suspects: AtomicU64,
        pub(super) cleared: AtomicU64,
        pub(super) done: Event,
    }

    /// The place of a process that stands by.
    pub(crate) struct StandbyPlace {
        pub(super) pid: AtomicU32,
        pub(super) word: AtomicU32,
    }
}

/// The number of words of the row of [`holds`](super::holds) that each process has in the arena, for this number of objects.
pub(super) fn hold_words(objects_max: usize) -> usize {
    let bits = objects_max.div_ceil(64);
    bits.div_ceil(64) + bits
}
