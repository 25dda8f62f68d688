//! Handles in messages, and in objects that hold others: each of them counts as a holder of its object.

use sandpool_abi::Errno;

use super::Result;
use super::arena::Participant;
use super::object_table::{Handle, find, hold};
use super::{holds, kind};
use crate::sys::atomic::{AtomicU64, Ordering};

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
