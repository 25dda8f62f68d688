//! Shared memory isn't for WASI: another process could change it while the host looks at it.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use sandpool_guest::{Queue, RawArray, SharedMemory};
use sandpool_test_guests::{Outcome, argument, check, same};

/// `EFAULT` in WASI.
const FAULT: i32 = 21;

#[sandpool_guest::main]
#[allow(unsafe_code, reason = "a slice of shared memory is what is tried")]
fn main() -> Outcome {
    let dir = argument(0, "/out".to_owned());
    let path = Path::new(&dir).join("file");
    let array = RawArray::<u8>::from_slice(b"from the array")?;
    // SAFETY: no other process knows the array.
    let slice = unsafe { array.as_slice()? };
    same("a loop reads it", slice.iter().filter(|byte| **byte == b'a').count(), 2)?;

    let mut file = fs::File::create(&path)?;
    same("a write from it", file.write(slice).map_err(|error| error.raw_os_error()), Err(Some(FAULT)))?;
    let both = [std::io::IoSlice::new(b"x"), std::io::IoSlice::new(slice)];
    let written = file.write_vectored(&both).map_err(|error| error.raw_os_error());
    same("nor one of several pieces", written, Err(Some(FAULT)))?;
    let copy = slice.to_vec();
    file.write_all(&copy)?;
    drop(file);
    same("a copy can be written", fs::read_to_string(&path)?, "from the array".to_owned())?;

    let mut memory = SharedMemory::create(100)?;
    // SAFETY: as above.
    let bytes = unsafe { memory.as_mut_slice()? };
    let mut file = fs::File::open(&path)?;
    let read = std::io::Read::read(&mut file, bytes).map_err(|error| error.raw_os_error());
    same("a read into it", read, Err(Some(FAULT)))?;
    check("nothing was read", bytes.iter().all(|byte| *byte == 0))?;
    let random = getrandom::fill(bytes);
    check("random bytes into it", random.is_err())?;
    bytes.get_mut(..4).ok_or("4 bytes")?.copy_from_slice(b"/out");
    let name = std::str::from_utf8(bytes.get(..4).ok_or("4 bytes")?)?;
    let opened = fs::metadata(name).map_err(|error| error.raw_os_error());
    // The standard library makes a copy of a path, so it is another that is refused.
    same("a path is a copy", opened.is_ok(), dir == "/out")?;

    let queue = Queue::<u8>::new()?;
    queue.put(&1)?;
    same("all else works", queue.get()?, 1)?;
    drop((array, memory));
    println!("ok: output as well");
    Ok(())
}
