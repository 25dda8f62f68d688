//! Multiprocessing inside a WebAssembly sandbox: the SDK for guests of Sandpool.
//!
//! ```no_run
//! use sandpool_guest::{Array, Event, Process, Queue, cpu_count};
//!
//! type Failure = Box<dyn std::error::Error>;
//!
//! #[sandpool_guest::main]
//! fn main() -> Result<(), Failure> {
//!     let texts = Queue::<String>::bounded(64)?;
//!     // Memory that all of them see, with a lock.
//!     let letters = Array::<u64>::new(26)?;
//!     let begin = Event::new()?;
//!
//!     // A forked process has a copy of everything, so a closure may borrow what it likes.
//!     let workers = (0..cpu_count())
//!         .map(|_| {
//!             Process::fork(|| -> Result<(), Failure> {
//!                 begin.wait()?;
//!                 for text in &texts {
//!                     let text = text?;
//!                     let found = text.bytes().filter(u8::is_ascii_lowercase);
//!                     letters.update(|letters| found.for_each(|letter| letters[usize::from(letter - b'a')] += 1))?;
//!                 }
//!                 Ok(())
//!             })
//!         })
//!         .collect::<Result<Vec<_>, _>>()?;
//!
//!     begin.set()?;
//!     for text in ["some text", "and more of it"] {
//!         texts.put(&text.to_owned())?;
//!     }
//!     texts.close()?;
//!     for worker in &workers {
//!         worker.join()?;
//!     }
//!     println!("{:?}", letters.to_vec()?);
//!     Ok(())
//! }
//! ```
//!
//! Build it for `wasm32-wasip1` with `sandpool build`, and start it with `sandpool run`.
//!
//! | for | there is |
//! | --- | --- |
//! | processes | [`Process`], by fork or spawn; [`current_process`], [`parent_process`], [`active_children`] |
//! | messages | [`Queue`], [`JoinableQueue`], [`SimpleQueue`]; [`Pipe`] with its two [`Connection`]s |
//! | waiting for each other | [`Lock`], [`RLock`], [`Semaphore`], [`BoundedSemaphore`], [`Event`], [`Condition`], [`Barrier`] |
//! | memory that several see | [`Value`], [`Array`], with a lock; [`RawValue`], [`RawArray`], [`Atomic`], without; [`SharedMemory`] and [`ShareableList`], by name, and [`SharedMemoryManager`] |
//! | several things at once | [`wait()`] |
//! | lines about what happens | [`log_to_stderr`], [`get_logger`], [`log!`] |
//! | functions in processes that stand ready | [`Pool`] with its [`AsyncResult`]s, [`futures::Executor`]; [`Mapper`] for pools and [`SerialPool`] |
//! | closures that borrow, in processes that are forked for them | [`scoped_map`], [`Exchange`] |
//!
//! Everything here is Python's `multiprocessing` in Rust's idiom. Where Python uses another name for something, a search
//! for that name finds the item.
//!
//! Most functions that wait have two other forms: a function whose name ends with `_timeout` waits for at most a given
//! time, and a function whose name begins with `try_` doesn't wait. `Event::wait`, `Barrier::wait` and
//! `ConditionGuard::wait` have no `try_` form.
//!
//! Processes are those of the operating system, each with a sandbox around it. Processes share only the memory that they
//! create as shared: no process sees any other change that another process makes. The guest has WASI's files, clocks and
//! random numbers through `std`, as far as they were granted; a process that the guest starts has the same, but an empty
//! standard input.
//!
//! Any process may be killed at any instruction. A lock that the killed process held, or an operation that it was doing,
//! then blocks no other process, and a process that goes on with something that may be half changed is told.
//!
//! The crate compiles for other targets too, so that a guest can be checked and documented there. On such a target a
//! call panics.

mod bytes;
mod codec;
mod deadline;
mod error;
mod flat;
mod handles;
mod joinable_queue;
mod limits;
mod logging;
mod message;
mod object;
mod pipe;
mod pool;
mod process;
mod queue;
mod raw;
mod shared;
mod simple_queue;
pub mod start;
mod sync;
pub mod task;
mod wait;

#[doc(inline)]
pub use sandpool_guest_macros::{main, task};

pub use bytes::Bytes;
pub use error::{DecodeError, EncodeError, Error};
pub use joinable_queue::{JoinError, JoinableQueue, TaskDoneError};
pub use limits::limit;
pub use logging::{Level, Logger, Record, get_logger, log_to_stderr};
pub use pipe::{Connection, Pipe, PipeBuilder, RecvError, SendError};
pub use pool::{
    AsyncResult, Cause, Exchange, IMap, Mapper, Options, Pool, PoolBuilder, PoolEnd, PoolError, Scoped,
    SerialPool, StartMethod, Stats, TaskError, scoped_map,
};
pub use pool::{futures, partial};
pub use process::{
    Builder, Child, CloseError, CurrentProcess, ExitStatus, Limit, ParentProcess, Process, Sentinel, Signal,
    Trap, active_children, cpu_count, current_process, parent_process,
};
pub use queue::{GetError, GetManyError, Iter, PutError, PutManyError, Queue};
pub use sandpool_abi::{ABI_VERSION, Errno};
pub use shared::{
    Array, ArrayGuard, Atomic, Integer, ListItem, ListIter, Pod, RawArray, RawValue, ShareableList,
    SharedMemory, SharedMemoryManager, Value, Zeroable, bytemuck,
};
pub use simple_queue::SimpleQueue;
pub use start::Termination;
pub use sync::{
    Abandoned, AcquireError, Barrier, BarrierError, BoundedSemaphore, Condition, ConditionError,
    ConditionGuard, Event, Guard, Lock, LockGuard, RLock, RLockGuard, ReleaseError, Semaphore,
    SemaphorePermit,
};
pub use wait::{Waitable, wait};
