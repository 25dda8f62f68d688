//! The control socket: the messages between the owner of a run and its supervisor, over a socket that keeps message boundaries. A
//! compiler and its owner use the socket as well, with the messages about the jail.
//!
//! ```text
//!  owner                                   supervisor
//!    │ ── start: settings, artifact, stdio ──▶ │
//!    │ ◀──────────────────────── Moved ─────── │   the supervisor is another process now: jail/namespaces.rs
//!    │ ◀────── Started | Unjailed | Failed ─── │   to a pool with the arena and the doorbell; with the arena for a gateway
//!    │ ── Stop(signal) … ────────────────────▶ │
//!    │ ◀──────────────── Ended(summary) ────── │
//! ```
//!
//! Either end closes when its process ends, for whatever reason. The other end needs to know no more.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, send, sendmsg,
    setsockopt, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::config::RunConfig;
use crate::ipc::process_table::Outcome;
use crate::jail::JailReport;
use crate::sys::fd::own_received;

/// A message from the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The supervisor is from now on the owner's child with this number. The sender ends.
    Moved(u32),
    /// The main guest runs, or workers can be spawned. The report says which jail holds them.
    Started(JailReport),
    /// No run starts: the jail lacks required layers, or only the report was asked for.
    Unjailed(JailReport),
    /// No run starts, for this reason.
    Failed(String),
    /// No run starts, because less is allowed here than a run needs: the limit, and what to do about it.
    Allowance { what: String, hint: String },
    /// All processes have ended.
    Ended(Ended),
    /// The supervisor can't go on, for this reason. Nothing follows, and all processes end with the supervisor.
    Broken(String),
}

/// A message from the owner, after the start.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Send every guest this signal, and end the run.
    Stop(i32),
}

/// The report of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) main: Outcome,
    pub(crate) processes: u64,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_memory: u64,
    pub(crate) reports: Vec<Report>,
}

/// The report of a process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) outcome: Outcome,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_memory: u64,
    /// Limits that refused something: code and figure of each, and how often.
    pub(crate) refused: Vec<(u32, u64, u32)>,
}

/// The most reports of processes that come with the end of a run.
pub(crate) const REPORTS_MAX: usize = 64;

/// A length greater than that of any message after the start.
const MESSAGE_MAX: usize = 64 << 10;

/// Makes the two ends of a control socket.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Makes receiving fail with `WouldBlock` when nothing has come for this time.
pub(crate) fn give_up_after(socket: BorrowedFd<'_>, time: Duration) -> io::Result<()> {
    // A timeout of zero would mean no timeout.
    let time = time.clamp(Duration::from_millis(1), Duration::from_secs(u64::from(u32::MAX)));
    let micros = i64::try_from(time.as_micros()).map_err(io::Error::other)?;
    Ok(setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::microseconds(micros))?)
}

/// Everything that the supervisor needs to start a run.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) config: RunConfig,
    pub(crate) artifact: std::fs::File,
    pub(crate) stdio: [OwnedFd; 3],
    /// The supervisor's end of the socket between it and the gateway, if there is one.
    pub(crate) gateway: Option<OwnedFd>,
}

/// Sends the start. The settings may be long, so they go as a file, like everything else that comes with the message.
pub(crate) fn send_start(
    socket: BorrowedFd<'_>,
    config: &RunConfig,
    artifact: BorrowedFd<'_>,
    stdio: [BorrowedFd<'_>; 3],
    gateway: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut settings = std::fs::File::from(memfd_create("sandpool-settings", MFdFlags::MFD_CLOEXEC)?);
    settings.write_all(&codec::encode(config)?)?;
    settings.rewind()?;
    let [stdin, stdout, stderr] = stdio.map(|fd| fd.as_raw_fd());
    let mut fds = vec![settings.as_raw_fd(), artifact.as_raw_fd(), stdin, stdout, stderr];
    fds.extend(gateway.map(|socket| socket.as_raw_fd()));
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"start")], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives the start.
pub(crate) fn receive_start(socket: BorrowedFd<'_>) -> io::Result<Start> {
    let (_, mut fds) = receive_bytes(socket, &mut [0; 8])?;
    let gateway = (fds.len() > 5).then(|| fds.pop()).flatten();
    let [settings, artifact, stdin, stdout, stderr] =
        <[OwnedFd; 5]>::try_from(fds).map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let mut bytes = Vec::new();
    std::fs::File::from(settings).read_to_end(&mut bytes)?;
    Ok(Start {
        config: codec::decode(&bytes)?,
        artifact: artifact.into(),
        stdio: [stdin, stdout, stderr],
        gateway,
    })
}

/// Sends one message with descriptors.
pub(crate) fn send_message_with(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let fds: Vec<_> = descriptors.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let bytes = codec::encode(message)?;
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Sends one message.
pub(crate) fn send_message(socket: BorrowedFd<'_>, message: &impl Serialize) -> io::Result<()> {
    send(socket.as_raw_fd(), &codec::encode(message)?, MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

/// Receives one message; `None` if the other end is closed.
pub(crate) fn receive_message<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<T>> {
    Ok(receive_message_with(socket)?.map(|(message, _)| message))
}

/// Receives one message, and the descriptors that come with it; `None` if the other end is closed.
pub(crate) fn receive_message_with<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; MESSAGE_MAX];
    let (len, descriptors) = receive_bytes(socket, &mut buffer)?;
    match buffer.get(..len) {
        Some([]) | None => Ok(None),
        Some(bytes) => Ok(Some((codec::decode(bytes)?, descriptors))),
    }
}

/// Receives the bytes of one message and its descriptors; no bytes if the other end is closed.
fn receive_bytes(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut room = nix::cmsg_space!([RawFd; 6]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(nix::Error::EINTR) => {}
            Err(nix::Error::ECONNRESET) => return Ok((0, Vec::new())),
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            descriptors.extend(received.into_iter().map(own_received));
        }
    }
    Ok((message.bytes, descriptors))
}
