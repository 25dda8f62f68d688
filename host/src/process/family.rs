//! How a process starts others, and learns of their end. See [`process_table`](crate::ipc::process_table).

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sandpool_abi::process::{DAEMON as FLAG_DAEMON, NOT_DAEMON as FLAG_NOT_DAEMON, TIED as FLAG_TIED};
use sandpool_abi::task::Claims;
use sandpool_abi::{Errno, NAME_MAX};

use super::{Entry, Process};
use crate::ipc::event;
use crate::ipc::kind::{self, Waitable};
use crate::ipc::message::{self, Carry, Message};
use crate::ipc::object::{self, Handle};
use crate::ipc::process_table::{
    self as table, DAEMON, NameBuffer, Outcome, ProcessHandle, Register, State, StateWord, TIED,
};
use crate::ipc::sweep::{Sweep, sweep};
use crate::ipc::waiting::Waiting;
use crate::ipc::{Result, budget, heap, scope, standby, tail};
use crate::sys::clone::{self, Fork, Parent};
use crate::sys::futex::{Deadline, monotonic};
use crate::sys::process::exit_now;

/// How long a parent looks for the end of a child before it sleeps: about as long as a short process lives. A wake of a
/// processor that has gone idle costs a large part of what the whole process costs; and a join happens once for each
/// process, so that this at most doubles its cost.
const JOIN_SPIN: Duration = Duration::from_micros(150);

/// How long a parent that finds no slot for a child waits for the slots of processes that are leaving. The kernel needs
/// that long to free gigabytes; a process that was stopped on its way out never leaves.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

/// Looks again and again for at most `limit`, and lets other processes run in between.
fn spin(limit: Duration, ready: impl Fn() -> bool) {
    let end = monotonic() + limit;
    while !ready() && monotonic() < end {
        std::thread::yield_now();
    }
}

/// One of several things that a process waits for.
enum Target<'a> {
    Process(ProcessHandle),
    Object(&'a dyn Waitable),
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

/// Which side of a fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forked {
    Child,
    Parent(ProcessHandle),
}

impl Process {
    fn state(&self) -> Result<StateWord> {
        table::state(&self.member.arena, self.member.index)
    }

    /// Reserves a slot for a child that the guest wants.
    ///
    /// `PROCS` also if the caller's worker has its share of processes. Killed processes that a task has left behind are
    /// given time to go.
    fn reserve(&mut self, name: &str, flags: u32) -> Result<(u32, ProcessHandle)> {
        let mut until = None;
        loop {
            let reserved = self.reserve_for_host(name, flags)?;
            if !scope::has_too_many_processes(&self.member)? {
                return Ok(reserved);
            }
            self.started -= 1;
            table::free(&self.member.arena, reserved.0, |_| true)?;
            let now = monotonic();
            if now >= *until.get_or_insert(now + LEAVE_PATIENCE) {
                return Err(Errno::Procs);
            }
            std::thread::yield_now();
        }
    }

    /// Reserves a slot for a child. The child's identity is the caller's and a count.
    fn reserve_for_host(&mut self, name: &str, flags: u32) -> Result<(u32, ProcessHandle)> {
        if name.len() > NAME_MAX {
            return Err(Errno::Nametoolong);
        }
        const EITHER: u32 = FLAG_DAEMON | FLAG_NOT_DAEMON;
        if flags & !(EITHER | FLAG_TIED) != 0 || flags & EITHER == EITHER {
            return Err(Errno::Inval);
        }
        let own = self.state()?;
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
        let arena = &*self.member.arena;
        let reserve = || table::reserve(arena, Some((self.member.index, self.handle)), name, daemon | tied);
        let (index, handle) = match reserve() {
            Err(Errno::Procs) => {
                spin(LEAVE_PATIENCE, || !table::is_anybody_leaving(arena));
                reserve()?
            }
            reserved => reserved?,
        };
        let pid = arena.process_id(self.member.index)?.load(Ordering::Acquire);
        arena.process(index)?.remember_parent(self.member.slot()?, pid);
        self.started += 1;
        Ok((index, handle))
    }

    /// Forks. The child is a child of the supervisor, as this process is, and goes on at this point as well.
    ///
    /// `PROCS` if the table is full; `RUNMEM` if all processes together would have too much memory; `SYSTEM` if the
    /// kernel can't fork; `PERM` if the caller is daemonic and not tied.
    pub(crate) fn fork(&mut self, name: &str, flags: u32) -> Result<Forked> {
        self.stdio.flush();
        let reserved = self.reserve(name, flags)?;
        self.fork_into(reserved)
    }

    /// Forks the process that does a task: the process gets a slot whatever other tasks have left behind.
    pub(crate) fn fork_for_host(&mut self) -> Result<Forked> {
        self.stdio.flush();
        let reserved = self.reserve_for_host("", FLAG_NOT_DAEMON)?;
        self.fork_into(reserved)
    }

    fn fork_into(&mut self, (index, handle): (u32, ProcessHandle)) -> Result<Forked> {
        // The child then need not allocate.
        self.identity.reserve(1);
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
                self.started -= 1;
                self.take_back(index)?;
                Err(error)
            }
        }
    }

    #[inline]
    fn fork_reserved(&self, index: u32) -> Result<Fork> {
        // The child has as much memory as this process.
        if let Some(max) = self.limits.run_memory_max {
            budget::take(&self.member, index, self.member.slot()?.memory(), max)?;
        }
        // The objects are shared before the child exists: the child could run while the parent gives its objects back.
        for object in self.holds.keys() {
            object::share(&self.member, *object, index)?;
        }
        clone::fork(Parent::CallersParent, self.member.arena.process_id(index)?).map_err(|_| Errno::System)
    }

    /// Sets up a process that was just forked from a guest, in that process.
    fn become_child(&mut self, index: u32, handle: ProcessHandle) {
        super::boot::die_with_supervisor(self.supervisor_pid);
        self.parent = Some(self.handle);
        self.handle = handle;
        self.member.index = index;
        self.identity.push(self.started);
        self.started = 0;
        self.file_bytes = 0;
        self.is_host_worker = false;
        self.is_mute = false;
        // Dropping `None` would still call code that a short process doesn't run otherwise.
        if self.held.is_some() {
            self.held = None;
        }
        if self.entry.is_some() {
            self.entry = None;
        }
        self.stdio.forked(&self.member);
        let _ = self.mark_running(index);
    }

    /// Sets up a process that the fork server just made, in that process: takes its payload and handles, and tells its
    /// parent that it runs.
    pub(crate) fn become_spawned(&mut self, index: u32, handle: ProcessHandle) -> Result<()> {
        self.handle = handle;
        self.member.index = index;
        self.stdio.forked(&self.member);
        let arena = self.member.arena.clone();
        let slot = arena.process(index)?;
        self.parent = Some(slot.parent());
        let spawned = table::update(&arena, index, |old| {
            (old.state == State::Spawning).then_some(StateWord { state: State::Running, ..old })
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

    /// Both sides do this, so that it is done as soon as either runs.
    fn mark_running(&self, index: u32) -> Result<()> {
        table::update(&self.member.arena, index, |old| {
            (old.state == State::Reserved).then_some(StateWord { state: State::Running, ..old })
        })?;
        Ok(())
    }

    /// Makes the supervisor start a process with fresh memory, and waits until that process runs.
    pub(crate) fn spawn(
        &mut self,
        name: &str,
        flags: u32,
        payload: &[u8],
        handles: &[Handle],
    ) -> Result<ProcessHandle> {
        self.stdio.flush();
        let handle = self.ask_for_spawn(name, flags, payload, handles)?;
        let index = handle.index()?;
        let own = self.member.slot()?;
        let waiting =
            || table::state(&self.member.arena, index).is_ok_and(|state| state.state == State::Spawning);
        while waiting() {
            own.event.sleep_for_supervisor(|| !waiting());
        }
        if let Some(error) = self.spawn_failure(handle)? {
            self.started -= 1;
            self.take_back(index)?;
            return Err(error);
        }
        Ok(handle)
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
            object::find(&self.member, *handle)?;
        }
        let (index, handle) = self.reserve(name, flags)?;
        if let Err(error) = self.spawn_reserved(index, payload, handles) {
            self.started -= 1;
            self.take_back(index)?;
            return Err(error);
        }
        Ok(handle)
    }

    /// The reason why the supervisor couldn't start a process, if it couldn't.
    pub(crate) fn spawn_failure(&self, handle: ProcessHandle) -> Result<Option<Errno>> {
        let (index, state) = self.child(handle)?;
        let failure = &self.member.arena.process(index)?.failure;
        Ok((state.state == State::Failed)
            .then(|| Errno::from_code(failure.load(Ordering::Acquire) as i32).unwrap_or(Errno::System)))
    }

    /// Gives back the slot of a child that never ran, with all that the child was to be given.
    pub(crate) fn take_back(&self, index: u32) -> Result<()> {
        let register = self.member.slot()?.register(Register::Outgoing);
        for register in [register, self.member.arena.process(index)?.register(Register::Outgoing)] {
            if register.load(Ordering::Relaxed) != 0 {
                heap::free(&self.member, register)?;
            }
        }
        sweep(Sweep::of_holds(index), &self.member)?;
        budget::give_back(&self.member, index)?;
        table::free(&self.member.arena, index, |_| true)?;
        Ok(())
    }

    fn spawn_reserved(&self, index: u32, payload: &[u8], handles: &[Handle]) -> Result<()> {
        let arena = &*self.member.arena;
        let own = self.member.slot()?;
        let child = arena.process(index)?;
        for handle in handles {
            object::share(&self.member, *handle, index)?;
        }
        let mut head = (self.identity.len() as u32 + 1).to_le_bytes().to_vec();
        self.identity.iter().chain([&self.started]).for_each(|number| head.extend(number.to_le_bytes()));
        message::compose(
            &self.member,
            &[&head, payload],
            handles,
            Carry::Uncounted,
            own.register(Register::Outgoing),
        )?;
        heap::hand_over(&self.member, own.register(Register::Outgoing), child.register(Register::Outgoing))?;
        let claim = standby::claim(arena, index);
        table::update(arena, index, |old| Some(StateWord { state: State::Spawning, ..old }))?;
        if let Some(claim) = claim {
            claim.go();
        }
        // If no process stood by, the supervisor is to start one for this slot; otherwise the next to stand by.
        self.ring_for(index)
    }

    /// Takes the payload and handles of a process that was just spawned, in that process.
    pub(crate) fn take_entry(&mut self) -> Result<()> {
        let register = self.member.slot()?.register(Register::Outgoing);
        let page = register.load(Ordering::Acquire);
        if page == 0 {
            return Ok(());
        }
        let message = Message::at(&self.member, page)?;
        let handles = message.handles(&self.member)?;
        let mut bytes = std::mem::take(&mut self.room);
        bytes.resize(message.len as usize, 0);
        message.read(&self.member, &mut bytes)?;
        heap::free(&self.member, register)?;
        let (count, rest) = bytes.split_first_chunk::<4>().ok_or(Errno::Io)?;
        let (identity, payload) = rest
            .split_at_checked((u32::from_le_bytes(*count) as usize).saturating_mul(4))
            .ok_or(Errno::Io)?;
        self.identity.clear();
        self.identity.extend(identity.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number)));
        for handle in &handles {
            self.hold(*handle);
        }
        let head = bytes.len() - payload.len();
        bytes.drain(..head);
        self.entry = Some(Entry { payload: bytes, handles });
        Ok(())
    }

    /// Makes the supervisor look at a slot.
    fn ring_for(&self, index: u32) -> Result<()> {
        table::request(&self.member.arena, index)?;
        // If the counter is full, the doorbell has been rung already.
        let _ = nix::unistd::write(&*self.doorbell, &1_u64.to_ne_bytes());
        Ok(())
    }

    /// The slot and state of a child of this process.
    ///
    /// `BADF` if the handle names no process, `CHILD` if it names another process's child.
    fn child(&self, handle: ProcessHandle) -> Result<(u32, StateWord)> {
        let (index, state) = table::resolve(&self.member.arena, handle)?;
        if self.member.arena.process(index)?.parent() != self.handle {
            return Err(Errno::Child);
        }
        Ok((index, state))
    }

    /// Whether a child or the parent has ended. A parent whose slot is gone has ended.
    pub(crate) fn has_ended(&self, handle: ProcessHandle) -> Result<bool> {
        if self.parent == Some(handle) {
            return Ok(
                table::resolve(&self.member.arena, handle).map_or(true, |(_, state)| !state.is_alive())
            );
        }
        Ok(!self.child(handle)?.1.is_alive())
    }

    /// Waits until the process of this handle has ended; returns whether it has.
    pub(crate) fn join(&self, handle: ProcessHandle, deadline: Deadline) -> Result<bool> {
        self.stdio.flush();
        let own = self.member.slot()?;
        spin(JOIN_SPIN, || self.has_ended(handle).unwrap_or(true));
        let index = handle.index()?;
        let ended = || self.has_ended(handle).unwrap_or(true);
        while !self.has_ended(handle)? {
            match own.event.sleep(&self.member, Waiting::Process(index), deadline, ended) {
                Err(Errno::Again | Errno::Timedout) => return self.has_ended(handle),
                slept => slept?,
            }
        }
        Ok(true)
    }

    /// Waits until a child has ended, or until `until` holds; this process's event tells of changes of `until`. Returns
    /// whether the child has ended.
    pub(crate) fn join_or(&self, handle: ProcessHandle, until: impl Fn() -> bool) -> Result<bool> {
        let own = self.member.slot()?;
        let waiting = Waiting::Process(handle.index()?);
        let ready = || self.has_ended(handle).unwrap_or(true) || until();
        spin(JOIN_SPIN, ready);
        while !ready() {
            own.event.sleep(&self.member, waiting, Deadline::NEVER, ready)?;
        }
        self.has_ended(handle)
    }

    /// Waits until one of these is ready, and returns which of them are; all are false if the time is over.
    pub(crate) fn wait(&self, handles: &[u64], deadline: Deadline) -> Result<Vec<bool>> {
        self.stdio.flush();
        let own = self.member.slot()?;
        let targets = handles.iter().map(|handle| self.target(*handle)).collect::<Result<Vec<_>>>()?;
        let is_ready = |target: &Target<'_>| match target {
            Target::Process(handle) => self.has_ended(*handle).unwrap_or(true),
            Target::Object(object) => object.is_ready(),
        };
        let events = targets.iter().map(|target| match target {
            Target::Process(_) => &own.event,
            Target::Object(object) => object.changed(),
        });
        let look = || {
            let ready: Vec<_> = targets.iter().map(is_ready).collect();
            (ready.is_empty() || ready.contains(&true)).then_some(ready)
        };
        match event::wait_for_any(&self.member, events, deadline, look) {
            Err(Errno::Again | Errno::Timedout) => Ok(targets.iter().map(is_ready).collect()),
            found => found,
        }
    }

    /// Notes what the process waits for with these handles, for a report.
    pub(crate) fn note_waited(&mut self, handles: &[u64]) {
        let waited = handles.iter().filter_map(|handle| {
            let process = ProcessHandle(*handle);
            if process.is_one() {
                return process.index().ok().map(Waiting::Process);
            }
            kind::waiting(&self.member, Handle(*handle))
        });
        self.waited = waited.collect();
    }

    /// The process or object that a handle names, to wait for it.
    fn target(&self, handle: u64) -> Result<Target<'_>> {
        let process = ProcessHandle(handle);
        if process.is_one() {
            self.has_ended(process)?;
            return Ok(Target::Process(process));
        }
        kind::waitable(&self.member, Handle(handle)).map(Target::Object)
    }

    /// How a child ended.
    ///
    /// `AGAIN` while the child is alive.
    pub(crate) fn exit_status(&self, handle: ProcessHandle) -> Result<Outcome> {
        let (index, state) = self.child(handle)?;
        if state.is_alive() {
            return Err(Errno::Again);
        }
        let slot = self.member.arena.process(index)?;
        Ok(if state.state == State::Leaving { slot.claimed() } else { slot.exit() })
    }

    /// Makes the supervisor send a child SIGINT, SIGTERM or SIGKILL.
    pub(crate) fn signal(&self, handle: ProcessHandle, signal: i32) -> Result<()> {
        if !matches!(signal, nix::libc::SIGINT | nix::libc::SIGTERM | nix::libc::SIGKILL) {
            return Err(Errno::Inval);
        }
        let (index, state) = self.child(handle)?;
        if state.is_alive() {
            let wanted = &self.member.arena.process(index)?.wanted_signals;
            wanted.fetch_or(1 << signal, Ordering::AcqRel);
            self.ring_for(index)?;
        }
        Ok(())
    }

    /// The end of what a child has written to its stderr since its task began.
    pub(crate) fn stderr_of(&self, handle: ProcessHandle) -> Result<Vec<u8>> {
        let (index, _) = self.child(handle)?;
        tail::read(&self.member.arena, index)
    }

    /// The claims of a child, or those that it had when it ended.
    pub(crate) fn claims_of(&self, handle: ProcessHandle) -> Result<Claims> {
        let (index, _) = self.child(handle)?;
        Ok(self.member.arena.process(index)?.claims.get())
    }

    /// Kills a child that is at this work.
    ///
    /// `AGAIN` if the child isn't at this work.
    pub(crate) fn kill_at(&self, handle: ProcessHandle, work: u64) -> Result<()> {
        let (index, _) = self.child(handle)?;
        if !self.member.arena.process(index)?.claims.doom(work) {
            return Err(Errno::Again);
        }
        self.signal(handle, nix::libc::SIGKILL)
    }

    /// Dooms a child for this work if a child of that child does the work: the child itself kills that one, and goes
    /// on. Only a process's parent knows that the process's slot isn't another's by now.
    pub(crate) fn doom_at(&self, handle: ProcessHandle, work: u64) -> Result<()> {
        let (index, _) = self.child(handle)?;
        let child = self.member.arena.process(index)?;
        if !child.claims.doom(work) {
            return Err(Errno::Again);
        }
        child.event.notify_all(&self.member.arena);
        Ok(())
    }

    /// Gives back the slot of a child that has ended.
    pub(crate) fn close(&self, handle: ProcessHandle) -> Result<()> {
        let (index, _) = self.child(handle)?;
        let released = |old: StateWord| (!old.is_alive()).then(|| old.released());
        table::update(&self.member.arena, index, released)?.map(drop).ok_or(Errno::Busy)
    }

    /// Leaves the slot of a child to the supervisor, which frees the slot when the child ends.
    pub(crate) fn detach(&self, handle: ProcessHandle) -> Result<()> {
        let (index, _) = self.child(handle)?;
        table::update(&self.member.arena, index, |old| Some(old.released()))?;
        Ok(())
    }

    /// Ends all children except those in `kept`, and gives their slots back.
    pub(crate) fn forget_children(&self, kept: &[ProcessHandle], interrupted: impl Fn()) {
        self.end_children(kept, interrupted);
        for (index, state) in table::children(&self.member.arena, self.member.index) {
            let child = ProcessHandle::new(index, state.generation);
            if !kept.contains(&child) {
                let _ = self.close(child);
            }
        }
    }

    /// The children that are alive.
    pub(crate) fn children(&self) -> Vec<ProcessHandle> {
        table::children(&self.member.arena, self.member.index)
            .filter(|(_, state)| state.is_alive())
            .map(|(index, state)| ProcessHandle::new(index, state.generation))
            .collect()
    }

    /// The facts that this process may know of itself, of a child, and of its parent, even if the parent is long gone.
    pub(crate) fn describe(&self, handle: ProcessHandle) -> Result<Description> {
        let arena = &*self.member.arena;
        let own = self.member.slot()?;
        if self.parent == Some(handle) {
            let pid = own.parent_pid.load(Ordering::Acquire);
            let is_alive = !self.has_ended(handle)?;
            // The parent counts as not daemonic: a daemonic process that isn't tied has no children.
            return Ok(Description {
                pid,
                parent_pid: 0,
                is_daemon: false,
                is_alive,
                name: own.parent_name(),
            });
        }
        let (index, state) =
            if handle == self.handle { table::resolve(arena, handle)? } else { self.child(handle)? };
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

    /// Gives back all that the process holds, says that the process has ended, and how, and wakes its parent: the rest
    /// of the end is the kernel's, and nobody needs to wait for it. If something is left for the supervisor, the
    /// supervisor says that the process has ended.
    pub(crate) fn leave(&self) {
        if self.parent.is_some()
            && self.started == 0
            && self.holds.keys().try_for_each(|object| object::release(&self.member, *object)).is_ok()
            && let Ok(slot) = self.member.slot()
            && Register::ALL.iter().all(|register| slot.register(*register).load(Ordering::Relaxed) == 0)
            && budget::give_back(&self.member, self.member.index).is_ok()
        {
            let leaving = |old: StateWord| {
                (old.state == State::Running).then_some(StateWord { state: State::Leaving, ..old })
            };
            if let Ok(Some(state)) = table::update(&self.member.arena, self.member.index, leaving) {
                self.tell_parent(state);
            }
        }
    }

    /// Wakes the parent that `state` names, if it names one.
    fn tell_parent(&self, state: StateWord) {
        let arena = &*self.member.arena;
        if let Ok(parent) = arena.process(u32::from(state.parent)) {
            parent.event.notify_all(arena);
        }
    }

    /// Looks after the children of a process that ends by itself. If the children wait for ever, so does the process:
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
    pub(crate) fn end_family(&self, interrupted: impl Fn()) {
        if self.started == 0 {
            return;
        }
        self.end_daemons(&[]);
        self.give_back();
        self.wait_for_children(&[], interrupted);
    }

    /// Ends the daemonic children, and waits for all children, except those in `kept`.
    fn end_children(&self, kept: &[ProcessHandle], interrupted: impl Fn()) {
        if self.started != 0 {
            self.end_daemons(kept);
            self.wait_for_children(kept, interrupted);
        }
    }

    /// Gives back all that the process holds, including the message in its hands. Damaged objects are left to the
    /// supervisor.
    fn give_back(&self) {
        for object in self.holds.keys() {
            let _ = object::release(&self.member, *object);
        }
        if let Ok(slot) = self.member.slot()
            && slot.register(Register::Incoming).load(Ordering::Relaxed) != 0
        {
            let _ = self.discard_message();
        }
    }

    /// Ends the daemonic children except those in `kept`. Nothing can hold that up.
    fn end_daemons(&self, kept: &[ProcessHandle]) {
        let arena = &*self.member.arena;
        let mut any = false;
        for (index, _) in self.living_children(kept).filter(|(_, state)| state.flags & DAEMON != 0) {
            if let Ok(child) = arena.process(index) {
                child.wanted_signals.fetch_or(1 << nix::libc::SIGTERM, Ordering::AcqRel);
            }
            let _ = self.ring_for(index);
            any = true;
        }
        if let Ok(own) = self.member.slot()
            && any
        {
            let are_left = || self.living_children(kept).any(|(_, state)| state.flags & DAEMON != 0);
            while are_left() {
                own.event.sleep_for_supervisor(|| !are_left());
            }
        }
    }

    fn wait_for_children(&self, kept: &[ProcessHandle], interrupted: impl Fn()) {
        let Ok(own) = self.member.slot() else { return };
        let all_ended = || self.living_children(kept).next().is_none();
        while !all_ended() {
            let slept = own.event.sleep(&self.member, Waiting::Children, Deadline::NEVER, all_ended);
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
        table::children(&self.member.arena, self.member.index).filter(|(index, state)| {
            state.is_alive() && !kept.contains(&ProcessHandle::new(*index, state.generation))
        })
    }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;
    use crate::ipc::arena::Geometry;
    use crate::ipc::object::count_live;
    use crate::ipc::queue::{self, Account};
    use crate::testing::alone::Alone;

    const OWN: u64 = 400;
    const MAX: u64 = 1000;

    /// A process that has `OWN` bytes of memory, of the `MAX` that all may have, and a queue.
    fn parent() -> (Alone, Process, Handle) {
        let alone = Alone::new(Geometry { processes_max: 2, objects_max: 8, heap_pages: 64 });
        let mut process = alone.guest().process;
        process.limits.run_memory_max = Some(MAX);
        budget::take(&process.member, process.member.index, OWN, MAX).unwrap();
        let queue = queue::create(&process.member, 0, Account::Nothing).unwrap();
        process.hold(queue);
        (alone, process, queue)
    }

    /// Nothing is kept for a child that doesn't exist: no memory, no slot, no object, no number.
    fn is_as_before(process: &mut Process, queue: Handle) {
        assert_eq!(process.started, 0);
        let member = process.member.clone();
        budget::take(&member, 1, MAX - OWN, MAX).unwrap();
        budget::give_back(&member, 1).unwrap();
        let (index, _) = process.reserve("name", 0).unwrap();
        assert_eq!(index, 1);
        process.take_back(index).unwrap();
        process.release(queue).unwrap();
        let heap = &member.arena.header().unwrap().heap;
        assert_eq!((count_live(&member.arena), heap.used_pages()), (Ok(0), 0));
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
        budget::take(&process.member, process.member.index, OWN, MAX).unwrap();
        // A fork, if it were tried, would fail with another error.
        clone::IS_AT_LIMIT.set(true);
        for _ in 0..100 {
            assert_eq!(process.fork("child", 0), Err(Errno::Runmem));
        }
        clone::IS_AT_LIMIT.set(false);
        budget::give_back(&process.member, process.member.index).unwrap();
        budget::take(&process.member, process.member.index, OWN, MAX).unwrap();
        is_as_before(&mut process, queue);
    }

    #[test]
    fn what_a_child_must_not_be_called_or_be_is_refused() {
        let (_alone, mut process, queue) = parent();
        clone::IS_AT_LIMIT.set(true);
        let long = "x".repeat(NAME_MAX + 1);
        assert_eq!(process.fork(&long, 0), Err(Errno::Nametoolong));
        for flags in [FLAG_DAEMON | FLAG_NOT_DAEMON, 1 << 31, u32::MAX] {
            assert_eq!(process.fork("child", flags), Err(Errno::Inval), "{flags}");
        }
        assert_eq!(process.spawn("child", 0, b"", &[Handle(7)]).map(drop), Err(Errno::Badf));
        clone::IS_AT_LIMIT.set(false);
        is_as_before(&mut process, queue);
    }
}
