//! `sandpool doctor`: reports whether this machine has everything that Sandpool needs.

use crate::doctor::{Check, CheckState, checks};
use crate::exit_code::ExitCode;
use crate::text;
use crate::toolchain::{Compiler, Toolchain};

/// Check whether this machine has everything that Sandpool needs, and install the guest toolchain.
///
/// The report goes to stdout. The exit code is 0 if everything that Sandpool requires is there.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sandpool doctor              look, and change nothing
  sandpool doctor --install    install the guest toolchain first, if it is missing

The guest toolchain is rustup's target wasm32-wasip1. Where no rustup server can be reached, it is Debian's packages
rustc-web, rust-web-src, wasi-libc and lld, which needs root or a sudo that doesn't ask. For guests of C it is Debian's
packages clang, lld, libclang-rt-dev-wasm32, wasi-libc and libc++-dev-wasm32, or what is there: a WASI SDK that WASI_SDK_PATH names, or zig.")]
pub(crate) struct DoctorArgs {
    /// Install the guest toolchain if it is missing; each step is printed before it is taken
    #[arg(long)]
    install: bool,
}

pub(crate) fn run(args: DoctorArgs) -> anyhow::Result<u8> {
    if args.install {
        let mut say = |step: &str| text::note(&format!("sandpool: {step}"));
        Toolchain::install(&mut say)?;
        // Guests of Rust do without.
        if let Err(error) = Compiler::install(&mut say) {
            text::note(&format!("warning: {error}"));
        }
    }
    let checks = checks();
    text::print(&report(&checks))?;
    let missing = checks.iter().find(|check| check.state == CheckState::Missing);
    Ok(missing.map_or(ExitCode::Success, |check| check.exit_code).code())
}

fn report(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut report = String::new();
    for check in checks {
        let state = match check.state {
            CheckState::Ok => "ok",
            CheckState::Warn => "warn",
            CheckState::Missing => "missing",
        };
        report += &format!("{state:7}  {:width$}  {}\n", check.name, check.detail);
        if let Some(fix) = &check.fix {
            report += &format!("{:7}  {:width$}  fix: {fix}\n", "", "");
        }
    }
    report
}
