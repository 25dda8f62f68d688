//! Work that goes on for long: memory and descriptors of the supervisor stay as they are. `make soak` does a million of each,
//! and prints the tables.

use std::io::Write as _;

use sandpool::Pool;
use sandpool::pool::Isolation;

use crate::procfs::{self, Pid};
use crate::support::{Run, load_text, run_with};

/// The number of stages that each goes through; after each, somebody looks. The first fills what is filled once.
const STAGES: u64 = 10;

/// How many, from this variable of the environment, or else few.
fn count(variable: &str, few: u64) -> u64 {
    std::env::var(variable).map_or(few, |count| count.parse().unwrap())
}

/// The possessions of a process: descriptors, and KiB of memory of its own.
fn size(of: Pid) -> (usize, u64) {
    (procfs::descriptors(of).len(), procfs::status(of, "RssAnon"))
}

/// Does `stage` until `count` of `what` are done, and sees that these processes don't grow.
fn stays_flat(what: &str, count: u64, watched: &[(&str, Pid)], mut stage: impl FnMut(u64)) {
    let each = count / STAGES;
    let mut sizes = Vec::new();
    for _ in 0..STAGES {
        stage(each);
        sizes.push(watched.iter().map(|(_, pid)| size(*pid)).collect::<Vec<_>>());
    }
    let mut table = format!("{:>12}", what);
    for (name, _) in watched {
        table += &format!(" | {name:>10}: files, KiB");
    }
    for (number, sizes) in (1..).zip(&sizes) {
        table += &format!("\n{:>12}", number * each);
        for (descriptors, memory) in sizes {
            table += &format!(" | {descriptors:>17} {memory:>6}");
        }
    }
    eprintln!("{table}");
    for (at, (name, _)) in watched.iter().enumerate() {
        let ((first_files, first), (files, last)) = (sizes[0][at], sizes[sizes.len() - 1][at]);
        assert_eq!(files, first_files, "descriptors of the {name}\n{table}");
        // An allocator keeps something once; all else is less than a byte for each.
        let slack = 512 + (STAGES - 1) * each / 1024;
        assert!(last <= first + slack, "memory of the {name}\n{table}");
    }
}

const TASKS: &str = r#"(module
    (import "sandpool_task" "input" (func $input (param i32 i32) (result i64)))
    (import "sandpool_task" "output" (func $output (param i32 i32) (result i32)))
    (memory (export "memory") 1)
    ;; Gives what it gets, but traps at an empty list: that is its length only.
    (func (export "sandpool_task_echo") (param i32 i32) (result i32)
        (if (i32.eq (local.get 1) (i32.const 8)) (then unreachable))
        (drop (call $input (i32.const 1024) (i32.const 60000)))
        (drop (call $output (i32.const 1024) (local.get 1)))
        (i32.const 0)))"#;

fn tasks(what: &str, count: u64, isolation: Isolation) {
    let module = load_text("tasks", TASKS);
    let pool = Pool::builder(&module).processes(2).isolation(isolation).build().unwrap();
    let watched = [("supervisor", pool.supervisor_pid())];
    let mut number = 0_u64;
    stays_flat(what, count, &watched, |each| {
        let first = number;
        number += each;
        let inputs = (first..number).map(|number| match number % 1000 {
            // A worker is replaced now and then.
            999 => Vec::new(),
            500 => vec![1; 30_000],
            _ => number.to_le_bytes().to_vec(),
        });
        let mut at = first;
        for output in pool.imap::<_, Vec<u8>>("echo", inputs) {
            match (at % 1000, output) {
                (999, Err(_)) => {}
                (500, Ok(output)) => assert_eq!(output.len(), 30_000),
                (_, Ok(output)) => assert_eq!(output, at.to_le_bytes()),
                (_, Err(error)) => panic!("task {at}: {error}"),
            }
            at += 1;
        }
        assert_eq!(at, number, "each task once");
    });
    pool.close();
    pool.join().unwrap();
}

#[test]
fn tasks_leave_nothing_behind() {
    tasks("tasks", count("SANDPOOL_SOAK_TASKS", 40_000), Isolation::Worker);
}

#[test]
fn tasks_in_processes_of_their_own_leave_nothing_behind() {
    tasks("fresh tasks", count("SANDPOOL_SOAK_TASKS", 40_000) / 20, Isolation::Task);
}

fn processes(how: &str) {
    // The first of ten stages is to be more than the processes and reports that are kept.
    let count = count("SANDPOOL_SOAK_PROCESSES", 12_000);
    let (run, mut stdin) = Run::start_with_stdin(&mut run_with("process_many", &["1", how]));
    run.wait_for_line("1 processes");
    let watched = [("supervisor", run.supervisor()), ("main guest", run.guests()[0])];
    let mut stage = 0;
    stays_flat(how, count, &watched, |each| {
        // The lines are all alike, so each stage is a little larger than the one before.
        stage += 1;
        writeln!(stdin, "{}", each + stage).unwrap();
        run.wait_for_line(&format!("{} processes", each + stage));
    });
    drop(stdin);
    run.finish().expect_code(0);
}

#[test]
fn forked_processes_leave_nothing_behind() {
    processes("fork");
}

#[test]
fn spawned_processes_leave_nothing_behind() {
    processes("spawn");
}
