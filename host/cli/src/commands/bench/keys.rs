//! The figures that are measured, their units, and their goals.

use anyhow::Context as _;
use sandpool::pool::Isolation;

use super::figures::{Figures, Goal};
use super::lab::{ARENA, Lab};

/// One figure.
pub(super) struct Bench {
    /// The figure's name, which ends with its unit.
    pub(super) key: &'static str,
    pub(super) unit: &'static str,
    /// The work, in a few words.
    pub(super) work: &'static str,
    pub(super) goal: Goal,
    pub(super) measure: fn(&Lab) -> anyhow::Result<Figures>,
}

pub(super) const MIB: u64 = 1 << 20;

pub(super) const BENCHES: &[Bench] = &[
    Bench {
        key: "run_start_ms",
        unit: "ms",
        work: "`sandpool run` of a program that does nothing, from start to end",
        goal: Goal::AtMost(4.7),
        measure: |lab| figures(lab.starts(lab.count(100))?, |seconds| seconds * 1e3),
    },
    Bench {
        key: "process_start_join_us",
        unit: "µs",
        work: "fork a process that returns at once, and join it; 1 MiB touched",
        goal: Goal::TimesFloor(1.5),
        measure: |lab| micros(lab.guest("fork", &[lab.count(2000), MIB, 0])?),
    },
    Bench {
        key: "process_start_join_64MiB_us",
        unit: "µs",
        work: "the same, 64 MiB touched",
        goal: Goal::TimesFloor(1.5),
        measure: |lab| micros(lab.guest("fork", &[lab.count(2000), 64 * MIB, 0])?),
    },
    Bench {
        key: "process_spawn_join_us",
        unit: "µs",
        work: "the same by spawn: fresh memory, a function by name",
        goal: Goal::TimesFloor(2.0),
        measure: |lab| micros(lab.guest("spawn", &[lab.count(1000), MIB])?),
    },
    Bench {
        key: "pool_map_chunk1_us_per_task",
        unit: "µs",
        work: "map of identity over integers, chunksize 1, 2 workers",
        goal: Goal::AtMost(1.0),
        measure: |lab| micros(lab.guest("map", &[lab.count(300_000), 1, 2])?),
    },
    Bench {
        key: "pool_map_auto_us_per_task",
        unit: "µs",
        work: "the same over 1 000 000 integers, chunks chosen by the pool",
        goal: Goal::AtMost(0.05),
        measure: |lab| micros(lab.guest("map", &[lab.count(1_000_000), 0, 2])?),
    },
    Bench {
        key: "pool_imap_unordered_us_per_task",
        unit: "µs",
        work: "imap_unordered, chunksize 1, 2 workers",
        goal: Goal::AtMost(1.0),
        measure: |lab| micros(lab.guest("imap_unordered", &[lab.count(300_000)])?),
    },
    Bench {
        key: "pool_apply_rtt_us",
        unit: "µs",
        work: "one apply at a time",
        goal: Goal::AtMost(10.0),
        measure: |lab| micros(lab.guest("apply", &[lab.count(20_000)])?),
    },
    Bench {
        key: "executor_submit_us_per_task",
        unit: "µs",
        work: "submit all, then take every future's result, 2 workers",
        goal: Goal::AtMost(2.0),
        measure: |lab| micros(lab.guest("executor", &[lab.count(100_000)])?),
    },
    Bench {
        key: "host_pool_map_us_per_task",
        unit: "µs",
        work: "the embedder's pool: 8 bytes to an exported task and back, 2 workers",
        goal: Goal::AtMost(2.0),
        measure: |lab| micros(lab.pool(Isolation::Worker, lab.count(200_000))?),
    },
    Bench {
        key: "host_pool_fresh_us_per_task",
        unit: "µs",
        work: "the same with a pristine sandbox for each task",
        goal: Goal::TimesFloor(2.0),
        measure: |lab| micros(lab.pool(Isolation::Task, lab.count(2000))?),
    },
    Bench {
        key: "command_per_record_us",
        unit: "µs",
        work: "a program for each record, from stdin to stdout, 2 workers",
        goal: Goal::TimesFloor(2.0),
        measure: |lab| micros(lab.records(lab.count(2000))?),
    },
    Bench {
        key: "queue_small_us_per_msg",
        unit: "µs",
        work: "8-byte items, one at a time, from one process to another",
        goal: Goal::AtMost(0.2),
        measure: |lab| micros(lab.guest("queue", &[lab.count(1_000_000), 1, 0])?),
    },
    Bench {
        key: "queue_1MiB_GBps",
        unit: "GB/s",
        work: "the same with items of 1 MiB",
        goal: Goal::AtLeast(4.0),
        measure: |lab| bandwidth(lab.guest("queue_bytes", &[lab.count(1000), MIB, 16, 0])?, MIB),
    },
    Bench {
        key: "pipe_rtt_us",
        unit: "µs",
        work: "a small item to another process and back, over a duplex pipe",
        goal: Goal::AtMost(5.0),
        measure: |lab| micros(lab.guest("pipe", &[lab.count(100_000)])?),
    },
    Bench {
        key: "lock_uncontended_ns",
        unit: "ns",
        work: "acquire and release in one process",
        goal: Goal::AtMost(25.0),
        measure: |lab| nanos(lab.guest("lock", &[lab.count(2_000_000)])?),
    },
    Bench {
        key: "lock_contended2_ns",
        unit: "ns",
        work: "the same in two processes at once, for each of all operations",
        goal: Goal::AtMost(150.0),
        measure: |lab| nanos(lab.guest("lock_contended", &[lab.count(1_000_000)])?),
    },
    Bench {
        key: "value_inc_contended2_ns",
        unit: "ns",
        work: "a locked Value += 1 in two processes at once, for each of all operations",
        goal: Goal::AtMost(200.0),
        measure: |lab| nanos(lab.guest("value_contended", &[lab.count(1_000_000)])?),
    },
    Bench {
        key: "manager_dict_set_us",
        unit: "µs",
        work: "set a key of a dictionary that another process has made; 1000 keys",
        goal: Goal::AtMost(1.5),
        measure: |lab| micros(lab.guest("dict", &[lab.count(200_000), 1, 0])?),
    },
    Bench {
        key: "shared_array_GBps",
        unit: "GB/s",
        work: "sum of 256 MiB of shared f64, in place; against private memory",
        goal: Goal::TimesReference(0.95),
        measure: |lab| shared_array(lab.guest("shared_array", &[lab.count(256 * MIB)])?),
    },
    Bench {
        key: "compute_vs_native",
        unit: "×",
        work: "SHA-256 of 64 MiB in the sandbox, against the same code outside",
        goal: Goal::AtMost(1.4),
        measure: |lab| {
            let (ratios, instructions) = lab.compute(lab.count(64 * MIB))?;
            let remark = format!(
                "the processor's own instructions for it are {instructions:.1} × as fast as that code"
            );
            Ok(figures(ratios, |ratio| ratio)?.with_remark(remark))
        },
    },
    Bench {
        key: "idle_process_private_kib",
        unit: "KiB",
        work: "memory that only one idle guest process has",
        goal: Goal::AtMost(512.0),
        measure: |lab| {
            // Code that one process alone has run so far would count as that process's own.
            let idle = lab.memory(ARENA, "idle", lab.rounds().max(4) as u64, &[])?;
            figures(idle.iter().map(|memory| memory.private_kib).collect(), |kib| kib)
        },
    },
];

pub(super) fn figures(rounds: Vec<f64>, unit: impl Fn(f64) -> f64) -> anyhow::Result<Figures> {
    Figures::new(rounds.into_iter().map(unit)).context("a measurement without a figure")
}

/// Figures in microseconds, from seconds for each operation.
pub(super) fn micros(seconds: Vec<f64>) -> anyhow::Result<Figures> {
    figures(seconds, |seconds| seconds * 1e6)
}

fn nanos(seconds: Vec<f64>) -> anyhow::Result<Figures> {
    figures(seconds, |seconds| seconds * 1e9)
}

/// Figures in GB/s, from seconds for each transfer of this number of bytes.
fn bandwidth(seconds: Vec<f64>, bytes: u64) -> anyhow::Result<Figures> {
    figures(seconds, |seconds| bytes as f64 / seconds / 1e9)
}

/// Shared and private memory in turns.
fn shared_array(seconds: Vec<f64>) -> anyhow::Result<Figures> {
    let (shared, private) =
        seconds.as_chunks::<2>().0.iter().map(|&[shared, private]| (shared, private)).unzip();
    let private = bandwidth(private, 1)?.median();
    let shared = bandwidth(shared, 1)?;
    let remark =
        format!("private memory: {private:.1} GB/s, so that this is {:.2} ×", shared.median() / private);
    Ok(shared.against(private).with_remark(remark))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn figures_are_in_the_unit_of_their_key() {
        assert_eq!(micros(vec![2e-6]).unwrap().median().round(), 2.0);
        assert_eq!(nanos(vec![2e-9]).unwrap().median().round(), 2.0);
        assert_eq!(bandwidth(vec![0.5], 2_000_000_000).unwrap().median(), 4.0);
        let array = shared_array(vec![0.5e-9, 0.25e-9]).unwrap();
        assert_eq!((array.median().round(), array.reference.map(f64::round)), (2.0, Some(4.0)));
    }
}
