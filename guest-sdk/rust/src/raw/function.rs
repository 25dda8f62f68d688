//! Functions as numbers that another process of the same module understands: indices into its function table.
//!
//! The numbers come from processes of the same module only, and each caller asks for the type of function whose number
//! it has. WebAssembly checks the signature of an indirect call, so that even a damaged number is a trap of this
//! process and no more.

/// The function with which any process of a module can be entered: it gets the number of the function to run, and
/// the encoded arguments with their handles, and returns the exit code.
pub(crate) type Trampoline<H> = fn(u64, &[u8], H) -> u8;

/// A function's number.
pub(crate) fn number<A, T>(function: fn(A) -> T) -> u64 {
    function as usize as u64
}

/// The number of a function with a state before its arguments.
pub(crate) fn number_with_state<S, A, T>(function: fn(&S, A) -> T) -> u64 {
    function as usize as u64
}

/// A trampoline's number.
pub(crate) fn trampoline_number<H>(trampoline: Trampoline<H>) -> u64 {
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
    // SAFETY: callers have the number from `number` for the same `A` and `T`. A function that is generic in both calls
    // this with what was sent beside its own number, by a process of the same module, or what a worker got from its
    // creator; a spawned process has checked that its payload is from the same build. A damaged number is a trap, as
    // above.
    unsafe { function(number) }
}

/// Returns the function with a state before its arguments that has this number.
pub(crate) fn from_number_with_state<S, A, T>(number: u64) -> Option<fn(&S, A) -> T> {
    // SAFETY: callers have the number from `number_with_state` for the same `S`, `A` and `T`: a function that is
    // generic in all three calls this with what was sent beside its own number, by a process of the same module. A
    // damaged number is a trap, as above.
    unsafe { function(number) }
}

/// Returns the trampoline with this number.
pub(crate) fn trampoline_from_number<H>(number: u64) -> Option<Trampoline<H>> {
    // SAFETY: the start of the process calls this with what its creator put into the payload by `trampoline_number` for
    // the only `H` that there is, after the check that the payload is from the same build. A damaged number is a trap,
    // as above.
    unsafe { function(number) }
}
