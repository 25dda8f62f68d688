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
//   ├─ future, stream, imap: where results go
//   └─ command: tasks that are a run of the module's program
//
// `dispatcher` explains what a pool does; `link` explains how a task reaches a worker.

mod builder;
mod command;
mod dispatcher;
mod event;
mod future;
pub(crate) mod handle;
mod imap;
mod link;
mod stream;

pub use self::builder::Builder;
pub use self::command::{CommandFeed, CommandOutput, CommandResults};
pub use self::event::{Event, Stats};
pub use self::future::{AsCompleted, Completed, TaskFuture, as_completed};
pub use self::imap::Imap;
pub use self::stream::{Feed, Results, StreamStopper};
pub use crate::error::{Failure, PoolEnd, TaskError, Usage};
pub use crate::wire::{Command, Isolation, Output};

/// Format of the input and the output of a task. A task of the Rust SDK knows all formats.
///
/// ```no_run
/// # fn example(pool: &sandpool::Pool) -> sandpool::Result<()> {
/// let output = pool.submit_record("upper", sandpool::pool::Format::Text, b"some text")?.result()?;
/// assert_eq!(output, b"SOME TEXT");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Format {
    /// Values as serde and bincode 2 encode them. The typed calls use this format.
    Serde = sandpool_abi::task::SERDE,
    /// JSON.
    Json = sandpool_abi::task::JSON,
    /// Text, such as a line without its end. A value that isn't text is written as JSON, in one line.
    Text = sandpool_abi::task::TEXT,
    /// Bytes, unchanged.
    Bytes = sandpool_abi::task::BYTES,
}
