//! The scope of an object, in a pool: names that a task has given end with the task, and names of a worker with the
//! worker.
//!
//! Each process of a pool has a *scope*, which it gets from its parent: the handle of the worker, and [`OF_TASK`] in
//! the process that does a task for it. An object bears the scope of the process that made it. The object goes with its
//! last holder, or when it is found that nobody can [reach](super::collect) it; but a name holds the object as well. So
//! when all processes of a scope have ended, the names that are left of that scope are
//! [removed](super::shared::unlink_left).
//!
//! The worker's slot counts these names, so that nobody searches for names if there are none. Each worker has at most
//! its share of objects and of processes: a task that takes all it can get takes nothing from others.

use sandpool_abi::Errno;

use super::Result;
use super::arena::{Arena, Participant};
use super::layout::{ProcessSlot, ScopeSlot};
use super::lock::Guard;
use super::process_table::{self as table, ProcessHandle};
use crate::sys::atomic::{AtomicU64, Ordering, fence};

/// This bit marks the scope of a task: no index of a process is as large.
const OF_TASK: u64 = 1 << 30;

impl ScopeSlot {
    fn get(&self) -> u64 {
        self.scope.load(Ordering::Relaxed)
    }

    /// Makes the process a worker, with at most `objects_max` objects, and `processes_max` processes beside its own.
    pub(crate) fn begin(&self, worker: ProcessHandle, objects_max: u64, processes_max: u64) {
        self.objects_max.store(objects_max, Ordering::Relaxed);
        self.processes_max.store(processes_max, Ordering::Relaxed);
        self.scope.store(worker.0, Ordering::Relaxed);
    }

    /// Makes the process one that does a task for this worker.
    pub(crate) fn begin_task(&self, worker: ProcessHandle) {
        self.scope.store(worker.0 | OF_TASK, Ordering::Relaxed);
    }

    /// Whether tasks of this worker have left names.
    pub(crate) fn has_names_of_tasks(&self) -> bool {
        self.names_of_tasks.load(Ordering::Relaxed) != 0
    }

    /// Whether this worker or its tasks have left names.
    pub(crate) fn has_names(&self) -> bool {
        self.has_names_of_tasks() || self.names.load(Ordering::Relaxed) != 0
    }
}

/// The slot of a scope's worker, if there is a worker and the slot is still its own.
fn worker(arena: &Arena, scope: u64) -> Option<&ProcessSlot> {
    if scope == 0 {
        return None;
    }
    let (index, _) = table::resolve(arena, ProcessHandle(scope & !OF_TASK)).ok()?;
    arena.process(index).ok()
}

fn own(participant: &Participant) -> Result<u64> {
    Ok(participant.slot()?.scope.get())
}

fn count(guard: &Guard<'_>, word: &AtomicU64, change: impl Fn(u64, u64) -> u64) -> Result<()> {
    guard.set(word, change(word.load(Ordering::Relaxed), 1))
}

/// Marks an object that the caller makes with the caller's scope.
///
/// `NFILE` if the worker already has its share.
pub(super) fn enter(participant: &Participant, guard: &Guard<'_>, mark: &AtomicU64) -> Result<()> {
    let own = own(participant)?;
    mark.store(own, Ordering::Relaxed);
    let Some(ProcessSlot { scope, .. }) = worker(&participant.arena, own) else { return Ok(()) };
    if scope.objects.load(Ordering::Relaxed) >= scope.objects_max.load(Ordering::Relaxed) {
        return Err(Errno::Nfile);
    }
    count(guard, &scope.objects, u64::wrapping_add)
}

/// Uncounts an object of this scope that is gone.
pub(super) fn leave(arena: &Arena, guard: &Guard<'_>, scope: u64) -> Result<()> {
    let worker = worker(arena, scope);
    worker.map_or(Ok(()), |worker| count(guard, &worker.scope.objects, u64::saturating_sub))
}

/// Counts a name that an object of this scope gets, or loses.
pub(super) fn name(arena: &Arena, guard: &Guard<'_>, scope: u64, has_one: bool) -> Result<()> {
    let Some(worker) = worker(arena, scope) else { return Ok(()) };
    let ScopeSlot { names, names_of_tasks, .. } = &worker.scope;
    let names = if scope & OF_TASK == 0 { names } else { names_of_tasks };
    count(guard, names, if has_one { u64::wrapping_add } else { u64::saturating_sub })
}

/// Whether the caller finds an object of this scope by its name: other workers, and their tasks, don't find the objects
/// of a task.
pub(super) fn sees(participant: &Participant, scope: u64) -> bool {
    let is_own = |own| own == 0 || own | OF_TASK == scope;
    scope & OF_TASK == 0 || own(participant).is_ok_and(is_own)
}

/// Whether the caller may remove the name of an object of this scope: a task may remove only names of its own scope.
pub(super) fn may_unname(participant: &Participant, scope: u64) -> bool {
    own(participant).is_ok_and(|own| own & OF_TASK == 0 || own == scope)
}

/// Whether the caller's worker has more processes than its share, counting one that the caller has just reserved.
pub(crate) fn has_too_many_processes(participant: &Participant) -> Result<bool> {
    let scope = own(participant)?;
    // A worker that is gone has no share any more.
    let Some(worker) = worker(&participant.arena, scope) else { return Ok(scope != 0) };
    // Of two processes that reserve at once, one sees the other.
    fence(Ordering::SeqCst);
    let handle = ProcessHandle(scope & !OF_TASK);
    let all = processes(&participant.arena, |of| is_of(of, handle)).count() as u64;
    Ok(all > worker.scope.processes_max.load(Ordering::Relaxed).saturating_add(1))
}

/// Whether any process of these scopes has not been reaped yet.
pub(crate) fn has_process(arena: &Arena, is_meant: impl Fn(u64) -> bool) -> bool {
    processes(arena, is_meant).next().is_some()
}

fn processes(arena: &Arena, is_meant: impl Fn(u64) -> bool) -> impl Iterator<Item = u32> {
    (0..arena.geometry.processes_max).filter(move |index| {
        table::state(arena, *index).is_ok_and(|state| state.has_process())
            && arena.process(*index).is_ok_and(|slot| is_meant(slot.scope.get()))
    })
}

/// Ends the scope of a worker that has died: the scope gets no other process from now on. Returns the ids of the
/// processes that are left of it.
pub(crate) fn end_with(arena: &Arena, worker: ProcessHandle) -> Result<Vec<u32>> {
    arena.process(worker.index()?)?.scope.processes_max.store(0, Ordering::Relaxed);
    let left = processes(arena, |of| is_of(of, worker)).filter_map(|index| arena.process_id(index).ok());
    Ok(left.map(|pid| pid.load(Ordering::Acquire)).filter(|pid| *pid != 0).collect())
}

/// Whether the scope is that of a task of this worker.
pub(crate) fn is_of_task(scope: u64, worker: ProcessHandle) -> bool {
    scope == worker.0 | OF_TASK
}

/// Whether the scope is that of this worker, or of a task of it.
pub(crate) fn is_of(scope: u64, worker: ProcessHandle) -> bool {
    scope & !OF_TASK == worker.0
}
