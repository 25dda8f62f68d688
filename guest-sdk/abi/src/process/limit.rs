//! The limits, by number, name and value.

use core::fmt;
use core::time::Duration;

/// A limit and its value. Use beyond a limit ends the process, with the exit code of a trap, or is refused.
///
/// ```
/// use core::time::Duration;
/// use sandpool_abi::process::Limit;
///
/// assert_eq!(Limit::Memory(256 << 20).to_string(), "memory 256 MiB");
/// assert_eq!(Limit::CpuTime(Duration::from_millis(1500)).to_string(), "cpu time 1500 ms");
/// assert_eq!(Limit::Processes(64).name(), "processes-max");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// Bytes of linear memory.
    Memory(u64),
    /// Bytes of the stack of WebAssembly.
    Stack(u64),
    /// Time on a processor.
    CpuTime(Duration),
    /// Time since the process has started.
    WallTime(Duration),
    /// Bytes written to stdout and stderr.
    Stdio(u64),
    /// Units of fuel.
    Fuel(u64),
    /// Time on a processor of all processes of the run.
    RunCpuTime(Duration),
    /// Time since the run has started.
    RunWallTime(Duration),
    /// Bytes written to stdout and stderr by all processes of the run.
    RunStdio(u64),
    /// Processes of the run at once.
    Processes(u64),
    /// Queues, pipes, locks and other objects of the run at once.
    Objects(u64),
    /// Bytes of the run's arena: the content of queues and pipes, and shared memory.
    Arena(u64),
    /// Items in a queue at once.
    QueueItems(u64),
    /// Files and directories that are open at once.
    OpenFiles(u64),
    /// Bytes of a file that is written.
    FileSize(u64),
    /// Bytes written to files.
    FileBytes(u64),
    /// Bytes written to files by all processes of the run.
    RunFileBytes(u64),
    /// Bytes of linear memory of all processes of the run together.
    RunMemory(u64),
    /// Bytes of the output of a task.
    Output(u64),
    /// Listeners and connections with the outside of the run at once.
    Connections(u64),
    /// Bytes of a message on a connection with the outside.
    ConnectionMessage(u64),
    /// A limit that this version doesn't know.
    Other,
}

impl Limit {
    /// The number of the limit: [`Status::detail`](super::Status::detail) of [`LIMITED`](super::LIMITED), and the
    /// argument of `limit`. The number never changes.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::Other => 0,
            Self::Memory(_) => 1,
            Self::Stack(_) => 2,
            Self::CpuTime(_) => 3,
            Self::WallTime(_) => 4,
            Self::Stdio(_) => 5,
            Self::Fuel(_) => 6,
            Self::RunCpuTime(_) => 7,
            Self::RunWallTime(_) => 8,
            Self::RunStdio(_) => 9,
            Self::Processes(_) => 10,
            Self::Objects(_) => 11,
            Self::Arena(_) => 12,
            Self::QueueItems(_) => 13,
            Self::OpenFiles(_) => 14,
            Self::FileSize(_) => 15,
            Self::FileBytes(_) => 16,
            Self::RunFileBytes(_) => 17,
            Self::RunMemory(_) => 18,
            Self::Output(_) => 19,
            Self::Connections(_) => 20,
            Self::ConnectionMessage(_) => 21,
        }
    }

    /// The value of the limit: a number, bytes, units, or microseconds.
    #[must_use]
    pub fn figure(self) -> u64 {
        match self {
            Self::Other => 0,
            Self::Memory(n)
            | Self::Stack(n)
            | Self::Stdio(n)
            | Self::Fuel(n)
            | Self::RunStdio(n)
            | Self::Processes(n)
            | Self::Objects(n)
            | Self::Arena(n)
            | Self::QueueItems(n)
            | Self::OpenFiles(n)
            | Self::FileSize(n)
            | Self::FileBytes(n)
            | Self::RunFileBytes(n)
            | Self::RunMemory(n)
            | Self::Output(n)
            | Self::Connections(n)
            | Self::ConnectionMessage(n) => n,
            Self::CpuTime(time) | Self::WallTime(time) | Self::RunCpuTime(time) | Self::RunWallTime(time) => {
                u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
            }
        }
    }

    /// The limit of this [`code`](Self::code) and [`figure`](Self::figure).
    #[must_use]
    pub const fn from_parts(code: u32, figure: u64) -> Self {
        match code {
            1 => Self::Memory(figure),
            2 => Self::Stack(figure),
            3 => Self::CpuTime(Duration::from_micros(figure)),
            4 => Self::WallTime(Duration::from_micros(figure)),
            5 => Self::Stdio(figure),
            6 => Self::Fuel(figure),
            7 => Self::RunCpuTime(Duration::from_micros(figure)),
            8 => Self::RunWallTime(Duration::from_micros(figure)),
            9 => Self::RunStdio(figure),
            10 => Self::Processes(figure),
            11 => Self::Objects(figure),
            12 => Self::Arena(figure),
            13 => Self::QueueItems(figure),
            14 => Self::OpenFiles(figure),
            15 => Self::FileSize(figure),
            16 => Self::FileBytes(figure),
            17 => Self::RunFileBytes(figure),
            18 => Self::RunMemory(figure),
            19 => Self::Output(figure),
            20 => Self::Connections(figure),
            21 => Self::ConnectionMessage(figure),
            _ => Self::Other,
        }
    }

    /// The number of codes: all codes are below this.
    pub const CODES: u32 = 22;

    /// The name by which the limit is set: that of a flag, and of a key in a configuration file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory(_) => "memory-max",
            Self::Stack(_) => "stack-max",
            Self::CpuTime(_) => "cpu-time",
            Self::WallTime(_) => "wall-time",
            Self::Stdio(_) => "stdio-max",
            Self::Fuel(_) => "fuel",
            Self::RunCpuTime(_) => "run-cpu-time",
            Self::RunWallTime(_) => "run-wall-time",
            Self::RunStdio(_) => "run-stdio-max",
            Self::Processes(_) => "processes-max",
            Self::Objects(_) => "objects-max",
            Self::Arena(_) => "arena-size",
            Self::QueueItems(_) => "queue-items-max",
            Self::OpenFiles(_) => "open-files-max",
            Self::FileSize(_) => "file-size-max",
            Self::FileBytes(_) => "file-bytes-max",
            Self::RunFileBytes(_) => "run-file-bytes-max",
            Self::RunMemory(_) => "run-memory-max",
            Self::Output(_) => "output-max",
            Self::Connections(_) => "connections-max",
            Self::ConnectionMessage(_) => "connection-message-max",
            Self::Other => "unknown",
        }
    }

    /// Returns the [`code`](Self::code) of the limit of this name.
    #[must_use]
    pub fn code_of(name: &str) -> Option<u32> {
        (1..Self::CODES).find(|code| Self::from_parts(*code, 0).name() == name)
    }

    /// Returns the figure of the limit, for a person: `64`, `256 MiB`, `1500 ms`.
    ///
    /// ```
    /// assert_eq!(sandpool_abi::process::Limit::Arena(1 << 20).amount().to_string(), "1 MiB");
    /// ```
    #[must_use]
    pub fn amount(self) -> impl fmt::Display {
        Amount(self)
    }

    /// Whether the limit applies to all processes of a run together.
    #[must_use]
    pub fn is_of_the_run(self) -> bool {
        matches!(
            self,
            Self::RunCpuTime(_)
                | Self::RunWallTime(_)
                | Self::RunStdio(_)
                | Self::Processes(_)
                | Self::Objects(_)
                | Self::Arena(_)
                | Self::RunFileBytes(_)
                | Self::RunMemory(_)
                | Self::Connections(_)
        )
    }

    /// Whether reaching the limit ends all processes of the run.
    #[must_use]
    pub fn ends_the_run(self) -> bool {
        matches!(self, Self::RunCpuTime(_) | Self::RunWallTime(_) | Self::RunStdio(_))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Memory(_) => "memory",
            Self::Stack(_) => "stack",
            Self::CpuTime(_) => "cpu time",
            Self::WallTime(_) => "wall time",
            Self::Stdio(_) => "stdout and stderr",
            Self::Fuel(_) => "fuel",
            Self::RunCpuTime(_) => "cpu time of the run",
            Self::RunWallTime(_) => "wall time of the run",
            Self::RunStdio(_) => "stdout and stderr of the run",
            Self::Processes(_) => "processes of the run",
            Self::Objects(_) => "objects of the run",
            Self::Arena(_) => "arena",
            Self::QueueItems(_) => "items of a queue",
            Self::OpenFiles(_) => "open files",
            Self::FileSize(_) => "size of a file",
            Self::FileBytes(_) => "bytes of files",
            Self::RunFileBytes(_) => "bytes of files of the run",
            Self::RunMemory(_) => "memory of the run",
            Self::Output(_) => "output",
            Self::Connections(_) => "connections of the run",
            Self::ConnectionMessage(_) => "message of a connection",
            Self::Other => return f.write_str("unknown"),
        };
        write!(f, "{what} {}", Amount(*self))
    }
}

/// The figure of a limit.
struct Amount(Limit);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Limit::Memory(n)
            | Limit::Stack(n)
            | Limit::Stdio(n)
            | Limit::RunStdio(n)
            | Limit::Arena(n)
            | Limit::FileSize(n)
            | Limit::FileBytes(n)
            | Limit::RunFileBytes(n)
            | Limit::RunMemory(n)
            | Limit::Output(n)
            | Limit::ConnectionMessage(n) => write!(f, "{}", Bytes(n)),
            Limit::Fuel(n)
            | Limit::Processes(n)
            | Limit::Objects(n)
            | Limit::QueueItems(n)
            | Limit::OpenFiles(n)
            | Limit::Connections(n) => write!(f, "{n}"),
            Limit::CpuTime(time)
            | Limit::WallTime(time)
            | Limit::RunCpuTime(time)
            | Limit::RunWallTime(time) => write!(f, "{}", Time(time)),
            Limit::Other => f.write_str("unknown"),
        }
    }
}

/// A size, exactly, in the largest unit of which it is a multiple.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.trailing_zeros() {
            30..64 => write!(f, "{} GiB", self.0 >> 30),
            20..30 => write!(f, "{} MiB", self.0 >> 20),
            10..20 => write!(f, "{} KiB", self.0 >> 10),
            _ => write!(f, "{} B", self.0),
        }
    }
}

/// A time in the largest of these units of which it is a multiple.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.subsec_micros() {
            0 => write!(f, "{} s", self.0.as_secs()),
            micros if micros % 1000 == 0 => write!(f, "{} ms", self.0.as_millis()),
            _ => write!(f, "{} µs", self.0.as_micros()),
        }
    }
}
