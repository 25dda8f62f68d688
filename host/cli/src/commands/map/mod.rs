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
mod results;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use nix::sys::signal::Signal;
use sandpool::command_support::Writable;
use sandpool::limits::Profile;
use sandpool::pool::{Feed, Isolation};
use sandpool::{Error, Module, Pool, Sandbox};

use self::files::{Input, Output, Target};
use self::journal::{Identity, Journal, MapState};
use self::numbers::{Left, Numbering};
use self::progress::{Choice, Progress};
use self::ranges::Ranges;
use self::records::{Framing, Next, Reader};
use self::results::{Ending, Map, SAVE_TIME, nothing_left};
use crate::commands;
use crate::commands::guest::GuestArgs;
use crate::exit_code;
use crate::interrupt::{self, Interrupt};

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
        _ => sandpool::command_support::parse_time(text)
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
    let framing = args.format;
    let mut files = Files::open(&args, &path, &sandbox)?;
    let found = match &files.journal {
        Some(journal) if args.resume => journal.load()?,
        _ => None,
    };
    let is_resumed = found.is_some();
    let mut state = found.unwrap_or_default();
    files.output.has(state.output)?;
    let again = if args.retry_failed { state.failed.clone() } else { Ranges::default() };
    // If the input isn't a file, it may have more records by now.
    let is_all = state.is_finished && files.input.len.is_some();
    if is_all && again.count() == 0 {
        return Ok(nothing_left(&state));
    }
    state.is_finished = is_all;
    let is_retry = again.count() > 0;
    files.begin(&mut state, is_resumed, is_retry)?;
    let Files { input, output, errors, journal } = files;

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

/// What a map reads and writes.
struct Files {
    input: Input,
    output: Output,
    errors: Option<Output>,
    journal: Option<Journal>,
}

impl Files {
    /// Opens all of them, and refuses those that are in each other's way. Nothing is written.
    fn open(args: &MapArgs, module: &Path, sandbox: &Sandbox) -> anyhow::Result<Self> {
        let input = Input::open(&args.input)?;
        let writable = Writable::granted(&sandbox.dirs)?;
        let target = Target::find(&args.output, &writable)?;
        let errors = args.errors.as_deref().map(|path| Target::find(path, &writable)).transpose()?;
        if errors.as_ref().is_some_and(|errors| errors.is_journal_of(&target)) {
            return Err(files::same("--errors", "the journal").into());
        }
        let (output, place) = Output::open(target)?;
        let errors = errors.map(|target| Output::open(target).map(|(errors, _)| errors)).transpose()?;
        let journal = match place {
            Some(place) => {
                let of = Identity::new(module, &args.task, args.format.name(), input.metadata())?;
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
        Ok(Self { input, output, errors, journal })
    }

    /// Begins to write where the state says. From here on the journal is that of this command.
    fn begin(&mut self, state: &mut MapState, is_resumed: bool, is_retry: bool) -> anyhow::Result<()> {
        if let Some(errors) = &self.errors {
            if is_retry {
                state.errors = Some(0);
            }
            errors.has(state.errors.unwrap_or(0))?;
        }
        match &self.journal {
            Some(journal) if is_retry => journal.save(state)?,
            Some(journal) if !is_resumed => journal.begin()?,
            _ => {}
        }
        self.output.begin_at(state.output)?;
        if let Some(errors) = &mut self.errors {
            errors.begin_at(state.errors.unwrap_or(0))?;
        }
        Ok(())
    }
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
