//! Pools, scoped maps, exchanges and processes in workers; and what becomes of them when somebody is killed.

use sandpool_guest::pipe::RecvError;
use sandpool_guest::pool::{PoolError, Scoped, StartMethod};
use sandpool_guest::{
    Connection, Error, Event, Exchange, Pipe, Pool, Process, Queue, active_children, current_process,
    scoped_map,
};
use sandpool_test_guests::{LONG, Outcome, argument, check, ended_well, eventually, kill, same};

/// A number, or what went wrong.
type Answer = Result<u64, String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A pool in a worker, and one in a worker of that.
fn sum_in_a_pool(depth: u32) -> Answer {
    if depth == 0 {
        return Ok(7);
    }
    let pool = Pool::builder().processes(2).build().map_err(text)?;
    let sums = pool.map(sum_in_a_pool, [depth - 1, depth - 1]).map_err(text)?;
    sums.into_iter().sum()
}

fn sum_in_spawned_pools(depth: u32) -> Answer {
    if depth == 0 {
        return Ok(7);
    }
    let pool = Pool::builder().processes(2).start_method(StartMethod::Spawn).build().map_err(text)?;
    let sums = pool.map(sum_in_spawned_pools, [depth - 1, depth - 1]).map_err(text)?;
    sums.into_iter().sum()
}

fn sum_in_scopes(depth: u32) -> Answer {
    if depth == 0 {
        return Ok(7);
    }
    let base = vec![depth; 2];
    // It borrows at each depth.
    let sums = Scoped::new().processes(2).map(&base, |depth| sum_in_scopes(depth - 1)).map_err(text)?;
    sums.into_iter().sum()
}

fn sum_in_exchanges(depth: u32) -> Answer {
    if depth == 0 {
        return Ok(7);
    }
    let mut exchange = Exchange::new(2).map_err(text)?;
    for _ in 0..2 {
        exchange.start(|| sum_in_exchanges(depth - 1)).map_err(text)?;
    }
    exchange.try_fold(0, |sum, result| Ok(sum + result.map_err(text)??))
}

fn sum_of_all(depth: u32) -> Answer {
    let process = Process::fork(move || -> Result<(), String> {
        let is_worker = current_process().is_ok_and(|this| !this.daemon());
        if is_worker { Ok(()) } else { Err("a process of a worker is daemonic".to_owned()) }
    });
    let status = process.and_then(|process| process.join()).map_err(text)?;
    if !status.success() {
        return Err(format!("a process of a worker: {status}"));
    }
    let sums = [sum_in_a_pool(depth), sum_in_scopes(depth), sum_in_exchanges(depth)];
    sums.into_iter().sum()
}

/// Where the ids of processes go that never end, what they wait for, and what each of them has.
type Parts = (Queue<u32>, Event, Connection);

/// Says that it runs, and waits for ever.
fn never_end((about, never, _end): Parts) -> bool {
    current_process().is_ok_and(|this| about.put(&this.pid()).is_ok()) && never.wait().is_ok()
}

/// Starts what never ends, by each way that there is.
fn start_what_never_ends(parts: Parts) -> Answer {
    let run = || never_end(parts.clone());
    let started = (|| -> Outcome {
        let forked = Process::fork(|| -> Outcome {
            let inner = Process::fork(|| i32::from(run()))?;
            run();
            ended_well(&inner)
        })?;
        let spawned = Process::spawn(|parts| i32::from(never_end(parts)), parts.clone())?;
        let mut exchange = Exchange::new(2)?;
        exchange.start(run)?;
        exchange.start(|| scoped_map([()], |()| run()).is_ok())?;
        let pool = Pool::builder().processes(1).build()?;
        let result = pool.apply(never_end, parts.clone())?;
        drop((forked, spawned));
        check("it comes to an end", result)
    })();
    started.map(|()| 0).map_err(text)
}

/// Those that it starts: a process and its child, a spawned one, one of the exchange, one in a scope of that, a worker.
const NEVER_ENDING: usize = 6;

#[sandpool_guest::main]
fn main() -> Outcome {
    match argument::<String>(0, String::new()).as_str() {
        "limits" => limits(),
        _ => sums().and_then(|()| deaths()),
    }
}

fn sums() -> Outcome {
    same("pools in pools in pools", sum_in_a_pool(3)?, 56)?;
    same("spawned ones", sum_in_spawned_pools(2)?, 28)?;
    same("scoped maps in scoped maps", sum_in_scopes(3)?, 56)?;
    same("exchanges in exchanges", sum_in_exchanges(3)?, 56)?;
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let pool = Pool::builder().processes(2).start_method(method).build()?;
        same("each in a worker", pool.apply(sum_of_all, 2)??, 84)?;
        let daemon = pool.apply(|_: u64| current_process().is_ok_and(|this| this.daemon()), 0)?;
        check("which is daemonic", daemon)?;
    }
    same("each in a scope", scoped_map([2], sum_of_all)?, vec![Ok(84)])?;
    let mut exchange = Exchange::new(1)?;
    exchange.start(|| sum_of_all(2))?;
    same("each in an exchange", exchange.get(0)?, Ok(84))?;
    // One that isn't a worker still may not.
    let daemon = Process::builder().daemon().fork(|| -> Outcome {
        check("a daemon has no pool", matches!(Pool::new(), Err(PoolError::Start(Error::DaemonicParent))))
    })?;
    ended_well(&daemon)?;
    // A process that an exchange has started has put its result, and is about to end.
    eventually("nobody is left", || Ok(active_children()?.is_empty()))
}

/// With a worker ends what its task has started, however that ends.
fn deaths() -> Outcome {
    let all_run = |about: &Queue<u32>| -> Outcome {
        while about.qsize()? < NEVER_ENDING {
            std::thread::yield_now();
        }
        Ok(())
    };
    let (about, never) = (Queue::new()?, Event::new()?);
    let parts = || -> Result<(Connection, Parts), Error> {
        let (watch, end) = Pipe::simplex()?;
        Ok((watch, (about.clone(), never.clone(), end)))
    };
    // The end of the pipe goes with the last process that has it.
    let all_are_gone = |what: &str, watch: &Connection| -> Outcome {
        let pids: Vec<u32> = about.get_many(100)?;
        let gone = watch.recv_timeout::<()>(LONG);
        check(what, pids.len() == NEVER_ENDING && matches!(gone, Err(RecvError::Eof)))
    };

    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let builder = || Pool::builder().processes(1).start_method(method);
        let (watch, given) = parts()?;
        let pool = builder().build()?;
        let result = pool.apply_async(start_what_never_ends, given)?;
        all_run(&about)?;
        let [worker] = &active_children()?[..] else { return Err("more than a worker".into()) };
        worker.kill()?;
        check(
            "a killed worker",
            matches!(result.get(), Err(error) if error.worker() == Some(worker.name())),
        )?;
        all_are_gone("takes along what its task has started", &watch)?;

        let (watch, given) = parts()?;
        let _result = pool.apply_async(start_what_never_ends, given)?;
        all_run(&about)?;
        pool.terminate();
        all_are_gone("terminated, a pool does the same", &watch)?;

        let (watch, given) = parts()?;
        let owner = Process::fork(|| -> Outcome {
            let pool = builder().build()?;
            let _result = pool.apply_async(start_what_never_ends, given)?;
            Ok(never.wait()?)
        })?;
        all_run(&about)?;
        kill(&owner)?;
        all_are_gone("a killed owner takes its workers along", &watch)?;
    }
    eventually("no child is left", || Ok(active_children()?.is_empty()))
}

/// A pool of one in a pool of one, and so on.
fn chain(depth: u32) -> Answer {
    if depth == 0 {
        return Ok(7);
    }
    let pool = Pool::builder().processes(1).build().map_err(text)?;
    pool.apply(chain, depth - 1).map_err(text)?
}

/// The number of processes is bounded.
fn limits() -> Outcome {
    same("some pools in each other", chain(20)?, 7)?;
    let error = chain(60).err().ok_or("sixty processes")?;
    check("one process too many", error.contains("too many processes: the run's limit is 40"))?;
    eventually("and then there is room again", || Ok(chain(20) == Ok(7)))
}
