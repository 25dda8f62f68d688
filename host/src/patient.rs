//! Reading and writing of descriptors that others may have made non-blocking.
//!
//! Whether a pipe or a terminal blocks is a property of the open file, which all processes that have it share. Node makes its pipes
//! non-blocking, and so may any other program that gives this one a standard stream. So all code that reads or writes a given
//! descriptor uses these functions, which wait.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Reads bytes, after a wait if none are there yet. Fails as [`write_all`] does.
pub(crate) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::read(fd, buffer) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait(fd, PollFlags::POLLIN)?,
            result => return Ok(result?),
        }
    }
}

/// Writes some of the bytes, after a wait if there is no room yet. Fails as [`write_all`] does.
pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::write(fd, bytes) {
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => wait(fd, PollFlags::POLLOUT)?,
            result => return Ok(result?),
        }
    }
}

/// Writes all bytes, and waits where there is no room yet.
///
/// # Errors
/// The errors of the operating system, except an interruption and that a descriptor doesn't block.
pub fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = bytes.get(written..).unwrap_or_default(),
        }
    }
    Ok(())
}

fn wait(fd: BorrowedFd<'_>, what: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::new(fd, what)], PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A file that is read and written by these functions.
#[derive(Debug)]
pub struct Patient(pub File);

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read(self.0.as_fd(), buffer)
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(self.0.as_fd(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::thread;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    /// Both ends of a pipe, which don't block.
    fn pipe() -> (File, File) {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        for end in [&reader, &writer] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        }
        (reader.into(), writer.into())
    }

    #[test]
    fn what_does_not_wait_is_waited_for() {
        let (mut reader, writer) = pipe();
        assert_eq!(reader.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        // More than a pipe holds, so that both ends must wait.
        let all: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let sent = all.clone();
        let sender = thread::spawn(move || Patient(writer).write_all(&sent).unwrap());
        let mut got = Vec::new();
        Patient(reader).read_to_end(&mut got).unwrap();
        sender.join().unwrap();
        assert!(got == all);
    }

    #[test]
    fn an_end_that_is_gone_is_no_reason_to_wait() {
        let (reader, writer) = pipe();
        drop(reader);
        let error = write_all(writer.as_fd(), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let (reader, writer) = pipe();
        drop(writer);
        assert_eq!(read(reader.as_fd(), &mut [0]).unwrap(), 0);
    }
}
