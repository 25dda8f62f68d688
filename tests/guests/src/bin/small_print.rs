//! Special cases, as the documentation of single calls has them.
#![forbid(unsafe_code)]

use sandpool_guest::logging::Level;
use sandpool_guest::shared::ListItem;
use sandpool_guest::{
    Condition, Error, Lock, Process, Queue, RLock, ShareableList, SharedMemory, SharedMemoryManager, Value,
    active_children, current_process, log_to_stderr, wait,
};
use sandpool_test_guests::{Outcome, argument, check, ended_well, hang, kill, same};

#[sandpool_guest::main]
fn main() -> Outcome {
    match argument(0, String::new()).as_str() {
        "ends" => return end_before_a_child(),
        "drop" => return panic_in_a_drop(),
        _ => {}
    }
    values()?;
    conditions()?;
    blocks()?;
    lists()?;
    children_of_others()?;
    children_that_end()?;
    // At last, because the line that it begins has no end.
    half_a_line()
}

/// Each access to a value takes its lock.
fn values() -> Outcome {
    type Access = fn(&Value<u64>) -> Result<(), Error>;
    let accesses: [(&str, Access); 3] = [
        ("get", |value| value.get().map(drop)),
        ("set", |value| value.set(1)),
        ("update", |value| value.update(|n| *n += 1)),
    ];
    for (what, access) in accesses {
        let value = Value::new(0_u64)?;
        let has_it = Queue::new()?;
        let holder = Process::fork(|| -> Outcome {
            let _guard = value.get_lock().acquire().map_err(|error| error.to_string())?;
            has_it.put(&())?;
            hang()
        })?;
        has_it.get()?;
        kill(&holder)?;
        let told = matches!(access(&value), Err(Error::OwnerDied));
        check(&format!("{what} is told of a holder that died"), told)?;
        check(&format!("once: {what}"), access(&value).is_ok())?;
    }
    Ok(())
}

fn conditions() -> Outcome {
    let lock = RLock::new()?;
    let condition = Condition::with_rlock(&lock)?;
    let guard = lock.acquire().map_err(|error| error.to_string())?;
    let under = condition.under(&guard).map_err(|error| error.to_string())?;
    check("a borrowed lock can be given back", under.release().is_ok())?;
    same("but stays", lock.depth()?, 1)?;
    drop(guard);
    let other = Lock::new()?;
    let guard = other.acquire().map_err(|error| error.to_string())?;
    check("another's lock is none of the condition's", condition.under(&guard).is_err())
}

fn blocks() -> Outcome {
    check("nothing has no name", matches!(SharedMemory::attach(""), Err(Error::NotFound)))?;
    let none = SharedMemory::attach_read_only("");
    check("for readers as well", matches!(none, Err(Error::NotFound)))?;

    let block = SharedMemory::create(100)?;
    let reader = SharedMemory::attach_read_only(block.name())?;
    let queue = Queue::new()?;
    queue.put(&reader)?;
    let received: SharedMemory = queue.get()?;
    check("a view that was sent is a view", received.is_read_only())?;
    check("of the same block", received == block && received == reader)?;
    check("and of no other", received != SharedMemory::create(100)?)?;

    let manager = SharedMemoryManager::new()?;
    let kept = manager.shared_memory(100)?;
    check("a manager's block has a name", SharedMemory::attach(kept.name()).is_ok())?;
    drop(manager);
    kept.set(0, 7)?;
    check(
        "without the manager it has none",
        matches!(SharedMemory::attach(kept.name()), Err(Error::NotFound)),
    )
}

fn lists() -> Outcome {
    let list = ShareableList::new(["12345678".into(), "1234567".into(), ListItem::None])?;
    same("there is room for one byte more", list.format()?.as_str(), "16s8sxxxxxx?x")?;
    let longer = "x".repeat(16);
    list.set(0, longer.as_str())?;
    same("and for all that", list.get(0)?, longer.as_str().into())?;
    // The length of the first item, in its entry after the header.
    list.shm().write_from(16 + 24, &17_u64.to_le_bytes())?;
    check("an item longer than its room is damaged", matches!(list.get(0), Err(Error::Decode(_))))?;
    same("the next isn't", list.get(1)?, "1234567".into())?;

    let zeroes = SharedMemory::create(1000)?;
    let attached = ShareableList::attach(zeroes.name());
    check("zeroes are no empty list", matches!(attached, Err(Error::Decode(_))))
}

/// A forked process has copies of its parent's handles of processes.
fn children_of_others() -> Outcome {
    let go = Queue::<()>::new()?;
    let child = Process::fork(|| go.get())?;
    let sentinel = child.sentinel();
    let sibling = Process::fork(|| -> Outcome {
        check("its sentinel is no use", matches!(wait(&[sentinel], None), Err(Error::NotAChild)))?;
        check("nor is a signal", matches!(child.kill(), Err(Error::NotAChild)))?;
        check("nor a join", matches!(child.join(), Err(Error::NotAChild)))
    })?;
    ended_well(&sibling)?;
    // An end that the parent doesn't know of: the signal would be another's.
    go.put(&())?;
    ended_well(&child)?;
    let sibling = Process::fork(|| -> Outcome {
        check("after its end as well", matches!(child.kill(), Err(Error::NotAChild)))
    })?;
    ended_well(&sibling)
}

/// The host forgets children that nobody waits for when they end: at any time, also between two looks at one.
fn children_that_end() -> Outcome {
    for _ in 0..300 {
        drop(Process::fork(|| ())?);
        for child in active_children()? {
            child.is_alive()?;
        }
    }
    check("children that end are left out of the list", true)
}

/// Text that was printed before a process is started isn't printed by the child once more.
fn half_a_line() -> Outcome {
    print!("half ");
    ended_well(&Process::fork(|| ())?)?;
    ended_well(&Process::fork(|| print!("of "))?)?;
    println!("a line");
    Ok(())
}

/// Ends while a child that isn't daemonic waits for what this process gives back then.
fn end_before_a_child() -> Outcome {
    log_to_stderr(Level::INFO);
    let lock = Lock::new()?;
    lock.acquire().map_err(|error| error.to_string())?.forget();
    std::mem::forget(Process::builder().name("waits").fork(|| drop(lock.acquire()))?);
    // Else the lock would be given back here, and the child could end before this process says that it ends.
    std::mem::forget(lock);
    Ok(())
}

/// Panics where it is dropped, unless that is in a child.
struct Fragile(u32);

impl Drop for Fragile {
    fn drop(&mut self) {
        if current_process().is_ok_and(|process| process.pid() == self.0) {
            panic!("not here");
        }
    }
}

/// The parent drops silently what it has moved into a child. A panic isn't silent.
fn panic_in_a_drop() -> Outcome {
    let fragile = Fragile(current_process()?.pid());
    Process::fork(move || drop(fragile))?;
    Err("there was no panic".into())
}
