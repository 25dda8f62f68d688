//! The gateway's loop: each turn looks at who ends it, then at each socket and pipe, and does a bounded part of the work there.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use sandpool_abi::Errno;
use sandpool_abi::connection::{DONE, FAILED, NO_ADDRESS, NOT_GRANTED, TOO_MANY};
use sandpool_abi::pipe::CAPACITY;

use super::connection::{After, Connection, Turn};
use super::sockets::{self, Connecting, Listening, Stream};
use super::{LINGER, SMALL, Settings};
use crate::codec;
use crate::config::{AddressRefusal, Place, granted};
use crate::ipc::arena::{Arena, Participant};
use crate::ipc::object::Handle;
use crate::ipc::outside::{self, Chores, Request};
use crate::wire::Asked;

/// The most of each in one turn: steps of chores, requests, connections that one listener accepts.
const CHORES_AT_ONCE: u32 = 64;
const REQUESTS_AT_ONCE: u32 = 16;
const ACCEPTED_AT_ONCE: u32 = 16;

/// Requests and accepted connections in a second, and as many at once.
const RATE: u32 = 2000;

/// Answers that say no more than that there are too many connections. Beyond these, requests wait.
const REFUSALS_MAX: usize = 64;

/// Turns one after another that may find news and nothing to do.
const IDLE_MAX: u32 = 100;

/// How soon something is tried again that a guest, or the machine, was in the way of.
const AGAIN: Duration = Duration::from_millis(10);

/// The longest time in which a connection is made.
const CONNECT: Duration = Duration::from_secs(30);

/// The most connections that may wait for a guest at one listener.
const BACKLOG_MAX: u32 = 128;

/// Tokens of what isn't a socket of the run's.
const BELL: u64 = u64::MAX;
const SUPERVISOR: u64 = u64::MAX - 1;
const OWNER: u64 = u64::MAX - 2;

/// Something that the gateway has for a guest.
#[derive(Debug)]
struct Slot {
    /// The answer to the request, until the guest's end has it.
    answer: Option<Vec<u8>>,
    entry: Entry,
}

#[derive(Debug)]
enum Entry {
    Listener(Listener),
    Pending(Pending),
    Connection(Connection),
    /// The answer is all that there is.
    Refused(Handle),
}

#[derive(Debug)]
struct Listener {
    socket: Listening,
    end: Handle,
    backlog: u64,
    is_readable: bool,
    wants_room: bool,
    /// Not to be tried again before.
    again: Option<Instant>,
}

/// A connection that is being made.
#[derive(Debug)]
struct Pending {
    place: Place,
    /// Number of the address that is being tried.
    at: usize,
    stream: Option<Stream>,
    end: Handle,
    by: Instant,
    is_writable: bool,
    /// When to try again, because the listener's queue was full.
    again: Option<Instant>,
}

struct Gateway {
    settings: Settings,
    participant: Participant,
    epoll: Epoll,
    slots: Vec<Option<Slot>>,
    chores: Chores,
    scratch: Vec<u8>,
    held_in: u64,
    held_out: u64,
    /// Requests and connections that may be served now, and since when.
    allowance: u32,
    refilled: Instant,
    /// Whether the queue of requests makes no sense any more.
    is_deaf: bool,
    /// Whether something has ended in this turn, so that there is room for something else.
    has_freed: bool,
    /// Turns one after another that have found news and nothing to do: native code can make the arena say what it likes.
    idle: u32,
}

/// Serves a run until it has ended.
pub(super) fn run(
    participant: Participant,
    settings: Settings,
    supervisor: &OwnedFd,
    owner: &OwnedFd,
) -> anyhow::Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("cannot wait for sockets")?;
    let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let bell = Arc::new(OwnedFd::from(bell));
    for (descriptor, token) in
        [(bell.as_fd(), BELL), (supervisor.as_fd(), SUPERVISOR), (owner.as_fd(), OWNER)]
    {
        epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
    }
    listen_for_news(participant.arena.clone(), bell.clone())?;
    let mut gateway = Gateway::new(participant, settings, epoll);
    let mut events = vec![EpollEvent::empty(); 256];
    let mut timeout = EpollTimeout::ZERO;
    loop {
        let count = match gateway.epoll.wait(&mut events, timeout) {
            Err(nix::Error::EINTR) => 0,
            count => count.context("cannot wait for sockets")?,
        };
        for event in events.iter().take(count) {
            match event.data() {
                OWNER => return Ok(()),
                SUPERVISOR => {
                    // It stays ready.
                    gateway.epoll.delete(supervisor)?;
                    return gateway.empty();
                }
                BELL => {
                    let _ = nix::unistd::read(&*bell, &mut [0; 8]);
                }
                token => gateway.note(token, event.events()),
            }
        }
        timeout = gateway.turn();
    }
}

/// Starts the thread that rings the bell for each news from the arena.
fn listen_for_news(arena: Arc<Arena>, bell: Arc<OwnedFd>) -> io::Result<()> {
    thread::Builder::new().name("sandpool-news".to_owned()).stack_size(128 << 10).spawn(move || {
        let mut seen = 0;
        while outside::wait_for_news(&arena, &mut seen).is_ok() {
            let _ = nix::unistd::write(&*bell, &1_u64.to_ne_bytes());
        }
    })?;
    Ok(())
}

impl Gateway {
    fn new(participant: Participant, settings: Settings, epoll: Epoll) -> Self {
        Self {
            settings,
            participant,
            epoll,
            slots: Vec::new(),
            chores: Chores::new(),
            scratch: vec![0; SMALL as usize],
            held_in: 0,
            held_out: 0,
            allowance: RATE,
            refilled: Instant::now(),
            is_deaf: false,
            has_freed: false,
            idle: 0,
        }
    }

    /// Notes what the kernel says of a socket.
    fn note(&mut self, token: u64, events: EpollFlags) {
        let gone = EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        let readable = events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | gone);
        let writable = events.intersects(EpollFlags::EPOLLOUT | gone);
        let slot = usize::try_from(token).ok().and_then(|token| self.slots.get_mut(token));
        match slot.and_then(Option::as_mut).map(|slot| &mut slot.entry) {
            Some(Entry::Listener(listener)) => listener.is_readable |= readable,
            Some(Entry::Pending(pending)) => pending.is_writable |= writable,
            Some(Entry::Connection(connection)) => connection.is_ready(readable, writable),
            Some(Entry::Refused(_)) | None => {}
        }
    }

    /// Does a part of the work. Returns how long to wait then for anything to happen.
    fn turn(&mut self) -> EpollTimeout {
        let now = Instant::now();
        self.refill(now);
        self.has_freed = false;
        let mut more = self.take_requests(now);
        for at in 0..self.slots.len() {
            more |= self.serve(at, now);
        }
        while self.slots.pop_if(|last| last.is_none()).is_some() {}
        let mut again = None;
        match self.chores.work(&self.participant, CHORES_AT_ONCE) {
            Ok(is_more) => more |= is_more,
            Err(_) => again = Some(now + AGAIN),
        }
        if more || self.has_freed {
            self.idle = 0;
            return EpollTimeout::ZERO;
        }
        let retry = now + AGAIN;
        // The order matters: what changes after this look rings the bell.
        self.watch();
        if self.has_news() {
            self.idle = self.idle.saturating_add(1);
            if self.idle <= IDLE_MAX {
                return EpollTimeout::ZERO;
            }
            again = Some(retry);
        } else {
            self.idle = 0;
        }
        let due = self.slots.iter().flatten().filter_map(|slot| slot.due(retry)).chain(again);
        let requests = (self.allowance == 0).then_some(retry);
        match due.chain(requests).min() {
            None => EpollTimeout::NONE,
            // Rounded up: the last part of a millisecond would be spent in a busy loop.
            Some(due) => {
                let left = due.saturating_duration_since(now) + Duration::from_millis(1);
                EpollTimeout::try_from(left).unwrap_or(EpollTimeout::NONE)
            }
        }
    }

    fn refill(&mut self, now: Instant) {
        let since = now.duration_since(self.refilled).min(Duration::from_secs(1));
        let more = (since.as_secs_f64() * f64::from(RATE)) as u32;
        if more > 0 {
            self.allowance = RATE.min(self.allowance + more);
            self.refilled = now;
        }
    }

    /// Has news of each end ring the bell.
    fn watch(&self) {
        let ends = self.slots.iter().flatten().map(|slot| (slot.end(), slot.wants_room()));
        outside::watch(&self.participant, ends);
    }

    /// Whether there is something to do that came before the watch.
    fn has_news(&self) -> bool {
        let is_asked = self.allowance > 0
            && !self.is_deaf
            && self.slots.len() < self.slots_max()
            && outside::has_requests(&self.participant);
        is_asked || self.slots.iter().flatten().any(|slot| slot.has_news(&self.participant))
    }

    fn slots_max(&self) -> usize {
        self.settings.connections_max as usize + REFUSALS_MAX
    }

    /// The listeners and connections that there are.
    fn connections(&self) -> usize {
        self.slots.iter().flatten().filter(|slot| !matches!(slot.entry, Entry::Refused(_))).count()
    }

    /// Takes some requests. Returns whether there may be more.
    fn take_requests(&mut self, now: Instant) -> bool {
        for _ in 0..REQUESTS_AT_ONCE {
            if self.is_deaf || self.allowance == 0 || self.slots.len() >= self.slots_max() {
                return false;
            }
            match outside::take_request(&self.participant, &mut self.chores) {
                Ok(Some(request)) => {
                    self.allowance -= 1;
                    let slot = self.begin(request, now);
                    self.insert(slot);
                }
                Ok(None) => self.allowance -= 1,
                Err(Errno::Again) => return false,
                // The request is still there, so this is tried again.
                Err(Errno::Busy) => return false,
                // A damaged pipe of requests is of no use to anybody.
                Err(_) => {
                    self.is_deaf = true;
                    return false;
                }
            }
        }
        true
    }

    fn insert(&mut self, slot: Slot) {
        let at = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let slot = match self.register(at, &slot) {
            Ok(()) => slot,
            // The guest has a connection already, which an answer would seem to come from.
            Err(_) if slot.answer.is_none() => return self.chores.release(slot.end()),
            Err(error) => Slot::refused(slot.end(), &error),
        };
        match self.slots.get_mut(at) {
            Some(place) => *place = Some(slot),
            None => self.slots.push(Some(slot)),
        }
    }

    /// Has the kernel tell of a socket.
    fn register(&self, at: usize, slot: &Slot) -> io::Result<()> {
        let token = at as u64;
        let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        let both = readable | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP;
        let (descriptor, flags) = match &slot.entry {
            Entry::Listener(listener) => (listener.socket.as_fd(), readable),
            Entry::Pending(Pending { stream: Some(stream), .. }) => (stream.as_fd(), both),
            Entry::Connection(connection) => (connection.as_fd(), both),
            Entry::Pending(_) | Entry::Refused(_) => return Ok(()),
        };
        Ok(self.epoll.add(descriptor, EpollEvent::new(flags, token))?)
    }

    /// Begins what a guest has asked for.
    fn begin(&self, Request { bytes, end }: Request, now: Instant) -> Slot {
        let Ok(asked) = codec::decode_all::<Asked>(&bytes) else {
            return Slot::answered(Entry::Refused(end), NO_ADDRESS, 0, "");
        };
        let (grants, flag, address) = match &asked {
            Asked::Listen { address, .. } => (&self.settings.listen, "--listen", address),
            Asked::Connect { address, .. } => (&self.settings.connect, "--connect", address),
        };
        let place = match granted(grants, address, flag) {
            Ok(place) => place,
            Err(AddressRefusal::NoAddress(why)) => {
                return Slot::answered(Entry::Refused(end), NO_ADDRESS, 0, why);
            }
            Err(AddressRefusal::NotGranted(grant)) => {
                return Slot::answered(Entry::Refused(end), NOT_GRANTED, 0, &grant);
            }
        };
        if self.connections() >= self.settings.connections_max as usize {
            return Slot::answered(Entry::Refused(end), TOO_MANY, 0, "");
        }
        match asked {
            Asked::Listen { backlog, .. } => match sockets::listen_at(&place) {
                Ok(socket) => {
                    let address = socket.address().to_owned();
                    let backlog = u64::from(backlog.clamp(1, BACKLOG_MAX));
                    let listener =
                        Listener { socket, end, backlog, is_readable: true, wants_room: false, again: None };
                    Slot::answered(Entry::Listener(listener), DONE, 0, &address)
                }
                Err(error) => Slot::refused(end, &error),
            },
            Asked::Connect { timeout, .. } => {
                let by = now + Duration::from_nanos(timeout).min(CONNECT);
                let pending =
                    Pending { place, at: 0, stream: None, end, by, is_writable: false, again: None };
                self.go_on(pending)
            }
        }
    }

    /// Tries the address whose turn it is, and those after it.
    fn go_on(&self, mut pending: Pending) -> Slot {
        let addresses = match &pending.place {
            Place::Tcp(addresses) => addresses.len(),
            Place::Unix(_) | Place::Name(_) => 1,
        };
        loop {
            match sockets::begin(&pending.place, pending.at) {
                Ok(Connecting::Made(stream)) => return self.made(stream, pending.end),
                Ok(Connecting::Begun(stream)) => {
                    pending.stream = Some(stream);
                    return Slot { answer: None, entry: Entry::Pending(pending) };
                }
                Ok(Connecting::Full) => {
                    pending.again = Some(Instant::now() + AGAIN);
                    return Slot { answer: None, entry: Entry::Pending(pending) };
                }
                Err(_) if pending.at + 1 < addresses => pending.at += 1,
                Err(error) => return Slot::refused(pending.end, &error),
            }
        }
    }

    fn made(&self, stream: Stream, end: Handle) -> Slot {
        let address = stream.address();
        let connection = Connection::new(stream, end, self.settings.message_max);
        Slot::answered(Entry::Connection(connection), DONE, 0, &address)
    }

    /// Does a part of the work for one socket. Returns whether there is more.
    fn serve(&mut self, at: usize, now: Instant) -> bool {
        let Some(mut slot) = self.slots.get_mut(at).and_then(Option::take) else { return false };
        if let Some(answer) = &slot.answer {
            match outside::send(&self.participant, slot.end(), &[answer], &[]) {
                Ok(()) => slot.answer = None,
                Err(Errno::Again | Errno::Nomem | Errno::Busy) => {
                    self.put_back(at, slot);
                    return false;
                }
                Err(_) => {
                    self.release(slot.entry, now, false);
                    return false;
                }
            }
        }
        match slot.entry {
            Entry::Refused(_) => {
                self.release(slot.entry, now, true);
                false
            }
            Entry::Listener(listener) => self.accept(at, listener, now),
            Entry::Pending(pending) => self.look_at(at, pending, now),
            Entry::Connection(mut connection) => {
                let after = self.with_turn(now, |turn| connection.work(turn));
                let entry = Entry::Connection(connection);
                match after {
                    After::Waits | After::More => self.put_back(at, Slot { answer: None, entry }),
                    After::Closed => self.release(entry, now, true),
                    After::Cut => self.release(entry, now, false),
                }
                after == After::More
            }
        }
    }

    fn put_back(&mut self, at: usize, slot: Slot) {
        if let Some(place) = self.slots.get_mut(at) {
            *place = Some(slot);
        }
    }

    /// Ends something, in order or not.
    fn release(&mut self, entry: Entry, now: Instant, is_in_order: bool) {
        let end = match entry {
            Entry::Connection(connection) => self.with_turn(now, |turn| connection.end(turn)),
            entry => entry.end(),
        };
        self.has_freed = true;
        if is_in_order {
            outside::finish(&self.participant, end);
        }
        self.chores.release(end);
    }

    fn with_turn<T>(&mut self, now: Instant, work: impl FnOnce(&mut Turn<'_>) -> T) -> T {
        let mut turn = Turn {
            participant: &self.participant,
            chores: &mut self.chores,
            scratch: &mut self.scratch,
            now,
            message_max: self.settings.message_max,
            held_in: self.held_in,
            held_out: self.held_out,
        };
        let result = work(&mut turn);
        (self.held_in, self.held_out) = (turn.held_in, turn.held_out);
        result
    }

    /// Accepts some connections, and has the guest receive them. Returns whether there may be more.
    fn accept(&mut self, at: usize, mut listener: Listener, now: Instant) -> bool {
        (listener.wants_room, listener.again) = (false, None);
        let mut more = true;
        let mut accepted = Vec::new();
        for _ in 0..ACCEPTED_AT_ONCE {
            if outside::is_closed(&self.participant, listener.end) {
                self.release(Entry::Listener(listener), now, true);
                accepted.into_iter().for_each(|slot| self.insert(slot));
                return false;
            }
            let waiting = outside::waiting_at_guest(&self.participant, listener.end);
            listener.wants_room = waiting.is_ok_and(|waiting| waiting >= listener.backlog);
            // The slot of the listener itself is empty meanwhile.
            let are_too_many =
                self.connections() + accepted.len() + 1 >= self.settings.connections_max as usize;
            if !listener.is_readable || listener.wants_room || are_too_many || self.allowance == 0 {
                more = false;
                break;
            }
            match listener.socket.accept() {
                Ok((stream, peer)) => {
                    self.allowance -= 1;
                    match self.hand_over(listener.end, stream, &peer) {
                        Ok(slot) => accepted.push(slot),
                        Err(_) => listener.again = Some(now + AGAIN),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.is_readable = false,
                // The peer has gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // The machine has no room for another.
                Err(_) => {
                    listener.again = Some(now + AGAIN);
                    more = false;
                    break;
                }
            }
        }
        self.put_back(at, Slot { answer: None, entry: Entry::Listener(listener) });
        accepted.into_iter().for_each(|slot| self.insert(slot));
        more
    }

    /// Makes the pipe of a connection, and sends the guest its end. If there is no room for that, the connection is closed.
    fn hand_over(&mut self, to: Handle, stream: Stream, peer: &str) -> crate::ipc::Result<Slot> {
        let [guests, own] = outside::create_pipe(&self.participant, CAPACITY)?;
        let sent = outside::send(&self.participant, to, &[peer.as_bytes()], &[guests]);
        self.chores.release(guests);
        if let Err(error) = sent {
            self.chores.release(own);
            return Err(error);
        }
        let connection = Connection::new(stream, own, self.settings.message_max);
        Ok(Slot { answer: None, entry: Entry::Connection(connection) })
    }

    /// Looks how far a connection is that is being made. Returns whether there is more to be done.
    fn look_at(&mut self, at: usize, mut pending: Pending, now: Instant) -> bool {
        if outside::is_closed(&self.participant, pending.end) {
            self.release(Entry::Pending(pending), now, true);
            return false;
        }
        if pending.by <= now {
            let slot = Slot::refused(pending.end, &io::Error::from_raw_os_error(nix::libc::ETIMEDOUT));
            self.put_back(at, slot);
            return true;
        }
        let slot = match (&pending.stream, pending.again) {
            (Some(stream), _) if pending.is_writable => match stream.is_made() {
                Ok(()) => match pending.stream.take() {
                    Some(stream) => {
                        // It is registered already, and ready for whatever it is tried for first.
                        let slot = self.made(stream, pending.end);
                        self.put_back(at, slot);
                        return true;
                    }
                    None => return false,
                },
                Err(error) => {
                    pending.stream = None;
                    pending.is_writable = false;
                    pending.at += 1;
                    match &pending.place {
                        Place::Tcp(addresses) if pending.at < addresses.len() => self.go_on(pending),
                        _ => Slot::refused(pending.end, &error),
                    }
                }
            },
            (None, Some(again)) if again <= now => {
                pending.again = None;
                self.go_on(pending)
            }
            _ => {
                self.put_back(at, Slot { answer: None, entry: Entry::Pending(pending) });
                return false;
            }
        };
        let slot = match self.register(at, &slot) {
            Ok(()) => slot,
            Err(error) => Slot::refused(slot.end(), &error),
        };
        self.put_back(at, slot);
        true
    }

    /// Sends what guests have sent, because the run has ended.
    fn empty(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + LINGER;
        let mut left: Vec<_> = std::mem::take(&mut self.slots)
            .into_iter()
            .flatten()
            .filter_map(|slot| match slot.entry {
                Entry::Connection(connection) => Some(connection),
                _ => None,
            })
            .collect();
        let mut events = vec![EpollEvent::empty(); 256];
        loop {
            let now = Instant::now();
            left.retain_mut(|connection| {
                connection.is_ready(false, true);
                !self.with_turn(now, |turn| connection.empty(turn))
            });
            if left.is_empty() || now >= until {
                return Ok(());
            }
            let again = EpollTimeout::try_from(AGAIN).unwrap_or(EpollTimeout::ZERO);
            let count = match self.epoll.wait(&mut events, again) {
                Err(nix::Error::EINTR) => 0,
                count => count?,
            };
            if events.iter().take(count).any(|event| event.data() == OWNER) {
                return Ok(());
            }
        }
    }
}

impl Slot {
    fn answered(entry: Entry, code: u32, errno: i32, text: &str) -> Self {
        let mut answer = Vec::with_capacity(8 + text.len());
        answer.extend(code.to_le_bytes());
        answer.extend(errno.to_le_bytes());
        answer.extend(text.bytes());
        Self { answer: Some(answer), entry }
    }

    /// The answer that the operating system gives.
    fn refused(end: Handle, error: &io::Error) -> Self {
        let errno = error.raw_os_error().or_else(|| errno_of(error.kind())).unwrap_or(nix::libc::EIO);
        let text = match error.raw_os_error() {
            Some(errno) => nix::Error::from_raw(errno).desc().to_owned(),
            None => error.to_string(),
        };
        Self::answered(Entry::Refused(end), FAILED, errno, &text)
    }

    fn end(&self) -> Handle {
        self.entry.end()
    }

    fn wants_room(&self) -> bool {
        match &self.entry {
            Entry::Listener(listener) => listener.wants_room,
            Entry::Connection(connection) => connection.wants_room(),
            Entry::Pending(_) | Entry::Refused(_) => false,
        }
    }

    /// When there is something to do though nothing happens.
    fn due(&self, retry: Instant) -> Option<Instant> {
        if self.answer.is_some() {
            return Some(retry);
        }
        match &self.entry {
            Entry::Listener(listener) => listener.again,
            Entry::Pending(pending) => Some(pending.again.map_or(pending.by, |again| again.min(pending.by))),
            Entry::Connection(connection) => connection.due(retry),
            Entry::Refused(_) => Some(retry),
        }
    }

    /// Whether something has come from the guest since the slot was last served.
    fn has_news(&self, participant: &Participant) -> bool {
        match &self.entry {
            Entry::Connection(connection) => {
                let is_heard = connection.wants_messages() && outside::has_news(participant, self.end());
                is_heard || connection.wants_room() && connection.has_room(participant)
            }
            Entry::Listener(listener) => {
                let has_room = || {
                    outside::waiting_at_guest(participant, listener.end)
                        .is_ok_and(|waiting| waiting < listener.backlog)
                };
                outside::is_closed(participant, listener.end) || listener.wants_room && has_room()
            }
            Entry::Pending(_) | Entry::Refused(_) => outside::is_closed(participant, self.end()),
        }
    }
}

impl Entry {
    fn end(&self) -> Handle {
        match self {
            Self::Listener(listener) => listener.end,
            Self::Pending(pending) => pending.end,
            Self::Connection(connection) => connection.handle(),
            Self::Refused(end) => *end,
        }
    }
}

fn errno_of(kind: io::ErrorKind) -> Option<i32> {
    Some(match kind {
        io::ErrorKind::AddrInUse => nix::libc::EADDRINUSE,
        io::ErrorKind::AddrNotAvailable => nix::libc::EADDRNOTAVAIL,
        io::ErrorKind::PermissionDenied => nix::libc::EACCES,
        _ => return None,
    })
}
