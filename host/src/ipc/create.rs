//! Makes arenas.

use std::io;
use std::os::fd::OwnedFd;

use super::arena::{Arena, Geometry};
use super::heap;
use crate::sys::mem::{self, Mapping};

impl Arena {
    /// Makes an arena. The descriptor is all that ties it to a file; the mapping stays without it.
    pub(crate) fn create(geometry: Geometry) -> io::Result<(OwnedFd, Self)> {
        Self::create_for(geometry, mem::page_size())
    }

    /// Makes an arena as if the kernel's pages had this size.
    pub(crate) fn create_for(geometry: Geometry, page: usize) -> io::Result<(OwnedFd, Self)> {
        let mut fd = None;
        let arena = Self::lay_out(geometry, page, |len| {
            let (memory, mapping) = Mapping::create(len)?;
            fd = Some(memory);
            Ok(mapping)
        })?;
        heap::format(&arena).map_err(io::Error::other)?;
        arena.header().map_err(io::Error::other)?.objects.choose_secret()?;
        Ok((fd.ok_or(io::ErrorKind::Other)?, arena))
    }
}
