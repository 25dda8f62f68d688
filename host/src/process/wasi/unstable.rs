//! WASI preview 0, `wasi_unstable`, where it differs from preview 1: in the numbers of `whence`, in the layouts of file attributes and
//! subscriptions, and in that it has no `sock_accept`. Old modules have it.
//!
//! Each function calls the one of preview 1. Its layouts that differ are written to memory of the host's, and translated from there.

use tokio::runtime::Handle;
use wasmtime::Caller;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;
use wiggle::{GuestMemory, GuestPtr};

use super::{ERRNO_FAULT, ERRNO_INVAL, ERRNO_SUCCESS};
use crate::process::Guest;

/// Bytes of a file's attributes.
pub(super) const FILESTAT: usize = 56;

/// Bytes of a file's attributes in preview 1.
const NEW_FILESTAT: usize = 64;

/// Bytes of a subscription.
const SUBSCRIPTION: usize = 56;

/// The longest path that is looked at. Linux has none that is longer.
const PATH_MAX: usize = 4096;

const ERRNO_NAMETOOLONG: i32 = 37;

pub(super) fn fd_seek(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    offset: i64,
    whence: i32,
    out: i32,
) -> wasmtime::Result<i32> {
    // From the current place, from the end, from the beginning.
    let whence = match whence {
        0 => 1,
        1 => 2,
        2 => 0,
        _ => return Ok(ERRNO_INVAL),
    };
    Handle::current().block_on(preview1::fd_seek(&mut guest.wasi, memory, fd, offset, whence, out))
}

pub(super) fn fd_filestat_get(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    out: i32,
) -> wasmtime::Result<i32> {
    let mut stat = [0; NEW_FILESTAT];
    let mut scratch = GuestMemory::Unshared(&mut stat);
    let errno =
        Handle::current().block_on(preview1::fd_filestat_get(&mut guest.wasi, &mut scratch, fd, 0))?;
    Ok(tell(memory, out, errno, &stat))
}

pub(super) fn path_filestat_get(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    flags: i32,
    path: i32,
    len: i32,
    out: i32,
) -> wasmtime::Result<i32> {
    let Ok(Some(bytes)) = memory.as_slice(GuestPtr::<[u8]>::new((path as u32, len as u32))) else {
        return Ok(ERRNO_FAULT);
    };
    if bytes.len() > PATH_MAX {
        return Ok(ERRNO_NAMETOOLONG);
    }
    let mut stat = [0; NEW_FILESTAT].to_vec();
    stat.extend_from_slice(bytes);
    let mut scratch = GuestMemory::Unshared(&mut stat);
    let call =
        preview1::path_filestat_get(&mut guest.wasi, &mut scratch, fd, flags, NEW_FILESTAT as i32, len, 0);
    let errno = Handle::current().block_on(call)?;
    Ok(tell(memory, out, errno, stat.first_chunk().unwrap_or(&[0; NEW_FILESTAT])))
}

/// Writes a file's attributes, if there are any.
fn tell(memory: &mut GuestMemory<'_>, out: i32, errno: i32, stat: &[u8; NEW_FILESTAT]) -> i32 {
    if errno != ERRNO_SUCCESS {
        return errno;
    }
    // Device, inode, kind; the number of links, which has 32 bits here; size and times.
    let mut old = [0; FILESTAT];
    copy(&mut old, 0, stat.get(..17));
    let links =
        stat.get(24..).and_then(|rest| rest.first_chunk()).map_or(0, |links| u64::from_le_bytes(*links));
    copy(&mut old, 20, Some(&u32::try_from(links).unwrap_or(u32::MAX).to_le_bytes()));
    copy(&mut old, 24, stat.get(32..));
    match memory.copy_from_slice(&old, GuestPtr::<[u8]>::new((out as u32, FILESTAT as u32))) {
        Ok(()) => ERRNO_SUCCESS,
        Err(_) => ERRNO_FAULT,
    }
}

/// Copies bytes to a place, as far as there is room.
fn copy(to: &mut [u8], at: usize, from: Option<&[u8]>) {
    let to = to.iter_mut().skip(at);
    to.zip(from.unwrap_or_default()).for_each(|(to, from)| *to = *from);
}

pub(super) fn poll_oneoff(
    caller: Caller<'_, Guest>,
    subscriptions: i32,
    events: i32,
    count: i32,
    written: i32,
) -> i32 {
    super::poll_subscriptions(caller, subscriptions, events, count, written, |old: &[u8; SUBSCRIPTION]| {
        let mut new = [0; super::SUBSCRIPTION];
        copy(&mut new, 0, old.get(..16));
        // A clock's own number for the subscription comes first here.
        let is_clock = old.get(8) == Some(&0);
        copy(&mut new, 16, old.get(if is_clock { 24 } else { 16 }..));
        new
    })
}
