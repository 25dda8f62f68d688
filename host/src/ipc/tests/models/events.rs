//! Events: those of guests, and that of a process.

use shuttle::rand::{Rng as _, thread_rng};

use super::{Model, NEVER, log};
use crate::ipc::arena::Participant;
use crate::ipc::sync::event;
use crate::ipc::tests::common::of;
use crate::ipc::waiting::Waiting;
use crate::sys::atomic::Ordering;
use crate::sys::model;

models! {
    event_is_seen: an_event(&[]);
    event_with_a_death: an_event(&[0, 1, 2]);
    event_is_set_behind_a_clear: an_event_that_is_set();
    change_of_a_process_is_seen: a_change();
}

/// Two processes wait. One of them surely sleeps when the event is set and cleared at once; then the event is set for
/// the other.
fn an_event(victims: &[u32]) {
    let mut model = Model::new();
    let event = model.share(event::create(&model.maker()).unwrap());
    let woken = log();
    for _ in 0..2 {
        let woken = woken.clone();
        model.process(move |participant| {
            event::wait(participant, of(participant, event), NEVER).unwrap();
            woken.lock().unwrap().push(());
        });
    }
    let pulses = victims.is_empty() && thread_rng().r#gen();
    let set = move |participant: &Participant| {
        let event = of(participant, event);
        while pulses && model::asleep() == 0 {
            model::pause();
        }
        event::set(participant, event).unwrap();
        if pulses {
            event::clear(event);
            while woken.lock().unwrap().is_empty() {
                model::pause();
            }
            event::set(participant, event).unwrap();
        }
    };
    model.process(set);
    if victims.contains(&2) {
        // If the dead process has set the event, that wakes all.
        model.process_after(&[2], move |participant| {
            let event = of::<event::EventState>(participant, event);
            if !event.state.is_set() {
                event::set(participant, event).unwrap();
            }
        });
    }
    model.run(victims);
}

/// Two processes do something and set an event, which may already be set; one clears the event, and waits if not all is
/// done.
fn an_event_that_is_set() {
    let mut model = Model::new();
    let event = model.share(event::create(&model.maker()).unwrap());
    for number in 0..2 {
        model.process(move |participant| {
            participant.arena.process(number).unwrap().started.store(1, Ordering::Relaxed);
            event::set(participant, of(participant, event)).unwrap();
        });
    }
    model.process(move |participant| {
        let is_done =
            |number| participant.arena.process(number).unwrap().started.load(Ordering::Relaxed) == 1;
        loop {
            event::clear(of(participant, event));
            if is_done(0) && is_done(1) {
                break;
            }
            event::wait(participant, of(participant, event), NEVER).unwrap();
        }
    });
    model.run(&[]);
}

/// One process changes a word again and again without a lock, as the supervisor does when a process has ended.
fn a_change() {
    let mut model = Model::new();
    model.process(|participant| {
        let slot = participant.arena.process(1).unwrap();
        for change in 1..=3 {
            slot.started.store(change, Ordering::Release);
            slot.event.notify_all(&participant.arena);
        }
    });
    model.process(|participant| {
        let slot = participant.slot().unwrap();
        for change in 1..=3 {
            let ready = || slot.started.load(Ordering::Acquire) >= change;
            while !ready() {
                slot.event.sleep(participant, Waiting::Children, NEVER, ready).unwrap();
            }
        }
    });
    model.run(&[]);
}
