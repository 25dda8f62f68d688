//! A pool's side of the arena: its queues, its workers, and how to sleep until one of them has news.
//!
//! The owner of a pool has a slot of the process table, as a guest has: the workers are its [children](crate::children). Unlike a
//! guest, the owner waits for nobody without an end, and trusts nothing that it reads.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sandpool_abi::Errno;
use sandpool_abi::process::{ExitStatus, NOT_DAEMON};
use sandpool_abi::task::Claims;

use crate::children::Children;
use crate::codec;
use crate::ipc::arena::{Arena, Geometry, PAGE, Participant, Patience};
use crate::ipc::event;
use crate::ipc::object::{self, Handle};
use crate::ipc::process_table::{ProcessHandle, Register, StateWord};
use crate::ipc::queue::{self, Account, Port, QueueState, Taken};
use crate::ipc::waiting::Waiting;
use crate::ipc::{Result, heap, process_table, scope, shared};
use crate::sys::futex::{self, Deadline};
use crate::wire::{Isolation, OWNER, Setup};

/// Looks before the dispatcher sleeps: about ten microseconds.
const LOOKS: u32 = 60;

/// The most bytes of results that are taken at once.
const BATCH_BYTES: usize = 64 << 10;

/// The most results that are taken at once.
const BATCH_MAX: usize = 512;

/// The part of the pool's side that all threads may look at while another thread works with the rest.
#[derive(Debug)]
pub(super) struct Waiter {
    participant: Participant,
    results: Handle,
    poked: AtomicBool,
}

/// The part of the pool's side that one thread at a time works with.
pub(super) struct Link {
    workers: Children,
    tasks: Handle,
    results: Handle,
    /// Data that each worker is given: the settings, and the two handles.
    setup: Vec<u8>,
    isolation: Isolation,
    started: u64,
    /// Workers that have ended and left names.
    left: Vec<ProcessHandle>,
}

#[cfg(test)]
impl Link {
    /// Puts a record into the queue of results, as a malicious worker may.
    pub(super) fn put_result(&self, record: &[u8]) -> Result<()> {
        let participant = self.participant();
        queue::put(participant, port(participant, self.results)?, record, &[], Deadline::NOW)
    }

    /// Makes a worker one that could not be started.
    pub(super) fn fails_to_start(&self, worker: ProcessHandle) -> Result<()> {
        let failed = |old| Some(StateWord { state: process_table::ProcessState::Failed, ..old });
        process_table::update(&self.participant().arena, worker.index()?, failed).map(drop)
    }

    /// Makes a worker look as if it delivered a result.
    pub(super) fn is_delivering(&self, worker: ProcessHandle) -> Result<()> {
        self.workers.slot(worker)?.claims.clear_work();
        Ok(())
    }
}

/// Report of a worker that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) claims: Claims,
    pub(super) status: ExitStatus,
    /// The end of the worker's stderr.
    pub(super) stderr: Vec<u8>,
}

/// How many of the given tasks were put, and why no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// This number of tasks was put. The queue has room for more.
    All(usize),
    /// This number of tasks was put. The arena has no room now.
    Some(usize),
    /// This number of tasks was put. The next task can never be put, because it is too large.
    TooLarge(usize),
}

fn port(participant: &Participant, queue: Handle) -> Result<Port<'_>> {
    let object = object::resolve::<QueueState>(participant, queue)?;
    Ok(Port { queue: object.state, object: object.index, waiting: Waiting::Any(0) })
}

impl Link {
    /// Takes the owner's place in an arena that a supervisor has made.
    pub(super) fn new(
        memory: &OwnedFd,
        doorbell: OwnedFd,
        geometry: Geometry,
        setup: &Setup,
    ) -> std::io::Result<(Self, Waiter)> {
        use std::os::fd::AsFd as _;
        let damaged = std::io::Error::other::<Errno>;
        let arena = Arc::new(Arena::open(memory.as_fd(), geometry)?);
        let participant = Participant { arena, index: OWNER, patience: Patience::Moment };
        let StateWord { generation, .. } =
            process_table::state(&participant.arena, OWNER).map_err(damaged)?;
        let own = ProcessHandle::new(OWNER, generation);
        let workers = Children::new(participant.clone(), own, doorbell);
        let tasks = queue::create(&participant, 0, Account::Claimed).map_err(damaged)?;
        let results = queue::create(&participant, 0, Account::Nothing).map_err(damaged)?;
        let link = Self {
            workers,
            tasks,
            results,
            setup: codec::encode(&(setup, [tasks.0, results.0]))?,
            isolation: setup.isolation,
            started: 0,
            left: Vec::new(),
        };
        Ok((link, Waiter { participant, results, poked: AtomicBool::new(false) }))
    }

    fn participant(&self) -> &Participant {
        &self.workers.participant
    }

    /// Starts a worker.
    pub(super) fn start_worker(&mut self) -> Result<ProcessHandle> {
        let name = format!("PoolWorker-{}", self.started + 1);
        let worker = self.workers.ask_for_spawn(&name, NOT_DAEMON, &self.setup, &[])?;
        self.started += 1;
        Ok(worker)
    }

    /// The name and process id of a worker, as far as it has them by now.
    pub(super) fn describe(&self, worker: ProcessHandle) -> (String, u32) {
        self.workers.describe(worker).map_or_else(
            |_| (String::new(), 0),
            |known| (String::from_utf8_lossy(&known.name).into_owned(), known.pid),
        )
    }

    pub(super) fn has_ended(&self, worker: ProcessHandle) -> bool {
        self.workers.has_ended(worker).unwrap_or(true)
    }

    /// Learns how a worker ended, and forgets the worker. Fails if the worker never ran.
    pub(super) fn bury(&mut self, worker: ProcessHandle) -> Result<Ended> {
        if let Ok(Some(errno)) = self.workers.spawn_failure(worker) {
            self.workers.discard(worker.index()?)?;
            return Err(errno);
        }
        let claims = self.workers.claims(worker)?;
        let stderr = self.workers.stderr(worker).unwrap_or_default();
        // Once the worker is buried, the slot may be another's.
        let leaves_names = self.participant().arena.process(worker.index()?)?.scope.has_names();
        let outcome = self.workers.bury(worker)?;
        if leaves_names {
            self.left.push(worker);
        }
        let status = outcome.status().ok_or(Errno::Io)?;
        Ok(Ended { claims, status, stderr })
    }

    /// Removes names that ended workers have left, those of the processes that they had started included. Returns whether more
    /// remains to be done.
    pub(super) fn unlink_left(&mut self) -> bool {
        let participant = &self.workers.participant;
        self.left.retain(|worker| {
            let is_left = |of| scope::is_of(of, *worker);
            scope::has_process(&participant.arena, is_left)
                || shared::unlink_left(participant, is_left) == Err(Errno::Busy)
        });
        !self.left.is_empty()
    }

    /// The claims of a worker, if all that was read of them belongs together.
    pub(super) fn claims(&self, worker: ProcessHandle) -> Option<Claims> {
        let before = self.workers.claims(worker).ok()?;
        let after = self.workers.claims(worker).ok()?;
        (before == after).then_some(after)
    }

    /// Kills the task that the worker runs, if the worker still runs it. The worker may end with the task.
    pub(super) fn kill(&self, worker: ProcessHandle, work: u64) -> bool {
        let killed = match self.isolation {
            Isolation::Worker => self.workers.kill_at(worker, work),
            Isolation::Task => self.workers.doom_at(worker, work),
        };
        killed.is_ok()
    }

    /// Kills a worker, whatever it runs.
    pub(super) fn kill_worker(&self, worker: ProcessHandle) {
        let _ = self.workers.signal(worker, nix::libc::SIGKILL);
    }

    /// How often room in the arena was freed.
    pub(super) fn frees(&self) -> u64 {
        self.participant().arena.header().map_or(0, |header| header.heap.frees())
    }

    /// Whether the arena has room for at least a page.
    pub(super) fn has_room(&self) -> bool {
        let participant = self.participant();
        let Ok(register) = participant.slot().map(|slot| slot.register(Register::Segment)) else {
            return false;
        };
        heap::allocate(participant, PAGE as u64, register).is_ok()
            && heap::free(participant, register).is_ok()
    }

    /// Puts as many tasks as there is room for.
    pub(super) fn put(&self, tasks: &[&[u8]]) -> Result<Put> {
        let participant = self.participant();
        let port = port(participant, self.tasks)?;
        let mut put = 0;
        while let Some(rest) = tasks.get(put..)
            && let Some(first) = rest.first()
        {
            let result = if first.len() <= sandpool_abi::queue::BATCH_ITEM_MAX {
                queue::put_many(participant, port, rest.iter().copied(), Deadline::NOW)
            } else {
                queue::put(participant, port, first, &[], Deadline::NOW).map(|()| 1)
            };
            match result {
                Ok(count) => put += count as usize,
                Err(Errno::Again | Errno::Nomem | Errno::Busy) => return Ok(Put::Some(put)),
                Err(Errno::Msgsize) => return Ok(Put::TooLarge(put)),
                Err(error) => return Err(error),
            }
        }
        Ok(Put::All(put))
    }

    /// Closes the queue: no more tasks will come.
    pub(super) fn close_tasks(&self) -> Result<()> {
        queue::close(self.participant(), port(self.participant(), self.tasks)?)
    }

    /// Takes some of the results that have come, in place of those that are there.
    pub(super) fn take_results(&self, results: &mut Results) -> Result<()> {
        let participant = &self.workers.participant;
        let port = port(participant, self.results)?;
        let Results { bytes, lens, large } = results;
        *large = None;
        lens.clear();
        bytes.resize(BATCH_BYTES, 0);
        let note = |len| {
            lens.push(len);
            lens.len() < BATCH_MAX
        };
        match queue::get_many(participant, port, bytes, note, Deadline::NOW) {
            Ok(0) => {
                lens.clear();
                *large = Some(self.take_large(port)?);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(Errno::Again | Errno::Busy) => {
                lens.clear();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a result that is larger than a batch may be.
    fn take_large(&self, port: Port<'_>) -> Result<Vec<u8>> {
        let participant = &self.workers.participant;
        match queue::get(participant, port, || false, &mut [], Deadline::NOW)? {
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
}

/// Results that were taken at once.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// Small results, one after the other, and the length of each.
    bytes: Vec<u8>,
    lens: Vec<usize>,
    /// Or a single large one.
    large: Option<Vec<u8>>,
}

impl Results {
    pub(super) fn is_empty(&self) -> bool {
        self.lens.is_empty() && self.large.is_none()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        let small = self.lens.iter().map(move |len| {
            let (result, behind) = rest.split_at_checked(*len).unwrap_or_default();
            rest = behind;
            result
        });
        small.chain(self.large.as_deref())
    }
}

impl Waiter {
    /// Sleeps until results have come, one of these workers has ended, somebody has poked, or the time is over.
    pub(super) fn wait(&self, workers: &[ProcessHandle], nanos: u64) {
        let Ok(port) = port(&self.participant, self.results) else { return };
        let Ok(own) = self.participant.slot() else { return };
        let has_ended = |worker: &ProcessHandle| {
            process_table::resolve(&self.participant.arena, *worker)
                .map_or(true, |(_, state)| !state.is_alive())
        };
        let ready =
            || port.queue.has_news() || self.poked.load(Ordering::SeqCst) || workers.iter().any(has_ended);
        for looks in 0..LOOKS {
            if ready() {
                break;
            }
            futex::pause(looks.min(4));
        }
        let events = [port.queue.not_empty(), &own.event];
        let look = || ready().then_some(());
        // After the time is over, the caller looks as well.
        let _ =
            event::wait_for_any(&self.participant, events.into_iter(), Deadline::after_nanos(nanos), look);
        self.poked.store(false, Ordering::SeqCst);
    }

    /// Ends the sleep.
    pub(super) fn poke(&self) {
        self.poked.store(true, Ordering::SeqCst);
        if let Ok(own) = self.participant.slot() {
            own.event.notify_all(&self.participant.arena);
        }
    }
}
