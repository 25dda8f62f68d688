//! The names by which runs of one user find each other: sockets in a folder that no other user can enter.
//!
//! A name is a socket and a lock file beside it. The run that listens holds the lock as long as it lives, however it ends. So a
//! socket whose lock is free was left behind, and the next to listen takes its place.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{getsockopt, sockopt};

/// The path of the folder of the names of this user's runs.
pub(crate) fn folder_path() -> PathBuf {
    let user = nix::unistd::geteuid().as_raw();
    // The gateway's environment is empty: the place depends on the user alone, so that all runs of a user agree.
    let runtime = PathBuf::from(format!("/run/user/{user}"));
    let is_own =
        |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == user);
    if is_own(&runtime) { runtime.join("sandpool") } else { PathBuf::from(format!("/tmp/sandpool-{user}")) }
}

/// The folder of the names, which is made if it isn't there.
fn folder() -> io::Result<PathBuf> {
    let user = nix::unistd::geteuid().as_raw();
    let folder = folder_path();
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} is not a folder that only this user can enter", folder.display()),
        ));
    }
    Ok(folder)
}

/// The socket of a name.
pub(super) fn socket(name: &str) -> io::Result<PathBuf> {
    Ok(folder()?.join(format!("{name}.socket")))
}

/// A name that this run has, as long as this value lives.
#[derive(Debug)]
pub(super) struct Taken {
    _lock: Flock<File>,
}

/// Takes a name, and removes the socket that the last run of this name may have left.
///
/// `AddrInUse` if another run has it.
pub(super) fn take(name: &str) -> io::Result<Taken> {
    let folder = folder()?;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(folder.join(format!("{name}.lock")))?;
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::Error::EWOULDBLOCK => io::Error::from(io::ErrorKind::AddrInUse),
        errno => errno.into(),
    })?;
    match fs::remove_file(folder.join(format!("{name}.socket"))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(Taken { _lock: lock }),
    }
}

/// Whether the process at the other end of a socket is one of this user's.
pub(super) fn is_of_this_user(socket: &impl AsFd) -> bool {
    let user = nix::unistd::geteuid().as_raw();
    getsockopt(socket, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == user)
}
