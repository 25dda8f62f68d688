//! The arena's side of connections with the outside: what guests ask of the [gateway](crate::gateway), and the ends that it holds.
//!
//! A connection is a pipe whose one end a guest holds, and the other the gateway, which moves messages between that end and a
//! socket. So guests wait for connections, pass them on and lose them as they do any pipe. A listener is the end of such a
//! pipe as well: the messages that come there carry the ends of the connections that were accepted.
//!
//! A guest asks by a message in the queue of [requests](REQUESTS), which the gateway alone holds. The message carries the
//! gateway's end of a new pipe, and the guest learns the answer from the first message at its own end.
//!
//! The gateway never waits for a guest, and does nothing here whose length a guest determines: it destroys objects in steps,
//! as the supervisor does ([`Sweep`]). It sleeps until one of the events changes that it [watches](watch).

use std::sync::Arc;

use sandpool_abi::pipe::{OUTSIDE, READABLE, WRITABLE};
use sandpool_abi::{Errno, NAME_MAX};

use super::Result;
use super::arena::{Arena, Participant, Patience};
use super::heap;
use super::message;
use super::object::{self, Handle};
use super::pipe::{self, EndState};
use super::process_table::Register;
use super::queue::{self, Account, Port, QueueState, Taken};
use super::sweep::Sweep;
use super::waiting::Waiting;
use crate::sys::atomic::{Ordering, fence};
use crate::sys::futex::Deadline;

/// The queue of requests: the first object of an arena whose run has a gateway, and held by the gateway.
pub(crate) const REQUESTS: Handle = Handle(1 << 32 | 1);

/// Requests that may wait for the gateway.
const REQUESTS_MAX: u64 = 64;

/// The most bytes of a request.
const REQUEST_MAX: usize = 4096 + NAME_MAX;

/// The rights of both ends of a connection.
const BOTH: u32 = OUTSIDE | READABLE | WRITABLE;

/// The gateway's view of the arena.
pub(crate) fn gateway(arena: Arc<Arena>) -> Participant {
    let index = arena.geometry.gateway();
    Participant { arena, index, patience: Patience::Moment }
}

/// Makes the queue of requests, in an arena that nobody has used yet.
pub(crate) fn create_requests(arena: &Arc<Arena>) -> Result<()> {
    let made = queue::create(&gateway(arena.clone()), REQUESTS_MAX, Account::Nothing)?;
    if made == REQUESTS { Ok(()) } else { Err(Errno::Io) }
}

/// Asks the gateway for something, and returns the caller's end of the pipe by which the answer comes.
///
/// `CLOSED` if there is no gateway any more; `NFILE`, `NOMEM`; `TIMEDOUT` if too many requests wait.
pub(crate) fn ask(
    participant: &Participant,
    request: &[u8],
    capacity: u64,
    deadline: Deadline,
) -> Result<Handle> {
    let queue = object::resolve_for_host::<QueueState>(participant, REQUESTS).map_err(|_| Errno::Closed)?;
    let port = Port { queue: queue.state, object: queue.index, waiting: Waiting::Put(queue.index) };
    let [own, gateways] = pipe::create_with(participant, capacity, [BOTH, BOTH])?;
    let asked = queue::put(participant, port, request, &[gateways], deadline);
    let released = object::release(participant, gateways);
    if let Err(error) = asked.and(released) {
        object::release(participant, own)?;
        return Err(error);
    }
    Ok(own)
}

/// Waits until something has changed that the gateway watches, since `seen`.
pub(crate) fn wait_for_news(arena: &Arena, seen: &mut u32) -> Result<()> {
    let outside = &arena.header()?.outside;
    let has_news = || outside.changes() != *seen;
    while !has_news() {
        outside.sleep_for_supervisor(has_news);
    }
    *seen = outside.changes();
    Ok(())
}

/// The work of the gateway beside its turns: it gives back what it has in its hands, and destroys what nobody holds any more.
#[derive(Debug)]
pub(crate) struct Chores {
    sweep: Sweep,
    /// Ends that the gateway still holds and wants no longer.
    unwanted: Vec<Handle>,
    /// Whether all is done with the message in the gateway's hands, but for its room, which a guest kept from being freed.
    is_read: bool,
}

impl Chores {
    pub(crate) fn new() -> Self {
        Self { sweep: Sweep::from_released(), unwanted: Vec::new(), is_read: false }
    }

    /// Gives an object back, now or later.
    pub(crate) fn release(&mut self, handle: Handle) {
        self.unwanted.push(handle);
    }

    /// Does some steps. Returns whether there is more to be done; `BUSY` if a guest is in the way.
    pub(crate) fn work(&mut self, participant: &Participant, steps: u32) -> Result<bool> {
        for _ in 0..steps {
            if let Some(handle) = self.unwanted.last() {
                match object::let_go(participant, *handle) {
                    Err(Errno::Busy) => return Err(Errno::Busy),
                    let_go => self.sweep.add(let_go.ok()),
                }
                self.unwanted.pop();
            } else if self.sweep.step(participant)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A request of a guest, and the gateway's end of the pipe for its answer.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: Handle,
}

/// Takes a request; `None` if there is none, or a message that is none, as native code may have put it there.
///
/// `AGAIN` if there is none; `BUSY`.
pub(crate) fn take_request(participant: &Participant, chores: &mut Chores) -> Result<Option<Request>> {
    empty_hands(participant, chores)?;
    let queue = object::resolve::<QueueState>(participant, REQUESTS)?;
    let port = Port { queue: queue.state, object: queue.index, waiting: Waiting::Get(queue.index) };
    let Taken::Message(message) = queue::get(participant, port, || false, &mut [], Deadline::NOW)? else {
        return Ok(None);
    };
    let mut bytes = vec![0; usize::try_from(message.len).unwrap_or(usize::MAX).min(REQUEST_MAX)];
    if bytes.len() as u64 != message.len || message.handle_count != 1 {
        discard_incoming(participant, chores)?;
        return Ok(None);
    }
    message.read(participant, &mut bytes)?;
    let handles = message.handles(participant)?;
    message.arrive(participant, &handles)?;
    was_read(participant, chores)?;
    let [end] = handles[..] else { return Ok(None) };
    let is_end = object::resolve::<EndState>(participant, end).is_ok_and(|end| end.state.rights() == BOTH);
    // An object that the gateway has already would be given back twice.
    if !is_end {
        if end != REQUESTS {
            chores.release(end);
        }
        return Ok(None);
    }
    Ok(Some(Request { bytes, end }))
}

/// Frees the message in the gateway's hands, all of which has been read. If a guest is in the way, this is done later.
fn was_read(participant: &Participant, chores: &mut Chores) -> Result<()> {
    chores.is_read = true;
    match empty_hands(participant, chores) {
        Err(Errno::Busy) => Ok(()),
        done => done,
    }
}

/// Sees to it that the gateway has no message in its hands, before it takes another: a guest may have been in the way when it was
/// to give back the last.
fn empty_hands(participant: &Participant, chores: &mut Chores) -> Result<()> {
    let register = participant.slot()?.register(Register::Incoming);
    if register.load(Ordering::Relaxed) != 0 {
        if chores.is_read {
            heap::free(participant, register)?;
        } else {
            discard_incoming(participant, chores)?;
        }
    }
    chores.is_read = false;
    Ok(())
}

fn discard_incoming(participant: &Participant, chores: &mut Chores) -> Result<()> {
    let mut unused = Vec::new();
    let register = participant.slot()?.register(Register::Incoming);
    let discarded = message::discard(participant, register, &mut unused);
    chores.sweep.add(unused);
    discarded
}

/// Makes the pipe of a connection that was accepted, and returns the guest's end and the gateway's.
pub(crate) fn create_pipe(participant: &Participant, capacity: u64) -> Result<[Handle; 2]> {
    pipe::create_with(participant, capacity, [BOTH, BOTH])
}

/// Sends a message to the guest at the other end, if there is room.
///
/// `AGAIN`, `NOMEM`, `BUSY`; `PIPE` if the guest's end is closed; `MSGSIZE`.
pub(crate) fn send(
    participant: &Participant,
    end: Handle,
    parts: &[&[u8]],
    handles: &[Handle],
) -> Result<()> {
    let end = object::resolve::<EndState>(participant, end)?;
    pipe::send(participant, end, parts, handles, Deadline::NOW)
}

/// The number of messages that the guest at the other end hasn't received yet.
pub(crate) fn waiting_at_guest(participant: &Participant, end: Handle) -> Result<u64> {
    let end = object::resolve::<EndState>(participant, end)?;
    Ok(pipe::other_end(participant, end.state)?.map_or(0, |peer| peer.inbound.size()))
}

/// Receives a message from the guest: its bytes, after those that `take` returns for a message of this length.
///
/// `AGAIN`; `CLOSED` when nothing will come; `BUSY`; `INVAL` for a message that carries handles; `MSGSIZE` for one of more
/// than `max` bytes. The last two are thrown away.
pub(crate) fn receive(
    participant: &Participant,
    end: Handle,
    chores: &mut Chores,
    scratch: &mut [u8],
    max: u64,
    mut take: impl FnMut(u64) -> Vec<u8>,
) -> Result<Vec<u8>> {
    empty_hands(participant, chores)?;
    let end = object::resolve::<EndState>(participant, end)?;
    // The mark that tells a close from a cut is for the guest.
    let taken = pipe::recv(participant, end, scratch, Deadline::NOW).map_err(|errno| match errno {
        Errno::Connreset => Errno::Closed,
        other => other,
    })?;
    match taken {
        Taken::Copied(len) => {
            let mut bytes = take(len as u64);
            bytes.extend_from_slice(scratch.get(..len).ok_or(Errno::Io)?);
            Ok(bytes)
        }
        Taken::Bytes(short) => {
            let mut bytes = take(short.len() as u64);
            bytes.extend(short);
            Ok(bytes)
        }
        Taken::Message(message) => {
            if message.handle_count != 0 || message.len > max {
                let why = if message.handle_count != 0 { Errno::Inval } else { Errno::Msgsize };
                discard_incoming(participant, chores)?;
                return Err(why);
            }
            let mut bytes = take(message.len);
            let from = bytes.len();
            bytes.resize(from.saturating_add(usize::try_from(message.len).map_err(|_| Errno::Io)?), 0);
            message.read(participant, bytes.get_mut(from..).ok_or(Errno::Io)?)?;
            was_read(participant, chores)?;
            Ok(bytes)
        }
    }
}

/// Whether there is a message from the guest, or the guest's end is closed.
pub(crate) fn has_news(participant: &Participant, end: Handle) -> bool {
    object::resolve::<EndState>(participant, end).map_or(true, |end| end.state.inbound.has_news())
}

/// Whether a message of this length has room at the guest, or the guest's end is closed.
pub(crate) fn has_room(participant: &Participant, end: Handle, len: u64) -> bool {
    let Ok(end) = object::resolve::<EndState>(participant, end) else { return true };
    match pipe::other_end(participant, end.state) {
        Ok(Some(peer)) => !peer.inbound.is_full(len) || peer.inbound.is_closed(),
        _ => true,
    }
}

/// Whether a request waits.
pub(crate) fn has_requests(participant: &Participant) -> bool {
    object::resolve::<QueueState>(participant, REQUESTS).is_ok_and(|queue| queue.state.has_news())
}

/// Whether the guest's end is closed.
pub(crate) fn is_closed(participant: &Participant, end: Handle) -> bool {
    object::resolve::<EndState>(participant, end).map_or(true, |end| end.state.inbound.is_closed())
}

/// Tells the guest that the end of the messages is the end of the connection: nobody has cut it.
pub(crate) fn finish(participant: &Participant, end: Handle) {
    if let Ok(end) = object::resolve::<EndState>(participant, end)
        && let Ok(Some(peer)) = pipe::other_end(participant, end.state)
    {
        peer.finished.store(1, Ordering::Release);
    }
}

/// The ends that the gateway wants news of, and whether it wants to know of room as well.
pub(crate) fn watch(participant: &Participant, ends: impl Iterator<Item = (Handle, bool)>) {
    if let Ok(queue) = object::resolve::<QueueState>(participant, REQUESTS) {
        queue.state.not_empty().watch_from_gateway();
    }
    for (end, wants_room) in ends {
        let Ok(end) = object::resolve::<EndState>(participant, end) else { continue };
        end.state.inbound.not_empty().watch_from_gateway();
        if wants_room && let Ok(Some(peer)) = pipe::other_end(participant, end.state) {
            peer.inbound.not_full().watch_from_gateway();
        }
    }
    fence(Ordering::SeqCst);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;
    use crate::ipc::arena::Geometry;
    use crate::ipc::sweep::sweep;
    use crate::ipc::sync::event;

    fn participants() -> [Participant; 2] {
        let arena = Arc::new(
            Arena::create(Geometry { processes_max: 1, objects_max: 64, heap_pages: 256 }).unwrap().1,
        );
        create_requests(&arena).unwrap();
        [Participant { arena: arena.clone(), index: 0, patience: Patience::Brief }, gateway(arena)]
    }

    fn put(guest: &Participant, bytes: &[u8], handles: &[Handle]) {
        let queue = object::resolve_for_host::<QueueState>(guest, REQUESTS).unwrap();
        let port = Port { queue: queue.state, object: queue.index, waiting: Waiting::Put(queue.index) };
        queue::put(guest, port, bytes, handles, Deadline::NOW).unwrap();
    }

    fn is_empty(arena: &Arena) -> bool {
        object::count_live(arena) == Ok(0) && arena.header().unwrap().heap.used_pages() == 0
    }

    #[test]
    fn a_request_and_its_answer() {
        let [guest, gateway] = participants();
        let mut chores = Chores::new();
        let own = ask(&guest, b"request", 1000, Deadline::NOW).unwrap();
        let request = take_request(&gateway, &mut chores).unwrap().unwrap();
        assert_eq!(request.bytes, b"request");
        send(&gateway, request.end, &[b"answer"], &[]).unwrap();
        let end = object::resolve::<EndState>(&guest, own).unwrap();
        assert!(matches!(pipe::recv(&guest, end, &mut [0; 10], Deadline::NOW), Ok(Taken::Copied(6))));
        // The gateway is gone: that is a cut, unless it has said that it isn't.
        chores.release(request.end);
        assert_eq!(chores.work(&gateway, 64), Ok(false));
        assert_eq!(pipe::recv(&guest, end, &mut [], Deadline::NOW).unwrap_err(), Errno::Connreset);
        object::release(&guest, own).unwrap();
        chores.release(REQUESTS);
        assert_eq!(chores.work(&gateway, 64), Ok(false));
        assert!(is_empty(&guest.arena));
    }

    /// As native code may put it there.
    #[test]
    fn what_is_no_request_is_thrown_away() {
        let [guest, gateway] = participants();
        let mut chores = Chores::new();
        let event = event::create(&guest).unwrap();
        let ends = pipe::create(&guest, 1000, 0).unwrap();
        let of_outside = create_pipe(&guest, 1000).unwrap();
        put(&guest, b"", &[]);
        put(&guest, &[0; 7000], &[]);
        put(&guest, &[0; 10_000], &[of_outside[0]]);
        put(&guest, b"", &[event]);
        put(&guest, b"", &[ends[0]]);
        put(&guest, b"", &[of_outside[0], of_outside[1]]);
        for handle in [event, ends[0], ends[1], of_outside[0], of_outside[1]] {
            object::release(&guest, handle).unwrap();
        }
        for _ in 0..6 {
            assert!(take_request(&gateway, &mut chores).unwrap().is_none());
        }
        assert_eq!(take_request(&gateway, &mut chores).unwrap_err(), Errno::Again);
        chores.release(REQUESTS);
        while chores.work(&gateway, 1).unwrap() {}
        assert!(is_empty(&guest.arena));
    }

    /// As native code may put it there.
    #[test]
    fn the_gateway_keeps_its_queue_of_requests() {
        let [guest, gateway] = participants();
        let mut chores = Chores::new();
        put(&gateway, b"", &[REQUESTS]);
        assert!(take_request(&gateway, &mut chores).unwrap().is_none());
        while chores.work(&gateway, 64).unwrap() {}
        ask(&guest, b"request", 1000, Deadline::NOW).unwrap();
        assert!(take_request(&gateway, &mut chores).unwrap().is_some());
    }

    /// Between two waits, the thread that waits for news isn't asleep.
    #[test]
    fn news_are_told_also_if_nobody_is_asleep() {
        let [guest, gateway] = participants();
        let [guests, own] = create_pipe(&gateway, 1000).unwrap();
        object::share(&gateway, guests, guest.index).unwrap();
        let end = object::resolve::<EndState>(&guest, guests).unwrap();
        let outside = &guest.arena.header().unwrap().outside;
        for _ in 0..3 {
            let seen = outside.changes();
            watch(&gateway, [(own, false)].into_iter());
            pipe::send(&guest, end, &[b"news"], &[], Deadline::NOW).unwrap();
            assert_ne!(outside.changes(), seen);
        }
    }

    /// The process may have been about to tell the gateway of something.
    #[test]
    fn the_death_of_a_process_is_news() {
        let [guest, _] = participants();
        let supervisor = Participant { index: guest.arena.geometry.processes_max, ..guest.clone() };
        let outside = &guest.arena.header().unwrap().outside;
        let seen = outside.changes();
        sweep(Sweep::from_dead(guest.index, true), &supervisor).unwrap();
        assert_ne!(outside.changes(), seen);
    }

    #[test]
    fn messages_with_handles_and_long_ones_do_not_leave() {
        let [guest, gateway] = participants();
        let mut chores = Chores::new();
        let [guests, own] = create_pipe(&gateway, 100_000).unwrap();
        object::share(&gateway, guests, guest.index).unwrap();
        let event = event::create(&guest).unwrap();
        let end = object::resolve::<EndState>(&guest, guests).unwrap();
        pipe::send(&guest, end, &[b"with a handle"], &[event], Deadline::NOW).unwrap();
        pipe::send(&guest, end, &[&[1; 9000]], &[], Deadline::NOW).unwrap();
        pipe::send(&guest, end, &[&[1; 8500]], &[], Deadline::NOW).unwrap();
        object::release(&guest, event).unwrap();
        let mut next = || receive(&gateway, own, &mut chores, &mut [0; 64], 8500, |_| vec![0]);
        assert_eq!(next().unwrap_err(), Errno::Inval);
        assert_eq!(next().unwrap_err(), Errno::Msgsize);
        assert_eq!(next().unwrap().len(), 8501);
        assert_eq!(next().unwrap_err(), Errno::Again);
        object::release(&guest, guests).unwrap();
        [own, REQUESTS].into_iter().for_each(|handle| chores.release(handle));
        chores.release(guests);
        while chores.work(&gateway, 1).unwrap() {}
        assert!(is_empty(&guest.arena));
    }
}
