//! Many tasks: imap and streams.

use std::cell::Cell;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sandpool::pool::{Failure, Format};

use crate::procfs;

use super::{bytes, module, open, pool, tasks};

#[test]
fn an_imap_takes_no_more_inputs_than_its_window() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    for window in [1, 2, 10, 1000] {
        for ordered in [true, false] {
            let read = Cell::new(0);
            let inputs = (0..3000).inspect(|_| read.set(read.get() + 1));
            let results: Box<dyn Iterator<Item = _>> = match ordered {
                true => Box::new(pool.imap::<u64, u64>("identity", inputs).window(window)),
                false => Box::new(pool.imap_unordered::<u64, u64>("identity", inputs).window(window)),
            };
            let mut most = 0;
            let mut taken = 0;
            for result in results {
                most = most.max(read.get() - taken);
                taken += 1;
                result.unwrap();
            }
            assert_eq!(taken, 3000);
            assert!(most <= window, "{most} of {window}");
            // It is filled, too.
            assert!(most * 2 > window.min(100), "{most} of {window}");
        }
    }
}

#[test]
fn inputs_are_taken_as_outputs_are() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    let taken = AtomicUsize::new(0);
    let inputs = (0..).inspect(|_| {
        taken.fetch_add(1, Ordering::SeqCst);
    });
    let mut outputs = pool.imap::<u64, u64>("identity", inputs).window(10);
    for n in 0..100 {
        assert_eq!(outputs.next().unwrap().unwrap(), n);
        assert!(taken.load(Ordering::SeqCst) <= n as usize + 11);
    }
    drop(outputs);
    assert!(procfs::eventually(|| pool.stats().pending == 0), "the rest is given up");
}

#[test]
fn a_stream_is_fed_by_one_thread_and_read_by_another() {
    let module = module();
    let pool = pool(&module).build().unwrap();
    for ordered in [true, false] {
        let (mut feed, results) = open("echo", &pool, ordered);
        let feeder = std::thread::spawn(move || (0..10_000_u32).all(|n| feed.put(&n.to_le_bytes())));
        let mut numbers = Vec::new();
        for (number, outcome) in results {
            assert_eq!(outcome.unwrap().value, (number as u32).to_le_bytes());
            numbers.push(number);
        }
        assert!(feeder.join().unwrap());
        assert!(!ordered || numbers.is_sorted());
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..10_000));
    }
}

#[test]
fn a_stream_takes_no_more_than_there_is_room_for_and_ends_when_it_is_stopped() {
    let module = module();
    let pool = pool(&module).build().unwrap();
    for ordered in [true, false] {
        let (mut feed, mut results) = open("echo", &pool, ordered);
        let fed = Arc::new(AtomicUsize::new(0));
        let counter = fed.clone();
        // It ends because nothing is wanted any more, and not for want of inputs.
        let feeder = std::thread::spawn(move || {
            while feed.put(&[0; 1000]) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (number, outcome) = results.next().unwrap();
        assert!(outcome.is_ok() && (!ordered || number == 0));
        results.stopper().stop();
        feeder.join().unwrap();
        let mut done = 1;
        let mut cancelled = 0;
        for (_, outcome) in results {
            match outcome {
                Ok(_) => done += 1,
                Err(error) => {
                    assert_eq!(error.cause, Failure::Cancelled);
                    cancelled += 1;
                }
            }
        }
        assert!(done + cancelled <= fed.load(Ordering::Relaxed) + 1, "{done} done, {cancelled} cancelled");
        assert_eq!(bytes(&pool, "echo", b"x").unwrap(), b"x", "the pool goes on");

        // A program that drops the results wants no more either.
        let (mut feed, results) = open("echo", &pool, ordered);
        drop(results);
        while feed.put(b"") {}
    }
    // Large inputs and outputs fill it as well.
    let (mut feed, results) = pool.stream("echo", Format::Bytes);
    let feeder = std::thread::spawn(move || (0..100).all(|_| feed.put(&vec![1; 200_000])));
    assert_eq!(results.filter(|(_, outcome)| outcome.is_ok()).count(), 100);
    assert!(feeder.join().unwrap());
}
