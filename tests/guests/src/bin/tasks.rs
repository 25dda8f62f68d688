//! Tasks for the host to call: good ones, and one for each way to fail.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use sandpool_guest::pool::Scoped;
use sandpool_guest::{Bytes, Exchange, Pool, Process, Queue};
use sandpool_test_guests::{Outcome, ended_well};
use serde::{Deserialize, Serialize};

/// The input, unchanged.
#[sandpool_guest::task]
fn identity(number: u64) -> u64 {
    number
}

#[derive(Debug, Serialize, Deserialize)]
struct Review {
    text: String,
    stars: u8,
}

#[derive(Debug, Serialize, Deserialize)]
struct Score {
    mood: i32,
    words: BTreeMap<String, u32>,
}

#[derive(Debug)]
struct TooManyStars(u8);

impl std::fmt::Display for TooManyStars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} stars of 5", self.0)
    }
}

/// How well somebody likes it.
///
/// An exclamation mark counts as much as a star.
#[sandpool_guest::task]
pub(crate) fn score(Review { text, stars }: Review) -> Result<Score, TooManyStars> {
    if stars > 5 {
        return Err(TooManyStars(stars));
    }
    let mut words = BTreeMap::new();
    for word in text.split_whitespace() {
        *words.entry(word.to_owned()).or_default() += 1;
    }
    let marks = text.bytes().filter(|byte| *byte == b'!').count();
    Ok(Score { mood: i32::from(stars) + marks as i32, words })
}

#[sandpool_guest::task]
fn upper(text: String) -> String {
    text.to_uppercase()
}

#[sandpool_guest::task(name = "bytes.reverse")]
fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}

/// The same for bytes that are encoded at once.
#[sandpool_guest::task]
fn reverse_bytes(bytes: Bytes) -> Bytes {
    let mut bytes = bytes.into_vec();
    bytes.reverse();
    bytes.into()
}

/// Several arguments are a tuple.
#[sandpool_guest::task]
fn repeat(text: String, times: usize, _between: Option<(char, u8)>) -> String {
    text.repeat(times)
}

#[sandpool_guest::task]
fn nothing() {}

/// A number, or an error if it is odd.
#[sandpool_guest::task]
fn even(number: i64) -> Result<i64, String> {
    if number % 2 == 0 { Ok(number) } else { Err(format!("{number} is odd")) }
}

#[sandpool_guest::task]
fn fail(message: String) -> Result<(), String> {
    Err(message)
}

#[sandpool_guest::task]
fn panic(message: String) -> u64 {
    panic!("{message}")
}

#[sandpool_guest::task]
fn exit(code: i32) -> u64 {
    std::process::exit(code)
}

/// Traps on an odd number.
#[sandpool_guest::task]
fn trap(number: u64) -> u64 {
    if number % 2 == 1 {
        trap_now();
    }
    number
}

#[cfg(target_arch = "wasm32")]
fn trap_now() {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap_now() {
    std::process::abort()
}

/// Traps, panics, exits, loops, or does as it should: by the name.
#[sandpool_guest::task]
fn behave(how: String) -> Result<String, String> {
    match how.as_str() {
        "trap" => trap_now(),
        "panic" => panic!("as it was told"),
        "exit" => std::process::exit(3),
        "loop" => spin(0),
        "fail" => return Err("as it was told".to_owned()),
        "exhaust" => exhaust(),
        _ => {}
    }
    Ok(how)
}

/// Computes for ever.
#[sandpool_guest::task]
fn spin(start: u64) {
    let mut number = start;
    loop {
        number = std::hint::black_box(number.wrapping_mul(3));
    }
}

/// Takes memory for as long as there is some.
#[sandpool_guest::task]
fn exhaust() {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

/// Writes a line to stdout and one to stderr, neither with its end.
#[sandpool_guest::task]
fn print(text: String) -> String {
    print!("out: {text}");
    eprint!("err: {text}");
    text
}

/// Writes to stderr, then panics.
#[sandpool_guest::task]
fn complain(lines: u32) -> u32 {
    for line in 0..lines {
        eprintln!("line {line}");
    }
    panic!("after {lines} lines")
}

#[sandpool_guest::task]
fn sleep(milliseconds: u64) -> u64 {
    thread::sleep(Duration::from_millis(milliseconds));
    milliseconds
}

#[sandpool_guest::task]
fn sort(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers
}

fn sum_in_a_scope(numbers: Vec<u64>) -> Result<u64, String> {
    let parts = numbers.chunks(numbers.len().div_ceil(2).max(1));
    let sums = Scoped::new().processes(2).map(parts, |part| part.iter().sum::<u64>());
    Ok(sums.map_err(|error| error.to_string())?.into_iter().sum())
}

/// Sums that a pool, a scoped map and an exchange compute, whose workers have workers.
#[sandpool_guest::task]
fn nested_sums(numbers: Vec<u64>) -> Result<[u64; 3], Box<dyn std::error::Error>> {
    let (left, right) = numbers.split_at(numbers.len() / 2);
    let halves = [left, right].map(<[u64]>::to_vec);
    let by_pool = Pool::builder().processes(2).build()?.map(sum_in_a_scope, halves.clone())?;
    let by_scope = Scoped::new().processes(2).map(&halves, |half| sum_in_a_scope(half.clone()))?;
    let mut exchange = Exchange::new(2)?;
    for half in halves {
        exchange.start(|| sum_in_a_scope(half))?;
    }
    let by_exchange = exchange.collect::<Result<Vec<_>, _>>()?;
    let mut sums = [0; 3];
    for (sum, parts) in sums.iter_mut().zip([by_pool, by_scope, by_exchange]) {
        *sum = parts.into_iter().sum::<Result<u64, String>>()?;
    }
    Ok(sums)
}

/// A sum that forked processes compute.
#[sandpool_guest::task]
fn forked_sum(numbers: Vec<u64>) -> Result<u64, Box<dyn std::error::Error>> {
    let sums = Queue::<u64>::new()?;
    let add = |part: &[u64]| -> Outcome { Ok(sums.put(&part.iter().sum())?) };
    let (left, right) = numbers.split_at(numbers.len() / 2);
    for child in [Process::fork(|| add(left))?, Process::fork(|| add(right))?] {
        ended_well(&child)?;
    }
    Ok(sums.get()? + sums.get()?)
}

/// How a child ends that its parent terminates.
#[sandpool_guest::task]
fn terminated() -> Result<String, sandpool_guest::Error> {
    let child = Process::fork(|| -> Outcome {
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    })?;
    child.terminate()?;
    child.join()?;
    Ok(format!("{:?}", child.exitcode()))
}

static SET: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Sets what `read_set` returns. An error for 13.
#[sandpool_guest::task]
fn set(number: u64) -> Result<(), String> {
    if number == 13 {
        return Err("not that number".to_owned());
    }
    SET.store(number, Ordering::Relaxed);
    Ok(())
}

/// The value that `set` has set, and how often this was called in this process.
#[sandpool_guest::task]
fn read_set() -> (u64, u64) {
    CALLS.set(CALLS.get() + 1);
    (SET.load(Ordering::Relaxed), CALLS.get())
}

/// An output of this number of bytes.
#[sandpool_guest::task]
fn produce(len: usize) -> Vec<u8> {
    (0..=255).cycle().take(len).collect()
}

#[sandpool_guest::task]
fn length(bytes: Vec<u8>) -> usize {
    bytes.len()
}

/// The content of a file.
#[sandpool_guest::task]
fn read_file(path: String) -> io::Result<String> {
    fs::read_to_string(path)
}

/// Waits for somebody who opens `/gate/begun`, then for one who opens `/gate/go`; both are pipes. Only for `gate`.
#[sandpool_guest::task]
fn gate(which: String) -> io::Result<String> {
    if which == "gate" {
        for pipe in ["/gate/begun", "/gate/go"] {
            fs::File::open(pipe)?;
        }
    }
    Ok(which)
}

/// Fails if it is told to, and else waits at the gate as `gate` does.
#[sandpool_guest::task]
fn fail_or_gate(which: String) -> io::Result<String> {
    if which == "fail" { Err(io::Error::other("as it was told")) } else { gate(which) }
}

/// The string that is in a JSON text.
#[sandpool_guest::task]
fn json_text(text: String) -> Result<String, serde_json::Error> {
    serde_json::from_str(&text)
}

#[sandpool_guest::task]
fn variable(name: String) -> Option<String> {
    std::env::var(name).ok()
}

/// A queue can be no output.
#[sandpool_guest::task]
fn queue() -> Result<Queue<u64>, sandpool_guest::Error> {
    Queue::new()
}

/// How much of a text there is.
type Lines = Result<usize, std::fmt::Error>;

/// The result's type has another name.
#[sandpool_guest::task]
fn lines(text: String) -> Lines {
    let _ = io::stdout().flush();
    Ok(text.lines().count())
}

fn main() {}
