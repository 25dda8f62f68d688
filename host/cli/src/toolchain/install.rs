//! Installs the toolchain for guests: with rustup, or else with apt-get.

use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, TARGET, Toolchain, debian, output};

/// How long rustup may take: a download over a slow line, but not a firewall that swallows packets.
const RUSTUP_TIME_MAX: Duration = Duration::from_secs(120);

/// Debian's packages, without the linker, whose name follows from the compiler's LLVM.
const PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "wasi-libc"];

pub(super) fn install(say: &mut dyn FnMut(&str)) -> Result<Toolchain, Error> {
    let rustup = match by_rustup(say) {
        Ok(()) => match Toolchain::find() {
            Ok(toolchain) => return Ok(toolchain),
            Err(_) => "the rustc on PATH is not rustup's".to_owned(),
        },
        Err(problem) => problem,
    };
    say(&format!("rustup cannot install it here ({rustup})"));
    let apt = match by_apt(say) {
        Ok(()) => match Toolchain::find() {
            Ok(toolchain) => return Ok(toolchain),
            Err(error) => error.to_string(),
        },
        Err(problem) => problem,
    };
    Err(Error::new(
        &format!("cannot install the guest toolchain: rustup: {rustup}; apt-get: {apt}"),
        &format!(
            "where a rustup server can be reached, `rustup target add {TARGET}`; on Debian, as root, \
             `apt-get update && apt-get install --no-install-recommends {} lld-N` (N as in `{}`)",
            PACKAGES.join(" "),
            "/usr/bin/rustc -vV"
        ),
    ))
}

fn by_rustup(say: &mut dyn FnMut(&str)) -> Result<(), String> {
    if output(Command::new("rustup").arg("--version")).is_none() {
        return Err("it is not installed".to_owned());
    }
    say(&format!("installing the target {TARGET} with rustup"));
    // The other way is at hand, so trying again is pointless.
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]).env("RUSTUP_MAX_RETRIES", "0");
    run(&mut rustup, Some(RUSTUP_TIME_MAX))
}

fn by_apt(say: &mut dyn FnMut(&str)) -> Result<(), String> {
    with_lists(say, install_packages)
}

/// Installs these packages of Debian's.
pub(super) fn by_apt_packages(packages: &[&str], say: &mut dyn FnMut(&str)) -> Result<(), String> {
    with_lists(say, |say| install_named(packages, say))
}

/// The linkers for WebAssembly of Debian's packages: the one without a number first, then newer ones before older ones.
pub(super) fn linkers() -> impl Iterator<Item = PathBuf> {
    let names = std::fs::read_dir("/usr/bin").into_iter().flatten().flatten();
    let mut linkers: Vec<_> = names
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_prefix("wasm-ld")?;
            let number = if number.is_empty() { u32::MAX } else { number.strip_prefix('-')?.parse().ok()? };
            Some((number, entry.path()))
        })
        .collect();
    linkers.sort_by(|one, other| other.cmp(one));
    linkers.into_iter().map(|(_, path)| path)
}

/// Package lists may be missing or out of date, which shows when an installation fails: only then are they fetched.
fn with_lists(
    say: &mut dyn FnMut(&str),
    install: impl Fn(&mut dyn FnMut(&str)) -> Result<(), String>,
) -> Result<(), String> {
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err("it is not installed".to_owned());
    }
    if !nix::unistd::geteuid().is_root() && output(Command::new("sudo").args(["-n", "true"])).is_none() {
        return Err("it needs root, and `sudo -n` is refused".to_owned());
    }
    if install(say).is_ok() {
        return Ok(());
    }
    say("fetching the lists of Debian's packages (apt-get update)");
    run(apt_get().arg("update"), None)?;
    install(say)
}

fn install_packages(say: &mut dyn FnMut(&str)) -> Result<(), String> {
    install_named(&PACKAGES, say)?;
    let rustc = debian::rustc_version().ok_or("/usr/bin/rustc is not Debian's")?;
    install_named(&[&format!("lld-{}", rustc.llvm_major)], say)?;
    debian::find().map(|_| ())
}

fn install_named(packages: &[&str], say: &mut dyn FnMut(&str)) -> Result<(), String> {
    say(&format!("installing Debian's packages {} with apt-get", packages.join(", ")));
    // --no-remove: another compiler of the user's must not be removed.
    run(apt_get().args(["install", "--no-install-recommends", "--no-remove"]).args(packages), None)
}

/// `apt-get` that never asks and gives up on a network that doesn't answer.
fn apt_get() -> Command {
    let mut command = Command::new(if nix::unistd::geteuid().is_root() { "env" } else { "sudo" });
    if !nix::unistd::geteuid().is_root() {
        command.args(["-n", "env"]);
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--yes"]);
    for option in ["Acquire::http::Timeout=20", "DPkg::Lock::Timeout=120", "Dpkg::Options::=--force-confold"]
    {
        command.args(["-o", option]);
    }
    command
}

/// Runs a command to its end, or kills it after `time_max`. The error is the last message of the command.
fn run(command: &mut Command, time_max: Option<Duration>) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    // A file and not a pipe: nobody reads while the command runs.
    let mut stderr = tempfile::tempfile().map_err(failed)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr.try_clone().map_err(failed)?)
        .spawn()
        .map_err(failed)?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if let Some(time_max) = time_max.filter(|&time_max| started.elapsed() > time_max) {
            child.kill().and_then(|()| child.wait()).map_err(failed)?;
            return Err(format!("no success after {} s", time_max.as_secs()));
        }
        thread::sleep(Duration::from_millis(50));
    };
    if status.success() {
        return Ok(());
    }
    let mut said = Vec::new();
    stderr.rewind().and_then(|()| stderr.read_to_end(&mut said)).map_err(failed)?;
    Err(problem_in(&String::from_utf8_lossy(&said)).unwrap_or_else(|| status.to_string()))
}

/// The first error that a command reported, without its mark: the text after it is often advice.
fn problem_in(said: &str) -> Option<String> {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    lines()
        .find_map(|line| line.strip_prefix("error: ").or_else(|| line.strip_prefix("E: ")))
        .or_else(|| lines().next_back())
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn the_problem_is_the_first_error_or_the_last_line() {
        assert_eq!(problem_in("info: downloading\nerror: no route\nhelp: x\n").as_deref(), Some("no route"));
        assert_eq!(
            problem_in("W: old\nE: no package lld-9\nE: and so on\n").as_deref(),
            Some("no package lld-9")
        );
        assert_eq!(problem_in("one\ntwo\n\n").as_deref(), Some("two"));
        assert_eq!(problem_in("\n"), None);
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed() {
        let started = Instant::now();
        let problem = run(Command::new("sleep").arg("60"), Some(Duration::from_millis(100))).unwrap_err();
        assert!(problem.starts_with("no success"), "{problem}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_commands_own_words_are_the_problem() {
        assert_eq!(
            run(Command::new("sh").args(["-c", "echo 'error: so' >&2; exit 3"]), None).unwrap_err(),
            "so"
        );
        assert_eq!(run(Command::new("sh").args(["-c", "exit 3"]), None).unwrap_err(), "exit status: 3");
    }
}
