//! Inter-process communication in one piece of shared memory, the arena.
//!
//! ```text
//!  header   heap, object table and stdio locks
//!  process  one slot a process: state, exit status, and what it is in the middle of
//!  object   one slot an object of any kind; beside it a bit for each process that holds it
//!  pages    one descriptor a page of the heap
//!  heap     runs of pages: what queues hold, large items, arguments of a spawn
//! ```
//!
//! Four mechanisms carry everything, and all of them hold when a process is killed at any instruction:
//!
//! * [`lock`]: a futex lock that knows its owner, and a journal of what the owner has overwritten. A critical
//!   section is all or nothing: if its owner dies, the next one rolls it back.
//! * [`event`]: a futex that counts, to sleep until something has changed. A superfluous wake is always harmless.
//! * **registers**: each process notes in its slot which object it is in the middle of (`operation`) and which run of heap
//!   pages is in its hands, neither free nor in an object (`inflight`).
//! * [`sweep`]: when a process has died, the supervisor goes through those registers and does what the process no
//!   longer can.
//!
//! The words that processes share stand in `layout` and `states`, below all else, and the files above have the operations on them:
//! each file its own. So these files import each other in one direction. Of an object, [`kind`] knows the state and that it behaves
//! as one of its kind does; the behaviour itself is in the file of the kind, above [`object`].
//!
//! Nothing that is read from the arena is trusted. [`arena`] checks offsets, each user of a length checks it, and a
//! value that makes no sense is [`Errno::Io`](sandpool_abi::Errno::Io).

pub(crate) mod arena;
pub(crate) mod budget;
pub(crate) mod byte_pipe;
pub(crate) mod claims;
pub(crate) mod collect;
pub(crate) mod collections;
mod create;
pub(crate) mod event;
pub(crate) mod heap;
mod holds;
pub(crate) mod kind;
mod layout;
pub(crate) mod lock;
pub(crate) mod message;
mod names;
pub(crate) mod object;
mod object_table;
pub(crate) mod outside;
pub(crate) mod pipe;
pub(crate) mod process_table;
pub(crate) mod queue;
pub(crate) mod scope;
pub(crate) mod shared;
pub(crate) mod shelf;
pub(crate) mod standby;
mod states;
pub(crate) mod sweep;
pub(crate) mod sync;
pub(crate) mod tail;
pub(crate) mod tally;
pub(crate) mod transit;
pub(crate) mod waiting;

#[cfg(any(test, feature = "testing"))]
pub(crate) mod tests;

use sandpool_abi::Errno;

/// The result of an operation on the arena.
pub(crate) type Result<T> = std::result::Result<T, Errno>;
