//! The imports as they are, and one safe function for each: the only unsafe code of this crate.
//!
//! A wrapper adds nothing but types. Its pointers come from references, so the host reads and writes only memory
//! that the call borrows, for as long as the call lasts: the host keeps no address beyond it.

#![allow(unsafe_code, reason = "imports take addresses; everything else in the crate goes through here")]

use sandpool_abi::Errno;

/// Declares the imports of a module, or, off wasm, functions of the same names that say what is missing. So the
/// crate compiles, and can be documented and linted, for the machine that one works on.
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
    unsafe fn entry_handles(buffer: *mut u64, capacity: usize) -> i64;
    safe fn current() -> i64;
    safe fn parent() -> i64;
    unsafe fn children(buffer: *mut u64, capacity: usize) -> i64;
    safe fn join(process: u64, timeout: u64) -> i32;
    unsafe fn wait(processes: *const u64, count: usize, timeout: u64, ready: *mut u8) -> i64;
    unsafe fn status(process: u64, status: *mut sandpool_abi::process::Status) -> i32;
    safe fn signal(process: u64, signal: u32) -> i32;
    safe fn close(process: u64) -> i32;
    safe fn detach(process: u64) -> i32;
    unsafe fn info(process: u64, info: *mut sandpool_abi::process::Info) -> i32;
    unsafe fn name(process: u64, buffer: *mut u8, capacity: usize) -> i64;
    safe fn cpu_count() -> i32;
}

imports! { sandpool_queue from "sandpool_queue":
    safe fn create(maxsize: u64) -> i64;
    unsafe fn put(queue: u64, item: *const u8, item_len: usize, handles: *const u64, handle_count: usize, timeout: u64) -> i32;
    unsafe fn get(queue: u64, buffer: *mut u8, capacity: usize, timeout: u64, result: *mut sandpool_abi::queue::Item) -> i32;
    unsafe fn take(buffer: *mut u8, capacity: usize, handles: *mut u64, handle_capacity: usize) -> i32;
    safe fn qsize(queue: u64) -> i64;
    safe fn maxsize(queue: u64) -> i64;
    safe fn close(queue: u64) -> i32;
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

imports! { sandpool_handle from "sandpool_handle":
    safe fn release(object: u64) -> i32;
}

/// A number that this version of the contract doesn't have can only come from a damaged arena.
fn errno(code: i32) -> Errno {
    Errno::from_code(code).unwrap_or(Errno::Io)
}

fn done(code: i32) -> Result<(), Errno> {
    if code == 0 { Ok(()) } else { Err(errno(code)) }
}

fn value(result: i64) -> Result<u64, Errno> {
    u64::try_from(result).map_err(|_| errno(i32::try_from(result.saturating_neg()).unwrap_or(i32::MAX)))
}

fn length(result: i64) -> Result<usize, Errno> {
    usize::try_from(value(result)?).map_err(|_| Errno::Io)
}

pub(crate) mod process {
    use super::{Errno, done, length, sandpool_process as import, value};
    use sandpool_abi::process::{Info, Status};

    /// The child's handle; `None` in the child.
    pub(crate) fn fork(name: &str, flags: u32) -> Result<Option<u64>, Errno> {
        // SAFETY: the host reads `name.len()` bytes at `name`, which the reference keeps readable. Both processes
        // return to here, each with a memory of its own, so nothing is owned twice; the guest has one thread, so no
        // lock of another thread is copied in a locked state.
        let handle = value(unsafe { import::fork(name.as_ptr(), name.len(), flags) })?;
        Ok((handle != 0).then_some(handle))
    }

    pub(crate) fn spawn(name: &str, flags: u32, payload: &[u8], handles: &[u64]) -> Result<u64, Errno> {
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

    /// The whole length of the payload.
    pub(crate) fn entry(buffer: &mut [u8]) -> Result<usize, Errno> {
        // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which the reference keeps writable; any
        // byte is a valid `u8`.
        length(unsafe { import::entry(buffer.as_mut_ptr(), buffer.len()) })
    }

    /// How many handles there are.
    pub(crate) fn entry_handles(buffer: &mut [u64]) -> Result<usize, Errno> {
        // SAFETY: the host writes at most `buffer.len()` values of 64 bits at `buffer`, which the reference keeps
        // writable and aligned; any bits are a valid `u64`.
        length(unsafe { import::entry_handles(buffer.as_mut_ptr(), buffer.len()) })
    }

    pub(crate) fn current() -> Result<u64, Errno> {
        value(import::current())
    }

    pub(crate) fn parent() -> Result<u64, Errno> {
        value(import::parent())
    }

    /// How many children there are.
    pub(crate) fn children(buffer: &mut [u64]) -> Result<usize, Errno> {
        // SAFETY: the host writes at most `buffer.len()` values of 64 bits at `buffer`, which the reference keeps
        // writable and aligned; any bits are a valid `u64`.
        length(unsafe { import::children(buffer.as_mut_ptr(), buffer.len()) })
    }

    pub(crate) fn join(process: u64, timeout: u64) -> Result<(), Errno> {
        done(import::join(process, timeout))
    }

    /// How many are ready. `ready` has one byte for each process.
    pub(crate) fn wait(processes: &[u64], timeout: u64, ready: &mut [u8]) -> Result<usize, Errno> {
        if ready.len() < processes.len() {
            return Err(Errno::Inval);
        }
        // SAFETY: the host reads `processes.len()` values at `processes` and writes as many bytes at `ready`, which
        // is at least that long; both are kept valid by their references and don't overlap, as one is exclusive.
        length(unsafe { import::wait(processes.as_ptr(), processes.len(), timeout, ready.as_mut_ptr()) })
    }

    pub(crate) fn status(process: u64) -> Result<Status, Errno> {
        let mut status = Status { kind: 0, detail: 0, exitcode: 0, reserved: 0 };
        // SAFETY: the host writes one `Status` there: 16 bytes, little-endian as wasm is, of plain integers, for which
        // any bits are valid.
        done(unsafe { import::status(process, &raw mut status) })?;
        Ok(status)
    }

    pub(crate) fn signal(process: u64, signal: u32) -> Result<(), Errno> {
        done(import::signal(process, signal))
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
}

pub(crate) mod queue {
    use super::{Errno, done, length, sandpool_queue as import, value};
    use sandpool_abi::queue::Item;

    pub(crate) fn create(maxsize: u64) -> Result<u64, Errno> {
        value(import::create(maxsize))
    }

    pub(crate) fn put(queue: u64, item: &[u8], handles: &[u64], timeout: u64) -> Result<(), Errno> {
        // SAFETY: the host reads the bytes of `item` and `handles.len()` 64-bit values, kept readable by their
        // references, and keeps copies.
        done(unsafe {
            import::put(queue, item.as_ptr(), item.len(), handles.as_ptr(), handles.len(), timeout)
        })
    }

    pub(crate) fn get(queue: u64, buffer: &mut [u8], timeout: u64) -> Result<Item, Errno> {
        let mut item = Item { len: 0, handle_count: 0, held: 0 };
        // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, and one `Item` (16 bytes of plain
        // integers) at `item`; both are exclusively ours, so they don't overlap, and any bits are valid in them.
        done(unsafe { import::get(queue, buffer.as_mut_ptr(), buffer.len(), timeout, &raw mut item) })?;
        Ok(item)
    }

    pub(crate) fn take(buffer: &mut [u8], handles: &mut [u64]) -> Result<(), Errno> {
        // SAFETY: the host writes at most `buffer.len()` bytes and `handles.len()` 64-bit values there; both are
        // exclusively ours, so they don't overlap, and any bits are valid in them.
        done(unsafe { import::take(buffer.as_mut_ptr(), buffer.len(), handles.as_mut_ptr(), handles.len()) })
    }

    pub(crate) fn qsize(queue: u64) -> Result<usize, Errno> {
        length(import::qsize(queue))
    }

    pub(crate) fn maxsize(queue: u64) -> Result<usize, Errno> {
        length(import::maxsize(queue))
    }

    pub(crate) fn close(queue: u64) -> Result<(), Errno> {
        done(import::close(queue))
    }
}

pub(crate) mod handle {
    use super::{Errno, done, sandpool_handle as import};

    pub(crate) fn release(object: u64) -> Result<(), Errno> {
        done(import::release(object))
    }
}

/// Functions as numbers that another process of the same module understands: indices into its function table.
pub(crate) mod function {
    /// What every process of a module can be entered with: the number of the function to run, and its encoded
    /// arguments. It returns the exit code.
    pub(crate) type Trampoline = fn(u64, &[u8], Vec<u64>) -> u8;

    /// A function's number.
    pub(crate) fn number<A, T>(function: fn(A) -> T) -> u64 {
        function as usize as u64
    }

    /// A trampoline's number.
    pub(crate) fn trampoline_number(trampoline: Trampoline) -> u64 {
        trampoline as usize as u64
    }

    /// The function of a number, or `None` for 0, which is never one.
    ///
    /// # Safety
    /// The number is one that `number` returned for the same `A` and `T`, in a process of the same module.
    unsafe fn function<F: Copy>(number: u64) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<*const ()>(), "not a function pointer") };
        let address = usize::try_from(number).ok().filter(|address| *address != 0)?;
        let pointer = std::ptr::with_exposed_provenance::<()>(address);
        // SAFETY: `F` is as large as a pointer (checked above) and a function pointer type; by this function's
        // contract the number is that of a function of type `F`, it isn't null, and all processes of a module have
        // the same function table.
        Some(unsafe { std::mem::transmute_copy::<*const (), F>(&pointer) })
    }

    /// The function that was numbered.
    pub(crate) fn from_number<A, T>(number: u64) -> Option<fn(A) -> T> {
        // SAFETY: a trampoline for `A` and `T` calls this with the number that `spawn` put beside its own, and the
        // start of the process checked that the payload is from the same build. WebAssembly checks the signature of
        // an indirect call, so that even a damaged number is a trap of this process and no more.
        unsafe { function(number) }
    }

    /// The trampoline that was numbered.
    pub(crate) fn trampoline_from_number(number: u64) -> Option<Trampoline> {
        // SAFETY: the start of the process calls this with what `spawn` put into the payload, after the check that
        // the payload is from the same build; a damaged number is a trap, as above.
        unsafe { function(number) }
    }
}

pub(crate) mod sync {
    use super::{Errno, done, sandpool_sync as import, value};
    use sandpool_abi::sync::Barrier;

    pub(crate) fn lock_create(flags: u32) -> Result<u64, Errno> {
        value(import::lock_create(flags))
    }

    /// `Errno::Ownerdead` is an error with which the lock is acquired.
    pub(crate) fn lock_acquire(lock: u64, timeout: u64) -> Result<(), Errno> {
        done(import::lock_acquire(lock, timeout))
    }

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
        done(import::event_set(event))
    }

    pub(crate) fn event_clear(event: u64) -> Result<(), Errno> {
        done(import::event_clear(event))
    }

    pub(crate) fn event_is_set(event: u64) -> Result<bool, Errno> {
        Ok(value(import::event_is_set(event))? != 0)
    }

    pub(crate) fn event_wait(event: u64, timeout: u64) -> Result<(), Errno> {
        done(import::event_wait(event, timeout))
    }

    pub(crate) fn condition_create() -> Result<u64, Errno> {
        value(import::condition_create())
    }

    /// What happened: `NOTIFIED` and `OWNER_DIED`, or neither.
    pub(crate) fn condition_wait(condition: u64, lock: u64, timeout: u64) -> Result<u64, Errno> {
        value(import::condition_wait(condition, lock, timeout))
    }

    /// How many were woken.
    pub(crate) fn condition_notify(condition: u64, lock: u64, count: u64) -> Result<u64, Errno> {
        value(import::condition_notify(condition, lock, count))
    }

    pub(crate) fn barrier_create(parties: u64) -> Result<u64, Errno> {
        value(import::barrier_create(parties))
    }

    /// The caller's index, and `ACT`.
    pub(crate) fn barrier_wait(barrier: u64, flags: u32, timeout: u64) -> Result<u64, Errno> {
        value(import::barrier_wait(barrier, flags, timeout))
    }

    pub(crate) fn barrier_release(barrier: u64) -> Result<(), Errno> {
        done(import::barrier_release(barrier))
    }

    pub(crate) fn barrier_reset(barrier: u64) -> Result<(), Errno> {
        done(import::barrier_reset(barrier))
    }

    pub(crate) fn barrier_abort(barrier: u64) -> Result<(), Errno> {
        done(import::barrier_abort(barrier))
    }

    pub(crate) fn barrier_state(barrier: u64) -> Result<Barrier, Errno> {
        let mut state = Barrier { parties: 0, waiting: 0, broken: 0, reserved: 0 };
        // SAFETY: the host writes one `Barrier` there: 24 bytes, little-endian as wasm is, of plain integers, for which
        // any bits are valid.
        done(unsafe { import::barrier_state(barrier, &raw mut state) })?;
        Ok(state)
    }
}
