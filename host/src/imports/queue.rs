//! `sandpool_queue`. See [`queue`](crate::ipc::queue).

use sandpool_abi::Errno;
use sandpool_abi::queue::MODULE;
use wasmtime::{Caller, Linker};

use super::{View, bytes, bytes_mut, fill_words, handles, status, store, value, view};
use crate::ipc::object::{self, Handle};
use crate::ipc::process_table::Register;
use crate::ipc::queue::{self, Taken};
use crate::ipc::{Result, heap, message};
use crate::process::{Guest, Held};
use crate::sys::futex::Deadline;

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "create", |mut caller: Caller<'_, Guest>, maxsize: i64| {
        value(view(&mut caller).and_then(|view| create(view, maxsize as u64)))
    })?;
    linker.func_wrap(
        MODULE,
        "put",
        |mut caller: Caller<'_, Guest>,
         queue: i64,
         item: i32,
         len: i32,
         list: i32,
         count: i32,
         timeout: i64| {
            status(view(&mut caller).and_then(|view| put(&view, queue, (item, len), (list, count), timeout)))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "get",
        |mut caller: Caller<'_, Guest>, queue: i64, buffer: i32, capacity: i32, timeout: i64, result: i32| {
            status(view(&mut caller).and_then(|view| get(view, queue, (buffer, capacity), timeout, result)))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "take",
        |mut caller: Caller<'_, Guest>, buffer: i32, capacity: i32, list: i32, count: i32| {
            status(view(&mut caller).and_then(|view| take(view, (buffer, capacity), (list, count))))
        },
    )?;
    linker.func_wrap(MODULE, "qsize", |mut caller: Caller<'_, Guest>, queue: i64| {
        value(view(&mut caller).and_then(|view| {
            let object = object::resolve(&view.guest.process.member, Handle(queue as u64))?;
            Ok(object.slot.queue.size() as i64)
        }))
    })?;
    linker.func_wrap(MODULE, "maxsize", |mut caller: Caller<'_, Guest>, queue: i64| {
        value(view(&mut caller).and_then(|view| {
            let object = object::resolve(&view.guest.process.member, Handle(queue as u64))?;
            Ok(object.slot.queue.maxsize() as i64)
        }))
    })?;
    linker.func_wrap(MODULE, "close", |mut caller: Caller<'_, Guest>, queue: i64| {
        status(view(&mut caller).and_then(|view| {
            let member = &view.guest.process.member;
            queue::close(member, object::resolve(member, Handle(queue as u64))?)
        }))
    })?;
    Ok(())
}

fn create(view: View<'_>, maxsize: u64) -> Result<i64> {
    if i64::try_from(maxsize).is_err() {
        return Err(Errno::Inval);
    }
    let process = &mut view.guest.process;
    let handle = queue::create(&process.member, maxsize)?;
    process.hold(handle);
    Ok(handle.0 as i64)
}

fn put(view: &View<'_>, queue: i64, item: (i32, i32), list: (i32, i32), timeout: i64) -> Result<()> {
    let process = &view.guest.process;
    let object = object::resolve(&process.member, Handle(queue as u64))?;
    let item = bytes(view.memory, item.0, item.1)?;
    let handles = handles(view.memory, list.0, list.1)?;
    match queue::put(&process.member, object, item, &handles, Deadline::NOW) {
        Err(Errno::Again) if timeout != 0 => {
            process.stdio.flush();
            queue::put(&process.member, object, item, &handles, Deadline::after_nanos(timeout as u64))
        }
        result => result,
    }
}

fn get(view: View<'_>, queue: i64, buffer: (i32, i32), timeout: i64, result: i32) -> Result<()> {
    // Both are looked at before an item is taken, which would be lost.
    bytes_mut(view.memory, result, 16)?;
    let out = bytes_mut(view.memory, buffer.0, buffer.1)?;
    let process = &mut view.guest.process;
    if let Some(Held::Message(_)) = process.held.take() {
        let mut unused = Vec::new();
        message::discard(&process.member, process.member.slot()?.register(Register::Incoming), &mut unused)?;
        for index in unused {
            object::destroy_if_unused(&process.member, index)?;
        }
    }
    let object = object::resolve(&process.member, Handle(queue as u64))?;
    let taken = match queue::get(&process.member, object, out, Deadline::NOW) {
        Err(Errno::Again) if timeout != 0 => {
            process.stdio.flush();
            queue::get(&process.member, object, out, Deadline::after_nanos(timeout as u64))?
        }
        taken => taken?,
    };
    let (len, handle_count, held) = match taken {
        Taken::Copied(len) => (len as u64, 0, None),
        Taken::Bytes(bytes) => (bytes.len() as u64, 0, Some(Held::Bytes(bytes))),
        Taken::Message(message) if message.handle_count == 0 && message.len <= out.len() as u64 => {
            message.read(&process.member, out)?;
            heap::free(&process.member, process.member.slot()?.register(Register::Incoming))?;
            (message.len, 0, None)
        }
        Taken::Message(message) => (message.len, message.handle_count, Some(Held::Message(message))),
    };
    let is_held = u32::from(held.is_some());
    process.held = held;
    store(view.memory, result, [len as u32, (len >> 32) as u32, handle_count as u32, is_held])
}

fn take(view: View<'_>, buffer: (i32, i32), list: (i32, i32)) -> Result<()> {
    let out = bytes_mut(view.memory, buffer.0, buffer.1)?;
    let process = &mut view.guest.process;
    match process.held.take() {
        None => Err(Errno::Noent),
        Some(Held::Bytes(bytes)) => match out.get_mut(..bytes.len()) {
            Some(out) => {
                out.copy_from_slice(&bytes);
                Ok(())
            }
            None => {
                process.held = Some(Held::Bytes(bytes));
                Err(Errno::Inval)
            }
        },
        Some(Held::Message(message)) => {
            let fits = message.len <= out.len() as u64 && message.handle_count <= u64::from(list.1 as u32);
            let copied = if fits { message.read(&process.member, out) } else { Err(Errno::Inval) };
            let handles = copied.and_then(|()| {
                let handles = message.handles(&process.member)?;
                fill_words(view.memory, list.0, list.1, handles.iter().map(|handle| handle.0))?;
                Ok(handles)
            });
            let handles = match handles {
                Ok(handles) => handles,
                Err(error) => {
                    process.held = Some(Held::Message(message));
                    return Err(error);
                }
            };
            message.arrive(&process.member, &handles)?;
            heap::free(&process.member, process.member.slot()?.register(Register::Incoming))?;
            handles.into_iter().for_each(|handle| process.hold(handle));
            Ok(())
        }
    }
}
