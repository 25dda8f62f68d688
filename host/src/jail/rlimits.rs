//! Limits that the kernel keeps for each process: setrlimit(2). A forked process inherits them.
//!
//! How many processes there are is a layer of its own, [`processes`](super::processes).

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::{Limits, Role};

/// Memory that a guest process has beside its WebAssembly's and what it puts into the arena: the supervisor's when it
/// forks, tables, stacks, the allocator's slack.
const OVERHEAD: u64 = 128 << 20;

/// Descriptors that a guest process has, beside directories: its standard streams, the doorbell, and one that is open for
/// a moment while a directory is listed.
const DESCRIPTORS: u64 = 5;

/// What the program and its libraries take of the addresses of a process.
const PROGRAM: u64 = 2 << 30;

/// The host's own frames below and above those of a guest's stack.
const STACK: u64 = 7 << 20;

/// Bytes of the stack of a process whose guest may have so many.
pub(crate) fn stack(guests: u64) -> u64 {
    guests.saturating_add(STACK)
}

/// What a guest process has of addresses, beside its data.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reserved {
    /// Bytes of the arena.
    pub(crate) arena: u64,
    /// Bytes of the compiled module.
    pub(crate) artifact: u64,
    /// Bytes for the module's memories.
    pub(crate) memories: u64,
}

impl Reserved {
    fn bytes(self) -> u64 {
        // The arena once more, because pages of it are mapped anew before those in their place go.
        self.memories.saturating_add(self.arena.saturating_mul(2)).saturating_add(self.artifact)
    }
}

/// What one process may use. `None` leaves what the supervisor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rlimits {
    /// Bytes of private, writable memory: `RLIMIT_DATA`. What is only reserved doesn't count.
    pub(crate) data: Option<u64>,
    /// Bytes of addresses, used or not: `RLIMIT_AS`. It bounds what nothing else does: the kernel's tables of pages, which
    /// take a 512th of the addresses that are touched, also where these are read only.
    pub(crate) space: Option<u64>,
    /// Bytes of the stack of its first thread: `RLIMIT_STACK`.
    pub(crate) stack: Option<u64>,
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
    pub(crate) fn of(limits: &Limits, role: Role, dirs: usize, reserved: Reserved) -> Self {
        // What a process takes from the arena, or is about to put there, it has once more in memory of its own.
        let data = limits.memory_max.saturating_add(limits.arena_size).saturating_add(OVERHEAD);
        let stack = stack(limits.stack_max);
        let given = DESCRIPTORS + dirs as u64;
        // Behind the supervisor's own limit, and in whole seconds. A worker has none: it runs many tasks.
        let cpu =
            limits.cpu_time.filter(|_| role == Role::Program).map(|time| time.as_secs().saturating_add(2));
        Self {
            data: Some(data),
            space: Some([reserved.bytes(), stack, PROGRAM].into_iter().fold(data, u64::saturating_add)),
            stack: Some(stack),
            cpu,
            nofile: Some(u64::from(limits.open_files_max) + given),
            fsize: limits.file_size_max,
        }
    }

    /// Those of a compiler of so many threads, each of which has a stack, and a heap of its own.
    pub(crate) fn of_compiler(data: u64, cpu: u64, fsize: u64, threads: usize) -> Self {
        const THREAD: u64 = 256 << 20;
        // A heap may have as many addresses more as it has memory.
        let data_space = data.saturating_mul(2);
        let threads = THREAD.saturating_mul(threads as u64);
        Self {
            data: Some(data),
            space: Some(data_space.saturating_add(threads).saturating_add(PROGRAM)),
            stack: None,
            cpu: Some(cpu),
            // The highest number that it has; what is open stays so.
            nofile: Some(0),
            fsize: Some(fsize),
        }
    }

    /// Sets them. No process of the jail is dumped: where a program is given what is dumped, there is no limit for that.
    pub(super) fn enter(&self) -> io::Result<()> {
        nix::sys::prctl::set_dumpable(false)?;
        for (resource, limit) in [
            (Resource::RLIMIT_CORE, Some(0)),
            (Resource::RLIMIT_MEMLOCK, Some(0)),
            (Resource::RLIMIT_DATA, self.data),
            (Resource::RLIMIT_AS, self.space),
            (Resource::RLIMIT_STACK, self.stack),
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_guest_has_as_much_as_its_limits_come_to() {
        let limits = Limits {
            memory_max: 1 << 30,
            arena_size: 64 << 20,
            stack_max: 2 << 20,
            cpu_time: Some(Duration::from_millis(2500)),
            file_size_max: Some(4096),
            open_files_max: 10,
            ..Limits::default()
        };
        let reserved = Reserved { arena: 70 << 20, artifact: 1 << 20, memories: 3 << 30 };
        let of = |limits: &Limits, role, dirs| Rlimits::of(limits, role, dirs, reserved);
        let data = (1 << 30) + (64 << 20) + OVERHEAD;
        let stack = (2 << 20) + STACK;
        let expected = Rlimits {
            data: Some(data),
            // Both mappings of the arena.
            space: Some(data + stack + PROGRAM + (3 << 30) + (140 << 20) + (1 << 20)),
            stack: Some(stack),
            // Behind what the supervisor sees to.
            cpu: Some(4),
            nofile: Some(10 + DESCRIPTORS + 3),
            fsize: Some(4096),
        };
        assert_eq!(of(&limits, Role::Program, 3), expected);
        // A worker runs many tasks.
        assert_eq!(of(&limits, Role::Pool, 3), Rlimits { cpu: None, ..expected });
        let unlimited = Limits { cpu_time: None, file_size_max: None, ..limits };
        assert_eq!(of(&unlimited, Role::Program, 3), Rlimits { cpu: None, fsize: None, ..expected });
        // What is more than there can be is no limit, and none that begins anew at nothing.
        let most = Limits { memory_max: u64::MAX, ..unlimited };
        assert_eq!(of(&most, Role::Program, 0).data, Some(u64::MAX));
        assert_eq!(of(&most, Role::Program, 0).space, Some(u64::MAX));
    }

    #[test]
    fn a_compiler_has_as_much_as_its_limits_come_to() {
        const THREAD: u64 = 256 << 20;
        assert_eq!(
            Rlimits::of_compiler(1 << 30, 60, 1 << 20, 4),
            Rlimits {
                data: Some(1 << 30),
                space: Some((2 << 30) + 4 * THREAD + PROGRAM),
                stack: None,
                cpu: Some(60),
                nofile: Some(0),
                fsize: Some(1 << 20),
            }
        );
        assert_eq!(Rlimits::of_compiler(u64::MAX, 1, 1, usize::MAX).space, Some(u64::MAX));
    }
}
