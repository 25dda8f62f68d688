//! The jail around guest processes: what the kernel holds them back from, should a bug in the wasm engine give a guest
//! native code. One file a layer; each is reported. What compiles modules is in one as well, of the same layers.
//!
//! Layers that concern a whole run are entered by its supervisor, before the first fork; the others by each guest
//! process, before any code of the guest runs. What is forked from it inherits them. A compiler enters all by itself.

mod capabilities;
pub(crate) mod control_group;
mod landlock;
pub(crate) mod namespaces;
mod processes;
pub(crate) mod rlimits;
pub(crate) mod seccomp;

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::LazyLock;

use nix::libc;
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use self::rlimits::Rlimits;
use self::seccomp::Policy;
use crate::Error;
use crate::config::{Dir, JailSettings, Jailed, Layer};

/// How fully a layer holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Hold {
    /// As it is meant.
    Full,
    /// In part: what is missing.
    Partial(String),
    /// Not at all: why.
    Absent(String),
    /// Not at all, and nobody has left it out: there is none for such a process. Who requires all layers doesn't mean it.
    NotApplicable(String),
    /// It was switched off.
    Off,
}

impl fmt::Display for Hold {
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

/// Which layers of the jail hold in a run, or held when a module was compiled, and how fully.
///
/// ```no_run
/// # fn main() -> sandpool::Result<()> {
/// # let module = sandpool::Module::from_file("guest.wasm")?;
/// use sandpool::{Hold, Layer, Run};
///
/// let run = Run::builder(&module).require_jail([Layer::Seccomp, Layer::Landlock]).start()?;
/// assert_eq!(run.jail().hold(Layer::Seccomp), &Hold::Full);
/// eprint!("{}", run.jail());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JailReport {
    of: Jailed,
    layers: Vec<(Layer, Hold)>,
}

impl JailReport {
    /// Of what is known. Nobody has entered a layer of which nothing is.
    fn new(of: Jailed, known: Vec<(Layer, Hold)>) -> Self {
        let known = Self { of, layers: known };
        Self { of, layers: Layer::ALL.into_iter().map(|layer| (layer, known.hold(layer).clone())).collect() }
    }

    /// Of a compiler of which nothing is known.
    pub(crate) fn of_unknown_compiler() -> Self {
        Self::new(Jailed::Compiler, Vec::new())
    }

    /// Whom it holds.
    #[must_use]
    pub fn of(&self) -> Jailed {
        self.of
    }

    /// How fully a layer holds.
    #[must_use]
    pub fn hold(&self, layer: Layer) -> &Hold {
        static NOT_ENTERED: LazyLock<Hold> =
            LazyLock::new(|| Hold::Absent("nobody has entered it".to_owned()));
        self.layers.iter().find(|(known, _)| *known == layer).map_or(&NOT_ENTERED, |(_, hold)| hold)
    }

    /// All layers, outermost first.
    pub fn layers(&self) -> impl Iterator<Item = (Layer, &Hold)> {
        self.layers.iter().map(|(layer, hold)| (*layer, hold))
    }

    /// Whether each layer holds as it is meant, of those that there are for such a process.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.lacks(&Layer::ALL).is_empty()
    }

    /// Those of these layers that don't hold fully. One that doesn't apply counts for a run which names it among others.
    pub(crate) fn lacks(&self, required: &[Layer]) -> Vec<Layer> {
        let are_all = Layer::ALL.iter().all(|layer| required.contains(layer));
        let lacks = |layer: &Layer| match self.hold(*layer) {
            Hold::Full => false,
            Hold::NotApplicable(_) => self.of == Jailed::Run && !are_all,
            Hold::Partial(_) | Hold::Absent(_) | Hold::Off => true,
        };
        Layer::ALL.into_iter().filter(|layer| required.contains(layer)).filter(lacks).collect()
    }

    /// The error of a start that requires layers of which some don't hold.
    pub(crate) fn refusal(&self, required: &[Layer]) -> Error {
        let lacks = self.lacks(required);
        let lacks =
            lacks.into_iter().map(|layer| format!("{} is {}", layer.name_of(self.of), self.hold(layer)));
        Error::Jail { lacks: lacks.collect::<Vec<_>>().join("; ") }
    }
}

impl fmt::Display for JailReport {
    /// A line for each layer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (layer, hold) in self.layers() {
            let width = match self.of {
                Jailed::Run => 17,
                Jailed::Compiler => 26,
            };
            writeln!(f, "{:width$}  {hold}", layer.name_of(self.of))?;
        }
        Ok(())
    }
}

/// What a process is to be held to.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) policy: Policy,
    pub(crate) dirs: &'a [Dir],
    pub(crate) rlimits: Rlimits,
    pub(crate) settings: &'a JailSettings,
}

/// The layers that a process puts itself under, ready to be entered by it, or by whoever is forked from it.
#[derive(Debug)]
pub(crate) struct Prepared {
    rlimits: Option<Rlimits>,
    capabilities: bool,
    no_new_privs: bool,
    descriptors: bool,
    landlock: Option<OwnedFd>,
    seccomp: Option<BpfProgram>,
    of: Jailed,
    holds: Vec<(Layer, Hold)>,
}

/// Does all that takes files, memory or time, and finds out how fully each layer will hold.
///
/// # Errors
///
/// A layer that the kernel has, but that can't be made.
pub(crate) fn prepare(plan: &Plan<'_>) -> io::Result<Prepared> {
    let settings = plan.settings;
    let mut holds = Vec::new();
    let mut simple = |layer, hold: Hold| {
        let on = settings.has(layer);
        holds.push((layer, if on { hold } else { Hold::Off }));
        on
    };
    let rlimits = simple(Layer::Rlimits, Hold::Full).then_some(plan.rlimits);
    let capabilities = simple(Layer::Capabilities, Hold::Full);
    let no_new_privs = simple(Layer::NoNewPrivs, Hold::Full);
    let descriptors = simple(Layer::Descriptors, Hold::Full);
    let (landlock, hold) = match settings.has(Layer::Landlock) {
        true => landlock::prepare(plan.dirs)?,
        false => (None, Hold::Off),
    };
    holds.push((Layer::Landlock, hold));
    let (seccomp, hold) = match settings.has(Layer::Seccomp) {
        true => seccomp::prepare(plan.policy, &settings.without_calls)?,
        false => (None, Hold::Off),
    };
    holds.push((Layer::Seccomp, hold));
    let of = match plan.policy {
        Policy::Guest(_) => Jailed::Run,
        Policy::Compiler => Jailed::Compiler,
    };
    Ok(Prepared { rlimits, capabilities, no_new_privs, descriptors, landlock, seccomp, of, holds })
}

impl Prepared {
    /// How fully these layers hold, and those that were entered before.
    pub(crate) fn report(&self, entered: Vec<(Layer, Hold)>) -> JailReport {
        JailReport::new(self.of, self.holds.iter().cloned().chain(entered).collect())
    }

    /// Landlock's rules: a descriptor that [`enter`](Self::enter) needs.
    pub(crate) fn ruleset(&self) -> Option<BorrowedFd<'_>> {
        self.landlock.as_ref().map(OwnedFd::as_fd)
    }

    /// Whether a process closes all descriptors but those that it was given.
    pub(crate) fn closes_descriptors(&self) -> bool {
        self.descriptors
    }

    /// Puts the calling process, which has one thread, and all that are forked from it, under these layers, for good. The
    /// rules are [`ruleset`](Self::ruleset), or the same under another number, and are closed.
    ///
    /// # Errors
    ///
    /// A layer that was prepared and can't be entered: the process must not go on.
    pub(crate) fn enter(&self, ruleset: Option<OwnedFd>) -> io::Result<()> {
        self.enter_with(ruleset, || Ok(()))
    }

    /// The same for a process that is to have more threads: `start` starts them, from one that is under all layers but the
    /// last, which then goes over all of them. Nobody can start another after that.
    pub(crate) fn enter_with(
        &self,
        ruleset: Option<OwnedFd>,
        start: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let failed = |layer: Layer| {
            move |error: io::Error| {
                io::Error::new(error.kind(), format!("cannot enter the jail: {layer}: {error}"))
            }
        };
        if let Some(rlimits) = &self.rlimits {
            rlimits.enter().map_err(failed(Layer::Rlimits))?;
        }
        if self.capabilities {
            capabilities::enter().map_err(failed(Layer::Capabilities))?;
        }
        if self.no_new_privs {
            nix::sys::prctl::set_no_new_privs()
                .map_err(io::Error::from)
                .map_err(failed(Layer::NoNewPrivs))?;
        }
        if self.landlock.is_some() {
            let ruleset = ruleset.ok_or_else(|| failed(Layer::Landlock)(io::ErrorKind::NotFound.into()))?;
            crate::sys::landlock::restrict_self(ruleset.as_fd()).map_err(failed(Layer::Landlock))?;
        }
        start()?;
        // The last one: what the others need isn't allowed any more.
        if let Some(program) = &self.seccomp {
            seccomp::enter(program).map_err(failed(Layer::Seccomp))?;
        }
        Ok(())
    }
}

/// Why the kernel doesn't give what was asked of it.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "the system doesn't permit it".to_owned(),
        Some(libc::ENOSPC | libc::EUSERS) => "no more of them are allowed (/proc/sys/user)".to_owned(),
        Some(libc::EINVAL) => "the kernel has none".to_owned(),
        _ => error.to_string(),
    }
}
