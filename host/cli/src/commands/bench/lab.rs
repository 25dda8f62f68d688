//! The place of the measurements: runs of the guest, and pools.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use anyhow::{Context as _, anyhow, ensure};
use indicatif::ProgressBar;
use sandpool::jail::Layer;
use sandpool::pool::{Command, Isolation};
use sandpool::run::Summary;
use sandpool::{DirGrant, Error, ExitStatus, Limits, Module, Pool, Run, Sandbox};
use sha2::Digest as _;
use tempfile::TempDir;

use super::figures::Figures;
use super::machine::{self, Memory};
use super::sha256::sha256;
use crate::commands;
use crate::interrupt::{self, Interrupt};
use crate::text;
use crate::toolchain::{self, BuildOptions};

/// The place of the guest in a checkout.
const GUESTS: &str = "host/benches/guests";

/// The arena's size for most measurements: the default size.
pub(super) const ARENA: u64 = 1 << 30;

/// State that all measurements share.
pub(super) struct Lab {
    module: Module,
    /// The folder to which the guest writes its figures.
    folder: TempDir,
    rounds: usize,
    is_quick: bool,
    interrupt: Interrupt,
}

impl Lab {
    pub(super) fn new(
        guests: Option<&Path>,
        rounds: usize,
        is_quick: bool,
        progress: &ProgressBar,
    ) -> anyhow::Result<Self> {
        let interrupt = Interrupt::watch()?;
        let guests = guests.map_or_else(in_checkout, |guests| Ok(guests.to_owned()))?;
        let path = toolchain::module_path(&guests, &BuildOptions::default())?;
        let module = commands::load(&path, &Sandbox::new())?;
        let folder = tempfile::Builder::new()
            .prefix("sandpool-bench-")
            .tempdir()
            .context("cannot make a folder for figures")?;
        let (path, progress) = (folder.path().to_owned(), progress.clone());
        // Supervisors end with this process, and all guests with them.
        interrupt.calls(move |signal, _| {
            progress.finish_and_clear();
            text::note("interrupted");
            let _ = fs::remove_dir_all(&path);
            interrupt::die_of(signal);
        });
        Ok(Self { module, folder, rounds, is_quick, interrupt })
    }

    /// The amount of work in a round.
    pub(super) fn count(&self, full: u64) -> u64 {
        if self.is_quick { (full / 10).max(10) } else { full }
    }

    pub(super) fn rounds(&self) -> usize {
        self.rounds
    }

    /// Makes the guest measure something, and returns its rounds.
    pub(super) fn guest(&self, name: &str, numbers: &[u64]) -> anyhow::Result<Vec<f64>> {
        self.guest_rounds(ARENA, name, self.rounds, numbers)
    }

    /// Does the same in an arena of this number of bytes.
    pub(super) fn guest_in(&self, arena: u64, name: &str, numbers: &[u64]) -> anyhow::Result<Vec<f64>> {
        self.guest_rounds(arena, name, self.rounds, numbers)
    }

    fn guest_rounds(
        &self,
        arena: u64,
        name: &str,
        rounds: usize,
        numbers: &[u64],
    ) -> anyhow::Result<Vec<f64>> {
        let run = self.start(arena, name, rounds, numbers, None)?;
        self.ended_well(&run.wait()?)?;
        let text = fs::read_to_string(self.figures()).context("cannot read the guest's figures")?;
        text.lines().map(|line| line.parse().with_context(|| format!("no figure: {line}"))).collect()
    }

    /// Makes the guest set up `count` processes, and measures their memory.
    pub(super) fn memory(
        &self,
        arena: u64,
        name: &str,
        count: u64,
        numbers: &[u64],
    ) -> anyhow::Result<Vec<Memory>> {
        // With these limits, only root may look at a guest's memory.
        let run = self.start(arena, name, 0, &[&[count], numbers].concat(), Some(Layer::Rlimits))?;
        let supervisor = run.supervisor_pid();
        while !self.figures().exists() {
            if machine::children(supervisor).is_empty() {
                self.ended_well(&run.wait()?)?;
                return Err(anyhow!("the guest has ended too early"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        // The main guest is older; and the supervisor's own processes have another name.
        let newest = machine::children(supervisor).into_iter().rev().filter(|pid| machine::is_guest(*pid));
        newest.take(usize::try_from(count)?).map(machine::memory).collect()
    }

    /// Times a pool of this process: the time of each round for one of `count` tasks, with two workers.
    pub(super) fn pool(&self, isolation: Isolation, count: u64) -> anyhow::Result<Vec<f64>> {
        let pool = Pool::builder(&self.module).processes(2).isolation(isolation).build()?;
        let round = || -> anyhow::Result<f64> {
            let start = Instant::now();
            let outputs: Vec<u64> = pool.map("identity", 0..count)?;
            let elapsed = start.elapsed();
            ensure!(
                outputs.iter().copied().eq(0..count),
                "a task has returned something else than its input"
            );
            Ok(elapsed.as_secs_f64() / count as f64)
        };
        self.warmed_up(round)
    }

    /// Times a pool that runs the guest as a program for each of `count` records, from stdin to stdout, with two workers.
    pub(super) fn records(&self, count: u64) -> anyhow::Result<Vec<f64>> {
        let pool = Pool::builder(&self.module).processes(2).isolation(Isolation::Task).build()?;
        let round = || -> anyhow::Result<f64> {
            let start = Instant::now();
            let commands =
                (0..count).map(|number| Command::new("bench").arg("echo").stdin(number.to_string()));
            for (number, output) in pool.imap_commands(commands).enumerate() {
                let output = output?;
                let is_right = output.status.success() && output.stdout == number.to_string().as_bytes();
                ensure!(is_right, "a program has written something else than its input");
            }
            Ok(start.elapsed().as_secs_f64() / count as f64)
        };
        self.warmed_up(round)
    }

    /// Times this command as it runs a program that does nothing, whose compiled form is cached: each of `count` processes from its
    /// start to its end. A round is the median of its runs.
    pub(super) fn starts(&self, count: u64) -> anyhow::Result<Vec<f64>> {
        let own = env::current_exe().context("cannot find this program")?;
        let nothing = self.folder.path().join("nothing.wat");
        fs::write(&nothing, "(module (memory (export \"memory\") 1) (func (export \"_start\")))")
            .context("cannot write the program that is started")?;
        let run = || -> anyhow::Result<f64> {
            let start = Instant::now();
            let status = process::Command::new(&own).arg("run").arg(&nothing).stdin(Stdio::null()).status();
            let elapsed = start.elapsed();
            ensure!(
                status.context("cannot start this program")?.success(),
                "a program that does nothing failed"
            );
            Ok(elapsed.as_secs_f64())
        };
        self.warmed_up(|| {
            let runs = (0..count).map(|_| run()).collect::<anyhow::Result<Vec<_>>>()?;
            Ok(Figures::new(runs).context("nothing was started")?.median())
        })
    }

    /// How many times as long the guest takes for the SHA-256 of this number of bytes as the same code here; and the time of that
    /// code relative to the processor's own instructions.
    pub(super) fn compute(&self, len: u64) -> anyhow::Result<(Vec<f64>, f64)> {
        let bytes = vec![1_u8; usize::try_from(len)?];
        let time = |digest: &dyn Fn(&[u8]) -> [u8; 32]| {
            let start = Instant::now();
            black_box(digest(black_box(&bytes)));
            start.elapsed().as_secs_f64() / len as f64
        };
        let mut instructions = Vec::new();
        // The two take turns, so that a processor that changes its speed does so for both.
        let round = || -> anyhow::Result<f64> {
            let native = time(&sha256);
            instructions.push(native / time(&|bytes| sha2::Sha256::digest(bytes).into()));
            let guest = self.guest_rounds(ARENA, "sha256", 1, &[len])?;
            Ok(guest.first().context("the guest has no figure")? / native)
        };
        let ratios = self.warmed_up(round)?;
        let instructions = Figures::new(instructions).context("no time has passed")?;
        Ok((ratios, instructions.median()))
    }

    fn warmed_up(&self, mut round: impl FnMut() -> anyhow::Result<f64>) -> anyhow::Result<Vec<f64>> {
        round()?;
        (0..self.rounds).map(|_| round()).collect()
    }

    fn ended_well(&self, summary: &Summary) -> anyhow::Result<()> {
        if summary.status == ExitStatus::Exited(0) {
            return Ok(());
        }
        if let ExitStatus::Signaled(signal) = summary.status
            && self.interrupt.caught(Some(signal.0)).is_some()
        {
            // This process is about to die of the signal as well.
            loop {
                thread::park();
            }
        }
        Err(anyhow!("the guest that is measured was {}", summary.status))
    }

    fn start(
        &self,
        arena: u64,
        name: &str,
        rounds: usize,
        numbers: &[u64],
        without: Option<Layer>,
    ) -> anyhow::Result<Run> {
        let figures = self.figures();
        if figures.exists() {
            fs::remove_file(figures).context("cannot remove old figures")?;
        }
        let sandbox = Sandbox::new()
            .limits(Limits::default().processes_max(2048).arena_size(arena))
            .dir(DirGrant::writable(self.folder.path(), "/bench"));
        let sandbox = without.into_iter().fold(sandbox, Sandbox::without_layer);
        let run = Run::builder(&self.module)
            .sandbox(sandbox)
            .arg(self.module.name())
            .arg(name)
            .arg(rounds.to_string())
            .args(numbers.iter().map(u64::to_string));
        Ok(run.start()?)
    }

    fn figures(&self) -> PathBuf {
        self.folder.path().join("figures")
    }
}

/// The guest of the checkout that this directory is in.
fn in_checkout() -> anyhow::Result<PathBuf> {
    let here = env::current_dir().context("cannot find the current directory")?;
    let found = here.ancestors().map(|folder| folder.join(GUESTS)).find(|guests| guests.is_dir());
    found.ok_or_else(|| {
        Error::Invalid {
            what: format!(
                "the guest that is measured is not here: {} is in no checkout of Sandpool",
                here.display()
            ),
            hint: Some(format!("change to a checkout, or name its {GUESTS} with --guests")),
        }
        .into()
    })
}
