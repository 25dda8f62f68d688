//! Workers that have too little memory to begin: the pool ends, and doesn't start one after the other for ever.

#![allow(unsafe_code, reason = "an allocator that has too little is what this needs")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

use sandpool_guest::{Cause, Pool, PoolEnd, active_children};
use sandpool_test_guests::{Outcome, check};

/// Whether there is none for a worker's buffer. A worker has it from its owner, which needs nothing as large any more.
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
    pool.apply(|n: u64| n, 1)?;
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
    check("and starts no more of them", pool.stats().started == 2)?;
    IS_SHORT.store(false, Ordering::Relaxed);
    let again = Pool::builder().processes(1).build()?;
    check("another works", again.apply(|n: u64| n, 3)? == 3)
}
