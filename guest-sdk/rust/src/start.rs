//! How a process begins and ends: what [`macro@crate::main`] calls, and what a forked or spawned process runs.

use std::cell::Cell;
use std::fmt::Display;
use std::panic::{self, PanicHookInfo};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use sandpool_abi::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{DecodeError, Error};
use crate::handles::Handles;
use crate::logging::{self, Escaped, complain};
use crate::{codec, raw};

/// A value that a process may return, because it gives an exit code.
///
/// `()` is 0; a number is the number modulo 256, as in the operating system; an error is 1, with its message on
/// stderr.
///
/// ```no_run
/// use sandpool_guest::Process;
///
/// Process::fork(|| println!("0"))?;
/// Process::fork(|| 3)?;
/// Process::fork(|| -> Result<(), std::num::ParseIntError> {
///     println!("1, and why: {}", "x".parse::<u8>()?);
///     Ok(())
/// })?;
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// A closure that never returns is accepted, too. The trait can't be implemented for other types.
#[diagnostic::on_unimplemented(
    message = "a process can't end with `{Self}`",
    note = "it ends with `()`, an exit code (`i32`), or a `Result` of those whose error can be displayed"
)]
pub trait Termination: sealed::Sealed {
    /// Returns the exit code, after writing any report to stderr.
    fn exit_code(self) -> u8;

    /// Returns the text to report, if the exit code isn't 0; writes nothing.
    #[doc(hidden)]
    fn failure(self) -> Option<String>;
}

impl Termination for () {
    fn exit_code(self) -> u8 {
        0
    }

    fn failure(self) -> Option<String> {
        None
    }
}

impl Termination for i32 {
    fn exit_code(self) -> u8 {
        self.to_le_bytes()[0]
    }

    fn failure(self) -> Option<String> {
        (self.exit_code() != 0).then(|| format!("exit code {self}"))
    }
}

/// For a closure that only panics, exits, or loops for ever.
impl Termination for Never {
    fn exit_code(self) -> u8 {
        self
    }

    fn failure(self) -> Option<String> {
        self
    }
}

impl<T: Termination, E: Display> Termination for Result<T, E> {
    fn exit_code(self) -> u8 {
        match self {
            Ok(value) => value.exit_code(),
            Err(error) => {
                // Error types with a chain of causes show the chain in the alternate form.
                complain(&format!("error: {error:#}"));
                1
            }
        }
    }

    fn failure(self) -> Option<String> {
        match self {
            Ok(value) => value.failure(),
            Err(error) => Some(format!("{error:#}")),
        }
    }
}

/// The type `!`, which stable Rust has as a result but not yet as a type that can be named.
///
/// The trait is sealed because of an impl for this type: other crates' impls would be taken to overlap with one for a
/// projection.
type Never = <fn() -> ! as sealed::Function>::Result;

mod sealed {
    pub trait Sealed {}

    impl Sealed for () {}
    impl Sealed for i32 {}
    impl Sealed for super::Never {}
    impl<T, E> Sealed for Result<T, E> {}

    pub trait Function {
        type Result;
    }

    impl<T> Function for fn() -> T {
        type Result = T;
    }
}

static STARTED: AtomicBool = AtomicBool::new(false);

/// Runs `main` in the main process, or, in a spawned process, the function that it was spawned with; then ends the
/// process. [`macro@crate::main`] calls it.
pub fn run<T: Termination>(main: fn() -> T) -> ! {
    prepare();
    STARTED.store(true, Ordering::Relaxed);
    let code = match entered() {
        Ok(Some(code)) => code,
        Ok(None) => main().exit_code(),
        Err(error) => Err::<(), _>(error).exit_code(),
    };
    exit(code)
}

/// Whether a spawned process would find its function.
pub(crate) fn has_entry_point() -> bool {
    STARTED.load(Ordering::Relaxed)
}

/// Makes a panic end this process with a message that names it.
pub(crate) fn prepare() {
    static PREPARED: AtomicBool = AtomicBool::new(false);
    // Done once, so that a hook that the program has set since then stays.
    if !PREPARED.swap(true, Ordering::Relaxed) {
        panic::set_hook(Box::new(|panic| panicked(panic)));
    }
}

/// Ends this process, which panics.
pub(crate) fn panicked(panic: &PanicHookInfo<'_>) -> ! {
    raw::mute::end();
    tell(panic);
    report_panic(panic);
    exit(PANICKED)
}

/// The exit code of a process that panics.
const PANICKED: u8 = 1;

/// Goes on after an abort, and returns the exit code in the end; `None` if it can't.
pub(crate) type Resume = fn() -> Option<u8>;

thread_local! {
    static RESUME: Cell<Option<Resume>> = const { Cell::new(None) };
}

/// Has this process go on by a function when it aborts.
pub(crate) fn resume_by(resume: Resume) {
    RESUME.set(Some(resume));
}

/// Handles an abort. A panic comes to an abort if its hook returns: either a hook of the program that doesn't call the SDK's, or
/// the standard library's hook in a program without [`macro@crate::main`]. Such an abort still counts as a panic.
#[cfg(target_arch = "wasm32")]
fn aborted() {
    if let Some(code) = RESUME.get().and_then(|resume| resume()) {
        exit(code)
    }
    if thread::panicking() {
        raw::mute::end();
        if let Some(told) = TOLD.take() {
            told("its hook kept the message");
        }
        exit(PANICKED)
    }
}

raw::export_aborted!(aborted);

type Told = Box<dyn FnOnce(&str)>;

thread_local! {
    /// The function that is told of a panic, once.
    static TOLD: Cell<Option<Told>> = const { Cell::new(None) };
}

/// Registers a function that gets the message of a panic before the panic is reported, even if the program has a hook
/// of its own.
pub(crate) fn on_panic(told: impl FnOnce(&str) + 'static) {
    TOLD.set(Some(Box::new(told)));
    // Inside a hook, which may use a pool and so start a worker, changing the hook isn't allowed.
    if !thread::panicking() {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            tell(panic);
            hook(panic);
        }));
    }
}

fn tell(panic: &PanicHookInfo<'_>) {
    if let Some(told) = TOLD.take() {
        told(message(panic));
    }
}

fn message<'p>(panic: &'p PanicHookInfo<'_>) -> &'p str {
    panic.payload_as_str().unwrap_or("a value that is no message")
}

/// Ends this process. Buffered standard output is written first, as at any other end.
pub(crate) fn exit(code: u8) -> ! {
    logging::exiting(code);
    std::process::exit(i32::from(code))
}

fn report_panic(panic: &PanicHookInfo<'_>) {
    let name = raw::process::current().and_then(raw::process::name).unwrap_or_else(|_| "?".to_owned());
    let message = message(panic);
    match panic.location() {
        Some(location) => {
            complain(&format!("process '{}' panicked at {location}: {message}", Escaped(&name)))
        }
        None => complain(&format!("process '{}' panicked: {message}", Escaped(&name))),
    }
}

/// The header before the encoded arguments of a spawned process.
///
/// The functions are numbers that only the same build of the program understands. The host starts no other build, so
/// the checks catch a payload that isn't ours, before a number in it is called.
#[derive(Clone, Copy)]
struct Header {
    trampoline: u64,
    function: u64,
    logging: u64,
}

impl Header {
    const MAGIC: u64 = u64::from_le_bytes(*b"sp-rust1") ^ sandpool_abi::FINGERPRINT;
    const LEN: usize = 40;

    /// A function whose number differs between most builds.
    fn anchor() -> u64 {
        raw::function::number::<(), Result<Option<u8>, Error>>(|()| entered())
    }

    fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let words = [Self::MAGIC, Self::anchor(), self.trampoline, self.function, self.logging];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn read(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (header, arguments) = payload.split_first_chunk::<{ Self::LEN }>()?;
        let mut words = header.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let (magic, anchor) = (words.next()?, words.next()?);
        let header = Self { trampoline: words.next()?, function: words.next()?, logging: words.next()? };
        (magic == Self::MAGIC && anchor == Self::anchor()).then_some((header, arguments))
    }
}

/// Starts a process with fresh memory that runs `function(arguments)`. Returns its handle.
pub(crate) fn spawn<A, T>(name: &str, flags: u32, function: fn(A) -> T, arguments: &A) -> Result<u64, Error>
where
    A: Serialize + DeserializeOwned,
    T: Termination,
{
    if !has_entry_point() {
        return Err(Error::NoEntryPoint);
    }
    let header = Header {
        trampoline: raw::function::trampoline_number(trampoline::<A, T>),
        function: raw::function::number(function),
        logging: logging::settings(),
    };
    let mut payload = header.to_bytes().to_vec();
    let handles = codec::append(&mut payload, arguments)?;
    Ok(raw::process::spawn(name, flags, &payload, &handles)?)
}

/// Decodes the arguments and calls the function. There is one copy of this function for each type of function that is
/// spawned.
fn trampoline<A: DeserializeOwned, T: Termination>(function: u64, arguments: &[u8], handles: Handles) -> u8 {
    let called = codec::decode::<A>(arguments, handles).and_then(|arguments| {
        let function = raw::function::from_number::<A, T>(function).ok_or_else(no_function)?;
        Ok(function(arguments))
    });
    called.map(Termination::exit_code).unwrap_or_else(|error| Err::<(), _>(error).exit_code())
}

fn no_function() -> DecodeError {
    DecodeError::new("it doesn't name a function of this program")
}

/// Runs the function of this process, if it was spawned, and returns the exit code.
fn entered() -> Result<Option<u8>, Error> {
    /// Set once the arguments of this process have been taken. The handles among them exist only once, and `main` can be
    /// called again.
    static ENTERED: AtomicBool = AtomicBool::new(false);
    if ENTERED.swap(true, Ordering::Relaxed) {
        return Ok(None);
    }
    let len = match raw::process::entry(&mut []) {
        Err(Errno::Noent) => return Ok(None),
        len => len?,
    };
    let mut payload = Vec::new();
    payload.try_reserve_exact(len).map_err(|_| Error::TooLarge)?;
    payload.resize(len, 0);
    raw::process::entry(&mut payload)?;
    let count = raw::process::entry_handles(&mut [])?;
    let handles = Handles::received(count, |records| raw::process::entry_handles(records).map(drop))?;

    let (header, arguments) = Header::read(&payload).ok_or_else(no_function)?;
    let trampoline = raw::function::trampoline_from_number(header.trampoline).ok_or_else(no_function)?;
    logging::inherit(header.logging);
    logging::started();
    Ok(Some(trampoline(header.function, arguments, handles)))
}
