//! The report of how fully each layer of the jail holds.

use std::fmt;
use std::io;
use std::sync::LazyLock;

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::config::{Jailed, Layer};

/// How fully a layer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LayerStatus {
    /// The layer holds as intended.
    Full,
    /// The layer holds in part. The text says what is missing.
    Partial(String),
    /// The layer doesn't hold. The text says why.
    Absent(String),
    /// The layer doesn't exist for such a process, so nobody has left it out. A requirement of [`Layer::ALL`] ignores it.
    NotApplicable(String),
    /// The layer was switched off.
    Off,
}

impl fmt::Display for LayerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Partial(missing) => write!(f, "partial: {missing}"),
            Self::Absent(why) => write!(f, "absent: {why}"),
            Self::NotApplicable(why) => write!(f, "not applicable: {why}"),
            Self::Off => f.write_str("off"),
        }
    }
}

/// Report of which layers of the jail hold in a run, or held when a module was compiled, and how fully.
///
/// ```no_run
/// # fn main() -> sandpool::Result<()> {
/// # let module = sandpool::Module::from_file("guest.wasm")?;
/// use sandpool::{Run, Sandbox};
/// use sandpool::jail::{Layer, LayerStatus};
///
/// let sandbox = Sandbox::new().require_jail([Layer::Seccomp, Layer::Landlock]);
/// let run = Run::builder(&module).sandbox(sandbox).start()?;
/// assert_eq!(run.jail().status(Layer::Seccomp), &LayerStatus::Full);
/// eprint!("{}", run.jail());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailReport {
    of: Jailed,
    layers: Vec<(Layer, LayerStatus)>,
}

impl JailReport {
    /// A report of the known layers. A layer of which nothing is known was entered by nobody.
    pub(super) fn new(of: Jailed, known: Vec<(Layer, LayerStatus)>) -> Self {
        let known = Self { of, layers: known };
        Self {
            of,
            layers: Layer::ALL.into_iter().map(|layer| (layer, known.status(layer).clone())).collect(),
        }
    }

    /// The report of a compiler of which nothing is known.
    pub(crate) fn from_unknown_compiler() -> Self {
        Self::new(Jailed::Compiler, Vec::new())
    }

    /// Which processes the jail holds.
    #[must_use]
    pub fn of(&self) -> Jailed {
        self.of
    }

    /// How fully a layer holds.
    #[must_use]
    pub fn status(&self, layer: Layer) -> &LayerStatus {
        static NOT_ENTERED: LazyLock<LayerStatus> =
            LazyLock::new(|| LayerStatus::Absent("nobody has entered it".to_owned()));
        self.layers.iter().find(|(known, _)| *known == layer).map_or(&NOT_ENTERED, |(_, status)| status)
    }

    /// All layers, outermost first.
    pub fn layers(&self) -> impl Iterator<Item = (Layer, &LayerStatus)> {
        self.layers.iter().map(|(layer, status)| (*layer, status))
    }

    /// Whether each layer that exists for such a process holds as intended.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.lacks(&Layer::ALL).is_empty()
    }

    /// The required layers that don't hold fully. A layer that doesn't apply is included for a run, unless all layers are required.
    pub(crate) fn lacks(&self, required: &[Layer]) -> Vec<Layer> {
        let are_all = Layer::ALL.iter().all(|layer| required.contains(layer));
        let lacks = |layer: &Layer| match self.status(*layer) {
            LayerStatus::Full => false,
            LayerStatus::NotApplicable(_) => self.of == Jailed::Run && !are_all,
            LayerStatus::Partial(_) | LayerStatus::Absent(_) | LayerStatus::Off => true,
        };
        Layer::ALL.into_iter().filter(|layer| required.contains(layer)).filter(lacks).collect()
    }

    /// The error of a start that requires layers which don't all hold.
    pub(crate) fn refusal(&self, required: &[Layer]) -> Error {
        let lacks = self.lacks(required);
        let lacks =
            lacks.into_iter().map(|layer| format!("{} is {}", layer.name_of(self.of), self.status(layer)));
        Error::Jail { lacks: lacks.collect::<Vec<_>>().join("; ") }
    }
}

impl fmt::Display for JailReport {
    /// A line for each layer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (layer, status) in self.layers() {
            let width = match self.of {
                Jailed::Run => 17,
                Jailed::Compiler => 26,
            };
            writeln!(f, "{:width$}  {status}", layer.name_of(self.of))?;
        }
        Ok(())
    }
}

/// Why the kernel refuses a layer.
pub(super) fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "the system doesn't permit it".to_owned(),
        Some(libc::ENOSPC | libc::EUSERS) => "no more of them are allowed (/proc/sys/user)".to_owned(),
        Some(libc::EINVAL) => "the kernel has none".to_owned(),
        _ => error.to_string(),
    }
}
