//! All guest processes of a run: they are started, signalled, reaped, and swept up after.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use sandpool_abi::Errno;
use sandpool_abi::process::{DEADLOCKED, EXITED, ExitStatus, FORBIDDEN, LIMITED, Limit, SIGNALED, TRAPPED};

use super::census::{self, Census};
use super::proc::Proc;
use super::timers::{Over, Timers};
use crate::children::default_name;
use crate::config::{LimitKey, Limits, Role};
use crate::control::{Ended, REPORTS_MAX, Report};
use crate::ipc::arena::{Participant, Patience};
use crate::ipc::collect::Collector;
use crate::ipc::process_table::{
    self as table, NO_PARENT, Outcome, ProcessHandle, ProcessSlot, ProcessState, RELEASED, Register,
    StateWord,
};
use crate::ipc::sweep::Sweep;
use crate::ipc::{budget, heap, scope, standby};
use crate::jail::control_group::ControlGroup;
use crate::process::boot::{self, Image};
use crate::process::exit::TRAP_CODE;
use crate::process::fork_server::{self, ForkServer};
use crate::sys::atomic::AtomicU32;
use crate::sys::clone::{self, Fork, Parent};
use crate::sys::process::{End, Reaped, SHORT_SLICE, reap, set_slice};

pub(crate) struct Children {
    image: Image,
    /// The control group that guests are born into.
    group: Option<ControlGroup>,
    /// The supervisor's view of the arena.
    participant: Participant,
    /// The slot of the main guest; in a pool, of the owner.
    main: u32,
    /// The main guest's process id; `None` in a pool. The arena's number may be a guest's word.
    main_pid: Option<i32>,
    main_outcome: Option<Outcome>,
    /// The reason of death of all processes that were killed when the run was ended.
    ended_by: Option<Outcome>,
    timers: Timers,
    /// Processes that were killed because they had exceeded a limit.
    over: Vec<(u32, Limit)>,
    /// Processes that are killed instead of getting another signal.
    asked_to_end: HashMap<u32, Signal>,
    begun: Instant,
    processes: u64,
    peak_memory: u64,
    reports: Vec<Report>,
    /// Processes that are reaped and must still be swept up after.
    burials: VecDeque<Burial>,
    /// The slots of these processes: their contents no longer describe a living process.
    buried: HashSet<u32>,
    /// Slots that must still be looked at, because somebody has asked for it.
    requests: Vec<u32>,
    /// Finds objects that nobody can reach any more.
    collector: Collector,
    /// When objects were last collected.
    collected: Instant,
    fork_server: Spawner,
    proc: Proc,
    census: Census,
    /// When all processes were last killed, since the run has ended.
    killed: Option<Instant>,
}

/// A process that has been reaped, and the cleanup that remains for it.
struct Burial {
    index: u32,
    stage: Stage,
    /// The process's children that nobody will ask about any more.
    orphans: Vec<u32>,
}

enum Stage {
    Sweep(Sweep),
    /// The process's children are handled, from this slot on; first the holds of a child that never ran.
    Children(u32, Option<(u32, Sweep)>),
}

/// The work that a turn has left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing that can be done by now.
    Nothing,
    /// There is more to be done.
    More,
    /// There is more to be done, but a guest holds a lock for now.
    Busy,
}

/// The most that a turn does, of each kind: a fraction of a millisecond all together. If hundreds of guests want the processors,
/// the kernel gives the supervisor its next turn only when each guest has had as much time as the supervisor.
const REAPED_AT_ONCE: usize = 16;
const STEPS_AT_ONCE: usize = 64;
const SERVED_AT_ONCE: usize = 8;
/// The most `BUSY` burials that a turn tries. Each takes a while to find out that it is busy.
const BUSY_AT_ONCE: usize = 4;
/// Slots that a step searches for children.
const SLOTS_AT_ONCE: u32 = 1024;

/// The least time between two collections: a guest that fills the arena with reachable objects must not keep the supervisor busy.
const COLLECT_AGAIN: Duration = Duration::from_millis(100);

/// How often all processes are killed while a run ends: some may just have been forked.
const KILL_AGAIN: Duration = Duration::from_millis(5);

/// The process that forks processes with fresh memory.
enum Spawner {
    /// The supervisor, for now: the fork server starts when it is first needed.
    Later,
    Server(ForkServer),
    /// The supervisor.
    None,
}

impl Children {
    /// Starts the main guest. A pool has no main guest: its owner has that slot.
    pub(crate) fn start(image: Image, group: Option<ControlGroup>, proc: Proc) -> io::Result<Self> {
        let arena = &*image.arena;
        let (main, handle) =
            table::reserve(arena, None, &default_name(std::iter::empty()), 0).map_err(io::Error::other)?;
        let timers = Timers::new(&image.config.sandbox.limits);
        let participant = Participant {
            arena: image.arena.clone(),
            index: arena.geometry.processes_max,
            patience: Patience::Brief,
        };
        let can_fork = image.jail_grants_fork && image.config.role == Role::Program;
        let collector = Collector::new(&image.arena).map_err(io::Error::other)?;
        let mut children = Self {
            fork_server: if can_fork { Spawner::Later } else { Spawner::None },
            image,
            group,
            participant,
            main,
            main_pid: None,
            main_outcome: None,
            ended_by: None,
            timers,
            over: Vec::new(),
            asked_to_end: HashMap::new(),
            begun: Instant::now(),
            processes: 0,
            peak_memory: 0,
            reports: Vec::new(),
            burials: VecDeque::new(),
            buried: HashSet::new(),
            requests: Vec::new(),
            collector,
            collected: Instant::now(),
            proc,
            census: Census::default(),
            killed: None,
        };
        match children.image.config.role {
            Role::Program => children.main_pid = Some(children.fork_into(main, handle)?),
            Role::Pool => children.mark_running(main)?,
        }
        Ok(children)
    }

    /// Forks the guest process of a slot, and returns its number.
    fn fork_into(&mut self, index: u32, handle: ProcessHandle) -> io::Result<i32> {
        let pid = self.image.arena.process_id(index).map_err(io::Error::other)?;
        match self.fork(pid)? {
            Fork::Child => boot::run(&self.image, index, handle),
            Fork::Parent(pid) => self.mark_running(index).map(|()| pid),
        }
    }

    fn fork(&self, pid: &AtomicU32) -> io::Result<Fork> {
        match &self.group {
            Some(group) => clone::fork_into(group.directory(), pid),
            None => clone::fork(Parent::Caller, pid),
        }
    }

    fn mark_running(&self, index: u32) -> io::Result<()> {
        let running =
            |old: StateWord| old.is_alive().then_some(StateWord { state: ProcessState::Running, ..old });
        table::update(&self.image.arena, index, running).map_err(io::Error::other)?;
        Ok(())
    }

    /// The supervisor's view of the arena.
    pub(crate) fn participant(&self) -> &Participant {
        &self.participant
    }

    /// Whether dead processes must still be swept up after.
    pub(crate) fn has_unburied(&self) -> bool {
        !self.burials.is_empty()
    }

    /// Whether the run has ended, except for its processes.
    pub(crate) fn is_ending(&self) -> bool {
        self.main_outcome.is_some() || self.ended_by.is_some()
    }

    /// The kernel's facts about the processes.
    pub(crate) fn proc(&self) -> &Proc {
        &self.proc
    }

    /// Ends the run because every process waits for another.
    pub(crate) fn end_deadlock(&mut self) {
        self.end_by(Outcome::new(DEADLOCKED, 0));
    }

    /// Ends the run if there are processes that the table doesn't list. Guests make only listed processes: somebody has broken out
    /// of WebAssembly.
    pub(crate) fn count(&mut self) {
        if self.image.config.sandbox.jail.without_census || self.is_ending() {
            return;
        }
        let fork_server = self.fork_server_pid();
        let strays = self.census.look(&self.image.arena, &self.proc, fork_server);
        if strays > 0 {
            self.end_by(Outcome::strays(strays));
        }
    }

    /// Ends the run for this reason, unless it already ends for another. Each process that is killed for it has the same reason;
    /// killing all takes longer the more processes there are.
    fn end_by(&mut self, outcome: Outcome) {
        let is_new = self.ended_by.is_none();
        let outcome = *self.ended_by.get_or_insert(outcome);
        self.main_outcome.get_or_insert(outcome);
        if is_new {
            self.kill_all(Signal::SIGKILL);
        }
    }

    /// Ends processes, or the run, that have exceeded a limit of time.
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

    /// How long nothing can exceed a limit of time.
    pub(crate) fn time_left(&self) -> Duration {
        self.timers.rest()
    }

    /// Does a part of what guests have asked for. The doorbell isn't needed to find the requests: a guest could have taken another
    /// guest's ring away.
    fn serve_requests(&mut self) {
        if self.requests.is_empty() {
            self.requests = table::take_requests(&self.image.arena);
            if self.requests.is_empty() {
                return;
            }
        }
        let rest = self.requests.len().saturating_sub(SERVED_AT_ONCE);
        for index in self.requests.split_off(rest) {
            self.spawn_if_asked_for(index);
            self.deliver_signals(index);
        }
        self.have_one_stand_by();
    }

    /// Asks for a process that stands by, if there is none.
    fn have_one_stand_by(&mut self) {
        if !self.is_ending()
            && let Spawner::Server(server) = &mut self.fork_server
            && standby::wanted(&self.image.arena).is_some()
        {
            server.ask_for_standby();
        }
    }

    /// Makes the process of a `Spawning` slot, unless somebody else has made it or does.
    fn spawn_if_asked_for(&mut self, index: u32) {
        if self.is_ending() {
            return;
        }
        // The order matters: whoever makes the process writes its id before the request is done.
        if let Ok(state) = table::state(&self.image.arena, index)
            && state.state == ProcessState::Spawning
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
        match self.fork_into(index, handle) {
            Ok(pid) if is_worker => self.timers.exempt(pid.unsigned_abs()),
            Ok(_) => {}
            Err(_) => self.spawn_failed(index, state),
        }
        self.tell(u32::from(state.parent));
    }

    fn spawn_failed(&self, index: u32, state: StateWord) {
        if let Ok(slot) = self.image.arena.process(index) {
            slot.failure.store(Errno::System as u32, Ordering::Release);
        }
        let _ = table::update(&self.image.arena, index, |old| {
            (old.generation == state.generation).then_some(StateWord { state: ProcessState::Failed, ..old })
        });
    }

    /// The fork server, if there is to be one. It is started when it is first needed.
    fn fork_server(&mut self) -> Option<&mut ForkServer> {
        if matches!(self.fork_server, Spawner::Later) {
            self.fork_server = self.start_fork_server().map_or(Spawner::None, Spawner::Server);
        }
        match &mut self.fork_server {
            Spawner::Server(server) => Some(server),
            Spawner::Later | Spawner::None => None,
        }
    }

    fn fork_server_pid(&self) -> Option<u32> {
        match &self.fork_server {
            Spawner::Server(server) => Some(server.pid.unsigned_abs()),
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

    /// The descriptor from which answers of the fork server come.
    pub(crate) fn answers(&self) -> Option<BorrowedFd<'_>> {
        match &self.fork_server {
            Spawner::Server(server) => Some(server.as_fd()),
            Spawner::Later | Spawner::None => None,
        }
    }

    /// Takes some answers of the fork server.
    fn take_answers(&mut self) {
        for _ in 0..SERVED_AT_ONCE {
            let Spawner::Server(server) = &mut self.fork_server else { break };
            let Some(answer) = server.answer() else { break };
            if answer.handle == fork_server::STANDBY && answer.errno.is_none() {
                // The standby process may have been taken already, by a request that came while this one was on its way.
                self.have_one_stand_by();
            }
            let (Ok(index), Some(_)) = (answer.handle.index(), answer.errno) else { continue };
            let Ok(state) = table::state(&self.image.arena, index) else { continue };
            if state.state == ProcessState::Spawning
                && ProcessHandle::new(index, state.generation) == answer.handle
            {
                self.spawn_failed(index, state);
                self.tell(u32::from(state.parent));
            }
        }
    }

    /// Handles the end of the fork server: does the work that it hasn't done.
    fn fork_server_ended(&mut self) {
        self.take_answers();
        let Spawner::Server(server) = std::mem::replace(&mut self.fork_server, Spawner::None) else { return };
        self.requests.extend(server.unanswered().into_iter().filter_map(|handle| handle.index().ok()));
    }

    /// Sends the signals that a parent wants its child to get. Guests have no handlers, so every signal ends the child, by SIGKILL.
    /// If the parent wanted SIGINT or SIGTERM, which guests of a pool block, the child counts as ended by that signal.
    fn deliver_signals(&mut self, index: u32) {
        let arena = &*self.image.arena;
        let (Ok(slot), Ok(pid)) = (arena.process(index), arena.process_id(index)) else { return };
        let wanted = slot.wanted_signals.swap(0, Ordering::AcqRel);
        let pid = pid.load(Ordering::Acquire);
        if wanted != 0 && is_child(pid) {
            let asked = [Signal::SIGINT, Signal::SIGTERM];
            if let Some(signal) = asked.into_iter().find(|signal| wanted & 1 << *signal as i32 != 0) {
                self.asked_to_end.entry(pid).or_insert(signal);
            }
            send(pid, Signal::SIGKILL);
        }
    }

    /// Ends the run with a signal, which is then the reason of death of all guests. A guest that is stopped, or was just forked and
    /// still blocks signals, dies of the SIGKILL that follows.
    pub(crate) fn stop(&mut self, signal: i32) {
        let signal = Signal::try_from(signal).unwrap_or(Signal::SIGKILL);
        let outcome = *self.ended_by.get_or_insert(Outcome::new(SIGNALED, (signal as i32).unsigned_abs()));
        if self.image.config.role == Role::Pool {
            self.main_outcome.get_or_insert(outcome);
        }
        self.kill_all(signal);
    }

    /// Sends a signal to every guest process, and SIGKILL after it. In a PID namespace of the run's own, every process there gets
    /// them; otherwise, all of the supervisor's children that the kernel knows, whether or not the table lists them.
    pub(crate) fn kill_all(&mut self, signal: Signal) {
        let is_first = self.killed.is_none();
        self.killed = Some(Instant::now());
        self.signal_all(signal);
        if is_first && has_children() {
            self.hasten();
        }
    }

    /// Makes the kernel run the killed processes soon. On its way out, each waits for its turn at locks of the kernel that all
    /// processes forked from one another share: beside others that want the processors, each turn would come some milliseconds
    /// late, and a thousand of them seconds.
    fn hasten(&self) {
        census::in_table(&self.image.arena)
            .filter(|pid| is_child(*pid))
            .for_each(|pid| set_slice(pid, SHORT_SLICE));
    }

    fn signal_all(&self, signal: Signal) {
        let signals = match signal {
            Signal::SIGKILL => vec![signal],
            _ => vec![signal, Signal::SIGKILL],
        };
        if self.image.supervisor_pid == INIT {
            for signal in signals {
                let _ = kill(Pid::from_raw(-1), signal);
            }
            return;
        }
        let pids = self
            .proc
            .children()
            .unwrap_or_else(|| census::in_table(&self.image.arena).chain(self.fork_server_pid()).collect());
        for signal in signals {
            pids.iter().for_each(|pid| send(*pid, signal));
        }
    }

    /// Does a part of the work, and returns what remains. A run that has ended only reaps its processes.
    pub(crate) fn work(&mut self) -> Left {
        self.take_answers();
        let more_to_reap = self.reap_some();
        if self.is_ending() {
            if self.killed.is_none_or(|killed| killed.elapsed() >= KILL_AGAIN) {
                self.kill_all(Signal::SIGKILL);
            }
            return if more_to_reap { Left::More } else { Left::Nothing };
        }
        self.serve_requests();
        let buried = self.bury_some();
        let collected = self.collect_some();
        let is_more = more_to_reap || !self.requests.is_empty();
        match (buried, collected) {
            (Left::More, _) | (_, Left::More) => Left::More,
            _ if is_more => Left::More,
            (Left::Busy, _) | (_, Left::Busy) => Left::Busy,
            (Left::Nothing, Left::Nothing) => Left::Nothing,
        }
    }

    /// Does some steps of a collection of objects that nobody can reach, if somebody wants one.
    fn collect_some(&mut self) -> Left {
        if !self.collector.is_at_it() && self.collected.elapsed() < COLLECT_AGAIN {
            return Left::Nothing;
        }
        if self.collector.begin_if_wanted(&self.participant).is_err() || !self.collector.is_at_it() {
            return Left::Nothing;
        }
        self.collected = Instant::now();
        for _ in 0..STEPS_AT_ONCE {
            match self.collector.step(&self.participant) {
                Err(Errno::Busy) => return Left::Busy,
                _ if !self.collector.is_at_it() => return Left::Nothing,
                _ => {}
            }
        }
        Left::More
    }

    /// Reaps some processes that have ended. Returns whether there may be more.
    fn reap_some(&mut self) -> bool {
        for _ in 0..REAPED_AT_ONCE {
            let Some(reaped) = reap() else { return false };
            self.census.ended(reaped.pid.unsigned_abs());
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
                    self.buried.insert(index);
                    let killed = !matches!(reaped.end, End::Exited(_));
                    let stage = Stage::Sweep(Sweep::from_dead(index, killed));
                    self.burials.push_back(Burial { index, stage, orphans: Vec::new() });
                }
                None if let Some(claimed) = stood_by => self.requests.extend(claimed),
                // See `count`.
                None if self.image.config.sandbox.jail.without_census => {}
                None => self.end_by(Outcome::strays(1)),
            }
        }
        true
    }

    /// Does some steps of the cleanup after processes that have ended, in turns: a process that has left much to clean up doesn't
    /// delay the others.
    fn bury_some(&mut self) -> Left {
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

    /// How the run has ended, if no process of it is left.
    pub(crate) fn ended(&mut self) -> Option<Ended> {
        let main = self.main_outcome.or(self.ended_by)?;
        (!has_children()).then(|| Ended {
            main,
            processes: self.processes,
            wall: self.begun.elapsed(),
            cpu: self.timers.spent(),
            peak_memory: self.peak_memory,
            reports: std::mem::take(&mut self.reports),
        })
    }

    /// Whether a slot has a process, or has had one that isn't buried yet.
    fn has_process(&self, index: u32) -> bool {
        self.buried.contains(&index)
            || self.image.arena.process_id(index).is_ok_and(|pid| pid.load(Ordering::Acquire) != 0)
    }

    /// Whether somebody else gives a slot its process: the fork server, or a process that stood by.
    fn is_to_have_one(&self, index: u32, state: StateWord) -> bool {
        let handle = ProcessHandle::new(index, state.generation);
        standby::is_claimed(&self.image.arena, index)
            || matches!(&self.fork_server, Spawner::Server(server) if server.is_asked_for(handle))
    }

    fn slot_of(&self, pid: i32) -> Option<u32> {
        if self.main_pid == Some(pid) {
            return Some(self.main);
        }
        let arena = &*self.image.arena;
        (0..arena.geometry.processes_max).filter(|index| *index != self.main).find(|index| {
            arena
                .process_id(*index)
                .is_ok_and(|cell| i64::from(cell.load(Ordering::Acquire)) == i64::from(pid))
        })
    }

    /// Records the report of a process that has ended.
    fn record(&mut self, index: u32, reaped: &Reaped) {
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
            let nanos = table::nanos_now().saturating_sub(slot.started.load(Ordering::Relaxed));
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
    fn tell(&self, index: u32) {
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

/// The number of the first process of a PID namespace, which doesn't get signals that it sends to all.
const INIT: i32 = 1;

/// Signals a process if it is a child that isn't reaped yet. Guests write the table, so its numbers may be anything.
fn send(pid: u32, signal: Signal) {
    let is_alive = |status| status == WaitStatus::StillAlive;
    // A child's number can't be another's before it is reaped, which only this process does.
    if let Some((pid, true)) = look_at(pid).map(|(pid, status)| (pid, is_alive(status))) {
        let _ = kill(pid, signal);
    }
}

/// Whether a number is that of a child that isn't reaped yet.
pub(super) fn is_child(pid: u32) -> bool {
    look_at(pid).is_some()
}

/// The kernel's status of a child; `None` if the number isn't that of one.
fn look_at(pid: u32) -> Option<(Pid, WaitStatus)> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).map(Pid::from_raw)?;
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    Some((pid, waitid(Id::Pid(pid), flags).ok()?))
}

fn has_children() -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::All, flags), Err(nix::Error::ECHILD))
}
