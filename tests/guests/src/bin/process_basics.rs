//! Section by section what a `Process` promises: `process_basics [SECTION]`, all sections without one.

use std::time::{Duration, Instant};

use sandpool_guest::process::{Limit, Sentinel, Trap};
use sandpool_guest::{
    Error, ExitStatus, Process, Queue, Signal, active_children, cpu_count, current_process, parent_process,
    wait,
};
use sandpool_test_guests::{Outcome, argument, check, same};

type Section = fn() -> Outcome;

const LONG: Duration = Duration::from_secs(60);

#[sandpool_guest::main]
fn main() -> Outcome {
    let sections: [(&str, Section); 11] = [
        // First, because it counts children from 1.
        ("names", names),
        ("exit_codes", exit_codes),
        ("signals", signals),
        ("join", join),
        ("close", close),
        ("daemon", daemon),
        ("inherited", inherited),
        ("active_children", children),
        ("parent", parent),
        ("wait", sentinels),
        ("repr", repr),
    ];
    let only: String = argument(0, String::new());
    for (name, section) in sections {
        if only.is_empty() || only == name {
            section().map_err(|error| format!("{name}: {error}"))?;
            println!("done: {name}");
        }
    }
    Ok(())
}

fn sleep_long() {
    std::thread::sleep(LONG);
}

fn names() -> Outcome {
    same("the main process has Python's name", current_process()?.name(), "MainProcess")?;
    let found = Queue::<String>::new()?;
    let process = Process::fork(|| -> Outcome {
        found.put(&current_process()?.name().to_owned())?;
        let nested = Process::fork(|| -> Outcome { Ok(found.put(&current_process()?.name().to_owned())?) })?;
        nested.join()?;
        Ok(())
    })?;
    same("a child's default name", process.name(), "Process-1")?;
    process.join()?;
    same("a child knows its name", found.get()?, "Process-1".to_owned())?;
    same("a grandchild's default name", found.get()?, "Process-1:1".to_owned())?;

    let named = Process::builder().name("wörker").fork(|| -> Outcome {
        if current_process()?.name() == "wörker" { Ok(()) } else { Err("not my name".into()) }
    })?;
    same("a given name", named.name(), "wörker")?;
    same("a child knows its given name", named.join()?, ExitStatus::Exited(0))?;
    let longest = "x".repeat(127);
    let process = Process::builder().name(longest.as_str()).fork(|| ())?;
    same("the longest name", process.name(), longest.as_str())?;
    let refused = Process::builder().name("x".repeat(128)).fork(|| ());
    check("a longer name is refused", matches!(refused, Err(Error::NameTooLong)))?;
    check("there is a processor", cpu_count() >= 1)
}

fn exit_codes() -> Outcome {
    let returned = |code: i32| -> Result<_, Error> {
        let process = Process::fork(|| code)?;
        process.join()?;
        Ok((process.exitcode(), process.exit_status()))
    };
    same("0", returned(0)?, (Some(0), Some(ExitStatus::Exited(0))))?;
    same("3", returned(3)?, (Some(3), Some(ExitStatus::Exited(3))))?;
    same("255", returned(255)?, (Some(255), Some(ExitStatus::Exited(255))))?;
    same("300 is 44", returned(300)?, (Some(44), Some(ExitStatus::Exited(44))))?;
    same("-1 is 255", returned(-1)?, (Some(255), Some(ExitStatus::Exited(255))))?;
    let status = |process: Process| process.join();
    same("exit(200)", status(Process::fork(|| std::process::exit(200))?)?, ExitStatus::Exited(200))?;
    same("exit(300)", status(Process::fork(|| std::process::exit(300))?)?, ExitStatus::Exited(44))?;
    same("a panic is 1", status(Process::fork(|| panic!("on purpose"))?)?, ExitStatus::Exited(1))?;
    same("an error is 1", status(Process::fork(|| Err::<(), _>("on purpose"))?)?, ExitStatus::Exited(1))?;
    same("Ok(7) is 7", status(Process::fork(|| Ok::<_, String>(7))?)?, ExitStatus::Exited(7))?;

    let trapped = Process::fork(|| std::process::abort())?;
    same("abort is a trap", trapped.join()?, ExitStatus::Trapped(Trap::Unreachable))?;
    same("a trap counts as SIGABRT", trapped.exitcode(), Some(-6))?;
    let overflow = Process::fork(|| recurse(1) as i32)?;
    same("endless recursion is limited", overflow.join()?, ExitStatus::Limited(Limit::Stack(1 << 20)))
}

/// Takes next to nothing of the stack in the guest's memory, so that the host's is the first to be exhausted.
#[allow(unconditional_recursion, reason = "that is the point")]
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    std::hint::black_box(recurse(std::hint::black_box(depth + 1))) ^ depth
}

fn signals() -> Outcome {
    let process = Process::fork(sleep_long)?;
    same("alive before", process.is_alive()?, true)?;
    same("no exit code while alive", process.exitcode(), None)?;
    process.terminate()?;
    same("terminate is SIGTERM", process.join()?, ExitStatus::Signaled(Signal::TERM))?;
    same("as Python has it", process.exitcode(), Some(-15))?;
    process.terminate()?;
    same("to terminate it again is no error", process.is_alive()?, false)?;

    let process = Process::fork(sleep_long)?;
    process.kill()?;
    same("kill is SIGKILL", process.join()?, ExitStatus::Signaled(Signal::KILL))?;
    same("as Python has it", process.exitcode(), Some(-9))?;

    let process = Process::fork(sleep_long)?;
    process.interrupt()?;
    same("interrupt is SIGINT", process.join()?, ExitStatus::Signaled(Signal::INT))?;
    same("as Python shows it", process.to_string().ends_with("stopped exitcode=-SIGINT>"), true)?;
    let process = Process::fork(sleep_long)?;
    active_children()?.iter().try_for_each(|child| child.interrupt())?;
    same("a child is interrupted likewise", process.join()?, ExitStatus::Signaled(Signal::INT))?;

    let running = Queue::<()>::new()?;
    let busy = Process::fork(|| -> Outcome {
        running.put(&())?;
        loop {
            std::hint::spin_loop();
        }
    })?;
    running.get()?;
    busy.terminate()?;
    same("terminate ends a busy loop", busy.join()?, ExitStatus::Signaled(Signal::TERM))
}

fn join() -> Outcome {
    let process = Process::fork(sleep_long)?;
    let before = Instant::now();
    same("join within no time", process.join_timeout(Duration::ZERO)?, None)?;
    same("join within 50 ms", process.join_timeout(Duration::from_millis(50))?, None)?;
    let waited = before.elapsed();
    check("it waited", waited >= Duration::from_millis(50) && waited < Duration::from_secs(10))?;
    process.kill()?;
    same("join within a minute", process.join_timeout(LONG)?, Some(ExitStatus::Signaled(Signal::KILL)))?;
    same("join again", process.join()?, ExitStatus::Signaled(Signal::KILL))?;
    same(
        "join again within no time",
        process.join_timeout(Duration::ZERO)?,
        Some(ExitStatus::Signaled(Signal::KILL)),
    )
}

fn close() -> Outcome {
    let process = Process::fork(sleep_long)?;
    let refused = process.close().err().ok_or("closed a process that is alive")?;
    check("a process that is alive can't be closed", matches!(refused.error, Error::StillRunning))?;
    let process = refused.process;
    process.kill()?;
    process.join()?;
    check("one that has ended can", process.close().is_ok())
}

fn daemon() -> Outcome {
    let report = Queue::<bool>::new()?;
    let daemon = Process::builder().daemon().fork(|| -> Outcome {
        report.put(&current_process()?.daemon())?;
        report.put(&matches!(Process::fork(|| ()), Err(Error::DaemonicParent)))?;
        sleep_long();
        Ok(())
    })?;
    check("a daemon", daemon.daemon())?;
    check("a daemon knows that it is one", report.get()?)?;
    check("a daemon may not have children", report.get()?)?;
    let other = Process::fork(|| ())?;
    check("a process isn't a daemon by itself", !other.daemon())?;
    // It still sleeps: the end of the main process ends it.
    drop(daemon);
    println!("ok: a daemon is left behind");
    Ok(())
}

fn inherited() -> Outcome {
    let brother = Process::fork(sleep_long)?;
    let child = Process::fork(|| -> Outcome {
        let refused = |what, result: Option<Error>| check(what, matches!(result, Some(Error::NotAChild)));
        refused("an inherited process can't be joined", brother.join().err())?;
        refused("nor asked whether it is alive", brother.is_alive().err())?;
        refused("nor terminated", brother.terminate().err())?;
        refused("nor waited for", wait(&[brother.sentinel()], None).err())?;
        same("it has no exit code here", brother.exitcode(), None)?;
        check("but a name", brother.name().starts_with("Process-"))?;
        same("a child has no children yet", active_children()?.len(), 0)
    })?;
    same("the child is content", child.join()?, ExitStatus::Exited(0))?;
    same("its brother didn't notice", brother.is_alive()?, true)?;
    brother.kill()?;
    brother.join()?;

    // A value that is moved into the closure is dropped on both sides. Daemonic, so that nobody waits for it at the end.
    let brother = Process::builder().daemon().fork(sleep_long)?;
    let child = Process::fork(move || drop(brother))?;
    same("dropping an inherited process is harmless", child.join()?, ExitStatus::Exited(0))
}

fn children() -> Outcome {
    // Of those that are there by now, some may still be ending: they count neither before nor after.
    let before: Vec<_> = active_children()?.iter().map(|child| child.pid()).collect();
    let new = || -> Result<Vec<u32>, Error> {
        let all = active_children()?;
        Ok(all.iter().map(|child| child.pid()).filter(|pid| !before.contains(pid)).collect())
    };
    let first = Process::builder().name("first").fork(sleep_long)?;
    let second = Process::builder().name("second").fork(sleep_long)?;
    let ended = Process::builder().name("ended").fork(|| ())?;
    ended.join()?;
    let children = active_children()?;
    same("children that are alive", new()?.len(), 2)?;
    let found = children.iter().find(|child| child.name() == "second").ok_or("second is missing")?;
    same("by pid", found.pid(), second.pid())?;
    same("alive", found.is_alive()?, true)?;
    found.terminate()?;
    check("joined through its other side", found.join_timeout(LONG)?)?;
    same("both sides agree", second.join()?, ExitStatus::Signaled(Signal::TERM))?;
    same("also after its owner has joined it", found.is_alive()?, false)?;
    found.join()?;
    found.terminate()?;
    first.kill()?;
    first.join()?;
    same("all are gone", new()?.len(), 0)
}

fn parent() -> Outcome {
    check("the main process has no parent", parent_process()?.is_none())?;
    let own = current_process()?.pid();
    let child = Process::fork(|| -> Outcome {
        let parent = parent_process()?.ok_or("no parent")?;
        same("the parent's name", parent.name(), "MainProcess")?;
        same("the parent's pid", parent.pid(), own)?;
        same("and again", current_process()?.parent_pid(), own)?;
        same("it is alive", parent.is_alive()?, true)?;
        same("it doesn't end in time", parent.join_timeout(Duration::from_millis(20))?, false)
    })?;
    same("the child is content", child.join()?, ExitStatus::Exited(0))?;

    let (ready, joined, orphan) = (Queue::<u32>::new()?, Queue::<()>::new()?, Queue::<bool>::new()?);
    let parent = Process::builder().name("gone").fork(|| -> Outcome {
        Process::fork(|| -> Outcome {
            let parent = parent_process()?.ok_or("no parent")?;
            ready.put(&parent.pid())?;
            let ended = wait(&[parent.sentinel()?], Some(LONG))?.len() == 1;
            joined.get()?;
            // By now its entry in the process table may be another's.
            let again = parent_process()?.ok_or("no parent any more")?;
            let known = again.name() == "gone" && again.pid() == parent.pid();
            Ok(orphan.put(&(ended && known && !again.is_alive()?))?)
        })?;
        sleep_long();
        Ok(())
    })?;
    same("a grandchild knows its parent", ready.get()?, parent.pid())?;
    parent.kill()?;
    same("the parent was killed", parent.join()?, ExitStatus::Signaled(Signal::KILL))?;
    let other = Process::fork(sleep_long)?;
    joined.put(&())?;
    check("its child is told, and goes on", orphan.get_timeout(LONG)?)?;
    other.kill()?;
    same("another process", other.join()?, ExitStatus::Signaled(Signal::KILL))
}

fn sentinels() -> Outcome {
    same("nothing to wait for", wait::<Sentinel>(&[], None)?.len(), 0)?;
    let sleeper = Process::fork(sleep_long)?;
    let quick = Process::fork(|| 5)?;
    let both = [sleeper.sentinel(), quick.sentinel()];
    same("the quick one is ready", wait(&both, Some(LONG))?, vec![1])?;
    same("the other isn't", wait(&both[..1], Some(Duration::from_millis(20)))?, vec![])?;
    quick.join()?;
    same("one that was joined stays ready", wait(&both, Some(LONG))?, vec![1])?;
    sleeper.kill()?;
    same("without a timeout", wait(&both[..1], None)?, vec![0])?;
    sleeper.join()?;
    same("all were joined", wait(&both, None)?.len(), 2)
}

fn repr() -> Outcome {
    let process = Process::builder().name("x").daemon().fork(sleep_long)?;
    let start = format!("<Process name='x' pid={} parent={}", process.pid(), current_process()?.pid());
    same("started", process.to_string(), format!("{start} started daemon>"))?;
    process.terminate()?;
    process.join()?;
    same("stopped", format!("{process:?}"), format!("{start} stopped exitcode=-SIGTERM daemon>"))
}
