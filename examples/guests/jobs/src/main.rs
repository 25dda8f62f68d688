//! Counts prime numbers: `jobs [LIMIT] [PRODUCERS] [CONSUMERS]`.
//!
//! Producers cut the numbers below LIMIT into ranges and put the ranges into a `JoinableQueue`; consumers take them,
//! count the primes in each, and report that it is done. When the queue is joined, nothing is left to do.

use sandpool_guest::{Error, JoinableQueue, Process, RawArray, RawValue};

/// The number of numbers in one job.
const JOB: u64 = 10_000;

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let limit = argument(1, "LIMIT", 2_000_000)?;
    let producers = argument(2, "PRODUCERS", 2)?;
    let consumers = argument(3, "CONSUMERS", 4)?;

    // Bounded, so that producers are never far ahead.
    let jobs = JoinableQueue::bounded(16)?;
    let primes = RawValue::new(0_u64)?;
    let jobs_of = RawArray::<u64>::new(usize::try_from(consumers)?)?;

    let producing = (0..producers)
        .map(|producer| {
            let jobs = &jobs;
            Process::builder().name(format!("producer-{}", producer + 1)).daemon().fork(
                move || -> Result<(), Error> {
                    let starts = (producer * JOB..limit).step_by(usize::try_from(producers * JOB)?);
                    for start in starts {
                        jobs.put(&(start, (start + JOB).min(limit)))?;
                    }
                    Ok(())
                },
            )
        })
        .collect::<Result<Vec<_>, _>>()?;
    let consuming = (0..jobs_of.len())
        .map(|consumer| {
            let (jobs, primes, jobs_of) = (&jobs, &primes, &jobs_of);
            Process::builder().name(format!("consumer-{}", consumer + 1)).daemon().fork(
                move || -> Result<(), Error> {
                    for job in jobs {
                        let (start, end) = job?;
                        let found = (start..end).filter(|number| is_prime(*number)).count();
                        primes.atomic().fetch_add(found as u64);
                        jobs_of.atomic(consumer)?.fetch_add(1);
                        jobs.task_done()?;
                    }
                    Ok(())
                },
            )
        })
        .collect::<Result<Vec<_>, _>>()?;

    succeed(&producing)?;
    // All jobs were put, so this waits for the last of them. If a consumer died with a job, this is an error.
    jobs.join()?;
    println!("{} primes below {limit}", primes.get()?);
    jobs.close()?;
    succeed(&consuming)?;
    println!("jobs done by each consumer: {:?}", jobs_of.to_vec()?);
    Ok(())
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

/// Waits until all processes have ended, and fails unless each succeeded.
fn succeed(processes: &[Process]) -> Result<(), Error> {
    for process in processes {
        let status = process.join()?;
        if !status.success() {
            return Err(Error::other(format!("{} failed: {status}", process.name())));
        }
    }
    Ok(())
}

/// A positive number from the command line.
fn argument(index: usize, name: &str, default: u64) -> Result<u64, Error> {
    match std::env::args().nth(index) {
        None => Ok(default),
        Some(text) => match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(Error::other(format!("{name} is a number from 1 on, not {text}"))),
        },
    }
}
