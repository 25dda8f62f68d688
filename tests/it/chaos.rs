//! SIGKILL at random, thousands of times, of processes that put into queues and get from them.
//!
//! The kernel kills at any instruction, so this is no model of what can happen but the thing itself. What must hold:
//! nobody else is blocked, no item is damaged, doubled or out of order, none is lost but what was in the hands of those
//! who were killed, and all memory comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::procfs;
use crate::support::{Random, Run, deadline, guest, run};

/// Queue, producer and number of an item.
type Item = (u64, u64, u64);

/// What the workers have written down.
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

/// Kills so many workers, at random.
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
    for what in ["drained", "closed", "as much room in the arena as before"] {
        assert!(ended.all("ok: ").contains(&what), "no {what:?}\n{ended}");
    }

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
