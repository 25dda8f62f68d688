//! The proxies that other processes than the manager have of an object.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{self, DeserializeOwned, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::call::{Answer, Call, Head, MANAGER, ObjectId};
use super::client::Door;
use super::error::CallError;
use super::handle::ManagerHandle;
use crate::deadline::Deadline;
use crate::object::{Object, Role, mismatched};

/// A type whose values can live in a manager: [`macro@crate::managed`] implements it.
pub trait Managed: Sized + 'static {
    /// A number for the type and its methods, which tells types apart.
    #[doc(hidden)]
    const FINGERPRINT: u64;

    /// Calls a method that makes a value.
    #[doc(hidden)]
    fn construct(method: u32, call: Call) -> Answer;

    /// Calls a method.
    #[doc(hidden)]
    fn call(&mut self, method: u32, call: Call) -> Answer;

    /// Returns the value to go on with if the next method panics. `None` if the object is poisoned then.
    #[doc(hidden)]
    fn checkpoint(&self) -> Option<Self> {
        None
    }
}

/// A value of type `T` that lives in a manager, for the processes that call it.
///
/// [`macro@crate::managed`] writes a type around it that has the methods of `T`. A clone is a proxy of the same value. A
/// proxy is also data: it can be an argument of a spawned process, a part of an item of a queue, an argument or a result
/// of another call, and a value in a [`Dict`](crate::Dict).
pub struct Proxy<T> {
    door: Arc<Door>,
    /// The value lives as long as anybody has this object.
    token: Arc<Object>,
    id: ObjectId,
    timeout: Option<Duration>,
    of: PhantomData<fn() -> T>,
}

impl<T: Managed> Proxy<T> {
    pub(super) fn new(door: Arc<Door>, token: Arc<Object>, id: ObjectId) -> Self {
        Self { door, token, id, timeout: None, of: PhantomData }
    }

    /// Calls a method. `method` is one that the macro has numbered.
    #[doc(hidden)]
    pub fn call<A, R>(&self, method: u32, arguments: &A) -> Result<R, CallError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let deadline = self.timeout.map_or(Deadline::NEVER, Deadline::after);
        self.door.call(Head { object: self.id, of: T::FINGERPRINT, method }, arguments, deadline)
    }

    /// Makes a value in a manager by one of the functions that the macro has numbered.
    #[doc(hidden)]
    pub fn construct<A, R>(manager: &ManagerHandle, method: u32, arguments: &A) -> Result<R, CallError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let head = Head { object: MANAGER, of: T::FINGERPRINT, method };
        manager.door().call(head, arguments, Deadline::NEVER)
    }

    /// Returns a proxy of the same value whose calls take at most `timeout`. A call that takes longer is
    /// [`CallError::TimedOut`]; the manager goes on with it.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { timeout: Some(timeout), ..self.clone() }
    }

    /// Returns the manager that the value lives in.
    #[must_use]
    pub fn manager(&self) -> ManagerHandle {
        ManagerHandle::new(self.door.clone())
    }
}

/// A clone is a proxy of the same value.
impl<T> Clone for Proxy<T> {
    fn clone(&self) -> Self {
        let Self { door, token, id, timeout, of } = self;
        Self { door: door.clone(), token: token.clone(), id: *id, timeout: *timeout, of: *of }
    }
}

impl<T> fmt::Debug for Proxy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the number: whoever knows it can make calls.
        write!(f, "Proxy({:#x})", self.token.handle())
    }
}

/// Whether they are proxies of the same value, not whether the values are equal.
impl<T> PartialEq for Proxy<T> {
    fn eq(&self, other: &Self) -> bool {
        self.token.handle() == other.token.handle()
    }
}

impl<T> Eq for Proxy<T> {}

/// Puts the proxy into a message, or the arguments of a spawned process: any other serializer gets an error.
impl<T> Serialize for Proxy<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let door = self.door.offer::<S::Error>()?;
        let token = self.token.offer::<S::Error>(Role::MANAGED.what)?;
        (door, token, self.id).serialize(serializer)
    }
}

/// Takes the proxy out of a message, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de, T: Managed> Deserialize<'de> for Proxy<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (door, token, id) = <(u32, u32, ObjectId)>::deserialize(deserializer)?;
        let door = Object::claim::<D::Error>(door, &Role::MANAGER)?.object;
        let token = Object::claim::<D::Error>(token, &Role::MANAGED)?;
        if token.partner != door.handle() {
            return Err(mismatched("managed object"));
        }
        if id == MANAGER {
            return Err(de::Error::custom("the message names no managed object"));
        }
        Ok(Self::new(Door::from_object(door), token.object, id))
    }
}
