//! The promises of a `Pool`, where nothing goes wrong.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use sandpool_guest::pool::{AsyncResult, Cause, PoolEnd, PoolError, StartMethod};
use sandpool_guest::{Event, Pool, Process, Queue, RawValue, active_children, cpu_count, current_process};
use sandpool_test_guests::{LONG, Outcome, check, ended_well, eventually, same};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SHORT: Duration = Duration::from_millis(20);

#[sandpool_guest::main]
fn main() -> Outcome {
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        results(method)?;
        lives(method)?;
        partial(method)?;
    }
    async_results()?;
    callbacks()?;
    imap()?;
    refusals()?;
    ends()?;
    resize()?;
    handles()
}

fn square(n: u64) -> u64 {
    n * n
}

fn name(_: u64) -> String {
    current_process().map(|process| process.name().to_owned()).unwrap_or_default()
}

fn results(method: StartMethod) -> Outcome {
    let pool = Pool::builder().processes(3).start_method(method).build()?;
    same("apply", pool.apply(square, 12)?, 144)?;
    same(
        "several arguments are a tuple",
        pool.apply(|(a, b): (u64, String)| format!("{a}{b}"), (1, "x".into()))?,
        "1x".to_owned(),
    )?;
    same("a map of nothing", pool.map(square, [])?, Vec::new())?;
    for count in [1, 2, 7, 1000, 30_000] {
        let expected: Vec<_> = (0..count).map(square).collect();
        for chunksize in [None, Some(1), Some(3), Some(100_000)] {
            let mut options = pool.options();
            if let Some(chunksize) = chunksize {
                options = options.chunksize(chunksize);
            }
            let all = options.imap(square, 0..count)?.collect::<Result<Vec<_>, _>>()?;
            let mut arrived = options.imap_unordered(square, 0..count)?.collect::<Result<Vec<_>, _>>()?;
            arrived.sort_unstable();
            let later = options.map_async(square, 0..count)?;
            if [&options.map(square, 0..count)?, &all, &arrived, &later.get()?] != [&expected; 4] {
                return Err(format!("{count} in chunks of {chunksize:?} differ").into());
            }
        }
    }
    println!("ok: {method:?}: all results, each in its place");

    // Of all sizes, alone and in chunks: more than a page, than a batch, than a buffer.
    let sizes = [0, 1, 239, 240, 8_000, 8_192, 9_000, 70_000, 300_000, 5_000_000];
    for chunksize in [1, 4, 100] {
        let echo = |bytes: Vec<u8>| bytes.iter().rev().copied().collect::<Vec<u8>>();
        let inputs: Vec<Vec<u8>> =
            sizes.iter().map(|size| (0..*size).map(|at| (at % 251) as u8).collect()).collect();
        let expected: Vec<_> = inputs.iter().cloned().map(echo).collect();
        if pool.options().chunksize(chunksize).map(echo, inputs)? != expected {
            return Err(format!("large ones in chunks of {chunksize} differ").into());
        }
    }
    println!("ok: {method:?}: results of 0 bytes to 5 MB");

    let wrong: Vec<_> = pool.map(|n: u64| if n == 2 { Err(n) } else { Ok(n) }, 0..4)?;
    same("an error is a result", wrong, vec![Ok(0), Ok(1), Err(2), Ok(3)])?;
    let stats = pool.stats();
    check("and counts as a failure", stats.failed == 1 && stats.submitted == stats.succeeded + 1)?;
    let names: BTreeSet<_> = pool.options().chunksize(1).map(name, 0..1000)?.into_iter().collect();
    let all = ["PoolWorker-1", "PoolWorker-2", "PoolWorker-3"].map(str::to_owned);
    check("workers have names", names.is_subset(&BTreeSet::from(all)) && !names.is_empty())?;
    let daemons = active_children()?.into_iter().all(|child| child.daemon());
    check(&format!("{method:?}: workers are daemonic"), daemons)
}

/// A state that counts, in shared memory, how often it is decoded.
#[derive(Serialize)]
struct Counted {
    decoded: RawValue<u64>,
    by: u64,
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (decoded, by) = <(RawValue<u64>, u64)>::deserialize(deserializer)?;
        decoded.atomic().fetch_add(1);
        Ok(Self { decoded, by })
    }
}

/// Functions with a state filled in.
fn partial(method: StartMethod) -> Outcome {
    fn scale(by: &u64, n: u64) -> u64 {
        by * n
    }
    let pool = Pool::builder().processes(2).start_method(method).build()?;
    let triple = pool.partial(&3);
    let expected: Vec<u64> = (0..1000).map(|n| 3 * n).collect();
    let mut arrived = triple.imap_unordered(scale, 0..1000)?.collect::<Result<Vec<_>, _>>()?;
    arrived.sort_unstable();
    let all = [
        triple.map(scale, 0..1000)?,
        triple.map_async(scale, 0..1000)?.get()?,
        triple.imap(scale, 0..1000)?.collect::<Result<_, _>>()?,
        arrived,
        (0..1000)
            .map(|n| triple.apply_async(scale, n)?.get().map_err(PoolError::Task))
            .collect::<Result<_, _>>()?,
    ];
    check(&format!("{method:?}: a state in each call"), all.iter().all(|all| *all == expected))?;
    same("a closure, and one task", triple.apply(|by, n| by + n, 4)?, 7)?;
    same("one of another state, with the same pool", pool.partial(&5).apply(scale, 2)?, 10)?;
    same(
        "a single one",
        pool.partial(&"x".to_owned()).submit(|x, n| x.repeat(n), 3)?.result()?,
        "xxx".to_owned(),
    )?;

    let state = Counted { decoded: RawValue::new(0)?, by: 2 };
    let options = pool.options().chunksize(50).partial(&state);
    let all = options.map(|state, n: u64| state.by * n, 0..1000)?;
    same("with handles", all.iter().sum::<u64>(), 1000 * 999)?;
    same("it is decoded once in a chunk", state.decoded.atomic().load(), 20)?;

    // Items in a batch, in a message of its own, and in many of those.
    for size in [0, 200, 5_000, 70_000, 3 << 20] {
        let text = "a".repeat(size);
        let at = pool.options().chunksize(2).partial(&text);
        let lens = at.map(|text, n: usize| text.len() + n, 0..40)?;
        if lens != (size..size + 40).collect::<Vec<_>>() {
            return Err(format!("a state of {size} bytes differs").into());
        }
    }
    println!("ok: {method:?}: a state of 0 bytes to 3 MB");
    // As many handles as fit into one message, and some more.
    let queue = Queue::<u64>::new()?;
    let queues: Vec<_> = (0..1020).map(|_| queue.clone()).collect();
    let put = |queues: &Vec<Queue<u64>>, last: Queue<u64>| {
        queues.iter().chain([&last]).all(|queue| queue.put(&1).is_ok())
    };
    let all = pool.options().chunksize(20).partial(&queues).map(put, (0..20).map(|_| queue.clone()))?;
    check("a state with many handles", all.iter().all(|put| *put))?;
    same("and all were there", queue.qsize()?, 20 * 1021)?;

    let refused = pool.partial(&Secret).map(|_, n: u64| n, 0..3);
    check("a state that can't be encoded", matches!(refused, Err(PoolError::Encode(_))))
}

/// A value that can't be encoded.
#[derive(Deserialize)]
struct Secret;

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom("a secret"))
    }
}

/// Workers that end after some tasks, and are replaced.
fn lives(method: StartMethod) -> Outcome {
    let pool = Pool::builder().processes(2).maxtasksperchild(3).start_method(method).build()?;
    let mut tasks = std::collections::BTreeMap::new();
    for name in pool.options().chunksize(1).map(name, 0..60)? {
        *tasks.entry(name).or_insert(0) += 1;
    }
    check("none does more than it may", tasks.values().all(|count| *count <= 3) && tasks.len() >= 20)?;
    let names: BTreeSet<_> = pool.options().chunksize(10).map(name, 0..60)?.into_iter().collect();
    check("a chunk counts as one task", names.len() <= 4)?;
    same(&format!("{method:?}: none is lost by that"), pool.stats().workers_lost, 0)
}

fn async_results() -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    let go = Event::new()?;
    let wait = |go: Event| go.wait().is_ok();
    let first = pool.apply_async(wait, go.clone())?;
    check("not ready", !first.ready() && first.successful().is_none())?;
    check("not in no time", !first.wait_timeout(SHORT))?;
    let Err(first) = first.get_timeout(Duration::ZERO) else { return Err("there is a result".into()) };
    let second = pool.map_async(square, 0..3)?;
    go.set()?;
    check("a result", first.get()?)?;
    second.wait();
    check("ready, and successful", second.ready() && second.successful() == Some(true))?;
    same("those of a map", second.get()?, vec![0, 1, 4])?;
    let failed = pool.apply_async(|n: u64| if n == 0 { Err("zero".to_owned()) } else { Ok(n) }, 0)?;
    failed.wait();
    check("not successful", failed.successful() == Some(false))?;
    same("but a result", failed.get()?, Err("zero".to_owned()))?;
    // Nobody waits for it, and it is done.
    let seen = Queue::new()?;
    drop(pool.apply_async(|seen: Queue<u64>| seen.put(&7).is_ok(), seen.clone())?);
    same("one that was dropped is done", seen.get()?, 7)
}

fn callbacks() -> Outcome {
    let pool = Rc::new(Pool::builder().processes(2).build()?);
    let order = Rc::new(RefCell::new(Vec::new()));
    let note = |order: &Rc<RefCell<Vec<String>>>| {
        let order = order.clone();
        move |text: String| order.borrow_mut().push(text)
    };
    let (ok, bad, late) = (note(&order), note(&order), note(&order));
    let result =
        pool.apply_async(square, 3)?.on_done(move |result| ok(format!("{:?}", result.as_ref().ok())));
    same(
        "a callback before the result is used",
        (result.get()?, order.take()),
        (9, vec!["Some(9)".to_owned()]),
    )?;
    let failed = pool.apply_async(|n: u64| assert_eq!(n, 0), 1)?.on_done(move |result| {
        bad(result.as_ref().err().map(ToString::to_string).unwrap_or_default());
    });
    failed.wait();
    check("an error callback", order.take().concat().starts_with("task 0: panicked: "))?;
    let both = |result: AsyncResult<u64>| {
        let (ok, bad) = (note(&order), note(&order));
        let result = result.callback(move |value| ok(format!("value {value}")));
        result.error_callback(move |error| bad(error.cause().to_string())).wait();
        order.take()
    };
    same("the callback for values", both(pool.apply_async(square, 4)?), vec!["value 16".to_owned()])?;
    let failed = pool.apply_async(|n: u64| if n == 4 { panic!("no four") } else { n }, 4)?;
    same("the callback for errors", both(failed), vec!["panicked: no four".to_owned()])?;
    let done = pool.apply_async(square, 2)?;
    done.wait();
    drop(done.on_done(move |_| late("late".to_owned())));
    same("one that comes late is called at once", order.take(), vec!["late".to_owned()])?;

    // A callback that uses the pool, and waits for what comes after it.
    let (again, sum) = (pool.clone(), Rc::new(Cell::new(0)));
    let others: Vec<_> = (0..100).map(|n| pool.apply_async(square, n)).collect::<Result<_, _>>()?;
    let total = sum.clone();
    let first = pool.apply_async(square, 5)?.on_done(move |_| {
        total.set(others.into_iter().flat_map(|other| other.get()).sum::<u64>());
        total.set(total.get() + again.apply(square, 10).unwrap_or(0));
    });
    first.wait();
    same("a callback may use the pool", sum.get(), 328_350 + 100)
}

fn imap() -> Outcome {
    let pool = Pool::builder().processes(2).build()?;
    let read = Rc::new(Cell::new(0));
    let count = read.clone();
    let input = (0..).inspect(move |_| count.set(count.get() + 1));
    let mut taken = 0;
    for square in pool.options().window(10).imap(square, input)? {
        square?;
        taken += 1;
        if read.get() > taken + 10 {
            return Err(format!("{} were read when {taken} were taken", read.get()).into());
        }
        if taken == 1000 {
            break;
        }
    }
    println!("ok: the input is read as results are taken");
    let count = read.clone();
    read.set(0);
    let slow = |_: u64| std::thread::sleep(SHORT);
    let _: Vec<_> = pool.imap(slow, (0..).inspect(move |_| count.set(count.get() + 1)))?.take(8).collect();
    check("not far ahead where tasks are long", read.get() <= 8 + 2 * 2)?;

    // Also where a worker finds them behind short tasks of another function, of which it takes many at a time.
    let one = Pool::builder().processes(1).build()?;
    let go = Event::new()?;
    let gate = one.apply_async(|go: Event| go.wait().is_ok(), go.clone())?;
    let short = one.options().chunksize(1).map_async(square, 0..200)?;
    read.set(0);
    let count = read.clone();
    let long = one.imap(slow, (0..).inspect(move |_| count.set(count.get() + 1)))?;
    go.set()?;
    let _: Vec<_> = long.take(8).collect();
    check("nor behind short tasks of another function", read.get() <= 8 + 2)?;
    same("which were done", (gate.get()?, short.get()?.len()), (true, 200))?;

    // In their order, while the first takes long.
    let go = Event::new()?;
    let tasks = (0..20).map(|n| (n, go.clone()));
    let task = |(n, go): (u64, Event)| if n == 0 { go.wait().map_or(99, |()| 0) } else { n };
    let mut arrived = pool.options().chunksize(1).window(20).imap_unordered(task, tasks.clone())?;
    let others: BTreeSet<_> = arrived.by_ref().take(19).flatten().collect();
    same("as they arrive", others, (1..20).collect())?;
    go.set()?;
    same("the first comes last", arrived.flatten().collect::<Vec<_>>(), vec![0])?;
    same("in their order", pool.imap(task, tasks)?.flatten().collect::<Vec<_>>(), (0..20).collect())?;

    // A task that hasn't begun never does.
    let done = RawValue::<u64>::new(0)?;
    let busy = Event::new()?;
    let tasks = (0..100).map(|_| (done.clone(), busy.clone()));
    let task = |(done, busy): (RawValue<u64>, Event)| {
        done.atomic().fetch_add(1);
        busy.wait().is_ok()
    };
    drop(pool.options().chunksize(1).window(100).imap(task, tasks)?);
    let cancelled = pool.stats().cancelled;
    busy.set()?;
    same("the pool goes on", pool.map(square, 0..3)?, vec![0, 1, 4])?;
    let begun = done.atomic().load();
    check("the rest was cancelled", begun <= 2 && cancelled >= 98)
}

fn refusals() -> Outcome {
    let refused = |result: Result<Pool, PoolError>| result.err().map(|error| error.to_string());
    let zero = refused(Pool::builder().processes(0).build());
    same("no processes", zero.as_deref(), Some("processes is a number from 1 on"))?;
    let zero = refused(Pool::builder().maxtasksperchild(0).build());
    same("no tasks", zero.as_deref(), Some("maxtasksperchild is a number from 1 on"))?;
    let pool = Pool::new()?;
    same("a worker for each processor", pool.processes(), cpu_count())?;
    check(
        "no chunks",
        matches!(pool.options().chunksize(0).map(square, 0..1), Err(PoolError::Zero("chunksize"))),
    )?;
    check(
        "no window",
        matches!(pool.options().window(0).imap(square, 0..1), Err(PoolError::Zero("window"))),
    )?;
    check("no workers", matches!(pool.resize(0), Err(PoolError::Zero("processes"))))?;
    check("not closed", matches!(pool.join(), Err(PoolError::StillRunning)))?;
    let child = Process::fork(|| -> Outcome {
        check("not in a fork", matches!(pool.apply(square, 1), Err(PoolError::NotOwner)))?;
        pool.terminate();
        Ok(())
    })?;
    ended_well(&child)?;
    // A copy of a result never gets anything.
    let result = pool.apply_async(square, 1)?;
    let child = Process::fork(|| i32::from(result.wait_timeout(LONG)))?;
    ended_well(&child)?;
    same("and that has ended nothing", result.get()?, 1)?;
    let nested = pool.apply(|n: u64| Pool::new().and_then(|pool| pool.apply(square, n)).ok(), 3)?;
    same("a worker may have one", nested, Some(9))?;
    pool.close();
    check("not after close", matches!(pool.apply(square, 1), Err(PoolError::NotRunning)))?;
    check("no imap either", matches!(pool.imap(square, 0..1), Err(PoolError::NotRunning)))?;
    pool.join()?;
    Ok(pool.join()?)
}

fn ends() -> Outcome {
    let pool = Pool::builder().processes(2).build()?;
    let results = pool.map_async(square, 0..10_000)?;
    pool.close();
    pool.join()?;
    same("close, and all is done", results.get()?.len(), 10_000)?;
    check("and the workers have ended", active_children()?.is_empty())?;

    let pool = Pool::builder().processes(2).build()?;
    let never = Event::new()?;
    let waiting: Vec<_> = (0..4)
        .map(|_| pool.apply_async(|never: Event| never.wait().is_ok(), never.clone()))
        .collect::<Result<_, _>>()?;
    pool.terminate();
    for result in waiting {
        let error = result.get().err().ok_or("there is a result")?;
        same("terminated", error.cause(), &Cause::Pool(PoolEnd::Terminated))?;
    }
    check("nothing is left of it", active_children()?.is_empty() && pool.join().is_ok())?;

    let pool = Pool::builder().processes(2).build()?;
    let result = pool.apply_async(|never: Event| never.wait().is_ok(), never)?;
    drop(pool);
    check("leaving scope terminates", active_children()?.is_empty() && result.get().is_err())
}

fn resize() -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    pool.resize(4)?;
    same("more workers", (pool.processes(), active_children()?.len()), (4, 4))?;
    pool.resize(2)?;
    eventually("fewer workers", || {
        // A call, so that the pool looks.
        let _ = pool.apply(square, 1);
        Ok(active_children()?.len() == 2)
    })?;
    pool.resize(3)?;
    same("all goes on", pool.map(square, 0..100)?.len(), 100)?;
    same("and none was lost", (pool.stats().workers_lost, pool.stats().failed), (0, 0))
}

/// Handles in arguments and results.
fn handles() -> Outcome {
    let pool = Pool::builder().processes(2).build()?;
    fn make(n: u64) -> Result<Queue<u64>, sandpool_guest::Error> {
        let queue = Queue::new()?;
        queue.put(&n).map_err(|_| sandpool_guest::Error::ArenaFull)?;
        Ok(queue)
    }
    let queues = pool.options().chunksize(4).map(|n: u64| make(n).ok(), 0..10)?;
    let found: Vec<u64> = queues.iter().flatten().flat_map(Queue::get).collect();
    same("queues as results", found, (0..10).collect())?;
    // More than one message may carry.
    let queue = Queue::<u64>::new()?;
    let many = (0..2000_u64).map(|n| (queue.clone(), n));
    let put = |(queue, n): (Queue<u64>, u64)| queue.put(&n).is_ok();
    check("queues as arguments", pool.options().chunksize(2000).map(put, many)?.iter().all(|put| *put))?;
    same("all were put", queue.qsize()?, 2000)
}
