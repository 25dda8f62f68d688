//! A control group as a manager of groups would delegate it.

use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::poll::{PollFd, PollFlags, poll};
use rustix::fs::{XattrFlags, setxattr};

/// How long processes that have ended may stay in a group, in milliseconds.
const MOMENT: u16 = 10_000;

/// The delegated group. There is one below, for those who are to have groups made.
pub(crate) struct Delegated {
    pub(crate) path: PathBuf,
}

impl Delegated {
    /// `None` where this program may make no group, which it says.
    pub(crate) fn new() -> Option<Self> {
        let made = Self::make();
        if made.is_none() {
            eprintln!("no control group can be made here, and so nothing is delegated");
        }
        made
    }

    fn make() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tests-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = own()?.join(name);
        fs::create_dir(&path).ok()?;
        let delegated = Self { path };
        fs::create_dir(delegated.below()).ok()?;
        // The second is what others than root can read.
        for mark in ["trusted.delegate", "user.delegate"] {
            setxattr(&delegated.path, mark, b"1", XattrFlags::empty()).ok()?;
        }
        Some(delegated)
    }

    pub(crate) fn below(&self) -> PathBuf {
        self.path.join("command")
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        // Processes that have ended may be in it for a moment. The kernel says when there are none any more.
        let mut events = File::open(self.path.join("cgroup.events")).unwrap();
        let mut is_empty = || {
            events.rewind().unwrap();
            io::read_to_string(&events).unwrap().contains("populated 0")
                || poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], MOMENT) == Ok(0)
        };
        while !is_empty() {}
        let below = fs::read_dir(&self.path).unwrap().flatten();
        below.filter(|entry| entry.path().is_dir()).for_each(|group| drop(fs::remove_dir(group.path())));
        let removed = fs::remove_dir(&self.path);
        assert!(std::thread::panicking() || removed.is_ok(), "{}: {removed:?}", self.path.display());
    }
}

/// The directory of this process's group.
pub(crate) fn own() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let top = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    Some(Path::new(top).join(group_of(std::process::id()).strip_prefix('/')?))
}

/// The group that a process is in, as the kernel writes it.
pub(crate) fn group_of(pid: u32) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned()
}
