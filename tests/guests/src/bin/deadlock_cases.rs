//! Runs in which nobody can go on: `deadlock_cases CASE`. The functions in which the processes wait have names of their
//! own, which the report is to show.

use sandpool_guest::{
    Barrier, Condition, Event, JoinableQueue, Lock, Pipe, Process, Queue, RLock, Semaphore, Waitable,
    parent_process, wait,
};
use sandpool_test_guests::{Outcome, argument};

#[sandpool_guest::main]
fn main() -> Outcome {
    match argument(0, String::new()).as_str() {
        "locks" => two_locks(),
        "own-lock" => own_lock(),
        "pipe" => full_pipe(),
        "join" => join_of_a_joiner(),
        "get" => no_producer(),
        "put" => no_consumer(),
        "tasks" => no_task_done(),
        "semaphore" => kept_units(),
        "barrier" => too_few_parties(),
        "condition" => no_notification(),
        "several" => wait_for_several(),
        "children" => children_at_the_end(),
        "many" => many_know(),
        "again" => deadlocked_again(),
        other => Err(format!("no case {other:?}").into()),
    }
}

/// A child with a name.
fn child(name: &str, body: impl FnOnce() -> Outcome) -> Result<Process, sandpool_guest::Error> {
    Process::builder().name(name).fork(body)
}

fn two_locks() -> Outcome {
    let (first, second) = (Lock::new()?, Lock::new()?);
    let both_have_one = Barrier::new(2)?;
    let left = child("left", || {
        let _guard = first.acquire()?;
        both_have_one.wait()?;
        wants_the_second(&second)
    })?;
    let _right = child("right", || {
        let _guard = second.acquire()?;
        both_have_one.wait()?;
        wants_the_first(&first)
    })?;
    waits_for_left(&left)
}

#[inline(never)]
fn wants_the_second(lock: &Lock) -> Outcome {
    let _guard = lock.acquire()?;
    Err("the second lock".into())
}

#[inline(never)]
fn wants_the_first(lock: &Lock) -> Outcome {
    let _guard = lock.acquire()?;
    Err("the first lock".into())
}

#[inline(never)]
fn waits_for_left(process: &Process) -> Outcome {
    Err(format!("left ended: {}", process.join()?).into())
}

fn own_lock() -> Outcome {
    let lock = Lock::new()?;
    let guard = lock.acquire()?;
    takes_it_twice(&lock)?;
    Ok(guard.release()?)
}

#[inline(never)]
fn takes_it_twice(lock: &Lock) -> Outcome {
    let _guard = lock.acquire()?;
    Err("twice".into())
}

fn full_pipe() -> Outcome {
    let (reader, writer) = Pipe::builder().capacity(1000).simplex()?;
    let begin = Event::new()?;
    let _child = child("reader", || {
        waits_to_begin(&begin)?;
        reader.recv_bytes()?;
        Ok(())
    })?;
    sends_too_much(&writer)
}

#[inline(never)]
fn sends_too_much(writer: &sandpool_guest::Connection) -> Outcome {
    loop {
        writer.send_bytes(&[7; 100])?;
    }
}

#[inline(never)]
fn waits_to_begin(event: &Event) -> Outcome {
    event.wait()?;
    Err("it began".into())
}

fn join_of_a_joiner() -> Outcome {
    let child = child("joiner", joins_its_parent)?;
    joins_the_joiner(&child)
}

#[inline(never)]
fn joins_its_parent() -> Outcome {
    parent_process()?.ok_or("no parent")?.join()?;
    Err("the parent ended".into())
}

#[inline(never)]
fn joins_the_joiner(process: &Process) -> Outcome {
    Err(format!("the joiner ended: {}", process.join()?).into())
}

fn no_producer() -> Outcome {
    let queue = Queue::<u32>::new()?;
    let producer = child("producer", || Ok([1, 2].iter().try_for_each(|item| queue.put(item))?))?;
    producer.join()?;
    takes_three(&queue)
}

#[inline(never)]
fn takes_three(queue: &Queue<u32>) -> Outcome {
    let all = [queue.get()?, queue.get()?, queue.get()?];
    Err(format!("three: {all:?}").into())
}

fn no_consumer() -> Outcome {
    let queue = Queue::<u32>::bounded(2)?;
    puts_three(&queue)
}

#[inline(never)]
fn puts_three(queue: &Queue<u32>) -> Outcome {
    for item in 0..3 {
        queue.put(&item)?;
    }
    Err("three".into())
}

fn no_task_done() -> Outcome {
    let tasks = JoinableQueue::<u32>::new()?;
    let begin = Event::new()?;
    tasks.put(&1)?;
    let _child = child("worker", || {
        tasks.get()?;
        waits_to_begin(&begin)
    })?;
    joins_the_tasks(&tasks)
}

#[inline(never)]
fn joins_the_tasks(tasks: &JoinableQueue<u32>) -> Outcome {
    tasks.join()?;
    Err("all done".into())
}

fn kept_units() -> Outcome {
    let semaphore = Semaphore::new(2)?;
    let (begin, has_them) = (Event::new()?, Event::new()?);
    let _child = child("keeper", || {
        let _units = [semaphore.acquire()?, semaphore.acquire()?];
        has_them.set()?;
        waits_to_begin(&begin)
    })?;
    has_them.wait()?;
    wants_a_unit(&semaphore)
}

#[inline(never)]
fn wants_a_unit(semaphore: &Semaphore) -> Outcome {
    let _unit = semaphore.acquire()?;
    Err("a unit".into())
}

fn too_few_parties() -> Outcome {
    let barrier = Barrier::new(3)?;
    let _child = child("party", || comes_to(&barrier))?;
    comes_to(&barrier)
}

#[inline(never)]
fn comes_to(barrier: &Barrier) -> Outcome {
    barrier.wait()?;
    Err("three parties".into())
}

fn no_notification() -> Outcome {
    let condition = Condition::new()?;
    let child = child("listener", || waits_for_news(&condition))?;
    waits_for_left(&child)
}

#[inline(never)]
fn waits_for_news(condition: &Condition) -> Outcome {
    condition.acquire()?.wait()?;
    Err("news".into())
}

fn wait_for_several() -> Outcome {
    let (queue, event) = (Queue::<u32>::new()?, Event::new()?);
    let (connection, _other) = Pipe::duplex()?;
    let child = child("sleeper", || waits_to_begin(&event))?;
    waits_for_one_of(&[&queue, &event, &connection, &child.sentinel()])
}

#[inline(never)]
fn waits_for_one_of(all: &[&dyn Waitable]) -> Outcome {
    Err(format!("ready: {:?}", wait(all, None)?).into())
}

/// The main function returns, and its child doesn't.
fn children_at_the_end() -> Outcome {
    let event = Event::new()?;
    std::mem::forget(child("stays", || waits_to_begin(&event))?);
    Ok(())
}

/// More processes know of an object than are named.
fn many_know() -> Outcome {
    let event = Event::new()?;
    let children = (0..6).map(|number| child(&format!("one of six {number}"), || waits_to_begin(&event)));
    let _children = children.collect::<Result<Vec<_>, _>>()?;
    waits_to_begin(&event)
}

/// When who keeps the lock is killed, another has it and waits for what never comes.
fn deadlocked_again() -> Outcome {
    let lock = RLock::new()?;
    let (has_it, never) = (Event::new()?, Event::new()?);
    let _keeper = child("keeper", || {
        let _guard = lock.acquire()?;
        has_it.set()?;
        waits_to_begin(&never)
    })?;
    has_it.wait()?;
    takes_it_over(&lock, &never)
}

#[inline(never)]
fn takes_it_over(lock: &RLock, never: &Event) -> Outcome {
    let taken = lock.acquire().map_or_else(|error| error.into_inner(), Ok);
    let _guard = taken.map_err(|error: sandpool_guest::sync::AcquireError<_>| error.to_string())?;
    println!("taken over");
    Ok(never.wait()?)
}
