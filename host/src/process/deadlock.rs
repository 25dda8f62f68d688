//! The report of a process that is part of a deadlock: for what the process waits, since when, who has it, and where
//! the process is.
//!
//! The supervisor has found that nobody can go on, and has raised an alarm in the slot of each process. Each process
//! writes its report, answers, and sleeps until the supervisor kills it, or takes the alarm back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wasmtime::WasmBacktrace;

use super::Guest;
use crate::GuestText;
use crate::engine::trap;
use crate::ipc::arena::Participant;
use crate::ipc::process_table::{self as table, ProcessSlot};
use crate::ipc::waiting::Waiting;
use crate::ipc::{kind, object};
use crate::sys::futex::nanos_now;

/// The most processes that a report names as holders of something.
const NAMED: usize = 4;

/// Reports what this process waits for, and waits for the supervisor's decision.
pub(crate) fn report(guest: &Guest, backtrace: Option<&WasmBacktrace>) {
    let process = &guest.process;
    let Ok(slot) = process.participant().slot() else { return };
    let waits = &slot.waits;
    if let Some(what) = waits.what() {
        let nanos = nanos_now().saturating_sub(waits.since());
        let seconds = Duration::from_nanos(nanos).as_secs_f64();
        let mut text = format!(
            "deadlock: process {} has waited {seconds:.1} s for {}",
            named(process.participant(), process.participant().index),
            describe(process.participant(), what, &process.waited),
        );
        if let Some(backtrace) = backtrace {
            text.push_str(&trap::frames(backtrace));
        }
        text.push('\n');
        process.stdio.report(&text);
    }
    waits.done();
    waits.answer();
}

fn named(participant: &Participant, index: u32) -> String {
    let name = participant.arena.process(index).map(ProcessSlot::name).unwrap_or_default();
    let pid = participant.arena.process_id(index).map_or(0, |pid| pid.load(Ordering::Relaxed));
    format!("'{}' (pid {pid})", GuestText::from_bytes(&name))
}

/// Describes a wait; `several` are the waits for several things at once.
fn describe(participant: &Participant, what: Waiting, several: &[Waiting]) -> String {
    match what {
        Waiting::Get(index) => format!("an item of queue {index}{}", shared_with(participant, index)),
        Waiting::Put(index) => format!("room in queue {index}{}", shared_with(participant, index)),
        Waiting::TasksDone(index) => {
            format!("all items of queue {index} to be done{}", holders(participant, index))
        }
        Waiting::Receive(index) => format!("a message at pipe end {index}{}", other_end(participant, index)),
        Waiting::Send(index) => format!("room to send at pipe end {index}{}", other_end(participant, index)),
        Waiting::Read(index) => format!("bytes at pipe end {index}{}", other_end(participant, index)),
        Waiting::Write(index) => {
            format!("room to write at pipe end {index}{}", other_end(participant, index))
        }
        Waiting::Lock(index) => format!("lock {index}{}", holders(participant, index)),
        Waiting::Semaphore(index) => format!("a unit of semaphore {index}{}", holders(participant, index)),
        Waiting::Event(index) => format!("event {index} to be set{}", shared_with(participant, index)),
        Waiting::Condition(index) => {
            format!("a notification of condition {index}{}", shared_with(participant, index))
        }
        Waiting::Barrier(index) => {
            let there = match kind::at_barrier(participant, index) {
                Some((waiting, parties)) => format!(" ({waiting} of {parties} there)"),
                None => String::new(),
            };
            format!("the others at barrier {index}{there}{}", shared_with(participant, index))
        }
        Waiting::Process(index) => format!("the end of process {}", named(participant, index)),
        Waiting::Children => {
            let alive =
                table::children(&participant.arena, participant.index).filter(|(_, state)| state.is_alive());
            let children: Vec<_> = alive.map(|(index, _)| named(participant, index)).collect();
            match &*children {
                [child] => format!("the end of its child {child}"),
                _ => format!("the end of its children {}", list(children)),
            }
        }
        Waiting::Any(count) => {
            let named: Vec<_> =
                several.iter().take(NAMED).map(|what| describe(participant, *what, &[])).collect();
            let more = if several.len() > NAMED { ", or another" } else { "" };
            match (count, &*named) {
                (1, [one]) => one.clone(),
                _ => format!("one of {count} things: {}{more}", named.join(", or ")),
            }
        }
    }
}

/// The processes that hold a lock or units of a semaphore, or have unfinished items of a queue.
fn holders(participant: &Participant, index: u32) -> String {
    let Some(shares) = kind::shares(participant, index).filter(|shares| !shares.is_empty()) else {
        return shared_with(participant, index);
    };
    let is_counted = shares.iter().any(|(_, count)| count.is_some());
    let shares = shares.into_iter().map(|(process, count)| {
        let who =
            if process == participant.index { "itself".to_owned() } else { named(participant, process) };
        match count {
            Some(count) => format!("{who} holds {count}"),
            None => who,
        }
    });
    format!(", {} {}", if is_counted { "of which" } else { "held by" }, list(shares.collect()))
}

/// The other processes that could do something about an object.
fn shared_with(participant: &Participant, index: u32) -> String {
    let others = object::holders(&participant.arena, index).filter(|process| *process != participant.index);
    let others: Vec<_> = others.map(|process| named(participant, process)).collect();
    if others.is_empty() {
        return ", which no other process has".to_owned();
    }
    format!(", shared with {}", list(others))
}

/// The processes that have the other end of a pipe.
fn other_end(participant: &Participant, index: u32) -> String {
    let Some(peer) = kind::other_end(participant, index) else { return String::new() };
    let others = object::holders(&participant.arena, peer).filter(|process| *process != participant.index);
    let others: Vec<_> = others.map(|process| named(participant, process)).collect();
    match others.len() {
        0 => ", whose other end no other process has".to_owned(),
        _ => format!(", whose other end is with {}", list(others)),
    }
}

/// The first few of these, and the number of the others.
fn list(mut all: Vec<String>) -> String {
    let more = all.len().saturating_sub(NAMED);
    if more > 1 {
        all.truncate(NAMED);
        all.push(format!("{more} more"));
    }
    match all.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}
