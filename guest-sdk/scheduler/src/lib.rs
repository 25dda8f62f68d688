//! The decisions of a pool, without anything that carries them out: which entry is given out next, what becomes of an
//! entry whose worker has died, which workers are missing, which task is late.
//!
//! ```
//! use sandpool_scheduler::{Claims, Entry, Scheduler, Take, Work};
//!
//! struct Task(&'static str);
//!
//! impl Work for Task {
//!     fn tasks(&self) -> u32 {
//!         1
//!     }
//!     fn bytes(&self) -> u64 {
//!         self.0.len() as u64
//!     }
//!     fn slice(&self, _: u32, _: u32) -> Self {
//!         Self(self.0)
//!     }
//! }
//!
//! let mut scheduler = Scheduler::new();
//! for name in ["first", "second", "third"] {
//!     scheduler.submit(Task(name));
//! }
//! // Two of them go into the queue, which numbers them from 0 on.
//! let mut queue = Vec::new();
//! let count = scheduler.offer(drop, |number, task, ahead| {
//!     if ahead.entries == 2 {
//!         return Take::Stop;
//!     }
//!     queue.push((number, task.0));
//!     Take::Next
//! });
//! scheduler.put(count, |_, _| {});
//! assert_eq!(queue, [(0, "first"), (1, "second")]);
//! // The worker that claimed both has died at the first of them. The second goes out again, before the third.
//! let claims = Claims { first: 0, end: 2, has_begun: true };
//! let lost = scheduler.take_begun(&claims).ok_or("it is known")?;
//! scheduler.give_back(&claims, Some);
//! assert_eq!((lost.work.0, lost.attempts()), ("first", 1));
//! let left: Vec<_> = scheduler.drain().into_iter().map(|entry| entry.work.0).collect();
//! assert_eq!(left, ["second", "third"]);
//! # Ok::<(), &str>(())
//! ```
//!
//! # The way of an entry
//!
//! ```text
//!  submit ─▶ backlog ─▶ offer, put ─▶ ledger: what is in the queue or claimed, by number
//!               ▲                        │
//!               │                        ├─ finished, partly_finished ─▶ the owner delivers results
//!               └── given again: ────────┤
//!                   not begun, retried   └─ take_begun, give_back: a worker has died
//! ```
//!
//! An entry is what a queue carries: one task, or a chunk of several, or none, where an entry is to wake a worker or
//! to have it leave. The queue numbers entries from 0 on in the order in which they are put, and the [`Scheduler`]
//! counts along. Numbers that come back, in results and in claims of workers, are checked against the ledger: a
//! number that isn't there names nothing. No memory is reserved for a number that came from outside, and no loop is
//! longer than the ledger.
//!
//! # Who does what
//!
//! This crate knows no clock, no queue, no process and no lock, and does nothing by itself: the same calls have the
//! same effects. Two owners drive it today, the pool of an application and the pool of a guest; an owner of workers
//! on other machines would as well. Each owner encodes entries, moves them, takes results, ends workers, and reports
//! to the program. The owner keeps to itself:
//!
//! - **How much is given out ahead.** [`Scheduler::offer`] tells what lies ahead of an entry, and the owner says
//!   whether this is enough: an application bounds tasks by their mean time, a guest's pool bounds bytes, so that
//!   arguments stay in the processors' caches.
//! - **How long a task takes.** An application has one mean for all tasks; a guest has one for each function, because
//!   that time also decides the length of chunks.
//! - **The belief in a worker's clock.** An application believes a worker only within what the owner saw itself:
//!   [`Worker::time_at`]. A guest's pool trusts its workers, which are the same program, and reads their claims once,
//!   without a second look that shows whether they belong together.
//! - **Marks, by which tasks in the queue are cancelled.** They lie in shared memory, and tell whether an entry has
//!   begun.
//! - **The order at a death.** [`Scheduler::take_begun`] and [`Scheduler::give_back`] are two calls, because an
//!   application gives a retried task out after those that weren't begun, and a guest's pool gives it out before
//!   them.
//! - **Limits of tasks.** Retries and timeouts are arguments: an application has one of each for all tasks, which no
//!   task needs to carry.
//!
//! # Costs
//!
//! Short tasks take some hundred nanoseconds altogether. So there is no hashing and no allocation for an entry but
//! the growth of two ring buffers, entries move twice (into the backlog, and into the ledger), and all is generic.

mod crew;
mod entry;
mod phase;
mod scheduler;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]
mod tests;

pub use crew::{Crew, Lateness, UNREADY_MAX, Worker, lateness, next_deadline};
pub use entry::{Entry, Work};
pub use phase::Phase;
pub use scheduler::{Claims, Counts, Scheduler, Take};
