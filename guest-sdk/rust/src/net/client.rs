//! Connections to listeners outside of the run.

use std::time::Duration;

use sandpool_abi::FOREVER;

use super::error::ConnectionError;
use super::handshake::{Handshake, Key, MESSAGE_MAX, RANDOM, Side};
use super::request::{HANDSHAKE, answer, check_key};
use crate::deadline::{Deadline, nanoseconds};
use crate::object::Object;
use crate::pipe::{RecvError, SendError};
use crate::{Connection, Errno, raw};

/// Connects to listeners outside of the run.
///
/// ```no_run
/// use sandpool_guest::Client;
///
/// let connection = Client::builder().authkey("secret").connect("tcp:127.0.0.1:6000")?;
/// connection.send_bytes(b"hello")?;
/// println!("{:?}", connection.recv_bytes()?);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// The address has to be granted: `sandpool run --connect tcp:127.0.0.1:6000`, or `Sandbox::connect` of an application. See
/// [`net`](crate::net).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Client;

impl Client {
    /// Connects to an address without a key: to another run of this user (`sandpool:NAME`), or a socket of the file system
    /// (`unix:PATH`).
    ///
    /// # Errors
    /// [`ConnectionError`]; [`NoKey`](ConnectionError::NoKey) for an address of TCP.
    pub fn connect(address: &str) -> Result<Connection, ConnectionError> {
        Self::builder().connect(address)
    }

    /// Returns a [`Builder`], which connects with a key, or within a time.
    pub fn builder() -> Builder {
        Builder { key: None, allows_md5: false, may_lack_key: false, timeout: FOREVER }
    }
}

/// A connection that is about to be made: see [`Client::builder`].
#[derive(Clone)]
#[must_use = "it connects nothing until `connect`"]
pub struct Builder {
    key: Option<Vec<u8>>,
    allows_md5: bool,
    may_lack_key: bool,
    timeout: u64,
}

impl Builder {
    /// Sets the key that both sides must have, and prove to have.
    pub fn authkey(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Lets a peer prove by MD5 that it has the key, and does so for it. Python 3.11 and older can't do more; all others use
    /// SHA-256 anyway.
    pub fn allow_md5(mut self) -> Self {
        self.allows_md5 = true;
        self
    }

    /// Allows the lack of a key at a loopback address of TCP. Any program of the machine may then be at the other side.
    pub fn without_authkey(mut self) -> Self {
        self.may_lack_key = true;
        self
    }

    /// Sets how long all of it may take: to connect, and to prove the keys. Without it, a connection is given up after half a
    /// minute, and a proof after 20 seconds.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = nanoseconds(timeout);
        self
    }

    /// Connects.
    ///
    /// # Errors
    /// [`ConnectionError`]; [`Authentication`](ConnectionError::Authentication) if the peer has another key.
    pub fn connect(self, address: &str) -> Result<Connection, ConnectionError> {
        check_key(address, self.key.as_deref(), self.may_lack_key)?;
        let deadline = Deadline::after(Duration::from_nanos(self.timeout));
        let end = raw::connection::connect(address, self.timeout)
            .map_err(|errno| ConnectionError::of_request(errno, address, "--connect"))?;
        let connection = Connection::from_object(Object::adopt(end));
        answer(&connection, address, deadline)?;
        if let Some(bytes) = self.key {
            let key = Key { bytes, allows_md5: self.allows_md5 };
            shake_hands(&connection, Side::Client, &key, deadline.at_most(HANDSHAKE))?;
        }
        Ok(connection)
    }
}

/// Proves the key to the peer, and has the peer prove it.
fn shake_hands(
    connection: &Connection,
    side: Side,
    key: &Key,
    deadline: Deadline,
) -> Result<(), ConnectionError> {
    let (mut handshake, first) = Handshake::begin(side, random()?);
    if let Some(message) = first {
        send(connection, &message)?;
    }
    while !handshake.is_done() {
        let message = match connection.recv_bytes_max_within(MESSAGE_MAX, deadline.left()) {
            Ok(message) => message,
            Err(RecvError::Empty) => return Err(ConnectionError::TimedOut),
            Err(error) => return Err(lost(error)),
        };
        let answers = handshake.take(key, &message);
        for message in answers.messages {
            send(connection, &message)?;
        }
        if let Some(why) = answers.refused {
            return Err(ConnectionError::Authentication(why));
        }
    }
    Ok(())
}

/// Random bytes for a challenge.
pub(super) fn random() -> Result<[u8; RANDOM], ConnectionError> {
    raw::random::bytes().ok_or(ConnectionError::Host(Errno::Io))
}

/// Sends a message of the handshake. There is room for it, because nothing else was sent.
pub(super) fn send(connection: &Connection, message: &[u8]) -> Result<(), ConnectionError> {
    connection.try_send_bytes(message).map_err(|error| match error {
        SendError::Host(errno) => ConnectionError::Host(errno),
        _ => ConnectionError::Authentication(GONE),
    })
}

/// The error of a handshake whose peer is gone, or sends what no peer sends.
pub(super) fn lost(error: RecvError) -> ConnectionError {
    match error {
        RecvError::Host(errno) => ConnectionError::Host(errno),
        RecvError::TooLong => ConnectionError::Authentication("the peer doesn't know the protocol"),
        _ => ConnectionError::Authentication(GONE),
    }
}

const GONE: &str = "the peer has gone before it has proved that it has the key";
