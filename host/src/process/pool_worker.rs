//! A worker of a pool that an application has made: the worker takes tasks from a queue, calls the export of each, and
//! puts the result into another queue. See [`claims`](crate::ipc::claims) for what the death of a worker leaves.
//!
//! ```text
//!  Isolation::Worker   take some ─ begin ─ call ─ finish ─ begin ─ call ─ finish ─ take some …
//!  Isolation::Task     take one ─ begin ─ fork ───────────────────────── wait ─ take one …
//!                                          └── call ─ finish ─ end
//! ```
//!
//! The child that runs a task gives its parent's claim up with the result. If the child dies before that, the parent
//! gives the claim up, and says how the child died.
//!
//! A command is a task that has no export: its child runs the program's `_start`, with arguments, variables and a stdin
//! of its own, and the exit code and stdout are the result. It is put at the end of that process, by [`exit`].

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use sandpool_abi::Errno;
use sandpool_abi::process::{ExitStatus, Limit};
use sandpool_abi::task::{Claims, EXPORT_PREFIX};
use wasmtime::component::Val;
use wasmtime::{Store, TypedFunc};

use super::component::call::{self, NotCalled};
use super::program::Instance;
use super::stdio::Capture;
use super::task::{Begun, Queues, RunningCommand, Task, port, put_result, used};
use super::{Guest, Process, deadlock, exit, limit_behind};
use crate::codec;
use crate::ipc::arena::Participant;
use crate::ipc::object::Handle;
use crate::ipc::process_table::{Outcome, ProcessHandle, Register};
use crate::ipc::queue::{self, Port, Taken};
use crate::ipc::waiting::Waiting;
use crate::ipc::{Result, heap, scope, shared};
use crate::process::fork::Forked;
use crate::sys::futex::Deadline;
use crate::sys::futex::nanos_now;
use crate::wire::{COMMAND, Command, Isolation, RecordKind, ResultRecord, Setup, TaskRecord, Used};

/// A worker takes at once as many tasks as it does in this time: no other worker can do a task that is taken.
const BATCH_NANOS: u64 = 50_000;
/// The most tasks that a worker takes at once.
const BATCH_MAX: u64 = 64;
/// A longer task is taken alone.
const BATCH_BYTES: usize = 64 << 10;

/// How often the worker looks whether killed processes of a task have been reaped.
const REAPING_NANOS: u64 = 500_000;

/// The export of a task.
enum Export {
    /// A module's.
    Task(TypedFunc<(i32, i32), i32>),
    /// A component's.
    Function(wasmtime::component::Func),
}

struct Worker {
    setup: Setup,
    queues: Queues,
    /// The exports that were called so far. A copy of one would cost atomic operations on the types of its engine.
    exports: BTreeMap<String, Rc<Export>>,
    instance: Instance,
    /// Tasks, as they were taken.
    taken: Vec<u8>,
    /// A result, encoded.
    record: Vec<u8>,
    /// Tasks that the worker may still do.
    left: u64,
    /// Tasks that the worker takes at once.
    batch: u64,
    /// Children that the worker had before its first task.
    helpers: Vec<ProcessHandle>,
    /// Use of time and memory by the child of the last task.
    used: Used,
}

/// Makes a process that was just spawned a worker: its output is captured from now on.
pub(super) fn set_up(process: &mut Process) -> wasmtime::Result<(Setup, Queues)> {
    let entry = process.entry.take().ok_or(Errno::Noent)?;
    let (setup, [tasks, results]): (Setup, [u64; 2]) = codec::decode(&entry.payload)?;
    process.stdio.capture(Capture::new(process.handle(), setup.output, setup.output_max));
    process.task = Some(Task { output_max: setup.output_max, ..Task::default() });
    process.is_host_worker = true;
    process.participant().slot()?.scope.begin(process.handle(), setup.objects_max, setup.processes_max);
    Ok((setup, Queues { tasks: Handle(tasks), results: Handle(results) }))
}

/// Serves the pool until its queue of tasks is closed, then ends the process.
pub(super) fn serve(
    store: &mut Store<Guest>,
    instance: Instance,
    (setup, queues): (Setup, Queues),
) -> wasmtime::Result<()> {
    let left = if setup.max_tasks == 0 { u64::MAX } else { setup.max_tasks };
    let mut worker = Worker {
        setup,
        queues,
        exports: BTreeMap::new(),
        instance,
        taken: vec![0; BATCH_BYTES],
        record: Vec::new(),
        left,
        batch: 1,
        helpers: Vec::new(),
        used: Used::default(),
    };
    worker.initialize(store)?;
    loop {
        match worker.serve_some(store) {
            Ok(()) if worker.left > 0 => {}
            // The owner has closed a queue: there is nothing more to do, or nobody to do it for.
            Ok(()) | Err(Errno::Closed) => exit::exit_worker(store.data(), 0),
            Err(errno) => return Err(errno.into()),
        }
    }
}

impl Worker {
    /// Makes the instance ready for tasks, and says so.
    fn initialize(&mut self, store: &mut Store<Guest>) -> wasmtime::Result<()> {
        if let Some(instance) = self.instance.module()
            && let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut *store, "_initialize")
        {
            call_guest(store, &self.instance, |store| initialize.call(store, ()));
        }
        let mut kind = RecordKind::Ready;
        if let Some((name, format, input)) = self.setup.initializer.take() {
            let export = self.export(store, &name);
            match self.call(store, export.as_deref(), format, &input)? {
                RecordKind::Done => {}
                RecordKind::NoTask => {
                    self.set_output(store, format!("the module has no task {name}").as_bytes());
                    kind = RecordKind::NotReady;
                }
                _ => kind = RecordKind::NotReady,
            }
        }
        let process = &store.data().process;
        self.helpers = process.children.living_handles();
        let record = ResultRecord {
            number: process.handle().0,
            kind,
            nanos: 0,
            used: Used::default(),
            stdout: &[],
            stderr: &[],
            payload: process.task.as_ref().map_or(&[], |task| &task.output),
        };
        record.encode(&mut self.record);
        let port = port(process.participant(), self.queues.results, Waiting::Put)?;
        queue::put(process.participant(), port, &self.record, &[], Deadline::NEVER)?;
        if kind == RecordKind::NotReady {
            exit::exit_worker(store.data(), 1);
        }
        Ok(())
    }

    fn set_output(&self, store: &mut Store<Guest>, bytes: &[u8]) {
        if let Some(task) = &mut store.data_mut().process.task {
            // A message that doesn't fit is left out.
            let _ = task.set_output(bytes);
        }
    }

    /// Takes some tasks, and does them.
    fn serve_some(&mut self, store: &mut Store<Guest>) -> Result<()> {
        let participant = store.data().process.participant().clone();
        let most = match self.setup.isolation {
            Isolation::Worker => self.batch.min(self.left) as usize,
            Isolation::Task => 1,
        };
        let mut lens = Vec::with_capacity(most);
        let tasks = port(&participant, self.queues.tasks, Waiting::Get)?;
        let note = |len| {
            lens.push(len);
            lens.len() < most
        };
        let mut taken = std::mem::take(&mut self.taken);
        let large;
        let mut rest = if queue::get_many(&participant, tasks, &mut taken, note, Deadline::NEVER)? == 0 {
            large = get_large(&participant, tasks)?;
            lens.push(large.len());
            large.as_slice()
        } else {
            taken.as_slice()
        };
        let begun = nanos_now();
        for len in &lens {
            let (task, behind) = rest.split_at_checked(*len).ok_or(Errno::Io)?;
            rest = behind;
            self.serve_one(store, &participant, task)?;
            if self.left == 0 {
                // The other tasks that the worker has taken are claimed and not begun; the owner gives them to another
                // worker.
                break;
            }
        }
        self.taken = taken;
        let each = (nanos_now().saturating_sub(begun) / lens.len() as u64).max(1);
        self.batch = (BATCH_NANOS / each).clamp(1, BATCH_MAX);
        self.left = self.left.saturating_sub(lens.len() as u64);
        Ok(())
    }

    fn serve_one(&mut self, store: &mut Store<Guest>, participant: &Participant, task: &[u8]) -> Result<()> {
        let claims = participant.claims()?;
        claims.begin(0)?;
        let Claims { first, since, .. } = claims.get();
        let begun = Begun { number: first, since, claimant: participant.index };
        participant.slot()?.tail.begin();
        match TaskRecord::decode(task).ok_or(Errno::Io)? {
            TaskRecord::Retire => {
                self.left = 0;
                self.finish(store, RecordKind::Retired, begun)
            }
            TaskRecord::Call { name, format, input } => match self.setup.isolation {
                // Only a process of its own can end as a command does. The owner asks for none here.
                Isolation::Worker if format == COMMAND => self.finish(store, RecordKind::Unsupported, begun),
                Isolation::Worker => {
                    let started = store.data().process.children.started;
                    let export = self.export(store, name);
                    let kind = self.call(store, export.as_deref(), format, input).map_err(|_| Errno::Io)?;
                    let guest = store.data();
                    if guest.process.children.started != started {
                        // As long as these children are alive, the task isn't over.
                        guest.process.forget_children(&self.helpers, || deadlock::report(guest, None));
                    }
                    self.finish(store, kind, begun)
                }
                Isolation::Task => self.fork_for(store, participant, (name, format, input), begun),
            },
        }
    }

    /// Makes a child do the task.
    fn fork_for(
        &mut self,
        store: &mut Store<Guest>,
        participant: &Participant,
        (name, format, input): (&str, u32, &[u8]),
        begun: Begun,
    ) -> Result<()> {
        let worker = store.data().process.handle();
        // The worker finds an export once, so that no child has to.
        let export = if format == COMMAND { None } else { self.export(store, name) };
        let forked = store.data_mut().process.fork_for_host();
        let child = match store.data().process.noting(forked) {
            // There can be no process for this task now; there may be one for another task, later.
            Err(errno @ (Errno::Procs | Errno::Runmem)) => {
                let kind = limit_behind(errno).ok_or(errno)?;
                let limit = store.data().process.limit(kind(0).code()).ok_or(errno)?;
                self.used = Used::default();
                return self.finish_ended(store, Outcome::limited(limit), begun);
            }
            Err(errno) => return Err(errno),
            Ok(Forked::Child) => {
                let Guest { process, growth, .. } = store.data_mut();
                process.is_host_worker = true;
                process.participant().slot()?.linear_memory.store(growth.used, Ordering::Relaxed);
                process.participant().slot()?.scope.begin_task(worker);
                if format == COMMAND {
                    let done = self.run_command(store, input, begun);
                    exit::exit_worker(store.data(), i32::from(done.is_err()))
                }
                let done = self.call(store, export.as_deref(), format, input);
                let guest = store.data();
                // As long as the children are alive, the task isn't over.
                guest.process.end_all_children(|| deadlock::report(guest, None));
                self.used = used(guest);
                let done = done.map_err(|_| Errno::Io).and_then(|kind| self.finish(store, kind, begun));
                exit::exit_worker(store.data(), i32::from(done.is_err()))
            }
            Ok(Forked::Parent(child)) => child,
        };
        let process = &store.data().process;
        let claims = participant.claims()?;
        if !process.join_or(child, || claims.is_doomed())? {
            // The time of the task is over.
            process.children.signal(child, nix::libc::SIGKILL)?;
            process.join(child, Deadline::NEVER)?;
        }
        let slot = process.children.slot(child)?;
        self.used = Used {
            cpu: slot.cpu.load(Ordering::Relaxed),
            memory: slot.linear_memory.load(Ordering::Relaxed),
        };
        let outcome = process.children.bury(child)?;
        if claims.has_some() {
            match outcome.status() {
                Some(ExitStatus::Limited(Limit::Output(_))) => {
                    claims.clear_work();
                    self.finish(store, RecordKind::TooLarge, begun)?;
                }
                _ => self.finish_ended(store, outcome, begun)?,
            }
        }
        unlink_left_by_task(participant, worker)
    }

    /// Puts the result of a task whose process has ended, or that could have no process.
    fn finish_ended(&mut self, store: &mut Store<Guest>, outcome: Outcome, begun: Begun) -> Result<()> {
        store.data().process.participant().claims()?.clear_work();
        self.set_output(store, &codec::encode(&outcome).map_err(|_| Errno::Io)?);
        self.finish(store, RecordKind::Ended, begun)
    }

    /// Runs the program from its `_start` to its end, in a process of its own.
    fn run_command(&mut self, store: &mut Store<Guest>, input: &[u8], begun: Begun) -> Result<()> {
        let command: Command = codec::decode_all(input).map_err(|_| Errno::Io)?;
        let process = &mut store.data_mut().process;
        process.command = Some(Box::new(RunningCommand { queues: self.queues, begun }));
        process.begin_command(command);
        if let Some(fuel) = store.data().process.limits.fuel {
            store.set_fuel(fuel).map_err(|_| Errno::Io)?;
        }
        let Ok(entry) = self.instance.entry(store) else {
            store.data_mut().process.command = None;
            return self.finish(store, RecordKind::NoTask, begun);
        };
        let result = entry.call(store);
        // By now this may be a forked child of the process that called.
        match result {
            Ok(code) => exit::exit(store.data(), code),
            Err(error) => exit::trapped(store, &self.instance, error),
        }
    }

    /// Calls a task, if there is one. The task's output is in the process's [`Task`].
    fn call(
        &self,
        store: &mut Store<Guest>,
        export: Option<&Export>,
        format: u32,
        input: &[u8],
    ) -> wasmtime::Result<RecordKind> {
        let Some(export) = export else {
            self.set_output(store, &[]);
            return Ok(RecordKind::NoTask);
        };
        if let Some(task) = &mut store.data_mut().process.task {
            task.output.clear();
            task.is_too_large = false;
            task.was_too_large = false;
            task.input.clear();
        }
        let export = match export {
            Export::Task(export) => export,
            Export::Function(function) => return self.call_function(store, *function, format, input),
        };
        if let Some(task) = &mut store.data_mut().process.task {
            task.input.extend_from_slice(input);
        }
        if let Some(fuel) = store.data().process.limits.fuel {
            store.set_fuel(fuel)?;
        }
        let len = i32::try_from(input.len()).map_err(wasmtime::Error::from)?;
        let code = call_guest(store, &self.instance, |store| export.call(store, (format as i32, len)));
        // An item that the task has left untaken isn't the next task's.
        store.data_mut().process.discard_held()?;
        let task = store.data().process.task.as_ref();
        let (is_too_large, was_too_large) =
            task.map_or((false, false), |task| (task.is_too_large, task.was_too_large));
        Ok(match code as u32 {
            _ if is_too_large => RecordKind::TooLarge,
            sandpool_abi::task::REFUSED if was_too_large => RecordKind::TooLarge,
            sandpool_abi::task::DONE => RecordKind::Done,
            sandpool_abi::task::REFUSED => RecordKind::Refused,
            sandpool_abi::task::UNSUPPORTED => RecordKind::Unsupported,
            _ => RecordKind::Failed,
        })
    }

    /// Calls a function of a component.
    fn call_function(
        &self,
        store: &mut Store<Guest>,
        function: wasmtime::component::Func,
        format: u32,
        input: &[u8],
    ) -> wasmtime::Result<RecordKind> {
        let ty = function.ty(&*store);
        let arguments = match call::arguments(&ty, format, input) {
            Ok(arguments) => arguments,
            Err(NotCalled::Unsupported) => return Ok(RecordKind::Unsupported),
            Err(NotCalled::Refused(why)) => {
                self.set_output(store, why.as_bytes());
                return Ok(RecordKind::Refused);
            }
        };
        if let Some(fuel) = store.data().process.limits.fuel {
            store.set_fuel(fuel)?;
        }
        let mut results = vec![Val::Bool(false); ty.results().len()];
        call_guest(store, &self.instance, |store| function.call(store, &arguments, &mut results));
        let (kind, output) = call::output(format, &results);
        self.set_output(store, &output);
        let is_too_large = store.data().process.task.as_ref().is_some_and(|task| task.is_too_large);
        Ok(if is_too_large { RecordKind::TooLarge } else { kind })
    }

    fn export(&mut self, store: &mut Store<Guest>, name: &str) -> Option<Rc<Export>> {
        if let Some(export) = self.exports.get(name) {
            return Some(export.clone());
        }
        let export = match &self.instance {
            Instance::Module(instance) => {
                let name = format!("{EXPORT_PREFIX}{name}");
                Export::Task(instance.get_typed_func(&mut *store, &name).ok()?)
            }
            Instance::Component(instance) => Export::Function(call::find(store, instance, name)?),
        };
        let export = Rc::new(export);
        self.exports.insert(name.to_owned(), export.clone());
        Some(export)
    }

    /// Puts the result of a task, and gives the task's claim up.
    fn finish(&mut self, store: &Store<Guest>, kind: RecordKind, begun: Begun) -> Result<()> {
        let process = &store.data().process;
        let payload = process.task.as_ref().map_or(&[][..], |task| &task.output);
        let streams = process.stdio.end_task(kind != RecordKind::Done);
        put_result(process, self.queues, (begun, self.used), (kind, payload, streams), &mut self.record)
    }
}

/// Removes the names that a task has left, once the processes of the task have ended. The processes that the task has
/// started are killed by then.
fn unlink_left_by_task(participant: &Participant, worker: ProcessHandle) -> Result<()> {
    let slot = participant.slot()?;
    if !slot.scope.has_names_of_tasks() {
        return Ok(());
    }
    let is_of_task = |of| scope::is_of_task(of, worker);
    while scope::has_process(&participant.arena, is_of_task) {
        // The supervisor reaps them, and tells only parents of it.
        let again = Deadline::after_nanos(REAPING_NANOS);
        let _ = slot.event.sleep(participant, Waiting::Children, again, || false);
    }
    shared::unlink_left(participant, is_of_task)
}

/// Calls the guest; only the calling process returns from here: processes that are forked meanwhile end with the call.
fn call_guest<T>(
    store: &mut Store<Guest>,
    instance: &Instance,
    call: impl FnOnce(&mut Store<Guest>) -> wasmtime::Result<T>,
) -> T {
    let own = store.data().process.handle();
    let returned = call(store).unwrap_or_else(|error| exit::trapped(store, instance, error));
    if store.data().process.handle() != own {
        exit::exit(store.data(), 0);
    }
    returned
}

/// Takes one task that is not for a batch.
fn get_large(participant: &Participant, tasks: Port<'_>) -> Result<Vec<u8>> {
    match queue::get(participant, tasks, || false, &mut [], Deadline::NEVER)? {
        Taken::Copied(_) => Ok(Vec::new()),
        Taken::Bytes(bytes) => Ok(bytes),
        Taken::Message(message) => {
            let mut bytes = vec![0; usize::try_from(message.len).map_err(|_| Errno::Io)?];
            message.read(participant, &mut bytes)?;
            heap::free(participant, participant.slot()?.register(Register::Incoming))?;
            Ok(bytes)
        }
    }
}
