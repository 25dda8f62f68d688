//! A process's side of its calls: one connection for each manager.
//!
//! The *door* is a pipe whose other end only the manager has. A process that wants to make calls makes a pipe of its own,
//! and sends the manager one end through the door. So the manager learns of the end of each process that calls it, and
//! each process learns of the manager's: pipes tell.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sandpool_abi::Errno;
use sandpool_abi::pipe::DUPLEX;
use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{self, Serialize, Serializer};

use super::call::{DONE, Head};
use super::error::CallError;
use crate::deadline::Deadline;
use crate::message::{self, Failure};
use crate::object::{Object, Role};
use crate::{DecodeError, Error, codec, raw};

/// A manager as other processes have it.
pub(super) struct Door {
    object: Arc<Object>,
    /// The connection of this process, and the process whose it is: a forked child has a copy of its creator's.
    connection: Mutex<Option<(u64, Arc<Object>)>>,
}

thread_local! {
    /// The doors of this process, so that all proxies of a manager have one connection.
    static DOORS: RefCell<Vec<Weak<Door>>> = const { RefCell::new(Vec::new()) };
}

impl Door {
    /// The door with this end. A process has one of each manager.
    pub(super) fn from_object(object: Arc<Object>) -> Arc<Self> {
        DOORS.with_borrow_mut(|doors| {
            doors.retain(|door| door.strong_count() != 0);
            let known = doors.iter().filter_map(Weak::upgrade).find(|door| door.handle() == object.handle());
            known.unwrap_or_else(|| {
                let door = Arc::new(Self { object, connection: Mutex::new(None) });
                doors.push(Arc::downgrade(&door));
                door
            })
        })
    }

    pub(super) fn handle(&self) -> u64 {
        self.object.handle()
    }

    pub(super) fn offer<E: ser::Error>(&self) -> Result<u32, E> {
        self.object.offer(Role::MANAGER.what)
    }

    /// Makes a call and returns its result.
    pub(super) fn call<A, R>(&self, head: Head, arguments: &A, deadline: Deadline) -> Result<R, CallError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        // A value that was moved into another process is dropped silently: it makes no calls.
        if raw::mute::is_on() {
            return Err(CallError::ManagerDied);
        }
        let mut request = head.to_bytes().to_vec();
        let handles = codec::append(&mut request, arguments).map_err(CallError::Encode)?;
        if let Some(own) = own(self.handle()) {
            return call_itself(&*own, &request, &handles);
        }
        let current = raw::process::current()?;
        let connected = self.lock().take().filter(|(process, _)| *process == current);
        let connection = match connected {
            Some((_, connection)) => connection,
            None => self.connect(deadline)?,
        };
        // If anything is left in the connection, such as the result of a call that took too long, it isn't used again.
        send(&connection, &request, &handles, deadline)?;
        let result = receive_within(&connection, deadline)?;
        *self.lock() = Some((current, connection));
        result
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<(u64, Arc<Object>)>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, deadline: Deadline) -> Result<Arc<Object>, CallError> {
        let [ours, theirs] = raw::pipe::create(0, DUPLEX)?.map(Object::adopt);
        // The message says that it is the first of its handles.
        send(&self.object, &0_u32.to_le_bytes(), &[theirs.handle()], deadline)?;
        Ok(ours)
    }
}

/// The manager of this process, which does the calls that its own methods make.
pub(super) trait Own {
    /// Whether it is the manager with this door. A forked child has a copy of a manager, which is none.
    fn has_door(&self, door: u64) -> bool;

    /// Does the call that was sent to the other end of this one. Returns whether the reply was sent.
    fn serve_one(&self, end: &Arc<Object>) -> bool;

    /// The connections by which the manager calls itself, while none is in use: its ends as a caller, and as the manager.
    fn loops(&self) -> &RefCell<Vec<[Arc<Object>; 2]>>;
}

thread_local! {
    static OWN: RefCell<Option<Rc<dyn Own>>> = const { RefCell::new(None) };
}

/// Says that this process is a manager.
pub(super) fn set_own(own: Rc<dyn Own>) {
    OWN.set(Some(own));
}

/// Returns the manager of this process, if that is the one with this door.
fn own(door: u64) -> Option<Rc<dyn Own>> {
    OWN.with_borrow(Clone::clone).filter(|own| own.has_door(door))
}

/// Makes a call of the manager to itself, by a pipe of its own as others do.
fn call_itself<R: DeserializeOwned>(own: &dyn Own, request: &[u8], handles: &[u64]) -> Result<R, CallError> {
    let spare = own.loops().borrow_mut().pop();
    let [ours, theirs] = match spare {
        Some(spare) => spare,
        None => raw::pipe::create(0, DUPLEX)?.map(Object::adopt),
    };
    send(&ours, request, handles, Deadline::NOW)?;
    if !own.serve_one(&theirs) {
        return Err(CallError::Refused("the arena has no room for the result".to_owned()));
    }
    let result = receive_within(&ours, Deadline::NOW)??;
    own.loops().borrow_mut().push([ours, theirs]);
    Ok(result)
}

fn send(end: &Object, message: &[u8], handles: &[u64], deadline: Deadline) -> Result<(), CallError> {
    raw::pipe::send(end.handle(), &[message], handles, deadline.left()).map_err(|errno| match errno {
        Errno::Pipe => CallError::ManagerDied,
        Errno::Again | Errno::Timedout => CallError::TimedOut,
        other => other.into(),
    })
}

/// Receives a reply. The outer error means that there was none.
fn receive_within<R: DeserializeOwned>(
    end: &Object,
    deadline: Deadline,
) -> Result<Result<R, CallError>, CallError> {
    let receive = |buffer: &mut [u8]| raw::pipe::recv(end.handle(), buffer, deadline.left());
    let reply = message::receive(receive, |bytes, handles| match bytes.split_first() {
        Some((&DONE, result)) => codec::decode(result, handles).map_err(CallError::Decode),
        Some((outcome, text)) => Err(CallError::from_reply(*outcome, text)),
        None => Err(CallError::Decode(DecodeError::missing(1))),
    });
    reply.map_err(|failure| match failure {
        Failure::Host(Errno::Closed) => CallError::ManagerDied,
        Failure::Host(Errno::Again | Errno::Timedout) => CallError::TimedOut,
        Failure::Host(other) => other.into(),
        Failure::OutOfMemory => CallError::Process(Error::OutOfMemory),
    })
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.handle())
    }
}

/// The end of the door that all but the manager have, as data.
#[derive(Debug, Clone)]
pub(super) struct DoorEnd(pub(super) Arc<Object>);

impl Serialize for DoorEnd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Role::MANAGER.what, serializer)
    }
}

impl<'de> Deserialize<'de> for DoorEnd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize(&Role::MANAGER, deserializer).map(Self)
    }
}
