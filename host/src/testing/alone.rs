//! A guest process by itself, in the process that makes it: without a supervisor, a jail, or other guests. It is for the modules
//! that look at Sandpool from within: `fuzzing` and `inner`.
#![allow(clippy::expect_used, reason = "nobody but tests and measurements makes one")]

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::children::Children;
use crate::config::{Limits, Role, RunConfig, Sandbox};
use crate::ipc::arena::{Arena, Geometry, Participant, Patience};
use crate::ipc::process_table::{self as table, ProcessHandle};
use crate::process::mapped_ranges::Mappings;
use crate::process::stdio::Stdio;
use crate::process::{Growth, Guest, Process, wasi};

/// A slot in an arena of its own.
pub(crate) struct Alone {
    pub(crate) participant: Participant,
    pub(crate) handle: ProcessHandle,
    geometry: Geometry,
}

impl Alone {
    pub(crate) fn new(geometry: Geometry) -> Self {
        let (_, arena) = Arena::create(geometry).expect("an arena");
        let arena = Arc::new(arena);
        let (index, handle) = table::reserve(&arena, None, b"MainProcess", 0).expect("a slot");
        Self { participant: Participant { arena, index, patience: Patience::Brief }, handle, geometry }
    }

    /// The state of a guest in that slot. Only one at a time may be used.
    pub(crate) fn guest(&self) -> Guest {
        let Self { participant, handle, geometry } = self;
        let Geometry { processes_max, objects_max, .. } = *geometry;
        let stdio = Stdio::new(participant, false, false, &Limits::default());
        let limits = Limits { processes_max, objects_max, arena_size: 0, ..Limits::default() };
        let config = RunConfig { sandbox: Sandbox::new().limits(limits), ..RunConfig::new(Role::Program) };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let doorbell = EventFd::from_flags(flags).expect("an eventfd");
        let children = Children::new(participant.clone(), *handle, OwnedFd::from(doorbell));
        let process = Process::new(children, None, 0, stdio.clone(), config.sandbox.limits.clone());
        Guest {
            wasi: wasi::context(&config, &stdio).expect("a context"),
            memory: None,
            growth: Growth::default(),
            mappings: Mappings::default(),
            process,
        }
    }
}
