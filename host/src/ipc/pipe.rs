//! A pipe: two ends, each an object with the [queue](super::queue) of the messages that were sent to it.
//!
//! Processes and messages hold an end as they hold any object. When nobody holds an end any more, its queue is closed
//! and emptied, so that nobody sends to it. The other end's queue is closed, so that a receiver there comes to the end
//! of it. The slot of the end stays (`GONE`) until the other end has gone as well, because the other end still looks at
//! it: [`object`](super::object) frees both together.
//!
//! A process that waits to receive can't send. So if nobody else holds the other end, no message will come, and that is
//! the end of the pipe as well. Hence a process that drops one of several holds of an end wakes the receivers at the
//! other end.
//!
//! The pipe of a connection with the outside is one whose other end the gateway holds: see [`outside`](super::outside).

use sandpool_abi::Errno;
use sandpool_abi::pipe::{DUPLEX, OUTSIDE, READABLE, WRITABLE};

use super::Result;
use super::arena::Participant;
use super::event::Event;
use super::heap;
use super::kind::{ObjectKind, ObjectState, Position, Version, Waitable};
use super::lock::Lock;
use super::object::{self, Handle, Object};
use super::process_table::Register;
use super::queue::{self, Account, Bound, Port, Taken};
pub(crate) use super::states::EndState;
use super::waiting::Waiting;
use crate::sys::atomic::Ordering;
use crate::sys::futex::Deadline;

impl ObjectState for EndState {
    fn peer(&self) -> Option<Handle> {
        Some(self.other())
    }

    fn version(&self) -> Option<Version> {
        self.inbound.version()
    }

    fn handles(
        &self,
        participant: &Participant,
        position: Option<Position>,
        each: &mut dyn FnMut(Handle),
    ) -> Result<Option<Position>> {
        self.inbound.handles(participant, position, each)
    }

    fn locks<'a>(&'a self, participant: &'a Participant) -> Result<Vec<&'a Lock>> {
        let mut locks = self.inbound.locks(participant)?;
        if let Some(peer) = other_end(participant, self)? {
            locks.extend(peer.inbound.locks(participant)?);
        }
        Ok(locks)
    }

    fn events<'a>(&'a self, participant: &'a Participant) -> Result<Vec<&'a Event>> {
        let mut events = self.inbound.events(participant)?;
        if let Some(peer) = other_end(participant, self)? {
            events.extend(peer.inbound.events(participant)?);
        }
        Ok(events)
    }

    fn recover(&self, participant: &Participant) -> Result<()> {
        self.inbound.recover(participant)?;
        if let Some(peer) = other_end(participant, self)? {
            peer.inbound.recover(participant)?;
        }
        Ok(())
    }

    /// Makes the receivers at the other end look again whether anybody is left at this one.
    fn hold_dropped(&self, participant: &Participant) -> Result<()> {
        if let Some(peer) = other_end(participant, self)? {
            peer.inbound.not_empty().notify_all(&participant.arena);
        }
        Ok(())
    }

    /// Empties the end, and tells the other end.
    fn destroy_some(&self, participant: &Participant, unused: &mut Vec<u32>) -> Result<bool> {
        // The end's own queue is closed last, so a closed own queue means that both are closed. If the other end has
        // closed it, the other end is gone.
        if !self.inbound.is_closed() {
            if let Some(peer) = other_end(participant, self)? {
                queue::shut(participant, &peer.inbound)?;
            }
            queue::shut(participant, &self.inbound)?;
        }
        self.inbound.destroy_some(participant, unused)
    }

    /// The queue from which this end receives.
    fn waitable(&self) -> Option<&dyn Waitable> {
        (self.rights() & READABLE != 0).then_some(&self.inbound)
    }

    fn waiting(&self, index: u32) -> Option<Waiting> {
        Some(Waiting::Receive(index))
    }

    fn is_of_outside(&self) -> bool {
        self.rights() & OUTSIDE != 0
    }
}

impl EndState {
    fn other(&self) -> Handle {
        Handle(self.peer.load(Ordering::Acquire))
    }

    /// The rights of the end: `READABLE` and `WRITABLE`; and whether it is one of a pipe with the outside: `OUTSIDE`.
    pub(crate) fn rights(&self) -> u32 {
        self.flags.load(Ordering::Relaxed) as u32
    }

    /// The reason why nothing more comes from the other end: it was closed, or cut.
    fn end(&self) -> Errno {
        let is_cut = self.is_of_outside() && self.finished.load(Ordering::Acquire) == 0;
        if is_cut { Errno::Connreset } else { Errno::Closed }
    }

    /// The bytes that may wait at this end.
    pub(crate) fn capacity(&self) -> u64 {
        self.inbound.bound()
    }
}

/// Makes a pipe and returns its ends.
pub(crate) fn create(participant: &Participant, capacity: u64, flags: u32) -> Result<[Handle; 2]> {
    let both = READABLE | WRITABLE;
    create_with(participant, capacity, if flags & DUPLEX != 0 { [both, both] } else { [READABLE, WRITABLE] })
}

/// Makes a pipe whose ends have these rights.
pub(super) fn create_with(participant: &Participant, capacity: u64, can: [u32; 2]) -> Result<[Handle; 2]> {
    let first = create_end(participant, capacity, can[0], Handle(0))?;
    let second = match create_end(participant, capacity, can[1], first) {
        Ok(second) => second,
        Err(error) => {
            object::release(participant, first)?;
            return Err(error);
        }
    };
    // Until here the first end has no other end.
    object::resolve::<EndState>(participant, first)?.state.peer.store(second.0, Ordering::Release);
    Ok([first, second])
}

fn create_end(participant: &Participant, capacity: u64, flags: u32, peer: Handle) -> Result<Handle> {
    let register = participant.slot()?.register(Register::Segment);
    let segment = queue::first_segment(participant)?;
    let made = object::create(participant, register, |end: &EndState| {
        end.peer.store(peer.0, Ordering::Relaxed);
        end.flags.store(u64::from(flags), Ordering::Relaxed);
        end.finished.store(0, Ordering::Relaxed);
        end.inbound.reset(Bound::Bytes(capacity), Account::Nothing, segment);
        Ok(())
    });
    if made.is_err() {
        heap::free(participant, register)?;
    }
    made
}

/// The other end of the pipe. The other end stays as long as this one does.
pub(super) fn other_end<'a>(participant: &'a Participant, end: &EndState) -> Result<Option<&'a EndState>> {
    match object::referred(participant, end.other())? {
        Some((index, peer)) if peer.kind() == Ok(ObjectKind::End) => {
            Ok(Some(object::state(&participant.arena, index)?))
        }
        _ => Ok(None),
    }
}

/// Whether no other process could send to an end.
fn is_alone(participant: &Participant, end: &EndState) -> bool {
    match object::referred(participant, end.other()) {
        Ok(Some((peer, _))) => !object::is_held_by_others(participant, peer).unwrap_or(true),
        _ => true,
    }
}

/// Sends a message, waiting for room.
///
/// `AGAIN`, `TIMEDOUT`, `MSGSIZE`, `BADF` as `put` of a queue; `PERM`, `PIPE`.
pub(crate) fn send(
    participant: &Participant,
    end: Object<'_, EndState>,
    parts: &[&[u8]],
    handles: &[Handle],
    deadline: Deadline,
) -> Result<()> {
    if end.state.rights() & WRITABLE == 0 {
        return Err(Errno::Perm);
    }
    let Some((peer, _)) = object::referred(participant, end.state.other())? else { return Err(Errno::Pipe) };
    let peer: &EndState = object::state(&participant.arena, peer)?;
    let port = Port { queue: &peer.inbound, object: end.index, waiting: Waiting::Send(end.index) };
    queue::put_parts(participant, port, parts, handles, deadline).map_err(|errno| match errno {
        Errno::Closed => Errno::Pipe,
        other => other,
    })
}

/// Receives a message, waiting for one.
///
/// `AGAIN`, `TIMEDOUT`; `PERM`; `CLOSED` when nothing will come, or `CONNRESET` if the connection with the outside was cut.
pub(crate) fn recv(
    participant: &Participant,
    end: Object<'_, EndState>,
    buffer: &mut [u8],
    deadline: Deadline,
) -> Result<Taken> {
    if end.state.rights() & READABLE == 0 {
        return Err(Errno::Perm);
    }
    let inbound = &end.state.inbound;
    let port = Port { queue: inbound, object: end.index, waiting: Waiting::Receive(end.index) };
    queue::get(participant, port, || is_alone(participant, end.state), buffer, deadline).map_err(|errno| {
        match errno {
            Errno::Closed => end.state.end(),
            other => other,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;
    use crate::ipc::object::{count_live, resolve};
    use crate::ipc::sweep::{Sweep, sweep};
    use crate::ipc::tests::common::participant;
    use crate::testing::deadline::within_deadline;

    #[test]
    fn there_are_both_ends_or_none() {
        let participant = participant(1);
        assert_eq!(create(&participant, 100, 0), Err(Errno::Nfile));
        let heap = &participant.arena.header().unwrap().heap;
        assert_eq!((count_live(&participant.arena), heap.used_pages()), (Ok(0), 0));
    }

    #[test]
    fn each_end_does_what_it_is_for() {
        let participant = participant(4);
        let end = |handle| resolve::<EndState>(&participant, handle).unwrap();
        let send = |to| send(&participant, end(to), &[b"a"], &[], Deadline::NOW);
        let recv = |from| recv(&participant, end(from), &mut [0], Deadline::NOW).map(drop);
        let [first, second] = create(&participant, 100, 0).unwrap();
        assert_eq!((send(first), recv(second)), (Err(Errno::Perm), Err(Errno::Perm)));
        assert_eq!((send(second), recv(first)), (Ok(()), Ok(())));
        let [first, second] = create(&participant, 100, DUPLEX).unwrap();
        assert_eq!((send(first), recv(second), send(second), recv(first)), (Ok(()), Ok(()), Ok(()), Ok(())));
    }

    /// Nobody else holds the other end, so nobody will send.
    #[test]
    fn who_has_both_ends_waits_for_nobody() {
        within_deadline(|| {
            let participant = participant(4);
            let [first, _second] = create(&participant, 100, 0).unwrap();
            let end = resolve::<EndState>(&participant, first).unwrap();
            assert_eq!(recv(&participant, end, &mut [0], Deadline::NEVER).err(), Some(Errno::Closed));
        });
    }

    /// A sender dies after its message is in the pipe, and before others can see that. Another process has its end as well, so that
    /// the end isn't closed.
    #[test]
    fn what_was_in_the_pipe_at_a_death_arrives() {
        let receiver = participant(4);
        let [sender, supervisor] = [1, 2].map(|index| Participant { index, ..receiver.clone() });
        let [reads, writes] = create(&receiver, 100, 0).unwrap();
        object::share(&receiver, writes, sender.index).unwrap();
        let end = resolve::<EndState>(&sender, writes).unwrap();
        send(&sender, end, &[b"a"], &[], Deadline::NOW).unwrap();
        let operation = sender.begin(end.index).unwrap();
        let inbound = &resolve::<EndState>(&receiver, reads).unwrap().state.inbound;
        let tail = inbound.locks(&receiver).unwrap().into_iter().next().unwrap();
        std::mem::forget((operation, tail.lock(&sender).unwrap()));
        for published in [&inbound.tail.published, &inbound.tail.published_bytes] {
            published.store(0, Ordering::Relaxed);
        }
        let receives = || {
            let end = resolve::<EndState>(&receiver, reads).unwrap();
            recv(&receiver, end, &mut [0], Deadline::NOW).map(drop)
        };
        assert_eq!(receives(), Err(Errno::Again));
        sweep(Sweep::from_dead(sender.index, true), &supervisor).unwrap();
        assert_eq!((receives(), receives()), (Ok(()), Err(Errno::Again)));
    }
}
