//! Limits of the processes of a run, and how they are set: in the builders, on the command line, in a file.
//!
//! Each limit is one row of a table: its field of [`Limits`], its value, and its value for untrusted code. Setters, the flags of
//! the command and the keys of a file come from the rows. A limit that a guest can meet has its name and a number in a row of the
//! contract with guests, `guest-sdk/abi/src/process/limit.rs`. `host/default-config.toml` explains all limits. Where one of the
//! three is missing, nothing compiles. `key.rs` has the table's macro, and a limit by its name.

mod key;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::key::Key;
use self::key::{Field, limits};
use crate::Result;
use crate::ipc::arena::Geometry;
use sandpool_abi::process::Limit;

/// The most bytes that are read of a module's file. This is WebAssembly's own usual limit for a module.
pub(crate) const MODULE_MAX: u64 = 1 << 30;

/// A smaller arena has room for next to nothing; for a larger one there are no addresses.
const ARENA: RangeInclusive<u64> = 1 << 20..=1 << 40;
/// Each object has a bit for each process beside it.
const OBJECTS: RangeInclusive<u64> = 1..=1 << 20;
/// Addresses bound it from above: how many there are is seen when a run starts.
const STACK: RangeInclusive<u64> = 64 << 10..=u64::MAX;
const PROCESSES: RangeInclusive<u64> = 1..=Geometry::PROCESSES_LIMIT as u64;
/// Each is looked at in each turn of the gateway.
const CONNECTIONS: RangeInclusive<u64> = 1..=4096;
/// The messages by which keys are compared have to fit.
const CONNECTION_MESSAGE: RangeInclusive<u64> = 256..=1 << 30;
/// The kernel's own limit is mostly the upper value.
const OPEN_FILES: RangeInclusive<u64> = 1..=1 << 19;

limits! {
    /// Limits of the processes of a run. A request that exceeds a limit is refused, or ends the process with
    /// [`ExitStatus::Limited`](crate::ExitStatus::Limited); the other processes go on.
    ///
    /// ```
    /// use std::time::Duration;
    /// use sandpool::Limits;
    ///
    /// let limits = Limits::default().cpu_time(Duration::from_secs(2)).memory_max(64 << 20);
    /// assert_eq!(limits.get("cpu-time").as_deref(), Some("2s"));
    /// ```
    ///
    /// A limit of a process holds for each process by itself, however it was started. So that a process doesn't get more by
    /// starting others, the limits of time, output, memory and files each have a sibling for all processes of a run together.
    /// `host/docs/process-model.md` says what happens at which limit.
    pub struct Limits;

    /// A limit with its name.
    ///
    /// ```
    /// let names: Vec<_> = sandpool::limits::LimitKey::ALL.iter().map(|key| key.name).collect();
    /// assert!(names.contains(&"memory-max"));
    /// ```
    pub type LimitKey;

    /// The most processes of a run at once: alive, or ended and not yet joined.
    processes_max {
        limit: Processes,
        value: Count u32,
        usual: 1024,
        untrusted: 128,
        within: PROCESSES,
        about: "Most processes at once that are alive, or have ended and were not yet joined",
    }
    /// The most queues, pipes, locks, pieces of shared memory and similar objects of a run at once.
    objects_max {
        limit: Objects,
        value: Count u32,
        usual: 65_536,
        untrusted: 4096,
        within: OBJECTS,
        about: "Most queues, pipes, locks, pieces of shared memory and the like at once",
    }
    /// Bytes for the contents of queues and pipes, and for shared memory. The tables come on top. Only used parts take memory.
    arena_size {
        limit: Arena,
        value: Size u64,
        usual: 1 << 30,
        untrusted: 256 << 20,
        within: ARENA,
        about: "Room for what is in queues and pipes, and for shared memory; only what is used takes memory",
    }
    /// The most items in one queue at once, even if the guest has set a higher bound for the queue, or none.
    queue_items_max {
        limit: QueueItems,
        value: MaybeCount Option<u64>,
        usual: None,
        untrusted: None,
        about: "Most items in each queue at once, whatever bound the guest gives the queue",
    }
    /// Bytes of linear memory of a process.
    memory_max {
        limit: Memory,
        value: Size u64,
        usual: 4 << 30,
        untrusted: 256 << 20,
        about: "Most linear memory of each process",
    }
    /// Bytes of linear memory of all processes of a run together. A forked process counts as much as its parent had, whether or not
    /// the kernel has copied it yet.
    run_memory_max {
        limit: RunMemory,
        value: MaybeSize Option<u64>,
        usual: None,
        untrusted: Some(1 << 30),
        about: "Most linear memory of all processes together",
    }
    /// Bytes of the stack that a process has for its calls. Languages keep a second stack in linear memory.
    stack_max {
        limit: Stack,
        value: Size u64,
        usual: 1 << 20,
        untrusted: 1 << 20,
        within: STACK,
        about: "Largest stack of each process for its calls",
    }
    /// Processor time that a process may take.
    cpu_time {
        limit: CpuTime,
        value: MaybeTime Option<Duration>,
        usual: None,
        untrusted: None,
        about: "Longest time of each process on a processor",
    }
    /// Time that a process may take from its start to its end.
    wall_time {
        limit: WallTime,
        value: MaybeTime Option<Duration>,
        usual: None,
        untrusted: None,
        about: "Longest time of each process from its start to its end",
    }
    /// Processor time that all processes of a run may take together.
    run_cpu_time {
        limit: RunCpuTime,
        value: MaybeTime Option<Duration>,
        usual: None,
        untrusted: Some(Duration::from_secs(5 * 60)),
        about: "Longest time of all processes together on processors",
    }
    /// Time that a run may take.
    run_wall_time {
        limit: RunWallTime,
        value: MaybeTime Option<Duration>,
        usual: None,
        untrusted: Some(Duration::from_secs(10 * 60)),
        about: "Longest time of the run",
    }
    /// Units of work that a process may do, about one for each instruction. The count is the same wherever and whenever the process
    /// runs, so the process ends at the same place. This limit needs a module that [counts](crate::module::Builder::sandbox). A
    /// forked process has the fuel that its parent had left, a spawned one all of it; in a pool, each task has all of it.
    fuel {
        limit: Fuel,
        value: MaybeCount Option<u64>,
        usual: None,
        untrusted: None,
        about: "Most work of each process, about one unit for each instruction: for ends that can be repeated",
    }
    /// Bytes that a process may write to stdout and stderr.
    stdio_max {
        limit: Stdio,
        value: MaybeSize Option<u64>,
        usual: None,
        untrusted: None,
        about: "Most output of each process to stdout and stderr",
    }
    /// Bytes that all processes of a run may write to stdout and stderr together.
    run_stdio_max {
        limit: RunStdio,
        value: MaybeSize Option<u64>,
        usual: None,
        untrusted: Some(16 << 20),
        about: "Most output of all processes together to stdout and stderr",
    }
    /// Bytes of the largest file that a process can write.
    file_size_max {
        limit: FileSize,
        value: MaybeSize Option<u64>,
        usual: None,
        untrusted: Some(64 << 20),
        about: "Largest file that a process may write",
    }
    /// Bytes that a process may write to files, all of them together.
    file_bytes_max {
        limit: FileBytes,
        value: MaybeSize Option<u64>,
        usual: None,
        untrusted: None,
        about: "Most bytes that each process may write to files",
    }
    /// Bytes that all processes of a run may write to files together.
    run_file_bytes_max {
        limit: RunFileBytes,
        value: MaybeSize Option<u64>,
        usual: None,
        untrusted: Some(256 << 20),
        about: "Most bytes that all processes together may write to files",
    }
    /// Files and directories that a process may have open at once, beside those that it was given.
    open_files_max {
        limit: OpenFiles,
        value: Count u32,
        usual: 256,
        untrusted: 64,
        within: OPEN_FILES,
        about: "Most open files and directories of each process, beside those that it was given",
    }
    /// Listeners and connections with the outside that a run may have at once, where addresses are
    /// [granted](crate::Sandbox::connect).
    connections_max {
        limit: Connections,
        value: Count u32,
        usual: 256,
        untrusted: 16,
        within: CONNECTIONS,
        about: "Most listeners and connections with the outside at once",
    }
    /// Bytes of a message on a connection with the outside, in either direction. A longer one from outside ends the connection.
    connection_message_max {
        limit: ConnectionMessage,
        value: Size u64,
        usual: 64 << 20,
        untrusted: 1 << 20,
        within: CONNECTION_MESSAGE,
        about: "Longest message on a connection with the outside, in either direction",
    }
}

limits! {
    /// Limits for loading a module: [`Sandbox::compile_limits`](crate::Sandbox::compile_limits). A module that exceeds one of them
    /// is refused, with [`Error::CompileLimit`](crate::Error::CompileLimit).
    ///
    /// ```
    /// use std::time::Duration;
    /// use sandpool::limits::CompileLimits;
    ///
    /// let limits = CompileLimits::default().compile_time_max(Duration::from_secs(10));
    /// assert_eq!(limits.get("compile-time-max").as_deref(), Some("10s"));
    /// ```
    ///
    /// A module in the cache was compiled before, perhaps within other limits, and isn't compiled again; only
    /// [`module_size_max`](Self::module_size_max) holds for such a module as well.
    pub struct CompileLimits;

    /// A limit of compiling, with its name.
    ///
    /// ```
    /// let names: Vec<_> = sandpool::limits::CompileLimitKey::ALL.iter().map(|key| key.name).collect();
    /// assert!(names.contains(&"artifact-max"));
    /// ```
    pub type CompileLimitKey;

    /// Bytes of the module.
    module_size_max {
        name: "module-size-max",
        value: Size u64,
        usual: MODULE_MAX,
        untrusted: 64 << 20,
        about: "Largest module",
    }
    /// Time that compiling may take.
    compile_time_max {
        name: "compile-time-max",
        value: Time Duration,
        usual: Duration::from_secs(5 * 60),
        untrusted: Duration::from_secs(60),
        about: "Longest time of compiling the module, if it isn't in the cache",
    }
    /// Time on all processors together that compiling may take, in whole seconds, rounded up.
    compile_cpu_max {
        name: "compile-cpu-max",
        value: Time Duration,
        usual: Duration::from_secs(10 * 60),
        untrusted: Duration::from_secs(2 * 60),
        about: "Longest time of all processors together for compiling the module, in whole seconds",
    }
    /// Bytes of memory that compiling may take.
    compile_memory_max {
        name: "compile-memory-max",
        value: Size u64,
        usual: 4 << 30,
        untrusted: 2 << 30,
        about: "Most memory for compiling the module",
    }
    /// Bytes of the compiled module.
    artifact_max {
        name: "artifact-max",
        value: Size u64,
        usual: 1 << 30,
        untrusted: 256 << 20,
        about: "Largest compiled module",
    }
}

/// The limit of the contract that is no setting of a run: a pool bounds the output of its tasks, and a run's owner bounds the bytes
/// that it keeps.
const OUTPUT: u32 = Limit::Output(0).code();

const _: () = {
    let mut code = 1;
    while code < Limit::CODES {
        assert!(
            key::has_code(LimitKey::ALL, code) || code == OUTPUT,
            "a limit of `guest-sdk/abi/src/process/limit.rs` has no row in `Limits`"
        );
        code += 1;
    }
};

impl Limits {
    /// The limit with this code and its value; `None` if the limit isn't set.
    pub(crate) fn by_code(&self, code: u32) -> Option<Limit> {
        let key = LimitKey::ALL.iter().find(|key| key.code != 0 && key.code == code)?;
        let figure = match (key.field)(&mut self.clone()) {
            Field::Count(count) => u64::from(*count),
            Field::Size(size) => *size,
            Field::MaybeCount(figure) | Field::MaybeSize(figure) => (*figure)?,
            Field::MaybeTime(time) => micros((*time)?),
            Field::Time(time) => micros(*time),
        };
        Some(Limit::from_parts(code, figure))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
