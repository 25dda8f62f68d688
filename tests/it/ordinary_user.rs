//! Sandpool as people use it who aren't root. When root runs the tests, the command has its user and group taken away.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use sandpool::jail::Layer;
use tempfile::TempDir;

use crate::hidden::where_processes_are_hidden;
use crate::procfs::{self, Pid};
use crate::support::{Run, finish, guest, sandpool_bin};

/// The exit code of a run that is deadlocked.
const DEADLOCK: i32 = 124;
/// The user and the group, if it is root who runs the tests: those of nobody.
const NOBODY: u32 = 65534;

/// A home, with the command in it: whoever can't read root's files can't start what is built there.
pub(crate) struct Home {
    folder: TempDir,
    user: u32,
    group: u32,
}

impl Home {
    pub(crate) fn new() -> Self {
        let is_root = nix::unistd::geteuid().is_root();
        let (user, group) = if is_root {
            (NOBODY, NOBODY)
        } else {
            (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
        };
        let home = Self { folder: tempfile::tempdir().unwrap(), user, group };
        fs::copy(sandpool_bin(), home.path("sandpool")).unwrap();
        home.own("");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives the user a file.
    fn own(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        chown(&path, Some(self.user), Some(self.group)).unwrap();
        path
    }

    /// Makes the user a folder.
    fn folder(&self, name: &str) -> PathBuf {
        fs::create_dir(self.path(name)).unwrap();
        self.own(name)
    }

    /// Makes the user a file.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).unwrap();
        self.own(name)
    }

    /// A guest of the tests, where the user can read it.
    fn guest(&self, name: &str) -> PathBuf {
        let file = format!("{name}.wasm");
        fs::copy(guest(name), self.path(&file)).unwrap();
        self.own(&file)
    }

    /// The command, as this user.
    pub(crate) fn sandpool(&self) -> Command {
        procfs::default_signals();
        let mut command = Command::new(self.path("sandpool"));
        command.current_dir(&self.folder).env("HOME", self.folder.path());
        command.env_remove("SANDPOOL_CACHE_DIR").env_remove("XDG_CACHE_HOME");
        if nix::unistd::geteuid().is_root() {
            // Other groups go with it.
            command.uid(self.user).gid(self.group);
        }
        command
    }

    /// `sandpool run` of a guest.
    fn run(&self, name: &str) -> Command {
        let mut command = self.sandpool();
        command.arg("run").arg(self.guest(name));
        command
    }

    #[track_caller]
    fn expect_owner(&self, path: &Path) {
        let found = fs::metadata(path).unwrap();
        assert_eq!((found.uid(), found.gid()), (self.user, self.group), "{}", path.display());
    }
}

/// How a layer holds, by what was printed.
#[track_caller]
fn hold(printed: &str, layer: Layer) -> &str {
    let mut lines = printed.lines().filter_map(|line| line.strip_prefix(layer.name()));
    lines.find_map(|line| line.strip_prefix(' ')).unwrap_or_else(|| panic!("no {layer}\n{printed}")).trim()
}

/// The text of `/proc/PID/FILE`, with one space between all words.
fn words(pid: Pid, file: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn processes_are_the_users_and_in_the_jail() {
    let home = Home::new();
    let data = home.folder("data");
    let mut command = home.run("crowd");
    command.arg("--jail-report").arg("--dir").arg(format!("{}:/data", data.display()));
    let run = Run::start(command.args(["--", "wasi", "2"]));
    run.wait_for_line("ready");
    let printed = run.printed_with_report();
    let own = [
        Layer::Rlimits,
        Layer::Capabilities,
        Layer::NoNewPrivs,
        Layer::Descriptors,
        Layer::Landlock,
        Layer::Seccomp,
    ];
    for layer in own {
        assert_eq!(hold(&printed, layer), "full", "{printed}");
    }
    let guests = run.guests();
    assert_eq!(guests.len(), 4, "main, two forked, one spawned\n{printed}");
    for pid in guests {
        let status = |field| procfs::status_line(pid, field).unwrap();
        let of = |id: u32| [id; 4].map(|id| id.to_string()).join("\t");
        assert_eq!((status("Uid"), status("Gid")), (of(home.user), of(home.group)));
        assert_eq!((&*status("NoNewPrivs"), &*status("Seccomp")), ("1", "2"));
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            // Without rights nobody can give up what he might get, and with `no_new_privs` nobody gets any.
            if set != "CapBnd" || hold(&printed, Layer::UserNamespace) == "full" {
                assert_eq!(status(set), "0000000000000000", "{set}");
            }
        }
        for (layer, kind) in [
            (Layer::UserNamespace, "user"),
            (Layer::PidNamespace, "pid"),
            (Layer::MountNamespace, "mnt"),
            (Layer::NetworkNamespace, "net"),
            (Layer::IpcNamespace, "ipc"),
        ] {
            let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/{kind}")).unwrap();
            let is_own = namespace(&pid.to_string()) != namespace("self");
            assert_eq!(is_own, hold(&printed, layer) == "full", "{layer}\n{printed}");
        }
        if hold(&printed, Layer::UserNamespace) == "full" {
            // It stands for nobody else.
            let map = |id: u32| format!("{id} {id} 1");
            assert_eq!((words(pid, "uid_map"), words(pid, "gid_map")), (map(home.user), map(home.group)));
            assert_eq!(words(pid, "setgroups"), "deny");
        }
        if hold(&printed, Layer::MountNamespace) == "full" {
            let root = fs::read_dir(format!("/proc/{pid}/root")).unwrap();
            let found: Vec<_> = root.map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(found, ["0"], "the granted directory, and nothing else");
        }
    }
    // No process of a user's outlives what he started.
    assert!(procfs::kill(run.supervisor(), Signal::SIGKILL, |_| true));
    let ended = run.finish();
    assert!(!ended.status.success(), "{ended}");
}

#[test]
fn what_processes_pools_and_objects_promise() {
    let home = Home::new();
    for name in
        ["process_basics", "process_spawn", "pool_basics", "queue_basics", "shared_memory", "sync_lock"]
    {
        finish(&mut home.run(name)).expect_code(0);
    }
}

#[test]
fn a_deadlock_is_found_where_processes_are_hidden() {
    let home = Home::new();
    let mut command = home.run("deadlock_cases");
    command.args(["--", "locks"]);
    let ended = if nix::unistd::geteuid().is_root() {
        where_processes_are_hidden(|| finish(&mut command))
    } else {
        finish(&mut command)
    };
    ended.expect_code(DEADLOCK);
}

#[test]
fn granted_directories_are_what_the_user_may_do_there() {
    let home = Home::new();
    let (ro, rw) = (home.folder("ro"), home.folder("rw"));
    home.file("ro/input.txt", "from the host\n");
    let mut command = home.run("wasi_files");
    command.arg("--dir").arg(format!("{}:/ro:ro", ro.display()));
    command.arg("--dir").arg(format!("{}:/rw", rw.display()));
    let ended = finish(&mut command).expect_code(0);
    assert_eq!(ended.all("ok: ").last(), Some(&"nothing that wasn't granted"), "{ended}");
    for name in ["main.txt", "child.txt", "spawned.txt"] {
        home.expect_owner(&rw.join(name));
    }
    // It is granted to be written to, and not the user's to write to.
    fs::set_permissions(&rw, std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    fs::remove_file(rw.join("main.txt")).unwrap();
    let ended = finish(&mut command).expect_code(1);
    assert!(ended.stderr.contains("Permission denied"), "{ended}");
}

#[test]
fn a_map_is_the_users() {
    let home = Home::new();
    home.file("in", "one\ntwo\nthree\n");
    let mut command = home.sandpool();
    command.args(["map", "--jail-report", "--task", "upper", "--input", "in", "--output", "out"]);
    let ended = finish(command.arg(home.guest("tasks"))).expect_code(0);
    assert_eq!(fs::read_to_string(home.path("out")).unwrap(), "ONE\nTWO\nTHREE\n", "{ended}");
    home.expect_owner(&home.path("out"));
    assert_eq!(hold(&ended.stderr, Layer::Seccomp), "full", "{ended}");
    // A compiler has no group of processes to be in.
    for layer in Layer::ALL.into_iter().filter(|layer| *layer != Layer::ControlGroup) {
        let of_compiler = format!("{:26}  {}", format!("compiler/{layer}"), hold(&ended.stderr, layer));
        assert!(ended.stderr.lines().any(|line| line == of_compiler), "{of_compiler}\n{ended}");
    }
    // So is what was compiled for it.
    let modules = home.path(".cache/sandpool/modules");
    let mut entries = fs::read_dir(&modules).unwrap().map(|entry| entry.unwrap().path());
    home.expect_owner(&entries.next().unwrap());
}
