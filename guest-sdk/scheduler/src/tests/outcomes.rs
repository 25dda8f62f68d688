//! Random orders of everything that can happen, hostile workers included.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Submit(u32),
    GiveOut {
        most: usize,
        room: usize,
        is_too_large: bool,
    },
    /// The last result of an entry, perhaps of any that was ever put.
    Finished(u64, u32, Option<u32>),
    PartlyFinished(u64, u32, Option<u32>),
    /// A worker has died, also because its task was late.
    Death(Claims, u32, bool),
    Cancel(u32),
    GiveUpWaiting(u32),
    StartOver,
    End,
}

/// Numbers near those of the ledger, whatever they are now, and any other.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..24u64, 1 => u64::MAX - 3..=u64::MAX, 1 => any::<u64>()]
}

fn step() -> impl Strategy<Value = Step> {
    let parts = || prop_oneof![9 => 0..6u32, 1 => Just(u32::MAX)];
    let failed = || proptest::option::of(0..4u32);
    let claims = (number(), prop_oneof![8 => 0..6u64, 1 => any::<u64>()], any::<bool>());
    let claims = claims.prop_map(|(first, count, has_begun)| {
        // A worker may also claim that the end is before the beginning.
        Claims { first, end: first.wrapping_add(count), has_begun }
    });
    prop_oneof![
        6 => (0..5u32).prop_map(Step::Submit),
        8 => (0..9usize, 0..9usize, prop::bool::weighted(0.2))
            .prop_map(|(most, room, is_too_large)| Step::GiveOut { most, room, is_too_large }),
        6 => (number(), parts(), failed()).prop_map(|(number, parts, failed)| Step::Finished(number, parts, failed)),
        4 => (number(), parts(), failed())
            .prop_map(|(number, parts, failed)| Step::PartlyFinished(number, parts, failed)),
        5 => (claims, parts(), any::<bool>()).prop_map(|(claims, at, is_first)| Step::Death(claims, at, is_first)),
        1 => (0..4u32).prop_map(Step::Cancel),
        1 => (0..4u32).prop_map(Step::GiveUpWaiting),
        1 => Just(Step::StartOver),
        1 => Just(Step::End),
    ]
}

fn take(owner: &mut Owner, step: Step) {
    match step {
        Step::Submit(tasks) => owner.submit(tasks),
        Step::GiveOut { most, room, is_too_large } => owner.give_out(most, room, is_too_large),
        Step::Finished(number, parts, failed) => owner.finished(number, parts, failed),
        Step::PartlyFinished(number, parts, failed) => owner.partly_finished(number, parts, failed),
        Step::Death(claims, at, is_first) => owner.bury(claims, at, is_first),
        Step::Cancel(remainder) => owner.cancel(remainder),
        Step::GiveUpWaiting(remainder) => owner.give_up_waiting(remainder),
        Step::StartOver => owner.start_over(),
        Step::End => owner.end(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// In any order of results, parts of results, deaths with honest and other claims, cancellations, entries
    /// that are too large, new queues and the end of the pool.
    #[test]
    fn each_task_has_exactly_one_outcome(steps in prop::collection::vec(step(), 0..80)) {
        let mut owner = Owner::default();
        for step in steps {
            take(&mut owner, step);
            owner.check();
        }
        owner.end();
        owner.check();
        let expected: BTreeMap<_, _> = (0..owner.submitted).map(|id| (id, 1)).collect();
        prop_assert_eq!(owner.outcomes, expected);
    }

    /// A number that was never put, or whose entry is finished, names nothing: not even memory is reserved for it.
    #[test]
    fn a_number_that_is_not_at_work_names_nothing(
        put in 0..6u64, finished in prop::collection::vec(0..6u64, 0..4), number in number(),
    ) {
        let mut owner = Owner::default();
        (0..put).for_each(|_| owner.submit(2));
        owner.give_out(usize::MAX, usize::MAX, false);
        finished.iter().for_each(|number| owner.finished(*number, 2, None));
        let is_known = number < put && !finished.contains(&number);
        let capacity = owner.scheduler.ledger.capacity();
        prop_assert_eq!(owner.scheduler.get(number).is_some(), is_known);
        prop_assert_eq!(owner.scheduler.get_mut(number).is_some(), is_known);
        prop_assert_eq!(owner.scheduler.partly_finished(number, 1).is_some(), is_known);
        prop_assert_eq!(owner.scheduler.finished(number).is_some(), is_known);
        prop_assert!(owner.scheduler.finished(number).is_none());
        prop_assert!(owner.scheduler.partly_finished(number, 1).is_none());
        prop_assert_eq!(owner.scheduler.ledger.capacity(), capacity);
    }

    /// The worker's word on when it has begun counts only between `put_at` and the first look.
    #[test]
    fn a_task_is_late_after_its_time_whatever_its_worker_says(
        put_at in 1000..2000u64, looks in prop::collection::vec(0..500u64, 1..10), since in any::<u64>(),
    ) {
        let mut crew = Crew::new(1);
        crew.add((), 0);
        let worker = crew.iter_mut().next().unwrap();
        let first = put_at + looks[0];
        let mut now = put_at;
        for step in &looks {
            now += step;
            let time = worker.time_at(7, since, put_at, now);
            prop_assert!((now - first..=now - put_at).contains(&time));
            // An honest worker's word counts.
            if (put_at..=first).contains(&since) {
                prop_assert_eq!(time, now - since);
            }
        }
        // The time at another entry is another.
        prop_assert_eq!(worker.time_at(8, u64::MAX, put_at, now), 0);
    }
}
