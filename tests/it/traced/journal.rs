//! The command's calls on its files, in order: they tell what would be on the disk if the machine stopped there.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::libc;
use nix::unistd::Pid;

use super::{Seen, Stage, Verdict, trace};
use crate::support::{guest, sandpool};

/// Something that was done to a file or a directory, and has succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Written(PathBuf),
    /// To this length.
    Cut(PathBuf, u64),
    /// How long it was when that began.
    Synced(PathBuf, u64),
    /// A file that takes the place of another, and what is in it.
    Renamed(PathBuf, PathBuf, String),
    Removed(PathBuf),
}

/// Runs the command in a folder, in which it does this, to its end. Its threads are traced, and no process that it starts.
fn traced(folder: &Path, arguments: &[&str]) -> (Vec<Step>, i32) {
    traced_to(Stdio::null(), folder, arguments)
}

fn traced_to(stdout: Stdio, folder: &Path, arguments: &[&str]) -> (Vec<Step>, i32) {
    let mut command = sandpool();
    command.args(arguments).current_dir(folder);
    let mut steps =
        Trace { folder: folder.canonicalize().unwrap(), begun: HashMap::new(), steps: Vec::new() };
    let status = trace(&command, stdout, Stdio::null(), Seen::Command, |thread, stage| {
        steps.see(thread, stage);
        Verdict::GoOn
    });
    (steps.steps, status.code().unwrap())
}

struct Trace {
    folder: PathBuf,
    /// By thread, what has begun.
    begun: HashMap<Pid, Step>,
    steps: Vec<Step>,
}

impl Trace {
    /// A thread begins a system call, or has come to its end.
    fn see(&mut self, thread: Pid, stage: Stage) {
        match stage {
            Stage::Entry { number, args } => {
                self.begun.remove(&thread);
                if let Some(step) = self.step(thread, number, args) {
                    self.begun.insert(thread, step);
                }
            }
            Stage::Exit { result } => self.steps.extend(self.begun.remove(&thread).filter(|_| result >= 0)),
        }
    }

    /// The step that a system call is, if it concerns a file in the folder.
    fn step(&self, thread: Pid, number: i64, args: [u64; 6]) -> Option<Step> {
        let of = |fd: u64| fs::read_link(format!("/proc/{thread}/fd/{}", fd as i32)).ok();
        let named = |dir: u64, name: u64| Some(of(dir)?.join(string(thread, name)?));
        let here = |path: PathBuf| path.starts_with(&self.folder).then_some(path);
        match number {
            libc::SYS_write | libc::SYS_writev | libc::SYS_pwrite64 => here(of(args[0])?).map(Step::Written),
            libc::SYS_ftruncate => Some(Step::Cut(here(of(args[0])?)?, args[1])),
            libc::SYS_fsync | libc::SYS_fdatasync => {
                let path = here(of(args[0])?)?;
                let len = fs::metadata(&path).map_or(0, |found| found.len());
                Some(Step::Synced(path, len))
            }
            libc::SYS_renameat | libc::SYS_renameat2 => {
                let (from, to) = (here(named(args[0], args[1])?)?, here(named(args[2], args[3])?)?);
                let text = fs::read_to_string(&from).ok()?;
                Some(Step::Renamed(from, to, text))
            }
            libc::SYS_unlinkat => here(named(args[0], args[1])?).map(Step::Removed),
            _ => None,
        }
    }
}

/// The text at an address of a thread's.
fn string(thread: Pid, at: u64) -> Option<String> {
    let memory = fs::File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut bytes = [0; 256];
    let len = memory.read_at(&mut bytes, at).ok()?;
    let end = bytes[..len].iter().position(|byte| *byte == 0)?;
    String::from_utf8(bytes[..end].to_vec()).ok()
}

/// The number that a journal has for this.
fn number(journal: &str, field: &str) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_str(journal).unwrap();
    value[field].as_u64()
}

/// The disk, if the machine stops after any of these steps.
#[derive(Default)]
struct Disk {
    /// How much of each file has come there, at the least.
    synced: HashMap<PathBuf, u64>,
    /// Files that have changed since.
    dirty: Vec<PathBuf>,
    /// Texts of the journals of which any may be there; none if there is no journal.
    journals: Vec<Option<String>>,
    saved: usize,
}

impl Disk {
    /// The disk as it is.
    fn read(folder: &Path) -> Self {
        let read = |name: &str| fs::read(folder.join(name)).ok();
        let synced =
            ["out", "failed"].iter().filter_map(|name| Some((folder.join(name), read(name)?.len() as u64)));
        let journal = fs::read_to_string(folder.join("out.sandpool")).ok();
        Self { synced: synced.collect(), journals: vec![journal], ..Self::default() }
    }

    fn see(&mut self, folder: &Path, step: &Step) {
        let [output, errors, journal] = ["out", "failed", "out.sandpool"].map(|name| folder.join(name));
        let described = [(&output, "output"), (&errors, "errors")];
        if let Step::Written(path) | Step::Cut(path, _) = step {
            self.synced.entry(path.clone()).or_default();
            self.dirty.push(path.clone());
        }
        match step {
            Step::Written(_) => {}
            Step::Cut(path, len) => {
                self.synced.entry(path.clone()).and_modify(|synced| *synced = (*synced).min(*len));
                let fields =
                    described.iter().filter(|(described, _)| *described == path).map(|(_, field)| field);
                for (field, text) in
                    fields.flat_map(|field| self.journals.iter().flatten().map(move |text| (field, text)))
                {
                    let claimed = number(text, field).unwrap_or(0);
                    assert!(
                        claimed <= *len,
                        "{path:?} is cut to {len} bytes, and a journal says that it has {claimed}"
                    );
                }
            }
            Step::Synced(path, _) if path == folder => drop(self.journals.drain(..self.journals.len() - 1)),
            Step::Synced(path, len) => {
                self.synced.insert(path.clone(), *len);
                self.dirty.retain(|dirty| dirty != path);
            }
            Step::Renamed(from, to, text) if *to == journal => {
                self.saved += 1;
                assert!(!self.dirty.contains(from), "{from:?} takes a place before it has come to the disk");
                assert!(self.synced.contains_key(from), "{from:?} was never written");
                for (path, field) in described {
                    let claimed = number(text, field).unwrap_or(0);
                    let there = self.synced.get(path).copied().unwrap_or(0);
                    assert!(claimed <= there, "{claimed} bytes of {path:?} are noted, and {there} have come");
                }
                assert_eq!(self.journals.len(), 1, "two journals, and neither has come");
                self.journals.push(Some(text.clone()));
            }
            Step::Removed(path) if *path == journal => self.journals.push(None),
            Step::Renamed(..) | Step::Removed(_) => {}
        }
    }
}

/// At no instant does the journal say more than what has come to the disk.
#[test]
fn a_journal_follows_what_it_says_to_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let lines = |from: u32| (from..from + 3000).map(|number| format!("{number}\n")).collect::<String>();
    let input = lines(0) + "fail\n" + &lines(5000);
    fs::write(path.join("in"), &input).unwrap();
    let module = guest("tasks");
    let arguments = |more: &[&'static str]| {
        let mut all =
            vec!["map", "--task", "behave", "--input", "in", "--output", "out", "--errors", "failed"];
        all.extend(more);
        all.push(module.to_str().unwrap());
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let record = ["--on-error", "record"];
    for (more, code, writes) in [
        (&[][..], 119, &["out", "failed"][..]),
        (&["--resume"], 119, &["failed"]),
        (&[&["--resume"], &record[..]].concat(), 118, &["out", "failed"]),
        (&[&["--resume", "--retry-failed"], &record[..]].concat(), 118, &["failed"]),
        // Anew: what the journal of before says is no longer so.
        (&record, 118, &["out", "failed"]),
    ] {
        let arguments = arguments(more);
        let mut disk = Disk::read(&path);
        let (steps, ended) = traced(&path, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ended, code, "{more:?}");
        for step in &steps {
            disk.see(&path, step);
        }
        assert_eq!(disk.journals.len(), 1, "the name of the journal may not have come\n{steps:#?}");
        assert!(disk.journals[0].is_some(), "the journal has gone\n{steps:#?}");
        for name in writes {
            assert!(steps.contains(&Step::Written(path.join(name))), "{name} was not seen\n{steps:#?}");
        }
        assert!(disk.saved > 0, "{steps:#?}");
    }
    assert_eq!(fs::read_to_string(path.join("out")).unwrap(), input.replace("fail\n", ""));
}

/// A command that says that all is done has it on the disk, also without a journal.
#[test]
fn an_output_without_a_journal_comes_to_the_disk_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    fs::write(path.join("in"), "a\nb\n").unwrap();
    let module = guest("tasks");
    let out = fs::File::create(path.join("out")).unwrap();
    let arguments = ["map", "--task", "upper", "--input", "in", module.to_str().unwrap()];
    let (steps, code) = traced_to(out.into(), &path, &arguments);
    assert_eq!((code, fs::read_to_string(path.join("out")).unwrap().as_str()), (0, "A\nB\n"));
    let of_output: Vec<_> = steps
        .iter()
        .filter(|step| matches!(step, Step::Written(of) | Step::Synced(of, _) if *of == path.join("out")))
        .collect();
    assert_eq!(of_output.last(), Some(&&Step::Synced(path.join("out"), 4)), "{steps:#?}");
}
