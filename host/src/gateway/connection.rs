//! A connection: moves messages between a socket and the end of a pipe.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use sandpool_abi::Errno;

use super::frames::{Frames, Next, write_head};
use super::sockets::Stream;
use super::{BUDGET, LINGER, SMALL};
use crate::ipc::arena::Participant;
use crate::ipc::object::Handle;
use crate::ipc::outside::{self, Chores};

/// The most that a connection does in a turn, in each direction.
const BYTES_AT_ONCE: usize = 256 << 10;
const MESSAGES_AT_ONCE: u32 = 64;

/// How long the rest of a message may take to come, and how much longer for each part of this size that has come. A length
/// that is a lie costs no more than this time.
const REST: Duration = Duration::from_secs(30);
const REST_PART: u64 = 64 << 10;

/// The parts of the gateway that a connection uses in a turn.
pub(super) struct Turn<'a> {
    pub(super) participant: &'a Participant,
    pub(super) chores: &'a mut Chores,
    pub(super) scratch: &'a mut [u8],
    pub(super) now: Instant,
    pub(super) message_max: u64,
    /// Bytes of long messages that are coming.
    pub(super) held_in: u64,
    /// Bytes that are to be written.
    pub(super) held_out: u64,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// The gateway's end of the pipe.
    end: Handle,
    inbound: Frames,
    /// Bytes of the budget that the message which is coming has.
    reserved: u64,
    /// When the message that is coming began to come.
    rest_since: Option<Instant>,
    /// When the rest of that message has to be there.
    rest_by: Option<Instant>,
    /// Frames that are to be written, and how much of them was.
    outbound: Vec<u8>,
    written: usize,
    /// Bytes of the budget that these frames have.
    held: u64,
    is_readable: bool,
    is_writable: bool,
    /// The peer sends nothing more.
    is_at_end: bool,
    /// The guest sends nothing more, and receives nothing.
    is_abandoned: bool,
    /// When the connection ends though not all was written.
    linger_by: Option<Instant>,
    /// Whether it waits for room at the guest.
    wants_room: bool,
    /// Whether it waits for the budget, or for a guest that is in the way.
    wants_turn: bool,
}

/// The state of a connection after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The connection waits for news.
    Waits,
    /// The connection has more to do.
    More,
    /// The connection was closed in order.
    Closed,
    /// Something is lost.
    Cut,
}

impl Connection {
    pub(super) fn new(stream: Stream, end: Handle, message_max: u64) -> Self {
        Self {
            stream,
            end,
            inbound: Frames::new(message_max),
            reserved: 0,
            rest_since: None,
            rest_by: None,
            outbound: Vec::new(),
            written: 0,
            held: 0,
            is_readable: true,
            is_writable: true,
            is_at_end: false,
            is_abandoned: false,
            linger_by: None,
            wants_room: false,
            wants_turn: false,
        }
    }

    pub(super) fn is_ready(&mut self, readable: bool, writable: bool) {
        self.is_readable |= readable;
        self.is_writable |= writable;
    }

    /// Whether it waits for room at the guest.
    pub(super) fn wants_room(&self) -> bool {
        self.wants_room
    }

    /// Whether a message from the guest would be taken now, or its end be noticed.
    pub(super) fn wants_messages(&self) -> bool {
        self.outbound.is_empty() && !self.is_abandoned && !self.wants_turn
    }

    /// Whether there is room at the guest now for the message for which there was none.
    pub(super) fn has_room(&self, participant: &Participant) -> bool {
        let Ok(Next::Whole(place)) = self.inbound.next() else { return true };
        outside::has_room(participant, self.end, place.len() as u64)
    }

    /// When it has something to do though nothing happens.
    pub(super) fn due(&self, retry: Instant) -> Option<Instant> {
        let retry = self.wants_turn.then_some(retry);
        [self.rest_by, self.linger_by, retry].into_iter().flatten().min()
    }

    /// Does a part of the work.
    pub(super) fn work(&mut self, turn: &mut Turn<'_>) -> After {
        (self.wants_room, self.wants_turn) = (false, false);
        let mut more = false;
        match self.move_out(turn) {
            Ok(is_more) => more |= is_more,
            Err(Lost) => return After::Cut,
        }
        if self.is_abandoned {
            return self.end_when_written(turn);
        }
        match self.move_in(turn) {
            Ok(is_more) => more |= is_more,
            Err(Lost) => return After::Cut,
        }
        if self.is_abandoned {
            return self.end_when_written(turn);
        }
        if self.is_at_end && !more && !self.wants_room && !self.wants_turn {
            return self.end_when_written(turn);
        }
        match self.rest_by {
            Some(rest_by) if rest_by <= turn.now => After::Cut,
            _ if more => After::More,
            _ => After::Waits,
        }
    }

    /// Ends the connection once all is written, or the peer has had its time.
    fn end_when_written(&mut self, turn: &mut Turn<'_>) -> After {
        self.is_whole();
        if self.outbound.is_empty() {
            self.stream.finish(turn.scratch);
            return After::Closed;
        }
        let linger_by = *self.linger_by.get_or_insert(turn.now + LINGER);
        if linger_by <= turn.now { After::Cut } else { After::Waits }
    }

    /// Sends what the guest has sent, when the run has ended. Returns whether all was sent.
    pub(super) fn empty(&mut self, turn: &mut Turn<'_>) -> bool {
        match self.move_out(turn) {
            Ok(more) if more || !self.outbound.is_empty() => return false,
            _ => {}
        }
        self.stream.finish(turn.scratch);
        true
    }

    /// Moves messages from the guest to the socket. Returns whether there is more to be done now.
    fn move_out(&mut self, turn: &mut Turn<'_>) -> Result<bool, Lost> {
        let mut bytes = 0;
        loop {
            while self.is_writable && !self.outbound.is_empty() {
                if bytes >= BYTES_AT_ONCE {
                    return Ok(true);
                }
                let rest = self.outbound.get(self.written..).unwrap_or_default();
                let some = rest.get(..BYTES_AT_ONCE).unwrap_or(rest);
                match self.stream.write(some) {
                    Ok(count) => {
                        bytes += count;
                        self.written += count;
                        if self.written >= self.outbound.len() {
                            self.drop_outbound(turn);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_writable = false,
                    Err(_) => {
                        self.drop_outbound(turn);
                        return Err(Lost);
                    }
                }
            }
            if !self.outbound.is_empty() || self.is_abandoned {
                return Ok(false);
            }
            if turn.held_out >= BUDGET {
                self.wants_turn = true;
                return Ok(false);
            }
            if bytes >= BYTES_AT_ONCE {
                return Ok(true);
            }
            self.collect(turn)?;
            if self.outbound.is_empty() {
                return Ok(false);
            }
        }
    }

    /// Takes messages of the guest's, as many as are worth one write.
    fn collect(&mut self, turn: &mut Turn<'_>) -> Result<(), Lost> {
        for _ in 0..MESSAGES_AT_ONCE {
            let outbound = &mut self.outbound;
            let before = outbound.len();
            let taken = outside::receive(
                turn.participant,
                self.end,
                turn.chores,
                turn.scratch,
                turn.message_max,
                |len| {
                    let mut frames = std::mem::take(outbound);
                    write_head(len, &mut frames);
                    frames
                },
            );
            match taken {
                Ok(frames) => {
                    let more = (frames.len() - before) as u64;
                    turn.held_out += more;
                    self.held += more;
                    self.outbound = frames;
                    if self.outbound.len() as u64 >= SMALL {
                        break;
                    }
                }
                Err(Errno::Again) => break,
                Err(Errno::Busy) => {
                    self.wants_turn = true;
                    break;
                }
                Err(Errno::Closed) => {
                    self.is_abandoned = true;
                    break;
                }
                // A guest's own code has sent what no import sends, or the arena is damaged.
                Err(_) => return Err(Lost),
            }
        }
        Ok(())
    }

    fn drop_outbound(&mut self, turn: &mut Turn<'_>) {
        turn.held_out = turn.held_out.saturating_sub(std::mem::take(&mut self.held));
        self.outbound.clear();
        self.outbound.shrink_to(SMALL as usize * 2);
        self.written = 0;
    }

    /// Moves messages from the socket to the guest. Returns whether there is more to be done now.
    fn move_in(&mut self, turn: &mut Turn<'_>) -> Result<bool, Lost> {
        let (mut bytes, mut messages) = (0, 0);
        loop {
            if bytes >= BYTES_AT_ONCE || messages >= MESSAGES_AT_ONCE {
                return Ok(true);
            }
            let most = match self.inbound.next().map_err(|_| Lost)? {
                Next::Whole(place) => {
                    let message = self.inbound.message(&place);
                    match outside::send(turn.participant, self.end, &[message], &[]) {
                        Ok(()) => {
                            self.inbound.advance(&place);
                            self.give_back(turn);
                            self.is_whole();
                            messages += 1;
                            continue;
                        }
                        Err(Errno::Again) => self.wants_room = true,
                        Err(Errno::Nomem | Errno::Busy) => self.wants_turn = true,
                        Err(Errno::Pipe) => self.is_abandoned = true,
                        Err(_) => return Err(Lost),
                    }
                    // The peer has done its part.
                    self.is_whole();
                    return Ok(false);
                }
                Next::Part { len, missing } => {
                    if len > SMALL && self.reserved == 0 {
                        if turn.held_in > 0 && turn.held_in.saturating_add(len) > BUDGET {
                            self.wants_turn = true;
                            self.is_whole();
                            return Ok(false);
                        }
                        turn.held_in += len;
                        self.reserved = len;
                    }
                    let come = len.saturating_sub(missing as u64);
                    let since = *self.rest_since.get_or_insert(turn.now);
                    self.rest_by = Some(since + REST + Duration::from_secs(come / REST_PART));
                    missing.clamp(SMALL as usize, BYTES_AT_ONCE)
                }
                Next::Nothing { is_begun } => {
                    if is_begun {
                        let since = *self.rest_since.get_or_insert(turn.now);
                        self.rest_by = Some(since + REST);
                    }
                    SMALL as usize
                }
            };
            if self.is_at_end {
                // In the middle of a message.
                return if self.rest_by.is_some() { Err(Lost) } else { Ok(false) };
            }
            if !self.is_readable {
                return Ok(false);
            }
            let stream = &self.stream;
            match self.inbound.fill(most, |room| stream.read(room)) {
                Ok(0) => self.is_at_end = true,
                Ok(count) => bytes += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.is_readable = false,
                Err(_) => return Err(Lost),
            }
        }
    }

    /// Waits for the rest of no message.
    fn is_whole(&mut self) {
        (self.rest_since, self.rest_by) = (None, None);
    }

    fn give_back(&mut self, turn: &mut Turn<'_>) {
        turn.held_in = turn.held_in.saturating_sub(std::mem::take(&mut self.reserved));
    }

    /// Gives back what the connection has of the budgets. Returns the gateway's end of the pipe.
    pub(super) fn end(mut self, turn: &mut Turn<'_>) -> Handle {
        self.give_back(turn);
        self.drop_outbound(turn);
        self.end
    }

    /// The gateway's end of the pipe.
    pub(super) fn handle(&self) -> Handle {
        self.end
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Something of the connection is lost.
struct Lost;
