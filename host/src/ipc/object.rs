//! The life of objects: how they are made, named, shared and given back, and when they go.
//!
//! A process, a message on its way, or a name [holds](super::object_table) an object. When the last
//! holder is gone, the process that removed it destroys the object. A process that dies there leaves `DYING` and its
//! number behind, and the supervisor goes on where the process stopped: each object that a process holds, or may be the
//! last to have held, is [noted](holds) for it.
//!
//! The destruction of an object is many short steps ([`ObjectState::destroy_some`](kind::ObjectState::destroy_some)). A
//! guest does the steps one after another; the supervisor does as many as it has time for, and goes on later
//! ([`sweep`](super::sweep)).
//!
//! [`ObjectKind`](kind::ObjectKind) names the kind of an object, and [`kind`] says what that kind means at the turns of
//! the object's life. A guest [records](record) its use of an object before anybody else holds that object, and a
//! receiver of the handle is told the use ([`look_up`]). So no process needs to believe the bytes of a message, which
//! any process may have written. An end of a pipe is destroyed in two steps: the end is `GONE` as long as the other end
//! may still look at it.

use sandpool_abi::Errno;
use sandpool_abi::handle::Record;

use super::Result;
use super::arena::{Participant, bit};
use super::kind::{self, Listed};
use super::layout::ObjectSlot;
use super::lock::Guard;
use super::names::Found;
pub(super) use super::names::Named;
#[cfg(any(test, feature = "testing"))]
pub(crate) use super::object_table::count_live;
use super::object_table::{
    DYING, GENERATION_MASK, GONE, LIVE, generation, hold, is_held, is_seen_with_others,
};
pub(crate) use super::object_table::{Handle, find, holders};
pub(super) use super::object_table::{is_held_by_others, referred, state};
use super::{holds, scope};
use crate::sys::atomic::{AtomicU64, Ordering, compiler_fence};

/// A live object of a kind that this process holds.
#[derive(Debug)]
pub(crate) struct Object<'a, S> {
    pub(crate) index: u32,
    pub(crate) state: &'a S,
}

impl<S> Clone for Object<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Object<'_, S> {}

/// Looks up the handle of an object of one kind.
///
/// `BADF` as [`find`], and if the object is of another kind.
#[inline]
pub(crate) fn resolve<S: Listed>(participant: &Participant, handle: Handle) -> Result<Object<'_, S>> {
    let (index, slot) = find(participant, handle)?;
    if slot.kind.load(Ordering::Relaxed) != S::KIND as u64 {
        return Err(Errno::Badf);
    }
    Ok(Object { index, state: state(&participant.arena, index)? })
}

/// Looks up an object of one kind that only the owner of the pool holds. The host's own code alone calls this, with a
/// handle that the owner gave it: [`find`], which all imports pass, refuses that handle in every other process.
///
/// `BADF` if there is no such object.
#[inline]
pub(crate) fn resolve_for_host<S: Listed>(
    participant: &Participant,
    handle: Handle,
) -> Result<Object<'_, S>> {
    let index = handle.index()?;
    let slot = participant.arena.object(index)?;
    let now = slot.state.load(Ordering::Acquire);
    if now & 0xff != LIVE
        || generation(now) != handle.generation()
        || slot.kind.load(Ordering::Relaxed) != S::KIND as u64
    {
        return Err(Errno::Badf);
    }
    Ok(Object { index, state: state(&participant.arena, index)? })
}

/// Makes an object: `init` fills a free slot, which then becomes live, held by the caller, in one commit.
/// A run of pages in `register` becomes the object's in the same commit.
pub(crate) fn create<S: Listed>(
    participant: &Participant,
    register: &AtomicU64,
    init: impl FnOnce(&S) -> Result<()>,
) -> Result<Handle> {
    create_with(participant, register, None::<(Named<'_>, fn(&S) -> bool)>, init)
}

/// Makes an object with a name: the name holds the object until [`unname`] removes the name.
///
/// `EXIST` if `has_it` holds of another object.
pub(super) fn create_named<S: Listed>(
    participant: &Participant,
    register: &AtomicU64,
    named: Named<'_>,
    has_it: impl Fn(&S) -> bool,
    init: impl FnOnce(&S) -> Result<()>,
) -> Result<Handle> {
    create_with(participant, register, Some((named, has_it)), init)
}

fn create_with<S: Listed>(
    participant: &Participant,
    register: &AtomicU64,
    name: Option<(Named<'_>, impl Fn(&S) -> bool)>,
    init: impl FnOnce(&S) -> Result<()>,
) -> Result<Handle> {
    let arena = &*participant.arena;
    let table = &arena.header()?.objects;
    let guard = table.lock.lock(participant)?;
    if let Some((named, has_it)) = &name
        && named.find(participant, has_it)?.is_some()
    {
        return Err(Errno::Exist);
    }
    let free = table.free.load(Ordering::Relaxed);
    let index = if free != 0 {
        let index = u32::try_from(free - 1).map_err(|_| Errno::Io)?;
        guard.set(&table.free, arena.object(index)?.next_free.load(Ordering::Relaxed))?;
        index
    } else {
        let index = table.high_water(arena);
        if index >= arena.geometry.objects_max {
            return Err(Errno::Nfile);
        }
        guard.set(&table.high_water, u64::from(index) + 1)?;
        index
    };
    let slot = arena.object(index)?;
    scope::enter(participant, &guard, &slot.scope)?;
    holds::note(arena, participant.index, index)?;
    // Nobody looks at these words before the state says that the object is live.
    if slot.kind.load(Ordering::Relaxed) != S::KIND as u64 {
        // An object of another kind may have left anything, such as a lock that somebody owns. A process that is
        // interrupted here leaves no kind behind.
        slot.kind.store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        arena.object_body(index)?.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        compiler_fence(Ordering::SeqCst);
        slot.kind.store(S::KIND as u64, Ordering::Relaxed);
    }
    slot.tag.store(0, Ordering::Relaxed);
    slot.partner.store(0, Ordering::Relaxed);
    init(state(arena, index)?)?;
    slot.in_transit.store(u64::from(name.is_some()), Ordering::Relaxed);
    if let Some((Named { first, .. }, _)) = name {
        guard.set(&slot.next_named, first.load(Ordering::Relaxed))?;
        guard.set(first, u64::from(index) + 1)?;
        scope::name(arena, &guard, slot.scope.load(Ordering::Relaxed), true)?;
    }
    let (own_word, own_bit) = bit(participant.index);
    for word in 0..arena.ref_words() {
        arena.ref_word(index, word)?.store(if word == own_word { own_bit } else { 0 }, Ordering::Relaxed);
    }
    let generation = ((generation(slot.state.load(Ordering::Relaxed)) + 1) & GENERATION_MASK).max(1);
    guard.set(&slot.state, generation << 32 | LIVE)?;
    guard.set(register, 0)?;
    guard.commit();
    Ok(Handle::new(index, generation))
}

/// Makes the caller a holder of the object for which `has_it` holds.
///
/// `NOENT` if there is no such object.
pub(super) fn open_named<S: Listed>(
    participant: &Participant,
    named: Named<'_>,
    has_it: impl Fn(&S) -> bool,
) -> Result<Handle> {
    let _guard = participant.arena.header()?.objects.lock.lock(participant)?;
    let Found { index, slot, .. } = named.find(participant, has_it)?.ok_or(Errno::Noent)?;
    hold(&participant.arena, index, participant.index)?;
    Ok(Handle::new(index, generation(slot.state.load(Ordering::Relaxed))))
}

/// The object with this number, if it is a live one of a kind and bears one of these [scopes](scope).
pub(super) fn in_scope<S: Listed>(
    participant: &Participant,
    index: u32,
    is_meant: impl Fn(u64) -> bool,
) -> Result<Option<&S>> {
    let slot = participant.arena.object(index)?;
    let is_one = slot.is(LIVE)
        && slot.kind.load(Ordering::Relaxed) == S::KIND as u64
        && is_meant(slot.scope.load(Ordering::Relaxed));
    is_one.then(|| state(&participant.arena, index)).transpose()
}

/// Removes the name of the object for which `has_it` holds: `has_name` gives the word that says that the object has a
/// name.
///
/// `NOENT` if there is no such object.
pub(super) fn unname<S: Listed>(
    participant: &Participant,
    named: Named<'_>,
    has_it: impl Fn(&S) -> bool,
    has_name: impl Fn(&S) -> &AtomicU64,
) -> Result<()> {
    let index = take_name(participant, named, has_it, has_name)?;
    destroy_if_unused(participant, index)
}

/// Records the caller's use of an object that the caller alone holds, and which of its other objects belongs to it, if
/// any.
///
/// `INVAL` if `tag` is 0; `PERM` if something is recorded already, or others hold the object.
pub(crate) fn record(
    participant: &Participant,
    handle: Handle,
    tag: u32,
    partner: Option<Handle>,
) -> Result<()> {
    let (index, slot) = find(participant, handle)?;
    if let Some(partner) = partner {
        find(participant, partner)?;
    }
    if tag == 0 {
        return Err(Errno::Inval);
    }
    let guard = participant.arena.header()?.objects.lock.lock(participant)?;
    if slot.tag.load(Ordering::Relaxed) != 0 || is_seen_with_others(participant, index)? {
        return Err(Errno::Perm);
    }
    guard.set(&slot.partner, partner.map_or(0, |partner| partner.0))?;
    guard.set(&slot.tag, u64::from(tag))?;
    guard.commit();
    Ok(())
}

/// The record of an object that the caller holds, or whose handle is in a message of the caller's.
pub(crate) fn look_up(participant: &Participant, handle: Handle) -> Result<Record> {
    let (index, slot) = referred(participant, handle)?.ok_or(Errno::Io)?;
    let state = kind::at(participant, index)?;
    Ok(Record {
        handle: handle.0,
        kind: Record::kind_of(slot.kind()? as u32, state.flags()),
        tag: slot.tag.load(Ordering::Relaxed) as u32,
        partner: state.viewed().map_or_else(|| slot.partner.load(Ordering::Relaxed), |of| of.0),
    })
}

/// The records of several objects.
pub(crate) fn look_up_all(participant: &Participant, handles: &[Handle]) -> Result<Vec<Record>> {
    handles.iter().map(|handle| look_up(participant, *handle)).collect()
}

/// Removes the name of an object as [`unname`] does, and returns the number of the object: the object is noted for the
/// caller, who destroys it if only the name held it.
///
/// `NOENT` if there is no such object.
pub(super) fn take_name<S: Listed>(
    participant: &Participant,
    named: Named<'_>,
    has_it: impl Fn(&S) -> bool,
    has_name: impl Fn(&S) -> &AtomicU64,
) -> Result<u32> {
    let guard = participant.arena.header()?.objects.lock.lock(participant)?;
    let Found { referrer, index, slot, state } = named.find(participant, has_it)?.ok_or(Errno::Noent)?;
    let of = slot.scope.load(Ordering::Relaxed);
    if !scope::may_unname(participant, of) {
        return Err(Errno::Perm);
    }
    holds::note(&participant.arena, participant.index, index)?;
    scope::name(&participant.arena, &guard, of, false)?;
    guard.set(referrer, slot.next_named.load(Ordering::Relaxed))?;
    guard.set(has_name(state), 0)?;
    guard.set(&slot.in_transit, slot.in_transit.load(Ordering::Relaxed).saturating_sub(1))?;
    guard.commit();
    Ok(index)
}

/// Makes another process a holder of an object that the caller holds.
pub(crate) fn share(participant: &Participant, handle: Handle, with: u32) -> Result<()> {
    let (index, _) = find(participant, handle)?;
    hold(&participant.arena, index, with)?;
    participant.arena.object(index)?.shares.fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// Lets only `BUSY` stop the caller: damage is no reason to leave the rest undone. And the object that a dead process
/// worked on may be gone, and its slot on the way to another object.
pub(super) fn go_on(result: Result<()>) -> Result<()> {
    match result {
        Err(Errno::Busy) => Err(Errno::Busy),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Drops the caller's hold, and destroys the object with the last hold.
pub(crate) fn release(participant: &Participant, handle: Handle) -> Result<()> {
    let (index, _) = find(participant, handle)?;
    let settled = drop_hold(participant, index, participant.index)?;
    destroy_if_unused(participant, index).and(settled)
}

/// Drops the caller's hold of an object, and returns the object's number: the caller destroys the object if nobody holds it.
pub(crate) fn let_go(participant: &Participant, handle: Handle) -> Result<u32> {
    let (index, _) = find(participant, handle)?;
    go_on(drop_hold(participant, index, participant.index)?)?;
    Ok(index)
}

/// Ends a process's dealings with an object, and clears the process's bit. The inner result says how the former went.
/// The caller still has to look whether that was the last hold; the object stays noted until then.
fn drop_hold(participant: &Participant, index: u32, process: u32) -> Result<Result<()>> {
    let _operation = participant.begin(index)?;
    let settled = kind::at(participant, index).and_then(|object| object.settle(participant, index, process));
    go_on(settled)?;
    let (word, bit) = bit(process);
    participant.arena.ref_word(index, word)?.fetch_and(!bit, Ordering::SeqCst);
    // Here, and not where the lock is held that may be `BUSY`: nobody comes back for a hold that is gone.
    kind::at(participant, index)?.hold_dropped(participant)?;
    Ok(settled)
}

/// Destroys an object that nobody holds, and all objects that only messages in it hold. The caller has [noted](holds)
/// the object.
pub(crate) fn destroy_if_unused(participant: &Participant, index: u32) -> Result<()> {
    let mut unused = vec![index];
    while let Some(index) = unused.pop() {
        if condemn(participant, index)? {
            while !destroy_some(participant, index, &mut unused)? {}
        }
        holds::forget_unless_held(participant, index)?;
    }
    Ok(())
}

/// Marks an object as being destroyed by the caller, if it is live and nobody holds it. Returns whether the object is
/// marked now.
pub(super) fn condemn(participant: &Participant, index: u32) -> Result<bool> {
    let slot = participant.arena.object(index)?;
    let guard = participant.arena.header()?.objects.lock.lock(participant)?;
    let state = slot.state.load(Ordering::Relaxed);
    let in_transit = slot.in_transit.load(Ordering::Relaxed) != 0;
    if state & 0xff != LIVE {
        return Ok(false);
    }
    if in_transit {
        participant.arena.header()?.collections.suspect();
        return Ok(false);
    }
    if is_held(&participant.arena, index)? {
        return Ok(false);
    }
    mark_dying(participant, slot, &guard)?;
    Ok(true)
}

/// Does a part of the destruction of an object that is being destroyed; the last part frees the slot. Returns whether
/// this was the last part. Objects that only this object has held are added to `unused`.
pub(super) fn destroy_some(participant: &Participant, index: u32, unused: &mut Vec<u32>) -> Result<bool> {
    let slot = participant.arena.object(index)?;
    let _operation = participant.begin(index)?;
    if !kind::at(participant, index)?.destroy_some(participant, unused)? {
        return Ok(false);
    }
    let table = &participant.arena.header()?.objects;
    let guard = table.lock.lock(participant)?;
    let peer = match kind::at(participant, index)?.peer() {
        Some(peer) => referred(participant, peer)?,
        None => None,
    };
    let generation = generation(slot.state.load(Ordering::Relaxed));
    match peer {
        Some((peer_index, peer)) if peer.is(GONE) => {
            free_slot(participant, &guard, peer_index, peer)?;
            free_slot(participant, &guard, index, slot)?;
        }
        // The other end still looks at this one: both go when the other does.
        Some((peer, _)) if kind::at(participant, peer)?.peer() == Some(Handle::new(index, generation)) => {
            guard.set(&slot.state, generation << 32 | GONE)?;
        }
        // There is no other end, or it doesn't know this one, because the process that made them died before.
        _ => free_slot(participant, &guard, index, slot)?,
    }
    guard.commit();
    Ok(true)
}

fn free_slot(participant: &Participant, guard: &Guard<'_>, index: u32, slot: &ObjectSlot) -> Result<()> {
    let table = &participant.arena.header()?.objects;
    scope::leave(&participant.arena, guard, slot.scope.load(Ordering::Relaxed))?;
    guard.set(&slot.state, generation(slot.state.load(Ordering::Relaxed)) << 32)?;
    guard.set(&slot.next_free, table.free.load(Ordering::Relaxed))?;
    guard.set(&table.free, u64::from(index) + 1)
}

/// Drops the hold of a dead process on the first object from `from` on that is noted for it. Returns the object, and
/// whether the process was destroying it; if not, the object may be unused now. `None` if no other object is noted.
///
/// The note stays; [`forget`] removes it when the object is dealt with.
pub(super) fn drop_next_hold(participant: &Participant, dead: u32, from: u32) -> Result<Option<(u32, bool)>> {
    let arena = &*participant.arena;
    let Some(index) = holds::next(arena, dead, from)? else {
        holds::clear(arena, dead)?;
        return Ok(None);
    };
    let (word, bit) = bit(dead);
    if arena.ref_word(index, word)?.load(Ordering::Relaxed) & bit != 0 {
        go_on(drop_hold(participant, index, dead).map(drop))?;
    }
    let state = arena.object(index)?.state.load(Ordering::Acquire);
    Ok(Some((index, state & 0xff == DYING && state >> 8 & 0xff_ffff == u64::from(dead + 1))))
}

/// Removes the note of an object that a dead process no longer has anything to do with.
pub(super) fn forget(participant: &Participant, dead: u32, index: u32) -> Result<()> {
    holds::forget(&participant.arena, dead, index)
}

/// Marks an object as being destroyed by the caller, who knows that no process can reach it. Returns whether the object
/// is marked now.
pub(super) fn condemn_unreachable(participant: &Participant, index: u32) -> Result<bool> {
    let slot = participant.arena.object(index)?;
    let guard = participant.arena.header()?.objects.lock.lock(participant)?;
    let state = slot.state.load(Ordering::Relaxed);
    if state & 0xff != LIVE {
        return Ok(false);
    }
    mark_dying(participant, slot, &guard)?;
    Ok(true)
}

fn mark_dying(participant: &Participant, slot: &ObjectSlot, guard: &Guard<'_>) -> Result<()> {
    let state = slot.state.load(Ordering::Relaxed);
    guard.set(&slot.state, generation(state) << 32 | u64::from(participant.index + 1) << 8 | DYING)?;
    guard.commit();
    Ok(())
}
