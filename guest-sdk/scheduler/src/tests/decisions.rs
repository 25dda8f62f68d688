//! Single decisions.

use std::time::Duration;

use super::*;

fn ids(scheduler: &Scheduler<Chunk>) -> Vec<Vec<u32>> {
    scheduler.backlog().map(|entry| entry.work.ids.clone()).collect()
}

fn put(entries: u32, tasks: u32) -> Owner {
    let mut owner = Owner::default();
    (0..entries).for_each(|_| owner.submit(tasks));
    owner.give_out(usize::MAX, usize::MAX, false);
    owner
}

/// In the order in which they were submitted, and before what is still to be put.
#[test]
fn of_what_a_dead_worker_has_claimed_only_the_begun_is_an_attempt() {
    for has_begun in [true, false] {
        let mut owner = Owner::default();
        (0..8).for_each(|_| owner.submit(1));
        owner.give_out(5, 5, false);
        let claims = Claims { first: 0, end: 3, has_begun };
        let begun = owner.scheduler.take_begun(&claims);
        owner.scheduler.give_back(&claims, Some);
        let first = u32::from(has_begun);
        assert_eq!(begun.map(|entry| (entry.work.ids, entry.attempts)), has_begun.then_some((vec![0], 1)));
        assert_eq!(ids(&owner.scheduler), (first..3).chain(5..8).map(|id| vec![id]).collect::<Vec<_>>());
        assert!(owner.scheduler.backlog().all(|entry| entry.attempts() == 0), "none of these was begun");
        assert_eq!(owner.scheduler.under_way().tasks, 2);
        // Entries that others have claimed, or nobody, aren't this worker's.
        assert!(owner.scheduler.take_begun(&Claims { has_begun: true, ..claims }).is_none());
        // A count of claims that no honest worker has.
        let claims = Claims { first: 4, end: u64::MAX, has_begun: true };
        assert_eq!(owner.scheduler.take_begun(&claims).map(|entry| entry.work.ids), Some(vec![4]));
        owner.scheduler.give_back(&claims, Some);
        assert_eq!(owner.scheduler.under_way().tasks, 1);
        let none = Claims { first: 3, end: 3, has_begun: true };
        assert!(owner.scheduler.take_begun(&none).is_none(), "it has claimed nothing");
    }
}

/// A whole entry is tried again in front of others, and a part of an entry by itself.
#[test]
fn attempts_count_what_was_begun_and_end_retries() {
    let mut owner = put(1, 1);
    owner.submit(1);
    for attempt in 1..=3 {
        // A worker that has claimed the task and begun nothing: this is no attempt.
        let number = owner.scheduler.numbers().next().unwrap();
        let claims = Claims { first: number, end: number + 1, has_begun: false };
        owner.scheduler.give_back(&claims, Some);
        assert_eq!(owner.scheduler.backlog().map(Entry::attempts).next(), Some(attempt - 1));
        owner.scheduler.put(1, |_, _| {});
        let entry = owner.scheduler.finished(number + 1).unwrap();
        assert_eq!(entry.attempts(), attempt);
        let retried = owner.scheduler.retry(entry, 2);
        assert_eq!(retried.is_ok(), attempt < 3);
        assert_eq!(ids(&owner.scheduler).len(), if attempt < 3 { 2 } else { 1 });
        owner.scheduler.put(usize::from(attempt < 3), |_, _| {});
    }
}

/// A worker itself says which part it was at.
#[test]
fn what_is_done_is_not_given_out_again_whatever_the_worker_says() {
    let mut owner = put(1, 4);
    assert!(owner.scheduler.partly_finished(0, 2).is_some());
    let entry = owner.scheduler.finished(0).unwrap();
    for part in [4, u32::MAX - 1] {
        assert!(!owner.scheduler.retry_part(&entry, part, 9) && owner.scheduler.waiting() == 0);
    }
    for (from, left) in [(0, &[2, 3][..]), (1, &[2, 3]), (2, &[2, 3]), (3, &[3]), (4, &[]), (u32::MAX, &[])] {
        owner.scheduler.rest_not_begun(&entry, from);
        assert_eq!(ids(&owner.scheduler).concat(), left, "{from}");
        owner.scheduler.cancel(|_| true);
    }
}

#[test]
fn an_entry_that_is_too_large_is_split_in_its_place() {
    let mut owner = Owner::default();
    [1, 3, 1].into_iter().for_each(|tasks| owner.submit(tasks));
    assert_eq!(owner.scheduler.too_large().map(|entry| entry.work.ids), Some(vec![0]));
    assert!(owner.scheduler.too_large().is_none());
    assert_eq!(ids(&owner.scheduler), [[1], [2], [3], [4]]);
    assert!(Scheduler::<Chunk>::new().too_large().is_none());
}

/// Entries without tasks are counted, and never given out again.
#[test]
fn an_entry_without_tasks_is_for_the_worker_that_takes_it() {
    let mut owner = put(2, 0);
    assert_eq!((owner.scheduler.under_way().entries, owner.scheduler.under_way().tasks), (2, 0));
    let mut seen = 0;
    owner.scheduler.give_back(&Claims { first: 0, end: 1, has_begun: false }, |entry| {
        seen += 1;
        Some(entry)
    });
    assert_eq!((seen, owner.scheduler.waiting(), owner.scheduler.under_way().entries), (1, 0, 1));
    assert_eq!(owner.scheduler.drain().iter().map(|entry| entry.work.tasks()).collect::<Vec<_>>(), [0]);
    assert!(owner.scheduler.finished(1).is_none());
}

#[test]
fn numbers_go_on_after_a_drain_and_begin_again_with_a_new_queue() {
    let mut owner = put(2, 1);
    assert_eq!(owner.scheduler.drain().len(), 2);
    owner.submit(1);
    owner.give_out(9, 9, false);
    assert_eq!(owner.scheduler.numbers().collect::<Vec<_>>(), [2]);
    assert_eq!(owner.scheduler.start_over().len(), 1);
    owner.submit(1);
    owner.give_out(9, 9, false);
    assert_eq!(owner.scheduler.numbers().collect::<Vec<_>>(), [0]);
}

#[test]
fn workers_that_are_killed_before_they_are_ready_are_no_coincidence_after_some() {
    let mut crew = Crew::new(1);
    for _ in 0..3 {
        assert!((0..UNREADY_MAX).all(|_| crew.died_by_chance()));
        // A worker that becomes ready resets the count, once.
        crew.add('w', 0);
        assert!(crew.ready(|worker| *worker == 'v').is_none());
        assert!(crew.starting(|worker| *worker == 'w').is_some());
        assert!(crew.ready(|worker| *worker == 'w').is_some_and(|worker| worker.is_ready()));
        assert!(crew.ready(|worker| *worker == 'w').is_none());
        assert!(crew.starting(|worker| *worker == 'w').is_none());
        assert!(crew.remove(|worker| *worker == 'w').is_some() && crew.is_empty());
    }
    assert!((0..UNREADY_MAX).all(|_| crew.died_by_chance()));
    assert!(!crew.died_by_chance() && !crew.died_by_chance());
}

#[test]
fn workers_that_leave_are_replaced_and_too_many_are_asked_to_leave() {
    let mut crew = Crew::new(2);
    assert_eq!((crew.missing(), crew.surplus()), (2, 0));
    (0..2).for_each(|worker| crew.add(worker, 0));
    assert_eq!((crew.missing(), crew.surplus(), crew.len()), (0, 0, 2));
    // One that leaves by itself is replaced while it is still there.
    crew.find(|worker| *worker == 0).unwrap().leaves();
    assert_eq!((crew.missing(), crew.surplus()), (1, 0));
    crew.add(2, 0);
    assert!(crew.remove(|worker| *worker == 0).is_some());
    assert_eq!((crew.missing(), crew.surplus()), (0, 0));
    // Of those that were asked, nobody knows which will leave.
    assert_eq!((crew.resize(1), crew.wanted(), crew.surplus()), (2, 1, 1));
    crew.ask_one_to_leave();
    assert_eq!((crew.missing(), crew.surplus()), (0, 0));
    crew.resize(2);
    assert_eq!(crew.missing(), 1);
    crew.no_more_asked();
    crew.no_more_asked();
    assert_eq!((crew.missing(), crew.surplus()), (0, 0));
    let all = crew.take_all();
    assert_eq!((all.len(), crew.missing()), (2, 2));
    crew.take_back(all);
    assert_eq!(crew.iter().map(|worker| worker.of).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_worker_has_until_its_timeout_to_become_ready() {
    let timeout = Duration::from_nanos(10);
    let mut crew = Crew::new(2);
    assert_eq!(crew.until_ready(100, timeout), None);
    crew.add('a', 100);
    crew.add('b', 103);
    assert_eq!([100, 104, 110, 1000].map(|now| crew.until_ready(now, timeout)), [10, 6, 0, 0].map(Some));
    crew.ready(|worker| *worker == 'a');
    assert_eq!(crew.until_ready(110, timeout), Some(3));
    assert_eq!(crew.until_ready(110, Duration::MAX), Some(u64::MAX - 7));
    crew.ready(|worker| *worker == 'b');
    assert_eq!(crew.until_ready(110, timeout), None);
}

#[test]
fn a_task_is_late_from_its_timeout_on_and_overdue_much_later() {
    let timeout = Duration::from_secs(1);
    let second = 1_000_000_000;
    for (time, expected) in [
        (0, Lateness::InTime),
        (second - 1, Lateness::InTime),
        (second, Lateness::Late),
        (3 * second - 1, Lateness::Late),
        (3 * second, Lateness::Overdue),
        (u64::MAX, Lateness::Overdue),
    ] {
        assert_eq!(lateness(time, timeout), expected, "{time}");
    }
    assert_eq!(lateness(u64::MAX - 1, Duration::MAX), Lateness::InTime);
    // The next deadline is that of a task at work, or of one that begins now.
    assert_eq!(next_deadline(timeout, []), second);
    assert_eq!(next_deadline(timeout, [(timeout, 300), (timeout * 5, second)]), second - 300);
    assert_eq!(next_deadline(timeout, [(timeout, 2 * second)]), 0);
    assert_eq!(next_deadline(Duration::MAX, []), u64::MAX);
}

#[test]
fn a_pool_ends_once_and_goes_through_its_phases_in_order() {
    let mut phase = Phase::Running;
    assert!(phase.gives_out() && phase.ended().is_none());
    phase.close();
    assert_eq!(phase, Phase::Closing);
    assert!(phase.gives_out());
    phase = Phase::Closed;
    phase.close();
    assert_eq!(phase, Phase::Closed);
    assert!(!phase.gives_out() && !phase.has_ended());
    assert!(phase.end("first") && !phase.end("second"));
    phase.close();
    assert!(phase.has_ended() && !phase.gives_out());
    assert_eq!(phase.ended(), Some(&"first"));
}
