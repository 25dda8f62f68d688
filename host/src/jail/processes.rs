//! The limit of processes: as many as the run may have and a few more, whatever native code forks. The supervisor counts its
//! children as well, and ends a run that has strays. The kernel's limit holds meanwhile, and no process can hide from its count.
//!
//! # What the kernel counts
//!
//! * `kernel.pid_max` **of the run's own PID namespace** (since Linux 6.14; before, it is the whole machine's, and isn't
//!   touched): no process there gets this number or a higher one. Numbers go up, and when they are used up begin anew at
//!   300. So before that there may be 300 more. It holds root too.
//! * `RLIMIT_NPROC`, **in the run's own user namespace** (since Linux 5.14; before, it counts all that the user has
//!   anywhere, and isn't set): the user's processes and threads there. It doesn't hold root: the kernel exempts the user
//!   that is root outside of all namespaces, in whichever it is and without any capability.
//!
//! One of them is enough.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::report::{LayerStatus, reason};
use crate::linux;

/// Processes beside those that may be asked for: the supervisor, its fork server, the process that stands by, and room for one that
/// is about to go.
pub(super) const OWN: u64 = 8;

/// The number at which process ids begin anew: the kernel's `RESERVED_PIDS`.
const FIRST_AGAIN: u64 = 300;

/// The kernel's limit of process ids: its `PID_MAX_LIMIT`.
const NUMBERS: u64 = 4 << 20;

/// The first Linux with a `pid_max` for each PID namespace.
const PID_MAX_SINCE: (u32, u32) = (6, 14);

/// The first Linux that counts a user's processes for each user namespace.
const NPROC_SINCE: (u32, u32) = (5, 14);

/// Which namespaces are the run's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    pub(super) user: bool,
    pub(super) pid: bool,
}

/// Limits the calling process and all its descendants to this number of processes, and a few more.
pub(super) fn enter(most: u64, own: Own) -> LayerStatus {
    let most = most.saturating_add(OWN);
    let linux = linux::running();
    let has = |since: (u32, u32)| linux.is_some_and(|linux| linux >= since);
    let numbers = match (own.pid, has(PID_MAX_SINCE)) {
        (false, _) => Err("there is no PID namespace of its own".to_owned()),
        (true, false) => Err("the kernel has it for a PID namespace since Linux 6.14".to_owned()),
        (true, true) => limit_numbers(most).map_err(|error| reason(&error)),
    };
    let of_the_user = match (own.user, has(NPROC_SINCE)) {
        (false, _) => Err("there is no user namespace of its own".to_owned()),
        (true, false) => Err("the kernel counts for a user namespace since Linux 5.14".to_owned()),
        (true, true) => match limit_user(most) {
            Ok(()) if nix::unistd::geteuid().is_root() => Err("it does not hold root".to_owned()),
            limited => limited.map_err(|error| reason(&error)),
        },
    };
    match (numbers, of_the_user) {
        (Err(numbers), Err(of_the_user)) => LayerStatus::Absent(format!(
            "no limit of process numbers: {numbers}; nor of the user's processes: {of_the_user}"
        )),
        _ => LayerStatus::Full,
    }
}

/// Sets `kernel.pid_max` of the calling process's PID namespace.
fn limit_numbers(most: u64) -> io::Result<()> {
    let file = File::options().write(true).open("/proc/sys/kernel/pid_max")?;
    let mut numbers = FIRST_AGAIN + most;
    loop {
        match file.write_all_at(numbers.to_string().as_bytes(), 0) {
            // The kernel takes no less than eight numbers for each processor: this limit is too small for it.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && numbers < NUMBERS => {
                numbers = (2 * numbers).min(NUMBERS);
            }
            written => return written,
        }
    }
}

fn limit_user(most: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NPROC)?;
    let limit = most.min(hard);
    Ok(setrlimit(Resource::RLIMIT_NPROC, limit, limit)?)
}
