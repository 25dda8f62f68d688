//! The promises of managers: values of own types, proxies, errors, deaths.

use std::time::Duration;

use sandpool_guest::manager::{CallError, ManagerHandle, StartError};
use sandpool_guest::{Dict, Error, Event, ExitStatus, Manager, Process, Queue, Signal};
use sandpool_test_guests::{Outcome, check, ended_well, eventually, kill, same};
use serde::{Deserialize, Serialize};

struct Counter {
    total: u64,
}

#[sandpool_guest::managed]
impl Counter {
    fn new(total: u64) -> Self {
        Self { total }
    }

    /// A value, unless it is too large.
    fn checked(total: u64) -> Result<Self, String> {
        if total < 100 { Ok(Self { total }) } else { Err(format!("{total} is too large")) }
    }

    fn add(&mut self, number: u64) -> u64 {
        self.total += number;
        self.total
    }

    fn total(&self) -> u64 {
        self.total
    }

    fn fail(&mut self, text: String) -> Result<u64, String> {
        Err(text)
    }

    fn panic(&mut self, text: String) {
        self.total = 0;
        panic!("{text}");
    }

    fn copy(&self) -> Result<CounterProxy, String> {
        CounterProxy::host(Self { total: self.total }).map_err(|error| error.to_string())
    }

    fn wait_for(&mut self, begun: Event, event: Event) -> bool {
        begun.set().and_then(|()| event.wait()).is_ok()
    }

    fn add_to(&mut self, other: CounterProxy) -> Result<u64, String> {
        other.add(self.total).map_err(|error| error.to_string())
    }

    fn panic_in_a_step(&mut self, dict: Dict<u64, u64>) -> Result<(), String> {
        let step = dict.with(|section| -> Result<(), Error> {
            section.insert(&1, &self.total)?;
            panic!("in a step")
        });
        step.map_err(|error| error.to_string())
    }

    fn twice(&self, bytes: Vec<u8>) -> Vec<u8> {
        [bytes.as_slice(), &bytes].concat()
    }
}

#[derive(Clone)]
struct Restored {
    all: Vec<String>,
}

#[sandpool_guest::managed(restore)]
impl Restored {
    fn new() -> Self {
        Self { all: Vec::new() }
    }

    fn push(&mut self, text: String) -> usize {
        self.all.push(text);
        assert!(self.all.len() < 3, "there are too many");
        self.all.len()
    }

    fn all(&self) -> Vec<String> {
        self.all.clone()
    }
}

/// Tells when it is dropped.
struct Watched {
    name: String,
    dropped: Queue<String>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.dropped.put(&self.name);
    }
}

#[sandpool_guest::managed]
impl Watched {
    fn new(name: String, dropped: Queue<String>) -> Self {
        Self { name, dropped }
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

struct Unknown;

#[sandpool_guest::managed]
impl Unknown {
    fn new() -> Self {
        Self
    }
}

/// A list whose elements are in the manager.
struct Node {
    number: u64,
    next: Option<NodeProxy>,
}

#[sandpool_guest::managed]
impl Node {
    fn new(number: u64, next: Option<NodeProxy>) -> Self {
        Self { number, next }
    }

    fn sum(&self) -> u64 {
        self.number + self.next.as_ref().map_or(0, |next| next.sum().unwrap_or(1 << 32))
    }

    fn set_next(&mut self, next: Option<NodeProxy>) {
        self.next = next;
    }
}

fn manager() -> Result<Manager, StartError> {
    Manager::builder()
        .register::<Counter>()
        .register::<Restored>()
        .register::<Watched>()
        .register::<Node>()
        .start()
}

#[derive(Serialize, Deserialize)]
struct Parcel {
    counters: Vec<CounterProxy>,
    manager: ManagerHandle,
}

fn calls() -> Outcome {
    let manager = manager()?;
    let counter = CounterProxy::new(&manager, 7)?;
    same("a call and its result", counter.add(1)?, 8)?;
    let fork = Process::fork(|| counter.add(1).map(drop))?;
    ended_well(&fork)?;
    let spawned = Process::spawn(
        |(counter, more): (CounterProxy, u64)| counter.add(more).map(drop),
        (counter.clone(), 10),
    )?;
    ended_well(&spawned)?;
    same("from forked and spawned processes", counter.total()?, 19)?;

    let parcels = Queue::<Parcel>::new()?;
    parcels.put(&Parcel { counters: vec![counter.clone(), counter.copy()??], manager: manager.clone() })?;
    let other = Process::fork(|| -> Outcome {
        let parcel = parcels.get()?;
        for counter in &parcel.counters {
            counter.add(1)?;
        }
        check("a proxy tells its manager", parcel.counters[0].manager() == parcel.manager)?;
        Ok(CounterProxy::new(&parcel.manager, 5)?.add(1).map(drop)?)
    })?;
    ended_well(&other)?;
    same("through a queue, with the manager", counter.total()?, 20)?;
    let copy = counter.copy()??;
    copy.add(100)?;
    same("a method returns a proxy of another value", (counter.total()?, copy.total()?), (20, 120))?;
    same("one value calls another", copy.add_to(counter.clone())??, 140)?;
    check("a value can't call itself", copy.add_to(copy.clone())?.is_err_and(|why| why.contains("middle")))?;
    same("and goes on", copy.total()?, 120)?;
    let mut list = None;
    for number in 1..=50 {
        list = Some(NodeProxy::new(&manager, number, list)?);
    }
    let list = list.ok_or("no list")?;
    same("proxies in values, deep", list.sum()?, 1275)?;
    list.set_next(Some(list.clone()))?;
    same("a cycle is an error", list.sum()?, 50 + (1 << 32))?;

    let dict = Dict::<String, CounterProxy>::new()?;
    dict.insert("a", &counter)?;
    let reader = Process::fork(|| -> Outcome { Ok(dict.get("a")?.ok_or("gone")?.add(1).map(drop)?) })?;
    ended_well(&reader)?;
    same("a proxy in a dictionary", counter.total()?, 141)?;

    let large = vec![7; 3_000_000];
    same("large arguments and results", counter.twice(large)?.len(), 6_000_000)?;
    let processes: Vec<_> = (0..4)
        .map(|_| Process::fork(|| (0..500).try_for_each(|_| counter.add(1).map(drop))))
        .collect::<Result<_, _>>()?;
    for process in &processes {
        ended_well(process)?;
    }
    same("many at once, and none is lost", counter.total()?, 2141)
}

fn errors() -> Outcome {
    let manager = manager()?;
    same("what a constructor makes", CounterProxy::checked(&manager, 7)??.total()?, 7)?;
    same(
        "what it refuses",
        CounterProxy::checked(&manager, 700)?.map(|_| ()),
        Err("700 is too large".to_owned()),
    )?;
    let counter = CounterProxy::new(&manager, 7)?;
    same("a method that fails", counter.fail("why".to_owned())?, Err("why".to_owned()))?;
    let other = CounterProxy::new(&manager, 1)?;
    let panicked = counter.panic("as it should be".to_owned());
    check(
        "a panic is an error of the call",
        matches!(&panicked, Err(CallError::Panicked(text)) if text.starts_with("as it should be (at ")),
    )?;
    check("the value is poisoned", matches!(counter.total(), Err(CallError::Poisoned)))?;
    same("others go on", other.add(1)?, 2)?;

    let restored = RestoredProxy::new(&manager)?;
    restored.push("a".to_owned())?;
    restored.push("b".to_owned())?;
    for _ in 0..100 {
        let refused = restored.push("c".to_owned());
        if !matches!(&refused, Err(CallError::Panicked(text)) if text.starts_with("there are too many")) {
            return Err(format!("failed: {refused:?}").into());
        }
    }
    same("restored, a hundred times", restored.all()?, vec!["a".to_owned(), "b".to_owned()])?;

    let dict = Dict::new()?;
    let third = CounterProxy::new(&manager, 3)?;
    check("a panic in a step", matches!(third.panic_in_a_step(dict.clone()), Err(CallError::Panicked(_))))?;
    dict.insert(&2, &2)?;
    same("holds up nobody, and has changed nothing", dict.items()?, vec![(2, 2)])?;

    let unknown = UnknownProxy::new(&manager);
    check("a type that isn't registered", matches!(unknown, Err(CallError::NotRegistered)))?;
    check(
        "a value outside of a manager",
        matches!(CounterProxy::host(Counter { total: 0 }), Err(CallError::NotInManager)),
    )?;

    let (begun, event) = (Event::new()?, Event::new()?);
    let slow = other.within(Duration::from_millis(1)).wait_for(begun.clone(), event.clone());
    check("a call that takes too long", matches!(slow, Err(CallError::TimedOut)))?;
    begun.wait()?;
    event.set()?;
    same("the next is fine", other.total()?, 2)
}

fn lives() -> Outcome {
    let manager = manager()?;
    let dropped = Queue::<String>::new()?;
    let make = |name: &str| WatchedProxy::new(&manager, name.to_owned(), dropped.clone());
    let first = make("first")?;
    let clone = first.clone();
    drop(first);
    same("a clone keeps it", clone.name()?.as_str(), "first")?;
    drop(clone);
    same("it goes with the last proxy", dropped.get()?.as_str(), "first")?;

    let held = make("held")?;
    let ready = Event::new()?;
    let holder = Process::spawn(
        |(held, ready): (WatchedProxy, Event)| -> Outcome {
            check("held by another", held.name()? == "held")?;
            ready.set()?;
            Ok(Event::new()?.wait()?)
        },
        (held, ready.clone()),
    )?;
    ready.wait()?;
    check("a moved proxy lives on", dropped.is_empty()?)?;
    kill(&holder)?;
    same("it goes with a killed holder", dropped.get()?.as_str(), "held")?;

    let queue = Queue::<WatchedProxy>::new()?;
    queue.put(&make("queued")?)?;
    check("a message keeps it", dropped.is_empty()?)?;
    drop(queue);
    same("it goes with the message", dropped.get()?.as_str(), "queued")?;

    let dict = Dict::<u64, WatchedProxy>::new()?;
    dict.insert(&1, &make("entry")?)?;
    same("a dictionary keeps it", dict.get(&1)?.ok_or("gone")?.name()?.as_str(), "entry")?;
    dict.clear()?;
    same("it goes with the entry", dropped.get()?.as_str(), "entry")?;

    let last = make("last")?;
    same("shutdown", manager.shutdown()?, ExitStatus::Exited(0))?;
    same("drops what there is", dropped.get()?.as_str(), "last")?;
    check("a call of a manager that has ended", matches!(last.name(), Err(CallError::ManagerDied)))?;
    let spawned = Process::spawn(
        |last: WatchedProxy| i32::from(!matches!(last.name(), Err(CallError::ManagerDied))),
        last,
    )?;
    ended_well(&spawned)
}

fn deaths() -> Outcome {
    let manager = manager()?;
    let counter = CounterProxy::new(&manager, 1)?;
    let (begun, never, event) = (Event::new()?, Event::new()?, Event::new()?);
    // A client is killed in the middle of its call.
    let client = Process::fork(|| counter.wait_for(begun.clone(), event.clone()).map(drop))?;
    begun.wait()?;
    kill(&client)?;
    event.set()?;
    same("a client that dies in a call leaves nothing", counter.add(1)?, 2)?;
    begun.clear()?;
    // The manager is killed in the middle of a call.
    let client = Process::fork(|| {
        let died = counter.wait_for(begun.clone(), never.clone());
        i32::from(!matches!(died, Err(CallError::ManagerDied)))
    })?;
    begun.wait()?;
    manager.process().kill()?;
    ended_well(&client)?;
    check("a call of a killed manager", matches!(counter.total(), Err(CallError::ManagerDied)))?;
    let new = CounterProxy::new(&manager, 1);
    check("nor is anything made there", matches!(new, Err(CallError::ManagerDied)))?;
    let status = manager.shutdown()?;
    check("its shutdown says how it ended", status == ExitStatus::Signaled(Signal::KILL))?;

    let manager = self::manager()?;
    let counter = CounterProxy::new(&manager, 1)?;
    let fork = Process::fork(|| counter.add(1).map(drop))?;
    // The fork has a copy of the manager, and ends.
    ended_well(&fork)?;
    check("a copy ends nothing", counter.total()? == 2 && manager.process().is_alive()?)
}

fn settings() -> Outcome {
    let places = Queue::<String>::new()?;
    let manager = Manager::builder()
        .name("the manager")
        .register::<Counter>()
        .initializer(|places: Queue<String>| places.put(&"initialized".to_owned()), places.clone())
        .start()?;
    same("the name", manager.name(), "the manager")?;
    same("the initializer", places.try_get()?.as_str(), "initialized")?;
    drop(manager);
    println!("ok: a manager is dropped");
    let failed = Manager::builder().initializer(|number: u64| assert_eq!(number, 8), 7).start();
    check(
        "an initializer that panics",
        matches!(&failed, Err(StartError::Ended(stderr)) if stderr.contains("panicked")),
    )?;
    let failed = Manager::builder().initializer(|()| Err::<(), _>("no room"), ()).start();
    check(
        "an initializer that fails",
        matches!(&failed, Err(StartError::Ended(why)) if why.contains("no room")),
    )?;
    let manager = Manager::builder().register::<Counter>().shutdown_timeout(Duration::ZERO).start()?;
    let counter = CounterProxy::new(&manager, 1)?;
    let (begun, never) = (Event::new()?, Event::new()?);
    let client = Process::fork(|| counter.wait_for(begun.clone(), never.clone()).map(drop))?;
    begun.wait()?;
    same("a manager that is busy is killed", manager.shutdown()?, ExitStatus::Signaled(Signal::KILL))?;
    client.join()?;
    let manager = Manager::start()?;
    eventually("it is alive", || manager.process().is_alive())?;
    same("a lock of the manager's", manager.lock()?.locked()?, false)
}

#[sandpool_guest::main]
fn main() -> Outcome {
    calls()?;
    errors()?;
    lives()?;
    deaths()?;
    settings()
}
