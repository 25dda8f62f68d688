//! Waits for several objects at once.

use sandpool_abi::Errno;

use super::{Model, NEVER, SHORT, item};
use crate::ipc::arena::Participant;
use crate::ipc::kind;
use crate::ipc::object::Handle;
use crate::ipc::queue::{self, Account};
use crate::ipc::sync::event;
use crate::ipc::tests::common::{of, port};
use crate::sys::futex::Deadline;

models! {
    several_are_waited_for: several(&[]);
    several_with_a_death: several(&[0, 1, 2, 3]);
    one_of_several_is_taken: an_item_of_several(&[]);
    one_of_several_is_taken_with_a_death: an_item_of_several(&[0, 1, 2]);
}

/// Waits for several objects. Returns the first that is ready.
fn wait_for_any(participant: &Participant, handles: &[Handle]) -> usize {
    let targets: Vec<_> =
        handles.iter().map(|handle| kind::waitable(participant, *handle).unwrap()).collect();
    let events = targets.iter().map(|target| target.changed());
    let look = || targets.iter().position(|target| target.is_ready());
    crate::ipc::event::wait_for_any(participant, events, NEVER, look).unwrap()
}

/// Two processes wait for an item, and for an event; two others provide these.
fn several(victims: &[u32]) {
    let mut model = Model::new();
    let queue = model.share(queue::create(&model.maker(), 0, Account::Nothing).unwrap());
    let event = model.share(event::create(&model.maker()).unwrap());
    for _ in 0..2 {
        model.process(move |participant| {
            let mut wanted = vec![queue, event];
            while !wanted.is_empty() {
                let found = wait_for_any(participant, &wanted);
                wanted.remove(found);
            }
        });
    }
    let put = move |participant: &Participant| {
        queue::put(participant, port(participant, queue), &[1], &[], NEVER).unwrap()
    };
    let set = move |participant: &Participant| event::set(participant, of(participant, event)).unwrap();
    model.process(put);
    model.process(set);
    if !victims.is_empty() {
        model.process_after(&[2], put);
        model.process_after(&[3], set);
    }
    model.run(victims);
}

/// Two processes want an item each, and wait for the item and for an event; two others put one each. A process that
/// finds the item gone waits again.
fn an_item_of_several(victims: &[u32]) {
    let mut model = Model::new();
    let queue = model.share(queue::create(&model.maker(), 0, Account::Nothing).unwrap());
    let event = model.share(event::create(&model.maker()).unwrap());
    for _ in 0..2 {
        model.process(move |participant| {
            loop {
                assert_eq!(wait_for_any(participant, &[queue, event]), 0);
                match queue::get(
                    participant,
                    port(participant, queue),
                    || false,
                    &mut [0; SHORT],
                    Deadline::NOW,
                ) {
                    Ok(_) => return,
                    Err(error) => assert_eq!(error, Errno::Again),
                }
            }
        });
    }
    let put = move |participant: &Participant| {
        queue::put(participant, port(participant, queue), &item(0, 0, SHORT), &[], NEVER).unwrap();
    };
    model.process(put);
    model.process(put);
    if victims.contains(&2) {
        // The process that died was to put this.
        model.process_after(&[2], put);
    }
    model.run(victims);
}
