//! The end of the stream that takes results: output, failures, journal, progress, and the summary.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use sandpool::command_support::Directory;
use sandpool::pool::{Failure, StreamStopper};
use sandpool::{Error, ExitStatus, GuestText};
use serde::Serialize;

use super::files::Output;
use super::halt::{Halt, When, Why};
use super::journal::{Journal, MapState};
use super::numbers::Numbers;
use super::progress::{self, Figures, Progress};
use super::records::Framing;
use super::report::Line;
use super::work::{Done, Failed, Outcomes};
use crate::exit_code::ExitCode;
use crate::interrupt::Interrupt;
use crate::{json, text};

/// The reaction to a record that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnError {
    Stop,
    Skip,
    Record,
}

/// How much of the input was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) records: AtomicU64,
    pub(super) bytes: AtomicU64,
}

/// Why a map has ended.
pub(super) enum Ending {
    /// All records are done.
    Done,
    /// A signal came.
    Interrupted,
    /// A record has failed, or as many as --halt says.
    Failed,
    /// The number of records that --halt names have succeeded, or are done.
    Halted,
    /// The reader of the output reads no more.
    ReaderGone,
}

/// The exit code of a command that SIGPIPE would have ended.
const READER_GONE: u8 = 128 + Signal::SIGPIPE as u8;

impl Ending {
    pub(super) fn exit_code(&self, have_some_failed: bool) -> u8 {
        match self {
            Self::ReaderGone => READER_GONE,
            Self::Failed => ExitCode::Stopped.code(),
            _ if have_some_failed => ExitCode::RecordsFailed.code(),
            _ => ExitCode::Success.code(),
        }
    }
}

/// How often the journal is written. If many records have failed, the pause is also longer in proportion to the time that writing
/// takes.
pub(super) const SAVE_TIME: Duration = Duration::from_secs(1);
const SAVE_PART: u32 = 10;

/// Progress and journal are updated after this number of results, and after this time.
const RESULTS: u32 = 256;
const PAUSE: Duration = Duration::from_millis(100);

/// The end of the stream that takes results.
pub(super) struct Map<'a> {
    pub(super) interrupt: &'a Interrupt,
    pub(super) framing: Framing,
    pub(super) is_ordered: bool,
    /// Results are in order, and one is missing.
    pub(super) is_cut: bool,
    /// A program is run, and its stdout is the result.
    pub(super) is_program: bool,
    pub(super) on_error: OnError,
    pub(super) halt: Option<Halt>,
    pub(super) halted: StreamStopper,
    pub(super) is_halted: bool,
    /// Records whose outcome was seen, and the number of these that have failed.
    pub(super) seen: u64,
    pub(super) seen_failed: u64,
    pub(super) output: Output,
    pub(super) errors: Option<Output>,
    pub(super) report: Option<Output>,
    pub(super) results_dir: Option<Directory>,
    pub(super) journal: Option<Journal>,
    pub(super) numbers: Numbers,
    /// Records that are done when the outputs have written the bytes that they hold back.
    pub(super) pending: VecDeque<Pending>,
    pub(super) state: MapState,
    /// Number of records that were done when this command began.
    pub(super) already: u64,
    /// Number of these records that had failed.
    pub(super) failed_before: u64,
    /// Whether an earlier command has done any records.
    pub(super) is_resumed: bool,
    /// Failed records are done again.
    pub(super) is_retry: bool,
    /// Number of records that this command has done; and the number of these that have failed.
    pub(super) records: u64,
    pub(super) failed: u64,
    pub(super) read: Arc<Read>,
    pub(super) input_len: Option<u64>,
    pub(super) progress: Progress,
    pub(super) saved: Instant,
    pub(super) pause: Duration,
}

/// A record that is done when the output up to `end` is written.
pub(super) struct Pending {
    record: u64,
    end: End,
}

enum End {
    /// The output, up to this length.
    Output(u64),
    /// The file of failures, up to this length.
    Errors(u64),
    /// No file: the record has failed, and its failure was written elsewhere.
    Elsewhere,
}

impl Map<'_> {
    pub(super) fn take_all(&mut self, mut results: Outcomes) -> anyhow::Result<Ending> {
        let mut since = 0;
        let mut is_told = false;
        loop {
            let mut next = results.next_timeout(Duration::ZERO);
            if let Err(RecvTimeoutError::Timeout) = next {
                // Results that are ready must reach their reader now.
                if let Some(ending) = self.flush()? {
                    return Ok(ending);
                }
                next = results.next_timeout(PAUSE);
                since = RESULTS;
            }
            match next {
                Ok((number, outcome)) => {
                    if let Some(ending) = self.take(number, outcome)? {
                        return Ok(ending);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if self.is_halted => return Ok(self.halting()),
                Err(RecvTimeoutError::Disconnected) if results.is_stopped() => {
                    return Ok(Ending::Interrupted);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Ending::Done),
            }
            since += 1;
            if since >= RESULTS {
                since = 0;
                if results.is_stopped() && !is_told && !self.is_halted {
                    is_told = true;
                    self.progress.note(
                        "stopping when the tasks that have begun are done; a second signal ends the tasks",
                    );
                }
                self.settle();
                self.progress.show(self.figures());
                if self.journal.is_some() && self.saved.elapsed() >= self.pause {
                    if let Some(ending) = self.flush()? {
                        return Ok(ending);
                    }
                    self.save()?;
                }
            }
        }
    }

    /// Takes the outcome of a record, which may turn out not to be done.
    fn take(&mut self, number: u64, outcome: Result<Done, Failed>) -> anyhow::Result<Option<Ending>> {
        let (record, nothing_to_do) = self.numbers.record(number);
        if self.is_cut {
            return Ok(None);
        }
        self.state.done.insert(nothing_to_do);
        let failure = match outcome {
            Ok(Done { value, attempts, usage, exit }) => match self.write(&value) {
                Ok(Ok(())) => {
                    self.write_result(record, "out", &value)?;
                    let bytes = value.len() as u64;
                    self.note_line(Line::new(record, attempts, None, exit, bytes).with(&usage))?;
                    None
                }
                Ok(Err(why)) => {
                    let cause = Failure::Refused(why.into());
                    Some(Failed { cause, attempts, stderr: GuestText::default(), usage, exit })
                }
                Err(error) => return gone(Err(error)),
            },
            Err(failed) => match failed.cause {
                // The task was stopped before it began. If results are in order, those after it must wait for it.
                Failure::Cancelled => {
                    self.is_cut = self.is_ordered;
                    return Ok(None);
                }
                // The signal has stopped this command as well, because `timeout` sends it to all of a process group.
                Failure::Ended(ExitStatus::Signaled(signal))
                    if self.interrupt.caught(Some(signal.0)).is_some() =>
                {
                    self.is_cut = self.is_ordered;
                    return Ok(None);
                }
                Failure::PoolEnded(end) => return Err(Error::Pool(end).into()),
                Failure::Unsupported => {
                    return Err(anyhow!(
                        "the task does not know the format {}: another --format may do",
                        self.framing.name()
                    ));
                }
                cause => Some(Failed { cause, ..failed }),
            },
        };
        self.seen += 1;
        self.seen_failed += u64::from(failure.is_some());
        let end = match failure {
            None => End::Output(self.output.len()),
            Some(Failed { cause, attempts, stderr, usage, exit }) => {
                self.note_line(Line::new(record, attempts, Some(&cause), exit, 0).with(&usage))?;
                self.write_result(record, "err", stderr.raw().as_bytes())?;
                let end = self.note_failure(record, &cause, attempts, &stderr)?;
                if self.on_error == OnError::Stop {
                    return Ok(Some(Ending::Failed));
                }
                end
            }
        };
        self.pending.push_back(Pending { record, end });
        Ok(self.look_whether_to_halt())
    }

    /// Stops the map if `--halt` says so.
    fn look_whether_to_halt(&mut self) -> Option<Ending> {
        let halt =
            self.halt.filter(|halt| !self.is_halted && halt.is_reached(self.seen, self.seen_failed))?;
        self.is_halted = true;
        match halt.when {
            When::Now => Some(self.halting()),
            When::Soon => {
                self.progress.note("halting when the records that have begun are done");
                self.halted.stop();
                None
            }
        }
    }

    /// How a map ends that was halted.
    fn halting(&self) -> Ending {
        match self.halt.map(|halt| halt.why) {
            Some(Why::Success | Why::Done) => Ending::Halted,
            _ => Ending::Failed,
        }
    }

    /// Takes a result, which may be held back; or says why the value can't be a record.
    fn write(&mut self, value: &[u8]) -> std::io::Result<Result<(), &'static str>> {
        match self.framing {
            Framing::Lines | Framing::Jsonl | Framing::Nul if self.is_program => {
                self.output.write_all(value).map(Ok)
            }
            framing => self.output.write_record(framing, value),
        }
    }

    /// Writes a file of its own for a record, if that is wanted.
    fn write_result(&self, record: u64, end: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let Some(dir) = &self.results_dir else { return Ok(()) };
        let name = format!("{record}.{end}");
        let write = || {
            let mut file = dir.create(name.as_ref(), 0o666)?;
            file.file().write_all(bytes)?;
            file.finish()
        };
        write().with_context(|| format!("cannot write the result {name}"))
    }

    /// Adds a line to the report, if there is one.
    fn note_line(&mut self, line: Line<'_>) -> anyhow::Result<()> {
        match &mut self.report {
            Some(report) => report.write_line(&json::to_json(&line)?),
            None => Ok(()),
        }
    }

    fn note_failure(
        &mut self,
        index: u64,
        cause: &Failure,
        attempts: u32,
        stderr: &GuestText,
    ) -> anyhow::Result<End> {
        #[derive(Serialize)]
        struct FailureRecord<'a> {
            index: u64,
            cause: &'a str,
            detail: String,
            attempts: u32,
            stderr: &'a str,
        }

        // JSON has its own escapes, so that a reader of the JSON gets the guest's own text.
        let detail = match cause {
            Failure::Failed(text) | Failure::Refused(text) => text.raw().to_owned(),
            cause => cause.to_string(),
        };

        if self.on_error == OnError::Stop {
            self.progress.note(&format!("error: record {index} failed: {cause}"));
            for line in stderr.lines() {
                self.progress.note(&format!("  {line}"));
            }
        }
        let record = FailureRecord { index, cause: cause.kind(), detail, attempts, stderr: stderr.raw() };
        let line = json::to_json(&record)?;
        match (&mut self.errors, self.on_error) {
            (_, OnError::Skip) | (None, OnError::Stop) => {}
            (Some(errors), _) => {
                errors.write_line(&line)?;
                return Ok(End::Errors(errors.len()));
            }
            (None, OnError::Record) => self.progress.record(&line).context("cannot write failure records")?,
        }
        Ok(End::Elsewhere)
    }

    /// Writes the bytes that are held back, and notes the records that are done by that.
    fn flush(&mut self) -> anyhow::Result<Option<Ending>> {
        let errors = self.errors.as_mut().map_or(Ok(()), |errors| errors.flush());
        let report = self.report.as_mut().map_or(Ok(()), |report| report.flush());
        let output = self.output.flush();
        self.settle();
        report.context("cannot write the report")?;
        errors.context("cannot write failure records")?;
        gone(output)
    }

    /// Notes the records that are done: all that were written, in the order in which they were taken.
    fn settle(&mut self) {
        let errors = self.errors.as_ref().map_or(0, Output::written);
        let output = self.output.written();
        // Most records follow each other, and are added at once.
        let mut added = 0..0;
        while let Some(Pending { record, end }) = self.pending.pop_front_if(|pending| match pending.end {
            End::Output(end) => end <= output,
            End::Errors(end) => end <= errors,
            End::Elsewhere => true,
        }) {
            match end {
                End::Output(end) => self.state.output = end,
                End::Errors(end) => self.state.errors = Some(end),
                End::Elsewhere => {}
            }
            self.records += 1;
            if !matches!(end, End::Output(_)) {
                self.failed += 1;
                self.state.failed.insert(record..record + 1);
            } else if self.is_retry {
                self.state.failed.remove(record);
            }
            if record != added.end {
                self.state.done.insert(added);
                added = record..record;
            }
            added.end = record + 1;
        }
        self.state.done.insert(added);
    }

    /// Writes the progress to the journal, where another command finds it. The data that the journal describes has been written.
    fn save(&mut self) -> anyhow::Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let began = Instant::now();
        self.output.sync()?;
        if let Some(errors) = &mut self.errors {
            errors.sync()?;
        }
        journal.save(&self.state)?;
        self.saved = Instant::now();
        self.pause = SAVE_TIME.max((self.saved - began).saturating_mul(SAVE_PART));
        Ok(())
    }

    fn figures(&self) -> Figures {
        let done = self.already + self.records;
        // Nobody knows how far failed records are apart in the input.
        let len = self.input_len.filter(|len| *len > 0 && !self.is_retry);
        let part = len.map(|len| {
            // Reading is a little ahead of the records that are done.
            let read = self.read.records.load(Ordering::Relaxed).max(1) as f64;
            let bytes = self.read.bytes.load(Ordering::Relaxed) as f64 / len as f64;
            let part = |records: u64| (bytes * records as f64 / read).clamp(0.0, 1.0);
            (part(done), part(self.already))
        });
        Figures { records: self.records, failed: self.failed, part }
    }

    /// Writes the remaining output, and reports how the map ended.
    pub(super) fn end(
        &mut self,
        ended: anyhow::Result<Ending>,
        reader: JoinHandle<anyhow::Result<()>>,
    ) -> anyhow::Result<Ending> {
        self.progress.end();
        let ended = ended.and_then(|ending| match ending {
            // The reader has ended, unless it was stopped.
            Ending::Done => match reader.join() {
                Ok(read) => read.map(|()| Ending::Done),
                Err(_) => Err(anyhow!("the thread that reads the input has panicked")),
            },
            ending => Ok(ending),
        });
        let flushed = self.flush();
        // The first of several reasons counts.
        let mut ended = match (ended, flushed) {
            (Ok(Ending::ReaderGone), _) => Ok(Ending::ReaderGone),
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok(ending), Ok(gone)) => Ok(gone.unwrap_or(ending)),
        };
        if let Ok(Ending::Done) = ended {
            // All records that were read, including those at the end with nothing to do.
            self.state.done.insert(0..self.read.records.load(Ordering::Relaxed));
            self.state.is_finished = true;
            // With a journal, saving it does this.
            if self.journal.is_none()
                && let Err(error) = self.output.sync()
            {
                ended = Err(error);
            }
        }
        match (self.save(), &ended) {
            (Err(error), Ok(_)) => ended = Err(error),
            // A worse error is reported.
            (_, Err(_)) | (Ok(()), _) => {}
        }
        self.summarize(&ended);
        ended
    }

    fn summarize(&self, ended: &anyhow::Result<Ending>) {
        let Figures { records, failed, .. } = self.figures();
        let elapsed = self.progress.elapsed();
        let is_done = matches!(ended, Ok(Ending::Done));
        if is_done && self.is_resumed && records == 0 {
            nothing_left(&self.state);
            return;
        }
        let mut summary = format!(
            "{} in {} ({}/s)",
            progress::counted(records),
            text::duration(elapsed),
            progress::rate(records, elapsed)
        );
        if failed > 0 {
            summary.push_str(&format!(", {failed} failed"));
        }
        if self.already > 0 {
            summary.push_str(&format!(", {} before that", self.already));
        }
        if self.failed_before > 0 {
            summary.push_str(&format!("; {} failed in all", self.state.failed.count()));
        }
        text::note(&summary);
        if !is_done {
            let stopped = match self.is_retry {
                true => "stopped before all that had failed was done again".to_owned(),
                false => format!("stopped before record {}", self.state.done.first_gap()),
            };
            let go_on = if self.is_retry { "--resume --retry-failed goes" } else { "--resume goes" };
            match &self.journal {
                Some(_) => text::note(&format!("{stopped}; {go_on} on from there")),
                None => text::note(&stopped),
            }
        }
    }
}

/// A write to a reader that reads no more is an end, and no error.
pub(super) fn gone(written: std::io::Result<()>) -> anyhow::Result<Option<Ending>> {
    match written {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Some(Ending::ReaderGone)),
        Err(error) => Err(error).context("cannot write the output"),
    }
}

/// Says that all records are done, and returns the exit code for them.
pub(super) fn nothing_left(state: &MapState) -> u8 {
    let failed = state.failed.count();
    let mut line = format!("nothing left to do: {} done before", progress::counted(state.done.count()));
    if failed > 0 {
        line.push_str(&format!(", {failed} failed; --retry-failed does those again"));
    }
    text::note(&line);
    Ending::Done.exit_code(failed > 0)
}
