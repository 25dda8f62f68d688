//! Descriptors by number: what a process keeps, and what it was given.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::libc;

/// Moves a descriptor to the number `to`, above the standard streams, and closes all that are higher.
///
/// For a process that was just forked and takes on another role: owners of those descriptors must never be dropped
/// in it.
pub(crate) fn keep_only_up_to(keep: RawFd, to: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers; if `to` is somebody's, the caller has promised that they are gone.
    if keep != to && unsafe { libc::dup2(keep, to) } != to {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call takes integers. No owner of these descriptors is ever dropped, as the caller promises, so
    // none that is opened later under the same number is closed in their name.
    unsafe { libc::syscall(libc::SYS_close_range, to + 1, libc::c_uint::MAX, 0) };
    // SAFETY: the descriptor is open, and this is the only owner that is ever dropped.
    Ok(unsafe { OwnedFd::from_raw_fd(to) })
}

/// Closes all descriptors from this one on. For a process that has just begun to run this program, in which nobody owns one
/// yet: they are what its parent forgot to keep from it.
pub(crate) fn close_from(first: libc::c_uint) {
    // SAFETY: the call takes integers. As nobody owns these descriptors, nobody will use or close one that is opened later
    // under the same number.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Takes the process's standard input as an owned descriptor and puts /dev/null in its place.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    let null = std::fs::File::open("/dev/null")?;
    let taken = nix::fcntl::fcntl(io::stdin(), nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(3))?;
    nix::unistd::dup2_stdin(&null)?;
    // SAFETY: fcntl has just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(taken) })
}

/// Owns a descriptor that was received over a socket.
pub(crate) fn own_received(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel made the descriptor for the message it came with, and the caller takes it from there once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
