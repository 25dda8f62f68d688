//! The jail around guest processes: limits that the kernel enforces if a bug in the wasm engine gives a guest native code. Each
//! layer has one file and is reported. The compiler of modules is in a jail of the same layers.
//!
//! The supervisor enters layers that concern a whole run, before the first fork. Each guest process enters the other layers, before
//! any code of the guest runs. Processes that are forked from it inherit them. A compiler enters all layers by itself.

mod capabilities;
pub(crate) mod control_group;
mod landlock;
pub(crate) mod namespaces;
mod processes;
mod report;
pub(crate) mod rlimits;
pub(crate) mod seccomp;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use seccompiler::BpfProgram;

pub use self::report::{JailReport, LayerStatus};
use self::rlimits::Rlimits;
use self::seccomp::Policy;
use crate::config::{DirGrant, JailSettings};
pub use crate::config::{Jailed, Layer};

/// The settings by which a process is restricted.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) policy: Policy,
    pub(crate) dirs: &'a [DirGrant],
    pub(crate) rlimits: Rlimits,
    pub(crate) settings: &'a JailSettings,
}

/// The layers that a process puts itself under, ready to be entered by it or by a process that is forked from it.
#[derive(Debug)]
pub(crate) struct Prepared {
    rlimits: Option<Rlimits>,
    capabilities: bool,
    no_new_privs: bool,
    descriptors: bool,
    landlock: Option<OwnedFd>,
    seccomp: Option<BpfProgram>,
    of: Jailed,
    statuses: Vec<(Layer, LayerStatus)>,
}

/// Does everything that takes files, memory or time, and finds out how fully each layer will hold.
///
/// # Errors
///
/// A layer that the kernel has, but that can't be made.
pub(crate) fn prepare(plan: &Plan<'_>) -> io::Result<Prepared> {
    let settings = plan.settings;
    let mut statuses = Vec::new();
    let mut simple = |layer, status: LayerStatus| {
        let on = settings.has(layer);
        statuses.push((layer, if on { status } else { LayerStatus::Off }));
        on
    };
    let rlimits = simple(Layer::Rlimits, LayerStatus::Full).then_some(plan.rlimits);
    let capabilities = simple(Layer::Capabilities, LayerStatus::Full);
    let no_new_privs = simple(Layer::NoNewPrivs, LayerStatus::Full);
    let descriptors = simple(Layer::Descriptors, LayerStatus::Full);
    let (landlock, status) = match settings.has(Layer::Landlock) {
        true => landlock::prepare(plan.dirs)?,
        false => (None, LayerStatus::Off),
    };
    statuses.push((Layer::Landlock, status));
    let (seccomp, status) = match settings.has(Layer::Seccomp) {
        true => seccomp::prepare(plan.policy, &settings.without_calls)?,
        false => (None, LayerStatus::Off),
    };
    statuses.push((Layer::Seccomp, status));
    let of = match plan.policy {
        Policy::Guest(_) => Jailed::Run,
        Policy::Compiler => Jailed::Compiler,
    };
    Ok(Prepared { rlimits, capabilities, no_new_privs, descriptors, landlock, seccomp, of, statuses })
}

impl Prepared {
    /// How fully these layers hold, and the layers that were entered before.
    pub(crate) fn report(&self, entered: Vec<(Layer, LayerStatus)>) -> JailReport {
        JailReport::new(self.of, self.statuses.iter().cloned().chain(entered).collect())
    }

    /// The descriptor of Landlock's rules, which [`enter`](Self::enter) needs.
    pub(crate) fn ruleset(&self) -> Option<BorrowedFd<'_>> {
        self.landlock.as_ref().map(OwnedFd::as_fd)
    }

    /// Whether a process closes all descriptors but those that it was given.
    pub(crate) fn closes_descriptors(&self) -> bool {
        self.descriptors
    }

    /// Puts the calling process, which has one thread, and all processes that are forked from it under these layers, for good.
    /// `ruleset` is [`ruleset`](Self::ruleset), or the same rules under another number, and is closed.
    ///
    /// # Errors
    ///
    /// A layer that was prepared and can't be entered: the process must not go on.
    pub(crate) fn enter(&self, ruleset: Option<OwnedFd>) -> io::Result<()> {
        self.enter_with(ruleset, || Ok(()))
    }

    /// Enters the layers in a process that is to have more threads. `start` starts these threads, from a thread that is under all
    /// layers but the last; the last layer then applies to all of them. No thread can be started after that.
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
        // Seccomp is the last layer: it forbids calls that the other layers need.
        if let Some(program) = &self.seccomp {
            seccomp::enter(program).map_err(failed(Layer::Seccomp))?;
        }
        Ok(())
    }
}
