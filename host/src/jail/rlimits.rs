//! Limits that the kernel keeps for each process: setrlimit(2). A forked process inherits them.
//!
//! The number of processes is a layer of its own, [`processes`](super::processes).

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::{Limits, Role};

/// Memory that a guest process has beside its WebAssembly's and the data that it puts into the arena: the supervisor's memory at
/// the fork, tables, stacks, the allocator's slack.
const OVERHEAD: u64 = 128 << 20;

/// Descriptors that a guest process has beside directories: its standard streams, the doorbell, and one that is open for a moment
/// while a directory is listed.
const DESCRIPTORS: u64 = 5;

/// Addresses that the program and its libraries take in a process.
const PROGRAM: u64 = 2 << 30;

/// The host's own frames below and above those of a guest's stack.
const STACK: u64 = 7 << 20;

/// Bytes of a process's stack if its guest may have `guests` bytes of stack.
pub(crate) fn stack(guests: u64) -> u64 {
    guests.saturating_add(STACK)
}

/// Addresses that a guest process has beside its data.
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
        // The arena counts twice, because its pages are mapped anew before the old mappings go.
        self.memories.saturating_add(self.arena.saturating_mul(2)).saturating_add(self.artifact)
    }
}

/// Limits of one process. `None` keeps the supervisor's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rlimits {
    /// Bytes of private, writable memory: `RLIMIT_DATA`. Memory that is only reserved doesn't count.
    pub(crate) data: Option<u64>,
    /// Bytes of addresses, used or not: `RLIMIT_AS`. Only this limit bounds the kernel's page tables, which take a 512th of the
    /// addresses that are touched, even if these are only read.
    pub(crate) space: Option<u64>,
    /// Bytes of the stack of its first thread: `RLIMIT_STACK`.
    pub(crate) stack: Option<u64>,
    /// Seconds of processor time, after which the process gets SIGXCPU: `RLIMIT_CPU`.
    pub(crate) cpu: Option<u64>,
    /// Open descriptors: `RLIMIT_NOFILE`.
    pub(crate) nofile: Option<u64>,
    /// Bytes of the largest file that the process writes: `RLIMIT_FSIZE`. The signal that comes with this limit is blocked, so that
    /// a guest gets an error.
    pub(crate) fsize: Option<u64>,
}

impl Rlimits {
    /// The limits of a guest process that has been granted `dirs` directories.
    pub(crate) fn new(limits: &Limits, role: Role, dirs: usize, reserved: Reserved) -> Self {
        // Data that a process takes from the arena, or is about to put there, is in the process's own memory as well.
        let data = limits.memory_max.saturating_add(limits.arena_size).saturating_add(OVERHEAD);
        let stack = stack(limits.stack_max);
        let given = DESCRIPTORS + dirs as u64;
        // The limit is above the supervisor's own, and in whole seconds. A worker has none: it runs many tasks.
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

    /// The limits of a compiler with this number of threads, each of which has a stack and a heap of its own.
    pub(crate) fn for_compiler(data: u64, cpu: u64, fsize: u64, threads: usize) -> Self {
        const THREAD: u64 = 256 << 20;
        // A heap may have as many more addresses as it has memory.
        let data_space = data.saturating_mul(2);
        let threads = THREAD.saturating_mul(threads as u64);
        Self {
            data: Some(data),
            space: Some(data_space.saturating_add(threads).saturating_add(PROGRAM)),
            stack: None,
            cpu: Some(cpu),
            // No new descriptor can be opened; open descriptors stay open.
            nofile: Some(0),
            fsize: Some(fsize),
        }
    }

    /// Sets the limits. No process of the jail is dumped: if the kernel pipes dumps to a program, no limit bounds them.
    pub(super) fn enter(&self) -> io::Result<()> {
        nix::sys::prctl::set_dumpable(false)?;
        for (resource, limit) in [
            (Resource::RLIMIT_CORE, Some(0)),
            (Resource::RLIMIT_MEMLOCK, Some(0)),
            // The supervisor may go before its guests.
            (Resource::RLIMIT_NICE, Some(0)),
            (Resource::RLIMIT_DATA, self.data),
            (Resource::RLIMIT_AS, self.space),
            (Resource::RLIMIT_STACK, self.stack),
            (Resource::RLIMIT_CPU, self.cpu),
            (Resource::RLIMIT_NOFILE, self.nofile),
            (Resource::RLIMIT_FSIZE, self.fsize),
        ] {
            let Some(limit) = limit else { continue };
            // Guests may not do what their owner may not do.
            let (_, hard) = getrlimit(resource)?;
            // At the hard limit of time comes SIGKILL, which doesn't tell its reason.
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
        let of = |limits: &Limits, role, dirs| Rlimits::new(limits, role, dirs, reserved);
        let data = (1 << 30) + (64 << 20) + OVERHEAD;
        let stack = (2 << 20) + STACK;
        let expected = Rlimits {
            data: Some(data),
            // The arena is mapped twice.
            space: Some(data + stack + PROGRAM + (3 << 30) + (140 << 20) + (1 << 20)),
            stack: Some(stack),
            // The limit is above the one that the supervisor enforces.
            cpu: Some(4),
            nofile: Some(10 + DESCRIPTORS + 3),
            fsize: Some(4096),
        };
        assert_eq!(of(&limits, Role::Program, 3), expected);
        // A worker runs many tasks.
        assert_eq!(of(&limits, Role::Pool, 3), Rlimits { cpu: None, ..expected });
        let unlimited = Limits { cpu_time: None, file_size_max: None, ..limits };
        assert_eq!(of(&unlimited, Role::Program, 3), Rlimits { cpu: None, fsize: None, ..expected });
        // A value greater than possible is no limit; it must not wrap around to a small one.
        let most = Limits { memory_max: u64::MAX, ..unlimited };
        assert_eq!(of(&most, Role::Program, 0).data, Some(u64::MAX));
        assert_eq!(of(&most, Role::Program, 0).space, Some(u64::MAX));
    }

    #[test]
    fn a_compiler_has_as_much_as_its_limits_come_to() {
        const THREAD: u64 = 256 << 20;
        assert_eq!(
            Rlimits::for_compiler(1 << 30, 60, 1 << 20, 4),
            Rlimits {
                data: Some(1 << 30),
                space: Some((2 << 30) + 4 * THREAD + PROGRAM),
                stack: None,
                cpu: Some(60),
                nofile: Some(0),
                fsize: Some(1 << 20),
            }
        );
        assert_eq!(Rlimits::for_compiler(u64::MAX, 1, 1, usize::MAX).space, Some(u64::MAX));
    }
}
