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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::ipc::arena::{Arena, Geometry, Patience};
    use crate::ipc::process_table::StateWord;
    use crate::ipc::waiting::Waiting;
    use crate::sys::atomic::AtomicU32;
    use crate::testing::deadline::within_deadline;

    /// A process that starts may do anything once it runs; one that has ended does nothing.
    #[test]
    fn all_wait_if_those_do_that_have_started_and_not_ended() {
        let geometry = Geometry { processes_max: 2, objects_max: 4, heap_pages: 16 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let [first, second, supervisor] =
            [0, 1, 2].map(|index| Participant { arena: arena.clone(), index, patience: Patience::Brief });
        let becomes = |index, state| {
            table::update(&arena, index, |old| Some(StateWord { state, ..old })).unwrap();
        };
        let waiting = || all_wait(&supervisor).map(|waits| waits.len());
        assert_eq!(waiting(), None, "there is nobody");
        let word = AtomicU32::new(0);
        becomes(first.index, ProcessState::Running);
        let _note = first.note(Waiting::Children, &word).unwrap();
        for state in [ProcessState::Reserved, ProcessState::Spawning, ProcessState::Running] {
            becomes(second.index, state);
            assert_eq!(waiting(), None, "{state:?}");
        }
        let _note = second.note(Waiting::Children, &word).unwrap();
        assert_eq!(waiting(), Some(2));
        for state in [ProcessState::Leaving, ProcessState::Exited, ProcessState::Failed, ProcessState::Free] {
            becomes(second.index, state);
            assert_eq!(waiting(), Some(1), "{state:?}");
        }
    }

    /// Each look finds a process asleep that has gone on since the look before.
    #[test]
    fn a_wait_that_is_another_than_before_is_no_deadlock() {
        let geometry = Geometry { processes_max: 1, objects_max: 4, heap_pages: 16 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let [guest, supervisor] =
            [0, 1].map(|index| Participant { arena: arena.clone(), index, patience: Patience::Brief });
        // It waits for its input.
        let mut asleep = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let proc = Proc::open();
        within_deadline(|| {
            while !proc.is_asleep(asleep.id()) {
                std::thread::yield_now();
            }
        });
        arena.process_id(guest.index).unwrap().store(asleep.id(), Ordering::Release);
        let running = |old| Some(StateWord { state: ProcessState::Running, ..old });
        table::update(&arena, guest.index, running).unwrap();
        let mut detector = Detector::new(OnDeadlock::Report);
        let word = AtomicU32::new(0);
        let is_raised = || guest.slot().unwrap().waits.is(Alarm::Raised);
        for _ in 0..3 {
            let _note = guest.note(Waiting::Children, &word).unwrap();
            assert!(!detector.look(&supervisor, &proc) && !is_raised());
        }
        let _note = guest.note(Waiting::Children, &word).unwrap();
        assert!(!detector.look(&supervisor, &proc) && !is_raised());
        assert!(!detector.look(&supervisor, &proc) && is_raised(), "the same wait twice");
        asleep.kill().unwrap();
        asleep.wait().unwrap();
    }
}
