//! Multiprocessing inside a WebAssembly sandbox: the SDK for guests of Sandpool.
//!
//! ```no_run
//! use sandpool_guest::{Array, Error, Event, Process, Queue, cpu_count};
//!
//! #[sandpool_guest::main]
//! fn main() -> Result<(), Error> {
//!     let texts = Queue::<String>::bounded(64)?;
//!     // Memory that all of them see, with a lock.
//!     let letters = Array::<u64>::new(26)?;
//!     let begin = Event::new()?;
//!
//!     // A forked process has a copy of everything, so a closure may borrow what it likes.
//!     let workers = (0..cpu_count())
//!         .map(|_| {
//!             Process::fork(|| -> Result<(), Error> {
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
//! | memory that several see | [`Value`], [`Array`], with a lock; [`RawValue`], [`RawArray`], [`Atomic`](shared::Atomic), without; [`SharedMemory`] and [`ShareableList`], by name, and [`SharedMemoryManager`] |
//! | collections that several change | [`Dict`], [`List`], [`Set`], [`Namespace`] |
//! | values of own types that several call | [`Manager`], [`macro@managed`] |
//! | connections with the outside of the run, as far as they were granted | [`Listener`], [`Client`] |
//! | several things at once | [`wait()`] |
//! | lines about what happens | [`log_to_stderr`], [`get_logger`], [`log!`] |
//! | functions in processes that stand ready | [`Pool`] with its [`AsyncResult`](pool::AsyncResult)s, [`Executor`](pool::futures::Executor); [`Mapper`](pool::Mapper) for pools and [`SerialPool`] |
//! | closures that borrow, in processes that are forked for them | [`scoped_map`], [`Exchange`] |
//!
//! These names are at the root. The modules have what goes with them: settings, errors, guards and iterators.
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
pub mod collections;
mod deadline;
mod error;
mod flat;
mod handles;
pub mod io;
mod limits;
pub mod logging;
pub mod manager;
mod message;
pub mod net;
mod object;
pub mod pickle;
pub mod pipe;
pub mod pool;
pub mod process;
pub mod queue;
mod raw;
pub mod shared;
pub mod start;
pub mod sync;
pub mod task;
mod wait;

#[doc(inline)]
pub use sandpool_guest_macros::{main, managed, task};

pub use bytes::Bytes;
pub use collections::dict::Dict;
pub use collections::list::List;
pub use collections::namespace::Namespace;
pub use collections::set::Set;
pub use error::{DecodeError, EncodeError, Error};
pub use limits::limit;
pub use logging::logger::{get_logger, log_to_stderr};
pub use manager::owner::Manager;
pub use net::client::Client;
pub use net::listener::Listener;
pub use pipe::connection::{Connection, Pipe};
pub use pool::exchange::Exchange;
pub use pool::handle::Pool;
pub use pool::mapper::SerialPool;
pub use pool::scoped::scoped_map;
pub use process::child::Process;
pub use process::known::{active_children, cpu_count, current_process, parent_process};
pub use queue::fifo::Queue;
pub use queue::joinable::JoinableQueue;
pub use queue::simple::SimpleQueue;
pub use sandpool_abi::process::{ExitStatus, Signal};
pub use sandpool_abi::{ABI_VERSION, Errno};
pub use shared::array::Array;
pub use shared::list::ShareableList;
pub use shared::manager::SharedMemoryManager;
pub use shared::memory::SharedMemory;
pub use shared::raw_array::RawArray;
pub use shared::value::{RawValue, Value};
pub use sync::barrier::Barrier;
pub use sync::condition::Condition;
pub use sync::event::Event;
pub use sync::lock::{Lock, RLock};
pub use sync::semaphore::{BoundedSemaphore, Semaphore};
pub use wait::{Waitable, wait};
