//! Operations on pipes.

use sandpool_abi::Errno;
use sandpool_abi::pipe::DUPLEX;

use super::{LARGE, World, at_each_instruction, close_both_ends, free_slots, nothing};
use crate::ipc::arena::Participant;
use crate::ipc::object::{self, Handle, Object, count_live};
use crate::ipc::pipe::{self, EndState};
use crate::ipc::tests::common::{copy, of};
use crate::sys::futex::Deadline;

tests! {
    make_a_pipe
    make_a_pipe_in_free_slots
    send_over_a_pipe
    receive_from_a_pipe
    close_an_end_of_a_pipe
    close_both_ends_of_a_pipe
}

/// A pipe.
fn a_pipe(world: &World) {
    let survivor = world.survivor();
    for end in pipe::create(&survivor, 4096, DUPLEX).unwrap() {
        world.add(end);
    }
}

fn recv(participant: &Participant, end: Handle) -> crate::ipc::Result<u8> {
    let mut buffer = [0; LARGE];
    let taken = pipe::recv(participant, of(participant, end), &mut buffer, Deadline::after_nanos(1))?;
    let len = copy(participant, taken, &mut buffer).unwrap();
    assert!(buffer[..len].iter().all(|byte| *byte == buffer[0]), "a message is not whole");
    Ok(buffer[0])
}

fn send_over_a_pipe() {
    at_each_instruction(
        |world| {
            a_pipe(world);
            object::release(&world.survivor(), world.made(0)).unwrap();
        },
        |world, victim, buffer| {
            pipe::send(victim, of(victim, world.made(0)), &[&buffer[..100]], &[], Deadline::NOW).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            // The message comes whole, or not at all; and then the pipe ends, because the sender is gone.
            let first = recv(&survivor, world.made(1));
            assert!(matches!(first, Ok(9) | Err(Errno::Closed)), "{first:?}");
            assert_eq!(recv(&survivor, world.made(1)), Err(Errno::Closed));
            let end = of(&survivor, world.made(1));
            assert_eq!(pipe::send(&survivor, end, &[&[1]], &[], Deadline::NOW), Err(Errno::Pipe));
        },
    );
}

fn receive_from_a_pipe() {
    at_each_instruction(
        |world| {
            a_pipe(world);
            let survivor = world.survivor();
            for byte in [1, 2] {
                pipe::send(&survivor, of(&survivor, world.made(1)), &[&[byte; 50]], &[], Deadline::NOW)
                    .unwrap();
            }
        },
        |world, victim, buffer| {
            let taken = pipe::recv(victim, of(victim, world.made(0)), buffer, Deadline::NOW).unwrap();
            assert!(copy(victim, taken, buffer).is_some());
        },
        |world| {
            let survivor = world.survivor();
            assert!(matches!(recv(&survivor, world.made(0)), Ok(1 | 2)));
        },
    );
}

fn close_an_end_of_a_pipe() {
    at_each_instruction(
        |world| {
            a_pipe(world);
            let survivor = world.survivor();
            let end: Object<'_, EndState> = of(&survivor, world.made(0));
            pipe::send(&survivor, end, &[&[7; 50]], &[world.other], Deadline::NOW).unwrap();
            let end: Object<'_, EndState> = of(&survivor, world.made(1));
            pipe::send(&survivor, end, &[&[8; 50]], &[world.other], Deadline::NOW).unwrap();
            object::release(&survivor, world.made(0)).unwrap();
        },
        |world, victim, _| object::release(victim, world.made(0)).unwrap(),
        |world| {
            let survivor = world.survivor();
            assert_eq!(recv(&survivor, world.made(1)), Ok(7));
            assert_eq!(recv(&survivor, world.made(1)), Err(Errno::Closed));
        },
    );
}

fn close_both_ends_of_a_pipe() {
    close_both_ends(a_pipe);
}

fn make_a_pipe() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            pipe::create(victim, 100, 0).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn make_a_pipe_in_free_slots() {
    at_each_instruction(
        free_slots,
        |_, victim, _| {
            pipe::create(victim, 100, 0).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}
