//! The work of `sandpool bench` by threads of one native program, with rayon and crossbeam: the limit of what is possible
//! without a process, a sandbox, or a copy. A thread that crashes takes all others with it.
//!
//! `native KEY [--quick]` prints one figure in the key's unit, after a warm-up that doesn't count.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rayon::iter::{IndexedParallelIterator as _, IntoParallelIterator as _, ParallelIterator as _};
use rayon::{ThreadPool, ThreadPoolBuilder};

type Failure = Box<dyn std::error::Error>;

const MIB: usize = 1 << 20;

/// Name and work; the latter gets what counts are to be multiplied by.
type Work = (&'static str, fn(&Scale) -> Result<f64, Failure>);

const WORK: &[Work] = &[
    ("process_start_join_us", |scale| scale.micros(20_000, start_join)),
    ("pool_map_chunk1_us_per_task", |scale| rayon_map(scale, 1)),
    ("pool_map_auto_us_per_task", |scale| rayon_map(scale, usize::MAX)),
    ("pool_imap_unordered_us_per_task", imap_unordered),
    ("pool_apply_rtt_us", apply),
    ("executor_submit_us_per_task", executor),
    ("queue_small_us_per_msg", queue_small),
    ("queue_1MiB_GBps", queue_large),
    ("pipe_rtt_us", round_trips),
    ("lock_uncontended_ns", lock),
    ("lock_contended2_ns", |scale| contended(scale, 0)),
    ("value_inc_contended2_ns", |scale| contended(scale, 1)),
];

fn main() -> Result<ExitCode, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let scale = Scale { is_quick: arguments.iter().any(|argument| argument == "--quick") };
    let Some(key) = arguments.first() else { return Ok(ExitCode::from(2)) };
    if key == "--list" {
        WORK.iter().for_each(|(key, _)| println!("{key}"));
        return Ok(ExitCode::SUCCESS);
    }
    let Some((_, work)) = WORK.iter().find(|(name, _)| name == key) else { return Ok(ExitCode::from(2)) };
    println!("{}", work(&scale)?);
    Ok(ExitCode::SUCCESS)
}

struct Scale {
    is_quick: bool,
}

impl Scale {
    fn count(&self, full: usize) -> usize {
        if self.is_quick { full / 10 } else { full }
    }

    /// Seconds for one operation of the second of two rounds.
    fn seconds(
        &self,
        full: usize,
        mut work: impl FnMut(usize) -> Result<(), Failure>,
    ) -> Result<f64, Failure> {
        let count = self.count(full);
        work(count / 10)?;
        let start = Instant::now();
        work(count)?;
        Ok(start.elapsed().as_secs_f64() / count as f64)
    }

    fn micros(&self, full: usize, work: impl FnMut(usize) -> Result<(), Failure>) -> Result<f64, Failure> {
        Ok(self.seconds(full, work)? * 1e6)
    }
}

fn joined<T>(thread: thread::JoinHandle<T>) -> Result<T, Failure> {
    thread.join().map_err(|_| "a thread has panicked".into())
}

fn start_join(count: usize) -> Result<(), Failure> {
    (0..count).try_for_each(|_| joined(thread::spawn(|| ())))
}

fn two_threads() -> Result<ThreadPool, Failure> {
    Ok(ThreadPoolBuilder::new().num_threads(2).build()?)
}

#[inline(never)]
fn identity(number: u64) -> u64 {
    black_box(number)
}

fn rayon_map(scale: &Scale, chunksize: usize) -> Result<f64, Failure> {
    let pool = two_threads()?;
    scale.micros(1_000_000, |count| {
        let inputs: Vec<u64> = (0..count as u64).collect();
        let map = || inputs.into_par_iter().with_max_len(chunksize).map(identity).collect::<Vec<_>>();
        black_box(pool.install(map));
        Ok(())
    })
}

/// Two threads that take numbers from one channel, and put results into another.
fn imap_unordered(scale: &Scale) -> Result<f64, Failure> {
    let (inputs, taken) = unbounded();
    let (results, outputs) = unbounded();
    let work = |(taken, results): (Receiver<u64>, Sender<u64>)| {
        thread::spawn(move || taken.iter().try_for_each(|number| results.send(identity(number))))
    };
    let threads = [(taken.clone(), results.clone()), (taken, results)].map(work);
    let micros = scale.micros(1_000_000, |count| {
        (0..count as u64).try_for_each(|number| inputs.send(number))?;
        for _ in 0..count {
            black_box(outputs.recv()?);
        }
        Ok(())
    });
    drop(inputs);
    for thread in threads {
        joined(thread)??;
    }
    micros
}

fn apply(scale: &Scale) -> Result<f64, Failure> {
    let pool = two_threads()?;
    scale.micros(100_000, |count| {
        for number in 0..count as u64 {
            black_box(pool.install(|| identity(number)));
        }
        Ok(())
    })
}

fn executor(scale: &Scale) -> Result<f64, Failure> {
    let pool = two_threads()?;
    scale.micros(200_000, |count| {
        let submit = |number| {
            let (result, future) = bounded(1);
            // If nobody waits for it any more, that is the end of it.
            pool.spawn(move || {
                let _ = result.send(identity(number));
            });
            future
        };
        let futures: Vec<_> = (0..count as u64).map(submit).collect();
        for future in futures {
            black_box(future.recv()?);
        }
        Ok(())
    })
}

/// Seconds for an item, from the first on.
fn through_channel<T: Send + 'static>(
    count: usize,
    channel: (Sender<T>, Receiver<T>),
    make: impl Fn(usize) -> T + Send + 'static,
) -> Result<f64, Failure> {
    let (sender, receiver) = channel;
    let producer = thread::spawn(move || (0..count).try_for_each(|number| sender.send(make(number))));
    black_box(receiver.recv()?);
    let start = Instant::now();
    for _ in 1..count {
        black_box(receiver.recv()?);
    }
    let elapsed = start.elapsed();
    joined(producer)?.map_err(|_| "nobody receives any more")?;
    Ok(elapsed.as_secs_f64() / (count - 1) as f64)
}

fn queue_small(scale: &Scale) -> Result<f64, Failure> {
    let through = |count| through_channel(count, unbounded(), |number| number as u64);
    through(scale.count(100_000))?;
    Ok(through(scale.count(1_000_000))? * 1e6)
}

/// One copy: the producer's. The item is then the consumer's.
fn queue_large(scale: &Scale) -> Result<f64, Failure> {
    let through = |count| {
        let item = vec![1_u8; MIB];
        through_channel(count, bounded(128), move |_| black_box(&item).clone())
    };
    through(scale.count(100))?;
    Ok(MIB as f64 / through(scale.count(1000))? / 1e9)
}

fn round_trips(scale: &Scale) -> Result<f64, Failure> {
    let (there, receiver) = unbounded::<u64>();
    let (sender, back) = unbounded();
    let echo = thread::spawn(move || receiver.iter().try_for_each(|number| sender.send(number)));
    let micros = scale.micros(200_000, |count| {
        for number in 0..count as u64 {
            there.send(number)?;
            black_box(back.recv()?);
        }
        Ok(())
    });
    drop(there);
    joined(echo)??;
    micros
}

fn lock_many(value: &Mutex<u64>, count: usize, increment: u64) {
    for _ in 0..count {
        if let Ok(mut value) = value.lock() {
            *value += black_box(increment);
        }
    }
}

fn lock(scale: &Scale) -> Result<f64, Failure> {
    let mutex = Mutex::new(0);
    let nanos = scale.seconds(2_000_000, |count| {
        lock_many(&mutex, count, 0);
        Ok(())
    })?;
    Ok(nanos * 1e9)
}

/// Nanoseconds for one of all operations of two threads that begin together, and look at the clock themselves.
fn contended(scale: &Scale, increment: u64) -> Result<f64, Failure> {
    let count = scale.count(1_000_000);
    let shared = Arc::new((Mutex::new(0), Barrier::new(2)));
    let threads = [0, 1].map(|_| {
        let shared = shared.clone();
        thread::spawn(move || {
            let (mutex, barrier) = &*shared;
            lock_many(mutex, count / 10, increment);
            barrier.wait();
            let begin = Instant::now();
            lock_many(mutex, count, increment);
            (begin, Instant::now())
        })
    });
    let [first, second] = threads.map(joined);
    let (first, second) = (first?, second?);
    let elapsed = first.1.max(second.1) - first.0.min(second.0);
    Ok(elapsed.as_secs_f64() / (2 * count) as f64 * 1e9)
}
