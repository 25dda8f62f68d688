//! `sandpool_shelf`. See [`shelf`](crate::ipc::shelf).

use sandpool_abi::Errno;
use sandpool_abi::shelf::{CHANGES_MAX, EMPTY, WORDS};

use super::{Caller, View, code, value, with_memory};
use crate::ipc::Result;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::shelf::{self, Change, Found, ShelfState};
use crate::process::{Held, Process};

sandpool_abi::shelf_imports!(provide);

/// Bytes of a change.
const CHANGE: usize = size_of::<sandpool_abi::shelf::Change>();

fn create(caller: &mut Caller<'_>) -> i64 {
    value(with_memory(caller, |view| {
        let handle = view.process.making(shelf::create)?;
        view.process.hold(handle);
        Ok(handle.0 as i64)
    }))
}

fn read(
    caller: &mut Caller<'_>,
    handle: i64,
    place: i64,
    buffer: i32,
    capacity: i32,
    words: i32,
    result: i32,
) -> i32 {
    code(with_memory(caller, |view| {
        read_place(view, handle, place as u64, (buffer, capacity), words, result)
    }))
}

fn change(
    caller: &mut Caller<'_>,
    handle: i64,
    words: i32,
    changes: i32,
    change_count: i32,
    handles: i32,
    handle_count: i32,
) -> i32 {
    code(with_memory(caller, |view| {
        change_places(view, handle, words, (changes, change_count), (handles, handle_count))
    }))
}

fn object(process: &Process, handle: i64) -> Result<Object<'_, ShelfState>> {
    object::resolve(process.participant(), Handle(handle as u64))
}

fn read_place(
    mut view: View<'_>,
    handle: i64,
    place: u64,
    buffer: (i32, i32),
    words_at: i32,
    result: i32,
) -> Result<()> {
    view.memory.bytes_mut(result, 16)?;
    view.memory.bytes_mut(words_at, (WORDS * 8) as i32)?;
    let out = view.memory.bytes_mut(buffer.0, buffer.1)?;
    let process = view.process;
    process.discard_held()?;
    let (found, words) = shelf::read(process.participant(), object(process, handle)?, place, out)?;
    view.memory.fill_words(words_at, WORDS as i32, words.into_iter())?;
    let (len, handle_count, held) = match found {
        Found::Nothing => return Err(Errno::Noent),
        Found::Copied(len) => (len as u64, 0, None),
        Found::Bytes(bytes) => (bytes.len() as u64, 0, Some(Held::Bytes(bytes))),
        Found::Message(message) => (message.len, message.handle_count, Some(Held::Message(message))),
    };
    let is_held = u32::from(held.is_some());
    process.held = held;
    view.memory.store(result, [len as u32, (len >> 32) as u32, handle_count as u32, is_held])
}

fn change_places(
    view: View<'_>,
    handle: i64,
    words: i32,
    changes: (i32, i32),
    handles: (i32, i32),
) -> Result<()> {
    let View { memory, process } = view;
    let words: Vec<u64> = memory.words(words, WORDS as i32, WORDS)?;
    let words: [u64; WORDS] = words.try_into().map_err(|_| Errno::Io)?;
    if changes.1 as u32 as usize > CHANGES_MAX {
        return Err(Errno::Inval);
    }
    // An invalid handle fails later, before anything is changed.
    let handles: Vec<_> =
        memory.words(handles.0, handles.1, u32::MAX as usize)?.into_iter().map(Handle).collect();
    let mut rest = handles.as_slice();
    let rows = memory.bytes(changes.0, changes.1.checked_mul(CHANGE as i32).ok_or(Errno::Fault)?)?;
    let mut all = Vec::with_capacity(changes.1 as u32 as usize);
    for row in rows.as_chunks::<CHANGE>().0 {
        let [place, bytes, more] = row.as_chunks::<8>().0 else { return Err(Errno::Io) };
        let place = u64::from_le_bytes(*place);
        let (bytes, more) = (u64::from_le_bytes(*bytes), u64::from_le_bytes(*more));
        let (at, len) = (bytes as u32, (bytes >> 32) as u32);
        let (own, after) = rest.split_at_checked(more as u32 as usize).ok_or(Errno::Inval)?;
        rest = after;
        let content = match len {
            EMPTY => None,
            len => Some((memory.bytes(at as i32, len as i32)?, own)),
        };
        all.push(Change { place, content });
    }
    if !rest.is_empty() {
        return Err(Errno::Inval);
    }
    process.discard_held()?;
    process.making(|participant| shelf::change(participant, object(process, handle)?, &words, &all))
}
