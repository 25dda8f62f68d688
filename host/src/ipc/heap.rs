//! The heap of the arena: runs of pages. Allocation takes the first run of a size class that fits; a freed run merges
//! with its neighbours.
//!
//! A run is described at its first and at its last page (boundary tags), so that a neighbour is found in one step. Free
//! runs are chained by size class: class *c* holds runs of 2^c to 2^(c+1) - 1 pages. One journaled lock guards all of
//! this, so the heap stays whole whichever process dies.
//!
//! An allocated run is in the hands of the caller: its page stands in one of the `inflight` registers of the caller's
//! slot until an operation, in one commit, moves the run into an object or back to the heap. A run is therefore always
//! in exactly one place, and nothing is lost with a process.

use sandpool_abi::Errno;

use super::Result;
use super::arena::{Arena, Participant};
use super::layout::{HeapHead, PAGE};
use super::lock::{Guard, Lock};
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::mem::HUGE_PAGE;

/// Runs of the smallest class that are looked at before the next class.
const FIT_TRIES: usize = 8;

const FREE: u64 = 1 << 62;
const USED: u64 = 2 << 62;
const KIND: u64 = 3 << 62;

fn class_of(pages: u64) -> usize {
    pages.max(1).ilog2() as usize
}

/// Makes all pages but the first one free run, in an arena that nobody shares yet.
pub(super) fn format(arena: &Arena) -> Result<()> {
    let pages = u64::from(arena.geometry.heap_pages);
    let head = &arena.header()?.heap;
    if pages < 2 {
        return Err(Errno::Inval);
    }
    arena.page(0)?.tag.store(USED | 1, Ordering::Relaxed);
    let free = pages - 1;
    arena.page(1)?.tag.store(FREE | free, Ordering::Relaxed);
    arena.page(pages - 1)?.tag.store(FREE | free, Ordering::Relaxed);
    let class = class_of(free);
    head.classes.get(class).ok_or(Errno::Inval)?.store(1, Ordering::Relaxed);
    head.classes_present.store(1 << class, Ordering::Relaxed);
    Ok(())
}

impl HeapHead {
    pub(crate) fn lock_word(&self) -> &Lock {
        &self.lock
    }

    /// How often something was freed: if this has changed, another try may succeed.
    pub(crate) fn frees(&self) -> u64 {
        self.frees.load(Ordering::Acquire)
    }

    /// Tells the processes that wait for room that something was freed. A death doesn't undo the count: a process that
    /// has seen one count must see another one later.
    fn tell_freed(&self, arena: &Arena) {
        self.frees.fetch_add(1, Ordering::SeqCst);
        self.freed.notify_all(arena);
    }

    /// Tells the waiting processes so for a process that has died and may have been about to.
    pub(super) fn tell_freed_after_death(&self, arena: &Arena) {
        self.frees.fetch_add(1, Ordering::SeqCst);
        self.freed.wake_all(arena);
    }

    /// Pages that are not free.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn used_pages(&self) -> u64 {
        self.used_pages.load(Ordering::Relaxed)
    }
}

/// A free run.
#[derive(Debug, Clone, Copy)]
struct Run {
    page: u64,
    pages: u64,
}

impl Run {
    fn end(self) -> u64 {
        self.page + self.pages
    }
}

/// The free lists, while their lock is held.
struct Heap<'a> {
    arena: &'a Arena,
    head: &'a HeapHead,
    guard: Guard<'a>,
}

impl<'a> Heap<'a> {
    fn open(participant: &'a Participant) -> Result<Self> {
        let head = &participant.arena.header()?.heap;
        Ok(Self { arena: &participant.arena, head, guard: head.lock.lock(participant)? })
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

    /// A free run with room for `pages` pages, the first of them at a multiple of `unit`, and that page.
    fn find(&self, pages: u64, unit: u64) -> Result<Option<(Run, u64)>> {
        let class = class_of(pages);
        let mut classes = self.head.classes_present.load(Ordering::Relaxed) & !((1 << class) - 1);
        while classes != 0 {
            let mut page = self.class(classes.trailing_zeros() as usize)?.load(Ordering::Relaxed);
            for _ in 0..FIT_TRIES {
                if page == 0 {
                    break;
                }
                let run = Run { page, pages: self.free_pages(page)? };
                let start = page.next_multiple_of(unit);
                if start + pages <= run.end() {
                    return Ok(Some((run, start)));
                }
                page = self.arena.page(page)?.next.load(Ordering::Relaxed);
            }
            classes &= classes - 1;
        }
        Ok(None)
    }
}

/// Takes a run of at least `bytes` bytes into the caller's hands: its first page stands in `register` from the same
/// instant on. The run begins with 32 zero bytes, so that a process that finds it before it is filled sees that.
///
/// `NOMEM` if there is no such run now, `MSGSIZE` if there can never be.
pub(crate) fn allocate(participant: &Participant, bytes: u64, register: &AtomicU64) -> Result<u64> {
    take(participant, bytes, 1, register)
}

/// Takes a run of whole pages of the kernel that begins with one: mapping the run maps nothing else. The run begins
/// with a huge page if it is at least that long, and there is such a run.
pub(crate) fn allocate_mappable(participant: &Participant, bytes: u64, register: &AtomicU64) -> Result<u64> {
    let bytes = participant.arena.mappable(bytes)?;
    if bytes >= HUGE_PAGE as u64 {
        match take(participant, bytes, (HUGE_PAGE / PAGE) as u64, register) {
            Err(Errno::Nomem | Errno::Msgsize) => {}
            taken => return taken,
        }
    }
    take(participant, bytes, participant.arena.pages_of_kernel(), register)
}

/// Takes a run that begins at a multiple of `unit`.
fn take(participant: &Participant, bytes: u64, unit: u64, register: &AtomicU64) -> Result<u64> {
    let pages = bytes.div_ceil(PAGE as u64).max(1);
    // Page 0 is never part of a run.
    if pages > u64::from(participant.arena.geometry.heap_pages).saturating_sub(unit) {
        return Err(Errno::Msgsize);
    }
    let heap = Heap::open(participant)?;
    let (found, page) = heap.find(pages, unit)?.ok_or(Errno::Nomem)?;
    let end = page + pages;
    heap.remove(found.page, found.pages)?;
    if found.page < page {
        heap.insert(found.page, page - found.page)?;
    }
    if end < found.end() {
        heap.insert(end, found.end() - end)?;
    }
    heap.set_tags(page, pages, USED)?;
    let used = heap.head.used_pages.load(Ordering::Relaxed);
    heap.guard.set(&heap.head.used_pages, used.wrapping_add(pages))?;
    for word in heap.arena.in_heap::<[AtomicU64; 4]>(page, 0)? {
        word.store(0, Ordering::Relaxed);
    }
    heap.guard.set(register, page)?;
    heap.guard.commit();
    Ok(page)
}

/// Gives the run in `register` back and clears the register.
pub(crate) fn free(participant: &Participant, register: &AtomicU64) -> Result<()> {
    free_first(participant, register, 0)
}

/// Gives the run in `register` back, after which `next` stands there.
pub(super) fn free_first(participant: &Participant, register: &AtomicU64, next: u64) -> Result<()> {
    let heap = Heap::open(participant)?;
    let mut page = register.load(Ordering::Relaxed);
    let mut pages = run_pages(&participant.arena, page)?;
    let used = heap.head.used_pages.load(Ordering::Relaxed);
    heap.guard.set(&heap.head.used_pages, used.saturating_sub(pages))?;
    let after = page + pages;
    if after < u64::from(participant.arena.geometry.heap_pages)
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
    heap.guard.set(register, next)?;
    heap.guard.commit();
    drop(heap);
    participant.arena.header()?.heap.tell_freed(&participant.arena);
    Ok(())
}

/// Moves a run from one register to another, in one step.
pub(crate) fn hand_over(participant: &Participant, from: &AtomicU64, to: &AtomicU64) -> Result<()> {
    let heap = Heap::open(participant)?;
    heap.guard.set(to, from.load(Ordering::Relaxed))?;
    heap.guard.set(from, 0)?;
    heap.guard.commit();
    Ok(())
}

/// Moves the message in the register `from` to the beginning of the chain in `to`, in one step; `next` is its link.
pub(super) fn prepend(
    participant: &Participant,
    from: &AtomicU64,
    to: &AtomicU64,
    next: &AtomicU64,
) -> Result<()> {
    let heap = Heap::open(participant)?;
    heap.guard.set(next, to.load(Ordering::Relaxed))?;
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

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::ipc::arena::{Geometry, Patience};
    use crate::ipc::process_table::Register;

    const PAGES: u64 = 200;
    const PROCESSES: u32 = 16;
    const CELLS: usize = PROCESSES as usize * Register::ALL.len();

    /// An operation on the run of one register, or of two.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Allocate(usize, u64),
        AllocateMappable(usize, u64),
        Free(usize),
        HandOver(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let cell = 0..CELLS;
        // Mostly short runs, of all sizes within their last page; some that fill the heap, or never fit.
        let bytes = prop_oneof![
            8 => 0..8 * PAGE as u64,
            2 => 0..64 * PAGE as u64,
            1 => 0..2 * PAGES * PAGE as u64,
        ];
        prop_oneof![
            4 => (cell.clone(), bytes.clone()).prop_map(|(cell, bytes)| Step::Allocate(cell, bytes)),
            2 => (cell.clone(), bytes).prop_map(|(cell, bytes)| Step::AllocateMappable(cell, bytes)),
            3 => cell.clone().prop_map(Step::Free),
            1 => (cell.clone(), cell).prop_map(|(from, to)| Step::HandOver(from, to)),
        ]
    }

    /// The heap, and what should be in use: first page and pages of the run in each register.
    struct Model {
        participant: Participant,
        runs: [Option<(u64, u64)>; CELLS],
    }

    impl Model {
        /// Makes a model for a kernel whose pages have this size.
        fn new(kernel: usize) -> Self {
            let geometry = Geometry {
                processes_max: PROCESSES,
                objects_max: 1,
                heap_pages: u32::try_from(PAGES).unwrap(),
            };
            let (_, arena) = Arena::create_for(geometry, kernel).unwrap();
            let participant = Participant { arena: Arc::new(arena), index: 0, patience: Patience::Brief };
            Self { participant, runs: [None; CELLS] }
        }

        fn register(&self, cell: usize) -> &AtomicU64 {
            let kinds = Register::ALL.len();
            self.participant
                .arena
                .process((cell / kinds) as u32)
                .unwrap()
                .register(Register::ALL[cell % kinds])
        }

        /// The longest run of pages that no register has.
        fn longest_gap(&self) -> u64 {
            self.longest_gap_in(1)
        }

        /// The longest such run that begins at a multiple of `unit`.
        fn longest_gap_in(&self, unit: u64) -> u64 {
            let mut runs: Vec<_> = self.runs.iter().flatten().copied().collect();
            runs.sort_unstable();
            runs.push((PAGES, 0));
            let mut end = 1;
            let gaps = runs.iter().map(|(page, pages)| {
                page.checked_sub(end).expect("runs overlap");
                let gap = page.saturating_sub(end.next_multiple_of(unit));
                end = page + pages;
                gap
            });
            gaps.max().unwrap()
        }

        fn allocate(&mut self, cell: usize, bytes: u64, mappable: bool) {
            let kernel = self.participant.arena.pages_of_kernel();
            let (unit, pages, made) = if mappable {
                let pages = bytes.div_ceil(PAGE as u64).next_multiple_of(kernel);
                (kernel, pages, allocate_mappable(&self.participant, bytes, self.register(cell)))
            } else {
                (1, bytes.div_ceil(PAGE as u64), allocate(&self.participant, bytes, self.register(cell)))
            };
            let pages = pages.max(1);
            let longest = self.longest_gap_in(unit);
            match made {
                Ok(page) => {
                    assert!(page >= 1 && page + pages <= PAGES, "{page} and {pages} pages");
                    assert!(page.is_multiple_of(unit), "{page} isn't at a page of the kernel's");
                    self.runs[cell] = Some((page, pages));
                    let mut start = [1; 32];
                    self.participant.arena.read(page, 0, &mut start).unwrap();
                    assert_eq!(start, [0; 32], "what stood there before can be seen");
                    self.participant.arena.write(page, 0, &[0xff; PAGE]).unwrap();
                }
                Err(Errno::Msgsize) => assert!(unit + pages > PAGES, "{pages} pages could be had"),
                // `find` doesn't look at every run of the smallest class that may fit, but it always finds a longer
                // one.
                Err(error) => {
                    assert_eq!(error, Errno::Nomem);
                    assert!(
                        longest < (2 << class_of(pages + unit - 1)),
                        "{pages} pages, where {longest} were free"
                    );
                }
            }
        }

        fn free(&mut self, cell: usize) {
            free(&self.participant, self.register(cell)).unwrap();
            self.runs[cell] = None;
        }

        fn check(&self) {
            // Panics if two runs overlap.
            self.longest_gap();
            let used: u64 = self.runs.iter().flatten().map(|(_, pages)| pages).sum();
            assert_eq!(self.participant.arena.header().unwrap().heap.used_pages(), used);
            for (cell, run) in self.runs.iter().enumerate() {
                assert_eq!(self.register(cell).load(Ordering::Relaxed), run.map_or(0, |(page, _)| page));
                if let Some((page, pages)) = run {
                    assert_eq!(run_pages(&self.participant.arena, *page), Ok(*pages));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

        /// Runs never overlap, the pages in use are known exactly, and freed runs become one again.
        #[test]
        fn the_heap_is_as_its_model(
            kernel in prop_oneof![Just(4_usize << 10), Just(16 << 10), Just(64 << 10)],
            steps in proptest::collection::vec(step(), 1..300),
        ) {
            let mut model = Model::new(kernel);
            for step in steps {
                match step {
                    Step::Allocate(cell, bytes) if model.runs[cell].is_none() => {
                        model.allocate(cell, bytes, false);
                    }
                    Step::AllocateMappable(cell, bytes) if model.runs[cell].is_none() => {
                        model.allocate(cell, bytes, true);
                    }
                    Step::Free(cell) if model.runs[cell].is_some() => model.free(cell),
                    Step::HandOver(from, to) if model.runs[from].is_some() && model.runs[to].is_none() => {
                        hand_over(&model.participant, model.register(from), model.register(to)).unwrap();
                        model.runs.swap(from, to);
                    }
                    _ => {}
                }
                model.check();
            }
            for cell in 0..CELLS {
                if model.runs[cell].is_some() {
                    model.free(cell);
                    model.check();
                }
            }
            let whole = (PAGES - 1) * PAGE as u64;
            let page = allocate(&model.participant, whole, model.register(0));
            prop_assert_eq!(page, Ok(1), "what was freed is one run again");
        }
    }

    #[test]
    fn what_is_large_begins_with_a_huge_page_if_it_can() {
        const HUGE: u64 = (HUGE_PAGE / PAGE) as u64;
        let geometry = Geometry {
            processes_max: PROCESSES,
            objects_max: 1,
            heap_pages: u32::try_from(4 * HUGE).unwrap(),
        };
        let (_, arena) = Arena::create_for(geometry, PAGE).unwrap();
        let participant = Participant { arena: Arc::new(arena), index: 0, patience: Patience::Brief };
        let mut registers = Register::ALL.iter().map(|kind| participant.slot().unwrap().register(*kind));
        let mut begin = |bytes| allocate_mappable(&participant, bytes, registers.next().unwrap());
        assert_eq!(begin(1), Ok(1));
        assert_eq!(begin(HUGE_PAGE as u64 - 1), Ok(HUGE), "it is whole pages");
        assert_eq!(
            begin(HUGE_PAGE as u64 - PAGE as u64),
            Ok(2 * HUGE),
            "what is smaller lies where there is room"
        );
        assert_eq!(
            begin(HUGE_PAGE as u64 + PAGE as u64),
            Ok(3 * HUGE - 1),
            "or where it fits, if it fits there only"
        );
    }
}
