//! Items for which the process that takes them has no memory.

#![allow(unsafe_code, reason = "an allocator that has too little is what this needs")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

use sandpool_guest::queue::{GetError, GetManyError};
use sandpool_guest::{Bytes, Queue};
use sandpool_test_guests::{Outcome, check, same};

/// Whether there is none for a large item.
static IS_SHORT: AtomicBool = AtomicBool::new(false);

struct Short;

// SAFETY: it is the system's allocator, or refuses, which every allocator may.
unsafe impl GlobalAlloc for Short {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() >= 128 << 10 && IS_SHORT.load(Ordering::Relaxed) {
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

type Named = (String, Bytes);

/// Puts items, of which the second is large, and then has no memory for that.
fn three() -> Result<Queue<Named>, Box<dyn std::error::Error>> {
    let queue = Queue::<Named>::new()?;
    IS_SHORT.store(false, Ordering::Relaxed);
    for len in [10, 200_000, 20] {
        queue.put(&("item".to_owned(), Bytes::from(vec![1; len])))?;
    }
    IS_SHORT.store(true, Ordering::Relaxed);
    Ok(queue)
}

#[sandpool_guest::main]
fn main() -> Outcome {
    let queue = three()?;
    same("one that is small", queue.get()?.1.len(), 10)?;
    check("no memory for the next", matches!(queue.get(), Err(GetError::OutOfMemory)))?;
    same("which is gone", queue.get()?.1.len(), 20)?;

    let queue = three()?;
    match queue.get_many(10) {
        Err(GetManyError::Items(results)) => {
            let lens: Vec<_> =
                results.iter().map(|item| item.as_ref().map_or(0, |(_, bytes)| bytes.len())).collect();
            same("each of several has a result", lens, vec![10, 0, 20])?;
            check("which says why", matches!(results.get(1), Some(Err(GetError::OutOfMemory))))?;
        }
        other => return Err(format!("failed: {other:?}").into()),
    }

    let queue = three()?;
    let mut items = queue.iter();
    check("an iterator has the first", items.next().is_some_and(|item| item.is_ok()))?;
    check("and the error", matches!(items.next(), Some(Err(GetError::OutOfMemory))))?;
    check("which ends it", items.next().is_none() && items.next().is_none())?;
    same("and leaves the rest", queue.qsize()?, 1)
}
