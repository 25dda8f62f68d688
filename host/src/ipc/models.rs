//! Whole objects in many thousands of orders, and with a process that is killed at any point: the code of the arena as
//! it is, on a [model](crate::sys::model) of the processor, the futex and the clock. Processes are tasks of shuttle's;
//! the supervisor sweeps behind each.
//!
//! A process that isn't done when all others sleep is a deadlock, which shuttle reports; and in the end nothing may be
//! left in the arena.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use sandpool_abi::Errno;
use sandpool_abi::shared::ADD;
use sandpool_abi::sync::ACT;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::scheduler::RandomScheduler;
use shuttle::sync::mpsc;
use shuttle::{Config, MaxSteps, Runner, thread};

use super::arena::{Arena, Geometry, Member, Patience};
use super::collect::{self, Collector};
use super::death_tests::{copy, of, port};
use super::object::{self, Handle, count_live};
use super::pipe::{self, EndState};
use super::process_table::{self as table, Register, State, StateWord};
use super::queue::{self, Account, Taken};
use super::shared::{self, Atomic};
use super::sweep::{Sweep, sweep};
use super::sync::{barrier, condition, event, lock, semaphore};
use super::waiting::Waiting;
use super::{budget, kind, message, standby};
use crate::sys::atomic::Ordering;
use crate::sys::futex::Deadline;
use crate::sys::model;
use crate::testing::within_deadlines;

/// Orders that are tried of each model.
const ORDERS: usize = 5000;

/// Processes that there can be.
const PROCESSES: u32 = 6;

type Work = Box<dyn FnOnce(&Member) + Send>;

struct Process {
    number: u32,
    /// It starts when these have been swept up behind.
    after: Vec<u32>,
    work: Work,
}

struct Model {
    arena: Arc<Arena>,
    processes: Vec<Process>,
    /// From the slot of one process to that of the next.
    stride: u32,
    /// A deadline, and time passes at some point.
    deadline: Deadline,
    /// Whoever is to die does so at any point; else where it is killed.
    is_mortal: bool,
    /// The supervisor also collects what nobody can reach, all the time.
    collects: bool,
    /// Called when a process is found dead, before it is swept up behind.
    on_found: Option<Box<dyn Fn(u32) + Send>>,
}

/// Checks a model in many orders.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.max_steps = MaxSteps::FailAfter(200_000);
    let orders = std::env::var("SANDPOOL_MODEL_ORDERS").map_or(ORDERS, |orders| orders.parse().unwrap());
    // A loop that comes to no point makes no steps, which are counted.
    within_deadlines((orders / 1000) as u32, || Runner::new(RandomScheduler::new(orders), config).run(model));
}

impl Model {
    fn new() -> Self {
        Self::with_heap(32)
    }

    fn with_heap(heap_pages: u32) -> Self {
        Self::with(heap_pages, 1)
    }

    /// The holders of an object are in more than one word: two processes in each.
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
    fn maker(&self) -> Member {
        member(&self.arena, 0)
    }

    /// Lets every process hold what the maker does.
    fn share(&self, handle: Handle) -> Handle {
        (1..PROCESSES).for_each(|process| self.share_with(handle, process));
        handle
    }

    /// Lets one hold what the maker does.
    fn share_with(&self, handle: Handle, process: u32) {
        object::share(&self.maker(), handle, process * self.stride).unwrap();
    }

    /// Adds a process, and returns its number.
    fn process(&mut self, work: impl FnOnce(&Member) + Send + 'static) -> u32 {
        self.process_after(&[], work)
    }

    fn process_after(&mut self, after: &[u32], work: impl FnOnce(&Member) + Send + 'static) -> u32 {
        let number = self.processes.len() as u32;
        self.processes.push(Process { number, after: after.to_vec(), work: Box::new(work) });
        number
    }

    /// Runs all to their ends, or one of these to its death. Which one died.
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
            Member { arena: self.arena.clone(), index: PROCESSES * stride, patience: Patience::Brief };
        // Those that no process starts with give back what they were given.
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
                collect::want(&supervisor.arena).unwrap();
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
                    let (member, ends) = (member(&self.arena, process.number * stride), ends.clone());
                    tasks.push(thread::spawn(move || {
                        if model::process(is_mortal && victim == Some(process.number), || {
                            (process.work)(&member)
                        }) {
                            ends.send((process.number, false)).unwrap();
                        }
                    }));
                }
                // As the supervisor does: it sees to all that have ended, and to those again with which it didn't come through.
                let next =
                    if behind.is_empty() && !collects { ended.recv().ok() } else { ended.try_recv().ok() };
                if let Some((process, killed)) = next {
                    if killed {
                        model::bury();
                        *found.lock().unwrap() = Some(process);
                        self.on_found.iter().for_each(|on_found| on_found(process));
                    }
                    behind.push((process, Sweep::behind(process * stride, killed)));
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
                sweep(Sweep::behind(process * stride, false), &supervisor).unwrap();
            }
            if collects {
                // The one that is under way may have begun too early.
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

fn member(arena: &Arc<Arena>, index: u32) -> Member {
    Member { arena: arena.clone(), index, patience: Patience::Forever }
}

fn choose(victims: &[u32]) -> Option<u32> {
    (!victims.is_empty()).then(|| victims[thread_rng().gen_range(0..victims.len())])
}

/// What processes have done, in order.
type Log<T> = Arc<Mutex<Vec<T>>>;

fn log<T>() -> Log<T> {
    Arc::default()
}

const NEVER: Deadline = Deadline::NEVER;

/// A test of a model for each: one in which nobody dies, and one for each way to die.
macro_rules! models {
    ($($(#[$meta:meta])* $name:ident: $model:ident($($argument:expr),*);)*) => {
        $($(#[$meta])* #[test]
        fn $name() {
            check(|| $model($($argument),*));
        })*
    };
}

models! {
    queue_delivers: a_queue(SHORT, &[]);
    queue_with_a_death: a_queue(SHORT, &[0, 1, 2, 3]);
    queue_in_a_full_arena: a_queue(LONG, &[]);
    queue_in_a_full_arena_with_a_death: a_queue(LONG, &[0, 1, 2, 3]);
    queue_is_closed_in_a_full_arena: a_close_in_a_full_arena(&[]);
    queue_is_closed_in_a_full_arena_with_a_death: a_close_in_a_full_arena(&[1, 2]);
    queue_is_closed_while_it_is_full: a_close_of_a_full_queue(&[]);
    queue_is_closed_while_it_is_full_with_a_death: a_close_of_a_full_queue(&[1, 2]);
    batches_are_delivered: batches(&[]);
    batches_with_a_death: batches(&[0, 1, 2, 3]);
    tasks_are_done_once: tasks(&[]);
    tasks_with_a_death: tasks(&[1, 2]);
    no_other_task_is_doomed: a_doom();
    joinable_queue_settles: a_joinable_queue(&[]);
    joinable_queue_with_a_death: a_joinable_queue(&[0, 1, 2]);
    pipe_comes_to_its_end: a_pipe(&[]);
    pipe_with_a_death: a_pipe(&[0, 1, 2]);
    circles_go: circles(&[]);
    circles_go_with_a_death: circles(&[0, 1, 2]);
    pipe_is_handed_on: a_pipe_on_its_way(Model::new(), &[]);
    pipe_is_handed_on_with_a_death: a_pipe_on_its_way(Model::new(), &[0, 1]);
    pipe_is_handed_on_among_many: a_pipe_on_its_way(Model::wide(), &[]);
    pipe_is_handed_on_among_many_with_a_death: a_pipe_on_its_way(Model::wide(), &[0, 1]);
    object_goes_from_one_to_the_next: an_object_on_its_way(&[]);
    object_goes_from_one_to_the_next_with_a_death: an_object_on_its_way(&[0, 1, 2, 4, 5]);
    lock_has_one_owner: a_lock(false, &[]);
    lock_with_a_death: a_lock(false, &[0, 1, 2]);
    recursive_lock_has_one_owner: a_lock(true, &[]);
    recursive_lock_with_a_death: a_lock(true, &[0, 1, 2]);
    semaphore_has_so_many_units: a_semaphore(&[]);
    semaphore_with_a_death: a_semaphore(&[0, 1, 2]);
    condition_loses_no_notification: a_condition(&[]);
    condition_with_the_death_of_one_who_waits: a_condition(&[0, 1]);
    condition_with_the_death_of_a_notifier: a_condition(&[2, 3]);
    condition_notifies_all: a_condition_for_all(&[]);
    condition_notifies_all_with_a_death: a_condition_for_all(&[0, 1, 2]);
    condition_with_a_timeout: a_condition_with_a_timeout(&[]);
    barrier_lets_all_pass: a_barrier(&[]);
    barrier_with_a_death: a_barrier(&[0, 1, 2]);
    barrier_is_reset: a_barrier_that_is_reset(&[]);
    barrier_is_reset_with_a_death: a_barrier_that_is_reset(&[3]);
    barrier_with_a_timeout: a_barrier_with_a_timeout(&[]);
    event_is_seen: an_event(&[]);
    event_with_a_death: an_event(&[0, 1, 2]);
    event_is_set_behind_a_clear: an_event_that_is_set();
    change_of_a_process_is_seen: a_change();
    name_is_given_once: a_name(&[]);
    name_is_given_once_with_a_death: a_name(&[0, 1, 2, 3]);
    views_keep_shared_memory: a_view(&[]);
    views_keep_shared_memory_with_a_death: a_view(&[0, 1, 2]);
    integer_in_shared_memory_counts: an_integer(&[]);
    integer_in_shared_memory_counts_with_a_death: an_integer(&[0, 1, 2]);
    several_are_waited_for: several(&[]);
    several_with_a_death: several(&[0, 1, 2, 3]);
    memory_of_all_is_within_its_limit: a_budget(&[]);
    memory_of_all_is_within_its_limit_with_a_death: a_budget(&[0, 1, 2]);
    one_that_stands_by_is_taken_once: a_standby(&[]);
    one_that_stands_by_is_taken_once_with_a_death: a_standby(&[0, 1, 2]);
    one_of_several_is_taken: an_item_of_several(&[]);
    one_of_several_is_taken_with_a_death: an_item_of_several(&[0, 1, 2]);
}

/// Two workers do tasks, of which each is done, claimed by who died, or left: one of these, and once.
fn tasks(victims: &'static [u32]) {
    let mut model = Model::new();
    let queues = [Account::Claimed, Account::Nothing]
        .map(|account| model.share(queue::create(&model.maker(), 0, account).unwrap()));
    let [tasks, results] = queues;
    model.process(move |member| {
        for number in 0..3 {
            queue::put(member, port(member, tasks), &item(0, number, SHORT), &[], NEVER).unwrap();
        }
        queue::close(member, port(member, tasks)).unwrap();
    });
    for _ in 0..2 {
        model.process(move |member| {
            while let Ok((_, number)) = get(member, tasks) {
                let claims = member.claims().unwrap();
                assert_eq!(claims.get().first, u64::from(number));
                claims.begin(0).unwrap();
                let results = port(member, results);
                queue::finish(member, results, &[&item(0, number, SHORT)], &[], member.index, NEVER).unwrap();
                assert!(!claims.has_some());
            }
        });
    }
    let victim = choose(victims);
    model.process_after(&[0, 1, 2], move |member| {
        queue::close(member, port(member, results)).unwrap();
        let mut seen: Vec<_> = std::iter::from_fn(|| Some(get(member, results).ok()?.1)).collect();
        if let Some(victim) = victim {
            let claims = member.arena.process(victim).unwrap().claims.get();
            seen.extend((claims.first..claims.end).map(|number| number as u8));
        }
        // What is left, the last one takes.
        while let Ok((_, number)) = get(member, tasks) {
            seen.push(number);
            queue::finish(member, port(member, tasks), &[&[]], &[], member.index, Deadline::NOW).unwrap_err();
            member.claims().unwrap().reset();
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
    });
    model.run_to_death_of(victim);
}

/// A worker does one task after the other, and its owner has it killed for the one that it seems to be at, as a pool does
/// whose task takes too long. That one has no result, and all others are done or left.
fn a_doom() {
    const TASKS: u8 = 4;
    const VICTIM: u32 = 1;
    let mut model = Model::new();
    model.is_mortal = false;
    let queues = [Account::Claimed, Account::Nothing]
        .map(|account| model.share(queue::create(&model.maker(), 0, account).unwrap()));
    let [tasks, results] = queues;
    let (at_work, doomed) = (log(), log());
    let (worker, noted) = (at_work.clone(), doomed.clone());
    let owner = model.process(move |member| {
        for number in 0..TASKS {
            queue::put(member, port(member, tasks), &item(0, number, SHORT), &[], NEVER).unwrap();
        }
        queue::close(member, port(member, tasks)).unwrap();
        let claims = &member.arena.process(VICTIM).unwrap().claims;
        for _ in 0..thread_rng().gen_range(0..64) {
            let (before, seen) = (claims.get(), claims.get());
            // A task is doomed that was seen to be at work for too long: by now, it may not be any more.
            (0..thread_rng().gen_range(0..8)).for_each(|_| model::point());
            if seen.work != 0 && before == seen && claims.doom(seen.work) {
                noted.lock().unwrap().push(seen.first);
                worker.lock().unwrap().iter().for_each(|worker| model::kill(*worker));
                return;
            }
            model::point();
        }
    });
    model.process(move |member| {
        at_work.lock().unwrap().push(model::current());
        let take = |buffer: &mut [u8]| {
            let mut count = 0;
            let note = |_| {
                count += 1;
                count < 2
            };
            queue::get_many(member, port(member, tasks), buffer, note, NEVER)
        };
        let mut buffer = [0; 2 * SHORT];
        while let Ok(taken) = take(&mut buffer) {
            for task in buffer.chunks(SHORT).take(taken as usize) {
                member.claims().unwrap().begin(0).unwrap();
                queue::finish(member, port(member, results), &[task], &[], member.index, NEVER).unwrap();
            }
        }
    });
    let found = doomed.clone();
    model.process_after(&[owner, VICTIM], move |member| {
        queue::close(member, port(member, results)).unwrap();
        let done: Vec<_> = std::iter::from_fn(|| Some(get(member, results).ok()?.1)).collect();
        let claims = member.arena.process(VICTIM).unwrap().claims.get();
        assert!((0..claims.first).eq(done.iter().map(|number| u64::from(*number))), "{done:?}, {claims:?}");
        match found.lock().unwrap()[..] {
            [doomed] => {
                assert_eq!((doomed, claims.work != 0), (claims.first, true), "another was hit: {claims:?}");
            }
            _ => assert_eq!(done.len(), usize::from(TASKS)),
        }
        while let Ok(left) = get(member, tasks) {
            assert!(u64::from(left.1) >= claims.end);
            member.claims().unwrap().reset();
        }
    });
    let died = model.run_to_death_of(Some(VICTIM));
    assert_eq!(died.is_some(), !doomed.lock().unwrap().is_empty());
}

/// Bytes of an item that lies in a segment.
const SHORT: usize = 24;
/// Bytes of one that has three pages of its own.
const LONG: usize = 9000;

/// An item: so many bytes that are all the same.
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

/// Takes an item: producer and number.
fn get(member: &Member, queue: Handle) -> super::Result<(u32, u8)> {
    let mut buffer = vec![0; LONG];
    let taken = queue::get(member, port(member, queue), || false, &mut buffer, NEVER)?;
    let len = copy(member, taken, &mut buffer).unwrap();
    Ok(read(&buffer[..len]))
}

/// Receives a message: sender and number.
fn recv(member: &Member, end: Handle) -> super::Result<(u32, u8)> {
    let mut buffer = [0; SHORT];
    let taken = pipe::recv(member, of::<EndState>(member, end), &mut buffer, NEVER)?;
    let len = copy(member, taken, &mut buffer).unwrap();
    Ok(read(&buffer[..len]))
}

/// Two producers and two consumers, with room for one item, in the queue or in the arena: each comes once, and those of
/// one producer in order.
fn a_queue(len: usize, victims: &[u32]) {
    const ITEMS: u8 = 2;
    let (mut model, bound) = if len == LONG { (Model::with_heap(6), 0) } else { (Model::new(), 1) };
    let queue = model.share(queue::create(&model.maker(), bound, Account::Nothing).unwrap());
    let other = model.share(queue::create(&model.maker(), 0, Account::Nothing).unwrap());
    let (put, got) = (log(), log());
    for _ in 0..2 {
        let put = put.clone();
        model.process(move |member| {
            for number in 1..=ITEMS {
                // One in the segment, and one that is a message.
                let handles = if number % 2 == 0 { &[other][..] } else { &[] };
                let item = item(member.index, number, len);
                queue::put(member, port(member, queue), &item, handles, NEVER).unwrap();
                put.lock().unwrap().push((member.index, number));
            }
        });
    }
    for _ in 0..2 {
        let got = got.clone();
        model.process(move |member| {
            loop {
                match get(member, queue) {
                    Ok(item) => got.lock().unwrap().push((member.index, item)),
                    Err(error) => return assert_eq!(error, Errno::Closed),
                }
            }
        });
    }
    model.process_after(&[0, 1], move |member| queue::close(member, port(member, queue)).unwrap());
    let dead = model.run(victims);
    let (put, got) = (put.lock().unwrap(), got.lock().unwrap());
    let once: BTreeSet<_> = got.iter().map(|(_, item)| *item).collect();
    assert_eq!(once.len(), got.len(), "an item came twice");
    for consumer in 2..4 {
        for producer in 0..2 {
            let items = got.iter().filter(|(by, item)| *by == consumer && item.0 == producer);
            assert!(items.is_sorted_by_key(|(_, item)| item.1), "out of order: {got:?}");
        }
    }
    let lost = put.iter().filter(|item| !once.contains(*item)).count();
    // One that a dead consumer had in its hands.
    assert!(lost <= usize::from(dead.is_some_and(|dead| dead >= 2)), "put {put:?}, got {got:?}");
    // One that a dead producer has put without coming to say so.
    let more = once.iter().filter(|item| !put.contains(item)).count();
    assert!(more <= usize::from(dead.is_some_and(|dead| dead < 2)));
    for producer in (0..2).filter(|producer| Some(*producer) != dead) {
        assert_eq!(put.iter().filter(|item| item.0 == producer).count(), usize::from(ITEMS));
    }
}

/// The arena is full for good, and somebody closes the queue: who waits for room to put into it goes on, and puts nothing.
fn a_close_in_a_full_arena(victims: &[u32]) {
    let mut model = Model::with_heap(6);
    let maker = model.maker();
    let queue = model.share(queue::create(&maker, 0, Account::Nothing).unwrap());
    let other = queue::create(&maker, 0, Account::Nothing).unwrap();
    for index in [1, 2] {
        object::share(&maker, other, index).unwrap();
    }
    while let Ok(()) = queue::put(&maker, port(&maker, other), &[0; SHORT], &[queue], Deadline::NOW) {}
    // It stays so until this one ends, whose slot is the maker's.
    model.process_after(&[1, 2, 3], |_| {});
    for _ in 0..2 {
        model.process(move |member| {
            // One that has pages of its own.
            let put = queue::put(member, port(member, queue), &[1; SHORT], &[other], NEVER);
            assert_eq!(put, Err(Errno::Closed));
        });
    }
    model.process(move |member| queue::close(member, port(member, queue)).unwrap());
    model.run(victims);
}

/// The same of a queue that is full, and not the arena.
fn a_close_of_a_full_queue(victims: &[u32]) {
    let mut model = Model::new();
    let maker = model.maker();
    let queue = model.share(queue::create(&maker, 1, Account::Nothing).unwrap());
    queue::put(&maker, port(&maker, queue), &item(0, 0, SHORT), &[], Deadline::NOW).unwrap();
    model.process_after(&[1, 2, 3], move |member| {
        assert_eq!(get(member, queue), Ok((0, 0)));
        assert_eq!(get(member, queue), Err(Errno::Closed));
    });
    for _ in 0..2 {
        model.process(move |member| {
            let put = queue::put(member, port(member, queue), &[1; SHORT], &[], NEVER);
            assert_eq!(put, Err(Errno::Closed));
        });
    }
    model.process(move |member| queue::close(member, port(member, queue)).unwrap());
    model.run(victims);
}

/// Two who put four items each as batches, with room for two, and two who take as many as they get. Of a batch whose
/// producer has died, the beginning is there.
fn batches(victims: &[u32]) {
    const ITEMS: u8 = 4;
    const MOST: usize = 3;
    let mut model = Model::new();
    let queue = model.share(queue::create(&model.maker(), 2, Account::Nothing).unwrap());
    let (put, got) = (log(), log());
    for producer in 0..2 {
        let put = put.clone();
        model.process(move |member| {
            let items: Vec<_> = (1..=ITEMS).map(|number| item(producer, number, SHORT)).collect();
            let mut rest = &items[..];
            while !rest.is_empty() {
                let batch = rest.iter().map(Vec::as_slice);
                let count = queue::put_many(member, port(member, queue), batch, NEVER).unwrap() as usize;
                put.lock().unwrap().extend(rest[..count].iter().map(|item| read(item)));
                rest = &rest[count..];
            }
        });
    }
    for _ in 0..2 {
        let got = got.clone();
        model.process(move |member| {
            loop {
                let mut buffer = [0; MOST * SHORT];
                let most = thread_rng().gen_range(1..=MOST);
                let mut lens = Vec::new();
                let note = |len| {
                    lens.push(len);
                    lens.len() < most
                };
                let taken = queue::get_many(member, port(member, queue), &mut buffer, note, NEVER);
                match taken {
                    Ok(count) => assert!(count != 0 && count as usize == lens.len() && lens.len() <= most),
                    Err(error) => return assert_eq!(error, Errno::Closed),
                }
                assert!(lens.iter().all(|len| *len == SHORT));
                let items = buffer.chunks(SHORT).take(lens.len()).map(|item| (member.index, read(item)));
                got.lock().unwrap().extend(items);
            }
        });
    }
    model.process_after(&[0, 1], move |member| queue::close(member, port(member, queue)).unwrap());
    let dead = model.run(victims);
    let (put, got) = (put.lock().unwrap(), got.lock().unwrap());
    let once: BTreeSet<_> = got.iter().map(|(_, item)| *item).collect();
    assert_eq!(once.len(), got.len(), "an item came twice");
    for consumer in 2..4 {
        for producer in 0..2 {
            let items = got.iter().filter(|(by, item)| *by == consumer && item.0 == producer);
            assert!(items.is_sorted_by_key(|(_, item)| item.1), "out of order: {got:?}");
        }
    }
    let lost = put.iter().filter(|item| !once.contains(*item)).count();
    if dead.is_some_and(|dead| dead >= 2) {
        assert!(lost <= MOST, "put {put:?}, got {got:?}");
        return;
    }
    assert_eq!(lost, 0, "put {put:?}, got {got:?}");
    for producer in 0..2 {
        let items: Vec<_> = once.iter().filter(|item| item.0 == producer).map(|item| item.1).collect();
        assert!((1..=ITEMS).take(items.len()).eq(items.iter().copied()), "not a beginning: {items:?}");
        assert!(Some(producer) == dead || items.len() == usize::from(ITEMS));
    }
}

/// One producer, two who do the tasks, and one who waits for all.
fn a_joinable_queue(victims: &[u32]) {
    let mut model = Model::new();
    let queue = model.share(queue::create(&model.maker(), 0, Account::Joinable).unwrap());
    let (done, lost) = (log(), log());
    model.process(move |member| {
        for number in 1..=3 {
            queue::put(member, port(member, queue), &item(0, number, SHORT), &[], NEVER).unwrap();
        }
    });
    for _ in 0..2 {
        let done = done.clone();
        model.process(move |member| {
            while let Ok((_, number)) = get(member, queue) {
                queue::task_done(member, port(member, queue)).unwrap();
                done.lock().unwrap().push(number);
            }
        });
    }
    let joined = lost.clone();
    model.process_after(&[0], move |member| {
        queue::close(member, port(member, queue)).unwrap();
        joined.lock().unwrap().push(queue::join(member, port(member, queue), NEVER).unwrap());
    });
    let dead = model.run(victims);
    let (done, lost) = (done.lock().unwrap().len() as u64, lost.lock().unwrap()[0]);
    match dead {
        None => assert_eq!((done, lost), (3, 0)),
        Some(0) => assert_eq!(lost, 0),
        // One that it had, or was done with and didn't come to say so.
        Some(_) => assert!((2..=3).contains(&(done + lost)), "done {done}, lost {lost}"),
    }
}

/// Two who send, and one who receives to the end.
fn a_pipe(victims: &[u32]) {
    let mut model = Model::new();
    let maker = model.maker();
    let [reads, writes] = pipe::create(&maker, 30, 0).unwrap();
    object::share(&maker, reads, 2).unwrap();
    object::share(&maker, writes, 1).unwrap();
    let keeps = thread_rng().gen_bool(0.5);
    if keeps {
        // As after a fork without a close: nobody else may hold it.
        object::share(&maker, writes, 2).unwrap();
    }
    object::release(&maker, reads).unwrap();
    let (sent, received) = (log(), log());
    for _ in 0..2 {
        let sent = sent.clone();
        model.process(move |member| {
            for number in 1..=2 {
                match pipe::send(
                    member,
                    of(member, writes),
                    &[&item(member.index, number, SHORT)],
                    &[],
                    NEVER,
                ) {
                    Ok(()) => sent.lock().unwrap().push((member.index, number)),
                    Err(error) => return assert_eq!(error, Errno::Pipe),
                }
            }
            object::release(member, writes).unwrap();
        });
    }
    let log = received.clone();
    model.process(move |member| {
        loop {
            match recv(member, reads) {
                Ok(message) => log.lock().unwrap().push(message),
                Err(error) => return assert_eq!(error, Errno::Closed),
            }
        }
    });
    let dead = model.run(victims);
    let (sent, received) = (sent.lock().unwrap(), received.lock().unwrap());
    if dead != Some(2) {
        assert!(sent.iter().all(|message| received.contains(message)), "{sent:?} {received:?}");
        for sender in (0..2).filter(|sender| Some(*sender) != dead) {
            assert!(received.iter().filter(|message| message.0 == sender).map(|message| message.1).eq(1..=2));
        }
    }
}

/// The handles of an item, which are the caller's from now on.
fn take_handles(member: &Member, queue: Handle, deadline: Deadline) -> super::Result<Vec<Handle>> {
    let taken = queue::get(member, port(member, queue), || false, &mut [], deadline)?;
    let Taken::Message(message) = taken else { panic!("an item without handles") };
    let handles = message.handles(member).unwrap();
    message.arrive(member, &handles).unwrap();
    let register = member.slot().unwrap().register(Register::Incoming);
    message::discard(member, register, &mut Vec::new()).unwrap();
    Ok(handles)
}

/// Two queues lie in each other, and go from one process to the next in a third. Whoever takes one can take the other out of
/// it, and all is gone in the end, while the supervisor looks for what nobody can reach.
fn circles(victims: &[u32]) {
    let mut model = Model::new();
    model.collects = true;
    let meet = model.share(queue::create(&model.maker(), 0, Account::Nothing).unwrap());
    let put = |member: &Member, queue, handle| {
        queue::put(member, port(member, queue), &[], &[handle], NEVER).unwrap();
    };
    let hand_on = move |member: &Member, one: Handle, other: Handle| {
        put(member, one, other);
        put(member, other, one);
        object::release(member, other).unwrap();
        put(member, meet, one);
        object::release(member, one).unwrap();
    };
    let deadline = model.deadline;
    model.process(move |member| {
        let [one, other] = [(); 2].map(|()| queue::create(member, 0, Account::Nothing).unwrap());
        hand_on(member, one, other);
    });
    for _ in 0..2 {
        model.process(move |member| {
            // Nobody may be left who puts one.
            let Ok(one) = take_handles(member, meet, deadline) else { return };
            let other = take_handles(member, one[0], NEVER).unwrap();
            assert_eq!(take_handles(member, other[0], NEVER).unwrap(), one, "the circle is broken");
            hand_on(member, other[0], one[0]);
        });
    }
    model.run(victims);
}

/// One hands the end that sends on to another, who sends: the receiver isn't told before that that nobody will.
fn a_pipe_on_its_way(mut model: Model, victims: &[u32]) {
    let maker = model.maker();
    let queue = queue::create(&maker, 0, Account::Nothing).unwrap();
    let [reads, writes] = pipe::create(&maker, 30, 0).unwrap();
    model.share_with(queue, 1);
    model.share_with(reads, 2);
    object::release(&maker, reads).unwrap();
    model.process(move |member| {
        queue::put(member, port(member, queue), &item(0, 0, SHORT), &[writes], NEVER).unwrap();
        object::release(member, writes).unwrap();
        queue::close(member, port(member, queue)).unwrap();
    });
    model.process(move |member| {
        if get(member, queue).is_ok() {
            pipe::send(member, of(member, writes), &[&item(1, 1, SHORT)], &[], NEVER).unwrap();
        }
    });
    let received = log();
    let log = received.clone();
    model.process(move |member| {
        while let Ok(message) = recv(member, reads) {
            log.lock().unwrap().push(message);
        }
    });
    if let Some(0) = victims.first() {
        // For the one who would wait for what was never put.
        model.share_with(queue, 3);
        model.process_after(&[0], move |member| queue::close(member, port(member, queue)).unwrap());
    }
    let dead = model.run(victims);
    assert!(dead.is_some() || received.lock().unwrap().len() == 1, "the message didn't come");
}

/// Each gives a queue to the next and gives it up, as with a fork, while those who have given it up look whether anybody
/// has it. It is there as long as somebody has it, and no longer.
fn an_object_on_its_way(victims: &[u32]) {
    // From word to word of its holders, and back.
    const WAY: [u32; 5] = [0, 4, 1, 5, 2];
    let mut model = Model::wide();
    let queue = queue::create(&model.maker(), 0, Account::Nothing).unwrap();
    let stride = model.stride;
    let has_it = Arc::new(Mutex::new(BTreeSet::from([0])));
    // Those who won't give it to anybody any more.
    let over = Arc::new(Mutex::new(BTreeSet::new()));
    let dead = over.clone();
    model.on_found = Some(Box::new(move |process| {
        dead.lock().unwrap().insert(process);
    }));
    for number in 0..PROCESSES {
        let Some(at) = WAY.iter().position(|process| *process == number) else {
            model.process(|_| {});
            continue;
        };
        let previous = at.checked_sub(1).map(|at| WAY[at]);
        let next = WAY.get(at + 1).copied();
        let (has_it, over) = (has_it.clone(), over.clone());
        model.process(move |member| {
            // It isn't there yet, and doesn't die.
            while !has_it.lock().unwrap().contains(&number) {
                if previous.is_some_and(|previous| over.lock().unwrap().contains(&previous)) {
                    over.lock().unwrap().insert(number);
                    return;
                }
                thread::yield_now();
            }
            queue::put(member, port(member, queue), &[1], &[], NEVER).unwrap();
            if let Some(next) = next {
                object::share(member, queue, next * stride).unwrap();
                has_it.lock().unwrap().insert(next);
            }
            object::release(member, queue).unwrap();
        });
    }
    model.run(victims);
}

/// Three who lock, one of them not at any price. The next is told of a death with the lock, and nobody else.
fn a_lock(recursive: bool, victims: &[u32]) {
    let mut model = Model::new();
    let lock = model.share(lock::create(&model.maker(), recursive).unwrap());
    let (inside, told) = (Arc::new(Mutex::new(None)), log());
    let deadline = model.deadline;
    for _ in 0..4 {
        let (inside, told) = (inside.clone(), told.clone());
        let index = model.processes.len() as u32;
        // The last one comes when all others have gone.
        let after: &[u32] = if index == 3 { &[0, 1, 2] } else { &[] };
        model.process_after(after, move |member| {
            let lock = of(member, lock);
            for _ in 0..2 {
                match lock::acquire(member, lock, if index == 2 { deadline } else { NEVER }) {
                    Ok(()) => assert_eq!(*inside.lock().unwrap(), None, "a second owner"),
                    Err(Errno::Ownerdead) => told.lock().unwrap().push(*inside.lock().unwrap()),
                    Err(error) => {
                        assert!(error == Errno::Timedout && index == 2);
                        continue;
                    }
                }
                *inside.lock().unwrap() = Some(index);
                model::point();
                if recursive {
                    lock::acquire(member, lock, NEVER).unwrap();
                    assert_eq!(lock::held(member, lock), 2);
                    lock::release(member, lock).unwrap();
                }
                assert_eq!(lock::held(member, lock), 1);
                *inside.lock().unwrap() = None;
                lock::release(member, lock).unwrap();
            }
        });
    }
    let dead = model.run(victims);
    let told = told.lock().unwrap();
    assert!(told.len() <= usize::from(dead.is_some()));
    assert!(told.iter().flatten().all(|owner| Some(*owner) == dead));
    assert_eq!(*inside.lock().unwrap(), None, "nobody was told of a death with the lock");
}

/// Three who want one of two units each, or the only one, twice.
fn a_semaphore(victims: &[u32]) {
    let mut model = Model::new();
    let units = thread_rng().gen_range(1..=2);
    let returned = units == 1 || thread_rng().r#gen();
    let semaphore = model.share(semaphore::create(&model.maker(), units, true, returned).unwrap());
    let inside = Arc::new(Mutex::new(BTreeSet::new()));
    let with_the_dead = log();
    let (there, gone) = (inside.clone(), with_the_dead.clone());
    model.on_found =
        Some(Box::new(move |dead| gone.lock().unwrap().push(there.lock().unwrap().remove(&dead))));
    for _ in 0..3 {
        let inside = inside.clone();
        model.process(move |member| {
            let semaphore = of(member, semaphore);
            for _ in 0..2 {
                semaphore::acquire(member, semaphore, NEVER).unwrap();
                inside.lock().unwrap().insert(member.index);
                assert!(inside.lock().unwrap().len() as u64 <= units, "more inside than units");
                model::point();
                inside.lock().unwrap().remove(&member.index);
                semaphore::release(member, semaphore, 1).unwrap();
            }
        });
    }
    model.process_after(&[0, 1, 2], move |member| {
        let semaphore = of::<semaphore::SemaphoreState>(member, semaphore);
        let (value, died) = (semaphore.state.value(), semaphore.state.died());
        assert_eq!(value, if returned { units } else { units - died });
        let gone = with_the_dead.lock().unwrap();
        // It may have had one that it didn't come to use, or to give back.
        assert!(died >= u64::from(gone.contains(&true)) && died <= gone.len() as u64);
    });
    model.run(victims);
}

/// A condition, and its lock.
fn condition_and_lock(model: &Model) -> (Handle, Handle) {
    let recursive = thread_rng().r#gen();
    let [condition, lock] = [condition::create(&model.maker()), lock::create(&model.maker(), recursive)];
    (model.share(condition.unwrap()), model.share(lock.unwrap()))
}

fn acquire(member: &Member, handle: Handle) {
    assert!(matches!(lock::acquire(member, of(member, handle), NEVER), Ok(()) | Err(Errno::Ownerdead)));
}

fn release(member: &Member, handle: Handle) {
    lock::release(member, of(member, handle)).unwrap();
}

/// Waits in a condition, with its lock. Whether it was notified.
fn wait(member: &Member, condition: Handle, handle: Handle, deadline: Deadline) -> bool {
    let (condition, lock) = (of(member, condition), of(member, handle));
    let depth = condition::enter(member, condition, lock).unwrap();
    let notified = condition::wait(member, condition, deadline).unwrap();
    assert!(matches!(lock::acquire_again(member, lock, depth), Ok(()) | Err(Errno::Ownerdead)));
    notified
}

fn notify(member: &Member, condition: Handle, lock: Handle, count: u64) -> u64 {
    condition::notify(member, of(member, condition), of(member, lock), count).unwrap()
}

/// Two who need a token each, and two who bring one and notify one.
fn a_condition(victims: &[u32]) {
    let mut model = Model::new();
    let (condition, lock) = condition_and_lock(&model);
    let tokens = Arc::new(Mutex::new(0));
    for _ in 0..2 {
        let tokens = tokens.clone();
        model.process(move |member| {
            acquire(member, lock);
            while *tokens.lock().unwrap() == 0 {
                assert!(wait(member, condition, lock, NEVER));
            }
            *tokens.lock().unwrap() -= 1;
            release(member, lock);
        });
    }
    for _ in 0..2 {
        let tokens = tokens.clone();
        model.process(move |member| {
            acquire(member, lock);
            *tokens.lock().unwrap() += 1;
            notify(member, condition, lock, 1);
            release(member, lock);
        });
    }
    if victims.contains(&2) {
        // What one who died was to bring. Who was notified before finds it or waits again.
        model.process_after(&[2, 3], move |member| {
            acquire(member, lock);
            *tokens.lock().unwrap() += 2;
            notify(member, condition, lock, u64::MAX);
            release(member, lock);
        });
    }
    model.run(victims);
}

/// Two who wait for a word, one who gives it, and one who gives it again in case that one has died.
fn a_condition_for_all(victims: &[u32]) {
    let mut model = Model::new();
    let (condition, lock) = condition_and_lock(&model);
    let given = Arc::new(Mutex::new(false));
    for _ in 0..2 {
        let given = given.clone();
        model.process(move |member| {
            acquire(member, lock);
            while !*given.lock().unwrap() {
                assert!(wait(member, condition, lock, NEVER));
            }
            release(member, lock);
        });
    }
    let give = move |member: &Member| {
        acquire(member, lock);
        *given.lock().unwrap() = true;
        notify(member, condition, lock, u64::MAX);
        release(member, lock);
    };
    model.process(give.clone());
    if victims.contains(&2) {
        model.process_after(&[2], give);
    }
    model.run(victims);
}

/// One of two who wait does so for some time only. Whoever is notified first notifies the other, who else waits for
/// ever: so no notification goes to one whose time was over.
fn a_condition_with_a_timeout(victims: &[u32]) {
    let mut model = Model::new();
    let (condition, lock) = condition_and_lock(&model);
    let deadline = model.deadline;
    let notify_one = move |member: &Member| {
        loop {
            acquire(member, lock);
            let notified = notify(member, condition, lock, 1);
            release(member, lock);
            if notified == 1 {
                return;
            }
            model::pause();
        }
    };
    model.process(move |member| {
        acquire(member, lock);
        let notified = wait(member, condition, lock, deadline);
        release(member, lock);
        if notified {
            notify_one(member);
        }
    });
    model.process(move |member| {
        acquire(member, lock);
        // The other has gone, or is notified in the end.
        assert!(wait(member, condition, lock, NEVER));
        release(member, lock);
    });
    model.process(notify_one);
    model.run(victims);
}

/// Passes a barrier, and tells when it is surely inside. The index.
fn pass(
    member: &Member,
    handle: Handle,
    acts: bool,
    deadline: Deadline,
    inside: impl Fn(bool),
) -> super::Result<i64> {
    let barrier = of(member, handle);
    let arrival = barrier::arrive(member, barrier, acts, deadline)?;
    inside(true);
    let waited = barrier::wait(member, barrier, arrival, deadline);
    inside(false);
    let index = waited?;
    if index & ACT != 0 {
        assert!(acts);
        barrier::release(member, barrier)?;
    }
    Ok(index & !ACT)
}

/// Three who meet twice. With a death, the others are told at the latest at the second meeting.
fn a_barrier(victims: &[u32]) {
    let mut model = Model::new();
    let barrier = model.share(barrier::create(&model.maker(), 3).unwrap());
    let passed = log();
    let inside = Arc::new(Mutex::new(BTreeMap::new()));
    for _ in 0..3 {
        let (passed, inside) = (passed.clone(), inside.clone());
        let acts = thread_rng().r#gen();
        model.process(move |member| {
            for round in 0..2 {
                let passes = pass(member, barrier, acts, NEVER, |is_inside| {
                    let mut inside = inside.lock().unwrap();
                    inside.remove(&member.index);
                    inside.extend(is_inside.then_some((member.index, round)));
                });
                match passes {
                    Ok(index) => passed.lock().unwrap().push((round, index)),
                    Err(error) => return assert_eq!(error, Errno::Broken),
                }
            }
        });
    }
    let victim = choose(victims);
    if let Some(victim) = victim {
        // If it died outside, nobody is told that it won't come.
        let (died, passed) = (log(), passed.clone());
        let found = died.clone();
        model.on_found = Some(Box::new(move |dead| found.lock().unwrap().push(dead)));
        model.process_after(&[victim], move |member| {
            let barrier = of::<barrier::BarrierState>(member, barrier);
            let rounds = |round| passed.lock().unwrap().iter().filter(|(one, _)| *one == round).count();
            // If it died inside, either that is known, or the others pass all the same.
            let waits = || {
                let round = inside.lock().unwrap().get(&victim).copied();
                round.is_some_and(|round| rounds(round) < 2)
            };
            while waits() && !barrier.state.is_broken() {
                model::pause();
            }
            // If it died outside, nobody is told that it won't come.
            if !died.lock().unwrap().is_empty() && !barrier.state.is_broken() {
                barrier::abort(member, barrier).unwrap();
            }
        });
    }
    let dead = model.run_to_death_of(victim);
    let passed = passed.lock().unwrap();
    let once: BTreeSet<_> = passed.iter().collect();
    assert_eq!(once.len(), passed.len(), "two have the same index");
    match dead {
        None => assert_eq!(passed.len(), 6),
        Some(_) => assert!(passed.len() <= 6),
    }
}

/// Three who meet, and try again if another resets the barrier.
fn a_barrier_that_is_reset(victims: &[u32]) {
    let mut model = Model::new();
    let barrier = model.share(barrier::create(&model.maker(), 3).unwrap());
    for _ in 0..3 {
        let acts = thread_rng().r#gen();
        model
            .process(move |member| while pass(member, barrier, acts, NEVER, |_| {}) == Err(Errno::Broken) {});
    }
    model.process(move |member| barrier::reset(member, of(member, barrier)).unwrap());
    model.run(victims);
}

/// One has no time for the others: then all are told, or all have met.
fn a_barrier_with_a_timeout(victims: &[u32]) {
    let mut model = Model::new();
    let barrier = model.share(barrier::create(&model.maker(), 3).unwrap());
    let deadline = model.deadline;
    let results = log();
    for index in 0..3 {
        let results = results.clone();
        model.process(move |member| {
            let result = pass(member, barrier, false, if index == 0 { deadline } else { NEVER }, |_| {});
            results.lock().unwrap().push(result);
        });
    }
    model.run(victims);
    let results = results.lock().unwrap();
    let broken = results.iter().filter(|result| **result == Err(Errno::Broken)).count();
    assert!(broken == 0 || broken == 3, "{results:?}");
}

/// Two who wait. One of them surely sleeps when the event is set and cleared at once; then it is set for the other.
fn an_event(victims: &[u32]) {
    let mut model = Model::new();
    let event = model.share(event::create(&model.maker()).unwrap());
    let woken = log();
    for _ in 0..2 {
        let woken = woken.clone();
        model.process(move |member| {
            event::wait(member, of(member, event), NEVER).unwrap();
            woken.lock().unwrap().push(());
        });
    }
    let pulses = victims.is_empty() && thread_rng().r#gen();
    let set = move |member: &Member| {
        let event = of(member, event);
        while pulses && model::asleep() == 0 {
            model::pause();
        }
        event::set(member, event).unwrap();
        if pulses {
            event::clear(event);
            while woken.lock().unwrap().is_empty() {
                model::pause();
            }
            event::set(member, event).unwrap();
        }
    };
    model.process(set);
    if victims.contains(&2) {
        // If the one who died has set it, all are woken for that.
        model.process_after(&[2], move |member| {
            let event = of::<event::EventState>(member, event);
            if !event.state.is_set() {
                event::set(member, event).unwrap();
            }
        });
    }
    model.run(victims);
}

/// Two who do something and set an event, which may be set; and one who clears it, and waits if not all is done.
fn an_event_that_is_set() {
    let mut model = Model::new();
    let event = model.share(event::create(&model.maker()).unwrap());
    for number in 0..2 {
        model.process(move |member| {
            member.arena.process(number).unwrap().started.store(1, Ordering::Relaxed);
            event::set(member, of(member, event)).unwrap();
        });
    }
    model.process(move |member| {
        let is_done = |number| member.arena.process(number).unwrap().started.load(Ordering::Relaxed) == 1;
        loop {
            event::clear(of(member, event));
            if is_done(0) && is_done(1) {
                break;
            }
            event::wait(member, of(member, event), NEVER).unwrap();
        }
    });
    model.run(&[]);
}

/// One who changes a word again and again without a lock, as the supervisor does when a process has ended.
fn a_change() {
    let mut model = Model::new();
    model.process(|member| {
        let slot = member.arena.process(1).unwrap();
        for change in 1..=3 {
            slot.started.store(change, Ordering::Release);
            slot.event.notify_all(&member.arena);
        }
    });
    model.process(|member| {
        let slot = member.slot().unwrap();
        for change in 1..=3 {
            let ready = || slot.started.load(Ordering::Acquire) >= change;
            while !ready() {
                slot.event.sleep(member, Waiting::Children, NEVER, ready).unwrap();
            }
        }
    });
    model.run(&[]);
}

/// Two who give memory the same name, one who takes that away, and one who opens what has it. Each finds all of one
/// memory or none, whose name is gone once it has been taken away as often as it was given.
fn a_name(victims: &[u32]) {
    const NAME: &str = "name";
    /// Bytes with a page of their own.
    const LEN: u64 = 5000;
    let mut model = Model::new();
    // How often it was given, and taken away.
    let balance = Arc::new(Mutex::new(0));
    for number in 1..=2 {
        let balance = balance.clone();
        model.process(move |member| match shared::create(member, LEN, false, NAME) {
            Ok(handle) => {
                *balance.lock().unwrap() += 1;
                shared::write(member, of(member, handle), LEN - 8, &[number; 8]).unwrap();
                object::release(member, handle).unwrap();
            }
            Err(error) => assert_eq!(error, Errno::Exist),
        });
    }
    let taken = balance.clone();
    model.process(move |member| match shared::unlink(member, NAME) {
        Ok(()) => *taken.lock().unwrap() -= 1,
        Err(error) => assert_eq!(error, Errno::Noent),
    });
    model.process(|member| match shared::open(member, NAME) {
        Ok(handle) => {
            let mut end = [9; 8];
            shared::read(member, of(member, handle), LEN - 8, &mut end).unwrap();
            assert!(end.iter().all(|byte| *byte <= 2), "{end:?} is nobody's");
            object::release(member, handle).unwrap();
        }
        Err(error) => assert_eq!(error, Errno::Noent),
    });
    let victim = choose(victims);
    model.process_after(&[0, 1, 2, 3], move |member| {
        let left = i32::from(shared::unlink(member, NAME).is_ok());
        assert_eq!(shared::unlink(member, NAME), Err(Errno::Noent));
        // One who has died may have done it, and not told.
        let balance = *balance.lock().unwrap();
        assert!(left == balance || victim.is_some() && (left - balance).abs() == 1, "{left}, {balance}");
    });
    model.run_to_death_of(victim);
}

/// One makes a view of memory, hands it on, and gives the memory up; one of two others takes it, makes another of it, and
/// reads. It is there as long as anybody has any of them, or a message does.
fn a_view(victims: &[u32]) {
    const LEN: u64 = 5000;
    let mut model = Model::new();
    let maker = model.maker();
    let queue = model.share(queue::create(&maker, 0, Account::Nothing).unwrap());
    let memory = shared::create(&maker, LEN, false, "").unwrap();
    shared::write(&maker, of(&maker, memory), LEN - 8, &[7; 8]).unwrap();
    let deadline = model.deadline;
    model.process(move |member| {
        let view = shared::view(member, memory).unwrap();
        queue::put(member, port(member, queue), &[], &[view], NEVER).unwrap();
        object::release(member, view).unwrap();
        object::release(member, memory).unwrap();
    });
    for _ in 0..2 {
        model.process(move |member| {
            // Nobody may be left who puts one.
            let Ok(views) = take_handles(member, queue, deadline) else { return };
            let again = shared::view(member, views[0]).unwrap();
            object::release(member, views[0]).unwrap();
            let mut end = [0; 8];
            shared::read(member, of(member, again), LEN - 8, &mut end).unwrap();
            assert_eq!(end, [7; 8]);
            object::release(member, again).unwrap();
        });
    }
    model.run(victims);
}

/// Three who add to an integer, in a page or in the object itself.
fn an_integer(victims: &[u32]) {
    const TIMES: u64 = 3;
    let mut model = Model::new();
    let small = thread_rng().r#gen();
    let size = if small { 16 } else { 5000 };
    let handle = model.share(shared::create(&model.maker(), size, small, "").unwrap());
    let atomic = move |member: &Member, what| shared::atomic(member, of(member, handle), 8, 8, what).unwrap();
    for number in 0..3 {
        model.process(move |member| {
            for _ in 0..TIMES {
                if number != 0 {
                    atomic(member, Atomic::Rmw(ADD, 1));
                    continue;
                }
                let mut expected = atomic(member, Atomic::Load);
                loop {
                    let found = atomic(member, Atomic::CompareExchange { expected, new: expected + 1 });
                    if found == expected {
                        break;
                    }
                    expected = found;
                }
            }
        });
    }
    let victim = choose(victims);
    model.process_after(&[0, 1, 2], move |member| {
        let least = if victim.is_some() { 2 } else { 3 } * TIMES;
        let found = atomic(member, Atomic::Load);
        assert!((least..=3 * TIMES).contains(&found), "{found}");
    });
    model.run_to_death_of(victim);
}

/// Three take memory of which there isn't enough for all at once, and for a child that they may have no use for.
fn a_budget(victims: &[u32]) {
    const MAX: u64 = 10;
    let mut model = Model::new();
    let arena = model.arena.clone();
    for number in 0..3 {
        model.process(move |member| {
            let used = || member.arena.header().unwrap().memory.used();
            for bytes in [3, 1] {
                let taken = budget::take(member, number, bytes, MAX);
                assert!(matches!(taken, Ok(()) | Err(Errno::Runmem)) && used() <= MAX);
            }
            let child = number + 3;
            if budget::take(member, child, 4, MAX).is_ok() {
                assert!((4..=MAX).contains(&used()));
                budget::give_back(member, child).unwrap();
            }
            budget::give_back(member, number).unwrap();
            assert!(used() <= MAX);
        });
    }
    let victim = choose(victims);
    // The supervisor gives back what a child had that never was.
    model.process_after(&[0, 1, 2], |member| {
        (3..6).for_each(|child| budget::give_back(member, child).unwrap());
        budget::take(member, 3, MAX, MAX).unwrap();
        budget::give_back(member, 3).unwrap();
    });
    model.run_to_death_of(victim);
    assert_eq!(arena.header().unwrap().memory.used(), 0);
}

/// Two who spawn a process each, one that stands by, and the supervisor, which sees to whatever has none. Each slot gets one
/// process, unless who asked for it is dead; and who isn't taken stands by for the next.
fn a_standby(victims: &[u32]) {
    const STANDBY: u32 = 2;
    const SUPERVISOR: u32 = 3;
    let pid_of = |process: u32| 100 + process;
    let slot_for = |spawner: u32| spawner + 4;
    let mut model = Model::new();
    let arena = model.arena.clone();
    standby::vacate(&arena).unwrap().pid().store(pid_of(STANDBY), Ordering::SeqCst);
    let set = |arena: &Arena, slot, state| {
        table::update(arena, slot, |old| Some(StateWord { state, ..old })).unwrap();
    };
    let has = |arena: &Arena, slot, state| table::state(arena, slot).unwrap().state == state;
    // What `Children` and `Process::become_spawned` do.
    let started = log();
    let run = {
        let started = started.clone();
        move |arena: &Arena, slot: u32, pid: u32| {
            arena.process_id(slot).unwrap().store(pid, Ordering::SeqCst);
            set(arena, slot, State::Running);
            started.lock().unwrap().push(slot);
            arena
                .process(u32::from(table::state(arena, slot).unwrap().parent))
                .unwrap()
                .event
                .notify_all(arena);
        }
    };
    for spawner in 0..2 {
        let slot = slot_for(spawner);
        let parent = spawner as u16;
        let reserved = |old| Some(StateWord { parent, state: State::Reserved, ..old });
        table::update(&arena, slot, reserved).unwrap();
        model.process(move |member| {
            let arena = &*member.arena;
            let claim = standby::claim(arena, slot);
            set(arena, slot, State::Spawning);
            if let Some(claim) = claim {
                claim.go();
            }
            table::request(arena, slot).unwrap();
            while has(arena, slot, State::Spawning) {
                let event = &member.slot().unwrap().event;
                event.sleep_for_supervisor(|| !has(arena, slot, State::Spawning));
            }
        });
    }
    let gone = Arc::new(Mutex::new(false));
    let (start, leaves) = (run.clone(), gone.clone());
    model.process(move |member| {
        let place = &member.arena.header().unwrap().standbys[0];
        let (slot, _) = place.stand_by(&member.arena).unwrap();
        start(&member.arena, slot, pid_of(STANDBY));
        *leaves.lock().unwrap() = true;
    });
    // It does one thing after the other.
    let busy = Arc::new(shuttle::sync::Mutex::new(()));
    let (start, serves, left) = (run.clone(), busy.clone(), gone.clone());
    model.process(move |member| {
        let arena = &*member.arena;
        let is_settled = |spawner| {
            !has(arena, slot_for(spawner), State::Reserved) && !has(arena, slot_for(spawner), State::Spawning)
        };
        while !(0..2).all(is_settled) {
            let serving = serves.lock().unwrap();
            for slot in table::take_requests(arena) {
                if has(arena, slot, State::Spawning)
                    && !standby::is_claimed(arena, slot)
                    && arena.process_id(slot).unwrap().load(Ordering::Acquire) == 0
                {
                    start(arena, slot, pid_of(slot));
                }
            }
            drop(serving);
            thread::yield_now();
        }
        // Who still stands by is ready, and can be had.
        while !*left.lock().unwrap() {
            if let Some(claim) = standby::claim(arena, SUPERVISOR) {
                set(arena, SUPERVISOR, State::Spawning);
                claim.go();
                break;
            }
            thread::yield_now();
        }
    });
    let (there, buries) = (arena.clone(), busy);
    model.on_found = Some(Box::new(move |dead| {
        let _burying = buries.lock().unwrap();
        let arena = &*there;
        if dead != STANDBY {
            let slot = slot_for(dead);
            let goes = standby::abandon(arena, slot);
            if !goes && arena.process_id(slot).unwrap().load(Ordering::Acquire) == 0 {
                table::free(arena, slot, |_| true).unwrap();
            }
            return;
        }
        let stood_by = standby::ended(arena, pid_of(dead));
        let own = |slot: &u32| arena.process_id(*slot).unwrap().load(Ordering::Acquire) == pid_of(dead);
        if let Some(slot) = (SUPERVISOR..PROCESSES).find(own) {
            set(arena, slot, State::Exited);
            let parent = u32::from(table::state(arena, slot).unwrap().parent);
            arena.process(parent).unwrap().event.wake_all(arena);
        } else if let Some(Some(slot)) = stood_by
            && has(arena, slot, State::Spawning)
            && slot != SUPERVISOR
        {
            run(arena, slot, pid_of(slot));
        }
        *gone.lock().unwrap() = true;
    }));
    let died = model.run(victims);
    let started = started.lock().unwrap();
    for spawner in (0..2).filter(|spawner| died != Some(*spawner)) {
        let slot = slot_for(spawner);
        let times = started.iter().filter(|one| **one == slot).count();
        assert!(times == 1 || times == 0 && has(&arena, slot, State::Exited), "{started:?}");
    }
    assert!(started.iter().collect::<BTreeSet<_>>().len() == started.len(), "twice: {started:?}");
    assert!(standby::wanted(&arena).is_some() && standby::pids(&arena).next().is_none());
}

/// Waits for several objects. The first that is ready.
fn wait_for_any(member: &Member, handles: &[Handle]) -> usize {
    let targets: Vec<_> = handles.iter().map(|handle| kind::waitable(member, *handle).unwrap()).collect();
    let events = targets.iter().map(|target| target.changed());
    let look = || targets.iter().position(|target| target.is_ready());
    super::event::wait_for_any(member, events, NEVER, look).unwrap()
}

/// Two who wait for an item, and for an event; and those who see to it.
fn several(victims: &[u32]) {
    let mut model = Model::new();
    let queue = model.share(queue::create(&model.maker(), 0, Account::Nothing).unwrap());
    let event = model.share(event::create(&model.maker()).unwrap());
    for _ in 0..2 {
        model.process(move |member| {
            let mut wanted = vec![queue, event];
            while !wanted.is_empty() {
                let found = wait_for_any(member, &wanted);
                wanted.remove(found);
            }
        });
    }
    let put = move |member: &Member| queue::put(member, port(member, queue), &[1], &[], NEVER).unwrap();
    let set = move |member: &Member| event::set(member, of(member, event)).unwrap();
    model.process(put);
    model.process(set);
    if !victims.is_empty() {
        model.process_after(&[2], put);
        model.process_after(&[3], set);
    }
    model.run(victims);
}

/// Two who want an item each, and wait for it and for something else, and two who put one. One who finds it gone waits
/// again.
fn an_item_of_several(victims: &[u32]) {
    let mut model = Model::new();
    let queue = model.share(queue::create(&model.maker(), 0, Account::Nothing).unwrap());
    let event = model.share(event::create(&model.maker()).unwrap());
    for _ in 0..2 {
        model.process(move |member| {
            loop {
                assert_eq!(wait_for_any(member, &[queue, event]), 0);
                match queue::get(member, port(member, queue), || false, &mut [0; SHORT], Deadline::NOW) {
                    Ok(_) => return,
                    Err(error) => assert_eq!(error, Errno::Again),
                }
            }
        });
    }
    let put = move |member: &Member| {
        queue::put(member, port(member, queue), &item(0, 0, SHORT), &[], NEVER).unwrap();
    };
    model.process(put);
    model.process(put);
    if victims.contains(&2) {
        // What one who died was to put.
        model.process_after(&[2], put);
    }
    model.run(victims);
}
