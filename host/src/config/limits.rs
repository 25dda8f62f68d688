//! What the processes of a run may use, and how that is said: in the builders, on the command line, in a file.
//!
//! Each limit is a field of [`Limits`] and a row of [`LimitKey::ALL`], which has its name for people. The flags of the
//! command and the keys of a file come from the rows; `host/default-config.toml` documents them all.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

use crate::config::Layer;
use crate::ipc::arena::Geometry;
use crate::nearest::nearest_name;
use crate::{Error, Limit, Result, units};

/// The configuration file in which everything is as it is without one, and every key is explained. `sandpool config`
/// prints it.
pub const DEFAULT_CONFIG: &str = include_str!("../../default-config.toml");

/// The most bytes that are read of a module's file. It is WebAssembly's own usual limit for a module.
pub(crate) const MODULE_MAX: u64 = 1 << 30;

/// The table of a configuration file that limits stand in.
const TABLE: &str = "limits";
/// The key that chooses many at once.
const PROFILE: &str = "profile";
/// How a limit is written that there is not.
const NONE: &str = "none";

/// What the processes of a run may use. What exceeds a limit is refused, or ends the process with
/// [`ExitStatus::Limited`](crate::ExitStatus::Limited); the others go on.
///
/// ```
/// use std::time::Duration;
/// use sandpool::Limits;
///
/// let limits = Limits { cpu_time: Some(Duration::from_secs(2)), memory_max: 64 << 20, ..Limits::default() };
/// assert_eq!(limits.get("cpu-time").as_deref(), Some("2s"));
/// ```
///
/// Limits of a process hold for each by itself, however it was started. So that nobody gets more by starting others, those
/// of time, output, memory and files have a sibling for all processes of a run together. What happens at which limit stands in
/// `host/docs/process-model.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Processes of a run that are alive, or have ended and weren't joined yet, at once.
    pub processes_max: u32,
    /// Queues, pipes, locks, pieces of shared memory and the like of a run at once.
    pub objects_max: u32,
    /// Bytes for what is in queues and pipes, and for shared memory. The tables come on top. Only what is used takes
    /// memory.
    pub arena_size: u64,
    /// Items that are in one queue at once, also if the guest has bounded it higher, or not at all.
    pub queue_items_max: Option<u64>,
    /// Bytes of linear memory of a process.
    pub memory_max: u64,
    /// Bytes of linear memory of all processes of a run together. A forked process has as much as its parent had, whether
    /// the kernel has copied it yet or not.
    pub run_memory_max: Option<u64>,
    /// Bytes of the stack that a process has for its calls. Languages keep a second one in linear memory.
    pub stack_max: u64,
    /// Time on a processor that a process may take.
    pub cpu_time: Option<Duration>,
    /// Time that a process may take from its start to its end.
    pub wall_time: Option<Duration>,
    /// Time on a processor that all processes of a run may take together.
    pub run_cpu_time: Option<Duration>,
    /// Time that a run may take.
    pub run_wall_time: Option<Duration>,
    /// Units of work that a process may do, one for each instruction or so: the same wherever and whenever it runs, so that
    /// it ends at the same place. It needs a module that
    /// [counts](crate::ModuleBuilder::count_fuel). A forked process has what its parent had left, a spawned one all of it; of a
    /// pool, each task.
    pub fuel: Option<u64>,
    /// Bytes that a process may write to stdout and stderr.
    pub stdio_max: Option<u64>,
    /// Bytes that all processes of a run may write to stdout and stderr together.
    pub run_stdio_max: Option<u64>,
    /// Bytes of the largest file that a process can write.
    pub file_size_max: Option<u64>,
    /// Bytes that a process may write to files, whichever they are.
    pub file_bytes_max: Option<u64>,
    /// Bytes that all processes of a run may write to files together.
    pub run_file_bytes_max: Option<u64>,
    /// Files and directories that a process has open at once, beside those that it was given.
    pub open_files_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            processes_max: 1024,
            objects_max: 65_536,
            arena_size: 1 << 30,
            queue_items_max: None,
            memory_max: 4 << 30,
            run_memory_max: None,
            stack_max: 1 << 20,
            cpu_time: None,
            wall_time: None,
            run_cpu_time: None,
            run_wall_time: None,
            fuel: None,
            stdio_max: None,
            run_stdio_max: None,
            file_size_max: None,
            file_bytes_max: None,
            run_file_bytes_max: None,
            open_files_max: 256,
        }
    }
}

impl Limits {
    /// Limits for code that nobody trusts: there is one of everything that a run takes. Those of time and of output are the
    /// run's, so they are for pools as well, of whose tasks [`task_timeout`](crate::PoolBuilder::task_timeout) bounds each.
    ///
    /// ```
    /// use sandpool::Limits;
    ///
    /// let limits = Limits { memory_max: 64 << 20, ..Limits::untrusted() };
    /// assert!(limits.run_wall_time.is_some());
    /// ```
    ///
    /// [`Profile::Untrusted`](crate::Profile) has what belongs to them: the layers of the jail to be required, and limits of
    /// compiling.
    #[must_use]
    pub fn untrusted() -> Self {
        Self {
            processes_max: 128,
            objects_max: 4096,
            arena_size: 256 << 20,
            memory_max: 256 << 20,
            run_memory_max: Some(1 << 30),
            run_cpu_time: Some(Duration::from_secs(5 * 60)),
            run_wall_time: Some(Duration::from_secs(10 * 60)),
            run_stdio_max: Some(16 << 20),
            file_size_max: Some(64 << 20),
            run_file_bytes_max: Some(256 << 20),
            open_files_max: 64,
            ..Self::default()
        }
    }

    /// These, but none higher than that of the others.
    ///
    /// ```
    /// use sandpool::Limits;
    ///
    /// let limits = Limits::default().no_higher_than(&Limits::untrusted());
    /// assert_eq!(limits, Limits::untrusted());
    /// ```
    #[must_use]
    pub fn no_higher_than(mut self, others: &Self) -> Self {
        lower(LimitKey::ALL, &mut self, others);
        self
    }
}

/// A limit by its name.
///
/// ```
/// let names: Vec<_> = sandpool::LimitKey::ALL.iter().map(|key| key.name).collect();
/// assert!(names.contains(&"memory-max"));
/// ```
pub type LimitKey = Key<Limits>;

/// A limit of some kind, by its name: a [`LimitKey`] or a [`CompileLimitKey`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Key<L: 'static> {
    /// its name in a file, and that of its flag
    pub name: &'static str,
    /// what its values are: `N`, `SIZE` or `TIME`
    pub value: &'static str,
    /// what it limits, as a phrase
    pub help: &'static str,
    field: for<'a> fn(&'a mut L) -> Field<'a>,
}

/// Where the value of a limit stands.
enum Field<'a> {
    Count(&'a mut u32),
    Size(&'a mut u64),
    MaybeCount(&'a mut Option<u64>),
    MaybeSize(&'a mut Option<u64>),
    MaybeTime(&'a mut Option<Duration>),
    Time(&'a mut Duration),
}

impl LimitKey {
    /// All limits.
    pub const ALL: &[Self] = &[
        Self {
            name: "processes-max",
            value: "N",
            help: "How many processes may be alive, or ended and not yet joined, at once",
            field: |limits| Field::Count(&mut limits.processes_max),
        },
        Self {
            name: "objects-max",
            value: "N",
            help: "How many queues, pipes, locks, pieces of shared memory and the like there may be at once",
            field: |limits| Field::Count(&mut limits.objects_max),
        },
        Self {
            name: "arena-size",
            value: "SIZE",
            help: "Room for what is in queues and pipes, and for shared memory; only what is used takes memory",
            field: |limits| Field::Size(&mut limits.arena_size),
        },
        Self {
            name: "queue-items-max",
            value: "N",
            help: "How many items each queue may hold, whatever bound the guest gives it",
            field: |limits| Field::MaybeCount(&mut limits.queue_items_max),
        },
        Self {
            name: "memory-max",
            value: "SIZE",
            help: "How much linear memory each process may have",
            field: |limits| Field::Size(&mut limits.memory_max),
        },
        Self {
            name: "run-memory-max",
            value: "SIZE",
            help: "How much linear memory all processes together may have",
            field: |limits| Field::MaybeSize(&mut limits.run_memory_max),
        },
        Self {
            name: "stack-max",
            value: "SIZE",
            help: "How much stack each process may have for its calls",
            field: |limits| Field::Size(&mut limits.stack_max),
        },
        Self {
            name: "cpu-time",
            value: "TIME",
            help: "How long each process may be on a processor",
            field: |limits| Field::MaybeTime(&mut limits.cpu_time),
        },
        Self {
            name: "wall-time",
            value: "TIME",
            help: "How long each process may take from its start to its end",
            field: |limits| Field::MaybeTime(&mut limits.wall_time),
        },
        Self {
            name: "run-cpu-time",
            value: "TIME",
            help: "How long all processes together may be on processors",
            field: |limits| Field::MaybeTime(&mut limits.run_cpu_time),
        },
        Self {
            name: "run-wall-time",
            value: "TIME",
            help: "How long the run may take",
            field: |limits| Field::MaybeTime(&mut limits.run_wall_time),
        },
        Self {
            name: "fuel",
            value: "N",
            help: "How much work each process may do, an instruction being one or so: for ends that can be repeated",
            field: |limits| Field::MaybeCount(&mut limits.fuel),
        },
        Self {
            name: "stdio-max",
            value: "SIZE",
            help: "How much each process may write to stdout and stderr",
            field: |limits| Field::MaybeSize(&mut limits.stdio_max),
        },
        Self {
            name: "run-stdio-max",
            value: "SIZE",
            help: "How much all processes together may write to stdout and stderr",
            field: |limits| Field::MaybeSize(&mut limits.run_stdio_max),
        },
        Self {
            name: "file-size-max",
            value: "SIZE",
            help: "How large a file may be that a process writes",
            field: |limits| Field::MaybeSize(&mut limits.file_size_max),
        },
        Self {
            name: "file-bytes-max",
            value: "SIZE",
            help: "How much each process may write to files",
            field: |limits| Field::MaybeSize(&mut limits.file_bytes_max),
        },
        Self {
            name: "run-file-bytes-max",
            value: "SIZE",
            help: "How much all processes together may write to files",
            field: |limits| Field::MaybeSize(&mut limits.run_file_bytes_max),
        },
        Self {
            name: "open-files-max",
            value: "N",
            help: "How many files and directories each process may have open, beside those that it was given",
            field: |limits| Field::Count(&mut limits.open_files_max),
        },
    ];

    /// The limit of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|key| key.name == name)
    }
}

impl<L: Clone + Default> Key<L> {
    /// What it is when nothing is said.
    #[must_use]
    pub fn default(&self) -> String {
        (self.field)(&mut L::default()).show()
    }

    /// Refuses what is no value for it.
    ///
    /// # Errors
    /// What to write instead.
    pub fn check(&self, value: &str) -> Result<(), String> {
        (self.field)(&mut L::default()).set(value)
    }

    /// Refuses what is no limit at all.
    fn check_is_something(&self, limits: &L) -> Result<()> {
        let mut limits = limits.clone();
        let is_nothing = match (self.field)(&mut limits) {
            Field::Count(count) => *count == 0,
            Field::Size(size) => *size == 0,
            Field::MaybeCount(count) | Field::MaybeSize(count) => *count == Some(0),
            Field::MaybeTime(time) => *time == Some(Duration::ZERO),
            Field::Time(time) => time.is_zero(),
        };
        match is_nothing {
            true => Err(self.invalid("0", "give more than nothing, or no limit")),
            false => Ok(()),
        }
    }

    fn invalid(&self, value: &str, why: &str) -> Error {
        Error::Invalid {
            what: format!("`{value}` is no value for {}", self.name),
            hint: Some(why.to_owned()),
        }
    }
}

impl Field<'_> {
    fn set(self, text: &str) -> Result<(), String> {
        fn maybe<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
            if text == NONE {
                return Ok(None);
            }
            parse(text).map(Some).map_err(|why| format!("{why}; or {NONE}"))
        }
        fn count<T: FromStr + Default + PartialEq>(text: &str) -> Result<T, String> {
            let number = text.parse().ok().filter(|number| *number != T::default());
            number.ok_or_else(|| "give a number, 1 or more".to_owned())
        }
        let size = |text: &str| units::size(text).map_err(str::to_owned);
        let time = |text: &str| units::time(text).map_err(str::to_owned);
        match self {
            Self::Count(field) => *field = count(text)?,
            Self::Size(field) => *field = size(text)?,
            Self::Time(field) => *field = time(text)?,
            Self::MaybeCount(field) => *field = maybe(text, count)?,
            Self::MaybeSize(field) => *field = maybe(text, size)?,
            Self::MaybeTime(field) => *field = maybe(text, time)?,
        }
        Ok(())
    }

    /// Makes it that of the other, if that is lower.
    fn lower(self, other: Self) {
        fn maybe<T: Ord + Copy>(limit: &mut Option<T>, other: Option<T>) {
            *limit = match (*limit, other) {
                (Some(limit), Some(other)) => Some(limit.min(other)),
                (limit, other) => limit.or(other),
            };
        }
        match (self, other) {
            (Self::Count(limit), Self::Count(other)) => *limit = *other.min(limit),
            (Self::Size(limit), Self::Size(other)) => *limit = *other.min(limit),
            (Self::Time(limit), Self::Time(other)) => *limit = *other.min(limit),
            (Self::MaybeCount(limit), Self::MaybeCount(other))
            | (Self::MaybeSize(limit), Self::MaybeSize(other)) => maybe(limit, *other),
            (Self::MaybeTime(limit), Self::MaybeTime(other)) => maybe(limit, *other),
            // Both are of the same key.
            _ => {}
        }
    }

    fn show(self) -> String {
        let none = || NONE.to_owned();
        match self {
            Self::Count(field) => field.to_string(),
            Self::Size(field) => units::of_size(*field),
            Self::Time(field) => units::of_time(*field),
            Self::MaybeCount(field) => field.map_or_else(none, |count| count.to_string()),
            Self::MaybeSize(field) => field.map_or_else(none, units::of_size),
            Self::MaybeTime(field) => field.map_or_else(none, units::of_time),
        }
    }
}

/// An arena that is smaller has room for next to nothing; one that is larger has no addresses.
const ARENA: RangeInclusive<u64> = 1 << 20..=1 << 40;
/// A bit for each process stands beside each object.
const OBJECTS: RangeInclusive<u64> = 1..=1 << 20;
/// The kernel leaves room for a stack of 128 MiB below all that it maps.
const STACK: RangeInclusive<u64> = 64 << 10..=64 << 20;
const PROCESSES: RangeInclusive<u64> = 1..=Geometry::PROCESSES_LIMIT as u64;
/// Where the kernel's own limit mostly lies.
const OPEN_FILES: RangeInclusive<u64> = 1..=1 << 19;

impl Limits {
    /// The limits that the text of a configuration file sets; the others are as they are without one.
    ///
    /// ```
    /// let limits = sandpool::Limits::from_toml("limits.cpu-time = '1.5s'\nlimits.memory-max = '64MiB'")?;
    /// assert_eq!(limits.memory_max, 64 << 20);
    ///
    /// let error = sandpool::Limits::from_toml("[limits]\nmemory-min = '64MiB'").unwrap_err();
    /// assert_eq!(error.to_string(), "line 2: there is no key limits.memory-min");
    /// assert_eq!(error.hint().as_deref(), Some("the nearest that there is: limits.memory-max"));
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no TOML, a key that there is not, and a value that makes no sense.
    pub fn from_toml(text: &str) -> Result<Self> {
        Ok(read(text)?.limits)
    }

    /// The limits that a configuration file sets; the others are as they are without one.
    ///
    /// ```no_run
    /// let limits = sandpool::Limits::from_file("sandpool.toml")?;
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`], with what [`from_toml`](Self::from_toml) says of it, or why it can't be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        Ok(read_file(path.as_ref())?.limits)
    }

    /// Sets one by its name.
    ///
    /// ```
    /// let mut limits = sandpool::Limits::default();
    /// limits.set("wall-time", "5min")?;
    /// assert_eq!(limits.wall_time.map(|time| time.as_secs()), Some(300));
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that there is not, and a value that makes no sense.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        set(LimitKey::ALL, self, name, value)
    }

    /// The value of one by its name, as [`set`](Self::set) takes it; `None` if there is no such limit.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        Some((LimitKey::of(name)?.field)(&mut self.clone()).show())
    }

    /// The one of this code, and where it lies; `None` if it isn't set.
    pub(crate) fn by_code(&self, code: u32) -> Option<Limit> {
        let key = LimitKey::of(Limit::from_parts(code, 0).name())?;
        let figure = match (key.field)(&mut self.clone()) {
            Field::Count(count) => u64::from(*count),
            Field::Size(size) => *size,
            Field::MaybeCount(figure) | Field::MaybeSize(figure) => (*figure)?,
            Field::MaybeTime(time) => micros((*time)?),
            Field::Time(time) => micros(*time),
        };
        Some(Limit::from_parts(code, figure))
    }

    /// Refuses what can't be had.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, range) in [
            ("processes-max", PROCESSES),
            ("objects-max", OBJECTS),
            ("arena-size", ARENA),
            ("stack-max", STACK),
            ("open-files-max", OPEN_FILES),
        ] {
            let mut limits = self.clone();
            let Some(key) = LimitKey::of(name) else { continue };
            let (value, show): (_, fn(u64) -> String) = match (key.field)(&mut limits) {
                Field::Count(count) => (u64::from(*count), |count| count.to_string()),
                Field::Size(size) => (*size, units::of_size),
                _ => continue,
            };
            if !range.contains(&value) {
                let why = format!("between {} and {}", show(*range.start()), show(*range.end()));
                return Err(key.invalid(&show(value), &why));
            }
        }
        LimitKey::ALL.iter().try_for_each(|key| key.check_is_something(self))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Makes none of these limits higher than that of the others.
fn lower<L: Clone>(keys: &[Key<L>], limits: &mut L, others: &L) {
    let mut others = others.clone();
    for key in keys {
        (key.field)(limits).lower((key.field)(&mut others));
    }
}

/// Sets one of several limits by its name.
fn set<L: Clone + Default>(keys: &[Key<L>], limits: &mut L, name: &str, value: &str) -> Result<()> {
    let Some(key) = keys.iter().find(|key| key.name == name) else {
        let near = nearest_name(keys.iter().map(|key| key.name), name);
        return Err(Error::Invalid {
            what: format!("there is no limit {name}"),
            hint: near.map(|name| format!("the nearest that there is: {name}")),
        });
    };
    (key.field)(limits).set(value).map_err(|why| key.invalid(value, &why))
}

/// What a configuration file says.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    profile: Option<Profile>,
    limits: Limits,
    compile: CompileLimits,
}

/// All that a configuration file sets.
fn read_file(path: &Path) -> Result<Settings> {
    let config = |source| Error::Config { path: path.to_owned(), source: Box::new(source) };
    let unreadable = |source| config(Error::Os { what: "read it", source });
    read(&std::fs::read_to_string(path).map_err(unreadable)?).map_err(config)
}

/// All that the text of a configuration file sets. Its own keys go before its profile, wherever that stands.
fn read(text: &str) -> Result<Settings> {
    let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let invalid = |at: usize, what: String, hint: Option<String>| Error::Invalid {
        what: format!("line {}: {what}", line(at)),
        hint,
    };
    let nearest = |nearest: Option<String>| nearest.map(|name| format!("the nearest that there is: {name}"));
    let file = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        invalid(at, error.message().to_owned(), None)
    })?;
    let names =
        || LimitKey::ALL.iter().map(|key| key.name).chain(CompileLimitKey::ALL.iter().map(|key| key.name));
    let profile = file.get_ref().iter().find(|(key, _)| key.get_ref().as_ref() == PROFILE);
    let profile = profile.map(|(key, value)| {
        let at = key.span().start;
        let Some(name) = value.get_ref().as_str() else {
            let found = value.get_ref().type_str();
            return Err(invalid(at, format!("{PROFILE} is a {found}, not a name"), None));
        };
        name.parse().map_err(|error: Error| invalid(at, error.to_string(), error.hint()))
    });
    let profile: Option<Profile> = profile.transpose()?;
    let mut limits = profile.map_or_else(Limits::default, Profile::limits);
    let mut compile = profile.map_or_else(CompileLimits::default, Profile::compile_limits);
    for (table, value) in file.get_ref() {
        let at = table.span().start;
        let table = table.get_ref().as_ref();
        if table == PROFILE {
            continue;
        }
        if table != TABLE {
            let near = nearest_name([TABLE, PROFILE], table).map(str::to_owned);
            // A limit outside of its table has been forgotten there.
            let near =
                near.or_else(|| names().find(|name| *name == table).map(|name| format!("{TABLE}.{name}")));
            return Err(invalid(at, format!("there is no key {table}"), nearest(near)));
        }
        let Some(keys) = value.get_ref().as_table() else {
            let found = value.get_ref().type_str();
            return Err(invalid(at, format!("{TABLE} is a {found}, not a table"), None));
        };
        for (name, value) in keys {
            let (at, name) = (name.span().start, name.get_ref().as_ref());
            let (kind, field) = if let Some(key) = LimitKey::of(name) {
                (key.value, (key.field)(&mut limits))
            } else if let Some(key) = CompileLimitKey::of(name) {
                (key.value, (key.field)(&mut compile))
            } else {
                let near = nearest_name(names(), name).map(|name| format!("{TABLE}.{name}"));
                return Err(invalid(at, format!("there is no key {TABLE}.{name}"), nearest(near)));
            };
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.to_string(),
                other => {
                    let what = match kind {
                        "TIME" => "a time, such as \"5s\"",
                        "SIZE" => "a size, such as \"256MiB\"",
                        _ => "a number",
                    };
                    let found = other.type_str();
                    return Err(invalid(at, format!("{TABLE}.{name} is a {found}, not {what}"), None));
                }
            };
            field
                .set(&text)
                .map_err(|why| invalid(at, format!("`{text}` is no value for {TABLE}.{name}"), Some(why)))?;
        }
    }
    Ok(Settings { profile, limits, compile })
}

/// How much loading a module may take: [`ModuleBuilder::limits`](crate::ModuleBuilder::limits). What exceeds one of them is
/// refused, with [`Error::CompileLimit`].
///
/// ```
/// use std::time::Duration;
/// use sandpool::CompileLimits;
///
/// let limits = CompileLimits { compile_time_max: Duration::from_secs(10), ..CompileLimits::default() };
/// assert_eq!(limits.get("compile-time-max").as_deref(), Some("10s"));
/// assert_eq!(CompileLimits::from_toml("limits.module-size-max = '10MiB'")?.module_size_max, 10 << 20);
/// # Ok::<(), sandpool::Error>(())
/// ```
///
/// What is in the cache was compiled before, perhaps within other limits, and isn't compiled again; only
/// [`module_size_max`](Self::module_size_max) holds for it as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileLimits {
    /// Bytes of the module.
    pub module_size_max: u64,
    /// Time that compiling may take.
    pub compile_time_max: Duration,
    /// Time on all processors together that compiling may take, in whole seconds; parts of one are added up to one.
    pub compile_cpu_max: Duration,
    /// Bytes of memory that compiling may take.
    pub compile_memory_max: u64,
    /// Bytes of the compiled module.
    pub artifact_max: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            module_size_max: MODULE_MAX,
            compile_time_max: Duration::from_secs(5 * 60),
            compile_cpu_max: Duration::from_secs(10 * 60),
            compile_memory_max: 4 << 30,
            artifact_max: 1 << 30,
        }
    }
}

impl CompileLimits {
    /// For a module that nobody trusts.
    #[must_use]
    pub fn untrusted() -> Self {
        Self {
            module_size_max: 64 << 20,
            compile_time_max: Duration::from_secs(60),
            compile_cpu_max: Duration::from_secs(2 * 60),
            compile_memory_max: 2 << 30,
            artifact_max: 256 << 20,
        }
    }

    /// As [`Limits::no_higher_than`].
    #[must_use]
    pub fn no_higher_than(mut self, others: &Self) -> Self {
        lower(CompileLimitKey::ALL, &mut self, others);
        self
    }
}

/// A limit of compiling by its name.
///
/// ```
/// let names: Vec<_> = sandpool::CompileLimitKey::ALL.iter().map(|key| key.name).collect();
/// assert!(names.contains(&"artifact-max"));
/// ```
pub type CompileLimitKey = Key<CompileLimits>;

impl CompileLimitKey {
    /// All limits of compiling.
    pub const ALL: &[Self] = &[
        Self {
            name: "module-size-max",
            value: "SIZE",
            help: "How large the module may be",
            field: |limits| Field::Size(&mut limits.module_size_max),
        },
        Self {
            name: "compile-time-max",
            value: "TIME",
            help: "How long compiling the module may take, if it isn't in the cache",
            field: |limits| Field::Time(&mut limits.compile_time_max),
        },
        Self {
            name: "compile-cpu-max",
            value: "TIME",
            help: "How long all processors together may compile the module, in whole seconds",
            field: |limits| Field::Time(&mut limits.compile_cpu_max),
        },
        Self {
            name: "compile-memory-max",
            value: "SIZE",
            help: "How much memory compiling the module may take",
            field: |limits| Field::Size(&mut limits.compile_memory_max),
        },
        Self {
            name: "artifact-max",
            value: "SIZE",
            help: "How large the compiled module may be",
            field: |limits| Field::Size(&mut limits.artifact_max),
        },
    ];

    /// The limit of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|key| key.name == name)
    }
}

impl CompileLimits {
    /// As [`Limits::from_toml`], of the same file.
    ///
    /// # Errors
    /// As there.
    pub fn from_toml(text: &str) -> Result<Self> {
        Ok(read(text)?.compile)
    }

    /// As [`Limits::from_file`], of the same file.
    ///
    /// # Errors
    /// As there.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        Ok(read_file(path.as_ref())?.compile)
    }

    /// Sets one by its name.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that there is not, and a value that makes no sense.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        set(CompileLimitKey::ALL, self, name, value)
    }

    /// The value of one by its name, as [`set`](Self::set) takes it; `None` if there is no such limit.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        Some((CompileLimitKey::of(name)?.field)(&mut self.clone()).show())
    }

    /// Refuses what can't be had.
    pub(crate) fn check(&self) -> Result<()> {
        CompileLimitKey::ALL.iter().try_for_each(|key| key.check_is_something(self))
    }
}

/// Settings that are chosen by one word: `--profile`, or the key `profile` of a configuration file.
///
/// ```no_run
/// # fn main() -> sandpool::Result<()> {
/// use sandpool::{Module, Profile, Run};
///
/// let profile = Profile::Untrusted;
/// let layers = profile.required_layers();
/// let module = Module::builder()
///     .limits(profile.compile_limits())
///     .require_jail(layers.iter().copied())
///     .load_file("stranger.wasm")?;
/// Run::builder(&module).limits(profile.limits()).require_jail(layers.iter().copied()).start()?.wait()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// For code that nobody trusts.
    Untrusted,
}

impl Profile {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Untrusted];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
        }
    }

    /// The one that a configuration file chooses, if it does.
    ///
    /// # Errors
    /// As of [`Limits::from_file`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Option<Self>> {
        Ok(read_file(path.as_ref())?.profile)
    }

    /// Limits of what runs.
    #[must_use]
    pub fn limits(self) -> Limits {
        match self {
            Self::Untrusted => Limits::untrusted(),
        }
    }

    /// Limits of what is compiled.
    #[must_use]
    pub fn compile_limits(self) -> CompileLimits {
        match self {
            Self::Untrusted => CompileLimits::untrusted(),
        }
    }

    /// The layers of the jail that are required.
    #[must_use]
    pub fn required_layers(self) -> &'static [Layer] {
        match self {
            Self::Untrusted => &Layer::ALL,
        }
    }

    /// How long each task of a pool may run.
    #[must_use]
    pub fn task_timeout(self) -> Duration {
        match self {
            Self::Untrusted => Duration::from_secs(10),
        }
    }

    /// A configuration file that chooses it, with all limits that it sets.
    ///
    /// ```
    /// let text = sandpool::Profile::Untrusted.config();
    /// assert_eq!(sandpool::Limits::from_toml(&text)?, sandpool::Limits::untrusted());
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    #[must_use]
    pub fn config(self) -> String {
        let (limits, compile) = (self.limits(), self.compile_limits());
        let mut text = format!(
            "# The profile {name}, as --profile {name} chooses it, and what it sets. The command line has two more:\n\
             #   --require-jail full   nothing is compiled or run unless all layers of the jail hold\n\
             #   --task-timeout {}    for each task of `sandpool map`\n\
             # A flag of the same name sets one otherwise, as do the keys below.\n\n\
             {PROFILE} = \"{name}\"\n\n[{TABLE}]\n",
            units::of_time(self.task_timeout()),
            name = self.name(),
        );
        // Each key stands in a paragraph of its own there, below what is said about it.
        for paragraph in DEFAULT_CONFIG.split("\n\n") {
            let paragraph = paragraph.trim_end();
            let (about, line) = paragraph.rsplit_once('\n').unwrap_or(("", paragraph));
            let Some((name, default)) = line.split_once(" = ") else { continue };
            let Some(value) = limits.get(name).or_else(|| compile.get(name)) else { continue };
            let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
            let value = if is_number { value } else { format!("\"{value}\"") };
            if value != default {
                text.push_str(&format!("\n{about}\n{name} = {value}\n"));
            }
        }
        text
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|profile| profile.name() == name).ok_or_else(|| Error::Invalid {
            what: format!("there is no profile {name}"),
            hint: Some(format!(
                "there is: {}",
                Self::ALL.iter().map(|profile| profile.name()).collect::<Vec<_>>().join(", ")
            )),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::fmt::Debug;

    use super::*;

    /// A value that isn't the default, for each kind.
    fn other<L>(key: &Key<L>) -> &'static str {
        match key.value {
            "N" => "7",
            "SIZE" => "2MiB",
            _ => "90s",
        }
    }

    #[test]
    fn the_default_file_says_what_holds_without_one() {
        let nothing = || defaults(Limits::default(), CompileLimits::default());
        assert_eq!(read(DEFAULT_CONFIG).unwrap(), nothing());
        assert_eq!(read("").unwrap(), nothing());
        are_documented(LimitKey::ALL);
        are_documented(CompileLimitKey::ALL);
    }

    fn defaults(limits: Limits, compile: CompileLimits) -> Settings {
        Settings { profile: None, limits, compile }
    }

    fn are_documented<L: Clone + Default>(keys: &[Key<L>]) {
        for key in keys {
            let found = DEFAULT_CONFIG
                .lines()
                .zip(DEFAULT_CONFIG.lines().skip(1))
                .find(|(_, line)| line.strip_prefix(key.name).is_some_and(|rest| rest.starts_with(" = ")));
            let (above, line) = found.unwrap_or_else(|| panic!("{} is missing", key.name));
            assert!(above.starts_with("# "), "nothing is said of {}", key.name);
            assert!(line.trim_matches('"').ends_with(&key.default()), "{line}, not {}", key.default());
        }
    }

    /// A field without a row can't be set by name.
    #[test]
    fn every_field_is_a_key_and_every_key_another_field() {
        are_fields(LimitKey::ALL);
        are_fields(CompileLimitKey::ALL);
        assert!(LimitKey::ALL.iter().all(|key| CompileLimitKey::of(key.name).is_none()));
    }

    fn are_fields<L: Clone + Default + PartialEq + Debug + Serialize>(keys: &[Key<L>]) {
        let fields = |limits: &L| -> Vec<String> {
            let value = serde_json::to_value(limits).unwrap();
            value.as_object().unwrap().iter().map(|(name, value)| format!("{name} {value}")).collect()
        };
        let default = fields(&L::default());
        assert_eq!(default.len(), keys.len());
        for key in keys {
            let mut limits = L::default();
            set(keys, &mut limits, key.name, other(key)).unwrap();
            let changed = fields(&limits);
            let changed: Vec<_> = changed.iter().filter(|field| !default.contains(field)).collect();
            let [changed] = changed[..] else { panic!("{}: {changed:?}", key.name) };
            assert!(changed.starts_with(&format!("{} ", key.name.replace('-', "_"))), "{changed:?}");
            assert_eq!((key.field)(&mut limits).show(), other(key));
            set(keys, &mut limits, key.name, &key.default()).unwrap();
            assert_eq!(limits, L::default());
        }
    }

    #[test]
    fn every_key_has_the_code_that_guests_know_it_by() {
        for key in LimitKey::ALL {
            let code = Limit::code_of(key.name).unwrap();
            let mut limits = Limits::default();
            limits.set(key.name, other(key)).unwrap();
            let limit = limits.by_code(code).unwrap();
            assert_eq!((limit.name(), limit.code()), (key.name, code));
            let figure = match key.value {
                "N" => 7,
                "SIZE" => 2 << 20,
                _ => 90_000_000,
            };
            assert_eq!(limit.figure(), figure);
            limits.set(key.name, &key.default()).unwrap();
            assert_eq!(limits.by_code(code).is_none(), key.default() == NONE);
        }
        assert_eq!(Limits::default().by_code(0), None);
    }

    #[test]
    fn a_file_sets_each_and_leaves_the_others() {
        for key in LimitKey::ALL {
            let text = format!("# mine\n[limits]\n{} = {:?}\n", key.name, other(key));
            let mut expected = Limits::default();
            expected.set(key.name, other(key)).unwrap();
            assert_eq!(Limits::from_toml(&text).unwrap(), expected);
        }
        for key in CompileLimitKey::ALL {
            let text = format!("[limits]\n{} = {:?}\n", key.name, other(key));
            let mut expected = CompileLimits::default();
            expected.set(key.name, other(key)).unwrap();
            assert_eq!(expected.get(key.name).as_deref(), Some(other(key)));
            assert_eq!(read(&text).unwrap(), defaults(Limits::default(), expected));
        }
        let limits = Limits::from_toml("limits = { processes-max = 8, memory-max = 65536 }").unwrap();
        assert_eq!((limits.processes_max, limits.memory_max), (8, 65_536));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_its_line() {
        for (text, message, hint) in [
            ("[limits]\n\nmemroy-max = 1", "line 3: there is no key limits.memroy-max", "limits.memory-max"),
            (
                "[limits]\ncompile-time = '1s'",
                "line 2: there is no key limits.compile-time",
                "compile-time-max",
            ),
            (
                "[limits]\ncompile-cpu-max = 'none'",
                "line 2: `none` is no value for limits.compile-cpu-max",
                "ms, s",
            ),
            ("artifact-max = '1MiB'", "line 1: there is no key artifact-max", "limits.artifact-max"),
            ("[limits]\ncolour = 1", "line 2: there is no key limits.colour", ""),
            ("[limit]\n", "line 1: there is no key limit", "limits"),
            ("\nmemory-max = '1MiB'", "line 2: there is no key memory-max", "limits.memory-max"),
            ("limits = 3", "line 1: limits is a integer, not a table", ""),
            (
                "[limits]\ncpu-time = 5.0",
                "line 2: limits.cpu-time is a float, not a time, such as \"5s\"",
                "",
            ),
            ("[limits]\nprocesses-max = true", "line 2: limits.processes-max is a boolean, not a number", ""),
            (
                "[limits]\ncpu-time = 5",
                "line 2: `5` is no value for limits.cpu-time",
                "ms, s, min or h; or none",
            ),
            (
                "[limits]\nmemory-max = '1MB'",
                "line 2: `1MB` is no value for limits.memory-max",
                "KiB, MiB or GiB",
            ),
            (
                "[limits]\nprocesses-max = -1",
                "line 2: `-1` is no value for limits.processes-max",
                "1 or more",
            ),
            ("[limits\n", "line 1: ", ""),
            ("[limits]\nstack-max = '1MiB'\nstack-max = '2MiB'", "line 3: ", ""),
        ] {
            let error = Limits::from_toml(text).unwrap_err();
            assert!(error.to_string().starts_with(message), "{text}: {error}");
            assert!(error.hint().unwrap_or_default().contains(hint), "{text}: {:?}", error.hint());
        }
    }

    /// One of everything that a run takes, by what a run as a whole may take or how many processes there may be.
    #[test]
    fn untrusted_code_is_bounded_in_everything() {
        let limits = Limits::untrusted();
        limits.check().unwrap();
        CompileLimits::untrusted().check().unwrap();
        for key in LimitKey::ALL {
            let of_the_run = LimitKey::of(&format!("run-{}", key.name)).unwrap_or(key);
            let is_bounded = limits.get(of_the_run.name).unwrap() != NONE;
            // These bound nothing that others don't: instructions take time, and items room.
            assert!(is_bounded || ["fuel", "queue-items-max"].contains(&key.name), "{}", key.name);
        }
        assert_eq!(Limits::default().no_higher_than(&limits), limits);
        assert_eq!(limits.clone().no_higher_than(&Limits::default()), limits);
        let compile = CompileLimits::untrusted();
        assert_eq!(CompileLimits::default().no_higher_than(&compile), compile);
    }

    #[test]
    fn a_profile_is_a_file_and_the_files_keys_go_before_it() {
        let text = Profile::Untrusted.config();
        let untrusted = |limits| Settings {
            profile: Some(Profile::Untrusted),
            limits,
            compile: CompileLimits::untrusted(),
        };
        assert_eq!(read(&text).unwrap(), untrusted(Limits::untrusted()));
        // It has no more keys than it sets, each with what is said about it.
        let keys: Vec<_> = text.lines().filter_map(|line| line.split_once(" = ")).collect();
        assert_eq!(keys.len(), 1 + 11 + 5, "{text}");
        assert!(keys.contains(&("memory-max", "\"256MiB\"")) && keys.contains(&("processes-max", "128")));
        let shorter: String =
            text.lines().filter(|line| !line.contains("-max = ")).map(|line| format!("{line}\n")).collect();
        assert_eq!(read(&shorter).unwrap(), untrusted(Limits::untrusted()));

        for text in [
            "profile = 'untrusted'\n[limits]\nmemory-max = '1GiB'\nrun-cpu-time = 'none'",
            "limits = { memory-max = '1GiB', run-cpu-time = 'none' }\nprofile = 'untrusted'",
        ] {
            let limits = Limits { memory_max: 1 << 30, run_cpu_time: None, ..Limits::untrusted() };
            assert_eq!(read(text).unwrap(), untrusted(limits));
        }
        for (text, message, hint) in [
            ("\nprofile = 'trusted'", "line 2: there is no profile trusted", "untrusted"),
            ("profile = 1", "line 1: profile is a integer, not a name", ""),
            ("profil = 'untrusted'", "line 1: there is no key profil", "profile"),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert!(error.hint().unwrap_or_default().contains(hint), "{error:?}");
        }
    }

    #[test]
    fn the_lower_of_two_limits_of_each_kind() {
        for (one, other, lower) in [("1MiB", "2MiB", "1MiB"), ("2MiB", "1MiB", "1MiB")] {
            let (mut limits, mut others) = (Limits::default(), Limits::default());
            limits.set("memory-max", one).unwrap();
            others.set("memory-max", other).unwrap();
            assert_eq!(limits.no_higher_than(&others).get("memory-max").as_deref(), Some(lower));
        }
        for name in ["fuel", "cpu-time", "stdio-max", "processes-max"] {
            let key = LimitKey::of(name).unwrap();
            let mut limited = Limits::default();
            limited.set(name, other(key)).unwrap();
            assert_eq!(Limits::default().no_higher_than(&limited), limited);
            assert_eq!(limited.clone().no_higher_than(&Limits::default()), limited);
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        Limits::default().check().unwrap();
        for (name, value, hint) in [
            ("processes-max", "40000", "between 1 and 32768"),
            ("objects-max", "2000000", "between 1 and 1048576"),
            ("arena-size", "100", "between 1MiB and 1024GiB"),
            ("stack-max", "1KiB", "between 64KiB and 64MiB"),
            ("open-files-max", "1000000", "between 1 and 524288"),
        ] {
            let mut limits = Limits::default();
            limits.set(name, value).unwrap();
            assert_eq!(limits.check().unwrap_err().hint().as_deref(), Some(hint));
        }
        let limits = Limits { wall_time: Some(Duration::ZERO), ..Limits::default() };
        assert_eq!(limits.check().unwrap_err().to_string(), "`0` is no value for wall-time");
        let error = Limits::default().set("memory", "1MiB").unwrap_err();
        assert_eq!(error.to_string(), "there is no limit memory");
        let limits = CompileLimits { compile_time_max: Duration::ZERO, ..CompileLimits::default() };
        assert_eq!(limits.check().unwrap_err().to_string(), "`0` is no value for compile-time-max");
    }

    /// Some take nothing for no limit: a queue without a bound, for one.
    #[test]
    fn no_limit_is_nothing() {
        are_not_nothing(LimitKey::ALL, Limits::check);
        are_not_nothing(CompileLimitKey::ALL, CompileLimits::check);
    }

    fn are_not_nothing<L: Clone + Default>(keys: &[Key<L>], check: fn(&L) -> Result<()>) {
        for key in keys {
            let mut limits = L::default();
            match (key.field)(&mut limits) {
                Field::Count(count) => *count = 0,
                Field::Size(size) => *size = 0,
                Field::MaybeCount(count) | Field::MaybeSize(count) => *count = Some(0),
                Field::MaybeTime(time) => *time = Some(Duration::ZERO),
                Field::Time(time) => *time = Duration::ZERO,
            }
            let error = check(&limits).unwrap_err();
            assert!(error.to_string().ends_with(&format!(" is no value for {}", key.name)), "{error}");
            assert!(error.hint().is_some(), "{}", key.name);
            // Nor is it how people may write it, in any unit.
            for text in ["0", "00", "0B", "0KiB", "0GiB", "0s", "0ms", "0.0s", "0h", "-1", "", " "] {
                assert!(key.check(text).is_err(), "{}: {text:?}", key.name);
            }
            // And the least that there is, is one, as far as that makes sense.
            match (key.field)(&mut limits) {
                Field::Count(count) => *count = 1,
                Field::Size(size) => *size = 1 << 20,
                Field::MaybeCount(count) | Field::MaybeSize(count) => *count = Some(1),
                Field::MaybeTime(time) => *time = Some(Duration::from_nanos(1)),
                Field::Time(time) => *time = Duration::from_nanos(1),
            }
            check(&limits).unwrap();
        }
    }
}
