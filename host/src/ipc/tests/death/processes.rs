//! Operations on processes: the arguments of a child, and the memory of all processes together.

use sandpool_abi::Errno;

use super::{OTHER, PROCESSES, SURVIVOR, VICTIM, World, at_each_instruction};
use crate::ipc::message::{self, Carry, Message};
use crate::ipc::process_table::Register;
use crate::ipc::sweep::{Sweep, sweep};
use crate::ipc::{budget, heap, object};
use crate::sys::atomic::{AtomicU64, Ordering};

tests! {
    hand_arguments_to_a_child
    take_memory
    take_memory_for_a_child
    give_memory_back
}

/// `spawn` hands arguments over in the same way: the child is given all of them, or ends without having run.
fn hand_arguments_to_a_child() {
    fn register(world: &World, process: u32) -> &AtomicU64 {
        world.arena.process(process).unwrap().register(Register::Outgoing)
    }
    at_each_instruction(
        |world| {
            let victim = world.participant(VICTIM);
            object::share(&victim, world.other, OTHER).unwrap();
            let own = register(world, VICTIM);
            message::compose(&victim, &[&[9; 100]], &[world.other], Carry::Uncounted, own).unwrap();
        },
        |world, victim, _| {
            heap::hand_over(victim, register(world, VICTIM), register(world, OTHER)).unwrap();
        },
        |world| {
            let child = world.participant(OTHER);
            let page = register(world, OTHER).load(Ordering::Relaxed);
            if page != 0 {
                let message = Message::at(&child, page).unwrap();
                let mut bytes = [0; 100];
                message.read(&child, &mut bytes).unwrap();
                assert_eq!((message.handles(&child), bytes), (Ok(vec![world.other]), [9; 100]));
                assert!(object::find(&child, world.other).is_ok());
            }
            sweep(Sweep::from_dead(OTHER, false), &world.participant(PROCESSES)).unwrap();
        },
    );
}

/// The memory of all processes is the sum of their shares. Returns that sum.
fn memory_is_all_shares(world: &World) -> u64 {
    let share = |index| world.arena.process(index).unwrap().memory();
    assert_eq!(share(VICTIM), 0, "its share is nobody's");
    let used = world.arena.header().unwrap().memory.used();
    assert_eq!(used, (0..PROCESSES).map(share).sum::<u64>());
    used
}

fn some_memory(world: &World) {
    budget::take(&world.survivor(), SURVIVOR, 10, 1000).unwrap();
}

fn take_memory() {
    at_each_instruction(
        some_memory,
        |_, victim, _| budget::take(victim, VICTIM, 100, 1000).unwrap(),
        |world| {
            assert_eq!(memory_is_all_shares(world), 10);
            assert_eq!(budget::take(&world.survivor(), SURVIVOR, 991, 1000), Err(Errno::Runmem));
            budget::take(&world.survivor(), SURVIVOR, 990, 1000).unwrap();
        },
    );
}

/// A fork takes memory in the same way: the child may exist by then, or not.
fn take_memory_for_a_child() {
    at_each_instruction(
        some_memory,
        |_, victim, _| budget::take(victim, OTHER, 100, 1000).unwrap(),
        |world| {
            assert!([10, 110].contains(&memory_is_all_shares(world)));
            budget::give_back(&world.participant(PROCESSES), OTHER).unwrap();
            assert_eq!(memory_is_all_shares(world), 10);
        },
    );
}

fn give_memory_back() {
    at_each_instruction(
        |world| {
            some_memory(world);
            budget::take(&world.participant(VICTIM), VICTIM, 100, 1000).unwrap();
        },
        |_, victim, _| budget::give_back(victim, VICTIM).unwrap(),
        |world| assert_eq!(memory_is_all_shares(world), 10),
    );
}
