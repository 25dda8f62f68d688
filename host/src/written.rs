//! The one way to open a file that the host writes.
//!
//! Guests that may write to a directory may put a link there at any time, or another directory in place of one. A path that leads
//! through such a directory leads wherever the guests want. So:
//!
//! ```text
//!  path ──walk──▶ Directory, a descriptor ──▶ open_or_create   never through a link, made only exclusively
//!        no name is looked up                ├▶ create          under a random name; then takes the place of a file
//!        where guests may write              └▶ read, remove    the same names, relative to the descriptor
//! ```
//!
//! 1. A path is walked once, name by name, links included. If a name would be looked up in a directory that guests may write to,
//!    the path is refused. Directories are compared by identity: by device and number of the directory and all directories
//!    above it, and by its place in its file system, which bind mounts show under other paths.
//! 2. Everything else happens relative to the descriptor: a directory that is renamed or replaced later changes nothing.
//! 3. A file is opened only if it is no link, and made only if there is nothing of its name. A file that replaces another
//!    is written under a random name, and renamed when it is whole.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{self, AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::sys::process;
use crate::{DirGrant, Error, Result};

/// The number of links that the kernel follows on the way to one file.
const LINKS_MAX: usize = 40;

/// The directories that guests may write to, with everything below them.
#[derive(Debug, Default)]
pub struct Writable(Vec<Granted>);

#[derive(Debug)]
struct Granted {
    path: PathBuf,
    id: Id,
    /// The places, in their file systems, of the directory and of everything that is mounted below it.
    places: Vec<Place>,
}

/// Device and number of a directory.
type Id = (u64, u64);

/// A file system, and a path from its root.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    device: String,
    path: PathBuf,
}

impl Writable {
    /// The directories that are granted for writing.
    ///
    /// # Errors
    /// [`Error::Grant`] for a directory that can't be opened.
    pub fn granted(grants: &[DirGrant]) -> Result<Self> {
        Self::from_paths(grants.iter().filter(|grant| !grant.is_read_only).map(|grant| &*grant.host))
    }

    /// Opens the directories of these paths.
    pub(crate) fn from_paths<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<Self> {
        let mounts = Mounts::read();
        let granted = |path: &Path| {
            let open = || {
                let dir = open_path(path)?;
                let mut places: Vec<_> = mounts.place(&dir).into_iter().collect();
                places.extend(mounts.below(&path.canonicalize()?));
                Ok(Granted { path: path.to_owned(), id: id(&dir)?, places })
            };
            open().map_err(|source| Error::Grant { path: path.to_owned(), source })
        };
        Ok(Self(paths.map(granted).collect::<Result<_>>()?))
    }

    /// The granted directory that is this directory, or that this directory lies below.
    fn holding(&self, dir: &File, mounts: &Mounts) -> io::Result<Option<&Path>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let place = mounts.place(dir);
        let is_within = |granted: &Place| {
            place
                .as_ref()
                .is_some_and(|place| place.device == granted.device && place.path.starts_with(&granted.path))
        };
        if let Some(granted) = self.0.iter().find(|granted| granted.places.iter().any(is_within)) {
            return Ok(Some(&granted.path));
        }
        let mut current = dir.try_clone()?;
        let mut current_id = id(&current)?;
        loop {
            if let Some(granted) = self.0.iter().find(|granted| granted.id == current_id) {
                return Ok(Some(&granted.path));
            }
            let above = open_at(&current, OsStr::new(".."), DIRECTORY, Mode::empty())?;
            let above_id = id(&above)?;
            // The root is its own parent.
            if above_id == current_id {
                return Ok(None);
            }
            (current, current_id) = (above, above_id);
        }
    }

    /// Refuses a socket in a directory that guests of these grants may write to: they could put a link in its place.
    pub(crate) fn refuse_socket(&self, path: &Path) -> Result<()> {
        // The path may be a link itself.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        for path in [path, &*target] {
            // If a part of the path doesn't exist or can't be reached, there is no socket either.
            let Ok(Err(granted)) = walk(path.parent().unwrap_or(path), self) else { continue };
            return Err(Error::Invalid {
                what: format!(
                    "guests may write to {}, and the socket {} lies in it",
                    granted.display(),
                    path.display()
                ),
                hint: Some("use a socket elsewhere, or grant the directory with :ro".to_owned()),
            });
        }
        Ok(())
    }

    /// Refuses a directory that guests of these grants must not reach, because the host trusts its content.
    pub(crate) fn refuse_trusted(&self, path: &Path) -> Result<()> {
        // If a part of the path doesn't exist or can't be reached, the path crosses no granted directory as far as it leads.
        let Ok(Err(granted)) = walk(path, self) else { return Ok(()) };
        Err(Error::Invalid {
            what: format!(
                "guests may write to {}, and {}, whose files Sandpool trusts, lies in it",
                granted.display(),
                path.display()
            ),
            hint: Some(
                "grant a directory below it, or grant it with :ro; SANDPOOL_CACHE_DIR names another place for the cache"
                    .to_owned(),
            ),
        })
    }
}

/// The mounts that `/proc/self/mountinfo` lists; empty if that can't be read.
struct Mounts(Vec<Mount>);

struct Mount {
    id: Vec<u8>,
    device: String,
    /// The directory of the file system that the mount shows.
    root: PathBuf,
    /// The directory at which the mount shows it.
    point: PathBuf,
}

impl Mounts {
    fn read() -> Self {
        let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
        Self(text.split(|byte| *byte == b'\n').filter_map(Mount::parse).collect())
    }

    /// The place of a directory in its file system.
    fn place(&self, dir: &File) -> Option<Place> {
        let fd = dir.as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim();
        let path = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        let mount = self.0.iter().find(|mount| mount.id == id.as_bytes())?;
        let below = path.strip_prefix(&mount.point).ok()?;
        Some(Place { device: mount.device.clone(), path: mount.root.join(below) })
    }

    /// The places of everything that is mounted below a directory.
    fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = Place> + 'a {
        let below = self.0.iter().filter(move |mount| mount.point.starts_with(path));
        below.map(|mount| Place { device: mount.device.clone(), path: mount.root.clone() })
    }
}

impl Mount {
    /// Reads a line such as `36 35 98:0 /root /point rw,noatime - ext3 /dev/root rw`.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = fields.next()?.to_owned();
        let device = String::from_utf8(fields.nth(1)?.to_owned()).ok()?;
        Some(Self { id, device, root: unescaped(fields.next()?), point: unescaped(fields.next()?) })
    }
}

/// A path in which some characters, such as a space, are written as `\040`.
fn unescaped(mut text: &[u8]) -> PathBuf {
    let mut path = Vec::new();
    while let Some((byte, rest)) = text.split_first() {
        let octal = rest.get(..3).filter(|_| *byte == b'\\');
        let octal = octal.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        path.push(octal.unwrap_or(*byte));
        text = rest.get(if octal.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    OsString::from_vec(path).into()
}

/// A directory that the host writes files to, opened once.
#[derive(Debug)]
pub struct Directory(File);

impl Directory {
    /// Opens a directory to which the host will write files.
    ///
    /// # Errors
    /// [`Error::Invalid`] if guests could change where the path leads, or the content of the directory. [`Error::Write`] if the
    /// directory can't be opened.
    pub fn open(path: &Path, writable: &Writable) -> Result<Self> {
        Self::open_for(path, path, writable)
    }

    /// Opens a directory for a file, or for several.
    fn open_for(path: &Path, dir: &Path, writable: &Writable) -> Result<Self> {
        match walk(dir, writable) {
            Ok(Ok(dir)) => Ok(Self(dir)),
            Ok(Err(granted)) => Err(Error::Invalid {
                what: format!(
                    "{} cannot be written safely: its path leads through {}, where guests may write",
                    path.display(),
                    granted.display()
                ),
                hint: Some("name a file elsewhere, or grant the directory with :ro".to_owned()),
            }),
            Err(source) => Err(Error::Write { path: path.to_owned(), source }),
        }
    }

    /// Opens the directory of a file that exists or is to be made, and returns the file's name there as well.
    ///
    /// # Errors
    /// The same errors as for [`open`](Self::open).
    pub fn open_parent<'a>(path: &'a Path, writable: &Writable) -> Result<(Self, &'a OsStr)> {
        let source = io::Error::from(io::ErrorKind::IsADirectory);
        let name = path.file_name().ok_or(Error::Write { path: path.to_owned(), source })?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        Ok((Self::open_for(path, parent.unwrap_or(Path::new(".")), writable)?, name))
    }

    /// Uses a directory that is open already.
    pub(crate) fn from_file(dir: File) -> Self {
        Self(dir)
    }

    /// Opens a file for writing, and makes it if there is none. The content of an existing file stays.
    ///
    /// # Errors
    /// The errors of the operating system, and an error of this library for a link.
    pub fn open_or_create(&self, name: &OsStr) -> io::Result<File> {
        const TRIES: usize = 10;
        for _ in 0..TRIES {
            match self.open_at(name, OFlag::O_WRONLY, Mode::empty()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
            match self.open_at(name, EXCLUSIVELY, Mode::from_bits_truncate(0o666)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made,
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Opens a file for reading, without waiting for a writer.
    ///
    /// # Errors
    /// The same errors as for [`open_or_create`](Self::open_or_create).
    pub fn read(&self, name: &OsStr) -> io::Result<File> {
        self.open_at(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())
    }

    /// Makes a file under a random name. The file takes the place of the one called `name` when it is [whole](Unfinished::finish).
    ///
    /// # Errors
    /// The errors of the operating system.
    pub fn create(&self, name: &OsStr, mode: u32) -> io::Result<Unfinished<'_>> {
        let mut random = [0; RANDOM_LEN];
        process::fill_with_random(&mut random)?;
        let mut temporary = OsString::from(".");
        temporary.push(name);
        temporary.push(".");
        random.iter().for_each(|byte| temporary.push(format!("{byte:02x}")));
        temporary.push(TEMPORARY);
        let file = self.open_at(&temporary, EXCLUSIVELY, Mode::from_bits_truncate(mode))?;
        Ok(Unfinished { directory: self, temporary, name: name.to_owned(), file, is_finished: false })
    }

    /// Removes a file, if there is one.
    ///
    /// # Errors
    /// The errors of the operating system.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        match unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the unfinished files that killed commands have left for this name. No other process may be writing one.
    ///
    /// # Errors
    /// The errors of the operating system.
    pub fn remove_unfinished(&self, name: &OsStr) -> io::Result<()> {
        for entry in fs::read_dir(format!("/proc/self/fd/{}", self.0.as_raw_fd()))? {
            let entry = entry?.file_name();
            if is_unfinished(&entry, name) {
                self.remove(&entry)?;
            }
        }
        Ok(())
    }

    /// Writes the names in the directory to the disk.
    ///
    /// # Errors
    /// The errors of the operating system.
    pub fn sync(&self) -> io::Result<()> {
        self.open_at(OsStr::new("."), READABLE_DIRECTORY, Mode::empty())?.sync_all()
    }

    /// Attributes of a file, or of a link.
    pub(crate) fn stat(&self, name: &OsStr) -> io::Result<FileStat> {
        Ok(fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    fn open_at(&self, name: &OsStr, flags: OFlag, mode: Mode) -> io::Result<File> {
        match open_at(&self.0, name, flags, mode) {
            // The kernel's message would be about too many links.
            Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => {
                Err(io::Error::other("it is a symbolic link; name the file that it leads to"))
            }
            opened => opened,
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The number of random bytes in a temporary name, and the end of the name.
const RANDOM_LEN: usize = 8;
const TEMPORARY: &str = ".tmp";

/// Whether `temporary` is the random name of a file that is to be called `name`.
pub(crate) fn is_unfinished(temporary: &OsStr, name: &OsStr) -> bool {
    let random = temporary.as_bytes().strip_prefix(b".").and_then(|rest| {
        rest.strip_prefix(name.as_bytes())?.strip_prefix(b".")?.strip_suffix(TEMPORARY.as_bytes())
    });
    random.is_some_and(|random| random.len() == 2 * RANDOM_LEN && random.iter().all(u8::is_ascii_hexdigit))
}

/// A file that still has a random name. Dropping this removes the file.
#[derive(Debug)]
pub struct Unfinished<'a> {
    directory: &'a Directory,
    temporary: OsString,
    name: OsString,
    file: File,
    is_finished: bool,
}

impl Unfinished<'_> {
    /// The file, for writing.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// The same file, opened for reading.
    pub(crate) fn read(&self) -> io::Result<File> {
        self.directory.read(&self.temporary)
    }

    /// Gives the file its final name, in place of a file that has this name.
    ///
    /// # Errors
    /// The errors of the operating system.
    pub fn finish(mut self) -> io::Result<()> {
        let Self { directory, temporary, name, .. } = &self;
        fcntl::renameat(directory, temporary.as_os_str(), directory, name.as_os_str())?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            // A file that can't be removed is in nobody's way.
            let _ = self.directory.remove(&self.temporary);
        }
    }
}

/// Flags to find a directory, and to look at its content.
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);
const READABLE_DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY);
/// Flags to make a file.
const EXCLUSIVELY: OFlag = OFlag::O_WRONLY.union(OFlag::O_CREAT).union(OFlag::O_EXCL);

/// Opens the entry of this name in a directory. Fails if the entry is a link.
fn open_at(dir: impl AsFd, name: &OsStr, flags: OFlag, mode: Mode) -> io::Result<File> {
    Ok(File::from(fcntl::openat(dir, name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, mode)?))
}

/// Opens a directory by a path that is trusted.
fn open_path(path: &Path) -> io::Result<File> {
    Ok(File::from(fcntl::open(path, DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?))
}

fn id(dir: &File) -> io::Result<Id> {
    let metadata = dir.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Walks a path to a directory; or returns the granted directory in which the path can be changed.
fn walk<'a>(path: &Path, writable: &'a Writable) -> io::Result<Result<File, &'a Path>> {
    let mounts = if writable.0.is_empty() { Mounts(Vec::new()) } else { Mounts::read() };
    let mut dir = open_path(Path::new("."))?;
    let mut links = 0;
    // The names that are still to be looked up, last first.
    let mut names = Vec::new();
    let add = |names: &mut Vec<OsString>, path: &Path| {
        names.extend(path.components().rev().map(|part| part.as_os_str().to_owned()));
    };
    add(&mut names, path);
    while let Some(name) = names.pop() {
        match Path::new(&name).components().next() {
            Some(Component::RootDir) => dir = open_path(Path::new("/"))?,
            // The one above a directory isn't looked up in it.
            Some(Component::ParentDir) => dir = open_at(&dir, &name, DIRECTORY, Mode::empty())?,
            Some(Component::Normal(_)) => {
                if let Some(granted) = writable.holding(&dir, &mounts)? {
                    return Ok(Err(granted));
                }
                match open_at(&dir, &name, DIRECTORY, Mode::empty()) {
                    Ok(next) => dir = next,
                    Err(error) => {
                        let Ok(target) = fcntl::readlinkat(&dir, name.as_os_str()) else { return Err(error) };
                        links += 1;
                        if links > LINKS_MAX {
                            return Err(Errno::ELOOP.into());
                        }
                        add(&mut names, Path::new(&target));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(match writable.holding(&dir, &mounts)? {
        Some(granted) => Err(granted),
        None => Ok(dir),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn mounts_are_read() {
        let line = br"1075 1066 0:64 /host/a\040b /mnt/c\134d rw,relatime master:27 - overlay overlay rw";
        let mount = Mount::parse(line).unwrap();
        assert_eq!((mount.id.as_slice(), &*mount.device), (&b"1075"[..], "0:64"));
        assert_eq!((&*mount.root, &*mount.point), (Path::new("/host/a b"), Path::new(r"/mnt/c\d")));
        assert!(Mount::parse(b"").is_none());
        assert_eq!(unescaped(br"\04\999"), Path::new(r"\04\999"));
        let folder = tempfile::tempdir().unwrap();
        let place = |path: &Path| Mounts::read().place(&open_path(path).unwrap()).unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        assert_eq!(place(&folder.path().join("below")).path, place(folder.path()).path.join("below"));
    }

    #[test]
    fn a_path_is_walked_as_the_kernel_walks_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("a/b")).unwrap();
        symlink("a/b/../b", path("link")).unwrap();
        symlink(path("link"), path("absolute")).unwrap();
        symlink("loop", path("loop")).unwrap();
        let none = Writable::default();
        for name in ["a/b", "link", "absolute", "absolute/../b", "./a/./b/", "a/../link"] {
            let walked = walk(&path(name), &none).unwrap().unwrap();
            assert_eq!(id(&walked).unwrap(), id(&open_path(&path(name)).unwrap()).unwrap(), "{name}");
        }
        for name in ["nothing", "a/nothing/b", "loop", "loop/x"] {
            let walked = walk(&path(name), &none).unwrap_err();
            assert_eq!(walked.raw_os_error(), open_path(&path(name)).unwrap_err().raw_os_error(), "{name}");
        }
    }

    /// The directory's path may lead elsewhere later.
    #[test]
    fn a_directory_stays_the_one_that_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("elsewhere")).unwrap();
        fs::create_dir_all(path("here")).unwrap();
        let directory = Directory::open(&path("here"), &Writable::default()).unwrap();
        fs::rename(path("here"), path("moved")).unwrap();
        symlink("elsewhere", path("here")).unwrap();
        let name = OsStr::new("file");
        directory.open_or_create(name).unwrap().write_all(b"first").unwrap();
        let mut next = directory.create(name, 0o600).unwrap();
        next.file().write_all(b"second").unwrap();
        let mut text = String::new();
        directory.read(name).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "first");
        next.finish().unwrap();
        directory.sync().unwrap();
        assert_eq!(fs::read(path("moved/file")).unwrap(), b"second");
        drop(directory.create(name, 0o600).unwrap());
        assert_eq!(fs::read_dir(path("moved")).unwrap().count(), 1, "what isn't finished is removed");
        assert_eq!(fs::read_dir(path("elsewhere")).unwrap().count(), 0);
    }

    /// Another process may have put a pipe in the place of a file.
    #[test]
    fn a_pipe_without_a_writer_is_opened_at_once() {
        let folder = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&folder.path().join("pipe"), Mode::S_IRWXU).unwrap();
        let directory = Directory::open(folder.path(), &Writable::default()).unwrap();
        let mut text = String::new();
        let read = || directory.read(OsStr::new("pipe")).unwrap().read_to_string(&mut text);
        assert_eq!(crate::testing::deadline::within_deadline(read).unwrap(), 0);
    }

    #[test]
    fn a_new_file_has_the_rights_that_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path(), &Writable::default()).unwrap();
        for mode in [0o600, 0o400] {
            let name = OsString::from(format!("{mode:o}"));
            directory.create(&name, mode).unwrap().finish().unwrap();
            let found = fs::metadata(folder.path().join(&name)).unwrap().mode();
            assert_eq!(found & 0o7777, mode);
        }
    }

    /// The last name of a path isn't looked up in it, and a file that is made there is where guests may write.
    #[test]
    fn a_granted_directory_is_refused_itself_and_below() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("granted/below")).unwrap();
        fs::create_dir_all(path("beside")).unwrap();
        let granted = path("granted");
        let writable = Writable::from_paths([&*granted].into_iter()).unwrap();
        for (name, is_refused) in [
            ("granted", true),
            ("granted/below", true),
            ("granted/..", false),
            ("beside", false),
            (".", false),
        ] {
            let opened = Directory::open(&path(name), &writable);
            assert_eq!(matches!(opened, Err(Error::Invalid { .. })), is_refused, "{name}");
            assert_eq!(opened.is_err(), is_refused, "{name}");
        }
    }

    #[test]
    fn a_random_name_is_known_from_others() {
        let is = |temporary: &str| is_unfinished(OsStr::new(temporary), OsStr::new("out"));
        assert!(is(".out.0123456789abcdef.tmp"));
        for other in [
            ".out.0123456789abcde.tmp",
            ".out.0123456789abcdef0.tmp",
            ".out.0123456789abcdeg.tmp",
            "out.0123456789abcdef.tmp",
            ".other.0123456789abcdef.tmp",
            ".out.0123456789abcdef",
            ".out..tmp",
            ".out.tmp",
        ] {
            assert!(!is(other), "{other}");
        }
    }
}
