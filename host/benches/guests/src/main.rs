//! The guest that `sandpool bench` runs: `bench NAME ROUNDS [NUMBER…]`. It measures itself, and writes what it found to
//! `/bench/figures`, a number for each round: seconds for one operation, unless it says otherwise.

#[path = "../../../cli/src/commands/bench/sha256.rs"]
mod sha256;

use std::fs;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use sandpool_guest::pool::futures::Executor;
use sandpool_guest::{
    Array, Barrier, Bytes, Dict, Event, ExitStatus, Lock, Manager, Pipe, Pool, Process, Queue, RawArray,
    Value,
};

type Failure = Box<dyn std::error::Error>;
type Outcome<T = ()> = Result<T, Failure>;

const MIB: usize = 1 << 20;

#[sandpool_guest::main]
fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["echo"] {
        io::copy(&mut io::stdin().lock(), &mut io::stdout().lock())?;
        return Ok(());
    }
    let [name, rounds, numbers @ ..] = arguments.as_slice() else {
        return Err("bench NAME ROUNDS [NUMBER…]".into());
    };
    let numbers = numbers.iter().map(|number| number.parse()).collect::<Result<Vec<usize>, _>>()?;
    let rounds = Rounds(rounds.parse()?);
    let figures = match (name.as_str(), numbers.as_slice()) {
        ("fork", [count, touched, live]) => fork(rounds, *count, *touched, *live)?,
        ("spawn", [count, touched]) => spawn(rounds, *count, *touched)?,
        ("map", [count, chunksize, workers]) => map(rounds, *count, *chunksize, *workers)?,
        ("copies", [count, size, places]) => copies(rounds, *count, *size, *places)?,
        ("map_bytes", [count, size]) => map_bytes(rounds, *count, *size)?,
        ("work", [count, length, workers]) => work(rounds, *count, *length, *workers)?,
        ("imap_unordered", [count]) => imap_unordered(rounds, *count)?,
        ("apply", [count]) => apply(rounds, *count)?,
        ("executor", [count]) => executor(rounds, *count)?,
        ("queue", [count, producers, fill]) => queue(rounds, *count, *producers, *fill)?,
        ("queue_bytes", [count, size, maxsize, fill]) => queue_bytes(rounds, *count, *size, *maxsize, *fill)?,
        ("pipe", [count]) => pipe(rounds, *count)?,
        ("dict", [count, processes, reads]) => dict(rounds, *count, *processes, *reads != 0)?,
        ("managed", [count]) => managed(rounds, *count)?,
        ("lock", [count]) => lock(rounds, *count)?,
        ("lock_contended", [count]) => lock_contended(rounds, *count)?,
        ("value_contended", [count]) => value_contended(rounds, *count)?,
        ("shared_array", [size]) => shared_array(rounds, *size)?,
        ("sha256", [size]) => sha256(rounds, *size)?,
        ("idle", [count]) => idle(*count)?,
        ("pool_idle", [workers]) => pool_idle(*workers)?,
        ("seen", [count, size]) => seen(*count, *size)?,
        _ => return Err(format!("there is no {name} of {} numbers", numbers.len()).into()),
    };
    report(&figures)
}

fn report(figures: &[f64]) -> Outcome {
    // Renamed when it is whole, because somebody may be waiting for it.
    fs::write("/bench/written", figures.iter().map(|figure| format!("{figure:e}\n")).collect::<String>())?;
    Ok(fs::rename("/bench/written", "/bench/figures")?)
}

/// How many rounds there are, beside one to warm up.
#[derive(Clone, Copy)]
struct Rounds(usize);

impl Rounds {
    /// The seconds for one of `count` operations, in each round.
    fn of(self, count: usize, mut round: impl FnMut() -> Outcome<Duration>) -> Outcome<Vec<f64>> {
        round()?;
        (0..self.0).map(|_| Ok(round()?.as_secs_f64() / count as f64)).collect()
    }

    /// The same for something that is timed as a whole.
    fn timed(self, count: usize, mut work: impl FnMut() -> Outcome) -> Outcome<Vec<f64>> {
        self.of(count, || {
            let start = Instant::now();
            work()?;
            Ok(start.elapsed())
        })
    }
}

fn join(process: &Process) -> Outcome {
    match process.join()? {
        ExitStatus::Exited(0) => Ok(()),
        status => Err(format!("process {} was {status}", process.name()).into()),
    }
}

/// Memory of this number of bytes that were written to.
fn touch(bytes: usize) -> Vec<u8> {
    black_box(vec![1; bytes])
}

fn fork(rounds: Rounds, count: usize, touched: usize, live: usize) -> Outcome<Vec<f64>> {
    let memory = touch(touched);
    let (end, others) = waiting(live)?;
    let figures = rounds.timed(count, || (0..count).try_for_each(|_| join(&Process::fork(|| ())?)));
    end.set()?;
    others.iter().try_for_each(join)?;
    black_box(memory);
    figures
}

/// This number of processes, which do nothing until the event is set.
fn waiting(count: usize) -> Outcome<(Event, Vec<Process>)> {
    let end = Event::new()?;
    let wait = || Process::fork(|| end.wait());
    let processes = (0..count).map(|_| wait()).collect::<Result<_, _>>()?;
    Ok((end, processes))
}

fn spawn(rounds: Rounds, count: usize, touched: usize) -> Outcome<Vec<f64>> {
    fn nothing(_: ()) {}
    let memory = touch(touched);
    let figures = rounds.timed(count, || (0..count).try_for_each(|_| join(&Process::spawn(nothing, ())?)));
    black_box(memory);
    figures
}

#[sandpool_guest::task]
fn identity(number: u64) -> u64 {
    number
}

fn two_workers() -> Outcome<Pool> {
    Ok(Pool::builder().processes(2).build()?)
}

/// Whether all came back.
fn complete(mut found: impl Iterator<Item = u64>, count: usize) -> Outcome {
    let sum = found.try_fold((0, 0), |(sum, len), number| Some((sum + number, len + 1)));
    let count = count as u64;
    if sum == Some((count * count.saturating_sub(1) / 2, count)) {
        Ok(())
    } else {
        Err("results are missing".into())
    }
}

/// A chunksize of 0 is one that the pool chooses.
fn map(rounds: Rounds, count: usize, chunksize: usize, workers: usize) -> Outcome<Vec<f64>> {
    let pool = Pool::builder().processes(workers).build()?;
    let options = if chunksize == 0 { pool.options() } else { pool.options().chunksize(chunksize) };
    rounds.timed(count, || complete(options.map(identity, 0..count as u64)?.into_iter(), count))
}

/// Arguments of this number of bytes, each a copy.
fn map_bytes(rounds: Rounds, count: usize, size: usize) -> Outcome<Vec<f64>> {
    let pool = two_workers()?;
    let options = pool.options().chunksize(1);
    let argument = touch(size);
    rounds.timed(count, || {
        let lens = options.map(|bytes: Vec<u8>| bytes.len(), (0..count).map(|_| argument.clone()))?;
        if lens.iter().all(|len| *len == size) { Ok(()) } else { Err("an argument isn't what it was".into()) }
    })
}

/// Tasks that compute: SHA-256 of this number of bytes.
fn work(rounds: Rounds, count: usize, length: usize, workers: usize) -> Outcome<Vec<f64>> {
    fn digest(length: usize) -> u8 {
        sha256::sha256(&vec![7; length])[0]
    }
    let pool = Pool::builder().processes(workers).build()?;
    let options = pool.options().chunksize(1);
    rounds.timed(count, || {
        black_box(options.map(digest, (0..count).map(|_| length))?);
        Ok(())
    })
}

fn imap_unordered(rounds: Rounds, count: usize) -> Outcome<Vec<f64>> {
    let pool = two_workers()?;
    rounds.timed(count, || {
        let results = pool.imap_unordered(identity, 0..count as u64)?.collect::<Result<Vec<_>, _>>()?;
        complete(results.into_iter(), count)
    })
}

fn apply(rounds: Rounds, count: usize) -> Outcome<Vec<f64>> {
    let pool = two_workers()?;
    rounds.timed(count, || {
        for number in 0..count as u64 {
            black_box(pool.apply(identity, number)?);
        }
        Ok(())
    })
}

fn executor(rounds: Rounds, count: usize) -> Outcome<Vec<f64>> {
    let executor = Executor::build(Pool::builder().processes(2))?;
    rounds.timed(count, || {
        let submit = |number| executor.submit(identity, number);
        let futures = (0..count as u64).map(submit).collect::<Result<Vec<_>, _>>()?;
        let results = futures.into_iter().map(|future| future.result()).collect::<Result<Vec<_>, _>>()?;
        complete(results.into_iter(), count)
    })
}

/// Pieces of many sizes that fill this number of MiB of the arena, until they are dropped.
fn fill(mebibytes: usize) -> Outcome<Queue<Bytes>> {
    let filling = Queue::<Bytes>::new()?;
    let sizes = [MIB, 300_000, 70_000, 20_000];
    let mut left = mebibytes * MIB;
    for size in sizes.into_iter().cycle() {
        if left < size {
            return Ok(filling);
        }
        filling.put(&Bytes::from(vec![1; size]))?;
        left -= size;
    }
    Ok(filling)
}

/// One consumer, this process, and `producers`, which put one item at a time. Starting them isn't measured: time
/// runs from the first item on.
fn queue(rounds: Rounds, count: usize, producers: usize, filled: usize) -> Outcome<Vec<f64>> {
    let filling = fill(filled)?;
    let each = count / producers;
    let figures = rounds.of(each * producers - 1, || {
        let queue = Queue::<u64>::new()?;
        let produce = || -> Outcome { Ok((0..each as u64).try_for_each(|number| queue.put(&number))?) };
        let processes = (0..producers).map(|_| Process::fork(produce)).collect::<Result<Vec<_>, _>>()?;
        let first = queue.get()?;
        let start = Instant::now();
        let mut sum = first;
        for _ in 1..each * producers {
            sum += queue.get()?;
        }
        let elapsed = start.elapsed();
        processes.iter().try_for_each(join)?;
        let each = each as u64;
        if sum != each * (each - 1) / 2 * producers as u64 {
            return Err("items are missing".into());
        }
        Ok(elapsed)
    });
    drop(filling);
    figures
}

/// The same with one producer, a bounded queue, and items of this size, which both sides touch at both ends.
fn queue_bytes(
    rounds: Rounds,
    count: usize,
    size: usize,
    maxsize: usize,
    filled: usize,
) -> Outcome<Vec<f64>> {
    let filling = fill(filled)?;
    let figures = rounds.of(count - 1, || {
        let queue = Queue::<Bytes>::bounded(maxsize)?;
        let producer = Process::fork(|| -> Outcome {
            let mut item = Bytes::from(vec![1_u8; size]);
            for number in 0..count {
                item[0] = number as u8;
                item[size - 1] = number as u8;
                queue.put(&item)?;
            }
            Ok(())
        })?;
        let check = |item: Bytes, number: usize| {
            let is_right = item.len() == size && item[0] == number as u8 && item[size - 1] == number as u8;
            if is_right { Ok(()) } else { Err("an item isn't what it was") }
        };
        check(queue.get()?, 0)?;
        let start = Instant::now();
        for number in 1..count {
            check(queue.get()?, number)?;
        }
        let elapsed = start.elapsed();
        join(&producer)?;
        Ok(elapsed)
    });
    drop(filling);
    figures
}

/// This number of bytes, copied from place to place; each operation is two copies.
fn copies(rounds: Rounds, count: usize, size: usize, places: usize) -> Outcome<Vec<f64>> {
    let mut all: Vec<_> = (0..places).map(|_| touch(size)).collect();
    rounds.timed(count, || {
        for number in 0..2 * count {
            let [from, to] = all.get_disjoint_mut([number % places, (number + 1) % places])?;
            to.copy_from_slice(black_box(from));
        }
        Ok(())
    })
}

/// Processes that each set, or get, keys of one dictionary, which another process has made: time for each of all
/// operations.
fn dict(rounds: Rounds, count: usize, processes: usize, reads: bool) -> Outcome<Vec<f64>> {
    const KEYS: usize = 1000;
    let dict = Dict::<String, u64>::new()?;
    let keys: Vec<String> = (0..KEYS).map(|number| format!("key {number}")).collect();
    dict.extend(keys.iter().map(|key| (key.clone(), 0)))?;
    let each = count / processes;
    let mut figures = Vec::new();
    for _ in 0..rounds.0 {
        let ready = Barrier::new(processes + 1)?;
        let workers: Vec<_> = (0..processes)
            .map(|_| {
                Process::fork(|| -> Outcome {
                    ready.wait()?;
                    for number in 0..each {
                        let key = keys[number % KEYS].as_str();
                        if reads {
                            black_box(dict.get(key)?);
                        } else {
                            dict.insert(key, &(number as u64))?;
                        }
                    }
                    Ok(())
                })
            })
            .collect::<Result<_, _>>()?;
        ready.wait()?;
        let start = Instant::now();
        for worker in &workers {
            worker.join()?;
        }
        figures.push(start.elapsed().as_secs_f64() / (each * processes) as f64);
    }
    Ok(figures)
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

/// A call of a value in a manager, one at a time.
fn managed(rounds: Rounds, count: usize) -> Outcome<Vec<f64>> {
    let manager = Manager::builder().register::<Counter>().start()?;
    let counter = CounterProxy::new(&manager)?;
    let mut figures = Vec::new();
    for _ in 0..rounds.0 {
        let start = Instant::now();
        for _ in 0..count {
            counter.add(1)?;
        }
        figures.push(start.elapsed().as_secs_f64() / count as f64);
    }
    Ok(figures)
}

fn pipe(rounds: Rounds, count: usize) -> Outcome<Vec<f64>> {
    let (here, there) = Pipe::duplex()?;
    let echo = Process::fork(move || -> Outcome {
        loop {
            match there.recv::<u64>()? {
                u64::MAX => return Ok(()),
                number => there.send(&number)?,
            }
        }
    })?;
    let figures = rounds.timed(count, || {
        for number in 0..count as u64 {
            here.send(&number)?;
            black_box(here.recv::<u64>()?);
        }
        Ok(())
    });
    here.send(&u64::MAX)?;
    join(&echo)?;
    figures
}

fn lock(rounds: Rounds, count: usize) -> Outcome<Vec<f64>> {
    let lock = Lock::new()?;
    rounds.timed(count, || {
        for _ in 0..count {
            drop(lock.acquire()?);
        }
        Ok(())
    })
}

/// Two processes that begin together: from the first one's beginning until both are done. They look at the clock
/// themselves, because who waits for them may be late.
fn race(work: impl Fn() -> Outcome) -> Outcome<Duration> {
    let barrier = Barrier::new(2)?;
    let times = RawArray::<u64>::new(4)?;
    let origin = Instant::now();
    let run = |racer: usize| -> Outcome {
        barrier.wait()?;
        let begin = origin.elapsed();
        work()?;
        times.copy_from(2 * racer, &[begin, origin.elapsed()].map(|time| time.as_nanos() as u64))?;
        Ok(())
    };
    let processes = [Process::fork(|| run(0))?, Process::fork(|| run(1))?];
    processes.iter().try_for_each(join)?;
    let times = times.to_vec()?;
    Ok(Duration::from_nanos(times[1].max(times[3]) - times[0].min(times[2])))
}

/// `count` operations in each of two processes; the time is that of one of all of them.
fn lock_contended(rounds: Rounds, count: usize) -> Outcome<Vec<f64>> {
    let lock = Lock::new()?;
    rounds.of(2 * count, || {
        race(|| {
            for _ in 0..count {
                drop(lock.acquire()?);
            }
            Ok(())
        })
    })
}

fn value_contended(rounds: Rounds, count: usize) -> Outcome<Vec<f64>> {
    let value = Value::<u64>::new(0)?;
    let figures = rounds.of(2 * count, || {
        race(|| {
            for _ in 0..count {
                value.update(|value| *value += 1)?;
            }
            Ok(())
        })
    })?;
    // Of each round, and of the one to warm up.
    if value.get()? != (2 * count * (rounds.0 + 1)) as u64 {
        return Err("increments are missing".into());
    }
    Ok(figures)
}

/// Eight sums at a time, so that memory is what it waits for, not the addition before.
#[inline(never)]
fn sum(elements: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (chunks, rest) = elements.as_chunks::<8>();
    for chunk in chunks {
        for (sum, element) in sums.iter_mut().zip(chunk) {
            *sum += element;
        }
    }
    sums.iter().chain(rest).sum()
}

/// Seconds for each byte: of an array that another process sees as well, and of private memory, in turns.
fn shared_array(rounds: Rounds, size: usize) -> Outcome<Vec<f64>> {
    let len = size / size_of::<f64>();
    let shared = Array::<f64>::new(len)?;
    let private = vec![0.5; len];
    join(&Process::fork(|| shared.update(|elements| elements.fill(0.5)))?)?;
    let both = || -> Outcome<[f64; 2]> {
        let time = |elements: &[f64]| {
            let start = Instant::now();
            let is_right = black_box(sum(black_box(elements))) == len as f64 / 2.0;
            if is_right { Ok(start.elapsed().as_secs_f64() / size as f64) } else { Err("a wrong sum") }
        };
        Ok([shared.update(|elements| time(elements))??, time(&private)?])
    };
    both()?;
    Ok((0..rounds.0).map(|_| both()).collect::<Outcome<Vec<_>>>()?.into_flattened())
}

/// Seconds for each byte.
fn sha256(rounds: Rounds, size: usize) -> Outcome<Vec<f64>> {
    let bytes = touch(size);
    rounds.timed(size, || {
        black_box(sha256::sha256(black_box(&bytes)));
        Ok(())
    })
}

/// Says that everything is in place, and waits to be killed.
fn hold() -> Outcome<Vec<f64>> {
    report(&[])?;
    loop {
        std::thread::sleep(Duration::from_secs(1000));
    }
}

/// Says that it is there, and does nothing any more.
fn idler((ready, end): (Barrier, Event)) -> Outcome {
    ready.wait()?;
    Ok(end.wait()?)
}

/// This number of processes, which do nothing, with a memory of their own.
fn idle(count: usize) -> Outcome<Vec<f64>> {
    let (ready, end) = (Barrier::new(count + 1)?, Event::new()?);
    let start = |_| Process::spawn(idler, (ready.clone(), end.clone()));
    let processes = (0..count).map(start).collect::<Result<Vec<_>, _>>()?;
    ready.wait()?;
    let held = hold();
    drop(processes);
    held
}

/// A pool whose workers have all done something.
fn pool_idle(workers: usize) -> Outcome<Vec<f64>> {
    let pool = Pool::builder().processes(workers).build()?;
    let count = 100 * workers;
    complete(pool.options().chunksize(1).map(identity, 0..count as u64)?.into_iter(), count)?;
    hold()
}

/// An array of this number of bytes that `count` processes have read.
fn seen(count: usize, size: usize) -> Outcome<Vec<f64>> {
    let array = Array::<u64>::new(size / size_of::<u64>())?;
    array.update(|elements| elements.fill(1))?;
    let (ready, end) = (Barrier::new(count + 1)?, Event::new()?);
    let read = || -> Outcome {
        black_box(array.update(|elements| elements.iter().sum::<u64>())?);
        idler((ready.clone(), end.clone()))
    };
    let processes = (0..count).map(|_| Process::fork(read)).collect::<Result<Vec<_>, _>>()?;
    ready.wait()?;
    let held = hold();
    drop(processes);
    held
}
