//! A run or pool under its supervisor, as the owner has it: starts the supervisor, and holds the control socket.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use nix::sys::wait::WaitStatus;

use crate::cache_dirs::CacheDirs;
use crate::child::{self, Child, executable};
use crate::config::{AddressGrant, DirGrant, Jailed, Layer, Role, RunConfig};
use crate::control::{self, Reply};
use crate::engine::{Module, compiler};
use crate::gateway::names;
use crate::gateway::owner::Gateway;
use crate::jail::{JailReport, control_group, rlimits};
use crate::written::Writable;
use crate::{Error, Result};

/// Refuses settings that make no sense, and makes the paths of directories absolute.
fn check(config: &mut RunConfig) -> Result<()> {
    let invalid = |what: String, hint: &str| Err(Error::Invalid { what, hint: Some(hint.to_owned()) });
    let RunConfig { args, sandbox, .. } = config;
    sandbox.limits.check()?;
    let of_env = sandbox.env.iter().flat_map(|(key, value)| [key, value]);
    if args.iter().chain(of_env).any(|text| text.contains('\0')) {
        return invalid("an argument or variable holds a NUL byte".to_owned(), "remove it");
    }
    if let Some((key, _)) = sandbox.env.iter().find(|(key, _)| key.is_empty() || key.contains('=')) {
        return invalid(format!("`{key}` is not a variable's name"), "write KEY=VALUE");
    }
    sandbox.jail.check()?;
    for dir in &mut sandbox.dirs {
        let grant = |source| Error::Grant { path: dir.host.clone(), source };
        let path = dir.host.canonicalize().map_err(grant)?;
        std::fs::read_dir(&path).map_err(grant)?;
        dir.host = path;
    }
    for grant in sandbox.listen.iter_mut().chain(&mut sandbox.connect) {
        grant.look_up()?;
    }
    refuse_sockets(&sandbox.dirs, sandbox.listen.iter().chain(&sandbox.connect))?;
    refuse_cache(&sandbox.dirs)
}

/// Refuses sockets where guests may write: they could lead the path to another socket.
fn refuse_sockets<'a>(dirs: &[DirGrant], grants: impl Iterator<Item = &'a AddressGrant>) -> Result<()> {
    let writable = Writable::granted(dirs)?;
    // The folder of names may not be there yet: then guests must not be able to make it.
    let names = names::folder_path();
    for path in grants.flat_map(|grant| grant.paths(&names)) {
        writable.refuse_socket(&path)?;
    }
    Ok(())
}

/// Refuses to let guests write where the host keeps machine code that it runs.
fn refuse_cache(dirs: &[DirGrant]) -> Result<()> {
    let Ok(cache) = CacheDirs::find() else { return Ok(()) };
    if dirs.iter().all(|dir| dir.is_read_only) {
        return Ok(());
    }
    let writable = Writable::granted(dirs)?;
    writable.refuse_trusted(&cache.modules)?;
    writable.refuse_trusted(&cache.guests)
}

/// The supervisor of a run. Dropping this kills the supervisor, and all guests die with it.
#[derive(Debug)]
pub(crate) struct Supervisor {
    child: Child,
    socket: Arc<OwnedFd>,
    jail: JailReport,
    gateway: Option<Gateway>,
    /// whether the supervisor makes a control group if it can
    makes_group: bool,
    is_over: bool,
}

impl Supervisor {
    /// Starts a run with these standard streams. Also returns the descriptors that the supervisor hands over.
    pub(crate) fn start(
        config: &mut RunConfig,
        module: &Module,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Result<(Self, Vec<OwnedFd>)> {
        let program = executable()?;
        check(config)?;
        if config.sandbox.limits.fuel.is_some() && !module.flavor().counts_fuel {
            return Err(Error::Invalid {
                what: format!("{} does not count fuel", module.name()),
                hint: Some(
                    "load it with a sandbox that limits fuel: Module::builder().sandbox(…)".to_owned(),
                ),
            });
        }
        config.flavor = module.flavor();
        config.is_component = module.is_component();
        config.has_start = module.has_start();
        config.has_collected = module.has_collected();
        config.has_unknown_imports = module.has_unknown_imports();
        let os = |source| Error::Os { what: "make the gateway's socket", source };
        let link = config.sandbox.has_gateway().then(control::pair).transpose().map_err(os)?;
        let theirs = link.as_ref().map(|(_, theirs)| theirs.as_fd());
        let (mut supervisor, reply, descriptors) =
            Self::launch(program.clone(), config, module.artifact().as_fd(), stdio, theirs)?;
        match reply {
            Reply::Started(jail) => {
                supervisor.jail = jail;
                if let Some((link, _)) = &link {
                    let Some(memory) = descriptors.first() else { return Err(supervisor.lost(None)) };
                    let gateway = Gateway::start(&program, config, memory.as_fd(), link.as_fd())?;
                    supervisor.gateway = Some(gateway);
                }
                Ok((supervisor, descriptors))
            }
            Reply::Unjailed(jail) => Err(jail.refusal(&config.sandbox.jail.require)),
            Reply::Failed(why) => Err(Error::Supervisor(why)),
            Reply::Allowance { what, hint } => Err(Error::Allowance { what, hint }),
            reply => Err(supervisor.lost(Some(reply))),
        }
    }

    /// Reports which layers of the jail would hold, and how fully. Only a supervisor is started, which then ends.
    pub(crate) fn survey() -> Result<JailReport> {
        let config = RunConfig { only_report: true, ..RunConfig::new(Role::Program) };
        let null = File::open("/dev/null").map_err(|source| Error::Os { what: "open /dev/null", source })?;
        let null = null.as_fd();
        let (mut supervisor, reply, _) = Self::launch(executable()?, &config, null, [null; 3], None)?;
        match reply {
            Reply::Unjailed(jail) => {
                supervisor.ended();
                Ok(jail)
            }
            Reply::Failed(why) => Err(Error::Supervisor(why)),
            reply => Err(supervisor.lost(Some(reply))),
        }
    }

    /// Starts a program as a supervisor, and returns its answer.
    fn launch(
        program: PathBuf,
        config: &RunConfig,
        artifact: BorrowedFd<'_>,
        stdio: [BorrowedFd<'_>; 3],
        gateway: Option<BorrowedFd<'_>>,
    ) -> Result<(Self, Reply, Vec<OwnedFd>)> {
        let os = |what| move |source| Error::Os { what, source };
        let (socket, theirs) = control::pair().map_err(os("make the control socket"))?;
        let streams = [theirs.into(), Stdio::inherit(), Stdio::inherit()];
        let stack = rlimits::stack(config.sandbox.limits.stack_max);
        let child =
            Child::start(&program, child::SUPERVISOR, streams, stack).map_err(os("start the supervisor"))?;
        let mut supervisor = Self {
            child,
            socket: Arc::new(socket),
            jail: JailReport::default(),
            gateway: None,
            makes_group: config.sandbox.jail.has(Layer::ControlGroup),
            is_over: false,
        };
        let socket = supervisor.socket.clone();
        if control::send_start(socket.as_fd(), config, artifact, stdio, gateway).is_err() {
            return Err(supervisor.lost(None));
        }
        match supervisor.child.next_reply(socket.as_fd()) {
            Ok(Some((reply, descriptors))) => Ok((supervisor, reply, descriptors)),
            _ => Err(supervisor.lost(None)),
        }
    }

    /// The jail that holds the guests.
    pub(crate) fn jail(&self) -> &JailReport {
        &self.jail
    }

    /// The supervisor's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// The control socket.
    pub(crate) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// Waits until the supervisor has ended. It has sent its last message, or was told to end.
    pub(crate) fn ended(&mut self) {
        self.is_over = true;
        let _ = self.child.wait();
        if let Some(gateway) = self.gateway.take() {
            gateway.ended();
        }
    }

    /// Ends the supervisor, and does the cleanup that it can't do any more.
    fn kill(&self) -> nix::Result<WaitStatus> {
        self.child.kill();
        let ended = self.child.wait();
        // Only the supervisor's report says whether it has made a group, and guests may have been born before that.
        if self.makes_group {
            control_group::remove_abandoned();
        }
        ended
    }

    /// The error for a lost supervisor, which has said `said`, an unexpected reply or none.
    pub(crate) fn lost(&mut self, said: Option<Reply>) -> Error {
        Error::SupervisorLost(self.why_lost(said))
    }

    /// The reason why the supervisor is lost, as a fragment.
    pub(crate) fn why_lost(&mut self, said: Option<Reply>) -> String {
        self.is_over = true;
        let ended = self.kill();
        // The supervisor may have told the reason before it ended. Its end of the socket is closed, so this doesn't wait.
        let told = said.or_else(|| control::receive_message(self.socket.as_fd()).ok().flatten());
        if let Some(Reply::Broken(why)) = told {
            return why;
        }
        match ended {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("killed by signal {}", signal as i32),
            Ok(WaitStatus::Exited(_, code)) => format!("it exited with {code}"),
            Ok(status) => format!("{status:?}"),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if !self.is_over {
            let _ = self.kill();
        }
    }
}

impl JailReport {
    /// Reports which layers would hold on this machine, and how fully. No guest is run or compiled: a supervisor or a compiler is
    /// started, enters the jail, reports on it, and ends.
    ///
    /// ```no_run
    /// # fn main() -> sandpool::Result<()> {
    /// sandpool::init();
    /// print!("{}", sandpool::jail::JailReport::survey(sandpool::jail::Jailed::Run)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NotInitialized`]; [`Error::Os`], [`Error::Supervisor`] and [`Error::SupervisorLost`] if the process can't be started,
    /// or ends before it has reported.
    pub fn survey(jailed: Jailed) -> Result<Self> {
        match jailed {
            Jailed::Run => Supervisor::survey(),
            Jailed::Compiler => compiler::owner::survey(),
        }
    }
}
