//! The memory of a map, however large its input is.

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};

use crate::process::module;
use crate::procfs;

use super::{Bench, map_of};

/// A task that gives back what it gets, as fast as can be.
const ECHO: &str = r#"(module
    (import "sandpool_task" "input" (func $input (param i32 i32) (result i64)))
    (import "sandpool_task" "output" (func $output (param i32 i32) (result i32)))
    (memory (export "memory") 48)
    (func (export "sandpool_task_echo") (param i32 i32) (result i32)
        (drop (call $input (i32.const 1024) (local.get 1)))
        (drop (call $output (i32.const 1024) (local.get 1)))
        (i32.const 0)))"#;

/// Nor do large ones: what waits is bounded in bytes, whoever is slow.
#[test]
fn five_hundred_large_records_take_no_more_memory_than_a_few() {
    const RECORDS: u64 = 500;
    const LEN: u64 = 2 << 20;
    const MOST_KIB: u64 = 300 << 10;

    let bench = Bench::new("");
    let module = module(ECHO);
    let input = File::create(bench.path("in")).unwrap();
    // All zeros, which take no disk.
    input.set_len(RECORDS * (4 + LEN)).unwrap();
    for record in 0..RECORDS {
        input.write_all_at(&(LEN as u32).to_le_bytes(), record * (4 + LEN)).unwrap();
    }
    let mut command = map_of(module.path(), "echo");
    command.args(["--format", "raw", "--workers", "2", "--input", "in"]).current_dir(&bench.folder);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut stdout, pid) = (child.stdout.take().unwrap(), child.id());
    let anonymous = move || {
        // A process that has ended has no memory.
        let line = procfs::status_line(pid, "RssAnon");
        line.map_or(0, |line| line.trim_end_matches(" kB").parse().unwrap())
    };
    let (mut bytes, mut chunk, mut peak) = (0, vec![0; 1 << 20], 0_u64);
    loop {
        let len = stdout.read(&mut chunk).unwrap();
        if len == 0 {
            break;
        }
        bytes += len as u64;
        peak = peak.max(anonymous());
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(bytes, RECORDS * (4 + LEN));
    assert!((1..MOST_KIB).contains(&peak), "{peak} KiB");
}

#[test]
fn ten_million_lines_take_no_more_memory_than_a_few() {
    const LINES: u64 = 10_000_000;
    const MOST_KIB: u64 = 96 << 10;

    let bench = Bench::new("");
    let mut input = BufWriter::new(File::create(bench.path("in")).unwrap());
    for number in 0..LINES {
        writeln!(input, "{number}").unwrap();
    }
    drop(input);
    let mut child = bench.map("identity", &[]).stderr(Stdio::piped()).spawn().unwrap();
    let mut peak = 0_u64;
    assert!(procfs::eventually(|| {
        // A process that has ended has no memory.
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        if let Some(line) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
            peak = line.trim().trim_end_matches(" kB").parse().unwrap();
        }
        child.try_wait().unwrap().is_some()
    }));
    assert!(child.wait().unwrap().success());
    assert!((1..MOST_KIB).contains(&peak), "{peak} KiB");
    let same = Command::new("cmp").args(["in", "out"]).current_dir(&bench.folder).status().unwrap();
    assert!(same.success());
}
