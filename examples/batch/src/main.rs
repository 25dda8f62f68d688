//! Judges how hard the verses of a text are to read: `batch MODULE TEXT`.
//!
//! The module's task `readability` gets one verse at a time, in whichever worker is free. The results come in the order
//! of the verses.

use std::fs;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sandpool::pool::{Event, Failure};
use sandpool::{Limits, Module, Pool, Sandbox};
use serde::Deserialize;

/// The value that the task returns: the same fields in the same order.
#[derive(Deserialize)]
struct Reading {
    grade: f64,
    words: u32,
}

struct Verse<'a> {
    chapter: &'a str,
    number: &'a str,
    text: String,
}

fn main() -> anyhow::Result<()> {
    sandpool::init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [module, text] = arguments.as_slice() else { bail!("usage: batch MODULE TEXT") };
    let module = Module::from_file(module)?;
    let text = fs::read_to_string(text).with_context(|| format!("cannot read {text}"))?;
    let verses = verses(&text);

    let pool = Pool::builder(&module)
        .sandbox(Sandbox::new().limits(Limits::default().memory_max(64 << 20)))
        .task_timeout(Duration::from_secs(10))
        // A task whose worker was lost is tried once more.
        .retries(1)
        .build()?;
    let (events, total) = (pool.events(), verses.len());
    let progress = thread::spawn(move || show_progress(&events, total));

    let mut readings = Vec::new();
    let mut failures = Vec::new();
    let results = pool.imap("readability", verses.iter().map(|verse| &verse.text));
    for (verse, result) in verses.iter().zip(results) {
        let result: Result<Reading, _> = result;
        match result {
            Ok(reading) => readings.push((reading, verse)),
            // Then the other verses have no result either.
            Err(error) if matches!(error.cause, Failure::NoTask(_) | Failure::PoolEnded(_)) => {
                return Err(error.into());
            }
            Err(error) => failures.push((error, verse)),
        }
    }
    pool.close();
    pool.join()?;
    if progress.join().is_err() {
        bail!("the progress cannot be shown");
    }

    readings.sort_by(|(a, _), (b, _)| b.grade.total_cmp(&a.grade));
    for (Reading { grade, words }, Verse { chapter, number, .. }) in readings.iter().take(5) {
        println!("grade {grade:5.1}, {words:2} words: {chapter}:{number}");
    }
    for (error, Verse { chapter, number, text }) in &failures {
        println!("{}: {chapter}:{number} {text}", error.cause);
    }
    println!("{} verses judged, {} not", readings.len(), failures.len());
    Ok(())
}

/// Says on stderr how far the pool is, and which workers it has lost, until it ends.
fn show_progress(events: &Receiver<Event>, total: usize) {
    let (mut done, mut shown) = (0, 0);
    for event in events {
        match event {
            Event::Finished { .. } | Event::Failed { .. } => done += 1,
            Event::WorkerEnded { name, status, is_lost: true, .. } => eprintln!("{name} was lost: {status}"),
            _ => {}
        }
        let quarters = done * 4 / total;
        if quarters > shown {
            shown = quarters;
            eprintln!("{done} of {total} verses");
        }
    }
}

/// Returns the verses of a text. In the text, a chapter's name is on a line of its own after an empty line; a verse begins
/// with two spaces and its number, and continues on the lines after it.
fn verses(text: &str) -> Vec<Verse<'_>> {
    let mut verses: Vec<Verse<'_>> = Vec::new();
    let mut chapter = "";
    let mut is_behind_empty = true;
    for line in text.lines() {
        let start = line.strip_prefix("  ").and_then(|line| line.split_once(' '));
        if let Some((number, text)) = start {
            verses.push(Verse { chapter, number, text: text.to_owned() });
        } else if is_behind_empty {
            chapter = line;
        } else if let Some(verse) = verses.last_mut() {
            verse.text.push(' ');
            verse.text.push_str(line);
        }
        is_behind_empty = line.is_empty();
    }
    verses
}
