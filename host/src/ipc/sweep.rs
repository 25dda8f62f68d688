//! What the supervisor does for a process that has died, because the process no longer can.

use std::sync::atomic::Ordering;

use sandpool_abi::Errno;

use super::Result;
use super::arena::Member;
use super::process_table::Register;
use super::{budget, heap, kind, message, object};

/// Sweeps up behind a process that has been reaped and whose slot is still its own:
///
/// 1. locks that it owns are free, and rolled back by whoever comes next; here, at once, so that no journal is left
///    that names its slot;
/// 2. who sleeps on the object it worked on is woken: it may have been about to wake them, or have been woken in
///    their place;
/// 3. the runs of pages in its hands go back to the heap;
/// 4. its share of the memory of all is nobody's;
/// 5. what it has locked, taken or waited for is settled, and the objects that it held lose one holder.
///
/// `killed` says that it may have died anywhere; one that ended by itself was in the middle of nothing.
///
/// # Errors
///
/// `BUSY` if a guest holds a lock for longer than an honest one would. Everything here can be done twice: try again, as
/// for one that was killed, because now the supervisor itself is in the middle of something.
pub(crate) fn sweep(supervisor: &Member, dead: u32, killed: bool) -> Result<()> {
    let arena = &*supervisor.arena;
    let slot = arena.process(dead)?;
    if killed {
        let header = arena.header()?;
        for lock in [header.heap.lock_word(), header.objects.lock_word(), &header.stdio] {
            lock.abandon(dead);
        }
        header.memory.abandon(dead);
        let object = slot.operation().filter(|index| *index < arena.geometry.objects_max);
        if let Some(object) = object {
            go_on(kind::abandon(supervisor, object, dead))?;
        }
        go_on(header.heap.lock_word().lock(supervisor).map(drop))?;
        go_on(header.objects.lock_word().lock(supervisor).map(drop))?;
        go_on(header.memory.recover(supervisor))?;
        if let Some(object) = object {
            go_on(kind::recover(supervisor, object))?;
            slot.clear_operation();
        }
        // It may have been about to say that it has freed something, which is no operation on an object; or to tell
        // those who watch several events.
        header.heap.tell_freed_after_death(arena);
        header.watched.wake_all(arena);
    }
    let mut unused = Vec::new();
    // The supervisor's own are of a sweep that was `BUSY`.
    for slot in [supervisor.slot()?, slot] {
        for register in Register::ALL {
            let cell = slot.register(register);
            if cell.load(Ordering::Acquire) == 0 {
                continue;
            }
            go_on(match register {
                Register::Segment => heap::free(supervisor, cell),
                _ => message::discard(supervisor, cell, &mut unused),
            })?;
        }
    }
    go_on(budget::give_back(supervisor, dead))?;
    object::drop_holds_of(supervisor, dead, killed)?;
    for index in unused {
        go_on(object::destroy_if_unused(supervisor, index))?;
    }
    Ok(())
}

/// What is damaged is no reason to leave the rest as it is: only what is `BUSY` is one to stop. And the object that the
/// dead process worked on may be gone, and its slot on the way to be another's.
pub(super) fn go_on(result: Result<()>) -> Result<()> {
    match result {
        Err(Errno::Busy) => Err(Errno::Busy),
        Ok(()) | Err(_) => Ok(()),
    }
}
