//! The promises of `SharedMemory`.

#![allow(unsafe_code, reason = "slices of shared memory are what this tests")]

use std::time::Duration;

use sandpool_guest::process::Trap;
use sandpool_guest::{Error, ExitStatus, Process, Queue, SharedMemory};
use sandpool_test_guests::{Outcome, check, ended, ended_well, kill, same};

#[sandpool_guest::main]
fn main() -> Outcome {
    names()?;
    bytes()?;
    life()?;
    deaths()?;
    read_only()?;
    data()
}

fn names() -> Outcome {
    let memory = SharedMemory::create(100)?;
    check("a new name", memory.name().starts_with("psm_") && memory.name().len() == 12)?;
    same("the size that was asked for", memory.size(), 100)?;
    let other = SharedMemory::create(100)?;
    check("another one", other.name() != memory.name() && other != memory)?;
    let child = Process::fork(|| -> Outcome {
        let third = SharedMemory::create(1)?;
        check("in a child, too", third.name() != memory.name() && third.name() != other.name())
    })?;
    ended_well(&child)?;
    let named = SharedMemory::create_named("näme/with anything", 1)?;
    same("a given name", (named.name(), named.size()), ("näme/with anything", 1))?;
    check("is taken", matches!(SharedMemory::create_named(named.name(), 1), Err(Error::NameTaken)))?;
    check("nothing of that name", matches!(SharedMemory::attach("nothing"), Err(Error::NotFound)))?;
    check("nor to read", matches!(SharedMemory::attach_read_only("nothing"), Err(Error::NotFound)))?;
    check("nor without one", matches!(SharedMemory::attach(""), Err(Error::NotFound)))?;
    check("an empty name", SharedMemory::create_named("", 1).is_err())?;
    let longest = "x".repeat(127);
    SharedMemory::create_named(&longest, 1)?.unlink()?;
    let refused = SharedMemory::create_named(&format!("{longest}x"), 1);
    check("a longer name than the longest", matches!(refused, Err(Error::NameTooLong)))?;
    check("size 0", matches!(SharedMemory::create(0), Err(Error::NoSize)))?;
    check("size 0 with a name", matches!(SharedMemory::create_named("zero", 0), Err(Error::NoSize)))?;
    let huge = SharedMemory::create(usize::MAX);
    check("too large", matches!(huge, Err(Error::TooLarge | Error::ArenaFull)))?;
    memory.unlink()?;
    other.unlink()?;
    Ok(named.unlink()?)
}

fn bytes() -> Outcome {
    let mut memory = SharedMemory::create(200_000)?;
    same("zeroes", (memory.get(0)?, memory.get(199_999)?), (0, 0))?;
    let attached = SharedMemory::attach(memory.name())?;
    check("another attachment of the same", attached == memory && attached.size() == 200_000)?;
    attached.set(199_999, 7)?;
    attached.write_from(10, b"hello")?;
    same("what one writes the other reads", memory.get(199_999)?, 7)?;
    let mut found = [0; 7];
    memory.read_into(9, &mut found)?;
    same("ranges", &found, b"\0hello\0")?;
    check("beyond the end", matches!(memory.get(200_000), Err(Error::OutOfBounds)))?;
    check("set beyond it", matches!(memory.set(200_000, 1), Err(Error::OutOfBounds)))?;
    check("across it", matches!(memory.write_from(199_998, b"hello"), Err(Error::OutOfBounds)))?;
    check("far beyond it", matches!(memory.read_into(usize::MAX, &mut found), Err(Error::OutOfBounds)))?;
    same("nothing was written", memory.get(199_998)?, 0)?;

    let counter = memory.atomic::<u64>(64)?;
    let child = Process::fork(|| -> Outcome {
        let counter = SharedMemory::attach(memory.name())?;
        for _ in 0..5000 {
            counter.atomic::<u64>(64)?.fetch_add(1);
        }
        Ok(())
    })?;
    for _ in 0..5000 {
        counter.fetch_add(1);
    }
    ended_well(&child)?;
    same("an atomic integer in it", counter.load(), 10_000)?;
    check("not at any offset", matches!(memory.atomic::<u64>(63), Err(Error::OutOfBounds)))?;
    check("nor at the end", matches!(memory.atomic::<u64>(200_000), Err(Error::OutOfBounds)))?;

    let name = memory.name().to_owned();
    // SAFETY: no other process has the memory by now, and the other attachment isn't used.
    unsafe { memory.as_mut_slice() }?.iter_mut().rev().take(3).for_each(|byte| *byte = 9);
    // SAFETY: as above.
    let sum: u32 = unsafe { memory.as_slice() }?[199_990..].iter().map(|byte| u32::from(*byte)).sum();
    same("a slice", sum, 27)?;
    same("that others see", SharedMemory::attach(&name)?.get(199_999)?, 9)?;
    Ok(memory.unlink()?)
}

fn life() -> Outcome {
    let memory = SharedMemory::create_named("life", 10)?;
    memory.set(0, 1)?;
    memory.clone().close();
    memory.set(1, 2)?;
    memory.close();
    let memory = SharedMemory::attach("life")?;
    same("it stays when nobody has it", (memory.get(0)?, memory.get(1)?), (1, 2))?;
    memory.unlink()?;
    check("its name is gone", matches!(SharedMemory::attach("life"), Err(Error::NotFound)))?;
    check("once only", matches!(memory.unlink(), Err(Error::NotFound)))?;
    same("who has it keeps it", (memory.get(1)?, memory.name()), (2, "life"))?;
    let other = SharedMemory::create_named("life", 20)?;
    check("another of the same name", other != memory && other.size() == 20 && other.get(0)? == 0)?;
    other.unlink()?;

    let child = Process::fork(|| -> Outcome {
        let made = SharedMemory::create_named("orphan", 70_000)?;
        made.set(69_999, 3)?;
        std::process::abort()
    })?;
    ended(&child, ExitStatus::Trapped(Trap::Unreachable))?;
    let orphan = SharedMemory::attach("orphan")?;
    same("it outlives its maker", orphan.get(69_999)?, 3)?;
    let child = Process::fork(|| -> Outcome {
        let attached = SharedMemory::attach("orphan")?;
        attached.set(0, 1)?;
        std::process::abort()
    })?;
    ended(&child, ExitStatus::Trapped(Trap::Unreachable))?;
    same(
        "and those who attach to it",
        (orphan.get(0)?, SharedMemory::attach("orphan")?.get(69_999)?),
        (1, 3),
    )?;
    orphan.unlink()?;

    for n in 0..5000 {
        let memory = SharedMemory::create(100_000)?;
        memory.unlink()?;
        if memory.get(99_999)? != 0 {
            return Err(format!("block {n} isn't new").into());
        }
        memory.set(99_999, 1)?;
    }
    println!("ok: thousands, one at a time");
    Ok(())
}

/// Killed at any moment, who makes, attaches and unlinks leaves names that others can go on with.
fn deaths() -> Outcome {
    let kept = SharedMemory::create_named("kept", 70_000)?;
    let ready = Queue::<()>::new()?;
    for round in 0..50_u64 {
        let child = Process::fork(|| -> Outcome {
            ready.put(&())?;
            loop {
                let made = SharedMemory::create_named("made", 70_000)?;
                made.set(69_999, 1)?;
                SharedMemory::attach("kept")?.set(0, 7)?;
                made.unlink()?;
            }
        })?;
        ready.get()?;
        std::thread::sleep(Duration::from_micros(round % 10 * 50));
        kill(&child)?;
        match SharedMemory::attach("made") {
            Ok(made) => made.unlink()?,
            Err(Error::NotFound) => {}
            Err(other) => return Err(format!("round {round}: {other}").into()),
        }
        let made = SharedMemory::create_named("made", 70_000)?;
        if made.get(69_999)? != 0 {
            return Err(format!("round {round}: it isn't new").into());
        }
        made.unlink()?;
    }
    same("who makes and attaches can be killed", kept.size(), 70_000)?;
    Ok(kept.unlink()?)
}

fn read_only() -> Outcome {
    let memory = SharedMemory::create_named("read only", 100)?;
    memory.set(5, 6)?;
    let reader = SharedMemory::attach_read_only("read only")?;
    check("it says so", reader.is_read_only() && !memory.is_read_only())?;
    same("it can be read", reader.get(5)?, 6)?;
    check("not set", matches!(reader.set(5, 7), Err(Error::ReadOnly)))?;
    check("not written", matches!(reader.write_from(5, b"x"), Err(Error::ReadOnly)))?;
    check("not atomically", matches!(reader.atomic::<u8>(5), Err(Error::ReadOnly)))?;
    let child = Process::fork(|| -> Outcome {
        let mut reader = SharedMemory::attach_read_only("read only")?;
        // SAFETY: the parent only waits.
        unsafe { reader.as_mut_slice() }?[5] = 7;
        Ok(())
    })?;
    let status = child.join()?;
    check("a store traps", matches!(status, ExitStatus::Trapped(_)))?;
    let mut inherited = reader.clone();
    let child = Process::fork(move || -> Outcome {
        // SAFETY: the parent only waits.
        unsafe { inherited.as_mut_slice() }?[5] = 8;
        Ok(())
    })?;
    check("also in what a fork has mapped", matches!(child.join()?, ExitStatus::Trapped(_)))?;
    same("nothing was stored", (memory.get(5)?, reader.get(5)?), (6, 6))?;
    memory.set(5, 9)?;
    same("a reader sees what others write", reader.get(5)?, 9)?;
    Ok(memory.unlink()?)
}

fn fill((memory, name): (SharedMemory, String)) -> Outcome {
    memory.set(0, 1)?;
    SharedMemory::attach(&name)?.set(1, 2)?;
    same("a spawned process knows its name", memory.name(), name.as_str())
}

fn data() -> Outcome {
    let memory = SharedMemory::create(10)?;
    ended_well(&Process::spawn(fill, (memory.clone(), memory.name().to_owned()))?)?;
    same("a spawned process", (memory.get(0)?, memory.get(1)?), (1, 2))?;
    memory.unlink()?;
    let letters = Queue::<SharedMemory>::new()?;
    letters.put(&memory)?;
    letters.put(&memory)?;
    let received = letters.get()?;
    check("in a message, without its name", received == memory && received.name() == memory.name())?;
    drop((memory, received));
    same("a message keeps it", letters.get()?.get(1)?, 2)?;

    let memory = SharedMemory::create_named("sent", 10)?;
    letters.put(&SharedMemory::attach_read_only("sent")?)?;
    let received = letters.get()?;
    check("read only, also when sent", matches!(received.set(0, 1), Err(Error::ReadOnly)))?;
    Ok(memory.unlink()?)
}
