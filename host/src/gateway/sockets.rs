//! Sockets that never wait: listeners, connections, and connections that are being made.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, Shutdown, SockFlag, SockType, SockaddrStorage, UnixAddr, accept4, bind,
    connect, getpeername, getsockname, getsockopt, listen, recv, send, setsockopt, shutdown, socket, sockopt,
};
use nix::sys::stat::{Mode, fchmod};

use super::names;
use crate::config::Place;
use crate::sys::fd::own_received;

const FLAGS: SockFlag = SockFlag::SOCK_NONBLOCK.union(SockFlag::SOCK_CLOEXEC);

/// How long a peer of TCP may not answer anything before the connection is cut: when there is something to send, and when there is
/// nothing.
const UNANSWERED: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(60);
const PROBE: Duration = Duration::from_secs(10);
const PROBES: u32 = 6;

/// A socket of a listener.
#[derive(Debug)]
pub(super) struct Listening {
    socket: OwnedFd,
    address: String,
    /// The socket's file, and its number, to be removed with the listener.
    file: Option<(PathBuf, u64)>,
    name: Option<names::Taken>,
}

/// Opens a listener at a place that was granted.
pub(super) fn listen_at(place: &Place) -> io::Result<Listening> {
    match place {
        Place::Tcp(addresses) => {
            let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
            for address in addresses {
                match listen_tcp(*address) {
                    Ok(listening) => return Ok(listening),
                    Err(error) => failed = error,
                }
            }
            Err(failed)
        }
        Place::Unix(path) => listen_unix(path, format!("unix:{}", path.display()), None),
        Place::Name(name) => {
            let taken = names::take(name)?;
            listen_unix(&names::socket(name)?, format!("sandpool:{name}"), Some(taken))
        }
    }
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn listen_tcp(address: SocketAddr) -> io::Result<Listening> {
    let socket = socket(family(address), SockType::Stream, FLAGS, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        // The address that was granted, and no other.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::MAXCONN)?;
    let address = describe(getsockname::<SockaddrStorage>(socket.as_raw_fd())?);
    Ok(Listening { socket, address, file: None, name: None })
}

fn listen_unix(path: &Path, address: String, name: Option<names::Taken>) -> io::Result<Listening> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, FLAGS, None)?;
    // The file of the socket gets these rights: nobody else connects unless its owner lets them.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let file = std::fs::symlink_metadata(path).ok().map(|found| (path.to_owned(), found.ino()));
    let listening = Listening { socket, address, file, name };
    listen(&listening.socket, Backlog::MAXCONN)?;
    Ok(listening)
}

impl Listening {
    /// The address, with the port that the kernel has chosen.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Accepts a connection, and says from which address.
    pub(super) fn accept(&self) -> io::Result<(Stream, String)> {
        loop {
            let accepted = accept4(self.socket.as_raw_fd(), FLAGS)?;
            let stream = Stream { socket: own_received(accepted) };
            if self.name.is_some() && !names::is_of_this_user(&stream.socket) {
                continue;
            }
            stream.look_after();
            let peer = getpeername::<SockaddrStorage>(stream.socket.as_raw_fd());
            let peer = match peer.ok().filter(|peer| peer.as_unix_addr().is_none()) {
                Some(peer) => describe(peer),
                // The other side of a socket in the file system has no address.
                None => self.address.clone(),
            };
            return Ok((stream, peer));
        }
    }
}

impl AsFd for Listening {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some((path, number)) = &self.file
            && std::fs::symlink_metadata(path).is_ok_and(|found| found.ino() == *number)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A connection that is being made.
#[derive(Debug)]
pub(super) enum Connecting {
    /// The kernel tells when it is made, or has failed.
    Begun(Stream),
    /// The connection is made.
    Made(Stream),
    /// The listener's queue is full: to be tried again.
    Full,
}

/// Begins to connect to one address of a place that was granted.
pub(super) fn begin(place: &Place, at: usize) -> io::Result<Connecting> {
    match place {
        Place::Tcp(addresses) => {
            let address = *addresses.get(at).ok_or(io::ErrorKind::AddrNotAvailable)?;
            let socket = socket(family(address), SockType::Stream, FLAGS, None)?;
            begin_at(socket, &SockaddrStorage::from(address))
        }
        Place::Unix(path) => begin_unix(path),
        Place::Name(name) => match begin_unix(&names::socket(name)?)? {
            Connecting::Made(stream) if !names::is_of_this_user(&stream.socket) => {
                Err(io::ErrorKind::PermissionDenied.into())
            }
            begun => Ok(begun),
        },
    }
}

fn begin_unix(path: &Path) -> io::Result<Connecting> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, FLAGS, None)?;
    begin_at(socket, &UnixAddr::new(path)?)
}

fn begin_at(socket: OwnedFd, address: &impl nix::sys::socket::SockaddrLike) -> io::Result<Connecting> {
    let result = connect(socket.as_raw_fd(), address);
    let stream = Stream { socket };
    match result {
        Ok(()) => {
            stream.look_after();
            Ok(Connecting::Made(stream))
        }
        Err(nix::Error::EINPROGRESS) => Ok(Connecting::Begun(stream)),
        Err(nix::Error::EAGAIN) => Ok(Connecting::Full),
        Err(error) => Err(error.into()),
    }
}

/// A stream of bytes in both directions.
#[derive(Debug)]
pub(super) struct Stream {
    socket: OwnedFd,
}

impl Stream {
    /// The result of a connection that was begun, once the socket can be written to.
    pub(super) fn is_made(&self) -> io::Result<()> {
        match getsockopt(&self.socket, sockopt::SocketError)? {
            0 => {
                self.look_after();
                Ok(())
            }
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Has the kernel send at once what is sent, and find out whether the peer is still there. Sockets of the file system know
    /// by themselves, and have no such options.
    fn look_after(&self) {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let _ = setsockopt(&self.socket, sockopt::TcpNoDelay, &true);
        let _ = setsockopt(&self.socket, sockopt::KeepAlive, &true);
        let _ = setsockopt(&self.socket, sockopt::TcpKeepIdle, &seconds(IDLE));
        let _ = setsockopt(&self.socket, sockopt::TcpKeepInterval, &seconds(PROBE));
        let _ = setsockopt(&self.socket, sockopt::TcpKeepCount, &PROBES);
        let unanswered = u32::try_from(UNANSWERED.as_millis()).unwrap_or(u32::MAX);
        let _ = setsockopt(&self.socket, sockopt::TcpUserTimeout, &unanswered);
    }

    /// The address at this side.
    pub(super) fn address(&self) -> String {
        getsockname::<SockaddrStorage>(self.socket.as_raw_fd()).map_or_else(|_| String::new(), describe)
    }

    pub(super) fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        again_if_interrupted(|| recv(self.socket.as_raw_fd(), room, MsgFlags::empty()))
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        again_if_interrupted(|| send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL))
    }

    /// Says that nothing more comes. Bytes that have come meanwhile are read, because the kernel resets a connection that is closed
    /// with something unread, and the peer may then lose what was sent.
    pub(super) fn finish(&self, scratch: &mut [u8]) {
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
        for _ in 0..16 {
            if !matches!(self.read(scratch), Ok(1..)) {
                break;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
impl Stream {
    /// A connection, and its peer.
    pub(super) fn pair() -> (Self, std::os::unix::net::UnixStream) {
        let (own, peer) = std::os::unix::net::UnixStream::pair().unwrap();
        own.set_nonblocking(true).unwrap();
        (Self { socket: own.into() }, peer)
    }

    /// A connection of TCP that was reset.
    pub(super) fn reset() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        // With something unread.
        nix::unistd::write(&own, b"unread").unwrap();
        drop(peer);
        Self { socket: own.into() }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn again_if_interrupted(mut call: impl FnMut() -> nix::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(nix::Error::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

fn describe(address: SockaddrStorage) -> String {
    if let Some(v4) = address.as_sockaddr_in() {
        format!("tcp:{}:{}", v4.ip(), v4.port())
    } else if let Some(v6) = address.as_sockaddr_in6() {
        format!("tcp:[{}]:{}", v6.ip(), v6.port())
    } else {
        "unix:".to_owned()
    }
}
