//! Capabilities of the calling thread. See capabilities(7).

use std::io;

use nix::libc;

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`: 32 of the 64 bits that version 3 has.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

fn prctl(option: libc::c_int, first: libc::c_ulong, second: libc::c_ulong) -> io::Result<()> {
    // SAFETY: the options that are used here take integers only; unused arguments are 0, as these options require.
    match unsafe { libc::prctl(option, first, second, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Removes from the bounding set all capabilities, so that no program that is executed ever gets one.
///
/// # Errors
///
/// `EPERM` without `CAP_SETPCAP`.
pub(crate) fn empty_bounding_set() -> io::Result<()> {
    for capability in 0.. {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            // No capability has this number, and the numbers have no gaps.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && capability > 0 => break,
            dropped => dropped?,
        }
    }
    Ok(())
}

/// Gives up all capabilities, the effective, permitted, inheritable and ambient ones: for good if nothing may gain
/// privileges.
pub(crate) fn drop_all() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0)?;
    let header = Header { version: VERSION_3, pid: 0 };
    let none = [Data::default(); 2];
    // SAFETY: a live header, and two structs of data as its version has; the kernel only reads them.
    match unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), none.as_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
