//! Runs cargo for a guest, shut off from the settings of the host's own build.

use std::env;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{self, Path, PathBuf};
use std::process::{Command, Stdio};

use sandpool::command_support::{CacheDirs, Directory, Writable};
use sha2::{Digest, Sha256};

use super::target_dir::{BuildOptions, TARGET_DIR_VARIABLE, cannot_write, copy};
use super::{Error, TARGET, Toolchain, ToolchainKind, c};

impl Toolchain {
    /// Compiles the programs of the cargo package or workspace in `dir`, and returns their modules in the
    /// order of their names. The compiler's messages go to stderr. Function names stay in the modules, unless
    /// the package strips them, so that a trap's backtrace can be read.
    ///
    /// Build scripts and macros of the packages run with all rights of this process: no jail holds them.
    ///
    /// Compiler flags and build settings of the environment are not used, nor are flags and wrappers from cargo's configuration
    /// files. Settings that cargo needs to reach a registry are used.
    ///
    /// # Errors
    /// [`Invalid`](sandpool::Error::Invalid) where `dir` has no `Cargo.toml`, [`Error`] where the package doesn't compile, or
    /// compiles to no program.
    pub(crate) fn build(&self, dir: &Path, options: &BuildOptions) -> anyhow::Result<Vec<PathBuf>> {
        if !dir.join("Cargo.toml").is_file() {
            return Err(sandpool::Error::Invalid {
                what: format!("{} is not a directory with a Cargo.toml", dir.display()),
                hint: Some("name the directory of a cargo package or workspace, or files of C".to_owned()),
            }
            .into());
        }
        let workspace = workspace(dir)?;
        let own = options.target_dir.clone().or_else(|| env::var_os(TARGET_DIR_VARIABLE).map(PathBuf::from));
        if let Some(target_dir) = own {
            return self.cargo_build(dir, &workspace, &target_dir, options);
        }
        let target_dir = CacheDirs::find()?.guests;
        let place = workspace.join("target").join(TARGET);
        shared(&target_dir, &place, || self.cargo_build(dir, &workspace, &target_dir, options))
    }

    fn cargo_build(
        &self,
        dir: &Path,
        workspace: &Path,
        target_dir: &Path,
        options: &BuildOptions,
    ) -> anyhow::Result<Vec<PathBuf>> {
        let target_dir = path::absolute(target_dir)
            .map_err(|source| sandpool::Error::Os { what: "find the target directory", source })?;
        let marker = marker(&target_dir, workspace).map_err(|error| cannot_write(&target_dir, &error))?;
        let mut cargo = cargo(dir);
        cargo.args(["build", "--target", TARGET, "--message-format=json-render-diagnostics", "--target-dir"]);
        cargo.arg(target_dir).env("RUSTC_WORKSPACE_WRAPPER", marker);
        match &options.bin {
            Some(bin) => cargo.args(["--bin", bin]),
            None => cargo.arg("--bins"),
        };
        if options.release {
            cargo.arg("--release");
        }
        if let ToolchainKind::Debian(debian) = &self.kind {
            debian.configure(&mut cargo);
        }
        let output = cargo.stderr(Stdio::inherit()).output().map_err(|error| no_cargo(&error))?;
        if !output.status.success() {
            let what = format!("cannot compile {} for {TARGET}", dir.display());
            return Err(Error::new(&what, "see the messages of cargo above").into());
        }
        let modules = modules_in(&String::from_utf8_lossy(&output.stdout));
        if modules.is_empty() {
            let what = format!("there is no program in {}", dir.display());
            return Err(Error::new(&what, "a guest is a cargo binary: give it a src/main.rs").into());
        }
        Ok(modules)
    }
}

/// Whether a path has to be compiled, and isn't a module.
pub(crate) fn is_source(path: &Path) -> bool {
    path.is_dir() || c::is_c(path)
}

/// Compiles what is at `path`: a cargo package or workspace, a file of C or C++, or a folder of such files. Returns the modules.
///
/// # Errors
/// Those of [`Toolchain::find`] and [`Toolchain::build`], or of [`Compiler`](c::Compiler).
pub(crate) fn build(path: &Path, options: &BuildOptions) -> anyhow::Result<Vec<PathBuf>> {
    if !c::is_c(path) {
        return Toolchain::find()?.build(path, options);
    }
    match options.bin {
        Some(_) => Err(sandpool::Error::Invalid {
            what: format!(
                "{} is no cargo package, and only a package has programs to choose from",
                path.display()
            ),
            hint: Some("leave `--bin` out".to_owned()),
        }
        .into()),
        None => Ok(vec![c::Compiler::find()?.build(path, options)?]),
    }
}

/// Finds the module that `path` stands for: the file itself, or for a directory or a file of C, the one program in it, which is
/// compiled first.
///
/// # Errors
/// Those of [`Toolchain::find`] and [`Toolchain::build`], and [`Invalid`](sandpool::Error::Invalid) where the package has
/// several programs and `options.bin` names none of them, or where `path` is a file and `options.bin` names
/// one.
pub(crate) fn module_path(path: &Path, options: &BuildOptions) -> anyhow::Result<PathBuf> {
    if !is_source(path) {
        return match options.bin {
            Some(_) => Err(sandpool::Error::Invalid {
                what: format!(
                    "{} is a module, and only a package has programs to choose from",
                    path.display()
                ),
                hint: Some("leave `--bin` out, or name the directory of a package".to_owned()),
            }
            .into()),
            None => Ok(path.to_owned()),
        };
    }
    let modules = build(path, options)?;
    match modules.as_slice() {
        [module] => Ok(module.clone()),
        _ => {
            let names = modules.iter().filter_map(|module| module.file_stem()?.to_str()).collect::<Vec<_>>();
            Err(sandpool::Error::Invalid {
                what: format!("{} has several programs: {}", path.display(), names.join(", ")),
                hint: Some("choose one of them with `--bin NAME`".to_owned()),
            }
            .into())
        }
    }
}

/// Cargo as if it were called in `dir` from an empty environment, except for variables by which it reaches a registry.
fn cargo(dir: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(dir).stdin(Stdio::null());
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_the_hosts_build) {
            cargo.env_remove(name);
        }
    }
    // Empty values outrank configuration files, which may have flags and a wrapper for the host.
    for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER"] {
        cargo.env(name, "");
    }
    cargo
}

fn is_of_the_hosts_build(variable: &str) -> bool {
    const PREFIXES: [&str; 4] = ["CARGO_BUILD_", "CARGO_PROFILE_", "CARGO_TARGET_", "CARGO_UNSTABLE_"];
    const NAMES: [&str; 4] = ["RUSTC", "RUSTC_BOOTSTRAP", "RUSTFLAGS", "CARGO_INCREMENTAL"];
    PREFIXES.iter().any(|prefix| variable.starts_with(prefix)) || NAMES.contains(&variable)
}

fn no_cargo(error: &io::Error) -> Error {
    Error::new(&format!("cannot run cargo: {error}"), "install Rust with rustup")
}

/// The root of the workspace that the package in `dir` belongs to.
fn workspace(dir: &Path) -> Result<PathBuf, Error> {
    let output = cargo(dir)
        .args(["locate-project", "--workspace", "--message-format=plain"])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| no_cargo(&error))?;
    let manifest = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    match manifest.parent() {
        Some(root) if output.status.success() => Ok(root.to_owned()),
        _ => Err(Error::new(
            &format!("cannot read the manifest of {}", dir.display()),
            "see the messages of cargo above",
        )),
    }
}

/// Builds in a target directory that other workspaces use as well, and copies the modules to `place` before
/// anybody else can build another program of the same name.
fn shared(
    target_dir: &Path,
    place: &Path,
    build: impl FnOnce() -> anyhow::Result<Vec<PathBuf>>,
) -> anyhow::Result<Vec<PathBuf>> {
    make_private(target_dir).map_err(|error| cannot_write(target_dir, &error))?;
    let directory = Directory::open(target_dir, &Writable::default())?;
    let lock =
        || directory.open_or_create("sandpool.lock".as_ref()).and_then(|file| file.lock().map(|()| file));
    let _lock = lock().map_err(|error| cannot_write(target_dir, &error))?;
    build()?.iter().map(|module| copy(module, place)).collect()
}

fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// A wrapper of the compiler that changes nothing, whose path differs between workspaces.
///
/// Cargo tells packages of one name and version in two workspaces apart by their paths *within* their workspaces, and takes one for
/// the other in a target directory that both use. It includes the path of this wrapper in the identity of a workspace's own
/// packages, but not in that of their dependencies, which stay shared.
fn marker(target_dir: &Path, workspace: &Path) -> io::Result<PathBuf> {
    let mut name = format!("{:x}", Sha256::digest(workspace.as_os_str().as_bytes()));
    name.truncate(16);
    let folder = target_dir.join("workspaces").join(name);
    make_private(&folder)?;
    // `env rustc ARGS` is `rustc ARGS`.
    let marker = folder.join("env");
    match symlink("/usr/bin/env", &marker) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(marker),
    }
}

/// The modules among what `cargo build --message-format=json` made, in the order of their names.
fn modules_in(messages: &str) -> Vec<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Message {
        target: Target,
        filenames: Vec<PathBuf>,
    }
    #[derive(serde::Deserialize)]
    struct Target {
        kind: Vec<String>,
    }
    // Messages about other things than artifacts don't have these fields.
    let mut modules = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.target.kind.iter().any(|kind| kind == "bin"))
        .flat_map(|message| message.filenames)
        .filter(|file| file.extension().is_some_and(|extension| extension == "wasm"))
        .collect::<Vec<_>>();
    modules.sort();
    modules
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::fs;

    use super::*;
    use crate::exit_code::ExitCode;

    #[test]
    fn modules_are_the_wasm_files_of_programs() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"a"},"filenames":["/t/liba.rlib"]}
{"reason":"compiler-artifact","target":{"kind":["custom-build"],"name":"build-script-build"},"filenames":["/t/build"]}
{"reason":"build-script-executed","out_dir":"/t/out"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"two"},"filenames":["/t/two.wasm"]}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"one"},"filenames":["/t/one.wasm","/t/one.d"]}
not a message
{"reason":"build-finished","success":true}"#;
        assert_eq!(modules_in(messages), [Path::new("/t/one.wasm"), Path::new("/t/two.wasm")]);
    }

    #[test]
    fn settings_of_the_hosts_build_are_known() {
        for name in ["RUSTFLAGS", "CARGO_BUILD_TARGET", "CARGO_TARGET_DIR", "CARGO_PROFILE_RELEASE_STRIP"] {
            assert!(is_of_the_hosts_build(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "RUSTUP_TOOLCHAIN", "PATH"] {
            assert!(!is_of_the_hosts_build(name), "{name}");
        }
    }

    #[test]
    fn a_shared_target_directory_does_not_keep_the_modules() {
        let scratch = tempfile::tempdir().unwrap();
        let (target, place) =
            (scratch.path().join("cache/guests"), scratch.path().join("guest/target/wasm32-wasip1"));
        let build = || {
            let made = target.join("release/task.wasm");
            fs::create_dir(target.join("release")).unwrap();
            fs::write(&made, "module").unwrap();
            Ok(vec![made])
        };
        assert_eq!(shared(&target, &place, build).unwrap(), [place.join("release/task.wasm")]);
        assert_eq!(fs::read(place.join("release/task.wasm")).unwrap(), b"module");
    }

    #[test]
    fn a_directory_without_a_manifest_is_named() {
        let scratch = tempfile::tempdir().unwrap();
        let toolchain = Toolchain { kind: ToolchainKind::Installed { version: String::new() } };
        let error = toolchain.build(scratch.path(), &BuildOptions::default()).unwrap_err();
        assert!(error.to_string().contains(&*scratch.path().to_string_lossy()), "{error}");
        assert_eq!(ExitCode::from_error(&error), ExitCode::Usage);
    }
}
