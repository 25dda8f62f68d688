//! How costs grow: the same work beside more processes, with more producers, of larger items, and so on.

use std::fmt::Write as _;
use std::thread;

use super::figures::{Figures, number};
use super::keys::{MIB, figures, micros};
use super::lab::Lab;
use super::machine::{Machine, Memory};
use crate::text;

/// A cost, and what it may grow with.
pub(super) struct Curve {
    /// The curve's name, which ends with its unit. The figure at a point has the same name, with the number of the point.
    pub(super) key: &'static str,
    pub(super) unit: &'static str,
    pub(super) work: &'static str,
    /// The quantity that grows.
    pub(super) grows: &'static str,
    pub(super) points: fn() -> Vec<u64>,
    /// The name of a point.
    pub(super) label: fn(u64) -> String,
    expected: Growth,
    pub(super) measure: fn(&Lab, u64) -> anyhow::Result<Figures>,
}

/// How a cost may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    /// Not at all: nowhere more than 1.5 times the figure at the first point.
    Flat,
    /// No faster than the points: never more than 1.25 times as fast from one to the next, unless it comes to no more than 1.5
    /// times the reference there.
    Linear,
}

/// The figures that were measured at each point.
pub(super) type Measured = (&'static Curve, Vec<(u64, Figures)>);

/// Some costs are measured in a small arena, which fills up quickly, or in a large one.
const SMALL: u64 = 256 * MIB;
const LARGE: u64 = 2048 * MIB;
const FILLED: [u64; 6] = [0, 25, 50, 75, 90, 95];

pub(super) const CURVES: &[Curve] = &[
    Curve {
        key: "processes_start_join_us",
        unit: "µs",
        work: "fork a process that returns at once, and join it",
        grows: "processes that are alive",
        points: || vec![1, 10, 100, 300, 1000],
        label: |processes| processes.to_string(),
        expected: Growth::Flat,
        measure: |lab, processes| micros(lab.guest("fork", &[lab.count(1000), MIB, processes - 1])?),
    },
    Curve {
        key: "producers_queue_us_per_msg",
        unit: "µs",
        work: "8-byte items through one queue, one at a time, to one consumer",
        grows: "producers",
        points: || vec![1, 2, 4, 8, 16],
        label: |producers| producers.to_string(),
        expected: Growth::Flat,
        measure: |lab, producers| micros(lab.guest("queue", &[lab.count(500_000), producers, 0])?),
    },
    Curve {
        key: "bytes_queue_us_per_msg",
        unit: "µs",
        work: "items through a queue from one process to another",
        grows: "size of an item",
        points: || (0..8).map(|power| 8 << (3 * power)).chain([64 * MIB]).collect(),
        label: size,
        expected: Growth::Linear,
        measure: |lab, size| {
            let count = lab.count((512 * MIB / size).clamp(100, 200_000));
            let seconds = lab.guest("queue_bytes", &[count, size, (16 * MIB / size).clamp(2, 1000), 0])?;
            beside_copies(micros(seconds)?, lab, size, 3)
        },
    },
    Curve {
        key: "bytes_map_us_per_task",
        unit: "µs",
        work: "map of the length of bytes, chunksize 1, two workers",
        grows: "size of an argument",
        points: || (0..8).map(|power| 8 << (3 * power)).collect(),
        label: size,
        expected: Growth::Linear,
        measure: |lab, size| {
            let count = lab.count((512 * MIB / size).clamp(100, 200_000));
            // Five arguments at a time, as they were made and in messages, and those that the workers have.
            beside_copies(micros(lab.guest("map_bytes", &[count, size])?)?, lab, size, 12)
        },
    },
    Curve {
        key: "workers_map_us_per_task",
        unit: "µs",
        work: "map of SHA-256 over 4 KiB, chunksize 1: a task's share of the processors",
        grows: "workers",
        points: processors,
        label: |workers| workers.to_string(),
        expected: Growth::Flat,
        measure: |lab, workers| {
            let seconds = lab.guest("work", &[lab.count(20_000), 4096, workers])?;
            figures(seconds, |seconds| seconds * 1e6 * workers as f64)
        },
    },
    Curve {
        key: "workers_map_tiny_us_per_task",
        unit: "µs",
        work: "map of identity over integers, chunksize 1",
        grows: "workers",
        points: processors,
        label: |workers| workers.to_string(),
        expected: Growth::Flat,
        measure: |lab, workers| micros(lab.guest("map", &[lab.count(200_000), 1, workers])?),
    },
    Curve {
        key: "filled_queue_us_per_msg",
        unit: "µs",
        work: "8-byte items through a queue from one process to another",
        grows: "how full the arena is",
        points: || FILLED.to_vec(),
        label: |percent| format!("{percent} %"),
        expected: Growth::Flat,
        measure: |lab, percent| {
            micros(lab.guest_in(SMALL, "queue", &[lab.count(100_000), 1, filling(percent)])?)
        },
    },
    Curve {
        key: "filled_queue_64KiB_us_per_msg",
        unit: "µs",
        work: "the same with items of 64 KiB, each in a run of pages of its own",
        grows: "how full the arena is",
        points: || FILLED.to_vec(),
        label: |percent| format!("{percent} %"),
        expected: Growth::Flat,
        measure: |lab, percent| {
            let numbers = [lab.count(20_000), 64 << 10, 64, filling(percent)];
            micros(lab.guest_in(SMALL, "queue_bytes", &numbers)?)
        },
    },
    Curve {
        key: "idle_private_kib_per_process",
        unit: "KiB",
        work: "memory that only one idle process has",
        grows: "idle processes",
        points: || vec![1, 10, 100],
        label: |processes| processes.to_string(),
        expected: Growth::Flat,
        measure: |lab, processes| memory(lab, "idle", processes, &[]),
    },
    Curve {
        key: "pool_private_kib_per_worker",
        unit: "KiB",
        work: "memory that only one worker of a guest's pool has, after a hundred tasks each",
        grows: "workers",
        points: || vec![1, 10, 100],
        label: |workers| workers.to_string(),
        expected: Growth::Flat,
        measure: |lab, workers| memory(lab, "pool_idle", workers, &[]),
    },
    Curve {
        key: "array_private_kib_per_process",
        unit: "KiB",
        work: "memory that only one process has, of those that have read all of a shared array of 1 GiB",
        grows: "processes that see it",
        points: || vec![1, 10, 50],
        label: |processes| processes.to_string(),
        expected: Growth::Flat,
        measure: |lab, processes| memory(lab, "seen", processes, &[lab.count(1024 * MIB)]),
    },
];

/// 1, 2, 4 and so on, and the number of all processors.
fn processors() -> Vec<u64> {
    let all = thread::available_parallelism().map_or(1, usize::from) as u64;
    let powers = (0..).map(|power| 1 << power).take_while(|workers| *workers < all);
    powers.chain([all]).collect()
}

/// A power of two of bytes.
fn size(bytes: u64) -> String {
    let units = [(MIB, "MiB"), (1 << 10, "KiB"), (1, "B")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    unit.map_or_else(|| bytes.to_string(), |(unit, name)| format!("{} {name}", bytes / unit))
}

/// MiB of the small arena.
fn filling(percent: u64) -> u64 {
    SMALL / MIB * percent / 100
}

/// Figures of a transfer of this number of bytes between processes, beside two copies of the bytes within one process, which has
/// them in as many places as there are meanwhile.
fn beside_copies(figures: Figures, lab: &Lab, size: u64, places: u64) -> anyhow::Result<Figures> {
    let count = lab.count((512 * MIB / size).clamp(10, 1_000_000));
    let copies = micros(lab.guest("copies", &[count, size, places])?)?.median();
    let times = number(figures.median() / copies);
    let remark = format!("{times} × what a process takes to copy it twice, {} µs", number(copies));
    Ok(figures.against(copies).with_remark(remark))
}

/// Memory of this number of processes that the guest has set up.
fn memory(lab: &Lab, name: &str, count: u64, numbers: &[u64]) -> anyhow::Result<Figures> {
    let found = lab.memory(LARGE, name, count, numbers)?;
    let sum = |part: fn(&Memory) -> f64| text::bytes(found.iter().map(part).sum::<f64>() as u64 * 1024);
    let remark = format!(
        "private {}, with a share of what they share {}, page tables {}",
        sum(|memory| memory.private_kib),
        sum(|memory| memory.share_kib),
        sum(|memory| memory.tables_kib)
    );
    Ok(figures(found.iter().map(|memory| memory.private_kib).collect(), |kib| kib)?.with_remark(remark))
}

/// Where the cost has grown faster than it may, if anywhere.
fn excess(curve: &Curve, points: &[(u64, Figures)]) -> Option<String> {
    let first = points.first()?;
    let steps = points.windows(2).filter_map(|pair| match pair {
        [from, to] => Some((from, to)),
        _ => None,
    });
    let found = match curve.expected {
        Growth::Flat => {
            let worst = points.iter().max_by(|a, b| a.1.median().total_cmp(&b.1.median()))?;
            (worst.1.median() > 1.5 * first.1.median()).then_some((first, worst))
        }
        Growth::Linear => {
            let mut steps = steps;
            steps.find(|((before, from), (at, to))| {
                let is_more = to.median() / from.median() > 1.25 * *at as f64 / *before as f64;
                is_more && to.reference.is_none_or(|reference| to.median() > 1.5 * reference)
            })
        }
    };
    let (from, to) = found?;
    let times = number(to.1.median() / from.1.median());
    Some(format!("{times} × as much at {} as at {}", (curve.label)(to.0), (curve.label)(from.0)))
}

pub(super) fn list(curves: &[&Curve]) -> String {
    let rows = curves.iter().map(|curve| {
        let points: Vec<_> = (curve.points)().into_iter().map(curve.label).collect();
        let grows = format!("{}: {}", curve.grows, points.join(", "));
        [curve.key.to_owned(), curve.unit.to_owned(), curve.work.to_owned(), grows]
    });
    text::columns("", &rows.collect::<Vec<_>>())
}

pub(super) fn plain(measured: &[Measured], machine: &Machine, rounds: usize) -> String {
    let mut out = format!("{}\n{}\n", machine.describe(), machine.method(rounds));
    // Writing to a string can't fail.
    for (curve, points) in measured {
        let verdict = match (excess(curve, points), curve.expected) {
            (None, Growth::Flat) => "flat".to_owned(),
            (None, Growth::Linear) if points.iter().any(|(_, figures)| figures.reference.is_some()) => {
                "at most linear, or what copying takes".to_owned()
            }
            (None, Growth::Linear) => "at most linear".to_owned(),
            (Some(excess), Growth::Flat) => format!("NOT FLAT: {excess}"),
            (Some(excess), Growth::Linear) => format!("MORE THAN LINEAR: {excess}"),
        };
        let _ = writeln!(out, "\n{}: {}\n  {}", curve.key, curve.work, verdict);
        let head = [curve.grows, curve.unit, "spread", ""].map(str::to_owned);
        let rows = points.iter().map(|(point, figures)| {
            let spread = format!("{} – {}", number(figures.least()), number(figures.greatest()));
            let remark = figures.remark.clone().unwrap_or_default();
            [(curve.label)(*point), number(figures.median()), spread, remark]
        });
        let rows: Vec<_> = [head].into_iter().chain(rows).collect();
        out.push_str(&text::columns("  ", &rows));
    }
    out
}

/// Names and medians of all points.
pub(super) fn flat(measured: &[Measured]) -> impl Iterator<Item = (String, f64)> {
    measured.iter().flat_map(|(curve, points)| {
        points.iter().map(|(point, figures)| (format!("{}_{point}", curve.key), figures.median()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn points(values: &[(u64, f64)]) -> Vec<(u64, Figures)> {
        values.iter().map(|(point, value)| (*point, Figures::new([*value]).unwrap())).collect()
    }

    #[test]
    fn growth_is_judged() {
        let curve = |growth| CURVES.iter().find(|curve| curve.expected == growth).unwrap();
        let flat = curve(Growth::Flat);
        assert_eq!(excess(flat, &points(&[(1, 10.0), (10, 14.9), (100, 5.0)])), None);
        let found = excess(flat, &points(&[(1, 10.0), (10, 21.0), (100, 20.0)]));
        assert_eq!(found.unwrap(), "2.10 × as much at 10 as at 1");
        let linear = curve(Growth::Linear);
        assert_eq!(excess(linear, &points(&[(8, 1.0), (64, 2.0), (512, 16.0)])), None);
        let found = excess(linear, &points(&[(8, 1.0), (64, 2.0), (512, 21.0)]));
        assert_eq!(found.unwrap(), "10.5 × as much at 512 B as at 64 B");
        let beside = |references: [f64; 3]| {
            let points = points(&[(8, 1.0), (64, 2.0), (512, 42.0)]).into_iter();
            points.zip(references).map(|((at, figures), to)| (at, figures.against(to))).collect::<Vec<_>>()
        };
        assert_eq!(excess(linear, &beside([0.5, 1.0, 30.0])), None);
        assert!(excess(linear, &beside([0.5, 1.0, 20.0])).is_some());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!([8, 4096, 64 * MIB].map(size), ["8 B", "4 KiB", "64 MiB"]);
    }

    #[test]
    fn processors_end_with_all() {
        let points = processors();
        assert!(points.windows(2).all(|pair| matches!(pair, [a, b] if a < b)), "{points:?}");
    }
}
