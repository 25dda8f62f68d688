//! The options of a build, and the directory that its modules are put into.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sandpool::command_support::{Directory, Writable};

use super::Error;

/// Names the target directory of all guests.
pub(super) const TARGET_DIR_VARIABLE: &str = "SANDPOOL_GUEST_TARGET_DIR";

/// The profile and the program to build, and the place of the modules.
#[derive(Debug, Clone)]
pub(crate) struct BuildOptions {
    /// Whether to compile with optimizations (the default).
    pub(crate) release: bool,
    /// Compile only the program of this name.
    pub(crate) bin: Option<String>,
    /// Cargo's target directory, where the modules are found as well, as cargo lays them out. If it is `None`, the environment's
    /// `SANDPOOL_GUEST_TARGET_DIR` is used. If that isn't set either, packages are compiled in `guests` in the cache directory
    /// (`SANDPOOL_CACHE_DIR`, else `$XDG_CACHE_HOME/sandpool`, else `~/.cache/sandpool`), and the modules are put where cargo by
    /// itself would put them, under the workspace's `target`, so that programs of the same name don't replace each other.
    pub(crate) target_dir: Option<PathBuf>,
}

impl Default for BuildOptions {
    fn default() -> Self {
        Self { release: true, bin: None, target_dir: None }
    }
}

/// Copies a module to `place/PROFILE/NAME`, which users of the old module see at once.
pub(super) fn copy(module: &Path, place: &Path) -> anyhow::Result<PathBuf> {
    let failed = |error: io::Error| cannot_write(place, &error);
    let parts = || Some((module.parent()?.file_name()?, module.file_name()?));
    let (profile, name) = parts().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    let folder = place.join(profile);
    fs::create_dir_all(&folder).map_err(failed)?;
    let directory = Directory::open(&folder, &Writable::default())?;
    let copy = || {
        let mut from = File::open(module)?;
        let mut copy = directory.create(name, from.metadata()?.mode() & 0o777)?;
        io::copy(&mut from, copy.file())?;
        copy.finish()
    };
    copy().map_err(failed)?;
    Ok(folder.join(name))
}

pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::new(
        &format!("cannot write {}: {error}", path.display()),
        &format!("{TARGET_DIR_VARIABLE} names another place to build guests in"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn modules_are_not_written_through_links() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        fs::create_dir_all(path("made/release")).unwrap();
        fs::create_dir_all(path("place/release")).unwrap();
        fs::write(path("made/release/task.wasm"), "module").unwrap();
        fs::write(path("victim"), "precious").unwrap();
        for link in ["task.wasm".to_owned(), format!(".task.wasm.{}", std::process::id())] {
            symlink(path("victim"), path("place/release").join(link)).unwrap();
        }
        copy(&path("made/release/task.wasm"), &path("place")).unwrap();
        assert_eq!(fs::read(path("victim")).unwrap(), b"precious");
        assert_eq!(fs::read(path("place/release/task.wasm")).unwrap(), b"module");
    }
}
