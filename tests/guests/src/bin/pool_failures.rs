//! Tasks that fail in each way, at each point of their life: exactly the one fails, and the pool goes on.

use std::time::Duration;

use sandpool_guest::pool::{Cause, PoolEnd, PoolError, StartMethod, TaskError};
use sandpool_guest::process::Trap;
use sandpool_guest::{
    Bytes, Event, ExitStatus, Pool, Queue, RawArray, Signal, active_children, current_process,
};
use sandpool_test_guests::{Outcome, check, hang, same};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// In which way something goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum How {
    Well,
    Error,
    Panic,
    Exit,
    Trap,
    Kill,
}

/// At which point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Point {
    Decode,
    Task,
    Encode,
}

use How::{Error, Exit, Kill, Panic, Well};

/// Goes wrong in this way, but only in a worker. `here` is told before a hang.
fn go_wrong(how: How, here: &Queue<String>) -> Result<(), String> {
    let name = current_process().map_err(|error| error.to_string())?.name().to_owned();
    if !name.starts_with("PoolWorker-") {
        return Ok(());
    }
    match how {
        Well => Ok(()),
        Error => Err("an error".to_owned()),
        Panic => panic!("a panic"),
        Exit => std::process::exit(7),
        How::Trap => std::process::abort(),
        Kill => {
            here.put(&name).map_err(|error| error.to_string())?;
            hang().map_err(|error| error.to_string())
        }
    }
}

/// A value that goes wrong when it is decoded, or encoded.
#[derive(Debug, Clone)]
struct Bomb {
    how: How,
    point: Point,
    here: Queue<String>,
    number: u64,
    freight: sandpool_guest::Bytes,
}

type Parts = (How, Point, Queue<String>, u64, sandpool_guest::Bytes);

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.point == Point::Encode {
            go_wrong(self.how, &self.here).map_err(S::Error::custom)?;
        }
        let Self { how, point, here, number, freight } = self;
        (how, point, here, number, freight).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (how, point, here, number, freight) = Parts::deserialize(deserializer)?;
        if point == Point::Decode {
            go_wrong(how, &here).map_err(D::Error::custom)?;
        }
        Ok(Self { how, point, here, number, freight })
    }
}

fn task(bomb: Bomb) -> Result<Bomb, String> {
    if bomb.point == Point::Task {
        go_wrong(bomb.how, &bomb.here)?;
    }
    Ok(bomb)
}

/// Kills a worker by its name.
fn kill_worker(name: &str) -> Outcome {
    let child = active_children()?.into_iter().find(|child| child.name() == name);
    child.ok_or_else(|| format!("{name} isn't there"))?.kill()?;
    Ok(())
}

/// The expected result of a task.
fn is_expected(how: How, point: Point, result: &Result<Result<Bomb, String>, TaskError>) -> bool {
    let cause = match result {
        Ok(Ok(_)) => return how == Well,
        Ok(Err(error)) => return how == Error && point == Point::Task && error == "an error",
        Err(error) => error.cause(),
    };
    match (how, point, cause) {
        (Error, Point::Decode, Cause::Decode(why)) | (Error, Point::Encode, Cause::Encode(why)) => {
            why.ends_with(": an error")
        }
        (Panic, _, Cause::Panicked(message)) => message == "a panic",
        (Exit, _, Cause::Ended(ExitStatus::Exited(7))) => true,
        (How::Trap, _, Cause::Ended(ExitStatus::Trapped(Trap::Unreachable))) => true,
        (Kill, _, Cause::Ended(ExitStatus::Signaled(Signal::KILL))) => true,
        _ => false,
    }
}

const ALL: [How; 5] = [Error, Panic, Exit, How::Trap, Kill];
const POINTS: [Point; 3] = [Point::Decode, Point::Task, Point::Encode];

#[sandpool_guest::main]
fn main() -> Outcome {
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        one_by_one(method)?;
        in_chunks(method)?;
        exactly_once(method)?;
        initializers(method)?;
        idle(method)?;
        in_delivery(method)?;
        shutdown(method)?;
    }
    states()?;
    retries()?;
    timeouts()?;
    too_large()
}

/// One task among others goes wrong, with little and with much data.
fn one_by_one(method: StartMethod) -> Outcome {
    let here = Queue::new()?;
    let pool = Pool::builder().processes(2).start_method(method).build()?;
    for freight in [0, 3 << 20] {
        for how in ALL {
            for point in POINTS {
                let bomb = |number, how| Bomb {
                    how,
                    point,
                    here: here.clone(),
                    number,
                    freight: vec![7; freight].into(),
                };
                let results = (0..6)
                    .map(|number| pool.apply_async(task, bomb(number, if number == 3 { how } else { Well })))
                    .collect::<Result<Vec<_>, _>>()?;
                if how == Kill {
                    kill_worker(&here.get()?)?;
                }
                for (number, result) in results.into_iter().enumerate() {
                    let result = result.get();
                    let how = if number == 3 { how } else { Well };
                    if !is_expected(how, point, &result) {
                        return Err(format!("{how:?} at {point:?} of {number}: {result:?}").into());
                    }
                    if let Ok(Ok(bomb)) = result {
                        let is_whole = bomb.number == number as u64 && bomb.freight.len() == freight;
                        if !is_whole {
                            return Err(format!("{how:?} at {point:?}: {number} is another").into());
                        }
                    }
                }
            }
        }
        println!("ok: {method:?}: exactly one fails, with {freight} bytes");
    }
    let stats = pool.stats();
    // All but an error end the worker, at three points, twice.
    same(&format!("{method:?}: workers were lost"), (stats.workers_lost, stats.workers), (4 * 3 * 2, 2))
}

/// One task in a chunk goes wrong; all others have results.
fn in_chunks(method: StartMethod) -> Outcome {
    let here = Queue::new()?;
    let pool = Pool::builder().processes(2).start_method(method).build()?;
    for how in ALL {
        for point in POINTS {
            let bombs = (0..40).map(|number| Bomb {
                how: if number == 17 { how } else { Well },
                point,
                here: here.clone(),
                number,
                freight: sandpool_guest::Bytes::new(),
            });
            let all = pool.options().chunksize(10).window(100).imap(task, bombs)?;
            if how == Kill {
                kill_worker(&here.get()?)?;
            }
            let mut count = 0;
            for (number, result) in all.enumerate() {
                count += 1;
                let how = if number == 17 { how } else { Well };
                let index = result.as_ref().err().map(TaskError::index);
                if !is_expected(how, point, &result) || index.is_some_and(|index| index != 17) {
                    return Err(format!("{how:?} at {point:?} of {number}: {result:?}").into());
                }
            }
            if count != 40 {
                return Err(format!("{how:?} at {point:?}: {count} results").into());
            }
        }
    }
    println!("ok: {method:?}: exactly one of a chunk fails");

    // As a map, it is that one's error, when all are done.
    let failed = pool.map(|n: u64| assert!(n != 5 && n != 8), 0..10);
    let Err(PoolError::Task(error)) = failed else { return Err(format!("{failed:?}").into()) };
    same(&format!("{method:?}: the first that fails"), error.index(), 5)?;
    let worker = error.worker().is_some_and(|name| name.starts_with("PoolWorker-"));
    check(&format!("{method:?}: and who had it"), worker && error.pid().is_some())?;
    same(&format!("{method:?}: the pool still works"), pool.map(|n: u64| n + 1, 0..3)?, vec![1, 2, 3])
}

/// The common part of the tasks of a chunk: where each counts that it was begun, what the bad one does, and what
/// results are like.
type Counted = (RawArray<u32>, How, Queue<String>, (usize, bool));

type Freight = (Bytes, Option<Queue<u64>>);

const BAD: u64 = 17;

fn counted((counts, how, here, (size, has_queue)): &Counted, index: u64) -> Result<Freight, String> {
    let text = |error: sandpool_guest::Error| error.to_string();
    counts.atomic(index as usize).map_err(text)?.fetch_add(1);
    if index == BAD {
        go_wrong(*how, here)?;
    }
    let queue = if *has_queue { Some(Queue::new().map_err(text)?) } else { None };
    Ok((vec![index as u8; *size].into(), queue))
}

/// No task of a chunk is done twice, also if another has ended the worker: with results that need no more than a byte,
/// that don't fit in the memory where they are saved (all together, or each), and that have handles.
fn exactly_once(method: StartMethod) -> Outcome {
    const TIMEOUT: Duration = Duration::from_millis(1500);
    let here = Queue::new()?;
    let pool = Pool::builder().processes(2).start_method(method).build()?;
    for shape in [(1, false), (20_000, false), (100_000, false), (1, true)] {
        for is_timed in [false, true] {
            for how in ALL {
                let counts = RawArray::new(40)?;
                let mut options = pool.options().chunksize(10).window(100);
                if is_timed {
                    options = options.task_timeout(TIMEOUT);
                }
                let options = options.partial(&(counts.clone(), how, here.clone(), shape));
                let all = options.imap(counted, 0..40)?;
                if how == Kill {
                    let name = here.get()?;
                    if !is_timed {
                        kill_worker(&name)?;
                    }
                }
                for (index, result) in (0..).zip(all) {
                    let is_expected = match &result {
                        Ok(Ok((bytes, queue))) => {
                            index != BAD && bytes.len() == shape.0 && queue.is_some() == shape.1
                        }
                        Err(error) if is_timed && how == Kill => *error.cause() == Cause::TimedOut(TIMEOUT),
                        _ => index == BAD,
                    };
                    if !is_expected {
                        return Err(format!("{how:?}, {shape:?}: {index}: {:?}", result.err()).into());
                    }
                }
                let counts = counts.to_vec()?;
                if counts.iter().any(|count| *count != 1) {
                    return Err(format!("{how:?}, {shape:?}, timed {is_timed}: {counts:?}").into());
                }
            }
        }
    }
    println!("ok: {method:?}: none of a chunk is done twice");
    Ok(())
}

fn initialize((how, here): (How, Queue<String>)) -> Result<(), String> {
    eprintln!("it goes wrong");
    go_wrong(how, &here)
}

/// An initializer that goes wrong ends the pool, once.
fn initializers(method: StartMethod) -> Outcome {
    for how in ALL {
        let here = Queue::new()?;
        let pool = Pool::builder()
            .processes(1)
            .start_method(method)
            .initializer(initialize, (how, here.clone()))
            .build()?;
        let first = pool.apply_async(|n: u64| n, 1)?;
        if how == Kill {
            kill_worker(&here.get()?)?;
        }
        let error = first.get().err().ok_or("there is a result")?;
        let is_expected = |end: &PoolEnd| match (how, end) {
            (Error, PoolEnd::Initializer(message)) => message == "an error",
            (Panic, PoolEnd::Initializer(message)) => message == "panicked: a panic",
            (_, PoolEnd::InitializerEnded { status, stderr }) => {
                let is_status = match how {
                    Exit => *status == ExitStatus::Exited(7),
                    How::Trap => matches!(status, ExitStatus::Trapped(_)),
                    Kill => *status == ExitStatus::Signaled(Signal::KILL),
                    _ => false,
                };
                is_status && stderr.starts_with("it goes wrong\n")
            }
            _ => false,
        };
        let (Cause::Pool(end), Err(PoolError::Ended(again))) = (error.cause(), pool.apply(|n: u64| n, 1))
        else {
            return Err(format!("{how:?}: {error}").into());
        };
        if !is_expected(end) || again != *end {
            return Err(format!("{how:?}: {end}").into());
        }
        if pool.stats().workers_started != 1 {
            return Err(format!("{how:?}: started {}", pool.stats().workers_started).into());
        }
    }
    println!("ok: {method:?}: an initializer that fails ends the pool, once");

    let seen = Queue::<u64>::new()?;
    let pool = Pool::builder()
        .processes(2)
        .start_method(method)
        .initializer(|seen: Queue<u64>| seen.put(&1), seen.clone())
        .build()?;
    pool.map(|_: u64| (), 0..10)?;
    pool.close();
    pool.join()?;
    same(&format!("{method:?}: each worker is initialized"), seen.qsize()?, 2)
}

/// Nobody fails when an idle worker is killed.
fn idle(method: StartMethod) -> Outcome {
    let pool = Pool::builder().processes(2).start_method(method).build()?;
    pool.map(|n: u64| n, 0..10)?;
    for _ in 0..5 {
        // There may be one only: the other isn't replaced before the pool looks.
        let children = active_children()?;
        let victim = children.first().ok_or("no workers")?;
        victim.kill()?;
        victim.join()?;
        let sum: u64 = pool.map(|n: u64| n, 0..100)?.into_iter().sum();
        if sum != 4950 {
            return Err(format!("the sum is {sum}").into());
        }
    }
    while pool.stats().workers != 2 {
        pool.map(|n: u64| n, 0..10)?;
    }
    same(&format!("{method:?}: idle workers are replaced"), pool.stats().failed, 0)
}

/// A result that says when it is encoded: what is left then is its delivery.
#[derive(Deserialize)]
struct Parcel(sandpool_guest::Bytes, Queue<(String, u64)>, u64);

impl Serialize for Parcel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let encoded = (&self.0, &self.1, self.2).serialize(serializer)?;
        let name = current_process().map_err(S::Error::custom)?.name().to_owned();
        self.1.put(&(name, self.2)).map_err(S::Error::custom)?;
        Ok(encoded)
    }
}

/// A worker is killed when its result is to be put and the arena has no room for it: there, no code of the program runs, so
/// that nothing but SIGKILL can end it.
fn in_delivery(method: StartMethod) -> Outcome {
    const LEN: usize = 22 << 20;
    let encoded = Queue::new()?;
    let pool = Pool::builder().processes(2).start_method(method).build()?;
    let results = (0..4)
        .map(|number| {
            let task = |(encoded, number): (Queue<_>, u64)| Parcel(vec![7; LEN].into(), encoded, number);
            pool.apply_async(task, (encoded.clone(), number))
        })
        .collect::<Result<Vec<_>, _>>()?;
    // There is room for two, and nobody takes any: the last one of each worker stands there.
    let all = (0..4).map(|_| encoded.get()).collect::<Result<Vec<_>, _>>()?;
    let (name, victim) = all.last().ok_or("nothing")?;
    kill_worker(name)?;
    for (number, result) in (0..).zip(results) {
        let result = result.get();
        let is_expected = match &result {
            Ok(Parcel(bytes, _, own)) => number != *victim && *own == number && bytes.len() == LEN,
            Err(error) => {
                number == *victim && *error.cause() == Cause::Ended(ExitStatus::Signaled(Signal::KILL))
            }
        };
        if !is_expected {
            return Err(format!("{number}, when {victim} was killed: {:?}", result.err()).into());
        }
    }
    same(&format!("{method:?}: a result is lost in delivery"), pool.map(|n: u64| n, 0..3)?, vec![0, 1, 2])
}

/// Something goes wrong after the pool was closed.
fn shutdown(method: StartMethod) -> Outcome {
    for how in ALL {
        let here = Queue::new()?;
        let go = Event::new()?;
        let pool = Pool::builder().processes(2).start_method(method).build()?;
        let bad = pool.apply_async(
            |(how, here, go): (How, Queue<String>, Event)| -> Result<(), String> {
                go.wait().map_err(|error| error.to_string())?;
                go_wrong(how, &here)
            },
            (how, here.clone(), go.clone()),
        )?;
        let good = pool.map_async(|n: u64| n, 0..100)?;
        pool.close();
        check("it takes no more", matches!(pool.apply(|n: u64| n, 1), Err(PoolError::NotRunning)))?;
        go.set()?;
        if how == Kill {
            kill_worker(&here.get()?)?;
        }
        pool.join()?;
        same("others are done", good.get()?.len(), 100)?;
        let failed = bad.get();
        let is_expected = match (how, &failed) {
            (Error, Ok(Err(error))) => error == "an error",
            (Panic, Err(error)) => *error.cause() == Cause::Panicked("a panic".to_owned()),
            (Exit, Err(error)) => *error.cause() == Cause::Ended(ExitStatus::Exited(7)),
            (How::Trap, Err(error)) => matches!(error.cause(), Cause::Ended(ExitStatus::Trapped(_))),
            (Kill, Err(error)) => *error.cause() == Cause::Ended(ExitStatus::Signaled(Signal::KILL)),
            _ => false,
        };
        if !is_expected {
            return Err(format!("{how:?}: {failed:?}").into());
        }
        if !active_children()?.is_empty() {
            return Err("workers are left".into());
        }
    }
    println!("ok: {method:?}: during shutdown, exactly one fails");
    Ok(())
}

/// A state goes wrong when it is decoded: each task that has it fails, and no other.
fn states() -> Outcome {
    let here = Queue::new()?;
    let pool = Pool::builder().processes(2).build()?;
    for how in ALL {
        let bomb =
            Bomb { how, point: Point::Decode, here: here.clone(), number: 0, freight: Default::default() };
        let options = pool.options().chunksize(1).partial(&bomb);
        let bad = (0..3)
            .map(|n| options.apply_async(|bomb, n: u64| Ok(Bomb { number: n, ..bomb.clone() }), n))
            .collect::<Result<Vec<_>, _>>()?;
        let good = pool.map_async(|n: u64| n, 0..100)?;
        if how == Kill {
            let mut killed = 0;
            while killed < bad.len() {
                // A call, so that the pool replaces the one before.
                let _ = good.ready();
                if let Ok(name) = here.get_timeout(Duration::from_millis(10)) {
                    kill_worker(&name)?;
                    killed += 1;
                }
            }
        }
        for bad in bad {
            let bad = bad.get();
            if !is_expected(how, Point::Decode, &bad) {
                return Err(format!("{how:?} at the state: {bad:?}").into());
            }
        }
        same("others are done", good.get()?.len(), 100)?;
        // In a chunk, it is that of one after the other.
        if how != Kill {
            let all: Vec<_> = pool.options().chunksize(5).partial(&bomb).imap(|_, n: u64| n, 0..5)?.collect();
            if all.len() != 5 || all.iter().any(Result::is_ok) {
                return Err(format!("{how:?} at the state of a chunk: {all:?}").into());
            }
        }
    }
    println!("ok: what goes wrong with a state fails those that have it");
    Ok(())
}

/// A task fails until it was tried often enough.
fn retries() -> Outcome {
    fn third_time((tries, how): (Queue<()>, How)) -> Result<usize, String> {
        tries.put(&()).map_err(|error| error.to_string())?;
        let count = tries.qsize().map_err(|error| error.to_string())?;
        if count < 3 {
            go_wrong(how, &Queue::new().map_err(|error| error.to_string())?)?;
        }
        Ok(count)
    }
    let pool = Pool::builder().processes(2).retries(2).build()?;
    for how in [Error, Panic, Exit, How::Trap] {
        let tries = Queue::new()?;
        same(&format!("retries after {how:?}"), pool.apply(third_time, (tries.clone(), how))?, Ok(3))?;
        let tries = Queue::new()?;
        let once = pool.options().retries(1).apply(third_time, (tries.clone(), how));
        check("not often enough", !matches!(once, Ok(Ok(_))) && tries.qsize()? == 2)?;
        let all = (0..20).map(|_| Queue::new()).collect::<Result<Vec<_>, _>>()?;
        let results =
            pool.options().chunksize(5).map(third_time, all.into_iter().map(|tries| (tries, how)))?;
        check("also in chunks", results.iter().all(|result| matches!(result, Ok(3..))))?;
    }
    Ok(())
}

/// A task that takes too long is killed, and no other.
fn timeouts() -> Outcome {
    // A machine that is busy leaves a task aside for a while, which is late then, and by right: not for as long as that.
    let short = Duration::from_millis(1500);
    let pool = Pool::builder().processes(2).task_timeout(short).build()?;
    fn sleeper(n: u64) -> u64 {
        if n == 13 {
            std::thread::sleep(Duration::from_secs(600));
        }
        n
    }
    for chunksize in [1, 10] {
        let results: Vec<_> = pool.options().chunksize(chunksize).imap(sleeper, 0..30)?.collect();
        let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        let [error] = failed[..] else { return Err(format!("{failed:?}").into()) };
        let found = (error.index(), error.cause().clone());
        same(&format!("too long, in chunks of {chunksize}"), found, (13, Cause::TimedOut(short)))?;
        same("all others are there", results.iter().flatten().sum::<u64>(), 29 * 30 / 2 - 13)?;
    }
    let long = pool.options().task_timeout(Duration::from_secs(600));
    let result = long.apply(|_: u64| std::thread::sleep(Duration::from_millis(300)), 0);
    check("one that may take longer", result.is_ok())
}

/// A value that doesn't fit into the arena.
fn too_large() -> Outcome {
    let pool = Pool::builder().processes(2).build()?;
    let size = 100 << 20;
    let results: Vec<_> = pool
        .options()
        .chunksize(3)
        .imap(|size: usize| vec![1_u8; size], [1, size, 2])?
        .map(|result| result.map(|bytes| bytes.len()).map_err(|error| error.cause().clone()))
        .collect();
    same("a result", results, vec![Ok(1), Err(Cause::TooLarge), Ok(2)])?;
    let sizes: Vec<_> = pool
        .options()
        .chunksize(3)
        .imap(|bytes: Vec<u8>| bytes.len(), [1, size, 2].map(|size| vec![1; size]))?
        .map(|result| result.map_err(|error| error.cause().clone()))
        .collect();
    same("an argument", sizes, vec![Ok(1), Err(Cause::TooLarge), Ok(2)])
}
