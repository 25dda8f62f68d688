//! Connections by themselves, in turns that a test gives them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};

use super::*;
use crate::ipc::arena::{Arena, Geometry, Participant, Patience};
use crate::ipc::object;
use crate::ipc::pipe::{self, EndState};
use crate::ipc::queue::Taken;
use crate::sys::futex::Deadline;

/// A message that counts in the budget.
const LONG: usize = SMALL as usize + 1;

/// Ten of these are sent at once.
const SHORT: usize = 5000;

struct World {
    guest: Participant,
    gateway: Participant,
    guests_end: Handle,
    connection: Connection,
    peer: UnixStream,
    chores: Chores,
    now: Instant,
    held_in: u64,
    held_out: u64,
}

impl World {
    fn new() -> Self {
        let geometry = Geometry { processes_max: 1, objects_max: 8, heap_pages: 2048 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        outside::create_requests(&arena).unwrap();
        let guest = Participant { arena: arena.clone(), index: 0, patience: Patience::Brief };
        let gateway = outside::gateway(arena);
        let [guests_end, own] = outside::create_pipe(&gateway, 1 << 20).unwrap();
        object::share(&gateway, guests_end, guest.index).unwrap();
        object::release(&gateway, guests_end).unwrap();
        let (stream, peer) = Stream::pair();
        let connection = Connection::new(stream, own, 1 << 20);
        let (chores, now) = (Chores::new(), Instant::now());
        Self { guest, gateway, guests_end, connection, peer, chores, now, held_in: 0, held_out: 0 }
    }

    /// Gives the connection a turn, after its socket was found ready.
    fn work(&mut self) -> After {
        let mut turn = Turn {
            participant: &self.gateway,
            chores: &mut self.chores,
            scratch: &mut vec![0; SMALL as usize],
            now: self.now,
            message_max: 1 << 20,
            held_in: self.held_in,
            held_out: self.held_out,
        };
        self.connection.is_ready(true, true);
        let after = self.connection.work(&mut turn);
        (self.held_in, self.held_out) = (turn.held_in, turn.held_out);
        after
    }

    fn send(&self, message: &[u8]) {
        let end = object::resolve::<EndState>(&self.guest, self.guests_end).unwrap();
        pipe::send(&self.guest, end, &[message], &[], Deadline::NOW).unwrap();
    }

    /// The length of the message that the guest receives.
    fn receive(&self) -> u64 {
        let end = object::resolve::<EndState>(&self.guest, self.guests_end).unwrap();
        match pipe::recv(&self.guest, end, &mut [], Deadline::NOW).unwrap() {
            Taken::Copied(len) => len as u64,
            Taken::Bytes(bytes) => bytes.len() as u64,
            Taken::Message(message) => message.len,
        }
    }
}

/// A message as it goes over the socket.
fn frame(len: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    write_head(len as u64, &mut frame);
    frame.resize(frame.len() + len, 7);
    frame
}

#[test]
fn what_has_gone_through_is_held_no_more() {
    let mut world = World::new();
    let frame = frame(LONG);
    let (first, rest) = frame.split_at(1000);
    world.peer.write_all(first).unwrap();
    assert_eq!(world.work(), After::Waits);
    assert_eq!(world.held_in, LONG as u64, "the whole message has its room before it comes");
    world.peer.write_all(rest).unwrap();
    assert_eq!(world.work(), After::Waits);
    assert_eq!((world.receive(), world.held_in), (LONG as u64, 0));
    world.send(&[7; LONG]);
    assert_eq!(world.work(), After::Waits);
    assert_eq!(world.held_out, 0);
    let mut sent = vec![0; frame.len()];
    world.peer.read_exact(&mut sent).unwrap();
    assert_eq!(sent, frame);
}

/// Each connection could otherwise hold as much as a message may have.
#[test]
fn a_long_message_waits_while_others_hold_the_budget() {
    let mut world = World::new();
    world.held_in = BUDGET;
    world.peer.write_all(&frame(LONG)).unwrap();
    assert_eq!(world.work(), After::Waits);
    assert_eq!(world.held_in, BUDGET);
    let retry = world.now + Duration::from_secs(1000);
    assert_eq!(world.connection.due(retry), Some(retry));
    world.held_in = 0;
    assert_eq!(world.work(), After::Waits);
    assert_eq!((world.receive(), world.held_in), (LONG as u64, 0));
}

/// A connection whose guest has sent some messages and is gone, and whose socket holds less than these.
fn ended_with(messages: usize) -> World {
    let world = World::new();
    setsockopt(&world.connection, sockopt::SndBuf, &4096).unwrap();
    (0..messages).for_each(|_| world.send(&[7; SHORT]));
    object::release(&world.guest, world.guests_end).unwrap();
    world
}

#[test]
fn what_was_sent_before_the_end_goes_before_it() {
    for messages in [10, 100] {
        let mut world = ended_with(messages);
        assert_eq!(world.work(), After::Waits);
        world.peer.set_nonblocking(true).unwrap();
        let (mut come, mut after) = (0, After::Waits);
        let mut bytes = vec![0; SHORT];
        loop {
            match world.peer.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => come += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && after != After::Closed => {
                    after = world.work();
                }
                Err(error) => panic!("{after:?}: {error}"),
            }
        }
        assert_eq!((after, come), (After::Closed, messages * frame(SHORT).len()));
    }
}

#[test]
fn a_peer_that_does_not_take_the_rest_is_cut_after_the_end() {
    let mut world = ended_with(10);
    for _ in 0..2 {
        assert_eq!(world.work(), After::Waits);
    }
    world.now += LINGER;
    assert_eq!(world.work(), After::Cut);
}

#[test]
fn a_message_that_has_begun_has_its_time() {
    let mut world = World::new();
    let never = |world: &World| world.connection.due(world.now + REST * 2).is_none();
    world.now += REST * 2;
    assert_eq!(world.work(), After::Waits);
    assert!(never(&world), "a peer may say nothing for as long as it likes");
    for begun in [2, 100] {
        world.peer.write_all(&frame(500)[..begun]).unwrap();
        assert_eq!(world.work(), After::Waits);
        let by = world.connection.due(world.now + REST * 2).unwrap();
        assert!(by > world.now);
        world.peer.write_all(&frame(500)[begun..]).unwrap();
        assert_eq!(world.work(), After::Waits);
        assert!(never(&world) && world.receive() == 500);
    }
    world.peer.write_all(&frame(500)[..100]).unwrap();
    assert_eq!(world.work(), After::Waits);
    world.now = world.connection.due(world.now + REST * 2).unwrap();
    assert_eq!(world.work(), After::Cut);
}
