//! The compiler process itself.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use wasmtime::Engine;

use super::{Report, Settings, output_size, seconds};
use crate::config::{Flavor, Layer};
use crate::control::{self, Reply};
use crate::engine::cache::compatibility;
use crate::engine::check::{ModuleRefusal, Summary, check};
use crate::engine::inspection::printable;
use crate::engine::known::{self, Function};
use crate::engine::{config, inspect};
use crate::jail::namespaces::{self, Entered};
use crate::jail::rlimits::Rlimits;
use crate::jail::seccomp::Policy;
use crate::jail::{self, LayerStatus, Plan, Prepared};
use crate::sys::fd::{close_from, take_stdin};
use crate::sys::process::{FAILED, die_with, exit_at, exit_now, pidfd_open};

/// Runs as the compiler until the report is written.
pub(crate) fn main() -> ! {
    let code = match run() {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error:#}");
            FAILED
        }
    };
    // Nothing needs to be dropped, and dropping large data takes time.
    exit_now(code);
}

fn run() -> anyhow::Result<()> {
    close_from(3);
    let owner = nix::unistd::getppid();
    let owner_pidfd = pidfd_open(owner.as_raw()).context("cannot watch the owner")?;
    if nix::unistd::getppid() != owner {
        return Ok(());
    }
    // A terminal sends these signals to all of its processes; the owner answers them, as with the supervisor.
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];
    SigSet::from_iter(signals).thread_block()?;
    std::env::set_current_dir("/")?;
    let socket = take_stdin()?;
    let Some((settings, files)) = control::receive_message_with::<Settings>(socket.as_fd())? else {
        return Ok(());
    };
    // Both need files, which are soon out of reach.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    known::seed_unused_generators();
    let moved = |pid| control::send_message(socket.as_fd(), &Reply::Moved(pid));
    let is_wanted = |layer| settings.jail.has(layer);
    let entered = namespaces::enter(&mut [], threads as u64, is_wanted, moved, || ())
        .context("cannot enter the namespaces")?;
    let Entered::Inside(mut layers, ()) = entered else { return Ok(()) };
    let alone =
        LayerStatus::NotApplicable("a compiler is one process, which has limits of its own".to_owned());
    layers.push((Layer::ControlGroup, alone));
    // The thread that has started this process waits for its end, so the thread's death is the owner's.
    if !die_with(owner_pidfd.as_fd()) {
        return Ok(());
    }
    drop(owner_pidfd);
    let _ = nix::sys::prctl::set_name(c"sandpool-compil");
    for signal in [Signal::SIGABRT, Signal::SIGXCPU] {
        exit_at(signal)?;
    }
    let jail = prepare_jail(&settings, threads).context("cannot prepare the compiler's jail")?;
    let report = jail.report(layers);
    let is_over = settings.only_report || !report.lacks(&settings.jail.require).is_empty();
    let reply = if is_over { Reply::Unjailed(report) } else { Reply::Started(report) };
    control::send_message(socket.as_fd(), &reply)?;
    // An attacker who takes this process over can then say nothing more by the socket.
    drop(socket);
    let (false, Some(module)) = (is_over, files.into_iter().next()) else { return Ok(()) };
    nix::unistd::dup2_stdin(module)?;
    compile_stdin(&settings, &jail, threads)
}

/// Compiles the module, which is on the standard input, and writes the result to the standard output.
fn compile_stdin(settings: &Settings, jail: &Prepared, threads: usize) -> anyhow::Result<()> {
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let is_wanted = |engine: &Engine| compatibility(engine) == settings.compatibility;
    let mut engines = Flavor::all().filter_map(|flavor| config::engine(flavor).ok());
    let engine = engines.find(is_wanted).context(
        "the program that compiles is built of another version of Sandpool, or with other features",
    )?;
    let known = known::functions()?;
    enter_jail(jail, threads)?;

    let mut module = Vec::new();
    io::stdin().lock().read_to_end(&mut module)?;
    #[cfg(feature = "testing")]
    crate::native::instead_of_compiler(&module);
    let compiled = catch_unwind(AssertUnwindSafe(|| compile(&engine, &known, &module, settings)));
    let compiled = compiled.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        Err(ModuleRefusal::Compile { problem: format!("the compiler panicked: {words}") })
    });
    let (report, artifact) = match compiled {
        Ok((summary, artifact)) => (Report::Compiled { summary, artifact: artifact.len() as u64 }, artifact),
        Err(refusal) => (Report::Refused(refusal), Vec::new()),
    };
    let report = serde_json::to_vec(&report)?;
    output.write_all(&(report.len() as u64).to_le_bytes())?;
    output.write_all(&report)?;
    output.write_all(&artifact)?;
    Ok(())
}

fn prepare_jail(settings: &Settings, threads: usize) -> io::Result<Prepared> {
    let limits = &settings.limits;
    let (cpu, output) = (seconds(limits.compile_cpu_max), output_size(limits.artifact_max));
    let rlimits = Rlimits::for_compiler(limits.compile_memory_max, cpu, output, threads);
    jail::prepare(&Plan { policy: Policy::Compiler, dirs: &[], rlimits, settings: &settings.jail })
}

/// Enters the jail: from here on, this process has this number of threads, three files and its own memory, and can get nothing
/// else.
fn enter_jail(jail: &Prepared, threads: usize) -> anyhow::Result<()> {
    let ruleset = jail.ruleset().map(|ruleset| ruleset.try_clone_to_owned()).transpose()?;
    jail.enter_with(ruleset, || {
        // This waits until all threads run.
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(io::Error::other)
    })?;
    Ok(())
}

fn compile(
    engine: &Engine,
    known: &[Function],
    module: &[u8],
    settings: &Settings,
) -> Result<(Summary, Vec<u8>), ModuleRefusal> {
    let wasm = inspect::to_wasm(module)?;
    let summary = check(known, &wasm, settings.unknown_imports)?;
    let artifact = if summary.is_component {
        engine.precompile_component(&wasm)
    } else {
        engine.precompile_module(&wasm)
    };
    let artifact =
        artifact.map_err(|error| ModuleRefusal::Compile { problem: printable(&format!("{error:#}")) })?;
    if artifact.len() as u64 > settings.limits.artifact_max {
        return Err(ModuleRefusal::ArtifactTooLarge);
    }
    Ok((summary, artifact))
}
