//! The files of a map: opened, compared, cut to length, and written.

use std::ffi::OsString;
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use nix::sys::stat::fstat;
use sandpool::Error;
use sandpool::command_support::{Directory, Patient, Writable};

use crate::output;

use super::journal::Journal;
use super::records::{self, Framing};

/// Bytes that are written at once.
const BUFFER: usize = 256 << 10;

/// The source of records.
pub(super) struct Input {
    pub(super) file: Box<dyn Read + Send>,
    /// The length of the input, if it is a file.
    pub(super) len: Option<u64>,
    metadata: Metadata,
}

impl Input {
    /// Opens a file; `-` is stdin.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let open = || {
            let file = match is_stream(path) {
                true => File::from(io::stdin().as_fd().try_clone_to_owned()?),
                false => File::open(path)?,
            };
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::Error::from(io::ErrorKind::IsADirectory));
            }
            Ok((file, metadata))
        };
        let (file, metadata) = open().with_context(|| format!("cannot read {}", shown(path, "stdin")))?;
        let len = metadata.is_file().then_some(metadata.len());
        Ok(Self { file: Box::new(Patient(file)), len, metadata })
    }

    pub(super) fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// The destination of results or failures: found, and nothing made yet.
#[derive(Debug)]
pub(super) struct Target {
    name: String,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// A descriptor that this command was given.
    Descriptor(File),
    File(Directory, OsString),
}

impl Target {
    /// Finds the destination; `-` is stdout. Refuses a path that guests can change, because they may write to a directory of it.
    pub(super) fn find(path: &Path, writable: &Writable) -> anyhow::Result<Self> {
        let name = shown(path, "stdout");
        let descriptor = match is_stream(path) {
            true => Some(io::stdout().as_fd().try_clone_to_owned().map(File::from)),
            false => output::descriptor(path),
        };
        let place = match descriptor {
            Some(file) => Place::Descriptor(file.with_context(|| format!("cannot write {name}"))?),
            None => {
                let (directory, file_name) = Directory::open_parent(path, writable)?;
                Place::File(directory, file_name.to_owned())
            }
        };
        Ok(Self { name, place })
    }

    /// Whether this is the file for the journal of `output`.
    pub(super) fn is_journal_of(&self, output: &Self) -> bool {
        let (Place::File(dir, name), Place::File(output_dir, output_name)) = (&self.place, &output.place)
        else {
            return false;
        };
        let id = |dir: &Directory| fstat(dir.as_fd()).map(|stat| (stat.st_dev, stat.st_ino));
        *name == Journal::name_of(output_name) && id(dir) == id(output_dir)
    }
}

/// The open destination of results or failures.
#[derive(Debug)]
pub(super) struct Output {
    file: Patient,
    metadata: Metadata,
    /// The output has a path, and can be cut. Through a descriptor, others may write to the same file.
    is_file: bool,
    name: String,
    /// Bytes that are held back, too few to be worth a call.
    held: Vec<u8>,
    /// Bytes that were written, including those that were there when this command began.
    written: u64,
    /// A write failed: the bytes that are held back may be a part of a record.
    is_broken: bool,
}

impl Output {
    /// Opens a file, and makes it if there is none. Its content stays until `begin_at`. Also returns the file's directory and its
    /// name there, if the file can be cut.
    pub(super) fn open(target: Target) -> anyhow::Result<(Self, Option<(Directory, OsString)>)> {
        let Target { name, place } = target;
        let cannot = || format!("cannot write {name}");
        let (file, place) = match place {
            Place::Descriptor(file) => (file, None),
            Place::File(directory, file_name) => {
                (directory.open_or_create(&file_name).with_context(cannot)?, Some((directory, file_name)))
            }
        };
        let metadata = file.metadata().with_context(cannot)?;
        let place = place.filter(|_| metadata.is_file());
        let (file, is_file) = (Patient(file), place.is_some());
        Ok((Self { file, metadata, is_file, name, held: Vec::new(), written: 0, is_broken: false }, place))
    }

    /// Locks the file for as long as this command writes it. Refuses a file that another command writes.
    pub(super) fn lock(&self) -> anyhow::Result<()> {
        if !self.is_file {
            return Ok(());
        }
        match self.file.0.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::Invalid {
                what: format!("another command is writing {}", self.name),
                hint: Some("wait until it has ended, or choose another file".to_owned()),
            }
            .into()),
            // Some file systems have no locks.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        }
    }

    /// Refuses a file that has lost a part of the content that it had when a command stopped.
    pub(super) fn has(&self, len: u64) -> anyhow::Result<()> {
        if self.is_file && self.metadata.len() < len {
            return Err(Error::Invalid {
                what: format!("cannot resume: {} has {} bytes of {len}", self.name, self.metadata.len()),
                hint: Some("without --resume, the command begins anew".to_owned()),
            }
            .into());
        }
        Ok(())
    }

    /// Cuts a file to this length, which the file has, and goes on from there.
    pub(super) fn begin_at(&mut self, len: u64) -> anyhow::Result<()> {
        if !self.is_file {
            return Ok(());
        }
        let file = &mut self.file.0;
        file.set_len(len)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .with_context(|| format!("cannot write {}", self.name))?;
        self.written = len;
        Ok(())
    }

    /// Takes a record, which may be held back; or says why the value can't be a record.
    pub(super) fn write_record(
        &mut self,
        framing: Framing,
        record: &[u8],
    ) -> io::Result<Result<(), &'static str>> {
        records::write(self, framing, record)
    }

    /// Takes a line, which may be held back.
    pub(super) fn write_line(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self, "{line}").with_context(|| format!("cannot write {}", self.name))
    }

    /// The length of the output with the bytes that are held back.
    pub(super) fn len(&self) -> u64 {
        self.written + self.held.len() as u64
    }

    /// The length of the output with the bytes that were written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Makes everything that was written reach the disk, if the output is a file.
    pub(super) fn sync(&mut self) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", self.name);
        match self.metadata.is_file() {
            true => self.file.0.sync_data().with_context(cannot),
            false => Ok(()),
        }
    }
}

impl Write for Output {
    /// Holds bytes back, or writes them if that is worth a call.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.held.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() > BUFFER {
            let written = self.file.write(bytes).inspect_err(|_| self.is_broken = true)?;
            self.written += written as u64;
            return Ok(written);
        }
        self.held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Writes the bytes that are held back. After an error, the bytes that could be written are written, and no more are written
    /// later.
    fn flush(&mut self) -> io::Result<()> {
        if self.is_broken {
            return Err(io::Error::other("an attempt has failed"));
        }
        let mut passed = 0;
        let result = loop {
            let rest = self.held.get(passed..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(());
            }
            match self.file.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => passed += written,
                Err(error) => break Err(error),
            }
        };
        // After an error, nobody needs the rest.
        self.held.clear();
        self.written += passed as u64;
        self.is_broken = result.is_err();
        result
    }
}

/// The error for two arguments that name the same file.
pub(super) fn same(one: &str, other: &str) -> Error {
    Error::Invalid {
        what: format!("{one} and {other} are the same file"),
        hint: Some("choose another file".to_owned()),
    }
}

/// Refuses files if one of them would overwrite another.
pub(super) fn refuse_same(
    input: &Input,
    output: &Output,
    others: [(&'static str, &Option<Output>); 2],
    journal: Option<&Journal>,
) -> anyhow::Result<()> {
    let journal = journal.and_then(Journal::metadata);
    let others = others.map(|(name, file)| (name, file.as_ref().map(|file| &file.metadata)));
    let files = [
        ("input", Some(&input.metadata)),
        ("output", Some(&output.metadata)),
        others[0],
        others[1],
        ("the journal", journal.as_ref()),
    ];
    let is_same = |one: &Metadata, other: &Metadata| {
        one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino())
    };
    for (at, (name, file)) in files.iter().enumerate() {
        let found = files
            .iter()
            .skip(at + 1)
            .find(|(_, other)| file.zip(*other).is_some_and(|(file, other)| is_same(file, other)));
        if let Some((other, _)) = found {
            return Err(same(name, other).into());
        }
    }
    Ok(())
}

fn is_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn shown(path: &Path, stream: &str) -> String {
    if is_stream(path) { stream.to_owned() } else { path.display().to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::fs;

    use super::*;

    fn output(file: File, is_file: bool) -> Output {
        let metadata = file.metadata().unwrap();
        let (name, held) = ("out".to_owned(), Vec::new());
        Output { file: Patient(file), metadata, is_file, name, held, written: 0, is_broken: false }
    }

    #[test]
    fn what_was_written_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        fs::write(&path, "before and more").unwrap();
        let mut out = output(File::options().write(true).open(&path).unwrap(), true);
        out.begin_at(6).unwrap();
        out.write_record(Framing::Lines, b"a").unwrap().unwrap();
        assert_eq!((out.written(), out.len(), fs::read(&path).unwrap().as_slice()), (6, 8, &b"before"[..]));
        out.flush().unwrap();
        assert_eq!((out.written(), fs::read(&path).unwrap().as_slice()), (8, &b"beforea\n"[..]));
        // A large record isn't held back, and comes after the bytes that were.
        let large = vec![b'x'; BUFFER + 1];
        out.write_record(Framing::Raw, &large).unwrap().unwrap();
        assert_eq!((out.written(), out.len()), (12 + large.len() as u64, 12 + large.len() as u64));
        let (all, whole) = (fs::read(&path).unwrap(), [&b"beforea\n\x01\0\x04\0"[..], &large].concat());
        assert!(all == whole);
        assert!(out.has(all.len() as u64).is_err(), "it was shorter when it was opened");
        assert!(out.has(15).is_ok());
    }

    #[test]
    fn nothing_is_written_after_what_could_not_be() {
        let full = || output(File::options().write(true).open("/dev/full").unwrap(), false);
        let mut out = full();
        out.write_record(Framing::Lines, b"a").unwrap().unwrap();
        for _ in 0..2 {
            assert!(out.flush().is_err());
            assert_eq!(out.written(), 0);
        }
        assert!(out.write_record(Framing::Lines, &vec![b'x'; BUFFER]).is_err());
        // The rest of a record isn't written either, if a part of the record couldn't be.
        let mut out = full();
        assert!(out.write_record(Framing::Raw, &vec![b'x'; BUFFER + 1]).is_err());
        assert!(out.flush().unwrap_err().to_string().contains("has failed"));
        assert_eq!(out.written(), 0);
        // Nor is it if there is room again.
        let mut out = full();
        out.write_record(Framing::Lines, b"a").unwrap().unwrap();
        assert!(out.flush().is_err());
        let roomy = tempfile::tempfile().unwrap();
        out.file = Patient(roomy.try_clone().unwrap());
        out.write_record(Framing::Lines, b"b").unwrap().unwrap();
        assert!(out.flush().is_err());
        assert_eq!((out.written(), roomy.metadata().unwrap().len()), (0, 0));
    }

    #[test]
    fn the_part_that_a_reader_has_taken_is_written() {
        const PART: usize = 64 << 10;
        let (mut reader, writer) = io::pipe().unwrap();
        let mut out = output(File::from(std::os::fd::OwnedFd::from(writer)), false);
        out.write_record(Framing::Lines, &vec![b'x'; 3 * PART]).unwrap().unwrap();
        let reads = std::thread::spawn(move || reader.read_exact(&mut vec![0; PART]));
        assert_eq!(out.flush().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        reads.join().unwrap().unwrap();
        assert!((PART as u64..=3 * PART as u64).contains(&out.written()), "{}", out.written());
    }
}
