//! The kernel's view of a run: who is whose child, threads, descriptors, memory.

use std::io::Write as _;
use std::path::Path;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::procfs::{self, Pid};
use crate::support::{Run, guest, run, run_with};

/// A main process, two forked children and a spawned one that have called clocks, random, sleep and files, and sleep.
pub(crate) fn crowd_that_called_wasi() -> (Run, TempDir) {
    let data = tempfile::tempdir().unwrap();
    let mut command = run(guest("crowd"));
    command.arg("--dir").arg(format!("{}:/data", data.path().display())).args(["--", "wasi", "2"]);
    let run = Run::start(&mut command);
    run.wait_for_line("ready");
    (run, data)
}

fn is_pipe(target: &Path) -> bool {
    target.to_str().unwrap().starts_with("pipe:")
}

#[test]
fn a_guest_process_has_one_thread_and_only_what_it_was_given() {
    let (run, data) = crowd_that_called_wasi();
    let guests = run.guests();
    assert_eq!(guests.len(), 4, "main, two forked, one spawned");
    assert!(procfs::eventually(|| run.standby().is_some()), "{}", run.printed());
    for pid in guests.into_iter().chain(run.standby()) {
        assert_eq!(procfs::threads(pid), 1, "{}", procfs::describe(pid));
        let descriptors = procfs::descriptors(pid);
        let mut rest = descriptors.iter().skip(1);
        assert_eq!(descriptors[0], (0, "/dev/null".into()));
        for fd in [1, 2] {
            let (number, target) = rest.next().unwrap();
            assert!(*number == fd && is_pipe(target), "{descriptors:?}");
        }
        assert_eq!(rest.next(), Some(&(3, "anon_inode:[eventfd]".into())), "{descriptors:?}");
        for (number, _) in rest {
            assert!(procfs::leads_to(pid, *number, data.path()), "{descriptors:?}");
        }
        assert!(descriptors.len() <= 5, "more than one descriptor for a directory: {descriptors:?}");
    }
}

#[test]
fn the_supervisor_has_one_thread_and_no_directory_of_the_guests() {
    let (run, data) = crowd_that_called_wasi();
    let supervisor = run.supervisor();
    assert_eq!(procfs::threads(supervisor), 1);
    let descriptors = procfs::descriptors(supervisor);
    assert!(
        !descriptors.iter().any(|(number, _)| procfs::leads_to(supervisor, *number, data.path())),
        "{descriptors:?}"
    );
    let sockets =
        descriptors.iter().filter(|(_, target)| target.to_str().unwrap().starts_with("socket:")).count();
    assert_eq!(sockets, 2, "those of its owner and of the fork server: {descriptors:?}");
}

/// The supervisor reaps, so it has to be the parent: of children of children too.
#[test]
fn all_guests_are_children_of_the_supervisor() {
    let run = Run::start(&mut run_with("crowd", &["family", "3"]));
    run.wait_for_line("ready");
    let embedder = run.embedder();
    let supervisor = run.supervisor();
    assert_eq!(procfs::parent(supervisor), Some(embedder));
    // The main one, and three of each of three generations.
    let all_there = procfs::eventually(|| run.guests().len() == 10);
    assert!(all_there, "{} guests\n{}", run.guests().len(), run.printed());
    assert_eq!(run.processes().len(), 12, "somebody is neither embedder, supervisor nor a guest");
    assert!(run.guests().iter().all(|guest| procfs::children(*guest).is_empty()));
}

/// wasmtime-wasi's own stdin reads ahead on a thread that never ends, and that a fork leaves behind.
#[test]
fn no_thread_reads_stdin() {
    let (run, mut stdin) = Run::start_with_stdin(&mut run_with("stdio", &["2", "2"]));
    // After this line it waits for a line itself.
    run.wait_for_line("ok: a child's standard input is empty");
    let guests = run.guests();
    assert_eq!(guests.len(), 1);
    assert!(procfs::eventually(|| is_blocked_in_read(guests[0])), "{}", procfs::describe(guests[0]));
    assert_eq!(procfs::threads(guests[0]), 1);
    stdin.write_all(b"a line\n").unwrap();
    run.wait_for_line("the main process reads \"a line\\n\"");
    assert!(guests.iter().all(|pid| procfs::parent(*pid).is_none() || procfs::threads(*pid) == 1));
    drop(stdin);
    run.finish().expect_code(0);
}

/// Whether it sleeps with the descriptor 0 as its first argument: the system call's number differs by architecture, but
/// nothing else that it could sleep in has that.
fn is_blocked_in_read(pid: Pid) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split(' ').nth(1) == Some("0x0")
}

/// The supervisor's descriptors and memory.
#[derive(Debug)]
struct Size {
    descriptors: usize,
    threads: usize,
    /// KiB
    memory: u64,
}

fn size(supervisor: Pid) -> Size {
    Size {
        descriptors: procfs::descriptors(supervisor).len(),
        threads: procfs::threads(supervisor),
        memory: procfs::status(supervisor, "RssAnon"),
    }
}

fn leaks_nothing(how: &str, count: u64) {
    // Enough to fill all that is filled once, such as the table of processes and the list of reports.
    const FIRST: u64 = 1100;
    let (run, mut stdin) = Run::start_with_stdin(&mut run_with("process_many", &[&FIRST.to_string(), how]));
    run.wait_for_line(&format!("{FIRST} processes"));
    let supervisor = run.supervisor();
    let main = run.guests();
    let before = (size(supervisor), procfs::descriptors(main[0]), procfs::status(main[0], "RssAnon"));
    writeln!(stdin, "{count}").unwrap();
    run.wait_for_line(&format!("{count} processes"));
    assert_eq!(run.guests(), main, "a process is left");
    let after = (size(supervisor), procfs::descriptors(main[0]), procfs::status(main[0], "RssAnon"));
    drop(stdin);
    run.finish().expect_code(0);

    assert_eq!(after.0.descriptors, before.0.descriptors, "of the supervisor");
    assert_eq!((before.0.threads, after.0.threads), (1, 1));
    assert_eq!(after.1, before.1, "descriptors of the main guest");
    // A leak of 32 bytes a process would be more than this.
    let slack = count * 32 / 1024;
    assert!(after.0.memory <= before.0.memory + slack, "the supervisor: {before:?}, {after:?}");
    assert!(after.2 <= before.2 + slack, "the main guest: {before:?}, {after:?}");
}

/// Among hundreds of guests that want the processors, the supervisor would be late for whoever may end them. Among few, each time
/// that it wakes would only interrupt one of them.
#[test]
fn the_supervisor_gets_its_turn_before_its_guests_while_there_are_many() {
    const SHORT: u64 = 100_000;
    /// `CAP_SYS_RESOURCE` of capabilities(7).
    const SYS_RESOURCE: u32 = 24;
    let (own_nice, own_slice) = procfs::scheduling(std::process::id());
    // The kernel lets only a privileged user's have more of the processors than others, and shows slices since it has them.
    let nice = if procfs::has_capability(SYS_RESOURCE) { own_nice - 10 } else { own_nice };
    let raised = (nice, own_slice.map(|_| SHORT));
    let (few, _data) = crowd_that_called_wasi();
    let many = std::thread::available_parallelism().unwrap().get() * 4;
    let run = Run::start(&mut run_with("crowd", &["outlived", &many.to_string()]));
    run.wait_for_line("ready");
    let supervisor = run.supervisor();
    let becomes = |expected| {
        let is_so = procfs::eventually(|| procfs::scheduling(supervisor) == expected);
        assert!(is_so, "{:?}, not {expected:?}", procfs::scheduling(supervisor));
    };
    becomes(raised);
    let guests = run.guests();
    for pid in guests.iter().copied().chain(few.guests()).chain(run.standby()) {
        assert_eq!(procfs::scheduling(pid), (own_nice, own_slice), "{}", procfs::describe(pid));
        assert_eq!(procfs::limit(pid, "Max nice priority"), "0", "{}", procfs::describe(pid));
    }
    assert_eq!(procfs::scheduling(few.supervisor()), (own_nice, own_slice));
    for pid in guests.into_iter().skip(1) {
        assert!(procfs::kill(pid, Signal::SIGKILL, |pid| procfs::name(pid) == "sandpool-guest"));
    }
    becomes((own_nice, own_slice));
}

#[test]
fn ten_thousand_forks_leak_nothing() {
    leaks_nothing("fork", 10_000);
}

#[test]
fn ten_thousand_spawns_leak_nothing() {
    leaks_nothing("spawn", 10_000);
}

/// Nothing is read, compiled or looked up when a process is started: all of it was there before the first fork.
#[test]
fn a_run_needs_neither_its_module_nor_the_cache_once_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (module, cache) = (folder.path().join("guest.wasm"), folder.path().join("cache"));
    std::fs::copy(guest("process_many"), &module).unwrap();
    let mut command = run(&module);
    command.env("SANDPOOL_CACHE_DIR", &cache).args(["--", "1", "spawn"]);
    let (run, mut stdin) = Run::start_with_stdin(&mut command);
    run.wait_for_line("1 processes");
    assert!(cache.is_dir());
    std::fs::remove_dir_all(&cache).unwrap();
    std::fs::write(&module, "").unwrap();
    writeln!(stdin, "20").unwrap();
    run.wait_for_line("20 processes");
    drop(stdin);
    run.finish().expect_code(0);
}
