//! Pipes as descriptors of WASI: guests in C, written as for POSIX.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use crate::support::{Run, finish, repository, run, run_with, sandpool};

/// A guest in C of this name, compiled once.
fn guest(name: &str) -> PathBuf {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        for name in ["descriptors", "pipeline"] {
            let source = repository().join("tests/guests/c").join(name).with_extension("c");
            finish(sandpool().arg("build").arg("--target-dir").arg(folder.path()).arg(source)).expect_code(0);
        }
        folder
    });
    FOLDER.path().join("wasm32-wasip1/release").join(name).with_extension("wasm")
}

/// A run of one case.
fn case(options: &[&str], name: &str, number: u32) -> Command {
    let mut command = sandpool();
    command.arg("run").args(options).arg(guest("descriptors")).args(["--", name, &number.to_string()]);
    command
}

/// The case says that all is as it should be.
#[track_caller]
fn is_ok(name: &str) {
    finish(&mut case(&[], name, 0)).expect_code(0).expect_stdout(&["ok"]);
}

#[test]
fn a_pipe_is_read_and_written_as_posix_says() {
    is_ok("basics");
}

#[test]
fn a_pipe_ends_with_the_last_process_that_has_the_other_end() {
    is_ok("forks");
}

#[test]
fn writes_of_up_to_4096_bytes_are_whole() {
    is_ok("writers");
}

#[test]
fn a_descriptor_that_does_not_wait_says_again() {
    is_ok("nonblocking");
}

#[test]
fn poll_waits_for_pipes_and_clocks_at_once() {
    is_ok("polls");
}

#[test]
fn poll_waits_for_stdin_and_pipes_at_once() {
    let (run, mut stdin) = Run::start_with_stdin(&mut case(&[], "polls_stdin", 0));
    run.wait_for_line("waits");
    stdin.write_all(b"line\n").unwrap();
    run.finish().expect_code(0).expect_stdout(&["waits", "ok"]);
}

#[test]
fn files_pipes_and_copies_have_one_row_of_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let grant = format!("{}:/dir", folder.path().display());
    finish(&mut case(&["--dir", &grant], "numbers", 0)).expect_code(0).expect_stdout(&["to stdout", "ok"]);
}

#[test]
fn an_end_of_a_pipe_takes_the_place_of_a_standard_stream() {
    is_ok("renumbers");
}

/// The program does nothing that it wouldn't do on a system with POSIX.
#[test]
fn a_pipeline_of_processes_computes() {
    for (count, sum) in [("10", "385"), ("20000", "2666866670000")] {
        finish(run(guest("pipeline")).args(["--", count])).expect_code(0).expect_stdout(&[sum]);
    }
}

/// `SANDPOOL_CHAOS_KILLS` raises the number of deaths.
#[test]
fn processes_that_read_and_write_can_be_killed() {
    let kills = std::env::var("SANDPOOL_CHAOS_KILLS").map_or(300, |kills| kills.parse().unwrap());
    for name in ["kills", "kills_among_others"] {
        finish(&mut case(&[], name, kills)).expect_code(0).expect_stdout(&["ok"]);
    }
}

/// POSIX has such a process wait for ever.
#[test]
fn a_process_that_waits_for_itself_is_a_deadlock() {
    for (name, what) in [
        ("reads_its_own", "bytes at pipe end 0, whose other end no other process has"),
        ("polls_its_own", "bytes at pipe end 0, whose other end no other process has"),
        ("writes_its_own", "room to write at pipe end 1, whose other end no other process has"),
    ] {
        let ended = finish(&mut case(&[], name, 0)).expect_code(124);
        assert!(ended.stderr.matches("deadlock: process ").count() == 1, "{ended}");
        assert!(ended.stderr.contains(what), "{ended}");
        assert!(ended.stderr.contains(&format!("!{name}")), "{ended}");
    }
}

#[test]
fn pipes_are_bounded_by_the_limits_and_come_back() {
    // Each pipe takes two descriptors; the first pipe isn't counted.
    for (options, name, pipes) in [
        (&["--open-files-max", "20"][..], "too_many", "9"),
        (&["--objects-max", "21"], "no_objects", "9"),
        (&["--arena-size", "1MiB"], "no_room", "14"),
    ] {
        finish(&mut case(options, name, 0)).expect_code(0).expect_stdout(&[pipes, "ok"]);
    }
}

#[test]
fn a_spawned_process_has_the_ends_that_it_was_given() {
    is_ok("passes");
}

#[test]
fn whatever_a_guest_passes_is_answered() {
    is_ok("wild");
}

#[test]
fn a_file_for_which_there_is_no_number_is_closed_again() {
    let folder = tempfile::tempdir().unwrap();
    let grant = format!("{}:/files", folder.path().display());
    let mut command = sandpool();
    command
        .args(["run", "--open-files-max", "40", "--dir", &grant])
        .arg(crate::support::guest("byte_pipes"))
        .args(["--", "full"]);
    let ended = finish(&mut command).expect_code(0);
    let numbers: Vec<u32> = ended.stdout.split_whitespace().map(|number| number.parse().unwrap()).collect();
    // The last pipe may need one number more than there is, and a file needs one.
    let [pipes, refused, opened] = numbers[..] else { panic!("{ended}") };
    assert!(pipes >= 10 && refused >= 999 && opened == pipes, "{ended}");
}

#[test]
fn pipes_of_the_rust_sdk() {
    finish(&mut run_with("byte_pipes", &[])).expect_code(0).expect_stdout(&[
        "and the parent, child, from, the",
        "Err(BrokenPipe)",
        "300000 true",
    ]);
}
