//! The messages of a call.
//!
//! ```text
//!  request: object (16 bytes)  type (8)  method (4)  encoded arguments
//!  reply:   outcome (1)        encoded result, or a text
//! ```
//!
//! Anybody who holds a proxy can send any bytes here, so the manager checks each field before it uses it. The object is a
//! random number, which only those know who were given a proxy.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::CallError;
use crate::handles::Handles;
use crate::{DecodeError, codec};

/// The number of an object. 0 is the manager itself.
pub(super) type ObjectId = u128;

pub(super) const MANAGER: ObjectId = 0;

/// The bytes before the arguments.
pub(super) const HEAD: usize = 28;

/// The beginning of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) object: ObjectId,
    /// The fingerprint of the type that has the method.
    pub(super) of: u64,
    pub(super) method: u32,
}

impl Head {
    pub(super) fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        let parts = self.object.to_le_bytes().into_iter().chain(self.of.to_le_bytes());
        let parts = parts.chain(self.method.to_le_bytes());
        bytes.iter_mut().zip(parts).for_each(|(to, byte)| *to = byte);
        bytes
    }

    /// Splits a request. `None` if the request is too short.
    pub(super) fn read(request: &[u8]) -> Option<(Self, &[u8])> {
        let (object, rest) = request.split_first_chunk()?;
        let (of, rest) = rest.split_first_chunk()?;
        let (method, rest) = rest.split_first_chunk()?;
        let head = Self {
            object: u128::from_le_bytes(*object),
            of: u64::from_le_bytes(*of),
            method: u32::from_le_bytes(*method),
        };
        Some((head, rest))
    }
}

/// The first byte of a reply: the method has a result.
pub(super) const DONE: u8 = 0;
const PANICKED: u8 = 1;
const POISONED: u8 = 2;
const NOT_REGISTERED: u8 = 3;
const NO_SUCH_OBJECT: u8 = 4;
const REENTRANT: u8 = 5;
const REFUSED: u8 = 6;
const TOO_LARGE: u8 = 7;

impl CallError {
    /// The error as a reply.
    pub(super) fn to_reply(&self) -> Vec<u8> {
        let (outcome, text) = match self {
            Self::Panicked(message) => (PANICKED, message.clone()),
            Self::Poisoned => (POISONED, String::new()),
            Self::NotRegistered => (NOT_REGISTERED, String::new()),
            Self::NoSuchObject => (NO_SUCH_OBJECT, String::new()),
            Self::Reentrant => (REENTRANT, String::new()),
            Self::TooLarge => (TOO_LARGE, String::new()),
            other => (REFUSED, other.to_string()),
        };
        let mut reply = vec![outcome];
        reply.extend_from_slice(text.as_bytes());
        reply
    }

    /// The error that a reply tells of.
    pub(super) fn from_reply(outcome: u8, text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text).into_owned();
        match outcome {
            PANICKED => Self::Panicked(text),
            POISONED => Self::Poisoned,
            NOT_REGISTERED => Self::NotRegistered,
            NO_SUCH_OBJECT => Self::NoSuchObject,
            REENTRANT => Self::Reentrant,
            TOO_LARGE => Self::TooLarge,
            REFUSED => Self::Refused(text),
            _ => Self::Decode(DecodeError::new("the reply has an unknown outcome")),
        }
    }
}

/// The arguments of a call, for the code that [`macro@crate::managed`] writes.
#[derive(Debug)]
#[doc(hidden)]
pub struct Call {
    bytes: Vec<u8>,
    /// Where in the bytes the arguments begin.
    from: usize,
    handles: Handles,
}

/// The encoded result of a call.
#[derive(Debug)]
#[doc(hidden)]
pub struct Answer(pub(super) Result<Encoded, CallError>);

/// Bytes and handles. The handles are kept until the message is sent.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    pub(super) handles: Vec<u64>,
    pub(super) kept: Vec<std::sync::Arc<crate::object::Object>>,
}

impl Call {
    pub(super) fn new(bytes: Vec<u8>, from: usize, handles: Handles) -> Self {
        Self { bytes, from, handles }
    }

    /// Decodes the arguments.
    pub fn arguments<A: DeserializeOwned>(self) -> Result<A, CallError> {
        codec::decode(self.bytes.get(self.from..).unwrap_or_default(), self.handles)
            .map_err(|error| CallError::Refused(format!("the arguments: {error}")))
    }

    /// Decodes the arguments, calls the method, and encodes the result.
    pub fn answer<A: DeserializeOwned, R: Serialize>(self, method: impl FnOnce(A) -> R) -> Answer {
        Answer(self.arguments().and_then(|arguments| encode(&method(arguments))))
    }

    /// The answer for a method that there isn't.
    pub fn no_such_method(self) -> CallError {
        CallError::Refused("the type has no such method".to_owned())
    }
}

impl From<CallError> for Answer {
    fn from(error: CallError) -> Self {
        Self(Err(error))
    }
}

/// Encodes a result as a reply.
pub(super) fn encode<R: Serialize>(result: &R) -> Result<Encoded, CallError> {
    let mut bytes = vec![DONE];
    let handles = codec::append(&mut bytes, result)
        .map_err(|error| CallError::Refused(format!("the result: {error}")))?;
    // The result, which holds these objects, is dropped before the message is sent.
    let kept = crate::object::keep(handles.clone())?;
    Ok(Encoded { bytes, handles, kept })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back() {
        let head = Head { object: 7 << 100 | 5, of: u64::MAX - 1, method: 3 };
        let mut request = head.to_bytes().to_vec();
        request.push(9);
        assert_eq!(Head::read(&request), Some((head, [9].as_slice())));
        assert_eq!(Head::read(request.get(..HEAD - 1).unwrap_or_default()), None);
    }

    #[test]
    fn errors_come_back() {
        let errors = [
            CallError::Panicked("why".to_owned()),
            CallError::Poisoned,
            CallError::NotRegistered,
            CallError::NoSuchObject,
            CallError::Reentrant,
            CallError::TooLarge,
            CallError::Refused("reason".to_owned()),
        ];
        for error in errors {
            let reply = error.to_reply();
            let back = reply.split_first().map(|(outcome, text)| CallError::from_reply(*outcome, text));
            assert_eq!(back.map(|back| format!("{back:?}")), Some(format!("{error:?}")));
        }
        assert!(matches!(CallError::from_reply(99, b""), CallError::Decode(_)));
    }
}
