//! Pools: the settings of a [`Pool`](crate::Pool), the futures and streams of its tasks, its events, and why a task failed.
//!
//! ```no_run
//! use sandpool::pool::{Isolation, as_completed};
//!
//! # fn main() -> sandpool::Result<()> {
//! let module = sandpool::Module::from_file("tasks.wasm")?;
//! let pool = sandpool::Pool::builder(&module).isolation(Isolation::Task).build()?;
//! let futures: Vec<_> = ["one", "two"].iter().map(|text| pool.submit("score", text)).collect::<Result<_, _>>()?;
//! for future in as_completed(futures) {
//!     let score: u64 = future.result()?;
//!     println!("{score}");
//! }
//! # Ok(())
//! # }
//! ```

// Inside:
//
//  handle: Pool ── crate::wire: tasks, results ── link: the arena ──── worker: process/pool_worker.rs
//   │                                │
//   │  dispatcher: what goes where, deaths, deadlines; one thread, one lock
//   ├─ sink: where results go; future, stream, imap: how they are had from there
//   └─ command: tasks that are a run of the module's program
//
// `dispatcher` explains what a pool does; `link` explains how a task reaches a worker.

mod builder;
mod command;
mod dispatcher;
mod event;
mod format;
mod future;
pub(crate) mod handle;
mod imap;
mod link;
mod outcome;
mod sink;
mod stream;

pub use self::builder::Builder;
pub use self::command::{CommandFeed, CommandOutput, CommandResults};
pub use self::event::{Event, Stats};
pub use self::format::Format;
pub use self::future::{AsCompleted, TaskFuture, as_completed};
pub use self::imap::Imap;
pub use self::outcome::Completed;
pub use self::stream::{Feed, Results, StreamStopper};
pub use crate::error::{Failure, PoolEnd, TaskError, Usage};
pub use crate::wire::{Command, Isolation, Output};
