//! The settings of a run, of a program or of a pool: as an embedder gives them, and as they are sent to the supervisor and its
//! guests. This module has the data, and reads and checks it; the modules above act on it.

mod address;
mod dirs;
mod file;
mod flavor;
mod jail;
mod limits;
mod profile;
mod sandbox;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::address::AddressGrant;
pub(crate) use self::address::{AddressRefusal, Place, granted};
pub use self::dirs::DirGrant;
pub use self::file::DEFAULT_CONFIG;
pub(crate) use self::flavor::{Flavor, MEMORY_GUARD, MEMORY_RESERVATION};
pub(crate) use self::jail::JailSettings;
pub use self::jail::{Jailed, Layer};
pub(crate) use self::limits::MODULE_MAX;
pub use self::limits::{CompileLimitKey, CompileLimits, Key, LimitKey, Limits};
pub use self::profile::Profile;
pub use self::sandbox::{Sandbox, UnknownImports};
use crate::ipc::arena::{Geometry, PAGE};
use crate::{Error, Result};

/// The settings of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunConfig {
    pub(crate) role: Role,
    pub(crate) args: Vec<String>,
    pub(crate) sandbox: Sandbox,
    /// How the module was compiled.
    pub(crate) flavor: Flavor,
    /// The artifact is a component, and not a module.
    pub(crate) is_component: bool,
    /// The module runs code when it is instantiated.
    pub(crate) has_start: bool,
    /// The module may need a heap for collected objects.
    pub(crate) has_collected: bool,
    /// The module imports functions that trap.
    pub(crate) has_unknown_imports: bool,
    pub(crate) on_deadlock: OnDeadlock,
    /// Whether workers of a pool fork a process for each task.
    pub(crate) forks_tasks: bool,
    /// No run is to start: the request only asks which layers of the jail would hold.
    pub(crate) only_report: bool,
}

/// The purpose of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// The module's `_start` is the main process.
    Program,
    /// The owner is the main process in the process table: it spawns workers, which run tasks.
    Pool,
}

impl RunConfig {
    /// The default settings of a run.
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            args: Vec::new(),
            sandbox: Sandbox::default(),
            flavor: Flavor::default(),
            is_component: false,
            has_start: false,
            has_collected: false,
            has_unknown_imports: false,
            on_deadlock: OnDeadlock::Kill,
            forks_tasks: false,
            only_report: false,
        }
    }

    /// The sizes of the arena.
    pub(crate) fn geometry(&self) -> Geometry {
        Geometry {
            processes_max: self.sandbox.limits.processes_max,
            objects_max: self.sandbox.limits.objects_max,
            heap_pages: u32::try_from(self.sandbox.limits.arena_size / PAGE as u64).unwrap_or(u32::MAX),
        }
    }
}

/// The answer to a run in which every process waits for another.
///
/// ```
/// let choice: sandpool::run::OnDeadlock = "report".parse()?;
/// assert_eq!(choice, sandpool::run::OnDeadlock::Report);
/// assert_eq!(choice.to_string(), "report");
/// # Ok::<(), sandpool::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OnDeadlock {
    /// Each process writes to stderr what it waits for, and the run is ended.
    #[default]
    Kill,
    /// Each process writes to stderr what it waits for, and goes on waiting, so that a debugger can look.
    Report,
}

impl fmt::Display for OnDeadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kill => "kill",
            Self::Report => "report",
        })
    }
}

impl std::str::FromStr for OnDeadlock {
    type Err = Error;

    /// Reads `kill` or `report`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "kill" => Ok(Self::Kill),
            "report" => Ok(Self::Report),
            _ => Err(Error::Invalid {
                what: format!("`{text}` is not what can be done about a deadlock"),
                hint: Some("write kill or report".to_owned()),
            }),
        }
    }
}
