//! Everything that waits, where nothing comes: without waiting, with no time, and with a short one.
//!
//! A form that waits all the same hangs, and with it the test.

use std::time::{Duration, Instant};

use sandpool_guest::pipe::{RecvError, SendError};
use sandpool_guest::pool::futures::{Executor, ReturnWhen, as_completed, wait as wait_for_futures};
use sandpool_guest::pool::{Cause, PoolError, Scoped};
use sandpool_guest::queue::{GetError, GetManyError, JoinError, PutError};
use sandpool_guest::sync::{AcquireError, BarrierError};
use sandpool_guest::{
    Array, Barrier, BoundedSemaphore, Condition, Event, Exchange, JoinableQueue, Lock, Pipe, Pool, Process,
    Queue, RLock, Semaphore, SimpleQueue, Value, active_children, parent_process, wait,
};
use sandpool_test_guests::{Outcome, check, eventually, hang, kill, same};

const SHORT: Duration = Duration::from_millis(5);
/// Both times that each form with a timeout is tried with.
const TIMES: [Duration; 2] = [Duration::ZERO, SHORT];

/// Tries something with each time, and fails if it doesn't give up, or earlier than it is to.
fn gives_up(what: &str, mut gave_up: impl FnMut(Duration) -> bool) -> Outcome {
    for time in TIMES {
        let start = Instant::now();
        if !gave_up(time) {
            return Err(format!("failed: {what} didn't give up after {time:?}").into());
        }
        if start.elapsed() < time {
            return Err(format!("failed: {what} has given up too early").into());
        }
    }
    check(what, true)
}

fn wait_in_a_task(event: Event) -> bool {
    event.wait().is_ok()
}

#[sandpool_guest::main]
fn main() -> Outcome {
    queues()?;
    pipes()?;
    locks()?;
    shared()?;
    processes()?;
    pools()?;
    futures()?;
    exchanges()?;
    scoped()
}

fn queues() -> Outcome {
    let queue = Queue::<u64>::bounded(1)?;
    gives_up("Queue::get", |time| matches!(queue.get_timeout(time), Err(GetError::Empty)))?;
    check("Queue::try_get", matches!(queue.try_get(), Err(GetError::Empty)))?;
    gives_up("Queue::get_many", |time| {
        matches!(queue.get_many_timeout(3, time), Err(GetManyError::Nothing(GetError::Empty)))
    })?;
    check("Queue::try_get_many", queue.try_get_many(3).is_err())?;
    let mut items = queue.iter();
    gives_up("Queue::iter", |time| matches!(items.next_timeout(time), Some(Err(GetError::Empty))))?;
    check("try_next of a queue", matches!(items.try_next(), Some(Err(GetError::Empty))))?;
    queue.put(&7)?;
    same("and goes on", items.next_timeout(SHORT).and_then(Result::ok), Some(7))?;
    queue.put(&1)?;
    gives_up("Queue::put", |time| matches!(queue.put_timeout(&2, time), Err(PutError::Full)))?;
    check("Queue::try_put", matches!(queue.try_put(&2), Err(PutError::Full)))?;
    gives_up("Queue::put_many", |time| matches!(queue.put_many_timeout(&[2, 3], time), Ok(0)))?;
    check("Queue::try_put_many", matches!(queue.try_put_many(&[2, 3]), Ok(0)))?;

    let joinable = JoinableQueue::<u64>::new()?;
    joinable.put(&1)?;
    gives_up("JoinableQueue::join", |time| matches!(joinable.join_timeout(time), Err(JoinError::TimedOut)))?;
    check("JoinableQueue::try_join", matches!(joinable.try_join(), Err(JoinError::TimedOut)))?;

    let simple = SimpleQueue::<Vec<u8>>::new()?;
    gives_up("SimpleQueue::get", |time| matches!(simple.get_timeout(time), Err(GetError::Empty)))?;
    check("SimpleQueue::try_get", matches!(simple.try_get(), Err(GetError::Empty)))?;
    // Until the arena is full.
    let large = vec![0; 1 << 20];
    while simple.try_put(&large).is_ok() {}
    gives_up("SimpleQueue::put", |time| matches!(simple.put_timeout(&large, time), Err(PutError::Full)))?;
    check("SimpleQueue::try_put", matches!(simple.try_put(&large), Err(PutError::Full)))?;

    // A pool for whose tasks there is no room: that is waited for in the same way.
    let pool = Pool::builder().processes(1).build()?;
    let result = pool.apply_async(|bytes: Vec<u8>| bytes.len(), large.clone())?;
    gives_up("AsyncResult::wait, in a full arena", |time| !result.wait_timeout(time))?;
    check("AsyncResult::ready, in a full arena", !result.ready())?;
    while simple.try_get().is_ok() {}
    same("then there is room", result.get()?, large.len())
}

fn pipes() -> Outcome {
    let (here, there) = Pipe::builder().capacity(1).duplex()?;
    // Without somebody else who has both ends, nobody would be left to send or receive anything.
    let other = Process::fork(hang)?;
    let mut buffer = [0; 8];
    let empty = |result: Result<(), RecvError>| matches!(result, Err(RecvError::Empty));
    gives_up("Connection::recv", |time| empty(here.recv_timeout::<u64>(time).map(drop)))?;
    check("Connection::try_recv", empty(here.try_recv::<u64>().map(drop)))?;
    gives_up("Connection::recv_bytes", |time| empty(here.recv_bytes_timeout(time).map(drop)))?;
    check("Connection::try_recv_bytes", empty(here.try_recv_bytes().map(drop)))?;
    gives_up("Connection::recv_bytes_max", |time| empty(here.recv_bytes_max_timeout(8, time).map(drop)))?;
    check("Connection::try_recv_bytes_max", empty(here.try_recv_bytes_max(8).map(drop)))?;
    gives_up("Connection::recv_bytes_into", |time| {
        empty(here.recv_bytes_into_timeout(&mut buffer, time).map(drop))
    })?;
    check("Connection::try_recv_bytes_into", empty(here.try_recv_bytes_into(&mut buffer).map(drop)))?;
    gives_up("Connection::poll", |time| matches!(here.poll(time), Ok(false)))?;

    there.send_bytes(b"12345678")?;
    same("with a time, what is there", here.recv_bytes_into_timeout(&mut buffer, SHORT)?, 8)?;
    there.send_bytes(b"1234")?;
    same("without waiting, too", here.try_recv_bytes_into(&mut buffer)?, 4)?;
    there.send_bytes(b"12345678")?;
    same("as much as it may be", here.recv_bytes_max_timeout(8, SHORT)?.len(), 8)?;
    there.send_bytes(b"123456789")?;
    check("no more than that", matches!(here.try_recv_bytes_max(8), Err(RecvError::TooLong)))?;
    let closed = here.recv_bytes_max_timeout(8, SHORT);
    check("and then nothing", matches!(closed, Err(RecvError::NotReadable)))?;

    let full = |result: Result<(), SendError>| matches!(result, Err(SendError::Full));
    while there.try_send(&7_u64).is_ok() {}
    gives_up("Connection::send", |time| full(there.send_timeout(&7_u64, time)))?;
    check("Connection::try_send", full(there.try_send(&7_u64)))?;
    gives_up("Connection::send_bytes", |time| full(there.send_bytes_timeout(b"more", time)))?;
    check("Connection::try_send_bytes", full(there.try_send_bytes(b"more")))?;
    kill(&other)
}

fn locks() -> Outcome {
    let (lock, rlock, other) = (Lock::new()?, RLock::new()?, RLock::new()?);
    let condition = Condition::with_rlock(&other)?;
    let (semaphore, bounded) = (Semaphore::new(0)?, BoundedSemaphore::new(1)?);
    let (event, held, never) = (Event::new()?, Event::new()?, Event::new()?);
    let holder = Process::fork(|| -> Outcome {
        let _all = (lock.acquire()?, rlock.acquire()?, other.acquire()?, bounded.acquire()?);
        held.set()?;
        Ok(never.wait()?)
    })?;
    held.wait()?;
    gives_up("Lock::acquire", |time| matches!(lock.acquire_timeout(time), Err(AcquireError::TimedOut)))?;
    check("Lock::try_acquire", matches!(lock.try_acquire(), Err(AcquireError::WouldBlock)))?;
    gives_up("RLock::acquire", |time| matches!(rlock.acquire_timeout(time), Err(AcquireError::TimedOut)))?;
    check("RLock::try_acquire", matches!(rlock.try_acquire(), Err(AcquireError::WouldBlock)))?;
    gives_up("Condition::acquire", |time| {
        matches!(condition.acquire_timeout(time), Err(AcquireError::TimedOut))
    })?;
    check("Condition::try_acquire", matches!(condition.try_acquire(), Err(AcquireError::WouldBlock)))?;
    gives_up("Semaphore::acquire", |time| {
        matches!(semaphore.acquire_timeout(time), Err(AcquireError::TimedOut))
    })?;
    check("Semaphore::try_acquire", matches!(semaphore.try_acquire(), Err(AcquireError::WouldBlock)))?;
    gives_up("BoundedSemaphore::acquire", |time| {
        matches!(bounded.acquire_timeout(time), Err(AcquireError::TimedOut))
    })?;
    check("BoundedSemaphore::try_acquire", bounded.try_acquire().is_err())?;
    holder.kill()?;
    holder.join()?;

    gives_up("Event::wait", |time| matches!(event.wait_timeout(time), Ok(false)))?;
    check("Event::is_set", !event.is_set()?)?;
    let guard = condition.acquire().or_else(AcquireError::into_inner)?;
    gives_up("ConditionGuard::wait", |time| matches!(guard.wait_timeout(time), Ok(false)))?;
    gives_up("ConditionGuard::wait_for", |time| matches!(guard.wait_for_timeout(time, || false), Ok(false)))?;
    drop(guard);
    let barrier = Barrier::new(2)?;
    gives_up("Barrier::wait", |time| {
        barrier.reset().is_ok() && matches!(barrier.wait_timeout(time), Err(BarrierError::Broken))
    })?;
    gives_up("Barrier::wait_with", |time| {
        let action = || Ok::<_, std::io::Error>(());
        barrier.reset().is_ok()
            && matches!(barrier.wait_with_timeout(time, action), Err(BarrierError::Broken))
    })
}

fn shared() -> Outcome {
    let (value, array) = (Value::new(0_u64)?, Array::<u64>::new(4)?);
    let (held, never) = (Event::new()?, Event::new()?);
    let holder = Process::fork(|| -> Outcome {
        let _value = value.get_lock().acquire()?;
        let _array = array.lock()?;
        held.set()?;
        Ok(never.wait()?)
    })?;
    held.wait()?;
    gives_up("Value, by its lock", |time| value.get_lock().acquire_timeout(time).is_err())?;
    check("try_acquire of a value's lock", value.get_lock().try_acquire().is_err())?;
    gives_up("Array::lock", |time| matches!(array.lock_timeout(time), Err(AcquireError::TimedOut)))?;
    check("Array::try_lock", matches!(array.try_lock(), Err(AcquireError::WouldBlock)))?;
    holder.kill()?;
    holder.join()?;
    check("its death is told", matches!(array.lock_timeout(SHORT), Err(AcquireError::OwnerDied(_))))?;
    array.try_lock()?[2] = 7;
    same("and then it is there", array.lock_timeout(SHORT)?.to_vec(), vec![0, 0, 7, 0])
}

fn processes() -> Outcome {
    let never = Event::new()?;
    let process = Process::fork(|| -> Outcome {
        let parent = parent_process()?.ok_or("no parent")?;
        gives_up("ParentProcess::join", |time| matches!(parent.join_timeout(time), Ok(false)))?;
        check("ParentProcess::try_join", !parent.try_join()?)?;
        Ok(never.wait()?)
    })?;
    gives_up("Process::join", |time| matches!(process.join_timeout(time), Ok(None)))?;
    check("Process::try_join", process.try_join()?.is_none())?;
    let child = active_children()?.pop().ok_or("no child")?;
    gives_up("Child::join", |time| matches!(child.join_timeout(time), Ok(false)))?;
    check("Child::try_join", !child.try_join()?)?;
    let sentinel = process.sentinel();
    gives_up("wait", |time| wait(&[sentinel], Some(time)).is_ok_and(|ready| ready.is_empty()))?;
    never.set()?;
    eventually("it has ended", || Ok(process.try_join()?.is_some_and(|status| status.success())))?;
    check("for both", child.try_join()?)
}

fn pools() -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    let never = Event::new()?;
    let late = |result: Result<bool, PoolError>| matches!(result, Err(PoolError::TimedOut));
    let hanging = pool.apply_async(wait_in_a_task, never.clone())?;
    gives_up("AsyncResult::wait", |time| !hanging.wait_timeout(time))?;
    let hanging = hanging.try_get().err().ok_or("it is there")?;
    let mut hanging = Some(hanging);
    gives_up("AsyncResult::get", |time| {
        hanging = hanging.take().and_then(|hanging| hanging.get_timeout(time).err());
        hanging.is_some()
    })?;
    gives_up("Pool::apply", |time| late(pool.apply_timeout(wait_in_a_task, never.clone(), time)))?;
    gives_up("Pool::map", |time| {
        late(pool.map_timeout(wait_in_a_task, [never.clone(), never.clone()], time).map(|all| all.is_empty()))
    })?;
    let mut squares = pool.imap(|n: u64| n * n, 1..)?;
    gives_up("IMap::next", |time| {
        late(squares.next_timeout(time).unwrap_or(Err(PoolError::NotRunning)).map(|_| true))
    })?;
    check("IMap::try_next", matches!(squares.try_next(), Some(Err(PoolError::TimedOut))))?;
    never.set()?;
    same("a later call goes on", squares.next().ok_or("the end")??, 1)?;
    same("in order", squares.next_timeout(Duration::MAX).ok_or("the end")??, 4)?;
    drop(squares);
    check("what waited has its result", hanging.ok_or("lost")?.get()?)?;
    same("a map in time", pool.map_timeout(|n: u64| n + 1, 0..100, Duration::MAX)?.len(), 100)?;
    same("a task in time", pool.apply_timeout(|n: u64| n + 1, 1, Duration::MAX)?, 2)?;
    let stats = pool.stats();
    check("what was given up before it began never did", stats.cancelled >= 2)?;

    drop(pool);
    // Others' results that come all the while are no reason to wait longer.
    never.clear()?;
    let pool = Pool::builder().processes(2).build()?;
    let hanging = pool.apply_async(wait_in_a_task, never.clone())?;
    let many = pool.map_async(|n: u64| n, 0..400_000)?;
    check("a wait among many results", !hanging.wait_timeout(SHORT))?;
    never.set()?;
    same("which come as well", many.get()?.len(), 400_000)?;

    never.clear()?;
    let last = pool.apply_async(wait_in_a_task, never.clone())?;
    pool.close();
    gives_up("Pool::join", |time| matches!(pool.join_timeout(time), Err(PoolError::TimedOut)))?;
    check("Pool::try_join", matches!(pool.try_join(), Err(PoolError::TimedOut)))?;
    never.set()?;
    same(
        "a pool is joined in time",
        pool.join_timeout(Duration::MAX).map_err(|error| error.to_string()),
        Ok(()),
    )?;
    check("and all was done", last.get()? && pool.try_join().is_ok() && active_children()?.is_empty())
}

fn futures() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(1))?;
    let never = Event::new()?;
    let future = executor.submit(wait_in_a_task, never.clone())?;
    gives_up("Future::exception", |time| matches!(future.exception_timeout(time), Err(PoolError::TimedOut)))?;
    check("Future::try_exception", matches!(future.try_exception(), Err(PoolError::TimedOut)))?;
    let mut future = Some(future.try_result().err().ok_or("it is done")?);
    gives_up("Future::result", |time| {
        future = future.take().and_then(|future| future.result_timeout(time).err());
        future.is_some()
    })?;
    gives_up("futures::wait", |time| {
        let (done, mut open) = wait_for_futures(future.take(), Some(time), ReturnWhen::AllCompleted);
        future = open.pop();
        done.is_empty() && future.is_some()
    })?;
    gives_up("futures::as_completed", |time| {
        let mut completed = as_completed(future.take(), Some(time));
        future = completed.next().and_then(Result::err).and_then(|mut open| open.0.pop());
        future.is_some() && completed.next().is_none()
    })?;
    for time in TIMES {
        let mut squares = executor.map_timeout(|n: u64| n * n, 0..100, time)?;
        let error = squares.next().and_then(Result::err).ok_or("a result")?;
        same("Executor::map ends with its time", error.cause(), &Cause::OutOfTime(time))?;
        check("and that is the end", squares.next().is_none() && squares.try_next().is_none())?;
        let mut squares = executor.map(|n: u64| n * n, 0..100)?.within(time);
        let error = squares.next_timeout(Duration::MAX).and_then(Result::err).ok_or("a result")?;
        let is_over = matches!(&error, PoolError::Task(error) if *error.cause() == Cause::OutOfTime(time));
        check("whichever form is asked", is_over)?;
    }
    gives_up("Executor::shutdown", |time| {
        matches!(executor.shutdown_timeout(time), Err(PoolError::TimedOut))
    })?;
    never.set()?;
    check("which may be called again", executor.shutdown_timeout(Duration::MAX).is_ok())?;
    check("when all is done", future.ok_or("lost")?.result()?)?;
    let executor = Executor::build(Pool::builder().processes(2))?;
    let squares =
        executor.map_timeout(|n: u64| n * n, 0..100, Duration::MAX)?.collect::<Result<Vec<_>, _>>()?;
    same("a map in time is whole", squares.len(), 100)
}

fn exchanges() -> Outcome {
    let never = Event::new()?;
    let mut exchange = Exchange::new(1)?;
    let late = |result: Result<(), PoolError>| matches!(result, Err(PoolError::TimedOut));
    exchange.start(|| never.wait().is_ok())?;
    gives_up("Exchange::start", |time| late(exchange.start_timeout(|| true, time).map(drop)))?;
    check("Exchange::try_start", late(exchange.try_start(|| true).map(drop)))?;
    gives_up("Exchange::ready", |time| matches!(exchange.ready(time), Ok(false)))?;
    gives_up("Exchange::get", |time| late(exchange.get_timeout(0, time).map(drop)))?;
    check("Exchange::try_get", late(exchange.try_get(0).map(drop)))?;
    gives_up("Exchange::next", |time| matches!(exchange.next_timeout(time), Some(Err(PoolError::TimedOut))))?;
    check("Exchange::try_next", matches!(exchange.try_next(), Some(Err(PoolError::TimedOut))))?;
    check("no such call", matches!(exchange.try_get(1), Err(PoolError::NoSuchResult)))?;
    never.set()?;
    check("a later call has it", exchange.get_timeout(0, Duration::MAX)?)?;
    check("and the next one starts", exchange.start_timeout(|| false, Duration::MAX)? == 1)?;
    check(
        "and ends",
        exchange.next_timeout(Duration::MAX).is_some_and(|result| matches!(result, Ok(false))),
    )?;
    check("nothing is left", exchange.try_next().is_none())
}

fn scoped() -> Outcome {
    let never = Event::new()?;
    let scoped = Scoped::new().processes(2);
    gives_up("Scoped::map", |time| {
        let result = scoped.map_timeout(0..2, |n| n == 0 || never.wait().is_ok(), time);
        matches!(result, Err(PoolError::TimedOut))
    })?;
    gives_up("Scoped::outcomes", |time| {
        let result = scoped.outcomes_timeout(0..2, |n| n == 0 || never.wait().is_ok(), time);
        matches!(result, Err(PoolError::TimedOut))
    })?;
    eventually("and no worker is left", || Ok(active_children()?.is_empty()))?;
    same("a map in time", scoped.map_timeout(0..3, |n| n, Duration::MAX)?, vec![0, 1, 2])?;
    same("outcomes in time", scoped.outcomes_timeout(0..3, |n| n, Duration::MAX)?.len(), 3)
}
