//! The output of a run that was collected: how much of it is kept, and what is done beyond that.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::summary::Summary;
use crate::GuestText;

/// The most bytes that are kept of a stream by default.
pub(super) const KEEP_MAX: u64 = 16 << 20;

/// The part of an output that is kept if it has more bytes than [`Builder::keep_max`](super::Builder::keep_max).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Keep {
    /// The first bytes; and the run is ended, with [`ExitStatus::Limited`](crate::ExitStatus::Limited) and
    /// [`Limit::Output`](crate::limits::Limit::Output).
    #[default]
    End,
    /// The first bytes. The run goes on.
    Head,
    /// The last bytes. The run goes on.
    Tail,
    /// The first and the last bytes, half of each. The run goes on.
    HeadAndTail,
}

/// How a run ended, and what it wrote; see [`Builder::output`](super::Builder::output).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunOutput {
    /// how the run ended
    pub summary: Summary,
    /// what the guests wrote to stdout; empty if stdout was no pipe
    pub stdout: Captured,
    /// what the guests wrote to stderr; empty if stderr was no pipe
    pub stderr: Captured,
}

/// The part of a stream that was kept.
///
/// ```no_run
/// # fn main() -> sandpool::Result<()> {
/// # let module = sandpool::Module::from_file("guest.wasm")?;
/// use sandpool::Run;
/// use sandpool::run::Keep;
///
/// let output = Run::builder(&module).keep_max(1024).keep(Keep::HeadAndTail).output()?;
/// print!("{}", output.stdout);
/// assert!(output.stdout.bytes.len() <= 1024);
/// # Ok(())
/// # }
/// ```
///
/// Its `Display` is for people: the text with escapes for control characters, and a note where bytes were left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Captured {
    /// the bytes that were kept
    pub bytes: Vec<u8>,
    /// the number of bytes that were left out
    pub left_out: u64,
    /// the position in `bytes` where bytes were left out
    pub gap: usize,
}

impl Captured {
    /// Whether nothing was left out.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.left_out == 0
    }
}

impl fmt::Display for Captured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (head, tail) = self.bytes.split_at_checked(self.gap).unwrap_or((&self.bytes, &[]));
        let text = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            bytes.split_inclusive(|byte| *byte == b'\n').try_for_each(|line| match line.strip_suffix(b"\n") {
                Some(line) => writeln!(f, "{}", GuestText::from_bytes(line)),
                None => write!(f, "{}", GuestText::from_bytes(line)),
            })
        };
        text(f, head)?;
        if !self.is_whole() {
            write!(f, "[{} bytes left out]", self.left_out)?;
        }
        text(f, tail)
    }
}

/// Keeps a part of a stream, in no more than twice the memory of that part.
#[derive(Debug)]
pub(super) struct Keeper {
    head: Vec<u8>,
    tail: Vec<u8>,
    head_max: usize,
    tail_max: usize,
    left_out: u64,
}

impl Keeper {
    pub(super) fn new(max: u64, keep: Keep) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let (head_max, tail_max) = match keep {
            Keep::End | Keep::Head => (max, 0),
            Keep::Tail => (0, max),
            Keep::HeadAndTail => (max - max / 2, max / 2),
        };
        Self { head: Vec::new(), tail: Vec::new(), head_max, tail_max, left_out: 0 }
    }

    /// Takes bytes, and returns whether all bytes until now were kept.
    pub(super) fn take(&mut self, bytes: &[u8]) -> bool {
        let room = self.head_max.saturating_sub(self.head.len());
        let (head, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(rest);
        // Not at each write, so that each byte is moved once or twice in all.
        if self.tail.len() >= self.tail_max.saturating_mul(2) {
            self.cut();
        }
        self.left_out == 0
    }

    fn cut(&mut self) {
        let surplus = self.tail.len().saturating_sub(self.tail_max);
        self.tail.drain(..surplus);
        self.left_out += surplus as u64;
    }

    pub(super) fn end(mut self) -> Captured {
        self.cut();
        let Self { head: mut bytes, tail, left_out, .. } = self;
        let gap = bytes.len();
        bytes.extend_from_slice(&tail);
        Captured { bytes, left_out, gap }
    }
}

/// Reads two pipes to their ends, whichever has bytes, and passes the bytes on: with 0 those of the first.
pub(super) fn read_both<A, B>(
    first: Option<A>,
    second: Option<B>,
    mut each: impl FnMut(usize, &[u8]),
) -> io::Result<()>
where
    A: Read + AsFd,
    B: Read + AsFd,
{
    let (mut first, mut second) = (first, second);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let open = [first.as_ref().map(AsFd::as_fd), second.as_ref().map(AsFd::as_fd)];
        let mut fds: Vec<_> =
            open.into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        if fds.is_empty() {
            return Ok(());
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => continue,
            polled => polled?,
        };
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
        let is_ready = open.map(|fd| fd.is_some() && ready.next() == Some(true));
        if is_ready[0] && !read_some(&mut first, &mut buffer, |bytes| each(0, bytes))? {
            first = None;
        }
        if is_ready[1] && !read_some(&mut second, &mut buffer, |bytes| each(1, bytes))? {
            second = None;
        }
    }
}

/// Reads once. Returns whether there may be more.
fn read_some(from: &mut Option<impl Read>, buffer: &mut [u8], each: impl FnOnce(&[u8])) -> io::Result<bool> {
    let Some(from) = from else { return Ok(false) };
    match from.read(buffer) {
        Ok(0) => Ok(false),
        Ok(len) => {
            each(buffer.get(..len).unwrap_or_default());
            Ok(true)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any sizes of writes give the same: the first and the last bytes, and the number of those between them.
    #[test]
    fn the_part_that_is_wanted_is_kept() {
        let all: Vec<u8> = (0..100).collect();
        for (keep, max, bytes, gap, left_out) in [
            (Keep::Head, 10, (0..10).collect::<Vec<_>>(), 10, 90),
            (Keep::End, 10, (0..10).collect(), 10, 90),
            (Keep::Tail, 10, (90..100).collect(), 0, 90),
            (Keep::HeadAndTail, 11, (0..6).chain(95..100).collect(), 6, 89),
            (Keep::HeadAndTail, 200, all.clone(), 100, 0),
            (Keep::HeadAndTail, 99, (0..50).chain(51..100).collect(), 50, 1),
            (Keep::Tail, 0, vec![], 0, 100),
            (Keep::Head, 100, all.clone(), 100, 0),
        ] {
            for size in [1, 3, 7, 100] {
                let mut keeper = Keeper::new(max, keep);
                for chunk in all.chunks(size) {
                    keeper.take(chunk);
                }
                let captured = keeper.end();
                assert_eq!(
                    captured,
                    Captured { bytes: bytes.clone(), left_out, gap },
                    "{keep:?} {max} {size}"
                );
            }
        }
    }

    #[test]
    fn a_person_sees_where_bytes_are_missing() {
        let captured = Captured { bytes: b"one\ntw\x1bo".to_vec(), left_out: 7, gap: 4 };
        assert_eq!(captured.to_string(), "one\n[7 bytes left out]tw\\u{1b}o");
    }
}
