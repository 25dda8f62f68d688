//! The progress of a map, in a file beside its output, so that a later map can go on from there.
//!
//! The file says which records are done, which of them have failed, and how long the output was when all others were in it, and no
//! more. It is replaced as a whole, after the output that it describes has reached the disk. So if the command or the machine ends
//! for any reason, the next command cuts off the output after that length, and does those records again. The journal stays when all
//! records are done, and says so: then only failed records can be tried again.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use sandpool::Error;
use sandpool::command_support::Directory;
use serde::{Deserialize, Serialize};

use super::ranges::Ranges;

/// The version of the file's format.
const VERSION: u32 = 2;

/// The end of a journal's name.
const END: &str = ".sandpool";

/// The state of a map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct MapState {
    /// The records that are done: their results, or their failures, are written.
    pub(super) done: Ranges,
    /// The records among them that have failed.
    pub(super) failed: Ranges,
    /// All records of the input are done.
    pub(super) is_finished: bool,
    /// The length of the output with these records.
    pub(super) output: u64,
    /// The length of the file of failures with these records; without a value, it is 0.
    pub(super) errors: Option<u64>,
}

/// The state as it is written in the file.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    version: u32,
    of: Identity,
    /// The number of records that are done, from the first on without a gap.
    done: u64,
    /// The records after these that are done: ranges, each with its first record and the first one after it.
    beyond: Vec<(u64, u64)>,
    failed: Vec<(u64, u64)>,
    is_finished: bool,
    output: u64,
    errors: Option<u64>,
}

impl Written {
    fn new(of: Identity, state: &MapState) -> Self {
        let MapState { done, failed, is_finished, output, errors } = state;
        Self {
            version: VERSION,
            of,
            done: done.first_gap(),
            beyond: done.pairs().filter(|(start, _)| *start > 0).collect(),
            failed: failed.pairs().collect(),
            is_finished: *is_finished,
            output: *output,
            errors: *errors,
        }
    }

    fn into_state(self) -> MapState {
        let Self { done, beyond, failed, is_finished, output, errors, .. } = self;
        MapState {
            done: Some((0, done)).into_iter().chain(beyond).collect(),
            failed: failed.into_iter().collect(),
            is_finished,
            output,
            errors,
        }
    }
}

/// Identity of a map: its input, and the task and module that it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The SHA-256 of the module.
    pub(super) module: String,
    pub(super) task: String,
    pub(super) format: String,
    /// Length and modification time of the input, if it is a file.
    pub(super) input: Option<(u64, i64, i64)>,
}

impl Identity {
    /// The module is given by its SHA-256.
    pub(super) fn new(module: [u8; 32], task: &str, format: &str, input: &Metadata) -> Self {
        Self {
            module: module.iter().map(|byte| format!("{byte:02x}")).collect(),
            task: task.to_owned(),
            format: format.to_owned(),
            input: input.is_file().then(|| (input.len(), input.mtime(), input.mtime_nsec())),
        }
    }

    /// The part in which the other map differs, if any.
    fn difference(&self, other: &Self) -> Option<&'static str> {
        [
            (self.module != other.module, "module"),
            (self.task != other.task, "task"),
            (self.format != other.format, "format"),
            (self.input != other.input, "input"),
        ]
        .into_iter()
        .find_map(|(is_other, what)| is_other.then_some(what))
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct Journal {
    directory: Directory,
    name: OsString,
    /// The path for messages.
    path: String,
    of: Identity,
}

impl Journal {
    /// The journal that belongs to the output of this path, and lies beside it.
    pub(super) fn new(path: &Path, (directory, name): (Directory, OsString), of: Identity) -> Self {
        Self { directory, name: Self::name_of(&name), path: format!("{}{END}", path.display()), of }
    }

    /// The name of the journal that belongs to an output of this name.
    pub(super) fn name_of(output: &OsStr) -> OsString {
        let mut name = output.to_owned();
        name.push(END);
        name
    }

    /// The state in the file, if there is one. Fails if the file is about another map.
    pub(super) fn load(&self) -> anyhow::Result<Option<MapState>> {
        let path = &self.path;
        self.remove_unfinished()?;
        let mut text = Vec::new();
        let read = self.directory.read(&self.name).and_then(|mut file| file.read_to_end(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {path}"))?,
        };
        let refuse = |what: String| {
            Err(Error::Invalid { what, hint: Some("without --resume, the command begins anew".to_owned()) }
                .into())
        };
        match serde_json::from_slice::<Written>(&text) {
            Ok(written) if written.version == VERSION => match self.of.difference(&written.of) {
                None => Ok(Some(written.into_state())),
                Some(what) => refuse(format!("cannot resume: {path} is of another {what}")),
            },
            _ => refuse(format!("cannot resume: {path} is not of this version of Sandpool, or is damaged")),
        }
    }

    /// Replaces the state in the file. The data that it describes in other files must be on the disk.
    pub(super) fn save(&self, state: &MapState) -> anyhow::Result<()> {
        let replace = || -> io::Result<()> {
            let mut next = self.directory.create(&self.name, 0o666)?;
            next.file().write_all(&serde_json::to_vec(&Written::new(self.of.clone(), state))?)?;
            next.file().sync_all()?;
            next.finish()?;
            self.directory.sync()
        };
        replace().with_context(|| format!("cannot write {}", self.path))
    }

    /// The file's metadata, if there is a file.
    pub(super) fn metadata(&self) -> Option<Metadata> {
        self.directory.read(&self.name).and_then(|file| file.metadata()).ok()
    }

    /// Begins anew: removes the state of an earlier map, before the files that it describes change. The removal has reached the
    /// disk when this returns.
    pub(super) fn begin(&self) -> anyhow::Result<()> {
        self.remove_unfinished()?;
        let is_there = self.metadata().is_some();
        let removed = self.directory.remove(&self.name);
        let removed = removed.and_then(|()| if is_there { self.directory.sync() } else { Ok(()) });
        removed.with_context(|| format!("cannot remove {}", self.path))
    }

    /// Removes unfinished files that a killed command has left.
    fn remove_unfinished(&self) -> anyhow::Result<()> {
        let removed = self.directory.remove_unfinished(&self.name);
        removed.with_context(|| format!("cannot remove what is left of {}", self.path))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::fs::{self, File};
    use std::time::{Duration, UNIX_EPOCH};

    use sandpool::command_support::Writable;

    use super::*;

    #[test]
    fn a_journal_is_of_one_map() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("input"), "input").unwrap();
        let identity = |module: &str, task: &str, format: &str, input: &str| {
            let module = [u8::try_from(module.len()).unwrap(); 32];
            Identity::new(module, task, format, &fs::metadata(path(input)).unwrap())
        };
        let directory = || Directory::open(folder.path(), &Writable::default()).unwrap();
        let journal = |of| Journal::new(&path("output"), (directory(), "output".into()), of);
        let own = || journal(identity("module", "task", "lines", "input"));
        assert_eq!(own().load().unwrap(), None);
        let state = MapState {
            done: [(0, 5), (7, 9), (11, 12)].into_iter().collect(),
            failed: [(0, 1), (8, 9)].into_iter().collect(),
            is_finished: false,
            output: 100,
            errors: Some(3),
        };
        for state in [
            state.clone(),
            MapState { is_finished: true, errors: None, ..state.clone() },
            MapState { done: Some((2, 3)).into_iter().collect(), ..state },
            MapState::default(),
        ] {
            own().save(&state).unwrap();
            assert_eq!(own().load().unwrap().unwrap(), state);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
        // A killed command leaves some, until the next command begins.
        let names = [".output.sandpool.0123456789abcdef.tmp", ".output.sandpool.mine.tmp"];
        names.iter().for_each(|name| fs::write(path(name), "").unwrap());
        own().load().unwrap();
        assert_eq!(names.map(|name| path(name).exists()), [false, true]);

        fs::write(path("other"), "other").unwrap();
        for (what, other) in [
            ("module", identity("other", "task", "lines", "input")),
            ("task", identity("module", "other", "lines", "input")),
            ("format", identity("module", "task", "raw", "input")),
            ("input", identity("module", "task", "lines", "other")),
        ] {
            let error = journal(other).load().unwrap_err().to_string();
            assert!(error.contains(&format!("is of another {what}")), "{error}");
        }
        // The same number of bytes, written a moment later.
        let set = |nanos| {
            let file = File::options().write(true).open(path("input")).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::new(1_000_000_000, nanos)).unwrap();
        };
        set(1);
        own().save(&MapState::default()).unwrap();
        assert!(own().load().is_ok());
        set(2);
        let error = own().load().unwrap_err().to_string();
        assert!(error.contains("is of another input"), "{error}");
        set(1);

        let whole = fs::read(path("output.sandpool")).unwrap();
        let later = String::from_utf8(whole.clone())
            .unwrap()
            .replace(&format!("\"version\":{VERSION},"), &format!("\"version\":{},", VERSION + 1));
        assert_ne!(later.as_bytes(), whole);
        for damaged in
            [b"".as_slice(), whole.get(..whole.len() - 1).unwrap(), b"{\"version\":2}", later.as_bytes()]
        {
            fs::write(path("output.sandpool"), damaged).unwrap();
            assert!(own().load().unwrap_err().to_string().contains("damaged"));
        }
        own().begin().unwrap();
        own().begin().unwrap();
        assert_eq!(own().load().unwrap(), None);
    }
}
