//! Whether a process wants a search for objects that no process can reach, and how many [collections](super::collect)
//! were done: the part of it that processes see.

use std::time::Duration;

use sandpool_abi::Errno;

use super::Result;
use super::arena::{Arena, Participant};
use super::layout::Collections;
use super::waiting::Waiting;
use crate::sys::atomic::Ordering;
use crate::sys::futex::Deadline;

/// How long a process waits for a collection: longer than a collection takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tries to make something; if there is no room, tries once more after objects that nobody can reach are gone.
pub(crate) fn retry<T>(participant: &Participant, attempt: impl Fn() -> Result<T>) -> Result<T> {
    match attempt() {
        Err(Errno::Nfile | Errno::Nomem) => {}
        result => return result,
    }
    let collections = &participant.arena.header()?.collections;
    if !collections.has_suspects() {
        return attempt();
    }
    // The order matters: if a collection begins in between, it is one more than wanted.
    let begun = collections.begun.load(Ordering::SeqCst);
    want(&participant.arena)?;
    let is_done = || collections.ended.load(Ordering::SeqCst).wrapping_sub(begun) as i64 > 0;
    let deadline = Deadline::after_nanos(PATIENCE.as_nanos() as u64);
    while collections.is_on.load(Ordering::Relaxed) != 0 && !is_done() {
        if collections.done.sleep(participant, Waiting::Any(0), deadline, is_done).is_err() {
            break;
        }
    }
    attempt()
}

impl Collections {
    /// Notes that an object that is in messages may be in nothing else by now.
    pub(super) fn suspect(&self) {
        self.suspects.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn has_suspects(&self) -> bool {
        self.suspects.load(Ordering::SeqCst) != self.cleared.load(Ordering::SeqCst)
    }
}

/// Says that a collection may bring room.
pub(crate) fn want(arena: &Arena) -> Result<()> {
    arena.header()?.collections.wanted.store(1, Ordering::SeqCst);
    Ok(())
}
