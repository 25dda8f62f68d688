//! Finds out that no process of a run can go on.
//!
//! A process that waits without a timeout notes in its slot what it waits for, and the number of this wait among all of its waits.
//! It can only be woken by another process of the run, or by the supervisor with news of a death. So if
//!
//! 1. all processes say that they wait,
//! 2. then the kernel says of each that it sleeps,
//! 3. then all say the same as before, in the same waits,
//!
//! there was a moment at which all slept, and no process was left to wake any. A process that has been woken and didn't run yet is
//! no longer asleep for the kernel; one that sleeps for another reason, or computes, doesn't say that it waits; one that waits with
//! a timeout doesn't either. Deaths are handled before anything here is looked at.
//!
//! Then each process is told to report: see [`process::deadlock`](crate::process::deadlock). When all have reported, or after a
//! while, the run is ended or the alarm taken back, as its owner has chosen.

use std::time::{Duration, Instant};

use super::proc::Proc;
use crate::config::OnDeadlock;
use crate::ipc::arena::Participant;
use crate::ipc::process_table::{self as table, ProcessState};
use crate::ipc::waiting::Alarm;

/// How often the supervisor looks.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);

/// Processes that the kernel is asked about in one look: some milliseconds.
const ASKED_AT_ONCE: usize = 1024;

/// How long a process may take to report: it may be stopped, or its stderr be full.
const PATIENCE: Duration = Duration::from_secs(2);

/// The supervisor's knowledge of the waiting processes.
pub(crate) struct Detector {
    on_deadlock: OnDeadlock,
    state: Watching,
}

enum Watching {
    /// The waits at the last look, and how many of these processes the kernel has said to be asleep since.
    Looking(Option<Vec<Wait>>, usize),
    /// All processes must report, since this instant.
    Alarmed(Vec<Wait>, Instant),
    /// All have reported, and wait again; these are their new waits. Nothing is looked at until one of them ends.
    Reported(Option<Vec<Wait>>),
}

/// A process, and which of its waits it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    process: u32,
    pid: u32,
    count: u64,
}

impl Detector {
    pub(crate) fn new(on_deadlock: OnDeadlock) -> Self {
        Self { on_deadlock, state: Watching::Looking(None, 0) }
    }

    /// Looks at the waiting processes. Returns whether the run is to be ended: no process can go on, and all have reported.
    pub(crate) fn look(&mut self, participant: &Participant, proc: &Proc) -> bool {
        match &mut self.state {
            Watching::Alarmed(waits, since) => {
                if since.elapsed() < PATIENCE && !waits.iter().all(|wait| has_answered(participant, wait)) {
                    waits.iter().for_each(|wait| wake(participant, wait));
                    return false;
                }
                if self.on_deadlock == OnDeadlock::Kill {
                    return true;
                }
                waits.iter().for_each(|wait| set_alarm(participant, wait, Alarm::None));
                self.state = Watching::Reported(None);
            }
            Watching::Looking(before, asleep) => {
                let rest = before.as_ref().and_then(|before| before.get(*asleep..)).unwrap_or_default();
                let (some, rest) = rest.split_at(rest.len().min(ASKED_AT_ONCE));
                let all_sleep = before.is_some() && some.iter().all(|wait| proc.is_asleep(wait.pid));
                if all_sleep && !rest.is_empty() {
                    *asleep += some.len();
                    return false;
                }
                let now = all_wait(participant);
                self.state = match now {
                    Some(waits) if all_sleep && before.as_ref() == Some(&waits) => {
                        waits.iter().for_each(|wait| set_alarm(participant, wait, Alarm::Raised));
                        waits.iter().for_each(|wait| wake(participant, wait));
                        Watching::Alarmed(waits, Instant::now())
                    }
                    now => Watching::Looking(now, 0),
                };
            }
            Watching::Reported(before) => {
                let now = all_wait(participant);
                let is_same = before.is_none() || *before == now;
                self.state = if is_same { Watching::Reported(now) } else { Watching::Looking(now, 0) };
            }
        }
        false
    }
}

/// The waits of all processes; `None` if one doesn't wait, or there are none.
fn all_wait(participant: &Participant) -> Option<Vec<Wait>> {
    let mut waits = Vec::new();
    for process in 0..participant.arena.geometry.processes_max {
        match table::state(&participant.arena, process).ok()?.state {
            ProcessState::Free | ProcessState::Leaving | ProcessState::Exited | ProcessState::Failed => {}
            ProcessState::Reserved | ProcessState::Spawning => return None,
            ProcessState::Running => {
                let slot = participant.arena.process(process).ok()?;
                slot.waits.what()?;
                let pid =
                    participant.arena.process_id(process).ok()?.load(std::sync::atomic::Ordering::Acquire);
                waits.push(Wait { process, pid, count: slot.waits.count() });
            }
        }
    }
    (!waits.is_empty()).then_some(waits)
}

fn set_alarm(participant: &Participant, wait: &Wait, alarm: Alarm) {
    if let Ok(slot) = participant.arena.process(wait.process) {
        slot.waits.set_alarm(alarm);
    }
}

/// Wakes a process again: it may have been about to sleep when it was woken before.
fn wake(participant: &Participant, wait: &Wait) {
    if let Ok(slot) = participant.arena.process(wait.process)
        && slot.waits.is(Alarm::Raised)
    {
        slot.waits.wake(participant);
    }
}

fn has_answered(participant: &Participant, wait: &Wait) -> bool {
    participant.arena.process(wait.process).map_or(true, |slot| !slot.waits.is(Alarm::Raised))
}
