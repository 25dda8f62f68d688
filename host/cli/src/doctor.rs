//! Checks whether this machine has everything that Sandpool needs, and says what to do about the rest.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, access, geteuid};
use sandpool::command_support::{CacheDirs, linux_version};
use sandpool::jail::{JailReport, Jailed, Layer, LayerStatus};

use crate::exit_code::ExitCode;
use crate::toolchain::{Compiler, Toolchain};

/// The first Linux with everything that Sandpool uses: pidfd, futexes, sealed memory, Landlock.
const LINUX_MIN: (u32, u32) = (5, 13);
/// The default number of processes of a run, plus some of the user's own.
const PROCESSES_MIN: u64 = 1200;
/// Descriptors that a supervisor needs with this number of guests.
const FILES_MIN: u64 = 1024;

/// Bytes of addresses that a process takes with the default limits: its memory, the arena, the program.
const SPACE_MIN: u64 = 8 << 30;
/// Bytes of the largest file: the arena, with its tables.
const FILE_MIN: u64 = 2 << 30;

/// How a [`Check`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckState {
    /// The thing was found.
    Ok,
    /// Sandpool works, but more slowly or with a lower limit.
    Warn,
    /// Sandpool doesn't work without the thing.
    Missing,
}

/// One thing that Sandpool needs or profits from.
#[derive(Debug)]
pub(crate) struct Check {
    /// Name of the thing.
    pub(crate) name: &'static str,
    /// Result of the check.
    pub(crate) state: CheckState,
    /// Description of what was found.
    pub(crate) detail: String,
    /// Advice on what to do, if there is something to do.
    pub(crate) fix: Option<String>,
    /// The exit code of `sandpool doctor` if the thing is [missing](CheckState::Missing).
    pub(crate) exit_code: ExitCode,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: CheckState::Ok, detail: detail.into(), fix: None, exit_code: ExitCode::Internal }
    }

    fn warn(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: CheckState::Warn, fix: Some(fix.into()), ..Self::ok(name, detail) }
    }

    fn missing(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { state: CheckState::Missing, ..Self::warn(name, detail, fix) }
    }
}

/// Looks at everything, and changes nothing.
pub(crate) fn checks() -> Vec<Check> {
    let sysctl = |name: &str| read(&format!("/proc/sys/{name}"));
    let huge_pages = |name: &str| read(&format!("/sys/kernel/mm/transparent_hugepage/{name}"));
    let mut checks = vec![
        cargo(),
        guest_toolchain(),
        compiler_of_c(),
        linux(sysctl("kernel/osrelease").as_deref()),
        sealed_memory(),
        system_calls(read("/proc/self/status").as_deref()),
        guest_memory(huge_pages("enabled").as_deref()),
        arena_memory(huge_pages("shmem_enabled").as_deref()),
        limit("processes", Resource::RLIMIT_NPROC, PROCESSES_MIN, "ulimit -u"),
        limit("open files", Resource::RLIMIT_NOFILE, FILES_MIN, "ulimit -n"),
        bytes("address space", getrlimit(Resource::RLIMIT_AS), SPACE_MIN, "ulimit -v", "--memory-max"),
        bytes("file size", getrlimit(Resource::RLIMIT_FSIZE), FILE_MIN, "ulimit -f", "--arena-size"),
        cache(),
    ];
    for (name, what, jailed) in
        [("jail", "the supervisor", Jailed::Run), ("compiler/jail", "the compiler", Jailed::Compiler)]
    {
        match JailReport::survey(jailed) {
            Ok(jail) => {
                checks.extend(jail.layers().map(|(layer, status)| layer_of_jail(jail.of(), layer, status)));
            }
            Err(error) => checks.push(Check::warn(
                name,
                format!("not known: {error}"),
                error.hint().unwrap_or_else(|| format!("see what ends {what}")),
            )),
        }
    }
    checks
}

fn read(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn cargo() -> Check {
    let version = Command::new("cargo").arg("--version").output();
    match version.ok().filter(|output| output.status.success()) {
        Some(output) => Check::ok("cargo", String::from_utf8_lossy(&output.stdout).trim()),
        None => Check {
            exit_code: ExitCode::Toolchain,
            ..Check::missing("cargo", "cannot be run", "install Rust with rustup")
        },
    }
}

fn guest_toolchain() -> Check {
    match Toolchain::find() {
        Ok(toolchain) => Check::ok("guest toolchain", toolchain.to_string()),
        Err(error) => Check {
            exit_code: ExitCode::Toolchain,
            ..Check::missing("guest toolchain", error.to_string(), error.hint())
        },
    }
}

fn compiler_of_c() -> Check {
    match Compiler::find() {
        Ok(compiler) => Check::ok("C toolchain", compiler.to_string()),
        Err(error) => Check::warn("C toolchain", error.to_string(), error.hint()),
    }
}

fn linux(release: Option<&str>) -> Check {
    let (major, minor) = LINUX_MIN;
    let fix = format!("run Linux {major}.{minor} or later");
    match release.and_then(|release| Some((release, linux_version(release)?))) {
        Some((release, version)) if version >= LINUX_MIN => {
            Check::ok("linux", format!("{release}, which has pidfd and futexes"))
        }
        Some((release, _)) => Check::missing("linux", release, fix),
        None => Check::missing("linux", "the version is not known", fix),
    }
}

fn sealed_memory() -> Check {
    let sealed = memfd_create(c"sandpool-doctor", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .and_then(|file| {
            fcntl(
                &file,
                FcntlArg::F_ADD_SEALS(
                    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL,
                ),
            )
        });
    match sealed {
        Ok(_) => Check::ok("shared memory", "memfd_create, with seals"),
        Err(error) => Check::missing(
            "shared memory",
            format!("memfd_create: {error}"),
            "allow it in the container's policy",
        ),
    }
}

/// A filter of system calls that this process runs under can hide calls that the kernel has.
fn system_calls(status: Option<&str>) -> Check {
    let mode = status.and_then(|status| status.lines().find_map(|line| line.strip_prefix("Seccomp:")));
    match mode.map(str::trim) {
        Some("0") | None => Check::ok("system calls", "not filtered"),
        Some(_) => Check::warn(
            "system calls",
            "filtered by seccomp, as in a container",
            "if runs fail to start, allow clone, pidfd_open and memfd_create in the container's policy",
        ),
    }
}

/// The chosen word of `always [madvise] never`.
fn chosen(setting: Option<&str>) -> &str {
    let word = || setting?.split_once('[')?.1.split_once(']').map(|(word, _)| word);
    word().unwrap_or("none")
}

fn guest_memory(enabled: Option<&str>) -> Check {
    match chosen(enabled) {
        word @ ("always" | "madvise") => Check::ok("huge pages of guests", word),
        word => Check::warn(
            "huge pages of guests",
            format!(
                "{word}, so a fork of a guest takes time by the memory that it has touched (64 MiB: 3 ms)"
            ),
            "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
        ),
    }
}

/// Checks the huge pages of the arena. The result is only a note: without huge pages the arena is a little slower the first time
/// each page of it is touched.
fn arena_memory(shmem_enabled: Option<&str>) -> Check {
    Check::ok("huge pages of the arena", chosen(shmem_enabled))
}

fn limit(name: &'static str, resource: Resource, min: u64, command: &str) -> Check {
    match getrlimit(resource) {
        Ok((soft, _)) if soft == nix::libc::RLIM_INFINITY => Check::ok(name, "unlimited"),
        Ok((soft, _)) if soft >= min => Check::ok(name, soft.to_string()),
        Ok((soft, _)) => Check::warn(
            name,
            format!("{soft}, which is less than a run of 1024 processes needs"),
            format!("`{command} {min}`, or fewer processes (`sandpool run --processes-max`)"),
        ),
        Err(error) => Check::warn(name, format!("the limit is not known: {error}"), command),
    }
}

/// A limit of the shell, in bytes. A run with smaller limits needs less.
fn bytes(name: &'static str, found: nix::Result<(u64, u64)>, min: u64, command: &str, flag: &str) -> Check {
    match found {
        Ok((soft, _)) if soft == nix::libc::RLIM_INFINITY => Check::ok(name, "unlimited"),
        Ok((soft, _)) if soft >= min => Check::ok(name, format!("{soft} bytes")),
        Ok((soft, _)) => Check::warn(
            name,
            format!("{soft} bytes, which is less than a run takes unless its own limits are lower"),
            format!("`{command} unlimited`, or less for each run (`sandpool run {flag}`)"),
        ),
        Err(error) => Check::warn(name, format!("the limit is not known: {error}"), command),
    }
}

fn cache() -> Check {
    match CacheDirs::find() {
        Ok(dirs) => cache_at(&dirs.modules),
        Err(error) => Check::warn(
            "cache directory",
            format!("{error}, so modules are compiled anew each time"),
            error.hint().unwrap_or_default(),
        ),
    }
}

fn cache_at(path: &Path) -> Check {
    let name = "cache directory";
    let shown = path.display();
    let problem = match fs::metadata(path) {
        // The nearest existing folder decides whether the cache can be made.
        Err(_) => match path.ancestors().find(|folder| folder.exists()) {
            Some(folder) if folder.is_dir() && access(folder, AccessFlags::W_OK).is_ok() => {
                return Check::ok(name, format!("{shown}, made when it is needed"));
            }
            _ => return no_cache(format!("{shown} cannot be made")),
        },
        Ok(found) if !found.is_dir() => return no_cache(format!("{shown} is not a directory")),
        Ok(found) if found.uid() != geteuid().as_raw() => "it belongs to another user",
        Ok(found) if found.mode() & 0o077 != 0 => "others have access to it",
        Ok(_) if access(path, AccessFlags::W_OK).is_err() => {
            return no_cache(format!("{shown} cannot be written to"));
        }
        Ok(_) => return Check::ok(name, shown.to_string()),
    };
    Check::missing(
        name,
        format!("{shown}: {problem}"),
        format!("make it yours alone (`chmod 700 {shown}`), or name another place by SANDPOOL_CACHE_DIR"),
    )
}

/// Runs work without a cache.
fn no_cache(why: String) -> Check {
    Check::warn(
        "cache directory",
        format!("{why}, so modules are compiled anew each time"),
        "name a directory that is yours alone by SANDPOOL_CACHE_DIR",
    )
}

/// Runs start without a layer as well, unless the layer is required.
fn layer_of_jail(jailed: Jailed, layer: Layer, status: &LayerStatus) -> Check {
    let fix = match layer {
        Layer::Landlock => "run a newer Linux, with landlock among its security modules (lsm=landlock,…)",
        Layer::Seccomp => "run a kernel with seccomp, and allow it in the container's policy",
        Layer::ControlGroup => {
            "have the controllers `pids` and `memory` delegated, and the program in a group below: with systemd, \
             Delegate=yes and DelegateSubgroup=NAME"
        }
        Layer::ProcessLimit => {
            "run Linux 6.14 or later, where /proc/sys can be written to; or run it as somebody who isn't root"
        }
        _ => {
            "let users make user namespaces: user.max_user_namespaces, kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns; or allow it in the container's policy"
        }
    };
    match status {
        LayerStatus::Full => Check::ok(layer.name_of(jailed), "holds"),
        LayerStatus::NotApplicable(_) => Check::ok(layer.name_of(jailed), status.to_string()),
        _ => Check::warn(layer.name_of(jailed), status.to_string(), fix),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_old_or_unknown_linux_is_missing() {
        assert_eq!(linux(Some("5.12.19")).state, CheckState::Missing);
        assert_eq!(linux(Some("4.20.0-generic")).state, CheckState::Missing);
        assert_eq!(linux(Some("plan9")).state, CheckState::Missing);
        assert_eq!(linux(None).state, CheckState::Missing);
        assert_eq!(linux(Some("5.13.0-rc1")).state, CheckState::Ok);
        assert_eq!(linux(Some("6.1.0-26-amd64")).state, CheckState::Ok);
    }

    #[test]
    fn huge_pages_that_are_off_are_a_warning_with_a_fix() {
        let off = guest_memory(Some("always madvise [never]"));
        assert_eq!(off.state, CheckState::Warn);
        assert!(off.fix.unwrap().contains("madvise"));
        assert_eq!(guest_memory(None).state, CheckState::Warn);
        assert_eq!(guest_memory(Some("always [madvise] never")).state, CheckState::Ok);
    }

    #[test]
    fn a_filter_of_system_calls_is_a_warning() {
        assert_eq!(system_calls(Some("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1")).state, CheckState::Warn);
        assert_eq!(system_calls(Some("Name:\tx\nSeccomp:\t0\n")).state, CheckState::Ok);
    }

    #[test]
    fn a_cache_directory_open_to_others_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(cache_at(scratch.path()).state, CheckState::Missing);
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(cache_at(scratch.path()).state, CheckState::Ok);
        assert_eq!(cache_at(&scratch.path().join("not/yet")).state, CheckState::Ok);
        fs::write(scratch.path().join("file"), "").unwrap();
        assert_eq!(cache_at(&scratch.path().join("file")).state, CheckState::Warn);
        assert_eq!(cache_at(&scratch.path().join("file/below")).state, CheckState::Warn);
    }

    #[test]
    fn what_the_shell_allows_is_a_warning_where_it_is_little() {
        let of = |soft| bytes("file size", Ok((soft, soft)), FILE_MIN, "ulimit -f", "--arena-size");
        assert_eq!(of(nix::libc::RLIM_INFINITY).state, CheckState::Ok);
        assert_eq!(of(FILE_MIN).state, CheckState::Ok);
        let little = of(FILE_MIN - 1);
        assert_eq!(little.state, CheckState::Warn);
        assert!(little.fix.unwrap().starts_with("`ulimit -f unlimited`"));
    }

    #[test]
    fn a_layer_that_does_not_hold_is_a_warning_with_a_fix() {
        let absent = LayerStatus::Absent("EPERM".to_owned());
        let check = layer_of_jail(Jailed::Run, Layer::PidNamespace, &absent);
        assert_eq!((check.name, check.state), ("pid-namespace", CheckState::Warn));
        assert!(check.detail.contains("EPERM") && check.fix.unwrap().contains("user namespaces"));
        assert_eq!(layer_of_jail(Jailed::Compiler, Layer::Seccomp, &LayerStatus::Full).state, CheckState::Ok);
    }
}
