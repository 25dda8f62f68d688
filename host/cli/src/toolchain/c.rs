//! Compiles guests of C and C++: one file, or the files of a folder.
//!
//! ```text
//!  WASI_SDK_PATH names a WASI SDK?                ──yes──▶ its clang, with its C library
//!        │ no
//!  clang, wasm-ld and Debian's wasi-libc are there? ─yes──▶ clang --target=wasm32-wasi
//!        │ no                        ▲
//!        │          `apt-get install` (install only)
//!  zig is there, or Python's package ziglang?     ──yes──▶ zig cc -target wasm32-wasi
//!        │ no
//!        ▼
//!  an error that names `sandpool doctor --install`
//! ```

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use sandpool::command_support::write_all;
use sandpool::module::Inspection;

use super::install::{by_apt_packages, linkers};
use super::target_dir::{BuildOptions, TARGET_DIR_VARIABLE, copy};
use super::{Error, TARGET, output};
use crate::contract::header;

/// Debian's packages, beside the C library.
const PACKAGES: [&str; 5] = ["clang", "lld", "libclang-rt-dev-wasm32", "wasi-libc", "libc++-dev-wasm32"];
/// The C library of Debian's package.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi/libc.a";

/// The argument of a compiler without a library of C++.
const NO_LIBRARY: &str = "-nostdlib++";
/// The library of C++ of Debian's package.
const LIBCPLUSPLUS: &str = "/usr/lib/wasm32-wasi/libc++.a";

/// The file of a folder that has arguments for the compiler, one a line, as clangd reads it.
const FLAGS_FILE: &str = "compile_flags.txt";
/// The beginnings of the arguments that may be there. Others can have the compiler run code or write files.
const FLAGS: [&str; 6] = ["-D", "-I", "-U", "-W", "-l", "-std="];
/// Arguments for others than the compiler.
const FLAGS_OF_OTHERS: [&str; 3] = ["-Wa,", "-Wl,", "-Wp,"];

const C: [&str; 1] = ["c"];
const CPLUSPLUS: [&str; 3] = ["cc", "cpp", "cxx"];

/// The compiler of C on this machine. Its `Display` describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Compiler {
    version: String,
    /// The words before the arguments: for C, and for C++.
    c: Vec<String>,
    cplusplus: Vec<String>,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Compiler {
    /// Looks for a compiler, and changes nothing.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn find() -> Result<Self, Error> {
        wasi_sdk().or_else(debian).or_else(zig).ok_or_else(|| {
            Error::new(
                "no compiler of C for WebAssembly is installed",
                "`sandpool doctor --install` installs one, where Debian's packages can be had; elsewhere, let \
                 WASI_SDK_PATH name a WASI SDK, or install Python's package ziglang",
            )
        })
    }

    /// Finds a compiler, or installs one. Each step is said before it is taken.
    ///
    /// # Errors
    /// If there is none in the end.
    pub(crate) fn install(say: &mut dyn FnMut(&str)) -> Result<Self, Error> {
        match Self::find() {
            Ok(found) if found.lacks_library() => {
                // Most programs do without.
                if let Err(problem) = by_apt_packages(&PACKAGES, say) {
                    say(&format!("there is no library of C++ for guests: apt-get: {problem}"));
                }
                Self::find()
            }
            Ok(found) => Ok(found),
            Err(error) => match by_apt_packages(&PACKAGES, say) {
                Ok(()) => Self::find(),
                Err(problem) => Err(Error::new(&format!("{error}: apt-get: {problem}"), &error.hint())),
            },
        }
    }

    /// Whether the library of C++ is missing.
    fn lacks_library(&self) -> bool {
        self.cplusplus.iter().any(|word| word == NO_LIBRARY)
    }

    fn command(&self, is_cplusplus: bool) -> Command {
        let words = if is_cplusplus { &self.cplusplus } else { &self.c };
        let mut command = Command::new(words.first().map_or("clang", String::as_str));
        command.args(words.iter().skip(1)).stdin(Stdio::null());
        command
    }

    /// Compiles a file, or all files of a folder, to one module, and returns its path. The compiler's messages go to stderr.
    ///
    /// # Errors
    /// [`Error`] where it doesn't compile.
    pub(super) fn build(&self, path: &Path, options: &BuildOptions) -> anyhow::Result<PathBuf> {
        let path = fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))?;
        let sources = sources(&path);
        let is_dir = path.is_dir();
        let name = if is_dir { path.file_name() } else { path.file_stem() }.unwrap_or(OsStr::new("guest"));
        let home = if is_dir { &path } else { path.parent().unwrap_or(&path) };
        let target_dir = options
            .target_dir
            .clone()
            .or_else(|| env::var_os(TARGET_DIR_VARIABLE).map(PathBuf::from))
            .unwrap_or_else(|| home.join("target"));
        let flags = if is_dir { flags(&path)? } else { Vec::new() };
        let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
        let cannot = || format!("cannot write {}", scratch.path().display());
        let profile = scratch.path().join(if options.release { "release" } else { "debug" });
        fs::create_dir(&profile).with_context(cannot)?;
        fs::write(scratch.path().join("sandpool.h"), header::text()).with_context(cannot)?;
        let module = profile.join(name).with_added_extension("wasm");
        let is_cplusplus = sources.iter().any(|source| has_extension(source, &CPLUSPLUS));
        let compile = |model: &str| {
            let mut command = self.command(is_cplusplus);
            command.args(if options.release { ["-O2", "-g1"] } else { ["-O0", "-g"] });
            command.arg(model).arg("-I").arg(scratch.path());
            if is_cplusplus {
                // WebAssembly's exceptions need a library of C++ that is built for them.
                command.arg("-fno-exceptions");
            }
            command.args(&flags).args(&sources).arg("-o").arg(&module).current_dir(home);
            command.output().with_context(|| format!("cannot run {}", self.version))
        };
        let mut compiled = compile("-mexec-model=command")?;
        // A module that has tasks only needs no `main`.
        if !compiled.status.success() && lacks_main(&String::from_utf8_lossy(&compiled.stderr)) {
            let as_reactor = compile("-mexec-model=reactor")?;
            if as_reactor.status.success() {
                compiled = as_reactor;
            }
        }
        let _ = write_all(io::stderr().as_fd(), &compiled.stderr);
        if !compiled.status.success() {
            let what = format!("cannot compile {} for {TARGET}", path.display());
            return Err(Error::new(&what, "see the messages of the compiler above").into());
        }
        // The linker has the constructors of all globals run before each task then, and exit functions after it, which the C
        // library can do once.
        if is_cplusplus && has_tasks_and_main(&module)? {
            let what = format!("{} has both tasks and a main", path.display());
            return Err(Error::new(&what, "leave main out, or put it into a module of its own: in C++, globals would be made anew for each task").into());
        }
        copy(&module, &target_dir.join(TARGET))
    }
}

fn has_tasks_and_main(module: &Path) -> anyhow::Result<bool> {
    let found = Inspection::from_file(module)?;
    Ok(!found.tasks.is_empty() && found.exports.iter().any(|export| export.name.raw() == "_start"))
}

/// The arguments for the compiler that a folder has.
fn flags(folder: &Path) -> anyhow::Result<Vec<String>> {
    let file = folder.join(FLAGS_FILE);
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.with_context(|| format!("cannot read {}", file.display()))?,
    };
    let flags: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let begins = |flag: &str, known: &[&str]| known.iter().any(|known| flag.starts_with(known));
    if let Some(flag) = flags.iter().find(|flag| !begins(flag, &FLAGS) || begins(flag, &FLAGS_OF_OTHERS)) {
        let what = format!("{} has {flag:?}, which is not allowed", file.display());
        let hint = format!("each line is one argument, which begins with one of {}", FLAGS.join(", "));
        return Err(Error::new(&what, &hint).into());
    }
    Ok(flags.into_iter().map(str::to_owned).collect())
}

/// Whether the linker has missed `main`, and nothing else.
fn lacks_main(said: &str) -> bool {
    let mut undefined =
        said.lines().filter_map(|line| Some(line.split_once("undefined symbol: ")?.1.trim())).peekable();
    undefined.peek().is_some()
        && undefined.all(|symbol| ["main", "__main_argc_argv", "__main_void"].contains(&symbol))
}

fn has_extension(path: &Path, known: &[&str]) -> bool {
    path.extension().and_then(OsStr::to_str).is_some_and(|extension| known.contains(&extension))
}

fn is_source(path: &Path) -> bool {
    path.is_file() && (has_extension(path, &C) || has_extension(path, &CPLUSPLUS))
}

/// Whether a path is a file of C or C++, or a folder that has some and is no cargo package.
pub(super) fn is_c(path: &Path) -> bool {
    is_source(path) || path.is_dir() && !path.join("Cargo.toml").exists() && !sources(path).is_empty()
}

/// The file itself, or the sources in a folder, in the order of their names.
fn sources(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut sources: Vec<_> = entries.filter(|path| is_source(path)).collect();
    sources.sort();
    sources
}

/// The first line that a compiler says of its version.
fn version(command: &mut Command) -> Option<String> {
    Some(output(command)?.lines().next()?.to_owned())
}

fn wasi_sdk() -> Option<Compiler> {
    let sdk = PathBuf::from(env::var_os("WASI_SDK_PATH")?);
    let clang = sdk.join("bin/clang");
    let version = version(Command::new(&clang).arg("--version"))?;
    let sysroot = format!("--sysroot={}", sdk.join("share/wasi-sysroot").display());
    let of = |name: &str| {
        words(&[&sdk.join("bin").join(name).to_string_lossy(), "--target=wasm32-wasi", &sysroot])
    };
    Some(Compiler {
        version: format!("{version} of WASI_SDK_PATH"),
        c: of("clang"),
        cplusplus: of("clang++"),
    })
}

fn debian() -> Option<Compiler> {
    if !Path::new(WASI_LIBC).exists() {
        return None;
    }
    let version = version(Command::new("clang").arg("--version"))?;
    // The one without a number belongs to the same version of LLVM as clang; any newer one understands its objects.
    let linker = linkers().next()?;
    let linker = format!("-fuse-ld={}", linker.display());
    let of = |name: &str| words(&[name, "--target=wasm32-wasi", &linker]);
    let mut cplusplus = of("clang++");
    // Programs that use nothing of the library of C++ do without.
    if !Path::new(LIBCPLUSPLUS).exists() {
        cplusplus.push(NO_LIBRARY.to_owned());
    }
    Some(Compiler { version, c: of("clang"), cplusplus })
}

fn zig() -> Option<Compiler> {
    for zig in [&["zig"][..], &["python3", "-m", "ziglang"]] {
        let (first, rest) = zig.split_first()?;
        let Some(version) = version(Command::new(first).args(rest).arg("version")) else { continue };
        let of = |language: &str| words(&[zig, &[language, "-target", "wasm32-wasi"]].concat());
        return Some(Compiler { version: format!("zig {version}"), c: of("cc"), cplusplus: of("c++") });
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn a_missing_main_is_told_from_other_errors() {
        assert!(lacks_main(
            "wasm-ld-14: error: /usr/lib/libc.a(__main_argc_argv.o): undefined symbol: main\nclang: error: x"
        ));
        assert!(!lacks_main(
            "wasm-ld: error: a.o: undefined symbol: main\nwasm-ld: error: a.o: undefined symbol: sqrtq\n"
        ));
        assert!(!lacks_main("a.c:1:1: error: unknown type name 'x'"));
    }

    #[test]
    fn sources_are_files_of_c_and_a_package_is_cargos() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["b.c", "a.cpp", "a.h", "notes.txt"] {
            fs::write(path(name), "").unwrap();
        }
        assert_eq!(sources(folder.path()), [path("a.cpp"), path("b.c")]);
        assert!(
            is_c(folder.path()) && is_c(&path("b.c")) && !is_c(&path("a.h")) && !is_c(&path("missing.c"))
        );
        fs::write(path("Cargo.toml"), "").unwrap();
        assert!(!is_c(folder.path()));
    }
}
