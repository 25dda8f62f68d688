//! The kinds of objects, and what is different about each at the turns of its life. What can be done with one stands
//! in the file of its kind; a new kind is a new file, and an arm of each `match` here.

use sandpool_abi::Errno;
use sandpool_abi::handle;
use sandpool_abi::pipe::READABLE;
use sandpool_abi::shared::READ_ONLY;
use sandpool_abi::sync::{BOUNDED, RECURSIVE};

use super::Result;
use super::arena::Member;
use super::event::Event;
use super::lock::Lock;
use super::object::{self, Handle, ObjectSlot};
use super::pipe::{self, EndState};
use super::queue::{self, QueueState};
use super::shared::{self, SharedState};
use super::sync::barrier::{self, BarrierState};
use super::sync::condition::{self, ConditionState};
use super::sync::event::EventState;
use super::sync::lock::LockState;
use super::sync::semaphore::{self, SemaphoreState};
use super::waiting::Waiting;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Kind {
    Queue = handle::QUEUE as u64,
    /// One end of a pipe.
    End = handle::END as u64,
    Lock = handle::LOCK as u64,
    Semaphore = handle::SEMAPHORE as u64,
    Event = handle::EVENT as u64,
    Condition = handle::CONDITION as u64,
    Barrier = handle::BARRIER as u64,
    Shared = handle::SHARED as u64,
}

impl Kind {
    const ALL: [Self; 8] = [
        Self::Queue,
        Self::End,
        Self::Lock,
        Self::Semaphore,
        Self::Event,
        Self::Condition,
        Self::Barrier,
        Self::Shared,
    ];

    pub(crate) fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == code)
    }
}

/// How the object was made, as far as those who receive its handle have to know: the flags of its `create`.
pub(super) fn flags(slot: &ObjectSlot) -> Result<u32> {
    Ok(match slot.kind()? {
        Kind::Queue => object::state::<QueueState>(slot).account_flags(),
        Kind::Lock if object::state::<LockState>(slot).is_recursive() => RECURSIVE,
        Kind::Semaphore if object::state::<SemaphoreState>(slot).is_bounded() => BOUNDED,
        Kind::Shared if object::state::<SharedState>(slot).viewed().is_some() => READ_ONLY,
        Kind::Lock | Kind::Semaphore | Kind::Shared => 0,
        Kind::End | Kind::Event | Kind::Condition | Kind::Barrier => 0,
    })
}

/// The memory that a view is of.
pub(super) fn viewed(slot: &ObjectSlot) -> Result<Option<Handle>> {
    match slot.kind()? {
        Kind::Shared => Ok(object::state::<SharedState>(slot).viewed()),
        _ => Ok(None),
    }
}

/// The journaled locks that an operation on the object may hold.
fn locks<'a>(member: &'a Member, slot: &'a ObjectSlot) -> Result<Vec<&'a Lock>> {
    Ok(match slot.kind()? {
        Kind::Queue => object::state::<QueueState>(slot).locks().to_vec(),
        Kind::End => {
            let mut locks = object::state::<EndState>(slot).inbound.locks().to_vec();
            if let Some(peer) = pipe::other_end(member, slot)? {
                locks.extend(peer.inbound.locks());
            }
            locks
        }
        Kind::Semaphore => vec![&object::state::<SemaphoreState>(slot).lock],
        Kind::Condition => vec![&object::state::<ConditionState>(slot).lock],
        Kind::Barrier => vec![&object::state::<BarrierState>(slot).lock],
        Kind::Lock | Kind::Event | Kind::Shared => Vec::new(),
    })
}

/// Frees the journaled locks that a dead process holds of the object that it was working on.
pub(super) fn abandon(member: &Member, index: u32, dead: u32) -> Result<()> {
    for lock in locks(member, member.arena.object(index)?)? {
        lock.abandon(dead);
    }
    Ok(())
}

/// Undoes what a dead process has left half done in the object, and wakes all who wait there: it may have been about
/// to, or have been woken in the place of another.
pub(super) fn recover(member: &Member, index: u32) -> Result<()> {
    let slot = member.arena.object(index)?;
    match slot.kind()? {
        Kind::Queue => object::state::<QueueState>(slot).recover(member)?,
        Kind::End => {
            object::state::<EndState>(slot).inbound.recover(member)?;
            if let Some(peer) = pipe::other_end(member, slot)? {
                peer.inbound.recover(member)?;
            }
        }
        Kind::Lock => object::state::<LockState>(slot).wake_one(),
        Kind::Semaphore | Kind::Condition | Kind::Barrier | Kind::Event | Kind::Shared => {
            for lock in locks(member, slot)? {
                drop(lock.lock(member)?);
            }
        }
    }
    if slot.kind()? == Kind::Condition {
        condition::wake_all(member)?;
    }
    for event in events(member, slot)? {
        event.wake_all(&member.arena);
    }
    Ok(())
}

/// What waits for the object sleep on.
fn events<'a>(member: &'a Member, slot: &'a ObjectSlot) -> Result<Vec<&'a Event>> {
    Ok(match slot.kind()? {
        Kind::Queue => object::state::<QueueState>(slot).events().to_vec(),
        Kind::End => {
            let mut events = object::state::<EndState>(slot).inbound.events().to_vec();
            if let Some(peer) = pipe::other_end(member, slot)? {
                events.extend(peer.inbound.events());
            }
            events
        }
        Kind::Semaphore => vec![&object::state::<SemaphoreState>(slot).freed],
        Kind::Event => vec![&object::state::<EventState>(slot).changed],
        Kind::Barrier => vec![&object::state::<BarrierState>(slot).changed],
        Kind::Lock | Kind::Condition | Kind::Shared => Vec::new(),
    })
}

/// Ends what a process has to do with an object that it holds no longer, because it has ended or given it back: what
/// it has locked is free, what it waited for goes on without it. Can be done twice.
pub(super) fn settle(member: &Member, index: u32, process: u32) -> Result<()> {
    let slot = member.arena.object(index)?;
    match slot.kind()? {
        Kind::Queue => queue::settle(member, index, object::state(slot), process),
        Kind::Lock => {
            object::state::<LockState>(slot).settle(process);
            Ok(())
        }
        Kind::Semaphore => semaphore::settle(member, index, object::state(slot), process),
        Kind::Condition => condition::settle(member, index, object::state(slot), process),
        Kind::Barrier => barrier::settle(member, index, object::state(slot), process),
        Kind::Shared => shared::settle(member, index, object::state(slot), process),
        Kind::End | Kind::Event => Ok(()),
    }
}

/// One holder less.
pub(super) fn hold_dropped(member: &Member, index: u32) -> Result<()> {
    let slot = member.arena.object(index)?;
    match slot.kind()? {
        Kind::End => pipe::hold_dropped(member, slot),
        _ => Ok(()),
    }
}

/// Gives back a part of what an object holds that nobody holds; whether it was the last. Each takes a number of steps that
/// doesn't depend on what the object holds. Can be begun again where it was left.
pub(super) fn destroy_some(member: &Member, slot: &ObjectSlot, unused: &mut Vec<u32>) -> Result<bool> {
    match slot.kind()? {
        Kind::Queue => queue::destroy_some(member, object::state(slot), unused),
        Kind::End => pipe::destroy_some(member, slot, unused),
        Kind::Semaphore => semaphore::destroy(member, object::state(slot)).map(|()| true),
        Kind::Shared => shared::destroy_some(member, object::state(slot), unused),
        Kind::Lock | Kind::Event | Kind::Condition | Kind::Barrier => Ok(true),
    }
}

/// The other end of a pipe.
pub(super) fn peer(slot: &ObjectSlot) -> Result<Option<Handle>> {
    match slot.kind()? {
        Kind::End => Ok(Some(object::state::<EndState>(slot).peer())),
        _ => Ok(None),
    }
}

/// The processes that hold a lock, units of a semaphore, or items of a queue that aren't done with, and how many; of
/// other objects, nobody knows who is to act.
pub(crate) fn shares(member: &Member, index: u32) -> Option<Vec<(u32, Option<u64>)>> {
    let slot = member.arena.object(index).ok()?;
    let each = |held_by: &dyn Fn(u32) -> u64| {
        let all = object::holders(&member.arena, index).map(|process| (process, Some(held_by(process))));
        all.filter(|(_, count)| *count != Some(0)).collect()
    };
    match slot.kind().ok()? {
        Kind::Lock => {
            let owner = object::state::<LockState>(slot).owner();
            Some(owner.map(|process| (process, None)).into_iter().collect())
        }
        Kind::Semaphore => {
            let semaphore = object::state::<SemaphoreState>(slot);
            Some(each(&|process| semaphore.held_by(member, process)))
        }
        Kind::Queue => {
            let queue = object::state::<QueueState>(slot);
            Some(each(&|process| queue.taken_by(member, process)))
        }
        _ => None,
    }
}

/// The number of the other end of a pipe.
pub(crate) fn other_end(member: &Member, index: u32) -> Option<u32> {
    let peer = peer(member.arena.object(index).ok()?).ok()??;
    Some(object::referred(member, peer).ok()??.0)
}

/// How many wait at a barrier, and for how many it is.
pub(crate) fn at_barrier(member: &Member, index: u32) -> Option<(u64, u64)> {
    let slot = member.arena.object(index).ok()?;
    if slot.kind().ok()? != Kind::Barrier {
        return None;
    }
    let barrier = object::state::<BarrierState>(slot);
    Some((barrier.waiting(), barrier.parties()))
}

/// What is ready, if something of the kind can be waited for: [`wait`](super::wait).
pub(crate) fn readiness<'a>(member: &'a Member, handle: Handle) -> Result<(&'a Event, Ready<'a>)> {
    let (_, slot) = object::find(member, handle)?;
    match slot.kind()? {
        Kind::Queue => {
            let queue = object::state::<QueueState>(slot);
            Ok((queue.not_empty(), Ready::Queue(queue)))
        }
        Kind::End => {
            let end = object::state::<EndState>(slot);
            if end.flags() & READABLE == 0 {
                return Err(Errno::Inval);
            }
            Ok((end.inbound.not_empty(), Ready::Queue(&end.inbound)))
        }
        Kind::Event => {
            let event = object::state::<EventState>(slot);
            Ok((&event.changed, Ready::Event(event)))
        }
        _ => Err(Errno::Inval),
    }
}

/// What one waits for with `wait`, where it is ready as [`readiness`] says.
pub(crate) fn waiting(member: &Member, handle: Handle) -> Option<Waiting> {
    let (index, slot) = object::find(member, handle).ok()?;
    match slot.kind().ok()? {
        Kind::Queue => Some(Waiting::Get(index)),
        Kind::End => Some(Waiting::Receive(index)),
        Kind::Event => Some(Waiting::Event(index)),
        _ => None,
    }
}

/// An object that can be ready.
pub(crate) enum Ready<'a> {
    /// That of a queue, or of an end of a pipe.
    Queue(&'a QueueState),
    Event(&'a EventState),
}

impl Ready<'_> {
    /// Whether there is an item, or none will come; or the event is set.
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Queue(queue) => queue.has_news(),
            Self::Event(event) => event.is_set(),
        }
    }
}
