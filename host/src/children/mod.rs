//! The children of a process, as their parent has them. A guest may start processes, and the owner of a pool starts workers: this
//! is what both need for that. See [`process_table`](crate::ipc::process_table).
//!
//! A parent asks the supervisor for a child, or for a signal to one, by a request in the arena and a ring of the doorbell. All that
//! a parent learns of a child is in the child's slot, as long as the parent hasn't given that slot back.
//!
//! A guest can do more with its children: it [forks](crate::process::fork) them, and [waits](crate::process::wait) for them without
//! an end.

mod spawn;

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use sandpool_abi::Errno;
use sandpool_abi::task::Claims;

use crate::ipc::arena::Participant;
use crate::ipc::process_table::{
    self as table, DAEMON, NameBuffer, Outcome, ProcessHandle, ProcessSlot, ProcessState, StateWord,
};
use crate::ipc::{Result, tail};

/// The children of this process.
pub(crate) struct Children {
    /// The view that this process has of the arena.
    pub(crate) participant: Participant,
    /// This process.
    pub(crate) handle: ProcessHandle,
    /// `[2, 1]` is the first child of the second child of the main process.
    pub(crate) identity: Vec<u32>,
    /// The number of children that the process has started.
    pub(crate) started: u32,
    /// Wakes the supervisor.
    doorbell: OwnedFd,
}

/// Facts about a process.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) pid: u32,
    /// 0 for the main process, and if the parent isn't known.
    pub(crate) parent_pid: u32,
    pub(crate) is_daemon: bool,
    pub(crate) is_alive: bool,
    pub(crate) name: NameBuffer,
}

/// `MainProcess`, or `Process-` and the identity.
pub(crate) fn default_name(identity: impl Iterator<Item = u32>) -> NameBuffer {
    let mut name = NameBuffer::default();
    for number in identity {
        let before = if name.is_empty() { "Process-" } else { ":" };
        // Text that doesn't fit is left out, which is no error.
        let _ = write!(name, "{before}{number}");
    }
    if name.is_empty() {
        let _ = name.write_str("MainProcess");
    }
    name
}

impl Children {
    /// No children yet.
    pub(crate) fn new(participant: Participant, handle: ProcessHandle, doorbell: OwnedFd) -> Self {
        // The identity has room, so that a process that is forked later need not allocate: the kernel copies each page of the
        // heap that the process writes to.
        Self { participant, handle, identity: Vec::with_capacity(8), started: 0, doorbell }
    }

    /// Becomes the children of the process in this slot, which has none yet. Called in that process, which this one has just
    /// forked.
    #[inline]
    pub(crate) fn forked(&mut self, index: u32, handle: ProcessHandle) {
        self.handle = handle;
        self.participant.index = index;
        self.identity.push(self.started);
        self.started = 0;
    }

    /// Makes the supervisor look at a slot.
    pub(crate) fn ring_for(&self, index: u32) -> Result<()> {
        table::request(&self.participant.arena, index)?;
        // If the counter is full, the doorbell has been rung already.
        let _ = nix::unistd::write(&self.doorbell, &1_u64.to_ne_bytes());
        Ok(())
    }

    /// The slot and state of a child of this process.
    ///
    /// `BADF` if the handle names no process, `CHILD` if it names another process's child.
    fn find(&self, child: ProcessHandle) -> Result<(u32, StateWord)> {
        let (index, state) = table::resolve(&self.participant.arena, child)?;
        if self.participant.arena.process(index)?.parent() != self.handle {
            return Err(Errno::Child);
        }
        Ok((index, state))
    }

    pub(crate) fn slot(&self, child: ProcessHandle) -> Result<&ProcessSlot> {
        let (index, _) = self.find(child)?;
        self.participant.arena.process(index)
    }

    /// The slots of all children, those that have ended included.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, StateWord)> {
        table::children(&self.participant.arena, self.participant.index)
    }

    /// The slots of the children that are alive.
    pub(crate) fn living(&self) -> impl Iterator<Item = (u32, StateWord)> {
        self.all().filter(|(_, state)| state.is_alive())
    }

    /// The children that are alive.
    pub(crate) fn living_handles(&self) -> Vec<ProcessHandle> {
        self.living().map(|(index, state)| ProcessHandle::new(index, state.generation)).collect()
    }

    /// The facts that this process may know of itself and of a child.
    pub(crate) fn describe(&self, handle: ProcessHandle) -> Result<Description> {
        let arena = &*self.participant.arena;
        let (index, state) =
            if handle == self.handle { table::resolve(arena, handle)? } else { self.find(handle)? };
        let slot = arena.process(index)?;
        let running = arena.process_id(index)?.load(Ordering::Acquire);
        Ok(Description {
            pid: if running != 0 { running } else { slot.ended_pid.load(Ordering::Acquire) },
            parent_pid: slot.parent_pid.load(Ordering::Acquire),
            is_daemon: state.flags & DAEMON != 0,
            is_alive: state.is_alive(),
            name: slot.name(),
        })
    }

    /// The end of what a child has written to its stderr since its task began.
    pub(crate) fn stderr(&self, child: ProcessHandle) -> Result<Vec<u8>> {
        let (index, _) = self.find(child)?;
        tail::read(&self.participant.arena, index)
    }

    /// The claims of a child, or those that it had when it ended.
    pub(crate) fn claims(&self, child: ProcessHandle) -> Result<Claims> {
        Ok(self.slot(child)?.claims.get())
    }

    /// Makes the supervisor send a child SIGINT, SIGTERM or SIGKILL.
    pub(crate) fn signal(&self, child: ProcessHandle, signal: i32) -> Result<()> {
        if !matches!(signal, nix::libc::SIGINT | nix::libc::SIGTERM | nix::libc::SIGKILL) {
            return Err(Errno::Inval);
        }
        let (index, state) = self.find(child)?;
        if state.is_alive() {
            let wanted = &self.participant.arena.process(index)?.wanted_signals;
            wanted.fetch_or(1 << signal, Ordering::AcqRel);
            self.ring_for(index)?;
        }
        Ok(())
    }

    /// Kills a child that is at this work.
    ///
    /// `AGAIN` if the child isn't at this work.
    pub(crate) fn kill_at(&self, child: ProcessHandle, work: u64) -> Result<()> {
        if !self.slot(child)?.claims.doom(work) {
            return Err(Errno::Again);
        }
        self.signal(child, nix::libc::SIGKILL)
    }

    /// Dooms a child for this work if a child of that child does the work: the child itself kills that one, and goes
    /// on. Only a process's parent knows that the process's slot isn't another's by now.
    pub(crate) fn doom_at(&self, child: ProcessHandle, work: u64) -> Result<()> {
        let slot = self.slot(child)?;
        if !slot.claims.doom(work) {
            return Err(Errno::Again);
        }
        slot.event.notify_all(&self.participant.arena);
        Ok(())
    }

    /// Whether a child has ended.
    #[inline]
    pub(crate) fn has_ended(&self, child: ProcessHandle) -> Result<bool> {
        Ok(!self.find(child)?.1.is_alive())
    }

    /// How a child ended.
    ///
    /// `AGAIN` while the child is alive.
    #[inline]
    pub(crate) fn exit_status(&self, child: ProcessHandle) -> Result<Outcome> {
        let (index, state) = self.find(child)?;
        if state.is_alive() {
            return Err(Errno::Again);
        }
        let slot = self.participant.arena.process(index)?;
        Ok(if state.state == ProcessState::Leaving { slot.claimed() } else { slot.exit() })
    }

    /// Gives back the slot of a child that has ended.
    ///
    /// `BUSY` while the child is alive.
    pub(crate) fn close(&self, child: ProcessHandle) -> Result<()> {
        let (index, _) = self.find(child)?;
        let released = |old: StateWord| (!old.is_alive()).then(|| old.released());
        table::update(&self.participant.arena, index, released)?.map(drop).ok_or(Errno::Busy)
    }

    /// Learns how a child ended, and gives the child's slot back.
    pub(crate) fn bury(&self, child: ProcessHandle) -> Result<Outcome> {
        let outcome = self.exit_status(child)?;
        self.close(child)?;
        Ok(outcome)
    }

    /// Leaves the slot of a child to the supervisor, which frees the slot when the child ends.
    pub(crate) fn detach(&self, child: ProcessHandle) -> Result<()> {
        let (index, _) = self.find(child)?;
        table::update(&self.participant.arena, index, |old| Some(old.released()))?;
        Ok(())
    }
}
