//! Connections with what is outside of the run: other runs, other programs, other machines.
//!
//! The host grants addresses, and nothing else can be reached: `sandpool run --listen ADDRESS --connect ADDRESS`, or
//! `Sandbox::listen` and `Sandbox::connect` of an application.
//!
//! | address | means |
//! | --- | --- |
//! | `tcp:HOST:PORT` | a port of TCP; port 0 is any that is free, if that was granted |
//! | `unix:PATH` | a socket of the host's file system |
//! | `sandpool:NAME` | another run of the same user |
//!
//! A connection is a [`Connection`](crate::Connection), as the ends of a pipe are: it has the same methods, can be waited for
//! together with anything else, be shared with forked processes and be sent to others. Two things are different: messages carry no
//! queues and locks, as these mean nothing elsewhere, and have a limit (`connection-message-max`).
//!
//! # With Python
//!
//! Messages and keys are those of Python's `multiprocessing.connection`, so the other side may be a program in Python:
//!
//! ```python
//! from multiprocessing.connection import Client
//! with Client(('127.0.0.1', 6000), authkey=b'secret') as connection:
//!     connection.send_bytes(b'hello')
//! ```
//!
//! [`send_bytes`](crate::Connection::send_bytes) and [`recv_bytes`](crate::Connection::recv_bytes) are the same on both
//! sides. [`send`](crate::Connection::send) and [`recv`](crate::Connection::recv) encode values as guests do among
//! each other, which Python doesn't read.
//!
//! Up to version 3.11, Python proves its key by MD5 only, which has to be [allowed](client::Builder::allow_md5).

pub(crate) mod client;
mod error;
mod handshake;
pub(crate) mod listener;
mod request;

pub use self::client::Builder as ClientBuilder;
pub use self::error::ConnectionError;
pub use self::listener::Builder as ListenerBuilder;
