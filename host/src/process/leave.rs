//! How a guest process leaves the run: its children end, the process gives back what it holds, and its parent learns of the end.

use std::sync::atomic::Ordering;

use sandpool_abi::Errno;

use super::Process;
use crate::ipc::process_table::{self as table, DAEMON, ProcessHandle, ProcessState, Register, StateWord};
use crate::ipc::waiting::Waiting;
use crate::ipc::{budget, object};
use crate::sys::futex::Deadline;

impl Process {
    /// Gives back all that the process holds, says that the process has ended, and how, and wakes its parent: the rest
    /// of the end is the kernel's, and nobody needs to wait for it. If something is left for the supervisor, the
    /// supervisor says that the process has ended.
    pub(crate) fn leave(&self) {
        if self.parent.is_some()
            && self.children.started == 0
            && self.holds.keys().try_for_each(|object| object::release(self.participant(), *object)).is_ok()
            && let Ok(slot) = self.participant().slot()
            && Register::ALL.iter().all(|register| slot.register(*register).load(Ordering::Relaxed) == 0)
            && budget::give_back(self.participant(), self.participant().index).is_ok()
        {
            let leaving = |old: StateWord| {
                (old.state == ProcessState::Running)
                    .then_some(StateWord { state: ProcessState::Leaving, ..old })
            };
            if let Ok(Some(state)) =
                table::update(&self.participant().arena, self.participant().index, leaving)
            {
                self.tell_parent(state);
            }
        }
    }

    /// Wakes the parent that `state` names, if it names one.
    pub(super) fn tell_parent(&self, state: StateWord) {
        let arena = &*self.participant().arena;
        if let Ok(parent) = arena.process(u32::from(state.parent)) {
            parent.event.notify_all(arena);
        }
    }

    /// Looks after all children of a process that ends by itself. If the children wait for ever, so does the process:
    /// `interrupted` is called then.
    ///
    /// 1. The process ends its daemonic children: whatever they wait for, a signal ends them. They must not see the
    ///    next step.
    /// 2. The process gives back all that it holds, and whoever waits for that learns that its owner has gone, as at
    ///    any death: otherwise a child that waits for it, and the process that waits for that child, would wait for each
    ///    other.
    /// 3. The process waits for the other children. They themselves hold the objects that they use, so these are still
    ///    there.
    ///
    /// No guest code runs in between. If the process is killed at any instruction of this, the supervisor does the
    /// rest, as for any process that is killed: the objects that it still holds are settled, and its children are
    /// orphans.
    pub(crate) fn end_all_children(&self, interrupted: impl Fn()) {
        if self.children.started == 0 {
            return;
        }
        self.end_daemons(&[]);
        self.give_back();
        self.wait_for_children(&[], interrupted);
    }

    /// Ends all children except those in `kept`, and gives their slots back.
    pub(crate) fn forget_children(&self, kept: &[ProcessHandle], interrupted: impl Fn()) {
        self.end_children(kept, interrupted);
        for (index, state) in self.children.all() {
            let child = ProcessHandle::new(index, state.generation);
            if !kept.contains(&child) {
                let _ = self.children.close(child);
            }
        }
    }

    /// Ends the daemonic children, and waits for all children, except those in `kept`.
    fn end_children(&self, kept: &[ProcessHandle], interrupted: impl Fn()) {
        if self.children.started != 0 {
            self.end_daemons(kept);
            self.wait_for_children(kept, interrupted);
        }
    }

    /// Gives back all that the process holds, including the message in its hands. Damaged objects are left to the
    /// supervisor.
    fn give_back(&self) {
        for object in self.holds.keys() {
            let _ = object::release(self.participant(), *object);
        }
        if let Ok(slot) = self.participant().slot()
            && slot.register(Register::Incoming).load(Ordering::Relaxed) != 0
        {
            let _ = self.discard_message();
        }
    }

    /// Ends the daemonic children except those in `kept`. Nothing can hold that up.
    fn end_daemons(&self, kept: &[ProcessHandle]) {
        let arena = &*self.participant().arena;
        let mut any = false;
        for (index, _) in self.living_children(kept).filter(|(_, state)| state.flags & DAEMON != 0) {
            if let Ok(child) = arena.process(index) {
                child.wanted_signals.fetch_or(1 << nix::libc::SIGTERM, Ordering::AcqRel);
            }
            let _ = self.children.ring_for(index);
            any = true;
        }
        if let Ok(own) = self.participant().slot()
            && any
        {
            let are_left = || self.living_children(kept).any(|(_, state)| state.flags & DAEMON != 0);
            while are_left() {
                own.event.sleep_for_supervisor(|| !are_left());
            }
        }
    }

    fn wait_for_children(&self, kept: &[ProcessHandle], interrupted: impl Fn()) {
        let Ok(own) = self.participant().slot() else { return };
        let all_ended = || self.living_children(kept).next().is_none();
        while !all_ended() {
            let slept = own.event.sleep(self.participant(), Waiting::Children, Deadline::NEVER, all_ended);
            if slept == Err(Errno::Deadlock) {
                interrupted();
            }
        }
    }

    /// The living children except those in `kept`.
    fn living_children<'k>(
        &'k self,
        kept: &'k [ProcessHandle],
    ) -> impl Iterator<Item = (u32, StateWord)> + 'k {
        let is_kept = |index, state: StateWord| kept.contains(&ProcessHandle::new(index, state.generation));
        self.children.living().filter(move |(index, state)| !is_kept(*index, *state))
    }
}
