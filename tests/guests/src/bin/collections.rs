//! The promises of dictionaries, lists, sets and namespaces.

use std::collections::{BTreeMap, HashMap};

use sandpool_guest::{Dict, Error, Event, List, Lock, Manager, Namespace, Process, Queue, Set};
use sandpool_test_guests::{Outcome, check, ended_well, kill, same};
use serde::{Deserialize, Serialize};

fn text(number: u64) -> String {
    format!("text {number}")
}

fn dicts() -> Outcome {
    let dict = Dict::<String, u64>::new()?;
    same("a new one is empty", (dict.len()?, dict.is_empty()?, dict.get("a")?), (0, true, None))?;
    check("a new key", dict.insert("a", &1)?)?;
    check("the same key", !dict.insert("a", &2)?)?;
    dict.extend([("b".to_owned(), 3), ("c".to_owned(), 4)])?;
    same("items in order", dict.items()?, vec![("a".into(), 2), ("b".into(), 3), ("c".into(), 4)])?;
    same("keys and values", (dict.keys()?.concat(), dict.values()?), ("abc".into(), vec![2, 3, 4]))?;
    same("setdefault", (dict.setdefault("a", 9)?, dict.setdefault("d", 9)?), (2, 9))?;
    same("pop", (dict.pop("a")?, dict.pop("a")?), (Some(2), None))?;
    same("popitem", dict.popitem()?, Some(("d".to_owned(), 9)))?;
    check("remove", dict.remove("b")? && !dict.remove("b")? && dict.contains_key("c")?)?;
    same(
        "update",
        (
            dict.update("c", 0, |n| {
                *n += 1;
                *n
            })?,
            dict.update("e", 7, |n| *n)?,
        ),
        (5, 7),
    )?;
    same("modify", (dict.modify("c", |n| *n *= 2)?, dict.modify("z", |_| ())?), (Some(()), None))?;
    same(
        "compare_and_set",
        (
            dict.compare_and_set("c", Some(&9), Some(&1))?,
            dict.compare_and_set("c", Some(&10), Some(&1))?,
            dict.compare_and_set("z", None, Some(&1))?,
            dict.compare_and_set("z", Some(&1), None)?,
        ),
        (false, true, true, true),
    )?;
    same("what is left", dict.items()?, vec![("c".into(), 1), ("e".into(), 7)])?;
    dict.clear()?;
    same("clear", (dict.len()?, dict.items()?, dict.popitem()?), (0, vec![], None))?;

    // Against a model, and large: the table grows.
    let dict = Dict::<u64, String>::new()?;
    let mut model = HashMap::new();
    let mut number = 1_u64;
    for step in 0..20_000 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = number >> 52;
        if step % 3 == 2 {
            if dict.pop(&key)? != model.remove(&key) {
                return Err(format!("failed: pop of {key} at {step}").into());
            }
        } else {
            let value = "x".repeat((number >> 40) as usize % 200);
            if dict.insert(&key, &value)? != model.insert(key, value).is_none() {
                return Err(format!("failed: insert of {key} at {step}").into());
            }
        }
    }
    let all: HashMap<_, _> = dict.items()?.into_iter().collect();
    check("as a map of this process", all == model && dict.len()? == model.len())?;
    let reader = Process::spawn(
        |(dict, all): (Dict<u64, String>, Vec<(u64, String)>)| -> Outcome {
            check(
                "all keys in another process",
                all.iter().all(|(key, value)| dict.get(key).is_ok_and(|found| found.as_ref() == Some(value))),
            )
        },
        (dict.clone(), model.into_iter().collect()),
    )?;
    ended_well(&reader)?;

    let large = Dict::<u64, Vec<u8>>::new()?;
    for key in 0..20 {
        large.insert(&key, &vec![key as u8; 300_000])?;
    }
    check(
        "large values",
        (0..20).all(|key| large.get(&key).is_ok_and(|found| found == Some(vec![key as u8; 300_000]))),
    )
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Player {
    name: String,
    games: BTreeMap<String, Vec<u64>>,
}

/// A list that lies in itself.
#[derive(Serialize, Deserialize)]
struct Cycle(List<Cycle>);

fn same_list(cycle: &List<Cycle>) -> Outcome {
    if cycle.get(0)?.0 == *cycle { Ok(()) } else { Err("failed: another list".into()) }
}

fn values() -> Outcome {
    let players = Dict::<u64, Player>::new()?;
    players.insert(&1, &Player { name: "ada".into(), games: BTreeMap::new() })?;
    players.modify(&1, |player| player.games.entry("go".into()).or_default().push(9))?;
    same("changed in place, deep", players.get(&1)?.map(|player| player.games["go"].clone()), Some(vec![9]))?;

    // Collections, queues and locks are values.
    let outer = Dict::<String, Dict<String, List<u64>>>::new()?;
    let inner = Dict::new()?;
    let list = List::new()?;
    list.append(&1)?;
    inner.insert("list", &list)?;
    outer.insert("inner", &inner)?;
    drop((inner, list));
    let other = Process::spawn(
        |outer: Dict<String, Dict<String, List<u64>>>| -> Outcome {
            let list = outer.get("inner")?.ok_or("no inner")?.get("list")?.ok_or("no list")?;
            Ok(list.append(&2)?)
        },
        outer.clone(),
    )?;
    ended_well(&other)?;
    let list = outer.get("inner")?.ok_or("no inner")?.get("list")?.ok_or("no list")?;
    same("collections in collections", list.to_vec()?, vec![1, 2])?;
    let queues = List::<(Queue<u64>, Lock)>::new()?;
    for _ in 0..200 {
        queues.append(&(Queue::new()?, Lock::new()?))?;
    }
    queues.get(150)?.0.put(&7)?;
    same("queues and locks in a list", queues.get(150)?.0.get()?, 7)?;
    same("and in its middle", queues.pop_at(50).map(|(queue, _)| queue.is_empty().ok())?, Some(true))?;
    queues.with(|queues| {
        queues.append(&(Queue::new()?, Lock::new()?))?;
        let last = queues.len()? - 1;
        queues.get(last).map(drop)
    })?;
    println!("ok: one that was put in just now");
    let key = Dict::<String, u64>::new()?;
    let refused = Dict::<List<u64>, u64>::new()?.insert(&list, &1);
    check("a key can't be a list", matches!(refused, Err(Error::Encode(_))))?;
    // Cycles are no problem, and go when the room is needed.
    for _ in 0..50 {
        let cycle = List::<Cycle>::new()?;
        cycle.append(&Cycle(cycle.clone()))?;
        same_list(&cycle)?;
    }
    let taken = Process::spawn(|list: Dict<String, u64>| list.len().map(drop), key)?;
    ended_well(&taken)?;
    let ns = Namespace::new()?;
    ns.set("x", "text")?;
    check("a value of another type", matches!(ns.get::<Vec<u64>>("x"), Err(Error::Decode(_))))
}

fn lists() -> Outcome {
    let list = List::<u64>::new()?;
    same("an empty list", (list.len()?, list.pop()?, list.to_vec()?), (0, None, vec![]))?;
    list.extend([3, 1, 2])?;
    list.append(&4)?;
    list.insert(0, &9)?;
    list.insert(99, &5)?;
    same("append, extend, insert", list.to_vec()?, vec![9, 3, 1, 2, 4, 5])?;
    list.set(1, &7)?;
    same("get and set", (list.get(0)?, list.get(1)?, list.get(5)?), (9, 7, 5))?;
    check(
        "out of range",
        matches!(
            (list.get(6), list.set(6, &0), list.delete(6)),
            (Err(Error::OutOfBounds), Err(Error::OutOfBounds), Err(Error::OutOfBounds))
        ),
    )?;
    same("pop", (list.pop()?, list.pop_at(0)?), (Some(5), 9))?;
    same(
        "index, count, contains",
        (list.index(&2)?, list.index(&9)?, list.count(&4)?, list.contains(&1)?),
        (Some(2), None, 1, true),
    )?;
    check("remove", list.remove(&1)? && !list.remove(&1)?)?;
    same("slice", (list.slice(1..)?, list.slice(..=0)?), (vec![2, 4], vec![7]))?;
    list.sort()?;
    list.reverse()?;
    list.repeat(2)?;
    same("sort, reverse, repeat", list.to_vec()?, vec![7, 4, 2, 7, 4, 2])?;
    same(
        "update",
        list.update(0, |item| {
            *item += 1;
            *item
        })?,
        8,
    )?;
    list.clear()?;
    same("clear", list.len()?, 0)?;

    // Against a model, with blocks that split and go.
    let list = List::<String>::new()?;
    let mut model = Vec::new();
    let mut number = 7_u64;
    for step in 0..6_000_u64 {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (number >> 33) as usize % (model.len() + 1);
        match step % 5 {
            0 | 1 => {
                list.insert(at, &text(step))?;
                model.insert(at, text(step));
            }
            2 => {
                list.append(&text(step))?;
                model.push(text(step));
            }
            3 if at < model.len() => {
                let taken = list.pop_at(at)?;
                if taken != model.remove(at) {
                    return Err(format!("failed: pop_at {at} at {step}").into());
                }
            }
            4 if at < model.len() => {
                list.set(at, &text(step))?;
                model[at] = text(step);
                if list.get(at)? != model[at] {
                    return Err(format!("failed: get {at} at {step}").into());
                }
            }
            _ => {}
        }
    }
    check("as a vector of this process", list.to_vec()? == model)?;
    while let Some(last) = model.pop() {
        if list.pop()? != Some(last) {
            return Err("failed: pop".into());
        }
    }
    same("taken from the end", (list.len()?, list.to_vec()?), (0, vec![]))?;
    for round in 0..3000 {
        list.append(&text(round))?;
        if round >= 100 && list.pop_at(0)? != text(round - 100) {
            return Err("failed: first in, first out".into());
        }
    }
    same("used as a queue", list.len()?, 100)
}

fn sets() -> Outcome {
    let set = Set::<String>::new()?;
    check("new, and not", set.add("a")? && !set.add("a")? && set.contains("a")?)?;
    set.extend(["b".to_owned(), "c".to_owned(), "a".to_owned()])?;
    same("in order", set.to_vec()?.concat(), "abc".to_owned())?;
    check("removed, and not", set.remove("b")? && !set.remove("b")?)?;
    set.symmetric_difference_update(["c".to_owned(), "d".to_owned()])?;
    same("symmetric_difference_update", set.to_vec()?.concat(), "ad".to_owned())?;
    set.intersection_update(["d".to_owned(), "x".to_owned()])?;
    set.difference_update(["x".to_owned()])?;
    same(
        "intersection_update, difference_update",
        (set.len()?, set.pop()?, set.pop()?),
        (1, Some("d".to_owned()), None),
    )?;
    let firsts = Queue::<u64>::new()?;
    let processes: Vec<_> = (0..4)
        .map(|_| {
            Process::fork(|| -> Outcome {
                for number in 0..100 {
                    if set.add(&text(number))? {
                        firsts.put(&number)?;
                    }
                }
                Ok(())
            })
        })
        .collect::<Result<_, _>>()?;
    for process in &processes {
        ended_well(process)?;
    }
    same("exactly one is first", (firsts.qsize()?, set.len()?), (100, 100))
}

fn namespaces() -> Outcome {
    let manager = Manager::start()?;
    let ns = manager.namespace()?;
    ns.set("name", "ada")?;
    ns.set("tries", &3_u32)?;
    same(
        "values of several types",
        (ns.get::<String>("name")?, ns.get::<u32>("tries")?, ns.get::<u8>("x")?),
        (Some("ada".to_owned()), Some(3), None),
    )?;
    same("names", ns.names()?.concat(), "nametries".to_owned())?;
    same(
        "update",
        ns.update("tries", 0_u32, |tries| {
            *tries += 1;
            *tries
        })?,
        4,
    )?;
    check("removed, and not", ns.remove("name")? && !ns.remove("name")?)?;
    manager.shutdown()?;
    same("it needs no manager", ns.get::<u32>("tries")?, Some(4))
}

fn steps() -> Outcome {
    // Two accounts whose sum never changes, and processes that are killed while they move money.
    let accounts = Dict::<String, i64>::new()?;
    accounts.extend([("a".to_owned(), 1000), ("b".to_owned(), 0)])?;
    let log = List::<String>::new()?;
    let sum = || -> Result<i64, Error> { Ok(accounts.values()?.iter().sum()) };
    let begun = Event::new()?;
    for round in 0..60 {
        begun.clear()?;
        let mover = Process::fork(|| -> Outcome {
            begun.set()?;
            loop {
                accounts.with(|accounts| {
                    let from = accounts.get("a")?.unwrap_or(0);
                    let to = accounts.get("b")?.unwrap_or(0);
                    accounts.insert("a", &(to + 1))?;
                    accounts.insert("b", &(from - 1))?;
                    accounts.insert(&text(round), &0).map(drop)
                })?;
                log.append(&"x".repeat(100))?;
            }
        })?;
        begun.wait()?;
        for _ in 0..round {
            if sum()? != 1000 {
                return Err("failed: half of a step was seen".into());
            }
        }
        kill(&mover)?;
        if sum()? != 1000 || log.to_vec()?.len() != log.len()? {
            return Err("failed: half of a step is left".into());
        }
    }
    println!("ok: who is killed leaves whole steps");

    let counts = Dict::<u64, u64>::new()?;
    let processes: Vec<_> = (0..4)
        .map(|_| {
            Process::fork(|| (0..2000).try_for_each(|n| counts.update(&(n % 7), 0, |count| *count += 1)))
        })
        .collect::<Result<_, _>>()?;
    for process in &processes {
        ended_well(process)?;
    }
    same("no update is lost", counts.values()?.iter().sum::<u64>(), 8000)?;

    let failed = counts.with(|counts| {
        counts.clear()?;
        counts.insert(&1, &1)?;
        Err::<(), _>(Error::OutOfBounds)
    });
    check("a step that fails changes nothing", failed.is_err() && counts.len()? == 7)?;
    let inner = counts.with(|_| counts.insert(&1, &1));
    check("a step inside of its own is an error", matches!(inner, Err(Error::Host(_))))?;
    counts.with(|section| -> Outcome {
        section.insert(&100, &1)?;
        check("others see the state before", counts.get(&100)?.is_none())?;
        let child = Process::fork(|| i32::from(counts.get(&100).is_ok_and(|found| found.is_some())))?;
        ended_well(&child)
    })?;
    same("and then the state after", counts.get(&100)?, Some(1))?;
    // All places of a large dictionary in one step.
    let large = Dict::<u64, u64>::new()?;
    large.with(|large| (0..20_000).try_for_each(|n| large.insert(&n, &n).map(drop)))?;
    same("a large step", (large.len()?, large.get(&19_999)?), (20_000, Some(19_999)))?;
    large.clear()?;
    same("all of it removed", large.len()?, 0)
}

#[sandpool_guest::main]
fn main() -> Outcome {
    dicts()?;
    values()?;
    lists()?;
    sets()?;
    namespaces()?;
    steps()
}
