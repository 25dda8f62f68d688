//! Files that nobody but the effective user can have written.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use nix::unistd::geteuid;

/// Fails if another than the effective user owns the file, or if its mode lets anybody else in.
pub(super) fn refuse_others(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    let reason = if metadata.uid() != geteuid().as_raw() {
        format!("it belongs to user {}, not to you", metadata.uid())
    } else if metadata.mode() & 0o077 != 0 {
        format!("others have access: its mode is {:04o}", metadata.mode() & 0o7777)
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}
