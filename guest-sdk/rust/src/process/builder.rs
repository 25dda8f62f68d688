//! Starting a process: `fork`, `spawn`, and their settings.

use std::io::Write;

use sandpool_abi::process::{DAEMON, TIED};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Process;
use crate::start::{self, Termination};
use crate::{Error, logging, raw, shared};

impl Process {
    /// Starts a process that runs `body` with a copy-on-write copy of this one's memory, and then ends.
    ///
    /// ```no_run
    /// use sandpool_guest::Process;
    ///
    /// let greeting = String::from("hello");
    /// let process = Process::fork(|| println!("{greeting} from another process"))?;
    /// process.join()?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// Nothing is encoded, so `body` may capture and borrow anything. `body` changes only the child's own copy of
    /// memory. The result of `body` becomes the exit code, by [`Termination`]; a panic is exit code 1. The child never
    /// returns to the code around this call. The standard streams are flushed first; a buffer of your own, such as a
    /// `BufWriter`, is yours to flush.
    ///
    /// The child owns the values that `body` has captured by value:
    ///
    /// ```no_run
    /// use std::path::PathBuf;
    ///
    /// use sandpool_guest::Process;
    ///
    /// struct Temporary(PathBuf);
    ///
    /// impl Drop for Temporary {
    ///     fn drop(&mut self) {
    ///         let _ = std::fs::remove_file(&self.0);
    ///     }
    /// }
    ///
    /// let temporary = Temporary("/data/input".into());
    /// // The child reads the file, and removes it. This process doesn't.
    /// Process::fork(move || std::fs::read(&temporary.0).map(|input| input.len() as i32))?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// The parent destroys its copy of these values at once, silently: destructors give back memory, open files and handles,
    /// so that a [`Connection`](crate::Connection) that was moved into the child is closed in the parent. But these
    /// destructors write, make and remove no file, and tell nobody anything through this crate; such calls succeed, and
    /// calls that would wait for others fail. A guard, such as a [`LockGuard`](crate::sync::LockGuard), stands for something that
    /// the parent has acquired, and is given back.
    ///
    /// # Errors
    /// [`Error::TooManyProcesses`], [`Error::TooMuchMemory`], [`Error::System`]; [`Error::DaemonicParent`] in a daemonic
    /// process that isn't a worker of a pool; [`Error::ArrayBorrowed`] while this process has an [`ArrayGuard`](crate::shared::ArrayGuard).
    #[doc(alias = "start")]
    pub fn fork<F, T>(body: F) -> Result<Self, Error>
    where
        F: FnOnce() -> T,
        T: Termination,
    {
        Self::builder().fork(body)
    }

    /// Starts a process with fresh memory that calls `function` with `arguments`, and then ends.
    ///
    /// ```no_run
    /// use sandpool_guest::{Process, Queue};
    ///
    /// fn square(results: Queue<u64>, number: u64) {
    ///     results.put(&(number * number)).expect("nobody closes the queue");
    /// }
    ///
    /// #[sandpool_guest::main]
    /// fn main() -> Result<(), sandpool_guest::Error> {
    ///     let results = Queue::new()?;
    ///     let process = Process::spawn(|(results, number)| square(results, number), (results.clone(), 7))?;
    ///     process.join()?;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// `function` is a plain function or a closure that captures nothing. Several arguments are passed as a tuple.
    /// The arguments belong to the child from then on, like the values that [`fork`](Self::fork) takes by move.
    ///
    /// # Errors
    /// The errors of [`fork`](Self::fork); [`Error::Encode`] and [`Error::TooLarge`] for arguments that can't be
    /// sent; [`Error::NoEntryPoint`] in a program without [`#[sandpool_guest::main]`](macro@crate::main). Arguments
    /// that can't be *decoded* are an error of the child, which reports the error on stderr and ends with exit code
    /// 1.
    pub fn spawn<A, T>(function: fn(A) -> T, arguments: A) -> Result<Self, Error>
    where
        A: Serialize + DeserializeOwned,
        T: Termination,
    {
        Self::builder().spawn(function, arguments)
    }

    /// Returns a [`Builder`], which starts a process with a chosen name, or a daemonic process.
    ///
    /// ```no_run
    /// use sandpool_guest::Process;
    ///
    /// let logger = Process::builder().name("logger").daemon().fork(|| println!("logging"))?;
    /// assert_eq!(logger.name(), "logger");
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    pub fn builder() -> Builder {
        Builder { name: String::new(), flags: 0 }
    }
}

/// A process that is about to be started: see [`Process::builder`].
#[derive(Debug, Clone)]
#[must_use = "it starts nothing until `fork` or `spawn`"]
pub struct Builder {
    name: String,
    flags: u32,
}

impl Builder {
    /// Sets the name of the process. An empty name means the default name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Makes the process daemonic: Python's `daemon=True`. Without this, it isn't.
    pub fn daemon(mut self) -> Self {
        self.flags = DAEMON;
        self
    }

    /// A worker of a pool or the like: daemonic, ends with its creator, and everything that it starts ends with it.
    pub(crate) fn worker(name: impl Into<String>) -> Self {
        Self { name: name.into(), flags: DAEMON | TIED }
    }

    /// Starts the process as [`Process::fork`] does.
    ///
    /// # Errors
    /// The errors of [`Process::fork`]; [`Error::NameTooLong`].
    pub fn fork<F, T>(self, body: F) -> Result<Process, Error>
    where
        F: FnOnce() -> T,
        T: Termination,
    {
        if shared::is_borrowed() {
            return Err(Error::ArrayBorrowed);
        }
        flush();
        match raw::process::fork(&self.name, self.flags)? {
            Some(handle) => {
                raw::mute::drop(body);
                Process::adopt(handle)
            }
            None => {
                start::prepare();
                logging::started();
                start::exit(body().exit_code())
            }
        }
    }

    /// Starts the process as [`Process::spawn`] does.
    ///
    /// # Errors
    /// The errors of [`Process::spawn`]; [`Error::NameTooLong`].
    pub fn spawn<A, T>(self, function: fn(A) -> T, arguments: A) -> Result<Process, Error>
    where
        A: Serialize + DeserializeOwned,
        T: Termination,
    {
        flush();
        let handle = start::spawn(&self.name, self.flags, function, &arguments)?;
        raw::mute::drop(arguments);
        Process::adopt(handle)
    }
}

/// Flushes the standard streams, so that a fork prints nothing twice, and a spawn prints nothing out of order.
fn flush() {
    // A stream that can't be written to is no reason not to start a process.
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
}
