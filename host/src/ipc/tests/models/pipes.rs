//! Pipes, and their ends on their way from one process to another.

use sandpool_abi::Errno;
use shuttle::rand::{Rng as _, thread_rng};

use super::{Model, NEVER, SHORT, get, item, log, recv};
use crate::ipc::queue::{self, Account};
use crate::ipc::tests::common::{of, port};
use crate::ipc::{object, pipe};

models! {
    pipe_comes_to_its_end: a_pipe(&[]);
    pipe_with_a_death: a_pipe(&[0, 1, 2]);
    pipe_is_handed_on: a_pipe_on_its_way(Model::new(), &[]);
    pipe_is_handed_on_with_a_death: a_pipe_on_its_way(Model::new(), &[0, 1]);
    pipe_is_handed_on_among_many: a_pipe_on_its_way(Model::wide(), &[]);
    pipe_is_handed_on_among_many_with_a_death: a_pipe_on_its_way(Model::wide(), &[0, 1]);
}

/// Two processes send, and one receives to the end.
fn a_pipe(victims: &[u32]) {
    let mut model = Model::new();
    let maker = model.maker();
    let [reads, writes] = pipe::create(&maker, 30, 0).unwrap();
    object::share(&maker, reads, 2).unwrap();
    object::share(&maker, writes, 1).unwrap();
    let keeps = thread_rng().gen_bool(0.5);
    if keeps {
        // This is as after a fork without a close: nobody else may hold the end.
        object::share(&maker, writes, 2).unwrap();
    }
    object::release(&maker, reads).unwrap();
    let (sent, received) = (log(), log());
    for _ in 0..2 {
        let sent = sent.clone();
        model.process(move |participant| {
            for number in 1..=2 {
                match pipe::send(
                    participant,
                    of(participant, writes),
                    &[&item(participant.index, number, SHORT)],
                    &[],
                    NEVER,
                ) {
                    Ok(()) => sent.lock().unwrap().push((participant.index, number)),
                    Err(error) => return assert_eq!(error, Errno::Pipe),
                }
            }
            object::release(participant, writes).unwrap();
        });
    }
    let log = received.clone();
    model.process(move |participant| {
        loop {
            match recv(participant, reads) {
                Ok(message) => log.lock().unwrap().push(message),
                Err(error) => return assert_eq!(error, Errno::Closed),
            }
        }
    });
    let dead = model.run(victims);
    let (sent, received) = (sent.lock().unwrap(), received.lock().unwrap());
    if dead != Some(2) {
        assert!(sent.iter().all(|message| received.contains(message)), "{sent:?} {received:?}");
        for sender in (0..2).filter(|sender| Some(*sender) != dead) {
            assert!(received.iter().filter(|message| message.0 == sender).map(|message| message.1).eq(1..=2));
        }
    }
}

/// One process hands the sending end on to another, which sends: the receiver isn't told before that nobody will send.
fn a_pipe_on_its_way(mut model: Model, victims: &[u32]) {
    let maker = model.maker();
    let queue = queue::create(&maker, 0, Account::Nothing).unwrap();
    let [reads, writes] = pipe::create(&maker, 30, 0).unwrap();
    model.share_with(queue, 1);
    model.share_with(reads, 2);
    object::release(&maker, reads).unwrap();
    model.process(move |participant| {
        queue::put(participant, port(participant, queue), &item(0, 0, SHORT), &[writes], NEVER).unwrap();
        object::release(participant, writes).unwrap();
        queue::close(participant, port(participant, queue)).unwrap();
    });
    model.process(move |participant| {
        if get(participant, queue).is_ok() {
            pipe::send(participant, of(participant, writes), &[&item(1, 1, SHORT)], &[], NEVER).unwrap();
        }
    });
    let received = log();
    let log = received.clone();
    model.process(move |participant| {
        while let Ok(message) = recv(participant, reads) {
            log.lock().unwrap().push(message);
        }
    });
    if let Some(0) = victims.first() {
        // This is for a process that would wait for an item that was never put.
        model.share_with(queue, 3);
        model.process_after(&[0], move |participant| {
            queue::close(participant, port(participant, queue)).unwrap()
        });
    }
    let dead = model.run(victims);
    assert!(dead.is_some() || received.lock().unwrap().len() == 1, "the message didn't come");
}
