//! One guest process: its own state, and how it starts, forks and ends.
//!
//! A guest process has one thread and no socket. It holds the arena, its standard streams, the granted directories and
//! one descriptor to ring for the supervisor; everything else was closed when it started.

pub(crate) mod boot;
pub(crate) mod component;
pub(crate) mod deadlock;
pub(crate) mod exit;
pub(crate) mod fork;
pub(crate) mod fork_server;
mod leave;
pub(crate) mod mapped_ranges;
pub(crate) mod mappings;
pub(crate) mod memory;
pub(crate) mod pool_worker;
pub(crate) mod program;
mod spawn;
pub(crate) mod stdio;
mod task;
pub(crate) mod wait;
pub(crate) mod wasi;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use sandpool_abi::Errno;
use sandpool_abi::process::Limit;
use wasmtime_wasi::p1::WasiP1Ctx;

use crate::children::{Children, Description};
use crate::ipc::arena::Participant;
use crate::ipc::message::{self, Message};
use crate::ipc::object::{self, Handle};
use crate::ipc::process_table::{ProcessHandle, ProcessSlot, Register};
use crate::ipc::waiting::Waiting;
use crate::ipc::{budget, collections};
use crate::process::mapped_ranges::Mappings;
use crate::process::stdio::Stdio;
use crate::process::task::{RunningCommand, Task};
use crate::process::wasi::descriptors::Descriptors;
use crate::wire::Command;
use crate::{GuestText, Limits};

/// The data in the store of a guest's instance.
pub(crate) struct Guest {
    pub(crate) wasi: WasiP1Ctx,
    /// The guest's memory, once the guest is instantiated.
    pub(crate) memory: Option<wasmtime::Memory>,
    pub(crate) growth: Growth,
    /// Shared memory in the guest's memory.
    pub(crate) mappings: Mappings,
    pub(crate) process: Process,
}

/// The size of all memories and tables of a process together.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    /// Bytes that they have, or that they tried to get and the kernel refused.
    used: u64,
    /// Bytes of these that are shared memory, which the limit of the arena counts.
    pub(crate) mapped: u64,
    /// Bytes that are charged to the process in the memory of all processes.
    charged: u64,
    /// The limit that refused the last growth, if one did: a trap after that counts as its consequence.
    pub(crate) refused: Option<Limit>,
}

/// The most bytes that an element of a table takes.
const TABLE_ELEMENT: usize = 16;

impl Guest {
    /// Whether the memories and tables may grow by `by` bytes. A growth that isn't refused counts, even if it then
    /// fails for another reason: that is rare, and errs on the safe side.
    fn may_grow(&mut self, by: usize) -> bool {
        let Self { growth, process, .. } = self;
        let used = growth.used.saturating_add(by as u64);
        let own = used.saturating_sub(growth.mapped);
        let max = process.limits.memory_max;
        growth.refused = if own <= max {
            process.charge(&mut growth.charged, own).err()
        } else {
            process.refused(Limit::Memory);
            Some(Limit::Memory(max))
        };
        if growth.refused.is_none() {
            growth.used = used;
            // The fork server has no slot.
            if let Ok(slot) = process.participant().slot() {
                slot.linear_memory.store(used, Ordering::Relaxed);
            }
        }
        growth.refused.is_none()
    }

    /// Charges the process for the memory that it already has: until now this was another process, which wasn't
    /// charged.
    pub(crate) fn charge(&mut self) -> Result<(), Limit> {
        let Self { growth, process, .. } = self;
        growth.charged = 0;
        process.charge(&mut growth.charged, growth.used)
    }
}

impl wasmtime::ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        now: usize,
        wanted: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // The module's own maximum is no limit of the run.
        Ok(maximum.is_none_or(|maximum| wanted <= maximum) && self.may_grow(wanted.saturating_sub(now)))
    }

    fn table_growing(&mut self, now: usize, wanted: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let by = wanted.saturating_sub(now).saturating_mul(TABLE_ELEMENT);
        Ok(maximum.is_none_or(|maximum| wanted <= maximum) && self.may_grow(by))
    }
}

/// A process of a run, from its own point of view.
pub(crate) struct Process {
    pub(crate) children: Children,
    pub(crate) parent: Option<ProcessHandle>,
    supervisor_pid: i32,
    pub(crate) stdio: Arc<Stdio>,
    /// The limits of the process.
    pub(crate) limits: Limits,
    /// Bytes that the process has written to files.
    pub(crate) file_bytes: u64,
    /// How often the guest holds each object.
    pub(crate) holds: HashMap<Handle, u32>,
    /// Descriptors that the library doesn't know.
    pub(crate) descriptors: Descriptors,
    /// An item that was taken from a queue and not yet handed to the guest.
    pub(crate) held: Option<Held>,
    /// The payload and handles that a spawned process was given.
    pub(crate) entry: Option<Entry>,
    /// Room for the payload, if it fits.
    pub(crate) room: Vec<u8>,
    /// The things that the process waits for at once, for the report of a deadlock.
    pub(crate) waited: Vec<Waiting>,
    /// The task that the process calls, if it is a worker of the host's.
    pub(crate) task: Option<Task>,
    /// Whether the process's writes to files and streams are lost, and it makes and removes nothing.
    pub(crate) is_mute: bool,
    /// Whether the process is a worker of the host's, or does the task of one. Its claims are then the host's affair.
    pub(crate) is_host_worker: bool,
    /// The command that the process runs for a pool, until its result is put.
    pub(crate) command: Option<Box<RunningCommand>>,
    /// The arguments and variables of the program.
    pub(crate) strings: Arc<Strings>,
    /// Whether the run may communicate with the outside.
    pub(crate) has_gateway: bool,
}

/// The arguments and variables of a program, each text with the zero byte that ends it.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) env: Vec<Vec<u8>>,
}

impl Strings {
    pub(crate) fn new(args: &[String], env: &[(String, String)]) -> Self {
        let mut strings = Self::default();
        strings.set_args(args);
        env.iter().for_each(|(key, value)| strings.set_variable(key.as_bytes(), value.as_bytes()));
        strings
    }

    fn set_args(&mut self, args: &[impl AsRef<[u8]>]) {
        self.args = args.iter().map(|arg| [arg.as_ref(), b"\0"].concat()).collect();
    }

    /// Sets a variable, in place of one of the same name.
    fn set_variable(&mut self, key: &[u8], value: &[u8]) {
        let name = [key, b"="].concat();
        self.env.retain(|known| !known.starts_with(&name));
        self.env.push([&name, value, b"\0"].concat());
    }
}

/// An item between `get` and `take`.
#[derive(Debug)]
pub(crate) enum Held {
    Bytes(Vec<u8>),
    Message(Message),
}

/// The payload and handles with which a process was spawned.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) payload: Vec<u8>,
    pub(crate) handles: Vec<Handle>,
}

/// The processor time of this process until now, in nanoseconds.
fn cpu_nanos() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The kind of limit that makes a call fail with this errno, if one does.
pub(crate) fn limit_behind(errno: Errno) -> Option<fn(u64) -> Limit> {
    match errno {
        Errno::Procs => Some(Limit::Processes),
        Errno::Nfile => Some(Limit::Objects),
        Errno::Nomem | Errno::Msgsize => Some(Limit::Arena),
        Errno::Runmem => Some(Limit::RunMemory),
        _ => None,
    }
}

impl Process {
    pub(crate) fn new(
        children: Children,
        parent: Option<ProcessHandle>,
        supervisor_pid: i32,
        stdio: Arc<Stdio>,
        limits: Limits,
    ) -> Self {
        Self {
            children,
            parent,
            supervisor_pid,
            stdio,
            limits,
            file_bytes: 0,
            holds: HashMap::new(),
            descriptors: Descriptors::default(),
            held: None,
            entry: None,
            // A process that is forked later need not allocate: the kernel copies each page of the heap that the process
            // writes to.
            room: Vec::with_capacity(512),
            waited: Vec::new(),
            task: None,
            is_mute: false,
            is_host_worker: false,
            command: None,
            strings: Arc::default(),
            has_gateway: false,
        }
    }

    /// Gives the process what a command has of its own.
    fn begin_command(&mut self, command: Command) {
        let Command { args, env, stdin } = command;
        let mut strings = Strings { args: Vec::new(), env: self.strings.env.clone() };
        strings.set_args(&args);
        for (key, value) in env {
            strings.set_variable(&key, &value);
        }
        self.strings = Arc::new(strings);
        self.stdio.begin_command(stdin);
    }

    /// The view that the process has of the arena.
    #[inline]
    pub(crate) fn participant(&self) -> &Participant {
        &self.children.participant
    }

    /// The handle of the process itself.
    #[inline]
    pub(crate) fn handle(&self) -> ProcessHandle {
        self.children.handle
    }

    /// The facts that the process may know of itself, of a child, and of its parent, even if the parent is long gone.
    pub(crate) fn describe(&self, handle: ProcessHandle) -> Result<Description, Errno> {
        if self.parent != Some(handle) {
            return self.children.describe(handle);
        }
        let own = self.participant().slot()?;
        Ok(Description {
            pid: own.parent_pid.load(Ordering::Acquire),
            parent_pid: 0,
            // The parent counts as not daemonic: a daemonic process that isn't tied has no children.
            is_daemon: false,
            is_alive: !self.has_ended(handle)?,
            name: own.parent_name(),
        })
    }

    /// The name of the process, for messages.
    pub(crate) fn name(&self) -> GuestText {
        GuestText::from_bytes(&self.participant().slot().map(ProcessSlot::name).unwrap_or_default())
    }

    /// The limit with this code, if it is set.
    pub(crate) fn limit(&self, code: u32) -> Option<Limit> {
        let output = self.task.as_ref().map(|task| Limit::Output(task.output_max));
        output.filter(|limit| limit.code() == code).or_else(|| self.limits.by_code(code))
    }

    /// Notes that a limit of this kind has refused the process something: the owner of the run is to learn of it.
    #[cold]
    pub(crate) fn refused(&self, kind: fn(u64) -> Limit) {
        if let Ok(slot) = self.participant().slot() {
            slot.note_refusal(kind);
        }
    }

    /// Passes on the result of a call, and notes whether a limit has refused the call.
    #[inline]
    pub(crate) fn noting<T>(&self, result: Result<T, Errno>) -> Result<T, Errno> {
        if let Err(errno) = result {
            self.note(errno);
        }
        result
    }

    /// Makes something in the arena. If there is no room, the attempt is repeated once after objects that nobody can
    /// reach are gone.
    pub(crate) fn making<T>(&self, attempt: impl Fn(&Participant) -> Result<T, Errno>) -> Result<T, Errno> {
        self.noting(collections::retry(self.participant(), || attempt(self.participant())))
    }

    #[cold]
    fn note(&self, errno: Errno) {
        if let Some(kind) = limit_behind(errno) {
            self.refused(kind);
        }
    }

    /// Charges the process for `wanted` bytes, of which `charged` are charged already.
    fn charge(&self, charged: &mut u64, wanted: u64) -> Result<(), Limit> {
        // The fork server is no process of the run, and has no slot of the table.
        let is_counted = self.participant().index < self.participant().arena.geometry.processes_max;
        if let Some(max) = self.limits.run_memory_max.filter(|_| is_counted)
            && let Some(more) = wanted.checked_sub(*charged).filter(|more| *more > 0)
        {
            if budget::take(self.participant(), self.participant().index, more, max).is_err() {
                self.refused(Limit::RunMemory);
                return Err(Limit::RunMemory(max));
            }
            *charged = wanted;
        }
        Ok(())
    }

    /// Counts one more use of an object that the process was given.
    pub(crate) fn hold(&mut self, handle: Handle) {
        *self.holds.entry(handle).or_insert(0) += 1;
    }

    /// Throws away an item that was taken and not handed to the guest.
    #[inline]
    pub(crate) fn discard_held(&mut self) -> Result<(), Errno> {
        match self.held.take() {
            Some(Held::Message(_)) => self.discard_message(),
            _ => Ok(()),
        }
    }

    #[cold]
    fn discard_message(&self) -> Result<(), Errno> {
        let mut unused = Vec::new();
        message::discard(
            self.participant(),
            self.participant().slot()?.register(Register::Incoming),
            &mut unused,
        )?;
        for index in unused {
            object::destroy_if_unused(self.participant(), index)?;
        }
        Ok(())
    }

    /// How often the guest holds an object.
    pub(crate) fn uses(&self, handle: Handle) -> u32 {
        self.holds.get(&handle).copied().unwrap_or(0)
    }

    /// Counts one use less; with the last one, the process gives the object back.
    pub(crate) fn release(&mut self, handle: Handle) -> Result<(), Errno> {
        let uses = self.holds.get_mut(&handle).ok_or(Errno::Badf)?;
        *uses -= 1;
        if *uses == 0 {
            self.holds.remove(&handle);
            object::release(self.participant(), handle)?;
        }
        Ok(())
    }
}
