//! From a fork of the supervisor to a guest's `_start`.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use sandpool_abi::process::EXITED;
use wasmtime::{InstancePre, Store};

use super::mappings::Mappings;
use super::stdio::Stdio;
use super::task::{self, Queues};
use super::{Guest, MemoryLimit, Process, exit, wasi};
use crate::ExitCode;
use crate::engine::trap;
use crate::ipc::arena::{Arena, Member, Patience};
use crate::ipc::process_table::{Outcome, ProcessHandle, ProcessSlot};
use crate::jail;
use crate::pool::wire::Setup;
use crate::supervisor::control::{Role, RunConfig};
use crate::sys::process::{die_with_parent, exit_now};

/// What every process of a run is made from; the supervisor holds it, ready.
pub(crate) struct Image {
    pub(crate) instance: InstancePre<Guest>,
    pub(crate) config: RunConfig,
    pub(crate) arena: Arc<Arena>,
    pub(crate) supervisor_pid: i32,
    pub(crate) doorbell: Arc<OwnedFd>,
    pub(crate) jail: jail::Prepared,
}

/// Asks for SIGKILL when the supervisor ends. If it has ended already, so does this process.
#[inline]
pub(crate) fn die_with_supervisor(supervisor_pid: i32) {
    if !die_with_parent(supervisor_pid) {
        exit_now(i32::from(ExitCode::SupervisorLost.code()));
    }
}

/// Becomes the guest process in this slot. Called in a process that the supervisor just forked.
pub(crate) fn run(image: &Image, index: u32, handle: ProcessHandle) -> ! {
    die_with_supervisor(image.supervisor_pid);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| boot(image, index, handle)));
    // What comes back has failed before the guest ran, and has said why.
    let code = ExitCode::Internal.code();
    if let Ok(slot) = image.arena.process(index) {
        slot.claim(Outcome::new(EXITED, u32::from(code)));
    }
    drop(outcome);
    exit_now(i32::from(code))
}

fn boot(image: &Image, index: u32, handle: ProcessHandle) {
    let member = Member { arena: image.arena.clone(), index, patience: Patience::Forever };
    let parent = member.slot().ok().map(ProcessSlot::parent);
    let parent = parent.filter(|parent| parent.0 != 0);
    let stdio = Stdio::new(&member, parent.is_none(), &image.config.limits);
    let started = reset_process(image).map_err(wasmtime::Error::from).and_then(|given| {
        let mut process = Process {
            member,
            handle,
            parent,
            identity: Vec::new(),
            started: 0,
            supervisor_pid: image.supervisor_pid,
            doorbell: Arc::new(given.doorbell),
            stdio: stdio.clone(),
            holds: std::collections::HashMap::new(),
            held: None,
            entry: None,
            waited: Vec::new(),
            task: None,
        };
        process.take_entry()?;
        let worker = match image.config.role {
            Role::Program => None,
            Role::Pool => Some(task::set_up(&mut process)?),
        };
        start(image, process, worker, given.ruleset)
    });
    if let Err(error) = started {
        stdio.report(&format!("error: cannot start a guest process: {error:#}\n"));
    }
}

/// The descriptors that a guest process is given, beside its standard streams.
struct Given {
    doorbell: OwnedFd,
    /// Landlock's, until it is in the jail.
    ruleset: Option<OwnedFd>,
}

/// Signals, descriptors and runtime of a guest process.
fn reset_process(image: &Image) -> std::io::Result<Given> {
    // The supervisor blocks what it takes from descriptors; a guest is to die of it. But what a terminal sends to all of
    // its processes says nothing to a worker: the owner of the pool may want to have the rest done first.
    // A file that would become too large is an error of the guest's, and not its death.
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGXFSZ);
    if image.config.role == Role::Pool {
        blocked.extend([Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP]);
    }
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)?;
    let keep: Vec<_> = [Some(image.doorbell.as_fd()), image.jail.ruleset()].into_iter().flatten().collect();
    let mut kept = crate::sys::fd::keep_only(&keep, image.jail.closes_descriptors())?.into_iter();
    let doorbell = kept.next().ok_or(std::io::ErrorKind::NotFound)?;
    let ruleset = kept.next();
    // wasmtime-wasi makes a runtime with threads if none is current. This one has no thread and no descriptor.
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    std::mem::forget(Box::leak(Box::new(runtime)).enter());
    let _ = nix::sys::prctl::set_name(c"sandpool-guest");
    Ok(Given { doorbell, ruleset })
}

/// Instantiates the module and runs it to its end; a worker's tasks, until there are none any more.
fn start(
    image: &Image,
    process: Process,
    worker: Option<(Setup, Queues)>,
    ruleset: Option<OwnedFd>,
) -> wasmtime::Result<()> {
    let guest = Guest {
        wasi: wasi::context(&image.config, &process.stdio)?,
        memory: None,
        memory_limit: MemoryLimit::new(image.config.limits.memory_max),
        limits: image.config.limits.clone(),
        mappings: Mappings::default(),
        process,
    };
    let mut store = Store::new(image.instance.module().engine(), guest);
    store.limiter(|guest| &mut guest.memory_limit);
    if image.config.counts_fuel {
        store.set_fuel(image.config.limits.fuel.unwrap_or(u64::MAX))?;
    }
    // What is behind this line is the guest's, instantiation included.
    image.jail.enter(ruleset)?;
    if let Some(code) = crate::owner::run_native(&image.config.args) {
        exit_now(i32::from(code));
    }
    let instance = match image.instance.instantiate(&mut store) {
        // A memory or table that is larger than it may be from the start, data outside of it, a trap in what runs first.
        Err(error) if store.data().memory_limit.was_hit || trap::classify(&error).is_some() => {
            exit::crash(store.data(), &error)
        }
        instance => instance?,
    };
    let memory = instance.get_memory(&mut store, "memory");
    if let Some(memory) = memory {
        // Beyond its present size as well: it grows in place.
        crate::sys::mem::advise_huge_pages(memory.data_ptr(&store), 4 << 30);
    }
    store.data_mut().memory = memory;
    if let Some(worker) = worker {
        return task::serve(&mut store, instance, worker);
    }
    let entry = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    let result = entry.call(&mut store, ());
    // By now this may be a forked child of the process that called.
    match result {
        Ok(()) => exit::exit(store.data(), 0),
        Err(error) => exit::crash(store.data(), &error),
    }
}
