//! The promises of `Array` and `RawArray`: `shared_array [SMALL]`; with an argument, in an arena of 2 MiB.

use std::time::Duration;

use sandpool_guest::shared::{Pod, Zeroable, bytemuck};
use sandpool_guest::sync::AcquireError;
use sandpool_guest::{Array, Error, ExitStatus, Process, Queue, RawArray};
use sandpool_test_guests::{Outcome, check, ended_well, kill, same};

const LONG: Duration = Duration::from_secs(60);

#[sandpool_guest::main]
fn main() -> Outcome {
    if std::env::args().len() > 1 {
        return small();
    }
    elements()?;
    types()?;
    sizes()?;
    races()?;
    guards()?;
    deaths()?;
    data()?;
    mappings()
}

fn elements() -> Outcome {
    let array = Array::<i32>::new(5)?;
    same("made of zeroes", array.to_vec()?, vec![0; 5])?;
    same("its length", (array.len(), array.is_empty()), (5, false))?;
    array.set(0, -1)?;
    array.set(4, 7)?;
    same("set and get", (array.get(0)?, array.get(4)?, array.get(1)?), (-1, 7, 0))?;
    check("beyond the end", matches!(array.get(5), Err(Error::OutOfBounds)))?;
    check("far beyond it", matches!(array.set(usize::MAX, 1), Err(Error::OutOfBounds)))?;
    array.write_from(1, &[1, 2, 3])?;
    let mut middle = [0; 3];
    array.read_into(2, &mut middle)?;
    same("ranges", middle, [2, 3, 7])?;
    check("a range beyond the end", matches!(array.read_into(3, &mut middle), Err(Error::OutOfBounds)))?;
    check("written beyond it", matches!(array.write_from(4, &[1, 2]), Err(Error::OutOfBounds)))?;
    same("nothing was written", array.to_vec()?, vec![-1, 1, 2, 3, 7])?;
    array.write_from(5, &[])?;
    array.update(|elements| elements.reverse())?;
    same("a slice in place", array.to_vec()?, vec![7, 3, 2, 1, -1])?;
    same("its result", array.update(|elements| elements.iter().sum::<i32>())?, 12)?;
    same("made of a slice", Array::from_slice(&[1.5, 2.5])?.to_vec()?, vec![1.5, 2.5])?;

    let raw = RawArray::from_slice(&[10_u16, 20, 30])?;
    raw.set(1, 21)?;
    raw.copy_from(2, &[31])?;
    same("a raw one", (raw.get(1)?, raw.to_vec()?), (21, vec![10, 21, 31]))?;
    check("raw, beyond the end", matches!(raw.get(3), Err(Error::OutOfBounds)))?;
    same("atomic elements", (raw.atomic(2)?.fetch_add(4), raw.get(2)?), (31, 35))?;
    check("not beyond the end", raw.atomic(3).is_err())
}

#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[bytemuck(crate = "bytemuck")]
#[repr(C)]
struct Particle {
    position: [f32; 3],
    kind: u32,
    mass: f64,
}

fn round_trip<T: Pod + PartialEq + std::fmt::Debug>(what: &str, values: &[T]) -> Outcome {
    let array = Array::<T>::new(values.len())?;
    let raw = RawArray::<T>::new(values.len())?;
    let child = Process::fork(|| -> Outcome {
        for (index, value) in values.iter().enumerate() {
            array.set(index, *value)?;
            raw.set(index, *value)?;
        }
        Ok(())
    })?;
    ended_well(&child)?;
    same(what, (array.to_vec()?, raw.to_vec()?), (values.to_vec(), values.to_vec()))?;
    for (index, value) in values.iter().enumerate() {
        if array.get(index)? != *value || raw.get(index)? != *value {
            return Err(format!("{what}: element {index} is another one").into());
        }
    }
    Ok(())
}

fn types() -> Outcome {
    round_trip("u8", &[0_u8, 1, u8::MAX])?;
    round_trip("i8", &[0_i8, -1, i8::MIN])?;
    round_trip("u16", &[0_u16, 1, u16::MAX])?;
    round_trip("i16", &[0_i16, -1, i16::MIN])?;
    round_trip("u32", &[0_u32, 1, u32::MAX])?;
    round_trip("i32", &[0_i32, -1, i32::MIN])?;
    round_trip("u64", &[0_u64, 1, u64::MAX])?;
    round_trip("i64", &[0_i64, -1, i64::MIN])?;
    round_trip("f32", &[0.5_f32, f32::MIN_POSITIVE])?;
    round_trip("f64", &[0.5_f64, f64::MIN_POSITIVE])?;
    round_trip("arrays of three bytes", &[[1_u8, 2, 3], [4, 5, 6]])?;
    let particle = Particle { position: [1.0, 2.0, 3.0], kind: 4, mass: 5.0 };
    round_trip("structures", &[particle, Particle { kind: 9, ..particle }])
}

fn sizes() -> Outcome {
    let empty = Array::<u64>::new(0)?;
    same("no elements", (empty.len(), empty.is_empty(), empty.to_vec()?), (0, true, vec![]))?;
    same("an empty slice", empty.update(|elements| elements.len())?, 0)?;
    check("none of them", matches!(empty.get(0), Err(Error::OutOfBounds)))?;
    let large = RawArray::<u64>::new(700_000)?;
    for (start, elements) in [(0, &[1][..]), (300_000, &[2, 3]), (699_999, &[4])] {
        large.copy_from(start, elements)?;
    }
    // Access to single elements is what maps it.
    let found = [0, 1, 300_000, 300_001, 699_998, 699_999].map(|index| large.get(index).ok());
    same("what stood there when it was mapped", found, [1, 0, 2, 3, 0, 4].map(Some))?;
    for len in [1, 8191, 8192, 8193, 100_000, 2_000_000] {
        let array = Array::<u64>::new(len)?;
        let child = Process::fork(|| {
            array.update(|elements| {
                for (index, element) in elements.iter_mut().enumerate() {
                    *element = index as u64 * 3;
                }
            })
        })?;
        ended_well(&child)?;
        let right = array.update(|elements| elements.iter().zip((0..).step_by(3)).all(|(a, b)| *a == b))?;
        check(&format!("{len} elements"), right && array.get(len - 1)? == (len as u64 - 1) * 3)?;
    }
    let huge = Array::<u64>::new(usize::MAX / 8);
    check("more than there is", matches!(huge, Err(Error::TooLarge | Error::ArenaFull)))?;
    check("more than can be counted", matches!(RawArray::<u64>::new(usize::MAX), Err(Error::TooLarge)))
}

fn races() -> Outcome {
    let counts = Array::<u64>::new(10)?;
    let atomics = RawArray::<u32>::new(10)?;
    let workers = (0..4)
        .map(|_| {
            Process::fork(|| -> Outcome {
                for n in 0..5000 {
                    counts.update(|counts| {
                        counts[n % 10] += 1;
                        counts[(n + 3) % 10] += 1;
                    })?;
                    atomics.atomic(n % 10)?.fetch_add(1);
                }
                Ok(())
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    workers.iter().try_for_each(ended_well)?;
    same("changes under the lock", counts.to_vec()?, vec![4000; 10])?;
    same("atomic changes", atomics.to_vec()?, vec![2000; 10])
}

fn guards() -> Outcome {
    let array = Array::<u32>::from_slice(&[3, 1, 2])?;
    let done = Queue::<u32>::new()?;
    let child = Process::fork(|| -> Outcome {
        done.get()?;
        let first = array.get(0)?;
        Ok(done.put(&first)?)
    })?;
    let mut guard = array.lock()?;
    guard.sort();
    guard[0] = 77;
    same("as a slice", (guard.len(), guard.iter().sum::<u32>()), (3, 82))?;
    let refused = Process::fork(|| ());
    check("no fork while it is borrowed", matches!(refused, Err(Error::ArrayBorrowed)))?;
    let other = Array::<u32>::new(1)?;
    other.set(0, 5)?;
    println!("ok: another array is another one");
    done.put(&0)?;
    guard[0] = 78;
    drop(guard);
    child.join()?;
    same("then others have it", done.get()?, 78)?;
    ended_well(&Process::fork(|| ())?)?;

    let clash = Process::fork(|| -> Outcome {
        let _guard = array.lock()?;
        array.clone().get(0)?;
        Ok(())
    })?;
    same("beside a guard, access is a panic", clash.join()?, ExitStatus::Exited(1))?;
    match array.get(0) {
        Err(Error::OwnerDied) => println!("ok: which is an end while the lock is held"),
        other => return Err(format!("after the panic: {other:?}").into()),
    }
    same("told once", array.get(0)?, 78)
}

fn deaths() -> Outcome {
    let array = Array::<u64>::new(20_000)?;
    let ready = Queue::<()>::new()?;
    for _ in 0..10 {
        let holder = Process::fork(|| -> Outcome {
            let mut guard = array.lock()?;
            ready.put(&())?;
            loop {
                for element in guard.iter_mut() {
                    *element += 1;
                }
            }
        })?;
        ready.get()?;
        kill(&holder)?;
        match array.lock() {
            Err(AcquireError::OwnerDied(mut guard)) => guard.fill(0),
            Ok(_) => return Err("a death wasn't told".into()),
            Err(other) => return Err(other.into()),
        }
        if array.update(|elements| elements.iter().any(|element| *element != 0))? {
            return Err("it wasn't repaired".into());
        }
    }
    println!("ok: who is next repairs what is half changed");

    let guard = array.lock()?;
    drop(guard);
    let holder = Process::fork(|| -> Outcome {
        let _guard = array.lock()?;
        ready.put(&())?;
        std::thread::sleep(LONG);
        Ok(())
    })?;
    ready.get()?;
    let waiting = Process::fork(|| -> Outcome {
        ready.put(&())?;
        array.set(0, 1)?;
        Ok(())
    })?;
    ready.get()?;
    kill(&waiting)?;
    kill(&holder)?;
    check("who waited is gone, too", matches!(array.set(0, 2), Err(Error::OwnerDied)))?;
    same("nothing was changed", array.get(0)?, 0)
}

fn fill((array, raw): (Array<f64>, RawArray<u8>)) -> Outcome {
    array.update(|elements| elements.fill(0.25))?;
    raw.set(1, 7)?;
    Ok(())
}

fn data() -> Outcome {
    let array = Array::<f64>::new(10_000)?;
    let raw = RawArray::<u8>::new(3)?;
    ended_well(&Process::spawn(fill, (array.clone(), raw.clone()))?)?;
    same("a spawned process", array.update(|elements| elements.iter().sum::<f64>())?, 2500.0)?;
    same("a raw one, too", raw.to_vec()?, vec![0, 7, 0])?;

    // Forked before the array is made: it comes in a message.
    let arrays = Queue::<(Array<u32>, RawArray<u32>)>::new()?;
    let done = Queue::<u64>::new()?;
    let child = Process::fork(|| -> Outcome {
        for item in &arrays {
            let (array, raw) = item?;
            let sum = array.update(|elements| elements.iter().map(|n| u64::from(*n)).sum())?;
            raw.set(0, 1)?;
            done.put(&sum)?;
        }
        Ok(())
    })?;
    for len in [1_u32, 100, 50_000] {
        let numbers: Vec<u32> = (0..len).collect();
        let (array, raw) = (Array::from_slice(&numbers)?, RawArray::new(1)?);
        arrays.put(&(array.clone(), raw.clone()))?;
        let sum = done.get_timeout(LONG)?;
        same("an array through a queue", sum, (0..u64::from(len)).sum())?;
        same("and back", raw.get(0)?, 1)?;
    }
    arrays.close()?;
    ended_well(&child)?;

    let made = Queue::<Array<u8>>::new()?;
    let child = Process::fork(|| -> Outcome {
        let array = Array::from_slice(b"from the dead")?;
        made.put(&array)?;
        // With its mapping, as it is.
        array.update(|elements| elements[0] = b'F')?;
        std::process::abort()
    })?;
    child.join()?;
    let array = made.get()?;
    same("an array outlives its maker", array.to_vec()?, b"From the dead".to_vec())?;
    made.put(&array)?;
    made.put(&array)?;
    let (first, second) = (made.get()?, made.get()?);
    check("twice the same", first == second && first == array)?;
    first.update(|elements| elements[0] = b'f')?;
    same("in three places", (array.get(0)?, second.get(0)?), (b'f', b'f'))?;
    drop((array, first));
    same("the last one works", second.get(0)?, b'f')
}

fn mappings() -> Outcome {
    // Many more than there are addresses for at a time: 4 GiB hold 65536 pages of 64 KiB.
    for round in 0..1000_usize {
        let array = Array::<u64>::new(600_000)?;
        array.set(round, 1)?;
        if array.get(round)? != 1 || array.get(round + 1)? != 0 {
            return Err(format!("array {round} isn't new").into());
        }
    }
    println!("ok: thousands of arrays, one at a time");
    let arrays = (0..200).map(|_| Array::<u8>::new(70_000)).collect::<Result<Vec<_>, _>>()?;
    for (n, array) in arrays.iter().enumerate() {
        array.update(|elements| elements.fill(n as u8))?;
    }
    let child = Process::fork(|| -> Outcome {
        for (n, array) in arrays.iter().enumerate() {
            check("each its own", array.get(69_999)? == n as u8)?;
            array.set(0, 255)?;
        }
        Ok(())
    })?;
    ended_well(&child)?;
    for array in &arrays {
        if array.get(0)? != 255 {
            return Err("a mapping of a forked process is another one".into());
        }
    }
    println!("ok: hundreds at a time");

    // Mapped memory isn't for the host: its use is an error, not a crash.
    let array = Array::<u8>::from_slice(b"shared")?;
    let guard = array.lock()?;
    let (_receiver, sender) = sandpool_guest::Pipe::simplex()?;
    check("shared memory can't be sent as it is", sender.send_bytes(&guard).is_err())?;
    let copy = guard.to_vec();
    sender.send_bytes(&copy)?;
    println!("ok: but a copy can");
    Ok(())
}

fn small() -> Outcome {
    check("larger than the arena", matches!(RawArray::<u8>::new(64 << 20), Err(Error::TooLarge)))?;
    for _ in 0..3 {
        let mut arrays = Vec::new();
        let refused = loop {
            match RawArray::<u8>::new(65_536) {
                Ok(array) => arrays.push(array),
                Err(error) => break error,
            }
        };
        check("the arena is full", matches!(refused, Error::ArenaFull))?;
        check("after a few", !arrays.is_empty())?;
        for (n, array) in arrays.iter().enumerate() {
            array.set(65_535, n as u8)?;
        }
        let one = arrays.pop().ok_or("none")?;
        drop(one);
        let again = RawArray::<u8>::new(65_536)?;
        check("and has room again, for zeroes", again.get(65_535)? == 0)?;
    }
    Ok(())
}
