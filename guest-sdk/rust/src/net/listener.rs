//! Listeners, which accept connections from outside of the run.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sandpool_abi::FOREVER;

use super::client::{lost, random, send};
use super::error::ConnectionError;
use super::handshake::{Handshake, Key, MESSAGE_MAX, Side};
use super::request::{HANDSHAKE, answer, check_key};
use crate::deadline::Deadline;
use crate::handles::Handles;
use crate::object::{Object, Role};
use crate::pipe::RecvError;
use crate::{Connection, message, raw, wait};

/// Accepts connections from outside of the run.
///
/// ```no_run
/// use sandpool_guest::net::ConnectionError;
/// use sandpool_guest::{Listener, Process};
///
/// let listener = Listener::builder().authkey("secret").bind("tcp:127.0.0.1:6000")?;
/// loop {
///     let connection = match listener.accept() {
///         // A peer with another key, or one that doesn't know the protocol.
///         Err(ConnectionError::Authentication(_)) => continue,
///         accepted => accepted?,
///     };
///     Process::fork(move || -> Result<(), sandpool_guest::Error> {
///         Ok(connection.send_bytes(&connection.recv_bytes()?)?)
///     })?;
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// The address has to be granted: `sandpool run --listen tcp:127.0.0.1:6000`, or `Sandbox::listen` of an application. See
/// [`net`](crate::net).
///
/// A forked process has a copy of the listener, and may accept as well: each connection goes to one of them. The listener is
/// closed when the last copy is dropped. [`wait`](crate::wait()) waits for a listener together with other things.
///
/// With a key, peers prove that they have it before they are accepted, several at the same time: up to 64 at the same time, and
/// each is given up after 20 seconds. More than 64 that say nothing hold up others.
pub struct Listener {
    /// The end at which connections come.
    end: Connection,
    address: String,
    key: Option<Key>,
    state: Mutex<ListenerState>,
}

#[derive(Default)]
struct ListenerState {
    /// The process whose these are: a forked one has copies, and leaves them to the other.
    process: Option<u64>,
    /// Connections whose peers haven't proved yet that they have the key.
    proving: Vec<Proving>,
    last_accepted: Option<String>,
}

/// A connection whose peer is to prove that it has the key.
struct Proving {
    connection: Connection,
    peer: String,
    handshake: Handshake,
    deadline: Deadline,
}

/// The most peers that prove at the same time that they have the key. Others wait in the host.
const PROVING_MAX: usize = 64;

impl Listener {
    /// Listens at an address without a key: for other runs of this user (`sandpool:NAME`), or at a socket of the file system
    /// (`unix:PATH`), which this user alone may connect to.
    ///
    /// # Errors
    /// [`ConnectionError`]; [`NoKey`](ConnectionError::NoKey) for an address of TCP.
    pub fn bind(address: &str) -> Result<Self, ConnectionError> {
        Self::builder().bind(address)
    }

    /// Returns a [`Builder`], which listens with a key.
    pub fn builder() -> Builder {
        Builder { key: None, allows_md5: false, may_lack_key: false, backlog: 16 }
    }

    /// The address, with the port that was chosen if the address has port 0.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address at the other side of the connection that this process has accepted last; `None` before the first.
    #[must_use]
    pub fn last_accepted(&self) -> Option<String> {
        self.state().last_accepted.clone()
    }

    /// Accepts a connection, and waits for one.
    ///
    /// # Errors
    /// [`Authentication`](ConnectionError::Authentication) for a peer that doesn't have the key; others may still be
    /// accepted. [`Gateway`](ConnectionError::Gateway) if nobody will come any more.
    pub fn accept(&self) -> Result<Connection, ConnectionError> {
        loop {
            if let Some(connection) = self.accept_until(Deadline::NEVER)? {
                return Ok(connection);
            }
        }
    }

    /// Accepts a connection, and waits for one for at most `timeout`. `None` if the time is over.
    ///
    /// # Errors
    /// The errors of [`accept`](Self::accept).
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Option<Connection>, ConnectionError> {
        self.accept_until(Deadline::after(timeout))
    }

    /// Accepts a connection if there is one at once.
    ///
    /// # Errors
    /// The errors of [`accept`](Self::accept).
    pub fn try_accept(&self) -> Result<Option<Connection>, ConnectionError> {
        self.accept_until(Deadline::NOW)
    }

    /// Closes the listener, as dropping it does. Connections that were accepted stay open.
    pub fn close(self) {}

    fn state(&self) -> std::sync::MutexGuard<'_, ListenerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept_until(&self, deadline: Deadline) -> Result<Option<Connection>, ConnectionError> {
        let mut state = self.state();
        let process = raw::process::current().map_err(ConnectionError::Host)?;
        if state.process != Some(process) {
            // Those of a forked process's parent are the parent's.
            state.proving.clear();
            state.process = Some(process);
        }
        loop {
            if let Some((connection, peer)) = self.look(&mut state)? {
                state.last_accepted = Some(peer);
                return Ok(Some(connection));
            }
            if deadline == Deadline::NOW || deadline.has_passed() {
                return Ok(None);
            }
            let until = state.proving.iter().fold(deadline, |until, proving| until.earlier(proving.deadline));
            let mut things: Vec<_> = state.proving.iter().map(|proving| &proving.connection).collect();
            if things.len() < PROVING_MAX {
                things.push(&self.end);
            }
            wait::wait_until(&things, until).map_err(|error| match error {
                crate::Error::Host(errno) => ConnectionError::from_errno(errno),
                _ => ConnectionError::Gateway,
            })?;
        }
    }

    /// Goes on with the peers that have sent something, and takes new ones. Returns one that is done.
    fn look(&self, state: &mut ListenerState) -> Result<Option<(Connection, String)>, ConnectionError> {
        for at in 0..state.proving.len() {
            let Some(proving) = state.proving.get_mut(at) else { break };
            match proving.go_on(self.key.as_ref()) {
                Ok(false) => {}
                Ok(true) => {
                    let proving = state.proving.swap_remove(at);
                    return Ok(Some((proving.connection, proving.peer)));
                }
                Err(error) => {
                    state.proving.swap_remove(at);
                    return Err(error);
                }
            }
        }
        while state.proving.len() < PROVING_MAX
            && let Some((connection, peer)) = self.receive()?
        {
            if self.key.is_none() {
                return Ok(Some((connection, peer)));
            }
            let (handshake, first) = Handshake::begin(Side::Listener, random()?);
            let deadline = Deadline::after(HANDSHAKE);
            let is_sent = first.is_none_or(|message| send(&connection, &message).is_ok());
            if is_sent {
                state.proving.push(Proving { connection, peer, handshake, deadline });
            }
        }
        Ok(None)
    }

    /// Takes a connection that the host has accepted, and the address at its other side.
    fn receive(&self) -> Result<Option<(Connection, String)>, ConnectionError> {
        let recv = |buffer: &mut [u8]| {
            raw::pipe::recv(wait::Handle::handle(&self.end), buffer, sandpool_abi::NO_WAIT)
        };
        let received = message::receive(recv, |peer, handles| {
            let mut records = handles.into_records();
            let end = records.pop_if(|record| Role::CONNECTION.is_met(record)).map(|record| record.handle);
            drop(Handles::from_records(records));
            (end, String::from_utf8_lossy(&peer).into_owned())
        });
        match received {
            Ok((Some(end), peer)) => Ok(Some((Connection::from_object(Object::adopt(end)), peer))),
            Ok((None, _)) => Err(ConnectionError::Gateway),
            Err(failure) => match RecvError::from_failure(failure) {
                RecvError::Empty => Ok(None),
                RecvError::Host(errno) => Err(ConnectionError::from_errno(errno)),
                _ => Err(ConnectionError::Gateway),
            },
        }
    }
}

impl Proving {
    /// Takes what the peer has sent. Returns whether the peer has proved that it has the key.
    fn go_on(&mut self, key: Option<&Key>) -> Result<bool, ConnectionError> {
        let Some(key) = key else { return Ok(true) };
        loop {
            let message = match self.connection.try_recv_bytes_max(MESSAGE_MAX) {
                Ok(message) => message,
                Err(RecvError::Empty) if self.deadline.has_passed() => {
                    return Err(ConnectionError::Authentication(
                        "the peer hasn't proved in time that it has the key",
                    ));
                }
                Err(RecvError::Empty) => return Ok(false),
                Err(error) => return Err(lost(error)),
            };
            let answers = self.handshake.take(key, &message);
            for message in answers.messages {
                send(&self.connection, &message)?;
            }
            if let Some(why) = answers.refused {
                return Err(ConnectionError::Authentication(why));
            }
            // Messages that the peer sends after that are no part of the handshake.
            if self.handshake.is_done() {
                return Ok(true);
            }
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.address)
    }
}

/// Ready when the host has accepted a connection, whether or not its peer has the key. A peer that proves it sends more messages
/// later, which [`accept_timeout`](Listener::accept_timeout) waits for.
impl wait::Waitable for Listener {}

impl wait::Handle for Listener {
    fn handle(&self) -> u64 {
        wait::Handle::handle(&self.end)
    }
}

/// A listener that is about to be made: see [`Listener::builder`].
#[derive(Clone)]
#[must_use = "it listens nowhere until `bind`"]
pub struct Builder {
    key: Option<Vec<u8>>,
    allows_md5: bool,
    may_lack_key: bool,
    backlog: u32,
}

impl Builder {
    /// Sets the key that both sides must have, and prove to have.
    pub fn authkey(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Lets peers prove by MD5 that they have the key, and does so for them. Python 3.11 and older can't do more; all others use
    /// SHA-256 anyway.
    pub fn allow_md5(mut self) -> Self {
        self.allows_md5 = true;
        self
    }

    /// Allows the lack of a key at a loopback address of TCP. Any program of the machine may then connect.
    pub fn without_authkey(mut self) -> Self {
        self.may_lack_key = true;
        self
    }

    /// Sets how many connections may wait to be accepted, at most 128; the default is 16. Others wait in the kernel, as long as it
    /// lets them.
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Listens at an address.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub fn bind(self, address: &str) -> Result<Listener, ConnectionError> {
        check_key(address, self.key.as_deref(), self.may_lack_key)?;
        let end = raw::connection::listen(address, self.backlog)
            .map_err(|errno| ConnectionError::of_request(errno, address, "--listen"))?;
        let end = Connection::from_object(Object::adopt(end));
        let address = answer(&end, address, Deadline::Fixed(FOREVER))?;
        let key = self.key.map(|bytes| Key { bytes, allows_md5: self.allows_md5 });
        Ok(Listener { end, address, key, state: Mutex::default() })
    }
}
