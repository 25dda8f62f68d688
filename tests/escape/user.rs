//! The same program as an ordinary user.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::delegated::{self, Delegated};

/// Of the user and the group.
const NOBODY: u32 = 65534;

/// This process is below a delegated control group, for as long as this lives.
pub(crate) struct Membership {
    delegated: Delegated,
    before: PathBuf,
}

impl Membership {
    pub(crate) fn new() -> Option<Self> {
        let before = delegated::own()?;
        let delegated = Delegated::new()?;
        fs::write(delegated.below().join("cgroup.procs"), "0").unwrap();
        Some(Self { delegated, before })
    }

    /// As systemd does it for a user.
    pub(crate) fn give_to_nobody(&self) {
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            chown(self.delegated.path.join(file), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        fs::write(self.before.join("cgroup.procs"), "0").unwrap();
    }
}

/// Whether this program finds the same when user and group of nobody run it: a copy, where they can read it.
pub(crate) fn holds_an_ordinary_user(arguments: &[&str]) -> bool {
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("escape");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [home.path(), &program] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(home.path()).env("HOME", home.path());
    for name in ["SANDPOOL_CACHE_DIR", "XDG_CACHE_HOME", "TMPDIR"] {
        command.env_remove(name);
    }
    // Other groups go with it.
    command.uid(NOBODY).gid(NOBODY).status().unwrap().success()
}
