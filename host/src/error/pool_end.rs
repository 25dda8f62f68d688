//! Why a pool has ended.

use sandpool_abi::process::{ExitStatus, Limit};

use crate::guest_text::{Escaped, GuestText};

/// Why a pool has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolEnd {
    /// The pool was closed, and all submitted tasks are done.
    #[error("it was closed")]
    Closed,
    /// The pool was terminated or dropped.
    #[error("it was terminated")]
    Terminated,
    /// The initializer of a worker failed or took too long. The text says why.
    #[error("the initializer failed: {0}")]
    Initializer(GuestText),
    /// A worker couldn't be started, or the module fails or takes too long when it starts. The text says why.
    #[error("no worker can be started: {0}")]
    Worker(GuestText),
    /// All processes of the pool together have reached a [limit](crate::Limits) of the run; or the arena had no room for an item to
    /// be put, and nothing could have made room: [`Limit::Arena`].
    #[error("limited: {0}")]
    Limited(Limit),
    /// The run had this number of processes that it doesn't know of, as in [`ExitStatus::Strays`].
    #[error("{}", ExitStatus::Strays(*.0))]
    Strays(u64),
    /// The supervisor has ended, and all workers with it. The text says why.
    #[error("the supervisor is gone: {}", Escaped(.0))]
    SupervisorLost(String),
    /// A worker has damaged the memory that the pool shares.
    #[error("the arena is damaged")]
    Damaged,
}
