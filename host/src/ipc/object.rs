//! The object table: the objects in the arena, who holds each of them, and when it goes.
//!
//! A handle is the number of a slot and its generation, which changes when the slot is used anew, so that a stale
//! handle names nothing. A handle works only in those processes whose bit is set beside the slot. A bit is set
//!
//! * for the process that made the object,
//! * for a child, by its parent and before the child runs: fork gives it all that the parent holds, spawn the listed
//!   objects,
//! * for the process that takes a message that carries the handle.
//!
//! A message on its way counts as a holder as well (`in_transit`), and so does a name of the object. When the last
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
use sha2::{Digest as _, Sha256};

use super::Result;
use super::arena::{Arena, Participant, bit};
use super::holds;
use super::kind::{self, Listed};
use super::lock::Guard;
use super::object_table::ObjectSlot;
use super::queue;
use super::scope;
use crate::sys::atomic::{AtomicU64, Ordering, compiler_fence};
use crate::sys::mem;

const LIVE: u64 = 1;
const DYING: u64 = 2;
const GONE: u64 = 3;

const GENERATION_MASK: u64 = (1 << 30) - 1;

/// More shares than happen while a process looks for the holders of an object.
const LOOKS_MAX: u32 = 100;

/// A name for an object: slot and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle(pub(crate) u64);

impl Handle {
    fn new(index: u32, generation: u64) -> Self {
        Self((generation & GENERATION_MASK) << 32 | u64::from(index + 1))
    }

    pub(super) fn index(self) -> Result<u32> {
        u32::try_from(self.0 & u64::from(u32::MAX))
            .ok()
            .and_then(|index| index.checked_sub(1))
            .ok_or(Errno::Badf)
    }

    fn generation(self) -> u64 {
        self.0 >> 32
    }
}

fn generation(state: u64) -> u64 {
    state >> 32 & GENERATION_MASK
}

impl ObjectSlot {
    fn is(&self, wanted: u64) -> bool {
        self.state.load(Ordering::Acquire) & 0xff == wanted
    }
}

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

/// Looks a handle up.
///
/// `BADF` if the handle is stale, forged, or was never given to this process.
#[inline]
pub(crate) fn find(participant: &Participant, handle: Handle) -> Result<(u32, &ObjectSlot)> {
    let index = handle.index()?;
    let slot = participant.arena.object(index)?;
    let state = slot.state.load(Ordering::Acquire);
    let (word, bit) = bit(participant.index);
    if state & 0xff != LIVE
        || generation(state) != handle.generation()
        || participant.arena.ref_word(index, word)?.load(Ordering::Relaxed) & bit == 0
    {
        return Err(Errno::Badf);
    }
    Ok((index, slot))
}

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

/// The state of an object, taken for this kind. Any bytes are valid, so a wrong kind gives a wrong answer at worst.
#[inline]
pub(super) fn state<S: Listed>(arena: &Arena, index: u32) -> Result<&S> {
    Ok(mem::start_of(arena.object_body(index)?))
}

/// An object that another one refers to, in whatever state the object is, and its number. `None` if the object's slot
/// was used anew.
pub(super) fn referred(participant: &Participant, handle: Handle) -> Result<Option<(u32, &ObjectSlot)>> {
    let Ok(index) = handle.index() else { return Ok(None) };
    let slot = participant.arena.object(index)?;
    let now = slot.state.load(Ordering::Acquire);
    Ok((now & 0xff != 0 && generation(now) == handle.generation()).then_some((index, slot)))
}

/// Whether another process, or a message on its way, holds an object.
pub(super) fn is_held_by_others(participant: &Participant, index: u32) -> Result<bool> {
    if is_seen_with_others(participant, index)? {
        return Ok(true);
    }
    // Between the looks the hold may have gone from a process to a message, or back; under this lock it can't.
    let _guard = participant.arena.header()?.objects.lock.lock(participant)?;
    is_seen_with_others(participant, index)
}

fn is_seen_with_others(participant: &Participant, index: u32) -> Result<bool> {
    // Messages first: under the lock, no message can become a holder after that.
    Ok(participant.arena.object(index)?.in_transit.load(Ordering::SeqCst) != 0
        || is_held_but_for(&participant.arena, index, bit(participant.index))?)
}

/// The processes that hold an object.
pub(crate) fn holders(arena: &Arena, index: u32) -> impl Iterator<Item = u32> {
    (0..arena.geometry.processes_max).filter(move |process| {
        let (word, bit) = bit(*process);
        arena.ref_word(index, word).is_ok_and(|cell| cell.load(Ordering::Relaxed) & bit != 0)
    })
}

/// Where to find the object with a name: names are in chains, and each chain begins at a word of the arena. Guests
/// don't know which names share a chain, so no guest can make a look-up long for all others, who wait for the table
/// meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    first: &'a AtomicU64,
    objects_max: u32,
}

/// An object that was found by its name.
struct Found<'a, S> {
    /// The word that refers to the object.
    referrer: &'a AtomicU64,
    index: u32,
    slot: &'a ObjectSlot,
    state: &'a S,
}

impl<'a> Named<'a> {
    pub(super) fn new(arena: &'a Arena, name: &str) -> Result<Self> {
        let mut hash = Sha256::new();
        for word in &arena.header()?.objects.secret {
            hash.update(word.load(Ordering::Relaxed).to_le_bytes());
        }
        hash.update(name);
        let hash = hash.finalize().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let objects_max = arena.geometry.objects_max;
        Ok(Self { first: arena.named((hash % u64::from(objects_max)) as usize)?, objects_max })
    }

    /// The object for which `has_it` holds, for a caller that has locked the table.
    fn find<S: Listed>(
        self,
        participant: &'a Participant,
        has_it: impl Fn(&S) -> bool,
    ) -> Result<Option<Found<'a, S>>> {
        let mut referrer = self.first;
        // A longer chain is damaged.
        for _ in 0..self.objects_max {
            let Some(index) = referrer.load(Ordering::Relaxed).checked_sub(1) else { return Ok(None) };
            let index = u32::try_from(index).map_err(|_| Errno::Io)?;
            let slot = participant.arena.object(index).map_err(|_| Errno::Io)?;
            let is_one = slot.is(LIVE) && slot.kind.load(Ordering::Relaxed) == S::KIND as u64;
            let is_seen = || scope::sees(participant, slot.scope.load(Ordering::Relaxed));
            if is_one {
                let state = state(&participant.arena, index)?;
                if has_it(state) && is_seen() {
                    return Ok(Some(Found { referrer, index, slot, state }));
                }
            }
            referrer = &slot.next_named;
        }
        Err(Errno::Io)
    }
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

/// Sets the bit of a process beside an object.
fn hold(arena: &Arena, index: u32, process: u32) -> Result<()> {
    let (word, bit) = bit(process);
    holds::note(arena, process, index)?;
    arena.ref_word(index, word)?.fetch_or(bit, Ordering::SeqCst);
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

/// Whether any process holds an object.
fn is_held(arena: &Arena, index: u32) -> Result<bool> {
    is_held_but_for(arena, index, (0, 0))
}

/// Whether any process but the one with this bit holds an object. While the words are looked at one after another, a
/// hold may go from a process whose word is yet to be looked at to one whose word was: the count of shares tells.
fn is_held_but_for(arena: &Arena, index: u32, (own_word, own_bit): (usize, u64)) -> Result<bool> {
    let shares = &arena.object(index)?.shares;
    let mut before = shares.load(Ordering::SeqCst);
    for _ in 0..LOOKS_MAX {
        for word in 0..arena.ref_words() {
            let own = if word == own_word { own_bit } else { 0 };
            if arena.ref_word(index, word)?.load(Ordering::SeqCst) & !own != 0 {
                return Ok(true);
            }
        }
        let now = shares.load(Ordering::SeqCst);
        if now == before {
            return Ok(false);
        }
        before = now;
    }
    // Some process shares the object all the time.
    Ok(true)
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

/// Counts the handles of a message on its way; `mark` is set in the same commits, to say that they are counted.
pub(crate) fn enter_transit(participant: &Participant, handles: &[Handle], mark: &AtomicU64) -> Result<()> {
    for handle in handles {
        find(participant, *handle)?;
    }
    keep(participant, handles, mark)
}

/// Counts the handles of objects that are held by something which the caller holds.
pub(super) fn keep(participant: &Participant, handles: &[Handle], mark: &AtomicU64) -> Result<()> {
    each_in_transit(participant, handles, mark, 1, |count| count.wrapping_add(1), |_, _| {})
}

/// Makes the handles of a message the caller's.
pub(crate) fn arrive(participant: &Participant, handles: &[Handle], mark: &AtomicU64) -> Result<()> {
    for handle in handles {
        hold(&participant.arena, handle.index()?, participant.index)?;
    }
    each_in_transit(participant, handles, mark, 0, |count| count.saturating_sub(1), |_, _| {})
}

/// Uncounts the handles of a message that is thrown away. Objects that only this message may have held are noted, and
/// added to `unused`.
pub(crate) fn discard(
    participant: &Participant,
    handles: &[Handle],
    mark: &AtomicU64,
    unused: &mut Vec<u32>,
) -> Result<()> {
    let before = unused.len();
    for handle in handles {
        holds::note(&participant.arena, participant.index, handle.index()?)?;
    }
    let mut kept = Vec::new();
    let discarded = each_in_transit(
        participant,
        handles,
        mark,
        0,
        |count| count.saturating_sub(1),
        // `unused` gets no more entries than there are objects: only a damaged object is unused twice.
        |index, count| match count {
            0 if unused.len() <= participant.arena.geometry.objects_max as usize => unused.push(index),
            _ => kept.push(index),
        },
    );
    for index in unused.iter().skip(before) {
        kind::at(participant, *index)?.hold_dropped(participant)?;
    }
    if !kept.is_empty() {
        participant.arena.header()?.collections.suspect();
    }
    for index in kept {
        kind::at(participant, index)?.hold_dropped(participant)?;
        holds::forget_unless_held(participant, index)?;
    }
    discarded
}

/// Changes the counts of a message's handles and its mark: handle by handle, each with the mark in one commit.
fn each_in_transit(
    participant: &Participant,
    handles: &[Handle],
    mark: &AtomicU64,
    marked: u64,
    change: impl Fn(u64) -> u64,
    mut done: impl FnMut(u32, u64),
) -> Result<()> {
    // A journal is short, so a long list is done in parts; the mark says how far the work has come.
    let guard = participant.arena.header()?.objects.lock.lock(participant)?;
    let total = handles.len() as u64;
    let mut count = mark.load(Ordering::Relaxed).min(total);
    let goal = if marked == 0 { 0 } else { total };
    while count != goal {
        let at = if goal == 0 { count - 1 } else { count };
        let handle = handles.get(at as usize).ok_or(Errno::Io)?;
        let index = handle.index()?;
        let slot = participant.arena.object(index)?;
        let changed = change(slot.in_transit.load(Ordering::Relaxed));
        guard.set(&slot.in_transit, changed)?;
        count = if goal == 0 { count - 1 } else { count + 1 };
        guard.set(mark, count)?;
        guard.commit();
        done(index, changed);
    }
    Ok(())
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

/// An object that no process holds, only messages or a name, as it was when somebody looked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unheld {
    state: u64,
    /// The number of these messages, plus 1 for a name.
    pub(super) in_transit: u64,
    contents: Option<queue::Version>,
}

impl Unheld {
    /// Whether this is the object's handle, for a caller who knows that the number is the object's.
    pub(super) fn is(&self, handle: Handle) -> bool {
        generation(self.state) == handle.generation()
    }
}

/// Looks whether only messages or a name hold an object.
pub(super) fn unheld(participant: &Participant, index: u32) -> Result<Option<Unheld>> {
    let slot = participant.arena.object(index)?;
    let state = slot.state.load(Ordering::Acquire);
    let contents = version(participant, index);
    let in_transit = slot.in_transit.load(Ordering::SeqCst);
    let is_one = state & 0xff == LIVE && in_transit != 0 && !is_held(&participant.arena, index)?;
    Ok(is_one.then_some(Unheld { state, in_transit, contents }))
}

/// Whether an object is certainly unchanged since `found`: while the table is locked, no hold becomes a message.
pub(super) fn is_still(participant: &Participant, index: u32, found: &Unheld) -> Result<bool> {
    let _guard = participant.arena.header()?.objects.lock.lock(participant)?;
    // The contents are looked at once more in the end: a process may have taken something and dropped its hold during
    // this look.
    Ok(unheld(participant, index)?.as_ref() == Some(found) && version(participant, index) == found.contents)
}

/// The version of an object's contents, if other objects can lie in it.
fn version(participant: &Participant, index: u32) -> Option<queue::Version> {
    kind::at(participant, index).ok()?.version()
}

/// Gives `each` some of the handles that lie in an object: see [`ObjectState::handles`](kind::ObjectState::handles).
pub(super) fn handles_in(
    participant: &Participant,
    index: u32,
    position: Option<queue::Position>,
    mut each: impl FnMut(Handle),
) -> Result<Option<queue::Position>> {
    match kind::at(participant, index) {
        Ok(object) => object.handles(participant, position, &mut each),
        Err(_) => Ok(None),
    }
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

/// The number of live objects. The number is exact only while nobody works on the arena.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn count_live(arena: &Arena) -> Result<u32> {
    let mut live = 0;
    for index in 0..arena.header()?.objects.high_water(arena) {
        live += u32::from(!arena.object(index)?.is(0));
    }
    Ok(live)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;
    use crate::ipc::arena::{Geometry, Patience};
    use crate::ipc::shared::{self, SharedState};

    /// All others wait for the table meanwhile.
    #[test]
    fn a_missing_name_is_looked_for_among_few() {
        const OBJECTS: u32 = 4096;
        let geometry = Geometry { processes_max: 1, objects_max: OBJECTS, heap_pages: 512 };
        let (_, arena) = Arena::create(geometry).unwrap();
        let participant = Participant { arena: Arc::new(arena), index: 0, patience: Patience::Brief };
        for number in 0..OBJECTS {
            shared::create(&participant, 8, true, &format!("name {number}")).unwrap();
        }
        let longest = (0..OBJECTS).map(|number| {
            let looked_at = Cell::new(0);
            let named = Named::new(&participant.arena, &format!("missing {number}")).unwrap();
            let is_it = |_: &SharedState| {
                looked_at.set(looked_at.get() + 1);
                false
            };
            assert!(named.find(&participant, is_it).unwrap().is_none());
            looked_at.get()
        });
        // With as many names as places, all but one in a million lie in a place with fewer than ten.
        assert!(longest.max().unwrap() < 10);
    }
}
