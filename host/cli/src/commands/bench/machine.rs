//! The machine: its description, its other work, and the kernel's facts about processes.

use std::fs;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use nix::sched::{sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::Pid;

use super::figures::number;

/// Measures which part of the processors other programs use, and how far apart the processors are.
pub(super) struct Watch {
    began: Used,
    apart: Vec<f64>,
}

/// Processor time that was used since some time in the past, in seconds.
#[derive(Clone, Copy)]
struct Used {
    /// The whole time of the processors, used or not.
    total: f64,
    /// The time that programs and the kernel used, and that other machines took away from this one.
    busy: f64,
    /// The time that this process used, and its children that have ended.
    own: f64,
}

/// Facts about a machine, for the figures that were measured on it.
#[derive(Debug)]
pub(super) struct Machine {
    kernel: String,
    processor: String,
    processors: usize,
    /// The part of the processors that other programs have used.
    others: f64,
    /// Nanoseconds from one processor to another and back: the least and the greatest time that was found.
    apart: Option<(f64, f64)>,
}

/// From this part on, figures are unreliable.
const BUSY: f64 = 0.05;
/// Processors that are this many times as far apart as before have been moved.
const MOVED: f64 = 1.5;

impl Watch {
    pub(super) fn start() -> Self {
        Self { began: Used::now(), apart: Vec::new() }
    }

    /// Measures how far apart the processors are now: the nanoseconds until one processor sees a word that another has written, and
    /// that one sees the answer. The processors of a virtual machine may be moved, which changes this time, and with it everything
    /// that processes do together. `None` if there is only one processor.
    pub(super) fn look(&mut self) -> Option<f64> {
        let found = (thread::available_parallelism().map_or(1, usize::from) > 1).then(apart)?;
        self.apart.push(found);
        Some(found)
    }

    pub(super) fn finish(self) -> Machine {
        let (began, now) = (self.began, Used::now());
        let total = (now.total - began.total).max(f64::MIN_POSITIVE);
        let others = (now.busy - began.busy - (now.own - began.own)) / total;
        let line = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let info = line("/proc/cpuinfo");
        let processor = info.lines().find(|line| line.starts_with("model name"));
        let (least, most) =
            (self.apart.iter().copied().reduce(f64::min), self.apart.iter().copied().reduce(f64::max));
        Machine {
            apart: least.zip(most),
            kernel: format!("{} {}", line("/proc/sys/kernel/ostype"), line("/proc/sys/kernel/osrelease")),
            processor: processor
                .and_then(|line| line.split_once(": "))
                .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned()),
            processors: thread::available_parallelism().map_or(1, usize::from),
            others: others.clamp(0.0, 1.0),
        }
    }
}

/// Measures with two threads that spin. The result is the shortest of several times in a row, because either thread may be
/// interrupted.
fn apart() -> f64 {
    const TRIPS: u64 = 200;
    const LAST: u64 = u64::MAX;
    /// On a cache line of its own, and on its neighbour, which some processors fetch as well.
    #[repr(align(128))]
    struct Line(AtomicU64);
    let (there, back) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
    let here = sched_getcpu();
    thread::scope(|scope| {
        scope.spawn(|| {
            // If the processor can't be chosen, the kernel runs the threads on two processors as well, sooner or later.
            let _ = here.and_then(leave);
            let mut seen = 0;
            while seen != LAST {
                seen = there.0.load(Ordering::Acquire);
                back.0.store(seen, Ordering::Release);
                spin_loop();
            }
        });
        let (begin, mut trip, mut shortest) = (Instant::now(), 0, f64::INFINITY);
        while begin.elapsed() < Duration::from_millis(20) {
            let start = Instant::now();
            for _ in 0..TRIPS {
                trip += 1;
                there.0.store(trip, Ordering::Release);
                while back.0.load(Ordering::Acquire) != trip {
                    spin_loop();
                }
            }
            shortest = shortest.min(start.elapsed().as_nanos() as f64 / TRIPS as f64);
        }
        there.0.store(LAST, Ordering::Release);
        shortest
    })
}

/// Makes this thread run on any processor but this one.
fn leave(processor: usize) -> nix::Result<()> {
    let this_thread = Pid::from_raw(0);
    let mut others = sched_getaffinity(this_thread)?;
    others.unset(processor)?;
    sched_setaffinity(this_thread, &others)
}

impl Used {
    fn now() -> Self {
        let (total, busy) = from_stat(&fs::read_to_string("/proc/stat").unwrap_or_default());
        let own = [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN].into_iter().filter_map(|who| {
            let usage = getrusage(who).ok()?;
            Some((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6)
        });
        Self { total, busy, own: own.sum() }
    }
}

/// The whole time of the processors, and their busy time, from the text of `/proc/stat`: proc_stat(5). Ticks are a hundredth of a
/// second on every machine that Linux runs on.
fn from_stat(text: &str) -> (f64, f64) {
    let line = text.lines().next().unwrap_or_default();
    // User, nice, system, idle, waiting, interrupts twice, stolen. The later fields are included in user and nice.
    let ticks = line.split_whitespace().skip(1).take(8).map(|ticks| ticks.parse().unwrap_or(0.0) / 100.0);
    let ticks: Vec<f64> = ticks.collect();
    let idle: f64 = ticks.iter().skip(3).take(2).sum();
    let total: f64 = ticks.iter().sum();
    (total, total - idle)
}

impl Machine {
    /// One line about the machine.
    pub(super) fn describe(&self) -> String {
        let Self { kernel, processor, processors, .. } = self;
        let plural = if *processors == 1 { "" } else { "s" };
        format!(
            "{processors} processor{plural} ({processor}), {kernel}, sandpool {}",
            env!("CARGO_PKG_VERSION")
        )
    }

    /// One line about how the figures were measured, and what else ran meanwhile.
    pub(super) fn method(&self, rounds: usize) -> String {
        format!(
            "median and spread of {rounds} rounds, after one to warm up; {}{}",
            self.load(),
            self.distance()
        )
    }

    fn distance(&self) -> String {
        match self.apart {
            None => String::new(),
            Some((least, most)) if most < MOVED * least => {
                format!("; from one processor to another and back: {} ns", number(most))
            }
            Some((least, most)) => format!(
                "; MOVED: from one processor to another and back took {} to {} ns, so that some figures are of another machine \
                 than others",
                number(least),
                number(most)
            ),
        }
    }

    fn load(&self) -> String {
        let percent = self.others * 100.0;
        if self.others < BUSY {
            format!("quiet: other programs used {percent:.0} % of the processors meanwhile")
        } else {
            format!(
                "BUSY: other programs used {percent:.0} % of the processors meanwhile, so that these figures are too bad"
            )
        }
    }
}

/// The children of a process with one thread, oldest first.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether a child of a supervisor is a guest's process, by its name in the kernel's table.
pub(super) fn is_guest(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "sandpool-guest")
}

/// A process's memory, in KiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Memory {
    /// Memory that no other process has.
    pub(super) private_kib: f64,
    /// The same, plus the process's share of memory that others have as well.
    pub(super) share_kib: f64,
    /// The kernel's page tables for this memory, which no share includes.
    pub(super) tables_kib: f64,
}

pub(super) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    };
    let found = from_proc(&read("smaps_rollup")?, &read("status")?);
    found.ok_or_else(|| anyhow!("cannot understand what the kernel says of the memory of process {pid}"))
}

/// Reads the texts of proc_pid_smaps(5) and proc_pid_status(5).
fn from_proc(rollup: &str, status: &str) -> Option<Memory> {
    let private = ["Private_Clean", "Private_Dirty", "Private_Hugetlb"].map(|name| kib(rollup, name));
    Some(Memory {
        private_kib: private.into_iter().sum::<Option<f64>>()?,
        share_kib: kib(rollup, "Pss")?,
        tables_kib: kib(status, "VmPTE")?,
    })
}

fn kib(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_stat() {
        let (total, busy) = from_stat("cpu  100 0 50 800 50 0 0 100 70 0\ncpu0 1 2 3\n");
        assert_eq!((total, busy), (11.0, 2.5));
    }

    #[test]
    fn memory_is_read_from_a_rollup() {
        let text = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss:  300 kB\nPss_Dirty: 1 kB\n\
                    Private_Clean: 8 kB\nPrivate_Dirty:  112 kB\nPrivate_Hugetlb: 0 kB\n";
        let memory = Memory { private_kib: 120.0, share_kib: 300.0, tables_kib: 44.0 };
        assert_eq!(from_proc(text, "VmLib: 1 kB\nVmPTE:\t      44 kB\n"), Some(memory));
        assert_eq!(from_proc("Pss: 1 kB\n", "VmPTE: 1 kB\n"), None);
    }
}
