//! Requests of a process to the kernel, for itself and for its children.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::atomic::AtomicU32;
use super::futex::{self, Deadline};

// A process that was just forked runs `exit_now` and `die_with_parent`. They are inlined and go through the one function
// of the C library that has forked it, because each page of code that is new to a process costs it a page fault.

/// Ends the process at once: no destructor and no exit handler runs.
#[inline]
pub(crate) fn exit_now(code: i32) -> ! {
    loop {
        // SAFETY: the call takes an integer, and nothing of this process is used any more.
        unsafe { libc::syscall(libc::SYS_exit_group, code) };
    }
}

/// Waits for SIGKILL, with a system call that a guest process may make.
pub(crate) fn await_death() -> ! {
    #[cfg(test)]
    if super::model::is_running() {
        super::model::await_death();
    }
    let nobody_wakes = AtomicU32::new(0);
    loop {
        futex::wait(&nobody_wakes, 0, Deadline::NEVER);
    }
}

/// Makes a program start with a soft limit of this many bytes for its stack, or of the hard limit if that is lower: the kernel leaves
/// as much room below the stack of a program as the soft limit was when the program was started.
pub(crate) fn leave_room_for_stack(command: &mut Command, bytes: u64) {
    let set = move || -> io::Result<()> {
        let (_, hard) = getrlimit(Resource::RLIMIT_STACK)?;
        Ok(setrlimit(Resource::RLIMIT_STACK, bytes.min(hard), hard)?)
    };
    // SAFETY: between fork and exec, the closure makes two system calls with memory of its own. It takes no lock and allocates
    // nothing, and its errors are numbers.
    unsafe { command.pre_exec(set) };
}

/// Asks for SIGKILL when the parent ends. `false` if the parent isn't `parent`, any more or at all.
#[inline]
pub(crate) fn die_with_parent(parent: i32) -> bool {
    // SAFETY: the call has no argument.
    ask_for_death() && unsafe { libc::syscall(libc::SYS_getppid) } == i64::from(parent)
}

/// Asks for SIGKILL as [`die_with_parent`] does, with the parent's pidfd: in another PID namespace, a process doesn't
/// learn its parent's number.
pub(crate) fn die_with(parent: BorrowedFd<'_>) -> bool {
    ask_for_death() && poll(&mut [PollFd::new(parent, PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0)
}

#[inline]
fn ask_for_death() -> bool {
    // SAFETY: PR_SET_PDEATHSIG takes a signal's number and changes no memory.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) == 0 }
}

/// Makes a signal end the process, with [`KILLED`] plus the signal's number as exit code. The first process of a PID
/// namespace survives signals for which it has no handler.
pub(crate) fn exit_at(signal: Signal) -> io::Result<()> {
    extern "C" fn exit(signal: libc::c_int) {
        exit_now(KILLED + signal);
    }
    let action = SigAction::new(SigHandler::Handler(exit), SaFlags::SA_ONSTACK, SigSet::empty());
    // SAFETY: the handler only makes a system call, and doesn't return.
    unsafe { sigaction(signal, &action) }?;
    Ok(())
}

/// The number that [`exit_at`] adds to a signal's number, as a shell does.
pub(crate) const KILLED: i32 = 128;
/// The exit code of a supervisor, compiler or guest process that cannot go on, for a reason that isn't the guest's.
pub(crate) const FAILED: i32 = 125;
/// The exit code of a guest process whose supervisor has ended before it could ask to end with it.
pub(crate) const ORPHANED: i32 = 123;

/// Fills `bytes` from the kernel's generator of random numbers.
pub(crate) fn fill_with_random(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // SAFETY: address and length are those of a live, writable slice.
        let filled = unsafe { libc::syscall(libc::SYS_getrandom, bytes.as_mut_ptr(), bytes.len(), 0) };
        match usize::try_from(filled) {
            Ok(filled) => bytes = bytes.get_mut(filled..).unwrap_or_default(),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// A descriptor that becomes readable when the process ends.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to the process of a pidfd.
pub(crate) fn send_signal(process: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the call takes integers; without an address the kernel fills in the details of a signal by itself.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal as i32, none, 0) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The nice value of this process: see nice(2).
pub(crate) fn nice() -> i32 {
    // SAFETY: the call takes integers.
    let niceness = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
    // The kernel returns 20 minus the nice value, so that the number is never negative.
    if niceness < 0 { 0 } else { 20 - niceness as i32 }
}

/// Sets the nice value of a process, 0 for the calling one, if that is allowed: everybody may raise that of his own
/// processes.
pub(crate) fn set_nice(pid: u32, nice: i32) {
    // SAFETY: the call takes integers.
    unsafe { libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, pid, nice) };
}

/// The kernel's own choice of a [slice](set_slice): how long a process computes before others may.
pub(crate) const USUAL_SLICE: Duration = Duration::ZERO;

/// The shortest slice.
pub(crate) const SHORT_SLICE: Duration = Duration::from_micros(100);

/// Sets the slice of a process, 0 for the calling one: for how long it computes before others may (sched(7)). With a
/// shorter slice, a process gets no more of the processors, but gets one sooner when it wakes. Everybody may set the
/// slice of his own processes; kernels before 6.12 don't know it.
pub(crate) fn set_slice(pid: u32, slice: Duration) {
    let size = size_of::<libc::sched_attr>();
    // SAFETY: the struct has only integers, for which zero is valid.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    // SAFETY: the address is that of a live, writable value, whose size is given.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, pid, &raw mut attributes, size, 0) };
    // A real-time process has no slice, and a process that its user made idle stays idle.
    if got != 0 || attributes.sched_policy != libc::SCHED_OTHER.unsigned_abs() {
        return;
    }
    attributes.sched_runtime = u64::try_from(slice.as_nanos()).unwrap_or(u64::MAX);
    // SAFETY: the address is that of a live value, whose size it holds.
    unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw const attributes, 0) };
}

/// Gives the calling thread a processor soon when it wakes, even if others want one: for a thread that waits for a
/// request to end something.
pub fn wake_soon() {
    set_slice(0, SHORT_SLICE);
}

/// A child that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    pub(crate) pid: i32,
    pub(crate) end: End,
    pub(crate) cpu: Duration,
    /// The most memory that the child had at once, in bytes.
    pub(crate) peak_memory: u64,
}

/// How a child ended, as the kernel tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exited(u8),
    Signaled(i32),
}

/// Reaps one child that has ended; `None` if none has.
pub(crate) fn reap() -> Option<Reaped> {
    let mut status = 0;
    // SAFETY: rusage is integers only, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right types.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage) };
    if pid <= 0 {
        return None;
    }
    let end = if libc::WIFSIGNALED(status) {
        End::Signaled(libc::WTERMSIG(status))
    } else {
        End::Exited(libc::WEXITSTATUS(status) as u8)
    };
    let time =
        |t: libc::timeval| Duration::new(t.tv_sec.unsigned_abs(), t.tv_usec.unsigned_abs() as u32 * 1000);
    Some(Reaped {
        pid,
        end,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_memory: usage.ru_maxrss.unsigned_abs() * 1024,
    })
}
