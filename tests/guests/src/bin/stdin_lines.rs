//! Processes that are started while their parent reads stdin: they find nothing there, whatever it has read ahead.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, Read};

use sandpool_guest::{Pool, Process};
use sandpool_test_guests::{Outcome, ended_well, same};

fn read_all(_: u64) -> String {
    let mut all = String::new();
    io::stdin().read_to_string(&mut all).map_or_else(|error| error.to_string(), |_| all)
}

fn is_empty() -> Outcome {
    match read_all(0) {
        all if all.is_empty() => Ok(()),
        all => Err(format!("failed: a child reads {all:?}").into()),
    }
}

#[sandpool_guest::main]
fn main() -> Outcome {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    same("the main process reads a line", line.as_str(), "first\n")?;
    ended_well(&Process::fork(is_empty)?)?;
    ended_well(&Process::spawn(|()| is_empty(), ())?)?;
    let pool = Pool::builder().processes(2).maxtasksperchild(1).build()?;
    same("workers read nothing", pool.map(read_all, 0..4)?, vec![String::new(); 4])?;
    // It is locked when a child is forked, which has its parent's lines.
    let mut lines = io::stdin().lock().lines();
    same("the next", lines.next().transpose()?.as_deref(), Some("second"))?;
    let child = Process::fork(|| match lines.next() {
        None => Ok(()),
        Some(line) => Err(format!("failed: a child reads {line:?}")),
    })?;
    ended_well(&child)?;
    same("the one behind it", lines.next().transpose()?.as_deref(), Some(""))?;
    drop(lines);
    let mut rest = Vec::new();
    io::stdin().read_to_end(&mut rest)?;
    let expected = [b"x".repeat(100_000), b"\nthe end, without one".to_vec()].concat();
    same("and all the rest, long lines too", rest == expected, true)?;
    ended_well(&Process::fork(is_empty)?)?;
    same("and the end of it", io::stdin().read_to_end(&mut rest)?, 0)
}
