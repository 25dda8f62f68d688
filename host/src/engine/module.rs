//! A module that was checked and compiled, ready to be handed to a supervisor.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use wasmtime::Engine;

use crate::child::executable;
#[cfg(feature = "testing")]
use crate::config::Layer;
use crate::config::{Flavor, JailSettings, Sandbox, UnknownImports};
use crate::engine::cache::{Cache, Key, ModuleFile, compatibility};
use crate::engine::check::Summary;
use crate::engine::compiler::{self, Settings};
use crate::engine::config;
use crate::engine::inspect;
use crate::engine::inspection::{TaskInfo, printable};
use crate::error::CompileLimit;
use crate::jail::JailReport;
use crate::nearest::nearest_name;
use crate::{Error, Result, sys};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A guest program: checked, compiled, and kept in the user's cache for the next time.
///
/// ```no_run
/// let module = sandpool::Module::from_file("guest.wasm")?;
/// assert_eq!(module.name(), "guest.wasm");
/// # Ok::<(), sandpool::Error>(())
/// ```
///
/// Nobody trusts a module, so a process of its own parses, checks and compiles it, in a jail and with limits
/// ([`builder`](Self::builder)). This process is the embedder's program, started again; therefore the program must call
/// [`init`](crate::init).
///
/// Compiling takes seconds for large modules and uses all processors; loading a module from the cache takes milliseconds. The cache
/// is `$SANDPOOL_CACHE_DIR`, else `$XDG_CACHE_HOME/sandpool/modules`, else `~/.cache/sandpool/modules`. If no variable names a
/// cache, or the cache can't be written or is full, each load compiles: [`uncached`](Self::uncached) says so.
#[derive(Debug)]
pub struct Module {
    name: String,
    sha256: [u8; 32],
    artifact: File,
    description: Description,
    flavor: Flavor,
    uncached: Option<Error>,
}

/// Data of a module that the cache keeps beside the artifact.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    summary: Summary,
    /// The jail that held the compiler.
    jail: JailReport,
}

impl Module {
    /// Settings for loading a module: how much compiling the module may take.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use sandpool::{Error, Module, Sandbox};
    /// use sandpool::limits::CompileLimits;
    ///
    /// # let upload = Vec::new();
    /// let limits = CompileLimits::default().module_size_max(10 << 20).compile_time_max(Duration::from_secs(10));
    /// match Module::builder().sandbox(Sandbox::new().compile_limits(limits)).load("upload", &upload) {
    ///     Ok(module) => println!("{} tasks", module.tasks().len()),
    ///     Err(Error::CompileLimit { limit, .. }) => println!("refused: {limit}"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// ```
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Loads a file, `.wasm` or `.wat` text, with the default settings of [`builder`](Self::builder).
    ///
    /// # Errors
    /// The same errors as for [`Builder::load_file`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        Self::builder().load_file(path)
    }

    /// Loads a module from memory, binary or text, with the default settings of [`builder`](Self::builder). Messages call the
    /// module by this name.
    ///
    /// ```no_run
    /// # sandpool::init();
    /// let module = sandpool::Module::from_bytes(
    ///     "nothing",
    ///     br#"(module (memory (export "memory") 1) (func (export "_start")))"#,
    /// )?;
    /// assert_eq!(module.name(), "nothing");
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    ///
    /// # Errors
    /// The same errors as for [`Builder::load`].
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Result<Self> {
        Self::builder().load(name, bytes)
    }

    /// The file's name, or the one given to [`from_bytes`](Self::from_bytes).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the module is a program: one with an export `_start`, for [`Run`](crate::Run) and
    /// [`Pool::run`](crate::Pool::run).
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.description.summary.is_program
    }

    /// The SHA-256 of the module as it was given: of the bytes of its file.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// The module's tasks, in order of their names.
    #[must_use]
    pub fn tasks(&self) -> &[TaskInfo] {
        &self.description.summary.tasks
    }

    /// The task with this name.
    ///
    /// ```no_run
    /// let module = sandpool::Module::from_file("guest.wasm")?;
    /// println!("{}", module.task("score")?.signature());
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownTask`] if the module has no such task.
    pub fn task(&self, name: &str) -> Result<&TaskInfo> {
        let names = || self.description.summary.tasks.iter().map(|task| task.name.raw());
        self.description.summary.tasks.iter().find(|task| task.name == name).ok_or_else(|| {
            Error::UnknownTask {
                name: self.name.clone(),
                task: printable(name),
                hint: match nearest_name(names(), name) {
                    Some(nearest) => Some(format!("the nearest name is {nearest}")),
                    None if self.description.summary.tasks.is_empty() => Some(
                        "a task is a function with #[sandpool_guest::task]; this module has none".to_owned(),
                    ),
                    None => {
                        Some(format!("there are: {}", printable(&names().collect::<Vec<_>>().join(", "))))
                    }
                },
            }
        })
    }

    /// Reports which layers of a jail held the module's compiler, now or when the module came into the cache, and how fully.
    ///
    /// ```no_run
    /// let module = sandpool::Module::from_file("guest.wasm")?;
    /// assert_eq!(module.jail().status(sandpool::jail::Layer::Seccomp), &sandpool::jail::LayerStatus::Full);
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    #[must_use]
    pub fn jail(&self) -> &JailReport {
        &self.description.jail
    }

    /// How the module was compiled.
    pub(crate) fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// Why the module isn't kept for the next time, if the cache doesn't exist, is full or can't be written. The module was then
    /// compiled for this time alone.
    ///
    /// ```no_run
    /// let module = sandpool::Module::from_file("guest.wasm")?;
    /// if let Some(error) = module.uncached() {
    ///     eprintln!("warning: {error}");
    /// }
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    #[must_use]
    pub fn uncached(&self) -> Option<&Error> {
        self.uncached.as_ref()
    }

    /// Whether this is a component, and not a core module. Exported functions of a component are its tasks, and their inputs and
    /// outputs are JSON.
    #[must_use]
    pub fn is_component(&self) -> bool {
        self.description.summary.is_component
    }

    /// Whether the module runs code when it is instantiated.
    pub(crate) fn has_start(&self) -> bool {
        self.description.summary.has_start
    }

    /// Whether the module may need a heap for collected objects.
    pub(crate) fn has_collected(&self) -> bool {
        self.description.summary.has_collected
    }

    /// Whether the module imports functions that trap.
    pub(crate) fn has_unknown_imports(&self) -> bool {
        self.description.summary.unknown_import.is_some()
    }

    /// Refuses a module that has tasks but isn't a program.
    pub(crate) fn require_program(&self) -> Result<()> {
        if self.is_program() { Ok(()) } else { Err(Error::NotAProgram { name: self.name.clone() }) }
    }

    /// The compiled module: a read-only file for [`load`].
    pub(crate) fn artifact(&self) -> &File {
        &self.artifact
    }
}

/// Settings for loading a module: how much that may take, and in which jail. Made by [`Module::builder`].
///
/// A module in the cache was compiled before, perhaps within other limits, and isn't compiled again; only
/// [`module_size_max`](crate::limits::CompileLimits::module_size_max) holds for such a module as well.
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is loaded until `load` or `load_file`"]
pub struct Builder {
    sandbox: Sandbox,
    /// The compiler's jail, but for the layers that are required.
    jail: JailSettings,
}

impl Builder {
    /// Sets the sandbox that the module will run in. Of this sandbox, loading takes:
    ///
    /// - [`compile_limits`](Sandbox::compile_limits): how much loading may take.
    /// - The layers that [`require_jail`](Sandbox::require_jail) names: the compiler has a jail of its own.
    /// - [`Limits::fuel`](crate::Limits::fuel): if the sandbox limits fuel, the module counts fuel, about one unit for each
    ///   instruction. Counting makes the module slower, by how much depends on the module. The cache keeps this variant beside the one
    ///   that doesn't count.
    /// - [`unknown_imports`](Sandbox::unknown_imports): whether the module may import functions that Sandpool doesn't provide.
    ///
    /// ```no_run
    /// # fn main() -> sandpool::Result<()> {
    /// use sandpool::{Limits, Module, Run, Sandbox};
    ///
    /// let sandbox = Sandbox::untrusted().limits(Limits::untrusted().fuel(1_000_000));
    /// let module = Module::builder().sandbox(sandbox.clone()).load_file("guest.wasm")?;
    /// println!("{}", Run::builder(&module).sandbox(sandbox).start()?.wait()?.status);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = sandbox;
        self
    }

    /// Switches off a layer of the compiler's jail: for tests of the others.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn without_compiler_layer(mut self, layer: Layer) -> Self {
        self.jail.without.push(layer);
        self
    }

    /// Leaves out a rule of the policy for system calls of compilers: for the test that each rule is needed.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn without_compiler_call(mut self, rule: impl Into<String>) -> Self {
        self.jail.without_calls.push(rule.into());
        self
    }

    /// Loads a file, `.wasm` or `.wat` text. A file that was loaded before, isn't changed since and is in the cache isn't read: the
    /// file is known by its device, inode, size and times.
    ///
    /// # Errors
    /// [`Error::Read`] for a file that can't be read, else as [`load`](Self::load).
    pub fn load_file(&self, path: impl AsRef<Path>) -> Result<Module> {
        let path = path.as_ref();
        let read = |source| Error::Read { path: path.to_owned(), source };
        let file = ModuleFile::open(path).map_err(read)?;
        self.load_source(inspect::display_name(path), Source::File(file)).map_err(|error| match error {
            Unloaded::Unread(source) => read(source),
            Unloaded::Refused(error) => error,
        })
    }

    /// Loads a module from memory, binary or text. Messages call the module by this name.
    ///
    /// # Errors
    /// [`Error::NotInitialized`]; [`Error::Invalid`] for a limit of nothing; [`Error::Jail`]; [`Error::NotAModule`],
    /// [`Error::AbiVersion`], [`Error::UnknownImport`], [`Error::ImportType`], [`Error::MissingExport`] (of `_start`, if the
    /// module has no tasks either) or [`Error::Compile`] for a module that can't run here; [`Error::CompileLimit`]
    /// for a module that takes too much; [`Error::Cache`] for a cache that others have access to, and [`Error::Os`]. Without a
    /// cache, the module is compiled all the same: see [`Module::uncached`].
    pub fn load(&self, name: impl Into<String>, bytes: &[u8]) -> Result<Module> {
        self.load_source(name.into(), Source::Bytes(bytes)).map_err(|error| match error {
            Unloaded::Unread(source) => Error::Os { what: "read a module from memory", source },
            Unloaded::Refused(error) => error,
        })
    }

    fn load_source(&self, name: String, source: Source<'_>) -> Result<Module, Unloaded> {
        // This check comes first, even if no compiler is needed: an empty cache should change nothing but the time.
        let program = executable()?;
        let limits = &self.sandbox.compile_limits;
        let jail = JailSettings { require: self.sandbox.required_layers().to_vec(), ..self.jail.clone() };
        limits.check()?;
        jail.check()?;
        let size_max = limits.module_size_max;
        let too_large = |name| Err(Error::CompileLimit { name, limit: CompileLimit::Size(size_max) }.into());
        let flavor = Flavor::here(self.sandbox.limits.fuel.is_some());
        let engine = config::engine(flavor)?;
        let cache = unless_it_is_refused(Cache::open())?;
        let find = |sha256| {
            // The cache has only modules that passed every check, and the key covers everything that the checks depend on, but for
            // the answer to unknown imports.
            let (artifact, description) = cache.as_ref().ok()?.get(&Key::new(&engine, &sha256))?;
            let description: Description = serde_json::from_slice(&description).ok()?;
            description.jail.lacks(&jail.require).is_empty().then_some((artifact, description))
        };
        let loaded = |name: String, sha256, (artifact, mut description): (File, Description)| {
            if self.sandbox.unknown_imports == UnknownImports::Refuse
                && let Some(refusal) = description.summary.unknown_import.take()
            {
                return Err(refusal.into_error(&name, limits.artifact_max).into());
            }
            Ok(Module { name, sha256, artifact, description, flavor, uncached: None })
        };
        if let (Source::File(file), Ok(cache)) = (&source, &cache)
            && let Some(sha256) = cache.module(file)
        {
            if file.size().is_some_and(|size| size > size_max) {
                return too_large(name);
            }
            if let Some(found) = find(sha256) {
                return loaded(name, sha256, found);
            }
        }
        let mut read = Vec::new();
        let bytes = match &source {
            Source::Bytes(bytes) => *bytes,
            Source::File(file) => {
                // Of a file that is too large, one byte more is read.
                let limited = (&file.file).take(size_max.saturating_add(1)).read_to_end(&mut read);
                limited.map_err(Unloaded::Unread)?;
                read.as_slice()
            }
        };
        if bytes.len() as u64 > size_max {
            return too_large(name);
        }
        let sha256 = Sha256::digest(bytes).into();
        if let (Source::File(file), Ok(cache)) = (&source, &cache) {
            cache.add_module(file, sha256);
        }
        if let Some(found) = find(sha256) {
            return loaded(name, sha256, found);
        }
        let key = Key::new(&engine, &sha256);
        let settings = Settings {
            unknown_imports: self.sandbox.unknown_imports,
            ..Settings::new(limits.clone(), jail, compatibility(&engine))
        };
        let (summary, mut artifact, jail) = compiler::owner::compile(&program, &name, bytes, &settings)?;
        let description = Description { summary, jail };
        let described = serde_json::to_vec(&description)
            .map_err(|error| Error::Os { what: "describe the module", source: error.into() })?;
        let put = match cache {
            Ok(cache) => unless_it_is_refused(cache.put(&key, artifact.reader()?, &described))?,
            Err(error) => Err(error),
        };
        let (artifact, uncached) = match put {
            Ok(file) => (file, None),
            Err(error) => (artifact.alone()?, Some(error)),
        };
        Ok(Module { name, sha256, artifact, description, flavor, uncached })
    }
}

/// Where the bytes of a module come from.
enum Source<'a> {
    Bytes(&'a [u8]),
    File(ModuleFile),
}

/// Why a module isn't loaded.
enum Unloaded {
    /// The module's file can't be read.
    Unread(io::Error),
    Refused(Error),
}

impl From<Error> for Unloaded {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Returns an error for a cache that others can reach: then nothing is run. A missing or full cache is no reason not to run a
/// module.
fn unless_it_is_refused<T>(done: Result<T>) -> Result<Result<T>> {
    match done {
        Err(error @ Error::Cache { .. }) if !error.is_of_system() => Err(error),
        done => Ok(done),
    }
}

/// Makes compiled code runnable in this process, without starting a thread. The file is a [`Module::artifact`].
pub(crate) fn load(engine: &Engine, artifact: File) -> Result<wasmtime::Module> {
    sys::artifact::map(engine, artifact).map_err(does_not_load)
}

/// The same for a component. The engine is of [`config::engine_to_run`] for components.
pub(crate) fn load_component(engine: &Engine, artifact: File) -> Result<wasmtime::component::Component> {
    sys::artifact::map_component(engine, artifact).map_err(does_not_load)
}

#[expect(clippy::needless_pass_by_value, reason = "it is a function for map_err")]
fn does_not_load(error: wasmtime::Error) -> Error {
    Error::Supervisor(format!("the compiled module does not load: {error:#}"))
}
