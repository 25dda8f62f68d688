//! The arena: the shared memory of a run, in which everything [lies](super::layout), and the view that each process has of it.

use std::io;
use std::os::fd::BorrowedFd;

use sandpool_abi::Errno;
use sandpool_abi::process::STDERR_MAX;

use super::Result;
pub(crate) use super::layout::PAGE;
use super::layout::{Body, Header, ObjectSlot, PageDescriptor, ProcessSlot, hold_words};
use crate::sys::atomic::{AtomicU32, AtomicU64};
use crate::sys::mem::{self, Mapping, Shared, Table};

/// The sizes that an arena is made with. All processes of a run inherit one copy; none is read from the arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) processes_max: u32,
    pub(crate) objects_max: u32,
    pub(crate) heap_pages: u32,
}

impl Geometry {
    /// The most processes that an arena can be made for: a process's number must fit into a lock word.
    pub(crate) const PROCESSES_LIMIT: u32 = 32_768;

    /// The slot of the gateway, after that of the supervisor. No process of the run is there.
    pub(crate) fn gateway(self) -> u32 {
        self.processes_max + 1
    }
}

/// The slots after those of the run's processes: the supervisor's, and the gateway's.
const HOSTS: usize = 2;

/// The shared memory of one run.
#[derive(Debug)]
pub(crate) struct Arena {
    mapping: Mapping,
    pub(crate) geometry: Geometry,
    header: Table<Header>,
    processes: Table<ProcessSlot>,
    states: Table<AtomicU64>,
    pids: Table<AtomicU32>,
    requests: Table<AtomicU64>,
    objects: Table<ObjectSlot>,
    bodies: Table<Body>,
    refs: Table<AtomicU64>,
    ref_words: usize,
    holds: Table<AtomicU64>,
    hold_words: usize,
    names: Table<AtomicU64>,
    pages: Table<PageDescriptor>,
    tails: usize,
    heap: usize,
    /// bytes of a page of the kernel's
    mapped: u64,
}

impl Arena {
    /// The bytes of the arena, tables and heap.
    pub(crate) fn bytes(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// Maps an arena that another process has made with these sizes.
    pub(crate) fn open(fd: BorrowedFd<'_>, geometry: Geometry) -> io::Result<Self> {
        Self::lay_out(geometry, mem::page_size(), |len| Mapping::from_fd(fd, len))
    }

    /// Finds the place of each part, in memory that `map` maps for as many bytes as are needed.
    pub(super) fn lay_out(
        geometry: Geometry,
        page: usize,
        map: impl FnOnce(usize) -> io::Result<Mapping>,
    ) -> io::Result<Self> {
        let processes_max = geometry.processes_max as usize;
        let objects_max = geometry.objects_max as usize;
        let align = |at: usize| at.next_multiple_of(PAGE);
        let slots = processes_max + HOSTS;
        let ref_words = slots.div_ceil(64);
        // The words that a start and an end touch lie close together: a new process maps them with few faults.
        let states = size_of::<Header>().next_multiple_of(64);
        let pids = states + processes_max * 8;
        let requests = (pids + processes_max * 4).next_multiple_of(64);
        let processes = (requests + ref_words * 8).next_multiple_of(64);
        let objects = align(processes + slots * size_of::<ProcessSlot>());
        let bodies = align(objects + objects_max * size_of::<ObjectSlot>());
        let refs = align(bodies + objects_max * size_of::<Body>());
        // A row is whole cache lines: no two processes write to one.
        let hold_words = hold_words(objects_max).next_multiple_of(8);
        let holds = align(refs + objects_max * ref_words * 8);
        let names = align(holds + slots * hold_words * 8);
        let pages = align(names + objects_max * 8);
        let tails = align(pages + geometry.heap_pages as usize * size_of::<PageDescriptor>());
        // A page of the heap begins wherever a page of the kernel begins, a huge page included.
        let heap = (tails + processes_max * STDERR_MAX).next_multiple_of(mem::HUGE_PAGE);
        let len = heap + geometry.heap_pages as usize * PAGE;
        let mapping = map(len)?;
        mapping.advise_huge_pages(heap);
        let heap_pages = geometry.heap_pages as usize;
        Ok(Self {
            header: table(&mapping, 0, 1)?,
            processes: table(&mapping, processes, slots)?,
            states: table(&mapping, states, processes_max)?,
            pids: table(&mapping, pids, processes_max)?,
            requests: table(&mapping, requests, ref_words)?,
            objects: table(&mapping, objects, objects_max)?,
            bodies: table(&mapping, bodies, objects_max)?,
            refs: table(&mapping, refs, objects_max * ref_words)?,
            ref_words,
            holds: table(&mapping, holds, slots * hold_words)?,
            hold_words,
            names: table(&mapping, names, objects_max)?,
            pages: table(&mapping, pages, heap_pages)?,
            tails,
            heap,
            mapped: page.max(PAGE) as u64,
            geometry,
            mapping,
        })
    }

    /// The item at an offset, if the item lies inside the arena.
    #[inline]
    pub(crate) fn at<T: Shared>(&self, offset: usize) -> Result<&T> {
        self.mapping.get(offset).ok_or(Errno::Io)
    }

    /// The offset of something in the arena.
    #[inline]
    pub(crate) fn offset_of<T: Shared>(&self, item: &T) -> u64 {
        self.mapping.offset_of(item)
    }

    #[inline]
    pub(crate) fn header(&self) -> Result<&Header> {
        self.header.get(0).ok_or(Errno::Io)
    }

    /// The slot of a process. The slots after the last process are those of the supervisor and of the gateway.
    #[inline]
    pub(crate) fn process(&self, index: u32) -> Result<&ProcessSlot> {
        self.processes.get(index as usize).ok_or(Errno::Badf)
    }

    /// The state word of a process.
    #[inline]
    pub(crate) fn process_state(&self, index: u32) -> Result<&AtomicU64> {
        self.states.get(index as usize).ok_or(Errno::Badf)
    }

    /// The process id word of a process.
    #[inline]
    pub(crate) fn process_id(&self, index: u32) -> Result<&AtomicU32> {
        self.pids.get(index as usize).ok_or(Errno::Badf)
    }

    /// The words with a bit for each process that wants something of the supervisor.
    pub(crate) fn request_word(&self, word: usize) -> Result<&AtomicU64> {
        self.requests.get(word).ok_or(Errno::Badf)
    }

    /// The number of words that a bit for each process takes.
    pub(crate) fn ref_words(&self) -> usize {
        self.ref_words
    }

    /// The slot of an object.
    #[inline]
    pub(crate) fn object(&self, index: u32) -> Result<&ObjectSlot> {
        self.objects.get(index as usize).ok_or(Errno::Badf)
    }

    /// Where the state of an object is.
    #[inline]
    pub(super) fn object_body(&self, index: u32) -> Result<&Body> {
        self.bodies.get(index as usize).ok_or(Errno::Badf)
    }

    /// One word of the bits that tell which processes hold an object.
    #[inline]
    pub(crate) fn ref_word(&self, object: u32, word: usize) -> Result<&AtomicU64> {
        if word >= self.ref_words {
            return Err(Errno::Badf);
        }
        self.refs.get(object as usize * self.ref_words + word).ok_or(Errno::Badf)
    }

    /// One word of the objects that are [noted](holds) for a process.
    #[inline]
    pub(super) fn hold_word(&self, process: u32, word: usize) -> Result<&AtomicU64> {
        if word >= self.hold_words {
            return Err(Errno::Badf);
        }
        self.holds.get(process as usize * self.hold_words + word).ok_or(Errno::Badf)
    }

    /// The word at which a chain of names begins.
    pub(super) fn named(&self, chain: usize) -> Result<&AtomicU64> {
        self.names.get(chain).ok_or(Errno::Badf)
    }

    /// The descriptor of a page of the heap.
    #[inline]
    pub(crate) fn page(&self, page: u64) -> Result<&PageDescriptor> {
        usize::try_from(page).ok().and_then(|page| self.pages.get(page)).ok_or(Errno::Io)
    }

    /// The offset of the ring that holds the end of a process's stderr.
    pub(crate) fn tail(&self, index: u32) -> Result<usize> {
        if index >= self.geometry.processes_max {
            return Err(Errno::Badf);
        }
        Ok(self.tails + index as usize * STDERR_MAX)
    }

    /// The item `offset` bytes after the start of a page of the heap.
    #[inline]
    pub(crate) fn in_heap<T: Shared>(&self, page: u64, offset: u64) -> Result<&T> {
        self.at(self.heap_offset(page, offset)?)
    }

    /// Copies bytes into the heap.
    #[inline]
    pub(crate) fn write(&self, page: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        self.mapping.write(self.heap_offset(page, offset)?, bytes).ok_or(Errno::Io)
    }

    /// Copies bytes out of the heap.
    #[inline]
    pub(crate) fn read(&self, page: u64, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.mapping.read(self.heap_offset(page, offset)?, bytes).ok_or(Errno::Io)
    }

    /// Copies bytes in, at an offset in the arena.
    #[inline]
    pub(crate) fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.mapping.write(offset, bytes).ok_or(Errno::Io)
    }

    /// Copies bytes out, from an offset in the arena.
    #[inline]
    pub(crate) fn read_at(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.mapping.read(offset, bytes).ok_or(Errno::Io)
    }

    /// Makes bytes of the heap zero, from the start of a page on. Whole pages of many go back to the system.
    pub(crate) fn clear(&self, page: u64, len: u64) -> Result<()> {
        let len = usize::try_from(len).map_err(|_| Errno::Io)?;
        self.mapping.clear(self.heap_offset(page, 0)?, len).ok_or(Errno::Io)
    }

    /// `bytes`, rounded up to whole pages of the kernel: the bytes that are mapped with them.
    ///
    /// `MSGSIZE` if the rounded number doesn't fit into 64 bits.
    pub(crate) fn mappable(&self, bytes: u64) -> Result<u64> {
        bytes.checked_next_multiple_of(self.mapped).ok_or(Errno::Msgsize)
    }

    /// The number of pages of the heap in one page of the kernel.
    #[inline]
    pub(super) fn pages_of_kernel(&self) -> u64 {
        self.mapped / PAGE as u64
    }

    /// Maps bytes of the heap, from the start of a page on, a second time, over `target`, in huge pages if the kernel
    /// has any.
    pub(crate) fn map_again(&self, page: u64, target: &mut [u8], read_only: bool) -> Result<()> {
        let offset = self.heap_offset(page, 0)?;
        self.mapping.map_again(offset, target, read_only).map_err(|_| Errno::Nomem)?;
        self.mapping.fill_with_huge_pages(offset, target);
        Ok(())
    }

    #[inline]
    fn heap_offset(&self, page: u64, offset: u64) -> Result<usize> {
        if page == 0 || page >= u64::from(self.geometry.heap_pages) || offset > self.mapping.len() as u64 {
            return Err(Errno::Io);
        }
        Ok(self.heap + page as usize * PAGE + offset as usize)
    }
}

/// Where the bit of a process stands beside an object.
pub(super) fn bit(process: u32) -> (usize, u64) {
    (process as usize / 64, 1 << (process % 64))
}

/// A part of an arena; the arena was made large enough for all its parts.
fn table<T: Shared>(mapping: &Mapping, offset: usize, len: usize) -> io::Result<Table<T>> {
    mapping.table(offset, len).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// How long to wait for a lock that another process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// As long as it takes; for guest processes.
    Forever,
    /// Not longer than an honest owner needs; then the operation fails with `BUSY`. For the supervisor, which must
    /// answer whatever a guest does.
    Brief,
    /// As long as an honest owner needs while other processes keep the owner from running; then `BUSY`, too. For the
    /// owner of a pool and the gateway, which try again.
    Moment,
}

/// A process as a user of an arena: the view that all operations start from.
#[derive(Debug, Clone)]
pub(crate) struct Participant {
    pub(crate) arena: std::sync::Arc<Arena>,
    /// Its slot.
    pub(crate) index: u32,
    pub(crate) patience: Patience,
}

impl Participant {
    /// Whether this is the supervisor or the gateway, whose slots are the ones after all others.
    pub(super) fn is_host(&self) -> bool {
        self.index >= self.arena.geometry.processes_max
    }

    /// The slot of this process.
    #[inline]
    pub(crate) fn slot(&self) -> Result<&ProcessSlot> {
        self.arena.process(self.index)
    }
}
