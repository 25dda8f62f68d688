//! How a child comes to be: a slot is reserved for it, and the supervisor is asked for its process.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sandpool_abi::process::{DAEMON as FLAG_DAEMON, NOT_DAEMON as FLAG_NOT_DAEMON, TIED as FLAG_TIED};
use sandpool_abi::{Errno, NAME_MAX};

use super::{Children, default_name};
use crate::ipc::message::{self, Carry};
use crate::ipc::object::{self, Handle};
use crate::ipc::process_table::{
    self as table, DAEMON, ProcessHandle, ProcessState, Register, StateWord, TIED,
};
use crate::ipc::sweep::{Sweep, sweep};
use crate::ipc::{Result, budget, heap, scope, standby};
use crate::sys::futex::{self, monotonic};

/// How long a parent that finds no slot for a child waits for the slots of processes that are leaving. The kernel needs
/// that long to free gigabytes; a process that was stopped on its way out never leaves.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

impl Children {
    /// Reserves a slot for a child that a guest wants.
    ///
    /// `PROCS` also if the caller's worker has its share of processes. Killed processes that a task has left behind are
    /// given time to go.
    pub(crate) fn reserve(&mut self, name: &str, flags: u32) -> Result<(u32, ProcessHandle)> {
        let mut until = None;
        loop {
            let reserved = self.reserve_for_host(name, flags)?;
            if !scope::has_too_many_processes(&self.participant)? {
                return Ok(reserved);
            }
            self.started -= 1;
            table::free(&self.participant.arena, reserved.0, |_| true)?;
            let now = monotonic();
            if now >= *until.get_or_insert(now + LEAVE_PATIENCE) {
                return Err(Errno::Procs);
            }
            std::thread::yield_now();
        }
    }

    /// Reserves a slot for a child. The child's identity is the caller's and a count.
    pub(crate) fn reserve_for_host(&mut self, name: &str, flags: u32) -> Result<(u32, ProcessHandle)> {
        if name.len() > NAME_MAX {
            return Err(Errno::Nametoolong);
        }
        const EITHER: u32 = FLAG_DAEMON | FLAG_NOT_DAEMON;
        if flags & !(EITHER | FLAG_TIED) != 0 || flags & EITHER == EITHER {
            return Err(Errno::Inval);
        }
        let own = table::state(&self.participant.arena, self.participant.index)?;
        // Daemonic processes are ended at once, and must not leave others behind. A tied one may have children, because
        // they end with it.
        if own.flags & (DAEMON | TIED) == DAEMON {
            return Err(Errno::Perm);
        }
        let daemon = if flags & FLAG_DAEMON != 0 { DAEMON } else { 0 };
        let tied = if flags & FLAG_TIED != 0 { TIED } else { own.flags & TIED };
        let default;
        let name = if name.is_empty() {
            default = default_name(self.identity.iter().copied().chain([self.started + 1]));
            &*default
        } else {
            name.as_bytes()
        };
        let arena = &*self.participant.arena;
        let reserve =
            || table::reserve(arena, Some((self.participant.index, self.handle)), name, daemon | tied);
        let (index, handle) = match reserve() {
            Err(Errno::Procs) => {
                futex::spin(LEAVE_PATIENCE, || !table::is_anybody_leaving(arena));
                reserve()?
            }
            reserved => reserved?,
        };
        let pid = arena.process_id(self.participant.index)?.load(Ordering::Acquire);
        arena.process(index)?.remember_parent(self.participant.slot()?, pid);
        self.started += 1;
        Ok((index, handle))
    }

    /// Makes the supervisor start a process with fresh memory, and doesn't wait for it.
    pub(crate) fn ask_for_spawn(
        &mut self,
        name: &str,
        flags: u32,
        payload: &[u8],
        handles: &[Handle],
    ) -> Result<ProcessHandle> {
        for handle in handles {
            object::find(&self.participant, *handle)?;
        }
        let (index, child) = self.reserve(name, flags)?;
        if let Err(error) = self.spawn_reserved(index, payload, handles) {
            self.take_back(index)?;
            return Err(error);
        }
        Ok(child)
    }

    fn spawn_reserved(&self, index: u32, payload: &[u8], handles: &[Handle]) -> Result<()> {
        let arena = &*self.participant.arena;
        let own = self.participant.slot()?;
        let child = arena.process(index)?;
        for handle in handles {
            object::share(&self.participant, *handle, index)?;
        }
        let mut head = (self.identity.len() as u32 + 1).to_le_bytes().to_vec();
        self.identity.iter().chain([&self.started]).for_each(|number| head.extend(number.to_le_bytes()));
        message::compose(
            &self.participant,
            &[&head, payload],
            handles,
            Carry::Uncounted,
            own.register(Register::Outgoing),
        )?;
        heap::hand_over(
            &self.participant,
            own.register(Register::Outgoing),
            child.register(Register::Outgoing),
        )?;
        let claim = standby::claim(arena, index);
        table::update(arena, index, |old| Some(StateWord { state: ProcessState::Spawning, ..old }))?;
        if let Some(claim) = claim {
            claim.go();
        }
        // If no process stood by, the supervisor is to start one for this slot; otherwise the next to stand by.
        self.ring_for(index)
    }

    /// The reason why the supervisor couldn't start a process, if it couldn't.
    pub(crate) fn spawn_failure(&self, child: ProcessHandle) -> Result<Option<Errno>> {
        let (index, state) = self.find(child)?;
        let failure = &self.participant.arena.process(index)?.failure;
        Ok((state.state == ProcessState::Failed)
            .then(|| Errno::from_code(failure.load(Ordering::Acquire) as i32).unwrap_or(Errno::System)))
    }

    /// Gives back the slot of a child that never ran, with all that the child was to be given. Its number goes to the next
    /// child.
    pub(crate) fn take_back(&mut self, index: u32) -> Result<()> {
        self.started -= 1;
        self.discard(index)
    }

    /// Gives back the slot of a child that never ran, with all that the child was to be given. Children that were started
    /// after it keep their numbers.
    pub(crate) fn discard(&self, index: u32) -> Result<()> {
        let register = self.participant.slot()?.register(Register::Outgoing);
        for register in [register, self.participant.arena.process(index)?.register(Register::Outgoing)] {
            if register.load(Ordering::Relaxed) != 0 {
                heap::free(&self.participant, register)?;
            }
        }
        sweep(Sweep::from_unstarted(index), &self.participant)?;
        budget::give_back(&self.participant, index)?;
        table::free(&self.participant.arena, index, |_| true)?;
        Ok(())
    }
}
