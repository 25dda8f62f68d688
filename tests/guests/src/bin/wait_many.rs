//! Waiting for several things of several kinds.

use std::time::Duration;

use sandpool_guest::process::Sentinel;
use sandpool_guest::{Connection, JoinableQueue, Pipe, Process, Queue, SimpleQueue, Waitable, wait};
use sandpool_test_guests::{Outcome, check, ended_well, hang, kill, same};

const NOW: Option<Duration> = Some(Duration::ZERO);
const LONG: Option<Duration> = Some(Duration::from_secs(60));

#[sandpool_guest::main]
fn main() -> Outcome {
    same("nothing to wait for", wait::<Sentinel>(&[], None)?, vec![])?;

    let (receiver, sender) = Pipe::simplex()?;
    let queue = Queue::<u8>::new()?;
    let jobs = JoinableQueue::<u8>::new()?;
    let simple = SimpleQueue::<u8>::new()?;
    let stop = Queue::<()>::new()?;
    let process = Process::fork(|| stop.get().is_ok().then_some(()).ok_or("closed"))?;
    let sentinel = process.sentinel();
    // It has a sender, too: to those who hold the only one themselves, nothing can come.
    let other = Process::fork(hang)?;
    let all: [&dyn Waitable; 5] = [&receiver, &queue, &sentinel, &jobs, &simple];
    same("none is ready", wait(&all, NOW)?, vec![])?;
    same("nor in time", wait(&all, Some(Duration::from_millis(20)))?, vec![])?;
    simple.put(&1)?;
    same("the last", wait(&all, None)?, vec![4])?;
    queue.put(&1)?;
    same("another", wait(&all, LONG)?, vec![1, 4])?;
    sender.send(&1)?;
    jobs.put(&1)?;
    same("all objects", wait(&all, NOW)?, vec![0, 1, 3, 4])?;
    same("they stay ready", wait(&all, NOW)?, vec![0, 1, 3, 4])?;
    stop.put(&())?;
    same("a process has ended", wait(&[sentinel], None)?, vec![0])?;
    same("all", wait(&all, NOW)?, vec![0, 1, 2, 3, 4])?;
    ended_well(&process)?;
    same("also when it was joined", wait(&all, None)?, vec![0, 1, 2, 3, 4])?;
    receiver.recv::<i32>()?;
    queue.get()?;
    jobs.get()?;
    simple.get()?;
    same("what was taken isn't", wait(&all, LONG)?, vec![2])?;

    kill(&other)?;
    sender.close();
    same("the end of messages", wait(&[&receiver], LONG)?, vec![0])?;
    queue.close()?;
    same("a closed queue", wait(&[&queue], LONG)?, vec![0])?;
    same("the same thing twice", wait(&[&queue, &queue], LONG)?, vec![0, 1])?;

    woken()?;
    crowds()
}

fn woken() -> Outcome {
    let ends: Vec<(Connection, Connection)> = (0..10).map(|_| Pipe::simplex()).collect::<Result<_, _>>()?;
    let receivers: Vec<_> = ends.iter().map(|(receiver, _)| receiver.clone()).collect();
    let other = Process::fork(hang)?;
    let ready = Queue::<()>::new()?;
    for round in 0..50_usize {
        let target = round % 10;
        let child = Process::fork(|| -> Outcome {
            ready.get()?;
            Ok(ends[target].1.send(&round)?)
        })?;
        ready.put(&())?;
        if wait(&receivers, LONG)? != [target] || receivers[target].recv::<usize>()? != round {
            return Err(format!("round {round}: another one was ready").into());
        }
        ended_well(&child)?;
    }
    println!("ok: who waits for ten is woken by one");

    for _ in 0..20 {
        let waiter = Process::fork(|| -> Outcome {
            ready.put(&())?;
            wait(&receivers, None)?;
            Ok(())
        })?;
        ready.get()?;
        kill(&waiter)?;
        ends[3].1.send(&3_usize)?;
        if wait(&receivers, LONG)? != [3] || receivers[3].recv::<usize>()? != 3 {
            return Err("a killed waiter took a message along".into());
        }
    }
    println!("ok: who is killed in wait takes nothing along");

    for round in 0..50 {
        let waiter = Process::fork(|| -> Outcome {
            ready.put(&())?;
            loop {
                wait(&receivers, Some(Duration::from_micros(50)))?;
            }
        })?;
        ready.get()?;
        std::thread::sleep(Duration::from_micros(round % 10 * 50));
        kill(&waiter)?;
        let sender = Process::fork(|| ends[7].1.send(&7_usize))?;
        if wait(&receivers, LONG)? != [7] || receivers[7].recv::<usize>()? != 7 {
            return Err(format!("round {round}: another one was ready").into());
        }
        ended_well(&sender)?;
    }
    println!("ok: who waits again and again can be killed");

    let waiters = (0..4)
        .map(|_| Process::fork(|| -> Outcome { check("woken", wait(&receivers, LONG)? == [5]) }))
        .collect::<Result<Vec<_>, _>>()?;
    ends[5].1.send(&5_usize)?;
    waiters.iter().try_for_each(ended_well)?;
    println!("ok: all who wait are woken");
    receivers[5].recv::<usize>()?;
    kill(&other)
}

fn crowds() -> Outcome {
    let queues: Vec<_> = (0..4096).map(|_| Queue::<u8>::new()).collect::<Result<_, _>>()?;
    same("4096 things", wait(&queues, NOW)?, vec![])?;
    queues[4095].put(&1)?;
    queues[17].put(&1)?;
    same("two of them", wait(&queues, LONG)?, vec![17, 4095])?;
    let too_many: Vec<&Queue<u8>> = queues.iter().chain(&queues[..1]).collect();
    check("one more is too many", wait(&too_many, NOW).is_err())
}
