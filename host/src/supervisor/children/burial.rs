//! The burial of processes that have ended: the report, the sweep, the children, and the news for the relatives.

use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::Signal;
use sandpool_abi::Errno;
use sandpool_abi::process::{EXITED, ExitStatus, FORBIDDEN, LIMITED, Limit, SIGNALED, TRAPPED};

use super::{Burial, Children, Left, STEPS_AT_ONCE, Stage};
use crate::config::{LimitKey, Limits, Role};
use crate::control::{REPORTS_MAX, Report};
use crate::ipc::process_table::{
    self as table, NO_PARENT, Outcome, ProcessHandle, ProcessSlot, ProcessState, RELEASED, Register,
    StateWord,
};
use crate::ipc::sweep::Sweep;
use crate::ipc::{budget, heap, scope, standby};
use crate::process::exit::TRAP_CODE;
use crate::supervisor::kin::send;
use crate::sys::futex::nanos_now;
use crate::sys::process::{End, Reaped};

/// The most `BUSY` burials that a turn tries. Each takes a while to find out that it is busy.
const BUSY_AT_ONCE: usize = 4;
/// Slots that a step searches for children.
const SLOTS_AT_ONCE: u32 = 1024;

impl Children {
    /// Does some steps of the cleanup after processes that have ended, in turns: a process that has left much to clean up doesn't
    /// delay the others.
    pub(super) fn bury_some(&mut self) -> Left {
        let mut busy = 0;
        for _ in 0..STEPS_AT_ONCE {
            let Some(mut burial) = self.burials.pop_front() else { return Left::Nothing };
            match self.go_on_with(&mut burial) {
                Ok(true) => self.finish(burial),
                Ok(false) => self.burials.push_back(burial),
                Err(Errno::Busy) => {
                    self.burials.push_back(burial);
                    busy += 1;
                    if busy >= BUSY_AT_ONCE.min(self.burials.len()) {
                        return Left::Busy;
                    }
                }
                // Damaged data of one process is no reason to leave the rest.
                Err(_) => self.finish(burial),
            }
        }
        if self.burials.is_empty() { Left::Nothing } else { Left::More }
    }

    /// Records the report of a process that has ended.
    pub(super) fn record(&mut self, index: u32, reaped: &Reaped) {
        self.processes += 1;
        self.peak_memory = self.peak_memory.max(reaped.peak_memory);
        self.timers.ended(reaped.pid.unsigned_abs(), reaped.cpu);
        let Ok(slot) = self.image.arena.process(index) else { return };
        let claimed = slot.claimed();
        let pid = reaped.pid.unsigned_abs();
        let over =
            self.over.iter().position(|(known, _)| *known == pid).map(|at| self.over.swap_remove(at).1);
        let asked_to_end = self.asked_to_end.remove(&pid);
        let has_left =
            table::state(&self.image.arena, index).is_ok_and(|state| state.state == ProcessState::Leaving);
        let outcome = match reaped.end {
            // The process's parent knows the reason by then.
            End::Signaled(libc::SIGKILL)
                if has_left && matches!(claimed.kind, EXITED | TRAPPED | LIMITED) =>
            {
                claimed
            }
            End::Signaled(libc::SIGKILL) if let Some(limit) = over => Outcome::limited(limit),
            End::Signaled(libc::SIGKILL) if let Some(signal) = asked_to_end => {
                Outcome::new(SIGNALED, (signal as i32).unsigned_abs())
            }
            End::Signaled(libc::SIGKILL) if let Some(outcome) = self.ended_by => outcome,
            // The kernel's limit is coarse, and above the supervisor's.
            End::Signaled(libc::SIGXCPU) if let Some(time) = self.image.config.sandbox.limits.cpu_time => {
                Outcome::limited(Limit::CpuTime(time))
            }
            End::Signaled(libc::SIGSYS) if self.ended_by.is_none() => Outcome::new(FORBIDDEN, 0),
            End::Signaled(signal) => Outcome::new(SIGNALED, signal.unsigned_abs()),
            End::Exited(code)
                if i32::from(code) == TRAP_CODE && matches!(claimed.kind, TRAPPED | LIMITED) =>
            {
                claimed
            }
            End::Exited(code) => Outcome::new(EXITED, u32::from(code)),
        };
        if !has_left {
            slot.cpu.store(u64::try_from(reaped.cpu.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
        slot.record_exit(outcome);
        // The process id may be another's from now on.
        slot.ended_pid.store(pid, Ordering::Relaxed);
        if let Ok(cell) = self.image.arena.process_id(index) {
            cell.store(0, Ordering::Release);
        }
        self.end_scope(index);
        if index == self.main {
            self.main_pid = None;
            self.main_outcome.get_or_insert(outcome);
        }
        if self.reports.len() < REPORTS_MAX || index == self.main {
            let nanos = nanos_now().saturating_sub(slot.started.load(Ordering::Relaxed));
            self.reports.truncate(REPORTS_MAX - 1);
            self.reports.push(Report {
                name: String::from_utf8_lossy(&slot.name()).into_owned(),
                pid,
                outcome,
                wall: Duration::from_nanos(nanos),
                cpu: reaped.cpu,
                peak_memory: reaped.peak_memory,
                refused: refusals(slot, &self.image.config.sandbox.limits),
            });
        }
        if let Some(ExitStatus::Limited(limit)) = outcome.status()
            && limit.ends_the_run()
        {
            self.end_by(outcome);
        }
    }

    /// Does a step of a burial. Returns whether it was the last.
    fn go_on_with(&self, burial: &mut Burial) -> Result<bool, Errno> {
        let arena = &*self.image.arena;
        match &mut burial.stage {
            Stage::Sweep(sweep) => {
                if sweep.step(&self.participant)? {
                    burial.stage = Stage::Children(0, None);
                }
            }
            Stage::Children(_, child @ Some(_)) => {
                if let Some((index, sweep)) = child
                    && sweep.step(&self.participant)?
                {
                    table::free(arena, *index, |_| true)?;
                    *child = None;
                }
            }
            Stage::Children(from, child) => {
                let max = arena.geometry.processes_max;
                let until = from.saturating_add(SLOTS_AT_ONCE).min(max);
                while *from < until {
                    let index = *from;
                    if let Some(sweep) = self.see_to_child(burial.index, index)? {
                        *child = Some((index, sweep));
                    } else if let Some(orphan) = self.leave_orphan(burial.index, index) {
                        // This must happen now, while the slot is still the orphan's.
                        if orphan.is_bereft()
                            && let Ok(pid) = arena.process_id(index)
                        {
                            send(pid.load(Ordering::Acquire), Signal::SIGKILL);
                        }
                        burial.orphans.push(index);
                    }
                    *from += 1;
                    if child.is_some() {
                        break;
                    }
                }
                return Ok(*from == max && child.is_none());
            }
        }
        Ok(false)
    }

    /// Returns the holds of a child's slot if the slot is to be given back: the child has ended, or its parent died before it could
    /// start.
    fn see_to_child(&self, parent: u32, child: u32) -> Result<Option<Sweep>, Errno> {
        let arena = &*self.image.arena;
        let state = table::state(arena, child)?;
        if state.state == ProcessState::Free || u32::from(state.parent) != parent {
            return Ok(None);
        }
        let is_going = standby::abandon(arena, child);
        if self.has_process(child) || state.is_alive() && (is_going || self.is_to_have_one(child, state)) {
            return Ok(None);
        }
        let register = arena.process(child)?.register(Register::Outgoing);
        if register.load(Ordering::Acquire) != 0
            && heap::free(&self.participant, register) == Err(Errno::Busy)
        {
            return Err(Errno::Busy);
        }
        match budget::give_back(&self.participant, child) {
            Err(Errno::Busy) => Err(Errno::Busy),
            Ok(()) | Err(_) => Ok(Some(Sweep::from_unstarted(child))),
        }
    }

    /// Kills, with a worker of a pool, everything that its tasks have started, and their descendants. Killing one generation after
    /// the other would be slower than they fork.
    fn end_scope(&self, index: u32) {
        let arena = &*self.image.arena;
        if self.image.config.role == Role::Pool
            && let Ok(state) = table::state(arena, index)
            && u32::from(state.parent) == self.main
        {
            let pids =
                scope::end_with(arena, ProcessHandle::new(index, state.generation)).unwrap_or_default();
            pids.into_iter().for_each(|pid| send(pid, Signal::SIGKILL));
        }
    }

    /// Finishes the burial of a process: tells its relatives.
    fn finish(&mut self, burial: Burial) {
        let Burial { index, orphans, .. } = burial;
        self.buried.remove(&index);
        let arena = self.image.arena.clone();
        self.end_scope(index);
        if self.image.config.role == Role::Pool {
            // Nobody waits for processes that a task has started which is gone; and a child that does a worker's task must not come
            // to its end when the worker's slot is another's.
            for pid in orphans.iter().filter_map(|orphan| arena.process_id(*orphan).ok()) {
                send(pid.load(Ordering::Acquire), Signal::SIGKILL);
            }
        }
        let parent = table::state(&arena, index).map_or(NO_PARENT, |state| state.parent);
        let ended = |old: StateWord| {
            let is_released = old.flags & RELEASED != 0;
            Some(if is_released { old.free() } else { StateWord { state: ProcessState::Exited, ..old } })
        };
        let _ = table::update(&arena, index, ended);
        // This comes after the end is visible: a relative that is told looks only once.
        orphans.into_iter().chain([u32::from(parent)]).for_each(|index| self.tell(index));
    }

    /// Notes that a process has ended, and that nobody will ask about this child of it, if it is one.
    fn leave_orphan(&self, parent: u32, child: u32) -> Option<StateWord> {
        let arena = &*self.image.arena;
        let orphan = |old: StateWord| {
            let is_one = old.has_process() && u32::from(old.parent) == parent;
            is_one.then(|| StateWord { parent: NO_PARENT, ..old.released() })
        };
        table::update(arena, child, orphan).ok().flatten()
    }

    /// Tells a process that something has changed. A dead process may have noted the wake-up without doing it, so the process is
    /// woken in any case.
    pub(super) fn tell(&self, index: u32) {
        if index < self.image.arena.geometry.processes_max
            && let Ok(slot) = self.image.arena.process(index)
        {
            slot.event.wake_all(&self.image.arena);
        }
    }
}

/// Limits that refused a process something, and how often. Entries that only the process could have made up are left out.
fn refusals(slot: &ProcessSlot, limits: &Limits) -> Vec<(u32, u64, u32)> {
    let all = LimitKey::ALL
        .iter()
        .filter_map(|key| Limit::code_of(key.name))
        .map(|code| (code, slot.refusals(code)));
    let figure = |code| limits.by_code(code).map(Limit::figure);
    all.filter(|(_, times)| *times > 0)
        .filter_map(|(code, times)| Some((code, figure(code)?, times)))
        .collect()
}
