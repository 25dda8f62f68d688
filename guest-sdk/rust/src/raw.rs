//! The imports as they are, and one safe function for each: the only unsafe code of this crate.
//!
//! A wrapper adds nothing but types. Its pointers come from references, so the host reads and writes only memory
//! that the call borrows, for as long as the call lasts: the host keeps no address beyond it.

#![allow(unsafe_code, reason = "imports take addresses; everything else in the crate goes through here")]

use bytemuck::Pod;
use sandpool_abi::Errno;
use sandpool_abi::queue::Part;

/// Declares the imports of a module, or, off wasm, functions of the same names that report that the import is
/// missing. So the crate compiles, and can be documented and linted, for the development machine.
macro_rules! imports {
    ($module:ident from $import_module:literal: $($safety:ident fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        #[cfg(target_arch = "wasm32")]
        mod $module {
            #[link(wasm_import_module = $import_module)]
            unsafe extern "C" {
                $(pub(super) $safety fn $name($($arg: $type),*) -> $result;)*
            }
        }
        #[cfg(not(target_arch = "wasm32"))]
        mod $module {
            $(imports!(@stub $safety $import_module $name($($arg: $type),*) -> $result);)*
        }
    };
    (@stub safe $module:literal $name:ident($($arg:ident: $type:ty),*) -> $result:ty) => {
        pub(super) fn $name($(_: $type),*) -> $result {
            panic!("{}.{} only works inside sandpool: build for wasm32-wasip1 and start it with `sandpool run`", $module, stringify!($name))
        }
    };
    (@stub unsafe $module:literal $name:ident($($arg:ident: $type:ty),*) -> $result:ty) => {
        pub(super) unsafe fn $name($(_: $type),*) -> $result {
            panic!("{}.{} only works inside sandpool: build for wasm32-wasip1 and start it with `sandpool run`", $module, stringify!($name))
        }
    };
}

imports! { sandpool_process from "sandpool_process":
    unsafe fn fork(name: *const u8, name_len: usize, flags: u32) -> i64;
    unsafe fn spawn(name: *const u8, name_len: usize, flags: u32, payload: *const u8, payload_len: usize, handles: *const u64, handle_count: usize) -> i64;
    unsafe fn entry(buffer: *mut u8, capacity: usize) -> i64;
    unsafe fn entry_handles(records: *mut sandpool_abi::handle::Record, capacity: usize) -> i64;
    safe fn current() -> i64;
    safe fn parent() -> i64;
    unsafe fn children(buffer: *mut u64, capacity: usize) -> i64;
    safe fn join(process: u64, timeout: u64) -> i32;
    unsafe fn status(process: u64, status: *mut sandpool_abi::process::Status) -> i32;
    safe fn signal(process: u64, signal: u32) -> i32;
    safe fn close(process: u64) -> i32;
    safe fn detach(process: u64) -> i32;
    unsafe fn info(process: u64, info: *mut sandpool_abi::process::Info) -> i32;
    unsafe fn name(process: u64, buffer: *mut u8, capacity: usize) -> i64;
    safe fn cpu_count() -> i32;
    safe fn limit(code: u32) -> i64;
    unsafe fn stderr(process: u64, buffer: *mut u8, capacity: usize) -> i64;
    safe fn mute(on: u32) -> i32;
}

imports! { sandpool_queue from "sandpool_queue":
    safe fn create(maxsize: u64, flags: u32) -> i64;
    unsafe fn put(queue: u64, item: *const u8, item_len: usize, handles: *const u64, handle_count: usize, timeout: u64) -> i32;
    unsafe fn put_parts(queue: u64, parts: *const sandpool_abi::queue::Part, part_count: usize, handles: *const u64, handle_count: usize, timeout: u64) -> i32;
    unsafe fn get(queue: u64, buffer: *mut u8, capacity: usize, timeout: u64, result: *mut sandpool_abi::queue::Item) -> i32;
    unsafe fn put_many(queue: u64, items: *const u8, items_len: usize, lens: *const u32, count: usize, timeout: u64) -> i64;
    unsafe fn get_many(queue: u64, buffer: *mut u8, capacity: usize, lens: *mut u32, count: usize, timeout: u64) -> i64;
    unsafe fn take(parts: *const sandpool_abi::queue::Part, part_count: usize, records: *mut sandpool_abi::handle::Record, record_capacity: usize) -> i32;
    unsafe fn peek(buffer: *mut u8, capacity: usize) -> i64;
    safe fn qsize(queue: u64) -> i64;
    safe fn maxsize(queue: u64) -> i64;
    safe fn close(queue: u64) -> i32;
    safe fn task_done(queue: u64) -> i32;
    safe fn join(queue: u64, timeout: u64) -> i64;
}

imports! { sandpool_pipe from "sandpool_pipe":
    unsafe fn create(capacity: u64, flags: u32, ends: *mut u64) -> i32;
    unsafe fn send(end: u64, message: *const u8, len: usize, handles: *const u64, handle_count: usize, timeout: u64) -> i32;
    unsafe fn send_parts(end: u64, parts: *const sandpool_abi::queue::Part, part_count: usize, handles: *const u64, handle_count: usize, timeout: u64) -> i32;
    unsafe fn recv(end: u64, buffer: *mut u8, capacity: usize, timeout: u64, result: *mut sandpool_abi::queue::Item) -> i32;
    safe fn flags(end: u64) -> i64;
    safe fn capacity(end: u64) -> i64;
}

imports! { sandpool_shared from "sandpool_shared":
    unsafe fn create(size: u64, flags: u32, name: *const u8, name_len: usize) -> i64;
    unsafe fn open(name: *const u8, name_len: usize) -> i64;
    unsafe fn unlink(name: *const u8, name_len: usize) -> i32;
    safe fn size(shared: u64) -> i64;
    unsafe fn name(shared: u64, buffer: *mut u8, capacity: usize) -> i64;
    safe fn map(shared: u64, flags: u32) -> i64;
    unsafe fn unmap(address: usize) -> i32;
    safe fn view(shared: u64) -> i64;
    unsafe fn read(shared: u64, offset: u64, buffer: *mut u8, len: usize) -> i32;
    unsafe fn write(shared: u64, offset: u64, bytes: *const u8, len: usize) -> i32;
    safe fn load(shared: u64, offset: u64, width: u32) -> i64;
    safe fn store(shared: u64, offset: u64, width: u32, value: u64) -> i64;
    safe fn rmw(shared: u64, offset: u64, width: u32, operation: u32, operand: u64) -> i64;
    safe fn compare_exchange(shared: u64, offset: u64, width: u32, expected: u64, new: u64) -> i64;
}

imports! { sandpool_sync from "sandpool_sync":
    safe fn lock_create(flags: u32) -> i64;
    safe fn lock_acquire(lock: u64, timeout: u64) -> i32;
    safe fn lock_release(lock: u64) -> i32;
    safe fn lock_held(lock: u64) -> i64;
    safe fn semaphore_create(value: u64, flags: u32) -> i64;
    safe fn semaphore_acquire(semaphore: u64, timeout: u64) -> i32;
    safe fn semaphore_release(semaphore: u64, count: u64) -> i32;
    safe fn semaphore_value(semaphore: u64) -> i64;
    safe fn semaphore_died(semaphore: u64) -> i64;
    safe fn event_create() -> i64;
    safe fn event_set(event: u64) -> i32;
    safe fn event_clear(event: u64) -> i32;
    safe fn event_is_set(event: u64) -> i64;
    safe fn event_wait(event: u64, timeout: u64) -> i32;
    safe fn condition_create() -> i64;
    safe fn condition_wait(condition: u64, lock: u64, timeout: u64) -> i64;
    safe fn condition_notify(condition: u64, lock: u64, count: u64) -> i64;
    safe fn barrier_create(parties: u64) -> i64;
    safe fn barrier_wait(barrier: u64, flags: u32, timeout: u64) -> i64;
    safe fn barrier_release(barrier: u64) -> i32;
    safe fn barrier_reset(barrier: u64) -> i32;
    safe fn barrier_abort(barrier: u64) -> i32;
    unsafe fn barrier_state(barrier: u64, state: *mut sandpool_abi::sync::Barrier) -> i32;
}

imports! { sandpool_task from "sandpool_task":
    safe fn begin(part: u32) -> i32;
    safe fn follow(shared: u64) -> i32;
    unsafe fn finish(queue: u64, item: *const u8, item_len: usize, handles: *const u64, handle_count: usize, timeout: u64) -> i32;
    unsafe fn finish_parts(queue: u64, parts: *const sandpool_abi::queue::Part, part_count: usize, handles: *const u64, handle_count: usize, timeout: u64) -> i32;
    unsafe fn claims(process: u64, claims: *mut sandpool_abi::task::Claims) -> i32;
    safe fn kill(process: u64, work: u64) -> i32;
    unsafe fn input(buffer: *mut u8, capacity: usize) -> i64;
    unsafe fn output(bytes: *const u8, len: usize) -> i32;
}

imports! { wasi from "wasi_snapshot_preview1":
    unsafe fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> i32;
}

imports! { sandpool_handle from "sandpool_handle":
    safe fn retain(object: u64) -> i32;
    safe fn release(object: u64) -> i32;
    safe fn record(object: u64, tag: u32, partner: u64) -> i32;
    unsafe fn wait(handles: *const u64, count: usize, timeout: u64, ready: *mut u8) -> i64;
}

/// Converts an error number. A number that this version of the contract doesn't have can only come from a damaged
/// arena.
#[cold]
fn errno(code: i32) -> Errno {
    Errno::from_code(code).unwrap_or(Errno::Io)
}

#[inline]
fn done(code: i32) -> Result<(), Errno> {
    if code == 0 { Ok(()) } else { Err(errno(code)) }
}

/// Makes a call that tells other processes something: the call isn't made while this process is [mute].
#[inline]
fn told(call: impl FnOnce() -> i32) -> Result<(), Errno> {
    if mute::is_on() { Ok(()) } else { done(call()) }
}

/// Checks before a call that waits for other processes, which may never have been told of the reason: while this
/// process is [mute], the result is `errno`.
#[inline]
fn unless_mute(errno: Errno) -> Result<(), Errno> {
    if mute::is_on() { Err(errno) } else { Ok(()) }
}

/// Silence while a process drops its copies of values that it has moved into a new child, or sent to it. Destructors run,
/// and give back memory, files and handles; but only the child, with its own copies, tells others anything.
pub(crate) mod mute {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::sandpool_process as import;

    static IS_ON: AtomicBool = AtomicBool::new(false);

    #[inline]
    pub(crate) fn is_on() -> bool {
        IS_ON.load(Ordering::Relaxed)
    }

    /// Drops a value silently.
    pub(crate) fn drop<T>(value: T) {
        if std::mem::needs_drop::<T>() {
            set(true);
            std::mem::drop(value);
            // Bytes that are left in the buffer would be written later. The buffer was empty before, because everything is
            // flushed for a new process.
            let _ = std::io::stdout().flush();
            set(false);
        }
    }

    /// Does work that belongs to this process itself, also where it is part of a value that is dropped.
    pub(crate) fn aloud<T>(work: impl FnOnce() -> T) -> T {
        let was_on = is_on();
        end();
        let done = work();
        if was_on {
            set(true);
        }
        done
    }

    /// Ends the silence after a destructor has panicked, because the panic must be reported.
    pub(crate) fn end() {
        if is_on() {
            set(false);
        }
    }

    /// Sets the silence for files and standard streams, which the host handles.
    fn set(is_on: bool) {
        IS_ON.store(is_on, Ordering::Relaxed);
        // The call can't fail.
        let _ = import::mute(u32::from(is_on));
    }
}

fn value(result: i64) -> Result<u64, Errno> {
    u64::try_from(result).map_err(|_| errno(i32::try_from(result.saturating_neg()).unwrap_or(i32::MAX)))
}

fn length(result: i64) -> Result<usize, Errno> {
    usize::try_from(value(result)?).map_err(|_| Errno::Io)
}

/// Tells the host where bytes are, or are to be written.
fn part(at: *const u8, len: usize) -> Part {
    // The host finds the bytes by their address: for the compiler, the host may use whatever has been exposed.
    Part { at: at.expose_provenance() as u32, len: len as u32 }
}

/// Makes the function for two imports: one takes an item as a whole, the other in parts, if its bytes lie in several
/// places.
macro_rules! put {
    ($name:ident: $whole:path, $in_parts:path) => {
        pub(crate) fn $name(
            to: u64,
            item: &[&[u8]],
            handles: &[u64],
            timeout: u64,
        ) -> Result<(), sandpool_abi::Errno> {
            let (list, count) = (handles.as_ptr(), handles.len());
            super::told(|| match item {
                // SAFETY: the host reads the bytes of the item and `count` 64-bit values, kept readable by their
                // references, and keeps copies.
                [item] => unsafe { $whole(to, item.as_ptr(), item.len(), list, count, timeout) },
                item => {
                    let parts: Vec<_> =
                        item.iter().map(|bytes| super::part(bytes.as_ptr(), bytes.len())).collect();
                    // SAFETY: as above; and before, the parts, which are kept as long.
                    unsafe { $in_parts(to, parts.as_ptr(), parts.len(), list, count, timeout) }
                }
            })
        }
    };
}

/// Makes a vector of this length that is written without being cleared before. Returns `None` if there is no memory
/// for it.
///
/// # Safety
/// `write` gets the address of this number of elements, and if it returns no error, it has had all of them written.
unsafe fn written<E: Pod>(
    len: usize,
    write: impl FnOnce(*mut E) -> Result<(), Errno>,
) -> Option<Result<Vec<E>, Errno>> {
    let mut elements = Vec::new();
    elements.try_reserve_exact(len).ok()?;
    Some(write(elements.as_mut_ptr()).map(|()| {
        // SAFETY: there is room for them, and all were written, by this function's contract. Any bits are an element.
        unsafe { elements.set_len(len) };
        elements
    }))
}

pub(crate) mod process {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Errno, done, length, sandpool_process as import, value};
    use sandpool_abi::handle::Record;
    use sandpool_abi::process::{Info, Status};

    /// Returns the child's handle; `None` in the child.
    pub(crate) fn fork(name: &str, flags: u32) -> Result<Option<u64>, Errno> {
        super::unless_mute(Errno::Perm)?;
        // SAFETY: the host reads `name.len()` bytes at `name`, which the reference keeps readable. Both processes
        // return to here, each with a memory of its own, so nothing is owned twice; the guest has one thread, so no
        // lock of another thread is copied in a locked state.
        let handle = value(unsafe { import::fork(name.as_ptr(), name.len(), flags) })?;
        if handle == 0 {
            CURRENT.store(0, Ordering::Relaxed);
        }
        Ok((handle != 0).then_some(handle))
    }

    pub(crate) fn spawn(name: &str, flags: u32, payload: &[u8], handles: &[u64]) -> Result<u64, Errno> {
        super::unless_mute(Errno::Perm)?;
        // SAFETY: the host reads the bytes of `name`, those of `payload`, and `handles.len()` 64-bit values, all kept
        // readable by their references, and keeps copies.
        value(unsafe {
            import::spawn(
                name.as_ptr(),
                name.len(),
                flags,
                payload.as_ptr(),
                payload.len(),
                handles.as_ptr(),
                handles.len(),
            )
        })
    }

    /// Returns the whole length of the payload.
    pub(crate) fn entry(buffer: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which the reference keeps writable; any
        // byte is a valid `u8`.
        length(unsafe { import::entry(buffer.as_mut_ptr(), buffer.len()) })
    }

    /// Returns the number of handles.
    pub(crate) fn entry_handles(records: &mut [Record]) -> Result<usize, Errno> {
        // SAFETY: the host writes at most `records.len()` records (24 bytes of plain integers) there, which the reference
        // keeps writable and aligned; any bits are valid in them.
        length(unsafe { import::entry_handles(records.as_mut_ptr(), records.len()) })
    }

    /// The result of `current` in this process, because guards ask for it each time. 0 if it must be asked for.
    static CURRENT: AtomicU64 = AtomicU64::new(0);

    #[inline]
    pub(crate) fn current() -> Result<u64, Errno> {
        match CURRENT.load(Ordering::Relaxed) {
            0 => ask_current(),
            current => Ok(current),
        }
    }

    #[cold]
    fn ask_current() -> Result<u64, Errno> {
        let current = value(import::current())?;
        CURRENT.store(current, Ordering::Relaxed);
        Ok(current)
    }

    pub(crate) fn parent() -> Result<u64, Errno> {
        value(import::parent())
    }

    /// Returns the number of children.
    pub(crate) fn children(buffer: &mut [u64]) -> Result<usize, Errno> {
        // SAFETY: the host writes at most `buffer.len()` values of 64 bits at `buffer`, which the reference keeps
        // writable and aligned; any bits are a valid `u64`.
        length(unsafe { import::children(buffer.as_mut_ptr(), buffer.len()) })
    }

    pub(crate) fn join(process: u64, timeout: u64) -> Result<(), Errno> {
        super::unless_mute(Errno::Child)?;
        done(import::join(process, timeout))
    }

    pub(crate) fn status(process: u64) -> Result<Status, Errno> {
        let mut status = Status { kind: 0, detail: 0, exitcode: 0, reserved: 0, figure: 0 };
        // SAFETY: the host writes one `Status` there: 24 bytes, little-endian as wasm is, of plain integers, for which
        // any bits are valid.
        done(unsafe { import::status(process, &raw mut status) })?;
        Ok(status)
    }

    pub(crate) fn signal(process: u64, signal: u32) -> Result<(), Errno> {
        super::told(|| import::signal(process, signal))
    }

    pub(crate) fn close(process: u64) -> Result<(), Errno> {
        done(import::close(process))
    }

    pub(crate) fn detach(process: u64) -> Result<(), Errno> {
        done(import::detach(process))
    }

    pub(crate) fn info(process: u64) -> Result<Info, Errno> {
        let mut info = Info { handle: 0, pid: 0, parent_pid: 0, flags: 0, alive: 0 };
        // SAFETY: the host writes one `Info` there: 24 bytes, little-endian as wasm is, of plain integers, for which
        // any bits are valid.
        done(unsafe { import::info(process, &raw mut info) })?;
        Ok(info)
    }

    pub(crate) fn name(process: u64) -> Result<String, Errno> {
        let mut buffer = [0; sandpool_abi::NAME_MAX];
        // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which is exclusively ours; any byte is a
        // valid `u8`.
        let len = length(unsafe { import::name(process, buffer.as_mut_ptr(), buffer.len()) })?;
        let name = buffer.get(..len).ok_or(Errno::Io)?;
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    pub(crate) fn cpu_count() -> i32 {
        import::cpu_count()
    }

    /// The figure of a limit, if it is set. Off wasm there is no limit: an error can be shown there as well.
    pub(crate) fn limit(code: u32) -> Option<u64> {
        if cfg!(target_arch = "wasm32") { value(import::limit(code)).ok() } else { None }
    }

    /// Returns the whole length of the kept text.
    pub(crate) fn stderr(process: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which the reference keeps writable; any
        // byte is a valid `u8`.
        length(unsafe { import::stderr(process, buffer.as_mut_ptr(), buffer.len()) })
    }
}

pub(crate) mod queue {
    use bytemuck::Pod;

    use super::{Errno, done, length, part, sandpool_queue as import, value, written};
    use sandpool_abi::handle::Record;
    use sandpool_abi::queue::Item;

    pub(crate) fn create(maxsize: u64, flags: u32) -> Result<u64, Errno> {
        value(import::create(maxsize, flags))
    }

    put!(put: import::put, import::put_parts);

    pub(crate) fn get(queue: u64, buffer: &mut [u8], timeout: u64) -> Result<Item, Errno> {
        super::unless_mute(Errno::Closed)?;
        let mut item = Item { len: 0, handle_count: 0, held: 0 };
        // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, and one `Item` (16 bytes of plain
        // integers) at `item`; both are exclusively ours, so they don't overlap, and any bits are valid in them.
        done(unsafe { import::get(queue, buffer.as_mut_ptr(), buffer.len(), timeout, &raw mut item) })?;
        Ok(item)
    }

    /// Returns the number of items that were put. The sum of `lens` is the length of `items`.
    pub(crate) fn put_many(queue: u64, items: &[u8], lens: &[u32], timeout: u64) -> Result<usize, Errno> {
        if super::mute::is_on() {
            return Ok(lens.len());
        }
        // SAFETY: the host reads the bytes of `items` and `lens.len()` 32-bit values, kept readable by their
        // references, and keeps copies.
        length(unsafe {
            import::put_many(queue, items.as_ptr(), items.len(), lens.as_ptr(), lens.len(), timeout)
        })
    }

    /// Returns the number of items that were taken.
    pub(crate) fn get_many(
        queue: u64,
        buffer: &mut [u8],
        lens: &mut [u32],
        timeout: u64,
    ) -> Result<usize, Errno> {
        super::unless_mute(Errno::Closed)?;
        // SAFETY: the host writes at most `buffer.len()` bytes and `lens.len()` values of 32 bits there; both are
        // exclusively ours, so they don't overlap, and any bits are valid in them.
        length(unsafe {
            import::get_many(queue, buffer.as_mut_ptr(), buffer.len(), lens.as_mut_ptr(), lens.len(), timeout)
        })
    }

    pub(crate) fn take(buffer: &mut [u8], records: &mut [Record]) -> Result<(), Errno> {
        let parts = [part(buffer.as_mut_ptr(), buffer.len())];
        // SAFETY: the host reads the part, and writes at most `buffer.len()` bytes and `records.len()` records (24 bytes of
        // plain integers) there; both are exclusively ours, so they don't overlap, and any bits are valid in them.
        done(unsafe { import::take(parts.as_ptr(), parts.len(), records.as_mut_ptr(), records.len()) })
    }

    /// Takes the held item, which is `head` and a number of elements after it. `None` if there is no memory for the
    /// elements.
    pub(crate) fn take_vec<E: Pod>(
        head: &mut [u8],
        len: usize,
        records: &mut [Record],
    ) -> Option<Result<Vec<E>, Errno>> {
        let take = |to: *mut E| {
            let parts = [part(head.as_mut_ptr(), head.len()), part(to.cast(), len * size_of::<E>())];
            // SAFETY: the host reads the parts, and writes at most as many bytes as they say, and `records.len()` records
            // of plain integers. All are exclusively ours, so they don't overlap, and any bits are valid in them.
            done(unsafe { import::take(parts.as_ptr(), parts.len(), records.as_mut_ptr(), records.len()) })
        };
        // SAFETY: if there is no error, the host has written all of the item, which is as long as both parts: it has said
        // so itself.
        unsafe { written(len, take) }
    }

    /// Copies the first bytes of the held item, and returns its whole length.
    pub(crate) fn peek(buffer: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the host writes at most `buffer.len()` bytes there, which are exclusively ours; any bits are valid.
        length(unsafe { import::peek(buffer.as_mut_ptr(), buffer.len()) })
    }

    pub(crate) fn qsize(queue: u64) -> Result<usize, Errno> {
        length(import::qsize(queue))
    }

    pub(crate) fn maxsize(queue: u64) -> Result<usize, Errno> {
        length(import::maxsize(queue))
    }

    pub(crate) fn close(queue: u64) -> Result<(), Errno> {
        super::told(|| import::close(queue))
    }

    pub(crate) fn task_done(queue: u64) -> Result<(), Errno> {
        super::told(|| import::task_done(queue))
    }

    /// Returns the number of items that were lost since the queue was made.
    pub(crate) fn join(queue: u64, timeout: u64) -> Result<usize, Errno> {
        super::unless_mute(Errno::Perm)?;
        length(import::join(queue, timeout))
    }
}

pub(crate) mod handle {
    use super::{Errno, done, length, sandpool_handle as import};

    /// Adds one use.
    pub(crate) fn retain(object: u64) -> Result<(), Errno> {
        done(import::retain(object))
    }

    pub(crate) fn release(object: u64) -> Result<(), Errno> {
        done(import::release(object))
    }

    /// Records the use of a new object, and the object that belongs to it; 0 if none does.
    pub(crate) fn record(object: u64, tag: u32, partner: u64) -> Result<(), Errno> {
        done(import::record(object, tag, partner))
    }

    /// Returns the number of ready handles. `ready` has one byte for each handle.
    pub(crate) fn wait(handles: &[u64], timeout: u64, ready: &mut [u8]) -> Result<usize, Errno> {
        super::unless_mute(Errno::Perm)?;
        if ready.len() < handles.len() {
            return Err(Errno::Inval);
        }
        // SAFETY: the host reads `handles.len()` values at `handles` and writes as many bytes at `ready`, which
        // is at least that long; both are kept valid by their references and don't overlap, as one is exclusive.
        length(unsafe { import::wait(handles.as_ptr(), handles.len(), timeout, ready.as_mut_ptr()) })
    }
}

/// The host calls this after an abort.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
extern "C" fn sandpool_aborted() {
    crate::start::aborted();
}

/// Functions as numbers that another process of the same module understands: indices into its function table.
pub(crate) mod function {
    /// The function with which any process of a module can be entered: it gets the number of the function to run, and
    /// the encoded arguments, and returns the exit code.
    pub(crate) type Trampoline = fn(u64, &[u8], crate::codec::Handles) -> u8;

    /// The function that a worker of a pool calls for a task.
    pub(crate) type Task = fn(&mut crate::pool::Turn<'_>);

    /// The number of a task function.
    pub(crate) fn task_number(task: Task) -> u64 {
        task as usize as u64
    }

    /// A function's number.
    pub(crate) fn number<A, T>(function: fn(A) -> T) -> u64 {
        function as usize as u64
    }

    /// The number of a function with a state before its arguments.
    pub(crate) fn partial_number<S, A, T>(function: fn(&S, A) -> T) -> u64 {
        function as usize as u64
    }

    /// A trampoline's number.
    pub(crate) fn trampoline_number(trampoline: Trampoline) -> u64 {
        trampoline as usize as u64
    }

    /// Returns the function of a number, or `None` for 0, which is never a function's number.
    ///
    /// # Safety
    /// The number is that of a function of type `F`, in a process of the same module.
    unsafe fn function<F: Copy>(number: u64) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<*const ()>(), "not a function pointer") };
        let address = usize::try_from(number).ok().filter(|address| *address != 0)?;
        let pointer = std::ptr::with_exposed_provenance::<()>(address);
        // SAFETY: `F` is as large as a pointer (checked above) and a function pointer type; by this function's
        // contract the number is that of a function of type `F`, it isn't null, and all processes of a module have
        // the same function table.
        Some(unsafe { std::mem::transmute_copy::<*const (), F>(&pointer) })
    }

    /// Returns the function with this number.
    pub(crate) fn from_number<A, T>(number: u64) -> Option<fn(A) -> T> {
        // SAFETY: a trampoline for `A` and `T` calls this with the number that `spawn` put beside its own, and the
        // start of the process checked that the payload is from the same build. WebAssembly checks the signature of
        // an indirect call, so that even a damaged number is a trap of this process and no more.
        unsafe { function(number) }
    }

    /// Returns the function with a state before its arguments that has this number.
    pub(crate) fn partial_from_number<S, A, T>(number: u64) -> Option<fn(&S, A) -> T> {
        // SAFETY: `call_with` for `S`, `A` and `T` calls this with the number that the owner of its pool put beside its
        // caller's, in a process of the same module; a damaged number is a trap, as above.
        unsafe { function(number) }
    }

    /// Returns the task function with this number.
    pub(crate) fn task_from_number(number: u64) -> Option<Task> {
        // SAFETY: a worker calls this with what its pool's owner got from `task_number`, in a process of the same module;
        // a damaged number is a trap, as above.
        unsafe { function(number) }
    }

    /// Returns the trampoline with this number.
    pub(crate) fn trampoline_from_number(number: u64) -> Option<Trampoline> {
        // SAFETY: the start of the process calls this with what `spawn` put into the payload, after the check that
        // the payload is from the same build; a damaged number is a trap, as above.
        unsafe { function(number) }
    }
}

/// WASI's clock, where a `std::time::Instant` isn't enough, because the host has reported a time.
pub(crate) mod clock {
    use super::wasi as import;

    const MONOTONIC: u32 = 1;

    /// Returns nanoseconds of the monotonic clock, which all processes and the host share.
    pub(crate) fn monotonic() -> u64 {
        let mut time = 0;
        // SAFETY: the host writes 8 bytes there, which is exclusively ours; any bits are a valid `u64`. The call
        // doesn't fail for an existing clock; if it fails, the time is 0.
        let _ = unsafe { import::clock_time_get(MONOTONIC, 1, &raw mut time) };
        time
    }
}

/// Casts between types that are equal, where only the caller's type parameter knows it.
pub(crate) mod cast {
    use std::any::TypeId;
    use std::mem::{ManuallyDrop, transmute_copy};
    use std::ptr::{copy_nonoverlapping, from_ref};

    use bytemuck::Pod;

    use super::written;
    use crate::Bytes;

    /// # Safety
    /// A type without a lifetime; `typeid` takes types that differ only in lifetimes for the same.
    pub(crate) unsafe trait Whole: 'static {}

    macro_rules! whole {
        ($($type:ty),*) => {
            // SAFETY: the type has no lifetime.
            $(unsafe impl Whole for $type {})*
        };
    }

    whole!(Bytes, String, Vec<u8>, Vec<u16>, Vec<u32>, Vec<u64>);
    whole!(Vec<i8>, Vec<i16>, Vec<i32>, Vec<i64>, Vec<f32>, Vec<f64>);

    #[inline(always)]
    pub(crate) fn is_same<T: ?Sized, U: Whole>() -> bool {
        typeid::of::<T>() == TypeId::of::<U>()
    }

    pub(crate) fn as_same<T: ?Sized, U: Whole>(value: &T) -> Option<&U> {
        // SAFETY: the types are the same: `typeid` tells types apart except for their lifetimes, and `U` has none. So this is
        // the original reference.
        is_same::<T, U>().then(|| unsafe { &*from_ref(value).cast::<U>() })
    }

    pub(crate) fn into_same<T, U: Whole>(value: U) -> Option<T> {
        is_same::<T, U>().then(|| {
            let value = ManuallyDrop::new(value);
            // SAFETY: the types are the same, as above, and `ManuallyDrop` has the layout of its content. The original is
            // neither used nor dropped after it was copied.
            unsafe { transmute_copy::<ManuallyDrop<U>, T>(&value) }
        })
    }

    /// The opposite of `into_same`; a value of another type is given back.
    pub(crate) fn from_same<T, U: Whole>(value: T) -> Result<U, T> {
        if !is_same::<T, U>() {
            return Err(value);
        }
        let value = ManuallyDrop::new(value);
        // SAFETY: as in `into_same`.
        Ok(unsafe { transmute_copy::<ManuallyDrop<T>, U>(&value) })
    }

    /// Whether the type is one of the types that are a vector of bytes.
    pub(crate) fn is_bytes<T: ?Sized>() -> bool {
        is_same::<T, Vec<u8>>() || is_same::<T, Bytes>()
    }

    /// Returns the bytes of a value of such a type.
    pub(crate) fn as_bytes<T: ?Sized>(value: &T) -> Option<&[u8]> {
        let bytes = as_same::<T, Bytes>(value).map(|bytes| &**bytes);
        bytes.or_else(|| as_same::<T, Vec<u8>>(value)).map(Vec::as_slice)
    }

    /// Makes a value of such a type.
    pub(crate) fn from_bytes<T>(bytes: Vec<u8>) -> Option<T> {
        if is_same::<T, Bytes>() { into_same(Bytes::from(bytes)) } else { into_same(bytes) }
    }

    /// Makes a vector of elements from their bytes; a remainder shorter than an element is ignored. `None` if there is no
    /// memory for it.
    pub(crate) fn vec_from_bytes<E: Pod>(bytes: &[u8]) -> Option<Vec<E>> {
        let len = bytes.len() / size_of::<E>();
        let copy = |to: *mut E| {
            // SAFETY: as many elements of this size are readable at `bytes`, and there is room for them at `to`, in a new
            // allocation; so they don't overlap. Any bits are an element.
            unsafe { copy_nonoverlapping(bytes.as_ptr(), to.cast(), len * size_of::<E>()) };
            Ok(())
        };
        // SAFETY: all elements were written.
        unsafe { written(len, copy) }?.ok()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn vectors_of_bytes_and_nothing_else() {
            assert_eq!(as_bytes(&vec![1_u8, 2]), Some([1, 2].as_slice()));
            assert_eq!(as_bytes(&Bytes::from(vec![1, 2])), Some([1, 2].as_slice()));
            assert_eq!(from_bytes::<Vec<u8>>(vec![1, 2]), Some(vec![1, 2]));
            assert_eq!(from_bytes::<Bytes>(vec![1, 2]), Some(Bytes::from(vec![1, 2])));
            assert_eq!(as_bytes(&vec![1_i8, 2]), None);
            assert_eq!(as_bytes("text"), None);
            assert_eq!(from_bytes::<(&str, Vec<u8>)>(vec![1]), None);
        }
    }
}

/// Values as their bytes, for a worker of the same program.
pub(crate) mod value {
    use std::ptr::{copy_nonoverlapping, from_ref};

    /// Appends the bytes of a value.
    ///
    /// Bytes between the fields may be uninitialized. They may be copied on, and given to the host; nothing here looks
    /// at them.
    ///
    /// # Safety
    /// A worker that [`read`]s the bytes may have such a value: see
    /// [`Pool::partial_by_value`](crate::Pool::partial_by_value).
    pub(crate) unsafe fn append<S: Copy + 'static>(bytes: &mut Vec<u8>, value: &S) {
        let (len, size) = (bytes.len(), size_of::<S>());
        bytes.reserve(size);
        // SAFETY: `value` is readable for its size, and after `reserve` the vector writable for as many bytes behind its
        // first `len`; they don't overlap, as the vector is exclusively ours. The copy is untyped, so bytes between fields
        // may be uninitialized and stay so, and pointers stay pointers. All bytes up to the new length were written by it,
        // within the capacity; what isn't initialized of them is only copied in the same way, into a message
        // (`extend_from_slice`), and that is read by the host, to which any bits are bytes.
        unsafe {
            copy_nonoverlapping(from_ref(value).cast(), bytes.as_mut_ptr().add(len), size);
            bytes.set_len(len + size);
        }
    }

    /// Returns the value, if the number of bytes is its size.
    pub(crate) fn read<S: Copy + 'static>(bytes: &[u8]) -> Option<S> {
        // SAFETY: as many bytes are readable, aligned or not, and all were written by the host. `call_by_value` for `S`
        // calls this, whose number the owner of a pool put beside what it had from `append` for `S`, for its workers alone,
        // which are processes of the same program. So they are a valid `S` in the owner, and by the contract of `append`
        // here as well. Pointers among them come from the host: as from any foreign code.
        (bytes.len() == size_of::<S>()).then(|| unsafe { bytes.as_ptr().cast::<S>().read_unaligned() })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn values_are_read_as_they_were_written() {
            let value = (1_u8, u128::MAX - 7);
            let mut bytes = vec![0];
            // SAFETY: the value refers to nothing.
            unsafe { append(&mut bytes, &value) };
            assert_eq!(bytes.get(1..).and_then(read), Some(value));
            assert_eq!(read::<()>(&[]), Some(()));
            // One too many, and one too few.
            assert_eq!(read::<(u8, u128)>(&bytes), None);
            assert_eq!(bytes.get(2..).and_then(read::<(u8, u128)>), None);
            assert_eq!(read::<()>(&[0]), None);
        }
    }
}

pub(crate) mod task {
    use super::{Errno, done, length, sandpool_task as import, written};
    use sandpool_abi::task::Claims;

    pub(crate) fn begin(part: u32) -> Result<(), Errno> {
        done(import::begin(part))
    }

    pub(crate) fn follow(shared: u64) -> Result<(), Errno> {
        done(import::follow(shared))
    }

    put!(finish: import::finish, import::finish_parts);

    pub(crate) fn claims(process: u64) -> Result<Claims, Errno> {
        let mut claims = Claims { first: 0, end: 0, work: 0, since: 0, part: 0, reserved: 0 };
        // SAFETY: the host writes one `Claims` (40 bytes of plain integers) there, which is exclusively ours, and any
        // bits are valid in it.
        done(unsafe { import::claims(process, &raw mut claims) })?;
        Ok(claims)
    }

    pub(crate) fn kill(process: u64, work: u64) -> Result<(), Errno> {
        done(import::kill(process, work))
    }

    /// Returns the whole length of the input.
    pub(crate) fn input(buffer: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which the reference keeps writable; any
        // byte is a valid `u8`.
        length(unsafe { import::input(buffer.as_mut_ptr(), buffer.len()) })
    }

    /// The input, which has this length. `None` if there is no memory for it.
    pub(crate) fn input_vec(len: usize) -> Option<Result<Vec<u8>, Errno>> {
        // SAFETY: the host writes at most `len` bytes, and returns how many the input has.
        let input = |to| length(unsafe { import::input(to, len) });
        // SAFETY: if there is no error, then as many bytes were written.
        unsafe { written(len, |to| if input(to)? == len { Ok(()) } else { Err(Errno::Io) }) }
    }

    pub(crate) fn output(bytes: &[u8]) -> Result<(), Errno> {
        // SAFETY: the host reads the bytes of `bytes`, kept readable by the reference, and keeps a copy.
        done(unsafe { import::output(bytes.as_ptr(), bytes.len()) })
    }
}

pub(crate) mod pipe {
    use super::{Errno, done, sandpool_pipe as import, value};
    use sandpool_abi::queue::Item;

    /// Returns both ends.
    pub(crate) fn create(capacity: u64, flags: u32) -> Result<[u64; 2], Errno> {
        let mut ends = [0; 2];
        // SAFETY: the host writes two values of 64 bits there, which is what the array has room for; any bits are a
        // valid `u64`.
        done(unsafe { import::create(capacity, flags, ends.as_mut_ptr()) })?;
        Ok(ends)
    }

    put!(send: import::send, import::send_parts);

    pub(crate) fn recv(end: u64, buffer: &mut [u8], timeout: u64) -> Result<Item, Errno> {
        super::unless_mute(Errno::Closed)?;
        let mut item = Item { len: 0, handle_count: 0, held: 0 };
        // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, and one `Item` (16 bytes of plain
        // integers) at `item`; both are exclusively ours, so they don't overlap, and any bits are valid in them.
        done(unsafe { import::recv(end, buffer.as_mut_ptr(), buffer.len(), timeout, &raw mut item) })?;
        Ok(item)
    }

    pub(crate) fn flags(end: u64) -> Result<u32, Errno> {
        u32::try_from(value(import::flags(end))?).map_err(|_| Errno::Io)
    }

    pub(crate) fn capacity(end: u64) -> Result<u64, Errno> {
        value(import::capacity(end))
    }
}

pub(crate) mod shared {
    use super::{Errno, done, length, sandpool_shared as import, value};
    use crate::object::Object;
    use bytemuck::Pod;
    use std::marker::PhantomData;
    use std::ptr::with_exposed_provenance_mut;
    use std::slice;
    use std::sync::Arc;

    pub(crate) fn create(size: u64, flags: u32, name: &str) -> Result<u64, Errno> {
        // SAFETY: the host reads `name.len()` bytes at `name`, which the reference keeps readable.
        value(unsafe { import::create(size, flags, name.as_ptr(), name.len()) })
    }

    pub(crate) fn open(name: &str) -> Result<u64, Errno> {
        // SAFETY: as in `create`.
        value(unsafe { import::open(name.as_ptr(), name.len()) })
    }

    /// Returns a handle by which the memory can only be read.
    pub(crate) fn view(shared: u64) -> Result<u64, Errno> {
        value(import::view(shared))
    }

    pub(crate) fn unlink(name: &str) -> Result<(), Errno> {
        // SAFETY: as in `create`.
        super::told(|| unsafe { import::unlink(name.as_ptr(), name.len()) })
    }

    pub(crate) fn size(shared: u64) -> Result<u64, Errno> {
        value(import::size(shared))
    }

    /// Returns the name; empty if the memory has none.
    pub(crate) fn name(shared: u64) -> Result<String, Errno> {
        let mut buffer = [0; sandpool_abi::NAME_MAX];
        // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which is exclusively ours; any byte is a
        // valid `u8`.
        let len = length(unsafe { import::name(shared, buffer.as_mut_ptr(), buffer.len()) })?;
        let name = buffer.get(..len).ok_or(Errno::Io)?;
        Ok(String::from_utf8_lossy(name).into_owned())
    }

    /// The host makes this copy, so no other process's store can fall into a load of this one's.
    pub(crate) fn read(shared: u64, offset: u64, buffer: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which is exclusively ours; any byte is a
        // valid `u8`.
        done(unsafe { import::read(shared, offset, buffer.as_mut_ptr(), buffer.len()) })
    }

    pub(crate) fn write(shared: u64, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        // SAFETY: the host reads the bytes of `bytes`, kept readable by the reference. It refuses to if this process
        // has mapped them, so what it writes to isn't among them.
        super::told(|| unsafe { import::write(shared, offset, bytes.as_ptr(), bytes.len()) })
    }

    /// Traps if the offset or the width is bad, like the next three functions.
    pub(crate) fn load(shared: u64, offset: u64, width: u32) -> u64 {
        import::load(shared, offset, width).cast_unsigned()
    }

    pub(crate) fn store(shared: u64, offset: u64, width: u32, value: u64) {
        if !super::mute::is_on() {
            import::store(shared, offset, width, value);
        }
    }

    /// Returns the previous value.
    pub(crate) fn rmw(shared: u64, offset: u64, width: u32, operation: u32, operand: u64) -> u64 {
        if super::mute::is_on() {
            return load(shared, offset, width);
        }
        import::rmw(shared, offset, width, operation, operand).cast_unsigned()
    }

    /// Returns the previous value.
    pub(crate) fn compare_exchange(shared: u64, offset: u64, width: u32, expected: u64, new: u64) -> u64 {
        if super::mute::is_on() {
            return load(shared, offset, width);
        }
        import::compare_exchange(shared, offset, width, expected, new).cast_unsigned()
    }

    /// Shared memory at addresses of this process, or of one that was forked from it: a fork has what its creator has
    /// mapped.
    ///
    /// The memory belongs to none of Rust's allocations: like the memory of a device, others change it. So the safe
    /// accessors are volatile, one load or store each.
    pub(crate) struct Mapping {
        address: usize,
        len: usize,
        /// Without a use of the handle, the host would unmap it.
        object: Arc<Object>,
    }

    impl Mapping {
        /// Maps all `len` bytes of the object.
        pub(crate) fn new(object: Arc<Object>, len: usize, flags: u32) -> Result<Self, Errno> {
            let address = length(import::map(object.handle(), flags))?;
            // The code below relies on all three. Wasm's pages of 64 KiB are aligned for any type.
            let fits = address.checked_add(len).is_some() && isize::try_from(len).is_ok();
            if address == 0 || address % 65_536 != 0 || !fits {
                return Err(Errno::Io);
            }
            Ok(Self { address, len, object })
        }

        pub(crate) fn handle(&self) -> u64 {
            self.object.handle()
        }

        /// Returns the address of an element.
        #[inline]
        fn element<T: Pod>(&self, index: usize) -> Option<*mut T> {
            const { assert!(size_of::<T>() > 0, "elements have a size") }
            const { assert!(align_of::<T>() <= 65_536, "no page of wasm is aligned so") }
            let end = index.checked_add(1)?.checked_mul(size_of::<T>())?;
            (end <= self.len).then(|| with_exposed_provenance_mut::<T>(self.address).wrapping_add(index))
        }

        /// One load, if an element is 1, 2, 4 or 8 bytes of plain integer or float.
        #[inline]
        pub(crate) fn get<T: Pod>(&self, index: usize) -> Option<T> {
            let element = self.element::<T>(index)?;
            // SAFETY: it is inside of what is mapped for as long as `self` lives, and aligned, as `new` and `element`
            // have checked; any bytes are a valid `T`, which is `Pod`. Other processes may store at the same time, which a
            // volatile load is for. In this process, nobody has a `&mut` there: see `slice_mut`.
            Some(unsafe { element.read_volatile() })
        }

        /// One store, likewise. Returns `None` if the element is outside.
        #[inline]
        pub(crate) fn set<T: Pod>(&self, index: usize, value: T) -> Option<()> {
            let element = self.element::<T>(index)?;
            // SAFETY: as in `get`; nor does anybody have a `&` there. If it was mapped to be read only then this traps.
            unsafe { element.write_volatile(value) };
            Some(())
        }

        /// One store for each 8 bytes, starting at the 8 bytes of this index; missing bytes of the last 8 are 0. Returns the
        /// number of stores. `None`, and no store, if they aren't all inside.
        #[inline(always)]
        pub(crate) fn set_words(&self, index: usize, bytes: &[u8]) -> Option<usize> {
            let (words, rest) = bytes.as_chunks::<8>();
            let count = words.len() + usize::from(!rest.is_empty());
            let last = index.checked_add(count)?.checked_sub(1)?;
            self.element::<u64>(last)?;
            let first = self.element::<u64>(index)?;
            let write = |at, word| {
                // SAFETY: as in `set`, for an element from `first` to `last`, which are inside.
                unsafe { first.wrapping_add(at).write_volatile(u64::from_le_bytes(word)) };
            };
            match words {
                // A number and the bytes before it: not worth a loop.
                [one, two] => {
                    write(0, *one);
                    write(1, *two);
                }
                _ => words.iter().enumerate().for_each(|(at, word)| write(at, *word)),
            }
            if !rest.is_empty() {
                let mut word = [0; 8];
                word.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
                write(words.len(), word);
            }
            Some(count)
        }

        /// The first `len` elements.
        ///
        /// # Safety
        /// While the slice lives, nobody stores to them: not in this process, nor in any other.
        pub(crate) unsafe fn slice<T: Pod>(&self, len: usize) -> Option<&[T]> {
            let first = self.all::<T>(len)?;
            // SAFETY: `len` elements are inside of what is mapped for as long as `self` lives, and aligned; any bytes are a
            // valid `T`, and by this function's contract none changes.
            Some(unsafe { slice::from_raw_parts(first, len) })
        }

        /// The first `len` elements.
        ///
        /// # Safety
        /// While the slice lives, nobody loads or stores them in another way: not in this process, nor in any other.
        #[allow(
            clippy::mut_from_ref,
            reason = "the memory isn't that of `self`, and the caller has it alone"
        )]
        pub(crate) unsafe fn slice_mut<T: Pod>(&self, len: usize) -> Option<&mut [T]> {
            let first = self.all::<T>(len)?;
            // SAFETY: as in `slice`; by this function's contract the slice is the only way to them.
            Some(unsafe { slice::from_raw_parts_mut(first, len) })
        }

        fn all<T: Pod>(&self, len: usize) -> Option<*mut T> {
            match len.checked_sub(1) {
                Some(last) => self.element::<T>(last).map(|element| element.wrapping_sub(last)),
                None => Some(with_exposed_provenance_mut(self.address)),
            }
        }
    }

    impl Drop for Mapping {
        fn drop(&mut self) {
            // SAFETY: no reference into it is left, as each borrows the mapping (or, from a public function that is unsafe,
            // the object that owns it). If that fails then nothing was mapped there.
            let _ = unsafe { import::unmap(self.address) };
        }
    }

    /// A slice of a mapping that nobody else uses.
    pub(crate) struct Exclusive<T> {
        mapping: Arc<Mapping>,
        len: usize,
        elements: PhantomData<T>,
    }

    impl<T: Pod> Exclusive<T> {
        /// # Safety
        /// While it lives, nobody loads or stores the first `len` elements in another way: not in this process, nor in
        /// any other, nor in a copy of this process.
        pub(crate) unsafe fn new(mapping: Arc<Mapping>, len: usize) -> Result<Self, Errno> {
            mapping.all::<T>(len).ok_or(Errno::Io)?;
            Ok(Self { mapping, len, elements: PhantomData })
        }

        pub(crate) fn handle(&self) -> u64 {
            self.mapping.handle()
        }

        pub(crate) fn as_slice(&self) -> &[T] {
            // SAFETY: by the contract of `new`, only through `self` are they stored to, which this borrows.
            unsafe { self.mapping.slice(self.len) }.unwrap_or_default()
        }

        pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
            // SAFETY: by the contract of `new`, only through `self` are they used, which this borrows exclusively.
            unsafe { self.mapping.slice_mut(self.len) }.unwrap_or_default()
        }
    }
}

pub(crate) mod sync {
    use super::{Errno, done, sandpool_sync as import, value};
    use sandpool_abi::sync::Barrier;

    pub(crate) fn lock_create(flags: u32) -> Result<u64, Errno> {
        value(import::lock_create(flags))
    }

    /// `Errno::Ownerdead` is an error with which the lock is acquired.
    #[inline]
    pub(crate) fn lock_acquire(lock: u64, timeout: u64) -> Result<(), Errno> {
        done(import::lock_acquire(lock, timeout))
    }

    #[inline]
    pub(crate) fn lock_release(lock: u64) -> Result<(), Errno> {
        done(import::lock_release(lock))
    }

    pub(crate) fn lock_held(lock: u64) -> Result<u64, Errno> {
        value(import::lock_held(lock))
    }

    pub(crate) fn semaphore_create(units: u64, flags: u32) -> Result<u64, Errno> {
        value(import::semaphore_create(units, flags))
    }

    pub(crate) fn semaphore_acquire(semaphore: u64, timeout: u64) -> Result<(), Errno> {
        done(import::semaphore_acquire(semaphore, timeout))
    }

    pub(crate) fn semaphore_release(semaphore: u64, count: u64) -> Result<(), Errno> {
        done(import::semaphore_release(semaphore, count))
    }

    pub(crate) fn semaphore_value(semaphore: u64) -> Result<u64, Errno> {
        value(import::semaphore_value(semaphore))
    }

    pub(crate) fn semaphore_died(semaphore: u64) -> Result<u64, Errno> {
        value(import::semaphore_died(semaphore))
    }

    pub(crate) fn event_create() -> Result<u64, Errno> {
        value(import::event_create())
    }

    pub(crate) fn event_set(event: u64) -> Result<(), Errno> {
        super::told(|| import::event_set(event))
    }

    pub(crate) fn event_clear(event: u64) -> Result<(), Errno> {
        super::told(|| import::event_clear(event))
    }

    pub(crate) fn event_is_set(event: u64) -> Result<bool, Errno> {
        Ok(value(import::event_is_set(event))? != 0)
    }

    pub(crate) fn event_wait(event: u64, timeout: u64) -> Result<(), Errno> {
        super::unless_mute(Errno::Perm)?;
        done(import::event_wait(event, timeout))
    }

    pub(crate) fn condition_create() -> Result<u64, Errno> {
        value(import::condition_create())
    }

    /// Returns what happened: `NOTIFIED` and `OWNER_DIED`, or neither.
    pub(crate) fn condition_wait(condition: u64, lock: u64, timeout: u64) -> Result<u64, Errno> {
        super::unless_mute(Errno::Perm)?;
        value(import::condition_wait(condition, lock, timeout))
    }

    /// Returns the number of processes that were woken.
    pub(crate) fn condition_notify(condition: u64, lock: u64, count: u64) -> Result<u64, Errno> {
        if super::mute::is_on() {
            return Ok(0);
        }
        value(import::condition_notify(condition, lock, count))
    }

    pub(crate) fn barrier_create(parties: u64) -> Result<u64, Errno> {
        value(import::barrier_create(parties))
    }

    /// Returns the caller's index, and `ACT`.
    pub(crate) fn barrier_wait(barrier: u64, flags: u32, timeout: u64) -> Result<u64, Errno> {
        super::unless_mute(Errno::Perm)?;
        value(import::barrier_wait(barrier, flags, timeout))
    }

    pub(crate) fn barrier_release(barrier: u64) -> Result<(), Errno> {
        done(import::barrier_release(barrier))
    }

    pub(crate) fn barrier_reset(barrier: u64) -> Result<(), Errno> {
        super::told(|| import::barrier_reset(barrier))
    }

    pub(crate) fn barrier_abort(barrier: u64) -> Result<(), Errno> {
        super::told(|| import::barrier_abort(barrier))
    }

    pub(crate) fn barrier_state(barrier: u64) -> Result<Barrier, Errno> {
        let mut state = Barrier { parties: 0, waiting: 0, broken: 0, reserved: 0 };
        // SAFETY: the host writes one `Barrier` there: 24 bytes, little-endian as wasm is, of plain integers, for which
        // any bits are valid.
        done(unsafe { import::barrier_state(barrier, &raw mut state) })?;
        Ok(state)
    }
}
