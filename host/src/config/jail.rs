//! The settings of a jail: its layers, which of them are switched off, and which must hold.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// One layer of the jail.
///
/// ```
/// use sandpool::jail::Layer;
///
/// let layer: Layer = "landlock".parse()?;
/// assert_eq!(layer, Layer::Landlock);
/// assert_eq!(Layer::NoNewPrivs.to_string(), "no-new-privs");
/// # Ok::<(), sandpool::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Layer {
    /// A control group of the run's own, where one is delegated. The group limits processes and memory of all guests together.
    ControlGroup,
    /// Processes that a guest starts have no more rights than the guest: `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivs,
    /// No capability, even as root.
    Capabilities,
    /// A user namespace of the run's own.
    UserNamespace,
    /// A PID namespace of the run's own: processes outside of the run have no number there.
    PidNamespace,
    /// A mount namespace of the run's own, which has only the granted directories.
    MountNamespace,
    /// A network namespace of the run's own, without a usable interface.
    NetworkNamespace,
    /// A namespace of the run's own for System V and POSIX message queues, semaphores and shared memory.
    IpcNamespace,
    /// The limit of processes of the run, plus a few: `kernel.pid_max` of the run's PID namespace, `RLIMIT_NPROC`.
    ProcessLimit,
    /// Files outside of the granted directories can't be opened: Landlock.
    Landlock,
    /// Only system calls that guests need are allowed: seccomp.
    Seccomp,
    /// Limits of memory, files and processor time: `setrlimit`.
    Rlimits,
    /// Only descriptors that were given to the process are open.
    Descriptors,
}

impl Layer {
    /// All layers, outermost first.
    pub const ALL: [Self; 13] = [
        Self::ControlGroup,
        Self::UserNamespace,
        Self::PidNamespace,
        Self::MountNamespace,
        Self::NetworkNamespace,
        Self::IpcNamespace,
        Self::ProcessLimit,
        Self::Rlimits,
        Self::Capabilities,
        Self::NoNewPrivs,
        Self::Descriptors,
        Self::Landlock,
        Self::Seccomp,
    ];

    /// The layer's name on the command line, and in reports of runs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name_of(Jailed::Run)
    }

    /// The layer's name in reports of the jail that holds `jailed`.
    #[must_use]
    pub const fn name_of(self, jailed: Jailed) -> &'static str {
        match jailed {
            Jailed::Run => self.names().0,
            Jailed::Compiler => self.names().1,
        }
    }
}

macro_rules! names {
    ($($layer:ident $name:literal)*) => {
        impl Layer {
            const fn names(self) -> (&'static str, &'static str) {
                match self {
                    $(Self::$layer => ($name, concat!("compiler/", $name)),)*
                }
            }
        }
    };
}

names! {
    ControlGroup "control-group"
    NoNewPrivs "no-new-privs"
    Capabilities "capabilities"
    UserNamespace "user-namespace"
    PidNamespace "pid-namespace"
    MountNamespace "mount-namespace"
    NetworkNamespace "network-namespace"
    IpcNamespace "ipc-namespace"
    ProcessLimit "process-limit"
    Landlock "landlock"
    Seccomp "seccomp"
    Rlimits "rlimits"
    Descriptors "descriptors"
}

/// The processes that a jail holds.
///
/// ```
/// use sandpool::jail::{Jailed, Layer};
///
/// assert_eq!(Layer::Seccomp.name_of(Jailed::Run), "seccomp");
/// assert_eq!(Layer::Seccomp.name_of(Jailed::Compiler), "compiler/seccomp");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Jailed {
    /// The guests of a run or a pool.
    #[default]
    Run,
    /// The compiler of a module.
    Compiler,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Layer {
    type Err = Error;

    /// Reads a layer's [name](Self::name).
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|layer| layer.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            Error::Invalid {
                what: format!("`{text}` is no layer of the jail"),
                hint: Some(format!("the layers are {}", names.join(", "))),
            }
        })
    }
}

/// The settings of a jail.
///
/// Only the feature `testing` sets the last two fields. They exist without the feature as well: a test that has the feature starts
/// supervisors that are the command, which doesn't have it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JailSettings {
    /// Layers that are switched off.
    pub(crate) without: Vec<Layer>,
    /// Layers that must hold, or nothing starts.
    pub(crate) require: Vec<Layer>,
    /// Rules of the policy for system calls that are left out, by name: for the test that each rule is needed.
    pub(crate) without_calls: Vec<String>,
    /// The supervisor doesn't count its children: for the test that the kernel bounds their number.
    pub(crate) without_census: bool,
}

impl JailSettings {
    /// Whether a layer is wanted.
    pub(crate) fn has(&self, layer: Layer) -> bool {
        !self.without.contains(&layer)
    }

    /// Refuses settings that contradict each other.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(layer) = self.require.iter().find(|layer| !self.has(**layer)) {
            return Err(Error::Invalid {
                what: format!("the layer {layer} of the jail is required, and switched off"),
                hint: Some("do one of the two".to_owned()),
            });
        }
        let needy = [Layer::Landlock, Layer::Seccomp].into_iter().find(|layer| self.has(*layer));
        if let (false, Some(layer)) = (self.has(Layer::NoNewPrivs), needy) {
            return Err(Error::Invalid {
                what: format!(
                    "the layer {layer} of the jail needs {}, which is switched off",
                    Layer::NoNewPrivs
                ),
                hint: Some(format!("switch {layer} off as well")),
            });
        }
        Ok(())
    }
}
