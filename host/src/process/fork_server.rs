//! The fork server: a guest process that is in the jail already, has instantiated the module, and has run nothing of the
//! guest's. Processes with fresh memory are forked from it, so that each needn't do again what is the same for all:
//! multiprocessing's start method *forkserver*. A module that runs something when it is instantiated is instantiated in
//! each process.
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
//! It is also asked for a process that [stands by](crate::ipc::standby), which who spawns the next takes without its help.
//!
//! The supervisor doesn't wait for the answer; until it has it, the slot counts as one that has a process. If the fork
//! server dies, what it was asked for and hasn't done is done by the supervisor, as is all that comes after.
//!
//! It is there only where guests may fork: what is forked from it has its jail, where clone is allowed.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use crate::ipc::process_table::ProcessHandle;

/// Asked for in the place of a slot: a process that stands by.
pub(crate) const STANDBY: ProcessHandle = ProcessHandle(0);

/// The supervisor's side.
pub(crate) struct ForkServer {
    pub(crate) pid: i32,
    socket: OwnedFd,
    /// Processes that it was asked for and hasn't answered to.
    pending: Vec<ProcessHandle>,
}

/// The answer to one request: the kernel's errno, if there is no process.
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
    /// It is gone, or doesn't keep up.
    pub(crate) fn ask(&mut self, handle: ProcessHandle) -> io::Result<()> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        send(self.socket.as_raw_fd(), &handle.0.to_ne_bytes(), flags)?;
        self.pending.push(handle);
        Ok(())
    }

    /// Asks for a process that stands by, unless that was done. What becomes of it, its place tells.
    pub(crate) fn ask_for_standby(&mut self) {
        if !self.pending.contains(&STANDBY) {
            // If it doesn't keep up, there are more urgent things than this.
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

    /// Whether it may be about to start this process. Another one may have had the slot before, whose answer is still to be
    /// taken.
    pub(crate) fn is_asked_for(&self, handle: ProcessHandle) -> bool {
        self.pending.contains(&handle)
    }

    /// The requests that are left now that it is gone.
    pub(crate) fn unanswered(self) -> Vec<ProcessHandle> {
        self.pending
    }
}

impl AsFd for ForkServer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The other side: waits for what is asked for; `None` if nobody asks any more.
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

/// Says what has become of it.
pub(crate) fn answer(socket: BorrowedFd<'_>, handle: ProcessHandle, errno: Option<i32>) -> io::Result<()> {
    let mut bytes = [0; 16];
    let (first, second) = bytes.split_at_mut(8);
    first.copy_from_slice(&handle.0.to_ne_bytes());
    second.copy_from_slice(&u64::from(errno.unwrap_or(0).unsigned_abs()).to_ne_bytes());
    nix::unistd::write(socket, &bytes)?;
    Ok(())
}
