//! The gateway's turns, with sockets of this machine.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockname, listen, socket,
};

use super::*;
use crate::ipc::arena::{Geometry, Patience};
use crate::ipc::object;
use crate::ipc::pipe::{self, EndState};
use crate::ipc::queue::Taken;
use crate::sys::futex::Deadline;
use crate::testing::deadline::within_deadline;

fn gateway(connections_max: u32) -> (Participant, Gateway) {
    let geometry = Geometry { processes_max: 1, objects_max: 64, heap_pages: 256 };
    let arena = Arc::new(Arena::create(geometry).unwrap().1);
    outside::create_requests(&arena).unwrap();
    let guest = Participant { arena: arena.clone(), index: 0, patience: Patience::Brief };
    let settings = Settings {
        listen: Vec::new(),
        connect: Vec::new(),
        connections_max,
        message_max: 1 << 20,
        processes_max: geometry.processes_max,
        objects_max: geometry.objects_max,
        heap_pages: geometry.heap_pages,
    };
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let gateway = Gateway::new(outside::gateway(arena), settings, epoll);
    (guest, gateway)
}

/// The two ends of a pipe between a guest and the gateway: the guest's first.
fn ends(guest: &Participant, gateway: &Gateway) -> [Handle; 2] {
    let [guests, own] = outside::create_pipe(&gateway.participant, CAPACITY).unwrap();
    object::share(&gateway.participant, guests, guest.index).unwrap();
    object::release(&gateway.participant, guests).unwrap();
    [guests, own]
}

/// Gives the gateway turns until this holds.
fn until(gateway: &mut Gateway, is_done: impl Fn(&Gateway) -> bool) {
    within_deadline(|| {
        let mut events = vec![EpollEvent::empty(); 64];
        loop {
            gateway.turn();
            if is_done(gateway) {
                return;
            }
            let count = gateway.epoll.wait(&mut events, EpollTimeout::from(1_u8)).unwrap();
            events.iter().take(count).for_each(|event| gateway.note(event.data(), event.events()));
        }
    });
}

/// The code and the errno that the guest is answered.
fn answer(guest: &Participant, end: Handle) -> Option<(u32, i32)> {
    let end = object::resolve::<EndState>(guest, end).unwrap();
    let mut bytes = [0; 1000];
    match pipe::recv(guest, end, &mut bytes, Deadline::NOW) {
        Ok(Taken::Copied(len)) => {
            let (code, rest) = bytes[..len].split_first_chunk().unwrap();
            let (errno, _) = rest.split_first_chunk().unwrap();
            Some((u32::from_le_bytes(*code), i32::from_le_bytes(*errno)))
        }
        Err(Errno::Again) => None,
        other => panic!("{other:?}"),
    }
}

fn pending(addresses: &[SocketAddr], end: Handle) -> Pending {
    let by = Instant::now() + CONNECT;
    let place = Place::Tcp(addresses.to_vec());
    Pending { place, at: 0, stream: None, end, by, is_writable: false, again: None }
}

/// An address where nobody listens.
fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An address that answers nobody, as long as these live: a listener, and connections that fill its queue.
fn silent() -> (SocketAddr, OwnedFd, Vec<Stream>) {
    let listener = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let any = SockaddrStorage::from(SocketAddr::from(([127, 0, 0, 1], 0)));
    bind(std::os::fd::AsRawFd::as_raw_fd(&listener), &any).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let bound: SockaddrStorage = getsockname(std::os::fd::AsRawFd::as_raw_fd(&listener)).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], bound.as_sockaddr_in().unwrap().port()));
    let mut waiting = Vec::new();
    loop {
        match sockets::begin(&Place::Tcp(vec![address]), 0).unwrap() {
            Connecting::Made(stream) => waiting.push(stream),
            Connecting::Begun(stream) => {
                waiting.push(stream);
                return (address, listener, waiting);
            }
            Connecting::Full => panic!("TCP has no such answer"),
        }
    }
}

#[test]
fn the_next_address_is_tried_if_one_refuses() {
    let open = TcpListener::bind("127.0.0.1:0").unwrap();
    // The kernel refuses to connect to all at once.
    let unreachable = SocketAddr::from(([255; 4], 1));
    for (fails_later, next, code) in [
        (false, open.local_addr().unwrap(), DONE),
        (true, open.local_addr().unwrap(), DONE),
        (true, refusing(), FAILED),
    ] {
        let (guest, mut gateway) = gateway(8);
        let [guests, own] = ends(&guest, &gateway);
        let mut pending = pending(&[unreachable, next], own);
        let slot = if fails_later {
            (pending.stream, pending.is_writable) = (Some(Stream::reset()), true);
            Slot { answer: None, entry: Entry::Pending(pending) }
        } else {
            gateway.go_on(pending)
        };
        gateway.insert(slot);
        until(&mut gateway, |gateway| {
            gateway.slots.iter().flatten().all(|slot| slot.answer.is_none()) && !is_pending(gateway)
        });
        assert_eq!(answer(&guest, guests).map(|(code, _)| code), Some(code), "{fails_later}");
    }
}

fn is_pending(gateway: &Gateway) -> bool {
    gateway.slots.iter().flatten().any(|slot| matches!(slot.entry, Entry::Pending(_)))
}

/// Whatever was known of the address before is not known of the next.
#[test]
fn a_connection_to_the_next_address_is_made_when_that_answers() {
    let (guest, mut gateway) = gateway(8);
    let [guests, own] = ends(&guest, &gateway);
    let (address, _listener, _waiting) = silent();
    let mut pending = pending(&[refusing(), address], own);
    (pending.stream, pending.is_writable) = (Some(Stream::reset()), true);
    gateway.insert(Slot { answer: None, entry: Entry::Pending(pending) });
    for _ in 0..3 {
        gateway.turn();
        assert!(is_pending(&gateway));
        assert_eq!(answer(&guest, guests), None);
    }
}

#[test]
fn a_connection_that_takes_too_long_is_refused() {
    let (guest, mut gateway) = gateway(8);
    let [guests, own] = ends(&guest, &gateway);
    let (address, _listener, _waiting) = silent();
    let slot = gateway.go_on(Pending { by: Instant::now(), ..pending(&[address], own) });
    gateway.insert(slot);
    until(&mut gateway, |gateway| gateway.slots.is_empty());
    assert_eq!(answer(&guest, guests), Some((FAILED, nix::libc::ETIMEDOUT)));
}

#[test]
fn a_connection_that_nobody_wants_any_more_is_not_made() {
    let (guest, mut gateway) = gateway(8);
    let [guests, own] = ends(&guest, &gateway);
    let (address, _listener, _waiting) = silent();
    let slot = gateway.go_on(pending(&[address], own));
    gateway.insert(slot);
    gateway.turn();
    assert!(is_pending(&gateway));
    object::release(&guest, guests).unwrap();
    gateway.turn();
    assert!(gateway.slots.is_empty());
}

/// A listener of the guest, and its address.
fn listening(guest: &Participant, gateway: &mut Gateway, backlog: u64) -> (Handle, SocketAddr) {
    let [guests, end] = ends(guest, gateway);
    let socket = sockets::listen_at(&Place::Tcp(vec![SocketAddr::from(([127, 0, 0, 1], 0))])).unwrap();
    let address = socket.address().strip_prefix("tcp:").unwrap().parse().unwrap();
    let listener = Listener { socket, end, backlog, is_readable: true, wants_room: false, again: None };
    gateway.insert(Slot { answer: None, entry: Entry::Listener(listener) });
    (guests, address)
}

#[test]
fn those_who_come_together_are_no_more_than_there_may_be() {
    let (guest, mut gateway) = gateway(4);
    let (_guests, address) = listening(&guest, &mut gateway, 100);
    let _peers: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
    until(&mut gateway, |gateway| gateway.connections() >= 4);
    for _ in 0..3 {
        gateway.turn();
        assert_eq!(gateway.connections(), 4, "the listener is one of them");
    }
}

#[test]
fn no_more_wait_at_the_guest_than_it_has_asked_for() {
    for backlog in 1..4 {
        let (guest, mut gateway) = gateway(20);
        let (_guests, address) = listening(&guest, &mut gateway, backlog);
        let _peers: Vec<_> = (0..10).map(|_| TcpStream::connect(address).unwrap()).collect();
        let end = gateway.slots.iter().flatten().next().unwrap().end();
        let waiting = |gateway: &Gateway| outside::waiting_at_guest(&gateway.participant, end).unwrap();
        until(&mut gateway, |gateway| waiting(gateway) >= backlog);
        for _ in 0..3 {
            gateway.turn();
            assert_eq!(waiting(&gateway), backlog);
        }
    }
}
