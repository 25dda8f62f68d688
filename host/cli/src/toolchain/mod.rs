//! Compiles guests: finds or installs a toolchain for `wasm32-wasip1`, and runs cargo with it. [`c`] is about guests of C.
//!
//! There are two ways to compile a guest of Rust; the first one that works is taken:
//!
//! ```text
//!  rustc on PATH has the target's standard library?  ──yes──▶ cargo build --target wasm32-wasip1
//!        │ no                                 ▲
//!        │          `rustup target add` (install only)
//!        ▼
//!  Debian's own rustc, the library's source,         ──yes──▶ the same with RUSTC=/usr/bin/rustc -Zbuild-std:
//!  wasi-libc and wasm-ld are there?                           the standard library is compiled once per
//!        │ no                  ▲                              target directory, in about a minute
//!        ▼          `apt-get install` (install only)
//!  an error that names `sandpool doctor --install`
//! ```
//!
//! Compiling the standard library takes a minute, so all guests share one target directory ([`BuildOptions::target_dir`]).

mod build;
mod c;
mod debian;
mod install;
mod target_dir;

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use sandpool::GuestText;

pub(crate) use build::{build, is_source, module_path};
pub(crate) use c::Compiler;
use debian::Debian;
pub(crate) use target_dir::BuildOptions;

/// The target that guests are compiled for.
pub(crate) const TARGET: &str = "wasm32-wasip1";

/// Compiling a guest failed, or the toolchain is missing.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Error {
    what: GuestText,
    hint: GuestText,
}

impl Error {
    fn new(what: &str, hint: &str) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }

    /// Advice on what to do about it.
    pub(crate) fn hint(&self) -> String {
        self.hint.to_string()
    }
}

/// The toolchain that compiles guests on this machine. Its `Display` describes it.
#[derive(Debug, Clone)]
pub(crate) struct Toolchain {
    kind: ToolchainKind,
}

#[derive(Debug, Clone)]
enum ToolchainKind {
    /// The rustc on `PATH` has the target's standard library.
    Installed { version: String },
    /// Debian's second toolchain, which compiles the standard library itself.
    Debian(Debian),
}

impl Toolchain {
    /// Looks for a toolchain, and changes nothing.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn find() -> Result<Self, Error> {
        if let Some(version) = installed() {
            return Ok(Self { kind: ToolchainKind::Installed { version } });
        }
        debian::find().map(|debian| Self { kind: ToolchainKind::Debian(debian) }).map_err(|_| {
            Error::new(
                &format!(
                    "the guest toolchain is not installed: rustc here has no standard library for {TARGET}"
                ),
                "`sandpool doctor --install` installs it",
            )
        })
    }

    /// Finds a toolchain or installs one: with rustup, or else Debian's packages with apt-get (by `sudo -n`
    /// where this isn't root). `say` is told about each step before it is taken; nothing ever asks a
    /// question.
    ///
    /// # Errors
    /// The reason of each way that failed.
    pub(crate) fn install(say: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        Self::find().or_else(|_| install::install(say))
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ToolchainKind::Installed { version } => write!(f, "rustc {version} with its target {TARGET}"),
            ToolchainKind::Debian(debian) => write!(
                f,
                "Debian's rustc {} with {}, which compiles the standard library too",
                debian.version,
                debian.linker.display()
            ),
        }
    }
}

/// The version of the rustc on `PATH`, if it has the target's standard library. `--print target-libdir` names
/// a folder whether or not it is there.
fn installed() -> Option<String> {
    let libraries = output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]))?;
    std::fs::read_dir(Path::new(libraries.trim()))
        .ok()?
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
        .then(|| {
            RustcVersion::parse(&output(Command::new("rustc").arg("-vV"))?).map(|version| version.release)
        })?
}

/// The output of a command, if the command succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The output of `rustc -vV`.
#[derive(Debug, PartialEq, Eq)]
struct RustcVersion {
    release: String,
    llvm_major: u32,
}

impl RustcVersion {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Some(Self {
            release: field("release")?.to_owned(),
            llvm_major: field("LLVM version")?.split('.').next()?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit_code::ExitCode;

    #[test]
    fn an_error_has_an_exit_code_of_its_own() {
        assert_eq!(
            ExitCode::from_error(&Error::new("it is missing", "install it").into()),
            ExitCode::Toolchain
        );
    }

    #[test]
    fn the_version_of_rustc_and_its_llvm_are_read() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
                    host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(
            RustcVersion::parse(text),
            Some(RustcVersion { release: "1.96.0".to_owned(), llvm_major: 22 })
        );
        assert_eq!(RustcVersion::parse("release: 1.96.0\n"), None);
        assert_eq!(RustcVersion::parse("release: 1.96.0\nLLVM version: unknown\n"), None);
    }
}
