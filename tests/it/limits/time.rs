//! Processor time, wall time and output.

use nix::sys::signal::Signal;

use crate::procfs;
use crate::support::{Run as Watched, guest, run};

use super::{QUOTA, bytes_in, ends_the_offender, ends_the_run, folder, limited};

#[test]
fn a_process_that_takes_a_processor_for_too_long_is_ended() {
    ends_the_offender(&["--cpu-time", "300ms"], "spin", "cpu time 300 ms");
    ends_the_offender(&["--cpu-time", "1s"], "spin", "cpu time 1 s");
}

#[test]
fn a_run_that_takes_processors_for_too_long_is_ended_whoever_does() {
    // Each process takes much less.
    ends_the_run(&["--run-cpu-time", "500ms", "--cpu-time", "5s"], "spin-on", "cpu time of the run 500 ms");
    ends_the_run(&["--run-cpu-time", "300ms"], "spin", "cpu time of the run 300 ms");
}

#[test]
fn a_process_that_takes_too_long_is_ended() {
    ends_the_run(&["--wall-time", "200ms"], "sleep", "wall time 200 ms");
}

#[test]
fn a_run_that_takes_too_long_is_ended_whoever_is_left_of_it() {
    ends_the_run(&["--run-wall-time", "300ms"], "sleep-on", "wall time of the run 300 ms");
    ends_the_run(&["--run-wall-time", "200ms"], "sleep", "wall time of the run 200 ms");
}

#[test]
fn a_process_that_prints_too_much_is_ended() {
    let ended = ends_the_offender(&["--stdio-max", "20000"], "print", "stdout and stderr 20000 B");
    assert_eq!(ended.stdout.len(), 20_000, "what it may print is there");
    assert!(
        ended.stderr.contains("error: process 'Process-2' was limited: stdout and stderr 20000 B; "),
        "{ended}"
    );
}

#[test]
fn a_run_that_prints_too_much_is_ended_whoever_does() {
    let limits = ["--run-stdio-max", "20000", "--stdio-max", "1000"];
    let ended = ends_the_run(&limits, "print-on", "stdout and stderr of the run 20000 B");
    assert_eq!(ended.stdout.len(), 20_000);
}

/// The use of a process that has ended counts.
#[test]
fn no_limit_of_a_run_is_dodged_by_processes_one_after_another() {
    for how in ["fork", "spawn"] {
        for (limit, figure, what, said) in [
            ("--run-cpu-time", "400ms", "spin", "cpu time of the run 400 ms"),
            ("--run-wall-time", "300ms", "sleep", "wall time of the run 300 ms"),
            ("--run-stdio-max", "1500", "print", "stdout and stderr of the run 1500 B"),
        ] {
            let ended = limited(&[limit, figure], &["after", how, what]).expect_code(134);
            let last = format!("error: the guest was limited: {said}");
            assert_eq!(ended.stderr.lines().last(), Some(&*last), "{how}: {ended}");
            assert_eq!(ended.stdout.len(), if what == "print" { 1500 } else { 0 }, "{how}: {ended}");
        }
        let (folder, grant) = folder();
        let limits = ["--dir", &grant, "--run-file-bytes-max", "10500"];
        limited(&limits, &["after", how, "write"])
            .expect_code(0)
            .expect_stdout(&[&format!("refused after it goes on: {QUOTA}")]);
        assert_eq!(bytes_in(&folder), 10_000, "{how}");
    }
}

/// A limit of the kernel's, which holds when the supervisor doesn't come to see to its own.
#[test]
fn the_kernel_ends_what_takes_a_processor_for_too_long() {
    let mut command = run(guest("limits"));
    let run = Watched::start(command.args(["--cpu-time", "1s", "--", "spin"]));
    let guests = || {
        let inside = procfs::children(run.embedder()).into_iter().flat_map(procfs::children);
        inside.filter(|pid| procfs::name(*pid) == "sandpool-guest").count()
    };
    assert!(procfs::eventually(|| guests() == 3), "{}", run.printed());
    let supervisor = run.supervisor();
    let guests = run.guests();
    assert!(procfs::kill(supervisor, Signal::SIGSTOP, |_| true));
    // The one that is ended isn't reaped meanwhile.
    let is_dead = |pid: &procfs::Pid| procfs::parent(*pid).is_none();
    let ended_in_time = procfs::eventually(|| guests.iter().any(is_dead));
    assert!(procfs::kill(supervisor, Signal::SIGCONT, |_| true));
    assert!(ended_in_time, "nobody has ended it\n{}", run.printed());
    let ended = run.finish().expect_code(0);
    assert_eq!(ended.stderr, "offender limited: cpu time 1 s\nhonest exited: 7\n");
}
