//! Requests to the gateway for listeners and connections: which keys they need, and their answers.

use std::time::Duration;

use sandpool_abi::connection::{DONE, FAILED, NO_ADDRESS, NOT_GRANTED};

use super::error::ConnectionError;
use crate::deadline::Deadline;
use crate::{Connection, Errno};

/// How long a peer may take to prove that it has the key.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(20);

/// Receives the answer to a request at its end. Returns the text.
pub(super) fn answer(end: &Connection, address: &str, deadline: Deadline) -> Result<String, ConnectionError> {
    let bytes = end.recv_bytes_within(deadline.left()).map_err(|error| match error {
        crate::pipe::RecvError::Empty => ConnectionError::TimedOut,
        crate::pipe::RecvError::Host(errno) => ConnectionError::from_errno(errno),
        _ => ConnectionError::Gateway,
    })?;
    let Some((head, text)) = bytes.split_first_chunk::<8>() else { return Err(ConnectionError::Gateway) };
    let [code, errno] = [0, 4].map(|at| {
        head.get(at..)
            .and_then(|bytes| bytes.first_chunk::<4>())
            .map_or(0, |bytes| u32::from_le_bytes(*bytes))
    });
    let text = String::from_utf8_lossy(text).into_owned();
    match code {
        DONE => Ok(text),
        NOT_GRANTED => Err(ConnectionError::NotGranted { grant: text }),
        NO_ADDRESS => Err(ConnectionError::BadAddress { address: address.to_owned(), problem: text }),
        FAILED if errno == TIMED_OUT => Err(ConnectionError::TimedOut),
        FAILED => Err(ConnectionError::System { errno: errno as i32, text }),
        _ => Err(ConnectionError::TooMany),
    }
}

/// Linux's `ETIMEDOUT`.
const TIMED_OUT: u32 = Errno::Timedout as u32;

/// Refuses a missing key where anybody could be at the other side.
pub(super) fn check_key(
    address: &str,
    key: Option<&[u8]>,
    may_lack_key: bool,
) -> Result<(), ConnectionError> {
    match key {
        // Anybody could prove to have it.
        Some([]) => return Err(ConnectionError::NoKey),
        Some(_) => return Ok(()),
        None => {}
    }
    let Some(tcp) = address.strip_prefix("tcp:") else { return Ok(()) };
    // An address without a port isn't one, and the host says so.
    let Some((host, _)) = tcp.rsplit_once(':') else { return Ok(()) };
    let is_loopback = host == "[::1]" || host.eq_ignore_ascii_case("localhost") || {
        host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
    };
    if is_loopback && may_lack_key { Ok(()) } else { Err(ConnectionError::NoKey) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_key_is_none() {
        for address in ["tcp:127.0.0.1:1", "unix:/a", "sandpool:a"] {
            assert!(matches!(check_key(address, Some(b""), true), Err(ConnectionError::NoKey)), "{address}");
            assert!(check_key(address, Some(b"k"), false).is_ok() && check_key(address, None, true).is_ok());
        }
        assert!(
            check_key("tcp:127.0.0.1:1", None, false).is_err()
                && check_key("tcp:10.0.0.1:1", None, true).is_err()
        );
        assert!(check_key("unix:/a", None, false).is_ok());
    }
}
