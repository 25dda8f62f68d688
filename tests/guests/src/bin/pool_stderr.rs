//! The end of the stderr of a task that ends its worker, in each way; and that of a process.

use std::time::Duration;

use sandpool_guest::pool::futures::Executor;
use sandpool_guest::pool::{Cause, PoolError, Scoped, StartMethod, TaskError};
use sandpool_guest::process::Limit;
use sandpool_guest::{Exchange, ExitStatus, Pool, Process, Queue, Signal, active_children, current_process};
use sandpool_test_guests::{Outcome, check, hang, same};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum How {
    Panic,
    Exit,
    Trap,
    Kill,
    TooLong,
    TooMuch,
}

use How::{Exit, Kill, Panic, TooLong, TooMuch, Trap};

const ALL: [How; 6] = [Panic, Exit, Trap, Kill, TooLong, TooMuch];
const TIMEOUT: Duration = Duration::from_millis(300);

/// Prints, and comes to its end.
fn end((how, here): (How, Queue<String>)) {
    eprint!("a line of {how:?}\nhalf a line");
    match how {
        Panic => panic!("a panic"),
        Exit => std::process::exit(7),
        Trap => std::process::abort(),
        Kill => {
            let name = current_process().expect("a process").name().to_owned();
            here.put(&name).expect("a queue");
            hang().expect("no end");
        }
        TooLong => hang().expect("no end"),
        TooMuch => drop(std::hint::black_box(vec![1_u8; 200 << 20])),
    }
}

/// Kills who has said that it is to be killed.
fn kill(here: &Queue<String>) -> Outcome {
    let name = here.get()?;
    let child = active_children()?.into_iter().find(|child| child.name() == name);
    child.ok_or("it isn't there")?.kill()?;
    Ok(())
}

fn is_expected(how: How, error: &TaskError) -> bool {
    let is_cause = match (how, error.cause()) {
        (Panic, Cause::Panicked(message)) => message == "a panic",
        (Exit, Cause::Ended(ExitStatus::Exited(7))) => true,
        (Trap, Cause::Ended(ExitStatus::Trapped(_))) => true,
        (Kill, Cause::Ended(ExitStatus::Signaled(Signal::KILL))) => true,
        (TooLong, Cause::TimedOut(TIMEOUT)) => true,
        (TooMuch, Cause::Ended(ExitStatus::Limited(Limit::Memory(_)))) => true,
        _ => false,
    };
    is_cause && is_stderr(how, error.stderr())
}

/// All that it has written, and nothing of a task before it.
fn is_stderr(how: How, stderr: &str) -> bool {
    let Some(rest) = stderr.strip_prefix(&format!("a line of {how:?}\nhalf a line")) else { return false };
    match how {
        Panic => rest.starts_with("process '") && rest.ends_with(": a panic\n"),
        Exit | Kill | TooLong => rest.is_empty(),
        Trap => rest.starts_with("error: process '") && rest.contains("' trapped: "),
        TooMuch => rest.starts_with("memory allocation of ") && rest.contains("' was limited: memory"),
    }
}

#[sandpool_guest::main]
fn main() -> Outcome {
    let here = Queue::new()?;
    for method in [StartMethod::Fork, StartMethod::Spawn] {
        let pool = Pool::builder().processes(1).start_method(method).task_timeout(TIMEOUT).build()?;
        for how in ALL {
            pool.apply(|n: u64| eprintln!("before {n}"), 1)?;
            let result = pool.apply_async(end, (how, here.clone()))?;
            if how == Kill {
                kill(&here)?;
            }
            let error = result.get().err().ok_or("it has a result")?;
            check(&format!("{method:?}: {how:?}: {:?}", error.stderr()), is_expected(how, &error))?;
        }
        println!("ok: {method:?}: the stderr of each end");
        let error = pool.apply(|n: u64| n / (n - 1), 1).err().ok_or("it has a result")?;
        check(&format!("{error:?}"), matches!(&error, PoolError::Task(error) if !error.stderr().is_empty()))?;
    }

    // Also in a chunk, whose other tasks have written something.
    let pool = Pool::builder().processes(1).build()?;
    let bad = |n: u64| {
        eprintln!("this is {n}");
        assert!(n != 2, "not 2");
    };
    let all: Vec<_> = pool.options().chunksize(5).imap(bad, 0..5)?.collect();
    let failed: Vec<_> = all.iter().filter_map(|result| result.as_ref().err()).collect();
    let [error] = failed[..] else { return Err(format!("{failed:?}").into()) };
    let is_own = error.stderr().starts_with("this is 2\n") && error.stderr().lines().count() == 2;
    check("in a chunk", is_own && error.stderr().ends_with(": not 2\n"))?;

    let pool = Pool::builder().processes(1).build()?;
    let error = pool.apply(
        |n: u64| {
            (0..1000).for_each(|line| eprintln!("line {line}"));
            std::process::exit(n as i32)
        },
        3,
    );
    let error: Result<(), _> = error;
    let Err(PoolError::Task(error)) = error else { return Err(format!("{error:?}").into()) };
    check("no more than the end", error.stderr().len() == 4096 && error.stderr().ends_with("\nline 999\n"))?;

    let executor = Executor::build(Pool::builder().processes(1).task_timeout(TIMEOUT))?;
    for how in [Panic, Exit, Trap, TooLong] {
        let future = executor.submit(end, (how, here.clone()))?;
        let error = future.exception().ok_or("it has a result")?;
        check(&format!("a future: {how:?}"), is_expected(how, &error))?;
    }

    let outcomes = Scoped::new().processes(2).outcomes([Panic, Exit], |how| end((how, here.clone())))?;
    let is_each = outcomes
        .iter()
        .zip([Panic, Exit])
        .all(|(outcome, how)| outcome.as_ref().is_err_and(|error| is_expected(how, error)));
    check("a scoped map", is_each)?;

    let mut exchange = Exchange::<()>::new(1)?;
    exchange.start(|| end((Trap, here.clone())))?;
    let Err(PoolError::Task(error)) = exchange.get(0) else { return Err("it has a result".into()) };
    check("an exchange", is_expected(Trap, &error))?;

    let process = Process::fork(|| end((Kill, here.clone())))?;
    let name = here.get()?;
    check("of a process that runs", name == process.name() && is_stderr(Kill, &process.stderr()))?;
    let elsewhere = Process::fork(|| i32::from(process.stderr().is_empty()))?;
    same("not of another's", elsewhere.join()?, ExitStatus::Exited(1))?;
    process.kill()?;
    process.join()?;
    check("of one that was killed", is_stderr(Kill, &process.stderr()))?;
    let process = Process::spawn(end, (Trap, here.clone()))?;
    process.join()?;
    check("of one that was spawned", is_stderr(Trap, &process.stderr()))?;
    // Its slot of the process table is another's by now.
    let processes = (0..200).map(|_| Process::fork(|| ())).collect::<Result<Vec<_>, _>>()?;
    for process in &processes {
        process.join()?;
    }
    check("of one that writes none", processes.iter().all(|process| process.stderr().is_empty()))?;
    check("it is kept", is_stderr(Trap, &process.stderr()))
}
