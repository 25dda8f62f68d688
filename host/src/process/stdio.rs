//! Standard streams of guests, which share a terminal or a pipe.
//!
//! The output of many processes must not mix within a line. So a line is held back until it is whole, and then written
//! at once, while the stream's lock keeps the other processes away (a terminal and a pipe take a long write in parts).
//! A write may wait for whoever reads the pipe, so the two streams share a lock only if they are one file.
//!
//! A part of a line doesn't wait for ever: it goes out before the process does anything that may take long (waits,
//! sleeps, reads, forks, ends), with the next carriage return (progress on a terminal), when it is long, and with the
//! next write after a moment. Output to a file is written as it comes.

use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::stat::{FileStat, fstat};
use sandpool_abi::process::Limit;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::ipc::arena::{Arena, Participant, Patience};
use crate::ipc::process_table::{self, ProcessHandle};
use crate::ipc::tail;
use crate::{Limits, patient, wire};

/// The longest part of a line that is held back, in bytes.
const HELD_BYTES: usize = 64 << 10;
/// The longest time for which a process that goes on writing holds a part of a line back.
const HELD_TIME: Duration = Duration::from_millis(50);
/// Bytes that a guest may write, or gets to read, in one call.
const CHUNK: usize = 64 << 10;

/// The three streams of a guest process.
#[derive(Debug)]
pub(crate) struct Stdio {
    arena: Arc<Arena>,
    /// The slot of the process.
    index: AtomicU32,
    stdout: Mutex<Line>,
    stderr: Mutex<Line>,
    has_stdin: AtomicBool,
    /// Bytes that were read from stdin and not handed out yet, if stdin goes by lines.
    lines: Option<Mutex<Ahead>>,
    /// Bytes that the process has written; the two limits are for the process, and for the run.
    written: AtomicU64,
    max: Option<u64>,
    run_max: Option<u64>,
    /// The capture of output, in a worker of a pool.
    capture: OnceLock<Capture>,
    /// The stdin of a command of a pool, in the process that runs the command.
    command: OnceLock<Mutex<Ahead>>,
}

/// Bytes that were read, and the position of the first that wasn't handed out.
#[derive(Debug, Default)]
struct Ahead {
    bytes: Vec<u8>,
    at: usize,
}

impl Ahead {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Takes as much as fits. Returns the number of bytes.
    fn take(&mut self, buffer: &mut [u8]) -> usize {
        let rest = self.rest();
        let len = rest.len().min(buffer.len());
        buffer.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
        self.at += len;
        len
    }

    /// Takes a line, or as much of the line as is there and fits. Returns the number of bytes.
    fn take_line(&mut self, buffer: &mut [u8]) -> usize {
        let rest = self.rest();
        let line = rest.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        let len = line.len().min(buffer.len());
        buffer.iter_mut().zip(line).for_each(|(to, byte)| *to = *byte);
        self.at += len;
        len
    }
}

/// The error that ends a call of a process that has done more than a limit allows.
#[derive(Debug, thiserror::Error)]
#[error("it went on beyond its limit")]
pub(crate) struct OverLimit(pub(crate) Limit);

/// The handling of the output of a worker's tasks.
#[derive(Debug)]
pub(crate) struct Capture {
    /// The worker whose stderr all of this is, including the output of processes that a task has started.
    worker: ProcessHandle,
    output: wire::Output,
    /// The most bytes of each stream that are kept.
    max: u64,
    stdout: Mutex<Vec<u8>>,
    stderr: Mutex<Vec<u8>>,
}

impl Capture {
    pub(crate) fn new(worker: ProcessHandle, output: wire::Output, max: u64) -> Self {
        Self { worker, output, max, stdout: Mutex::default(), stderr: Mutex::default() }
    }

    fn keep(&self, stream: Stream, bytes: &[u8]) {
        let mut kept = locked(if stream == Stream::Stdout { &self.stdout } else { &self.stderr });
        let room = usize::try_from(self.max).unwrap_or(usize::MAX).saturating_sub(kept.len());
        kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }
}

#[derive(Debug)]
struct Line {
    stream: Stream,
    /// For a terminal or a pipe: the stream whose lock keeps other writers away.
    lock: Option<Stream>,
    held: Vec<u8>,
    since: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stdio {
    /// Makes the streams of a process, which has the run's stdin or an empty one.
    ///
    /// `by_line` is for guests that fork. A language keeps its read-ahead in its memory, and a forked process has a copy of that
    /// memory: so at most a line is read at a time, and otherwise as much as is there.
    pub(crate) fn new(
        participant: &Participant,
        has_stdin: bool,
        by_line: bool,
        limits: &Limits,
    ) -> Arc<Self> {
        let files = [fstat(io::stdout()).ok(), fstat(io::stderr()).ok()];
        Arc::new(Self {
            arena: participant.arena.clone(),
            index: AtomicU32::new(participant.index),
            stdout: Mutex::new(Line::new(Stream::Stdout, &files)),
            stderr: Mutex::new(Line::new(Stream::Stderr, &files)),
            has_stdin: AtomicBool::new(has_stdin),
            lines: by_line.then(Mutex::default),
            written: AtomicU64::new(0),
            max: limits.stdio_max,
            run_max: limits.run_stdio_max,
            capture: OnceLock::new(),
            command: OnceLock::new(),
        })
    }

    /// Makes these the streams of a worker from now on.
    pub(crate) fn capture(&self, capture: Capture) {
        let _ = self.capture.set(capture);
    }

    /// Makes these the streams of a command from now on: with this stdin, and a stdout that is kept as the output.
    pub(crate) fn begin_command(&self, stdin: Vec<u8>) {
        let _ = self.command.set(Mutex::new(Ahead { bytes: stdin, at: 0 }));
        self.has_stdin.store(true, Ordering::Relaxed);
    }

    /// The output of the task, as far as it is wanted: for a task that `failed`, the end of its stderr is wanted.
    pub(crate) fn end_task(&self, failed: bool) -> (Vec<u8>, Vec<u8>) {
        self.flush();
        let Some(capture) = self.capture.get() else { return Default::default() };
        let stdout = std::mem::take(&mut *locked(&capture.stdout));
        let mut stderr = std::mem::take(&mut *locked(&capture.stderr));
        if failed && stderr.is_empty() {
            stderr =
                capture.worker.index().and_then(|worker| tail::read(&self.arena, worker)).unwrap_or_default();
        }
        (stdout, stderr)
    }

    /// The slot of the process.
    pub(crate) fn index(&self) -> u32 {
        self.index.load(Ordering::Relaxed)
    }

    fn participant(&self) -> Participant {
        Participant { arena: self.arena.clone(), index: self.index(), patience: Patience::Forever }
    }

    /// Resets the streams in a process that was just forked: it is another participant, it has written nothing, and its
    /// stdin is empty.
    pub(crate) fn forked(&self, participant: &Participant) {
        self.written.store(0, Ordering::Relaxed);
        self.index.store(participant.index, Ordering::Relaxed);
        self.has_stdin.store(false, Ordering::Relaxed);
    }

    /// Whether the process has the run's stdin, and not the empty one.
    pub(crate) fn has_stdin(&self) -> bool {
        self.has_stdin.load(Ordering::Relaxed)
    }

    /// Whether more of stdin can be had without the kernel.
    pub(crate) fn has_read_ahead(&self) -> bool {
        self.has_stdin()
            && (self.command.get().is_some()
                || self.lines.as_ref().is_some_and(|ahead| !locked(ahead).rest().is_empty()))
    }

    /// Writes out parts of lines that were held back. A stream that nobody reads any more is no error here: the guest's
    /// next write tells the guest.
    #[inline(always)]
    pub(crate) fn flush(&self) {
        for line in [&self.stdout, &self.stderr] {
            let line = locked(line);
            if !line.held.is_empty() {
                self.write_held(line);
            }
        }
    }

    #[cold]
    fn write_held(&self, mut line: MutexGuard<'_, Line>) {
        let held = std::mem::take(&mut line.held);
        let _ = self.write_whole(&line, &held);
    }

    /// Writes a message of Sandpool's own about this process.
    pub(crate) fn report(&self, text: &str) {
        self.flush();
        self.keep_end(text.as_bytes());
        let _ = self.write_whole(&locked(&self.stderr), text.as_bytes());
    }

    /// The number of bytes of `len` that may still be written, and the limit that refuses the rest, if one does.
    fn allow(&self, len: usize) -> (usize, Option<Limit>) {
        let mut allowed = (len, None);
        let mut allow = |written: u64, max: u64, limit: fn(u64) -> Limit| {
            let left = max.saturating_sub(written);
            if left < allowed.0 as u64 {
                allowed = (left as usize, Some(limit(max)));
            }
        };
        if let Some(max) = self.max {
            allow(self.written.fetch_add(len as u64, Ordering::Relaxed), max, Limit::Stdio);
        }
        if let Some(max) = self.run_max {
            // An arena without its header is of no use.
            let all = self.arena.header().map(|header| &header.written);
            allow(all.map_or(max, |all| all.fetch_add(len as u64, Ordering::Relaxed)), max, Limit::RunStdio);
        }
        allowed
    }

    /// Where output goes in a worker: whether it is kept, and whether it goes to the stream itself.
    fn destination(&self, stream: Stream) -> Option<(&Capture, bool, bool)> {
        let capture = self.capture.get()?;
        let is_output = stream == Stream::Stdout && self.command.get().is_some();
        let is_kept = is_output || capture.output == wire::Output::Capture;
        Some((capture, is_kept, !is_output && capture.output == wire::Output::Inherit))
    }

    /// Whether a command has written as much as its output may have.
    fn is_output_full(&self, stream: Stream, more: usize) -> Option<Limit> {
        self.command.get().filter(|_| stream == Stream::Stdout)?;
        let capture = self.capture.get()?;
        let len = locked(&capture.stdout).len().saturating_add(more) as u64;
        (len > capture.max).then_some(Limit::Output(capture.max))
    }

    /// Writes a guest's output, as far as the limits allow.
    fn write_allowed(&self, stream: Stream, bytes: &[u8]) -> StreamResult<()> {
        if let Some(limit) = self.is_output_full(stream, bytes.len()) {
            return Err(StreamError::Trap(wasmtime::Error::new(OverLimit(limit))));
        }
        let (len, limit) = self.allow(bytes.len());
        let result = self.write(stream, bytes.get(..len).unwrap_or(bytes));
        if let Some(limit) = limit {
            return Err(StreamError::Trap(wasmtime::Error::new(OverLimit(limit))));
        }
        // The library calls a closed stream an error of the device: here the stream is a pipe that nobody reads.
        result.map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    /// Keeps the end of the output to stderr. The end is a convenience, so a loss with a damaged arena is no error.
    fn keep_end(&self, bytes: &[u8]) {
        let index = match self.capture.get() {
            // The worker may have ended before a process that a task has started.
            Some(capture) => process_table::resolve(&self.arena, capture.worker).map(|(index, _)| index),
            None => Ok(self.index()),
        };
        let _ = index.and_then(|index| tail::append(&self.arena, index, bytes));
    }

    fn write(&self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        if stream == Stream::Stderr {
            self.keep_end(bytes);
        }
        let mut line = locked(if stream == Stream::Stdout { &self.stdout } else { &self.stderr });
        let is_elsewhere = self.destination(stream).is_some_and(|(_, _, is_written)| !is_written);
        if line.lock.is_none() || is_elsewhere {
            return self.write_whole(&line, bytes);
        }
        let is_old = !line.held.is_empty() && line.since.elapsed() > HELD_TIME;
        if line.held.is_empty() {
            line.since = Instant::now();
        }
        line.held.extend_from_slice(bytes);
        let end = if is_old || line.held.len() > HELD_BYTES {
            line.held.len()
        } else {
            line.held.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1)
        };
        if end == 0 {
            return Ok(());
        }
        let rest = line.held.split_off(end);
        let whole = std::mem::replace(&mut line.held, rest);
        line.since = Instant::now();
        self.write_whole(&line, &whole)
    }

    fn write_whole(&self, line: &Line, bytes: &[u8]) -> io::Result<()> {
        let participant = self.participant();
        if let Some((capture, is_kept, is_written)) = self.destination(line.stream) {
            if is_kept {
                capture.keep(line.stream, bytes);
            }
            if !is_written {
                return Ok(());
            }
        }
        let header = participant.arena.header().map_err(io::Error::other)?;
        let _alone = match line.lock {
            Some(Stream::Stdout) => Some(header.stdio[0].lock(&participant).map_err(io::Error::other)?),
            Some(Stream::Stderr) => Some(header.stdio[1].lock(&participant).map_err(io::Error::other)?),
            None => None,
        };
        // The write bypasses the buffer of std's stdout, of which a forked process would have a copy.
        match line.stream {
            Stream::Stdout => patient::write_all(io::stdout().as_fd(), bytes),
            Stream::Stderr => patient::write_all(io::stderr().as_fd(), bytes),
        }
    }
}

impl Line {
    /// The files are those of stdout and stderr.
    fn new(stream: Stream, files: &[Option<FileStat>; 2]) -> Self {
        let [stdout, stderr] = files.map(|file| file.map(|stat| (stat.st_dev, stat.st_ino)));
        let own = if stream == Stream::Stdout { files[0] } else { files[1] };
        let is_file = own.is_some_and(|stat| stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFREG);
        let is_one = stdout.is_some() && stdout == stderr;
        let lock = if is_one { Stream::Stdout } else { stream };
        Self { stream, lock: (!is_file).then_some(lock), held: Vec::new(), since: Instant::now() }
    }
}

/// A guest's stdout or stderr.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    stdio: Arc<Stdio>,
    stream: Stream,
}

impl Output {
    pub(crate) fn stdout(stdio: &Arc<Stdio>) -> Self {
        Self { stdio: stdio.clone(), stream: Stream::Stdout }
    }

    pub(crate) fn stderr(stdio: &Arc<Stdio>) -> Self {
        Self { stdio: stdio.clone(), stream: Stream::Stderr }
    }

    /// Writes all of the bytes, as far as the limits allow.
    pub(crate) fn write_bytes(&self, bytes: &[u8]) -> StreamResult<()> {
        self.stdio.write_allowed(self.stream, bytes)
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        match self.stream {
            Stream::Stdout => io::stdout().is_terminal(),
            Stream::Stderr => io::stderr().is_terminal(),
        }
    }
}

impl StdoutStream for Output {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.stdio.write_allowed(self.stream, &bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(
            self.stdio.write_allowed(self.stream, bytes).map_err(io::Error::other).map(|()| bytes.len()),
        )
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A guest's stdin: the run's own for the main process, an empty one for all others. Reading blocks; no thread reads
/// ahead.
#[derive(Debug, Clone)]
pub(crate) struct Input(pub(crate) Arc<Stdio>);

impl Input {
    /// Whether a read may have to wait.
    pub(crate) fn may_wait(&self) -> bool {
        self.0.has_stdin() && !self.0.has_read_ahead()
    }

    fn read_some(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.0.has_stdin() {
            return Ok(0);
        }
        self.0.flush();
        if let Some(input) = self.0.command.get() {
            let mut input = locked(input);
            return Ok(if self.0.lines.is_some() { input.take_line(buffer) } else { input.take(buffer) });
        }
        // The read bypasses the buffer of std's stdin, of which a forked process would have a copy.
        let stdin = io::stdin();
        let Some(ahead) = &self.0.lines else { return patient::read(stdin.as_fd(), buffer) };
        let mut ahead = locked(ahead);
        if ahead.rest().is_empty() {
            let len = patient::read(stdin.as_fd(), buffer)?;
            ahead.bytes.clear();
            ahead.bytes.extend_from_slice(buffer.get(..len).unwrap_or_default());
            ahead.at = 0;
        }
        Ok(ahead.take_line(buffer))
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        self.0.has_stdin() && io::stdin().is_terminal()
    }
}

impl StdinStream for Input {
    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {}
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut buffer = vec![0; size.min(CHUNK)];
        match self.read_some(&mut buffer) {
            Ok(0) => Err(StreamError::Closed),
            Ok(len) => {
                buffer.truncate(len);
                Ok(buffer.into())
            }
            Err(error) => Err(StreamError::LastOperationFailed(error.into())),
        }
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = self.read_some(buffer.initialize_unfilled());
        Poll::Ready(len.map(|len| buffer.advance(len)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_handed_out_by_lines() {
        let mut ahead = Ahead { bytes: b"one\n\nthree".to_vec(), at: 0 };
        let mut buffer = [0; 4];
        let mut lines = Vec::new();
        while !ahead.rest().is_empty() {
            let len = ahead.take_line(&mut buffer);
            lines.push(buffer.get(..len).unwrap_or_default().to_vec());
        }
        assert_eq!(lines, [&b"one\n"[..], b"\n", b"thre", b"e"]);
        assert_eq!(ahead.take_line(&mut buffer), 0);
        // A reader without room gets nothing, and loses nothing.
        ahead.at = 0;
        assert_eq!((ahead.take_line(&mut []), ahead.rest().len()), (0, 10));
    }
}
