//! The compiler itself.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use wasmtime::Engine;

use super::{Report, Summary, output_size};
use crate::engine::cache::compatibility;
use crate::engine::check::{self, Refusal, check};
use crate::engine::known::{self, Function};
use crate::engine::{config, inspect};
use crate::jail::rlimits::Rlimits;
use crate::jail::seccomp::Policy;
use crate::jail::{self, Plan};
use crate::sys::fd::close_from;
use crate::sys::process::{die_with_parent, exit_now};

/// What the owner says on the command line.
#[derive(Debug)]
pub(super) struct Settings {
    /// The owner's process id.
    pub(super) owner: u32,
    /// The limit of memory, in bytes.
    pub(super) memory: u64,
    /// The limit of processor time, in seconds.
    pub(super) cpu: u64,
    /// The limit of the artifact, in bytes.
    pub(super) artifact: u64,
    /// What the owner's engine calls compatible with itself.
    pub(super) compatibility: String,
}

impl Settings {
    pub(super) fn to_args(&self) -> [String; 5] {
        [
            self.owner.to_string(),
            self.memory.to_string(),
            self.cpu.to_string(),
            self.artifact.to_string(),
            self.compatibility.clone(),
        ]
    }

    fn from_args(args: &[String]) -> anyhow::Result<Self> {
        let [owner, memory, cpu, artifact, compatibility] = args else {
            anyhow::bail!("a compiler is started by Sandpool only");
        };
        Ok(Self {
            owner: owner.parse()?,
            memory: memory.parse()?,
            cpu: cpu.parse()?,
            artifact: artifact.parse()?,
            compatibility: compatibility.clone(),
        })
    }
}

/// Is the compiler, until there is a report.
pub(crate) fn main() -> ! {
    let code = match run() {
        Ok(()) => crate::ExitCode::Success,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error:#}");
            crate::ExitCode::Internal
        }
    };
    // Nothing is left to be dropped: what is in memory may be large.
    exit_now(i32::from(code.code()));
}

fn run() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let settings = Settings::from_args(&args)?;
    // The thread that has started this waits for its end, so its own death is that of the owner.
    if !die_with_parent(i32::try_from(settings.owner)?) {
        return Ok(());
    }
    // What a terminal sends to all of its processes is for the owner to answer, as with the supervisor.
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];
    SigSet::from_iter(signals).thread_block()?;
    close_from(3);
    let _ = nix::sys::prctl::set_name(c"sandpool-compil");
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let mut engine = config::engine(false)?;
    if compatibility(&engine) != settings.compatibility {
        engine = config::engine(true)?;
    }
    anyhow::ensure!(
        compatibility(&engine) == settings.compatibility,
        "the program that compiles is built of another version of Sandpool, or with other features"
    );
    let known = known::functions()?;
    enter_jail(&settings)?;

    let mut module = Vec::new();
    io::stdin().lock().read_to_end(&mut module)?;
    let compiled = catch_unwind(AssertUnwindSafe(|| compile(&engine, &known, &module, settings.artifact)));
    let compiled = compiled.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        Err(Refusal::Compile { problem: format!("the compiler panicked: {words}") })
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

/// From here on, this process has its threads, three files and memory of its own, and can get nothing else.
fn enter_jail(settings: &Settings) -> anyhow::Result<()> {
    let rlimits = Rlimits {
        data: Some(settings.memory),
        cpu: Some(settings.cpu),
        // The highest number that it has; what is open stays so.
        nofile: Some(0),
        fsize: Some(output_size(settings.artifact)),
    };
    let all = jail::Settings::default();
    let plan = Plan { policy: Policy::Compiler, dirs: &[], rlimits, settings: &all };
    let jail = jail::prepare(&plan).context("cannot prepare the compiler's jail")?;
    // Finding that out takes files.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let ruleset = jail.ruleset().map(|ruleset| ruleset.try_clone_to_owned()).transpose()?;
    jail.enter_with(ruleset, || {
        // This waits until all of them run.
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(io::Error::other)
    })?;
    Ok(())
}

fn compile(
    engine: &Engine,
    known: &[Function],
    module: &[u8],
    artifact_max: u64,
) -> Result<(Summary, Vec<u8>), Refusal> {
    let wasm = inspect::to_wasm(module)?;
    let found = check(known, &wasm)?;
    let artifact = engine
        .precompile_module(&wasm)
        .map_err(|error| Refusal::Compile { problem: inspect::printable(&format!("{error:#}")) })?;
    if artifact.len() as u64 > artifact_max {
        return Err(Refusal::ArtifactTooLarge);
    }
    let is_program = check::is_program(&found);
    Ok((Summary { is_program, has_start: found.has_start, tasks: found.tasks }, artifact))
}
