//! A manager, for its creator and for others.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::client::{Door, DoorEnd};
use super::error::StartError;
use super::proxy::Managed;
use super::server::{self, Startup};
use crate::object::Use;
use crate::pipe::RecvError;
use crate::process::Builder as ProcessBuilder;
use crate::start::Termination;
use crate::{
    Barrier, BoundedSemaphore, Condition, Connection, Error, Event, ExitStatus, JoinableQueue, Lock, Pipe,
    Process, Queue, RLock, Semaphore, raw, start,
};

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
        let handle = ManagerHandle::of(Door::of(door_end));
        Ok(Manager { process, keep, handle, owner, timeout: self.timeout })
    }
}

fn next_name() -> String {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    format!("SyncManager-{}", STARTED.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
}

/// A manager, for processes that make values in it.
///
/// A clone is the same manager. It is also data: it can be an argument of a spawned process, and a part of an item of a
/// queue. The manager's end doesn't depend on it.
#[derive(Debug, Clone)]
pub struct ManagerHandle {
    door: Arc<Door>,
}

impl ManagerHandle {
    pub(super) fn of(door: Arc<Door>) -> Self {
        Self { door }
    }

    pub(super) fn door(&self) -> &Door {
        &self.door
    }
}

/// Objects that Python's managers make, and that need no manager here: each of these is the same as `new` of its type, and lives
/// as long as any process has it.
#[allow(clippy::unused_self, reason = "as in Python, it is asked of a manager")]
impl ManagerHandle {
    /// Makes a [`Dict`](crate::Dict).
    ///
    /// # Errors
    /// As [`Dict::new`](crate::Dict::new).
    pub fn dict<K, V>(&self) -> Result<crate::Dict<K, V>, Error> {
        crate::Dict::new()
    }

    /// Makes a [`List`](crate::List).
    ///
    /// # Errors
    /// As [`List::new`](crate::List::new).
    pub fn list<T>(&self) -> Result<crate::List<T>, Error> {
        crate::List::new()
    }

    /// Makes a [`Set`](crate::Set).
    ///
    /// # Errors
    /// As [`Set::new`](crate::Set::new).
    pub fn set<T>(&self) -> Result<crate::Set<T>, Error> {
        crate::Set::new()
    }

    /// Makes a [`Namespace`](crate::Namespace).
    ///
    /// # Errors
    /// As [`Namespace::new`](crate::Namespace::new).
    #[doc(alias = "Namespace")]
    pub fn namespace(&self) -> Result<crate::Namespace, Error> {
        crate::Namespace::new()
    }

    /// Makes a [`Queue`], for at most `maxsize` items unless that is 0.
    ///
    /// # Errors
    /// As [`Queue::bounded`].
    #[doc(alias = "Queue")]
    pub fn queue<T>(&self, maxsize: usize) -> Result<Queue<T>, Error> {
        Queue::bounded(maxsize)
    }

    /// Makes a [`JoinableQueue`], for at most `maxsize` items unless that is 0.
    ///
    /// # Errors
    /// As [`JoinableQueue::bounded`].
    #[doc(alias = "JoinableQueue")]
    pub fn joinable_queue<T>(&self, maxsize: usize) -> Result<JoinableQueue<T>, Error> {
        JoinableQueue::bounded(maxsize)
    }

    /// Makes a [`Lock`].
    ///
    /// # Errors
    /// As [`Lock::new`].
    #[doc(alias = "Lock")]
    pub fn lock(&self) -> Result<Lock, Error> {
        Lock::new()
    }

    /// Makes an [`RLock`].
    ///
    /// # Errors
    /// As [`RLock::new`].
    #[doc(alias = "RLock")]
    pub fn rlock(&self) -> Result<RLock, Error> {
        RLock::new()
    }

    /// Makes a [`Semaphore`].
    ///
    /// # Errors
    /// As [`Semaphore::new`].
    #[doc(alias = "Semaphore")]
    pub fn semaphore(&self, units: u64) -> Result<Semaphore, Error> {
        Semaphore::new(units)
    }

    /// Makes a [`BoundedSemaphore`].
    ///
    /// # Errors
    /// As [`BoundedSemaphore::new`].
    #[doc(alias = "BoundedSemaphore")]
    pub fn bounded_semaphore(&self, units: u64) -> Result<BoundedSemaphore, Error> {
        BoundedSemaphore::new(units)
    }

    /// Makes an [`Event`].
    ///
    /// # Errors
    /// As [`Event::new`].
    #[doc(alias = "Event")]
    pub fn event(&self) -> Result<Event, Error> {
        Event::new()
    }

    /// Makes a [`Condition`].
    ///
    /// # Errors
    /// As [`Condition::new`].
    #[doc(alias = "Condition")]
    pub fn condition(&self) -> Result<Condition, Error> {
        Condition::new()
    }

    /// Makes a [`Barrier`].
    ///
    /// # Errors
    /// As [`Barrier::new`].
    #[doc(alias = "Barrier")]
    pub fn barrier(&self, parties: usize) -> Result<Barrier, Error> {
        Barrier::new(parties)
    }

    /// Makes a [`Value`](crate::Value).
    ///
    /// # Errors
    /// As [`Value::new`](crate::Value::new).
    #[doc(alias = "Value")]
    pub fn value<T: crate::shared::Pod>(&self, value: T) -> Result<crate::Value<T>, Error> {
        crate::Value::new(value)
    }

    /// Makes an [`Array`](crate::Array) of `len` zeroes.
    ///
    /// # Errors
    /// As [`Array::new`](crate::Array::new).
    #[doc(alias = "Array")]
    pub fn array<T: crate::shared::Pod>(&self, len: usize) -> Result<crate::Array<T>, Error> {
        crate::Array::new(len)
    }
}

/// Whether they are the same manager.
impl PartialEq for ManagerHandle {
    fn eq(&self, other: &Self) -> bool {
        self.door.handle() == other.door.handle()
    }
}

impl Eq for ManagerHandle {}

/// Works only inside a message, or the arguments of a spawned process: any other serializer gets an error.
impl Serialize for ManagerHandle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.door.offer::<S::Error>()?.serialize(serializer)
    }
}

/// As [`Serialize`].
impl<'de> Deserialize<'de> for ManagerHandle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let DoorEnd(object) = DoorEnd::deserialize(deserializer)?;
        Ok(Self::of(Door::of(object)))
    }
}
