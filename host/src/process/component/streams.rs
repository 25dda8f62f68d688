//! `wasi:io/streams` and `wasi:io/error`: standard streams, as modules have them, and files. Each call does its work itself, and
//! waits if it has to: nothing is left for later, so an output is always ready, and a flush has nothing to do.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::io::ReadWriteFlags;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sync::io::streams;
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, InputStream as _, StreamError, StreamResult,
};
use wasmtime_wasi_io::bindings::wasi::io::error;

use super::View;
use super::file_bytes::FileBytes;
use super::poll::Wait;
use crate::process::stdio::{Input, Output};
use crate::process::{Process, wasi};

/// Bytes that a component may write, or gets to read, in one call.
const CHUNK: usize = 64 << 10;

/// An input stream.
pub(super) enum Reader {
    Stdin(Input),
    File(FileReader),
}

/// A file that is read from some place on.
pub(super) struct FileReader {
    pub(super) file: Arc<File>,
    pub(super) at: u64,
}

/// An output stream.
pub(super) enum Writer {
    Standard(Output),
    File(FileWriter),
}

/// A file that is written from some place on, or at its end.
pub(super) struct FileWriter {
    pub(super) file: Arc<File>,
    pub(super) at: Option<u64>,
    /// Whether a write has failed: nothing can be written any more.
    pub(super) is_closed: bool,
}

fn failed(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}

fn trap(error: wasmtime::Error) -> StreamError {
    StreamError::Trap(error)
}

impl Reader {
    /// Reads at most this many bytes. If none are there, this waits if it may.
    fn read(&mut self, len: u64, is_patient: bool) -> StreamResult<Vec<u8>> {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(CHUNK);
        if len == 0 {
            return Ok(Vec::new());
        }
        match self {
            Self::Stdin(input) => {
                if !is_patient && input.may_wait() && !wasi::sleep(Some(std::time::Duration::ZERO), true) {
                    return Ok(Vec::new());
                }
                input.read(len).map(|bytes| bytes.to_vec())
            }
            Self::File(FileReader { file, at }) => {
                let mut buffer = vec![0; len];
                let read = loop {
                    match file.read_at(&mut buffer, *at) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        read => break read.map_err(failed)?,
                    }
                };
                if read == 0 {
                    return Err(StreamError::Closed);
                }
                *at = at.saturating_add(read as u64);
                buffer.truncate(read);
                Ok(buffer)
            }
        }
    }
}

impl FileWriter {
    fn write(&mut self, process: &mut Process, mut bytes: &[u8]) -> StreamResult<()> {
        if self.is_closed {
            return Err(StreamError::Closed);
        }
        let mut written = FileBytes::take(process, &self.file, bytes.len() as u64).map_err(failed)?;
        while !bytes.is_empty() {
            let done = match self.at {
                Some(at) => self.file.write_at(bytes, at),
                None => rustix::io::pwritev2(&self.file, &[IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND)
                    .map_err(io::Error::from),
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => {
                    self.is_closed = true;
                    return Err(failed(io::ErrorKind::WriteZero.into()));
                }
                Ok(len) => {
                    written.written(len as u64);
                    self.at = self.at.map(|at| at.saturating_add(len as u64));
                    bytes = bytes.get(len..).unwrap_or_default();
                }
                Err(error) => {
                    self.is_closed = true;
                    if error.raw_os_error() == Some(nix::libc::EFBIG) {
                        written.too_large();
                    }
                    return Err(failed(error));
                }
            }
        }
        Ok(())
    }
}

impl View<'_> {
    fn reader(&mut self, stream: &Resource<DynInputStream>) -> StreamResult<&mut Reader> {
        self.get(stream).map_err(trap)
    }

    fn read(
        &mut self,
        stream: &Resource<DynInputStream>,
        len: u64,
        is_patient: bool,
    ) -> StreamResult<Vec<u8>> {
        self.reader(stream)?.read(len, is_patient)
    }

    fn check(&mut self, stream: &Resource<DynOutputStream>) -> StreamResult<u64> {
        match self.get(stream).map_err(trap)? {
            Writer::File(FileWriter { is_closed: true, .. }) => Err(StreamError::Closed),
            _ => Ok(CHUNK as u64),
        }
    }

    fn write_to(&mut self, stream: &Resource<DynOutputStream>, bytes: &[u8]) -> StreamResult<()> {
        let guest = &mut *self.0;
        let writer: &mut Writer = wasmtime_wasi::WasiView::ctx(&mut guest.wasi)
            .table
            .get_mut(&Resource::new_borrow(stream.rep()))
            .map_err(|error| trap(error.into()))?;
        match writer {
            Writer::Standard(output) => output.write_bytes(bytes),
            Writer::File(file) => file.write(&mut guest.process, bytes),
        }
    }

    fn write_zeroes_to(&mut self, stream: &Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        if len > self.check(stream)? {
            return Err(StreamError::trap("it writes more zeroes than it may at once"));
        }
        self.write_to(stream, &vec![0; usize::try_from(len).unwrap_or_default()])
    }

    fn splice_to(
        &mut self,
        to: &Resource<DynOutputStream>,
        from: &Resource<DynInputStream>,
        len: u64,
        is_patient: bool,
    ) -> StreamResult<u64> {
        let len = len.min(self.check(to)?);
        let bytes = self.read(from, len, is_patient)?;
        self.write_to(to, &bytes)?;
        Ok(bytes.len() as u64)
    }
}

impl streams::Host for View<'_> {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        match error {
            StreamError::Closed => Ok(streams::StreamError::Closed),
            StreamError::LastOperationFailed(error) => {
                Ok(streams::StreamError::LastOperationFailed(self.table().push(error)?))
            }
            StreamError::Trap(error) => Err(error),
        }
    }
}

impl streams::HostInputStream for View<'_> {
    fn read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        View::read(self, &stream, len, false)
    }

    fn blocking_read(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<Vec<u8>> {
        View::read(self, &stream, len, true)
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        Ok(View::read(self, &stream, len, false)?.len() as u64)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, len: u64) -> StreamResult<u64> {
        Ok(View::read(self, &stream, len, true)?.len() as u64)
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        let wait = match self.get(&stream)? {
            Reader::Stdin(_) => Wait::Stdin,
            Reader::File(_) => Wait::Ready,
        };
        self.push(wait)
    }

    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        self.delete::<Reader, _>(&stream).map(drop)
    }
}

impl streams::HostOutputStream for View<'_> {
    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        self.check(&stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        if bytes.len() > CHUNK {
            return Err(StreamError::trap("it writes more than it may at once"));
        }
        self.write_to(&stream, &bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        self.write_to(&stream, &bytes)
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        self.check(&stream).map(drop)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        self.check(&stream).map(drop)
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        self.get::<Writer, _>(&stream)?;
        self.push(Wait::Ready)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, len: u64) -> StreamResult<()> {
        self.write_zeroes_to(&stream, len)
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<DynOutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        self.write_zeroes_to(&stream, len)
    }

    fn splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        self.splice_to(&to, &from, len, false)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<DynOutputStream>,
        from: Resource<DynInputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        self.splice_to(&to, &from, len, true)
    }

    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        self.delete::<Writer, _>(&stream).map(drop)
    }
}

impl error::Host for View<'_> {}

impl error::HostError for View<'_> {
    fn to_debug_string(&mut self, error: Resource<error::Error>) -> wasmtime::Result<String> {
        Ok(self.get::<wasmtime::Error, _>(&error)?.to_string())
    }

    fn drop(&mut self, error: Resource<error::Error>) -> wasmtime::Result<()> {
        self.delete::<wasmtime::Error, _>(&error).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::arena::Geometry;
    use crate::testing::alone::Alone;

    /// The component may not have seen the error: only part of what it wrote is there, and what it writes next isn't to
    /// follow on that.
    #[test]
    fn nothing_is_written_to_a_file_after_a_write_that_failed() -> io::Result<()> {
        let alone = Alone::new(Geometry { processes_max: 1, objects_max: 4, heap_pages: 16 });
        let mut process = alone.guest().process;
        let full = File::options().write(true).open("/dev/full")?;
        for at in [Some(0), None] {
            let file = Arc::new(full.try_clone()?);
            let mut writer = FileWriter { file, at, is_closed: false };
            let first = writer.write(&mut process, b"bytes");
            assert!(matches!(first, Err(StreamError::LastOperationFailed(_))), "{first:?}");
            for _ in 0..2 {
                let next = writer.write(&mut process, b"bytes");
                assert!(matches!(next, Err(StreamError::Closed)), "{next:?}");
            }
        }
        Ok(())
    }
}
