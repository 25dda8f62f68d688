//! Processes that mean harm to a manager and to collections that they were given, by calls that the SDK doesn't make. The
//! others go on, and at worst are told of an error.

use std::error::Error as StdError;

use sandpool_guest::manager::CallError;
use sandpool_guest::{Dict, Error, Event, List, Manager, Process, Set};
use sandpool_test_guests::{Outcome, check, ended_well, kill, same};
use serde::{Deserialize, Serialize};

/// The imports that an attacker calls who doesn't use the SDK.
#[allow(unsafe_code, reason = "the SDK makes no such call")]
mod raw {
    use sandpool_guest::Errno;

    mod import {
        #[link(wasm_import_module = "sandpool_pipe")]
        unsafe extern "C" {
            pub fn create(capacity: u64, flags: u32, ends: *mut u64) -> i32;
            pub fn send(
                end: u64,
                message: *const u8,
                len: usize,
                handles: *const u64,
                handle_count: usize,
                timeout: u64,
            ) -> i32;
        }
        #[link(wasm_import_module = "sandpool_shelf")]
        unsafe extern "C" {
            pub fn change(
                shelf: u64,
                words: *const u64,
                changes: *const [u64; 3],
                change_count: usize,
                handles: *const u64,
                handle_count: usize,
            ) -> i32;
        }
    }

    pub fn pipe(flags: u32) -> [u64; 2] {
        let mut ends = [0; 2];
        // SAFETY: the host writes two values there.
        assert_eq!(unsafe { import::create(0, flags, ends.as_mut_ptr()) }, 0);
        ends
    }

    pub fn send(end: u64, message: &[u8], handles: &[u64]) -> i32 {
        // SAFETY: the references keep what the host reads.
        unsafe { import::send(end, message.as_ptr(), message.len(), handles.as_ptr(), handles.len(), 0) }
    }

    /// Puts bytes, or nothing, into a place.
    pub fn change(shelf: u64, words: [u64; 6], place: u64, bytes: Option<&[u8]>, handles: &[u64]) -> i32 {
        let (at, len) =
            bytes.map_or((0, u64::from(u32::MAX)), |bytes| (bytes.as_ptr() as u64, bytes.len() as u64));
        let row = [place, at | len << 32, handles.len() as u64];
        // SAFETY: the references keep what the host reads.
        unsafe { import::change(shelf, words.as_ptr(), &row, 1, handles.as_ptr(), handles.len()) }
    }

    /// A place that the row's handle count doesn't match.
    pub fn change_badly(shelf: u64) -> [i32; 4] {
        let words = [0; 6];
        let rows = [[1, 0, 0], [1, 0, 0]];
        // SAFETY: as above.
        unsafe {
            [
                import::change(shelf, words.as_ptr(), rows.as_ptr(), 2, words.as_ptr(), 0),
                import::change(shelf, words.as_ptr(), &[1 << 20, 0, 0], 1, words.as_ptr(), 0),
                import::change(shelf, words.as_ptr(), &[1, 0, 5], 1, words.as_ptr(), 1),
                import::change(shelf, words.as_ptr(), &[1, 0xffff_0000 | 100 << 32, 0], 1, words.as_ptr(), 0),
            ]
        }
    }

    pub const INVAL: i32 = Errno::Inval as i32;
    pub const FAULT: i32 = Errno::Fault as i32;
}

struct Counter(u64);

#[sandpool_guest::managed]
impl Counter {
    fn new() -> Self {
        Self(0)
    }

    fn add(&mut self, number: u64) -> u64 {
        self.0 += number;
        self.0
    }
}

struct Other;

#[sandpool_guest::managed]
impl Other {
    fn new() -> Self {
        Self
    }

    fn add(&mut self, text: String) -> String {
        text
    }
}

/// The handle in the text that the SDK shows of an object.
fn handle(shown: &str) -> Result<u64, Box<dyn StdError>> {
    let (_, rest) = shown.split_once("0x").ok_or("no handle")?;
    let digits: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
    Ok(u64::from_str_radix(&digits, 16)?)
}

/// Numbers that are the same in each run.
fn noise(seed: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(seed), |number| {
        Some(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    })
    .map(|number| number >> 17)
}

fn garbage(seed: u64, len: usize) -> Vec<u8> {
    noise(seed).take(len).map(|number| number as u8).collect()
}

fn managers() -> Outcome {
    let manager = Manager::builder().register::<Counter>().register::<Other>().start()?;
    let counter = CounterProxy::new(&manager)?;
    let door = handle(&format!("{:?}", *manager))?;
    let token = handle(&format!("{counter:?}"))?;
    let attacker = Process::fork(|| -> Outcome {
        // Through the door: bytes, ends that only send, both ends of one pipe, tokens, nothing.
        for seed in 0..200 {
            raw::send(door, &garbage(seed, seed as usize), &[]);
        }
        raw::send(door, &[0; 4], &[raw::pipe(0)[1]]);
        let [one, two] = raw::pipe(1);
        raw::send(door, &[0; 4], &[one]);
        raw::send(door, &[0; 4], &[two]);
        raw::send(door, &[0; 4], &[token]);
        raw::send(door, &[0; 4], &[door]);
        // Where only proxies lie.
        raw::send(token, &garbage(7, 100), &[]);
        raw::send(token, &[], &[token]);
        // Connections with requests that make no sense, and thousands that nobody asks for.
        for seed in 0..100 {
            let [ours, theirs] = raw::pipe(1);
            raw::send(door, &[0; 4], &[theirs]);
            for len in [0, 1, 16, 27, 28, 29, 300] {
                raw::send(ours, &garbage(seed, len), &[]);
            }
            raw::send(ours, &[0; 28], &[token, door]);
        }
        Ok(())
    })?;
    same("honest calls beside it", (0..500).try_fold(0, |_, _| counter.add(1))?, 500)?;
    ended_well(&attacker)?;
    same("and after it", counter.add(1)?, 501)?;

    // A client that keeps asking and never takes a result loses its connection.
    let ready = Event::new()?;
    let flood = Process::fork(|| -> Outcome {
        let [ours, theirs] = raw::pipe(1);
        raw::send(door, &[0; 4], &[theirs]);
        ready.set()?;
        loop {
            raw::send(ours, &[1; 40], &[]);
        }
    })?;
    ready.wait()?;
    same("beside a flood", (0..500).try_fold(0, |_, _| counter.add(1))?, 1001)?;
    kill(&flood)?;

    // A proxy whose type is another one: the parts of a message, in the place of those of another.
    let parcels = sandpool_guest::Queue::<CounterProxy>::new()?;
    parcels.put(&counter)?;
    let taken = Process::spawn(
        |parcels: sandpool_guest::Queue<OtherProxy>| -> Outcome {
            let forged = parcels.get()?;
            check(
                "a value isn't taken for one of another type",
                matches!(forged.add("text".to_owned()), Err(CallError::NoSuchObject)),
            )
        },
        as_other(&parcels)?,
    )?;
    ended_well(&taken)?;
    same("it still counts", counter.add(0)?, 1001)
}

/// The same queue, with items of another type: a queue is data, and its type isn't.
fn as_other(
    queue: &sandpool_guest::Queue<CounterProxy>,
) -> Result<sandpool_guest::Queue<OtherProxy>, Box<dyn StdError>> {
    let carrier = sandpool_guest::Pipe::simplex()?;
    carrier.1.send(queue)?;
    Ok(carrier.0.recv()?)
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Clone)]
enum Deep {
    End,
    More(Box<Deep>),
}

fn collections() -> Outcome {
    // Any bytes in the places and words of a collection: errors, and no more.
    for seed in 0..150_u64 {
        let dict = Dict::<String, Vec<String>>::new()?;
        let list = List::<Dict<u64, u64>>::new()?;
        let set = Set::<String>::new()?;
        dict.insert("a", &vec!["b".to_owned()])?;
        list.append(&Dict::new()?)?;
        set.add("a")?;
        let handles =
            [handle(&format!("{dict:?}"))?, handle(&format!("{list:?}"))?, handle(&format!("{set:?}"))?];
        let mut numbers = noise(seed);
        for shelf in handles {
            let mut word = || {
                let number = numbers.next().unwrap_or(0);
                if number.is_multiple_of(3) { number } else { number % 5 }
            };
            let words = [word(), word() % 300, word(), word(), word(), word()];
            let bytes = garbage(seed, (seed * 7 % 200) as usize);
            let held = if seed % 4 == 0 { &handles[..1] } else { &[] };
            raw::change(shelf, words, seed % 3, (seed % 5 != 0).then_some(&bytes), held);
        }
        // Any result of these will do.
        let _ = (dict.get("a"), dict.insert("b", &vec![]), dict.items(), dict.popitem(), dict.clear());
        let _ = (list.get(0), list.get(1), list.insert(0, &Dict::new()?), list.pop(), list.to_vec());
        let _ = (list.append(&Dict::new()?), list.reverse(), list.pop_at(0).map(drop), list.clear());
        let _ = (set.add("b"), set.contains("a"), set.pop(), set.to_vec(), set.extend(["x".to_owned()]));
    }
    println!("ok: any bytes in a collection");
    let dict = Dict::<u64, u64>::new()?;
    dict.insert(&1, &1)?;
    let refused = raw::change_badly(handle(&format!("{dict:?}"))?);
    same("changes that make no sense", refused, [raw::INVAL, raw::INVAL, raw::INVAL, raw::FAULT])?;
    same("have changed nothing", dict.items()?, vec![(1, 1)])?;

    let mut deep = Deep::End;
    for _ in 0..100_000 {
        deep = Deep::More(Box::new(deep));
    }
    // It is dropped without recursion.
    let nested = Dict::<u64, Deep>::new()?;
    let stored = nested.insert(&1, &Deep::More(Box::new(Deep::End)));
    check("a nested value", stored.is_ok() && nested.get(&1).is_ok())?;
    while let Deep::More(inner) = deep {
        deep = *inner;
    }
    let bytes = [1, 0, 0, 0].repeat(100_000);
    let mut record =
        [&0_u64.to_le_bytes()[..], &8_u32.to_le_bytes(), &400_000_u32.to_le_bytes(), &[0; 4]].concat();
    record.extend(1_u64.to_le_bytes());
    record.extend(bytes);
    raw::change(handle(&format!("{nested:?}"))?, [1, 1, 0, 1, 7, 0], 0, Some(&record), &[]);
    check("a value nested too deep is an error", matches!(nested.get(&1), Err(Error::Decode(_))))?;

    // A holder of the lock that is killed, or that stops: only those that change wait.
    let ready = Event::new()?;
    let holder = Process::fork(|| -> Outcome {
        dict.with(|section| -> Outcome {
            section.insert(&2, &2)?;
            ready.set()?;
            Ok(Event::new()?.wait()?)
        })
    })?;
    ready.wait()?;
    same("reading beside a section", (dict.get(&1)?, dict.get(&2)?, dict.len()?), (Some(1), None, 1))?;
    kill(&holder)?;
    check("changing after its death", dict.insert(&3, &3)?)?;
    same("nothing of it is there", dict.items()?, vec![(1, 1), (3, 3)])
}

/// Many proxies and collections, in processes that are killed at random: nothing is left of them.
fn soak() -> Outcome {
    let manager = Manager::builder().register::<Counter>().start()?;
    let shared = Dict::<u64, (CounterProxy, List<u64>)>::new()?;
    let mut numbers = noise(99);
    for round in 0..40 {
        let processes: Vec<_> = (0..4_u64)
            .map(|number| {
                let (manager, shared) = (&manager, &shared);
                Process::fork(move || -> Outcome {
                    for step in 0.. {
                        let key = (number * 7 + step) % 10;
                        if step % 4 == 3 {
                            shared.remove(&key)?;
                        } else if let Some((counter, list)) = shared.get(&key)? {
                            counter.add(1)?;
                            list.append(&step)?;
                        } else {
                            shared.insert(&key, &(CounterProxy::new(manager)?, List::new()?))?;
                        }
                    }
                    Ok(())
                })
            })
            .collect::<Result<_, _>>()?;
        for process in &processes {
            // Not at the same point each time.
            for _ in 0..numbers.next().unwrap_or(0) % 20 {
                shared.items()?;
            }
            if round % 2 == 0 {
                process.kill()?
            } else {
                process.terminate()?
            }
            process.join()?;
        }
        for (_, (counter, list)) in shared.items()? {
            counter.add(1)?;
            list.to_vec()?;
        }
    }
    shared.clear()?;
    println!("ok: processes with proxies are killed at random");
    same("the manager lives", CounterProxy::new(&manager)?.add(1)?, 1)
}

#[sandpool_guest::main]
fn main() -> Outcome {
    managers()?;
    collections()?;
    soak()
}
