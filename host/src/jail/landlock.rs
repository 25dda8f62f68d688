//! Landlock: only the granted directories of the file system; no TCP port; no signal and no abstract socket that leads out of the
//! jail.
//!
//! The rules cover all kinds of access that the running kernel knows, so everything that no rule allows is refused. See
//! landlock(7).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::libc;

use super::report::LayerStatus;
use crate::config::DirGrant;
use crate::sys::landlock::{self as sys, Handled};

mod fs {
    pub(super) const WRITE_FILE: u64 = 1 << 1;
    pub(super) const READ_FILE: u64 = 1 << 2;
    pub(super) const READ_DIR: u64 = 1 << 3;
    pub(super) const REMOVE_DIR: u64 = 1 << 4;
    pub(super) const REMOVE_FILE: u64 = 1 << 5;
    pub(super) const MAKE_DIR: u64 = 1 << 7;
    pub(super) const MAKE_REG: u64 = 1 << 8;
    pub(super) const MAKE_SYM: u64 = 1 << 12;
    pub(super) const REFER: u64 = 1 << 13;
    pub(super) const TRUNCATE: u64 = 1 << 14;
}

/// Access by which WASI uses files that it may only read.
const READ: u64 = fs::READ_FILE | fs::READ_DIR;
/// Access by which WASI uses other files: without devices, sockets, and execution.
const WRITE: u64 = READ
    | fs::WRITE_FILE
    | fs::REMOVE_DIR
    | fs::REMOVE_FILE
    | fs::MAKE_DIR
    | fs::MAKE_REG
    | fs::MAKE_SYM
    | fs::REFER
    | fs::TRUNCATE;

/// The newest version of the ABI that is fully used here: that of Linux 7.2. Versions 7 and 8 restrict nothing more than 6.
const NEWEST: u32 = 10;

/// All access that a version of the ABI restricts, and how many fields of [`Handled`] the version has.
fn known(abi: u32) -> (Handled, usize) {
    let kinds_of_access = match abi {
        ..=1 => 13,
        2 => 14,
        3 | 4 => 15,
        5..=8 => 16,
        9.. => 17,
    };
    let handled = Handled {
        fs: (1 << kinds_of_access) - 1,
        // Bind and connect of TCP; bind, connect and send of UDP.
        net: match abi {
            ..=3 => 0,
            4..=9 => 0b11,
            10.. => 0b1111,
        },
        // Abstract sockets and signals.
        scoped: if abi >= 6 { 0b11 } else { 0 },
    };
    let fields = match abi {
        ..=3 => 1,
        4 | 5 => 2,
        6.. => 3,
    };
    (handled, fields)
}

/// How fully a version of the ABI holds, or that it may restrict more than is asked of it here. Where Landlock doesn't restrict
/// sockets in the file system (9) and UDP (10), other layers do: the mount namespace has no such socket, the network namespace has
/// no interface, and the policy for system calls has no socket at all.
fn status(abi: u32) -> LayerStatus {
    if abi > NEWEST {
        let problem =
            format!("this kernel's version, {abi}, may restrict more than the newest known here, {NEWEST}");
        return LayerStatus::Partial(problem);
    }
    let missing: Vec<_> = [
        (2, "moving files between directories"),
        (3, "truncation"),
        (4, "TCP"),
        (5, "ioctl on devices"),
        (6, "signals and abstract sockets"),
    ]
    .into_iter()
    .filter(|(since, _)| abi < *since)
    .map(|(_, what)| what)
    .collect();
    match *missing {
        [] => LayerStatus::Full,
        _ => LayerStatus::Partial(format!(
            "this kernel's version, {abi}, doesn't restrict {}",
            missing.join(", ")
        )),
    }
}

/// The rules for processes that have these directories, and how fully they hold.
pub(super) fn prepare(dirs: &[DirGrant]) -> io::Result<(Option<OwnedFd>, LayerStatus)> {
    let abi = match sys::abi() {
        Ok(abi) => abi,
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return Ok((None, LayerStatus::Absent("the kernel has it switched off".to_owned())));
        }
        Err(error) => return Ok((None, LayerStatus::Absent(format!("the kernel doesn't have it: {error}")))),
    };
    let (handled, fields) = known(abi);
    let ruleset = sys::ruleset(&handled, fields)?;
    for dir in dirs {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let directory = File::options().read(true).custom_flags(flags).open(&dir.host)?;
        let allowed = if dir.is_read_only { READ } else { WRITE };
        sys::allow_beneath(ruleset.as_fd(), directory.as_fd(), allowed & handled.fs)?;
    }
    Ok((Some(ruleset), status(abi)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn each_version_handles_all_that_it_knows() {
        assert_eq!(known(1).0.fs, 0x1fff);
        assert_eq!((known(3).0.fs, known(3).0.net, known(3).1), (0x7fff, 0, 1));
        assert_eq!((known(4).0.net, known(4).0.scoped, known(4).1), (3, 0, 2));
        assert_eq!((known(7).0.fs, known(7).0.scoped, known(7).1), (0xffff, 3, 3));
        assert_eq!((known(8).0.fs, known(9).0.fs, known(9).0.net), (0xffff, 0x1_ffff, 3));
        assert_eq!((known(10).0.net, known(NEWEST + 1).0.net), (0xf, 0xf));
    }

    #[test]
    fn what_a_version_lacks_is_told() {
        assert_eq!(status(6), LayerStatus::Full);
        assert_eq!(status(8), LayerStatus::Full);
        assert_eq!(status(NEWEST), LayerStatus::Full);
        assert!(matches!(status(NEWEST + 1), LayerStatus::Partial(what) if what.contains("11")));
        let LayerStatus::Partial(missing) = status(4) else { panic!("{:?}", status(4)) };
        assert!(
            missing.contains("ioctl") && missing.contains("signals") && !missing.contains("TCP"),
            "{missing}"
        );
    }

    /// The numbers of landlock(7). None of them allows executing, or making or controlling a device, a socket or a pipe.
    #[test]
    fn what_is_granted_is_no_more_than_wasi_does_to_files() {
        const NAMES: [&str; 17] = [
            "execute",
            "write_file",
            "read_file",
            "read_dir",
            "remove_dir",
            "remove_file",
            "make_char",
            "make_dir",
            "make_reg",
            "make_sock",
            "make_fifo",
            "make_block",
            "make_sym",
            "refer",
            "truncate",
            "ioctl_dev",
            "resolve_unix",
        ];
        let names = |access: u64| -> Vec<&str> {
            NAMES
                .into_iter()
                .zip(0..)
                .filter(|(_, bit)| access & 1 << bit != 0)
                .map(|(name, _)| name)
                .collect()
        };
        assert_eq!((READ | WRITE) & !known(NEWEST).0.fs, 0);
        assert_eq!(names(READ), ["read_file", "read_dir"]);
        let writes = [
            "write_file",
            "read_file",
            "read_dir",
            "remove_dir",
            "remove_file",
            "make_dir",
            "make_reg",
            "make_sym",
            "refer",
            "truncate",
        ];
        assert_eq!(names(WRITE), writes);
        // A version can't be asked to restrict access that it doesn't know.
        assert_eq!(names(WRITE & known(1).0.fs), writes.split_last_chunk::<2>().unwrap().0);
    }
}
