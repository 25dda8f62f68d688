//! `sandpool_process`.

use std::sync::atomic::{AtomicU64, Ordering};

use sandpool_abi::handle::Record;
use sandpool_abi::process::{Info, Status};

use super::{Errno, done, length, value};

sandpool_abi::process_imports!(declare);

/// Returns the child's handle; `None` in the child.
pub(crate) fn fork(name: &str, flags: u32) -> Result<Option<u64>, Errno> {
    super::unless_mute(Errno::Perm)?;
    // SAFETY: the host reads `name.len()` bytes at `name`, which the reference keeps readable. Both processes
    // return to here, each with a memory of its own, so nothing is owned twice; the guest has one thread, so no
    // lock of another thread is copied in a locked state.
    let handle = value(unsafe { import::fork(name.as_ptr(), name.len(), flags) })?;
    if handle == 0 {
        CURRENT.store(0, Ordering::Relaxed);
    }
    Ok((handle != 0).then_some(handle))
}

pub(crate) fn spawn(name: &str, flags: u32, payload: &[u8], handles: &[u64]) -> Result<u64, Errno> {
    super::unless_mute(Errno::Perm)?;
    // SAFETY: the host reads the bytes of `name`, those of `payload`, and `handles.len()` 64-bit values, all kept
    // readable by their references, and keeps copies.
    value(unsafe {
        import::spawn(
            name.as_ptr(),
            name.len(),
            flags,
            payload.as_ptr(),
            payload.len(),
            handles.as_ptr(),
            handles.len(),
        )
    })
}

/// Returns the whole length of the payload.
pub(crate) fn entry(buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which the reference keeps writable; any
    // byte is a valid `u8`.
    length(unsafe { import::entry(buffer.as_mut_ptr(), buffer.len()) })
}

/// Returns the number of handles.
pub(crate) fn entry_handles(records: &mut [Record]) -> Result<usize, Errno> {
    // SAFETY: the host writes at most `records.len()` records (24 bytes of plain integers) there, which the reference
    // keeps writable and aligned; any bits are valid in them.
    length(unsafe { import::entry_handles(records.as_mut_ptr(), records.len()) })
}

/// The result of `current` in this process, because guards ask for it each time. 0 if it must be asked for.
static CURRENT: AtomicU64 = AtomicU64::new(0);

#[inline]
pub(crate) fn current() -> Result<u64, Errno> {
    match CURRENT.load(Ordering::Relaxed) {
        0 => ask_current(),
        current => Ok(current),
    }
}

#[cold]
fn ask_current() -> Result<u64, Errno> {
    let current = value(import::current())?;
    CURRENT.store(current, Ordering::Relaxed);
    Ok(current)
}

pub(crate) fn parent() -> Result<u64, Errno> {
    value(import::parent())
}

/// Returns the children that are alive.
pub(crate) fn children() -> Result<Vec<u64>, Errno> {
    let mut children = vec![0; 64];
    loop {
        // SAFETY: the host writes at most `children.len()` values of 64 bits there, which the vector has; it is
        // exclusively ours, and any bits are a valid `u64`.
        let count = length(unsafe { import::children(children.as_mut_ptr(), children.len()) })?;
        let is_all = count <= children.len();
        children.resize(count, 0);
        if is_all {
            return Ok(children);
        }
    }
}

pub(crate) fn join(process: u64, timeout: u64) -> Result<(), Errno> {
    super::unless_mute(Errno::Child)?;
    done(import::join(process, timeout))
}

pub(crate) fn status(process: u64) -> Result<Status, Errno> {
    let mut status = Status { kind: 0, detail: 0, exitcode: 0, reserved: 0, figure: 0 };
    // SAFETY: the host writes one `Status` there: 24 bytes, little-endian as wasm is, of plain integers, for which
    // any bits are valid.
    done(unsafe { import::status(process, &raw mut status) })?;
    Ok(status)
}

pub(crate) fn signal(process: u64, signal: u32) -> Result<(), Errno> {
    super::told(|| import::signal(process, signal))
}

pub(crate) fn close(process: u64) -> Result<(), Errno> {
    done(import::close(process))
}

pub(crate) fn detach(process: u64) -> Result<(), Errno> {
    done(import::detach(process))
}

pub(crate) fn info(process: u64) -> Result<Info, Errno> {
    let mut info = Info { handle: 0, pid: 0, parent_pid: 0, flags: 0, alive: 0 };
    // SAFETY: the host writes one `Info` there: 24 bytes, little-endian as wasm is, of plain integers, for which
    // any bits are valid.
    done(unsafe { import::info(process, &raw mut info) })?;
    Ok(info)
}

pub(crate) fn name(process: u64) -> Result<String, Errno> {
    let mut buffer = [0; sandpool_abi::NAME_MAX];
    // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which is exclusively ours; any byte is a
    // valid `u8`.
    let len = length(unsafe { import::name(process, buffer.as_mut_ptr(), buffer.len()) })?;
    let name = buffer.get(..len).ok_or(Errno::Io)?;
    Ok(String::from_utf8_lossy(name).into_owned())
}

pub(crate) fn cpu_count() -> i32 {
    import::cpu_count()
}

/// The figure of a limit, if it is set. Off wasm there is no limit: an error can be shown there as well.
pub(crate) fn limit(code: u32) -> Option<u64> {
    if cfg!(target_arch = "wasm32") { value(import::limit(code)).ok() } else { None }
}

/// Returns the whole length of the kept text.
pub(crate) fn stderr(process: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which the reference keeps writable; any
    // byte is a valid `u8`.
    length(unsafe { import::stderr(process, buffer.as_mut_ptr(), buffer.len()) })
}

/// Silences this process for files and standard streams, or ends that.
pub(super) fn mute(is_on: bool) {
    // The call can't fail.
    let _ = import::mute(u32::from(is_on));
}
