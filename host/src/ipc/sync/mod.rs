//! The objects with which guests synchronize, named as those of multiprocessing.
//!
//! A lock is one word, in the protocol of [`ipc::lock`](super::lock). Every other object is a few words that a
//! journaled lock guards, and an event to sleep on; so each operation happens as a whole or not at all.

pub(crate) mod barrier;
pub(crate) mod condition;
pub(crate) mod event;
pub(crate) mod lock;
pub(crate) mod semaphore;
