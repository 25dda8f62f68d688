//! What guests synchronize with: the objects of multiprocessing of the same names.
//!
//! A lock is one word, in the protocol of [`ipc::lock`](super::lock). All others are a few words that a journaled lock
//! guards, and an event to sleep on; so each operation happens as a whole or not at all.

pub(crate) mod barrier;
pub(crate) mod condition;
pub(crate) mod event;
pub(crate) mod lock;
pub(crate) mod semaphore;
