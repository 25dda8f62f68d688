//! Descriptors by number: those that a process keeps, and those that it was given.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// The first number above the standard streams.
const FIRST: RawFd = 3;
/// The first number above those that [`keep_only`] is ever given.
const FREE: RawFd = FIRST + 3;

/// Moves descriptors to the numbers from 3 on, in this order, and closes all higher ones if `close` is set.
///
/// For a process that was just forked and takes on another role: owners of the former descriptors must never be dropped
/// in it.
pub(crate) fn keep_only(keep: &[BorrowedFd<'_>], close: bool) -> io::Result<Vec<OwnedFd>> {
    let end = FIRST + keep.len() as RawFd;
    // First they are moved out of each other's way.
    let high = keep
        .iter()
        .map(|fd| fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(end)))
        .collect::<nix::Result<Vec<RawFd>>>()?;
    for (fd, to) in high.into_iter().zip(FIRST..) {
        // SAFETY: the call takes integers; if `to` is somebody's, the caller has promised that they are gone.
        if unsafe { libc::dup3(fd, to, libc::O_CLOEXEC) } != to {
            return Err(io::Error::last_os_error());
        }
    }
    if close {
        // SAFETY: the call takes integers. No owner of these descriptors is ever dropped, as the caller promises, so
        // none that is opened later under the same number is closed in their name.
        unsafe { libc::syscall(libc::SYS_close_range, end, libc::c_uint::MAX, 0) };
    }
    // SAFETY: the descriptors are open, and these are the only owners that are ever dropped.
    Ok((FIRST..end).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect())
}

/// Closes all descriptors from this number on. For a process that has just begun to run this program, in which nobody
/// owns a descriptor yet: these are descriptors that its parent forgot to keep from it.
pub(crate) fn close_from(first: libc::c_uint) {
    // SAFETY: the call takes integers. As nobody owns these descriptors, nobody will use or close one that is opened later
    // under the same number.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}

/// Takes the process's standard input as an owned descriptor and puts /dev/null in its place. [`keep_only`] never puts
/// another descriptor over this one.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    let null = std::fs::File::open("/dev/null")?;
    let taken = fcntl(io::stdin(), FcntlArg::F_DUPFD_CLOEXEC(FREE))?;
    nix::unistd::dup2_stdin(&null)?;
    // SAFETY: fcntl has just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(taken) })
}

/// The standard streams that were closed when this process began: a bit for each.
static CLOSED: AtomicU8 = AtomicU8::new(0);

/// Runs before `main`, and before Rust's runtime, which opens /dev/null for each closed stream: afterwards nobody can tell
/// such a stream from a /dev/null that was given.
#[used]
// SAFETY: the section is the C library's list of functions to call first, each with arguments that this one ignores;
// this one is `extern "C"`, as they are.
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = {
    extern "C" fn look() {
        let closed = (0..FIRST).filter(|number| {
            // SAFETY: the call takes integers, and changes nothing.
            unsafe { libc::fcntl(*number, libc::F_GETFD) == -1 }
        });
        CLOSED.store(closed.fold(0, |bits, number| bits | 1 << number), Ordering::Relaxed);
    }
    look
};

/// The standard streams that were closed when this process began, by name.
pub fn closed_streams() -> Vec<&'static str> {
    let closed = CLOSED.load(Ordering::Relaxed);
    let names = ["stdin", "stdout", "stderr"].into_iter().enumerate();
    names.filter(|(bit, _)| closed >> bit & 1 != 0).map(|(_, name)| name).collect()
}

/// A copy of a descriptor that this process was given when it began, by the descriptor's number.
///
/// # Errors
/// Those of the operating system, and one for a descriptor that this process has opened itself.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes integers, and changes nothing.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags == -1 {
        return Err(io::Error::last_os_error());
    }
    // Every descriptor that is opened here is closed at exec; one that came through an exec isn't.
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: the call takes integers, and makes a descriptor that nobody has yet.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, FIRST) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fcntl has just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// An extended attribute of an open file, if the file has the attribute and the value is short.
pub(crate) fn attribute(fd: BorrowedFd<'_>, name: &CStr) -> Option<Vec<u8>> {
    let mut value = [0_u8; 16];
    // SAFETY: the name is a live, terminated string, and the kernel writes no more than the length of this live buffer.
    let len =
        unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    Some(value.get(..usize::try_from(len).ok()?)?.to_vec())
}

/// Owns a descriptor that was received over a socket.
pub(crate) fn own_received(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel made the descriptor for the message it came with, and the caller takes it from there once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
