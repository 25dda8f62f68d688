//! The dispatcher with its lock and its arena, but without processes.

use std::sync::mpsc;
use std::thread;

use nix::sys::eventfd::EventFd;
use sandpool_abi::process::ExitStatus;
use sandpool_abi::task::{Claims, DELIVERED};
use sandpool_scheduler::{Entry, UNREADY_MAX};

use super::results::NONSENSE_MAX;
use super::turns::{DEPTH_MAX, DEPTH_MIN, DEPTH_NANOS};
use super::*;
use crate::GuestText;
use crate::ipc::arena::{Arena, Geometry};
use crate::ipc::process_table;
use crate::pool::TaskFuture;
use crate::pool::link::Ended;
use crate::pool::outcome::Completed;
use crate::testing::deadline::within_deadline;
use crate::wire::{Isolation, Output, RecordKind, ResultRecord, Setup, Used};

const RULES: Rules = Rules {
    task_timeout: None,
    start_timeout: None,
    retries: 0,
    has_initializer: false,
    bytes_max: 1 << 20,
    arena_size: 1 << 20,
    output_max: 1 << 20,
};

/// A pool whose supervisor starts no process, and the supervisor's end of the socket.
fn pool() -> (Arc<Shared>, OwnedFd) {
    pool_with(RULES)
}

/// The same pool, whose submitted tasks reach no worker.
pub(in crate::pool) fn pool_that_is_busy() -> (Arc<Shared>, OwnedFd) {
    let (shared, theirs) = pool();
    // No more than these are put at once.
    shared.submit((0..DEPTH_MIN).map(|_| task())).unwrap();
    (shared, theirs)
}

fn pool_with(rules: Rules) -> (Arc<Shared>, OwnedFd) {
    let geometry = Geometry { processes_max: 8, objects_max: 8, heap_pages: 256 };
    let (memory, arena) = Arena::create(geometry).unwrap();
    process_table::reserve(&arena, None, b"owner", 0).unwrap();
    let setup = Setup {
        isolation: Isolation::Worker,
        output: Output::Discard,
        output_max: 0,
        objects_max: 0,
        processes_max: 0,
        max_tasks: 0,
        initializer: None,
    };
    let doorbell = OwnedFd::from(EventFd::new().unwrap());
    let (link, waiter) = Link::new(&memory, doorbell, geometry, &setup).unwrap();
    let (socket, theirs) = control::pair().unwrap();
    (Shared::new(link, waiter, Arc::new(socket), rules, 1), theirs)
}

fn task() -> Task {
    let (_, cell) = TaskFuture::<()>::new("task".into(), Completed::decode);
    Task::new("task".into(), 0, b"input", Sink::Cell(cell))
}

/// The result of the first task.
fn result_of_first(kind: RecordKind, payload: &[u8]) -> ResultRecord<'_> {
    ResultRecord { number: 0, kind, nanos: 1, used: Used::default(), stdout: &[], stderr: &[], payload }
}

#[test]
fn a_pool_is_terminated_while_somebody_works_with_its_core() {
    within_deadline(terminate_while_somebody_works);
}

fn terminate_while_somebody_works() {
    let (shared, theirs) = pool();
    shared.submit([task(), task()]).unwrap();
    let core = locked(&shared.core);
    let (sender, terminated) = mpsc::channel();
    let other = shared.clone();
    let terminating = thread::spawn(move || {
        other.terminate();
        sender.send(()).unwrap();
    });
    // Termination waits for nobody.
    terminated.recv_timeout(Duration::from_secs(60)).unwrap();
    let request: Option<Request> = control::receive_message(theirs.as_fd()).unwrap();
    assert!(matches!(request, Some(Request::Stop(signal)) if signal == Signal::SIGKILL as i32));
    drop(core);
    assert_eq!(shared.ended(), Some(PoolEnd::Terminated));
    assert_eq!(shared.stats().failed, 2);
    assert!(matches!(shared.submit([task()]), Err(Failure::PoolEnded(PoolEnd::Terminated))));
    terminating.join().unwrap();
}

/// Records in the queue of results that name no task at work.
#[test]
fn what_is_no_result_changes_nothing_and_ends_the_pool_if_it_goes_on() {
    let (shared, _theirs) = pool();
    shared.submit([task(), task()]).unwrap();
    let mut core = locked(&shared.core);
    let record = |number, kind| ResultRecord {
        number,
        kind,
        nanos: u64::MAX,
        used: Used::default(),
        stdout: &[],
        stderr: &[],
        payload: &[],
    };
    for kind in [RecordKind::Ready, RecordKind::NotReady, RecordKind::Retired] {
        assert!(!core.take_result(record(0, kind), nanos_now()), "{kind:?}");
    }
    for number in [2, u64::MAX] {
        assert!(!core.take_result(record(number, RecordKind::Done), nanos_now()));
    }
    assert_eq!((tasks_under_way(&core), core.stats.succeeded), (2, 0));
    // The task's time is at most the time that this side has seen, and so is its processor time.
    let used = Used { cpu: u64::MAX, memory: 0 };
    assert!(core.take_result(ResultRecord { used, ..record(1, RecordKind::Done) }, nanos_now()));
    assert!(!core.take_result(record(1, RecordKind::Done), nanos_now()), "once");
    let Some((_, Ok(Completed { usage, .. }))) = core.done.last() else { panic!("no result") };
    assert_eq!((usage.cpu, usage.peak_memory), (Some(usage.wall), None));
    assert!(core.stats.busy < Duration::from_secs(60) && core.mean_nanos < 60_000_000_000);
    assert!(core.take_result(record(0, RecordKind::Failed), nanos_now()));
    assert_eq!((tasks_under_way(&core), core.stats.succeeded, core.stats.failed), (0, 1, 1));
    core.nonsense = NONSENSE_MAX + 1;
    core.step();
    assert_eq!(core.phase, Phase::Ended(PoolEnd::Damaged));
}

const KILLED: ExitStatus = ExitStatus::Signaled(crate::Signal::KILL);

/// A worker that has claimed these tasks, and how it ended. The worker had begun the first of them, or none.
fn ended(claimed: std::ops::Range<u64>, has_begun: bool, status: ExitStatus) -> (Worker, Ended) {
    let (first, end, work) = (claimed.start, claimed.end, u64::from(has_begun));
    let claims = Claims { first, end, work, since: 0, part: 0, reserved: 0 };
    (worker(), Ended { claims, status, stderr: b"its last words".to_vec() })
}

fn worker() -> Worker {
    Worker { handle: ProcessHandle::new(1, 1), name: "worker".to_owned(), pid: 1 }
}

fn tasks_under_way(core: &Core) -> u64 {
    core.scheduler.under_way().tasks
}

/// The numbers and attempts of the tasks that wait.
fn waiting(core: &Core) -> Vec<(u64, u32)> {
    let task = |entry: &Entry<Item>| Some((entry.work.task()?.number, entry.attempts()));
    core.scheduler.backlog().filter_map(task).collect()
}

/// Events since the last time.
fn told(events: &mpsc::Receiver<Event>) -> Vec<Event> {
    events.try_iter().collect()
}

/// Leftovers of an attempt must not be taken for the next one's.
#[test]
fn a_task_that_is_tried_again_is_as_new_but_for_its_attempts() {
    let timeout = Duration::from_secs(1);
    let (shared, _theirs) = pool_with(Rules { retries: 2, task_timeout: Some(timeout), ..RULES });
    let (sender, events) = mpsc::channel();
    shared.listen(sender);
    let (future, cell) = TaskFuture::<()>::new("task".into(), Completed::decode);
    shared.submit([Task::new("task".into(), 0, b"input", Sink::Cell(cell))]).unwrap();
    let mut core = locked(&shared.core);
    let is_late = |core: &mut Core, number| match core.scheduler.get_mut(number) {
        Some(Entry { work: Item::Task(task), .. }) => task.is_late = true,
        other => panic!("{other:?}"),
    };
    // The first attempt takes too long.
    is_late(&mut core, 0);
    let (worker, how) = ended(0..1, true, KILLED);
    core.worker_has_ended(worker, true, how);
    assert_eq!(waiting(&core), [(0, 1)]);
    assert!(core.scheduler.backlog().all(|entry| entry.work.task().is_some_and(|task| !task.is_late)));
    let retried = |cause: Failure, attempt| Event::Retried { number: 0, task: "task".into(), cause, attempt };
    assert_eq!(told(&events).last(), Some(&retried(Failure::TimedOut(timeout), 2)));
    // The second attempt crashes, and not because of its time.
    core.refill();
    let (worker, how) = ended(1..2, true, ExitStatus::Exited(3));
    core.worker_has_ended(worker, true, how);
    assert_eq!(told(&events).last(), Some(&retried(Failure::Ended(ExitStatus::Exited(3)), 3)));
    // The third worker has claimed the task and begun nothing: this is no attempt.
    core.refill();
    let (worker, how) = ended(2..3, false, KILLED);
    core.worker_has_ended(worker, true, how);
    // The next attempt is the last.
    core.refill();
    let (worker, how) = ended(3..4, true, ExitStatus::Exited(4));
    core.worker_has_ended(worker, true, how);
    let Stats { retried, failed, workers_lost, .. } = core.stats;
    assert_eq!((retried, failed, workers_lost, tasks_under_way(&core)), (2, 1, 4, 0));
    let done = std::mem::take(&mut core.done);
    drop(core);
    pass_on(done);
    let error = within_deadline(|| future.result()).unwrap_err();
    assert_eq!((error.cause, error.attempts), (Failure::Ended(ExitStatus::Exited(4)), 3));
    assert_eq!(error.stderr, GuestText::from_bytes(b"its last words"));
}

/// Before what is still to be put: first what wasn't begun, then the task that the worker was at.
#[test]
fn what_a_dead_worker_has_claimed_is_given_out_again_before_the_rest() {
    within_deadline(bury_workers_with_claims);
}

fn bury_workers_with_claims() {
    for has_begun in [true, false] {
        let (shared, _theirs) = pool_with(Rules { bytes_max: u64::MAX, retries: 1, ..RULES });
        let mut core = locked(&shared.core);
        // More tasks than are put at once.
        core.mean_nanos = DEPTH_NANOS / 5;
        drop(core);
        shared.submit((0..8).map(|_| task())).unwrap();
        core = locked(&shared.core);
        assert_eq!((tasks_under_way(&core), core.scheduler.waiting()), (5, 3));
        let (worker, how) = ended(0..3, has_begun, KILLED);
        core.worker_has_ended(worker, true, how);
        let again = if has_begun { [(1, 0), (2, 0), (0, 1)] } else { [(0, 0), (1, 0), (2, 0)] };
        let rest = [(5, 0), (6, 0), (7, 0)];
        assert_eq!(waiting(&core), [again, rest].concat());
        // Tasks that the worker hasn't claimed are still in the queue, and no other worker has them.
        assert_eq!((core.stats.failed, tasks_under_way(&core)), (0, 2));
    }
}

/// A worker that ended while it delivered a result has begun the task, whatever it says that it works on.
#[test]
fn a_worker_that_has_ended_in_delivery_has_begun() {
    let (shared, _theirs) = pool();
    shared.submit([task()]).unwrap();
    let mut core = locked(&shared.core);
    let (worker, mut how) = ended(0..1, false, ExitStatus::Exited(0));
    how.claims.part = DELIVERED;
    core.worker_has_ended(worker, true, how);
    assert_eq!((core.stats.failed, core.stats.workers_lost, core.scheduler.waiting()), (1, 1, 0));
}

/// Somebody may have killed one worker. Repeated kills are no coincidence.
#[test]
fn workers_that_are_killed_before_they_are_ready_end_the_pool_after_some() {
    let (shared, _theirs) = pool();
    let mut core = locked(&shared.core);
    for is_over in [false, true] {
        for lost in 0..UNREADY_MAX {
            assert_eq!((core.stats.workers_lost, &core.phase), (u64::from(lost), &Phase::Running));
            let (worker, how) = ended(0..0, false, KILLED);
            core.worker_has_ended(worker, false, how);
        }
        if is_over {
            break;
        }
        // A worker that becomes ready resets the count.
        core.crew.add(worker(), 0);
        let number = worker().handle.0;
        assert!(core.worker_is_ready(number) && !core.worker_is_ready(number));
        core.stats.workers_lost = 0;
    }
    assert_eq!(core.phase, Phase::Running);
    let (worker, how) = ended(0..0, false, KILLED);
    core.worker_has_ended(worker, false, how);
    let Phase::Ended(PoolEnd::Worker(why)) = &core.phase else { panic!("{:?}", core.phase) };
    assert!(why.raw().starts_with(&KILLED.to_string()) && why.raw().ends_with(": its last words"), "{why:?}");
    // An end that doesn't come from outside isn't tried a second time.
    for status in [ExitStatus::Exited(1), ExitStatus::Exited(0), ExitStatus::Forbidden] {
        let (shared, _theirs) = pool_with(Rules { has_initializer: true, ..RULES });
        let mut core = locked(&shared.core);
        let (worker, how) = ended(0..0, false, status);
        core.worker_has_ended(worker, false, how);
        assert!(matches!(core.phase, Phase::Ended(PoolEnd::Initializer(_))), "{:?}", core.phase);
    }
}

#[test]
fn tasks_wait_where_they_can_be_cancelled_while_workers_have_enough() {
    let (shared, _theirs) = pool();
    // The depth is what the workers do in a moment, within bounds.
    for (mean, depth) in [
        (0, DEPTH_MIN),
        (1, DEPTH_MAX),
        (DEPTH_NANOS / 10, 10),
        (u64::MAX, DEPTH_MIN),
        (DEPTH_NANOS, DEPTH_MIN),
    ] {
        locked(&shared.core).mean_nanos = mean;
        assert_eq!(shared.depth(), depth, "{mean}");
    }
    // The bytes are bounded as well, except for a single task.
    let (shared, _theirs) = pool_with(Rules { bytes_max: 100, ..RULES });
    locked(&shared.core).mean_nanos = 1;
    let of = |len: usize| {
        let (_, cell) = TaskFuture::<()>::new("task".into(), Completed::decode);
        Task::new("task".into(), 0, &vec![0; len], Sink::Cell(cell))
    };
    shared.submit([of(1000), of(10), of(10), of(10), of(10), of(10)]).unwrap();
    let mut core = locked(&shared.core);
    assert_eq!((tasks_under_way(&core), core.scheduler.waiting()), (1, 5));
    assert!(core.scheduler.finished(0).is_some());
    core.refill();
    let each = of(10).record.len() as u64;
    assert_eq!(tasks_under_way(&core), 100 / each);
    assert_eq!(core.scheduler.under_way().bytes, 100 / each * each);
}

/// Whichever process puts nonsense into the queue, later results are still read.
#[test]
fn too_much_nonsense_ends_the_pool_and_a_little_does_not() {
    let (shared, _theirs) = pool();
    let mut core = locked(&shared.core);
    for _ in 0..NONSENSE_MAX {
        core.link.put_result(b"nonsense").unwrap();
    }
    within_deadline(|| core.step());
    assert_eq!((&core.phase, core.nonsense), (&Phase::Running, NONSENSE_MAX));
    core.link.put_result(b"").unwrap();
    within_deadline(|| core.step());
    assert_eq!(core.phase, Phase::Ended(PoolEnd::Damaged));
}

#[test]
fn what_was_cancelled_comes_to_no_worker() {
    let (shared, _theirs) = pool_that_is_busy();
    let (future, cell) = TaskFuture::<()>::new("task".into(), Completed::decode);
    shared.submit([Task::new("task".into(), 0, b"input", Sink::Cell(cell)), task()]).unwrap();
    assert!(future.cancel());
    let mut core = locked(&shared.core);
    assert_eq!(core.scheduler.waiting(), 2);
    assert!((0..DEPTH_MIN).all(|number| core.scheduler.finished(number).is_some()));
    core.refill();
    assert_eq!((tasks_under_way(&core), core.stats.failed, core.scheduler.waiting()), (1, 1, 0));
}

#[test]
fn a_worker_that_is_not_ready_in_time_ends_the_pool() {
    for (since, is_ready, ends) in [(0, false, true), (0, true, false), (nanos_now(), false, false)] {
        let timeout = Duration::from_secs(1000);
        let (shared, _theirs) = pool_with(Rules { start_timeout: Some(timeout), ..RULES });
        let mut core = locked(&shared.core);
        // A worker with `since` 0 was asked for when the machine started.
        core.crew.add(worker(), since);
        if is_ready {
            assert!(core.worker_is_ready(worker().handle.0));
        }
        core.rules.start_timeout = Some(if since == 0 { Duration::from_nanos(1) } else { timeout });
        core.look_after_starts();
        assert_eq!(matches!(core.phase, Phase::Ended(PoolEnd::Worker(_))), ends);
    }
}

/// The reason is termination, whatever else follows from killing all workers.
#[test]
fn a_pool_that_was_terminated_says_so() {
    let (shared, _theirs) = pool();
    shared.submit([task()]).unwrap();
    shared.is_terminated.store(true, Ordering::SeqCst);
    let mut core = locked(&shared.core);
    core.end(PoolEnd::Damaged);
    assert_eq!(core.phase, Phase::Ended(PoolEnd::Terminated));
    // The first reason is kept.
    core.end(PoolEnd::Closed);
    assert_eq!((&core.phase, core.stats.failed), (&Phase::Ended(PoolEnd::Terminated), 1));
}

#[test]
fn what_was_submitted_before_a_pool_was_closed_is_done() {
    let (shared, _theirs) = pool_that_is_busy();
    shared.submit([task(), task()]).unwrap();
    shared.close();
    assert!(matches!(shared.submit([task()]), Err(Failure::NotRunning)));
    let mut core = locked(&shared.core);
    assert_eq!((core.scheduler.waiting(), &core.phase), (2, &Phase::Closing));
    assert!((0..DEPTH_MIN).all(|number| core.scheduler.finished(number).is_some()));
    core.refill();
    assert_eq!((tasks_under_way(&core), core.scheduler.waiting(), &core.phase), (2, 0, &Phase::Closing));
}

/// Closed, not ended: until the last worker has left.
#[test]
fn a_pool_that_is_closing_waits_for_its_tasks_and_then_for_its_workers() {
    let (shared, _theirs) = pool();
    shared.submit([task(), task()]).unwrap();
    shared.close();
    let mut core = locked(&shared.core);
    within_deadline(|| core.step());
    assert_eq!((tasks_under_way(&core), core.crew.len(), &core.phase), (2, 1, &Phase::Closing));
    assert!((0..2).all(|number| core.scheduler.finished(number).is_some()));
    within_deadline(|| core.step());
    assert_eq!((core.crew.len(), &core.phase), (1, &Phase::Closed));
    let _ = core.crew.take_all();
    within_deadline(|| core.step());
    assert_eq!(core.phase, Phase::Ended(PoolEnd::Closed));
}

#[test]
fn a_pool_that_can_start_no_worker_ends() {
    let (shared, _theirs) = pool();
    let mut core = locked(&shared.core);
    while core.link.start_worker().is_ok() {}
    within_deadline(|| core.step());
    assert!(matches!(core.phase, Phase::Ended(PoolEnd::Worker(_))), "{:?}", core.phase);
}

/// More often than there are slots.
#[test]
fn a_worker_that_could_not_be_started_leaves_its_slot() {
    let (shared, _theirs) = pool();
    let mut core = locked(&shared.core);
    for _ in 0..20 {
        let worker = core.link.start_worker().unwrap();
        core.link.fails_to_start(worker).unwrap();
        assert!(core.link.has_ended(worker) && core.link.bury(worker).is_err());
    }
}

#[test]
fn only_what_ended_the_process_is_tried_again() {
    let (shared, _theirs) = pool_with(Rules { retries: 2, ..RULES });
    shared.submit([task(), task()]).unwrap();
    let mut core = locked(&shared.core);
    let record = result_of_first(RecordKind::Failed, &[]);
    assert!(core.take_result(record, nanos_now()));
    assert_eq!((core.stats.failed, core.stats.retried, core.scheduler.waiting()), (1, 0, 0));
    let (worker, how) = ended(1..2, true, KILLED);
    core.worker_has_ended(worker, true, how);
    assert_eq!((core.stats.failed, core.stats.retried, core.scheduler.waiting()), (1, 1, 1));
}

/// Its time was over, and it failed before it could be killed.
#[test]
fn a_late_task_that_has_failed_by_itself_has_its_own_cause() {
    let (shared, _theirs) = pool_with(Rules { task_timeout: Some(Duration::from_secs(1)), ..RULES });
    shared.submit([task()]).unwrap();
    let mut core = locked(&shared.core);
    let Some(Entry { work: Item::Task(task), .. }) = core.scheduler.get_mut(0) else { panic!("no task") };
    task.is_late = true;
    let record = result_of_first(RecordKind::Failed, b"why");
    assert!(core.take_result(record, nanos_now()));
    let Some((_, Err(error))) = core.done.last() else { panic!("it has not failed") };
    assert_eq!(error.cause, Failure::Failed(GuestText::from_bytes(b"why")));
}

#[test]
fn processes_that_nobody_asked_for_end_the_pool() {
    let (shared, _theirs) = pool();
    let mut core = locked(&shared.core);
    let (worker, how) = ended(0..0, false, ExitStatus::Strays(3));
    core.worker_has_ended(worker, true, how);
    assert_eq!(core.phase, Phase::Ended(PoolEnd::Strays(3)));
}

/// A worker's last results may come between two looks at the queue.
#[test]
fn results_of_a_worker_that_has_ended_are_taken_before_it_is_buried() {
    within_deadline(bury_workers_with_results);
}

fn bury_workers_with_results() {
    let (shared, _theirs) = pool();
    shared.submit([task()]).unwrap();
    let mut core = locked(&shared.core);
    let mut record = Vec::new();
    let payload = [0; sandpool_abi::queue::BATCH_ITEM_MAX];
    let result = result_of_first(RecordKind::Done, &payload);
    result.encode(&mut record);
    core.link.put_result(&record).unwrap();
    // More than one turn takes: each of these is a batch by itself.
    for _ in 0..20 {
        core.link.put_result(&record).unwrap();
    }
    // No process has this number any more.
    core.crew.add(worker(), nanos_now());
    assert!(core.worker_is_ready(worker().handle.0));
    core.look_after_workers();
    assert_eq!((core.stats.succeeded, core.crew.len(), &core.phase), (1, 1, &Phase::Running));
    core.look_after_workers();
    assert_eq!(core.crew.len(), 0);
}

/// Results that have pages of their own.
#[test]
fn large_results_leave_no_memory_behind() {
    let (shared, _theirs) = pool();
    let mut core = locked(&shared.core);
    for _ in 0..300 {
        core.link.put_result(&[0; 2 * sandpool_abi::queue::BATCH_ITEM_MAX]).unwrap();
        within_deadline(|| core.step());
    }
    assert_eq!((core.nonsense, &core.phase), (300, &Phase::Running));
}

/// Otherwise another worker would be started in the place of one that has left, or none in the place of one that has died.
#[test]
fn whoever_was_asked_to_leave_is_not_asked_any_more_once_gone() {
    let done = ExitStatus::Exited(0);
    for (claimed, has_begun, status) in [(0..0, false, done), (0..1, true, KILLED), (0..1, false, KILLED)] {
        let (shared, _theirs) = pool();
        let mut core = locked(&shared.core);
        core.scheduler.put_at_once(Item::Retire);
        core.crew.ask_one_to_leave();
        // The one that stays.
        core.crew.add(worker(), 0);
        assert_eq!(core.crew.missing(), 1);
        let what = format!("{claimed:?} {has_begun}");
        let (worker, how) = ended(claimed, has_begun, status);
        core.worker_has_ended(worker, true, how);
        assert_eq!((core.crew.missing(), core.stats.failed, core.scheduler.waiting()), (0, 0, 0), "{what}");
    }
}

/// Each look by itself, with times as if the looks were long apart.
#[test]
fn a_pool_starves_only_if_nothing_moves_for_long() {
    let (shared, _theirs) = pool_that_is_busy();
    shared.submit([task()]).unwrap();
    let mut core = locked(&shared.core);
    // A task waits, and finds no room in the arena.
    assert!((0..DEPTH_MIN).all(|number| core.scheduler.finished(number).is_some()));
    type Change = fn(&mut Core);
    let cases: [(&str, Change, bool); 6] = [
        ("starved", |_| {}, true),
        ("something was freed", |core| core.moved.1 += 1, false),
        ("more results have come", |core| core.has_more = true, false),
        ("there was room", |core| core.is_stuck = false, false),
        ("something moved a moment ago", |core| core.moved.0 = nanos_now(), false),
        // Of a worker without a process nobody knows what it does.
        ("a worker may be at work", |core| core.crew.add(worker(), 0), false),
    ];
    for (what, change, is_starved) in cases.into_iter().rev() {
        let _ = core.crew.take_all();
        core.moved = (0, core.link.frees());
        (core.has_more, core.is_stuck, core.starved) = (false, true, Some(0));
        change(&mut core);
        core.look_after_room();
        assert_eq!(core.starved.is_some(), is_starved, "{what}");
        assert_eq!(matches!(core.phase, Phase::Ended(PoolEnd::Limited(_))), is_starved, "{what}");
    }
}

/// A worker is done with its task, and waits for room for the result.
#[test]
fn a_pool_that_cannot_deliver_a_result_is_starved() {
    let (shared, _theirs) = pool_that_is_busy();
    let mut core = locked(&shared.core);
    let handle = core.link.start_worker().unwrap();
    core.crew.add(Worker { handle, ..worker() }, 0);
    for is_delivering in [false, true] {
        if is_delivering {
            core.link.is_delivering(handle).unwrap();
        }
        core.moved = (0, core.link.frees());
        (core.has_more, core.is_stuck, core.starved) = (false, false, Some(0));
        core.look_after_room();
        assert_eq!(matches!(core.phase, Phase::Ended(PoolEnd::Limited(_))), is_delivering);
    }
}

#[test]
fn a_pool_is_not_starved_at_the_first_look() {
    let (shared, _theirs) = pool_that_is_busy();
    shared.submit([task()]).unwrap();
    let mut core = locked(&shared.core);
    assert!((0..DEPTH_MIN).all(|number| core.scheduler.finished(number).is_some()));
    (core.moved, core.is_stuck) = ((0, core.link.frees()), true);
    core.look_after_room();
    assert_eq!((core.starved.is_some(), &core.phase), (true, &Phase::Running));
}
