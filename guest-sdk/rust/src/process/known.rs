//! Processes that nobody here has a [`Process`](super::Process) of: this one, its parent, and children.

use std::time::Duration;

use sandpool_abi::{Errno, FOREVER, NO_WAIT};

use super::identity::Identity;
use super::{SIGINT, SIGKILL, SIGTERM, Sentinel};
use crate::deadline::nanoseconds;
use crate::{Error, raw};

/// The process that calls [`current_process`].
#[derive(Debug, Clone)]
pub struct CurrentProcess(Identity);

impl CurrentProcess {
    /// The name of this process; `MainProcess` for the first.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The operating system's process id, as the run sees it.
    #[must_use]
    #[doc(alias = "ident")]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// The process id of this process's parent, 0 for the main process.
    #[must_use]
    pub fn parent_pid(&self) -> u32 {
        self.0.parent_pid
    }

    /// Whether this process is daemonic. A daemonic process may not start processes, unless it is a worker of a pool.
    #[must_use]
    pub fn daemon(&self) -> bool {
        self.0.daemon
    }
}

/// Returns the process that calls this function.
///
/// ```no_run
/// let this = sandpool_guest::current_process()?;
/// println!("{} has pid {}", this.name(), this.pid());
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// # Errors
/// Only when the arena is damaged.
pub fn current_process() -> Result<CurrentProcess, Error> {
    Ok(CurrentProcess(Identity::from_handle(raw::process::current()?)?))
}

/// The process that started this one: see [`parent_process`].
#[derive(Debug, Clone)]
pub struct ParentProcess(Identity);

impl ParentProcess {
    /// The name of the parent.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The operating system's process id, as the run sees it.
    #[must_use]
    #[doc(alias = "ident")]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Whether the parent is still alive.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn is_alive(&self) -> Result<bool, Error> {
        Ok(!self.0.has_ended(NO_WAIT)?)
    }

    /// Waits until the parent has ended.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn join(&self) -> Result<(), Error> {
        self.0.has_ended(FOREVER)?;
        Ok(())
    }

    /// Waits until the parent has ended, but not for longer than `timeout`. Returns whether it has.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool, Error> {
        self.0.has_ended(nanoseconds(timeout))
    }

    /// Whether the parent has ended.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn try_join(&self) -> Result<bool, Error> {
        self.0.has_ended(NO_WAIT)
    }

    /// Returns the sentinel of the parent: pass it to [`wait`](crate::wait()) to wait for the parent's end.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn sentinel(&self) -> Result<Sentinel, Error> {
        Ok(Sentinel { handle: self.0.handle, owner: raw::process::current()? })
    }
}

/// Returns the process that started this one; `None` in the main process.
///
/// ```no_run
/// if let Some(parent) = sandpool_guest::parent_process()? {
///     println!("started by {}", parent.name());
/// }
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// # Errors
/// Only when the arena is damaged.
pub fn parent_process() -> Result<Option<ParentProcess>, Error> {
    match raw::process::parent()? {
        0 => Ok(None),
        handle => Ok(Some(ParentProcess(Identity::from_handle(handle)?))),
    }
}

/// A child of this process that was alive when [`active_children`] was called.
///
/// A `Child` exists beside the [`Process`](super::Process) that started the child, and doesn't own it: only the `Process` tells how
/// the child ended.
#[derive(Debug, Clone)]
pub struct Child(Identity);

impl Child {
    /// The name of the child.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The operating system's process id, as the run sees it.
    #[must_use]
    #[doc(alias = "ident")]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Whether the child is daemonic.
    #[must_use]
    pub fn daemon(&self) -> bool {
        self.0.daemon
    }

    /// Whether the child is still alive.
    ///
    /// # Errors
    /// [`Error::NotAChild`] in another process than the one that called [`active_children`].
    pub fn is_alive(&self) -> Result<bool, Error> {
        Ok(!self.0.has_ended(NO_WAIT)?)
    }

    /// Waits until the child has ended.
    ///
    /// # Errors
    /// As [`is_alive`](Self::is_alive).
    pub fn join(&self) -> Result<(), Error> {
        self.0.has_ended(FOREVER)?;
        Ok(())
    }

    /// Waits until the child has ended, but not for longer than `timeout`. Returns whether it has.
    ///
    /// # Errors
    /// As [`is_alive`](Self::is_alive).
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool, Error> {
        self.0.has_ended(nanoseconds(timeout))
    }

    /// Whether the child has ended.
    ///
    /// # Errors
    /// As [`is_alive`](Self::is_alive).
    pub fn try_join(&self) -> Result<bool, Error> {
        self.0.has_ended(NO_WAIT)
    }

    /// Ends the child with SIGTERM.
    ///
    /// # Errors
    /// As [`is_alive`](Self::is_alive).
    pub fn terminate(&self) -> Result<(), Error> {
        self.signal(SIGTERM)
    }

    /// Ends the child with SIGINT: see [`Process::interrupt`](super::Process::interrupt).
    ///
    /// # Errors
    /// As [`is_alive`](Self::is_alive).
    pub fn interrupt(&self) -> Result<(), Error> {
        self.signal(SIGINT)
    }

    /// Ends the child with SIGKILL.
    ///
    /// # Errors
    /// As [`is_alive`](Self::is_alive).
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(SIGKILL)
    }

    fn signal(&self, signal: u32) -> Result<(), Error> {
        match raw::process::signal(self.0.handle, signal) {
            Ok(()) | Err(Errno::Badf) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }
}

/// Returns the children of this process that are alive.
///
/// ```no_run
/// for child in sandpool_guest::active_children()? {
///     println!("waiting for {}", child.name());
///     child.join()?;
/// }
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// # Errors
/// Only when the arena is damaged.
pub fn active_children() -> Result<Vec<Child>, Error> {
    let mut children = Vec::new();
    for handle in raw::process::children()? {
        match Identity::from_handle(handle) {
            Ok(identity) => children.push(Child(identity)),
            // The child has ended meanwhile, and the host has forgotten it.
            Err(Errno::Badf | Errno::Child) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(children)
}

/// Returns the number of processors that this process may use: at least one.
///
/// ```no_run
/// use sandpool_guest::{Process, cpu_count};
///
/// let workers: Result<Vec<_>, _> = (0..cpu_count()).map(|_| Process::fork(|| ())).collect();
/// ```
#[must_use]
#[doc(alias = "process_cpu_count")]
pub fn cpu_count() -> usize {
    usize::try_from(raw::process::cpu_count()).map_or(1, |count| count.max(1))
}
