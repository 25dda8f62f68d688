//! Whole objects in many thousands of orders, and with a process that is killed at any point: the unchanged code of the
//! arena, on a [model](crate::sys::model) of the processor, the futex and the clock. Processes are tasks of shuttle;
//! the supervisor sweeps for each.
//!
//! A process that isn't done when all others sleep is a deadlock, which shuttle reports; and in the end the arena must
//! be empty.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

/// Makes a test for each use of a model: one in which nobody dies, and one for each way to die.
macro_rules! models {
    ($($(#[$meta:meta])* $name:ident: $model:ident($($argument:expr),*);)*) => {
        $($(#[$meta])* #[test]
        fn $name() {
            $crate::ipc::tests::models::check(|| $model($($argument),*));
        })*
    };
}

mod barriers;
mod byte_pipes;
mod conditions;
mod events;
mod locks;
mod objects;
mod pipes;
mod processes;
mod queues;
mod semaphores;
mod several;
mod shared_memory;
mod shelves;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use sandpool_abi::Errno;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::scheduler::RandomScheduler;
use shuttle::sync::mpsc;
use shuttle::{Config, MaxSteps, Runner, thread};

use crate::ipc::arena::{Arena, Geometry, Participant, Patience};
use crate::ipc::collect::Collector;
use crate::ipc::collections;
use crate::ipc::message;
use crate::ipc::object::{self, Handle, count_live};
use crate::ipc::pipe::{self, EndState};
use crate::ipc::process_table::Register;
use crate::ipc::queue::{self, Taken};
use crate::ipc::sweep::{Sweep, sweep};
use crate::ipc::sync::lock;
use crate::ipc::tests::common::{copy, of, port};
use crate::sys::atomic::Ordering;
use crate::sys::futex::Deadline;
use crate::sys::model;
use crate::testing::deadline::within_deadlines;

/// Orders that are tried of each model.
const ORDERS: usize = 5000;

/// The most processes of a model.
const PROCESSES: u32 = 6;

type Work = Box<dyn FnOnce(&Participant) + Send>;

struct Process {
    number: u32,
    /// The process starts when these have been swept up.
    after: Vec<u32>,
    work: Work,
}

struct Model {
    arena: Arc<Arena>,
    processes: Vec<Process>,
    /// Distance from the slot of one process to the slot of the next.
    stride: u32,
    /// A deadline; the clock passes it at some point.
    deadline: Deadline,
    /// Whether a process that is to die does so at any point; otherwise a test kills it.
    is_mortal: bool,
    /// The supervisor also collects objects that nobody can reach, all the time.
    collects: bool,
    /// Called when a process is found dead, before it is swept up.
    on_found: Option<Box<dyn Fn(u32) + Send>>,
}

/// Checks a model in many orders.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.max_steps = MaxSteps::FailAfter(200_000);
    let orders = std::env::var("SANDPOOL_MODEL_ORDERS").map_or(ORDERS, |orders| orders.parse().unwrap());
    // `max_steps` doesn't stop a loop without a point, because the loop makes no steps.
    within_deadlines((orders / 1000) as u32, || Runner::new(RandomScheduler::new(orders), config).run(model));
}

impl Model {
    fn new() -> Self {
        Self::with_heap(32)
    }

    fn with_heap(heap_pages: u32) -> Self {
        Self::with(heap_pages, 1)
    }

    /// Makes a model in which the holders of an object are in more than one word: two processes in each.
    fn wide() -> Self {
        Self::with(32, 32)
    }

    fn with(heap_pages: u32, stride: u32) -> Self {
        model::begin();
        let geometry = Geometry { processes_max: PROCESSES * stride, objects_max: 4, heap_pages };
        let (_, arena) = Arena::create(geometry).unwrap();
        let deadline = Deadline::after_nanos(1);
        Self {
            arena: Arc::new(arena),
            processes: Vec::new(),
            stride,
            deadline,
            is_mortal: true,
            collects: false,
            on_found: None,
        }
    }

    /// The process that makes the objects.
    fn maker(&self) -> Participant {
        participant(&self.arena, 0)
    }

    /// Makes every process a holder of an object that the maker holds.
    fn share(&self, handle: Handle) -> Handle {
        (1..PROCESSES).for_each(|process| self.share_with(handle, process));
        handle
    }

    /// Makes one process a holder of an object that the maker holds.
    fn share_with(&self, handle: Handle, process: u32) {
        object::share(&self.maker(), handle, process * self.stride).unwrap();
    }

    /// Adds a process, and returns its number.
    fn process(&mut self, work: impl FnOnce(&Participant) + Send + 'static) -> u32 {
        self.process_after(&[], work)
    }

    fn process_after(&mut self, after: &[u32], work: impl FnOnce(&Participant) + Send + 'static) -> u32 {
        let number = self.processes.len() as u32;
        self.processes.push(Process { number, after: after.to_vec(), work: Box::new(work) });
        number
    }

    /// Runs all processes to their ends, or one of these to its death. Returns the one that died.
    fn run(self, victims: &[u32]) -> Option<u32> {
        let victim = choose(victims);
        self.run_to_death_of(victim)
    }

    fn run_to_death_of(mut self, victim: Option<u32>) -> Option<u32> {
        let (ends, ended) = mpsc::channel();
        let last = ends.clone();
        let died = Arc::new(Mutex::new(None));
        let (stride, is_mortal) = (self.stride, self.is_mortal);
        let supervisor =
            Participant { arena: self.arena.clone(), index: PROCESSES * stride, patience: Patience::Brief };
        // Slots without a process give back what they were given.
        let idle: Vec<_> = (self.processes.len() as u32..PROCESSES).collect();
        let arena = self.arena.clone();
        let found = died.clone();
        let supervise = move || {
            let mut tasks = Vec::new();
            let mut behind = Vec::new();
            let mut swept = BTreeSet::new();
            let mut collector = Collector::new(&self.arena).unwrap();
            let collects = self.collects;
            let mut collect = |steps: usize| {
                collections::want(&supervisor.arena).unwrap();
                collector.begin_if_wanted(&supervisor).unwrap();
                for _ in 0..steps {
                    assert!(matches!(collector.step(&supervisor), Ok(()) | Err(Errno::Busy)));
                }
                collector.is_at_it()
            };
            let total = self.processes.len();
            while swept.len() < total {
                if collects {
                    collect(1 + thread_rng().gen_range(0..4));
                    thread::yield_now();
                }
                let starts = |process: &mut Process| process.after.iter().all(|other| swept.contains(other));
                for process in self.processes.extract_if(.., starts) {
                    let (participant, ends) =
                        (participant(&self.arena, process.number * stride), ends.clone());
                    tasks.push(thread::spawn(move || {
                        if model::process(is_mortal && victim == Some(process.number), || {
                            (process.work)(&participant)
                        }) {
                            ends.send((process.number, false)).unwrap();
                        }
                    }));
                }
                // The supervisor works like this: it deals with all processes that have ended, and again with those
                // that it couldn't finish.
                let next =
                    if behind.is_empty() && !collects { ended.recv().ok() } else { ended.try_recv().ok() };
                if let Some((process, killed)) = next {
                    if killed {
                        model::bury();
                        *found.lock().unwrap() = Some(process);
                        self.on_found.iter().for_each(|on_found| on_found(process));
                    }
                    behind.push((process, Sweep::from_dead(process * stride, killed)));
                }
                behind.retain_mut(|(process, sweep)| match sweep.step(&supervisor) {
                    Ok(false) => true,
                    Ok(true) => {
                        let slot = supervisor.arena.process(*process * stride).unwrap();
                        let left = [&slot.place.object]
                            .into_iter()
                            .chain(Register::ALL.map(|one| slot.register(one)));
                        assert!(left.map(|word| word.load(Ordering::SeqCst)).eq([0; 5]), "not swept up");
                        swept.insert(*process);
                        false
                    }
                    Err(error) => {
                        assert_eq!(error, Errno::Busy);
                        model::pause();
                        true
                    }
                });
            }
            for process in idle {
                sweep(Sweep::from_dead(process * stride, false), &supervisor).unwrap();
            }
            if collects {
                // The collection that is under way may have begun too early.
                while collect(1) {}
                while collect(1) {}
            }
            tasks
        };
        model::run(
            move || last.send((victim.unwrap(), true)).unwrap(),
            || {
                let clock = thread::spawn(|| {
                    (0..thread_rng().gen_range(0..1 << thread_rng().gen_range(3..10)))
                        .for_each(|_| thread::yield_now());
                    model::tick();
                });
                let mut tasks = Vec::new();
                let supervisor = thread::spawn(move || {
                    model::process(false, || tasks = supervise());
                    tasks
                });
                let tasks = supervisor.join().unwrap();
                clock.join().unwrap();
                || tasks.into_iter().for_each(|task| task.join().unwrap())
            },
        );
        assert_eq!(count_live(&arena), Ok(0), "objects are left");
        assert_eq!(arena.header().unwrap().heap.used_pages(), 0, "memory is left");
        let died = died.lock().unwrap();
        *died
    }
}

fn participant(arena: &Arc<Arena>, index: u32) -> Participant {
    Participant { arena: arena.clone(), index, patience: Patience::Forever }
}

fn choose(victims: &[u32]) -> Option<u32> {
    (!victims.is_empty()).then(|| victims[thread_rng().gen_range(0..victims.len())])
}

/// Things that processes have done, in order.
type Log<T> = Arc<Mutex<Vec<T>>>;

fn log<T>() -> Log<T> {
    Arc::default()
}

const NEVER: Deadline = Deadline::NEVER;

/// Bytes of an item that lies in a segment.
const SHORT: usize = 24;

/// Bytes of an item that has three pages of its own.
const LONG: usize = 9000;

/// An item of `len` bytes that are all the same.
fn item(producer: u32, number: u8, len: usize) -> Vec<u8> {
    vec![producer as u8 * 16 + number; len]
}

/// Producer and number of an item, which must be whole.
fn read(item: &[u8]) -> (u32, u8) {
    let first = item[0];
    assert!(
        [SHORT, LONG].contains(&item.len()) && item.iter().all(|byte| *byte == first),
        "an item is not whole"
    );
    (u32::from(first / 16), first % 16)
}

/// Takes an item; returns its producer and number.
fn get(participant: &Participant, queue: Handle) -> crate::ipc::Result<(u32, u8)> {
    let mut buffer = vec![0; LONG];
    let taken = queue::get(participant, port(participant, queue), || false, &mut buffer, NEVER)?;
    let len = copy(participant, taken, &mut buffer).unwrap();
    Ok(read(&buffer[..len]))
}

/// Receives a message; returns its sender and number.
fn recv(participant: &Participant, end: Handle) -> crate::ipc::Result<(u32, u8)> {
    let mut buffer = [0; SHORT];
    let taken = pipe::recv(participant, of::<EndState>(participant, end), &mut buffer, NEVER)?;
    let len = copy(participant, taken, &mut buffer).unwrap();
    Ok(read(&buffer[..len]))
}

/// Takes the handles of an item; the caller holds their objects from now on.
fn take_handles(
    participant: &Participant,
    queue: Handle,
    deadline: Deadline,
) -> crate::ipc::Result<Vec<Handle>> {
    let taken = queue::get(participant, port(participant, queue), || false, &mut [], deadline)?;
    let Taken::Message(message) = taken else { panic!("an item without handles") };
    let handles = message.handles(participant).unwrap();
    message.arrive(participant, &handles).unwrap();
    let register = participant.slot().unwrap().register(Register::Incoming);
    message::discard(participant, register, &mut Vec::new()).unwrap();
    Ok(handles)
}

fn acquire(participant: &Participant, handle: Handle) {
    assert!(matches!(
        lock::acquire(participant, of(participant, handle), NEVER),
        Ok(()) | Err(Errno::Ownerdead)
    ));
}

fn release(participant: &Participant, handle: Handle) {
    lock::release(participant, of(participant, handle)).unwrap();
}
