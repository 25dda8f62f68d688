//! Things outside of the namespaces of a run aren't there for its guests, and a namespace that can't be had is reported.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid as ProcessGroup;
use sandpool::jail::{Layer, LayerStatus};

use crate::procfs::{self, Pid};
use crate::support::{Run, guest, load, run, run_with, sandpool_bin};

/// The layers, and what the kernel calls them.
const NAMESPACES: [(Layer, &str); 5] = [
    (Layer::UserNamespace, "user"),
    (Layer::PidNamespace, "pid"),
    (Layer::MountNamespace, "mnt"),
    (Layer::NetworkNamespace, "net"),
    (Layer::IpcNamespace, "ipc"),
];

fn namespace(pid: impl std::fmt::Display, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap()
}

/// A main process and a child that sleep, with these directories.
fn sleepers(dirs: &[String]) -> Run {
    let mut command = run(guest("crowd"));
    for dir in dirs {
        command.args(["--dir", dir]);
    }
    let run = Run::start(command.args(["--", "sleep", "1"]));
    run.wait_for_line("ready");
    run
}

/// A path as the guest process sees it.
fn inside(guest: Pid, path: &str) -> PathBuf {
    Path::new(&format!("/proc/{guest}/root")).join(path)
}

#[test]
fn a_run_has_namespaces_of_its_own() {
    let (one, other) = (sleepers(&[]), sleepers(&[]));
    for (layer, kind) in NAMESPACES {
        let [of_one, of_other] = [&one, &other].map(|run| {
            let supervisor = namespace(run.supervisor(), kind);
            let guests = run.guests();
            assert_eq!(guests.len(), 2);
            for pid in guests {
                assert_eq!(namespace(pid, kind), supervisor, "{layer} of {}", procfs::describe(pid));
            }
            supervisor
        });
        let outside = namespace("self", kind);
        assert!(of_one != outside && of_other != outside && of_one != of_other, "{layer}: {outside:?}");
    }
    // It is the first there, so the kernel ends the others with it.
    assert_eq!(procfs::inner_number(one.supervisor()), Some(1));
}

#[test]
fn a_guest_finds_nothing_but_what_was_granted() {
    let [writable, readable] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let nested = writable.path().join("nested");
    fs::create_dir(&nested).unwrap();
    let grants = [
        format!("{}:/a", writable.path().display()),
        format!("{}:/a/nested:ro", nested.display()),
        format!("{}:/b:ro", readable.path().display()),
    ];
    for (grants, names) in [(&grants[..0], &[][..]), (&grants, &["0", "1", "2"])] {
        let run = sleepers(grants);
        let guest = run.guests()[1];
        let mut found: Vec<_> = fs::read_dir(inside(guest, ""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort();
        assert_eq!(found, names);
        let write = |path| fs::write(inside(guest, path), "").map_err(|error| error.kind());
        assert_eq!(write("new"), Err(ErrorKind::ReadOnlyFilesystem));
        if !grants.is_empty() {
            assert_eq!(write("0/nested/new"), Ok(()), "granted with the directory that it is in");
            assert_eq!(write("1/new"), Err(ErrorKind::ReadOnlyFilesystem), "granted once more, to be read");
            assert_eq!(write("2/new"), Err(ErrorKind::ReadOnlyFilesystem));
            assert!(nested.join("new").is_file());
        }
        let mounts = fs::read_to_string(format!("/proc/{guest}/mountinfo")).unwrap();
        assert_eq!(mounts.lines().count(), 1 + grants.len(), "{mounts}");
        for mount in mounts.lines() {
            let options: Vec<_> = mount.split(' ').nth(5).unwrap().split(',').collect();
            assert!(["nosuid", "nodev", "noexec"].iter().all(|option| options.contains(option)), "{mount}");
        }
    }
}

#[test]
fn a_guest_has_no_network() {
    let run = sleepers(&[]);
    let read = |name| fs::read_to_string(format!("/proc/{}/net/{name}", run.guests()[0])).unwrap();
    let devices = read("dev");
    let devices: Vec<_> =
        devices.lines().skip(2).map(|line| line.split(':').next().unwrap().trim()).collect();
    assert_eq!(devices, ["lo"]);
    assert_eq!(read("fib_trie"), "", "it has an address, so it is up");
}

/// Files belong to the same users inside as outside.
#[test]
fn each_user_stands_for_itself() {
    let run = sleepers(&[]);
    let is_root = nix::unistd::geteuid().is_root();
    for (kind, own) in [("uid", nix::unistd::geteuid().as_raw()), ("gid", nix::unistd::getegid().as_raw())] {
        let map = |of: &str| -> Vec<[u32; 3]> {
            let text = fs::read_to_string(format!("/proc/{of}/{kind}_map")).unwrap();
            let line = |line: &str| {
                let fields: Vec<_> = line.split_whitespace().map(|field| field.parse().unwrap()).collect();
                fields.try_into().unwrap()
            };
            text.lines().map(line).collect()
        };
        let inner = map(&run.guests()[0].to_string());
        // The second column is what the reader calls it.
        assert!(inner.iter().all(|[inside, outside, _]| inside == outside), "{inner:?}");
        let all: Vec<_> = map("self").into_iter().map(|[inside, _, count]| [inside, inside, count]).collect();
        assert_eq!(inner, if is_root { all } else { vec![[own, own, 1]] });
    }
}

/// A user namespace in which there may be none of one kind.
pub(crate) fn without_namespaces(kind: &str, then: &[&str]) -> Command {
    let script = "echo 0 > /proc/sys/user/max_${1}_namespaces && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script, "sh", kind]).args(then);
    command
}

#[test]
fn what_cannot_be_had_is_said_and_the_rest_holds() {
    let no_more = "absent: no more of them are allowed (/proc/sys/user)";
    let forbidden = "absent: the system doesn't permit it";
    let unprivileged = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"];
    for (kind, then, expected) in [
        ("user", &[][..], [no_more, "full", "full", "full", "full"]),
        ("user", &unprivileged, [no_more, forbidden, forbidden, forbidden, forbidden]),
        ("pid", &[], ["full", no_more, "full", "full", "full"]),
        ("mnt", &[], ["full", "full", no_more, "full", "full"]),
        ("net", &[], ["full", "full", "full", no_more, "full"]),
        ("ipc", &[], ["full", "full", "full", "full", no_more]),
    ] {
        let granted = tempfile::tempdir().unwrap();
        let mut command = without_namespaces(kind, then);
        command.arg(sandpool_bin()).args(["run", "--jail-report", "--dir"]);
        command.arg(format!("{}:/data", granted.path().display())).arg(guest("crowd")).arg("--");
        let run = Run::start(command.args(["wasi", "2"]));
        run.wait_for_line("ready");
        assert_eq!(run.guests().len(), 4, "main, two forked, one spawned");
        let printed = run.printed_with_report();
        for ((layer, _), expected) in NAMESPACES.into_iter().zip(expected) {
            let line = format!("{layer:17}  {expected}");
            assert!(printed.lines().any(|printed| printed == line), "no {line:?} without {kind}\n{printed}");
        }
        assert!(procfs::kill(run.embedder(), Signal::SIGKILL, |_| true));
        run.finish().expect_signal(Signal::SIGKILL);
    }
}

#[test]
fn a_layer_that_is_switched_off_is_off() {
    for (layer, kind) in NAMESPACES {
        let mut command = run(guest("crowd"));
        command.args(["--jail-report", "--without-layer", layer.name(), "--", "sleep", "1"]);
        let run = Run::start(&mut command);
        run.wait_for_line("ready");
        for (other, kind_of_other) in NAMESPACES {
            let is_outside = namespace(run.guests()[0], kind_of_other) == namespace("self", kind_of_other);
            // Without a user namespace, only root has the others.
            if nix::unistd::geteuid().is_root() || layer != Layer::UserNamespace {
                assert_eq!(is_outside, kind == kind_of_other, "{other} without {layer}");
            }
        }
        let printed = run.printed_with_report();
        assert!(printed.contains(&format!("\n{layer:17}  off\n")), "{layer}\n{printed}");
    }
}

/// The kernel has the supervisor waited for when nobody is left of the run, not before.
#[test]
fn guests_are_gone_when_the_owner_learns_of_it() {
    let module = load(guest("crowd"));
    for _ in 0..20 {
        let run = sandpool::Run::builder(&module).args(["crowd", "spin", "8"]).start().unwrap();
        assert_eq!(run.jail().status(Layer::PidNamespace), &LayerStatus::Full);
        let supervisor = run.supervisor_pid();
        assert!(procfs::eventually(|| procfs::children(supervisor).len() == 9));
        let guests = procfs::children(supervisor);
        assert!(procfs::kill(supervisor, Signal::SIGKILL, |_| true));
        run.wait().unwrap_err();
        for pid in guests {
            assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{}", procfs::describe(pid));
        }
    }
}

/// As Ctrl-Z and `fg` do it: all processes of the group get the signals.
#[test]
fn a_run_is_suspended_and_continued() {
    let run = Run::start(&mut run_with("crowd", &["spin", "2"]));
    run.wait_for_line("ready");
    let group = ProcessGroup::from_raw(run.embedder().try_into().unwrap());
    let all: Vec<_> = run.guests().into_iter().chain([run.embedder()]).collect();
    let stopped = |pid: &Pid| procfs::describe(*pid).contains(") T ");
    killpg(group, Signal::SIGTSTP).unwrap();
    assert!(procfs::eventually(|| all.iter().all(stopped)));
    killpg(group, Signal::SIGCONT).unwrap();
    assert!(procfs::eventually(|| !all.iter().any(stopped)));
    killpg(group, Signal::SIGINT).unwrap();
    run.finish().expect_signal(Signal::SIGINT);
}
