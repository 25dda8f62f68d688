//! Landlock: a set of rules that one process makes, and another puts itself under. See landlock(7).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

/// `struct landlock_ruleset_attr`, as of ABI 6. An older kernel is given only the fields that it knows.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Handled {
    pub(crate) fs: u64,
    pub(crate) net: u64,
    pub(crate) scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: i32,
}

const CREATE_RULESET_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;

/// The version of the ABI that the running kernel has.
///
/// # Errors
///
/// `ENOSYS` if the kernel has no Landlock, `EOPNOTSUPP` if Landlock is switched off.
pub(crate) fn abi() -> io::Result<u32> {
    let nothing = std::ptr::null::<Handled>();
    // SAFETY: with this flag the call takes no struct, and only returns a number.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0, CREATE_RULESET_VERSION) };
    u32::try_from(abi).map_err(|_| io::Error::last_os_error())
}

/// A set of rules that refuses everything in `handled`, except for what rules allow. The kernel knows the first
/// `fields` fields of `handled`.
pub(crate) fn ruleset(handled: &Handled, fields: usize) -> io::Result<OwnedFd> {
    let size = (fields * size_of::<u64>()).min(size_of::<Handled>());
    // SAFETY: the kernel reads `size` bytes of a live struct that has at least as many.
    let fd = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::from_ref(handled), size, 0 as libc::c_uint)
    };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Allows `allowed`, all of which is handled, for everything below a directory.
pub(crate) fn allow_beneath(
    ruleset: BorrowedFd<'_>,
    directory: BorrowedFd<'_>,
    allowed: u64,
) -> io::Result<()> {
    let rule = PathBeneath { allowed, parent: directory.as_raw_fd() };
    // SAFETY: the kernel reads a live struct of the type that goes with RULE_PATH_BENEATH; both descriptors are open.
    let added = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            std::ptr::from_ref(&rule),
            0 as libc::c_uint,
        )
    };
    if added == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts the calling thread, and all that it starts from now on, under the rules, for good.
///
/// # Errors
///
/// `EPERM` without `no_new_privs`; `E2BIG` if the thread is under too many rules already.
pub(crate) fn restrict_self(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call takes integers, and the descriptor is open.
    let done =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0 as libc::c_uint) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
