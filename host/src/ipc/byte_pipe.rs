//! A pipe of bytes, as POSIX has pipes: two ends, each an object, and a ring of bytes between them.
//!
//! The end that reads owns the ring, a run of pages. Each end has a lock, which a process holds while it reads or writes
//! there, and a *position*: the number of bytes that have gone through the end since the pipe was made. The bytes
//! between the two positions are in the pipe.
//!
//! * **to write**: take the lock of the end that writes; copy the bytes into the ring, beyond the position, where no
//!   process reads; then publish the new position, with one store. This is the instant at which the bytes are written.
//! * **to read**: take the lock of the end that reads; copy the bytes out; then publish the new position. This is the
//!   instant at which they are read.
//!
//! So a process that is killed at any instruction has done its read or write, or has not, and there is nothing to undo:
//! the locks' journals stay empty. Only the process that holds the lock of an end changes the end's position; other
//! processes see an older value at worst, which is less room or fewer bytes than there are. Both positions are checked
//! whenever they are used: bytes that wouldn't fit into the ring are [`Errno::Io`].
//!
//! # Who waits, and who wakes
//!
//! Each end has an event, on which its users sleep. Bytes that are published wake those who read. Bytes that are taken
//! wake those who write, if [`ATOMIC`] bytes are free then. A write never waits while it finds the room that it needs,
//! which is at most that much; so a writer that sleeps is woken when there is that much. To wake it earlier would wake
//! it for each byte that somebody reads, and it couldn't go on. (Linux frees its pipes by pages, too.)
//!
//! # The ends of the pipe
//!
//! An end that no process and no message holds is closed, in its destruction. Those who wait at the other end are woken
//! then: a reader comes to the end of the bytes, and a writer gets [`Errno::Pipe`]. The ring goes with the end that
//! reads, under the lock of the end that writes: a writer looks for the ring under that lock. The slot of a closed end
//! stays until the other end has gone as well, as with other [pipes](super::pipe).
//!
//! Unlike there, a process that waits for bytes counts as one that may write them, if it has the other end as well.
//! POSIX has it so, and such a wait is a deadlock, which the supervisor finds.

use sandpool_abi::Errno;
use sandpool_abi::descriptor::ATOMIC_MAX;
use sandpool_abi::pipe::{CAPACITY, READABLE, WRITABLE};

use super::Result;
use super::arena::Participant;
use super::event::Event;
use super::heap;
use super::kind::{ObjectKind, ObjectState};
use super::lock::Lock;
use super::object::{self, Handle, Object};
use super::process_table::Register;
pub(crate) use super::states::ByteEndState;
use super::waiting::Waiting;
use crate::sys::atomic::Ordering;
use crate::sys::futex::Deadline;

/// The bytes that a pipe holds. The length isn't read from the arena.
pub(crate) const RING: u64 = if cfg!(test) { 4096 } else { CAPACITY };

/// The longest write that happens as a whole.
pub(crate) const ATOMIC: u64 = if cfg!(test) { 64 } else { ATOMIC_MAX };

impl ObjectState for ByteEndState {
    fn flags(&self) -> u32 {
        self.rights()
    }

    fn peer(&self) -> Option<Handle> {
        Some(self.other())
    }

    fn locks<'a>(&'a self, participant: &'a Participant) -> Result<Vec<&'a Lock>> {
        let peer = other_end(participant, self)?;
        Ok([self].into_iter().chain(peer).map(|end| &end.lock).collect())
    }

    fn events<'a>(&'a self, participant: &'a Participant) -> Result<Vec<&'a Event>> {
        let peer = other_end(participant, self)?;
        Ok([self].into_iter().chain(peer).map(|end| &end.changed).collect())
    }

    /// Tells the other end, and gives the ring back.
    fn destroy_some(&self, participant: &Participant, _unused: &mut Vec<u32>) -> Result<bool> {
        self.closed.store(1, Ordering::SeqCst);
        let peer = other_end(participant, self)?;
        if let Some(peer) = peer {
            peer.changed.notify_all(&participant.arena);
        }
        if self.page.load(Ordering::Relaxed) != 0 {
            let register = participant.slot()?.register(Register::Segment);
            {
                // A process may be writing into the ring.
                let _guard = peer.map(|peer| peer.lock.lock(participant)).transpose()?;
                heap::hand_over(participant, &self.page, register)?;
            }
            heap::free(participant, register)?;
        }
        Ok(true)
    }
}

impl ByteEndState {
    fn other(&self) -> Handle {
        Handle(self.peer.load(Ordering::Acquire))
    }

    /// `READABLE` or `WRITABLE`.
    pub(crate) fn rights(&self) -> u32 {
        self.rights.load(Ordering::Relaxed) as u32
    }

    pub(crate) fn is_nonblocking(&self) -> bool {
        self.nonblocking.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(u64::from(on), Ordering::Relaxed);
    }

    /// A number that both ends have, and no other pipe that there is.
    pub(crate) fn number(&self, own: Handle) -> u64 {
        own.0.min(self.other().0)
    }

    /// The event that changes when [`look`] may find something else.
    pub(crate) fn changed(&self) -> &Event {
        &self.changed
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst) != 0
    }

    fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }
}

/// The number of bytes between two positions.
fn between(from: u64, to: u64) -> Result<u64> {
    Some(to.wrapping_sub(from)).filter(|count| *count <= RING).ok_or(Errno::Io)
}

/// How many bytes there are to read, for a process that hasn't locked the end: others may read and write meanwhile.
fn bytes_in(reader: &ByteEndState, writer: &ByteEndState) -> u64 {
    let from = reader.position();
    writer.position().wrapping_sub(from).min(RING)
}

/// How many bytes have room, for a process that hasn't locked the end.
fn room_in(reader: &ByteEndState, writer: &ByteEndState) -> u64 {
    // In this order: a position that is read earlier can only be behind.
    let from = reader.position();
    RING.saturating_sub(writer.position().wrapping_sub(from))
}

/// Makes a pipe, and returns the end that reads and the one that writes.
///
/// `NFILE`; `NOMEM` or `MSGSIZE` as the heap's.
pub(crate) fn create(participant: &Participant, nonblocking: bool) -> Result<[Handle; 2]> {
    let register = participant.slot()?.register(Register::Segment);
    let page = heap::allocate(participant, RING, register)?;
    let reader = match create_end(participant, READABLE, Handle(0), page, nonblocking) {
        Ok(reader) => reader,
        Err(error) => {
            heap::free(participant, register)?;
            return Err(error);
        }
    };
    let writer = match create_end(participant, WRITABLE, reader, 0, nonblocking) {
        Ok(writer) => writer,
        Err(error) => {
            object::release(participant, reader)?;
            return Err(error);
        }
    };
    // Until here the first end has no other end.
    object::resolve::<ByteEndState>(participant, reader)?.state.peer.store(writer.0, Ordering::Release);
    Ok([reader, writer])
}

fn create_end(
    participant: &Participant,
    rights: u32,
    peer: Handle,
    page: u64,
    nonblocking: bool,
) -> Result<Handle> {
    let register = participant.slot()?.register(Register::Segment);
    object::create(participant, register, |end: &ByteEndState| {
        end.peer.store(peer.0, Ordering::Relaxed);
        end.rights.store(u64::from(rights), Ordering::Relaxed);
        end.nonblocking.store(u64::from(nonblocking), Ordering::Relaxed);
        end.closed.store(0, Ordering::Relaxed);
        end.position.store(0, Ordering::Relaxed);
        end.page.store(page, Ordering::Relaxed);
        Ok(())
    })
}

/// The other end of the pipe. The other end stays as long as this one does.
fn other_end<'a>(participant: &'a Participant, end: &ByteEndState) -> Result<Option<&'a ByteEndState>> {
    match object::referred(participant, end.other())? {
        Some((index, peer)) if peer.kind() == Ok(ObjectKind::ByteEnd) => {
            Ok(Some(object::state(&participant.arena, index)?))
        }
        _ => Ok(None),
    }
}

/// Bytes in a ring, from a position on.
#[derive(Debug)]
pub(crate) struct Bytes<'a> {
    participant: &'a Participant,
    page: u64,
    from: u64,
}

impl Bytes<'_> {
    /// Does something with each piece of `len` bytes, `at` bytes after the first of these: at most two, one at the end
    /// of the ring and one at its start. `each` is given the piece's place in the ring, and in the `len` bytes.
    fn pieces(
        &self,
        at: u64,
        len: usize,
        mut each: impl FnMut(u64, std::ops::Range<usize>) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let place = self.from.wrapping_add(at).wrapping_add(done as u64) % RING;
            let end = len.min(done + (RING - place) as usize);
            each(place, done..end)?;
            done = end;
        }
        Ok(())
    }

    /// Copies bytes out, from `at` bytes after the first of these on.
    pub(crate) fn read(&self, at: u64, to: &mut [u8]) -> Result<()> {
        self.pieces(at, to.len(), |place, range| {
            let to = to.get_mut(range).ok_or(Errno::Io)?;
            self.participant.arena.read(self.page, place, to)
        })
    }

    fn write(&self, at: u64, from: &[u8]) -> Result<()> {
        self.pieces(at, from.len(), |place, range| {
            let from = from.get(range).ok_or(Errno::Io)?;
            self.participant.arena.write(self.page, place, from)
        })
    }
}

/// Reads at most `max` bytes, and waits for at least one. `copy` is given the number of bytes, and copies them out; if
/// it fails, nothing is read. 0 is the end: nobody is left to write.
///
/// `BADF` at an end that writes; `AGAIN`, `TIMEDOUT`, `DEADLOCK`.
pub(crate) fn read(
    participant: &Participant,
    end: Object<'_, ByteEndState>,
    max: u64,
    deadline: Deadline,
    copy: impl FnOnce(u64, &Bytes<'_>) -> Result<()>,
) -> Result<u64> {
    let reader = end.state;
    if reader.rights() & READABLE == 0 {
        return Err(Errno::Badf);
    }
    if max == 0 {
        return Ok(0);
    }
    let _operation = participant.begin(end.index)?;
    let Some(writer) = other_end(participant, reader)? else { return Ok(0) };
    loop {
        // In this order: nothing is written to a pipe that is closed.
        let is_closed = writer.is_closed();
        if bytes_in(reader, writer) != 0 {
            let guard = reader.lock.lock(participant)?;
            let from = reader.position();
            let count = between(from, writer.position())?.min(max);
            // Another process may have been faster.
            if count != 0 {
                let page = reader.page.load(Ordering::Relaxed);
                copy(count, &Bytes { participant, page, from })?;
                reader.position.store(from.wrapping_add(count), Ordering::Release);
                guard.unlock();
                if room_in(reader, writer) >= ATOMIC {
                    writer.changed.notify_all(&participant.arena);
                }
                return Ok(count);
            }
        } else if is_closed {
            return Ok(0);
        } else {
            let ready = || bytes_in(reader, writer) != 0 || writer.is_closed();
            reader.changed.wait(participant, Waiting::Read(end.index), deadline, ready)?;
        }
    }
}

/// Writes the bytes of these parts but for the first `skipped`, and waits for room. Returns the number of bytes that
/// were written: all of them if the parts have at most [`ATOMIC`] bytes, else as many as there is room for. A write that
/// waits, waits for room for [`ATOMIC`] bytes, or for as many as are left.
///
/// `BADF` at an end that reads; `PIPE` if nobody is left to read; `AGAIN`, `TIMEDOUT`, `DEADLOCK`.
pub(crate) fn write(
    participant: &Participant,
    end: Object<'_, ByteEndState>,
    parts: &[&[u8]],
    skipped: u64,
    deadline: Deadline,
) -> Result<u64> {
    let writer = end.state;
    if writer.rights() & WRITABLE == 0 {
        return Err(Errno::Badf);
    }
    let total: u64 = parts.iter().map(|part| part.len() as u64).sum();
    let left = total.saturating_sub(skipped);
    if left == 0 {
        return Ok(0);
    }
    let needed = if deadline == Deadline::NOW && total > ATOMIC { 1 } else { left.min(ATOMIC) };
    let _operation = participant.begin(end.index)?;
    let reader = other_end(participant, writer)?.ok_or(Errno::Pipe)?;
    loop {
        if reader.is_closed() {
            return Err(Errno::Pipe);
        }
        if room_in(reader, writer) >= needed {
            let guard = writer.lock.lock(participant)?;
            let from = writer.position();
            let room = RING - between(reader.position(), from)?;
            // Another process may have been faster.
            if room >= needed {
                let page = reader.page.load(Ordering::Relaxed);
                if page == 0 {
                    return Err(Errno::Pipe);
                }
                let count = left.min(room);
                fill(&Bytes { participant, page, from }, parts, skipped, count)?;
                writer.position.store(from.wrapping_add(count), Ordering::Release);
                guard.unlock();
                reader.changed.notify_all(&participant.arena);
                return Ok(count);
            }
        } else {
            let ready = || room_in(reader, writer) >= needed || reader.is_closed();
            writer.changed.wait(participant, Waiting::Write(end.index), deadline, ready)?;
        }
    }
}

/// Writes `count` bytes of these parts into a ring, from the byte with the number `skipped` on.
fn fill(ring: &Bytes<'_>, parts: &[&[u8]], skipped: u64, count: u64) -> Result<()> {
    let mut skipped = skipped;
    let mut done = 0;
    for part in parts {
        let start = skipped.min(part.len() as u64);
        skipped -= start;
        let rest = part.get(start as usize..).unwrap_or_default();
        let rest = rest.get(..(count - done) as usize).unwrap_or(rest);
        ring.write(done, rest)?;
        done += rest.len() as u64;
    }
    Ok(())
}

/// The work that can be done at an end without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// Bytes that can be read, or written.
    pub(crate) bytes: u64,
    /// Whether the other end is closed.
    pub(crate) is_hung_up: bool,
}

impl Readiness {
    /// Whether a read, or a write of [`ATOMIC`] bytes, doesn't wait.
    pub(crate) fn is_ready(self, for_reading: bool) -> bool {
        self.is_hung_up || self.bytes >= if for_reading { 1 } else { ATOMIC }
    }
}

/// Looks at an end.
pub(crate) fn look(participant: &Participant, end: &ByteEndState) -> Result<Readiness> {
    let Some(peer) = other_end(participant, end)? else {
        return Ok(Readiness { bytes: 0, is_hung_up: true });
    };
    let is_hung_up = peer.is_closed();
    let bytes = if end.rights() & READABLE != 0 {
        bytes_in(end, peer)
    } else if is_hung_up {
        0
    } else {
        room_in(peer, end)
    };
    Ok(Readiness { bytes, is_hung_up })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

    use super::*;
    use crate::ipc::object::{count_live, resolve};
    use crate::ipc::sweep::Sweep;
    use crate::ipc::tests::common::participant;

    #[test]
    fn there_are_both_ends_or_none() {
        let participant = participant(1);
        assert_eq!(create(&participant, false), Err(Errno::Nfile));
        let heap = &participant.arena.header().unwrap().heap;
        assert_eq!((count_live(&participant.arena), heap.used_pages()), (Ok(0), 0));
    }

    #[test]
    fn each_end_does_what_it_is_for() {
        let participant = participant(2);
        let end = |handle| resolve::<ByteEndState>(&participant, handle).unwrap();
        let [reader, writer] = create(&participant, false).unwrap();
        let write = |to| write(&participant, end(to), &[b"a"], 0, Deadline::NOW);
        let read = |from| read(&participant, end(from), 1, Deadline::NOW, |_, _| Ok(()));
        assert_eq!((write(reader), read(writer)), (Err(Errno::Badf), Err(Errno::Badf)));
        assert_eq!((write(writer), read(reader)), (Ok(1), Ok(1)));
    }

    /// A writer is ready where a whole write of the largest kind finds room, and a large write that doesn't wait writes a part.
    #[test]
    fn room_is_told_and_used_as_posix_says() {
        let participant = participant(2);
        let end = |handle| resolve::<ByteEndState>(&participant, handle).unwrap();
        let [_reader, writer] = create(&participant, false).unwrap();
        let large = vec![0; RING as usize + 1];
        let write = |bytes: &[u8]| write(&participant, end(writer), &[bytes], 0, Deadline::NOW);
        let is_ready = || look(&participant, end(writer).state).unwrap().is_ready(false);
        assert_eq!(write(&large[..(RING - ATOMIC) as usize]), Ok(RING - ATOMIC));
        assert!(is_ready());
        assert_eq!(write(&large[..1]), Ok(1));
        assert!(!is_ready());
        assert_eq!(write(&large[..ATOMIC as usize]), Err(Errno::Again), "whole or not at all");
        assert_eq!(write(&large[..ATOMIC as usize + 1]), Ok(ATOMIC - 1));
        assert_eq!(write(&large[..1]), Err(Errno::Again));
    }

    /// Another process of the run can write any position into the arena.
    #[test]
    fn positions_further_apart_than_the_ring_is_long_are_damage() {
        let participant = participant(2);
        let end = |handle| resolve::<ByteEndState>(&participant, handle).unwrap();
        let [reader, writer] = create(&participant, false).unwrap();
        let at = |position| end(writer).state.position.store(position, Ordering::Relaxed);
        let read = || read(&participant, end(reader), 1, Deadline::NOW, |_, _| Ok(()));
        for damaged in [RING + 1, u64::MAX] {
            at(damaged);
            assert_eq!(read(), Err(Errno::Io), "{damaged}");
        }
        at(RING);
        assert_eq!(read(), Ok(1));
    }

    /// At the instant at which nobody is left to read, another process may be writing.
    #[test]
    fn the_ring_stays_as_long_as_somebody_writes_into_it() {
        let reader = participant(2);
        let [writer, supervisor] = [1, 2].map(|index| Participant { index, ..reader.clone() });
        let [_, writes] = create(&reader, false).unwrap();
        object::share(&reader, writes, writer.index).unwrap();
        object::release(&reader, writes).unwrap();
        let end = || resolve::<ByteEndState>(&writer, writes).unwrap();
        let used = || writer.arena.header().unwrap().heap.used_pages();
        let before = used();
        let guard = end().state.lock.lock(&writer).unwrap();
        let mut sweep = Sweep::from_dead(reader.index, true);
        let stopped = loop {
            match sweep.step(&supervisor) {
                Ok(false) => {}
                ended => break ended,
            }
        };
        assert_eq!((stopped, used()), (Err(Errno::Busy), before));
        drop(guard);
        while !sweep.step(&supervisor).unwrap() {}
        assert_eq!(used(), 0);
        assert_eq!(write(&writer, end(), &[b"a"], 0, Deadline::NOW), Err(Errno::Pipe));
    }

    /// A write that was done in part goes on in the middle of any of its parts.
    #[test]
    fn what_is_skipped_is_skipped_once() {
        for skipped in 0..8 {
            let participant = participant(2);
            let end = |handle| resolve::<ByteEndState>(&participant, handle).unwrap();
            let [reader, writer] = create(&participant, false).unwrap();
            let parts = [&b"abc"[..], b"de", b"fgh"];
            let left = 8 - skipped as u64;
            assert_eq!(write(&participant, end(writer), &parts, skipped as u64, Deadline::NOW), Ok(left));
            let mut bytes = vec![0; left as usize];
            let copied = |count, from: &Bytes<'_>| {
                assert_eq!(count, left);
                from.read(0, &mut bytes)
            };
            assert_eq!(read(&participant, end(reader), RING, Deadline::NOW, copied), Ok(left));
            assert_eq!(bytes, &b"abcdefgh"[skipped..]);
        }
    }

    #[test]
    fn an_end_whose_other_is_closed_has_the_bytes_that_are_left_and_no_room() {
        for closes_reader in [true, false] {
            let participant = participant(2);
            let [reader, writer] = create(&participant, false).unwrap();
            let end = |handle| resolve::<ByteEndState>(&participant, handle).unwrap();
            write(&participant, end(writer), &[b"abc"], 0, Deadline::NOW).unwrap();
            let (closed, left, bytes) = if closes_reader { (reader, writer, 0) } else { (writer, reader, 3) };
            object::release(&participant, closed).unwrap();
            let found = look(&participant, end(left).state).unwrap();
            assert_eq!(found, Readiness { bytes, is_hung_up: true });
            assert!(found.is_ready(!closes_reader));
        }
    }
}
