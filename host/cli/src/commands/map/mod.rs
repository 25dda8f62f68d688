//! `sandpool map`: a task over the records of a file.
//!
//! ```text
//!  input ─ reader ─▶ Feed ─▶ the pool's workers ─▶ Results ─▶ output, failures
//!          a thread of its own                     this thread: journal, progress
//! ```
//!
//! The records between the two ends are bounded, so the input may have any number of them. A signal stops the feed: tasks that have
//! begun are finished, written and noted; no others are. The journal says how to go on from there.
//!
//! A record is done when its result, or its failure, has been written, that is, handed to the kernel, whatever kind of file the
//! output is. Only such records are counted, summed up and noted in the journal, which is written after the output is on the disk.

mod files;
mod journal;
mod numbers;
mod progress;
mod ranges;
mod records;

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use sandpool::command_support::Writable;
use sandpool::{
    Completed, Error, ExitStatus, Failure, Feed, GuestText, Isolation, Module, Pool, Profile, Results,
    Sandbox, TaskError,
};
use serde::Serialize;

use self::files::{Input, Output, Target};
use self::journal::{Identity, Journal, MapState};
use self::numbers::{Left, Numbering, Numbers};
use self::progress::{Choice, Figures, Progress};
use self::ranges::Ranges;
use self::records::{Framing, Next, Reader};
use crate::commands::guest::GuestArgs;
use crate::exit_code::{self, ExitCode};
use crate::interrupt::{self, Interrupt};
use crate::{commands, json, text};

const EXAMPLES: &str = "\
Examples:
  sandpool map tasks.wasm --task upper --input text.txt --output upper.txt
      Runs a task over each line of a file; the results are in the order of the lines

  zcat reviews.jsonl.gz | sandpool map my-crate --task score --format jsonl --unordered > scores.jsonl
      Builds the crate first, and writes results as they come

  sandpool map plugin.wasm --task check --profile untrusted --isolation task --task-timeout 5s \\
      --on-error record --errors failed.jsonl --input all.txt --output checked.txt
      Code that nobody trusts: each record gets a fresh sandbox, and a failure stops no other record

  sandpool map tasks.wasm --task upper --input text.txt --output upper.txt --resume
      Continues where Ctrl-C, a failure or a crash has stopped the same command

  sandpool map tasks.wasm --task check --input all.txt --output checked.txt --errors failed.jsonl \\
      --on-error record --resume --retry-failed
      Does failed records again; adds their results at the end, and lists new failures in failed.jsonl

  find . -name '*.txt' -print0 | sandpool map tasks.wasm --task title --dir .:ro --format nul | xargs -0 -n1 echo
      Records that end with NUL may have line breaks in them";

/// Run a task of a module over the records of a file.
///
/// A task is a function that a module exports, in Rust one with #[sandpool_guest::task]; `sandpool inspect` lists the
/// tasks of a module. Workers run the task in parallel, each in a sandboxed process. Output that tasks print is thrown
/// away, but for the end of the stderr of a task that fails.
///
/// A failure record is a line of JSON: index (of the input record, from 0), cause, detail, attempts, stderr. A failed
/// record has no result.
///
/// Lines end with LF or CRLF. A byte-order mark before the first line is left out. Empty lines of JSON are skipped, but
/// count for the index. Numbers in JSON are passed unchanged: a record fails if a type would change one of its numbers,
/// or if its result is NaN.
///
/// After Ctrl-C or SIGTERM, tasks that have begun are finished, and their results are written; a second signal ends
/// everything at once. A record is done when its result has been written. If nobody reads the output any more, the exit
/// code is 141, as after SIGPIPE.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit_code::help()))]
pub(crate) struct MapArgs {
    /// Name of the task
    #[arg(long, value_name = "NAME")]
    task: String,

    /// Number of workers [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    workers: Option<u32>,

    /// File to read records from; - is stdin
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,

    /// File to write results to; - is stdout. Beside a file, FILE.sandpool notes progress and failures
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,

    /// Write results in the order of their inputs; this is the default
    #[arg(long, conflicts_with = "unordered")]
    ordered: bool,

    /// Write results as they come
    #[arg(long)]
    unordered: bool,

    /// Format of records. lines: text without its line end, LF or CRLF; jsonl: lines of JSON; raw: bytes, each record
    /// after its length as 32 bits, little-endian; nul: text that ends with NUL, as of `find -print0`
    #[arg(long, value_name = "lines|jsonl|raw|nul", default_value = "lines")]
    format: Framing,

    /// Kill a task that runs for longer, such as 5s, 300ms or 2min; none kills no task
    #[arg(long, value_name = "TIME", value_parser = task_timeout)]
    task_timeout: Option<TaskTimeout>,

    /// Number of times that a task is tried again after it crashed, was killed or took too long
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,

    /// Sandbox of a task. worker: a worker runs many tasks; task: each task has a fresh sandbox, in a process of its
    /// own
    #[arg(long, value_name = "worker|task", default_value = "worker")]
    isolation: Isolation,

    /// Action if a record fails: stop; skip the record; or record the cause, in the file of --errors or else on stderr
    #[arg(long, value_name = "stop|skip|record", default_value = "stop", hide_possible_values = true)]
    on_error: OnError,

    /// File to write failure records to
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,

    /// Show progress on stderr. auto: on a terminal only; always: elsewhere as well, as a line each second; never
    #[arg(long, value_name = "auto|always|never", default_value = "auto", hide_possible_values = true)]
    progress: Choice,

    /// Continue where an earlier command with the same module, task, format and input has stopped; without such a
    /// command, begin with the first record. An input that isn't a file must have the same records again
    #[arg(long)]
    resume: bool,

    /// With --resume: do failed records again, beside the remaining ones. Their results follow the results that are
    /// there, in the order of the records; the file of --errors begins anew
    #[arg(long, requires = "resume")]
    retry_failed: bool,

    #[command(flatten)]
    guest: GuestArgs,

    /// Name of the program, if the crate has several
    #[arg(long, value_name = "NAME")]
    bin: Option<String>,

    /// WebAssembly module (.wasm or .wat), or directory of a crate, which is built first: the build scripts and macros
    /// of the crate run outside of any jail, with all rights of this user
    #[arg(value_name = "MODULE|CRATE_DIR")]
    module: PathBuf,
}

/// What to do if a record fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OnError {
    Stop,
    Skip,
    Record,
}

/// A time, or none.
#[derive(Debug, Clone, Copy)]
struct TaskTimeout(Option<Duration>);

fn task_timeout(text: &str) -> Result<TaskTimeout, String> {
    match text {
        "none" => Ok(TaskTimeout(None)),
        _ => sandpool::units::time(text)
            .map(|time| TaskTimeout(Some(time)))
            .map_err(|why| format!("{why}; or none")),
    }
}

pub(crate) fn run(args: MapArgs) -> anyhow::Result<u8> {
    let interrupt = Interrupt::watch()?;
    let sandbox = args.guest.sandbox()?;
    let path = commands::module_path(&args.module, args.bin.as_deref(), &sandbox)?;
    let module = commands::load(&path, &sandbox)?;
    module.task(&args.task)?;
    let input = Input::open(&args.input)?;
    let writable = Writable::granted(&sandbox.dirs)?;
    let target = Target::find(&args.output, &writable)?;
    let errors = args.errors.as_deref().map(|path| Target::find(path, &writable)).transpose()?;
    if errors.as_ref().is_some_and(|errors| errors.is_journal_of(&target)) {
        return Err(files::same("--errors", "the journal").into());
    }
    let (mut output, place) = Output::open(target)?;
    let mut errors = errors.map(|target| Output::open(target).map(|(errors, _)| errors)).transpose()?;
    let framing = args.format;
    let journal = match place {
        Some(place) => {
            let of = Identity::new(module.sha256(), &args.task, framing.name(), input.metadata());
            Some(Journal::new(&args.output, place, of))
        }
        None if args.resume => {
            return Err(Error::Invalid {
                what: "--resume needs an output that is a file".to_owned(),
                hint: Some("name it with --output".to_owned()),
            }
            .into());
        }
        None => None,
    };
    files::refuse_same(&input, &output, errors.as_ref(), journal.as_ref())?;
    output.lock()?;
    errors.as_ref().map_or(Ok(()), Output::lock)?;
    let found = match &journal {
        Some(journal) if args.resume => journal.load()?,
        _ => None,
    };
    let is_resumed = found.is_some();
    let mut state = found.unwrap_or_default();
    output.has(state.output)?;
    let again = if args.retry_failed { state.failed.clone() } else { Ranges::default() };
    // If the input isn't a file, it may have more records by now.
    let is_all = state.is_finished && input.len.is_some();
    if is_all && again.count() == 0 {
        return Ok(nothing_left(&state));
    }
    state.is_finished = is_all;
    if let Some(errors) = &errors {
        if again.count() > 0 {
            state.errors = Some(0);
        }
        errors.has(state.errors.unwrap_or(0))?;
    }
    match &journal {
        Some(journal) if again.count() > 0 => journal.save(&state)?,
        Some(journal) if !is_resumed => journal.begin()?,
        _ => {}
    }
    output.begin_at(state.output)?;
    if let Some(errors) = &mut errors {
        errors.begin_at(state.errors.unwrap_or(0))?;
    }

    let pool = pool(&args, sandbox, &module)?;
    let open = if args.unordered { Pool::stream_unordered } else { Pool::stream };
    let (feed, results) = open(&pool, &args.task, framing.format());
    let stopper = results.stopper();
    interrupt.calls(move |signal, is_first| {
        if !is_first {
            // The workers end with this process.
            interrupt::die_of(signal);
        }
        stopper.stop();
    });
    let is_retry = again.count() > 0;
    let left = if is_all { Left::only(again) } else { Left::new(state.done.clone(), again) };
    let read = Arc::new(Read::default());
    let (numbering, numbers) = numbers::numbers();
    let reader = start_reader(Reader::new(input.file, framing), feed, left, numbering, read.clone())?;

    let mut map = Map {
        interrupt: &interrupt,
        framing,
        is_ordered: !args.unordered,
        is_cut: false,
        on_error: args.on_error,
        output,
        errors,
        journal,
        numbers,
        pending: VecDeque::new(),
        already: state.done.count(),
        failed_before: state.failed.count(),
        state,
        is_resumed,
        is_retry,
        records: 0,
        failed: 0,
        read,
        input_len: input.len,
        progress: Progress::new(args.progress),
        saved: Instant::now(),
        pause: SAVE_TIME,
    };
    let ended = map.take_all(results);
    let result = map.end(ended, reader);
    drop(pool);
    if let Ok(Ending::Interrupted) = &result {
        interrupt.die_if_caught(Some(Signal::SIGINT as i32));
    }
    Ok(result?.exit_code(map.state.failed.count() > 0))
}

/// Says that all records are done, and returns the exit code for them.
fn nothing_left(state: &MapState) -> u8 {
    let failed = state.failed.count();
    let mut line = format!("nothing left to do: {} done before", progress::counted(state.done.count()));
    if failed > 0 {
        line.push_str(&format!(", {failed} failed; --retry-failed does those again"));
    }
    text::note(&line);
    Ending::Done.exit_code(failed > 0)
}

fn pool(args: &MapArgs, sandbox: Sandbox, module: &Module) -> sandpool::Result<Pool> {
    let mut builder = Pool::builder(module).sandbox(sandbox).isolation(args.isolation).retries(args.retries);
    if let Some(workers) = args.workers {
        builder = builder.processes(workers as usize);
    }
    let timeout = match args.task_timeout {
        Some(TaskTimeout(timeout)) => timeout,
        None => args.guest.profile()?.map(Profile::task_timeout),
    };
    if let Some(timeout) = timeout {
        builder = builder.task_timeout(timeout);
    }
    let pool = builder.build()?;
    args.guest.report(module.jail(), pool.jail());
    Ok(pool)
}

/// How much of the input was read.
#[derive(Debug, Default)]
struct Read {
    records: AtomicU64,
    bytes: AtomicU64,
}

/// Starts a thread that reads records and feeds the pool with them: a slow input must not keep results back.
fn start_reader(
    mut reader: Reader,
    mut feed: Feed,
    left: Left,
    mut numbering: Numbering,
    read: Arc<Read>,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let work = move || {
        let mut record = Vec::new();
        while left.goes_on(reader.records()) {
            if !reader.has_next() {
                feed.flush();
            }
            let number = reader.records();
            let next = reader.read(&mut record)?;
            read.records.store(reader.records(), Ordering::Relaxed);
            read.bytes.store(reader.bytes(), Ordering::Relaxed);
            match next {
                Next::Record if left.contains(number) => {
                    numbering.is_next(number);
                    if !feed.put(&record) {
                        return Ok(());
                    }
                }
                Next::Record | Next::Empty => {}
                Next::End => return Ok(()),
            }
        }
        Ok(())
    };
    thread::Builder::new().name("input".to_owned()).spawn(work).context("cannot start a thread")
}

/// Why a map has ended.
enum Ending {
    /// All records are done.
    Done,
    /// A signal came.
    Interrupted,
    /// A record has failed.
    Failed,
    /// The reader of the output reads no more.
    ReaderGone,
}

/// The exit code of a command that SIGPIPE would have ended.
const READER_GONE: u8 = 128 + Signal::SIGPIPE as u8;

impl Ending {
    fn exit_code(&self, have_some_failed: bool) -> u8 {
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
const SAVE_TIME: Duration = Duration::from_secs(1);
const SAVE_PART: u32 = 10;

/// Progress and journal are updated after this number of results, and after this time.
const RESULTS: u32 = 256;
const PAUSE: Duration = Duration::from_millis(100);

/// The end of the stream that takes results.
struct Map<'a> {
    interrupt: &'a Interrupt,
    framing: Framing,
    is_ordered: bool,
    /// Results are in order, and one is missing.
    is_cut: bool,
    on_error: OnError,
    output: Output,
    errors: Option<Output>,
    journal: Option<Journal>,
    numbers: Numbers,
    /// Records that are done when the outputs have written the bytes that they hold back.
    pending: VecDeque<Pending>,
    state: MapState,
    /// Number of records that were done when this command began.
    already: u64,
    /// Number of these records that had failed.
    failed_before: u64,
    /// Whether an earlier command has done any records.
    is_resumed: bool,
    /// Failed records are done again.
    is_retry: bool,
    /// Number of records that this command has done; and the number of these that have failed.
    records: u64,
    failed: u64,
    read: Arc<Read>,
    input_len: Option<u64>,
    progress: Progress,
    saved: Instant,
    pause: Duration,
}

/// A record that is done when the output up to `end` is written.
struct Pending {
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
    fn take_all(&mut self, mut results: Results) -> anyhow::Result<Ending> {
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
                Err(RecvTimeoutError::Disconnected) if results.is_stopped() => {
                    return Ok(Ending::Interrupted);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Ending::Done),
            }
            since += 1;
            if since >= RESULTS {
                since = 0;
                if results.is_stopped() && !is_told {
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
    fn take(
        &mut self,
        number: u64,
        outcome: Result<Completed<Vec<u8>>, TaskError>,
    ) -> anyhow::Result<Option<Ending>> {
        let (record, nothing_to_do) = self.numbers.record(number);
        if self.is_cut {
            return Ok(None);
        }
        self.state.done.insert(nothing_to_do);
        let failure = match outcome {
            Ok(completed) => match self.output.write_record(self.framing, &completed.value) {
                Ok(Ok(())) => None,
                Ok(Err(why)) => {
                    Some((Failure::Refused(why.into()), completed.attempts, GuestText::default()))
                }
                Err(error) => return gone(Err(error)),
            },
            Err(TaskError { cause, attempts, stderr, .. }) => match cause {
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
                cause => Some((cause, attempts, stderr)),
            },
        };
        let end = match failure {
            None => End::Output(self.output.len()),
            Some((cause, attempts, stderr)) => {
                let end = self.note_failure(record, &cause, attempts, &stderr)?;
                if self.on_error == OnError::Stop {
                    return Ok(Some(Ending::Failed));
                }
                end
            }
        };
        self.pending.push_back(Pending { record, end });
        Ok(None)
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
        let output = self.output.flush();
        self.settle();
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
            self.state.errors.get_or_insert(0);
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
    fn end(
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
fn gone(written: std::io::Result<()>) -> anyhow::Result<Option<Ending>> {
    match written {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Some(Ending::ReaderGone)),
        Err(error) => Err(error).context("cannot write the output"),
    }
}
