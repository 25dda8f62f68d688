//! The facts about a process that don't change.

use sandpool_abi::Errno;
use sandpool_abi::process::DAEMON;

use crate::{Error, raw};

/// Whether a join found the process ended.
pub(super) fn ended(joined: Result<(), Errno>) -> Result<bool, Errno> {
    match joined {
        Ok(()) => Ok(true),
        Err(Errno::Timedout | Errno::Again) => Ok(false),
        Err(other) => Err(other),
    }
}

/// The facts about a process that don't change during its life.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) handle: u64,
    pub(super) pid: u32,
    pub(super) parent_pid: u32,
    pub(super) daemon: bool,
    pub(super) name: String,
}

impl Identity {
    pub(super) fn from_handle(handle: u64) -> Result<Self, Errno> {
        let info = raw::process::info(handle)?;
        Ok(Self {
            handle,
            pid: info.pid,
            parent_pid: info.parent_pid,
            daemon: info.flags & DAEMON != 0,
            name: raw::process::name(handle)?,
        })
    }

    /// Waits for at most the given nanoseconds until the process has ended; returns whether it has.
    ///
    /// For a process whose handle another process may give back: the handle then names nothing, because the process
    /// has ended.
    pub(super) fn has_ended(&self, timeout: u64) -> Result<bool, Error> {
        match raw::process::join(self.handle, timeout) {
            Err(Errno::Badf) => Ok(true),
            joined => Ok(ended(joined)?),
        }
    }
}
