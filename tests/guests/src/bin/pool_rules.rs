//! Rules of pools that show only in special cases: callbacks of what is cancelled, failures that no retry can help, workers
//! that leave or die while a pool shrinks or closes, and the shortest of several timeouts.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};

use sandpool_guest::pool::futures::Executor;
use sandpool_guest::pool::{Cause, PoolError};
use sandpool_guest::{Array, Event, Exchange, Pool, Process, active_children};
use sandpool_test_guests::{LONG, Outcome, check, ended_well, eventually, same};
use serde::{Deserialize, Serialize, Serializer};

#[sandpool_guest::main]
fn main() -> Outcome {
    callbacks()?;
    no_retry_helps()?;
    shrinking()?;
    closing()?;
    timeouts()?;
    hints()?;
    nothing_to_wait_for()?;
    starts()?;
    moved()
}

fn wait(go: Event) -> bool {
    go.wait().is_ok()
}

fn callbacks() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(1))?;
    let go = Event::new()?;
    let first = executor.submit(wait, go.clone())?;
    eventually("the worker is busy", || Ok(first.running()))?;
    let called = Rc::new(RefCell::new(Vec::new()));
    for number in 0..4 {
        let called = called.clone();
        first.add_done_callback(move |_| called.borrow_mut().push(number));
    }
    let waiting = executor.submit(wait, go.clone())?;
    let cancelled = called.clone();
    waiting.add_done_callback(move |result| {
        let is_cancelled = result.as_ref().is_err_and(|error| *error.cause() == Cause::Cancelled);
        cancelled.borrow_mut().push(if is_cancelled { 10 } else { 11 });
    });
    executor.cancel_futures();
    same("a callback of a task that a shutdown cancels", called.take(), vec![10])?;
    go.set()?;
    check("the other is done", first.exception().is_none())?;
    same("all callbacks in their order", called.take(), vec![0, 1, 2, 3])
}

/// A result that can't be encoded.
#[derive(Deserialize)]
struct Secret;

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("it is secret"))
    }
}

fn no_retry_helps() -> Outcome {
    let pool = Pool::builder().processes(1).retries(3).build()?;
    let error = pool.apply_async(|_: u64| Secret, 1)?.get().err().ok_or("there is a result")?;
    check("a result that can't be encoded", matches!(error.cause(), Cause::Encode(_)))?;
    same("isn't made again", pool.stats().retried, 0)
}

fn shrinking() -> Outcome {
    let pool = Pool::builder().processes(4).build()?;
    same("all are there", pool.map(|n: u64| n, 0..100)?.len(), 100)?;
    pool.resize(1)?;
    // Nobody calls the pool meanwhile.
    eventually("idle workers leave", || {
        let mut alive = 0;
        for worker in active_children()? {
            alive += usize::from(worker.is_alive()?);
        }
        Ok(alive == 1)
    })?;
    same("and one is left", pool.apply(|n: u64| n, 7)?, 7)
}

fn closing() -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    let go = Event::new()?;
    let crash = |go: Event| -> u64 {
        let _ = go.wait();
        std::process::exit(3)
    };
    let bad = pool.apply_async(crash, go.clone())?;
    let good = pool.map_async(|n: u64| n, 0..10)?;
    pool.close();
    go.set()?;
    pool.join()?;
    check("the task that ends the only worker fails", bad.get().is_err())?;
    same("those after it have another", good.get()?, (0..10).collect())
}

fn timeouts() -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    let never = Event::new()?;
    same("one that has an hour", pool.options().task_timeout(60 * LONG).apply(|n: u64| n, 1)?, 1)?;
    let short = Duration::from_millis(20);
    let late = pool.options().task_timeout(short).apply_async(wait, never)?;
    let Ok(result) = late.get_timeout(LONG) else { return Err("the shortest time doesn't count".into()) };
    same("the shortest counts", result.map_err(|error| error.cause().clone()), Err(Cause::TimedOut(short)))?;

    // The machine may be slow, so a task that was late itself has more time the next time.
    let mut timeout = Duration::from_millis(200);
    while !has_its_own_time(&pool, timeout)? {
        timeout *= 2;
    }
    println!("ok: each task of a chunk has its own time");
    Ok(())
}

/// Whether the second task of a chunk is ended no sooner than `timeout` after its begin, when the first has taken half of that;
/// `false` as well if the first was late.
fn has_its_own_time(pool: &Pool, timeout: Duration) -> Result<bool, Box<dyn Error>> {
    let [is_through, go, never] = [Event::new()?, Event::new()?, Event::new()?];
    let task = |(pause, is_through, go): (Duration, Event, Event)| {
        std::thread::sleep(pause);
        is_through.set().is_ok() && go.wait().is_ok()
    };
    let arguments =
        [(timeout / 2, is_through.clone(), go.clone()), (Duration::ZERO, is_through.clone(), never)];
    let job = pool.options().task_timeout(timeout).chunksize(2).map_async(task, arguments)?;
    eventually("the first is through", || Ok(is_through.is_set()? || job.ready()))?;
    let begin = Instant::now();
    go.set()?;
    match job.get() {
        Err(error) if *error.cause() == Cause::TimedOut(timeout) => match error.index() {
            0 => Ok(false),
            _ if begin.elapsed() < timeout => Err("failed: the time of a task began before the task".into()),
            _ => Ok(true),
        },
        other => Err(format!("failed: the second task: {other:?}").into()),
    }
}

fn hints() -> Outcome {
    let pool = Pool::builder().processes(2).build()?;
    let mut squares = pool.imap(|n: u64| n * n, 0..100)?;
    for left in (0..100).rev() {
        squares.next().ok_or("there is one more")??;
        if squares.size_hint() != (left, Some(left)) {
            return Err(format!("{left} are left, not {:?}", squares.size_hint()).into());
        }
    }
    println!("ok: an iterator says how many are left");
    Ok(())
}

fn nothing_to_wait_for() -> Outcome {
    let mut exchange = Exchange::<u64>::new(2)?;
    check("nothing is at work, and nobody waits for it", !exchange.ready(Duration::MAX)?)?;
    let index = exchange.start(|| 7)?;
    check("but for what is", exchange.ready(LONG)?)?;
    same("which has a result", exchange.get(index)?, 7)
}

/// A worker that couldn't be started wasn't started.
fn starts() -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    let array = Array::<u64>::new(1)?;
    let guard = array.lock().map_err(|error| error.to_string())?;
    for worker in active_children()? {
        worker.kill()?;
        worker.join()?;
    }
    let later = pool.apply_async(|n: u64| n, 5)?;
    check("none can be started for now", !later.wait_timeout(Duration::from_millis(20)))?;
    drop(guard);
    same("one is started then", later.get()?, 5)?;
    same("each is counted that was", pool.stats().workers_started, 2)
}

/// Uses a pool when it is dropped.
struct Last(Rc<Pool>, Rc<Cell<bool>>);

impl Drop for Last {
    fn drop(&mut self) {
        self.1.set(matches!(self.0.apply(|n: u64| n, 1), Err(PoolError::NotOwner)));
    }
}

/// A value that is moved into a child is dropped by its parent as well, and is the child's all the same.
fn moved() -> Outcome {
    let pool = Rc::new(Pool::builder().processes(1).build()?);
    let is_refused = Rc::new(Cell::new(false));
    let last = Last(pool.clone(), is_refused.clone());
    ended_well(&Process::fork(move || drop(last))?)?;
    check("what was moved away has no pool", is_refused.get())?;
    same("which works on", pool.apply(|n: u64| n, 2)?, 2)
}
