//! A shelf: numbered places, each with a message or nothing, and a few words, that are changed together.
//!
//! ```text
//!  state: words, version ─▶ table: a run of pages with one word for each place ─▶ messages
//! ```
//!
//! # How a change is one step
//!
//! The new messages are written first. They are a chain in the `Outgoing` register of the process that makes the change:
//! a process that dies with it loses them. Then, under the lock of the shelf, one commit
//!
//! * puts them into their places, or exchanges the whole table for a new one, if the journal is too short for the number of
//!   places, or the table has too few places;
//! * takes them from the register;
//! * puts the chain of the former messages into the register `Discarded`, and a former table into `Segment`.
//!
//! After that the process throws these away, or, if it has died, the supervisor does.
//!
//! A message's link to the next of its chain means something only in a register. It is written anew whenever the message is
//! about to get into one.

use sandpool_abi::Errno;
use sandpool_abi::shelf::{CHANGES_MAX, PLACES_MAX, WORDS};

use super::Result;
use super::arena::{PAGE, Participant};
use super::heap;
use super::kind::{ObjectState, Position, Version};
use super::lock::{Guard, Lock};
use super::message::{self, Carry, Message};
use super::object::{self, Handle, Object};
use super::process_table::Register;
pub(crate) use super::states::ShelfState;
use crate::sys::atomic::{AtomicU64, Ordering};

/// The places that one commit changes in their table. With the words, the version and the registers they fit into the
/// journal.
const IN_PLACE: usize = 12;

/// Places that one step of a destruction looks at, and that one look for handles does.
const LOOKED_AT_ONCE: u64 = 1024;

/// Messages plus handles after which one look ends.
const FOUND_AT_ONCE: usize = 256;

/// How often a change begins anew because the table has grown meanwhile.
const TRIES: u32 = 16;

const PLACES_PER_PAGE: u64 = PAGE as u64 / 8;

/// The new content of a place: bytes and handles, or nothing.
#[derive(Debug, Clone)]
pub(crate) struct Change<'a> {
    pub(crate) place: u64,
    pub(crate) content: Option<(&'a [u8], &'a [Handle])>,
}

/// A message as it was read.
#[derive(Debug)]
pub(crate) enum Found {
    /// There is none.
    Nothing,
    /// The message was copied to the buffer.
    Copied(usize),
    /// The message doesn't fit into the buffer.
    Bytes(Vec<u8>),
    /// It has handles: a copy of it is in the register `Incoming`.
    Message(Message),
}

impl ObjectState for ShelfState {
    fn locks<'a>(&'a self, _: &'a Participant) -> Result<Vec<&'a Lock>> {
        Ok(vec![&self.lock])
    }

    fn version(&self) -> Option<Version> {
        let [version, table, places] =
            [&self.version, &self.table, &self.places].map(|word| word.load(Ordering::Acquire));
        Some(Version([version, table, places, 0]))
    }

    fn handles(
        &self,
        participant: &Participant,
        position: Option<Position>,
        each: &mut dyn FnMut(Handle),
    ) -> Result<Option<Position>> {
        let first = position.map_or(0, |position| position.offset);
        let table = self.table.load(Ordering::Acquire);
        if table == 0 {
            return Ok(None);
        }
        let places = self.places.load(Ordering::Acquire).min(room(participant, table)?);
        let mut found = 0;
        for place in first..places.min(first.saturating_add(LOOKED_AT_ONCE)) {
            let page = entry(participant, table, place)?.load(Ordering::Acquire);
            if page != 0 {
                let handles = Message::at(participant, page)?.handles(participant)?;
                found += 1 + handles.len();
                handles.into_iter().for_each(&mut *each);
            }
            if found >= FOUND_AT_ONCE {
                return Ok(Some(Position { segment: 0, offset: place + 1, segments_left: 0 }));
            }
        }
        let next = first.saturating_add(LOOKED_AT_ONCE);
        Ok((next < places).then_some(Position { segment: 0, offset: next, segments_left: 0 }))
    }

    /// Throws away a message, or gives back the table once it is empty. `places` counts the places still to be looked at,
    /// since nobody holds the shelf any more.
    fn destroy_some(&self, participant: &Participant, unused: &mut Vec<u32>) -> Result<bool> {
        let slot = participant.slot()?;
        let guard = self.lock.lock(participant)?;
        let table = self.table.load(Ordering::Relaxed);
        if table == 0 {
            return Ok(true);
        }
        let places = self.places.load(Ordering::Relaxed).min(room(participant, table)?);
        let last = places.saturating_sub(LOOKED_AT_ONCE);
        for place in (last..places).rev() {
            let entry = entry(participant, table, place)?;
            let page = entry.load(Ordering::Relaxed);
            if page != 0 {
                // After a death, the sweep follows the links of the messages in this register.
                message::link(participant, page, 0)?;
                guard.set(slot.register(Register::Discarded), page)?;
                guard.set(entry, 0)?;
                guard.set(&self.places, place)?;
                guard.commit();
                drop(guard);
                message::discard(participant, slot.register(Register::Discarded), unused)?;
                return Ok(false);
            }
        }
        if last != 0 {
            guard.set(&self.places, last)?;
            guard.commit();
            return Ok(false);
        }
        guard.set(slot.register(Register::Segment), table)?;
        guard.set(&self.table, 0)?;
        guard.commit();
        drop(guard);
        heap::free(participant, slot.register(Register::Segment))?;
        Ok(true)
    }
}

/// The places that a table has room for.
fn room(participant: &Participant, table: u64) -> Result<u64> {
    Ok(heap::run_pages(&participant.arena, table)? * PLACES_PER_PAGE)
}

/// The word of a place in a table, which has room for it.
#[inline]
fn entry(participant: &Participant, table: u64, place: u64) -> Result<&AtomicU64> {
    participant.arena.in_heap(table, place * 8)
}

/// Makes a shelf with empty places.
pub(crate) fn create(participant: &Participant) -> Result<Handle> {
    // No page belongs to a new shelf, so this register is empty.
    let register = participant.slot()?.register(Register::Segment);
    object::create(participant, register, |shelf: &ShelfState| {
        let ShelfState { lock: _, version, table, places, words } = shelf;
        for word in [version, table, places].into_iter().chain(words) {
            word.store(0, Ordering::Relaxed);
        }
        Ok(())
    })
}

impl ShelfState {
    /// The table, and the number of its places.
    fn table(&self, participant: &Participant) -> Result<(u64, u64)> {
        let table = self.table.load(Ordering::Relaxed);
        let places = match table {
            0 => 0,
            table => self.places.load(Ordering::Relaxed).min(room(participant, table)?),
        };
        Ok((table, places))
    }

    fn words(&self) -> [u64; WORDS] {
        std::array::from_fn(|at| self.words.get(at).map_or(0, |word| word.load(Ordering::Relaxed)))
    }
}

/// Reads the message of a place, and the words. The register `Incoming` of the caller is empty.
///
/// `NOMEM` if there is no room for a copy of a message that has handles.
pub(crate) fn read(
    participant: &Participant,
    shelf: Object<'_, ShelfState>,
    place: u64,
    out: &mut [u8],
) -> Result<(Found, [u64; WORDS])> {
    let _operation = participant.begin(shelf.index)?;
    let state = shelf.state;
    let guard = state.lock.lock(participant)?;
    let words = state.words();
    let (table, places) = state.table(participant)?;
    let page = if place < places { entry(participant, table, place)?.load(Ordering::Relaxed) } else { 0 };
    if page == 0 {
        return Ok((Found::Nothing, words));
    }
    let message = Message::at(participant, page)?;
    let len = usize::try_from(message.len).map_err(|_| Errno::Io)?;
    let found = if message.handle_count != 0 {
        // Under the lock: the message holds its objects as long as it is in its place.
        let register = participant.slot()?.register(Register::Incoming);
        Found::Message(message::duplicate(participant, &message, register)?)
    } else if len <= out.len() {
        message.read(participant, out)?;
        Found::Copied(len)
    } else {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| Errno::Nomem)?;
        bytes.resize(len, 0);
        message.read(participant, &mut bytes)?;
        Found::Bytes(bytes)
    };
    drop(guard);
    Ok((found, words))
}

/// Changes places and words. The registers of the caller are empty.
///
/// `INVAL` for a bad place, and for two changes of one place; `NOMEM` and `MSGSIZE` as the heap's. Nothing has changed then.
pub(crate) fn change(
    participant: &Participant,
    shelf: Object<'_, ShelfState>,
    words: &[u64; WORDS],
    changes: &[Change<'_>],
) -> Result<()> {
    let changed = try_change(participant, shelf, words, changes);
    // The rest of the change: the former messages if there was one, or the new ones if there was none.
    let slot = participant.slot()?;
    let mut unused = Vec::new();
    let mut given_back = Ok(());
    for register in [Register::Incoming, Register::Outgoing, Register::Discarded] {
        let register = slot.register(register);
        if register.load(Ordering::Relaxed) != 0 {
            given_back = given_back.and(message::discard_chain(participant, register, &mut unused));
        }
    }
    let table = slot.register(Register::Segment);
    if table.load(Ordering::Relaxed) != 0 {
        given_back = given_back.and(heap::free(participant, table));
    }
    for index in unused {
        given_back = given_back.and(object::destroy_if_unused(participant, index));
    }
    changed.and(given_back)
}

fn try_change(
    participant: &Participant,
    shelf: Object<'_, ShelfState>,
    words: &[u64; WORDS],
    changes: &[Change<'_>],
) -> Result<()> {
    if changes.len() > CHANGES_MAX || changes.iter().any(|change| change.place >= PLACES_MAX) {
        return Err(Errno::Inval);
    }
    let mut all: Vec<_> = changes.iter().map(|change| change.place).collect();
    all.sort_unstable();
    if all.is_sorted_by(|one, next| one < next) {
        let pages = compose(participant, changes)?;
        let wanted = all.last().map_or(0, |last| last + 1);
        for _ in 0..TRIES {
            if put(participant, shelf, words, &pages, wanted)? {
                return Ok(());
            }
        }
        return Err(Errno::Again);
    }
    Err(Errno::Inval)
}

/// Writes the new messages, as a chain in the register `Outgoing`. Returns the page for each place.
fn compose(participant: &Participant, changes: &[Change<'_>]) -> Result<Vec<(u64, u64)>> {
    let slot = participant.slot()?;
    let (chain, next) = (slot.register(Register::Outgoing), slot.register(Register::Incoming));
    let mut pages = Vec::with_capacity(changes.len());
    for change in changes {
        let page = match change.content {
            None => 0,
            Some((bytes, handles)) if chain.load(Ordering::Relaxed) == 0 => {
                message::compose(participant, &[bytes], handles, Carry::Counted, chain)?
            }
            Some((bytes, handles)) => {
                let page = message::compose(participant, &[bytes], handles, Carry::Counted, next)?;
                message::prepend(participant, next, chain)?;
                page
            }
        };
        pages.push((change.place, page));
    }
    Ok(pages)
}

/// Puts messages into their places. Returns `false` if the table has grown meanwhile, so that nothing was done.
fn put(
    participant: &Participant,
    shelf: Object<'_, ShelfState>,
    words: &[u64; WORDS],
    pages: &[(u64, u64)],
    wanted: u64,
) -> Result<bool> {
    let state = shelf.state;
    let slot = participant.slot()?;
    let segment = slot.register(Register::Segment);
    // Without the lock. Whether this still holds is looked at again.
    let before = state.table(participant)?;
    let new_table = if wanted > before.1 || pages.len() > IN_PLACE {
        let grown =
            if wanted > before.1 { wanted.max(before.1.saturating_mul(2)).min(PLACES_MAX) } else { before.1 };
        if segment.load(Ordering::Relaxed) != 0 {
            heap::free(participant, segment)?;
        }
        let table = heap::allocate(participant, grown * 8, segment)?;
        let places = room(participant, table)?.min(PLACES_MAX);
        participant.arena.clear(table, places * 8)?;
        Some((table, places))
    } else {
        None
    };

    let _operation = participant.begin(shelf.index)?;
    let guard = state.lock.lock(participant)?;
    let now = state.table(participant)?;
    if now.1 != before.1 {
        return Ok(false);
    }
    let former = chain_former(participant, now, pages)?;
    if let Some((table, places)) = new_table {
        for place in 0..now.1 {
            let page = entry(participant, now.0, place)?.load(Ordering::Relaxed);
            entry(participant, table, place)?.store(page, Ordering::Relaxed);
        }
        for (place, page) in pages {
            entry(participant, table, *place)?.store(*page, Ordering::Relaxed);
        }
        guard.set(&state.table, table)?;
        guard.set(&state.places, places)?;
        guard.set(segment, now.0)?;
    } else {
        for (place, page) in pages {
            guard.set(entry(participant, now.0, *place)?, *page)?;
        }
    }
    set_words(&guard, state, words)?;
    guard.set(&state.version, state.version.load(Ordering::Relaxed).wrapping_add(1))?;
    guard.set(slot.register(Register::Outgoing), 0)?;
    guard.set(slot.register(Register::Discarded), former)?;
    guard.commit();
    Ok(true)
}

/// Links the messages that are in these places, and returns the first; 0 if there is none.
fn chain_former(participant: &Participant, (table, places): (u64, u64), pages: &[(u64, u64)]) -> Result<u64> {
    let mut first = 0;
    for (place, _) in pages.iter().filter(|(place, _)| *place < places) {
        let page = entry(participant, table, *place)?.load(Ordering::Relaxed);
        if page != 0 {
            message::link(participant, page, first)?;
            first = page;
        }
    }
    Ok(first)
}

fn set_words(guard: &Guard<'_>, state: &ShelfState, words: &[u64; WORDS]) -> Result<()> {
    for (word, value) in state.words.iter().zip(words) {
        if word.load(Ordering::Relaxed) != *value {
            guard.set(word, *value)?;
        }
    }
    Ok(())
}
