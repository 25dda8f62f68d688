//! `sandpool map`: a task, or a program, over the records of a file.
//!
//! ```text
//!  input ─ reader ─▶ Feeder ─▶ the pool's workers ─▶ Outcomes ─▶ output, failures, report
//!          a thread of its own                       this thread: journal, progress
//! ```
//!
//! The records between the two ends are bounded, so the input may have any number of them. A signal stops the feed: tasks that have
//! begun are finished, written and noted; no others are. The journal says how to go on from there.
//!
//! A record is done when its result, or its failure, has been written, that is, handed to the kernel, whatever kind of file the
//! output is. Only such records are counted, summed up and noted in the journal, which is written after the output is on the disk.

mod files;
mod halt;
mod journal;
mod numbers;
mod progress;
mod ranges;
mod records;
mod report;
mod results;
mod template;
mod work;

use std::collections::VecDeque;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use sandpool::command_support::{Directory, Writable, parse_size, parse_time};
use sandpool::limits::Profile;
use sandpool::pool::Isolation;
use sandpool::{Error, GuestText, Module, Pool, Sandbox};

use self::files::{Input, Output, Target};
use self::halt::Halt;
use self::journal::{Identity, Journal, MapState};
use self::numbers::{Left, Numbering};
use self::progress::{Choice, Progress};
use self::ranges::Ranges;
use self::records::{Framing, Group, Groups, Next, Reader};
use self::results::{Ending, Map, OnError, Read, SAVE_TIME, gone, nothing_left};
use self::template::Template;
use self::work::{Feeder, Work};
use crate::commands::guest::{GuestArgs, ModuleArgs};
use crate::exit_code::{self, ExitCode};
use crate::interrupt::{self, Interrupt};
use crate::{commands, text};

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
      Records that end with NUL may have line breaks in them

  ls *.png | sandpool map resize.wasm --dir . --report report.jsonl -- --width 80 {} -o {.}.small.png
      Runs any WASI program once for each record, which stands in the arguments; says what each run took

  sandpool map score.wasm --records-per-process 1000 --halt soon,fail=3 --input reviews.txt > scores.txt
      Without {}, a program reads its records on stdin; after three failures, no more processes are started";

/// Run a task of a module, or a whole program, over the records of a file.
///
/// A task is a function that a module exports, in Rust one with #[sandpool_guest::task]; `sandpool inspect` lists the
/// tasks of a module. Workers run the task in parallel, each in a sandboxed process. Output that tasks print is thrown
/// away, but for the end of the stderr of a task that fails.
///
/// Without --task, the module is a program, such as any WASI command of C, Go or Rust, and runs once for each record, in
/// a sandboxed process of its own. Arguments for it stand behind --, and in them {} stands for the record, {.} for the
/// record without its extension, {/} for its file name, {//} for its directory, {/.} for its file name without extension,
/// and {#} for the number of the process, from 1 on. If none but {#} is there, the program reads the record on stdin,
/// with its end. The program's stdout is the result, and is written as it is (--format raw: after its length). An exit
/// code other than 0 is a failure.
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
    /// Name of the task; without it, the module's program is run
    #[arg(long, value_name = "NAME", conflicts_with_all = ["args", "records_per_process"])]
    task: Option<String>,

    /// Give each process of a program N records: on stdin one after another, or as N arguments for each in which a part of a
    /// record stands. These records are one from then on: counted, numbered and tried again together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    records_per_process: u64,

    /// Number of workers [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    workers: Option<u32>,

    /// File to read records from; - is stdin
    #[arg(long, value_name = "FILE", default_value = "-")]
    input: PathBuf,

    /// File to write results to; - is stdout. Beside a file, FILE.sandpool notes progress and failures
    #[arg(
        long,
        value_name = "FILE",
        default_value = "-",
        default_value_if("results", clap::builder::ArgPredicate::IsPresent, "/dev/null")
    )]
    output: PathBuf,

    /// Directory to write the results to, each to a file of its own: INDEX.out; and the end of the stderr of a record that
    /// fails to INDEX.err. Results are then not written elsewhere, unless --output says where
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,

    /// File to write a line of JSON to for each record: index, attempts, cause and detail of a failure, exit code, wall and
    /// cpu in seconds, peak_memory and bytes of the result; cpu and peak_memory if the record had a process of its own
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

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

    /// Largest output of a task, or stdout of a program, such as 64KiB or 1GiB; at most a quarter of --arena-size. A record with
    /// more fails [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    output_max: Option<u64>,

    /// Number of times that a task is tried again after it crashed, was killed or took too long
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,

    /// Sandbox of a task. worker: a worker runs many tasks; task: each task has a fresh sandbox, in a process of its
    /// own, as each run of a program has [default: worker]
    #[arg(long, value_name = "worker|task")]
    isolation: Option<Isolation>,

    /// Action if a record fails: stop; skip the record; or record the cause, in the file of --errors or else on stderr
    /// [default: stop, and record with --halt]
    #[arg(long, value_name = "stop|skip|record", hide_possible_values = true)]
    on_error: Option<OnError>,

    /// Stop when this number of records, or this percentage of those done, has failed (fail), succeeded (success) or either
    /// (done): soon finishes the records that have begun, now ends them. A percentage counts from three records on
    #[arg(long, value_name = "soon|now,fail|success|done=N[%]")]
    halt: Option<Halt>,

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
    /// there, in the order of the records; the file of --errors begins anew. Without --resume: do only those records again
    /// that have failed according to the file of --report, and add to that file
    #[arg(long)]
    retry_failed: bool,

    /// Print what would be done for each record, and do nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    guest: GuestArgs,

    #[command(flatten)]
    module: ModuleArgs,

    /// Arguments for the program
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// A time, or none.
#[derive(Debug, Clone, Copy)]
struct TaskTimeout(Option<Duration>);

fn task_timeout(text: &str) -> Result<TaskTimeout, String> {
    match text {
        "none" => Ok(TaskTimeout(None)),
        _ => parse_time(text).map(|time| TaskTimeout(Some(time))).map_err(|why| format!("{why}; or none")),
    }
}

pub(crate) fn run(args: MapArgs) -> anyhow::Result<u8> {
    let interrupt = Interrupt::watch()?;
    let sandbox = args.guest.sandbox()?;
    let path = args.module.path(&sandbox)?;
    let module = commands::load(&path, &sandbox)?;
    let work = work(&args, &module)?;
    if args.dry_run {
        return dry_run(&work, groups(&args, Input::open(&args.input)?));
    }
    let framing = args.format;
    let mut files = Files::open(&args, &module, &sandbox)?;
    let Rest { mut state, left, is_resumed, is_retry } = match rest(&args, &files)? {
        ControlFlow::Continue(rest) => rest,
        ControlFlow::Break(exit_code) => return Ok(exit_code),
    };
    files.begin(&args, &mut state, is_resumed, is_retry)?;
    let Files { input, output, errors, report, results_dir, journal } = files;

    let pool = pool(&args, sandbox, &module)?;
    let (feeder, outcomes) = work.open(&pool, framing, !args.unordered)?;
    let stopper = outcomes.stopper();
    let halted = stopper.clone();
    interrupt.calls(move |signal, is_first| {
        if !is_first {
            // The workers end with this process.
            interrupt::die_of(signal);
        }
        stopper.stop();
    });
    let read = Arc::new(Read::default());
    let (numbering, numbers) = numbers::numbers();
    let input_len = input.len;
    let reader = start_reader(groups(&args, input), feeder, left, numbering, read.clone())?;

    let mut map = Map {
        interrupt: &interrupt,
        framing,
        is_ordered: !args.unordered,
        is_cut: false,
        is_program: args.task.is_none(),
        on_error: args.on_error.unwrap_or(match args.halt {
            Some(_) => OnError::Record,
            None => OnError::Stop,
        }),
        halt: args.halt,
        halted,
        is_halted: false,
        seen: 0,
        seen_failed: 0,
        output,
        errors,
        report,
        results_dir,
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
        input_len,
        progress: Progress::new(args.progress),
        saved: Instant::now(),
        pause: SAVE_TIME,
    };
    let ended = map.take_all(outcomes);
    let result = map.end(ended, reader);
    drop(pool);
    if let Ok(Ending::Interrupted) = &result {
        interrupt.die_if_caught(Some(Signal::SIGINT as i32));
    }
    Ok(result?.exit_code(map.state.failed.count() > 0))
}

/// The records that are still to be done, and what is known of those before.
struct Rest {
    state: MapState,
    left: Left,
    is_resumed: bool,
    is_retry: bool,
}

/// Finds the records that are still to be done. If there are none, says so, and breaks off with the exit code.
fn rest(args: &MapArgs, files: &Files) -> anyhow::Result<ControlFlow<u8, Rest>> {
    let found = match &files.journal {
        Some(journal) if args.resume => journal.load()?,
        _ => None,
    };
    let is_resumed = found.is_some();
    let mut state = found.unwrap_or_default();
    files.output.has(state.output)?;
    let by_report = args.retry_failed && !args.resume;
    let again = match &args.report {
        Some(report) if by_report => report::failed(report)?,
        _ if by_report => return Err(nothing_to_retry().into()),
        _ if args.retry_failed => state.failed.clone(),
        _ => Ranges::default(),
    };
    let is_retry = again.count() > 0;
    if by_report && !is_retry {
        text::note("nothing left to do: no record has failed");
        return Ok(ControlFlow::Break(ExitCode::Success.code()));
    }
    // If the input isn't a file, it may have more records by now.
    let is_all = by_report || state.is_finished && files.input.len.is_some();
    if is_all && !is_retry {
        return Ok(ControlFlow::Break(nothing_left(&state)));
    }
    state.is_finished = is_all && !by_report;
    let left = if is_all { Left::only(again) } else { Left::new(state.done.clone(), again) };
    Ok(ControlFlow::Continue(Rest { state, left, is_resumed, is_retry }))
}

/// The files that a map reads and writes.
struct Files {
    input: Input,
    output: Output,
    errors: Option<Output>,
    report: Option<Output>,
    results_dir: Option<Directory>,
    journal: Option<Journal>,
}

impl Files {
    /// Opens all of them, and refuses those that are in each other's way. Nothing is written.
    fn open(args: &MapArgs, module: &Module, sandbox: &Sandbox) -> anyhow::Result<Self> {
        let input = Input::open(&args.input)?;
        let writable = Writable::granted(&sandbox.dirs)?;
        let target = Target::find(&args.output, &writable)?;
        let find =
            |path: &Option<PathBuf>| path.as_deref().map(|path| Target::find(path, &writable)).transpose();
        let (errors, report) = (find(&args.errors)?, find(&args.report)?);
        for (name, file) in [("--errors", &errors), ("--report", &report)] {
            if file.as_ref().is_some_and(|file| file.is_journal_of(&target)) {
                return Err(files::same(name, "the journal").into());
            }
        }
        let results_dir = args.results.as_deref().map(|path| results_dir(path, &writable)).transpose()?;
        let (output, place) = Output::open(target)?;
        let open = |target: Option<Target>| {
            target.map(|target| Output::open(target).map(|(file, _)| file)).transpose()
        };
        let (errors, report) = (open(errors)?, open(report)?);
        let journal = match place {
            Some(place) => {
                let of = Identity::new(module.sha256(), &named(args), args.format.name(), input.metadata());
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
        files::refuse_same(
            &input,
            &output,
            [("--errors", &errors), ("--report", &report)],
            journal.as_ref(),
        )?;
        for file in [Some(&output), errors.as_ref(), report.as_ref()].into_iter().flatten() {
            file.lock()?;
        }
        Ok(Self { input, output, errors, report, results_dir, journal })
    }

    /// Begins to write where the state says. From here on the journal is that of this command.
    fn begin(
        &mut self,
        args: &MapArgs,
        state: &mut MapState,
        is_resumed: bool,
        is_retry: bool,
    ) -> anyhow::Result<()> {
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
        if let (Some(report), Some(path)) = (&mut self.report, &args.report) {
            report.begin_at(if is_resumed || is_retry { report::len(path)? } else { 0 })?;
        }
        Ok(())
    }
}

/// The work for each record.
fn work(args: &MapArgs, module: &Module) -> sandpool::Result<Work> {
    let invalid = |what: String, hint: &str| Err(Error::Invalid { what, hint: Some(hint.to_owned()) });
    if let Some(task) = &args.task {
        module.task(task)?;
        return Ok(Work::Task(task.clone()));
    }
    if !module.is_program() {
        let names: Vec<_> = module.tasks().iter().map(|task| task.name.to_string()).collect();
        return invalid(
            format!("{} is not a program, and no task is named", module.name()),
            &match names.as_slice() {
                [] => "the module exports neither _start nor a task: `sandpool inspect` lists its exports"
                    .to_owned(),
                names => format!("name a task with --task: {}", names.join(", ")),
            },
        );
    }
    if args.isolation == Some(Isolation::Worker) {
        return invalid(
            "a program cannot share a process with another run".to_owned(),
            "leave --isolation out",
        );
    }
    if args.format == Framing::Raw && args.records_per_process > 1 {
        return invalid(
            "a program could not tell several raw records apart".to_owned(),
            "leave --records-per-process out, or choose another --format",
        );
    }
    Ok(Work::Program(Template::new(module.name(), &args.args, args.format)))
}

/// The text by which a journal knows the work.
fn named(args: &MapArgs) -> String {
    match &args.task {
        Some(task) => task.clone(),
        None => format!("program, {} records: {:?}", args.records_per_process, args.args),
    }
}

fn groups(args: &MapArgs, input: Input) -> Groups {
    Groups::new(Reader::new(input.file, args.format), args.records_per_process)
}

/// Opens the directory for results, and makes it if there is none, once it is known that no guest says where that is.
fn results_dir(path: &Path, writable: &Writable) -> anyhow::Result<Directory> {
    if !path.is_dir() {
        Directory::open_parent(path, writable)?;
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(Directory::open(path, writable)?)
}

/// Prints what would be done.
fn dry_run(work: &Work, mut groups: Groups) -> anyhow::Result<u8> {
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    let mut group = Group::default();
    loop {
        let number = groups.count();
        let written = match groups.read(&mut group)? {
            Next::Record => writeln!(stdout, "{}", GuestText::from(work.shown(number, &group))),
            Next::Empty => Ok(()),
            Next::End => stdout.flush(),
        };
        match gone(written)? {
            Some(ending) => return Ok(ending.exit_code(false)),
            None if groups.count() == number => return Ok(ExitCode::Success.code()),
            None => {}
        }
    }
}

fn nothing_to_retry() -> Error {
    Error::Invalid {
        what: "--retry-failed does not know what has failed".to_owned(),
        hint: Some("add --resume, or name the file of the earlier command with --report".to_owned()),
    }
}

fn pool(args: &MapArgs, sandbox: Sandbox, module: &Module) -> sandpool::Result<Pool> {
    let isolation = match &args.task {
        Some(_) => args.isolation.unwrap_or_default(),
        None => Isolation::Task,
    };
    let mut builder = Pool::builder(module).sandbox(sandbox).isolation(isolation).retries(args.retries);
    if let Some(workers) = args.workers {
        builder = builder.processes(workers as usize);
    }
    let timeout = match args.task_timeout {
        Some(TaskTimeout(timeout)) => timeout,
        None => args.guest.profile()?.map(Profile::task_timeout),
    };
    if let Some(bytes) = args.output_max {
        builder = builder.output_max(bytes);
    }
    if let Some(timeout) = timeout {
        builder = builder.task_timeout(timeout);
    }
    let pool = builder.build()?;
    args.guest.report(module.jail(), pool.jail());
    Ok(pool)
}

/// Starts a thread that reads records and feeds the pool with them: a slow input must not keep results back.
fn start_reader(
    mut groups: Groups,
    mut feeder: Feeder,
    left: Left,
    mut numbering: Numbering,
    read: Arc<Read>,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let work = move || {
        let mut group = Group::default();
        while left.goes_on(groups.count()) {
            if !groups.has_next() {
                feeder.flush();
            }
            let number = groups.count();
            let next = groups.read(&mut group)?;
            read.records.store(groups.count(), Ordering::Relaxed);
            read.bytes.store(groups.bytes(), Ordering::Relaxed);
            match next {
                Next::Record if left.contains(number) => {
                    numbering.is_next(number);
                    if !feeder.put(number, &group) {
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
