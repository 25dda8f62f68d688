//! The limits, by number, name and value.

use core::fmt;
use core::time::Duration;

/// The table of limits. A row is
///
/// ```text
/// /// Documentation of the variant.
/// 1 Memory "memory-max": Bytes, OfProcess, "memory";
/// ```
///
/// with the number and the name by which others know the limit, and which never change; its unit, `Bytes`, `Count` or `Time`;
/// whether it holds for each process (`OfProcess`) or for all together (`OfRun`), and then ends them all (`EndsRun`); and a phrase.
/// The host has a row for the same limit in `host/src/config/limits`, and doesn't compile without one.
macro_rules! limits {
    (
        $(#[$enum_doc:meta])*
        pub enum Limit;

        $(
            $(#[$doc:meta])*
            $code:literal $limit:ident $name:literal: $unit:ident, $reach:ident, $what:literal;
        )*
    ) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Limit {
            $($(#[$doc])* $limit(type_of!($unit)),)*
            /// A limit that this version doesn't know.
            Other,
        }

        impl Limit {
            /// The number of the limit: [`Status::detail`](super::Status::detail) of [`LIMITED`](super::LIMITED), and the
            /// argument of `limit`. The number never changes.
            #[must_use]
            pub const fn code(self) -> u32 {
                match self {
                    $(Self::$limit(_) => $code,)*
                    Self::Other => 0,
                }
            }

            /// The value of the limit: a number, bytes, units, or microseconds.
            #[must_use]
            pub fn figure(self) -> u64 {
                match self {
                    $(Self::$limit(value) => figure!($unit value),)*
                    Self::Other => 0,
                }
            }

            /// The limit of this [`code`](Self::code) and [`figure`](Self::figure).
            #[must_use]
            pub const fn from_parts(code: u32, figure: u64) -> Self {
                match code {
                    $($code => Self::$limit(value!($unit figure)),)*
                    _ => Self::Other,
                }
            }

            /// The number of codes: all codes are below this.
            pub const CODES: u32 = 1 + [$($code),*].len() as u32;

            /// The name by which the limit is set: that of a flag, and of a key in a configuration file. `output-max` has no
            /// key: only tasks have an output.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$limit(_) => $name,)*
                    Self::Other => "unknown",
                }
            }

            const fn reach(self) -> Reach {
                match self {
                    $(Self::$limit(_) => Reach::$reach,)*
                    Self::Other => Reach::OfProcess,
                }
            }
        }

        const _: () = {
            let (mut codes, mut last): (&[u32], u32) = (&[$($code),*], 0);
            while let [code, rest @ ..] = codes {
                assert!(*code == last + 1, "the rows of limits stand in the order of their numbers, without a gap");
                (codes, last) = (rest, *code);
            }
        };

        impl fmt::Display for Limit {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$limit(_) => write!(f, "{} {}", $what, Amount(*self)),)*
                    Self::Other => f.write_str("unknown"),
                }
            }
        }

        impl fmt::Display for Amount {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $(Limit::$limit(value) => shown!($unit value).fmt(f),)*
                    Limit::Other => f.write_str("unknown"),
                }
            }
        }
    };
}

/// The type of a limit's value.
macro_rules! type_of {
    (Time) => {
        Duration
    };
    ($number:ident) => {
        u64
    };
}

/// A value as the number that passes between a guest and the host.
macro_rules! figure {
    (Time $value:ident) => {
        u64::try_from($value.as_micros()).unwrap_or(u64::MAX)
    };
    ($number:ident $value:ident) => {
        $value
    };
}

/// The value that has this number.
macro_rules! value {
    (Time $figure:ident) => {
        Duration::from_micros($figure)
    };
    ($number:ident $figure:ident) => {
        $figure
    };
}

/// A value for people.
macro_rules! shown {
    (Bytes $value:ident) => {
        Bytes($value)
    };
    (Count $value:ident) => {
        $value
    };
    (Time $value:ident) => {
        Time($value)
    };
}

limits! {
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
    pub enum Limit;

    /// Bytes of linear memory.
    1 Memory "memory-max": Bytes, OfProcess, "memory";
    /// Bytes of the stack of WebAssembly.
    2 Stack "stack-max": Bytes, OfProcess, "stack";
    /// Time on a processor.
    3 CpuTime "cpu-time": Time, OfProcess, "cpu time";
    /// Time since the process has started.
    4 WallTime "wall-time": Time, OfProcess, "wall time";
    /// Bytes written to stdout and stderr.
    5 Stdio "stdio-max": Bytes, OfProcess, "stdout and stderr";
    /// Units of fuel.
    6 Fuel "fuel": Count, OfProcess, "fuel";
    /// Time on a processor of all processes of the run.
    7 RunCpuTime "run-cpu-time": Time, EndsRun, "cpu time of the run";
    /// Time since the run has started.
    8 RunWallTime "run-wall-time": Time, EndsRun, "wall time of the run";
    /// Bytes written to stdout and stderr by all processes of the run.
    9 RunStdio "run-stdio-max": Bytes, EndsRun, "stdout and stderr of the run";
    /// Processes of the run at once.
    10 Processes "processes-max": Count, OfRun, "processes of the run";
    /// Queues, pipes, locks and other objects of the run at once.
    11 Objects "objects-max": Count, OfRun, "objects of the run";
    /// Bytes of the run's arena: the content of queues and pipes, and shared memory.
    12 Arena "arena-size": Bytes, OfRun, "arena";
    /// Items in a queue at once.
    13 QueueItems "queue-items-max": Count, OfProcess, "items of a queue";
    /// Files and directories that are open at once.
    14 OpenFiles "open-files-max": Count, OfProcess, "open files";
    /// Bytes of a file that is written.
    15 FileSize "file-size-max": Bytes, OfProcess, "size of a file";
    /// Bytes written to files.
    16 FileBytes "file-bytes-max": Bytes, OfProcess, "bytes of files";
    /// Bytes written to files by all processes of the run.
    17 RunFileBytes "run-file-bytes-max": Bytes, OfRun, "bytes of files of the run";
    /// Bytes of linear memory of all processes of the run together.
    18 RunMemory "run-memory-max": Bytes, OfRun, "memory of the run";
    /// Bytes of the output of a task.
    19 Output "output-max": Bytes, OfProcess, "output";
    /// Listeners and connections with the outside of the run at once.
    20 Connections "connections-max": Count, OfRun, "connections of the run";
    /// Bytes of a message on a connection with the outside.
    21 ConnectionMessage "connection-message-max": Bytes, OfProcess, "message of a connection";
}

/// The processes that a limit holds for.
enum Reach {
    OfProcess,
    OfRun,
    /// All of the run, which end when it is reached.
    EndsRun,
}

impl Limit {
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
        matches!(self.reach(), Reach::OfRun | Reach::EndsRun)
    }

    /// Whether reaching the limit ends all processes of the run.
    #[must_use]
    pub fn ends_the_run(self) -> bool {
        matches!(self.reach(), Reach::EndsRun)
    }
}

/// The figure of a limit.
struct Amount(Limit);

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
