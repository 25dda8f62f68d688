//! The facts that `/proc` tells the supervisor of its children: guests may claim anything about themselves.
//!
//! This `/proc` is that of the owner's PID namespace, and isn't in the supervisor's own mount namespace: only a descriptor leads
//! there, which guests don't inherit. Processes have other numbers there than here; a pidfd's entry in `/proc/self/fdinfo` says
//! which (pidfd_open(2)).
//!
//! Where that `/proc` hides processes (the mount option `hidepid`), it hides the guests as well, because they can't be dumped. Then
//! the supervisor mounts the `/proc` of the PID namespace of the run, at no path.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::sys::namespace::Mount;
use crate::sys::process::pidfd_open;

pub(crate) struct Proc {
    /// `None` if no `/proc` is mounted: then nothing is told.
    root: Option<OwnedFd>,
    /// Whether processes have the same numbers there as here.
    has_own_numbers: bool,
}

impl Proc {
    /// Must be called in the PID namespace of the run, and before the file system goes out of reach.
    pub(crate) fn open() -> Self {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let outer = Self { root: open("/proc", flags, Mode::empty()).ok(), has_own_numbers: false };
        if outer.root.is_none() || !outer.hides() {
            return outer;
        }
        match Mount::processes() {
            Ok(own) => Self { root: Some(own.into()), has_own_numbers: true },
            Err(_) => outer,
        }
    }

    /// Whether processes that this one may not trace are hidden. The first process is one of them, or hides nothing.
    fn hides(&self) -> bool {
        self.read("1/stat").is_none()
    }

    /// Whether a process sleeps: it doesn't run, isn't ready to, isn't stopped, and isn't dead.
    pub(crate) fn is_asleep(&self, pid: u32) -> bool {
        // The name of the program, in parentheses, may hold anything.
        self.stat(pid)
            .is_some_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
    }

    /// The supervisor's children, including those that have ended and aren't reaped, by their numbers there; `None` where the
    /// kernel doesn't tell (`CONFIG_PROC_CHILDREN`).
    pub(crate) fn children(&self) -> Option<Vec<u32>> {
        let children = self.read("thread-self/children")?;
        Some(children.split_whitespace().filter_map(|number| number.parse().ok()).collect())
    }

    /// The number here of the process that has this number there; `None` if the process is gone.
    pub(crate) fn own_number(&self, number: u32) -> Option<u32> {
        if self.has_own_numbers {
            return Some(number);
        }
        let status = self.read(&format!("{number}/status"))?;
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
        numbers.split_whitespace().next_back()?.parse().ok()
    }

    fn stat(&self, pid: u32) -> Option<String> {
        if self.has_own_numbers {
            return self.read(&format!("{pid}/stat"));
        }
        let process = pidfd_open(i32::try_from(pid).ok()?).ok()?;
        let known = self.read(&format!("self/fdinfo/{}", process.as_raw_fd()))?;
        let number: u32 = known.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())?;
        self.read(&format!("{number}/stat"))
    }

    fn read(&self, path: &str) -> Option<String> {
        let opened = openat(self.root.as_ref()?, path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        let mut text = String::new();
        File::from(opened.ok()?).read_to_string(&mut text).ok()?;
        Some(text)
    }
}
