//! Operations on pipes of bytes.

use sandpool_abi::Errno;

use super::{World, at_each_instruction, close_both_ends, free_slots, nothing};
use crate::ipc::arena::Participant;
use crate::ipc::byte_pipe::{self, RING};
use crate::ipc::object::{self, Handle, count_live};
use crate::ipc::tests::common::of;
use crate::sys::futex::Deadline;

tests! {
    make_a_pipe_of_bytes
    make_a_pipe_of_bytes_in_free_slots
    write_to_a_pipe_of_bytes
    write_around_the_end_of_the_ring
    read_from_a_pipe_of_bytes
    close_the_end_that_writes
    close_the_end_that_reads
    close_both_ends_of_a_pipe_of_bytes
}

/// A pipe of bytes: the end that reads, and the one that writes.
fn a_pipe(world: &World) {
    for end in byte_pipe::create(&world.survivor(), false).unwrap() {
        world.add(end);
    }
}

fn write(participant: &Participant, end: Handle, bytes: &[u8]) -> crate::ipc::Result<u64> {
    byte_pipe::write(participant, of(participant, end), &[bytes], 0, Deadline::NOW)
}

/// Reads at most `max` bytes.
fn read(participant: &Participant, end: Handle, max: usize) -> crate::ipc::Result<Vec<u8>> {
    let mut read = Vec::new();
    byte_pipe::read(participant, of(participant, end), max as u64, Deadline::NOW, |count, bytes| {
        read.resize(count as usize, 0);
        bytes.read(0, &mut read)
    })?;
    Ok(read)
}

/// The survivor reads all that is there. A process that is killed has written its bytes whole, or none of them.
fn is_written_whole_or_not(world: &World) {
    let survivor = world.survivor();
    assert_eq!(write(&survivor, world.made(1), &[1; 20]), Ok(20));
    let there = read(&survivor, world.made(0), 100).unwrap();
    assert!(there == [&[9; 50][..], &[1; 20]].concat() || there == [1; 20], "{there:?}");
    assert_eq!(read(&survivor, world.made(0), 100), Err(Errno::Again));
    object::release(&survivor, world.made(1)).unwrap();
    assert_eq!(read(&survivor, world.made(0), 100), Ok(vec![]));
}

fn write_to_a_pipe_of_bytes() {
    at_each_instruction(
        a_pipe,
        |world, victim, buffer| {
            write(victim, world.made(1), &buffer[..50]).unwrap();
        },
        is_written_whole_or_not,
    );
}

fn write_around_the_end_of_the_ring() {
    at_each_instruction(
        |world| {
            a_pipe(world);
            let survivor = world.survivor();
            let most = RING as usize - 25;
            assert_eq!(write(&survivor, world.made(1), &vec![7; most]), Ok(most as u64));
            assert_eq!(read(&survivor, world.made(0), most), Ok(vec![7; most]));
        },
        |world, victim, buffer| {
            write(victim, world.made(1), &buffer[..50]).unwrap();
        },
        is_written_whole_or_not,
    );
}

fn read_from_a_pipe_of_bytes() {
    at_each_instruction(
        |world| {
            a_pipe(world);
            let full = vec![5; RING as usize - 10];
            write(&world.survivor(), world.made(1), &full).unwrap();
            write(&world.survivor(), world.made(1), &[6; 10]).unwrap();
        },
        |world, victim, buffer| {
            let end = of(victim, world.made(0));
            byte_pipe::read(victim, end, 200, Deadline::NOW, |count, bytes| {
                bytes.read(0, &mut buffer[..count as usize])
            })
            .unwrap();
        },
        |world| {
            let survivor = world.survivor();
            // There is room for what was read, and no more.
            let rest = read(&survivor, world.made(0), RING as usize).unwrap();
            assert!([RING as usize, RING as usize - 200].contains(&rest.len()), "{}", rest.len());
            let (fives, sixes) = rest.split_at(rest.len() - 10);
            assert!(fives.iter().all(|byte| *byte == 5) && sixes == [6; 10]);
        },
    );
}

fn close_the_end_that_writes() {
    at_each_instruction(
        |world| {
            a_pipe(world);
            let survivor = world.survivor();
            write(&survivor, world.made(1), &[7; 10]).unwrap();
            object::release(&survivor, world.made(1)).unwrap();
        },
        |world, victim, _| object::release(victim, world.made(1)).unwrap(),
        |world| {
            let survivor = world.survivor();
            assert_eq!(read(&survivor, world.made(0), 100), Ok(vec![7; 10]));
            assert_eq!(read(&survivor, world.made(0), 100), Ok(vec![]));
        },
    );
}

fn close_the_end_that_reads() {
    at_each_instruction(
        |world| {
            a_pipe(world);
            let survivor = world.survivor();
            write(&survivor, world.made(1), &[7; 10]).unwrap();
            object::release(&survivor, world.made(0)).unwrap();
        },
        |world, victim, _| object::release(victim, world.made(0)).unwrap(),
        |world| {
            let survivor = world.survivor();
            assert_eq!(write(&survivor, world.made(1), &[7; 10]), Err(Errno::Pipe));
            // The ring has gone with its end, and only that.
            assert_eq!(world.arena.header().unwrap().heap.used_pages(), 2);
        },
    );
}

fn close_both_ends_of_a_pipe_of_bytes() {
    close_both_ends(a_pipe);
}

fn make_a_pipe_of_bytes() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            byte_pipe::create(victim, true).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn make_a_pipe_of_bytes_in_free_slots() {
    at_each_instruction(
        free_slots,
        |_, victim, _| {
            byte_pipe::create(victim, false).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}
