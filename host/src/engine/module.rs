//! A module that was checked and compiled, ready to be handed to a supervisor.

use std::fs::File;
use std::path::Path;

use sandpool_abi::ABI_VERSION;
use wasmparser::Validator;
use wasmtime::Engine;

use crate::engine::cache::{Cache, Key};
use crate::engine::inspect::{self, Inspection, Provision, TaskInfo, not_a_module};
use crate::engine::{config, known};
use crate::{Error, Result, sys};

/// A guest program: checked, compiled, and kept in the user's cache for the next time.
///
/// ```no_run
/// let module = sandpool::Module::from_file("guest.wasm")?;
/// assert_eq!(module.name(), "guest.wasm");
/// # Ok::<(), sandpool::Error>(())
/// ```
///
/// Compiling takes seconds for large modules and uses all processors; loading what is in the cache takes
/// milliseconds. The cache is `$SANDPOOL_CACHE_DIR`, else `$XDG_CACHE_HOME/sandpool/modules`, else
/// `~/.cache/sandpool/modules`.
#[derive(Debug)]
pub struct Module {
    name: String,
    artifact: File,
    /// Whether it is a program, beside the tasks that it has.
    is_program: bool,
    tasks: Vec<TaskInfo>,
}

impl Module {
    /// Loads a file, `.wasm` or `.wat` text.
    ///
    /// # Errors
    /// [`Error::Read`] for a file that can't be read, else as [`from_bytes`](Self::from_bytes).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = inspect::read(path)?;
        Self::from_bytes(inspect::display_name(path), &bytes)
    }

    /// Loads a module from memory, binary or text. The name stands for it in messages.
    ///
    /// ```no_run
    /// let module = sandpool::Module::from_bytes(
    ///     "nothing",
    ///     br#"(module (memory (export "memory") 1) (func (export "_start")))"#,
    /// )?;
    /// assert_eq!(module.name(), "nothing");
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotAModule`], [`Error::AbiVersion`], [`Error::UnknownImport`], [`Error::ImportType`],
    /// [`Error::MissingExport`] (of `memory`, or of `_start` if it has no tasks either) or [`Error::Compile`] for a module that can't run here, and [`Error::Cache`].
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Self> {
        let name = name.into();
        let engine = config::engine()?;
        let cache = Cache::open()?;
        let key = Key::of(&engine, bytes);
        // Only modules that passed every check are in the cache, and all that the checks depend on is in the key.
        if let Some(artifact) = cache.get(&key) {
            let found = Inspection::of_known_wasm(&name, &inspect::to_wasm(&name, bytes)?)?;
            return Ok(Self::new(name, artifact, found));
        }
        let wasm = inspect::to_wasm(&name, bytes)?;
        let found = check(&name, &wasm)?;
        let compiled = engine.precompile_module(&wasm).map_err(|error| Error::Compile {
            name: name.clone(),
            problem: inspect::printable(&format!("{error:#}")),
        })?;
        let artifact = cache.put(&key, &compiled)?;
        Ok(Self::new(name, artifact, found))
    }

    fn new(name: String, artifact: File, found: Inspection) -> Self {
        let is_program = found.exports.iter().any(|export| export.name == START);
        Self { name, artifact, is_program, tasks: found.tasks }
    }

    /// The file's name, or the one given to [`from_bytes`](Self::from_bytes).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its tasks, in order of their names.
    #[must_use]
    pub fn tasks(&self) -> &[TaskInfo] {
        &self.tasks
    }

    /// The task of this name.
    ///
    /// ```no_run
    /// let module = sandpool::Module::from_file("guest.wasm")?;
    /// println!("{}", module.task("score")?.signature());
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownTask`] if it has none.
    pub fn task(&self, name: &str) -> Result<&TaskInfo> {
        let names = || self.tasks.iter().map(|task| task.name.as_str());
        self.tasks.iter().find(|task| task.name == name).ok_or_else(|| Error::UnknownTask {
            name: self.name.clone(),
            task: inspect::printable(name),
            hint: match known::nearest_name(names(), name) {
                Some(nearest) => Some(format!("the nearest that there is: {nearest}")),
                None if self.tasks.is_empty() => {
                    Some("a task is a function with #[sandpool_guest::task]; this module has none".to_owned())
                }
                None => Some(format!(
                    "there are: {}",
                    inspect::printable(&names().collect::<Vec<_>>().join(", "))
                )),
            },
        })
    }

    /// Refuses a module that has tasks only.
    pub(crate) fn require_program(&self) -> Result<()> {
        if self.is_program { Ok(()) } else { Err(Error::NotAProgram { name: self.name.clone() }) }
    }

    /// The compiled module: a read-only file for [`load`].
    pub(crate) fn artifact(&self) -> &File {
        &self.artifact
    }
}

/// Makes compiled code runnable in this process, without any thread. The file is a [`Module::artifact`].
pub(crate) fn load(engine: &Engine, artifact: File) -> Result<wasmtime::Module> {
    sys::artifact::map(engine, artifact)
        .map_err(|error| Error::Supervisor(format!("the compiled module does not load: {error:#}")))
}

/// Refuses what can't run here. The version comes first: it explains strange imports.
fn check(name: &str, wasm: &[u8]) -> Result<Inspection> {
    let found = Inspection::of_wasm(name, wasm)?;
    check_version(name, &found)?;
    check_memories(name, &found)?;
    check_imports(name, &found)?;
    check_exports(name, &found)?;
    Validator::new_with_features(config::FEATURES).validate_all(wasm).map_err(|error| {
        let (problem, _) = inspect::malformed(error);
        not_a_module(
            name,
            problem,
            Some("Sandpool runs WebAssembly 3.0 without GC, exceptions and 64-bit memories"),
        )
    })?;
    Ok(found)
}

fn check_version(name: &str, found: &Inspection) -> Result<()> {
    match found.abi_version {
        Some(guest) if guest != ABI_VERSION => {
            Err(Error::AbiVersion { name: name.to_owned(), guest, host: ABI_VERSION })
        }
        None if found.custom_sections.iter().any(|section| section == sandpool_abi::ABI_SECTION) => {
            let problem = format!("its section {} is too short", sandpool_abi::ABI_SECTION);
            Err(not_a_module(name, problem, Some("build or copy it again")))
        }
        _ => Ok(()),
    }
}

fn check_memories(name: &str, found: &Inspection) -> Result<()> {
    const HINT: &str =
        "build the guest for wasm32-wasip1, without threads: Sandpool's processes run in parallel";
    if found.memories.iter().any(|memory| memory.shared) {
        return Err(not_a_module(name, "it uses threads (a shared memory)", Some(HINT)));
    }
    if found.memories.iter().any(|memory| memory.imported) {
        return Err(not_a_module(name, "it imports its memory", Some("link it without --import-memory")));
    }
    Ok(())
}

fn check_imports(name: &str, found: &Inspection) -> Result<()> {
    for import in &found.imports {
        let name = name.to_owned();
        let full = format!("{}.{}", import.module, import.name);
        match &import.provision {
            Provision::Provided => {}
            Provision::Unknown { nearest } => {
                return Err(Error::UnknownImport { name, import: full, nearest: nearest.clone() });
            }
            Provision::Mismatch { expected } => {
                let (found, expected) = (import.ty.clone(), expected.clone());
                return Err(Error::ImportType { name, import: full, found, expected });
            }
        }
    }
    Ok(())
}

/// What a program begins with.
const START: &str = "_start";
/// What a module without that may have to be called first.
const INITIALIZE: &str = "_initialize";
/// The type of a task.
const TASK: &str = "(i32, i32) -> i32";
/// The longest name of a task, in bytes.
const TASK_NAME_MAX: usize = 127;

fn check_exports(name: &str, found: &Inspection) -> Result<()> {
    let is_program = found.tasks.is_empty() || found.exports.iter().any(|export| export.name == START);
    if is_program {
        require(name, found, START)?;
    }
    require(name, found, "memory")?;
    for export in &found.exports {
        let task = export.name.strip_prefix(sandpool_abi::task::EXPORT_PREFIX);
        let expected = match export.name.as_str() {
            START | INITIALIZE => "() -> ()",
            "memory" => "memory",
            _ if task.is_some() => TASK,
            _ => continue,
        };
        if export.ty != expected {
            let problem = format!("its export {} is {}, not {expected}", export.name, export.ty);
            return Err(not_a_module(name, problem, None));
        }
        if task.is_some_and(|task| task.is_empty() || task.len() > TASK_NAME_MAX) {
            let problem = format!(
                "the name of its task {} is empty, or longer than {TASK_NAME_MAX} bytes",
                export.name
            );
            return Err(not_a_module(name, problem, Some("give the task another name")));
        }
    }
    Ok(())
}

fn require(name: &str, found: &Inspection, export: &'static str) -> Result<()> {
    if found.exports.iter().any(|candidate| candidate.name == export) {
        return Ok(());
    }
    Err(Error::MissingExport { name: name.to_owned(), export })
}
