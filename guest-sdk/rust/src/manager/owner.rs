//! A manager, for the process that starts it: settings, start, and end.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::client::{Door, DoorEnd};
use super::error::StartError;
use super::handle::ManagerHandle;
use super::proxy::Managed;
use super::server::{self, Startup};
use crate::object::Use;
use crate::pipe::RecvError;
use crate::process::Builder as ProcessBuilder;
use crate::start::Termination;
use crate::{Connection, Error, ExitStatus, Pipe, Process, raw, start};

/// The time that [`Manager::shutdown`] gives the manager before it kills it: Python's `shutdown_timeout`.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// A process that owns values of a program's own types: see [the module](crate::manager).
///
/// The manager's end is [`shutdown`](Self::shutdown), a drop, or the end of the process that made it, however that comes.
/// In a forked child, the copy of a manager ends nothing.
///
/// A `Manager` is also a [`ManagerHandle`], which can be given to other processes.
#[derive(Debug)]
pub struct Manager {
    process: Process,
    keep: Connection,
    handle: ManagerHandle,
    owner: u64,
    timeout: Duration,
}

impl Manager {
    /// Starts a manager that knows no types of the program's own.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn start() -> Result<Self, StartError> {
        Self::builder().start()
    }

    /// Returns a [`Builder`], which registers types, sets a name, or has a function called first.
    pub fn builder() -> Builder<()> {
        Builder { name: String::new(), types: Vec::new(), initializer: None, timeout: SHUTDOWN }
    }

    /// The name of the manager's process.
    #[must_use]
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// The number of the manager's process, as the run sees it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns the manager's process: to wait for its end, for example.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Ends the manager: it drops all values, and ends. If it is still at a call after a second, or the
    /// [chosen](Builder::shutdown_timeout) time, it is killed. Calls of its proxies fail from now on.
    ///
    /// # Errors
    /// [`Error::NotAChild`] if another process has made the manager.
    pub fn shutdown(self) -> Result<ExitStatus, Error> {
        self.end()
    }

    fn is_owner(&self) -> bool {
        raw::process::current() == Ok(self.owner)
    }

    fn end(&self) -> Result<ExitStatus, Error> {
        if !self.is_owner() {
            return Err(Error::NotAChild);
        }
        // If the manager has ended, then that is all there is to do.
        let _ = self.keep.try_send(&());
        match self.process.join_timeout(self.timeout)? {
            Some(status) => Ok(status),
            None => {
                self.process.kill()?;
                self.process.join()
            }
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // A manager that was moved into another process can't be ended there, and isn't here.
        if self.is_owner() && !raw::mute::is_on() {
            let _ = self.end();
        }
    }
}

impl Deref for Manager {
    type Target = ManagerHandle;

    fn deref(&self) -> &ManagerHandle {
        &self.handle
    }
}

/// A manager that is about to be started: see [`Manager::builder`].
#[derive(Debug, Clone)]
#[must_use = "it starts nothing until `start`"]
pub struct Builder<I> {
    name: String,
    types: Vec<(u64, u64)>,
    /// The numbers of the function that calls the initializer, and of the initializer; and its arguments.
    initializer: Option<(u64, u64, I)>,
    timeout: Duration,
}

impl<I> Builder<I> {
    /// Sets the name of the manager's process. An empty name means `SyncManager-` and a number.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Lets other processes make values of this type in the manager.
    pub fn register<T: Managed>(mut self) -> Self {
        self.types.push((T::FINGERPRINT, server::constructor::<T>()));
        self
    }

    /// Sets the time that [`Manager::shutdown`] gives the manager before it kills it.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Has the manager's process call `function` with `arguments` before anything else. If `function` returns an error,
    /// or panics, the manager doesn't start.
    pub fn initializer<J, R>(self, function: fn(J) -> R, arguments: J) -> Builder<J>
    where
        J: Serialize + DeserializeOwned,
        R: Termination,
    {
        let Self { name, types, timeout, .. } = self;
        let number = raw::function::number(function);
        Builder { name, types, initializer: Some((server::initialize::<J, R>(), number, arguments)), timeout }
    }
}

impl<I: Serialize + DeserializeOwned> Builder<I> {
    /// Starts the manager, and waits until it is ready.
    ///
    /// The manager is spawned: it has fresh memory, and none of the objects that this process has. In a program
    /// without [`#[sandpool_guest::main]`](macro@crate::main) it is forked, and has copies of all.
    ///
    /// # Errors
    /// [`StartError::Process`] with the errors of [`Process::spawn`]; [`StartError::Ended`].
    pub fn start(self) -> Result<Manager, StartError> {
        let owner = raw::process::current().map_err(Error::from)?;
        let (door, door_end) = Pipe::simplex()?;
        let door_end = door_end.into_object();
        door_end.made_as(Use::Manager, 0, 0).map_err(Error::from)?;
        let (kept, keep) = Pipe::simplex()?;
        let (ready, is_ready) = Pipe::simplex()?;
        let startup: Startup<I> =
            (door, DoorEnd(door_end.clone()), kept, is_ready, self.types, self.initializer);
        let name = if self.name.is_empty() { next_name() } else { self.name };
        let builder = ProcessBuilder::worker(name);
        let process = if start::has_entry_point() {
            builder.spawn(server::serve::<I>, startup)?
        } else {
            builder.fork(move || server::serve(startup))?
        };
        match ready.recv::<()>() {
            Ok(()) => {}
            Err(RecvError::Eof) => {
                process.join()?;
                return Err(StartError::Ended(process.stderr()));
            }
            Err(RecvError::Host(errno)) => return Err(Error::from(errno).into()),
            Err(_) => return Err(StartError::Ended(process.stderr())),
        }
        let handle = ManagerHandle::new(Door::from_object(door_end));
        Ok(Manager { process, keep, handle, owner, timeout: self.timeout })
    }
}

fn next_name() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    format!("SyncManager-{}", STARTED.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
}
