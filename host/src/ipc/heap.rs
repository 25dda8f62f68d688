//! The heap of the arena: runs of pages, the first that fits of a size class, merged with their neighbours when freed.
//!
//! A run is described at its first and at its last page (boundary tags), so that a neighbour is found in one step.
//! Free runs are chained by size class: class *c* holds runs of 2^c to 2^(c+1) - 1 pages. All of it is guarded by
//! one journaled lock, so it is whole whoever dies.
//!
//! A run that is allocated is in the hands of the caller: its page stands in one of the `inflight` registers of the
//! caller's slot until an operation, in one commit, moves it into an object or back here. A run is therefore always
//! in exactly one place, and nothing is lost with a process.

use sandpool_abi::Errno;

use super::Result;
use super::arena::{Arena, Member, PAGE};
use super::event::Event;
use super::lock::{Guard, Lock};
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::mem::shared;

const CLASSES: usize = 32;
/// Runs of the smallest class that are looked at before the next class is taken.
const FIT_TRIES: usize = 8;

const FREE: u64 = 1 << 62;
const USED: u64 = 2 << 62;
const KIND: u64 = 3 << 62;

shared! {
    /// The free runs.
    pub(crate) struct HeapHead {
        lock: Lock,
        used_pages: AtomicU64,
        /// runs freed so far
        frees: AtomicU64,
        /// bit *c*: class *c* has a run
        classes_present: AtomicU64,
        /// first page of the first run of each class; page 0 is never part of a run
        classes: [AtomicU64; CLASSES],
        /// something was freed
        pub(crate) freed: Event,
    }

    /// What is known of a page, if a run starts or ends there.
    pub(crate) struct PageDescriptor {
        /// kind and pages of the run
        tag: AtomicU64,
        next: AtomicU64,
        prev: AtomicU64,
        reserved: AtomicU64,
    }
}

fn class_of(pages: u64) -> usize {
    pages.max(1).ilog2() as usize
}

impl Arena {
    /// Makes all pages but the first one free run. For an arena that nobody shares yet.
    pub(super) fn format_heap(&self) -> Result<()> {
        let pages = u64::from(self.geometry.heap_pages);
        let head = &self.header()?.heap;
        if pages < 2 {
            return Err(Errno::Inval);
        }
        self.page(0)?.tag.store(USED | 1, Ordering::Relaxed);
        let free = pages - 1;
        self.page(1)?.tag.store(FREE | free, Ordering::Relaxed);
        self.page(pages - 1)?.tag.store(FREE | free, Ordering::Relaxed);
        let class = class_of(free);
        head.classes.get(class).ok_or(Errno::Inval)?.store(1, Ordering::Relaxed);
        head.classes_present.store(1 << class, Ordering::Relaxed);
        Ok(())
    }
}

impl HeapHead {
    pub(crate) fn lock_word(&self) -> &Lock {
        &self.lock
    }

    /// Runs freed so far: whether it is worth trying again.
    pub(crate) fn frees(&self) -> u64 {
        self.frees.load(Ordering::Acquire)
    }

    /// Pages that are not free.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn used_pages(&self) -> u64 {
        self.used_pages.load(Ordering::Relaxed)
    }
}

/// The free lists, while their lock is held.
struct Heap<'a> {
    arena: &'a Arena,
    head: &'a HeapHead,
    guard: Guard<'a>,
}

impl<'a> Heap<'a> {
    fn open(member: &'a Member) -> Result<Self> {
        let head = &member.arena.header()?.heap;
        Ok(Self { arena: &member.arena, head, guard: head.lock.lock(member)? })
    }

    fn class(&self, class: usize) -> Result<&'a AtomicU64> {
        self.head.classes.get(class).ok_or(Errno::Io)
    }

    /// The number of pages of the free run that starts at `page`.
    fn free_pages(&self, page: u64) -> Result<u64> {
        let tag = self.arena.page(page)?.tag.load(Ordering::Relaxed);
        let pages = tag & !KIND;
        if tag & KIND != FREE || pages == 0 || pages > u64::from(self.arena.geometry.heap_pages) - page {
            return Err(Errno::Io);
        }
        Ok(pages)
    }

    fn set_tags(&self, page: u64, pages: u64, kind: u64) -> Result<()> {
        self.guard.set(&self.arena.page(page)?.tag, kind | pages)?;
        if pages > 1 {
            self.guard.set(&self.arena.page(page + pages - 1)?.tag, kind | pages)?;
        }
        Ok(())
    }

    fn insert(&self, page: u64, pages: u64) -> Result<()> {
        let class = class_of(pages);
        let first = self.class(class)?;
        let next = first.load(Ordering::Relaxed);
        self.set_tags(page, pages, FREE)?;
        let descriptor = self.arena.page(page)?;
        self.guard.set(&descriptor.next, next)?;
        self.guard.set(&descriptor.prev, 0)?;
        if next != 0 {
            self.guard.set(&self.arena.page(next)?.prev, page)?;
        }
        self.guard.set(first, page)?;
        let present = self.head.classes_present.load(Ordering::Relaxed);
        self.guard.set(&self.head.classes_present, present | 1 << class)
    }

    fn remove(&self, page: u64, pages: u64) -> Result<()> {
        let class = class_of(pages);
        let descriptor = self.arena.page(page)?;
        let next = descriptor.next.load(Ordering::Relaxed);
        let prev = descriptor.prev.load(Ordering::Relaxed);
        if next != 0 {
            self.guard.set(&self.arena.page(next)?.prev, prev)?;
        }
        if prev != 0 {
            return self.guard.set(&self.arena.page(prev)?.next, next);
        }
        self.guard.set(self.class(class)?, next)?;
        if next == 0 {
            let present = self.head.classes_present.load(Ordering::Relaxed);
            self.guard.set(&self.head.classes_present, present & !(1 << class))?;
        }
        Ok(())
    }

    /// A free run of at least so many pages.
    fn find(&self, pages: u64) -> Result<Option<u64>> {
        let class = class_of(pages);
        let mut page = self.class(class)?.load(Ordering::Relaxed);
        for _ in 0..FIT_TRIES {
            if page == 0 {
                break;
            }
            if self.free_pages(page)? >= pages {
                return Ok(Some(page));
            }
            page = self.arena.page(page)?.next.load(Ordering::Relaxed);
        }
        let larger = self.head.classes_present.load(Ordering::Relaxed) & !((2 << class) - 1);
        if larger == 0 {
            return Ok(None);
        }
        Ok(Some(self.class(larger.trailing_zeros() as usize)?.load(Ordering::Relaxed)))
    }
}

/// Takes a run of at least `bytes` bytes into the caller's hands: its first page stands in `register` from the
/// same instant on. It begins with 32 zero bytes, so that whoever finds it before it is filled sees that.
///
/// `NOMEM` if there is no such run now, `MSGSIZE` if there can never be.
pub(crate) fn allocate(member: &Member, bytes: u64, register: &AtomicU64) -> Result<u64> {
    let pages = bytes.div_ceil(PAGE as u64).max(1);
    if pages >= u64::from(member.arena.geometry.heap_pages) {
        return Err(Errno::Msgsize);
    }
    let heap = Heap::open(member)?;
    let page = heap.find(pages)?.ok_or(Errno::Nomem)?;
    let found = heap.free_pages(page)?;
    if found < pages {
        return Err(Errno::Io);
    }
    heap.remove(page, found)?;
    if found > pages {
        heap.insert(page + pages, found - pages)?;
    }
    heap.set_tags(page, pages, USED)?;
    let used = heap.head.used_pages.load(Ordering::Relaxed);
    heap.guard.set(&heap.head.used_pages, used + pages)?;
    for word in heap.arena.in_heap::<[AtomicU64; 4]>(page, 0)? {
        word.store(0, Ordering::Relaxed);
    }
    heap.guard.set(register, page)?;
    heap.guard.commit();
    Ok(page)
}

/// Gives the run in `register` back and clears the register.
pub(crate) fn free(member: &Member, register: &AtomicU64) -> Result<()> {
    let heap = Heap::open(member)?;
    let mut page = register.load(Ordering::Relaxed);
    let mut pages = run_pages(&member.arena, page)?;
    let used = heap.head.used_pages.load(Ordering::Relaxed);
    heap.guard.set(&heap.head.used_pages, used.saturating_sub(pages))?;
    let after = page + pages;
    if after < u64::from(member.arena.geometry.heap_pages)
        && heap.arena.page(after)?.tag.load(Ordering::Relaxed) & KIND == FREE
    {
        let more = heap.free_pages(after)?;
        heap.remove(after, more)?;
        pages += more;
    }
    let before = heap.arena.page(page - 1)?.tag.load(Ordering::Relaxed);
    if before & KIND == FREE {
        let more = before & !KIND;
        let start = page.checked_sub(more).ok_or(Errno::Io)?;
        if heap.free_pages(start)? != more {
            return Err(Errno::Io);
        }
        heap.remove(start, more)?;
        page = start;
        pages += more;
    }
    heap.insert(page, pages)?;
    heap.guard.set(&heap.head.frees, heap.head.frees.load(Ordering::Relaxed) + 1)?;
    heap.guard.set(register, 0)?;
    heap.guard.commit();
    drop(heap);
    member.arena.header()?.heap.freed.notify_all(&member.arena);
    Ok(())
}

/// Moves a run from one register to another, in one step.
pub(crate) fn hand_over(member: &Member, from: &AtomicU64, to: &AtomicU64) -> Result<()> {
    let heap = Heap::open(member)?;
    heap.guard.set(to, from.load(Ordering::Relaxed))?;
    heap.guard.set(from, 0)?;
    heap.guard.commit();
    Ok(())
}

/// The number of pages of the run that starts at `page`, which is in use.
pub(crate) fn run_pages(arena: &Arena, page: u64) -> Result<u64> {
    let tag = arena.page(page)?.tag.load(Ordering::Relaxed);
    let pages = tag & !KIND;
    if page == 0 || tag & KIND != USED || pages == 0 || pages > u64::from(arena.geometry.heap_pages) - page {
        return Err(Errno::Io);
    }
    Ok(pages)
}
