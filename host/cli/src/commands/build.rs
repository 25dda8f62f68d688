//! `sandpool build`: compiles guests.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use sandpool::command_support::write_all;

use crate::exit_code::ExitCode;
use crate::toolchain::{self, BuildOptions};

/// Compile a cargo package or workspace, or C, to WebAssembly.
///
/// A file of C or C++, or a folder of such files, becomes one module, of the folder's or file's name. `#include
/// "sandpool.h"` is found wherever the files are. Without a `main`, the module has tasks only.
///
/// Build scripts and macros of the package run outside of any jail, with all rights of this user: build only a package
/// that you trust.
///
/// The paths of the modules go to stdout, one a line; the compiler's messages go to stderr. Without --target-dir,
/// packages are compiled in the user's cache directory, and the modules are put under the workspace's target/, where
/// cargo would put them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sandpool build                                  the package in this directory
  sandpool build my-tasks --bin worker            one program of several
  sandpool run \"$(sandpool build my-task)\"        build, then run
  sandpool build --target-dir target/guests tests/guests
  sandpool build upper.c                          a program of C

If there is no toolchain for guests, `sandpool doctor --install` installs one.")]
pub(crate) struct BuildArgs {
    /// Directory of the package or workspace; a file of C or C++, or a directory of such files
    #[arg(default_value = ".", value_name = "DIR|FILE")]
    dir: PathBuf,

    /// Name of the only program to compile
    #[arg(long, value_name = "NAME")]
    bin: Option<String>,

    /// Compile without optimizations
    #[arg(long)]
    debug: bool,

    /// Compile in this directory, and leave the modules there [env: SANDPOOL_GUEST_TARGET_DIR]
    #[arg(long, value_name = "DIR")]
    target_dir: Option<PathBuf>,
}

pub(crate) fn run(args: BuildArgs) -> anyhow::Result<u8> {
    let options = BuildOptions { release: !args.debug, bin: args.bin, target_dir: args.target_dir };
    let modules = toolchain::build(&args.dir, &options)?;
    let stdout = io::stdout().lock();
    for module in modules {
        write_all(stdout.as_fd(), module.as_os_str().as_bytes())?;
        write_all(stdout.as_fd(), b"\n")?;
    }
    Ok(ExitCode::Success.code())
}
