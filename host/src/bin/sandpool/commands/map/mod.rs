//! `sandpool map`: a task over the records of a file.
//!
//! ```text
//!  input ─ reader ─▶ Feed ─▶ the pool's workers ─▶ Results ─▶ output, failures
//!          a thread of its own                     this thread: journal, progress
//! ```
//!
//! What lies between the two ends is bounded, so records may be any number. A signal stops the feed: what has begun is
//! done, written and noted; nothing else is. The journal says how to go on from there.

mod files;
mod journal;
mod progress;
mod records;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use sandpool::guest_text;
use sandpool::written::Writable;
use sandpool::{
    Completed, Error, ExitCode, ExitStatus, Failure, Feed, Format, GuestText, Isolation, Limits, Module,
    Pool, Profile, Results, TaskError,
};
use serde::Serialize;

use self::files::{Input, Output, Target};
use self::journal::{Done, Identity, Journal, Left};
use self::progress::{Choice, Figures, Progress};
use self::records::Reader;
use crate::commands::guest::GuestArgs;
use crate::interrupt::{self, Interrupt};
use crate::{cli, commands, text};

const EXAMPLES: &str = "\
Examples:
  sandpool map tasks.wasm --task upper --input text.txt --output upper.txt
      Each line of a file through a task of a module; the results are in the order of the lines

  zcat reviews.jsonl.gz | sandpool map my-crate --task score --format jsonl --unordered > scores.jsonl
      Builds the crate first; results as they come

  sandpool map plugin.wasm --task check --profile untrusted --isolation task --task-timeout 5s \\
      --on-error record --errors failed.jsonl --input all.txt --output checked.txt
      Code that nobody trusts: a fresh sandbox for each record, and the rest goes on if one fails

  sandpool map tasks.wasm --task upper --input text.txt --output upper.txt --resume
      Goes on where Ctrl-C, a failure or a crash has stopped the same command";

/// Run a task of a module over the records of a file.
///
/// A task is a function that a module exports, such as one with #[sandpool_guest::task] in Rust; `sandpool inspect` lists
/// them. Workers run it in parallel, each a sandboxed process. What tasks print is thrown away, but for the end of the
/// stderr of one that fails.
///
/// A failure record is a line of JSON: index (of the input record, from 0), cause, detail, attempts, stderr. The result
/// of a record that has failed is left out.
///
/// Ctrl-C lets the tasks that have begun finish, and writes what they return; once more ends all at once.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", cli::exit_codes()))]
pub(crate) struct MapArgs {
    /// Which task
    #[arg(long, value_name = "NAME")]
    task: String,

    /// How many workers [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    workers: Option<u32>,

    /// Where records come from; - is stdin
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,

    /// Where results go; - is stdout. Beside a file, FILE.sandpool says how far it is, until all is done
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,

    /// Results in the order of their inputs; this is the default
    #[arg(long, conflicts_with = "unordered")]
    ordered: bool,

    /// Results as they come
    #[arg(long)]
    unordered: bool,

    /// What records are: lines of text (the line end, LF or CRLF, is no part of it), lines of JSON, or bytes, each record
    /// after its length as 32 bits, little-endian
    #[arg(long, value_name = "lines|jsonl|raw", default_value = "lines")]
    format: Format,

    /// How long a task may run before it is killed, such as 5s, 300ms or 2min; or none
    #[arg(long, value_name = "TIME", value_parser = task_timeout)]
    task_timeout: Option<TaskTimeout>,

    /// How often a task is tried again that has crashed, was killed or took too long
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,

    /// In what a task runs: a worker that runs many, or a fresh sandbox in a process of its own
    #[arg(long, value_name = "worker|task", default_value = "worker")]
    isolation: Isolation,

    /// What to do if a record fails: stop; skip it; or record why, in the file of --errors or else on stderr
    #[arg(long, value_name = "stop|skip|record", default_value = "stop", hide_possible_values = true)]
    on_error: OnError,

    /// Where failure records go
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,

    /// Show on stderr how far it is: on a terminal; always, elsewhere as a line each second; or never
    #[arg(long, value_name = "auto|always|never", default_value = "auto", hide_possible_values = true)]
    progress: Choice,

    /// Go on where an earlier command of the same module, task, format and input has stopped. Begins with the first record
    /// if there is none. An input that isn't a file has to have the same records again
    #[arg(long)]
    resume: bool,

    #[command(flatten)]
    guest: GuestArgs,

    /// Which program of the crate
    #[arg(long, value_name = "NAME")]
    bin: Option<String>,

    /// A WebAssembly module, .wasm or .wat, or the directory of a crate to build one from: its build scripts and macros run
    /// outside of any jail, with all rights of this user
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
    let path = commands::module_path(&args.module, args.bin.as_deref(), &args.guest)?;
    let limits = args.guest.limits()?;
    let module = commands::load(&path, &args.guest.loader(&limits)?)?;
    module.task(&args.task)?;
    let input = Input::open(&args.input)?;
    let writable = Writable::granted(&args.guest.dir)?;
    let target = Target::find(&args.output, &writable)?;
    let errors = args.errors.as_deref().map(|path| Target::find(path, &writable)).transpose()?;
    let (mut output, place) = Output::open(target)?;
    let mut errors = errors.map(|target| Output::open(target).map(|(errors, _)| errors)).transpose()?;
    files::refuse_same(&input, &output, errors.as_ref())?;
    output.lock()?;
    errors.as_ref().map_or(Ok(()), Output::lock)?;

    let format = records_format(args.format);
    let journal = match place {
        Some(place) => {
            let of = Identity::new(&path, &args.task, format, input.metadata())?;
            Some(Journal::of(&args.output, place, of))
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
    let state = match &journal {
        Some(journal) if args.resume => journal.load()?,
        Some(journal) => journal.begin().map(|()| None)?,
        None => None,
    };
    output.begin_at(state.as_ref().map_or(0, |state| state.output))?;
    if let Some(errors) = &mut errors {
        errors.begin_at(state.as_ref().and_then(|state| state.errors).unwrap_or(0))?;
    }
    let (done, beyond, failed) =
        state.map_or((0, Vec::new(), 0), |state| (state.done, state.beyond, state.failed));

    let pool = pool(&args, limits, &module)?;
    let (feed, results) = pool.stream(&args.task, args.format, !args.unordered);
    let stopper = results.stopper();
    interrupt.calls(move |signal, is_first| {
        if !is_first {
            // The workers end with this process.
            interrupt::die_of(signal);
        }
        stopper.stop();
    });
    let left = Left::new(done, &beyond);
    let read = Arc::new(Read::default());
    let reader = start_reader(Reader::new(input.file, args.format), feed, left.clone(), read.clone())?;

    let mut map = Map {
        interrupt: &interrupt,
        format: args.format,
        is_ordered: !args.unordered,
        is_cut: false,
        on_error: args.on_error,
        output,
        errors,
        journal,
        done: Done::new(done, &beyond),
        already: done + beyond.len() as u64,
        failed,
        failed_before: failed,
        read,
        input_len: input.len,
        progress: Progress::new(args.progress),
        saved: Instant::now(),
    };
    let ended = map.take_all(results, &left);
    let result = map.end(ended, reader);
    drop(pool);
    if let Ok(Ending::Interrupted) = &result {
        interrupt.die_if_caught(Some(Signal::SIGINT as i32));
    }
    Ok(result?.exit_code(map.failed > map.failed_before).code())
}

/// The format as the command line calls it.
fn records_format(format: Format) -> &'static str {
    match format {
        Format::Json => "jsonl",
        Format::Bytes => "raw",
        _ => "lines",
    }
}

fn pool(args: &MapArgs, limits: Limits, module: &Module) -> sandpool::Result<Pool> {
    let mut builder = Pool::builder(module);
    builder.isolation(args.isolation).retries(args.retries);
    if let Some(workers) = args.workers {
        builder.workers(workers as usize);
    }
    let guest = &args.guest;
    let timeout = match args.task_timeout {
        Some(TaskTimeout(timeout)) => timeout,
        None => guest.profile()?.map(Profile::task_timeout),
    };
    if let Some(timeout) = timeout {
        builder.task_timeout(timeout);
    }
    builder.limits(limits);
    for (name, value) in &guest.env {
        builder.env(name, value);
    }
    for grant in &guest.dir {
        builder.dir(grant.clone());
    }
    builder.require_jail(guest.required_layers()?);
    for layer in &guest.without_layer {
        builder.without_layer(*layer);
    }
    let pool = builder.build()?;
    guest.report(module.jail(), pool.jail());
    Ok(pool)
}

/// How much was read.
#[derive(Debug, Default)]
struct Read {
    records: AtomicU64,
    bytes: AtomicU64,
}

/// Reads records and feeds the pool with them, on a thread of its own: a slow input must not keep results back.
fn start_reader(
    mut reader: Reader,
    mut feed: Feed,
    left: Left,
    read: Arc<Read>,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let work = move || {
        let mut record = Vec::new();
        loop {
            if !reader.has_next() {
                feed.flush();
            }
            if !reader.read(&mut record)? {
                return Ok(());
            }
            read.records.store(reader.records(), Ordering::Relaxed);
            read.bytes.store(reader.bytes(), Ordering::Relaxed);
            if left.contains(reader.records() - 1) && !feed.put(&record) {
                return Ok(());
            }
        }
    };
    thread::Builder::new().name("input".to_owned()).spawn(work).context("cannot start a thread")
}

/// Why a map has ended.
enum Ending {
    /// All records are done.
    Done,
    /// A signal.
    Interrupted,
    /// A record has failed.
    Failed,
    /// Whoever reads the output has seen enough.
    ReaderGone,
}

impl Ending {
    fn exit_code(&self, have_some_failed: bool) -> ExitCode {
        match self {
            Self::Failed => ExitCode::Stopped,
            _ if have_some_failed => ExitCode::RecordsFailed,
            _ => ExitCode::Success,
        }
    }
}

/// How often the journal is written.
const SAVE_TIME: Duration = Duration::from_secs(1);

/// After so many results, progress and journal are looked after; and after so long.
const RESULTS: u32 = 256;
const PAUSE: Duration = Duration::from_millis(100);

/// The end that results come to.
struct Map<'a> {
    interrupt: &'a Interrupt,
    format: Format,
    is_ordered: bool,
    /// Results are in order, and one is missing.
    is_cut: bool,
    on_error: OnError,
    output: Output,
    errors: Option<Output>,
    journal: Option<Journal>,
    done: Done,
    /// How many were done when this command began.
    already: u64,
    failed: u64,
    /// How many of them had failed.
    failed_before: u64,
    read: Arc<Read>,
    input_len: Option<u64>,
    progress: Progress,
    saved: Instant,
}

impl Map<'_> {
    fn take_all(&mut self, mut results: Results, left: &Left) -> anyhow::Result<Ending> {
        let mut since = 0;
        let mut is_told = false;
        loop {
            let mut next = results.next_timeout(Duration::ZERO);
            if let Err(RecvTimeoutError::Timeout) = next {
                // Whoever reads results is to have them now.
                if let Some(ending) = gone(self.output.flush())? {
                    return Ok(ending);
                }
                next = results.next_timeout(PAUSE);
                since = RESULTS;
            }
            match next {
                Ok((number, outcome)) => {
                    if let Some(ending) = self.take(left.record(number), outcome)? {
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
                    self.progress
                        .note("stopping when the tasks that have begun are done; once more ends them");
                }
                self.progress.show(self.figures());
                if self.saved.elapsed() >= SAVE_TIME {
                    self.save()?;
                }
            }
        }
    }

    /// A record is done, or isn't.
    fn take(
        &mut self,
        record: u64,
        outcome: Result<Completed<Vec<u8>>, TaskError>,
    ) -> anyhow::Result<Option<Ending>> {
        if self.is_cut {
            return Ok(None);
        }
        let failure = match outcome {
            Ok(completed) => match self.output.write(self.format, &completed.value) {
                Ok(Ok(())) => None,
                Ok(Err(why)) => {
                    Some((Failure::Refused(why.into()), completed.attempts, GuestText::default()))
                }
                Err(error) => return gone(Err(error)),
            },
            Err(TaskError { cause, attempts, stderr, .. }) => match cause {
                // It was stopped before it began. If results are in order, those behind it must wait for it.
                Failure::Cancelled => {
                    self.is_cut = self.is_ordered;
                    return Ok(None);
                }
                // Of what has stopped this command as well, for `timeout` sends it to all of a process group.
                Failure::Ended(ExitStatus::Signaled(signal))
                    if self.interrupt.caught(Some(signal)).is_some() =>
                {
                    self.is_cut = self.is_ordered;
                    return Ok(None);
                }
                Failure::PoolEnded(end) => return Err(Error::Pool(end).into()),
                Failure::Unsupported => {
                    return Err(anyhow!(
                        "the task does not know the format {}: another --format may do",
                        records_format(self.format)
                    ));
                }
                cause => Some((cause, attempts, stderr)),
            },
        };
        if let Some((cause, attempts, stderr)) = failure {
            self.note_failure(record, &cause, attempts, &stderr)?;
            if self.on_error == OnError::Stop {
                return Ok(Some(Ending::Failed));
            }
            self.failed += 1;
        }
        self.done.add(record);
        Ok(None)
    }

    fn note_failure(
        &mut self,
        index: u64,
        cause: &Failure,
        attempts: u32,
        stderr: &GuestText,
    ) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct FailureRecord<'a> {
            index: u64,
            cause: &'a str,
            detail: String,
            attempts: u32,
            stderr: &'a str,
        }

        // JSON has its own escapes, by which whoever reads it finds what the guest has said.
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
        let line = guest_text::to_json(&record)?;
        match (&mut self.errors, self.on_error) {
            (_, OnError::Skip) | (None, OnError::Stop) => {}
            (Some(errors), _) => errors.write_line(&line)?,
            (None, OnError::Record) => self.progress.note(&line),
        }
        Ok(())
    }

    /// Notes how far it is.
    fn save(&mut self) -> anyhow::Result<()> {
        self.saved = Instant::now();
        let Some(journal) = &self.journal else { return Ok(()) };
        let output = self.output.sync()?;
        let errors = self.errors.as_mut().map(Output::sync).transpose()?;
        journal.save(&self.done, self.failed, output, errors)
    }

    fn figures(&self) -> Figures {
        let records = self.done.count() - self.already;
        let part = self.input_len.filter(|len| *len > 0).map(|len| {
            // What was read is a little ahead of what is done.
            let read = self.read.records.load(Ordering::Relaxed).max(1) as f64;
            let bytes = self.read.bytes.load(Ordering::Relaxed) as f64 / len as f64;
            let part = |records: u64| (bytes * records as f64 / read).clamp(0.0, 1.0);
            (part(self.done.count()), part(self.already))
        });
        Figures { records, failed: self.failed - self.failed_before, part }
    }

    /// Writes what is left to be written, and says how it went.
    fn end(
        &mut self,
        ended: anyhow::Result<Ending>,
        reader: JoinHandle<anyhow::Result<()>>,
    ) -> anyhow::Result<Ending> {
        self.progress.end();
        let mut ended = ended.and_then(|ending| match ending {
            // The reader has ended, unless it was stopped.
            Ending::Done => match reader.join() {
                Ok(read) => read.map(|()| Ending::Done),
                Err(_) => Err(anyhow!("the thread that reads the input has panicked")),
            },
            ending => Ok(ending),
        });
        if let Ok(Ending::Done) = ended
            && let Some(ending) = gone(self.output.flush())?
        {
            ended = Ok(ending);
        }
        match (&ended, &self.journal) {
            (Ok(Ending::Done), Some(journal)) => {
                self.output.sync()?;
                journal.remove()?;
            }
            (Ok(Ending::ReaderGone), _) => {}
            (Ok(_), _) => self.save()?,
            // There is something worse to say.
            (Err(_), _) => drop(self.save()),
        }
        if let Some(errors) = &mut self.errors {
            errors.flush().context("cannot write failure records")?;
        }
        self.summarize(&ended);
        ended
    }

    fn summarize(&self, ended: &anyhow::Result<Ending>) {
        let Figures { records, failed, .. } = self.figures();
        let elapsed = self.progress.elapsed();
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
        text::note(&summary);
        if !matches!(ended, Ok(Ending::Done)) {
            let stopped = format!("stopped before record {}", self.done.first());
            match &self.journal {
                Some(_) => text::note(&format!("{stopped}; --resume goes on from there")),
                None => text::note(&stopped),
            }
        }
    }
}

/// Writing to somebody who reads no more is an end, and no error.
fn gone(written: std::io::Result<()>) -> anyhow::Result<Option<Ending>> {
    match written {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Some(Ending::ReaderGone)),
        Err(error) => Err(error).context("cannot write the output"),
    }
}
