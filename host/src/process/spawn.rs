//! How a guest process spawns another, and how that one finds what it was given. See
//! [`process_table`](crate::ipc::process_table).

use std::sync::atomic::Ordering;

use sandpool_abi::Errno;

use super::{Entry, Process};
use crate::ipc::message::Message;
use crate::ipc::object::Handle;
use crate::ipc::process_table::{self as table, ProcessHandle, ProcessState, Register, StateWord};
use crate::ipc::{Result, heap};
use crate::sys::process::exit_now;

impl Process {
    /// Makes the supervisor start a process with fresh memory, and waits until that process runs.
    pub(crate) fn spawn(
        &mut self,
        name: &str,
        flags: u32,
        payload: &[u8],
        handles: &[Handle],
    ) -> Result<ProcessHandle> {
        self.stdio.flush();
        let handle = self.children.ask_for_spawn(name, flags, payload, handles)?;
        let index = handle.index()?;
        let own = self.participant().slot()?;
        let waiting = || {
            table::state(&self.participant().arena, index)
                .is_ok_and(|state| state.state == ProcessState::Spawning)
        };
        while waiting() {
            own.event.sleep_for_supervisor(|| !waiting());
        }
        if let Some(error) = self.children.spawn_failure(handle)? {
            self.children.take_back(index)?;
            return Err(error);
        }
        Ok(handle)
    }

    /// Sets up a process that the fork server just made, in that process: takes its payload and handles, and tells its
    /// parent that it runs.
    pub(crate) fn become_spawned(&mut self, index: u32, handle: ProcessHandle) -> Result<()> {
        self.children.handle = handle;
        self.children.participant.index = index;
        self.stdio.forked(self.participant());
        let arena = self.participant().arena.clone();
        let slot = arena.process(index)?;
        self.parent = Some(slot.parent());
        let spawned = table::update(&arena, index, |old| {
            (old.state == ProcessState::Spawning).then_some(StateWord { state: ProcessState::Running, ..old })
        })?;
        if let Some(state) = spawned {
            // The supervisor, when it dealt with the parent's death, found no process to kill here; from now on there
            // is one.
            if state.is_bereft() {
                exit_now(0);
            }
            self.tell_parent(state);
        }
        self.take_entry()
    }

    /// Takes the payload and handles of a process that was just spawned, in that process.
    pub(crate) fn take_entry(&mut self) -> Result<()> {
        let participant = &self.children.participant;
        let register = participant.slot()?.register(Register::Outgoing);
        let page = register.load(Ordering::Acquire);
        if page == 0 {
            return Ok(());
        }
        let message = Message::at(participant, page)?;
        let handles = message.handles(participant)?;
        let mut bytes = std::mem::take(&mut self.room);
        bytes.resize(message.len as usize, 0);
        message.read(participant, &mut bytes)?;
        heap::free(participant, register)?;
        let (count, rest) = bytes.split_first_chunk::<4>().ok_or(Errno::Io)?;
        let (identity, payload) = rest
            .split_at_checked((u32::from_le_bytes(*count) as usize).saturating_mul(4))
            .ok_or(Errno::Io)?;
        let own = &mut self.children.identity;
        own.clear();
        own.extend(identity.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number)));
        for handle in &handles {
            self.hold(*handle);
        }
        let head = bytes.len() - payload.len();
        bytes.drain(..head);
        self.entry = Some(Entry { payload: bytes, handles });
        Ok(())
    }
}
