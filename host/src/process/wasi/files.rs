//! Limits on files: how much is written to them, and how many are open.
//!
//! The kernel knows the size of a file and the number of descriptors. This module counts how much a process, or a run,
//! has written: with each write, before it is done, so that the files never hold more than was counted. A write that
//! would exceed a limit is refused as a whole.
//!
//! This module lists a directory if the library doesn't.

use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use rustix::fs::{AtFlags, Dir, FileType, StatxFlags, makedev, statx};
use sandpool_abi::process::Limit;
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::types::{Fd, Filetype};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1 as _};
use wiggle::{GuestMemory, GuestPtr};

use super::{ERRNO_FAULT, ERRNO_MFILE, ERRNO_SUCCESS, descriptors};
use crate::process::{Guest, Process};
use crate::sys::atomic::Ordering;

const ERRNO_DQUOT: i32 = 19;
const ERRNO_FBIG: i32 = 22;
const ERRNO_ILSEQ: i32 = 25;
const ERRNO_IO: i32 = 29;
const ERRNO_PERM: i32 = 63;

const OPEN_CREATE: i32 = 1;
const OPEN_TRUNCATE: i32 = 8;

/// Bytes of a vector: an address, and a length.
const VECTOR: u32 = 8;

#[allow(clippy::too_many_arguments, reason = "as WASI has it")]
pub(super) async fn path_open(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    lookup: i32,
    path: i32,
    len: i32,
    flags: i32,
    rights: i64,
    inheriting: i64,
    fd_flags: i32,
    out: i32,
) -> wasmtime::Result<i32> {
    if guest.process.is_mute && flags & (OPEN_CREATE | OPEN_TRUNCATE) != 0 {
        return Ok(ERRNO_PERM);
    }
    let wasi = &mut guest.wasi;
    let opened =
        preview1::path_open(wasi, memory, fd, lookup, path, len, flags, rights, inheriting, fd_flags, out);
    let errno = opened.await?;
    if errno == ERRNO_SUCCESS {
        return Ok(descriptors::after_open(guest, memory, out));
    }
    Ok(opened_or_full(guest, errno))
}

pub(super) async fn fd_readdir(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    buffer: i32,
    len: i32,
    cookie: i64,
    out: i32,
) -> wasmtime::Result<i32> {
    let errno = preview1::fd_readdir(&mut guest.wasi, memory, fd, buffer, len, cookie, out).await?;
    if errno == ERRNO_ILSEQ {
        return Ok(match list(guest, memory, fd, (buffer, len), cookie as u64).await {
            Ok(used) if memory.write(GuestPtr::<u32>::new(out as u32), used).is_ok() => ERRNO_SUCCESS,
            Ok(_) => ERRNO_FAULT,
            Err(errno) => errno,
        });
    }
    Ok(opened_or_full(guest, errno))
}

/// Lists a directory as the library does, but without names that aren't UTF-8, which WASI can't express: because of one
/// such name, the library lists nothing at all. Returns the number of bytes of the buffer that the list takes.
async fn list(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    (buffer, len): (i32, i32),
    cookie: u64,
) -> Result<u32, i32> {
    let known = guest.wasi.fd_filestat_get(memory, Fd::from(fd as u32)).await.map_err(|_| ERRNO_ILSEQ)?;
    let dir = opened_directory(guest, known.ino).ok_or(ERRNO_ILSEQ)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let open = openat(&*dir, ".", flags, Mode::empty()).map_err(|error| {
        let is_full = error == Errno::EMFILE;
        if is_full {
            guest.process.refused(Limit::OpenFiles);
        }
        if is_full { ERRNO_MFILE } else { ERRNO_IO }
    })?;
    let open = Dir::new(open).map_err(|_| ERRNO_IO)?;
    let mut used = 0_u32;
    let mut put = |memory: &mut GuestMemory<'_>, bytes: &[u8]| -> Result<bool, i32> {
        let room = (len as u32).saturating_sub(used);
        let bytes = bytes.get(..room as usize).unwrap_or(bytes);
        let to = (buffer as u32).checked_add(used).ok_or(ERRNO_FAULT)?;
        let to = GuestPtr::<[u8]>::new((to, bytes.len() as u32));
        memory.copy_from_slice(bytes, to).map_err(|_| ERRNO_FAULT)?;
        used += bytes.len() as u32;
        Ok(used < len as u32)
    };
    let mut next = 0_u64;
    // The library lists these two first, whatever the order on the disk.
    for name in [".", ".."] {
        next += 1;
        let entry = dirent(next, known.ino, name, Filetype::Directory);
        if next > cookie && !(put(memory, &entry)? && put(memory, name.as_bytes())?) {
            return Ok(used);
        }
    }
    for entry in open {
        let entry = entry.map_err(|_| ERRNO_IO)?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if matches!(name, "." | "..") {
            continue;
        }
        next += 1;
        if next <= cookie {
            continue;
        }
        // An entry that has gone meanwhile is listed all the same, because the numbers of the other entries depend on
        // it.
        let stat = statx(&*dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS).ok();
        let ino = stat.map_or(0, |stat| inode(makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino));
        let kind = match entry.file_type() {
            FileType::Directory => Filetype::Directory,
            FileType::RegularFile => Filetype::RegularFile,
            FileType::Symlink => Filetype::SymbolicLink,
            FileType::BlockDevice => Filetype::BlockDevice,
            FileType::CharacterDevice => Filetype::CharacterDevice,
            _ => Filetype::Unknown,
        };
        if !(put(memory, &dirent(next, ino, name, kind))? && put(memory, name.as_bytes())?) {
            break;
        }
    }
    Ok(used)
}

/// An open directory of the guest's that has this number. The library doesn't say which of its own directories belongs
/// to a descriptor; but two with the same number list the same.
fn opened_directory(guest: &mut Guest, ino: u64) -> Option<Arc<File>> {
    guest.wasi.ctx().table.iter_mut().find_map(|entry| match entry.downcast_ref::<Descriptor>()? {
        Descriptor::Dir(dir) => {
            let found = dir.dir.metadata().ok()?;
            (inode(found.dev(), found.ino()) == ino).then(|| dir.dir.clone())
        }
        Descriptor::File(_) => None,
    })
}

/// The number that the library has for a file.
fn inode(dev: u64, ino: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (dev, ino).hash(&mut hasher);
    hasher.finish()
}

/// An entry of a directory, without its name.
fn dirent(next: u64, ino: u64, name: &str, kind: Filetype) -> [u8; 24] {
    let mut entry = [0; 24];
    let len = (name.len() as u32).to_le_bytes();
    let fields = [&next.to_le_bytes()[..], &ino.to_le_bytes(), &len, &[kind as u8]].concat();
    entry.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    entry
}

/// Corrects the errno if no descriptor is left, which the library calls an error of the device.
fn opened_or_full(guest: &Guest, errno: i32) -> i32 {
    if errno != ERRNO_IO || is_one_free() {
        return errno;
    }
    guest.process.refused(Limit::OpenFiles);
    ERRNO_MFILE
}

/// Whether a descriptor is left. The kernel takes a descriptor before it looks at the path.
pub(in crate::process) fn is_one_free() -> bool {
    let opened = openat(std::io::stdin(), "/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
    !opened.is_err_and(|error| error == Errno::EMFILE)
}

pub(super) async fn fd_write(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    list: i32,
    count: i32,
    out: i32,
) -> wasmtime::Result<i32> {
    let write = async |wasi: &mut WasiP1Ctx, memory: &mut GuestMemory<'_>| {
        preview1::fd_write(wasi, memory, fd, list, count, out).await
    };
    counted(guest, memory, fd, (list, count), out, write).await
}

pub(super) async fn fd_pwrite(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    list: i32,
    count: i32,
    offset: i64,
    out: i32,
) -> wasmtime::Result<i32> {
    let write = async |wasi: &mut WasiP1Ctx, memory: &mut GuestMemory<'_>| {
        preview1::fd_pwrite(wasi, memory, fd, list, count, offset, out).await
    };
    counted(guest, memory, fd, (list, count), out, write).await
}

/// Sets the size of a file; the bytes by which the file grows count as written.
pub(super) async fn fd_filestat_set_size(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    size: i64,
) -> wasmtime::Result<i32> {
    if guest.process.is_mute {
        return Ok(ERRNO_SUCCESS);
    }
    let mut taken = 0;
    if is_counted(guest, memory, fd).await {
        let now = guest.wasi.fd_filestat_get(memory, Fd::from(fd as u32)).await;
        taken = (size as u64).saturating_sub(now.map_or(0, |stat| stat.size));
        if guest.process.take_file_bytes(taken).is_err() {
            return Ok(ERRNO_DQUOT);
        }
    }
    let errno = preview1::fd_filestat_set_size(&mut guest.wasi, memory, fd, size).await?;
    if errno != ERRNO_SUCCESS {
        guest.process.give_file_bytes_back(taken);
    }
    Ok(errno)
}

/// Whether the descriptor is a file, and a limit counts the bytes that are written to files. Standard streams have a
/// limit of their own.
async fn is_counted(guest: &mut Guest, memory: &mut GuestMemory<'_>, fd: i32) -> bool {
    let limits = &guest.process.limits;
    if limits.file_bytes_max.is_none() && limits.run_file_bytes_max.is_none() {
        return false;
    }
    let stat = guest.wasi.fd_fdstat_get(memory, Fd::from(fd as u32)).await;
    stat.is_ok_and(|stat| matches!(stat.fs_filetype, Filetype::RegularFile | Filetype::BlockDevice))
}

/// Whether bytes that are written to this file are counted.
pub(in crate::process) fn is_counted_kind(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() || metadata.file_type().is_block_device())
}

/// Counts the bytes of a write, and refuses the write if they are too many.
async fn counted(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    list: (i32, i32),
    out: i32,
    write: impl AsyncFnOnce(&mut WasiP1Ctx, &mut GuestMemory<'_>) -> wasmtime::Result<i32>,
) -> wasmtime::Result<i32> {
    if guest.process.is_mute {
        return Ok(lose(memory, list, out).map_or(ERRNO_FAULT, |()| ERRNO_SUCCESS));
    }
    match before_write(guest, memory, fd, list, out).await {
        Ok(taken) => {
            let errno = write(&mut guest.wasi, memory).await?;
            Ok(after_write(guest, memory, taken, out, errno))
        }
        Err(errno) => Ok(errno),
    }
}

/// Says that all bytes have been written.
fn lose(memory: &mut GuestMemory<'_>, (list, count): (i32, i32), out: i32) -> Option<()> {
    let mut len = 0_u32;
    for at in 0..count as u32 {
        len = len.checked_add(vector_len(memory, list, at)?)?;
    }
    memory.write(GuestPtr::<u32>::new(out as u32), len).ok()
}

/// The length of a vector of a list.
fn vector_len(memory: &GuestMemory<'_>, list: i32, at: u32) -> Option<u32> {
    let offset = at.checked_mul(VECTOR)?;
    memory.read(GuestPtr::<u32>::new((list as u32).checked_add(offset)?.checked_add(4)?)).ok()
}

/// Takes the bytes of the first vector that has any: one call writes no more. Returns the number of bytes.
async fn before_write(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    (list, count): (i32, i32),
    out: i32,
) -> Result<u64, i32> {
    if !is_counted(guest, memory, fd).await {
        return Ok(0);
    }
    // If the result couldn't be told afterwards, the bytes would be written all the same.
    memory.read(GuestPtr::<u32>::new(out as u32)).map_err(|_| ERRNO_FAULT)?;
    let mut wanted = 0;
    for at in 0..count as u32 {
        wanted = vector_len(memory, list, at).ok_or(ERRNO_FAULT)?;
        if wanted != 0 {
            break;
        }
    }
    guest.process.take_file_bytes(u64::from(wanted)).map_err(|_| ERRNO_DQUOT)?;
    Ok(u64::from(wanted))
}

/// Gives back the bytes that weren't written.
fn after_write(guest: &mut Guest, memory: &GuestMemory<'_>, taken: u64, out: i32, errno: i32) -> i32 {
    if errno == ERRNO_FBIG {
        guest.process.refused(Limit::FileSize);
    }
    if taken > 0 {
        let written = match errno {
            ERRNO_SUCCESS => memory.read(GuestPtr::<u32>::new(out as u32)).map_or(taken, u64::from),
            _ => 0,
        };
        guest.process.give_file_bytes_back(taken.saturating_sub(written));
    }
    errno
}

impl Process {
    /// Counts bytes that are about to be written to a file.
    pub(in crate::process) fn take_file_bytes(&mut self, bytes: u64) -> Result<(), Limit> {
        let own = self.file_bytes.saturating_add(bytes);
        if let Some(max) = self.limits.file_bytes_max.filter(|max| own > *max) {
            self.refused(Limit::FileBytes);
            return Err(Limit::FileBytes(max));
        }
        if let Some(max) = self.limits.run_file_bytes_max {
            // An arena without its header is of no use.
            let all = self.participant().arena.header().map(|header| &header.file_bytes);
            let more = |all: u64| all.checked_add(bytes).filter(|all| *all <= max);
            let taken =
                all.is_ok_and(|all| all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok());
            if !taken {
                self.refused(Limit::RunFileBytes);
                return Err(Limit::RunFileBytes(max));
            }
        }
        self.file_bytes = own;
        Ok(())
    }

    /// Uncounts bytes that weren't written.
    pub(in crate::process) fn give_file_bytes_back(&mut self, bytes: u64) {
        self.file_bytes = self.file_bytes.saturating_sub(bytes);
        if self.limits.run_file_bytes_max.is_some()
            && let Ok(header) = self.participant().arena.header()
        {
            let less = |all: u64| Some(all.saturating_sub(bytes));
            let _ = header.file_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }
}
