//! Control groups. None is used yet; this only finds out whether one could be.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::Hold;

/// Why there is none.
pub(super) fn hold() -> Hold {
    Hold::Absent(match delegated() {
        true => "this version of Sandpool doesn't use the one that is delegated".to_owned(),
        false => "none is delegated".to_owned(),
    })
}

/// Whether this process is in a control group of version 2 that it may divide, with a controller to do it by.
fn delegated() -> bool {
    let Ok(groups) = std::fs::read_to_string("/proc/self/cgroup") else { return false };
    let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else { return false };
    let folder = Path::new("/sys/fs/cgroup").join(group);
    let controllers = std::fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    let is_ours = access(&folder, AccessFlags::W_OK).is_ok();
    is_ours && controllers.split_whitespace().any(|controller| ["memory", "pids"].contains(&controller))
}
