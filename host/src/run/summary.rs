//! The report of how a run and its processes ended.

use std::time::Duration;

use sandpool_abi::process::Limit;

use crate::control;
use crate::{ExitStatus, GuestText};

/// Report of one process that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessReport {
    /// its name
    pub name: GuestText,
    /// its process id in the run's PID namespace, as guests know it; without such a namespace, its id in that of this process
    pub pid: u32,
    /// how it ended
    pub status: ExitStatus,
    /// from start to end
    pub wall: Duration,
    /// time on a processor
    pub cpu: Duration,
    /// the most memory that the process had at once, in bytes, including the memory that it shared with others
    pub peak_memory: u64,
    /// limits that refused the process a request, one entry each; the process may not have reported them
    pub refused: Vec<LimitRefusal>,
}

/// A limit that refused a process something: another process, a queue, memory, a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitRefusal {
    /// the limit, with its value
    pub limit: Limit,
    /// how often the limit refused something
    pub times: u32,
}

/// Summary of a run that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// how the main guest ended
    pub status: ExitStatus,
    /// how many processes there were, the main one included
    pub processes: u64,
    /// from start to end
    pub wall: Duration,
    /// time on a processor, of all processes together
    pub cpu: Duration,
    /// reports of the first processes to end and of the main one, at most [`Summary::REPORTS_MAX`]
    pub reports: Vec<ProcessReport>,
    /// the most memory that one process had, in bytes
    pub peak_memory: u64,
}

impl Summary {
    /// The most reports that a summary carries.
    pub const REPORTS_MAX: usize = control::REPORTS_MAX;

    /// `None` if the report makes no sense.
    pub(super) fn from_report(ended: control::Ended) -> Option<Self> {
        let refusal = |(code, figure, times)| LimitRefusal { limit: Limit::from_parts(code, figure), times };
        let report = |report: control::Report| {
            Some(ProcessReport {
                name: report.name.into(),
                pid: report.pid,
                status: report.outcome.status()?,
                wall: report.wall,
                cpu: report.cpu,
                peak_memory: report.peak_memory,
                refused: report.refused.into_iter().map(refusal).collect(),
            })
        };
        Some(Self {
            status: ended.main.status()?,
            processes: ended.processes,
            wall: ended.wall,
            cpu: ended.cpu,
            peak_memory: ended.peak_memory,
            reports: ended.reports.into_iter().filter_map(report).collect(),
        })
    }
}
