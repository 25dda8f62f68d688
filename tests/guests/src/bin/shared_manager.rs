//! The promises of `SharedMemoryManager`.

use sandpool_guest::{
    Error, ExitStatus, Process, Queue, ShareableList, SharedMemory, SharedMemoryManager, Signal,
};
use sandpool_test_guests::{Outcome, check, ended, ended_well, hang, same};

fn is_there(name: &str) -> bool {
    SharedMemory::attach(name).is_ok()
}

#[sandpool_guest::main]
fn main() -> Outcome {
    let manager = SharedMemoryManager::new()?;
    let memory = manager.shared_memory(1000)?;
    let list = manager.shareable_list(["howdy", "partner"])?;
    check("it makes names", memory.name() != list.name() && is_there(memory.name()))?;
    check("no block of no bytes", matches!(manager.shared_memory(0), Err(Error::NoSize)))?;
    let other = Process::spawn(
        |(memory, list): (String, String)| -> Outcome {
            SharedMemory::attach(&memory)?.set(7, 7)?;
            Ok(ShareableList::attach(&list)?.set(0, "hello")?)
        },
        (memory.name().to_owned(), list.name().to_owned()),
    )?;
    ended_well(&other)?;
    same("others attach", (memory.get(7)?, list.get(0)?), (7, "hello".into()))?;

    // A fork has a copy of the manager, which does nothing: neither when it is used, nor when it or its process ends.
    let fork = Process::fork(|| {
        check("a copy makes nothing", matches!(manager.shared_memory(1), Err(Error::NotAChild)))
    })?;
    ended_well(&fork)?;
    check("nor ends anything", is_there(memory.name()) && is_there(list.name()))?;
    let unlinked = manager.shared_memory(1)?;
    unlinked.unlink()?;
    let (name, kept) = (memory.name().to_owned(), memory);
    manager.shutdown()?;
    check("shutdown takes all names away", !is_there(&name) && !is_there(list.name()))?;
    same("who has the memory keeps it", kept.get(7)?, 7)?;
    SharedMemory::create_named(&name, 1)?.unlink()?;
    println!("ok: the names are free");

    let manager = SharedMemoryManager::new()?;
    let name = manager.shared_memory(1)?.name().to_owned();
    check("a name needs no other holder", is_there(&name))?;
    drop(manager);
    check("so does a drop", !is_there(&name))?;

    // The end of its process is its end, by whichever way.
    type End = (&'static str, ExitStatus, fn() -> Outcome);
    let ends: [End; 5] = [
        ("a return", ExitStatus::Exited(0), || Ok(())),
        ("exit", ExitStatus::Exited(3), || std::process::exit(3)),
        ("a panic", ExitStatus::Exited(1), || panic!("as it should be")),
        ("an error", ExitStatus::Exited(1), || Err("as it should be".into())),
        ("SIGKILL", ExitStatus::Signaled(Signal::KILL), hang),
    ];
    for (what, status, end) in ends {
        let made = Queue::<(String, SharedMemory)>::new()?;
        let process = Process::fork(|| -> Outcome {
            let manager = Box::leak(Box::new(SharedMemoryManager::new()?));
            let (block, list) = (manager.shared_memory(1 << 20)?, manager.shareable_list([1, 2])?);
            block.set(9, 9)?;
            made.put(&(list.name().to_owned(), block))?;
            end()
        })?;
        let (list, block) = made.get()?;
        if status == ExitStatus::Signaled(Signal::KILL) {
            check("they were there", is_there(&list) && is_there(block.name()))?;
            process.kill()?;
        }
        ended(&process, status)?;
        check(&format!("{what} takes them away"), !is_there(&list) && !is_there(block.name()))?;
        same("not the memory", block.get(9)?, 9)?;
    }
    // Memory that was made without one stays.
    let name = Queue::<String>::new()?;
    let process =
        Process::fork(|| -> Outcome { Ok(name.put(&SharedMemory::create(1)?.name().to_owned())?) })?;
    ended_well(&process)?;
    let name = name.get()?;
    check("other names stay", is_there(&name))?;
    Ok(SharedMemory::attach(&name)?.unlink()?)
}
