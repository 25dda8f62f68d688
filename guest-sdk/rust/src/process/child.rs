//! A process that this one has started, and all questions that a program can ask about it.
//!
//! The host's knowledge isn't repeated here: there is no table of children and no cached identity that a fork would
//! make wrong. A [`Process`] remembers only facts that can't change any more (pid, name, how the process ended) and
//! who created it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Duration;

use sandpool_abi::process::{ExitStatus, STDERR_MAX};
use sandpool_abi::{Errno, FOREVER, NO_WAIT};

use super::identity::{Identity, ended};
use crate::deadline::{Deadline, nanoseconds};
use crate::logging::Escaped;
use crate::wait::{Handle, Waitable};
use crate::{Error, raw};

pub(super) const SIGINT: u32 = 2;
pub(super) const SIGKILL: u32 = 9;
pub(super) const SIGTERM: u32 = 15;

/// A process that this one has started.
///
/// ```no_run
/// use sandpool_guest::{ExitStatus, Process};
///
/// let words = vec!["borrowed", "and", "captured"];
/// let process = Process::fork(|| words.len() as i32)?;
/// assert_eq!(process.join()?, ExitStatus::Exited(3));
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// There are two ways to start a process. [`fork`](Self::fork) gives the new process a copy of all memory, so that it
/// can run any closure with everything that the closure captured. [`spawn`](Self::spawn) gives the new process fresh
/// memory and a function with encoded arguments.
///
/// Dropping a `Process` doesn't end the process; the creator waits for the process at its own end, unless the process
/// is daemonic. Only the creator may use a `Process`: in a forked child, an inherited `Process` is good for nothing
/// but its name.
pub struct Process {
    identity: Identity,
    owner: u64,
    ended: Cell<Option<Ended>>,
    /// Filled once the process has ended.
    stderr: RefCell<Vec<u8>>,
}

/// How a process ended, and the exit code that Python would report.
#[derive(Debug, Clone, Copy)]
struct Ended {
    status: ExitStatus,
    exitcode: i32,
}

impl Process {
    pub(super) fn adopt(handle: u64) -> Result<Self, Error> {
        let adopted = Identity::from_handle(handle).and_then(|identity| {
            let owner = raw::process::current()?;
            Ok(Self { identity, owner, ended: Cell::new(None), stderr: RefCell::default() })
        });
        if adopted.is_err() {
            // The process runs, but this process can't learn anything about it.
            let _ = raw::process::detach(handle);
        }
        Ok(adopted?)
    }

    /// The name of the process: the given name, or `Process-` and the identity, such as `Process-2:1` for the first
    /// child of the main process's second.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.identity.name
    }

    /// Whether the process is daemonic: at its creator's end, a daemonic process is ended instead of waited for.
    #[must_use]
    pub fn daemon(&self) -> bool {
        self.identity.daemon
    }

    /// The operating system's process id, as the run sees it.
    #[must_use]
    #[doc(alias = "ident")]
    pub fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// Waits until the process has ended, and returns how it ended. It can be called again.
    ///
    /// # Errors
    /// [`Error::NotAChild`] if another process created it.
    pub fn join(&self) -> Result<ExitStatus, Error> {
        self.owned()?;
        if self.ended.get().is_none() {
            raw::process::join(self.identity.handle, FOREVER)?;
        }
        Ok(self.reap()?.status)
    }

    /// Waits until the process has ended, but not for longer than `timeout`. Returns `None` if the process is still
    /// alive then.
    ///
    /// ```no_run
    /// # let process = sandpool_guest::Process::fork(|| ())?;
    /// use std::time::Duration;
    ///
    /// if process.join_timeout(Duration::from_secs(5))?.is_none() {
    ///     process.terminate()?;
    /// }
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotAChild`] if another process created it.
    pub fn join_timeout(&self, timeout: Duration) -> Result<Option<ExitStatus>, Error> {
        Ok(self.poll(nanoseconds(timeout))?.map(|ended| ended.status))
    }

    /// Returns how the process has ended, or `None` if it is still alive.
    ///
    /// # Errors
    /// [`Error::NotAChild`] if another process created it.
    pub fn try_join(&self) -> Result<Option<ExitStatus>, Error> {
        Ok(self.poll(NO_WAIT)?.map(|ended| ended.status))
    }

    pub(crate) fn join_until(&self, deadline: Deadline) -> Result<Option<ExitStatus>, Error> {
        Ok(self.poll(deadline.left())?.map(|ended| ended.status))
    }

    /// Whether the process is still alive.
    ///
    /// # Errors
    /// [`Error::NotAChild`] if another process created it.
    pub fn is_alive(&self) -> Result<bool, Error> {
        Ok(self.poll(NO_WAIT)?.is_none())
    }

    /// The exit code of the process, as Python reports it: 0 to 255, or the negated signal; a trap counts as SIGABRT.
    /// `None` while the process is alive, and for a process that another process has created.
    #[must_use]
    pub fn exitcode(&self) -> Option<i32> {
        self.poll(NO_WAIT).ok().flatten().map(|ended| ended.exitcode)
    }

    /// How the process ended, precisely. `None` in the cases where [`exitcode`](Self::exitcode) is `None`.
    #[must_use]
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.poll(NO_WAIT).ok().flatten().map(|ended| ended.status)
    }

    /// The last part of the text that the process has written to its stderr so far, 4096 bytes at most, with the
    /// message of the panic, trap or limit that has ended the process, if any. Bytes that aren't UTF-8, or a character
    /// that is cut, become replacement characters. The run's stderr has this text as well. Empty for a process that
    /// another process has created.
    ///
    /// ```no_run
    /// use sandpool_guest::{ExitStatus, Process};
    ///
    /// let process = Process::fork(|| [1, 2, 3].get(7).copied().expect("the eighth"))?;
    /// assert_eq!(process.join()?, ExitStatus::Exited(1));
    /// assert!(process.stderr().ends_with("the eighth\n"));
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    #[must_use]
    pub fn stderr(&self) -> String {
        if self.owned().is_err() {
            return String::new();
        }
        let kept = match self.ended.get() {
            Some(_) => self.stderr.borrow().clone(),
            None => self.read_stderr(),
        };
        String::from_utf8_lossy(&kept).into_owned()
    }

    fn read_stderr(&self) -> Vec<u8> {
        let handle = self.identity.handle;
        // Most processes have written nothing, and then nothing more is done.
        if raw::process::stderr(handle, &mut []).is_ok_and(|len| len == 0) {
            return Vec::new();
        }
        let mut stderr = vec![0; STDERR_MAX];
        let len = raw::process::stderr(handle, &mut stderr).unwrap_or(0);
        stderr.truncate(len);
        stderr
    }

    /// Ends the process with SIGTERM: at once, without destructors. Children of the process go on. To terminate a
    /// process that has ended already is no error.
    ///
    /// # Errors
    /// [`Error::NotAChild`] if another process created it.
    pub fn terminate(&self) -> Result<(), Error> {
        self.signal(SIGTERM)
    }

    /// Ends the process with SIGINT, as Ctrl-C at a terminal would. Otherwise like [`terminate`](Self::terminate).
    ///
    /// # Errors
    /// [`Error::NotAChild`] if another process created it.
    pub fn interrupt(&self) -> Result<(), Error> {
        self.signal(SIGINT)
    }

    /// Ends the process with SIGKILL. Otherwise like [`terminate`](Self::terminate).
    ///
    /// # Errors
    /// [`Error::NotAChild`] if another process created it.
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(SIGKILL)
    }

    /// Releases the record of a process that has ended. Dropping the `Process` does the same, but doesn't report a
    /// process that is alive.
    ///
    /// # Errors
    /// [`CloseError`], which holds the process: [`Error::StillRunning`] if the process is alive, [`Error::NotAChild`]
    /// if another process created it.
    #[allow(clippy::result_large_err, reason = "the error is the process itself")]
    pub fn close(self) -> Result<(), CloseError> {
        match self.poll(NO_WAIT) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(CloseError { process: self, error: Error::StillRunning }),
            Err(error) => Err(CloseError { process: self, error }),
        }
    }

    /// Returns the sentinel of the process: pass it to [`wait`](crate::wait()) to wait for the end of several
    /// processes.
    #[must_use]
    pub fn sentinel(&self) -> Sentinel {
        Sentinel { handle: self.identity.handle, owner: self.owner }
    }

    pub(crate) fn handle(&self) -> u64 {
        self.identity.handle
    }

    /// A fork copies each `Process` into the child, but the copy doesn't make the child the parent.
    fn owned(&self) -> Result<(), Error> {
        if raw::process::current()? == self.owner { Ok(()) } else { Err(Error::NotAChild) }
    }

    fn poll(&self, timeout: u64) -> Result<Option<Ended>, Error> {
        self.owned()?;
        if self.ended.get().is_none() && !ended(raw::process::join(self.identity.handle, timeout))? {
            return Ok(None);
        }
        self.reap().map(Some)
    }

    /// Takes over how the process ended, and frees its entry in the process table.
    fn reap(&self) -> Result<Ended, Error> {
        if let Some(ended) = self.ended.get() {
            return Ok(ended);
        }
        let status = raw::process::status(self.identity.handle)?;
        let exitcode = status.exitcode;
        let status = ExitStatus::from_parts(status.kind, status.detail, status.figure).ok_or(Errno::Io)?;
        let ended = Ended { status, exitcode };
        self.stderr.replace(self.read_stderr());
        raw::process::close(self.identity.handle)?;
        self.ended.set(Some(ended));
        Ok(ended)
    }

    fn signal(&self, signal: u32) -> Result<(), Error> {
        self.owned()?;
        if self.ended.get().is_some() {
            return Ok(());
        }
        Ok(raw::process::signal(self.identity.handle, signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.get().is_none() && self.owned().is_ok() {
            // If `detach` fails, the host has forgotten the process already, which is the purpose of the call.
            let _ = raw::process::detach(self.identity.handle);
        }
    }
}

/// Formats the process as Python does: `<Process name='Process-1' pid=7 parent=3 stopped exitcode=0>`.
impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Identity { name, pid, parent_pid, daemon, .. } = &self.identity;
        write!(f, "<Process name='{}' pid={pid} parent={parent_pid}", Escaped(name))?;
        match self.poll(NO_WAIT) {
            Ok(None) => f.write_str(" started")?,
            Ok(Some(Ended { status: ExitStatus::Signaled(signal), .. })) => {
                write!(f, " stopped exitcode=-{signal}")?;
            }
            Ok(Some(Ended { exitcode, .. })) => write!(f, " stopped exitcode={exitcode}")?,
            Err(_) => f.write_str(" unknown")?,
        }
        f.write_str(if *daemon { " daemon>" } else { ">" })
    }
}

/// Formats like [`Display`](fmt::Display).
impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A process that couldn't be closed, and why.
#[derive(Debug)]
#[non_exhaustive]
pub struct CloseError {
    /// The process, unchanged.
    pub process: Process,
    /// The reason.
    pub error: Error,
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for CloseError {}

/// The reason. The process is dropped, which doesn't end it.
impl From<CloseError> for Error {
    fn from(error: CloseError) -> Self {
        error.error
    }
}

/// Stands for the end of a process: pass several to [`wait`](crate::wait()). A `Sentinel` is plain data, and doesn't keep
/// the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sentinel {
    pub(super) handle: u64,
    pub(super) owner: u64,
}

/// Ready when the process has ended.
impl Waitable for Sentinel {}

impl Handle for Sentinel {
    fn handle(&self) -> u64 {
        self.handle
    }

    fn owner(&self) -> Option<u64> {
        Some(self.owner)
    }
}
