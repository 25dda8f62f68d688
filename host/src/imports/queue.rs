//! `sandpool_queue`. See [`queue`](crate::ipc::queue).

use sandpool_abi::Errno;
use sandpool_abi::process::Limit;
use sandpool_abi::queue::{CLAIMED, JOINABLE};

use super::{Caller, View, code, try_first, value, waiting, with_memory};
use crate::ipc::object::{self, Handle};
use crate::ipc::process_table::Register;
use crate::ipc::queue::{self, Account, Port, QueueState, Taken};
use crate::ipc::waiting::Waiting;
use crate::ipc::{Result, heap};
use crate::process::{Held, Process};
use crate::sys::futex::Deadline;

sandpool_abi::queue_imports!(provide);

fn create(caller: &mut Caller<'_>, maxsize: i64, flags: i32) -> i64 {
    value(with_memory(caller, |view| make(view, maxsize as u64, flags as u32)))
}

fn put(
    caller: &mut Caller<'_>,
    queue: i64,
    item: i32,
    item_len: i32,
    handles: i32,
    handle_count: i32,
    timeout: i64,
) -> i32 {
    put_whole(caller, (item, item_len), |view, parts| {
        put_item(view, queue, parts, (handles, handle_count), timeout)
    })
}

fn put_parts(
    caller: &mut Caller<'_>,
    queue: i64,
    parts: i32,
    part_count: i32,
    handles: i32,
    handle_count: i32,
    timeout: i64,
) -> i32 {
    put_in_parts(caller, (parts, part_count), |view, parts| {
        put_item(view, queue, parts, (handles, handle_count), timeout)
    })
}

fn get(caller: &mut Caller<'_>, queue: i64, buffer: i32, capacity: i32, timeout: i64, result: i32) -> i32 {
    code(waiting(caller, |view| {
        receive(view, (buffer, capacity), timeout, result, |process, out, deadline| {
            let port = port_to_take(process, queue)?;
            queue::get(process.participant(), port, || false, out, deadline)
        })
    }))
}

#[inline]
fn put_many(
    caller: &mut Caller<'_>,
    queue: i64,
    items: i32,
    len: i32,
    lens: i32,
    count: i32,
    timeout: i64,
) -> i64 {
    value(waiting(caller, |view| put_items(&view, queue, (items, len), (lens, count), timeout)))
}

#[inline]
fn get_many(
    caller: &mut Caller<'_>,
    queue: i64,
    buffer: i32,
    capacity: i32,
    lens: i32,
    count: i32,
    timeout: i64,
) -> i64 {
    value(waiting(caller, |view| get_items(view, queue, (buffer, capacity), (lens, count), timeout)))
}

fn take(caller: &mut Caller<'_>, parts: i32, parts_count: i32, list: i32, count: i32) -> i32 {
    code(with_memory(caller, |view| take_held(view, (parts, parts_count), (list, count))))
}

fn peek(caller: &mut Caller<'_>, buffer: i32, capacity: i32) -> i64 {
    value(with_memory(caller, |view| peek_held(view, buffer, capacity)))
}

fn qsize(caller: &mut Caller<'_>, queue: i64) -> i64 {
    value(with_memory(caller, |view| Ok(port(view.process, queue, Waiting::Get)?.queue.size() as i64)))
}

fn maxsize(caller: &mut Caller<'_>, queue: i64) -> i64 {
    value(with_memory(caller, |view| Ok(port(view.process, queue, Waiting::Get)?.queue.bound() as i64)))
}

fn close(caller: &mut Caller<'_>, queue: i64) -> i32 {
    code(with_memory(caller, |view| {
        queue::close(view.process.participant(), port(view.process, queue, Waiting::Put)?)
    }))
}

#[inline]
fn task_done(caller: &mut Caller<'_>, queue: i64) -> i32 {
    code(with_memory(caller, |view| {
        queue::task_done(view.process.participant(), port(view.process, queue, Waiting::Get)?)
    }))
}

fn join(caller: &mut Caller<'_>, queue: i64, timeout: i64) -> i64 {
    value(waiting(caller, |view| {
        let port = port(view.process, queue, Waiting::TasksDone)?;
        let join = |deadline| queue::join(view.process.participant(), port, deadline);
        Ok(try_first(view.process, timeout, join)? as i64)
    }))
}

/// Puts a message somewhere: `put` is given its bytes.
#[inline]
pub(super) fn put_whole(
    caller: &mut Caller<'_>,
    bytes: (i32, i32),
    put: impl Fn(&View<'_>, &[&[u8]]) -> Result<()>,
) -> i32 {
    code(waiting(caller, |view| put(&view, &[view.memory.bytes(bytes.0, bytes.1)?])))
}

/// Puts a message whose bytes lie in several places.
#[inline]
pub(super) fn put_in_parts(
    caller: &mut Caller<'_>,
    parts: (i32, i32),
    put: impl Fn(&View<'_>, &[&[u8]]) -> Result<()>,
) -> i32 {
    code(waiting(caller, |view| put(&view, &view.memory.gather(parts.0, parts.1)?)))
}

/// The queue of this handle, with the note of a process that waits there.
pub(super) fn port(process: &Process, handle: i64, waiting: fn(u32) -> Waiting) -> Result<Port<'_>> {
    let object = object::resolve::<QueueState>(process.participant(), Handle(handle as u64))?;
    Ok(Port { queue: object.state, object: object.index, waiting: waiting(object.index) })
}

/// The queue of this handle, to take items from it.
///
/// `PERM` if a worker of the host's would claim the items: its claims are the host's tasks.
#[inline]
fn port_to_take(process: &Process, handle: i64) -> Result<Port<'_>> {
    let port = port(process, handle, Waiting::Get)?;
    if process.is_host_worker && port.queue.is_claimed() { Err(Errno::Perm) } else { Ok(port) }
}

fn make(view: View<'_>, maxsize: u64, flags: u32) -> Result<i64> {
    let account = match flags {
        0 => Account::Nothing,
        JOINABLE => Account::Joinable,
        CLAIMED => Account::Claimed,
        _ => return Err(Errno::Inval),
    };
    if i64::try_from(maxsize).is_err() {
        return Err(Errno::Inval);
    }
    let maxsize = match (maxsize, view.process.limits.queue_items_max) {
        (0, most) => most.unwrap_or(0),
        (maxsize, most) => maxsize.min(most.unwrap_or(u64::MAX)),
    };
    let handle = view.process.making(|participant| queue::create(participant, maxsize, account))?;
    view.process.hold(handle);
    Ok(handle.0 as i64)
}

fn put_item(view: &View<'_>, queue: i64, parts: &[&[u8]], list: (i32, i32), timeout: i64) -> Result<()> {
    let port = port(view.process, queue, Waiting::Put)?;
    let handles = view.memory.handles(list.0, list.1)?;
    let put = try_first(view.process, timeout, |deadline| {
        queue::put_parts(view.process.participant(), port, parts, &handles, deadline)
    });
    noting_full(view.process, port, put)
}

/// Passes on the result of a `put`, and notes whether a limit has refused the `put`: the limit of the arena, or the
/// limit of queues if that has bounded this queue.
pub(super) fn noting_full<T>(process: &Process, port: Port<'_>, put: Result<T>) -> Result<T> {
    if let Err(Errno::Again | Errno::Timedout) = put {
        match (port.queue.bound(), process.limits.queue_items_max) {
            (0, _) => process.refused(Limit::Arena),
            (bound, Some(most)) if bound == most => process.refused(Limit::QueueItems),
            _ => {}
        }
    }
    process.noting(put)
}

fn put_items(view: &View<'_>, queue: i64, items: (i32, i32), lens: (i32, i32), timeout: i64) -> Result<i64> {
    let port = port(view.process, queue, Waiting::Put)?;
    let items = view.memory.bytes(items.0, items.1)?;
    let lens = view.memory.bytes(lens.0, lens.1.checked_mul(4).ok_or(Errno::Fault)?)?.as_chunks::<4>().0;
    let lens = lens.iter().map(|len| u32::from_le_bytes(*len) as usize);
    if lens.clone().try_fold(0_usize, usize::checked_add).is_none_or(|sum| sum != items.len()) {
        return Err(Errno::Inval);
    }
    let items = lens.scan(items, |rest, len| {
        let (item, behind) = rest.split_at_checked(len)?;
        *rest = behind;
        Some(item)
    });
    let put = |deadline| queue::put_many(view.process.participant(), port, items.clone(), deadline);
    match try_first(view.process, timeout, put) {
        // The item isn't one for a batch.
        Err(Errno::Msgsize) => Err(Errno::Msgsize),
        put => Ok(noting_full(view.process, port, put)? as i64),
    }
}

fn get_items(
    mut view: View<'_>,
    queue: i64,
    buffer: (i32, i32),
    lens: (i32, i32),
    timeout: i64,
) -> Result<i64> {
    let most = lens.1 as u32 as usize;
    view.memory.bytes_mut(lens.0, lens.1.checked_mul(4).ok_or(Errno::Fault)?)?;
    if most == 0 {
        return Ok(0);
    }
    let out = view.memory.bytes_mut(buffer.0, buffer.1)?;
    let mut taken = Vec::new();
    let process = view.process;
    let get = |deadline| {
        let port = port_to_take(process, queue)?;
        let note = |len: usize| {
            taken.push(len as u32);
            taken.len() < most
        };
        queue::get_many(process.participant(), port, out, note, deadline)
    };
    try_first(process, timeout, get)?;
    let to = view.memory.bytes_mut(lens.0, (taken.len() * 4) as i32)?;
    to.as_chunks_mut::<4>().0.iter_mut().zip(&taken).for_each(|(to, len)| *to = len.to_le_bytes());
    Ok(taken.len() as i64)
}

/// Gets an item, or receives a message, for the guest: into its buffer, or to be held until it is taken.
pub(super) fn receive(
    mut view: View<'_>,
    buffer: (i32, i32),
    timeout: i64,
    result: i32,
    get: impl Fn(&Process, &mut [u8], Deadline) -> Result<Taken>,
) -> Result<()> {
    // Both addresses are checked before an item is taken: the item would be lost otherwise.
    view.memory.bytes_mut(result, 16)?;
    let out = view.memory.bytes_mut(buffer.0, buffer.1)?;
    let process = view.process;
    process.discard_held()?;
    let taken = try_first(process, timeout, |deadline| get(process, out, deadline))?;
    let (len, handle_count, held) = match taken {
        Taken::Copied(len) => (len as u64, 0, None),
        Taken::Bytes(bytes) => (bytes.len() as u64, 0, Some(Held::Bytes(bytes))),
        Taken::Message(message) if message.handle_count == 0 && message.len <= out.len() as u64 => {
            message.read(process.participant(), out)?;
            heap::free(process.participant(), process.participant().slot()?.register(Register::Incoming))?;
            (message.len, 0, None)
        }
        Taken::Message(message) => (message.len, message.handle_count, Some(Held::Message(message))),
    };
    let is_held = u32::from(held.is_some());
    process.held = held;
    view.memory.store(result, [len as u32, (len >> 32) as u32, handle_count as u32, is_held])
}

fn peek_held(mut view: View<'_>, buffer: i32, capacity: i32) -> Result<i64> {
    match &view.process.held {
        None => Err(Errno::Noent),
        Some(Held::Bytes(bytes)) => view.memory.fill(buffer, capacity, bytes),
        Some(Held::Message(message)) => {
            let out = view.memory.bytes_mut(buffer, capacity)?;
            let some = usize::try_from(message.len).unwrap_or(usize::MAX).min(out.len());
            message.read_at(view.process.participant(), 0, out.get_mut(..some).ok_or(Errno::Fault)?)?;
            Ok(message.len as i64)
        }
    }
}

fn take_held(mut view: View<'_>, parts: (i32, i32), list: (i32, i32)) -> Result<()> {
    let parts = view.memory.parts(parts.0, parts.1)?;
    let process = view.process;
    // The item is held until all of it is copied.
    match &process.held {
        None => Err(Errno::Noent),
        Some(Held::Bytes(bytes)) => {
            view.memory.scatter(&parts, bytes.len() as u64, |at, out| {
                let from = bytes.get(at as usize..).and_then(|rest| rest.get(..out.len()));
                from.map(|from| out.copy_from_slice(from)).ok_or(Errno::Inval)
            })?;
            process.held = None;
            Ok(())
        }
        Some(Held::Message(message)) => {
            let message = *message;
            if message.handle_count != u64::from(list.1 as u32) {
                return Err(Errno::Inval);
            }
            view.memory
                .scatter(&parts, message.len, |at, out| message.read_at(process.participant(), at, out))?;
            let handles = message.handles(process.participant())?;
            let records = object::look_up_all(process.participant(), &handles)?;
            view.memory.fill_records(list.0, list.1, &records)?;
            process.held = None;
            message.arrive(process.participant(), &handles)?;
            heap::free(process.participant(), process.participant().slot()?.register(Register::Incoming))?;
            handles.into_iter().for_each(|handle| process.hold(handle));
            Ok(())
        }
    }
}
