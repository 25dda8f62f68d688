//! Pipes: the settings of a [`Pipe`](crate::Pipe), and the errors of a [`Connection`](crate::Connection).

pub(crate) mod connection;

pub use connection::{Builder, RecvError, SendError};
