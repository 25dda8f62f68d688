//! Namespaces and the mounts in them: clone(2), fsmount(2), open_tree(2), mount_setattr(2), move_mount(2), pivot_root(2).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::libc;
use nix::sched::CloneFlags;

use super::clone::Fork;

/// Forks the calling process, which must have one thread only. The child is a child of the caller's parent, and the
/// first process in the new namespaces.
pub(crate) fn fork_sibling_into(namespaces: CloneFlags) -> io::Result<Fork> {
    let flags = namespaces | CloneFlags::CLONE_PARENT;
    // SAFETY: without CLONE_VM this is fork: the child gets a copy of all memory and goes on from here on the same stack.
    // None of the addresses is one that these flags have the kernel use.
    let result = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags.bits()), 0, 0, 0, 0) };
    match i32::try_from(result) {
        Ok(0) => Ok(Fork::Child),
        Ok(child) if child > 0 => Ok(Fork::Parent(child)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A mount outside of the tree of files: a copy of what is mounted below a directory, or a new one.
#[derive(Debug)]
pub(crate) struct Mount(OwnedFd);

impl Mount {
    /// A copy of the tree below this directory, with all that is mounted there.
    pub(crate) fn copy_of(directory: &Path) -> io::Result<Self> {
        let directory = std::ffi::CString::new(directory.as_os_str().as_encoded_bytes())?;
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE.unsigned_abs();
        // SAFETY: the path is a live, terminated string; the kernel reads nothing else.
        let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, directory.as_ptr(), flags) };
        Ok(Self(own(fd)?))
    }

    /// An empty file system in memory.
    pub(crate) fn empty() -> io::Result<Self> {
        Self::new(c"tmpfs")
    }

    /// The processes of the caller's PID namespace (proc(5)), which this mount hides from nobody. The kernel allows it only where
    /// such a file system is in reach already, with nothing mounted over parts of it.
    pub(crate) fn processes() -> io::Result<Self> {
        Self::new(c"proc")
    }

    fn new(file_system: &CStr) -> io::Result<Self> {
        // SAFETY: the name is a live, terminated string.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, file_system.as_ptr(), libc::FSOPEN_CLOEXEC) };
        let made = own(fd)?;
        let none = std::ptr::null::<libc::c_char>();
        // SAFETY: this command takes neither key nor value.
        done(unsafe {
            libc::syscall(libc::SYS_fsconfig, made.as_raw_fd(), libc::FSCONFIG_CMD_CREATE, none, none, 0)
        })?;
        // SAFETY: the call takes integers.
        let fd = unsafe { libc::syscall(libc::SYS_fsmount, made.as_raw_fd(), libc::FSMOUNT_CLOEXEC, 0_u64) };
        Ok(Self(own(fd)?))
    }

    /// Forbids devices, programs, and set-user-ID rights in the mount and in all that is mounted below it; if
    /// `read_only` is set, writing as well.
    pub(crate) fn restrict(&self, read_only: bool) -> io::Result<()> {
        let mut set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
        if read_only {
            set |= libc::MOUNT_ATTR_RDONLY;
        }
        set_attributes(self.0.as_fd(), c"", libc::AT_EMPTY_PATH, set, 0)
    }

    /// Attaches the mount at this path from a directory.
    pub(crate) fn attach(&self, directory: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
        // SAFETY: both paths are live, terminated strings; the kernel reads nothing else.
        done(unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                directory.as_raw_fd(),
                path.as_ptr(),
                libc::MOVE_MOUNT_F_EMPTY_PATH,
            )
        })
    }

    /// The topmost directory of the mount.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Mount> for OwnedFd {
    /// The topmost directory, which keeps the mount.
    fn from(mount: Mount) -> Self {
        mount.0
    }
}

/// Keeps mounts and unmounts from now on within this mount namespace, and those from outside out of it.
pub(crate) fn make_mounts_private() -> io::Result<()> {
    set_attributes(nix::fcntl::AT_FDCWD, c"/", 0, 0, libc::MS_PRIVATE)
}

fn set_attributes(
    at: BorrowedFd<'_>,
    path: &CStr,
    flags: libc::c_int,
    attr_set: u64,
    propagation: u64,
) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set, attr_clr: 0, propagation, userns_fd: 0 };
    // SAFETY: the path is a live, terminated string, and the struct live and of the size given.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at.as_raw_fd(),
            path.as_ptr(),
            flags | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
}

/// Makes the working directory, which is the topmost of a mount, the root of this mount namespace. The old root is then
/// mounted over it.
pub(crate) fn pivot_root() -> io::Result<()> {
    // SAFETY: both paths are live, terminated strings.
    done(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) })
}

/// Unmounts whatever is mounted over the working directory, and all below it.
pub(crate) fn unmount_here() -> io::Result<()> {
    // SAFETY: the path is a live, terminated string.
    done(unsafe { libc::c_long::from(libc::umount2(c".".as_ptr(), libc::MNT_DETACH)) })
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn own(fd: libc::c_long) -> io::Result<OwnedFd> {
    done(fd)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
