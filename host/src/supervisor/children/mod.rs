//! All guest processes of a run: they are started, signalled, reaped, and swept up after.

mod burial;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandpool_abi::Errno;
use sandpool_abi::process::{DEADLOCKED, Limit, SIGNALED};

use super::census::{self, Census};
use super::kin::{has_children, is_child, send};
use super::priority::Priority;
use super::proc::Proc;
use super::timers::{Over, Timers};
use crate::children::default_name;
use crate::config::Role;
use crate::control::{Ended, Report};
use crate::ipc::arena::{Participant, Patience};
use crate::ipc::collect::Collector;
use crate::ipc::process_table::{self as table, Outcome, ProcessHandle, ProcessState, StateWord};
use crate::ipc::standby;
use crate::ipc::sweep::Sweep;
use crate::jail::control_group::ControlGroup;
use crate::process::boot::{self, Image};
use crate::process::fork_server::{self, ForkServer};
use crate::sys::atomic::AtomicU32;
use crate::sys::clone::{self, Fork, Parent};
use crate::sys::process::{End, SHORT_SLICE, reap, set_slice};

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
    /// Sweeps up after the gateway, which has ended before the run.
    gateway: Option<Sweep>,
    /// Finds objects that nobody can reach any more.
    collector: Collector,
    /// When objects were last collected.
    collected: Instant,
    fork_server: Spawner,
    proc: Proc,
    census: Census,
    priority: Priority,
    /// When all processes were last killed, since the run has ended.
    killed: Option<Instant>,
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

/// The most that a turn does, of each kind: a fraction of a millisecond all together. If hundreds of guests want the processors,
/// the kernel gives the supervisor its next turn only when each guest has had as much time as the supervisor.
const REAPED_AT_ONCE: usize = 16;
const STEPS_AT_ONCE: usize = 64;
const SERVED_AT_ONCE: usize = 8;
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
    pub(crate) fn start(
        image: Image,
        group: Option<ControlGroup>,
        proc: Proc,
        priority: Priority,
    ) -> io::Result<Self> {
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
            gateway: None,
            collector,
            collected: Instant::now(),
            proc,
            census: Census::default(),
            priority,
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
        if self.is_ending() {
            return;
        }
        let children = self.proc.children();
        // Where the kernel doesn't tell, there may be many.
        self.priority.suit(children.as_ref().map_or(usize::MAX, Vec::len));
        let Some(children) = children.filter(|_| !self.image.config.sandbox.jail.without_census) else {
            return;
        };
        let fork_server = self.fork_server_pid();
        let strays = self.census.look(&self.image.arena, &self.proc, children, fork_server);
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
        self.ended_by.get_or_insert(Outcome::new(SIGNALED, (signal as i32).unsigned_abs()));
        self.kill_all(signal);
    }

    /// Sends a signal to every guest process, and SIGKILL after it. In a PID namespace of the run's own, every process there gets
    /// them; otherwise, all of the supervisor's children that the kernel knows, whether or not the table lists them.
    pub(crate) fn kill_all(&mut self, signal: Signal) {
        let is_first = self.killed.is_none();
        self.priority.raise();
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
        // Somebody waits for a new process, and reaping takes the kernel a while.
        if !self.is_ending() {
            self.serve_requests();
        }
        let more_to_reap = self.reap_some();
        if self.is_ending() {
            if self.killed.is_none_or(|killed| killed.elapsed() >= KILL_AGAIN) {
                self.kill_all(Signal::SIGKILL);
            }
            return if more_to_reap { Left::More } else { Left::Nothing };
        }
        let buried = self.bury_some();
        let collected = self.collect_some();
        let is_more = more_to_reap || !self.requests.is_empty();
        let left = [buried, collected, self.sweep_some_of_gateway()];
        if is_more || left.contains(&Left::More) {
            Left::More
        } else if left.contains(&Left::Busy) {
            Left::Busy
        } else {
            Left::Nothing
        }
    }

    /// Handles the end of the gateway: its connections end.
    pub(crate) fn gateway_ended(&mut self) {
        self.gateway = Some(Sweep::from_dead(self.image.arena.geometry.gateway(), true));
    }

    /// Does some steps of the sweep after the gateway.
    fn sweep_some_of_gateway(&mut self) -> Left {
        let Some(sweep) = &mut self.gateway else { return Left::Nothing };
        for _ in 0..STEPS_AT_ONCE {
            match sweep.step(&self.participant) {
                Ok(false) => {}
                Err(Errno::Busy) => return Left::Busy,
                Ok(true) | Err(_) => {
                    self.gateway = None;
                    return Left::Nothing;
                }
            }
        }
        Left::More
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
}

/// The number of the first process of a PID namespace, which doesn't get signals that it sends to all.
const INIT: i32 = 1;
