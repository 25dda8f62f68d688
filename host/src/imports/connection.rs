//! `sandpool_connection`. See [`outside`](crate::ipc::outside).

use std::time::Duration;

use sandpool_abi::Errno;
use sandpool_abi::connection::ADDRESS_MAX;
use sandpool_abi::pipe::CAPACITY;

use super::{Caller, View, code, with_memory};
use crate::codec;
use crate::ipc::Result;
use crate::ipc::outside;
use crate::sys::futex::Deadline;
use crate::wire::Asked;

sandpool_abi::connection_imports!(provide);

/// How long a request may wait for others. The gateway takes requests as fast as it may.
const PATIENCE: Duration = Duration::from_secs(10);

fn listen(caller: &mut Caller<'_>, address: i32, len: i32, backlog: i32, end: i32) -> i32 {
    let asked = |address| Asked::Listen { address, backlog: backlog as u32 };
    code(with_memory(caller, |view| ask(view, (address, len), asked, end)))
}

fn connect(caller: &mut Caller<'_>, address: i32, len: i32, timeout: i64, end: i32) -> i32 {
    let asked = |address| Asked::Connect { address, timeout: timeout as u64 };
    code(with_memory(caller, |view| ask(view, (address, len), asked, end)))
}

fn ask(mut view: View<'_>, address: (i32, i32), asked: impl FnOnce(String) -> Asked, end: i32) -> Result<()> {
    if !view.process.has_gateway {
        return Err(Errno::Perm);
    }
    let address = view.memory.bytes(address.0, address.1)?;
    if address.len() > ADDRESS_MAX {
        return Err(Errno::Nametoolong);
    }
    let address = std::str::from_utf8(address).map_err(|_| Errno::Inval)?.to_owned();
    let request = codec::encode(&asked(address)).map_err(|_| Errno::Inval)?;
    view.memory.bytes_mut(end, 8)?;
    view.process.stdio.flush();
    let handle = view.process.making(|participant| {
        let deadline = Deadline::after_nanos(PATIENCE.as_nanos() as u64);
        outside::ask(participant, &request, CAPACITY, deadline)
    })?;
    view.process.hold(handle);
    view.memory.fill_words(end, 1, [handle.0].into_iter()).map(|_| ())
}
