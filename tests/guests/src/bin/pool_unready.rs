//! Too little memory: for an owner to take results, which are errors of their tasks; and for workers to begin, which ends the
//! pool, and doesn't start one after the other for ever.

#![allow(unsafe_code, reason = "an allocator that has too little is what this needs")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

use sandpool_guest::pool::{Cause, PoolEnd, PoolError};
use sandpool_guest::{Bytes, Pool, active_children};
use sandpool_test_guests::{Outcome, check, same};

/// Whether there is none for a large result, or a worker's buffer. A worker has it from its owner, which needs nothing as
/// large any more.
static IS_SHORT: AtomicBool = AtomicBool::new(false);

struct Short;

// SAFETY: it is the system's allocator, or refuses, which every allocator may.
unsafe impl GlobalAlloc for Short {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= 64 << 10 && IS_SHORT.load(Ordering::Relaxed) {
            return null_mut();
        }
        // SAFETY: the caller's contract is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: as above, and all memory is the system's.
        unsafe { System.dealloc(address, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Short = Short;

#[sandpool_guest::main]
fn main() -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    results(&pool)?;
    IS_SHORT.store(true, Ordering::Relaxed);
    for worker in active_children()? {
        worker.kill()?;
        // Until then it may take a task.
        worker.join()?;
    }
    let error = pool.apply_async(|n: u64| n, 2)?.get().err().ok_or("there is a result")?;
    let is_known = |cause: &Cause| {
        matches!(cause, Cause::Pool(PoolEnd::NoWorker(why))
            if why == "one has ended before its first task: trapped: unreachable executed")
    };
    check(&format!("a pool ends whose workers can't begin: {error}"), is_known(error.cause()))?;
    check("and starts no more of them", pool.stats().workers_started == 2)?;
    IS_SHORT.store(false, Ordering::Relaxed);
    let again = Pool::builder().processes(1).build()?;
    check("another works", again.apply(|n: u64| n, 3)? == 3)
}

/// A result that is alone, and several in one message, none of which is copied at once.
fn results(pool: &Pool) -> Outcome {
    let alone = |len: usize| vec![1_u8; len];
    let named = |len: usize| ("name".to_owned(), Bytes::from(vec![1; len]));
    // Now there are all buffers, and a worker.
    pool.apply(named, 100_000)?;
    IS_SHORT.store(true, Ordering::Relaxed);
    let error = pool.apply(alone, 1 << 20).err();
    let is_known = |error: &PoolError| {
        matches!(error, PoolError::Task(error)
            if matches!(error.cause(), Cause::Decode(why) if why == "not enough memory for its bytes"))
    };
    check("no memory for a result", error.as_ref().is_some_and(is_known))?;
    let all = pool.options().chunksize(3).imap(named, [30_000; 4])?;
    let all: Vec<_> = all.map(|result| result.map_err(PoolError::from)).collect();
    let (chunk, last) = all.split_at(3);
    check("nor for those of a chunk", chunk.iter().all(|result| result.as_ref().is_err_and(is_known)))?;
    check("but for the next", last.iter().all(Result::is_ok))?;
    IS_SHORT.store(false, Ordering::Relaxed);
    same("the worker goes on", (pool.apply(alone, 100_000)?.len(), pool.stats().workers_lost), (100_000, 0))
}
