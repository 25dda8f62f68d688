//! One guest process: what it knows of itself, and how it starts, forks and ends.
//!
//! A guest process has one thread and no socket. It holds the arena, its standard streams, the granted directories
//! and one descriptor to ring for the supervisor with; everything else was closed when it started.

pub(crate) mod boot;
pub(crate) mod deadlock;
pub(crate) mod exit;
pub(crate) mod family;
pub(crate) mod fork_server;
pub(crate) mod mappings;
pub(crate) mod memory;
pub(crate) mod stdio;
pub(crate) mod task;
pub(crate) mod wasi;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use sandpool_abi::Errno;
use sandpool_abi::process::Limit;
use wasmtime_wasi::p1::WasiP1Ctx;

use crate::ipc::arena::Member;
use crate::ipc::message::{self, Message};
use crate::ipc::object::{self, Handle};
use crate::ipc::process_table::{ProcessHandle, ProcessSlot, Register};
use crate::ipc::waiting::Waiting;
use crate::ipc::{budget, collections};
use crate::process::mappings::Mappings;
use crate::process::stdio::Stdio;
use crate::process::task::Task;
use crate::{GuestText, Limits};

/// What the store of a guest's instance carries.
pub(crate) struct Guest {
    pub(crate) wasi: WasiP1Ctx,
    /// Its memory, from the moment it is instantiated.
    pub(crate) memory: Option<wasmtime::Memory>,
    pub(crate) growth: Growth,
    /// Shared memory in it.
    pub(crate) mappings: Mappings,
    pub(crate) process: Process,
}

/// What the memories and tables of a process have, all of them together.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    /// Bytes that they have, or once tried to get and the kernel refused.
    used: u64,
    /// Bytes of it that are shared memory, which has a limit of its own: the arena's.
    pub(crate) mapped: u64,
    /// Bytes that count as the process's among the memory of all.
    charged: u64,
    /// The limit that has refused the last time: a trap behind that is taken for its consequence.
    pub(crate) refused: Option<Limit>,
}

/// What an element of a table takes, at most.
const TABLE_ELEMENT: usize = 16;

impl Guest {
    /// Whether its memories and tables may get so much larger. What isn't refused counts, also if it then fails for another
    /// reason: that is rare, and errs on the safe side.
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
        }
        growth.refused.is_none()
    }

    /// The same for what it has: it was another process's until now, which counted for nothing.
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
        // Its own maximum is the module's affair.
        Ok(maximum.is_none_or(|maximum| wanted <= maximum) && self.may_grow(wanted.saturating_sub(now)))
    }

    fn table_growing(&mut self, now: usize, wanted: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let by = wanted.saturating_sub(now).saturating_mul(TABLE_ELEMENT);
        Ok(maximum.is_none_or(|maximum| wanted <= maximum) && self.may_grow(by))
    }
}

/// A process of a run, as it sees itself.
pub(crate) struct Process {
    pub(crate) member: Member,
    pub(crate) handle: ProcessHandle,
    pub(crate) parent: Option<ProcessHandle>,
    /// `[2, 1]` is the first child of the second child of the main process.
    pub(crate) identity: Vec<u32>,
    /// How many children it has started.
    pub(crate) started: u32,
    pub(crate) supervisor_pid: i32,
    pub(crate) doorbell: Arc<OwnedFd>,
    pub(crate) stdio: Arc<Stdio>,
    /// What it may use.
    pub(crate) limits: Limits,
    /// Bytes that it has written to files.
    pub(crate) file_bytes: u64,
    /// How often the guest holds each object.
    pub(crate) holds: HashMap<Handle, u32>,
    /// An item that was taken from a queue and not yet handed to the guest.
    pub(crate) held: Option<Held>,
    /// What a spawned process was given.
    pub(crate) entry: Option<Entry>,
    /// Where that goes, if it is large enough.
    pub(crate) room: Vec<u8>,
    /// What it waits for at once, when all of the run wait.
    pub(crate) waited: Vec<Waiting>,
    /// The task that it calls, if it is a worker of the host's.
    pub(crate) task: Option<Task>,
    /// Its writes to files and streams are lost, and it makes and removes nothing.
    pub(crate) is_mute: bool,
    /// It is a worker of the host's, or does the task of one. Its claims are the host's affair.
    pub(crate) is_host_worker: bool,
}

/// An item between `get` and `take`.
#[derive(Debug)]
pub(crate) enum Held {
    Bytes(Vec<u8>),
    Message(Message),
}

/// What a process was spawned with.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) payload: Vec<u8>,
    pub(crate) handles: Vec<Handle>,
}

/// The kind of limit that a call comes to with this errno, if it does.
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
    /// Its name, for messages.
    pub(crate) fn name(&self) -> GuestText {
        GuestText::from_bytes(&self.member.slot().map(ProcessSlot::name).unwrap_or_default())
    }

    /// The limit of this code, if it is set.
    pub(crate) fn limit(&self, code: u32) -> Option<Limit> {
        let output = self.task.as_ref().map(|task| Limit::Output(task.output_max));
        output.filter(|limit| limit.code() == code).or_else(|| self.limits.by_code(code))
    }

    /// A limit of this kind has refused it something: the owner of the run is to learn of it.
    #[cold]
    pub(crate) fn refused(&self, kind: fn(u64) -> Limit) {
        if let Ok(slot) = self.member.slot() {
            slot.note_refusal(kind);
        }
    }

    /// Passes on what a call has come to, and notes whether it was refused by a limit.
    #[inline]
    pub(crate) fn noting<T>(&self, result: Result<T, Errno>) -> Result<T, Errno> {
        if let Err(errno) = result {
            self.note(errno);
        }
        result
    }

    /// Makes something in the arena. If there is no room, it is tried once more when what nobody can reach is gone.
    pub(crate) fn making<T>(&self, attempt: impl Fn(&Member) -> Result<T, Errno>) -> Result<T, Errno> {
        self.noting(collections::retry(&self.member, || attempt(&self.member)))
    }

    #[cold]
    fn note(&self, errno: Errno) {
        if let Some(kind) = limit_behind(errno) {
            self.refused(kind);
        }
    }

    /// Has as many bytes count for its own as are `wanted`, of which so many do.
    fn charge(&self, charged: &mut u64, wanted: u64) -> Result<(), Limit> {
        // The fork server is none of the run's processes, and has no slot of the table.
        let is_counted = self.member.index < self.member.arena.geometry.processes_max;
        if let Some(max) = self.limits.run_memory_max.filter(|_| is_counted)
            && let Some(more) = wanted.checked_sub(*charged).filter(|more| *more > 0)
        {
            if budget::take(&self.member, self.member.index, more, max).is_err() {
                self.refused(Limit::RunMemory);
                return Err(Limit::RunMemory(max));
            }
            *charged = wanted;
        }
        Ok(())
    }

    /// One more use of an object that the process was given.
    pub(crate) fn hold(&mut self, handle: Handle) {
        *self.holds.entry(handle).or_insert(0) += 1;
    }

    /// Throws away what was taken and not handed to the guest.
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
        message::discard(&self.member, self.member.slot()?.register(Register::Incoming), &mut unused)?;
        for index in unused {
            object::destroy_if_unused(&self.member, index)?;
        }
        Ok(())
    }

    /// How often the guest holds an object.
    pub(crate) fn uses(&self, handle: Handle) -> u32 {
        self.holds.get(&handle).copied().unwrap_or(0)
    }

    /// One use less; with the last one, the process gives the object back.
    pub(crate) fn release(&mut self, handle: Handle) -> Result<(), Errno> {
        let uses = self.holds.get_mut(&handle).ok_or(Errno::Badf)?;
        *uses -= 1;
        if *uses == 0 {
            self.holds.remove(&handle);
            object::release(&self.member, handle)?;
        }
        Ok(())
    }
}
