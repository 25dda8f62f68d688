//! Items and messages in several parts, by the imports themselves: what is refused loses nothing.

use sandpool_test_guests::{Outcome, same};

/// The imports, as a guest in another language would declare them.
#[allow(unsafe_code, reason = "the SDK makes no call with an address that isn't one")]
#[allow(clashing_extern_declarations, reason = "they are of different modules")]
mod raw {
    mod queue {
        #[link(wasm_import_module = "sandpool_queue")]
        unsafe extern "C" {
            pub safe fn create(maxsize: i64, flags: i32) -> i64;
            pub safe fn put_parts(
                queue: i64,
                parts: u32,
                count: u32,
                handles: u32,
                handle_count: u32,
                timeout: i64,
            ) -> i32;
            pub fn get(
                queue: i64,
                buffer: *mut u8,
                capacity: usize,
                timeout: i64,
                item: *mut [u32; 4],
            ) -> i32;
            pub fn take(parts: u32, count: u32, handles: u32, capacity: u32) -> i32;
            pub fn peek(buffer: u32, capacity: usize) -> i64;
            pub safe fn qsize(queue: i64) -> i64;
        }
    }

    mod pipe {
        #[link(wasm_import_module = "sandpool_pipe")]
        unsafe extern "C" {
            pub fn create(capacity: i64, flags: i32, ends: *mut i64) -> i32;
            pub safe fn send_parts(
                end: i64,
                parts: u32,
                count: u32,
                handles: u32,
                handle_count: u32,
                timeout: i64,
            ) -> i32;
            pub fn recv(end: i64, buffer: *mut u8, capacity: usize, timeout: i64, item: *mut [u32; 4])
            -> i32;
        }
    }

    pub fn create() -> i64 {
        queue::create(0, 0)
    }

    pub fn qsize(queue: i64) -> i64 {
        queue::qsize(queue)
    }

    /// The end that receives, and the one that sends.
    pub fn pipe() -> [i64; 2] {
        let mut ends = [0; 2];
        // SAFETY: the host writes two values of 64 bits there.
        assert_eq!(unsafe { pipe::create(0, 0, ends.as_mut_ptr()) }, 0);
        ends
    }

    /// An address and a length, as they are.
    pub type Part = [u32; 2];

    pub fn part(bytes: &[u8]) -> Part {
        [bytes.as_ptr().expose_provenance() as u32, bytes.len() as u32]
    }

    pub fn put(queue: i64, parts: &[Part]) -> i32 {
        queue::put_parts(queue, parts.as_ptr().expose_provenance() as u32, parts.len() as u32, 0, 0, 0)
    }

    pub fn send(end: i64, parts: &[Part]) -> i32 {
        pipe::send_parts(end, parts.as_ptr().expose_provenance() as u32, parts.len() as u32, 0, 0, 0)
    }

    /// The errno, how long the item is, and whether it is held.
    pub fn get(queue: i64, buffer: &mut [u8]) -> (i32, u32, bool) {
        let mut item = [0; 4];
        // SAFETY: the host writes at most `buffer.len()` bytes there, and 16 to the item.
        let errno = unsafe { queue::get(queue, buffer.as_mut_ptr(), buffer.len(), 0, &raw mut item) };
        (errno, item[0], item[3] == 1)
    }

    pub fn recv(end: i64, buffer: &mut [u8]) -> (i32, u32, bool) {
        let mut item = [0; 4];
        // SAFETY: as above.
        let errno = unsafe { pipe::recv(end, buffer.as_mut_ptr(), buffer.len(), 0, &raw mut item) };
        (errno, item[0], item[3] == 1)
    }

    pub fn take(places: &mut [&mut [u8]]) -> i32 {
        let parts: Vec<_> = places.iter_mut().map(|place| part(place)).collect();
        // SAFETY: the host writes within these, which are exclusively the caller's.
        unsafe { queue::take(parts.as_ptr().expose_provenance() as u32, parts.len() as u32, 0, 0) }
    }

    /// Its beginning: an errno, negative, or how long it is.
    pub fn peek(buffer: &mut [u8]) -> i64 {
        // SAFETY: the host writes at most `buffer.len()` bytes there.
        unsafe { queue::peek(buffer.as_mut_ptr().expose_provenance() as u32, buffer.len()) }
    }

    /// The same at an address that is no place to write to.
    pub fn peek_at(at: u32, len: usize) -> i64 {
        // SAFETY: the callers' addresses are out of the memory: nothing is written.
        unsafe { queue::peek(at, len) }
    }

    /// `take` with parts that are no place to write to.
    pub fn take_at(parts: u32, count: u32) -> i32 {
        // SAFETY: the callers' parts are out of the memory, or too many: nothing is written.
        unsafe { queue::take(parts, count, 0, 0) }
    }
}

const NOENT: i32 = 2;
const INVAL: i32 = 22;
const FAULT: i32 = 14;
/// The last addresses, which no guest has.
const NOWHERE: u32 = u32::MAX - 15;

#[sandpool_guest::main]
fn main() -> Outcome {
    let queue = raw::create();
    put_and_take(queue)?;
    refused(queue)?;
    let [receives, sends] = raw::pipe();
    same("sent in parts", raw::send(sends, &[raw::part(b"in "), raw::part(b"parts")]), 0)?;
    let mut buffer = [0; 16];
    same("received at once", raw::recv(receives, &mut buffer), (0, 8, false))?;
    same("the message", &buffer[..8], b"in parts".as_slice())?;
    same("one too many", raw::send(sends, &[raw::part(b"x"); 9]), INVAL)?;
    same("sent from nowhere", raw::send(sends, &[[NOWHERE, 64]]), FAULT)?;
    same("nothing was sent", raw::recv(receives, &mut buffer).0, 11)
}

fn put_and_take(queue: i64) -> Outcome {
    let all: Vec<u8> = (0..100_000).map(|n| (n % 251) as u8).collect();
    let (head, rest) = all.split_at(3);
    let (middle, end) = rest.split_at(60_000);
    let parts = [raw::part(head), raw::part(b""), raw::part(middle), raw::part(end)];
    same("an item in four parts", raw::put(queue, &parts), 0)?;
    same("one of no parts", raw::put(queue, &[]), 0)?;
    same("none is held yet", raw::take(&mut [&mut []]), NOENT)?;
    same("nor is there anything to see", raw::peek(&mut [0; 4]), -i64::from(NOENT))?;
    same("an item", raw::get(queue, &mut [0; 100]), (0, 100_000, true))?;
    let mut start = [0xff; 5];
    same("it can be seen how it begins", raw::peek(&mut start[..4]), 100_000)?;
    same("no more than was asked for", start, [0, 1, 2, 3, 0xff])?;
    same("nothing but how long it is", raw::peek(&mut []), 100_000)?;
    same("seen from nowhere", raw::peek_at(NOWHERE, 64), -i64::from(FAULT))?;
    let mut taken = vec![0; 100_010];
    same("too little room", raw::take(&mut [&mut taken[..99_999]]), INVAL)?;
    same("too much room", raw::take(&mut [&mut taken]), INVAL)?;
    same("no room at all", raw::take(&mut []), INVAL)?;
    same("too many places", raw::take(&mut taken.chunks_mut(11_200).collect::<Vec<_>>()), INVAL)?;
    same("places from nowhere", raw::take_at(NOWHERE, 2), FAULT)?;
    let nowhere = [[NOWHERE, 100_000]];
    same("nowhere to go", raw::take_at(nowhere.as_ptr().expose_provenance() as u32, 1), FAULT)?;
    let (first, rest) = taken[..100_000].split_at_mut(70_001);
    same("it was still held", raw::take(&mut [first, rest]), 0)?;
    same("and is what was put", &taken[..100_000] == all.as_slice(), true)?;
    same("behind it is nothing", taken[100_000..].iter().all(|byte| *byte == 0), true)?;
    same("it is held no more", raw::take(&mut [&mut taken]), NOENT)?;
    same("and not to be seen", raw::peek(&mut start), -i64::from(NOENT))?;
    same("nothing", raw::get(queue, &mut [0; 100]), (0, 0, false))
}

fn refused(queue: i64) -> Outcome {
    same("nine parts", raw::put(queue, &[raw::part(b"x"); 9]), INVAL)?;
    same("bytes from nowhere", raw::put(queue, &[raw::part(b"x"), [NOWHERE, 64]]), FAULT)?;
    same("more than there are", raw::put(queue, &[[0, u32::MAX]]), FAULT)?;
    same("no queue", raw::put(queue + 1, &[raw::part(b"x")]), 9)?;
    same("nothing was put", raw::qsize(queue), 0)
}
