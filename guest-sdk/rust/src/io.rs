//! Pipes of bytes, as [`std::io::pipe`] has them on systems with POSIX: for programs that read and write bytes, and for
//! descriptors that take the place of standard streams. A [`Pipe`](crate::Pipe) sends values and whole messages.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use sandpool_abi::Errno;

use crate::raw;

/// Makes a pipe of bytes.
///
/// A forked process has copies of both ends. A spawned process has none.
///
/// ```no_run
/// use std::io::{Read, Write};
///
/// use sandpool_guest::{Process, io};
///
/// let (mut reader, mut writer) = io::pipe()?;
/// let child = Process::fork(|| (&writer).write_all(b"from the child").unwrap())?;
/// drop(writer); // or the text would have no end
/// let mut text = String::new();
/// reader.read_to_string(&mut text)?;
/// assert_eq!(text, "from the child");
/// child.join()?;
/// # Ok::<_, sandpool_guest::Error>(())
/// ```
///
/// # Errors
///
/// The process has as many descriptors as it may, or the run as many objects; or the arena is full.
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let [reader, writer] = raw::descriptor::pipe(0).map_err(error)?;
    Ok((PipeReader(reader.into()), PipeWriter(writer.into())))
}

fn error(errno: Errno) -> io::Error {
    match errno {
        Errno::Nomem | Errno::Msgsize => io::Error::new(io::ErrorKind::OutOfMemory, errno),
        other => io::Error::other(other),
    }
}

macro_rules! end {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name(File);

        impl $name {
            /// Makes another descriptor for the same end.
            ///
            /// # Errors
            ///
            /// The process has as many descriptors as it may.
            pub fn try_clone(&self) -> io::Result<Self> {
                let copy = raw::descriptor::duplicate(self.as_fd()).map_err(error)?;
                Ok(Self(copy.into()))
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }

        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                self.0.as_raw_fd()
            }
        }

        impl IntoRawFd for $name {
            fn into_raw_fd(self) -> RawFd {
                self.0.into_raw_fd()
            }
        }

        impl From<$name> for OwnedFd {
            fn from(end: $name) -> Self {
                end.0.into()
            }
        }

        impl From<OwnedFd> for $name {
            fn from(descriptor: OwnedFd) -> Self {
                Self(descriptor.into())
            }
        }
    };
}

end! {
    /// The end of a pipe that reads. It comes to the end of the bytes when no process has the other end any more.
    PipeReader
}

end! {
    /// The end of a pipe that writes. When no process has the other end any more, a write fails with
    /// [`BrokenPipe`](io::ErrorKind::BrokenPipe).
    PipeWriter
}

impl Read for &PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&self.0).read_vectored(buffers)
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_vectored(&mut self, buffers: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(buffers)
    }
}

impl Write for &PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.0).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn write_vectored(&mut self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(buffers)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
