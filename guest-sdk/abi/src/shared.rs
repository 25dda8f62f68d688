//! `sandpool_shared`: memory that several processes see.
//!
//! A piece of shared memory is *mapped* into the guest's own memory, where plain loads and stores reach it; that
//! takes whole pages of WebAssembly, 64 KiB each, of the guest's addresses. Or it is reached by `read`, `write` and
//! the atomic functions, which need no address. Offsets and sizes are in bytes.

imports! { shared_imports, "sandpool_shared":
    /// Makes shared memory of `size` zero bytes and returns its handle. With a name (1 to
    /// [`NAME_MAX`](crate::NAME_MAX) bytes of UTF-8), other processes of the run can `open` it, and it stays
    /// until it is unlinked. Flags: [`SMALL`](super::SMALL), [`OWNED`](super::OWNED). `INVAL` if the size is 0,
    /// or too large for the flag; `MSGSIZE` if the arena is smaller, `NOMEM` if it has no such room now, `EXIST`
    /// if the name is taken.
    unsafe fn create(size: u64, flags: u32, name: *const u8, name_len: usize) -> i64;
    /// Returns the handle of the shared memory with this name. `NOENT`. Where each task of a host has a process of its
    /// own, a task doesn't see names that other tasks have made.
    unsafe fn open(name: *const u8, name_len: usize) -> i64;
    /// Takes a name away. Processes that hold the named memory keep it. `NOENT`; `PERM` in such a task, if the name
    /// isn't the task's own.
    unsafe fn unlink(name: *const u8, name_len: usize) -> i32;
    /// Returns the size in bytes.
    safe fn size(shared: u64) -> i64;
    /// Copies the name of the memory, which stays after it was unlinked, and returns its whole length; 0 if the
    /// memory has no name.
    unsafe fn name(shared: u64, buffer: *mut u8, capacity: usize) -> i64;
    /// Maps all of the memory into the caller's memory and returns the address. With [`READ_ONLY`](super::READ_ONLY),
    /// a store there traps; without it, the result is `PERM` for a view. `INVAL` if the memory is
    /// [`SMALL`](super::SMALL), `NOMEM` if the guest's memory can't grow that far. Mapped memory may not be passed to
    /// WASI, nor to other imports: `FAULT`.
    safe fn map(shared: u64, flags: u32) -> i64;
    /// Undoes a `map`. The addresses then read as zeroes, can't be written, and are for later calls of `map`.
    /// `INVAL` if nothing was mapped at that address. The mapping is undone as well when the caller releases its
    /// last use of the handle.
    unsafe fn unmap(address: usize) -> i32;
    /// Copies bytes out, from `offset`. `INVAL` if they don't lie inside.
    unsafe fn read(shared: u64, offset: u64, buffer: *mut u8, len: usize) -> i32;
    /// Makes a view of shared memory that was made without [`SMALL`](super::SMALL): an object of its own, by whose
    /// handle the same bytes can be read and not changed. Give the view's handle to processes that may only read. A
    /// view of a view is a view of the same memory.
    safe fn view(shared: u64) -> i64;
    /// Copies bytes in. `INVAL` if they don't lie inside; `PERM` for a view.
    unsafe fn write(shared: u64, offset: u64, bytes: *const u8, len: usize) -> i32;
    /// Loads an integer of `width` bytes (1, 2, 4 or 8), zero-extended. This function and the next three are
    /// sequentially consistent, and trap if the handle or the width is bad, or the offset isn't inside or not a
    /// multiple of the width; the next three also trap for a view.
    safe fn load(shared: u64, offset: u64, width: u32) -> i64;
    /// Stores an integer. Always returns 0.
    safe fn store(shared: u64, offset: u64, width: u32, value: u64) -> i64;
    /// Changes an integer by one of the operations from [`ADD`](super::ADD) on, and returns its previous value.
    safe fn rmw(shared: u64, offset: u64, width: u32, operation: u32, operand: u64) -> i64;
    /// Replaces an integer that equals `expected` (of which only `width` bytes count) by `desired`, and returns its
    /// previous value.
    safe fn compare_exchange(shared: u64, offset: u64, width: u32, expected: u64, desired: u64) -> i64;
}

constants! {
    /// Flag of `create`: at most [`SMALL_MAX`] bytes, which take no page of their own, but can't be mapped.
    SMALL: u32 = 1;
    /// The largest size with [`SMALL`].
    SMALL_MAX: u64 = 512;
    /// Flag of `create`: the memory is unlinked when the caller releases its last use of the handle, or ends, in
    /// whatever way.
    OWNED: u32 = 2;
    /// Flag of `map`; and of a view's [`kind`](crate::handle::Record::kind).
    READ_ONLY: u32 = 1;
    /// Operation of `rmw`: add, wrapping.
    ADD: u32 = 0;
    /// Operation of `rmw`: subtract, wrapping.
    SUB: u32 = 1;
    /// Operation of `rmw`: bitwise and.
    AND: u32 = 2;
    /// Operation of `rmw`: bitwise or.
    OR: u32 = 3;
    /// Operation of `rmw`: bitwise exclusive or.
    XOR: u32 = 4;
    /// Operation of `rmw`: replace.
    SWAP: u32 = 5;
}

layouts! {}
