//! What the owner of a run holds of it, whether it is a program's or a pool's: its supervisor, and the control socket.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use crate::cache_dirs::CacheDirs;
use crate::config::{Layer, Role, RunConfig};
use crate::engine::compiler;
use crate::jail::{JailReport, control_group};
use crate::supervisor;
use crate::supervisor::control::{self, Reply};
use crate::sys::process::{pidfd_open, send_signal};
use crate::written::Writable;
use crate::{Error, Module, Result};

static INITIALIZED: AtomicBool = AtomicBool::new(false);
static EXECUTABLE: RwLock<Option<PathBuf>> = RwLock::new(None);

/// Must be the first call in `main` of every program that loads modules, or starts runs or pools.
///
/// ```no_run
/// fn main() -> sandpool::Result<()> {
///     sandpool::init();
///     let module = sandpool::Module::from_file("guest.wasm")?;
///     let summary = sandpool::Run::builder(&module).start()?.wait()?;
///     println!("{:?}", summary.status);
///     Ok(())
/// }
/// ```
///
/// Sandpool starts the program once more to be the supervisor of a run, or to compile a module. This call then doesn't
/// return. It has the role of `multiprocessing.freeze_support()`. Without it, or
/// [`set_executable`]:
///
/// ```
/// let error = sandpool::Module::from_bytes("nothing", b"(module)").unwrap_err();
/// assert!(matches!(error, sandpool::Error::NotInitialized));
/// ```
pub fn init() {
    match std::env::args_os().next() {
        Some(name) if name == supervisor::ARGV0 => supervisor::main(),
        Some(name) if name == compiler::ARGV0 => compiler::child::main(),
        _ => INITIALIZED.store(true, Ordering::Relaxed),
    }
}

/// Sets the program that is to be the supervisor of runs and the compiler of modules, if not this one: it must call
/// [`init`] first in `main`, and be built of the same version of Sandpool. The `sandpool` command is one.
///
/// It is for programs whose `main` isn't theirs: what another loads, tests. `multiprocessing.set_executable()` has the
/// same role.
///
/// ```no_run
/// sandpool::set_executable("/usr/bin/sandpool");
/// let module = sandpool::Module::from_file("guest.wasm")?;
/// # Ok::<(), sandpool::Error>(())
/// ```
pub fn set_executable(program: impl Into<PathBuf>) {
    *EXECUTABLE.write().unwrap_or_else(PoisonError::into_inner) = Some(program.into());
}

/// The program to start for what Sandpool does not do in this process.
pub(crate) fn executable() -> Result<PathBuf> {
    match &*EXECUTABLE.read().unwrap_or_else(PoisonError::into_inner) {
        Some(program) => Ok(program.clone()),
        None if INITIALIZED.load(Ordering::Relaxed) => Ok(PathBuf::from("/proc/self/exe")),
        None => Err(Error::NotInitialized),
    }
}

/// Refuses settings that make no sense, and makes the paths of directories absolute.
fn check(config: &mut RunConfig) -> Result<()> {
    let invalid = |what: String, hint: &str| Err(Error::Invalid { what, hint: Some(hint.to_owned()) });
    config.limits.check()?;
    if config
        .args
        .iter()
        .chain(config.env.iter().flat_map(|(key, value)| [key, value]))
        .any(|s| s.contains('\0'))
    {
        return invalid("an argument or variable holds a NUL byte".to_owned(), "remove it");
    }
    if let Some((key, _)) = config.env.iter().find(|(key, _)| key.is_empty() || key.contains('=')) {
        return invalid(format!("`{key}` is not a variable's name"), "write KEY=VALUE");
    }
    config.jail.check()?;
    for dir in &mut config.dirs {
        let grant = |source| Error::Grant { path: dir.host.clone(), source };
        let path = dir.host.canonicalize().map_err(grant)?;
        std::fs::read_dir(&path).map_err(grant)?;
        dir.host = path;
    }
    refuse_cache(config)
}

/// Refuses to let guests write where the host keeps machine code that it runs.
fn refuse_cache(config: &RunConfig) -> Result<()> {
    let Ok(cache) = CacheDirs::find() else { return Ok(()) };
    if config.dirs.iter().all(|dir| dir.read_only) {
        return Ok(());
    }
    let writable = Writable::of(config.dirs.iter().filter(|dir| !dir.read_only).map(|dir| &*dir.host))?;
    writable.refuse_trusted(&cache.modules)?;
    writable.refuse_trusted(&cache.guests)
}

/// What the C library of a supervisor is to do otherwise, and so those of all guests, which are forked from it.
///
/// On AMD's processors, `rep movsb` takes up to 17 times as long as a loop where source and destination lie alike within
/// their pages, as items of queues do that have pages of their own. glibc's `memcpy` used it there from 2112 bytes on, before
/// version 2.40 (its bug 30994). The setting means nothing to others.
fn tunables() -> Option<(&'static str, &'static str)> {
    #[cfg(target_arch = "x86_64")]
    {
        let vendor = std::arch::x86_64::__cpuid(0);
        if [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD" {
            return Some(("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=0x10000000"));
        }
    }
    None
}

/// A child of this process that is waited for by nobody else: a supervisor or a compiler.
#[derive(Debug)]
pub(crate) struct Child {
    pid: u32,
    pidfd: OwnedFd,
}

impl Child {
    /// Starts a program by this name, with these standard streams and no environment but settings of its C library.
    pub(crate) fn start(program: &Path, name: &str, streams: [Stdio; 3]) -> io::Result<Self> {
        let [stdin, stdout, stderr] = streams;
        let mut command = Command::new(program);
        command.arg0(name).env_clear().envs(tunables()).stdin(stdin).stdout(stdout).stderr(stderr);
        Self::of(command.spawn()?.id())
    }

    fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, pidfd: pidfd_open(i32::try_from(pid).map_err(io::Error::other)?)? })
    }

    /// What it says next, and the descriptors that come with it; `None` if it says nothing more. If it is another process
    /// from now on, this is that one then.
    pub(crate) fn next_reply(&mut self, socket: BorrowedFd<'_>) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
        loop {
            match control::receive_message_with(socket)? {
                Some((Reply::Moved(pid), _)) => {
                    let child = Self::of(pid)?;
                    let _ = std::mem::replace(self, child).wait();
                }
                reply => return Ok(reply),
            }
        }
    }

    /// Becomes readable when it ends.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn kill(&self) {
        let _ = send_signal(self.pidfd.as_fd(), Signal::SIGKILL);
    }

    /// Waits until it has ended; how it did.
    pub(crate) fn wait(&self) -> nix::Result<WaitStatus> {
        loop {
            match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED) {
                Err(Errno::EINTR) => {}
                ended => return ended,
            }
        }
    }
}

/// The supervisor of a run. Dropped, it is killed, and all guests die with it.
#[derive(Debug)]
pub(crate) struct Supervisor {
    child: Child,
    socket: Arc<OwnedFd>,
    jail: JailReport,
    /// whether it makes a control group if it can
    makes_group: bool,
    is_over: bool,
}

impl Supervisor {
    /// Starts a run, with these standard streams. Returns the descriptors that the supervisor hands over as well.
    pub(crate) fn start(
        config: &mut RunConfig,
        module: &Module,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Result<(Self, Vec<OwnedFd>)> {
        let program = executable()?;
        check(config)?;
        if config.limits.fuel.is_some() && !module.flavor().counts_fuel {
            return Err(Error::Invalid {
                what: format!("{} does not count fuel", module.name()),
                hint: Some("load it with Module::builder().count_fuel(true)".to_owned()),
            });
        }
        config.flavor = module.flavor();
        config.has_start = module.has_start();
        let (mut supervisor, reply, descriptors) =
            Self::launch(program, config, module.artifact().as_fd(), stdio)?;
        match reply {
            Reply::Started(jail) => {
                supervisor.jail = jail;
                Ok((supervisor, descriptors))
            }
            Reply::Unjailed(jail) => Err(jail.refusal(&config.jail.require)),
            Reply::Failed(why) => Err(Error::Supervisor(why)),
            Reply::Allowance { what, hint } => Err(Error::Allowance { what, hint }),
            reply => Err(supervisor.lost(Some(reply))),
        }
    }

    /// Which layers of the jail would hold, and how fully. Nothing is started but a supervisor, which ends.
    pub(crate) fn survey() -> Result<JailReport> {
        let config = RunConfig { only_report: true, ..RunConfig::new(Role::Program) };
        let null = File::open("/dev/null").map_err(|source| Error::Os { what: "open /dev/null", source })?;
        let null = null.as_fd();
        let (mut supervisor, reply, _) = Self::launch(executable()?, &config, null, [null; 3])?;
        match reply {
            Reply::Unjailed(jail) => {
                supervisor.ended();
                Ok(jail)
            }
            Reply::Failed(why) => Err(Error::Supervisor(why)),
            reply => Err(supervisor.lost(Some(reply))),
        }
    }

    /// Starts a program as a supervisor, and returns what it answers.
    fn launch(
        program: PathBuf,
        config: &RunConfig,
        artifact: BorrowedFd<'_>,
        stdio: [BorrowedFd<'_>; 3],
    ) -> Result<(Self, Reply, Vec<OwnedFd>)> {
        let os = |what| move |source| Error::Os { what, source };
        let (socket, theirs) = control::pair().map_err(os("make the control socket"))?;
        let streams = [theirs.into(), Stdio::inherit(), Stdio::inherit()];
        let child = Child::start(&program, supervisor::ARGV0, streams).map_err(os("start the supervisor"))?;
        let mut supervisor = Self {
            child,
            socket: Arc::new(socket),
            jail: JailReport::default(),
            makes_group: config.jail.has(Layer::ControlGroup),
            is_over: false,
        };
        let socket = supervisor.socket.clone();
        if control::send_start(socket.as_fd(), config, artifact, stdio).is_err() {
            return Err(supervisor.lost(None));
        }
        match supervisor.child.next_reply(socket.as_fd()) {
            Ok(Some((reply, descriptors))) => Ok((supervisor, reply, descriptors)),
            _ => Err(supervisor.lost(None)),
        }
    }

    /// What holds the guests.
    pub(crate) fn jail(&self) -> &JailReport {
        &self.jail
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid
    }

    /// The control socket.
    pub(crate) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// It has said what there is to say, or was told to end: waits until it has.
    pub(crate) fn ended(&mut self) {
        self.is_over = true;
        let _ = self.child.wait();
    }

    /// Ends it, and does what it can't do any more.
    fn kill(&self) -> nix::Result<WaitStatus> {
        self.child.kill();
        let ended = self.child.wait();
        // Whether it has made one isn't known before it has reported, and guests may have been born by then.
        if self.makes_group {
            control_group::remove_abandoned();
        }
        ended
    }

    /// It has said this, or nothing, which isn't what it is to say: why it is gone.
    pub(crate) fn lost(&mut self, said: Option<Reply>) -> Error {
        Error::SupervisorLost(self.why_lost(said))
    }

    /// The same as a fragment.
    pub(crate) fn why_lost(&mut self, said: Option<Reply>) -> String {
        self.is_over = true;
        let ended = self.kill();
        // It may have told before it ended. What it had of the socket is closed, so that this waits for nothing.
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
