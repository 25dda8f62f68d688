//! Pipes of bytes: several processes at each end.

use sandpool_abi::Errno;

use super::{Log, Model, NEVER, log};
use crate::ipc::arena::Participant;
use crate::ipc::byte_pipe::{self, ATOMIC, RING};
use crate::ipc::object::{self, Handle};
use crate::ipc::tests::common::of;
use crate::ipc::{Result, event};

models! {
    byte_pipe_has_each_write_whole: whole_writes(&[]);
    byte_pipe_has_each_write_whole_with_a_death: whole_writes(&[0, 1, 2]);
    byte_pipe_is_read_by_several: several_readers(&[]);
    byte_pipe_is_read_by_several_with_a_death: several_readers(&[0, 1, 2]);
    byte_pipe_takes_more_than_it_holds: a_long_write(&[]);
    byte_pipe_takes_more_than_it_holds_with_a_death: a_long_write(&[0, 1]);
    byte_pipe_is_watched: watched(&[]);
    byte_pipe_is_watched_with_a_death: watched(&[0, 1]);
}

/// Bytes of a write: the ring has room for one of this length, and not for two.
const MOST: usize = RING as usize - ATOMIC as usize + 10;

/// Bytes of a write that happens as a whole.
const WHOLE: usize = ATOMIC as usize - 4;

/// Writes all of these bytes.
fn write(participant: &Participant, end: Handle, bytes: &[u8]) -> Result<()> {
    let mut written = 0;
    while written < bytes.len() as u64 {
        written += byte_pipe::write(participant, of(participant, end), &[bytes], written, NEVER)?;
    }
    Ok(())
}

fn read(participant: &Participant, end: Handle, max: usize) -> Result<Vec<u8>> {
    let mut read = Vec::new();
    byte_pipe::read(participant, of(participant, end), max as u64, NEVER, |count, bytes| {
        read.resize(count as usize, 0);
        bytes.read(0, &mut read)
    })?;
    Ok(read)
}

/// Reads to the end.
fn read_all(participant: &Participant, end: Handle, max: usize, to: &Log<u8>) {
    loop {
        let bytes = read(participant, end, max).unwrap();
        if bytes.is_empty() {
            return;
        }
        to.lock().unwrap().extend(bytes);
    }
}

/// A pipe of which each of two processes has the end that writes, and a third the end that reads. The pipe is almost
/// full of zeroes.
fn almost_full(model: &Model) -> [Handle; 2] {
    let maker = model.maker();
    let [reads, writes] = byte_pipe::create(&maker, false).unwrap();
    byte_pipe::write(&maker, of(&maker, writes), &[&[0; MOST]], 0, NEVER).unwrap();
    [reads, writes]
}

/// Two processes write pieces that happen as a whole, and one reads to the end.
fn whole_writes(victims: &[u32]) {
    let mut model = Model::new();
    let [reads, writes] = almost_full(&model);
    let maker = model.maker();
    object::share(&maker, writes, 1).unwrap();
    object::share(&maker, reads, 2).unwrap();
    object::release(&maker, reads).unwrap();
    for _ in 0..2 {
        model.process(move |participant| {
            for _ in 0..2 {
                match write(participant, writes, &[participant.index as u8 + 1; WHOLE]) {
                    Ok(()) => {}
                    Err(error) => return assert_eq!(error, Errno::Pipe),
                }
            }
            object::release(participant, writes).unwrap();
        });
    }
    let received = log();
    let to = received.clone();
    model.process(move |participant| read_all(participant, reads, 3 * RING as usize / 4, &to));
    let dead = model.run(victims);
    if dead == Some(2) {
        return;
    }
    let received = received.lock().unwrap();
    let (zeroes, pieces) = received.split_at(MOST);
    assert!(zeroes.iter().all(|byte| *byte == 0));
    let (pieces, []) = pieces.as_chunks::<WHOLE>() else { panic!("a write is not whole") };
    assert!(pieces.iter().all(|piece| piece.iter().all(|byte| *byte == piece[0])), "a write is not whole");
    for writer in (0..2).filter(|writer| Some(*writer) != dead) {
        assert_eq!(pieces.iter().filter(|piece| piece[0] == writer as u8 + 1).count(), 2);
    }
}

/// One process writes, and two read: each byte is read once.
fn several_readers(victims: &[u32]) {
    let mut model = Model::new();
    let maker = model.maker();
    let [reads, writes] = byte_pipe::create(&maker, false).unwrap();
    for reader in [1, 2] {
        object::share(&maker, reads, reader).unwrap();
    }
    object::release(&maker, reads).unwrap();
    model.process(move |participant| {
        for number in 1..=4 {
            match write(participant, writes, &[number; 3]) {
                Ok(()) => {}
                Err(error) => return assert_eq!(error, Errno::Pipe),
            }
        }
        object::release(participant, writes).unwrap();
    });
    let received = log();
    for _ in 0..2 {
        let to = received.clone();
        model.process(move |participant| read_all(participant, reads, 2, &to));
    }
    let dead = model.run(victims);
    let mut received = received.lock().unwrap().clone();
    received.sort_unstable();
    match dead {
        None => assert_eq!(received, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]),
        Some(_) => assert!((1..=4).all(|one| received.iter().filter(|byte| **byte == one).count() <= 3)),
    }
}

/// A write that is longer than the ring, and a reader who reads a little at a time and then goes.
fn a_long_write(victims: &[u32]) {
    let mut model = Model::new();
    let [reads, writes] = almost_full(&model);
    let maker = model.maker();
    object::share(&maker, reads, 1).unwrap();
    object::release(&maker, reads).unwrap();
    let written = log();
    let told = written.clone();
    model.process(move |participant| {
        // The lock would be poisoned by a death in the midst of the write.
        let result = write(participant, writes, &[1; RING as usize + 500]);
        told.lock().unwrap().push(result);
        object::release(participant, writes).unwrap();
    });
    let (mut left, goes) = (MOST, shuttle::rand::Rng::gen_bool(&mut shuttle::rand::thread_rng(), 0.3));
    model.process(move |participant| {
        if goes {
            read(participant, reads, 1000).unwrap();
            return object::release(participant, reads).unwrap();
        }
        left += RING as usize + 500;
        loop {
            let bytes = read(participant, reads, 1000).unwrap();
            if bytes.is_empty() {
                // The writer has died.
                return;
            }
            left -= bytes.len();
            if left == 0 {
                assert_eq!(read(participant, reads, 1000), Ok(vec![]));
                return;
            }
        }
    });
    let dead = model.run(victims);
    match (dead, &written.lock().unwrap()[..]) {
        (None, [result]) => assert_eq!(*result, if goes { Err(Errno::Pipe) } else { Ok(()) }),
        (None, _) => panic!("the writer doesn't come to its end"),
        (Some(1), [result]) => assert!(matches!(result, Ok(()) | Err(Errno::Pipe))),
        _ => {}
    }
}

/// A process watches both ends of two pipes, and reads or writes when it can without waiting.
fn watched(victims: &[u32]) {
    let mut model = Model::with_heap(64);
    let maker = model.maker();
    let [reads, writes] = almost_full(&model);
    let [back_reads, back_writes] = byte_pipe::create(&maker, false).unwrap();
    object::share(&maker, reads, 1).unwrap();
    object::share(&maker, back_writes, 1).unwrap();
    object::release(&maker, reads).unwrap();
    object::release(&maker, back_writes).unwrap();
    // Process 0 writes a piece and waits for the answer, by watching.
    model.process(move |participant| {
        let [reader, writer] = [back_reads, writes].map(|end| of(participant, end));
        let is_ready = |for_reading: bool| {
            let end: object::Object<'_, byte_pipe::ByteEndState> = if for_reading { reader } else { writer };
            byte_pipe::look(participant, end.state).unwrap().is_ready(for_reading)
        };
        let events = [reader.state.changed(), writer.state.changed()];
        event::wait_for_any(participant, events.into_iter(), NEVER, || is_ready(false).then_some(()))
            .unwrap();
        if let Err(error) = write(participant, writes, &[1; WHOLE]) {
            return assert_eq!(error, Errno::Pipe);
        }
        event::wait_for_any(participant, events.into_iter(), NEVER, || is_ready(true).then_some(())).unwrap();
        let answer = read(participant, back_reads, 10).unwrap();
        assert!(answer == [5] || answer.is_empty());
    });
    model.process(move |participant| {
        let mut left = MOST + WHOLE;
        while left != 0 {
            let bytes = read(participant, reads, 2000).unwrap();
            if bytes.is_empty() {
                return;
            }
            left -= bytes.len();
        }
        if let Err(error) = write(participant, back_writes, &[5]) {
            assert_eq!(error, Errno::Pipe);
        }
    });
    model.run(victims);
}
