//! Why there is no listener or connection.

use std::fmt;

use sandpool_abi::Errno;
use sandpool_abi::process::Limit;

use crate::error::into_error;
use crate::limits::{self, LimitRefusal};

/// The reason why there is no listener, or no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The address wasn't granted to the run. `grant` is what the command takes to grant it.
    NotGranted {
        /// such as `--connect tcp:127.0.0.1:80`
        grant: String,
    },
    /// The text isn't an address.
    BadAddress {
        /// the text
        address: String,
        /// what is wrong with it
        problem: String,
    },
    /// TCP takes a key, except at a loopback address where the lack of one is allowed; and no key is empty.
    NoKey,
    /// The peer doesn't have the key, doesn't know the protocol, or hasn't proved in time that it has the key: Python's
    /// `AuthenticationError`.
    Authentication(&'static str),
    /// The run has as many listeners and connections as it may have.
    TooMany,
    /// There was no connection in time.
    TimedOut,
    /// The operating system has refused it: Python's `OSError`.
    System {
        /// its error number
        errno: i32,
        /// what it means
        text: String,
    },
    /// The part of the host that has the sockets has failed: this run has no connections any more.
    Gateway,
    /// The listener or connection can't be made in this run, or anything else that the host reported.
    Host(Errno),
}

impl ConnectionError {
    pub(super) fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::Closed | Errno::Connreset | Errno::Pipe => Self::Gateway,
            Errno::Timedout | Errno::Again => Self::TimedOut,
            other => Self::Host(other),
        }
    }

    /// The error of a request. Without any grant there is nobody to ask.
    pub(super) fn of_request(errno: Errno, address: &str, flag: &str) -> Self {
        match errno {
            Errno::Perm => Self::NotGranted { grant: format!("{flag} {address}") },
            Errno::Nametoolong => Self::BadAddress {
                address: address.to_owned(),
                problem: format!("it has more than {} bytes", sandpool_abi::connection::ADDRESS_MAX),
            },
            other => Self::from_errno(other),
        }
    }

    /// Returns the limit that caused the error, and its value.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::TooMany => limits::of(Limit::Connections),
            _ => None,
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted { grant } => write!(
                f,
                "the address was not granted; hint: start the run with {grant}, or grant it by Sandbox::{}",
                if grant.starts_with("--listen") { "listen" } else { "connect" }
            ),
            Self::BadAddress { address, problem } => write!(f, "`{address}` is not an address: {problem}"),
            Self::NoKey => f.write_str(
                "TCP takes a key, which isn't empty; hint: set an authkey, or allow the lack of one at a loopback address, by without_authkey",
            ),
            Self::Authentication(problem) => f.write_str(problem),
            Self::TooMany => LimitRefusal("too many connections", self.limit()).fmt(f),
            Self::TimedOut => f.write_str("no connection in time"),
            Self::System { errno, text } => write!(f, "{text} (errno {errno})"),
            Self::Gateway => f.write_str("the host's part of connections has failed"),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

impl std::error::Error for ConnectionError {}

into_error!(ConnectionError);
