//! The kernel's word on which processes are children of this one.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// Signals a process if it is a child that isn't reaped yet. Guests write the table, so its numbers may be anything.
pub(super) fn send(pid: u32, signal: Signal) {
    let is_alive = |status| status == WaitStatus::StillAlive;
    // A child's number can't be another's before it is reaped, which only this process does.
    if let Some((pid, true)) = look_at(pid).map(|(pid, status)| (pid, is_alive(status))) {
        let _ = kill(pid, signal);
    }
}

/// Whether a number is that of a child that isn't reaped yet.
pub(super) fn is_child(pid: u32) -> bool {
    look_at(pid).is_some()
}

/// The kernel's status of a child; `None` if the number isn't that of one.
fn look_at(pid: u32) -> Option<(Pid, WaitStatus)> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).map(Pid::from_raw)?;
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    Some((pid, waitid(Id::Pid(pid), flags).ok()?))
}

pub(super) fn has_children() -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::All, flags), Err(nix::Error::ECHILD))
}
