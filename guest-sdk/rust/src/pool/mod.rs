//! Pools: the settings of a [`Pool`], the results of its tasks, and why a task or a pool failed.

// | file | content |
// | --- | --- |
// | `core` | the machinery: tasks, results, workers |
// | `worker` | the work of a worker |
// | `frame`, `marks` | the messages and marks between the two |
// | `feed` | how input is cut into chunks, and how far ahead it is read |
// | `job`, `result`, `imap`, `future` | the results that a program waits for |
// | `options` | how tasks are given to a pool |
// | `partial` | functions with an argument filled in |
// | `scoped` | maps that fork for the call |
// | `exchange` | a fork for each call |
// | `mapper` | one trait for pools and for running in this process |
// | `handle` | the pool as a program has it |
// | `builder` | how a pool is made, and its settings |
// | `futures` | Python's `concurrent.futures` on top of that |

mod builder;
mod core;
mod error;
pub(crate) mod exchange;
mod failed;
mod feed;
mod frame;
mod future;
pub mod futures;
pub(crate) mod handle;
mod imap;
mod job;
pub(crate) mod mapper;
mod marks;
mod options;
pub mod partial;
mod result;
mod saved;
pub(crate) mod scoped;
mod worker;

pub use self::core::Stats;
pub use builder::{Builder, StartMethod};
pub use error::{Cause, PoolEnd, PoolError, TaskError};
pub use imap::IMap;
pub use mapper::Mapper;
pub use options::Options;
pub use result::AsyncResult;
pub use scoped::Scoped;

pub(crate) use handle::Pool;
