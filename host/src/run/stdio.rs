//! The standard streams of a run, as its owner chooses them.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::OFlag;

use crate::sys::memory_file;
use crate::{Error, Result};

/// The function that gets a stream's bytes.
type Callback = dyn FnMut(&[u8]) + Send;

/// A standard stream of a [`Run`](crate::Run): where a guest reads from, or writes to.
///
/// ```no_run
/// # fn main() -> sandpool::Result<()> {
/// # let module = sandpool::Module::from_file("upper.wasm")?;
/// use sandpool::Run;
/// use sandpool::run::Stdio;
///
/// let run = Run::builder(&module)
///     .stdin(Stdio::bytes("some text"))
///     .stdout(Stdio::callback(|bytes| print!("{}", String::from_utf8_lossy(bytes))))
///     .stderr(Stdio::null())
///     .start()?;
/// println!("{}", run.wait()?.status);
/// # Ok(())
/// # }
/// ```
///
/// [`inherit`](Self::inherit), [`null`](Self::null), [`piped`](Self::piped) and files are as in [`std::process::Stdio`].
#[derive(Clone)]
pub struct Stdio(StdioKind);

#[derive(Clone)]
enum StdioKind {
    Inherit,
    Null,
    Piped,
    File(Arc<OwnedFd>),
    Bytes(Arc<[u8]>),
    Callback(Arc<Mutex<Callback>>),
}

impl Stdio {
    /// The stream of this process. This is the default of [`Builder::start`](super::Builder::start).
    #[must_use]
    pub fn inherit() -> Self {
        Self(StdioKind::Inherit)
    }

    /// An input that has no bytes, or an output that is thrown away.
    #[must_use]
    pub fn null() -> Self {
        Self(StdioKind::Null)
    }

    /// A new pipe; its other end is in the run: [`Run::stdin`](crate::Run::stdin), [`Run::stdout`](crate::Run::stdout),
    /// [`Run::stderr`](crate::Run::stderr).
    ///
    /// The ends are those of [`std::process`], so that they block; an asynchronous runtime makes its own of them. tokio, for
    /// example, has `tokio::process::ChildStdout::from_std`.
    #[must_use]
    pub fn piped() -> Self {
        Self(StdioKind::Piped)
    }

    /// An input that consists of these bytes. No thread writes them: the guest may read them at any time, or not at all.
    #[must_use]
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self(StdioKind::Bytes(bytes.as_ref().into()))
    }

    /// An output whose bytes are passed to a function, as they come; all have been when [`Run::wait`](crate::Run::wait) returns. A
    /// thread calls the function. While it is called, guests that write to this stream wait, and no others.
    ///
    /// If the function panics, guests that write get `EPIPE` from then on, and `wait` panics.
    #[must_use]
    pub fn callback(function: impl FnMut(&[u8]) + Send + 'static) -> Self {
        Self(StdioKind::Callback(Arc::new(Mutex::new(function))))
    }
}

/// The stream is this file, pipe or socket.
impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self(StdioKind::File(Arc::new(fd)))
    }
}

/// The stream is this file, from its position on.
impl From<File> for Stdio {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

impl fmt::Debug for Stdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            StdioKind::Inherit => "Stdio::inherit",
            StdioKind::Null => "Stdio::null",
            StdioKind::Piped => "Stdio::piped",
            StdioKind::File(_) => "Stdio::from",
            StdioKind::Bytes(_) => "Stdio::bytes",
            StdioKind::Callback(_) => "Stdio::callback",
        })
    }
}

/// A stream that is open: the guests' end, and the owner's if it has one.
pub(super) struct Opened {
    pub(super) guests: OwnedFd,
    pub(super) owners: Option<Owners>,
}

/// The owner's end of a stream.
pub(super) enum Owners {
    Pipe(OwnedFd),
    Callback(File, Arc<Mutex<Callback>>),
}

impl Stdio {
    /// Opens the run's stdin.
    pub(super) fn open_input(&self) -> Result<Opened> {
        Ok(match &self.0 {
            StdioKind::Inherit => only(duplicate(io::stdin())?),
            StdioKind::Null => only(null()?),
            StdioKind::File(fd) => only(duplicate(fd)?),
            StdioKind::Bytes(bytes) => only(
                memory_file::sealed("sandpool-stdin", &**bytes).map_err(os("make an input of bytes"))?.into(),
            ),
            StdioKind::Piped => {
                let (guests, owners) = pipe()?;
                Opened { guests, owners: Some(Owners::Pipe(owners)) }
            }
            StdioKind::Callback(_) => {
                return refused("stdin cannot be a callback", "use Stdio::piped and write");
            }
        })
    }

    /// Opens stdout, or stderr; `own` is this process's.
    pub(super) fn open_output(&self, own: impl AsFd) -> Result<Opened> {
        Ok(match &self.0 {
            StdioKind::Inherit => only(duplicate(own)?),
            StdioKind::Null => only(null()?),
            StdioKind::File(fd) => only(duplicate(fd)?),
            StdioKind::Piped => {
                let (owners, guests) = pipe()?;
                Opened { guests, owners: Some(Owners::Pipe(owners)) }
            }
            StdioKind::Callback(function) => {
                let (owners, guests) = pipe()?;
                Opened { guests, owners: Some(Owners::Callback(owners.into(), function.clone())) }
            }
            StdioKind::Bytes(_) => {
                return refused("an output cannot be bytes", "use Stdio::piped or Stdio::callback");
            }
        })
    }
}

/// Passes all bytes of a pipe to a function.
pub(super) fn pass_on(mut pipe: File, function: &Mutex<Callback>) {
    use io::Read as _;
    let mut function = function.lock().unwrap_or_else(PoisonError::into_inner);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => function(buffer.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

fn only(guests: OwnedFd) -> Opened {
    Opened { guests, owners: None }
}

fn refused(what: &str, hint: &str) -> Result<Opened> {
    Err(Error::Invalid { what: what.to_owned(), hint: Some(hint.to_owned()) })
}

fn os(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Os { what, source }
}

fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned().map_err(os("duplicate a standard stream"))
}

fn null() -> Result<OwnedFd> {
    let null = File::options().read(true).write(true).open("/dev/null");
    null.map(OwnedFd::from).map_err(os("open /dev/null"))
}

/// The two ends of a pipe: to read from, and to write to.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| os("make a pipe")(errno.into()))
}
