//! Counts the bytes that a component writes to files, before it writes them.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use sandpool_abi::process::Limit;

use crate::process::Process;
use crate::process::wasi::files::is_counted_kind;

/// Bytes that are counted before they are written. Those that then weren't are given back.
pub(super) struct FileBytes<'a> {
    process: &'a mut Process,
    left: u64,
    is_counted: bool,
}

impl<'a> FileBytes<'a> {
    pub(super) fn take(process: &'a mut Process, file: &File, bytes: u64) -> io::Result<Self> {
        let limits = &process.limits;
        let has_limit = limits.file_bytes_max.is_some() || limits.run_file_bytes_max.is_some();
        let is_counted = has_limit && is_counted_kind(file);
        if is_counted && process.take_file_bytes(bytes).is_err() {
            return Err(Errno::EDQUOT.into());
        }
        Ok(Self { process, left: bytes, is_counted })
    }

    pub(super) fn written(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// Notes that the limit of a file's size has refused a write.
    pub(super) fn too_large(&self) {
        self.process.refused(Limit::FileSize);
    }
}

impl Drop for FileBytes<'_> {
    fn drop(&mut self) {
        if self.is_counted && self.left > 0 {
            self.process.give_file_bytes_back(self.left);
        }
    }
}
