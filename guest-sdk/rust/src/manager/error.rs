//! Why a call wasn't made, or has no result; why a manager didn't start.

use std::fmt;

use sandpool_abi::Errno;

use crate::{DecodeError, EncodeError, Error};

/// The reason why a call of a proxy has no result.
#[derive(Debug)]
#[non_exhaustive]
pub enum CallError {
    /// The manager has ended, or ended during the call.
    ManagerDied,
    /// The method panicked, with this message. The object is [poisoned](Self::Poisoned) from now on, unless its type says
    /// `#[managed(restore)]`: then it is as if the call hadn't been made.
    Panicked(String),
    /// A method of the object has panicked in an earlier call, so that the object may be half changed.
    Poisoned,
    /// The time of the call is over. The method may run nevertheless, or still be running.
    TimedOut,
    /// The manager doesn't know the type: it wasn't registered before the start.
    NotRegistered,
    /// The manager has no such object. A proxy that was received from others can be a forgery.
    NoSuchObject,
    /// A method of the object, or a method that it has called, calls the same object.
    Reentrant,
    /// Only a method can do this: it works inside of a manager's process alone.
    NotInManager,
    /// The manager couldn't do what the call needs, for this reason.
    Refused(String),
    /// The arguments can't be encoded.
    Encode(EncodeError),
    /// The result isn't of the method's type.
    Decode(DecodeError),
    /// The arguments, or the result, can never fit into the arena.
    TooLarge,
    /// This process can't make the objects that a call needs.
    Process(Error),
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            Error::TooLarge => Self::TooLarge,
            Error::Encode(error) => Self::Encode(error),
            Error::Decode(error) => Self::Decode(error),
            other => Self::Process(other),
        }
    }
}

impl From<Errno> for CallError {
    fn from(errno: Errno) -> Self {
        Error::from(errno).into()
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ManagerDied => f.write_str("the manager has ended"),
            Self::Panicked(message) => write!(f, "the method panicked: {message}"),
            Self::Poisoned => f.write_str("a method of the object has panicked before"),
            Self::TimedOut => f.write_str("the call took too long"),
            Self::NotRegistered => f.write_str("the manager doesn't know the type"),
            Self::NoSuchObject => f.write_str("the manager has no such object"),
            Self::Reentrant => f.write_str("the object is in the middle of a call that leads to this one"),
            Self::NotInManager => f.write_str("this works inside of a manager's process only"),
            Self::Refused(reason) => f.write_str(reason),
            Self::Encode(error) => error.fmt(f),
            Self::Decode(error) => error.fmt(f),
            Self::TooLarge => Error::TooLarge.fmt(f),
            Self::Process(error) => error.fmt(f),
        }
    }
}

// No `source`: the variants that wrap an error say the same as the wrapped one.
impl std::error::Error for CallError {}

/// The reason why a manager didn't start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The process couldn't be started.
    Process(Error),
    /// The process ended before the manager was ready, for example because the initializer panicked. This is the end of
    /// what the process wrote to its stderr.
    Ended(String),
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Process(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(error) => error.fmt(f),
            Self::Ended(stderr) => {
                write!(f, "the manager ended before it was ready: {}", stderr.trim_end())
            }
        }
    }
}

impl std::error::Error for StartError {}

impl From<CallError> for Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Process(error) => error,
            CallError::Encode(error) => error.into(),
            CallError::Decode(error) => error.into(),
            other => Self::other(other),
        }
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Process(error) => error,
            other => Self::other(other),
        }
    }
}
