//! The promises of `Value` and `RawValue`.

use std::time::Duration;

use sandpool_guest::shared::{Pod, Zeroable, bytemuck};
use sandpool_guest::{Error, ExitStatus, Process, Queue, RLock, RawValue, Value};
use sandpool_test_guests::{Outcome, check, ended_well, kill, same};

const LONG: Duration = Duration::from_secs(60);

#[sandpool_guest::main]
fn main() -> Outcome {
    types()?;
    atomics()?;
    races()?;
    locks()?;
    deaths()?;
    half_done()?;
    data()?;
    many()
}

/// Values of a size that no load has, and values that don't fit where small values are.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[bytemuck(crate = "bytemuck")]
#[repr(C)]
struct Point {
    x: f64,
    y: f64,
    tag: [u8; 8],
}

fn round_trip<T: Pod + PartialEq + std::fmt::Debug>(what: &str, values: &[T]) -> Outcome {
    let raw = RawValue::new(T::zeroed())?;
    let locked = Value::new(T::zeroed())?;
    for value in values {
        Process::fork(|| raw.set(*value))?.join()?;
        Process::fork(|| locked.set(*value))?.join()?;
        if raw.get()? != *value || locked.get()? != *value {
            return Err(format!("{what}: {value:?} became {:?} and {:?}", raw.get()?, locked.get()?).into());
        }
    }
    println!("ok: {what}");
    Ok(())
}

fn types() -> Outcome {
    round_trip("u8", &[1_u8, u8::MAX])?;
    round_trip("i8", &[-1_i8, i8::MIN])?;
    round_trip("u16", &[1_u16, u16::MAX])?;
    round_trip("i16", &[-1_i16, i16::MIN])?;
    round_trip("u32", &[1_u32, u32::MAX])?;
    round_trip("i32", &[-1_i32, i32::MIN])?;
    round_trip("u64", &[1_u64, u64::MAX])?;
    round_trip("i64", &[-1_i64, i64::MIN])?;
    round_trip("f32", &[0.5_f32, f32::MIN_POSITIVE, f32::INFINITY])?;
    round_trip("f64", &[0.5_f64, f64::MIN_POSITIVE, f64::NEG_INFINITY])?;
    round_trip("three bytes", &[[1_u8, 2, 3]])?;
    round_trip("a structure", &[Point { x: 1.0, y: -2.0, tag: *b"pointer!" }])?;
    round_trip("512 bytes", &[[7_u64; 64]])?;
    round_trip("more than 512 bytes", &[[7_u64; 65]])?;
    let value = Value::new(7_i32)?;
    same("the initial value", (value.get()?, value.get_obj().get()?), (7, 7))
}

fn atomics() -> Outcome {
    let value = RawValue::new(250_u8)?;
    let atomic = value.atomic();
    same("add wraps", (atomic.fetch_add(10), atomic.load()), (250, 4))?;
    same("sub wraps", (atomic.fetch_sub(5), atomic.load()), (4, 255))?;
    same("and", (atomic.fetch_and(0b1010), atomic.load()), (255, 0b1010))?;
    same("or", (atomic.fetch_or(0b0100), atomic.load()), (0b1010, 0b1110))?;
    same("xor", (atomic.fetch_xor(0b1000), atomic.load()), (0b1110, 0b0110))?;
    same("swap", (atomic.swap(9), atomic.load()), (6, 9))?;
    same("compare_exchange", atomic.compare_exchange(9, 10), Ok(9))?;
    same("what it isn't", atomic.compare_exchange(9, 11), Err(10))?;
    atomic.store(77);
    same("store", value.get()?, 77)?;
    let value = RawValue::new(-1_i64)?;
    same("negative", (value.atomic().fetch_add(i64::MIN), value.get()?), (-1, i64::MAX))?;
    let value = RawValue::new(-2_i16)?;
    same("and narrow", value.atomic().compare_exchange(-2, -3), Ok(-2))?;
    same("sign extended", value.atomic().load(), -3)
}

fn races() -> Outcome {
    let locked = Value::new(0_u64)?;
    let atomic = RawValue::new(0_u64)?;
    let exchanged = RawValue::new(0_u32)?;
    let workers = (0..4)
        .map(|_| {
            Process::fork(|| -> Outcome {
                for _ in 0..5000 {
                    locked.update(|n| *n += 1)?;
                    atomic.atomic().fetch_add(1);
                    let mut seen = exchanged.atomic().load();
                    while let Err(other) = exchanged.atomic().compare_exchange(seen, seen + 1) {
                        seen = other;
                    }
                }
                Ok(())
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    workers.iter().try_for_each(ended_well)?;
    same("update loses nothing", locked.get()?, 20_000)?;
    same("fetch_add loses nothing", atomic.get()?, 20_000)?;
    same("nor does compare_exchange", exchanged.get()?, 20_000)
}

fn locks() -> Outcome {
    let lock = RLock::new()?;
    let (a, b) = (Value::with_lock(1_u32, lock.clone())?, Value::with_lock(2_u32, lock.clone())?);
    check("the lock that was given", *a.get_lock() == lock && *b.get_lock() == lock)?;
    check("its own lock", *Value::new(1_u8)?.get_lock() != lock)?;
    let done = Queue::<u32>::new()?;
    let guard = lock.acquire()?;
    let child = Process::fork(|| -> Outcome {
        a.update(|a| *a += 10)?;
        Ok(done.put(&a.get()?)?)
    })?;
    a.set(5)?;
    println!("ok: who holds the lock can use the value");
    check("nobody else can", done.get_timeout(Duration::from_millis(20)).is_err())?;
    b.set(a.get()? + 1)?;
    drop(guard);
    same("then the other one", done.get_timeout(LONG)?, 15)?;
    ended_well(&child)?;
    same("the second", b.get()?, 6)
}

fn deaths() -> Outcome {
    let value = Value::new(1_u64)?;
    let ready = Queue::<()>::new()?;
    let holder = Process::fork(|| -> Outcome {
        value.update(|_| -> Outcome {
            ready.put(&())?;
            std::thread::sleep(LONG);
            Ok(())
        })?
    })?;
    ready.get()?;
    kill(&holder)?;
    check("the death of its holder is told", matches!(value.update(|n| *n = 9), Err(Error::OwnerDied)))?;
    same("once, and nothing was done", value.get()?, 1)?;
    value.set(2)?;
    same("it works again", value.get()?, 2)?;

    let holder = Process::fork(|| -> Outcome {
        let _guard = value.get_lock().acquire()?;
        ready.put(&())?;
        std::thread::sleep(LONG);
        Ok(())
    })?;
    ready.get()?;
    let waiting = Process::fork(|| i32::from(matches!(value.get(), Err(Error::OwnerDied))))?;
    kill(&holder)?;
    same("who waits for the lock is told", waiting.join()?, ExitStatus::Exited(1))?;
    same("and nobody else", value.get()?, 2)
}

/// Killed at any moment, who stores a number, or adds to one, has done it or not.
fn half_done() -> Outcome {
    let (stored, added) = (RawValue::new(0_u64)?, RawValue::new(0_u64)?);
    let ready = Queue::<()>::new()?;
    for round in 0..50 {
        let child = Process::fork(|| -> Outcome {
            ready.put(&())?;
            loop {
                stored.set(u64::MAX)?;
                added.atomic().fetch_add(1 << 32 | 1);
                stored.set(0)?;
            }
        })?;
        ready.get()?;
        std::thread::sleep(Duration::from_micros(round % 10 * 50));
        kill(&child)?;
        let (stored, added) = (stored.get()?, added.get()?);
        if ![0, u64::MAX].contains(&stored) || added >> 32 != added & u64::from(u32::MAX) {
            return Err(format!("round {round}: {stored:x} and {added:x}").into());
        }
    }
    println!("ok: a number isn't half changed by who is killed");
    Ok(())
}

fn count((counter, total): (RawValue<u32>, Value<f64>)) -> Outcome {
    counter.atomic().fetch_add(1);
    Ok(total.update(|total| *total += 0.5)?)
}

fn data() -> Outcome {
    let counter = RawValue::new(0_u32)?;
    let total = Value::new(0.0_f64)?;
    for _ in 0..3 {
        ended_well(&Process::spawn(count, (counter.clone(), total.clone()))?)?;
    }
    same("spawned processes count", (counter.get()?, total.get()?), (3, 1.5))?;
    let letters = Queue::<(RawValue<u32>, Value<f64>)>::new()?;
    letters.put(&(counter.clone(), total.clone()))?;
    let (same_counter, same_total) = letters.get()?;
    check("through a queue", same_counter == counter && same_total == total)?;
    same_counter.set(8)?;
    same("the same memory", counter.get()?, 8)?;

    // Made after the fork, by the child, and it outlives it.
    let made = Queue::<Value<u64>>::new()?;
    let child = Process::fork(|| -> Outcome { Ok(made.put(&Value::new(99)?)?) })?;
    ended_well(&child)?;
    same("a value outlives its maker", made.get()?.get()?, 99)
}

fn many() -> Outcome {
    let values = (0..4000_u32).map(RawValue::new).collect::<Result<Vec<_>, _>>()?;
    let child = Process::fork(|| -> Outcome {
        for value in &values {
            value.atomic().fetch_add(1);
        }
        Ok(())
    })?;
    ended_well(&child)?;
    let mut sum = 0_u64;
    for value in &values {
        sum += u64::from(value.get()?);
    }
    same("thousands at a time", sum, (1..=4000).sum())?;
    drop(values);
    for n in 0..50_000_u64 {
        if RawValue::new(n)?.get()? != n {
            return Err(format!("value {n} is another one").into());
        }
    }
    println!("ok: one after another, without end");
    Ok(())
}
