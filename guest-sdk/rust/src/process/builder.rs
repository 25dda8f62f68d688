//! Starting a process.

use std::io::Write;

use sandpool_abi::process::{DAEMON, NOT_DAEMON, TIED};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Process;
use crate::start::{self, Termination};
use crate::{Error, logging, raw, shared};

/// A process that is about to be started: see [`Process::builder`].
#[derive(Debug, Clone)]
#[must_use = "it starts nothing until `fork` or `spawn`"]
pub struct Builder {
    pub(super) name: String,
    pub(super) flags: u32,
}

impl Builder {
    /// Sets the name of the process. An empty name means the default name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Makes the process daemonic, or not daemonic, which is the default.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.flags = if daemon { DAEMON } else { NOT_DAEMON };
        self
    }

    /// A worker of a pool or the like: daemonic, ends with its creator, and everything that it starts ends with it.
    pub(crate) fn worker(name: impl Into<String>) -> Self {
        Self { name: name.into(), flags: DAEMON | TIED }
    }

    /// Starts the process as [`Process::fork`] does.
    ///
    /// # Errors
    /// The errors of [`Process::fork`]; [`Error::NameTooLong`].
    pub fn fork<F, T>(self, body: F) -> Result<Process, Error>
    where
        F: FnOnce() -> T,
        T: Termination,
    {
        if shared::is_borrowed() {
            return Err(Error::ArrayBorrowed);
        }
        flush();
        match raw::process::fork(&self.name, self.flags)? {
            Some(handle) => {
                raw::mute::drop(body);
                Process::adopt(handle)
            }
            None => {
                start::prepare();
                logging::started();
                start::exit(body().exit_code())
            }
        }
    }

    /// Starts the process as [`Process::spawn`] does.
    ///
    /// # Errors
    /// The errors of [`Process::spawn`]; [`Error::NameTooLong`].
    pub fn spawn<A, T>(self, function: fn(A) -> T, arguments: A) -> Result<Process, Error>
    where
        A: Serialize + DeserializeOwned,
        T: Termination,
    {
        flush();
        let handle = start::spawn(&self.name, self.flags, function, &arguments)?;
        raw::mute::drop(arguments);
        Process::adopt(handle)
    }
}

/// Flushes the standard streams, so that a fork prints nothing twice, and a spawn prints nothing out of order.
fn flush() {
    // A stream that can't be written to is no reason not to start a process.
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
}
