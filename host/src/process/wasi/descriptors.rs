//! Descriptors that the library doesn't know: ends of [pipes of bytes](crate::ipc::byte_pipe), and copies.
//!
//! A guest knows descriptors by their numbers, and so does the library, which has a table of its own: streams, granted
//! directories, files that were opened. This module has a second table, of the numbers that mean something else than
//! they do to the library:
//!
//! | the guest's number is | means |
//! | --- | --- |
//! | not in this table | what it means to the library, if anything |
//! | a pipe | an end of a pipe, by its handle |
//! | a copy | the library's descriptor with another number |
//! | free | nothing; the library has a descriptor of that number, which only copies mean |
//!
//! As long as a process has made no pipe and no copy, the table is empty, and numbers go to the library as they are: a
//! call pays one comparison. A descriptor of the library stays open as long as any number means it, and is closed with
//! the last one. So the two sides can't disagree: a number that the library gives out is translated if a pipe or a copy
//! has it already.
//!
//! The table is a part of the process's memory: a forked process has a copy, and its holds of the pipes' ends are those
//! that it has of all objects. A spawned process begins with an empty table.

use std::collections::BTreeMap;

use sandpool_abi::Errno;
use sandpool_abi::pipe::READABLE;
use sandpool_abi::process::Limit;
use wasmtime::{Caller, WasmBacktrace};
use wasmtime_wasi::p1::wasi_snapshot_preview1 as preview1;
use wiggle::{GuestMemory, GuestPtr};

use super::{ERRNO_BADF, ERRNO_FAULT, ERRNO_INVAL, ERRNO_MFILE, ERRNO_SUCCESS, FDSTAT, at_once, is_open};
use crate::ipc::Result;
use crate::ipc::byte_pipe::{self, ByteEndState};
use crate::ipc::object::{self, Handle, Object};
use crate::process::memory::{Memory, view};
use crate::process::{Guest, Process, deadlock};
use crate::sys::futex::Deadline;

const ERRNO_AGAIN: i32 = 6;
const ERRNO_IO: i32 = 29;
const ERRNO_PIPE: i32 = 64;

/// The most vectors of one read or write, as with Linux.
const VECTORS_MAX: usize = 1024;

/// One more than the largest number that a descriptor may have.
const NUMBERS: u32 = 1 << 31;

const FLAG_APPEND: i32 = 1;
const FLAG_NONBLOCK: i32 = 4;

const RIGHT_READ: u64 = 1 << 1;
const RIGHT_SET_FLAGS: u64 = 1 << 3;
const RIGHT_WRITE: u64 = 1 << 6;
const RIGHT_STAT: u64 = 1 << 21;
const RIGHT_POLL: u64 = 1 << 27;

/// WASI has no type for pipes. libc takes this one for `S_IFIFO`, which is the same there as `S_IFSOCK`; a character
/// device would be taken for a terminal.
const SOCKET_STREAM: u8 = 6;

/// The meaning of the guest's number of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Pipe(Handle),
    /// A descriptor of the library.
    Library(u32),
}

/// The numbers that mean something else than they do to the library; `None` is nothing.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    entries: BTreeMap<u32, Option<Target>>,
}

impl Descriptors {
    /// Whether each number means what it means to the library.
    #[inline]
    pub(super) fn are_plain(&self) -> bool {
        self.entries.is_empty()
    }

    /// The meaning of a number. Whether the library has such a descriptor is for the library to say.
    fn target(&self, fd: u32) -> Option<Target> {
        self.entries.get(&fd).copied().unwrap_or(Some(Target::Library(fd)))
    }

    /// The number of pipes and copies.
    fn count(&self) -> usize {
        self.entries.values().flatten().count()
    }

    /// Whether any number means this descriptor of the library.
    fn means(&self, library: u32) -> bool {
        !self.entries.contains_key(&library) || self.has_copy(library)
    }

    fn has_copy(&self, library: u32) -> bool {
        self.entries.values().any(|entry| *entry == Some(Target::Library(library)))
    }

    /// Gives a number that means nothing a meaning.
    fn set(&mut self, fd: u32, target: Target) {
        match target {
            Target::Library(library) if library == fd => self.entries.remove(&fd),
            target => self.entries.insert(fd, Some(target)),
        };
    }

    /// Takes the meaning of a number away.
    fn clear(&mut self, fd: u32) {
        if self.has_copy(fd) {
            self.entries.insert(fd, None);
        } else {
            self.entries.remove(&fd);
        }
    }
}

/// The library's number of a descriptor, for a function that pipes don't have.
///
/// `refusal` for a pipe, and `BADF` for a number that means nothing.
#[inline]
pub(super) fn library(guest: &Guest, fd: i32, refusal: i32) -> std::result::Result<i32, i32> {
    if guest.process.descriptors.are_plain() { Ok(fd) } else { translated(guest, fd, refusal) }
}

#[cold]
fn translated(guest: &Guest, fd: i32, refusal: i32) -> std::result::Result<i32, i32> {
    match guest.process.descriptors.target(fd as u32) {
        Some(Target::Library(library)) => Ok(library as i32),
        Some(Target::Pipe(_)) => Err(refusal),
        None => Err(ERRNO_BADF),
    }
}

/// The number of the library's descriptor, or else the answer to the call.
type Passed = std::result::Result<i32, i32>;

/// Calls a function for the end of a pipe if the descriptor is one.
#[inline]
fn for_pipe(
    caller: &mut Caller<'_, Guest>,
    fd: i32,
    call: impl FnOnce(&mut Caller<'_, Guest>, Handle) -> i32,
) -> Passed {
    let descriptors = &caller.data().process.descriptors;
    if descriptors.are_plain() {
        return Ok(fd);
    }
    match descriptors.target(fd as u32) {
        Some(Target::Library(library)) => Ok(library as i32),
        Some(Target::Pipe(handle)) => Err(call(caller, handle)),
        None => Err(ERRNO_BADF),
    }
}

fn end(process: &Process, handle: Handle) -> Result<Object<'_, ByteEndState>> {
    object::resolve(process.participant(), handle)
}

/// The errno of WASI.
fn wasi_errno(errno: Errno) -> i32 {
    match errno {
        Errno::Again => ERRNO_AGAIN,
        Errno::Badf => ERRNO_BADF,
        Errno::Fault => ERRNO_FAULT,
        Errno::Inval => ERRNO_INVAL,
        Errno::Mfile => ERRNO_MFILE,
        Errno::Pipe => ERRNO_PIPE,
        _ => ERRNO_IO,
    }
}

fn code(result: Result<()>) -> i32 {
    result.map_or_else(wasi_errno, |()| ERRNO_SUCCESS)
}

/// Tries a call without waiting. If it would wait, and the end lets it, writes out the output that is held back, and
/// waits. If all processes of the run wait, this process reports where it is, and waits on if it may.
fn waiting<T>(
    caller: &mut Caller<'_, Guest>,
    handle: Handle,
    mut call: impl FnMut(Memory<'_>, &mut Process, Deadline) -> Result<T>,
) -> Result<T> {
    let (memory, process) = view(caller)?;
    match call(memory, process, Deadline::NOW) {
        Err(Errno::Again) => {}
        result => return result,
    }
    if end(process, handle)?.state.is_nonblocking() {
        return Err(Errno::Again);
    }
    process.stdio.flush();
    loop {
        let (memory, process) = view(caller)?;
        match call(memory, process, Deadline::NEVER) {
            Err(Errno::Deadlock) => report_deadlock(caller),
            result => return result,
        }
    }
}

#[cold]
pub(super) fn report_deadlock(caller: &Caller<'_, Guest>) {
    let backtrace = WasmBacktrace::force_capture(caller);
    deadlock::report(caller.data(), Some(&backtrace));
}

/// The vectors of a list: addresses and lengths.
fn vectors(memory: &Memory<'_>, list: i32, count: i32) -> Result<Vec<(i32, i32)>> {
    let vectors = memory.words(list, count, VECTORS_MAX)?;
    Ok(vectors.into_iter().map(|vector| (vector as i32, (vector >> 32) as i32)).collect())
}

pub(super) fn fd_read(caller: &mut Caller<'_, Guest>, fd: i32, list: i32, count: i32, out: i32) -> Passed {
    for_pipe(caller, fd, |caller, handle| {
        if caller.data().process.is_mute {
            // The process may never have told those who would write.
            return code(view(caller).and_then(|(mut memory, _)| memory.store(out, [0])));
        }
        code(waiting(caller, handle, |mut memory, process, deadline| {
            let vectors = vectors(&memory, list, count)?;
            // Nothing is read that can't be handed over.
            memory.bytes_mut(out, 4)?;
            let mut room = 0_u64;
            for (at, len) in &vectors {
                room += memory.bytes_mut(*at, *len)?.len() as u64;
            }
            let participant = process.participant();
            let read =
                byte_pipe::read(participant, end(process, handle)?, room, deadline, |count, bytes| {
                    let mut done = 0;
                    for (at, len) in &vectors {
                        let to = memory.bytes_mut(*at, *len)?;
                        let len = (count - done).min(to.len() as u64);
                        bytes.read(done, to.get_mut(..len as usize).ok_or(Errno::Fault)?)?;
                        done += len;
                    }
                    Ok(())
                })?;
            memory.store(out, [read as u32])
        }))
    })
}

pub(super) fn fd_write(caller: &mut Caller<'_, Guest>, fd: i32, list: i32, count: i32, out: i32) -> Passed {
    if caller.data().process.is_mute {
        // The bytes are lost, whatever the descriptor is.
        return Ok(fd);
    }
    for_pipe(caller, fd, |caller, handle| {
        let mut written = 0_u64;
        let result = loop {
            let step = waiting(caller, handle, |mut memory, process, deadline| {
                memory.bytes_mut(out, 4)?;
                let parts = vectors(&memory, list, count)?
                    .into_iter()
                    .map(|(at, len)| memory.bytes(at, len))
                    .collect::<Result<Vec<_>>>()?;
                let participant = process.participant();
                let end = end(process, handle)?;
                let total = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.len() as u64));
                // The number of written bytes has to fit into 32 bits.
                if total > u64::from(u32::MAX) {
                    return Err(Errno::Inval);
                }
                let now = byte_pipe::write(participant, end, &parts, written, deadline)?;
                Ok((now, written + now == total))
            });
            match step {
                Ok((now, is_all)) => {
                    written += now;
                    if is_all {
                        break Ok(());
                    }
                }
                Err(errno) => break Err(errno),
            }
        };
        match result {
            // The next write is told.
            Err(_) if written != 0 => {}
            Err(errno) => return wasi_errno(errno),
            Ok(()) => {}
        }
        code(view(caller).and_then(|(mut memory, _)| memory.store(out, [written as u32])))
    })
}

pub(super) fn fd_fdstat_get(caller: &mut Caller<'_, Guest>, fd: i32, out: i32) -> Passed {
    for_pipe(caller, fd, |caller, handle| {
        code(view(caller).and_then(|(mut memory, process)| {
            let end = end(process, handle)?.state;
            let reads = end.rights() & READABLE != 0;
            let rights = if reads { RIGHT_READ } else { RIGHT_WRITE };
            let flags = if end.is_nonblocking() { FLAG_NONBLOCK } else { 0 };
            let mut stat = [0; FDSTAT];
            put(&mut stat, 0, &[SOCKET_STREAM]);
            put(&mut stat, 2, &(flags as u16).to_le_bytes());
            put(&mut stat, 8, &(rights | RIGHT_SET_FLAGS | RIGHT_STAT | RIGHT_POLL).to_le_bytes());
            memory.bytes_mut(out, FDSTAT as i32)?.copy_from_slice(&stat);
            Ok(())
        }))
    })
}

pub(super) fn fd_fdstat_set_flags(caller: &mut Caller<'_, Guest>, fd: i32, flags: i32) -> Passed {
    for_pipe(caller, fd, |caller, handle| {
        // All that is written is appended.
        if flags & !(FLAG_NONBLOCK | FLAG_APPEND) != 0 {
            return ERRNO_INVAL;
        }
        let set = |process: &Process| {
            end(process, handle)?.state.set_nonblocking(flags & FLAG_NONBLOCK != 0);
            Ok(())
        };
        code(set(&caller.data().process))
    })
}

/// Bytes of a file's attributes, in preview 1.
const FILESTAT: usize = 64;

/// Bytes of a file's attributes, in preview 0.
const OLD_FILESTAT: usize = super::unstable::FILESTAT;

pub(super) fn fd_filestat_get(caller: &mut Caller<'_, Guest>, fd: i32, out: i32) -> Passed {
    filestat::<FILESTAT>(caller, fd, out)
}

pub(super) fn unstable_fd_filestat_get(caller: &mut Caller<'_, Guest>, fd: i32, out: i32) -> Passed {
    filestat::<OLD_FILESTAT>(caller, fd, out)
}

/// Both layouts begin with the number of the device, that of the file, and the type. The number of links comes next, in
/// other places.
fn filestat<const SIZE: usize>(caller: &mut Caller<'_, Guest>, fd: i32, out: i32) -> Passed {
    for_pipe(caller, fd, |caller, handle| {
        code(view(caller).and_then(|(mut memory, process)| {
            let number = end(process, handle)?.state.number(handle);
            let mut stat = [0; SIZE];
            put(&mut stat, 8, &number.to_le_bytes());
            put(&mut stat, 16, &[SOCKET_STREAM]);
            put(&mut stat, if SIZE == FILESTAT { 24 } else { 20 }, &[1]);
            memory.bytes_mut(out, SIZE as i32)?.copy_from_slice(&stat);
            Ok(())
        }))
    })
}

fn put(to: &mut [u8], at: usize, from: &[u8]) {
    to.iter_mut().skip(at).zip(from).for_each(|(to, from)| *to = *from);
}

pub(super) fn fd_close(caller: &mut Caller<'_, Guest>, fd: i32) -> Passed {
    if caller.data().process.descriptors.are_plain() {
        return Ok(fd);
    }
    Err(code(close(caller.data_mut(), fd as u32)))
}

pub(super) fn fd_renumber(caller: &mut Caller<'_, Guest>, fd: i32, to: i32) -> Passed {
    if caller.data().process.descriptors.are_plain() {
        return Ok(fd);
    }
    Err(code(renumber(caller.data_mut(), fd as u32, to as u32)))
}

/// Moves a descriptor to another number. As to the library, that number has to be open.
fn renumber(guest: &mut Guest, fd: u32, to: u32) -> Result<()> {
    let target = opened(guest, fd)?;
    opened(guest, to)?;
    if fd == to {
        return Ok(());
    }
    place(guest, target, to)?;
    close(guest, fd)
}

/// Makes a number that may be open mean this, which another number means.
fn place(guest: &mut Guest, target: Target, to: u32) -> Result<()> {
    if opened(guest, to).is_ok() {
        close(guest, to)?;
    }
    if let Target::Pipe(handle) = target {
        guest.process.hold(handle);
    }
    guest.process.descriptors.set(to, target);
    Ok(())
}

/// The kinds of open descriptors.
///
/// `BADF` if the number means nothing.
fn opened(guest: &mut Guest, fd: u32) -> Result<Target> {
    match guest.process.descriptors.target(fd) {
        Some(Target::Library(library)) if !is_open(guest, library as i32) => Err(Errno::Badf),
        Some(target) => Ok(target),
        None => Err(Errno::Badf),
    }
}

fn close(guest: &mut Guest, fd: u32) -> Result<()> {
    let target = opened(guest, fd)?;
    let descriptors = &mut guest.process.descriptors;
    match target {
        Target::Library(library) if library == fd => {
            if descriptors.has_copy(fd) {
                descriptors.entries.insert(fd, None);
                return Ok(());
            }
            close_in_library(guest, fd)
        }
        Target::Library(library) => {
            descriptors.clear(fd);
            if descriptors.means(library) {
                return Ok(());
            }
            // This was the last number that meant it; its own is free from now on.
            if descriptors.entries.get(&library) == Some(&None) {
                descriptors.entries.remove(&library);
            }
            close_in_library(guest, library)
        }
        Target::Pipe(handle) => {
            descriptors.clear(fd);
            // The guest may have released the handle by itself; then the end is closed already.
            match guest.process.release(handle) {
                Err(Errno::Badf) => Ok(()),
                released => released,
            }
        }
    }
}

fn close_in_library(guest: &mut Guest, fd: u32) -> Result<()> {
    // The function doesn't look at the memory.
    let mut memory = GuestMemory::Unshared(&mut []);
    let closed = preview1::fd_close(&mut guest.wasi, &mut memory, fd as i32);
    match at_once(closed) {
        Some(Ok(ERRNO_SUCCESS)) => Ok(()),
        Some(Ok(ERRNO_BADF)) => Err(Errno::Badf),
        Some(_) | None => Err(Errno::Io),
    }
}

/// The lowest number from `least` on that means nothing.
///
/// `INVAL` if there is none.
fn lowest_free(guest: &mut Guest, least: u32) -> Result<u32> {
    (least..NUMBERS).find(|fd| opened(guest, *fd).is_err()).ok_or(Errno::Inval)
}

/// Checks that there may be this number of pipes and copies more.
fn check_count(process: &Process, more: usize) -> Result<()> {
    let max = process.limits.open_files_max as usize;
    if process.descriptors.count().saturating_add(more) > max {
        process.refused(Limit::OpenFiles);
        return Err(Errno::Mfile);
    }
    Ok(())
}

/// Gives the guest a number for a descriptor that the library has opened, and has written the number of: another one if
/// this number means something else already.
pub(super) fn after_open(guest: &mut Guest, memory: &mut GuestMemory<'_>, out: i32) -> i32 {
    if guest.process.descriptors.are_plain() {
        return ERRNO_SUCCESS;
    }
    let out = GuestPtr::<u32>::new(out as u32);
    let Ok(library) = memory.read(out) else { return ERRNO_FAULT };
    if !guest.process.descriptors.entries.contains_key(&library) {
        return ERRNO_SUCCESS;
    }
    let found = check_count(&guest.process, 1).and_then(|()| lowest_free(guest, 0));
    match found {
        Ok(fd) if memory.write(out, fd).is_ok() => {
            guest.process.descriptors.set(fd, Target::Library(library));
            ERRNO_SUCCESS
        }
        found => {
            let _ = close_in_library(guest, library);
            found.map_or_else(wasi_errno, |_| ERRNO_FAULT)
        }
    }
}

/// Makes a pipe, and returns the descriptors of its ends.
pub(crate) fn pipe(guest: &mut Guest, nonblocking: bool) -> Result<[u32; 2]> {
    check_count(&guest.process, 2)?;
    let ends = guest.process.making(|participant| byte_pipe::create(participant, nonblocking))?;
    ends.into_iter().for_each(|end| guest.process.hold(end));
    let mut numbers = [0; 2];
    for (number, end) in numbers.iter_mut().zip(ends) {
        *number = lowest_free(guest, 0)?;
        guest.process.descriptors.set(*number, Target::Pipe(end));
    }
    Ok(numbers)
}

/// Makes a copy of a descriptor with the lowest number from `least` on.
pub(crate) fn duplicate(guest: &mut Guest, fd: u32, least: u32) -> Result<u32> {
    let target = opened(guest, fd)?;
    check_count(&guest.process, 1)?;
    let to = lowest_free(guest, least)?;
    place(guest, target, to)?;
    Ok(to)
}

/// Makes a copy of a descriptor with this number.
pub(crate) fn duplicate_to(guest: &mut Guest, fd: u32, to: u32) -> Result<u32> {
    let target = opened(guest, fd)?;
    if to >= NUMBERS {
        return Err(Errno::Inval);
    }
    if fd != to {
        let is_counted = guest.process.descriptors.entries.get(&to).is_some_and(Option::is_some);
        check_count(&guest.process, usize::from(!is_counted))?;
        place(guest, target, to)?;
    }
    Ok(to)
}

/// The handle of the end that a descriptor is for; the guest holds it once more.
pub(crate) fn handle(guest: &mut Guest, fd: u32) -> Result<Handle> {
    let Target::Pipe(handle) = opened(guest, fd)? else { return Err(Errno::Inval) };
    object::find(guest.process.participant(), handle)?;
    guest.process.hold(handle);
    Ok(handle)
}

/// Opens a descriptor for an end that the guest holds.
pub(crate) fn open(guest: &mut Guest, handle: Handle) -> Result<u32> {
    end(&guest.process, handle)?;
    check_count(&guest.process, 1)?;
    let fd = lowest_free(guest, 0)?;
    guest.process.hold(handle);
    guest.process.descriptors.set(fd, Target::Pipe(handle));
    Ok(fd)
}

/// The meaning of a descriptor to `poll_oneoff`.
pub(super) enum Polled {
    Closed,
    Library(u32),
    /// An end of a pipe, and whether it is one that reads.
    Pipe(Handle, bool),
}

pub(super) fn polled(guest: &mut Guest, fd: i32) -> Polled {
    match opened(guest, fd as u32) {
        Ok(Target::Library(library)) => Polled::Library(library),
        Ok(Target::Pipe(handle)) => match end(&guest.process, handle) {
            Ok(end) => Polled::Pipe(handle, end.state.rights() & READABLE != 0),
            Err(_) => Polled::Closed,
        },
        Err(_) => Polled::Closed,
    }
}
