//! Operations on queues.

use sandpool_abi::Errno;
use sandpool_abi::task::{Claims, DELIVERED};

use super::{
    LARGE, SURVIVOR, VICTIM, World, at_each_instruction, drain, get, get_bytes, nothing, put, put_bytes,
};
use crate::ipc::object::{self, count_live};
use crate::ipc::queue::{self, Account};
use crate::ipc::tests::common::port;
use crate::sys::futex::Deadline;

tests! {
    put_small
    put_into_a_new_segment
    put_with_a_handle
    get_small
    get_from_the_next_segment
    get_with_a_handle
    create_a_queue
    release_a_queue_with_items
    close_a_queue
    get_from_a_joinable_queue
    say_that_a_task_is_done
    put_many_at_once
    get_many_at_once
    claim_tasks
    finish_a_claimed_item
}

fn fill_segment(world: &World) {
    // The first segment has room for one record less.
    for number in 1..=3 {
        put(&world.participant(SURVIVOR), world.queue, number, 1300, &[]);
    }
}

fn put_small() {
    at_each_instruction(
        |world| put(&world.participant(SURVIVOR), world.queue, 1, 16, &[]),
        |world, victim, buffer| put_bytes(victim, world.queue, &buffer[..16], &[]),
        |world| assert!(matches!(*drain(world), [1] | [1, 9])),
    );
}

fn put_into_a_new_segment() {
    at_each_instruction(
        fill_segment,
        |world, victim, buffer| put_bytes(victim, world.queue, &buffer[..1300], &[]),
        |world| assert!(matches!(*drain(world), [1, 2, 3] | [1, 2, 3, 9])),
    );
}

fn put_with_a_handle() {
    at_each_instruction(
        nothing,
        |world, victim, buffer| put_bytes(victim, world.queue, buffer, &[world.other]),
        |world| assert!(matches!(*drain(world), [] | [9])),
    );
}

fn get_small() {
    at_each_instruction(
        |world| {
            put(&world.participant(SURVIVOR), world.queue, 1, 16, &[]);
            put(&world.participant(SURVIVOR), world.queue, 2, 16, &[]);
        },
        |world, victim, buffer| assert!(get_bytes(victim, world.queue, buffer).is_some()),
        |world| assert!(matches!(*drain(world), [1, 2] | [2])),
    );
}

fn get_from_the_next_segment() {
    at_each_instruction(
        |world| {
            fill_segment(world);
            put(&world.participant(SURVIVOR), world.queue, 4, 1300, &[]);
            for number in 1..=3 {
                assert_eq!(get(&world.participant(SURVIVOR), world.queue), Some(number));
            }
        },
        |world, victim, buffer| assert!(get_bytes(victim, world.queue, buffer).is_some()),
        |world| assert!(matches!(*drain(world), [4] | [])),
    );
}

fn get_with_a_handle() {
    at_each_instruction(
        |world| put(&world.participant(SURVIVOR), world.queue, 1, LARGE, &[world.other]),
        |world, victim, buffer| assert!(get_bytes(victim, world.queue, buffer).is_some()),
        |world| assert!(matches!(*drain(world), [1] | [])),
    );
}

fn create_a_queue() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            queue::create(victim, 3, Account::Nothing).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn release_a_queue_with_items() {
    at_each_instruction(
        |world| {
            let survivor = world.participant(SURVIVOR);
            put(&survivor, world.queue, 1, 16, &[]);
            put(&survivor, world.queue, 2, LARGE, &[world.other]);
            object::release(&survivor, world.queue).unwrap();
        },
        |world, victim, _| object::release(victim, world.queue).unwrap(),
        |world| assert_eq!(count_live(&world.arena), Ok(1)),
    );
}

fn close_a_queue() {
    at_each_instruction(
        |world| {
            put(&world.participant(SURVIVOR), world.queue, 1, 16, &[]);
        },
        |world, victim, _| queue::close(victim, port(victim, world.other)).unwrap(),
        |world| assert!(matches!(*drain(world), [1])),
    );
}

/// A joinable queue with two items.
fn joinable(world: &World) {
    let survivor = world.survivor();
    world.add(queue::create(&survivor, 0, Account::Joinable).unwrap());
    put(&survivor, world.made(0), 1, 16, &[]);
    put(&survivor, world.made(0), 2, 16, &[]);
}

fn get_from_a_joinable_queue() {
    at_each_instruction(
        joinable,
        |world, victim, buffer| assert!(get_bytes(victim, world.made(0), buffer).is_some()),
        |world| {
            let survivor = world.survivor();
            let queue = port(&survivor, world.made(0));
            let mut taken = 0;
            while get(&survivor, world.made(0)).is_some() {
                queue::task_done(&survivor, queue).unwrap();
                taken += 1;
            }
            // An item that the victim has taken is lost, and nobody waits for it.
            assert_eq!(queue::join(&survivor, queue, Deadline::NOW), Ok(2 - taken));
            assert_eq!(queue::task_done(&survivor, queue), Err(Errno::Overflow));
        },
    );
}

fn say_that_a_task_is_done() {
    at_each_instruction(
        |world| {
            joinable(world);
            assert!(get_bytes(&world.participant(VICTIM), world.made(0), &mut [0; LARGE]).is_some());
        },
        |world, victim, _| queue::task_done(victim, port(victim, world.made(0))).unwrap(),
        |world| {
            let survivor = world.survivor();
            let queue = port(&survivor, world.made(0));
            assert_eq!(get(&survivor, world.made(0)), Some(2));
            assert_eq!(queue::join(&survivor, queue, Deadline::NOW), Err(Errno::Again));
            queue::task_done(&survivor, queue).unwrap();
            assert!(matches!(queue::join(&survivor, queue, Deadline::NOW), Ok(0 | 1)));
        },
    );
}

fn finish_a_claimed_item() {
    at_each_instruction(
        |world| {
            tasks(world);
            let victim = world.participant(VICTIM);
            assert!(get_bytes(&victim, world.made(0), &mut [0; LARGE]).is_some());
            victim.claims().unwrap().begin(0).unwrap();
        },
        |world, victim, buffer| {
            let results = port(victim, world.queue);
            queue::finish(victim, results, &[&buffer[..16]], &[], victim.index, Deadline::NOW).unwrap();
        },
        |world| {
            let claims = claims(world);
            // The item is worked on, or only its result is missing, or the result is there: nobody can take it for an
            // item that wasn't begun.
            match (&*drain(world), claims.first, claims.end) {
                ([], 0, 1) => assert!(claims.work != 0 || claims.part == DELIVERED, "{claims:?}"),
                ([9], 1, 1) => assert_eq!((claims.work, claims.part), (0, 0)),
                other => panic!("{other:?}"),
            }
        },
    );
}

fn put_many_at_once() {
    at_each_instruction(
        nothing,
        |world, victim, buffer| {
            let items = buffer[..400].chunks(100);
            assert_eq!(queue::put_many(victim, port(victim, world.queue), items, Deadline::NOW), Ok(4));
        },
        // A batch is no transaction: any number of its items may have been put.
        |world| assert!(drain(world).len() <= 4),
    );
}

fn get_many_at_once() {
    at_each_instruction(
        |world| (1..=4).for_each(|number| put(&world.survivor(), world.queue, number, 100, &[])),
        |world, victim, buffer| {
            let got = queue::get_many(victim, port(victim, world.queue), buffer, |_| true, Deadline::NOW);
            assert_eq!(got, Ok(4));
        },
        |world| assert!([1, 2, 3, 4].ends_with(&drain(world))),
    );
}

/// A queue of four tasks.
fn tasks(world: &World) {
    let survivor = world.survivor();
    world.add(queue::create(&survivor, 0, Account::Claimed).unwrap());
    (0..4).for_each(|number| put(&survivor, world.made(0), number, 100, &[]));
}

/// The claims of the victim.
fn claims(world: &World) -> Claims {
    world.arena.process(VICTIM).unwrap().claims.get()
}

fn claim_tasks() {
    at_each_instruction(
        tasks,
        |world, victim, buffer| {
            let mut count = 0;
            let note = |_| {
                count += 1;
                count < 3
            };
            let got = queue::get_many(victim, port(victim, world.made(0)), buffer, note, Deadline::NOW);
            assert_eq!(got, Ok(3));
        },
        |world| {
            // Each item is claimed, or still there; and both are in order.
            let survivor = world.survivor();
            let claims_of_victim = claims(world);
            let (claims, results) = (survivor.claims().unwrap(), port(&survivor, world.queue));
            let mut rest = claims_of_victim.end;
            while get(&survivor, world.made(0)).is_some() {
                assert_eq!(claims.get().first, rest);
                claims.begin(0).unwrap();
                queue::finish(&survivor, results, &[&[rest as u8]], &[], SURVIVOR, Deadline::NOW).unwrap();
                rest += 1;
            }
            assert_eq!((claims_of_victim.first, claims_of_victim.work, rest), (0, 0, 4));
            drain(world);
        },
    );
}
