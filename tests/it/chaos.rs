//! SIGKILL, SIGSTOP and full disks at random. First SIGKILL, thousands of times, of processes that put into queues and get
//! from them.
//!
//! The kernel kills at any instruction, so this is no model of what can happen but the thing itself. These
//! promises must hold: nobody else is blocked, no item is damaged, doubled or out of order, no item is lost but those in
//! the hands of killed processes, and all memory comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::procfs::{self, Pid};
use crate::support::{Random, Run, deadline, finish, guest, run, sandpool};

/// Queue, producer and number of an item.
type Item = (u64, u64, u64);

/// The workers' notes.
#[derive(Debug, Default)]
struct Logs {
    begun: BTreeSet<Item>,
    put: BTreeSet<Item>,
    got: BTreeMap<Item, u32>,
    disorder: Vec<String>,
}

impl Logs {
    fn read(folder: &Path) -> Self {
        let mut logs = Self::default();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let text = fs::read_to_string(&path).unwrap();
            // A line without an end was cut off by SIGKILL: that it would have said anything isn't known.
            let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            match name.split_at(1) {
                ("p", number) => logs.producer(number.parse().unwrap(), lines),
                ("c", _) => logs.consumer(name, lines),
                _ => {}
            }
        }
        logs
    }

    fn producer<'a>(&mut self, producer: u64, lines: impl Iterator<Item = &'a str>) {
        for line in lines {
            let (what, rest) = line.split_once(' ').unwrap();
            let [queue, number] = numbers(rest);
            let items = if what == "A" { &mut self.put } else { &mut self.begun };
            items.insert((queue, producer, number));
        }
    }

    fn consumer<'a>(&mut self, name: &str, lines: impl Iterator<Item = &'a str>) {
        let mut last = BTreeMap::new();
        for line in lines {
            let [queue, producer, number] = numbers(line.strip_prefix("G ").unwrap());
            *self.got.entry((queue, producer, number)).or_default() += 1;
            let before = last.insert((queue, producer), number);
            if before >= Some(number) {
                self.disorder.push(format!("{name} got {before:?} of producer {producer} before {number}"));
            }
        }
    }
}

fn numbers<const N: usize>(text: &str) -> [u64; N] {
    let numbers: Vec<_> = text.split(' ').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

/// Kills this number of workers, at random.
fn kill_workers(run: &Run, count: u64) {
    run.wait_for_line("started");
    let printed = run.printed();
    let main = printed.lines().find_map(|line| line.strip_prefix("main ")?.parse().ok()).unwrap();
    let main = run.guest(main);
    let supervisor = run.supervisor();
    let mut random = Random::new();
    let mut killed = 0;
    let mut last = Instant::now();
    // They have been sent the signal, and may not have ended yet.
    let mut dying = Vec::new();
    while killed < count {
        // One after another for a while, then all at once.
        let at_once = if random.below(10) == 0 { 4 } else { 1 };
        for _ in 0..at_once.min(count - killed) {
            let mut workers = procfs::children(supervisor);
            dying.retain(|pid| workers.contains(pid));
            workers.retain(|pid| *pid != main && !dying.contains(pid));
            if workers.is_empty() {
                continue;
            }
            let victim = workers[usize::try_from(random.below(workers.len() as u64)).unwrap()];
            if procfs::kill(victim, Signal::SIGKILL, |pid| procfs::parent(pid) == Some(supervisor)) {
                killed += 1;
                dying.push(victim);
                last = Instant::now();
            }
        }
        assert!(
            last.elapsed() < deadline(),
            "after {killed} kills there is nobody left to kill\n{}",
            run.printed()
        );
        assert!(procfs::parent(main).is_some(), "the main guest has ended early\n{}", run.printed());
        random.pause(Duration::from_millis(4));
    }
}

#[test]
fn workers_are_killed_thousands_of_times() {
    let kills = std::env::var("SANDPOOL_CHAOS_KILLS").map_or(5000, |kills| kills.parse().unwrap());
    let logs = tempfile::tempdir().unwrap();
    let mut command = run(guest("queue_chaos"));
    command.arg("--dir").arg(format!("{}:/logs", logs.path().display()));
    // So small that the unbounded queue fills it.
    command.args(["--arena-size", "4MiB", "--", "4", "2"]);
    let run = Run::start(&mut command);
    kill_workers(&run, kills);
    fs::write(logs.path().join("stop"), "").unwrap();
    let ended = run.finish().expect_code(0);

    let [producers_killed, consumers_killed] =
        ["killed producers: ", "killed consumers: "].map(|start| ended.all(start)[0].parse::<u64>().unwrap());
    assert_eq!(producers_killed + consumers_killed, kills, "{ended}");
    ended.expect_checks(&["drained", "closed", "as much room in the arena as before"]);

    let logs = Logs::read(logs.path());
    assert!(logs.got.len() as u64 > kills, "{} items are too few to find anything", logs.got.len());
    assert!(logs.disorder.is_empty(), "{:?}", logs.disorder);
    let doubled: Vec<_> = logs.got.iter().filter(|(_, times)| **times > 1).collect();
    assert!(doubled.is_empty(), "received more than once: {doubled:?}");
    let unknown: Vec<_> = logs.got.keys().filter(|item| !logs.begun.contains(item)).collect();
    assert!(unknown.is_empty(), "received, but never put: {unknown:?}");
    let lost: Vec<_> = logs.put.iter().filter(|item| !logs.got.contains_key(item)).collect();
    // Each that was killed had one item in its hands at most. Those were consumers: a producer has put its own.
    eprintln!(
        "{kills} kills, {producers_killed} of them of producers: {} items put, {} received, {} lost",
        logs.put.len(),
        logs.got.len(),
        lost.len()
    );
    assert!(
        lost.len() as u64 <= consumers_killed,
        "{} lost by {consumers_killed} consumers: {lost:?}",
        lost.len()
    );
}

/// Objects of all kinds at once. The guest kills its workers itself, and looks after all that must hold. For more
/// operations, `SANDPOOL_TEST_DEADLINE` is to be longer as well.
#[test]
fn workers_are_killed_in_the_midst_of_everything() {
    let operations = std::env::var("SANDPOOL_CHAOS_OPERATIONS").unwrap_or_else(|_| "20000".to_owned());
    let seed = Random::new().below(1 << 32).to_string();
    let mut command = run(guest("ipc_chaos"));
    // So small that it is full now and then.
    command.args(["--arena-size", "16MiB", "--", &seed, &operations, "4"]);
    let ended = Run::start(&mut command).finish().expect_code(0);
    assert_eq!(ended.all("ok: "), ["as much room in the arena as before"], "{ended}");
    let [done, kills, items] = ["operations: ", "kills: ", "items: "]
        .map(|what| ended.all(what).first().and_then(|number| number.parse::<u64>().ok()).unwrap());
    eprintln!("seed {seed}:\n{}", ended.stdout);
    assert!(done >= operations.parse().unwrap() && items > done / 20, "too little to find anything\n{ended}");
    assert!(kills > done / 2_000, "too few kills to find anything\n{ended}");
}

fn rounds() -> u64 {
    std::env::var("SANDPOOL_CHAOS_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap())
}

/// One of them, by chance.
fn any(of: &[Pid], random: &mut Random) -> Option<Pid> {
    of.get(usize::try_from(random.below(of.len().max(1) as u64)).unwrap()).copied()
}

/// If any process is stopped for a while, all come to the right end, and nobody takes it for a deadlock.
#[test]
fn processes_are_stopped_and_go_on() {
    let mut random = Random::new();
    let mut stops = 0;
    for _ in 0..rounds() {
        let run = Run::start(run(guest("hostile")).args(["--", "beside", "nothing"]));
        while procfs::parent(run.embedder()).is_some() {
            // Also the embedder and the supervisor.
            let Some(pid) = any(&run.processes(), &mut random) else { break };
            let is_of_the_run = |pid| run.processes().contains(&pid);
            if procfs::kill(pid, Signal::SIGSTOP, is_of_the_run) {
                stops += 1;
                random.pause(Duration::from_millis(8));
                procfs::kill(pid, Signal::SIGCONT, |_| true);
            }
            random.pause(Duration::from_millis(4));
        }
        let ended = run.finish().expect_code(0);
        assert_eq!(ended.all("ok: "), ["3000 items went there and back"], "{ended}");
    }
    eprintln!("stopped {stops} times");
    assert!(stops >= rounds(), "{stops} times are too few to find anything");
}

/// `sandpool map` of `count` numbers, from `in` to an output, in a folder that is also where temporary files go.
fn map(folder: &Path, count: u64, output: &str) -> Command {
    fs::write(folder.join("in"), (0..count).map(|number| format!("{number}\n")).collect::<String>()).unwrap();
    fs::create_dir_all(folder.join("tmp")).unwrap();
    let mut command = sandpool();
    command.args(["map", "--task", "identity"]).arg(guest("tasks"));
    command.args(["--input", "in", "--output", output, "--resume", "--retries", "1000", "--unordered"]);
    command.current_dir(folder).env("TMPDIR", folder.join("tmp"));
    command
}

/// Each record is there, and once.
#[track_caller]
fn expect_all(folder: &Path, count: u64) {
    let out = fs::read_to_string(folder.join("out")).unwrap();
    let mut out: Vec<u64> = out.lines().map(|line| line.parse().unwrap()).collect();
    out.sort_unstable();
    assert!(out.into_iter().eq(0..count), "of {count} records some are missing, or there twice");
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["in", "out", "out.sandpool", "tmp"], "something is left, or missing");
    assert_eq!(fs::read_dir(folder.join("tmp")).unwrap().count(), 0, "a temporary file is left");
}

/// Embedder, supervisor and workers are killed at random, again and again. Each record that was accepted is done once.
#[test]
fn a_map_whose_processes_are_killed_leaves_no_record_out_and_does_none_twice() {
    // The module is in the cache from then on: a compiler that is killed is another test's.
    finish(&mut map(tempfile::tempdir().unwrap().path(), 1, "out")).expect_code(0);
    // A map that only workers were killed of ends well at once, by its first command.
    let mut maps = (0..50).map(|_| kill_processes_of_a_map());
    assert!(maps.any(|commands| commands > 1), "nothing was killed");
}

/// Kills processes of a map, and goes on with it, until it has ended well. How many commands it took.
fn kill_processes_of_a_map() -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random::new();
    let count = 40_000 * rounds();
    let mut command = map(folder.path(), count, "out");
    let mut ways = BTreeMap::new();
    let shared = || fs::read_dir("/dev/shm").map_or(0, Iterator::count);
    let before = shared();
    let mut seen = BTreeSet::new();
    loop {
        let run = Run::start(&mut command);
        random.pause(Duration::from_millis(200));
        while let Some(pid) = any(&run.processes(), &mut random) {
            seen.extend(run.processes());
            // Rarely so early that nothing is done.
            if procfs::kill(pid, Signal::SIGKILL, |pid| run.processes().contains(&pid)) {
                random.pause(Duration::from_millis(100));
            }
        }
        let ended = run.finish();
        *ways.entry((ended.status.code(), ended.status.signal())).or_insert(0_u64) += 1;
        match ended.status.code() {
            Some(0) => break,
            // Killed itself, or lost its supervisor.
            None | Some(123) => {}
            Some(_) => panic!("{ended}"),
        }
    }
    eprintln!("ended (code, signal) so often: {ways:?}");
    let commands = ways.values().sum();
    expect_all(folder.path(), count);
    assert_eq!(shared(), before, "shared memory is left");
    assert!(seen.len() as u64 > commands, "only commands were killed");
    let is_left = |pid: &Pid| procfs::name(*pid).starts_with("sandpool-");
    assert!(procfs::eventually(|| !seen.iter().any(is_left)), "a process is left");
    commands
}

/// A disk with room for a part of the output. The part that fits is kept, and when there is room, the rest is done.
#[test]
fn a_full_disk_ends_a_map_which_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let count = 200_000;
    fs::create_dir(folder.path().join("disk")).unwrap();
    let map = map(folder.path(), count, "disk/out");
    // A small file system, which only these processes see.
    let script = r#"mount -t tmpfs -o size=256k none disk || exit
        "$@"; echo "full: $?"
        mount -o remount,size=64m disk && "$@"; echo "with room: $?"
        mv disk/out disk/out.sandpool .; echo "left: $(ls disk)"; umount disk; rmdir disk"#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    command.arg(map.get_program()).args(map.get_args()).current_dir(folder.path());
    for (name, value) in map.get_envs() {
        command.env(name, value.unwrap());
    }
    let ended = finish(&mut command).expect_code(0);
    assert!(
        ended.stderr.contains("No space left on device") && !ended.stderr.contains("panicked"),
        "{ended}"
    );
    assert_ne!(ended.all("full: "), ["0"], "{ended}");
    assert_eq!((ended.all("with room: "), ended.all("left: ")), (vec!["0"], vec![""]), "{ended}");
    expect_all(folder.path(), count);
}
