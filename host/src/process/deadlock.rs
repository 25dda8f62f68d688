//! What a process says when it is part of a deadlock: for what it waits, since when, who has it, and where it is.
//!
//! The supervisor has found that nobody can go on, and has raised an alarm in the slot of each. Each writes its report,
//! answers, and sleeps until the supervisor kills it, or takes the alarm back.

use std::fmt::Write as _;
use std::time::Duration;

use wasmtime::WasmBacktrace;

use super::Guest;
use crate::engine::trap;
use crate::ipc::arena::Member;
use crate::ipc::process_table::{self as table, ProcessSlot};
use crate::ipc::waiting::Waiting;
use crate::ipc::{kind, object};

/// The most processes that are named as those who hold something.
const NAMED: usize = 4;

/// Reports what this process waits for, and waits for what the supervisor makes of it.
pub(crate) fn report(guest: &Guest, backtrace: Option<&WasmBacktrace>) {
    let process = &guest.process;
    let Ok(slot) = process.member.slot() else { return };
    let waits = &slot.waits;
    if let Some(what) = waits.what() {
        let nanos = table::nanos_now().saturating_sub(waits.since());
        let seconds = Duration::from_nanos(nanos).as_secs_f64();
        let mut text = format!(
            "deadlock: process {} has waited {seconds:.1} s for {}",
            named(&process.member, process.member.index),
            describe(&process.member, what),
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

fn named(member: &Member, index: u32) -> String {
    let name = member.arena.process(index).map(ProcessSlot::name).unwrap_or_default();
    let pid = member.arena.process_id(index).map_or(0, |pid| pid.load(std::sync::atomic::Ordering::Relaxed));
    format!("'{}' (pid {pid})", String::from_utf8_lossy(&name).escape_debug())
}

fn describe(member: &Member, what: Waiting) -> String {
    let object = |what: &str, index: u32| format!("{what} {index}{}", holders(member, index));
    match what {
        Waiting::Get(index) => object("an item of queue", index),
        Waiting::Put(index) => object("room in queue", index),
        Waiting::TasksDone(index) => object("all items to be done of queue", index),
        Waiting::Receive(index) => object("a message at pipe end", index),
        Waiting::Send(index) => object("room to send at pipe end", index),
        Waiting::Lock(index) => object("lock", index),
        Waiting::Semaphore(index) => object("a unit of semaphore", index),
        Waiting::Event(index) => object("event", index),
        Waiting::Condition(index) => object("condition", index),
        Waiting::Barrier(index) => object("the others at barrier", index),
        Waiting::Process(index) => format!("the end of process {}", named(member, index)),
        Waiting::Children => "the end of its children".to_owned(),
        Waiting::Any => "one of several things".to_owned(),
    }
}

/// Who has what others wait for; or at least, who could do something about it.
fn holders(member: &Member, index: u32) -> String {
    let (verb, mut all) = match kind::owners(member, index) {
        Some(owners) => (", held by", owners),
        None => (", which is also known to", object::holders(&member.arena, index).collect()),
    };
    if verb != ", held by" {
        all.retain(|process| *process != member.index);
    }
    if all.is_empty() {
        return if verb == ", held by" { String::new() } else { ", which nobody else knows".to_owned() };
    }
    let mut text = verb.to_owned();
    for (at, process) in all.iter().take(NAMED).enumerate() {
        let who = if *process == member.index { "itself".to_owned() } else { named(member, *process) };
        // Writing to a string can't fail.
        let _ = write!(text, "{} {who}", if at == 0 { "" } else { "," });
    }
    if all.len() > NAMED {
        let _ = write!(text, " and {} more", all.len() - NAMED);
    }
    text
}
