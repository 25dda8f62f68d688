//! Files whose contents were read and hashed before, and needn't be again: modules by their SHA-256, entries of the cache by their
//! key.
//!
//! A file is known by its [`Stamp`]: device, inode, size, and the times of the last change of its contents and of its inode, with
//! nanoseconds. Each change of a file's contents changes its inode's time, which only the kernel sets. So the same stamp means the
//! same contents, except for these cases, in which a file is read and hashed again:
//!
//! - **Recent changes.** Clocks of file systems tick slowly, so a file that is changed twice within a tick has the same stamp after
//!   both. A stamp is kept only if its times were [`SETTLED`] before the file was read: a change after that has another time.
//! - **Other file systems** than the listed ones. Servers and programs may tell any times; a file in `tmpfs` that is written through
//!   a mapping keeps its times.
//! - **Another boot.** After a power cut, a file may have lost contents that were read from memory before.
//!
//! The digests lie in one file of the cache, which is trusted on the same terms as the others there. The file is replaced as a
//! whole, so of two processes that add to it at once, one may lose its addition: then a file is hashed once more.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use nix::sys::statfs::{FsType, fstatfs};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ownership::refuse_others;
use crate::codec;
use crate::written::Directory;

/// The SHA-256 of a file's contents, or the key of a cache's entry.
pub(super) type Sum = [u8; 32];

/// The name of the file.
pub(super) const NAME: &str = "verified";

/// The most files that are known of each kind; the oldest are forgotten first.
const FILES_MAX: usize = 256;

/// The longest file that is read.
const LEN_MAX: u64 = 1 << 20;

const MAGIC: &[u8; 8] = b"SPVERIF1";

/// How long a file must not have changed before it was read. The clocks of the listed file systems tick at least each 10 ms, or each
/// second on old ones; the rest is for clocks that are set.
const SETTLED: Duration = Duration::from_secs(3);

/// File systems that set a file's times by this machine's clock at each change: ext2 to ext4, XFS, Btrfs, F2FS, ZFS, bcachefs, and
/// overlays, which have the times of the file systems below.
const KNOWN_FILE_SYSTEMS: [u32; 7] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x2fc1_2fc1, 0xca45_1a4e, 0x794c_7630];

/// The identity of a file with the contents that it has now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    dev: u64,
    ino: u64,
    pub(super) size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of an open file; `None` if a stamp would not tell whether the file's contents have changed.
    pub(super) fn from_file(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        let FsType(kind) = fstatfs(file).ok()?.filesystem_type();
        let is_known = u32::try_from(kind).is_ok_and(|kind| KNOWN_FILE_SYSTEMS.contains(&kind));
        (metadata.is_file() && is_known).then(|| Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Whether a change of the file after this time is certain to change the stamp.
    fn is_settled(&self, at: SystemTime) -> bool {
        let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let settled = |(seconds, nanos): (i64, i64)| {
            // A time before 1970 is nothing that the kernel's clock has set.
            let (Ok(seconds), Ok(nanos)) = (u64::try_from(seconds), u32::try_from(nanos)) else {
                return false;
            };
            Duration::new(seconds, nanos).checked_add(SETTLED).is_some_and(|time| time <= at)
        };
        // Anybody may set the time of modification; the other one is the kernel's.
        settled(self.changed) && settled(self.modified)
    }
}

/// A kind of files.
#[derive(Debug, Clone, Copy)]
pub(super) enum FileKind {
    /// Modules, with the SHA-256 of their contents.
    Module,
    /// Entries of the cache, with their keys.
    Entry,
}

/// The files that are known.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Verified {
    boot: String,
    modules: Vec<(Stamp, Sum)>,
    entries: Vec<(Stamp, Sum)>,
}

impl Verified {
    /// Reads what is known; nothing, if it can't be trusted.
    pub(super) fn read(dir: &Directory) -> Self {
        let boot = boot().unwrap_or_default();
        let known = Self::read_file(dir).ok().filter(|known: &Self| !boot.is_empty() && known.boot == boot);
        known.unwrap_or_else(|| Self { boot, ..Self::default() })
    }

    fn read_file(dir: &Directory) -> io::Result<Self> {
        let file = dir.read(NAME.as_ref())?;
        refuse_others(&file)?;
        let mut bytes = Vec::new();
        file.take(LEN_MAX).read_to_end(&mut bytes)?;
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
        let (sum, content) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
        if Sha256::digest(content).as_slice() != sum {
            return Err(damaged());
        }
        codec::decode_all(content)
    }

    fn write(&self, dir: &Directory) -> io::Result<()> {
        let content = codec::encode(self)?;
        let mut file = dir.create(NAME.as_ref(), 0o600)?;
        file.file().write_all(MAGIC)?;
        file.file().write_all(&Sha256::digest(&content))?;
        file.file().write_all(&content)?;
        file.finish()
    }

    fn of_kind(&mut self, kind: FileKind) -> &mut Vec<(Stamp, Sum)> {
        match kind {
            FileKind::Module => &mut self.modules,
            FileKind::Entry => &mut self.entries,
        }
    }

    /// The sum of the file with this stamp, if it is known.
    pub(super) fn get(&self, kind: FileKind, stamp: &Stamp) -> Option<Sum> {
        let files = match kind {
            FileKind::Module => &self.modules,
            FileKind::Entry => &self.entries,
        };
        files.iter().find(|(known, _)| known == stamp).map(|(_, sum)| *sum)
    }

    /// Adds a file that had this stamp at this time, and was read after it. A failure only means that the file is read again.
    pub(super) fn add(dir: &Directory, kind: FileKind, stamp: &Stamp, sum: Sum, read_at: SystemTime) {
        if !stamp.is_settled(read_at) {
            return;
        }
        let mut known = Self::read(dir);
        if known.boot.is_empty() || known.get(kind, stamp) == Some(sum) {
            return;
        }
        let files = known.of_kind(kind);
        files.retain(|(other, _)| (other.dev, other.ino) != (stamp.dev, stamp.ino));
        let forgotten = (files.len() + 1).saturating_sub(FILES_MAX);
        files.drain(..forgotten);
        files.push((*stamp, sum));
        let _ = known.write(dir);
    }
}

/// A text that is another one after each start of the machine.
fn boot() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct Folder {
        folder: tempfile::TempDir,
        dir: Directory,
    }

    impl Folder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let dir = Directory::from_file(File::open(folder.path()).unwrap());
            Self { folder, dir }
        }

        fn get(&self, kind: FileKind, stamp: &Stamp) -> Option<Sum> {
            Verified::read(&self.dir).get(kind, stamp)
        }
    }

    fn stamp(ino: u64) -> Stamp {
        Stamp { dev: 1, ino, size: 3, modified: (1000, 5), changed: (1000, 6) }
    }

    const LATER: Duration = Duration::from_secs(5000);

    fn add(folder: &Folder, kind: FileKind, stamp: &Stamp, sum: Sum) {
        Verified::add(&folder.dir, kind, stamp, sum, SystemTime::UNIX_EPOCH + LATER);
    }

    #[test]
    fn a_file_is_known_by_all_of_its_stamp() {
        let folder = Folder::new();
        add(&folder, FileKind::Module, &stamp(1), [1; 32]);
        assert_eq!(folder.get(FileKind::Module, &stamp(1)), Some([1; 32]));
        assert_eq!(folder.get(FileKind::Entry, &stamp(1)), None);
        for other in [
            Stamp { dev: 2, ..stamp(1) },
            Stamp { ino: 2, ..stamp(1) },
            Stamp { size: 4, ..stamp(1) },
            Stamp { modified: (1000, 4), ..stamp(1) },
            Stamp { modified: (1001, 5), ..stamp(1) },
            Stamp { changed: (1000, 7), ..stamp(1) },
            Stamp { changed: (999, 6), ..stamp(1) },
        ] {
            assert_eq!(folder.get(FileKind::Module, &other), None, "{other:?}");
        }
        let changed = Stamp { changed: (1001, 0), ..stamp(1) };
        add(&folder, FileKind::Module, &changed, [2; 32]);
        assert_eq!(folder.get(FileKind::Module, &changed), Some([2; 32]));
        assert_eq!(folder.get(FileKind::Module, &stamp(1)), None, "there is one stamp for a file");
    }

    #[test]
    fn a_file_that_changed_a_moment_ago_is_not_known() {
        let at = |seconds, nanos| SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        for (read_at, is_known) in
            [(at(1003, 6), true), (at(1003, 5), false), (at(1000, 6), false), (at(0, 0), false)]
        {
            let folder = Folder::new();
            Verified::add(&folder.dir, FileKind::Entry, &stamp(1), [1; 32], read_at);
            assert_eq!(folder.get(FileKind::Entry, &stamp(1)).is_some(), is_known, "{read_at:?}");
        }
        let ahead = Stamp { modified: (4999, 0), ..stamp(1) };
        assert!(!ahead.is_settled(at(5000, 0)));
        assert!(!Stamp { changed: (-1, 0), ..stamp(1) }.is_settled(at(5000, 0)));
        assert!(!Stamp { changed: (i64::MAX, 0), ..stamp(1) }.is_settled(at(5000, 0)));
    }

    #[test]
    fn a_record_that_others_could_have_written_is_not_trusted() {
        let folder = Folder::new();
        add(&folder, FileKind::Module, &stamp(1), [1; 32]);
        let path = folder.folder.path().join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        for mode in [0o620, 0o602, 0o640] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(folder.get(FileKind::Module, &stamp(1)), None, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(folder.get(FileKind::Module, &stamp(1)).is_some());
        let elsewhere = folder.folder.path().join("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert_eq!(folder.get(FileKind::Module, &stamp(1)), None, "a link");
    }

    #[test]
    fn a_damaged_record_is_none_and_is_replaced() {
        let folder = Folder::new();
        add(&folder, FileKind::Module, &stamp(1), [1; 32]);
        let path = folder.folder.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            if let Some(byte) = flipped.get_mut(at) {
                *byte ^= 1;
            }
            fs::write(&path, flipped).unwrap();
            assert_eq!(folder.get(FileKind::Module, &stamp(1)), None, "byte {at} flipped");
            fs::write(&path, whole.get(..at).unwrap()).unwrap();
            assert_eq!(folder.get(FileKind::Module, &stamp(1)), None, "cut at {at}");
        }
        add(&folder, FileKind::Module, &stamp(2), [2; 32]);
        assert_eq!(folder.get(FileKind::Module, &stamp(2)), Some([2; 32]));
    }

    #[test]
    fn another_boot_knows_nothing() {
        let folder = Folder::new();
        let known =
            Verified { boot: "before".to_owned(), modules: vec![(stamp(1), [1; 32])], entries: Vec::new() };
        known.write(&folder.dir).unwrap();
        assert_eq!(folder.get(FileKind::Module, &stamp(1)), None);
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let folder = Folder::new();
        let known = Verified {
            boot: boot().unwrap(),
            modules: (0..FILES_MAX as u64).map(|ino| (stamp(ino), [0; 32])).collect(),
            entries: Vec::new(),
        };
        known.write(&folder.dir).unwrap();
        add(&folder, FileKind::Module, &stamp(9999), [9; 32]);
        assert!(folder.get(FileKind::Module, &stamp(9999)).is_some());
        assert_eq!(folder.get(FileKind::Module, &stamp(0)), None);
        assert!(folder.get(FileKind::Module, &stamp(1)).is_some());
    }

    #[test]
    fn only_files_have_stamps() {
        assert!(Stamp::from_file(&File::open("/").unwrap()).is_none());
        assert!(
            Stamp::from_file(&File::open("/proc/version").unwrap()).is_none(),
            "its size is 0, whatever it says"
        );
    }
}
