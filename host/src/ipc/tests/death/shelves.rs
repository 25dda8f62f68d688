//! Operations on shelves.

use sandpool_abi::shelf::WORDS;

use super::{World, at_each_instruction, nothing};
use crate::ipc::arena::Participant;
use crate::ipc::message;
use crate::ipc::object::{self, Handle, count_live};
use crate::ipc::process_table::Register;
use crate::ipc::shelf::{self, Change, Found};
use crate::ipc::tests::common::of;

tests! {
    make_a_shelf
    change_places
    change_many_places
    grow_a_shelf
    read_a_place
    drop_a_shelf
}

/// A message of one byte, repeated.
const LEN: usize = 100;

fn words(number: u8) -> [u64; WORDS] {
    [u64::from(number); WORDS]
}

/// Puts messages of this number into places; those in even places carry a handle.
fn fill(participant: &Participant, world: &World, shelf: Handle, places: std::ops::Range<u64>, number: u8) {
    let bytes = [number; LEN];
    let handles = [world.other];
    let changes: Vec<_> = places
        .map(|place| Change { place, content: Some((&bytes[..], &handles[(place % 2) as usize..])) })
        .collect();
    shelf::change(participant, of(participant, shelf), &words(number), &changes).unwrap();
}

/// The number in a place, and the words.
fn number(participant: &Participant, shelf: Handle, place: u64) -> (Option<u8>, [u64; WORDS]) {
    let mut buffer = [0; LEN];
    let (found, words) = shelf::read(participant, of(participant, shelf), place, &mut buffer).unwrap();
    let register = participant.slot().unwrap().register(Register::Incoming);
    match found {
        Found::Nothing => return (None, words),
        Found::Copied(len) => assert_eq!(len, LEN),
        Found::Bytes(_) => panic!("it fits"),
        Found::Message(message) => {
            message.read(participant, &mut buffer).unwrap();
            message::discard(participant, register, &mut Vec::new()).unwrap();
        }
    }
    assert!(buffer.iter().all(|byte| *byte == buffer[0]), "a message isn't whole");
    (Some(buffer[0]), words)
}

/// All places have the same number, which the words have as well.
fn is_one_of(world: &World, places: std::ops::Range<u64>, numbers: [u8; 2]) {
    let (survivor, shelf) = (world.survivor(), world.made(0));
    let found: Vec<_> = places.map(|place| number(&survivor, shelf, place)).collect();
    let first = found[0];
    assert!(found.iter().all(|one| *one == first), "half of a change: {found:?}");
    let (number, words_found) = (first.0.unwrap_or(0), first.1);
    assert!(numbers.contains(&number), "{number}");
    assert_eq!(words_found, words(number));
    // It can be changed again.
    fill(&survivor, world, shelf, 0..3, 9);
    assert_eq!(self::number(&survivor, shelf, 2), (Some(9), words(9)));
}

fn a_shelf(world: &World) {
    let survivor = world.survivor();
    world.add(shelf::create(&survivor).unwrap());
}

fn a_full_shelf(world: &World) {
    a_shelf(world);
    fill(&world.survivor(), world, world.made(0), 0..20, 1);
}

fn make_a_shelf() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            shelf::create(victim).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn change_places() {
    at_each_instruction(
        |world| {
            a_shelf(world);
            fill(&world.survivor(), world, world.made(0), 0..3, 1);
        },
        |world, victim, _| fill(victim, world, world.made(0), 0..3, 2),
        |world| is_one_of(world, 0..3, [1, 2]),
    );
}

/// More places than the journal has room for.
fn change_many_places() {
    at_each_instruction(
        a_full_shelf,
        |world, victim, _| fill(victim, world, world.made(0), 0..20, 2),
        |world| is_one_of(world, 0..20, [1, 2]),
    );
}

fn grow_a_shelf() {
    at_each_instruction(
        a_shelf,
        |world, victim, _| fill(victim, world, world.made(0), 0..2, 2),
        |world| is_one_of(world, 0..2, [0, 2]),
    );
}

/// The copy of a message with a handle is gone with its reader.
fn read_a_place() {
    at_each_instruction(
        a_full_shelf,
        |world, victim, _| {
            let mut buffer = [0; LEN];
            shelf::read(victim, of(victim, world.made(0)), 0, &mut buffer).unwrap();
        },
        |world| is_one_of(world, 0..20, [1, 1]),
    );
}

/// The last holder drops a shelf, which has the last hold of other objects.
fn drop_a_shelf() {
    at_each_instruction(
        |world| {
            a_full_shelf(world);
            object::release(&world.survivor(), world.made(0)).unwrap();
        },
        |world, victim, _| object::release(victim, world.made(0)).unwrap(),
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}
