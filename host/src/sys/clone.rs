//! fork(2), with two things that clone(2) adds: a child of the caller's parent, and its process id published in shared
//! memory before it runs.
//!
//! `fork` doesn't use clone3(2), which takes its flags in a struct that no filter of system calls can look at;
//! `fork_into` does, and is called without a filter only.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::libc;

use super::atomic::AtomicU32;

/// An argument that the system call doesn't look at, or no address.
const UNUSED: libc::c_long = 0;

/// `CLONE_INTO_CGROUP`, since Linux 5.7. The crate `libc` has the constant in a type that is too small.
const INTO_CGROUP: u64 = 1 << 33;

/// The parent of the new process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    /// The caller.
    Caller,
    /// The caller's own parent, so that one process alone reaps a whole tree.
    CallersParent,
}

/// The side of the fork on which the code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The old process, with the new one's id.
    Parent(i32),
}

#[cfg(test)]
thread_local! {
    /// Whether the kernel has no more processes for this thread: tests set this.
    pub(crate) static IS_AT_LIMIT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Forks the calling process, which must have one thread only (others would be gone in the child, with their locks
/// held). The kernel stores the child's id in `pid` before the child runs, whatever happens to the caller meanwhile: at
/// every instant at which a child lives, `pid` has its id.
///
/// # Errors
///
/// `EAGAIN` at a limit on processes, `ENOMEM`.
pub(crate) fn fork(parent: Parent, pid: &AtomicU32) -> io::Result<Fork> {
    #[cfg(test)]
    if IS_AT_LIMIT.get() {
        return Err(io::Error::from_raw_os_error(libc::EAGAIN));
    }
    let flags = match parent {
        Parent::Caller => libc::CLONE_PARENT_SETTID | libc::SIGCHLD,
        // The kernel then announces the child's end with the caller's own exit signal.
        Parent::CallersParent => libc::CLONE_PARENT_SETTID | libc::CLONE_PARENT,
    };
    // SAFETY: without CLONE_VM this is fork: the child gets a copy of all memory and goes on from here on the same
    // stack, as none is given. The third argument is, on each architecture, where the kernel stores the child's id: the
    // address of a live, writable u32. The two arguments after it, whose order differs, aren't used with these flags.
    // The C library isn't told: its fork handlers matter to programs with several threads, and nothing here depends on
    // the thread id that it caches.
    let result = unsafe {
        libc::syscall(libc::SYS_clone, libc::c_long::from(flags), UNUSED, pid.as_ptr(), UNUSED, UNUSED)
    };
    side(result)
}

/// [`fork`] of a child of the caller that is born into this control group, given by its directory.
///
/// # Errors
///
/// As [`fork`]; `EACCES` if processes may not be moved there.
pub(crate) fn fork_into(group: BorrowedFd<'_>, pid: &AtomicU32) -> io::Result<Fork> {
    // SAFETY: all fields are integers, for which zero is "none".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = INTO_CGROUP | libc::CLONE_PARENT_SETTID as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.parent_tid = pid.as_ptr() as u64;
    args.cgroup = group.as_raw_fd() as u64;
    // SAFETY: as above; the arguments are a live struct of the size that is said, and the id goes to a live, writable u32.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    side(result)
}

fn side(result: libc::c_long) -> io::Result<Fork> {
    match i32::try_from(result) {
        Ok(0) => Ok(Fork::Child),
        Ok(child) if child > 0 => Ok(Fork::Parent(child)),
        _ => Err(io::Error::last_os_error()),
    }
}
