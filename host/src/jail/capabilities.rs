//! Capabilities: none, in any set, not even as root.

use std::io;

use nix::libc;

use crate::sys::capabilities;

/// Gives up all capabilities.
///
/// The bounding set limits what an exec could give; only a process with `CAP_SETPCAP` can empty it. In other processes an exec
/// gives nothing either, once [`no_new_privs`](super::Layer::NoNewPrivs) holds.
pub(super) fn enter() -> io::Result<()> {
    match capabilities::empty_bounding_set() {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        emptied => emptied?,
    }
    capabilities::drop_all()
}
