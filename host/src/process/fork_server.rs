//! The fork server: a guest process that is in the jail already, has instantiated the module, and has run nothing of
//! the guest's. Processes with fresh memory are forked from it, so that they needn't repeat the work that is the same
//! for all: multiprocessing's start method *forkserver*. A module that runs something when it is instantiated is
//! instantiated in each process.
//!
//! ```text
//!  supervisor                fork server                       the new process
//!    │ ──── handle ────────────▶ │
//!    │                           │ clone, as a child of the supervisor
//!    │                           │ ───────────────────────────────▶ │ gives the socket back
//!    │                           │                                  │ Spawning → Running, tells its parent
//!    │ ◀──── handle, errno ───── │                                  │
//! ```
//!
//! The supervisor also asks for a process that [stands by](crate::ipc::standby), which the next process that spawns
//! takes without the fork server's help.
//!
//! The supervisor doesn't wait for the answer; until the answer comes, the slot counts as one that has a process. If
//! the fork server dies, the supervisor does the requests that are left, and all later ones.
//!
//! The fork server exists only if guests may fork: its processes have its jail, where clone is allowed.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use crate::ipc::process_table::ProcessHandle;

/// A request for a process that stands by, in the place of a slot's handle.
pub(crate) const STANDBY: ProcessHandle = ProcessHandle(0);

/// The supervisor's side.
pub(crate) struct ForkServer {
    pub(crate) pid: i32,
    socket: OwnedFd,
    /// Requests that the fork server hasn't answered.
    pending: Vec<ProcessHandle>,
}

/// The answer to one request, with the kernel's errno if there is no process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) handle: ProcessHandle,
    pub(crate) errno: Option<i32>,
}

/// The two ends of the socket.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

impl ForkServer {
    pub(crate) fn new(pid: i32, socket: OwnedFd) -> Self {
        Self { pid, socket, pending: Vec::new() }
    }

    /// Asks for the process of a slot.
    ///
    /// # Errors
    ///
    /// The fork server is gone, or doesn't keep up.
    pub(crate) fn ask(&mut self, handle: ProcessHandle) -> io::Result<()> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        send(self.socket.as_raw_fd(), &handle.0.to_ne_bytes(), flags)?;
        self.pending.push(handle);
        Ok(())
    }

    /// Asks for a process that stands by, unless such a request is pending. The place of the process says what becomes
    /// of it.
    pub(crate) fn ask_for_standby(&mut self) {
        if !self.pending.contains(&STANDBY) {
            // If the fork server doesn't keep up, it has more urgent work than this.
            let _ = self.ask(STANDBY);
        }
    }

    /// The next answer that has come.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let mut bytes = [0; 16];
        recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT).ok().filter(|len| *len == 16)?;
        let [handle, errno] =
            [0, 8].map(|at| bytes.split_at(at).1.first_chunk().copied().unwrap_or_default());
        let handle = ProcessHandle(u64::from_ne_bytes(handle));
        self.pending.retain(|asked| *asked != handle);
        let errno = i32::try_from(u64::from_ne_bytes(errno)).ok().filter(|errno| *errno != 0);
        Some(Answer { handle, errno })
    }

    /// Whether the fork server may be about to start this process. An earlier process may have had the slot, whose
    /// answer is still to be taken.
    pub(crate) fn is_asked_for(&self, handle: ProcessHandle) -> bool {
        self.pending.contains(&handle)
    }

    /// The requests that are left after the fork server is gone.
    pub(crate) fn unanswered(self) -> Vec<ProcessHandle> {
        self.pending
    }
}

impl AsFd for ForkServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits for a request, in the fork server; `None` if nobody asks any more.
pub(crate) fn next_request(socket: BorrowedFd<'_>) -> io::Result<Option<ProcessHandle>> {
    let mut bytes = [0; 8];
    loop {
        match nix::unistd::read(socket, &mut bytes) {
            Ok(8) => return Ok(Some(ProcessHandle(u64::from_ne_bytes(bytes)))),
            Ok(_) => return Ok(None),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Answers a request, in the fork server.
pub(crate) fn answer(socket: BorrowedFd<'_>, handle: ProcessHandle, errno: Option<i32>) -> io::Result<()> {
    let mut bytes = [0; 16];
    let (first, second) = bytes.split_at_mut(8);
    first.copy_from_slice(&handle.0.to_ne_bytes());
    second.copy_from_slice(&u64::from(errno.unwrap_or(0).unsigned_abs()).to_ne_bytes());
    nix::unistd::write(socket, &bytes)?;
    Ok(())
}
