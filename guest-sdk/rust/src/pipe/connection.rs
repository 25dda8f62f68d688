//! Pipes: two ends, with messages from each end to the other.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sandpool_abi::pipe::{DUPLEX, OUTSIDE, READABLE, WRITABLE};
use sandpool_abi::process::Limit;
use sandpool_abi::{Errno, FOREVER, NO_WAIT};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::deadline::nanoseconds;
use crate::error::into_error;
use crate::limits::{self, LimitRefusal};
use crate::message::{self, Failure};
use crate::object::{Object, Role};
use crate::{DecodeError, EncodeError, Error, codec, pickle, raw, wait};

/// Makes pipes between two ends.
///
/// ```no_run
/// use sandpool_guest::{Pipe, Process};
///
/// let (here, there) = Pipe::duplex()?;
/// let process = Process::fork(|| -> Result<(), sandpool_guest::Error> {
///     let number: u64 = there.recv()?;
///     Ok(there.send(&(number * number))?)
/// })?;
/// here.send(&7_u64)?;
/// assert_eq!(here.recv::<u64>()?, 49);
/// process.join()?;
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// A pipe is two [`Connection`]s: a message that is sent at one end is received at the other, in order, message by
/// message. A [`Queue`](crate::Queue) is one place for many processes; a pipe is for two processes that talk to each
/// other, and each can tell when the other is gone.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Pipe;

impl Pipe {
    /// Makes a pipe whose ends both send and receive.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn duplex() -> Result<(Connection, Connection), Error> {
        Self::builder().duplex()
    }

    /// Makes a pipe whose first end receives the messages that its second end sends.
    ///
    /// ```no_run
    /// use sandpool_guest::Pipe;
    /// use sandpool_guest::pipe::SendError;
    ///
    /// let (receiver, sender) = Pipe::simplex()?;
    /// sender.send(&"hello")?;
    /// assert_eq!(receiver.recv::<String>()?, "hello");
    /// assert!(matches!(receiver.send(&"hello"), Err(SendError::NotWritable)));
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    #[doc(alias = "duplex=False")]
    pub fn simplex() -> Result<(Connection, Connection), Error> {
        Self::builder().simplex()
    }

    /// Returns a [`Builder`], which makes a pipe with another capacity than the usual 64 KiB.
    ///
    /// ```no_run
    /// use sandpool_guest::Pipe;
    ///
    /// let (receiver, sender) = Pipe::builder().capacity(1 << 20).simplex()?;
    /// assert!(sender.capacity()? >= 1 << 20);
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder { capacity: 0 }
    }
}

/// A pipe that is about to be made: see [`Pipe::builder`].
#[derive(Debug, Clone)]
#[must_use = "it makes nothing until `duplex` or `simplex`"]
pub struct Builder {
    capacity: u64,
}

impl Builder {
    /// Sets the number of bytes that may wait in each direction before a send waits; 0 means the usual 64 KiB. The
    /// capacity doesn't limit a message: a longer message is sent when no other waits.
    pub fn capacity(mut self, bytes: usize) -> Self {
        self.capacity = bytes as u64;
        self
    }

    /// Makes the pipe as [`Pipe::duplex`] does.
    ///
    /// # Errors
    /// The errors of [`Pipe::duplex`]; [`Error::TooLarge`] for a capacity that the arena doesn't have.
    pub fn duplex(self) -> Result<(Connection, Connection), Error> {
        self.create(DUPLEX)
    }

    /// Makes the pipe as [`Pipe::simplex`] does.
    ///
    /// # Errors
    /// The errors of [`Pipe::simplex`]; [`Error::TooLarge`] for a capacity that the arena doesn't have.
    pub fn simplex(self) -> Result<(Connection, Connection), Error> {
        self.create(0)
    }

    fn create(self, flags: u32) -> Result<(Connection, Connection), Error> {
        let [first, second] = raw::pipe::create(self.capacity, flags)?;
        Ok((Connection::from_object(Object::adopt(first)), Connection::from_object(Object::adopt(second))))
    }
}

/// One end of a pipe.
///
/// ```no_run
/// use sandpool_guest::{Pipe, Process};
/// use sandpool_guest::pipe::RecvError;
///
/// let (receiver, sender) = Pipe::simplex()?;
/// let process = Process::fork(|| (1..=3_u64).try_for_each(|n| sender.send(&n)))?;
/// // The child has its own copy of the sender. Without this one, the end of the child is the end of the messages.
/// sender.close();
/// loop {
///     match receiver.recv::<u64>() {
///         Ok(number) => println!("{number}"),
///         Err(RecvError::Eof) => break,
///         Err(other) => return Err(other.into()),
///     }
/// }
/// process.join()?;
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// # Messages
///
/// [`send`](Self::send) and [`recv`](Self::recv) encode and decode values; each call may use any type.
/// [`send_bytes`](Self::send_bytes) and its relatives pass bytes unchanged. In both cases a message arrives whole or
/// not at all, also if its sender is killed, and never together with another. A message may be empty.
///
/// # Who has an end
///
/// As with file descriptors, a forked child has copies of *all* connections of its creator, of both ends of a pipe.
/// Each copy is closed when it is dropped, or its process ends. [`RecvError::Eof`] comes when no process has the other
/// end any more (and all messages were received), [`SendError::BrokenPipe`] likewise. So a process that needlessly
/// keeps the other end open may never see `Eof` or `BrokenPipe`: [`close`](Self::close) each end that belongs to
/// another process. A process that waits in `recv` doesn't itself count as a sender, even if it has the other end, too:
/// no process waits for itself.
///
/// A clone is the same end; in one process the end is closed when the last clone is dropped. A connection is also data:
/// it can be an argument of a spawned process, and a part of an item of a queue or of a message. Until the item or
/// message is received, it keeps the end open.
#[derive(Clone)]
pub struct Connection {
    end: Arc<End>,
}

struct End {
    object: Arc<Object>,
    /// Set once a message was longer than allowed: see `recv_bytes_max`.
    unreadable: AtomicBool,
}

impl Connection {
    pub(crate) fn from_object(object: Arc<Object>) -> Self {
        Self { end: Arc::new(End { object, unreadable: AtomicBool::new(false) }) }
    }

    fn handle(&self) -> u64 {
        self.end.object.handle()
    }

    /// Whether the other end is outside of the run.
    fn is_of_outside(&self) -> bool {
        raw::pipe::flags(self.handle()).is_ok_and(|flags| flags & OUTSIDE != 0)
    }

    /// The error of a message that was refused. `count` is the number of handles in it.
    #[cold]
    fn refused(&self, errno: Errno, count: usize) -> SendError {
        match errno {
            Errno::Inval if count > 0 && self.is_of_outside() => SendError::NotForOutside,
            Errno::Msgsize if self.is_of_outside() => SendError::TooLong,
            errno => SendError::from_errno(errno),
        }
    }

    pub(crate) fn object(&self) -> &Arc<Object> {
        &self.end.object
    }

    pub(crate) fn into_object(self) -> Arc<Object> {
        self.end.object.clone()
    }

    /// Whether this end can receive.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn readable(&self) -> Result<bool, Error> {
        Ok(self.refuses().is_ok() && raw::pipe::flags(self.handle())? & READABLE != 0)
    }

    /// Whether this end can send.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn writable(&self) -> Result<bool, Error> {
        Ok(raw::pipe::flags(self.handle())? & WRITABLE != 0)
    }

    /// The number of bytes that may wait in each direction before a send waits.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn capacity(&self) -> Result<usize, Error> {
        usize::try_from(raw::pipe::capacity(self.handle())?).map_err(|_| Errno::Io.into())
    }

    /// Closes this connection, as dropping it does: other clones in this process, and copies in other processes, stay
    /// open.
    pub fn close(self) {}

    /// Sends a value, and waits while there is no room.
    ///
    /// # Errors
    /// [`SendError`], but never [`SendError::Full`].
    pub fn send<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), SendError> {
        self.send_within(value, FOREVER)
    }

    /// Sends a value, and waits for room for at most `timeout`.
    ///
    /// # Errors
    /// [`SendError`]; [`SendError::Full`] when the time is over.
    pub fn send_timeout<T: Serialize + ?Sized>(&self, value: &T, timeout: Duration) -> Result<(), SendError> {
        self.send_within(value, nanoseconds(timeout))
    }

    /// Sends a value if there is room at once.
    ///
    /// # Errors
    /// [`SendError`]; [`SendError::Full`] when there is no room.
    pub fn try_send<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), SendError> {
        self.send_within(value, NO_WAIT)
    }

    fn send_within<T: Serialize + ?Sized>(&self, value: &T, timeout: u64) -> Result<(), SendError> {
        let send = |message: &[&[u8]], handles: &[u64]| {
            raw::pipe::send(self.handle(), message, handles, timeout)
                .map_err(|errno| self.refused(errno, handles.len()))
        };
        codec::encode(value, send).map_err(SendError::Encode)?
    }

    /// Receives a value, and waits while there is none.
    ///
    /// # Errors
    /// [`RecvError`], but never [`RecvError::Empty`].
    pub fn recv<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        self.recv_within(FOREVER)
    }

    /// Receives a value, and waits for one for at most `timeout`.
    ///
    /// # Errors
    /// [`RecvError`]; [`RecvError::Empty`] when the time is over.
    pub fn recv_timeout<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_within(nanoseconds(timeout))
    }

    /// Receives a value if there is one at once.
    ///
    /// # Errors
    /// [`RecvError`]; [`RecvError::Empty`] when there is none.
    pub fn try_recv<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        self.recv_within(NO_WAIT)
    }

    fn recv_within<T: DeserializeOwned>(&self, timeout: u64) -> Result<T, RecvError> {
        self.refuses()?;
        let recv = |buffer: &mut [u8]| raw::pipe::recv(self.handle(), buffer, timeout);
        message::receive_value(recv).map_err(RecvError::from_failure)?.map_err(RecvError::Decode)
    }

    /// Sends bytes as one message, and waits while there is no room.
    ///
    /// ```no_run
    /// # let (receiver, sender) = sandpool_guest::Pipe::simplex()?;
    /// let text = b"one two";
    /// // Python's `offset` and `size` are a slice.
    /// sender.send_bytes(&text[4..])?;
    /// assert_eq!(receiver.recv_bytes()?, b"two");
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`SendError`], but never [`SendError::Full`]. Bytes of an array's slice are refused, because other processes see
    /// that memory: copy the bytes first.
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.send_bytes_within(bytes, FOREVER)
    }

    /// Sends bytes as one message, and waits for room for at most `timeout`.
    ///
    /// # Errors
    /// As [`send_bytes`](Self::send_bytes); [`SendError::Full`] when the time is over.
    pub fn send_bytes_timeout(&self, bytes: &[u8], timeout: Duration) -> Result<(), SendError> {
        self.send_bytes_within(bytes, nanoseconds(timeout))
    }

    /// Sends bytes as one message if there is room at once.
    ///
    /// # Errors
    /// As [`send_bytes`](Self::send_bytes); [`SendError::Full`] when there is no room.
    pub fn try_send_bytes(&self, bytes: &[u8]) -> Result<(), SendError> {
        self.send_bytes_within(bytes, NO_WAIT)
    }

    fn send_bytes_within(&self, bytes: &[u8], timeout: u64) -> Result<(), SendError> {
        raw::pipe::send(self.handle(), &[bytes], &[], timeout).map_err(|errno| self.refused(errno, 0))
    }

    /// Receives the bytes of a message, and waits while there is none.
    ///
    /// # Errors
    /// [`RecvError`], but never [`RecvError::Empty`].
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_within(FOREVER)
    }

    /// Receives the bytes of a message, and waits for one for at most `timeout`.
    ///
    /// # Errors
    /// [`RecvError`]; [`RecvError::Empty`] when the time is over.
    pub fn recv_bytes_timeout(&self, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_within(nanoseconds(timeout))
    }

    /// Receives the bytes of a message if there is one at once.
    ///
    /// # Errors
    /// [`RecvError`]; [`RecvError::Empty`] when there is none.
    pub fn try_recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_within(NO_WAIT)
    }

    pub(crate) fn recv_bytes_within(&self, timeout: u64) -> Result<Vec<u8>, RecvError> {
        self.refuses()?;
        let recv = |buffer: &mut [u8]| raw::pipe::recv(self.handle(), buffer, timeout);
        message::receive(recv, |bytes, handles| {
            drop(handles);
            bytes.into_owned()
        })
        .map_err(RecvError::from_failure)
    }

    /// Receives the bytes of a message of at most `maxlength` bytes, and waits while there is no message.
    ///
    /// # Errors
    /// [`RecvError::TooLong`] for a longer message: Python's `OSError`, "bad message length". The message is dropped,
    /// and as in Python, this connection and its clones in this process receive nothing more: nothing is accepted from
    /// a sender that breaks an agreement. Otherwise as [`recv_bytes`](Self::recv_bytes).
    pub fn recv_bytes_max(&self, maxlength: usize) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_max_within(maxlength, FOREVER)
    }

    /// Like [`recv_bytes_max`](Self::recv_bytes_max), but waits for a message for at most `timeout`.
    ///
    /// # Errors
    /// As [`recv_bytes_max`](Self::recv_bytes_max); [`RecvError::Empty`] when the time is over.
    pub fn recv_bytes_max_timeout(&self, maxlength: usize, timeout: Duration) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_max_within(maxlength, nanoseconds(timeout))
    }

    /// Like [`recv_bytes_max`](Self::recv_bytes_max), but doesn't wait for a message.
    ///
    /// # Errors
    /// As [`recv_bytes_max`](Self::recv_bytes_max); [`RecvError::Empty`] when there is no message.
    pub fn try_recv_bytes_max(&self, maxlength: usize) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_max_within(maxlength, NO_WAIT)
    }

    pub(crate) fn recv_bytes_max_within(&self, maxlength: usize, timeout: u64) -> Result<Vec<u8>, RecvError> {
        self.refuses()?;
        let too_long = |len: u64| usize::try_from(len).map_or(true, |len| len > maxlength);
        message::with_buffer(|buffer| {
            let item = raw::pipe::recv(self.handle(), buffer, timeout).map_err(RecvError::from_errno)?;
            if too_long(item.len) {
                // The host drops a message that isn't taken.
                self.end.unreadable.store(true, Ordering::Relaxed);
                return Err(RecvError::TooLong);
            }
            let (bytes, handles) = message::take(item, buffer).map_err(RecvError::from_failure)?;
            drop(handles);
            Ok(bytes.into_owned())
        })
    }

    /// Receives the bytes of a message into `buffer`, and returns the number of bytes; waits while there is no message.
    ///
    /// ```no_run
    /// # let (receiver, sender) = sandpool_guest::Pipe::simplex()?;
    /// let mut buffer = [0; 4096];
    /// // Python's `offset` is a slice.
    /// let len = receiver.recv_bytes_into(&mut buffer[8..])?;
    /// println!("{:?}", &buffer[8..8 + len]);
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`RecvError::BufferTooShort`], which has the whole message; otherwise as [`recv_bytes`](Self::recv_bytes).
    pub fn recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_bytes_into_within(buffer, FOREVER)
    }

    /// Like [`recv_bytes_into`](Self::recv_bytes_into), but waits for a message for at most `timeout`.
    ///
    /// # Errors
    /// As [`recv_bytes_into`](Self::recv_bytes_into); [`RecvError::Empty`] when the time is over.
    pub fn recv_bytes_into_timeout(&self, buffer: &mut [u8], timeout: Duration) -> Result<usize, RecvError> {
        self.recv_bytes_into_within(buffer, nanoseconds(timeout))
    }

    /// Like [`recv_bytes_into`](Self::recv_bytes_into), but doesn't wait for a message.
    ///
    /// # Errors
    /// As [`recv_bytes_into`](Self::recv_bytes_into); [`RecvError::Empty`] when there is no message.
    pub fn try_recv_bytes_into(&self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.recv_bytes_into_within(buffer, NO_WAIT)
    }

    fn recv_bytes_into_within(&self, buffer: &mut [u8], timeout: u64) -> Result<usize, RecvError> {
        self.refuses()?;
        let item = raw::pipe::recv(self.handle(), buffer, timeout).map_err(RecvError::from_errno)?;
        let (bytes, handles) = message::take(item, buffer).map_err(RecvError::from_failure)?;
        drop(handles);
        match bytes {
            Cow::Borrowed(bytes) => Ok(bytes.len()),
            Cow::Owned(bytes) => Err(RecvError::BufferTooShort(bytes)),
        }
    }

    /// Sends a value as a [pickle](crate::pickle), which a program of Python at the other end of a
    /// [connection](crate::Client) receives by `recv()`. Waits while there is no room.
    ///
    /// ```no_run
    /// use sandpool_guest::Client;
    ///
    /// // Python: Listener(('127.0.0.1', 6000), authkey=b'secret').accept()
    /// let connection = Client::builder().authkey("secret").connect("tcp:127.0.0.1:6000")?;
    /// connection.send_pickle(&("square", 7))?;
    /// let answer: u64 = connection.recv_pickle()?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`send`](Self::send). No object of the run can be part of the value.
    pub fn send_pickle<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), SendError> {
        self.send_bytes(&pickle::to_vec(value).map_err(SendError::Encode)?)
    }

    /// Receives a value that a program of Python has sent by `send()`: plain data, as a [pickle](crate::pickle). Waits while
    /// there is none.
    ///
    /// # Errors
    /// As [`recv`](Self::recv). After [`RecvError::Decode`], the message is gone, and the next one can be received.
    pub fn recv_pickle<T: DeserializeOwned>(&self) -> Result<T, RecvError> {
        pickle::from_slice(&self.recv_bytes()?).map_err(RecvError::Decode)
    }

    /// Like [`recv_pickle`](Self::recv_pickle), but waits for a value for at most `timeout`.
    ///
    /// # Errors
    /// As [`recv_pickle`](Self::recv_pickle); [`RecvError::Empty`] when the time is over.
    pub fn recv_pickle_timeout<T: DeserializeOwned>(&self, timeout: Duration) -> Result<T, RecvError> {
        pickle::from_slice(&self.recv_bytes_timeout(timeout)?).map_err(RecvError::Decode)
    }

    /// Waits for at most `timeout` until there is something to receive: a message, or the end of all messages. Returns
    /// whether there is.
    ///
    /// ```no_run
    /// # let (receiver, sender) = sandpool_guest::Pipe::simplex()?;
    /// use std::time::Duration;
    ///
    /// if receiver.poll(Duration::ZERO)? {
    ///     println!("{}", receiver.recv::<String>()?);
    /// }
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// To wait without end, call a receiving method, or [`wait`](crate::wait()) for several things.
    ///
    /// # Errors
    /// [`RecvError::NotReadable`].
    pub fn poll(&self, timeout: Duration) -> Result<bool, RecvError> {
        self.refuses()?;
        if raw::pipe::flags(self.handle()).map_err(RecvError::Host)? & READABLE == 0 {
            return Err(RecvError::NotReadable);
        }
        let ready = raw::handle::wait(&[self.handle()], nanoseconds(timeout), &mut [0]);
        Ok(ready.map_err(RecvError::Host)? > 0)
    }

    fn refuses(&self) -> Result<(), RecvError> {
        if self.end.unreadable.load(Ordering::Relaxed) { Err(RecvError::NotReadable) } else { Ok(()) }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({:#x})", self.handle())
    }
}

/// Whether they are the same end.
impl PartialEq for Connection {
    fn eq(&self, other: &Self) -> bool {
        self.handle() == other.handle()
    }
}

impl Eq for Connection {}

/// Puts the connection into a message, or the arguments of a spawned process: any other serializer gets an error.
impl Serialize for Connection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.end.object.serialize(Role::CONNECTION.what, serializer)
    }
}

/// Takes the connection out of a message, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de> Deserialize<'de> for Connection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize(&Role::CONNECTION, deserializer).map(Self::from_object)
    }
}

/// Ready when the connection has a message to receive, or no process is left to send one.
impl wait::Waitable for Connection {}

impl wait::Handle for Connection {
    fn handle(&self) -> u64 {
        self.end.object.handle()
    }
}

/// The reason why a message wasn't sent. No part of the message was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The pipe has no room.
    Full,
    /// No process is left to receive the message: Python's `BrokenPipeError`.
    BrokenPipe,
    /// This end only receives: Python's `OSError`, "connection is read-only".
    NotWritable,
    /// The message can never fit into the arena.
    TooLarge,
    /// The message is longer than one on a connection with the outside may be.
    TooLong,
    /// The value has queues, locks or the like in it, which mean nothing outside of the run.
    NotForOutside,
    /// The value can't be encoded.
    Encode(EncodeError),
    /// Anything else that the host reported.
    Host(Errno),
}

impl SendError {
    fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::Again | Errno::Timedout => Self::Full,
            Errno::Pipe => Self::BrokenPipe,
            Errno::Perm => Self::NotWritable,
            Errno::Msgsize => Self::TooLarge,
            other => Self::Host(other),
        }
    }

    /// Returns the limit that caused the error, and its value.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::TooLarge => limits::of(Limit::Arena),
            Self::TooLong => limits::of(Limit::ConnectionMessage),
            _ => None,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the pipe is full"),
            Self::BrokenPipe => f.write_str("broken pipe: nobody is left to receive it"),
            Self::NotWritable => f.write_str("the connection is read-only"),
            Self::TooLarge => LimitRefusal("the message doesn't fit into the arena", self.limit()).fmt(f),
            Self::TooLong => LimitRefusal("the message is too long for a connection", self.limit()).fmt(f),
            Self::NotForOutside => f.write_str(
                "queues, locks and the like can't be sent to the outside: they mean nothing there",
            ),
            Self::Encode(error) => error.fmt(f),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

impl std::error::Error for SendError {}

/// The reason why no message was returned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// There is no message.
    Empty,
    /// There will be no message: no process is left to send one. Python's `EOFError`.
    Eof,
    /// The connection with the outside was cut, so messages may be missing: the peer has sent half a message or one that is too
    /// long, its machine is out of reach, or the host's part of connections has failed. Python's `ConnectionResetError`.
    Reset,
    /// This end only sends (Python's `OSError`, "connection is write-only"), or has received a message that was [too
    /// long](Self::TooLong).
    NotReadable,
    /// The message was longer than allowed, and was dropped: Python's `OSError`, "bad message length".
    TooLong,
    /// The buffer is too short for the message, which is here: Python's `BufferTooShort`.
    BufferTooShort(Vec<u8>),
    /// The message was received, but isn't a value of the requested type.
    Decode(DecodeError),
    /// The message was received, but this process has no memory for it. The message is lost when the next one is
    /// received.
    OutOfMemory,
    /// Anything else that the host reported.
    Host(Errno),
}

impl RecvError {
    fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::Again | Errno::Timedout => Self::Empty,
            Errno::Closed => Self::Eof,
            Errno::Connreset => Self::Reset,
            Errno::Perm => Self::NotReadable,
            other => Self::Host(other),
        }
    }

    pub(crate) fn from_failure(failure: Failure) -> Self {
        match failure {
            Failure::Host(errno) => Self::from_errno(errno),
            Failure::OutOfMemory => Self::OutOfMemory,
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the pipe is empty"),
            Self::Eof => f.write_str("end of file: nobody is left to send anything"),
            Self::Reset => Errno::Connreset.fmt(f),
            Self::NotReadable => f.write_str("the connection is write-only"),
            Self::TooLong => f.write_str("bad message length"),
            Self::BufferTooShort(message) => {
                write!(f, "the buffer is too short for a message of {} bytes", message.len())
            }
            Self::Decode(error) => error.fmt(f),
            Self::OutOfMemory => f.write_str("not enough memory for the message"),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

impl std::error::Error for RecvError {}

into_error!(SendError, RecvError);
