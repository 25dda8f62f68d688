//! How far a map has come, in a file beside its output, so that another one can go on from there.
//!
//! The file says which records are done, and how long the output was when they all were in it, and no other. It is
//! replaced as a whole, after what it says of the output has reached the disk. So whatever ends the command, and the
//! machine with it: what is behind that length is cut off, and those records are done again.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use sandpool::Error;
use sandpool::written::Directory;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The version of what is in the file.
const VERSION: u32 = 1;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    version: u32,
    pub(super) of: Identity,
    /// So many records are done, from the first on.
    pub(super) done: u64,
    /// And these beyond, if results needn't come in order.
    pub(super) beyond: Vec<u64>,
    /// How many of all that are done have failed.
    pub(super) failed: u64,
    /// How long the output is with them.
    pub(super) output: u64,
    /// How long the file of failures is, if there is one.
    pub(super) errors: Option<u64>,
}

/// What is mapped, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The SHA-256 of the module.
    pub(super) module: String,
    pub(super) task: String,
    pub(super) format: String,
    /// Length and time of the input, if it is a file.
    pub(super) input: Option<(u64, i64, i64)>,
}

impl Identity {
    pub(super) fn new(module: &Path, task: &str, format: &str, input: &fs::Metadata) -> anyhow::Result<Self> {
        let mut sha = Sha256::new();
        let mut file = File::open(module).with_context(|| format!("cannot read {}", module.display()))?;
        let mut chunk = vec![0; 64 << 10];
        loop {
            let len = file.read(&mut chunk).with_context(|| format!("cannot read {}", module.display()))?;
            let Some(bytes) = chunk.get(..len).filter(|bytes| !bytes.is_empty()) else { break };
            sha.update(bytes);
        }
        Ok(Self {
            module: sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            task: task.to_owned(),
            format: format.to_owned(),
            input: input.is_file().then(|| (input.len(), input.mtime(), input.mtime_nsec())),
        })
    }

    /// What of it is another one, if anything is.
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
    /// For messages.
    path: String,
    of: Identity,
}

impl Journal {
    /// The one that belongs to the output of this path, and lies beside it.
    pub(super) fn of(path: &Path, (directory, mut name): (Directory, OsString), of: Identity) -> Self {
        const END: &str = ".sandpool";
        name.push(END);
        Self { directory, name, path: format!("{}{END}", path.display()), of }
    }

    /// What it says, if there is one. An error if that is about something else.
    pub(super) fn load(&self) -> anyhow::Result<Option<State>> {
        let path = &self.path;
        self.remove_unfinished()?;
        let mut text = Vec::new();
        let read = self.directory.read(&self.name).and_then(|mut file| file.read_to_end(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {path}"))?,
        };
        let refuse = |what: String| {
            Err(Error::Invalid { what, hint: Some("without --resume it begins anew".to_owned()) }.into())
        };
        match serde_json::from_slice::<State>(&text) {
            Ok(state) if state.version == VERSION => match self.of.difference(&state.of) {
                None => Ok(Some(state)),
                Some(what) => refuse(format!("cannot resume: the {what} is another one than in {path}")),
            },
            _ => refuse(format!("cannot resume: {path} is not of this version of Sandpool, or is damaged")),
        }
    }

    /// Replaces what it says. What it says of other files must be on the disk.
    pub(super) fn save(
        &self,
        done: &Done,
        failed: u64,
        output: u64,
        errors: Option<u64>,
    ) -> anyhow::Result<()> {
        let Done { first, beyond } = done;
        let state = State {
            version: VERSION,
            of: self.of.clone(),
            done: *first,
            beyond: beyond.iter().copied().collect(),
            failed,
            output,
            errors,
        };
        let replace = || -> io::Result<()> {
            let mut next = self.directory.create(&self.name, 0o666)?;
            next.file().write_all(&serde_json::to_vec(&state)?)?;
            next.file().sync_all()?;
            next.finish()?;
            self.directory.sync()
        };
        replace().with_context(|| format!("cannot write {}", self.path))
    }

    /// Begins anew: nothing is left to go on from.
    pub(super) fn begin(&self) -> anyhow::Result<()> {
        self.remove_unfinished()?;
        self.remove()
    }

    /// All is done: nothing is left to go on from.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        let removed = self.directory.remove(&self.name);
        removed.with_context(|| format!("cannot remove {}", self.path))
    }

    /// Removes what a command has left that was killed while it wrote.
    fn remove_unfinished(&self) -> anyhow::Result<()> {
        let removed = self.directory.remove_unfinished(&self.name);
        removed.with_context(|| format!("cannot remove what is left of {}", self.path))
    }
}

/// The records that are done, whose results needn't come in order.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// All before this one are.
    first: u64,
    /// And those.
    beyond: BTreeSet<u64>,
}

impl Done {
    pub(super) fn new(first: u64, beyond: &[u64]) -> Self {
        Self { first, beyond: beyond.iter().copied().collect() }
    }

    /// The first that isn't.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// How many are.
    pub(super) fn count(&self) -> u64 {
        self.first + self.beyond.len() as u64
    }

    pub(super) fn add(&mut self, record: u64) {
        if record != self.first {
            self.beyond.insert(record);
            return;
        }
        self.first += 1;
        while !self.beyond.is_empty() && self.beyond.remove(&self.first) {
            self.first += 1;
        }
    }
}

/// The records that weren't done when this began.
#[derive(Debug, Clone)]
pub(super) struct Left {
    first: u64,
    /// Those behind the first that are done, in order.
    done: Vec<u64>,
    /// How many before each of those are not.
    before: Vec<u64>,
}

impl Left {
    pub(super) fn new(first: u64, beyond: &[u64]) -> Self {
        let mut done = beyond.to_vec();
        done.sort_unstable();
        let before =
            done.iter().zip(first..).map(|(record, earlier)| record.saturating_sub(earlier)).collect();
        Self { first, done, before }
    }

    /// Whether this record is one.
    pub(super) fn contains(&self, record: u64) -> bool {
        record >= self.first && self.done.binary_search(&record).is_err()
    }

    /// The one of this number, from 0 on.
    pub(super) fn record(&self, number: u64) -> u64 {
        self.first + number + self.before.partition_point(|before| *before <= number) as u64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use sandpool::written::Writable;

    use super::*;

    #[test]
    fn done_is_a_start_and_the_rest() {
        let mut done = Done::default();
        for (record, first, count) in [(0, 1, 1), (2, 1, 2), (3, 1, 3), (5, 1, 4), (1, 4, 5), (4, 6, 6)] {
            done.add(record);
            assert_eq!((done.first(), done.count()), (first, count), "after {record}");
        }
    }

    #[test]
    fn what_is_left_is_numbered_anew() {
        let left = Left::new(10, &[15, 12, 11, 16]);
        let records: Vec<_> = (0..6).map(|number| left.record(number)).collect();
        assert_eq!(records, [10, 13, 14, 17, 18, 19]);
        let contained: Vec<_> = (8..20).filter(|record| left.contains(*record)).collect();
        assert_eq!(contained, [10, 13, 14, 17, 18, 19]);
        assert_eq!(Left::new(0, &[]).record(7), 7);
    }

    #[test]
    fn a_journal_is_of_one_map() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("module"), "module").unwrap();
        fs::write(path("input"), "input").unwrap();
        let identity = |module: &str, task: &str, format: &str, input: &str| {
            Identity::new(&path(module), task, format, &fs::metadata(path(input)).unwrap()).unwrap()
        };
        let directory = || Directory::open(folder.path(), &Writable::default()).unwrap();
        let journal = |of| Journal::of(&path("output"), (directory(), "output".into()), of);
        let own = || journal(identity("module", "task", "lines", "input"));
        assert_eq!(own().load().unwrap(), None);
        own().save(&Done::new(5, &[8, 7]), 2, 100, Some(3)).unwrap();
        let state = own().load().unwrap().unwrap();
        assert_eq!((state.done, state.beyond, state.failed), (5, vec![7, 8], 2));
        assert_eq!((state.output, state.errors), (100, Some(3)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "no temporary file is left");
        // But by a command that is killed, until the next one begins.
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
            assert!(error.contains(&format!("the {what} is another one")), "{error}");
        }
        let whole = fs::read(path("output.sandpool")).unwrap();
        for damaged in [b"".as_slice(), whole.get(..whole.len() - 1).unwrap(), b"{\"version\":1}"] {
            fs::write(path("output.sandpool"), damaged).unwrap();
            assert!(own().load().unwrap_err().to_string().contains("damaged"));
        }
        own().remove().unwrap();
        own().remove().unwrap();
        assert_eq!(own().load().unwrap(), None);
    }
}
