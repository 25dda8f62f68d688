//! How a guest process forks. See [`process_table`](crate::ipc::process_table).

use sandpool_abi::Errno;
use sandpool_abi::process::NOT_DAEMON;

use super::Process;
use crate::ipc::process_table::{self as table, ProcessHandle, ProcessState, StateWord};
use crate::ipc::{Result, budget, object};
use crate::sys::clone::{self, Fork, Parent};
use crate::sys::process::{ORPHANED, die_with_parent, exit_now};

/// Asks for SIGKILL when the supervisor ends. If the supervisor has ended already, this process ends.
#[inline]
pub(super) fn die_with_supervisor(supervisor_pid: i32) {
    if !die_with_parent(supervisor_pid) {
        exit_now(ORPHANED);
    }
}

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forked {
    Child,
    Parent(ProcessHandle),
}

impl Process {
    /// Forks. The child is a child of the supervisor, as this process is, and goes on at this point as well.
    ///
    /// `PROCS` if the table is full; `RUNMEM` if all processes together would have too much memory; `SYSTEM` if the
    /// kernel can't fork; `PERM` if the caller is daemonic and not tied.
    #[inline(always)]
    pub(crate) fn fork(&mut self, name: &str, flags: u32) -> Result<Forked> {
        self.stdio.flush();
        let reserved = self.children.reserve(name, flags)?;
        self.fork_into(reserved)
    }

    /// Forks the process that does a task: the process gets a slot whatever other tasks have left behind.
    pub(crate) fn fork_for_host(&mut self) -> Result<Forked> {
        self.stdio.flush();
        let reserved = self.children.reserve_for_host("", NOT_DAEMON)?;
        self.fork_into(reserved)
    }

    #[inline(always)]
    fn fork_into(&mut self, (index, handle): (u32, ProcessHandle)) -> Result<Forked> {
        // The child then need not allocate.
        self.children.identity.reserve(1);
        match self.fork_reserved(index) {
            Ok(Fork::Child) => {
                self.become_child(index, handle);
                Ok(Forked::Child)
            }
            Ok(Fork::Parent(_)) => {
                self.mark_running(index)?;
                Ok(Forked::Parent(handle))
            }
            Err(error) => {
                self.children.take_back(index)?;
                Err(error)
            }
        }
    }

    #[inline]
    fn fork_reserved(&self, index: u32) -> Result<Fork> {
        // The child has as much memory as this process.
        if let Some(max) = self.limits.run_memory_max {
            budget::take(self.participant(), index, self.participant().slot()?.memory(), max)?;
        }
        // The objects are shared before the child exists: the child could run while the parent gives its objects back.
        for object in self.holds.keys() {
            object::share(self.participant(), *object, index)?;
        }
        clone::fork(Parent::CallersParent, self.participant().arena.process_id(index)?)
            .map_err(|_| Errno::System)
    }

    /// Sets up a process that was just forked from a guest, in that process.
    fn become_child(&mut self, index: u32, handle: ProcessHandle) {
        die_with_supervisor(self.supervisor_pid);
        self.parent = Some(self.handle());
        self.children.forked(index, handle);
        self.file_bytes = 0;
        self.is_host_worker = false;
        if self.command.is_some() {
            self.command = None;
        }
        self.is_mute = false;
        // Dropping `None` would still call code that a short process doesn't run otherwise.
        if self.held.is_some() {
            self.held = None;
        }
        if self.entry.is_some() {
            self.entry = None;
        }
        self.stdio.forked(self.participant());
        let _ = self.mark_running(index);
    }

    /// Both sides do this, so that it is done as soon as either runs.
    fn mark_running(&self, index: u32) -> Result<()> {
        table::update(&self.participant().arena, index, |old| {
            (old.state == ProcessState::Reserved).then_some(StateWord { state: ProcessState::Running, ..old })
        })?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use sandpool_abi::NAME_MAX;
    use sandpool_abi::process::DAEMON;

    use super::*;
    use crate::ipc::arena::Geometry;
    use crate::ipc::object::{Handle, count_live};
    use crate::ipc::queue::{self, Account};
    use crate::testing::alone::Alone;

    const OWN: u64 = 400;
    const MAX: u64 = 1000;

    /// A process that has `OWN` bytes of memory, of the `MAX` that all may have, and a queue.
    fn parent() -> (Alone, Process, Handle) {
        let alone = Alone::new(Geometry { processes_max: 2, objects_max: 8, heap_pages: 64 });
        let mut process = alone.guest().process;
        process.limits.run_memory_max = Some(MAX);
        budget::take(process.participant(), process.participant().index, OWN, MAX).unwrap();
        let queue = queue::create(process.participant(), 0, Account::Nothing).unwrap();
        process.hold(queue);
        (alone, process, queue)
    }

    /// Nothing is kept for a child that doesn't exist: no memory, no slot, no object, no number.
    fn is_as_before(process: &mut Process, queue: Handle) {
        assert_eq!(process.children.started, 0);
        let participant = process.participant().clone();
        budget::take(&participant, 1, MAX - OWN, MAX).unwrap();
        budget::give_back(&participant, 1).unwrap();
        let (index, _) = process.children.reserve("name", 0).unwrap();
        assert_eq!(index, 1);
        process.children.take_back(index).unwrap();
        process.release(queue).unwrap();
        let heap = &participant.arena.header().unwrap().heap;
        assert_eq!((count_live(&participant.arena), heap.used_pages()), (Ok(0), 0));
    }

    #[test]
    fn a_fork_for_which_the_kernel_has_no_process_keeps_nothing() {
        let (_alone, mut process, queue) = parent();
        clone::IS_AT_LIMIT.set(true);
        for _ in 0..100 {
            assert_eq!(process.fork("child", 0), Err(Errno::System));
            assert_eq!(process.fork_for_host(), Err(Errno::System));
        }
        clone::IS_AT_LIMIT.set(false);
        is_as_before(&mut process, queue);
    }

    #[test]
    fn a_fork_for_which_there_is_no_memory_keeps_nothing() {
        let (_alone, mut process, queue) = parent();
        budget::take(process.participant(), process.participant().index, OWN, MAX).unwrap();
        // A fork, if it were tried, would fail with another error.
        clone::IS_AT_LIMIT.set(true);
        for _ in 0..100 {
            assert_eq!(process.fork("child", 0), Err(Errno::Runmem));
        }
        clone::IS_AT_LIMIT.set(false);
        budget::give_back(process.participant(), process.participant().index).unwrap();
        budget::take(process.participant(), process.participant().index, OWN, MAX).unwrap();
        is_as_before(&mut process, queue);
    }

    #[test]
    fn what_a_child_must_not_be_called_or_be_is_refused() {
        let (_alone, mut process, queue) = parent();
        clone::IS_AT_LIMIT.set(true);
        let long = "x".repeat(NAME_MAX + 1);
        assert_eq!(process.fork(&long, 0), Err(Errno::Nametoolong));
        for flags in [DAEMON | NOT_DAEMON, 1 << 31, u32::MAX] {
            assert_eq!(process.fork("child", flags), Err(Errno::Inval), "{flags}");
        }
        assert_eq!(process.spawn("child", 0, b"", &[Handle(7)]).map(drop), Err(Errno::Badf));
        clone::IS_AT_LIMIT.set(false);
        is_as_before(&mut process, queue);
    }
}
