//! Debian's second toolchain: a newer rustc for web browsers, installed beside everything else, the source of its standard library,
//! a C library for WASI, and LLVM's linker. Together they compile guests where no rustup server is in reach.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{RustcVersion, output};

/// The toolchain's compiler. It is never looked for on `PATH`, where a rustup shim of the same name is likely to come first.
const RUSTC: &str = "/usr/bin/rustc";
/// The source of the standard library, where cargo looks for it.
const LIBRARY_SOURCE: &str = "/usr/lib/rustlib/src/rust/library/std/Cargo.toml";
/// The C library that the standard library is linked to.
const WASI_LIBC: &str = "/usr/lib/wasm32-wasi";
/// The folder of `wasm-ld-N`.
const LINKERS: &str = "/usr/bin";

/// The parts of the toolchain that were found.
#[derive(Debug, Clone)]
pub(super) struct Debian {
    pub(super) version: String,
    pub(super) linker: PathBuf,
}

/// The compiler's version, if `/usr/bin/rustc` is Debian's own and not a shim of rustup's, whose sysroot is elsewhere.
pub(super) fn rustc_version() -> Option<RustcVersion> {
    if output(Command::new(RUSTC).args(["--print", "sysroot"]))?.trim() != "/usr" {
        return None;
    }
    RustcVersion::parse(&output(Command::new(RUSTC).arg("-vV"))?)
}

/// The whole toolchain, or what is missing.
pub(super) fn find() -> Result<Debian, String> {
    let rustc = rustc_version().ok_or_else(|| format!("Debian's compiler {RUSTC} is missing"))?;
    let needed = env!("CARGO_PKG_RUST_VERSION");
    if minor(&rustc.release) < minor(needed) {
        return Err(format!("{RUSTC} is version {}, and {needed} or later is needed", rustc.release));
    }
    for file in [Path::new(LIBRARY_SOURCE), &Path::new(WASI_LIBC).join("libc.a")] {
        if !file.exists() {
            return Err(format!("{} is missing", file.display()));
        }
    }
    let names = std::fs::read_dir(LINKERS).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let linker = choose_linker(names.filter_map(|name| name.into_string().ok()), rustc.llvm_major)
        .ok_or_else(|| format!("wasm-ld-{} is missing", rustc.llvm_major))?;
    Ok(Debian { version: rustc.release, linker: Path::new(LINKERS).join(linker) })
}

impl Debian {
    /// Makes a cargo build use the toolchain.
    pub(super) fn configure(&self, cargo: &mut Command) {
        // Cargo passes these flags only to code that is compiled for the target, not to build scripts and macros.
        let flags = [
            format!("-Clinker={}", self.linker.display()),
            "-Clinker-flavor=wasm-ld".to_owned(),
            "-Clink-self-contained=no".to_owned(),
            format!("-Clink-arg={WASI_LIBC}/crt1-command.o"),
            format!("-Lnative={WASI_LIBC}"),
        ];
        cargo
            .arg("-Zbuild-std=std,panic_abort")
            .env("RUSTC", RUSTC)
            // -Zbuild-std is unstable, and this is a stable compiler.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    }
}

/// `N` of `1.N`, and of `1.N.0`.
fn minor(version: &str) -> Option<u32> {
    version.split('.').nth(1)?.parse().ok()
}

/// The linker of the compiler's own LLVM, or else the oldest newer one: an older linker may not understand the compiler's objects.
fn choose_linker(names: impl Iterator<Item = String>, llvm_major: u32) -> Option<String> {
    names
        .filter_map(|name| Some((name.strip_prefix("wasm-ld-")?.parse().ok()?, name)))
        .filter(|(major, _): &(u32, _)| *major >= llvm_major)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(names: &[&str], llvm_major: u32) -> Option<String> {
        choose_linker(names.iter().map(|&name| name.to_owned()), llvm_major)
    }

    #[test]
    fn the_linker_is_the_one_of_the_compilers_llvm() {
        assert_eq!(choose(&["wasm-ld-19", "wasm-ld-22", "wasm-ld-23"], 22).as_deref(), Some("wasm-ld-22"));
    }

    #[test]
    fn a_newer_linker_will_do_and_an_older_one_will_not() {
        assert_eq!(
            choose(&["ld", "wasm-ld", "wasm-ld-9", "wasm-ld-100"], 22).as_deref(),
            Some("wasm-ld-100")
        );
        assert_eq!(choose(&["wasm-ld-9", "wasm-ld-x"], 22), None);
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(minor("1.100.0") > minor("1.95"));
    }
}
