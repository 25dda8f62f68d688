//! The protocols of [`lock`](super::lock) and [`event`](super::event) in many thousands of orders, with a futex that is
//! a model of the kernel's. Processes are threads here; one that dies just stops, and the supervisor sweeps.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use shuttle::rand::{Rng as _, thread_rng};
use shuttle::sync::atomic::{AtomicU32, Ordering};
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;

use super::{event, lock};
use crate::sys::futex::{Deadline, Word};

/// Orders that are tried of each model.
const ORDERS: usize = 20_000;

/// A word, and who sleeps on it, oldest first.
struct ModelWord {
    value: AtomicU32,
    asleep: Mutex<(u32, Vec<u32>)>,
    woken: Condvar,
}

impl ModelWord {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            value: AtomicU32::new(0),
            asleep: Mutex::new((0, Vec::new())),
            woken: Condvar::new(),
        })
    }
}

impl Word for ModelWord {
    fn load(&self) -> u32 {
        self.value.load(Ordering::SeqCst)
    }

    fn swap(&self, value: u32) -> u32 {
        self.value.swap(value, Ordering::SeqCst)
    }

    fn compare_exchange(&self, current: u32, new: u32) -> Result<u32, u32> {
        self.value.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
    }

    fn fetch_add(&self, value: u32) -> u32 {
        self.value.fetch_add(value, Ordering::SeqCst)
    }

    fn fetch_or(&self, value: u32) -> u32 {
        self.value.fetch_or(value, Ordering::SeqCst)
    }

    fn wait(&self, expected: u32, _: Deadline) {
        let mut asleep = self.asleep.lock().unwrap();
        if self.load() != expected {
            return;
        }
        asleep.0 += 1;
        let me = asleep.0;
        asleep.1.push(me);
        while asleep.1.contains(&me) {
            asleep = self.woken.wait(asleep).unwrap();
        }
    }

    fn wake(&self, count: i32) -> u32 {
        let mut asleep = self.asleep.lock().unwrap();
        let woken = asleep.1.len().min(count as usize);
        asleep.1.drain(..woken);
        self.woken.notify_all();
        woken as u32
    }

    fn pause(&self) {
        thread::yield_now();
    }
}

/// Runs the processes of a model to their ends, in many orders. One that never ends is a deadlock, which is reported.
fn check(model: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(model, ORDERS);
}

fn start(processes: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = processes.into_iter().map(thread::spawn).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Takes one of what is there.
fn take(items: &AtomicU32) -> bool {
    items.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |items| items.checked_sub(1)).is_ok()
}

fn consume(word: &ModelWord, items: &AtomicU32) {
    while !take(items) {
        event::sleep(word, Deadline::NEVER, || items.load(Ordering::SeqCst) > 0).unwrap();
    }
}

#[test]
fn each_item_wakes_somebody() {
    check(|| {
        let (word, items) = (ModelWord::new(), Arc::new(AtomicU32::new(0)));
        let consumer = || -> Box<dyn FnOnce() + Send> {
            let (word, items) = (word.clone(), items.clone());
            Box::new(move || consume(&word, &items))
        };
        let producer = || -> Box<dyn FnOnce() + Send> {
            let (word, items) = (word.clone(), items.clone());
            Box::new(move || {
                items.fetch_add(1, Ordering::SeqCst);
                event::notify_one(&*word);
            })
        };
        start(vec![consumer(), consumer(), consumer(), producer(), producer(), producer()]);
    });
}

#[test]
fn a_change_again_and_again_is_always_seen() {
    check(|| {
        let (word, state) = (ModelWord::new(), Arc::new(AtomicU32::new(0)));
        let (their_word, their_state) = (word.clone(), state.clone());
        let notifier = thread::spawn(move || {
            for change in 1..=4 {
                their_state.store(change, Ordering::SeqCst);
                event::notify_all(&*their_word);
            }
        });
        for change in 1..=4 {
            while state.load(Ordering::SeqCst) < change {
                event::sleep(&*word, Deadline::NEVER, || state.load(Ordering::SeqCst) >= change).unwrap();
            }
        }
        notifier.join().unwrap();
    });
}

/// A consumer that is woken and dies, or a producer that dies before it wakes: the sweep wakes the others.
#[test]
fn an_item_is_not_lost_with_a_process() {
    check(|| {
        let (word, items) = (ModelWord::new(), Arc::new(AtomicU32::new(0)));
        let (a, b, c) = (word.clone(), word.clone(), word.clone());
        let (items_a, items_b, items_c) = (items.clone(), items.clone(), items.clone());
        let killed = Arc::new(AtomicU32::new(0));
        let is_killed = killed.clone();
        let survivor = thread::spawn(move || consume(&a, &items_a));
        let victim = thread::spawn(move || {
            // It dies when it wakes, before it looks.
            let ready = || items_b.load(Ordering::SeqCst) + is_killed.load(Ordering::SeqCst) > 0;
            let _ = event::sleep(&*b, Deadline::NEVER, ready);
        });
        let producer = thread::spawn(move || {
            items_c.fetch_add(1, Ordering::SeqCst);
            let dies = thread_rng().gen_bool(0.5);
            if !dies {
                event::notify_one(&*c);
            }
        });
        producer.join().unwrap();
        // The sweep behind the producer if it died. Else the victim may sleep for ever, if the survivor was first: then
        // it is killed in its sleep.
        killed.store(1, Ordering::SeqCst);
        event::wake_all(&*word);
        victim.join().unwrap();
        event::wake_all(&*word);
        survivor.join().unwrap();
    });
}

fn acquire(word: &ModelWord, process: u32) -> super::Result<bool> {
    lock::acquire(word, process, Deadline::NEVER, || false)
}

#[test]
fn a_lock_has_one_owner() {
    check(|| {
        let (word, inside) = (ModelWord::new(), Arc::new(AtomicU32::new(0)));
        let process = |index: u32| -> Box<dyn FnOnce() + Send> {
            let (word, inside) = (word.clone(), inside.clone());
            Box::new(move || {
                for _ in 0..2 {
                    assert_eq!(acquire(&word, index), Ok(false));
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two owners");
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    lock::release(&*word);
                }
            })
        };
        start(vec![process(0), process(1), process(2)]);
        assert_eq!(word.load(), 0);
    });
}

/// One process dies as the owner; the next one is told, once.
#[test]
fn the_next_owner_is_told_of_a_death() {
    check(|| {
        let (word, told) = (ModelWord::new(), Arc::new(AtomicU32::new(0)));
        let survivor = |index: u32| {
            let (word, told) = (word.clone(), told.clone());
            thread::spawn(move || {
                for _ in 0..2 {
                    let died = acquire(&word, index).unwrap();
                    told.fetch_add(u32::from(died), Ordering::SeqCst);
                    lock::release(&*word);
                }
            })
        };
        let theirs = word.clone();
        let victim = thread::spawn(move || acquire(&theirs, 0).unwrap());
        let survivors = [survivor(1), survivor(2)];
        victim.join().unwrap();
        lock::abandon(&*word, 0);
        survivors.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(told.load(Ordering::SeqCst) <= 1);
        // Somebody was, or is still to be.
        let left = acquire(&word, 3).unwrap();
        assert_eq!(told.load(Ordering::SeqCst) + u32::from(left), 1);
    });
}

/// A process dies between its release and its wake.
#[test]
fn a_wake_is_not_lost_with_the_one_who_owed_it() {
    check(|| {
        let word = ModelWord::new();
        let survivor = |index: u32| {
            let word = word.clone();
            thread::spawn(move || {
                acquire(&word, index).unwrap();
                lock::release(&*word);
            })
        };
        let theirs = word.clone();
        let victim = thread::spawn(move || {
            acquire(&theirs, 0).unwrap();
            theirs.swap(0);
        });
        let survivors = [survivor(1), survivor(2)];
        victim.join().unwrap();
        lock::abandon(&*word, 0);
        survivors.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
