//! fork(2), with the two things that clone3(2) adds: a child of the caller's parent, and its process id published
//! in shared memory before it runs.

use std::io;

use nix::libc;

use super::atomic::AtomicU32;

/// Whose child the new process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    /// The caller's.
    Caller,
    /// The caller's own parent's, so that one process alone reaps a whole tree.
    CallersParent,
}

/// Which side of the fork this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    /// In the new process.
    Child,
    /// In the old one; the new one's id.
    Parent(i32),
}

/// Forks the calling process, which must have one thread only (others would be gone in the child, with their locks
/// held). The kernel stores the child's id in `pid` before the child runs and whatever happens to the caller
/// meanwhile: there is no instant at which a child lives that `pid` doesn't tell of.
///
/// # Errors
///
/// `EAGAIN` at a limit on processes, `ENOMEM`.
pub(crate) fn fork(parent: Parent, pid: &AtomicU32) -> io::Result<Fork> {
    let mut args = libc::clone_args {
        flags: libc::CLONE_PARENT_SETTID as u64,
        pidfd: 0,
        child_tid: 0,
        parent_tid: pid.as_ptr().addr() as u64,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if parent == Parent::CallersParent {
        // The kernel then takes the exit signal of the caller and refuses another.
        args.flags |= libc::CLONE_PARENT as u64;
        args.exit_signal = 0;
    }
    // SAFETY: without CLONE_VM this is fork: the child gets a copy of all memory and goes on from here on the same
    // stack. `args` is a live struct of the size given, and `parent_tid` the address of a live, writable u32. The
    // C library isn't told: its fork handlers matter to programs with several threads, and nothing here depends
    // on the thread id that it caches.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match i32::try_from(result) {
        Ok(0) => Ok(Fork::Child),
        Ok(child) if child > 0 => Ok(Fork::Parent(child)),
        _ => Err(io::Error::last_os_error()),
    }
}
