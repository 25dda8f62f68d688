//! From a fork of the supervisor to a guest's `_start`.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use sandpool_abi::Errno;
use sandpool_abi::process::EXITED;
use wasmtime::Store;

use super::fork::die_with_supervisor;
use super::fork_server;
use super::mapped_ranges::Mappings;
use super::pool_worker;
use super::program::{Entry, Instance, Program};
use super::stdio::Stdio;
use super::{Growth, Guest, Process, Strings, component, exit, wasi};
use crate::children::Children;
use crate::config::{Role, RunConfig};
use crate::engine::trap;
use crate::ipc::arena::{Arena, Participant, Patience};
use crate::ipc::process_table::{Outcome, ProcessHandle, ProcessSlot};
use crate::ipc::standby;
use crate::jail;
use crate::sys::atomic::AtomicU32;
use crate::sys::clone::{self, Fork, Parent};
use crate::sys::process::{FAILED, USUAL_SLICE, exit_now, set_nice, set_slice};
use crate::wire;

/// The image from which every process of a run is made; the supervisor holds it, ready.
pub(crate) struct Image {
    pub(crate) program: Program,
    pub(crate) config: RunConfig,
    pub(crate) arena: Arc<Arena>,
    pub(crate) supervisor_pid: i32,
    /// The nice value of guests: that of the owner.
    pub(crate) nice: i32,
    pub(crate) doorbell: Arc<OwnedFd>,
    pub(crate) jail: jail::Prepared,
    /// Whether the jail lets its processes fork.
    pub(crate) jail_grants_fork: bool,
    /// Whether the module imports `fork`.
    pub(crate) imports_fork: bool,
}

/// The names of these processes in the kernel's process table.
const GUEST_NAME: &CStr = c"sandpool-guest";
const FORK_SERVER_NAME: &CStr = c"sandpool-forks";
const STANDBY_NAME: &CStr = c"sandpool-spare";

/// Becomes the guest process in this slot. Called in a process that the supervisor just forked.
pub(crate) fn run(image: &Image, index: u32, handle: ProcessHandle) -> ! {
    die_with_supervisor(image.supervisor_pid);
    caught(image, index, |stdio| {
        let given = reset_process(image, None)?;
        let mut process = process(image, stdio, given.doorbell, index, handle);
        process.take_entry()?;
        // A process that a task spawns begins as a program does: its parent may give it any payload, and no payload
        // makes it a worker.
        let is_worker = image.config.role == Role::Pool
            && process.parent.is_some_and(|parent| parent.index() == Ok(wire::OWNER));
        let worker = if is_worker { Some(pool_worker::set_up(&mut process)?) } else { None };
        let mut store = store(image, process, given.ruleset)?;
        #[cfg(feature = "testing")]
        crate::native::instead_of_guest(&image.config.args);
        let instance = instantiate_or_crash(image, &mut store)?;
        match worker {
            Some(worker) => pool_worker::serve(&mut store, instance, worker),
            None => {
                let entry = instance.entry(&mut store)?;
                start(store, &instance, &entry)
            }
        }
    })
}

/// Becomes the fork server, and each process that is forked from it. Called in a process that the supervisor just forked.
pub(crate) fn serve_forks(image: &Image, socket: &OwnedFd) -> ! {
    die_with_supervisor(image.supervisor_pid);
    let index = image.arena.geometry.processes_max;
    caught(image, index, |stdio| {
        let given = reset_process(image, Some(socket.as_fd()))?;
        let socket = given.socket.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
        let process = process(image, stdio, given.doorbell, index, ProcessHandle(0));
        let mut store = store(image, process, given.ruleset)?;
        // This isn't done if the module has a start function, which each process is to run for itself. A failure here
        // also happens in the forked process, and is reported there.
        let prepared = if image.config.has_start {
            None
        } else {
            instantiate(image, &mut store)
                .and_then(|instance| instance.entry(&mut store).map(|entry| (instance, entry)))
                .ok()
        };
        while let Some(handle) = fork_server::next_request(socket.as_fd())? {
            let Some(birth) = Birth::from_request(&image.arena, handle)? else {
                fork_server::answer(socket.as_fd(), handle, None)?;
                continue;
            };
            let errno = match clone::fork(Parent::CallersParent, birth.pid()) {
                Ok(Fork::Child) => {
                    drop(socket);
                    die_with_supervisor(image.supervisor_pid);
                    let (index, handle) = birth.slot(&image.arena);
                    let _ = nix::sys::prctl::set_name(GUEST_NAME);
                    store.data_mut().process.become_spawned(index, handle)?;
                    if let Err(limit) = store.data_mut().charge() {
                        exit::refuse(store.data(), limit);
                    }
                    #[cfg(feature = "testing")]
                    crate::native::instead_of_guest(&image.config.args);
                    let (instance, entry) = match prepared {
                        Some(prepared) => prepared,
                        None => {
                            let instance = instantiate_or_crash(image, &mut store)?;
                            (instance, instance.entry(&mut store)?)
                        }
                    };
                    return start(store, &instance, &entry);
                }
                Ok(Fork::Parent(_)) => None,
                Err(error) => {
                    birth.failed();
                    Some(error.raw_os_error().unwrap_or(libc::EAGAIN))
                }
            };
            fork_server::answer(socket.as_fd(), handle, errno)?;
        }
        Ok(())
    })
}

/// The beginning of a process that comes from the fork server.
enum Birth<'a> {
    /// The process of a slot.
    Slot(u32, ProcessHandle, &'a AtomicU32),
    /// A process that stands by.
    Standby(&'a standby::Place),
}

impl<'a> Birth<'a> {
    /// The birth that was asked for; `None` if a process stands by already.
    fn from_request(arena: &'a Arena, handle: ProcessHandle) -> Result<Option<Self>, Errno> {
        if handle == fork_server::STANDBY {
            return Ok(standby::vacate(arena).map(Self::Standby));
        }
        let index = handle.index()?;
        Ok(Some(Self::Slot(index, handle, arena.process_id(index)?)))
    }

    /// The word in which the kernel is to store the process's id.
    fn pid(&self) -> &AtomicU32 {
        match self {
            Self::Slot(_, _, pid) => pid,
            Self::Standby(place) => place.pid(),
        }
    }

    /// Clears the place, because there is no such process.
    fn failed(&self) {
        if let Self::Standby(place) = self {
            place.clear();
        }
    }

    /// The slot of this process, in the process itself. A process that stands by waits for its slot.
    fn slot(self, arena: &Arena) -> (u32, ProcessHandle) {
        match self {
            Self::Slot(index, handle, _) => (index, handle),
            Self::Standby(place) => {
                let _ = nix::sys::prctl::set_name(STANDBY_NAME);
                place.stand_by(arena).unwrap_or_else(|| exit_now(FAILED))
            }
        }
    }
}

/// Runs `body`, which doesn't return if it succeeds, and reports why it did otherwise.
fn caught(image: &Image, index: u32, body: impl FnOnce(&Arc<Stdio>) -> wasmtime::Result<()>) -> ! {
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let participant = Participant { arena: image.arena.clone(), index, patience: Patience::Forever };
        let limits = &image.config.sandbox.limits;
        let stdio = Stdio::new(&participant, is_first(&participant), image.imports_fork, limits);
        if let Err(error) = body(&stdio) {
            stdio.report(&format!("error: cannot start a guest process: {error:#}\n"));
        }
        stdio
    }));
    // By now this may be another process than the one that called `caught`.
    let index = outcome.as_ref().map_or(index, |stdio| stdio.index());
    if let Ok(slot) = image.arena.process(index) {
        slot.claim(Outcome::new(EXITED, FAILED as u32));
    }
    exit_now(FAILED)
}

fn parent(participant: &Participant) -> Option<ProcessHandle> {
    participant.slot().ok().map(ProcessSlot::parent).filter(|parent| parent.0 != 0)
}

/// Whether this is the main process, which has stdin.
fn is_first(participant: &Participant) -> bool {
    parent(participant).is_none()
}

fn process(
    image: &Image,
    stdio: &Arc<Stdio>,
    doorbell: OwnedFd,
    index: u32,
    handle: ProcessHandle,
) -> Process {
    let participant = Participant { arena: image.arena.clone(), index, patience: Patience::Forever };
    let parent = parent(&participant);
    let children = Children::new(participant, handle, doorbell);
    let limits = image.config.sandbox.limits.clone();
    let mut process = Process::new(children, parent, image.supervisor_pid, stdio.clone(), limits);
    process.has_gateway = image.config.sandbox.has_gateway();
    process.strings = Arc::new(Strings::new(&image.config.args, &image.config.sandbox.env));
    process
}

/// The descriptors that a guest process is given, beside its standard streams.
struct Given {
    doorbell: OwnedFd,
    /// Landlock's ruleset, until the process is in the jail.
    ruleset: Option<OwnedFd>,
    /// The fork server's socket.
    socket: Option<OwnedFd>,
}

/// Resets signals, descriptors and runtime of a guest process.
fn reset_process(image: &Image, socket: Option<BorrowedFd<'_>>) -> std::io::Result<Given> {
    // The supervisor blocks the signals that it takes from descriptors; a guest is to die of them. But signals to a
    // whole group of processes, by a terminal or by timeout(1), don't end a worker, nor the processes that its tasks
    // have started: the owner of the pool may want to have the rest done first. The supervisor kills the processes that
    // are to end. A file that would become too large is an error for the guest, and doesn't kill it.
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGXFSZ);
    if image.config.role == Role::Pool {
        blocked.extend([Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGTERM]);
    }
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)?;
    let ruleset = image.jail.ruleset();
    let keep: Vec<_> = [Some(image.doorbell.as_fd()), ruleset, socket].into_iter().flatten().collect();
    let mut kept = crate::sys::fd::keep_only(&keep, image.jail.closes_descriptors())?.into_iter();
    let doorbell = kept.next().ok_or(std::io::ErrorKind::NotFound)?;
    let ruleset = ruleset.and_then(|_| kept.next());
    let socket = kept.next();
    // wasmtime-wasi makes a runtime with threads if none is current. This one has no thread and no descriptor.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    std::mem::forget(Box::leak(Box::new(runtime)).enter());
    let _ = nix::sys::prctl::set_name(if socket.is_some() { FORK_SERVER_NAME } else { GUEST_NAME });
    Ok(Given { doorbell, ruleset, socket })
}

/// The store of a guest's instance; from here on, the calling process is in the jail.
fn store(image: &Image, process: Process, ruleset: Option<OwnedFd>) -> wasmtime::Result<Store<Guest>> {
    let guest = Guest {
        wasi: wasi::context(&image.config, &process.stdio)?,
        memory: None,
        growth: Growth::default(),
        mappings: Mappings::default(),
        process,
    };
    let mut store = Store::new(image.program.engine(), guest);
    store.limiter(|guest| guest);
    if let Program::Component(_) = image.program {
        component::bound(&mut store);
    }
    if image.config.flavor.counts_fuel {
        store.set_fuel(image.config.sandbox.limits.fuel.unwrap_or(u64::MAX))?;
    }
    set_nice(0, image.nice);
    set_slice(0, USUAL_SLICE);
    image.jail.enter(ruleset)?;
    Ok(store)
}

/// Instantiates the program. The code that runs here may already be the guest's: instantiation may run code of the
/// program.
#[expect(clippy::disallowed_methods, reason = "it needs the address, and not what lies there")]
fn instantiate(image: &Image, store: &mut Store<Guest>) -> wasmtime::Result<Instance> {
    let instance = match &image.program {
        Program::Module(module) => module.instantiate(&mut *store)?,
        Program::Component(component) => return Ok(Instance::Component(component.instantiate(store)?)),
    };
    let memory = instance.get_memory(&mut *store, "memory");
    if let Some(memory) = memory {
        // The advice reaches beyond the present size: the memory grows in place.
        let reach = image.config.flavor.memory_reach(image.config.sandbox.limits.memory_max);
        crate::sys::mem::advise_huge_pages(
            memory.data_ptr(&*store),
            usize::try_from(reach).unwrap_or(usize::MAX),
        );
    }
    store.data_mut().memory = memory;
    wasi::make_descriptors(&mut store.data_mut().wasi);
    Ok(Instance::Module(instance))
}

/// Instantiates the program, and ends the process if the fault is the program's: a memory or table that is larger than it
/// may be from the start, data outside of it, a trap in what runs first.
fn instantiate_or_crash(image: &Image, store: &mut Store<Guest>) -> wasmtime::Result<Instance> {
    instantiate(image, store).inspect_err(|error| {
        if store.data().growth.refused.is_some() || trap::classify(error).is_some() {
            exit::crash(store.data(), error);
        }
    })
}

/// Runs a program to its end.
fn start(mut store: Store<Guest>, instance: &Instance, entry: &Entry) -> wasmtime::Result<()> {
    let result = entry.call(&mut store);
    // By now this may be a forked child of the process that called.
    match result {
        Ok(code) => exit::exit(store.data(), code),
        Err(error) => exit::trapped(&mut store, instance, error),
    }
}
