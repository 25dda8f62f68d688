//! The public failure contract: what can go wrong, what to do about it, and of which kind it is.

mod pool_end;
mod task;

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

pub use self::pool_end::PoolEnd;
pub use self::task::{Failure, TaskError, Usage};
use crate::guest_text::Escaped;

/// An error of this library, for a person: a message, the causes by [`source`](std::error::Error::source), and a
/// [`hint`](Self::hint) where the person can do something about the error.
///
/// ```
/// let error = sandpool::Module::from_file("no-such-file.wasm").unwrap_err();
/// assert_eq!(error.to_string(), "cannot read no-such-file.wasm");
/// assert_eq!(error.kind(), sandpool::ErrorKind::Module);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A module's file can't be read.
    #[error("cannot read {}", Escaped(path.display()))]
    Read {
        /// the file
        path: PathBuf,
        /// why
        source: io::Error,
    },
    /// A file that isn't a WebAssembly core module, or a damaged one.
    #[error("{} is not a usable WebAssembly module: {}", Escaped(name), Escaped(problem))]
    NotAModule {
        /// the module's name
        name: String,
        /// what is wrong with it
        problem: String,
        /// what to do about it
        hint: Option<String>,
    },
    /// A module that has neither `_start`, as a program has, nor a task.
    #[error("{} does not export {export}", Escaped(name))]
    MissingExport {
        /// the module's name
        name: String,
        /// the export
        export: &'static str,
    },
    /// A module that has tasks but no `_start`, and therefore isn't a program.
    #[error("{} exports no _start: the module has tasks, but is not a program", Escaped(name))]
    NotAProgram {
        /// the module's name
        name: String,
    },
    /// A task that a module doesn't have.
    #[error("{} has no task {}", Escaped(name), Escaped(task))]
    UnknownTask {
        /// the module's name
        name: String,
        /// the task
        task: String,
        /// what to do about it
        hint: Option<String>,
    },
    /// An import that Sandpool doesn't provide.
    #[error("{} imports {}, which Sandpool does not provide", Escaped(name), Escaped(import))]
    UnknownImport {
        /// the module's name
        name: String,
        /// module and name of the import, as `module.name`
        import: String,
        /// the provided import with the nearest name
        nearest: Option<String>,
    },
    /// An import whose name Sandpool provides, but with another type.
    #[error(
        "{} imports {} as {}, but it is {}",
        Escaped(name),
        Escaped(import),
        Escaped(found),
        Escaped(expected)
    )]
    ImportType {
        /// the module's name
        name: String,
        /// module and name of the import, as `module.name`
        import: String,
        /// the type in the module
        found: String,
        /// the type that Sandpool provides
        expected: String,
    },
    /// A guest built against another version of the ABI.
    #[error("{} was built for ABI version {guest}, this is Sandpool with ABI version {host}", Escaped(name))]
    AbiVersion {
        /// the module's name
        name: String,
        /// the guest's version
        guest: u32,
        /// the host's version
        host: u32,
    },
    /// The compiler refused the module.
    #[error("cannot compile {}: {}", Escaped(name), Escaped(problem))]
    Compile {
        /// the module's name
        name: String,
        /// the compiler's message
        problem: String,
    },
    /// A module that exceeds a limit of compiling.
    #[error("cannot compile {}: {limit}", Escaped(name))]
    CompileLimit {
        /// the module's name
        name: String,
        /// the limit that the module has exceeded
        limit: CompileLimit,
    },
    /// The cache of compiled modules can't be used. A call fails with this error only if other users have access to the cache; for
    /// other causes see [`Module::uncached`](crate::Module::uncached).
    #[error("cannot use the module cache {}", Escaped(path.display()))]
    Cache {
        /// the folder or file
        path: PathBuf,
        /// why
        source: io::Error,
    },
    /// A directory that can't be granted.
    #[error("cannot grant the directory {}", Escaped(path.display()))]
    Grant {
        /// the directory on the host
        path: PathBuf,
        /// why
        source: io::Error,
    },
    /// An address that can't be granted.
    #[error("cannot grant the address {}", Escaped(address))]
    Address {
        /// the address
        address: String,
        /// why
        source: io::Error,
    },
    /// A file that can't be written.
    #[error("cannot write {}", Escaped(path.display()))]
    Write {
        /// the file
        path: PathBuf,
        /// why
        source: io::Error,
    },
    /// A configuration file that can't be used.
    #[error("cannot use the configuration file {}", Escaped(path.display()))]
    Config {
        /// the file
        path: PathBuf,
        /// why
        source: Box<Error>,
    },
    /// A value that makes no sense.
    #[error("{}", Escaped(what))]
    Invalid {
        /// what is wrong
        what: String,
        /// what to do about it
        hint: Option<String>,
    },
    /// [`init`](crate::init) wasn't called first in `main`.
    #[error("sandpool::init() was not called")]
    NotInitialized,
    /// The supervisor ended before the run did.
    #[error("the supervisor is gone: {}", Escaped(.0))]
    SupervisorLost(String),
    /// The supervisor couldn't start the run.
    #[error("the supervisor cannot start the run: {}", Escaped(.0))]
    Supervisor(String),
    /// The jail lacks required layers, or required layers hold only in part.
    #[error("the jail does not hold as required: {}", Escaped(lacks))]
    Jail {
        /// the layers, and how they hold
        lacks: String,
    },
    /// A pool has ended, or couldn't be started.
    #[error("the pool cannot go on")]
    Pool(#[from] PoolEnd),
    /// A task of a pool has no result.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The operating system, or the shell, allows this program less than a run needs.
    #[error("{}", Escaped(what))]
    Allowance {
        /// what is too little
        what: String,
        /// what to do about it
        hint: String,
    },
    /// The operating system refused an operation.
    #[error("cannot {what}")]
    Os {
        /// the operation
        what: &'static str,
        /// why
        source: io::Error,
    },
}

/// The result of this library's calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Hint: what the person can do about the error.
    ///
    /// ```
    /// let error = sandpool::Error::NotInitialized;
    /// assert!(error.hint().unwrap().contains("first"));
    /// ```
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(Escaped(self.raw_hint()?).to_string())
    }

    fn raw_hint(&self) -> Option<String> {
        match self {
            Self::NotAModule { hint, .. }
            | Self::UnknownTask { hint, .. }
            | Self::Invalid { hint, .. } => hint.clone(),
            Self::Allowance { hint, .. } => Some(hint.clone()),
            Self::Config { source, .. } => source.raw_hint(),
            Self::NotAProgram { .. } => {
                Some("`sandpool inspect` lists its tasks, and `sandpool map` runs them".to_owned())
            }
            Self::MissingExport { .. } => {
                Some("build it as a program (a Cargo binary), not as a library".to_owned())
            }
            Self::UnknownImport { nearest: Some(nearest), .. } => {
                Some(format!("the nearest name is {nearest}"))
            }
            Self::UnknownImport { nearest: None, .. } => {
                Some("link a library that defines the import into the guest, or remove the import".to_owned())
            }
            Self::ImportType { .. } => Some("build the guest with this version's SDK".to_owned()),
            Self::AbiVersion { guest, host, .. } if guest < host => {
                Some("rebuild the guest with this version's SDK".to_owned())
            }
            Self::AbiVersion { .. } => Some("the guest's SDK is newer: update Sandpool".to_owned()),
            Self::CompileLimit { limit, .. } => {
                Some(format!("if you trust the module, raise the limit {}", limit.key()))
            }
            Self::Cache { .. } => {
                Some("the cache must be yours alone (mode 0700); SANDPOOL_CACHE_DIR names another place".to_owned())
            }
            Self::Grant { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                let form = "--dir HOST[:GUEST][:ro], where a colon in a name is written `\\:`";
                Some(format!("make the directory first, or grant one that exists: {form}"))
            }
            Self::Address { .. } => {
                Some("name an address of this machine or of another, or a host whose name can be looked up".to_owned())
            }
            Self::Jail { .. } => Some(
                "`sandpool doctor` lists the layers of this machine; require fewer of them if that is enough for you"
                    .to_owned(),
            ),
            Self::NotInitialized => Some("call sandpool::init() first in `main`, before any thread starts".to_owned()),
            _ => None,
        }
    }

    /// Whether the operating system refused something, rather than Sandpool.
    pub(crate) fn is_of_system(&self) -> bool {
        let source = std::error::Error::source(self).and_then(|source| source.downcast_ref::<io::Error>());
        source.is_some_and(|source| source.raw_os_error().is_some())
    }

    /// Kind of the error.
    ///
    /// ```
    /// let error = sandpool::Error::NotInitialized;
    /// assert_eq!(error.kind(), sandpool::ErrorKind::Internal);
    /// ```
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. }
            | Self::NotAModule { .. }
            | Self::MissingExport { .. }
            | Self::NotAProgram { .. }
            | Self::UnknownTask { .. }
            | Self::UnknownImport { .. }
            | Self::ImportType { .. }
            | Self::AbiVersion { .. }
            | Self::Compile { .. }
            | Self::CompileLimit { .. } => ErrorKind::Module,
            Self::Grant { .. } | Self::Address { .. } => ErrorKind::Grant,
            Self::Jail { .. } => ErrorKind::Jail,
            Self::Invalid { .. } | Self::Config { .. } => ErrorKind::Invalid,
            Self::SupervisorLost(_) => ErrorKind::SupervisorLost,
            Self::Pool(end) => end.kind(),
            Self::Task(error) => match &error.cause {
                Failure::NoTask(_) => ErrorKind::Module,
                Failure::PoolEnded(end) => end.kind(),
                _ => ErrorKind::Task,
            },
            Self::Cache { .. }
            | Self::Write { .. }
            | Self::NotInitialized
            | Self::Supervisor(_)
            | Self::Allowance { .. }
            | Self::Os { .. } => ErrorKind::Internal,
        }
    }
}

/// Kind of an [`Error`], for programs that treat some kinds differently from others. The `sandpool` command has an exit code for
/// each kind.
///
/// A new kind would be a breaking change, so an embedder's `match` stays complete.
///
/// ```
/// use sandpool::{ErrorKind, Module};
///
/// let loaded = Module::from_file("no-such-file.wasm");
/// assert!(loaded.is_err_and(|error| error.kind() == ErrorKind::Module));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The module was refused, or doesn't have the task.
    Module,
    /// A directory can't be granted.
    Grant,
    /// The jail lacks a layer that is required.
    Jail,
    /// A setting makes no sense.
    Invalid,
    /// The supervisor ended before the run did.
    SupervisorLost,
    /// Native code in a guest process was caught.
    Escape,
    /// A task of a pool has no result.
    Task,
    /// Sandpool or the operating system failed.
    Internal,
}

/// Limit that a module has exceeded: one of [`CompileLimits`](crate::limits::CompileLimits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompileLimit {
    /// Bytes of the module.
    Size(u64),
    /// Time that compiling takes.
    Time(Duration),
    /// Time of all processors that compiling takes.
    Cpu(Duration),
    /// Bytes of memory that compiling takes.
    Memory(u64),
    /// Bytes of the compiled module.
    Artifact(u64),
}

impl CompileLimit {
    /// The [key](crate::limits::CompileLimitKey) of the limit.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Size(_) => "module-size-max",
            Self::Time(_) => "compile-time-max",
            Self::Cpu(_) => "compile-cpu-max",
            Self::Memory(_) => "compile-memory-max",
            Self::Artifact(_) => "artifact-max",
        }
    }
}

impl fmt::Display for CompileLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(bytes) => write!(f, "the module has more than {bytes} bytes"),
            Self::Time(time) => write!(f, "compiling takes longer than {time:?}"),
            Self::Cpu(time) => write!(f, "compiling takes more than {time:?} of processor time"),
            Self::Memory(bytes) => write!(f, "compiling takes more than {bytes} bytes of memory"),
            Self::Artifact(bytes) => write!(f, "the machine code takes more than {bytes} bytes"),
        }
    }
}

impl PoolEnd {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::SupervisorLost(_) => ErrorKind::SupervisorLost,
            Self::Strays(_) => ErrorKind::Escape,
            _ => ErrorKind::Internal,
        }
    }
}
