//! All guest processes of a run: started, signalled, reaped, and swept up behind.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use sandpool_abi::process::{DEADLOCKED, EXITED, ExitStatus, FORBIDDEN, LIMITED, Limit, SIGNALED, TRAPPED};

use super::control::{Ended, REPORTS_MAX, Report, Role};
use super::fork_server::{self, ForkServer};
use super::proc::Proc;
use super::timers::{Over, Timers};
use crate::ipc::arena::{Member, Patience};
use crate::ipc::process_table::{
    self as table, NO_PARENT, Outcome, ProcessHandle, ProcessSlot, RELEASED, Register, State, StateWord,
};
use crate::ipc::{budget, heap, object, standby, sweep};
use crate::jail::control_group::ControlGroup;
use crate::limits::{LimitKey, Limits};
use crate::process::boot::{self, Image};
use crate::process::exit::TRAP_CODE;
use crate::process::family::default_name;
use crate::sys::atomic::AtomicU32;
use crate::sys::clone::{self, Fork, Parent};
use crate::sys::process::{End, Reaped, reap};

pub(crate) struct Children {
    image: Image,
    /// What they are born into.
    group: Option<ControlGroup>,
    /// The supervisor, as one who uses the arena.
    member: Member,
    /// The main guest; in a pool, the owner.
    main: u32,
    main_outcome: Option<Outcome>,
    /// What all processes have died of that were killed when the run was ended.
    ended_by: Option<Outcome>,
    timers: Timers,
    /// Processes that were killed because they were over a limit.
    over: Vec<(u32, Limit)>,
    begun: Instant,
    processes: u64,
    peak_memory: u64,
    reports: Vec<Report>,
    /// Reaped, but a guest held a lock for too long to sweep behind them.
    unswept: Vec<(u32, Reaped)>,
    fork_server: Spawner,
}

/// Who forks processes with fresh memory.
enum Spawner {
    /// The supervisor, for now: there is no fork server before one is needed.
    Later,
    Server(ForkServer),
    /// The supervisor.
    None,
}

impl Children {
    /// Starts the main guest. A pool has none: there, its owner has that slot.
    pub(crate) fn start(image: Image, group: Option<ControlGroup>) -> io::Result<Self> {
        let arena = &*image.arena;
        let (main, handle) =
            table::reserve(arena, None, &default_name(std::iter::empty()), 0).map_err(io::Error::other)?;
        let timers = Timers::new(&image.config.limits, arena.geometry.processes_max);
        let member = Member {
            arena: image.arena.clone(),
            index: arena.geometry.processes_max,
            patience: Patience::Brief,
        };
        let can_fork = image.jail_grants_fork && image.config.role == Role::Program;
        let mut children = Self {
            fork_server: if can_fork { Spawner::Later } else { Spawner::None },
            image,
            group,
            member,
            main,
            main_outcome: None,
            ended_by: None,
            timers,
            over: Vec::new(),
            begun: Instant::now(),
            processes: 0,
            peak_memory: 0,
            reports: Vec::new(),
            unswept: Vec::new(),
        };
        match children.image.config.role {
            Role::Program => children.fork_into(main, handle)?,
            Role::Pool => children.mark_running(main)?,
        }
        Ok(children)
    }

    /// Forks the guest process of a slot.
    fn fork_into(&mut self, index: u32, handle: ProcessHandle) -> io::Result<()> {
        let pid = self.image.arena.process_id(index).map_err(io::Error::other)?;
        match self.fork(pid)? {
            Fork::Child => boot::run(&self.image, index, handle),
            Fork::Parent(_) => self.mark_running(index),
        }
    }

    fn fork(&self, pid: &AtomicU32) -> io::Result<Fork> {
        match &self.group {
            Some(group) => clone::fork_into(group.directory(), pid),
            None => clone::fork(Parent::Caller, pid),
        }
    }

    fn mark_running(&self, index: u32) -> io::Result<()> {
        let running = |old: StateWord| old.is_alive().then_some(StateWord { state: State::Running, ..old });
        table::update(&self.image.arena, index, running).map_err(io::Error::other)?;
        Ok(())
    }

    /// The supervisor, as one who uses the arena.
    pub(crate) fn member(&self) -> &Member {
        &self.member
    }

    /// Ends the run, in which every process waits for another.
    pub(crate) fn end_deadlock(&mut self) {
        self.end_by(Outcome::new(DEADLOCKED, 0));
    }

    /// Ends the run if there are more processes than the table tells of. Guests make none but those: somebody has broken
    /// out of WebAssembly.
    pub(crate) fn count(&mut self, proc: &Proc) {
        if self.image.config.jail.without_census {
            return;
        }
        let Some(found) = proc.children() else { return };
        let arena = &*self.image.arena;
        // Each is in the table before it exists, and until it is reaped, which nobody does meanwhile.
        let known = (0..arena.geometry.processes_max).filter(|index| {
            arena.process_id(*index).is_ok_and(|pid| pid.load(Ordering::Acquire) != 0)
                || table::state(arena, *index)
                    .is_ok_and(|state| matches!(state.state, State::Reserved | State::Spawning))
        });
        let fork_server = usize::from(matches!(self.fork_server, Spawner::Server(_)));
        let strays = found.saturating_sub(known.count() + standby::pids(arena).count() + fork_server);
        if strays > 0 {
            self.end_by(Outcome::strays(strays as u64));
        }
    }

    /// Ends the run, for this reason.
    fn end_by(&mut self, outcome: Outcome) {
        let outcome = *self.ended_by.get_or_insert(outcome);
        self.main_outcome.get_or_insert(outcome);
        self.kill_all(Signal::SIGKILL);
    }

    /// Ends what is over a limit of time.
    pub(crate) fn look_after_time(&mut self) {
        let owner = (self.image.config.role == Role::Pool).then_some(self.main);
        for over in self.timers.look(&self.image.arena, owner) {
            match over {
                Over::Run(limit) => self.end_by(Outcome::limited(limit)),
                Over::Process(pid, limit) => {
                    if !self.over.iter().any(|(known, _)| *known == pid) {
                        self.over.push((pid, limit));
                    }
                    send(pid, Signal::SIGKILL);
                }
            }
        }
    }

    /// How long nothing can be over a limit of time.
    pub(crate) fn time_left(&self) -> Duration {
        self.timers.rest()
    }

    /// Whether there are dead processes still to be swept up behind.
    pub(crate) fn has_unswept(&self) -> bool {
        !self.unswept.is_empty()
    }

    /// Does what guests have asked for.
    pub(crate) fn serve_requests(&mut self) {
        for index in table::take_requests(&self.image.arena) {
            self.spawn_if_asked_for(index);
            self.deliver_signals(index);
        }
        self.have_one_stand_by();
    }

    /// Asks for a process that stands by, if none does.
    fn have_one_stand_by(&mut self) {
        if let Spawner::Server(server) = &mut self.fork_server
            && standby::wanted(&self.image.arena).is_some()
        {
            server.ask_for_standby();
        }
    }

    /// Has the process of a slot made that is `Spawning`, unless somebody else has seen to it, or does.
    fn spawn_if_asked_for(&mut self, index: u32) {
        // In this order: whoever sees to it writes the process's id before it has done with it.
        if let Ok(state) = table::state(&self.image.arena, index)
            && state.state == State::Spawning
            && !self.is_to_have_one(index, state)
            && !self.has_process(index)
        {
            self.spawn(index, state);
        }
    }

    fn spawn(&mut self, index: u32, state: StateWord) {
        let handle = ProcessHandle::new(index, state.generation);
        if self.fork_server().is_some_and(|server| server.ask(handle).is_ok()) {
            return;
        }
        let is_worker = self.image.config.role == Role::Pool && u32::from(state.parent) == self.main;
        let forked = self.fork_into(index, handle);
        if is_worker && let Ok(pid) = self.image.arena.process_id(index) {
            self.timers.exempt(index, pid.load(Ordering::Acquire));
        }
        if forked.is_err() {
            self.spawn_failed(index, state);
        }
        self.tell(u32::from(state.parent));
    }

    fn spawn_failed(&self, index: u32, state: StateWord) {
        if let Ok(slot) = self.image.arena.process(index) {
            slot.failure.store(sandpool_abi::Errno::System as u32, Ordering::Release);
        }
        let _ = table::update(&self.image.arena, index, |old| {
            (old.generation == state.generation).then_some(StateWord { state: State::Failed, ..old })
        });
    }

    /// The fork server, where there is to be one. It is started when it is first needed.
    fn fork_server(&mut self) -> Option<&mut ForkServer> {
        if matches!(self.fork_server, Spawner::Later) {
            self.fork_server = self.start_fork_server().map_or(Spawner::None, Spawner::Server);
        }
        match &mut self.fork_server {
            Spawner::Server(server) => Some(server),
            Spawner::Later | Spawner::None => None,
        }
    }

    fn start_fork_server(&self) -> io::Result<ForkServer> {
        let (socket, theirs) = fork_server::pair()?;
        let pid = AtomicU32::new(0);
        match self.fork(&pid)? {
            Fork::Child => boot::serve_forks(&self.image, &theirs),
            Fork::Parent(pid) => Ok(ForkServer::new(pid, socket)),
        }
    }

    /// Where answers of the fork server come.
    pub(crate) fn answers(&self) -> Option<BorrowedFd<'_>> {
        match &self.fork_server {
            Spawner::Server(server) => Some(server.as_fd()),
            Spawner::Later | Spawner::None => None,
        }
    }

    /// Takes what the fork server has answered.
    pub(crate) fn take_answers(&mut self) {
        while let Spawner::Server(server) = &mut self.fork_server
            && let Some(answer) = server.answer()
        {
            if answer.handle == fork_server::STANDBY && answer.errno.is_none() {
                // It may have been taken already, by somebody whose request came while this one was on its way.
                self.have_one_stand_by();
            }
            let (Ok(index), Some(_)) = (answer.handle.index(), answer.errno) else { continue };
            let Ok(state) = table::state(&self.image.arena, index) else { continue };
            if state.state == State::Spawning && ProcessHandle::new(index, state.generation) == answer.handle
            {
                self.spawn_failed(index, state);
                self.tell(u32::from(state.parent));
            }
        }
    }

    /// The fork server is gone: does what it hasn't done.
    fn fork_server_ended(&mut self) {
        self.take_answers();
        let Spawner::Server(server) = std::mem::replace(&mut self.fork_server, Spawner::None) else { return };
        for index in server.unanswered().into_iter().filter_map(|handle| handle.index().ok()) {
            self.spawn_if_asked_for(index);
        }
    }

    /// Sends what a parent wants its child to get.
    fn deliver_signals(&self, index: u32) {
        let arena = &*self.image.arena;
        let (Ok(slot), Ok(pid)) = (arena.process(index), arena.process_id(index)) else { return };
        let wanted = slot.wanted_signals.swap(0, Ordering::AcqRel);
        let pid = pid.load(Ordering::Acquire);
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if wanted & 1 << signal as i32 != 0 {
                send(pid, signal);
            }
        }
    }

    /// Ends the run with a signal, which is then what all guests have died of. One that is stopped, or has just been
    /// forked and still blocks signals, dies of the SIGKILL behind it.
    pub(crate) fn stop(&mut self, signal: i32) {
        let signal = Signal::try_from(signal).unwrap_or(Signal::SIGKILL);
        let outcome = *self.ended_by.get_or_insert(Outcome::new(SIGNALED, (signal as i32).unsigned_abs()));
        if self.image.config.role == Role::Pool {
            self.main_outcome.get_or_insert(outcome);
        }
        self.kill_all(signal);
    }

    /// Sends a signal to every guest process, and SIGKILL after it. In a PID namespace of the run's own, to whatever is
    /// in it, whether the table tells of it or not.
    pub(crate) fn kill_all(&self, signal: Signal) {
        for signal in [signal, Signal::SIGKILL] {
            if self.image.supervisor_pid == INIT {
                let _ = kill(Pid::from_raw(-1), signal);
                continue;
            }
            for index in 0..self.image.arena.geometry.processes_max {
                if let Ok(pid) = self.image.arena.process_id(index) {
                    send(pid.load(Ordering::Acquire), signal);
                }
            }
            standby::pids(&self.image.arena).for_each(|pid| send(pid, signal));
            if let Spawner::Server(server) = &self.fork_server {
                send(server.pid.unsigned_abs(), signal);
            }
        }
    }

    /// Reaps all that have ended. When the main guest has, the others are ended; when all have, the run is over.
    pub(crate) fn reap(&mut self) -> Option<Ended> {
        for (index, reaped) in std::mem::take(&mut self.unswept) {
            self.bury(index, reaped, true);
        }
        while let Some(reaped) = reap() {
            if let Spawner::Server(server) = &self.fork_server
                && server.pid == reaped.pid
            {
                self.fork_server_ended();
                continue;
            }
            let stood_by = standby::ended(&self.image.arena, reaped.pid.unsigned_abs());
            match self.slot_of(reaped.pid) {
                Some(index) => {
                    self.record(index, &reaped);
                    self.bury(index, reaped, false);
                }
                None if let Some(claimed) = stood_by => {
                    claimed.into_iter().for_each(|index| self.spawn_if_asked_for(index));
                }
                // See `count`.
                None if self.image.config.jail.without_census => {}
                None => self.end_by(Outcome::strays(1)),
            }
        }
        let outcome = self.main_outcome?;
        self.kill_all(Signal::SIGKILL);
        if has_children() {
            return None;
        }
        Some(Ended {
            main: outcome,
            processes: self.processes,
            wall: self.begun.elapsed(),
            peak_memory: self.peak_memory,
            reports: std::mem::take(&mut self.reports),
        })
    }

    /// Whether a slot has a process.
    fn has_process(&self, index: u32) -> bool {
        self.image.arena.process_id(index).is_ok_and(|pid| pid.load(Ordering::Acquire) != 0)
    }

    /// Whether somebody else sees to it that a slot gets its process: the fork server, or one that stood by.
    fn is_to_have_one(&self, index: u32, state: StateWord) -> bool {
        let handle = ProcessHandle::new(index, state.generation);
        standby::is_claimed(&self.image.arena, index)
            || matches!(&self.fork_server, Spawner::Server(server) if server.is_asked_for(handle))
    }

    fn slot_of(&self, pid: i32) -> Option<u32> {
        let arena = &*self.image.arena;
        (0..arena.geometry.processes_max).find(|index| {
            arena
                .process_id(*index)
                .is_ok_and(|cell| i64::from(cell.load(Ordering::Acquire)) == i64::from(pid))
        })
    }

    /// Notes what there is to say of a process that has ended.
    fn record(&mut self, index: u32, reaped: &Reaped) {
        self.processes += 1;
        self.peak_memory = self.peak_memory.max(reaped.peak_memory);
        self.timers.ended(index, reaped.cpu);
        let Ok(slot) = self.image.arena.process(index) else { return };
        let claimed = slot.claimed();
        let pid = reaped.pid.unsigned_abs();
        let over =
            self.over.iter().position(|(known, _)| *known == pid).map(|at| self.over.swap_remove(at).1);
        let has_left =
            table::state(&self.image.arena, index).is_ok_and(|state| state.state == State::Leaving);
        let outcome = match reaped.end {
            // Its parent knows it by then.
            End::Signaled(libc::SIGKILL)
                if has_left && matches!(claimed.kind, EXITED | TRAPPED | LIMITED) =>
            {
                claimed
            }
            End::Signaled(libc::SIGKILL) if let Some(limit) = over => Outcome::limited(limit),
            End::Signaled(libc::SIGKILL) if let Some(outcome) = self.ended_by => outcome,
            // The kernel's limit is coarse, and stands behind the supervisor's.
            End::Signaled(libc::SIGXCPU) if let Some(time) = self.image.config.limits.cpu_time => {
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
        slot.record_exit(outcome);
        if index == self.main {
            self.main_outcome.get_or_insert(outcome);
        }
        if self.reports.len() < REPORTS_MAX || index == self.main {
            let nanos = table::nanos_now().saturating_sub(slot.started.load(Ordering::Relaxed));
            self.reports.truncate(REPORTS_MAX - 1);
            self.reports.push(Report {
                name: String::from_utf8_lossy(&slot.name()).into_owned(),
                pid,
                outcome,
                wall: Duration::from_nanos(nanos),
                cpu: reaped.cpu,
                peak_memory: reaped.peak_memory,
                refused: refusals(slot, &self.image.config.limits),
            });
        }
        if let Some(ExitStatus::Limited(limit)) = outcome.status()
            && limit.ends_the_run()
        {
            self.end_by(outcome);
        }
    }

    /// Sweeps up behind a process and tells its relatives, or puts that off: then it is tried `again`.
    fn bury(&mut self, index: u32, reaped: Reaped, again: bool) {
        let killed = again || !matches!(reaped.end, End::Exited(_));
        let swept = sweep::sweep(&self.member, index, killed).and_then(|()| self.free_ended(index, again));
        if swept == Err(sandpool_abi::Errno::Busy) {
            self.unswept.push((index, reaped));
            return;
        }
        let arena = self.image.arena.clone();
        let orphans: Vec<_> =
            (0..arena.geometry.processes_max).filter(|child| self.leave_orphan(index, *child)).collect();
        if self.image.config.role == Role::Pool {
            // Nobody waits for what a task has started that is gone; and a child that does a worker's task must not come to
            // its end when the worker's slot is another's.
            for pid in orphans.iter().filter_map(|orphan| arena.process_id(*orphan).ok()) {
                send(pid.load(Ordering::Acquire), Signal::SIGKILL);
            }
        }
        let (Ok(slot), Ok(pid)) = (arena.process(index), arena.process_id(index)) else { return };
        slot.ended_pid.store(reaped.pid.unsigned_abs(), Ordering::Relaxed);
        pid.store(0, Ordering::Release);
        let parent = table::state(&arena, index).map_or(NO_PARENT, |state| state.parent);
        let ended = |old: StateWord| {
            let is_released = old.flags & RELEASED != 0;
            Some(if is_released { old.free() } else { StateWord { state: State::Exited, ..old } })
        };
        let _ = table::update(&arena, index, ended);
        // Not before it is seen to have ended: whoever is told looks once.
        orphans.into_iter().chain([u32::from(parent)]).for_each(|index| self.tell(index));
    }

    /// Gives the slots of children back that have ended, or that their parent died before it could start: then with
    /// what they were to be given. `again` if it was `BUSY`.
    fn free_ended(&self, parent: u32, again: bool) -> Result<(), sandpool_abi::Errno> {
        let arena = &*self.image.arena;
        for (child, state) in table::children(arena, parent) {
            let is_going = standby::abandon(arena, child);
            if self.has_process(child) || state.is_alive() && (is_going || self.is_to_have_one(child, state))
            {
                continue;
            }
            let register = arena.process(child)?.register(Register::Outgoing);
            let given = match register.load(Ordering::Acquire) {
                0 => Ok(()),
                _ => heap::free(&self.member, register),
            };
            let memory = budget::give_back(&self.member, child);
            for freed in [given, memory, object::drop_holds_of(&self.member, child, again)] {
                if freed == Err(sandpool_abi::Errno::Busy) {
                    return freed;
                }
            }
            table::free(arena, child, |_| true)?;
        }
        Ok(())
    }

    /// A process has ended, and nobody will ask about this child of it. Whether it is one.
    fn leave_orphan(&self, parent: u32, child: u32) -> bool {
        let arena = &*self.image.arena;
        let orphan = |old: StateWord| {
            let is_one = old.has_process() && u32::from(old.parent) == parent;
            is_one.then(|| StateWord { parent: NO_PARENT, ..old.released() })
        };
        table::update(arena, child, orphan).is_ok_and(|left| left.is_some())
    }

    /// Something has changed for this process. Who died may have been about to wake it, and have said so already: so it is
    /// woken in any case.
    fn tell(&self, index: u32) {
        if index < self.image.arena.geometry.processes_max
            && let Ok(slot) = self.image.arena.process(index)
        {
            slot.event.wake_all(&self.image.arena);
        }
    }
}

/// What limits have refused a process, and how often. What it could only have made up itself is left out.
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

/// The number of the first process of a PID namespace, which doesn't get what it sends to all.
const INIT: i32 = 1;

/// Signals a process if it is a child that isn't reaped yet. Guests write the table, so its numbers may be anything.
fn send(pid: u32, signal: Signal) {
    let Ok(pid) = i32::try_from(pid) else { return };
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    // A child's number can't be another's before it is reaped, which only this process does.
    if pid > 0
        && waitid(Id::Pid(Pid::from_raw(pid)), flags).is_ok_and(|status| status == WaitStatus::StillAlive)
    {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn has_children() -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::All, flags), Err(nix::Error::ECHILD))
}
