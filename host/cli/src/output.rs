//! Writes output where the command was told to: to a whole file, a device, or a descriptor that it was given.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{self, OFlag};
use sandpool::command_support::{self, Directory, Writable};
use sandpool::{Error, Result};

/// Writes a whole file, which readers of the old file see at once. A device or a pipe is written to directly, and a link is
/// refused.
///
/// # Errors
/// The errors of [`Directory::open`], and [`Error::Write`].
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    if let Some(file) = descriptor(path) {
        return file.and_then(|file| command_support::write_all(file.as_fd(), bytes)).map_err(failed);
    }
    let (directory, name) = Directory::open_parent(path, &Writable::default())?;
    let write = || {
        // A missing file is made here.
        let file = directory.open_or_create(name)?;
        if !file.metadata()?.is_file() {
            return command_support::write_all(file.as_fd(), bytes);
        }
        let mut file = directory.create(name, 0o666)?;
        file.file().write_all(bytes)?;
        file.finish()
    };
    write().map_err(failed)
}

/// The descriptor of this process that a path such as `/dev/stdout` or `/dev/fd/3` means, if it means one. This is the descriptor
/// itself, with its position, and not the file that it refers to.
///
/// # Errors
/// The errors of the operating system, for a descriptor that isn't open for writing, or that this process wasn't given.
pub(crate) fn descriptor(path: &Path) -> Option<io::Result<File>> {
    // This removes `//` and `/./`.
    let path: PathBuf = path.components().collect();
    let number = match path.to_str()? {
        "/dev/stdin" => 0,
        "/dev/stdout" => 1,
        "/dev/stderr" => 2,
        path => {
            let number = path.strip_prefix("/dev/fd/").or_else(|| path.strip_prefix("/proc/self/fd/"))?;
            number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))?
        }
    };
    let writable = || {
        let file = File::from(command_support::inherited(number)?);
        let flags = OFlag::from_bits_retain(fcntl::fcntl(&file, fcntl::FcntlArg::F_GETFL)?);
        match flags & OFlag::O_ACCMODE {
            OFlag::O_WRONLY | OFlag::O_RDWR => Ok(file),
            _ => Err(io::Error::other("it is not open for writing")),
        }
    };
    Some(writable())
}

/// Refuses standard streams that were closed when this process began: output to them would vanish, as if everything had gone well.
///
/// # Errors
/// [`Error::Invalid`], with their names.
pub(crate) fn refuse_closed_streams() -> Result<()> {
    let closed = command_support::closed_streams();
    if closed.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid {
        what: closed.join(" and ") + if closed.len() == 1 { " is closed" } else { " are closed" },
        hint: Some("redirect the stream to /dev/null if it is not wanted".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::fs;
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::symlink;

    use nix::errno::Errno;
    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(&path("file"), b"first").unwrap();
        let mut old = File::open(path("file")).unwrap();
        write(&path("file"), b"second").unwrap();
        let mut text = String::new();
        old.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), fs::read(path("file")).unwrap().as_slice()), ("first", &b"second"[..]));
        symlink("file", path("link")).unwrap();
        let error = write(&path("link"), b"third").unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("symbolic link"));
        nix::unistd::mkfifo(&path("fifo"), Mode::S_IRWXU).unwrap();
        let reader = File::options().read(true).write(true).open(path("fifo")).unwrap();
        write(&path("fifo"), b"piped").unwrap();
        let mut piped = [0; 5];
        (&reader).read_exact(&mut piped).unwrap();
        assert_eq!(&piped, b"piped");
        assert_eq!(fs::read(path("file")).unwrap(), b"second");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
        write(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn own_descriptors_have_no_path() {
        let file = tempfile::tempfile().unwrap();
        let path = PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd()));
        assert_eq!(descriptor(&path).unwrap().unwrap_err().raw_os_error(), Some(Errno::EBADF as i32));
        assert!(descriptor(Path::new("/dev/stderr")).unwrap().is_ok());
        assert!(descriptor(Path::new("//dev/./fd//2")).unwrap().is_ok());
        for path in ["out", "/dev/fd/", "/dev/fd/+1", "/dev/fd/1/x", "/dev/stdout2", "/dev/fd/99999999999"] {
            assert!(descriptor(Path::new(path)).is_none(), "{path}");
        }
    }
}
