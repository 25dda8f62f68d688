//! Counts the words of a text: `wordcount FILE [PROCESSES]`.
//!
//! The main process forks workers, hands them pieces of the text through a bounded queue, and adds up the counts that
//! come back through a second one. The ten most frequent words go to stdout, progress goes to stderr.
//!
//! A **word** is a longest run of ASCII letters and apostrophes, in lower case and without the apostrophes at its
//! ends, as far as anything is left then: `Abraham's` is one word, `sons'` is `sons`, `--` is none.

mod progress;

use std::collections::HashMap;
use std::time::Duration;

use progress::Progress;
use sandpool_guest::queue::{GetError, PutError};
use sandpool_guest::{Error, Process, Queue, cpu_count};

type Counts = HashMap<String, u64>;

/// The approximate length of a piece: there are many more pieces than workers, so that all are busy to the end.
const PIECE: usize = 64 * 1024;

/// How long the main process waits before it checks whether the workers are still well.
const PATIENCE: Duration = Duration::from_millis(200);

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or_else(|| Error::other("usage: wordcount FILE [PROCESSES]"))?;
    let workers = match arguments.next() {
        Some(number) => number.parse().ok().filter(|number| *number > 0),
        None => Some(cpu_count().max(2)),
    };
    let workers: usize = workers.ok_or_else(|| Error::other("PROCESSES is a number from 1 on"))?;
    let text = std::fs::read(&path).map_err(|error| Error::other(format!("cannot read {path}: {error}")))?;

    let counts = count_with(workers, &text)?;

    let words: u64 = counts.values().sum();
    let mut ranking: Vec<_> = counts.into_iter().collect();
    // By frequency, and then by the alphabet, so that the order is always the same.
    ranking.sort_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
    for (word, count) in ranking.iter().take(10) {
        println!("{count:>8} {word}");
    }
    println!("{words} words, {} different; processes that counted: {workers}", ranking.len());
    Ok(())
}

/// Counts the words of `text` with this number of processes.
fn count_with(workers: usize, text: &[u8]) -> Result<Counts, Error> {
    // Bounded, so that the main process is never far ahead and its progress is that of the workers.
    let pieces = Queue::<Vec<u8>>::bounded(workers * 2)?;
    let results = Queue::new()?;

    let workers = (1..=workers)
        .map(|number| {
            // Daemonic, so that they end with the main process should it fail half-way.
            let worker = Process::builder().name(format!("counter-{number}")).daemon();
            worker.fork(|| -> Result<(), Error> {
                for piece in &pieces {
                    results.put(&count(&piece?))?;
                }
                Ok(())
            })
        })
        .collect::<Result<Vec<_>, _>>()?;

    let mut progress = Progress::new(text.len());
    let mut total = Counts::new();
    let mut outstanding = 0;
    for piece in cut(text) {
        let item = piece.to_vec();
        while let Err(error) = pieces.put_timeout(&item, PATIENCE) {
            match error {
                PutError::Full => check(&workers)?,
                other => return Err(other.into()),
            }
        }
        outstanding += 1;
        loop {
            match results.try_get() {
                Ok(counts) => add(&mut total, counts),
                Err(GetError::Empty) => break,
                Err(other) => return Err(other.into()),
            }
            outstanding -= 1;
        }
        progress.advance(piece.len());
    }
    pieces.close()?;
    while outstanding > 0 {
        match results.get_timeout(PATIENCE) {
            Ok(counts) => {
                add(&mut total, counts);
                outstanding -= 1;
            }
            Err(GetError::Empty) => check(&workers)?,
            Err(other) => return Err(other.into()),
        }
    }
    for worker in &workers {
        worker.join()?;
    }
    check(&workers)?;
    progress.finish();
    Ok(total)
}

/// Fails if a worker has failed, because its piece is lost: better no result than a wrong one.
fn check(workers: &[Process]) -> Result<(), Error> {
    for worker in workers {
        if let Some(status) = worker.exit_status().filter(|status| !status.success()) {
            return Err(Error::other(format!("{} failed: {status}", worker.name())));
        }
    }
    Ok(())
}

/// Cuts a text into pieces, between words.
fn cut(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let tail = text.get(PIECE..).unwrap_or_default();
        let more = tail.iter().position(|byte| !is_of_word(*byte)).unwrap_or(tail.len());
        let (piece, rest) = text.split_at((PIECE + more).min(text.len()));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn count(piece: &[u8]) -> Counts {
    let mut counts = Counts::new();
    for run in piece.split(|byte| !is_of_word(*byte)) {
        let run = String::from_utf8_lossy(run).to_ascii_lowercase();
        let word = run.trim_matches('\'');
        if !word.is_empty() {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
    }
    counts
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'\''
}

fn add(total: &mut Counts, counts: Counts) {
    for (word, count) in counts {
        *total.entry(word).or_default() += count;
    }
}
