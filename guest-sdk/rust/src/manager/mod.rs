//! Managers: processes that own values of a program's own types, which other processes call by proxies.
//!
//! ```no_run
//! use sandpool_guest::{Manager, Process};
//!
//! struct Counter {
//!     total: u64,
//! }
//!
//! #[sandpool_guest::managed]
//! impl Counter {
//!     fn new() -> Self {
//!         Self { total: 0 }
//!     }
//!
//!     fn add(&mut self, number: u64) -> u64 {
//!         self.total += number;
//!         self.total
//!     }
//! }
//!
//! #[sandpool_guest::main]
//! fn main() -> Result<(), sandpool_guest::Error> {
//!     let manager = Manager::builder().register::<Counter>().start()?;
//!     let counter = CounterProxy::new(&manager)?;
//!     // A proxy is data: it can be captured, sent, and stored.
//!     let process = Process::spawn(|counter: CounterProxy| counter.add(7).map(drop), counter.clone())?;
//!     process.join()?;
//!     assert_eq!(counter.add(1)?, 8);
//!     Ok(())
//! }
//! ```
//!
//! # What is where
//!
//! Values of a program's own types live in the manager's process. A call is a message to that process and a message
//! back; calls are done one after another, so a method is one step for all who call.
//!
//! Everything else that Python's managers offer needs no process, and doesn't depend on one: a
//! [`Dict`](crate::Dict), a [`List`](crate::List), a [`Set`](crate::Set) and a [`Namespace`](crate::Namespace) are in
//! the memory that all processes of the run share, as queues, locks and the like are. A call that waits for something,
//! such as `get` of a queue, holds up nobody else.
//!
//! # How long a value lives
//!
//! A value is dropped when no process and no message has a proxy of it any more, in whatever way the last process with a
//! proxy has ended, and at the end of the manager.

mod call;
mod client;
mod error;
mod handle;
pub(crate) mod owner;
mod proxy;
mod server;

pub use call::{Answer, Call};
pub use error::{CallError, StartError};
pub use handle::ManagerHandle;
pub use owner::Builder;
pub use proxy::{Managed, Proxy};

#[doc(hidden)]
pub use serde;

/// A number for a text, which tells texts apart.
#[doc(hidden)]
#[must_use]
pub const fn fingerprint(text: &str) -> u64 {
    let mut bytes = text.as_bytes();
    // FNV-1a.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    while let Some((byte, rest)) = bytes.split_first() {
        hash = (hash ^ *byte as u64).wrapping_mul(0x0000_0100_0000_01b3);
        bytes = rest;
    }
    hash
}
