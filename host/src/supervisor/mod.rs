//! The supervisor: the trusted parent of all guest processes of one run.
//!
//! The supervisor is a fresh exec of the owner's program, with one thread, so that it can fork at any time. Only the supervisor
//! forks from the loaded module, reaps, and records how a process ended. It never waits for a guest: everything that it does ends
//! soon, whatever guests do to the arena.
//!
//! # What it waits for
//!
//! | descriptor | says | then |
//! | --- | --- | --- |
//! | signalfd | SIGCHLD | reap, sweep, tell parent and relatives |
//! | doorbell (eventfd) | a guest wants a spawn or a signal | look at the request bits |
//! | control socket | the owner wants a stop, or is gone | end the run |
//! | pidfd of the owner | the owner is gone | end the run |
//! | socket of the gateway, if addresses are granted | the gateway is gone | say so, and close what it had |
//! | socket of the fork server | whether a process was started | tell its parent if not: [`fork_server`](crate::process::fork_server) |
//!
//! Now and then the supervisor counts its children: all of them must be in the process table ([`census`]), and while there are
//! many, the supervisor goes before them at the processors ([`priority`]). When nothing comes for a
//! while, it looks whether any process can still go on: [`deadlock`]. If there are limits of time, it wakes in time to enforce
//! them: [`timers`].
//!
//! # It is never busy for long
//!
//! Each turn of the loop first looks at those who may end the run: the owner, the control socket, the clocks. Then it does a part
//! of the remaining work, whose size no guest determines: it reaps some processes, does some steps of the
//! [sweeps](crate::ipc::sweep) after them, serves some requests. The rest is for the next turn, which comes at once. When the run
//! has ended, the supervisor only kills and reaps.
//!
//! # Nothing is left
//!
//! Each guest asks for SIGKILL at the supervisor's death (prctl PR_SET_PDEATHSIG), which is exact here because the supervisor has
//! one thread, and checks that the supervisor isn't dead yet. When the owner goes, pidfd and socket tell the supervisor.

mod allowance;
mod census;
pub(crate) mod children;
pub(crate) mod deadlock;
mod kin;
mod priority;
mod proc;
mod timers;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use wasmtime::{Engine, ResourcesRequired};

use self::children::{Children, Left};
use self::deadlock::Detector;
use self::priority::Priority;
use self::proc::Proc;
use crate::config::{Layer, Role, RunConfig};
use crate::control::{self, Reply, Request, Start};
use crate::ipc::arena::Arena;
use crate::ipc::outside;
use crate::jail::control_group::{self, ControlGroup, Shares};
use crate::jail::namespaces::{self, Entered};
use crate::jail::rlimits::{self, Reserved, Rlimits};
use crate::jail::seccomp::{Grants, Policy};
use crate::jail::{self, JailReport, LayerStatus};
use crate::process::boot::Image;
use crate::process::component;
use crate::process::program::Program;
use crate::sys::process::{FAILED, exit_now, pidfd_open};
use crate::{Error, engine, imports};

/// Bytes of a page of WebAssembly memory.
const WASM_PAGE: u64 = 64 << 10;

/// The most memories of all instances of a component together.
const MEMORIES_MAX: u32 = engine::MEMORIES_MAX as u32;

/// How often the supervisor counts its children.
const CENSUS: Duration = Duration::from_millis(250);

/// Runs as the supervisor until the run has ended. The control socket is the supervisor's stdin.
pub(crate) fn main() -> ! {
    // Guests must not get descriptors that the owner has forgotten to keep from its children, whatever layers hold.
    crate::sys::fd::close_from(3);
    // Until this is done, the socket is where it was inherited.
    let done = match crate::sys::fd::take_stdin() {
        Ok(socket) => supervise(&socket).inspect_err(|error| tell(socket.as_fd(), error)),
        Err(error) => Err(error.into()).inspect_err(|error| tell(io::stdin().as_fd(), error)),
    };
    // All guests are dead, or die with this process.
    exit_now(if done.is_ok() { 0 } else { FAILED });
}

/// Tells the owner the reason of the end. If that fails too, the owner has only the exit code.
fn tell(socket: BorrowedFd<'_>, error: &anyhow::Error) {
    let _ = control::send_message(socket, &Reply::Broken(format!("{error:#}")));
}

fn supervise(socket: &OwnedFd) -> anyhow::Result<()> {
    let owner = nix::unistd::getppid();
    let owner_pidfd = pidfd_open(owner.as_raw()).context("cannot watch the owner")?;
    if nix::unistd::getppid() != owner {
        return Ok(());
    }
    let _ = nix::sys::prctl::set_name(c"sandpool-superv");
    // A stray's children become the supervisor's, so they are seen and killed even without a PID namespace.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    block_signals()?;
    // These need something from outside of the namespaces.
    LazyLock::force(&imports::process::PROCESSORS);
    engine::known::seed_unused_generators();
    let priority = Priority::new();
    let mut start = control::receive_start(socket.as_fd()).context("cannot receive what is to run")?;
    let config = &mut start.config;
    let processes = u64::from(config.sandbox.limits.processes_max);
    let delegated = config.sandbox.jail.has(Layer::ControlGroup).then(control_group::delegated);
    // The number outside of the run's PID namespace, where no two processes have the same.
    let own = nix::unistd::getpid().as_raw().unsigned_abs();
    let moved = |pid| control::send_message(socket.as_fd(), &Reply::Moved(pid));
    let is_wanted = |layer| config.sandbox.jail.has(layer);
    let entered = namespaces::enter(&mut config.sandbox.dirs, processes, is_wanted, moved, Proc::open)
        .context("cannot enter the namespaces")?;
    let Entered::Inside(mut layers, proc) = entered else { return Ok(()) };
    let gateway = start.gateway.take();
    let (group, status) = match delegated {
        Some(Some(delegated)) => delegated.make(own, Shares::from_limits(&config.sandbox.limits)),
        Some(None) => {
            (None, LayerStatus::NotApplicable("no control group is delegated to this program".to_owned()))
        }
        None => (None, LayerStatus::Off),
    };
    layers.push((Layer::ControlGroup, status));
    match prepare(start, layers, group, proc, priority) {
        Ok(Prepared::Unjailed(report)) => control::send_message(socket.as_fd(), &Reply::Unjailed(report)),
        Ok(Prepared::Run(mut run)) => {
            run.gateway = gateway;
            let handed_over = run.handed_over.iter().map(OwnedFd::as_fd).collect::<Vec<_>>();
            control::send_message_with(socket.as_fd(), &Reply::Started(run.jail.clone()), &handed_over)
                .context("cannot answer the owner")?;
            run.handed_over.clear();
            let ended = run.watch(socket, &owner_pidfd).context("cannot watch the run")?;
            match ended {
                Some(ended) => control::send_message(socket.as_fd(), &Reply::Ended(ended)),
                None => Ok(()),
            }
        }
        Err(error) => {
            let reply = match error.downcast::<Error>() {
                Ok(Error::Allowance { what, hint }) => Reply::Allowance { what, hint },
                Ok(error) => Reply::Failed(format!("{:#}", anyhow::Error::from(error))),
                Err(error) => Reply::Failed(format!("{error:#}")),
            };
            control::send_message(socket.as_fd(), &reply)
        }
    }
    .context("cannot answer the owner")
}

/// SIGCHLD comes by descriptor. The terminal sends the other signals to all of its processes: guests die of them, and the owner
/// decides what is to be done.
fn block_signals() -> io::Result<()> {
    let mut blocked = SigSet::empty();
    blocked.extend([
        Signal::SIGCHLD,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGTSTP,
        // A write beyond the limit of a file's size is an error.
        Signal::SIGXFSZ,
    ]);
    Ok(sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None)?)
}

/// The result of preparing a run.
enum Prepared {
    Run(Box<Run>),
    /// The jail lacks required layers, or only the report was asked for.
    Unjailed(JailReport),
}

struct Run {
    /// The jail that holds the guests.
    jail: JailReport,
    children: Children,
    signals: SignalFd,
    doorbell: Arc<OwnedFd>,
    detector: Detector,
    /// A socket whose other end the gateway has: each of the two sees when the other ends.
    gateway: Option<OwnedFd>,
    /// Descriptors for the owner of a pool, the arena and the doorbell; the arena for a gateway.
    handed_over: Vec<OwnedFd>,
}

/// Prepares everything up to the start of the main guest.
fn prepare(
    start: Start,
    entered: Vec<(Layer, LayerStatus)>,
    group: Option<ControlGroup>,
    proc: Proc,
    priority: Priority,
) -> anyhow::Result<Prepared> {
    take_streams(start.stdio)?;
    if start.config.only_report {
        return only_report(&start.config, entered);
    }
    let mut ended = SigSet::empty();
    ended.add(Signal::SIGCHLD);
    let signals = SignalFd::with_flags(&ended, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let (memory, arena) = Arena::create(start.config.geometry())
        .map_err(|error| allowance::of_arena(error, &start.config.sandbox.limits))
        .context("cannot make the arena")?;
    let stack = start.config.sandbox.limits.stack_max;
    // Guests run on the main thread of their process, which is forked from this one.
    allowance::make_stack(stack, rlimits::stack(stack))?;
    let flavor = start.config.flavor;
    let memory_max = start.config.sandbox.limits.memory_max;
    let is_component = start.config.is_component;
    let engine = engine::config::engine_to_run(flavor, stack, memory_max, is_component)?;
    let artifact = start.artifact.metadata()?.len();
    let (program, wanted) = load(&engine, start.artifact, &start.config)?;
    let imports = |wanted: &str, name: &str| match &program {
        Program::Module(module) => {
            module.module().imports().any(|import| import.module() == wanted && import.name() == name)
        }
        Program::Component(_) => false,
    };
    let memories = space_of_memories(&start.config, &wanted);
    allowance::check_space(memories, stack)?;
    let reserved = Reserved { arena: arena.bytes(), artifact, memories };
    let imports_fork = imports(sandpool_abi::process::MODULE, "fork");
    let plan = plan(&start.config, reserved, imports);
    let jail_grants_fork = matches!(plan.policy, Policy::Guest(Grants { fork: true, .. }));
    let jail = jail::prepare(&plan).context("cannot prepare the jail")?;
    let report = jail.report(entered);
    if !report.lacks(&start.config.sandbox.jail.require).is_empty() {
        return Ok(Prepared::Unjailed(report));
    }
    let doorbell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let doorbell = Arc::new(OwnedFd::from(doorbell));
    let image = Image {
        program,
        config: start.config,
        arena: Arc::new(arena),
        supervisor_pid: nix::unistd::getpid().as_raw(),
        nice: priority.of_guests(),
        doorbell: doorbell.clone(),
        jail,
        jail_grants_fork,
        imports_fork,
    };
    let detector = Detector::new(image.config.on_deadlock);
    // Guests can't do this once they are in the jail, or each would have to do it.
    Engine::tls_eager_initialize();
    if image.config.sandbox.has_gateway() {
        outside::create_requests(&image.arena)?;
    }
    let handed_over = match image.config.role {
        Role::Pool => vec![memory, doorbell.try_clone()?],
        Role::Program if image.config.sandbox.has_gateway() => vec![memory],
        Role::Program => Vec::new(),
    };
    let children = Children::start(image, group, proc, priority).context("cannot start the main guest")?;
    Ok(Prepared::Run(Box::new(Run {
        jail: report,
        children,
        signals,
        doorbell,
        detector,
        gateway: None,
        handed_over,
    })))
}

/// Prepares a jail, to say how fully it would hold.
fn only_report(config: &RunConfig, entered: Vec<(Layer, LayerStatus)>) -> anyhow::Result<Prepared> {
    let jail =
        jail::prepare(&plan(config, Reserved::default(), |_, _| true)).context("cannot prepare the jail")?;
    Ok(Prepared::Unjailed(jail.report(entered)))
}

/// Makes these descriptors the standard streams, which all guests have.
fn take_streams([stdin, stdout, stderr]: [OwnedFd; 3]) -> nix::Result<()> {
    nix::unistd::dup2_stdin(stdin)?;
    nix::unistd::dup2_stdout(stdout)?;
    nix::unistd::dup2_stderr(stderr)
}

/// Addresses for all memories that the program may have at once.
fn space_of_memories(config: &RunConfig, wanted: &ResourcesRequired) -> u64 {
    let memory_max = config.sandbox.limits.memory_max;
    let begin = wanted.max_initial_memory_size.unwrap_or(0).saturating_mul(WASM_PAGE).min(memory_max);
    let memories = u64::from(wanted.num_memories) + u64::from(config.has_collected);
    memories.saturating_mul(config.flavor.memory_space(begin, memory_max))
}

/// Maps the artifact, and resolves the imports. Returns the program, and what its instance needs.
fn load(engine: &Engine, artifact: File, config: &RunConfig) -> anyhow::Result<(Program, ResourcesRequired)> {
    let plain = |error: wasmtime::Error| anyhow::anyhow!("{error:#}");
    if !config.is_component {
        let module = engine::load(engine, artifact)?;
        let wanted = module.resources_required();
        let resolved = imports::resolve(engine, &module, config.has_unknown_imports).map_err(plain)?;
        return Ok((Program::Module(resolved), wanted));
    }
    let component = engine::load_component(engine, artifact)?;
    let wanted = component.resources_required();
    let wanted = wanted.ok_or_else(|| anyhow::anyhow!("the component imports core modules"))?;
    anyhow::ensure!(
        wanted.num_memories <= MEMORIES_MAX,
        "the instances of the component have {} memories, and may have {MEMORIES_MAX}",
        wanted.num_memories
    );
    let resolved = component::resolve(engine, &component, config.has_unknown_imports).map_err(plain)?;
    Ok((Program::Component(resolved), wanted))
}

/// The restrictions of a run's guests, whose module imports these functions.
fn plan(config: &RunConfig, reserved: Reserved, imports: impl Fn(&str, &str) -> bool) -> jail::Plan<'_> {
    let forks = config.forks_tasks || imports(sandpool_abi::process::MODULE, "fork");
    let grants = Grants {
        fork: forks && config.sandbox.limits.processes_max > 1,
        files: !config.sandbox.dirs.is_empty(),
        map: imports(sandpool_abi::shared::MODULE, "map"),
    };
    let rlimits = Rlimits::new(&config.sandbox.limits, config.role, config.sandbox.dirs.len(), reserved);
    jail::Plan {
        policy: Policy::Guest(grants),
        dirs: &config.sandbox.dirs,
        rlimits,
        settings: &config.sandbox.jail,
    }
}

/// The longest wait for whoever may end the run, or for news of killed processes.
const ENDING: Duration = Duration::from_millis(5);

impl Run {
    /// Serves the run until its last process has ended. `None` if the owner is gone and nobody needs the report.
    ///
    /// Each turn first looks at who may end the run, then does a bounded part of the work.
    fn watch(&mut self, socket: &OwnedFd, owner: &OwnedFd) -> io::Result<Option<control::Ended>> {
        let mut quiet_since = Instant::now();
        let mut counted = Instant::now();
        let mut left = Left::Nothing;
        loop {
            let timeout = match left {
                Left::More => Duration::ZERO,
                Left::Busy => Duration::from_millis(1),
                Left::Nothing if self.children.is_ending() => ENDING,
                // Rounded up; otherwise the last part of a millisecond would be spent in a busy loop.
                Left::Nothing => deadlock::INTERVAL.min(self.children.time_left() + Duration::from_millis(1)),
            };
            let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::NONE);
            let mut fds = vec![socket.as_fd(), owner.as_fd(), self.signals.as_fd(), self.doorbell.as_fd()];
            fds.extend(self.gateway.as_ref().map(OwnedFd::as_fd));
            fds.extend(self.children.answers());
            let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            match poll(&mut fds, timeout) {
                Ok(0) => {}
                Ok(_) | Err(nix::Error::EINTR) => quiet_since = Instant::now(),
                Err(error) => return Err(error.into()),
            }
            let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
            let [asked, orphaned, child, rung] = std::array::from_fn(|_| ready.next() == Some(true));
            let has_lost_gateway = self.gateway.is_some() && ready.next() == Some(true);
            drop(fds);
            if orphaned {
                self.children.kill_all(Signal::SIGKILL);
                return Ok(None);
            }
            if asked {
                match control::receive_message(socket.as_fd())? {
                    Some(Request::Stop(signal)) => self.children.stop(signal),
                    None => {
                        self.children.kill_all(Signal::SIGKILL);
                        return Ok(None);
                    }
                }
            }
            self.children.look_after_time();
            if has_lost_gateway {
                self.gateway = None;
                self.children.gateway_ended();
            }
            if rung {
                let _ = nix::unistd::read(&*self.doorbell, &mut [0; 8]);
            }
            if child {
                // The signal is pending once, however many processes have ended.
                let _ = self.signals.read_signal();
            }
            left = self.children.work();
            if left == Left::More {
                // A process that takes more than a turn at once is in debt to all others, and then late for whoever may end the
                // run.
                std::thread::yield_now();
            }
            if let Some(ended) = self.children.ended() {
                return Ok(Some(ended));
            }
            if counted.elapsed() >= CENSUS {
                counted = Instant::now();
                self.children.count();
            }
            // This runs only when nothing has happened for a while, so that no news still has to be told.
            if quiet_since.elapsed() >= deadlock::INTERVAL
                && left == Left::Nothing
                && !self.children.has_unburied()
                && !self.children.is_ending()
            {
                quiet_since = Instant::now();
                if self.detector.look(self.children.participant(), self.children.proc()) {
                    self.children.end_deadlock();
                }
            }
        }
    }
}
