//! The kinds of objects: what an object of every kind does at the turns of its life, and the list of the kinds.
//!
//! [`ObjectState`] has a default for each turn: to do nothing. The file of a kind implements what is different about
//! it, and a row of [`kinds!`] below makes it known. The list needs no more of a kind than its [state](super::states), so this file
//! imports none of those. Nothing else leads from the kind that is recorded in the arena to
//! its implementation; a recorded kind without a row is [`Errno::Io`].

use sandpool_abi::Errno;
use sandpool_abi::handle;

use super::Result;
use super::arena::Participant;
use super::event::Event;
use super::lock::Lock;
use super::object_table::{self as table, Handle, ObjectSlot};
use super::states::{
    BarrierState, ByteEndState, ConditionState, EndState, EventState, LockState, QueueState, SemaphoreState,
    SharedState, ShelfState,
};
use super::waiting::Waiting;
use crate::sys::atomic::Ordering;
use crate::sys::mem::Shared;

/// A process, and how much of an object it holds, if that is counted.
pub(crate) type Share = (u32, Option<u64>);

/// The version of what lies in an object: every change changes the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version(pub(super) [u64; 4]);

/// The position of a process that looks through an object without taking anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) segments_left: u64,
}

/// The state that an object of some kind keeps in the arena, and the behaviour of the kind. The words of the state are
/// as untrusted as all of the arena.
pub(crate) trait ObjectState: Shared {
    /// How the object was made, as far as a receiver of its handle has to know: the flags of its `create`.
    fn flags(&self) -> u32 {
        0
    }

    /// The memory of which this object is a view.
    fn viewed(&self) -> Option<Handle> {
        None
    }

    /// The other end of a pipe.
    fn peer(&self) -> Option<Handle> {
        None
    }

    /// The version of what lies in the object, if other objects may lie there. Every change of the content changes it.
    fn version(&self) -> Option<Version> {
        None
    }

    /// Gives `each` some of the handles that lie in the object, from this position on or from the first, and returns where
    /// to go on. Handles that change meanwhile may be passed over, or given twice.
    ///
    /// `IO` if nothing sensible is there.
    fn handles(
        &self,
        _: &Participant,
        _: Option<Position>,
        _each: &mut dyn FnMut(Handle),
    ) -> Result<Option<Position>> {
        Ok(None)
    }

    /// The journaled locks that an operation on the object may hold.
    fn locks<'a>(&'a self, _: &'a Participant) -> Result<Vec<&'a Lock>> {
        Ok(Vec::new())
    }

    /// The events that processes sleep on while they wait for the object.
    fn events<'a>(&'a self, _: &'a Participant) -> Result<Vec<&'a Event>> {
        Ok(Vec::new())
    }

    /// Undoes what a dead process has left half done. [`recover`] wakes the sleepers on [`events`](Self::events) after
    /// that.
    fn recover(&self, participant: &Participant) -> Result<()> {
        for lock in self.locks(participant)? {
            drop(lock.lock(participant)?);
        }
        Ok(())
    }

    /// Ends a process's dealings with an object that it no longer holds, because it has ended or given the object back:
    /// its locks are free, and its waits go on without it. This can be done twice.
    fn settle(&self, _: &Participant, _index: u32, _process: u32) -> Result<()> {
        Ok(())
    }

    /// Called when the object has one holder less.
    fn hold_dropped(&self, _: &Participant) -> Result<()> {
        Ok(())
    }

    /// Gives back a part of what an object holds that nobody holds; returns whether it was the last part. Each call
    /// takes a number of steps that doesn't depend on what the object holds. A destruction can be taken up again where
    /// it was left.
    fn destroy_some(&self, _: &Participant, _unused: &mut Vec<u32>) -> Result<bool> {
        Ok(true)
    }

    /// The processes that are to act before others can go on; `None` if nobody knows.
    fn shares(&self, _: &Participant, _index: u32) -> Option<Vec<Share>> {
        None
    }

    /// How many processes wait at a barrier, and for how many the barrier is.
    fn at_barrier(&self) -> Option<(u64, u64)> {
        None
    }

    /// The object itself, if [`wait`](super::event::wait_for_any) can wait for it.
    fn waitable(&self) -> Option<&dyn Waitable> {
        None
    }

    /// The note of a process that waits for the object with `wait`.
    fn waiting(&self, _index: u32) -> Option<Waiting> {
        None
    }

    /// Whether somebody outside of the run may make the object ready.
    fn is_of_outside(&self) -> bool {
        false
    }
}

/// An object that can be ready.
pub(crate) trait Waitable {
    /// The event that changes when it may be ready.
    fn changed(&self) -> &Event;

    fn is_ready(&self) -> bool;
}

/// The state of a kind in the list.
pub(crate) trait Listed: ObjectState + Sized + 'static {
    const KIND: ObjectKind;
}

macro_rules! kinds {
    ($($kind:ident = $code:path: $state:ty,)*) => {
        /// The kind of an object.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u64)]
        pub(crate) enum ObjectKind {
            $($kind = $code as u64,)*
        }

        impl ObjectKind {
            fn from_code(code: u64) -> Option<Self> {
                [$(Self::$kind,)*].into_iter().find(|kind| *kind as u64 == code)
            }
        }

        $(impl Listed for $state {
            const KIND: ObjectKind = ObjectKind::$kind;
        })*

        /// The state of the object with this number, as its kind.
        pub(super) fn at(participant: &Participant, index: u32) -> Result<&dyn ObjectState> {
            let arena = &*participant.arena;
            Ok(match arena.object(index)?.kind()? {
                $(ObjectKind::$kind => table::state::<$state>(arena, index)?,)*
            })
        }
    };
}

kinds! {
    Queue = handle::QUEUE: QueueState,
    End = handle::END: EndState,
    Lock = handle::LOCK: LockState,
    Semaphore = handle::SEMAPHORE: SemaphoreState,
    Event = handle::EVENT: EventState,
    Condition = handle::CONDITION: ConditionState,
    Barrier = handle::BARRIER: BarrierState,
    Shared = handle::SHARED: SharedState,
    ByteEnd = handle::BYTE_END: ByteEndState,
    Shelf = handle::SHELF: ShelfState,
}

impl ObjectSlot {
    /// The kind of the object, which makes sense only if the slot isn't free.
    pub(super) fn kind(&self) -> Result<ObjectKind> {
        ObjectKind::from_code(self.kind.load(Ordering::Relaxed)).ok_or(Errno::Io)
    }
}

/// Frees the journaled locks of an object that a dead process was working on, if the dead process holds them.
pub(super) fn abandon(participant: &Participant, index: u32, dead: u32) -> Result<()> {
    for lock in at(participant, index)?.locks(participant)? {
        lock.abandon(dead);
    }
    Ok(())
}

/// Undoes what a dead process has left half done in the object, and wakes all who wait there: the dead process may have
/// been about to wake them, or have been woken in the place of another.
pub(super) fn recover(participant: &Participant, index: u32) -> Result<()> {
    let object = at(participant, index)?;
    object.recover(participant)?;
    for event in object.events(participant)? {
        event.wake_all(&participant.arena);
    }
    Ok(())
}

/// The processes that hold a lock, units of a semaphore, or unfinished items of a queue, and how many; for other
/// objects, nobody knows who is to act.
pub(crate) fn shares(participant: &Participant, index: u32) -> Option<Vec<Share>> {
    at(participant, index).ok()?.shares(participant, index)
}

/// The processes that hold an object and have a part of it, which `held_by` counts.
pub(super) fn shares_of_holders(
    participant: &Participant,
    index: u32,
    held_by: impl Fn(u32) -> u64,
) -> Option<Vec<Share>> {
    let all = table::holders(&participant.arena, index).map(|process| (process, Some(held_by(process))));
    Some(all.filter(|(_, count)| *count != Some(0)).collect())
}

/// The number of the other end of a pipe.
pub(crate) fn other_end(participant: &Participant, index: u32) -> Option<u32> {
    let peer = at(participant, index).ok()?.peer()?;
    Some(table::referred(participant, peer).ok()??.0)
}

/// How many processes wait at a barrier, and for how many the barrier is.
pub(crate) fn at_barrier(participant: &Participant, index: u32) -> Option<(u64, u64)> {
    at(participant, index).ok()?.at_barrier()
}

/// The object that a handle names, if processes can wait for objects of its kind.
pub(crate) fn waitable(participant: &Participant, handle: Handle) -> Result<&dyn Waitable> {
    let (index, _) = table::find(participant, handle)?;
    at(participant, index)?.waitable().ok_or(Errno::Inval)
}

/// Whether somebody outside of the run may make the object ready that a handle names.
pub(crate) fn is_of_outside(participant: &Participant, handle: Handle) -> bool {
    table::find(participant, handle)
        .and_then(|(index, _)| at(participant, index))
        .is_ok_and(|object| object.is_of_outside())
}

/// The note of a process that waits for a [`waitable`] object.
pub(crate) fn waiting(participant: &Participant, handle: Handle) -> Option<Waiting> {
    let (index, _) = table::find(participant, handle).ok()?;
    at(participant, index).ok()?.waiting(index)
}
