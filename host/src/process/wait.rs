//! How a guest process waits for its children, its parent, and several things at once.

use std::time::Duration;

use sandpool_abi::Errno;

use super::Process;
use crate::ipc::kind::{self, Waitable};
use crate::ipc::object::Handle;
use crate::ipc::process_table::{self as table, ProcessHandle};
use crate::ipc::waiting::Waiting;
use crate::ipc::{Result, event};
use crate::sys::futex::{Deadline, spin};

/// How long a parent looks for the end of a child before it sleeps: about as long as a short process lives. A wake of a
/// processor that has gone idle costs a large part of what the whole process costs; and a join happens once for each
/// process, so that this at most doubles its cost.
const JOIN_SPIN: Duration = Duration::from_micros(150);

/// One of several things that a process waits for.
enum Target<'a> {
    Process(ProcessHandle),
    Object(&'a dyn Waitable),
}

impl Process {
    /// Whether a child or the parent has ended. A parent whose slot is gone has ended.
    pub(crate) fn has_ended(&self, handle: ProcessHandle) -> Result<bool> {
        if self.parent == Some(handle) {
            return Ok(table::resolve(&self.participant().arena, handle)
                .map_or(true, |(_, state)| !state.is_alive()));
        }
        self.children.has_ended(handle)
    }

    /// Waits until the process of this handle has ended; returns whether it has.
    pub(crate) fn join(&self, handle: ProcessHandle, deadline: Deadline) -> Result<bool> {
        self.stdio.flush();
        let own = self.participant().slot()?;
        spin(JOIN_SPIN, || self.has_ended(handle).unwrap_or(true));
        let index = handle.index()?;
        let ended = || self.has_ended(handle).unwrap_or(true);
        while !self.has_ended(handle)? {
            match own.event.sleep(self.participant(), Waiting::Process(index), deadline, ended) {
                Err(Errno::Again | Errno::Timedout) => return self.has_ended(handle),
                slept => slept?,
            }
        }
        Ok(true)
    }

    /// Waits until a child has ended, or until `until` holds; this process's event tells of changes of `until`. Returns
    /// whether the child has ended.
    pub(crate) fn join_or(&self, handle: ProcessHandle, until: impl Fn() -> bool) -> Result<bool> {
        let own = self.participant().slot()?;
        let waiting = Waiting::Process(handle.index()?);
        let ready = || self.has_ended(handle).unwrap_or(true) || until();
        spin(JOIN_SPIN, ready);
        while !ready() {
            own.event.sleep(self.participant(), waiting, Deadline::NEVER, ready)?;
        }
        self.has_ended(handle)
    }

    /// Waits until one of these is ready, and returns which of them are; all are false if the time is over.
    pub(crate) fn wait(&self, handles: &[u64], deadline: Deadline) -> Result<Vec<bool>> {
        self.stdio.flush();
        let own = self.participant().slot()?;
        let targets = handles.iter().map(|handle| self.target(*handle)).collect::<Result<Vec<_>>>()?;
        let is_of_outside = |handle: &u64| kind::is_of_outside(self.participant(), Handle(*handle));
        let deadline = if deadline == Deadline::NEVER && handles.iter().any(is_of_outside) {
            Deadline::never_noted()
        } else {
            deadline
        };
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
        match event::wait_for_any(self.participant(), events, deadline, look) {
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
            kind::waiting(self.participant(), Handle(*handle))
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
        kind::waitable(self.participant(), Handle(handle)).map(Target::Object)
    }
}
