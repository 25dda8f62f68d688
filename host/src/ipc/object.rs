//! The object table: what there is in the arena beside processes, who holds it, and when it goes.
//!
//! A handle is the number of a slot and its generation, which changes when the slot is used anew, so that a stale
//! handle names nothing. It works in those processes only whose bit is set beside the slot. A bit is set
//!
//! * for the process that made the object,
//! * for a child, by its parent and before it runs: fork gives it all that the parent holds, spawn what is listed,
//! * for the one who takes a message that carries the handle.
//!
//! A message on its way counts as well (`in_transit`). When the last bit and the last message are gone, whoever
//! took the last one destroys the object. A process that dies there leaves `DYING` and its number behind, and the
//! supervisor goes on where it stopped.

use std::sync::atomic::{AtomicU64, Ordering};

use sandpool_abi::Errno;

use super::Result;
use super::arena::{Arena, Member};
use super::lock::Lock;
use super::queue::{self, QueueState};
use crate::sys::mem::shared;

const LIVE: u64 = 1;
const DYING: u64 = 2;

const GENERATION_MASK: u64 = (1 << 30) - 1;

shared! {
    /// The free slots.
    pub(crate) struct ObjectTable {
        lock: Lock,
        /// number of the first slot that was given back, plus 1
        free: AtomicU64,
        /// slots from here on were never used
        high_water: AtomicU64,
    }

    /// An object.
    pub(crate) struct ObjectSlot {
        /// generation: bits 32 to 61, destroyer: bits 8 to 31, state: bits 0 to 7
        state: AtomicU64,
        in_transit: AtomicU64,
        next_free: AtomicU64,
        reserved: [AtomicU64; 5],
        pub(crate) queue: QueueState,
    }
}

impl ObjectTable {
    pub(crate) fn lock_word(&self) -> &Lock {
        &self.lock
    }

    /// Slots that were ever used.
    pub(crate) fn high_water(&self, arena: &Arena) -> u32 {
        let limit = arena.geometry.objects_max;
        u32::try_from(self.high_water.load(Ordering::Acquire)).unwrap_or(limit).min(limit)
    }
}

/// A name for an object: slot and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle(pub(crate) u64);

impl Handle {
    fn new(index: u32, generation: u64) -> Self {
        Self((generation & GENERATION_MASK) << 32 | u64::from(index + 1))
    }

    fn index(self) -> Result<u32> {
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

fn bit(process: u32) -> (usize, u64) {
    (process as usize / 64, 1 << (process % 64))
}

/// A live object that this process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Object<'a> {
    pub(crate) index: u32,
    pub(crate) slot: &'a ObjectSlot,
}

/// Looks a handle up.
///
/// `BADF` if it is stale, forged, or was never given to this process.
#[inline]
pub(crate) fn resolve(member: &Member, handle: Handle) -> Result<Object<'_>> {
    let index = handle.index()?;
    let slot = member.arena.object(index)?;
    let state = slot.state.load(Ordering::Acquire);
    let (word, bit) = bit(member.index);
    if state & 0xff != LIVE
        || generation(state) != handle.generation()
        || member.arena.ref_word(index, word)?.load(Ordering::Relaxed) & bit == 0
    {
        return Err(Errno::Badf);
    }
    Ok(Object { index, slot })
}

/// Makes an object: `init` fills a free slot, which then becomes live, held by the caller, in one commit.
/// A run of pages in `register` becomes the object's in the same commit.
pub(crate) fn create(
    member: &Member,
    register: &AtomicU64,
    init: impl FnOnce(&ObjectSlot) -> Result<()>,
) -> Result<Handle> {
    let arena = &*member.arena;
    let table = &arena.header()?.objects;
    let guard = table.lock.lock(member)?;
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
    init(slot)?;
    // Nobody looks at these before the state says that the object is live.
    slot.in_transit.store(0, Ordering::Relaxed);
    let (own_word, own_bit) = bit(member.index);
    for word in 0..arena.ref_words() {
        arena.ref_word(index, word)?.store(if word == own_word { own_bit } else { 0 }, Ordering::Relaxed);
    }
    let generation = ((generation(slot.state.load(Ordering::Relaxed)) + 1) & GENERATION_MASK).max(1);
    guard.set(&slot.state, generation << 32 | LIVE)?;
    guard.set(register, 0)?;
    guard.commit();
    Ok(Handle::new(index, generation))
}

/// Lets another process hold an object that the caller holds.
pub(crate) fn share(member: &Member, handle: Handle, with: u32) -> Result<()> {
    let object = resolve(member, handle)?;
    let (word, bit) = bit(with);
    member.arena.ref_word(object.index, word)?.fetch_or(bit, Ordering::SeqCst);
    Ok(())
}

/// Drops the caller's hold, and the object with the last one.
pub(crate) fn release(member: &Member, handle: Handle) -> Result<()> {
    let object = resolve(member, handle)?;
    drop_hold(member, object.index, member.index)
}

/// Clears one process's bit, and destroys the object if that was the last.
fn drop_hold(member: &Member, index: u32, process: u32) -> Result<()> {
    let (word, bit) = bit(process);
    member.arena.ref_word(index, word)?.fetch_and(!bit, Ordering::SeqCst);
    destroy_if_unused(member, index)
}

fn is_held(arena: &Arena, index: u32) -> Result<bool> {
    for word in 0..arena.ref_words() {
        if arena.ref_word(index, word)?.load(Ordering::SeqCst) != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Destroys an object that nobody holds, and whatever is held only by messages in it.
pub(crate) fn destroy_if_unused(member: &Member, index: u32) -> Result<()> {
    let mut unused = vec![index];
    while let Some(index) = unused.pop() {
        let slot = member.arena.object(index)?;
        {
            let guard = member.arena.header()?.objects.lock.lock(member)?;
            let state = slot.state.load(Ordering::Relaxed);
            let in_transit = slot.in_transit.load(Ordering::Relaxed) != 0;
            if state & 0xff != LIVE || in_transit || is_held(&member.arena, index)? {
                continue;
            }
            guard.set(&slot.state, generation(state) << 32 | u64::from(member.index + 1) << 8 | DYING)?;
            guard.commit();
        }
        finish_destroying(member, index, &mut unused)?;
    }
    Ok(())
}

/// Empties an object that is `DYING` and gives its slot back.
fn finish_destroying(member: &Member, index: u32, unused: &mut Vec<u32>) -> Result<()> {
    let slot = member.arena.object(index)?;
    let _operation = member.begin(index)?;
    queue::destroy(member, &slot.queue, unused)?;
    let table = &member.arena.header()?.objects;
    let guard = table.lock.lock(member)?;
    guard.set(&slot.state, generation(slot.state.load(Ordering::Relaxed)) << 32)?;
    guard.set(&slot.next_free, table.free.load(Ordering::Relaxed))?;
    guard.set(&table.free, u64::from(index) + 1)?;
    guard.commit();
    Ok(())
}

/// Counts the handles of a message on its way; `mark` is set in the same commit, to say that they are counted.
pub(crate) fn enter_transit(member: &Member, handles: &[Handle], mark: &AtomicU64) -> Result<()> {
    for handle in handles {
        resolve(member, *handle)?;
    }
    each_in_transit(member, handles, mark, 1, |count| count + 1, |_| {})
}

/// The handles of a message are the caller's from now on.
pub(crate) fn arrive(member: &Member, handles: &[Handle], mark: &AtomicU64) -> Result<()> {
    for handle in handles {
        let index = handle.index()?;
        let (word, bit) = bit(member.index);
        member.arena.ref_word(index, word)?.fetch_or(bit, Ordering::SeqCst);
    }
    each_in_transit(member, handles, mark, 0, |count| count.saturating_sub(1), |_| {})
}

/// A message is thrown away. Objects that only it held are added to `unused`.
pub(crate) fn discard(
    member: &Member,
    handles: &[Handle],
    mark: &AtomicU64,
    unused: &mut Vec<u32>,
) -> Result<()> {
    each_in_transit(member, handles, mark, 0, |count| count.saturating_sub(1), |index| unused.push(index))
}

/// Changes the counts of a message's handles and its mark: all, or none.
fn each_in_transit(
    member: &Member,
    handles: &[Handle],
    mark: &AtomicU64,
    marked: u64,
    change: impl Fn(u64) -> u64,
    mut done: impl FnMut(u32),
) -> Result<()> {
    // A journal is short, so a long list is done in parts; the mark tells how far it went.
    let guard = member.arena.header()?.objects.lock.lock(member)?;
    let total = handles.len() as u64;
    let mut count = mark.load(Ordering::Relaxed).min(total);
    let goal = if marked == 0 { 0 } else { total };
    while count != goal {
        let at = if goal == 0 { count - 1 } else { count };
        let handle = handles.get(at as usize).ok_or(Errno::Io)?;
        let index = handle.index()?;
        let slot = member.arena.object(index)?;
        guard.set(&slot.in_transit, change(slot.in_transit.load(Ordering::Relaxed)))?;
        count = if goal == 0 { count - 1 } else { count + 1 };
        guard.set(mark, count)?;
        guard.commit();
        done(index);
    }
    Ok(())
}

/// Drops everything that a dead process held, and finishes what it was destroying. If it was `killed`, it may have
/// dropped the last hold of an object and died before it looked.
pub(crate) fn drop_holds_of(member: &Member, dead: u32, killed: bool) -> Result<()> {
    let arena = &*member.arena;
    let (word, bit) = bit(dead);
    for index in 0..arena.header()?.objects.high_water(arena) {
        if arena.ref_word(index, word)?.load(Ordering::Relaxed) & bit != 0 {
            drop_hold(member, index, dead)?;
        }
        if !killed {
            continue;
        }
        let slot = arena.object(index)?;
        let state = slot.state.load(Ordering::Acquire);
        if state & 0xff == LIVE && !is_held(arena, index)? {
            destroy_if_unused(member, index)?;
        }
        if state & 0xff == DYING && (state >> 8 & 0xff_ffff) == u64::from(dead + 1) {
            let mut unused = Vec::new();
            finish_destroying(member, index, &mut unused)?;
            for index in unused {
                destroy_if_unused(member, index)?;
            }
        }
    }
    Ok(())
}

/// How many objects are live. Only exact while nobody works on the arena.
#[cfg(any(test, fuzzing))]
pub(crate) fn count_live(arena: &Arena) -> Result<u32> {
    let mut live = 0;
    for index in 0..arena.header()?.objects.high_water(arena) {
        live += u32::from(arena.object(index)?.state.load(Ordering::Acquire) & 0xff != 0);
    }
    Ok(live)
}
