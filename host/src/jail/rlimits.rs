//! Limits that the kernel keeps for each process: setrlimit(2). A forked process inherits them.
//!
//! How many processes there are is a layer of its own, [`processes`](super::processes).

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Limits;
use crate::supervisor::control::Role;

/// Memory that a guest process has beside its WebAssembly's and what it puts into the arena: the supervisor's when it
/// forks, tables, stacks, the allocator's slack.
const OVERHEAD: u64 = 128 << 20;

/// Descriptors that a guest process has, beside directories: its standard streams, the doorbell, and one that is open for
/// a moment while a directory is listed.
const DESCRIPTORS: u64 = 5;

/// What one process may use. `None` leaves what the supervisor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rlimits {
    /// Bytes of private, writable memory: `RLIMIT_DATA`. What is only reserved doesn't count.
    pub(crate) data: Option<u64>,
    /// Seconds on a processor, after which it gets SIGXCPU: `RLIMIT_CPU`.
    pub(crate) cpu: Option<u64>,
    /// Open descriptors: `RLIMIT_NOFILE`.
    pub(crate) nofile: Option<u64>,
    /// Bytes of the largest file that it writes: `RLIMIT_FSIZE`. The signal that comes with it is blocked, so that a guest
    /// gets an error.
    pub(crate) fsize: Option<u64>,
}

impl Rlimits {
    /// Those of a guest process that has been granted so many directories.
    pub(crate) fn of(limits: &Limits, role: Role, dirs: usize) -> Self {
        // What a process takes from the arena, or is about to put there, it has once more in memory of its own.
        let data = limits.memory_max.saturating_add(limits.arena_size).saturating_add(OVERHEAD);
        let given = DESCRIPTORS + dirs as u64;
        // Behind the supervisor's own limit, and in whole seconds. A worker has none: it runs many tasks.
        let cpu =
            limits.cpu_time.filter(|_| role == Role::Program).map(|time| time.as_secs().saturating_add(2));
        Self {
            data: Some(data),
            cpu,
            nofile: Some(u64::from(limits.open_files_max) + given),
            fsize: limits.file_size_max,
        }
    }

    /// Sets them. No process of the jail writes a core dump.
    pub(super) fn enter(&self) -> io::Result<()> {
        for (resource, limit) in [
            (Resource::RLIMIT_CORE, Some(0)),
            (Resource::RLIMIT_DATA, self.data),
            (Resource::RLIMIT_CPU, self.cpu),
            (Resource::RLIMIT_NOFILE, self.nofile),
            (Resource::RLIMIT_FSIZE, self.fsize),
        ] {
            let Some(limit) = limit else { continue };
            // What the owner may not do, its guests may not either.
            let (_, hard) = getrlimit(resource)?;
            // At the hard limit of time comes SIGKILL, which says nothing.
            let slack = u64::from(resource == Resource::RLIMIT_CPU);
            setrlimit(resource, limit.min(hard), limit.saturating_add(slack).min(hard))?;
        }
        Ok(())
    }
}
