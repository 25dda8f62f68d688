//! The jail around guest processes: what the kernel holds them back from, should a bug in the wasm engine give a guest
//! native code. One file a layer; each is reported.
//!
//! Layers that concern a whole run are entered by its supervisor, before the first fork; the others by each guest
//! process, before any code of the guest runs. What is forked from it inherits them.

pub(crate) mod namespaces;

use std::fmt;

use serde::{Deserialize, Serialize};

/// One layer of the jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Layer {
    /// Nothing that a guest starts has more rights than it: `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivs,
    /// No capability, not even as root.
    Capabilities,
    /// A user namespace of the run's own.
    UserNamespace,
    /// A PID namespace of the run's own: other processes have no number there.
    PidNamespace,
    /// A mount namespace of the run's own, with nothing in it but granted directories.
    MountNamespace,
    /// A network namespace of the run's own, with no interface.
    NetworkNamespace,
    /// A namespace of the run's own for System V and POSIX message queues, semaphores and shared memory.
    IpcNamespace,
    /// Files outside of the granted directories can't be opened: Landlock.
    Landlock,
    /// System calls that guests need, and no other: seccomp.
    Seccomp,
    /// Limits of memory, files and processor time: `setrlimit`.
    Rlimits,
    /// No descriptor but what was given.
    Descriptors,
    /// A control group of the run's own, where one is delegated.
    Cgroup,
}

impl Layer {
    /// All layers, outermost first.
    pub const ALL: [Self; 12] = [
        Self::UserNamespace,
        Self::PidNamespace,
        Self::MountNamespace,
        Self::NetworkNamespace,
        Self::IpcNamespace,
        Self::Cgroup,
        Self::Rlimits,
        Self::Capabilities,
        Self::NoNewPrivs,
        Self::Descriptors,
        Self::Landlock,
        Self::Seccomp,
    ];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoNewPrivs => "no-new-privs",
            Self::Capabilities => "capabilities",
            Self::UserNamespace => "user-namespace",
            Self::PidNamespace => "pid-namespace",
            Self::MountNamespace => "mount-namespace",
            Self::NetworkNamespace => "network-namespace",
            Self::IpcNamespace => "ipc-namespace",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Rlimits => "rlimits",
            Self::Descriptors => "descriptors",
            Self::Cgroup => "cgroup",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How fully a layer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Hold {
    /// As it is meant.
    Full,
    /// In part: what is missing.
    Partial(String),
    /// Not at all: why.
    Absent(String),
    /// It was switched off.
    Off,
}

/// Which layers of the jail hold in a run, and how fully.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailReport {
    layers: Vec<(Layer, Hold)>,
}
