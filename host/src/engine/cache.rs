//! Compiled modules on disk: `<cache>/<key>.cwasm`, one file a module.
//!
//! The content of such a file is executed, so a file is trusted only if nobody else could have written it: the folder and the file
//! must belong to the effective user and be closed to all others, and neither may be a symbolic link. Everything happens relative
//! to the opened folder, so the folder can't be exchanged for another one in between.
//!
//! A file is the artifact, a summary of the module in JSON, the summary's length, and a trailer: a magic word, and the
//! SHA-256 of the key and all that is before. wasmtime reads the artifact as an ELF image, through offsets in its header,
//! and ignores what follows. The checksum is for
//! accidents (a full disk, a power cut after the rename, a file copied over another): against them it is complete,
//! and cheaper than an fsync at each insertion. It is verified by the process that opens the file, not by those that load it,
//! and costs what reading the file does; so it isn't verified again as long as the file is [the same](super::verified).

use std::fs::{self, DirBuilder, File};
use std::hash::{Hash as _, Hasher};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{self, OFlag};
use nix::sys::stat::Mode;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use super::ownership::refuse_others;
use super::verified::{self, FileKind, Stamp, Sum, Verified};
use crate::cache_dirs::CacheDirs;
use crate::written::{Directory, is_unfinished};
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"SPCACHE2";
const SUM_LEN: usize = 32;
const TRAILER_LEN: u64 = (MAGIC.len() + SUM_LEN) as u64;
/// Bytes of the summary's length.
const LENGTH_LEN: u64 = 8;

/// Limits of the folder: it is kept below both of these.
const ENTRIES_MAX: usize = 200;
const BYTES_MAX: u64 = 1 << 30;

/// How exactly the time of an entry's last use is noted.
const USE_NOTED: Duration = Duration::from_secs(60 * 60);

/// The folder of compiled modules.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    dir: Directory,
    /// The files that needn't be read again.
    verified: Verified,
}

/// Names one compiled module: by the bytes it comes from, and by everything that decides what they compile to.
#[derive(Debug)]
pub(crate) struct Key(Sum);

impl Key {
    /// The key of the module whose contents have this SHA-256.
    pub(crate) fn new(engine: &Engine, module: &Sum) -> Self {
        let mut sha = Sha(Sha256::new());
        sha.0.update(module);
        engine.precompile_compatibility_hash().hash(&mut sha);
        // Everything that the checks before compilation depend on.
        sha.0.update(sandpool_abi::FINGERPRINT.to_le_bytes());
        sha.0.update(sandpool_abi::ABI_VERSION.to_le_bytes());
        sha.0.update(env!("CARGO_PKG_VERSION"));
        Self(sha.0.finalize().into())
    }

    /// The key as people write it.
    fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn file_name(&self) -> String {
        format!("{}.cwasm", self.hex())
    }
}

/// Names the settings with which an artifact must have been compiled for this engine to load it.
pub(crate) fn compatibility(engine: &Engine) -> String {
    Key::new(engine, &[0; SUM_LEN]).hex()
}

/// Feeds a `Hash` into SHA-256: wasmtime describes its settings only by that trait.
struct Sha(Sha256);

impl Hasher for Sha {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

impl Cache {
    /// Opens the user's cache, and makes it if need be.
    pub(crate) fn open() -> Result<Self> {
        let path = CacheDirs::find()?.modules;
        let open = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
            // O_NOFOLLOW alone would report a link as "not a directory".
            if fs::symlink_metadata(&path)?.is_symlink() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is a symbolic link"));
            }
            let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let dir = File::from(fcntl::open(&path, flags, Mode::empty())?);
            refuse_others(&dir)?;
            Ok(Directory::from_file(dir))
        };
        match open() {
            Ok(dir) => Ok(Self { verified: Verified::read(&dir), path, dir }),
            Err(source) => Err(failed(&path, source)),
        }
    }

    /// Returns the artifact of this key and the summary that it was stored with, if they can be trusted. Any other file counts as
    /// missing: the module is compiled again, and `put` replaces the file.
    pub(crate) fn get(&self, key: &Key) -> Option<(File, Vec<u8>)> {
        let mut file = self.dir.read(key.file_name().as_ref()).ok()?;
        let (stamp, now) = (Stamp::from_file(&file), SystemTime::now());
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || refuse_others(&file).is_err() {
            return None;
        }
        let len = metadata.len().checked_sub(TRAILER_LEN)?;
        let known = stamp.and_then(|stamp| self.verified.get(FileKind::Entry, &stamp));
        if known != Some(key.0) {
            let mut sha = Sha256::new_with_prefix(key.hex());
            copy((&mut file).take(len), &mut sha, io::sink()).ok()?;
            let mut trailer = Vec::new();
            file.read_to_end(&mut trailer).ok()?;
            if trailer.strip_prefix(MAGIC) != Some(sha.finalize().as_slice()) {
                return None;
            }
            if let Some(stamp) = stamp {
                Verified::add(&self.dir, FileKind::Entry, &stamp, key.0, now);
            }
        }
        let end = len.checked_sub(LENGTH_LEN)?;
        let mut length = [0; LENGTH_LEN as usize];
        file.read_exact_at(&mut length, end).ok()?;
        let begin = end.checked_sub(u64::from_le_bytes(length))?;
        let mut summary = vec![0; usize::try_from(end - begin).ok()?];
        file.read_exact_at(&mut summary, begin).ok()?;
        // Eviction goes by the age since the last use. The file has another stamp afterwards, so this isn't done each time.
        let is_noted =
            metadata.modified().is_ok_and(|used| now.duration_since(used).is_ok_and(|age| age < USE_NOTED));
        if !is_noted {
            let _ = file.set_modified(now);
        }
        Some((file, summary))
    }

    /// The SHA-256 of a module's file, if it is known without reading the file.
    pub(crate) fn module(&self, file: &ModuleFile) -> Option<Sum> {
        self.verified.get(FileKind::Module, file.stamp.as_ref()?)
    }

    /// Keeps the SHA-256 of a module's file for the next time.
    pub(crate) fn add_module(&self, file: &ModuleFile, sum: Sum) {
        if let Some(stamp) = &file.stamp {
            Verified::add(&self.dir, FileKind::Module, stamp, sum, file.opened);
        }
    }

    /// Stores an artifact with its summary, and returns the artifact as a read-only file.
    pub(crate) fn put(&self, key: &Key, artifact: impl io::Read, summary: &[u8]) -> Result<File> {
        let put = || {
            let mut entry = self.dir.create(key.file_name().as_ref(), 0o600)?;
            let mut sha = Sha256::new_with_prefix(key.hex());
            copy(
                artifact.chain(summary).chain(&(summary.len() as u64).to_le_bytes()[..]),
                &mut sha,
                entry.file(),
            )?;
            entry.file().write_all(MAGIC)?;
            entry.file().write_all(&sha.finalize())?;
            // Opened before the file has its name, so that it is certainly this file.
            let artifact = entry.read()?;
            entry.finish()?;
            Ok(artifact)
        };
        let file = put().map_err(|source| failed(&self.path, source))?;
        self.evict(&key.file_name());
        Ok(file)
    }

    /// Removes the files that were unused for longest. A process that has such a file open keeps it.
    fn evict(&self, keep: &str) {
        let names = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let entries = names.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let stat = self.dir.stat(name.as_ref()).ok()?;
            Some(Entry { name, bytes: u64::try_from(stat.st_size).unwrap_or_default(), used: stat.st_mtime })
        });
        for victim in victims(entries.filter(|entry| is_ours(&entry.name) && entry.name != keep).collect()) {
            let _ = self.dir.remove(victim.as_ref());
        }
    }
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Cache { path: path.to_owned(), source }
}

/// Copies everything from a reader, and hashes it on the way.
fn copy(from: impl io::Read, sha: &mut Sha256, to: impl io::Write) -> io::Result<()> {
    struct Tee<'a, W>(&'a mut Sha256, W);
    impl<W: io::Write> io::Write for Tee<'_, W> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let written = self.1.write(bytes)?;
            self.0.update(bytes.get(..written).unwrap_or_default());
            Ok(written)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.1.flush()
        }
    }
    io::copy(&mut io::BufReader::with_capacity(128 << 10, from), &mut Tee(sha, to))?;
    Ok(())
}

/// Names that this cache makes. A folder given by SANDPOOL_CACHE_DIR may hold other things.
fn is_ours(name: &str) -> bool {
    if is_unfinished(name.as_ref(), verified::NAME.as_ref()) {
        return true;
    }
    let unfinished = name.strip_prefix('.').and_then(|name| name.rsplit_once(".cwasm"));
    let key = match unfinished {
        Some((key, _)) if is_unfinished(name.as_ref(), format!("{key}.cwasm").as_ref()) => key,
        Some(_) => return false,
        None => name.strip_suffix(".cwasm").unwrap_or_default(),
    };
    key.len() == 2 * SUM_LEN && key.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A module's file that is open and not yet read.
#[derive(Debug)]
pub(crate) struct ModuleFile {
    pub(crate) file: File,
    stamp: Option<Stamp>,
    opened: SystemTime,
}

impl ModuleFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // Before the file is read: a change while it is read changes the stamp.
        Ok(Self { stamp: Stamp::from_file(&file), opened: SystemTime::now(), file })
    }

    /// The file's size, if the file may be known.
    pub(crate) fn size(&self) -> Option<u64> {
        self.stamp.map(|stamp| stamp.size)
    }
}

#[derive(Debug)]
struct Entry {
    name: String,
    bytes: u64,
    /// seconds since the epoch
    used: i64,
}

/// The entries that must go so that the remaining ones and one more stay below the limits.
fn victims(mut entries: Vec<Entry>) -> Vec<String> {
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
    let mut bytes = 0_u64;
    let kept = entries.iter().take(ENTRIES_MAX - 1).take_while(|entry| {
        bytes = bytes.saturating_add(entry.bytes);
        bytes <= BYTES_MAX
    });
    let kept = kept.count();
    entries.into_iter().skip(kept).map(|entry| entry.name).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().unwrap();
        let dir = Directory::from_file(File::open(folder.path()).unwrap());
        let path = folder.path().to_owned();
        (folder, Cache { path, dir, verified: Verified::default() })
    }

    fn key() -> Key {
        Key::new(&crate::engine::config::engine(Default::default()).unwrap(), &[1; SUM_LEN])
    }

    #[test]
    fn what_is_put_is_got() {
        let (_folder, cache) = cache();
        assert!(cache.get(&key()).is_none());
        cache.put(&key(), &b"artifact"[..], b"summary").unwrap();
        let (mut file, summary) = cache.get(&key()).unwrap();
        assert_eq!(summary, b"summary");
        assert!(file.write_all(b"x").is_err(), "read-only");
        assert_eq!(fs::read_dir(&cache.path).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn the_trailer_does_not_disturb_loading() {
        let (_folder, cache) = cache();
        let engine = crate::engine::config::engine(Default::default()).unwrap();
        let artifact = engine.precompile_module(br#"(module (func (export "_start")))"#).unwrap();
        cache.put(&key(), artifact.as_slice(), b"summary").unwrap();
        let module = crate::engine::load(&engine, cache.get(&key()).unwrap().0).unwrap();
        assert!(module.get_export("_start").is_some());
    }

    #[test]
    fn a_damaged_file_is_none() {
        let (_folder, cache) = cache();
        cache.put(&key(), &b"artifact"[..], b"summary").unwrap();
        let path = cache.path.join(key().file_name());
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            if let Some(byte) = flipped.get_mut(at) {
                *byte ^= 1;
            }
            fs::write(&path, flipped).unwrap();
            assert!(cache.get(&key()).is_none(), "byte {at} flipped");
            fs::write(&path, whole.get(..at).unwrap()).unwrap();
            assert!(cache.get(&key()).is_none(), "cut at {at}");
        }
        fs::write(&path, &whole).unwrap();
        assert!(cache.get(&key()).is_some());
        assert!(cache.get(&Key([0; SUM_LEN])).is_none());
        fs::rename(&path, cache.path.join(format!("{}.cwasm", "0".repeat(64)))).unwrap();
        assert!(cache.get(&Key([0; SUM_LEN])).is_none(), "the artifact of another key");
    }

    #[test]
    fn files_open_to_others_and_links_are_none() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let (_folder, cache) = cache();
        cache.put(&key(), &b"artifact"[..], b"summary").unwrap();
        let path = cache.path.join(key().file_name());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(cache.get(&key()).is_none());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(cache.get(&key()).is_some());
        fs::rename(&path, cache.path.join("elsewhere")).unwrap();
        symlink("elsewhere", &path).unwrap();
        assert!(cache.get(&key()).is_none());
    }

    #[test]
    fn an_entry_that_was_verified_is_not_read_until_it_changes() {
        // A temporary directory may be in memory, where times tell nothing.
        let beside = std::env::current_exe().unwrap();
        let folder = tempfile::tempdir_in(beside.parent().unwrap()).unwrap();
        let open = || {
            let dir = Directory::from_file(File::open(folder.path()).unwrap());
            Cache { path: folder.path().to_owned(), verified: Verified::read(&dir), dir }
        };
        open().put(&key(), &b"artifact"[..], b"summary").unwrap();
        let path = folder.path().join(key().file_name());
        let mut damaged = fs::read(&path).unwrap();
        *damaged.first_mut().unwrap() ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert!(open().get(&key()).is_none());

        let stamp = Stamp::from_file(&File::open(&path).unwrap()).unwrap();
        let later = SystemTime::now() + Duration::from_secs(60);
        Verified::add(&open().dir, FileKind::Entry, &stamp, [0; SUM_LEN], later);
        assert!(open().get(&key()).is_none(), "it was verified as the entry of another key");
        Verified::add(&open().dir, FileKind::Entry, &stamp, key().0, later);
        let (_, summary) = open().get(&key()).unwrap();
        assert_eq!(summary, b"summary", "the damage isn't seen, because the file isn't read");
        fs::write(&path, &damaged).unwrap();
        assert!(open().get(&key()).is_none(), "the same bytes, written again");
    }

    #[test]
    fn only_own_files_are_evicted_oldest_first() {
        let name = "a".repeat(64);
        assert!(is_ours(&format!("{name}.cwasm")));
        assert!(is_ours(&format!(".{name}.cwasm.0123456789abcdef.tmp")));
        assert!(!is_ours(&format!(".{name}.cwasm.mine.tmp")));
        assert!(is_ours(".verified.0123456789abcdef.tmp"));
        assert!(!is_ours("verified"));
        assert!(!is_ours("thesis.tmp"));
        assert!(!is_ours(&format!("{name}.txt")));

        let entry = |at: usize, bytes| Entry { name: at.to_string(), bytes, used: at as i64 };
        assert!(victims((0..ENTRIES_MAX - 1).map(|at| entry(at, 1)).collect()).is_empty());
        assert_eq!(victims((0..ENTRIES_MAX + 1).map(|at| entry(at, 1)).collect()), ["1", "0"]);
        assert_eq!(victims(vec![entry(0, 1), entry(1, BYTES_MAX), entry(2, 1)]), ["1", "0"]);
    }
}
