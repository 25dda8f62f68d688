//! Everything that guests are given and held to, as one value.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AddressGrant, CompileLimits, DirGrant, JailSettings, Layer, Limits};
use crate::{Error, Result};

/// Everything that guests are given and held to: directories, addresses, environment, limits, and the layers of their jail.
///
/// ```no_run
/// # fn main() -> sandpool::Result<()> {
/// use sandpool::{Limits, Module, Pool, Run, Sandbox};
///
/// let sandbox = Sandbox::new()
///     .dir("./data:/data:ro".parse()?)
///     .env("LANG", "C")
///     .limits(Limits::default().memory_max(256 << 20));
///
/// let module = Module::builder().sandbox(sandbox.clone()).load_file("guest.wasm")?;
/// let run = Run::builder(&module).sandbox(sandbox.clone()).start()?;
/// let pool = Pool::builder(&module).sandbox(sandbox).build()?;
/// # Ok(())
/// # }
/// ```
///
/// A sandbox is a plain value. The same one serves for [loading](crate::module::Builder::sandbox) a module, for
/// [runs](crate::run::Builder::sandbox) and for [pools](crate::pool::Builder::sandbox); each takes what concerns it. The default grants
/// nothing, has the default limits, and uses the layers of the jail that the machine has. [`untrusted`](Self::untrusted) is for code
/// that nobody trusts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Sandbox {
    /// the granted directories; guests see no others
    pub dirs: Vec<DirGrant>,
    /// the addresses at which guests may listen
    pub listen: Vec<AddressGrant>,
    /// the addresses to which guests may connect
    pub connect: Vec<AddressGrant>,
    /// names and values of the guests' environment
    pub env: Vec<(String, String)>,
    /// limits of the guests' processes
    pub limits: Limits,
    /// limits of loading the module
    pub compile_limits: CompileLimits,
    /// the answer to imports of functions that Sandpool doesn't provide
    pub unknown_imports: UnknownImports,
    pub(crate) jail: JailSettings,
}

/// The answer to a module that imports functions which Sandpool doesn't provide.
///
/// ```
/// let choice: sandpool::module::UnknownImports = "trap".parse()?;
/// assert_eq!(choice, sandpool::module::UnknownImports::Trap);
/// assert_eq!(choice.to_string(), "trap");
/// # Ok::<(), sandpool::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum UnknownImports {
    /// The module is refused: [`Error::UnknownImport`](crate::Error::UnknownImport).
    #[default]
    Refuse,
    /// The module is loaded. A call of such a function is a trap: [`Trap::UnknownImport`](crate::Trap::UnknownImport). Memories,
    /// tables, globals and tags that Sandpool doesn't provide are refused all the same.
    Trap,
}

impl fmt::Display for UnknownImports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Refuse => "refuse",
            Self::Trap => "trap",
        })
    }
}

impl std::str::FromStr for UnknownImports {
    type Err = Error;

    /// Reads `refuse` or `trap`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "refuse" => Ok(Self::Refuse),
            "trap" => Ok(Self::Trap),
            _ => Err(Error::Invalid {
                what: format!("`{text}` is not what can be done about unknown imports"),
                hint: Some("write refuse or trap".to_owned()),
            }),
        }
    }
}

impl Sandbox {
    /// A sandbox that grants nothing, with the default limits: the same as `Sandbox::default()`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The sandbox for code that nobody trusts: everything that such code uses is bounded, and nothing is compiled or started unless
    /// all layers of the jail hold. This is `--profile untrusted` of the command.
    ///
    /// ```no_run
    /// # fn main() -> sandpool::Result<()> {
    /// use sandpool::{Module, Run, Sandbox};
    ///
    /// let module = Module::builder().sandbox(Sandbox::untrusted()).load_file("stranger.wasm")?;
    /// let summary = Run::builder(&module).sandbox(Sandbox::untrusted()).start()?.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn untrusted() -> Self {
        Self::new()
            .limits(Limits::untrusted())
            .compile_limits(CompileLimits::untrusted())
            .require_jail(Layer::ALL)
    }

    /// Grants a directory. Guests see only granted directories.
    ///
    /// ```no_run
    /// use sandpool::{DirGrant, Sandbox};
    ///
    /// let sandbox = Sandbox::new().dir("./data:/data:ro".parse()?).dir(DirGrant::writable("./out", "/out"));
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    #[must_use]
    pub fn dir(mut self, grant: DirGrant) -> Self {
        self.dirs.push(grant);
        self
    }

    /// Grants an address at which guests may listen. Guests listen at granted addresses only.
    ///
    /// ```
    /// use sandpool::Sandbox;
    ///
    /// let sandbox = Sandbox::new().listen("tcp:127.0.0.1:8000".parse()?).listen("unix:/run/app/socket".parse()?);
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    ///
    /// Guests have no socket. A process of the host has it, the gateway, and moves messages between it and the guests.
    #[must_use]
    pub fn listen(mut self, grant: AddressGrant) -> Self {
        self.listen.push(grant);
        self
    }

    /// Grants an address to which guests may connect. Guests connect to granted addresses only.
    ///
    /// ```
    /// use sandpool::Sandbox;
    ///
    /// let sandbox = Sandbox::new().connect("tcp:db.example:5432".parse()?).connect("sandpool:leaderboard".parse()?);
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    ///
    /// The addresses of a name are looked up once, when the run starts.
    #[must_use]
    pub fn connect(mut self, grant: AddressGrant) -> Self {
        self.connect.push(grant);
        self
    }

    /// Whether guests may communicate with the outside.
    pub(crate) fn has_gateway(&self) -> bool {
        !self.listen.is_empty() || !self.connect.is_empty()
    }

    /// Adds one variable to the guests' environment, which is empty otherwise.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Sets all limits of the guests' processes. They replace all limits that were set before.
    ///
    /// ```
    /// use sandpool::{Limits, Sandbox};
    ///
    /// let sandbox = Sandbox::new().limits(Limits::default().memory_max(64 << 20).processes_max(16));
    /// # let _ = sandbox;
    /// ```
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets all limits of loading the module. They replace all limits that were set before.
    ///
    /// ```
    /// use sandpool::Sandbox;
    /// use sandpool::limits::CompileLimits;
    ///
    /// let sandbox = Sandbox::new().compile_limits(CompileLimits::default().module_size_max(10 << 20));
    /// # let _ = sandbox;
    /// ```
    #[must_use]
    pub fn compile_limits(mut self, limits: CompileLimits) -> Self {
        self.compile_limits = limits;
        self
    }

    /// Sets the answer to a module that imports functions which Sandpool doesn't provide. The default is to refuse the module. The
    /// setting concerns [loading](crate::module::Builder::sandbox).
    ///
    /// ```no_run
    /// # fn main() -> sandpool::Result<()> {
    /// use sandpool::module::UnknownImports;
    /// use sandpool::{Module, Sandbox};
    ///
    /// let sandbox = Sandbox::new().unknown_imports(UnknownImports::Trap);
    /// let module = Module::builder().sandbox(sandbox).load_file("half-linked.wasm")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn unknown_imports(mut self, choice: UnknownImports) -> Self {
        self.unknown_imports = choice;
        self
    }

    /// Sets the layers of the jail that must hold [fully](crate::jail::LayerStatus::Full); else nothing is compiled or started, and the error is
    /// [`Error::Jail`](crate::Error::Jail). They replace the layers that were required before. [`Layer::ALL`] names all layers. The
    /// default is to start with the layers that the machine has.
    ///
    /// ```
    /// use sandpool::Sandbox;
    /// use sandpool::jail::Layer;
    ///
    /// let sandbox = Sandbox::new().require_jail([Layer::Seccomp, Layer::Landlock]);
    /// assert_eq!(sandbox.required_layers(), [Layer::Seccomp, Layer::Landlock]);
    /// assert_eq!(Sandbox::untrusted().required_layers(), Layer::ALL);
    /// ```
    ///
    /// A module is compiled in a jail of its own, with the same layers. The refusal comes before anything of the module is read. A
    /// module in the cache must have been compiled in such a jail, or is compiled again.
    #[must_use]
    pub fn require_jail(mut self, layers: impl IntoIterator<Item = Layer>) -> Self {
        self.jail.require = layers.into_iter().collect();
        self
    }

    /// The layers of the jail that must hold.
    #[must_use]
    pub fn required_layers(&self) -> &[Layer] {
        &self.jail.require
    }

    /// Switches off a layer of the guests' jail, for debugging: some layers forbid operations that debuggers and profilers need. The
    /// jail of the compiler keeps the layer.
    #[must_use]
    pub fn without_layer(mut self, layer: Layer) -> Self {
        self.jail.without.push(layer);
        self
    }

    /// Leaves out a rule of the policy for system calls: for the test that each rule is needed.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn without_call(mut self, rule: impl Into<String>) -> Self {
        self.jail.without_calls.push(rule.into());
        self
    }

    /// Makes the supervisor not count its children: for the test that the kernel bounds their number as well.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn without_census(mut self) -> Self {
        self.jail.without_census = true;
        self
    }
}
