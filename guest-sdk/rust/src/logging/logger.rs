//! Log lines: the program's own, and those of this crate about processes and pools.
//!
//! While logging is off, a log call costs one load and a comparison: [`THRESHOLD`] is beyond all levels then. A forked
//! process has this state by its copy of the memory, and a spawned process is given [`settings`].

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};

use sandpool_abi::is_unfit;
use sandpool_abi::process::DAEMON;

use crate::raw;

/// The importance of a line: a number, as in Python, where a higher number is more important.
///
/// ```
/// use sandpool_guest::logging::Level;
///
/// assert!(Level::SUBDEBUG < Level::DEBUG && Level::SUBWARNING < Level::WARNING);
/// assert_eq!(Level::SUBWARNING, Level(25));
/// assert_eq!(format!("{}, {}", Level::INFO, Level(15)), "INFO, Level 15");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(pub u8);

impl Level {
    /// No level was set: then the level is [`WARNING`](Self::WARNING).
    pub const NOTSET: Self = Self(0);
    /// Details for people who look for a fault in this crate.
    pub const SUBDEBUG: Self = Self(5);
    /// Messages about a pool's work with its workers.
    pub const DEBUG: Self = Self(10);
    /// The beginning and the end of each process.
    pub const INFO: Self = Self(20);
    /// The loss of a worker.
    pub const SUBWARNING: Self = Self(25);
    /// Something may be wrong.
    pub const WARNING: Self = Self(30);
    /// Something failed.
    pub const ERROR: Self = Self(40);
    /// The program can't go on.
    pub const CRITICAL: Self = Self(50);

    const NAMES: [(Self, &str); 8] = [
        (Self::NOTSET, "NOTSET"),
        (Self::SUBDEBUG, "SUBDEBUG"),
        (Self::DEBUG, "DEBUG"),
        (Self::INFO, "INFO"),
        (Self::SUBWARNING, "SUBWARNING"),
        (Self::WARNING, "WARNING"),
        (Self::ERROR, "ERROR"),
        (Self::CRITICAL, "CRITICAL"),
    ];
}

/// Writes the name of the level, or `Level` and the number of one without a name.
impl Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(level, _)| level == self) {
            Some((_, name)) => f.pad(name),
            None => f.pad(&format!("Level {}", self.0)),
        }
    }
}

/// A line on its way to its output.
///
/// The text of a line is `[LEVEL/process-name] message`, as in Python. Characters in a name that could steer a terminal
/// or forge a line are escaped; the message is the program's own, and is shown unchanged.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    level: Level,
    process_name: &'a str,
    message: &'a dyn Display,
}

impl Record<'_> {
    /// The importance of the line.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// The name of the process that logs the line, unescaped.
    #[must_use]
    pub fn process_name(&self) -> &str {
        self.process_name
    }

    /// The text of the line.
    #[must_use]
    pub fn message(&self) -> &dyn Display {
        self.message
    }
}

impl Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}/{}] {}", self.level, Escaped(self.process_name), self.message)
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// A name, without characters that could steer a terminal, forge a line or hide.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match is_unfit(c) {
            true => write!(f, "{}", c.escape_default()),
            false => f.write_char(c),
        })
    }
}

/// The threshold: a line is shown if its level is at least this high. No level is as high as [`OFF`].
static THRESHOLD: AtomicU16 = AtomicU16::new(OFF);
const OFF: u16 = 1 << 8;

static LEVEL: AtomicU8 = AtomicU8::new(Level::NOTSET.0);
static TO_STDERR: AtomicBool = AtomicBool::new(false);
static HANDLER: Mutex<Option<fn(&Record<'_>)>> = Mutex::new(None);

/// Shows lines of a level or above, or decides where they go: see [`get_logger`] and [`log_to_stderr`].
#[derive(Debug, Clone, Copy)]
pub struct Logger(());

/// Returns the logger of this process: Python's `multiprocessing.get_logger`. The logger shows nothing until it has
/// an output.
///
/// ```no_run
/// use sandpool_guest::{get_logger, log_to_stderr};
/// use sandpool_guest::logging::Level;
///
/// log_to_stderr(Level::INFO);
/// get_logger().info("as much as that");
/// // Its arguments are looked at only if the line is shown.
/// sandpool_guest::log!(Level::DEBUG, "the answer is {}", (0..1_000_000_u64).sum::<u64>());
/// ```
///
/// # With the `log` crate
///
/// The macros of the `log` crate, in a program and its dependencies, can log the same way: whole lines with the name of the
/// process. This crate needs `log` for nothing else, and doesn't depend on it.
///
/// ```text
/// struct Facade;
///
/// impl log::Log for Facade {
///     fn enabled(&self, metadata: &log::Metadata) -> bool {
///         get_logger().is_enabled(level(metadata.level()))
///     }
///     fn log(&self, record: &log::Record) {
///         get_logger().log(level(record.level()), record.args());
///     }
///     fn flush(&self) {}
/// }
///
/// fn level(level: log::Level) -> Level {
///     match level {
///         log::Level::Error => Level::ERROR,
///         log::Level::Warn => Level::WARNING,
///         log::Level::Info => Level::INFO,
///         log::Level::Debug => Level::DEBUG,
///         log::Level::Trace => Level::SUBDEBUG,
///     }
/// }
/// ```
///
/// In the opposite direction, [`set_handler`](Logger::set_handler) sends this crate's lines to another place.
#[must_use]
pub fn get_logger() -> Logger {
    Logger(())
}

/// Writes lines of at least `level`, of this process and of those that it starts from now on, to stderr: Python's
/// `multiprocessing.log_to_stderr`.
///
/// ```no_run
/// use sandpool_guest::{Pool, log_to_stderr};
/// use sandpool_guest::logging::Level;
///
/// log_to_stderr(Level::DEBUG);
/// // [DEBUG/MainProcess] added worker PoolWorker-1 (pid 7)
/// // [INFO/PoolWorker-1] child process calling self.run()
/// let pool = Pool::new()?;
/// # Ok::<(), sandpool_guest::pool::PoolError>(())
/// ```
///
/// Without a level (`None`), the level that was set before stays, or else [`Level::WARNING`]. Children have the level and the
/// output of their parent, however they are started: forked, spawned, as workers of a pool.
///
/// | level | what this crate says |
/// | --- | --- |
/// | [`INFO`](Level::INFO) | a process begins (`child process calling self.run()`), and comes to its end (`process shutting down`, `calling terminate() for daemon …`, `calling join() for process …`, `process exiting with exitcode …`), by a return, an error or a panic: one that is killed, or calls `std::process::exit` itself, says nothing |
/// | [`DEBUG`](Level::DEBUG) | a pool starts a worker (`added worker …`), or buries one (`cleaning up worker …`), tries a task again, is closed, joined, terminated; a worker ends (`worker exiting after … tasks`) |
/// | [`SUBWARNING`](Level::SUBWARNING) | a worker was lost in a task, or is killed because its task takes too long |
///
/// Each line is written at once, and stays whole, whatever other processes write.
#[allow(clippy::must_use_candidate, reason = "most don't need the logger")]
pub fn log_to_stderr(level: impl Into<Option<Level>>) -> Logger {
    TO_STDERR.store(true, Ordering::Relaxed);
    if let Some(level) = level.into() {
        LEVEL.store(level.0, Ordering::Relaxed);
    }
    settle();
    get_logger()
}

/// Computes the level from which lines are shown.
fn settle() {
    let has_place = TO_STDERR.load(Ordering::Relaxed) || handler().is_some();
    let level = match LEVEL.load(Ordering::Relaxed) {
        0 => Level::WARNING.0,
        level => level,
    };
    THRESHOLD.store(if has_place { u16::from(level) } else { OFF }, Ordering::Relaxed);
}

fn handler() -> Option<fn(&Record<'_>)> {
    *HANDLER.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Logger {
    /// Returns the level that was set; [`Level::NOTSET`] if none was.
    #[must_use]
    pub fn level(self) -> Level {
        Level(LEVEL.load(Ordering::Relaxed))
    }

    /// Shows only lines of at least this level from now on.
    #[doc(alias = "setLevel")]
    pub fn set_level(self, level: Level) {
        LEVEL.store(level.0, Ordering::Relaxed);
        settle();
    }

    /// Whether a line of this level would be shown.
    #[must_use]
    #[inline]
    #[doc(alias = "isEnabledFor")]
    pub fn is_enabled(self, level: Level) -> bool {
        u16::from(level.0) >= THRESHOLD.load(Ordering::Relaxed)
    }

    /// Sets a function that is called with each line that is to be shown, or removes it. Output to stderr is independent of
    /// this.
    ///
    /// ```no_run
    /// use sandpool_guest::get_logger;
    /// use sandpool_guest::logging::Level;
    ///
    /// get_logger().set_level(Level::INFO);
    /// get_logger().set_handler(Some(|record| println!("{}: {}", record.level(), record.message())));
    /// ```
    ///
    /// The function is called in the process that logs the line, in the midst of its call of this crate. A forked
    /// child has the function as well; a spawned child doesn't, as in Python.
    #[doc(alias = "addHandler")]
    pub fn set_handler(self, handler: Option<fn(&Record<'_>)>) {
        *HANDLER.lock().unwrap_or_else(PoisonError::into_inner) = handler;
        settle();
    }

    /// Shows a line, if its level is high enough. [`log!`](crate::log!) doesn't evaluate the arguments of a line that
    /// isn't shown.
    #[inline]
    pub fn log(self, level: Level, message: impl Display) {
        if self.is_enabled(level) {
            show(level, &message);
        }
    }

    /// Logs a line of [`Level::SUBDEBUG`].
    pub fn sub_debug(self, message: impl Display) {
        self.log(Level::SUBDEBUG, message);
    }

    /// Logs a line of [`Level::DEBUG`].
    pub fn debug(self, message: impl Display) {
        self.log(Level::DEBUG, message);
    }

    /// Logs a line of [`Level::INFO`].
    pub fn info(self, message: impl Display) {
        self.log(Level::INFO, message);
    }

    /// Logs a line of [`Level::SUBWARNING`].
    pub fn sub_warning(self, message: impl Display) {
        self.log(Level::SUBWARNING, message);
    }

    /// Logs a line of [`Level::WARNING`].
    pub fn warning(self, message: impl Display) {
        self.log(Level::WARNING, message);
    }

    /// Logs a line of [`Level::ERROR`].
    pub fn error(self, message: impl Display) {
        self.log(Level::ERROR, message);
    }

    /// Logs a line of [`Level::CRITICAL`].
    pub fn critical(self, message: impl Display) {
        self.log(Level::CRITICAL, message);
    }
}

/// Shows a line of a [`Level`] by the [logger](get_logger) of this process, if the level is high enough. The arguments are
/// those of `format!`, and are evaluated only then.
///
/// ```no_run
/// use sandpool_guest::log;
/// use sandpool_guest::logging::Level;
///
/// let found = 3;
/// log!(Level::INFO, "found {found}");
/// ```
#[macro_export]
macro_rules! log {
    ($level:expr, $($message:tt)+) => {{
        let level: $crate::logging::Level = $level;
        if $crate::get_logger().is_enabled(level) {
            $crate::get_logger().log(level, ::core::format_args!($($message)+));
        }
    }};
}

#[cold]
fn show(level: Level, message: &dyn Display) {
    let name = raw::process::current().and_then(raw::process::name).unwrap_or_else(|_| "?".to_owned());
    let record = Record { level, process_name: &name, message };
    if TO_STDERR.load(Ordering::Relaxed) {
        complain(&record.to_string());
    }
    if let Some(handler) = handler() {
        handler(&record);
    }
}

/// Writes the whole line at once, so that lines of several processes stay whole.
pub(crate) fn complain(line: &str) {
    // Without stderr, nobody is left to be told.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The settings for a spawned process: the level, and whether lines go to stderr.
pub(crate) fn settings() -> u64 {
    u64::from(LEVEL.load(Ordering::Relaxed)) | u64::from(TO_STDERR.load(Ordering::Relaxed)) << 8
}

/// Applies, in a spawned process, the settings that its parent has given it.
pub(crate) fn inherit(settings: u64) {
    let [level, to_stderr, ..] = settings.to_le_bytes();
    LEVEL.store(level, Ordering::Relaxed);
    TO_STDERR.store(to_stderr != 0, Ordering::Relaxed);
    settle();
}

/// Logs that this process begins with its function.
#[inline]
pub(crate) fn started() {
    crate::log!(Level::INFO, "child process calling self.run()");
}

/// Logs that this process comes to its end.
#[inline]
pub(crate) fn exiting(code: u8) {
    if get_logger().is_enabled(Level::INFO) {
        say_exiting(code);
    }
}

#[cold]
fn say_exiting(code: u8) {
    let logger = get_logger();
    logger.info("process shutting down");
    // The host does the same then: it ends the daemons among the children, and waits for all.
    // A child that has ended meanwhile has no name.
    let facts = |child| Some((raw::process::name(child).ok()?, raw::process::info(child).ok()?));
    let children = raw::process::children().unwrap_or_default();
    let children: Vec<_> = children.into_iter().filter_map(facts).collect();
    for (name, _) in children.iter().filter(|(_, info)| info.flags & DAEMON != 0) {
        logger.info(format_args!("calling terminate() for daemon {}", Escaped(name)));
    }
    for (name, _) in &children {
        logger.info(format_args!("calling join() for process {}", Escaped(name)));
    }
    if raw::process::parent() != Ok(0) {
        logger.info(format_args!("process exiting with exitcode {code}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_level_its_process_and_its_message() {
        let message = format_args!("as {}", "told");
        let record =
            Record { level: Level::INFO, process_name: "a\u{1b}[2J\nb\u{202e}é", message: &message };
        assert_eq!(record.to_string(), "[INFO/a\\u{1b}[2J\\nb\\u{202e}é] as told");
        assert_eq!((record.level(), record.process_name().len()), (Level::INFO, 12));
        assert_eq!(format!("[{:>8}] [{:<9}]", Level::DEBUG, Level(7)), "[   DEBUG] [Level 7  ]");
    }
}
