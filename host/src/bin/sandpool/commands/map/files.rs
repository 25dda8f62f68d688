//! The files of a map: opened, compared, cut to length, and written.

use std::ffi::OsString;
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use sandpool::written::{self, Directory, Writable};
use sandpool::{Error, Format};

use super::records;

/// What is written at once.
const BUFFER: usize = 256 << 10;

/// Where records come from.
pub(super) struct Input {
    pub(super) file: Box<dyn Read + Send>,
    /// Its length, if it is a file.
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
        Ok(Self { file: Box::new(file), len, metadata })
    }

    pub(super) fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

/// Where results, or failures, are to go: found, and nothing made yet.
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
    /// `-` is stdout. Refuses a path that guests can change, where they may write.
    pub(super) fn find(path: &Path, writable: &Writable) -> anyhow::Result<Self> {
        let name = shown(path, "stdout");
        let descriptor = match is_stream(path) {
            true => Some(io::stdout().as_fd().try_clone_to_owned().map(File::from)),
            false => written::descriptor(path),
        };
        let place = match descriptor {
            Some(file) => Place::Descriptor(file.with_context(|| format!("cannot write {name}"))?),
            None => {
                let (directory, file_name) = Directory::of_file(path, writable)?;
                Place::File(directory, file_name.to_owned())
            }
        };
        Ok(Self { name, place })
    }
}

/// Where results, or failures, go.
#[derive(Debug)]
pub(super) struct Output {
    file: BufWriter<File>,
    metadata: Metadata,
    /// It has a path, and can be cut. Of a descriptor, others may write to the same file.
    is_file: bool,
    name: String,
    len: u64,
}

impl Output {
    /// Opens a file, and makes it if need be. Its content stays, until `begin_at`. Returns also the directory that it is
    /// in and its name there, if it can be cut.
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
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok((Self { file, metadata, is_file: place.is_some(), name, len: 0 }, place))
    }

    /// Refuses a file that another command writes, for as long as this one does.
    pub(super) fn lock(&self) -> anyhow::Result<()> {
        if !self.is_file {
            return Ok(());
        }
        match self.file.get_ref().try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::Invalid {
                what: format!("another command is writing {}", self.name),
                hint: Some("wait until it has ended, or choose another file".to_owned()),
            }
            .into()),
            // Not every file system knows locks.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
        }
    }

    /// Cuts a file to this length, and goes on behind it.
    pub(super) fn begin_at(&mut self, len: u64) -> anyhow::Result<()> {
        if !self.is_file {
            return Ok(());
        }
        if self.metadata.len() < len {
            return Err(Error::Invalid {
                what: format!("cannot resume: {} has {} bytes of {len}", self.name, self.metadata.len()),
                hint: Some("without --resume it begins anew".to_owned()),
            }
            .into());
        }
        let file = self.file.get_mut();
        file.set_len(len)
            .and_then(|()| file.seek(SeekFrom::End(0)))
            .with_context(|| format!("cannot write {}", self.name))?;
        self.len = len;
        Ok(())
    }

    /// Writes a record, unless it can't be one: why.
    pub(super) fn write(&mut self, format: Format, record: &[u8]) -> io::Result<Result<(), &'static str>> {
        let written = records::write(&mut self.file, format, record)?;
        Ok(written.map(|len| self.len += len))
    }

    /// Writes a line.
    pub(super) fn write_line(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.file, "{line}").with_context(|| format!("cannot write {}", self.name))?;
        self.len += line.len() as u64 + 1;
        Ok(())
    }

    /// Passes on what is held back.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }

    /// Has all that was written reach the disk, and returns how long the file is with it.
    pub(super) fn sync(&mut self) -> anyhow::Result<u64> {
        let sync = |file: &mut BufWriter<File>| file.flush().and_then(|()| file.get_ref().sync_data());
        if self.is_file {
            sync(&mut self.file).with_context(|| format!("cannot write {}", self.name))?;
        }
        Ok(self.len)
    }
}

/// Refuses files of which one would overwrite another.
pub(super) fn refuse_same(input: &Input, output: &Output, errors: Option<&Output>) -> anyhow::Result<()> {
    let same = |one: &Metadata, other: &Metadata| {
        one.is_file() && (one.dev(), one.ino()) == (other.dev(), other.ino())
    };
    let pairs = [
        (same(&input.metadata, &output.metadata), "input and output"),
        (errors.is_some_and(|errors| same(&input.metadata, &errors.metadata)), "input and --errors"),
        (errors.is_some_and(|errors| same(&output.metadata, &errors.metadata)), "output and --errors"),
    ];
    match pairs.into_iter().find_map(|(is_same, what)| is_same.then_some(what)) {
        None => Ok(()),
        Some(what) => Err(Error::Invalid {
            what: format!("{what} are the same file"),
            hint: Some("choose another one".to_owned()),
        }
        .into()),
    }
}

fn is_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn shown(path: &Path, stream: &str) -> String {
    if is_stream(path) { stream.to_owned() } else { path.display().to_string() }
}
