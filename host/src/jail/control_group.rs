//! The control group of a run: the kernel counts what all guests of the run use together (cgroups(7), version 2). The limits that
//! the run keeps by itself are those of WebAssembly; these limits hold native code as well, and root.
//!
//! # Where one comes from
//!
//! The manager of the machine's groups delegates a group: with systemd by `Delegate=yes`, which marks the group with the attribute
//! `user.delegate` or `trusted.delegate`. The nearest marked group, from the program's own upwards, gets a group for each run.
//! Nothing is ever made in other groups. The kernel gives limits only to the subgroups of a group that has no process of its own.
//! So the program has to be in a subgroup of the delegated group (`DelegateSubgroup=`); otherwise there is no limit, and the report
//! says so.
//!
//! ```text
//!  delegated ─┬─ wherever the owner is       owner, supervisor
//!             └─ sandpool-run-PID-N          fork server, guests: pids.max, memory.max
//! ```
//!
//! Guests are born into the group, by clone3(2). The supervisor stays outside, so that the kernel can't choose it when it kills for
//! want of memory, and so that it can remove the group when the guests are gone.
//!
//! # Nothing is left
//!
//! The supervisor has a lock on the directory of its group for as long as it lives. A group without a lock is abandoned: an owner
//! that has lost a supervisor, and each run that begins, removes such groups with all processes in them.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::processes;
use super::report::{LayerStatus, reason};
use crate::Limits;
use crate::sys::fd::attribute;

/// The beginning of the names of all groups of runs. Two numbers follow.
const NAME: &str = "sandpool-run-";

/// Marks by which systemd says that the user of a group may make others in it. The second mark is visible to root only.
const MARKS: [&CStr; 2] = [c"user.delegate", c"trusted.delegate"];

/// The most memory that a process has for itself, beside its WebAssembly's, its stack and its part of the arena, in bytes.
const OVERHEAD: u64 = 8 << 20;

/// How long the kernel may take to end killed processes, in milliseconds.
const KILLED: u16 = 1000;

/// Limits of what all guests of a run may use together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    processes: u64,
    /// bytes; `None` for no limit
    memory: Option<u64>,
}

impl Shares {
    /// The sum of a run's limits. Guests that keep to these limits never reach it.
    pub(crate) fn from_limits(limits: &Limits) -> Self {
        let processes = u64::from(limits.processes_max);
        let memory = limits.run_memory_max.map(|memory| {
            let others = processes.saturating_mul(limits.stack_max.saturating_add(OVERHEAD));
            // Data that is put or taken is in the linear memory and once more in the host's; and the arena has its tables.
            memory.saturating_add(limits.arena_size).saturating_mul(2).saturating_add(others)
        });
        Self { processes: processes.saturating_add(processes::OWN), memory }
    }

    /// The controllers, and for each the file and the value of the limit that needs it.
    fn needed(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let memory = self.memory.map(|bytes| ("memory", "memory.max", bytes));
        [("pids", "pids.max", self.processes)].into_iter().chain(memory)
    }
}

/// A group in which others can be made.
#[derive(Debug)]
pub(crate) struct Delegated(OwnedFd);

/// The group that is delegated to this process, or `None`. Removes first what lost supervisors have left in the group.
///
/// Must be called before this process's file system goes out of reach.
pub(crate) fn delegated() -> Option<Delegated> {
    let read = |path| fs::read_to_string(path).ok();
    let (own, top) = own_path(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)?;
    own.ancestors().take_while(|path| path.starts_with(&top)).find_map(|path| {
        let directory = OwnedFd::from(File::open(path).ok()?);
        let is_marked = |mark: &&CStr| attribute(directory.as_fd(), mark).as_deref() == Some(b"1");
        MARKS.iter().any(is_marked).then(|| {
            remove_abandoned_in(path, directory.as_fd());
            Delegated(directory)
        })
    })
}

/// Removes groups that lost supervisors have left in the group that is delegated to this process.
pub(crate) fn remove_abandoned() {
    drop(delegated());
}

/// The directory of the calling process's group, and the one where its file system begins, according to `/proc`.
fn own_path(groups: &str, mounts: &str) -> Option<(PathBuf, PathBuf)> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        // See proc_pid_mountinfo(5).
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, top) = (fields.next()?, fields.next()?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        file_system.starts_with("cgroup2 ").then(|| (Path::new(top).join(below), PathBuf::from(top)))
    })
}

/// Whether [`Delegated::make`] gives such names. Other groups aren't ours, and their processes must not be killed.
fn is_of_a_run(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = name.strip_prefix(NAME).and_then(|numbers| numbers.split_once('-'));
    numbers.is_some_and(|(run, again)| is_number(run) && is_number(again))
}

/// Removes the groups of runs whose supervisor is gone.
fn remove_abandoned_in(path: &Path, parent: BorrowedFd<'_>) {
    for name in fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name()) {
        let Some(name) = name.to_str().filter(|name| is_of_a_run(name)) else { continue };
        // A group that can't be opened belongs to another user.
        let Ok(directory) = open_directory(parent, name) else { continue };
        if directory.try_lock().is_ok() {
            remove(parent, name, &directory);
        }
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(File::from(openat(parent, name, flags, Mode::empty())?))
}

/// Kills all processes of a group, and removes the group.
fn remove(parent: BorrowedFd<'_>, name: &str, directory: &File) {
    // Exists since Linux 5.14. Before, the processes end with their supervisor, or the supervisor kills them.
    let _ = write(directory.as_fd(), "cgroup.kill", "1");
    let events = openat(directory, "cgroup.events", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    let removed = || unlinkat(parent, name, UnlinkatFlags::RemoveDir);
    while removed() == Err(Errno::EBUSY)
        && let Ok(events) = &events
        // The file reports when the group has no more processes.
        && poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], KILLED).is_ok_and(|news| news > 0)
    {
        // Without this read, the next poll would return at once with the same event.
        let _ = nix::sys::uio::pread(events, &mut [0; 64], 0);
    }
}

/// Reads a file of a group.
fn read(directory: BorrowedFd<'_>, file: &str) -> io::Result<String> {
    let opened = openat(directory, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    io::read_to_string(File::from(opened))
}

/// Writes to a file of a group.
fn write(directory: BorrowedFd<'_>, file: &str, text: &str) -> io::Result<()> {
    let opened = openat(directory, file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    File::from(opened).write_all(text.as_bytes())
}

impl Delegated {
    /// Makes the group of a run, and reports how fully it holds. `run` is a number that no other run is likely to have.
    pub(crate) fn make(self, run: u32, shares: Shares) -> (Option<ControlGroup>, LayerStatus) {
        let (name, directory) = match self.make_directory(run) {
            Ok(made) => made,
            Err(error) => return (None, LayerStatus::Absent(reason(&error))),
        };
        let group = ControlGroup { parent: self.0, name, directory };
        // The kernel would still set some limits, those of threads, but take no process in.
        let is_inhabited =
            read(group.parent.as_fd(), "cgroup.procs").is_ok_and(|processes| !processes.is_empty());
        let missing = shares.needed().filter_map(|(controller, file, most)| {
            let limited = match is_inhabited {
                true => Err(io::Error::from(Errno::EBUSY)),
                false => group.limit(controller, file, most),
            };
            Some(format!("{file}: {}", why_unlimited(&limited.err()?)))
        });
        let missing = missing.collect::<Vec<_>>().join(", ");
        match read(group.directory.as_fd(), "cgroup.type").map(|kind| kind.trim() == "domain") {
            Ok(true) => {}
            Ok(false) => {
                return (None, LayerStatus::Absent("the delegated group is one of threads".to_owned()));
            }
            Err(error) => return (None, LayerStatus::Absent(reason(&error))),
        }
        (Some(group), if missing.is_empty() { LayerStatus::Full } else { LayerStatus::Partial(missing) })
    }

    fn make_directory(&self, run: u32) -> io::Result<(String, File)> {
        let parent = self.0.as_fd();
        let mut again = 0;
        loop {
            let name = format!("{NAME}{run}-{again}");
            again += 1;
            match mkdirat(parent, name.as_str(), Mode::from_bits_truncate(0o755)) {
                Err(Errno::EEXIST) => continue,
                made => made?,
            }
            // Until the group is locked, it looks abandoned: another run may have removed it.
            let directory = match open_directory(parent, &name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            directory.lock()?;
            let number = directory.metadata()?.ino();
            if fstatat(parent, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| stat.st_ino == number)
            {
                return Ok((name, directory));
            }
        }
    }
}

/// Why a group has no limits.
fn why_unlimited(error: &io::Error) -> String {
    match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
        // See "no internal processes" in cgroups(7).
        Errno::EBUSY => "there are processes in the delegated group itself".to_owned(),
        Errno::ENOENT | Errno::EINVAL => "the delegated group has no such controller".to_owned(),
        _ => reason(error),
    }
}

/// The group of a run. Dropping this removes the group, with all processes in it.
#[derive(Debug)]
pub(crate) struct ControlGroup {
    parent: OwnedFd,
    name: String,
    /// locked
    directory: File,
}

impl ControlGroup {
    /// Sets a limit that the kernel enforces.
    fn limit(&self, controller: &str, file: &str, most: u64) -> io::Result<()> {
        write(self.parent.as_fd(), "cgroup.subtree_control", &format!("+{controller}"))?;
        write(self.directory.as_fd(), file, &most.to_string())
    }

    /// The directory of the group, into which processes are born.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        remove(self.parent.as_fd(), &self.name, &self.directory);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn the_own_group_is_found_wherever_groups_are_mounted() {
        let mounts = "29 1 0:26 / /sys rw - sysfs sysfs rw\n\
            33 29 0:30 / /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids\n\
            34 29 0:31 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "8:pids:/elsewhere\n0::/user.slice/a.service/b\n";
        let found = own_path(hybrid, mounts).unwrap();
        assert_eq!(found, ("/sys/fs/cgroup/user.slice/a.service/b".into(), "/sys/fs/cgroup".into()));
        assert_eq!(own_path("0::/\n", mounts).unwrap().0, Path::new("/sys/fs/cgroup"));
        let part = "34 29 0:31 /user.slice /groups rw - cgroup2 cgroup2 rw\n";
        assert_eq!(own_path(hybrid, part).unwrap().0, Path::new("/groups/a.service/b"));
        assert_eq!(own_path("0::/other\n", part), None);
        assert_eq!(own_path("8:pids:/elsewhere\n", mounts), None);
        assert_eq!(own_path(hybrid, "29 1 0:26 / /sys rw - sysfs sysfs rw\n"), None);
    }

    #[test]
    fn groups_of_others_are_left_alone() {
        assert!(is_of_a_run("sandpool-run-4711-0"));
        for name in
            ["sandpool-run", "sandpool-run-", "sandpool-run-1", "sandpool-run-1-", "sandpool-run-1-x", "leaf"]
        {
            assert!(!is_of_a_run(name), "{name}");
        }
    }

    #[test]
    fn shares_leave_room_for_whoever_keeps_to_the_limits() {
        let limits = Limits { processes_max: 10, run_memory_max: Some(1 << 30), ..Limits::default() };
        let needed: Vec<_> = Shares::from_limits(&limits).needed().collect();
        let memory = 2 * ((1 << 30) + limits.arena_size) + 10 * (limits.stack_max + OVERHEAD);
        assert_eq!(needed, [("pids", "pids.max", 18), ("memory", "memory.max", memory)]);
        let unlimited = Limits { processes_max: u32::MAX, run_memory_max: Some(u64::MAX), ..limits };
        assert_eq!(Shares::from_limits(&unlimited).memory, Some(u64::MAX));
        assert_eq!(Shares::from_limits(&Limits::default()).needed().count(), 1);
    }
}
