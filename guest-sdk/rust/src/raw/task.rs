//! `sandpool_task`.

use sandpool_abi::task::Claims;

use super::{Errno, done, length, written};

sandpool_abi::task_imports!(declare);

pub(crate) fn begin(part: u32) -> Result<(), Errno> {
    done(import::begin(part))
}

pub(crate) fn follow(shared: u64) -> Result<(), Errno> {
    done(import::follow(shared))
}

put!(finish: import::finish, import::finish_parts);

pub(crate) fn claims(process: u64) -> Result<Claims, Errno> {
    let mut claims = Claims { first: 0, end: 0, work: 0, since: 0, part: 0, reserved: 0 };
    // SAFETY: the host writes one `Claims` (40 bytes of plain integers) there, which is exclusively ours, and any
    // bits are valid in it.
    done(unsafe { import::claims(process, &raw mut claims) })?;
    Ok(claims)
}

pub(crate) fn kill(process: u64, work: u64) -> Result<(), Errno> {
    done(import::kill(process, work))
}

/// Returns the whole length of the input.
pub(crate) fn input(buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which the reference keeps writable; any
    // byte is a valid `u8`.
    length(unsafe { import::input(buffer.as_mut_ptr(), buffer.len()) })
}

/// The input, which has this length. `None` if there is no memory for it.
pub(crate) fn input_vec(len: usize) -> Option<Result<Vec<u8>, Errno>> {
    // SAFETY: the host writes at most `len` bytes, and returns how many the input has.
    let input = |to| length(unsafe { import::input(to, len) });
    // SAFETY: if there is no error, then as many bytes were written.
    unsafe { written(len, |to| if input(to)? == len { Ok(()) } else { Err(Errno::Io) }) }
}

pub(crate) fn output(bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the host reads the bytes of `bytes`, kept readable by the reference, and keeps a copy.
    done(unsafe { import::output(bytes.as_ptr(), bytes.len()) })
}
