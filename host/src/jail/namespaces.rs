//! The namespaces of a run. Its supervisor enters them before anything of the run exists, and all guests inherit them. A compiler
//! enters the same namespaces, without any directory.
//!
//! # Which process is the supervisor
//!
//! A process can't enter a PID namespace; only its children can be born in one. So the program that the owner starts forks once
//! more, into the new namespaces, with `CLONE_PARENT`: the new process is a child of the owner as well, and is the supervisor from
//! then on; the other one ends. There is no process between owner and supervisor that could die on its own. The supervisor is the
//! first process of its PID namespace. However it ends, the kernel kills all other processes there, and doesn't let it be waited
//! for before they are gone.
//!
//! ```text
//!  owner          program              supervisor
//!    │ ── start ──▶ │
//!    │              │ ── clone ──────────▶ │  waits
//!    │              │    maps user ids     │
//!    │ ◀── Moved ── │
//!    │              │ ── go on ──────────▶ │  enters the other namespaces, loads the module, …
//!    │   reaps it ─ ┘                      │
//!    │ ◀───────────────────── Started ──── │
//! ```
//!
//! # Which there are
//!
//! * **user**: lets anyone have the others. Each id stands for itself, so granted files are used with the same rights as
//!   before. All that its owner has ids for are mapped if the owner may do that, as root may; else the owner's own.
//! * **PID**: see above. No process outside of the run has a number there.
//! * **mount**: nothing but an empty file system, which nobody can write to, with the granted directories in it by
//!   number: without devices, without programs, and read-only if they were granted so.
//! * **network**: no interface but a loopback that is down.
//! * **IPC**: System V's and POSIX' objects.
//!
//! A namespace that can't be had is reported as absent, with the reason, and the others are entered all the same. Root needs no
//! user namespace for them.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use nix::fcntl::OFlag;
use nix::libc;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;

use super::processes::{self, Own};
use super::report::{LayerStatus, reason};
use crate::config::DirGrant;
use crate::config::Layer;
use crate::sys::clone::Fork;
use crate::sys::namespace::{self, Mount};

/// The role of the process that returns from [`enter`].
pub(crate) enum Entered<T> {
    /// The process that is in these layers: the supervisor, or the compiler. With the result of its last look outside.
    Inside(Vec<(Layer, LayerStatus)>, T),
    /// A process that has nothing more to do.
    Predecessor,
}

/// Enters all available namespaces, except those that aren't wanted. The paths of granted directories are then those inside of the
/// namespaces.
///
/// Inside, the kernel allows no more than this number of processes, and a few, if it can be limited.
///
/// If another process goes on, its number is passed to `moved` before that process does anything. The process that goes on calls
/// `last_look` when it is in its namespaces of processes and mounts, and the files of outside are still in reach.
pub(crate) fn enter<T>(
    dirs: &mut [DirGrant],
    processes: u64,
    is_wanted: impl Fn(Layer) -> bool,
    moved: impl FnOnce(u32) -> io::Result<()>,
    last_look: impl FnOnce() -> T,
) -> io::Result<Entered<T>> {
    let born_into =
        [(Layer::UserNamespace, CloneFlags::CLONE_NEWUSER), (Layer::PidNamespace, CloneFlags::CLONE_NEWPID)];
    let wanted: CloneFlags =
        born_into.iter().filter(|(layer, _)| is_wanted(*layer)).map(|(_, flag)| *flag).collect();
    let Some(forked) = fork_into(wanted, moved)? else { return Ok(Entered::Predecessor) };
    let mut layers: Vec<_> = born_into
        .into_iter()
        .map(|(layer, flag)| {
            (layer, if wanted.contains(flag) { forked.status(flag) } else { LayerStatus::Off })
        })
        .collect();

    // This must come before the files that say so go out of reach.
    let limited = match is_wanted(Layer::ProcessLimit) {
        true => {
            let has = |flag| forked.namespaces.contains(flag);
            let own = Own { user: has(CloneFlags::CLONE_NEWUSER), pid: has(CloneFlags::CLONE_NEWPID) };
            processes::enter(processes, own)
        }
        false => LayerStatus::Off,
    };
    layers.push((Layer::ProcessLimit, limited));

    let mut own = is_wanted(Layer::MountNamespace).then(own_mounts);
    let seen = last_look();

    let mut enter = |layer, enter: &mut dyn FnMut() -> io::Result<()>| {
        let status = match is_wanted(layer) {
            true => enter().map_or_else(|error| LayerStatus::Absent(reason(&error)), |()| LayerStatus::Full),
            false => LayerStatus::Off,
        };
        layers.push((layer, status));
    };
    enter(Layer::MountNamespace, &mut || {
        own.take().transpose()?;
        keep_only(dirs)
    });
    enter(Layer::NetworkNamespace, &mut || Ok(unshare(CloneFlags::CLONE_NEWNET)?));
    enter(Layer::IpcNamespace, &mut || Ok(unshare(CloneFlags::CLONE_NEWIPC)?));
    Ok(Entered::Inside(layers, seen))
}

/// The results of the attempts to be born into namespaces.
struct Forked {
    /// The namespaces that the supervisor was born into.
    namespaces: CloneFlags,
    /// The namespaces that couldn't be had, and why.
    refused: Vec<(CloneFlags, io::Error)>,
    /// Why ids aren't mapped, if they aren't.
    unmapped: Option<io::Error>,
}

impl Forked {
    /// How fully one of the namespaces holds.
    fn status(&self, flag: CloneFlags) -> LayerStatus {
        if !self.namespaces.contains(flag) {
            let refused = self.refused.iter().rfind(|(flags, _)| flags.contains(flag));
            return LayerStatus::Absent(refused.map_or_else(String::new, |(_, error)| reason(error)));
        }
        match &self.unmapped {
            Some(error) if flag == CloneFlags::CLONE_NEWUSER => {
                LayerStatus::Partial(format!("without a map of ids: {}", reason(error)))
            }
            _ => LayerStatus::Full,
        }
    }
}

/// Forks into all of these namespaces, or into those that can be had. `None` in the process that isn't the supervisor.
fn fork_into(wanted: CloneFlags, moved: impl FnOnce(u32) -> io::Result<()>) -> io::Result<Option<Forked>> {
    let user = wanted & CloneFlags::CLONE_NEWUSER;
    let mut forked = Forked { namespaces: CloneFlags::empty(), refused: Vec::new(), unmapped: None };
    for namespaces in [wanted, user, wanted - user] {
        if namespaces.is_empty() || forked.refused.iter().any(|(refused, _)| *refused == namespaces) {
            continue;
        }
        let (theirs, ours) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        match namespace::fork_sibling_into(namespaces) {
            Ok(Fork::Parent(child)) => {
                let mapped =
                    if namespaces.contains(CloneFlags::CLONE_NEWUSER) { map_ids(child) } else { Ok(()) };
                let errno = mapped.err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
                moved(child.unsigned_abs())?;
                fs::File::from(ours).write_all(&errno.to_ne_bytes())?;
                return Ok(None);
            }
            Ok(Fork::Child) => {
                drop(ours);
                let mut errno = [0; size_of::<i32>()];
                // Nothing comes if the owner couldn't be told: then nobody needs a supervisor.
                fs::File::from(theirs).read_exact(&mut errno)?;
                let errno = i32::from_ne_bytes(errno);
                forked.unmapped = (errno != 0).then(|| io::Error::from_raw_os_error(errno));
                forked.namespaces = namespaces;
                break;
            }
            Err(error) => forked.refused.push((namespaces, error)),
        }
    }
    Ok(Some(forked))
}

/// Maps each user and group of a process's new user namespace to itself.
fn map_ids(process: i32) -> io::Result<()> {
    let (user, group) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    for (kind, own) in [("uid", user), ("gid", group)] {
        let map = format!("/proc/{process}/{kind}_map");
        let all: String = fs::read_to_string(format!("/proc/self/{kind}_map"))?
            .lines()
            .filter_map(|line| {
                let mut fields = line.split_whitespace();
                let (first, _, count) = (fields.next()?, fields.next()?, fields.next()?);
                Some(format!("{first} {first} {count}\n"))
            })
            .collect();
        if fs::write(&map, all).is_ok() {
            continue;
        }
        // An unprivileged process may map only its own group, and not as a way to leave groups (user_namespaces(7)).
        if kind == "gid" {
            fs::write(format!("/proc/{process}/setgroups"), "deny")?;
        }
        fs::write(&map, format!("{own} {own} 1\n"))?;
    }
    Ok(())
}

/// Enters a mount namespace that has all that is mounted.
fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    namespace::make_mounts_private()
}

/// Leaves nothing in this mount namespace but the granted directories, and sets their paths there.
fn keep_only(dirs: &mut [DirGrant]) -> io::Result<()> {
    let granted = dirs.iter().map(|dir| {
        let mount = Mount::copy_of(&dir.host)?;
        mount.restrict(dir.is_read_only)?;
        Ok(mount)
    });
    let granted = granted.collect::<io::Result<Vec<_>>>()?;
    let names = (0..granted.len()).map(|number| CString::new(number.to_string()));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let root = Mount::empty()?;
    for name in &names {
        nix::sys::stat::mkdirat(root.directory(), &**name, Mode::S_IRWXU)?;
    }
    root.restrict(true)?;
    root.attach(nix::fcntl::AT_FDCWD, c"/")?;
    for (name, mount) in names.iter().zip(&granted) {
        mount.attach(root.directory(), name)?;
    }
    nix::unistd::fchdir(root.directory())?;
    namespace::pivot_root()?;
    for (number, dir) in dirs.iter_mut().enumerate() {
        dir.host = PathBuf::from(format!("/{number}"));
    }
    namespace::unmount_here()?;
    nix::unistd::chdir("/")?;
    Ok(())
}
