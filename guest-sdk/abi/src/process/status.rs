//! How a process ended.

use core::fmt;

use super::{DEADLOCKED, EXITED, FORBIDDEN, LIMITED, Limit, SIGNALED, STRAYS, TRAPPED, Trap};

/// How a process ended, as a type.
///
/// ```
/// use sandpool_abi::process::{EXITED, ExitStatus, Limit, Signal, Trap};
///
/// assert_eq!(ExitStatus::from_parts(EXITED, 3, 0), Some(ExitStatus::Exited(3)));
/// assert_eq!(ExitStatus::Exited(3).to_string(), "exited: 3");
/// assert_eq!(ExitStatus::Signaled(Signal::TERM).to_string(), "killed: SIGTERM");
/// assert_eq!(ExitStatus::Trapped(Trap::Unreachable).to_string(), "trapped: unreachable executed");
/// assert_eq!(ExitStatus::Limited(Limit::Memory(64 << 10)).to_string(), "limited: memory 64 KiB");
/// assert_eq!(ExitStatus::Strays(2).to_string(), "ended: 2 processes that the run doesn't know of");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// The process returned, or called exit. A panic is exit code 1.
    Exited(u8),
    /// A signal killed the process.
    Signaled(Signal),
    /// The process did something that WebAssembly doesn't allow.
    Trapped(Trap),
    /// The process hit a limit that the host had set.
    Limited(Limit),
    /// The run was ended, because every process waited for another. Only the host sees this status.
    Deadlocked,
    /// The process made a system call that its jail forbids, and was killed with SIGSYS. WebAssembly makes no system
    /// calls: this is a bug of the host, or somebody's use of one.
    Forbidden,
    /// The run was ended, because this number of processes was found that the run doesn't know of. WebAssembly starts
    /// no processes: this is a bug of the host, or somebody's use of one. Only the host sees this status.
    Strays(u64),
}

impl ExitStatus {
    /// Converts the fields of a [`Status`](super::Status): its kind, detail and figure. `None` if the kind is unknown.
    #[must_use]
    pub fn from_parts(kind: u32, detail: u32, figure: u64) -> Option<Self> {
        Some(match kind {
            EXITED => Self::Exited((detail & 0xff) as u8),
            SIGNALED => Self::Signaled(Signal((detail & 0x7f) as i32)),
            TRAPPED => Self::Trapped(Trap::from_code(detail)),
            LIMITED => Self::Limited(Limit::from_parts(detail, figure)),
            DEADLOCKED => Self::Deadlocked,
            FORBIDDEN => Self::Forbidden,
            STRAYS => Self::Strays(figure),
            _ => return None,
        })
    }

    /// Whether the process ended with exit code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// The exit code of a shell for this status, and of `sandpool run`: the exit code; 128 and the signal; 134
    /// after a trap or at a limit; 124 after a deadlock; 159, as for SIGSYS, after a forbidden system call, or
    /// with strays.
    ///
    /// ```
    /// use sandpool_abi::process::{ExitStatus, Signal};
    ///
    /// assert_eq!(ExitStatus::Signaled(Signal::KILL).shell_code(), 137);
    /// ```
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 | (signal.0 & 0x7f) as u8,
            Self::Trapped(_) | Self::Limited(_) => 134,
            Self::Deadlocked => 124,
            Self::Forbidden | Self::Strays(_) => 159,
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited: {code}"),
            Self::Signaled(signal) => write!(f, "killed: {signal}"),
            Self::Trapped(trap) => write!(f, "trapped: {}", trap.message()),
            Self::Limited(limit) => write!(f, "limited: {limit}"),
            Self::Deadlocked => f.write_str("ended: deadlock"),
            Self::Forbidden => f.write_str("killed: forbidden system call"),
            Self::Strays(1) => f.write_str("ended: a process that the run doesn't know of"),
            Self::Strays(count) => write!(f, "ended: {count} processes that the run doesn't know of"),
        }
    }
}

/// A signal, by its number. It is shown by its name if it has one.
///
/// ```
/// use sandpool_abi::process::Signal;
///
/// assert_eq!(Signal::KILL, Signal(9));
/// assert_eq!(Signal::KILL.to_string(), "SIGKILL");
/// assert_eq!(Signal(40).to_string(), "signal 40");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(pub i32);

impl Signal {
    /// SIGHUP: the terminal is gone.
    pub const HUP: Self = Self(1);
    /// SIGINT: an interrupt, such as Ctrl-C.
    pub const INT: Self = Self(2);
    /// SIGQUIT: an interrupt, such as Ctrl-\.
    pub const QUIT: Self = Self(3);
    /// SIGKILL: ends a process in any case.
    pub const KILL: Self = Self(9);
    /// SIGTERM: asks a process to end.
    pub const TERM: Self = Self(15);

    /// Linux's names, from 1 on.
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = usize::try_from(self.0).ok().and_then(|number| number.checked_sub(1));
        match index.and_then(|index| Self::NAMES.get(index)) {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}
