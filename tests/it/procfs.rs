//! Processes, as `/proc` shows them.

use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::Signal;

use crate::support::deadline;

pub(crate) type Pid = u32;

/// Looks again and again until it holds. Whether it did before the deadline.
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + deadline();
    while !holds() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// The numbers of all processes.
pub(crate) fn all() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// A process's state and its parent's number; `None` if it is gone, or dead and not yet reaped.
pub(crate) fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and may hold some itself.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.next()?.parse().ok()
}

/// A process's children that are alive.
pub(crate) fn children(of: Pid) -> Vec<Pid> {
    let mut found = all();
    found.retain(|pid| parent(*pid) == Some(of));
    found
}

/// How many threads a process has.
pub(crate) fn threads(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

/// A process's open descriptors and what they lead to, by number.
pub(crate) fn descriptors(pid: Pid) -> Vec<(u32, PathBuf)> {
    let mut found: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().to_str().unwrap().parse().unwrap(), fs::read_link(entry.path()).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// Whether this descriptor of a process leads to this file or directory, which may have another path for the process.
pub(crate) fn leads_to(pid: Pid, fd: u32, file: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    let found = id(Path::new(&format!("/proc/{pid}/fd/{fd}")));
    found.is_some() && found == id(file)
}

/// A line of `/proc/PID/status`; `None` if the process is gone.
pub(crate) fn status_line(pid: Pid, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// A figure of `/proc/PID/status`, such as the KiB of `RssAnon`.
pub(crate) fn status(pid: Pid, field: &str) -> u64 {
    status_line(pid, field).unwrap().trim_end_matches(" kB").parse().unwrap()
}

/// The number that a process has in its own PID namespace, as it and its relatives know it.
pub(crate) fn inner_number(pid: Pid) -> Option<Pid> {
    status_line(pid, "NSpid")?.split_whitespace().last()?.parse().ok()
}

/// The identity of a process, and the call that it waits in.
pub(crate) fn describe(pid: Pid) -> String {
    let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let (name, wait, stat) = (read("comm"), read("wchan"), read("stat"));
    format!("{pid} {} {} {}", name.trim(), wait.trim(), stat.trim())
}

/// Signals do what they do by default, here and in what is started from here. A shell that runs the tests in the background
/// has them ignore an interrupt, and a command that inherits that does as well, as it should.
#[allow(unsafe_code, reason = "the disposition of a signal is the process's")]
pub(crate) fn default_signals() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for number in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the default disposition is no handler, which would have to be safe to call at any time.
        unsafe { signal(number, SigHandler::SigDfl) }.unwrap();
    }
}

/// Sends a signal to the process of this number if it is the one that is meant; whether it was. Safe from numbers that
/// are used again: a descriptor of the process is held before it is looked at.
#[allow(unsafe_code, reason = "nothing safer sends a signal to a process that can't be mistaken for another")]
pub(crate) fn kill(pid: Pid, signal: Signal, is_meant: impl FnOnce(Pid) -> bool) -> bool {
    // SAFETY: the call takes integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(pid), 0_u64) };
    let Ok(fd @ 0..) = i32::try_from(fd) else { return false };
    // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if !is_meant(pid) {
        return false;
    }
    // SAFETY: the call takes integers, the third of them in the place of an address that may be none.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal as i32, 0_u64, 0_u64) == 0 }
}

/// The kernel's name of a process, if it is still there.
pub(crate) fn name(pid: Pid) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// Whether this process has a capability, by its number.
pub(crate) fn has_capability(number: u32) -> bool {
    let effective = status_line(std::process::id(), "CapEff").unwrap();
    u64::from_str_radix(&effective, 16).unwrap() & (1 << number) != 0
}

/// The soft limit of a process for a resource, by the name that `/proc/PID/limits` has for it.
pub(crate) fn limit(pid: Pid, resource: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(resource)).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

/// Its nice value, and its slice in nanoseconds where the kernel shows that. All of its threads have one each.
pub(crate) fn scheduling(pid: Pid) -> (i32, Option<u64>) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the program, in parentheses, may hold anything; the third field comes after it.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let nice = rest.split(' ').nth(16).unwrap().parse().unwrap();
    let shown = fs::read_to_string(format!("/proc/{pid}/sched")).unwrap_or_default();
    let slice =
        shown.lines().find_map(|line| line.strip_prefix("se.slice")?.split(':').nth(1)?.trim().parse().ok());
    (nice, slice)
}

/// Whether a process sleeps, and has for a while.
pub(crate) fn stands(pid: Pid) -> bool {
    let before = describe(pid);
    let stays = || {
        std::thread::sleep(Duration::from_millis(1));
        describe(pid) == before
    };
    before.contains(") S ") && (0..20).all(|_| stays())
}
