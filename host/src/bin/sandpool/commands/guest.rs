//! What every command that starts guests lets one say about them.

use std::io::{self, Write as _};

use sandpool::{DirGrant, JailReport, Layer};

/// What guests are given, and how much they may use.
#[derive(Debug, clap::Args)]
pub(crate) struct GuestArgs {
    /// Let the guest use a directory, read-only with :ro; GUEST is its name there, by default HOST
    #[arg(long, value_name = "HOST[:GUEST][:ro]")]
    pub(crate) dir: Vec<DirGrant>,

    /// Set a variable of the guest's environment, which is empty otherwise; NAME alone takes the value it has here
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = variable)]
    pub(crate) env: Vec<(String, String)>,

    /// How many processes may be alive, or ended and not yet joined, at once [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) processes_max: Option<u32>,

    /// Room for what is in queues and pipes, and for shared memory, such as 64MiB; only what is used takes memory
    /// [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) arena_size: Option<u64>,

    /// How much linear memory each process may have, such as 256MiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) memory_max: Option<u64>,

    /// Start only if these layers of the jail hold fully, or all of them (full: all but cgroup)
    #[arg(long, value_name = "full|LAYER,…", value_parser = layers)]
    require_jail: Option<Layers>,

    /// Switch a layer of the jail off, for a debugger or a profiler; `sandpool doctor` lists them
    #[arg(long, value_name = "LAYER")]
    pub(crate) without_layer: Vec<Layer>,

    /// Print on stderr which layers of the jail hold, and how fully
    #[arg(long)]
    jail_report: bool,
}

impl GuestArgs {
    /// The layers that are required.
    pub(crate) fn required_layers(&self) -> Vec<Layer> {
        self.require_jail.as_ref().map_or_else(Vec::new, |layers| layers.0.clone())
    }

    /// Prints the report, if it is wanted.
    pub(crate) fn report(&self, jail: &JailReport) {
        if self.jail_report {
            // If stderr is gone, there is nobody left to tell.
            let _ = write!(io::stderr().lock(), "{jail}");
        }
    }
}

/// Several layers in one value, of which clap would make several values.
#[derive(Debug, Clone)]
struct Layers(Vec<Layer>);

/// `full`, or layers with commas in between
fn layers(text: &str) -> Result<Layers, sandpool::Error> {
    match text {
        "full" => Ok(Layers(Layer::FULL.to_vec())),
        _ => Ok(Layers(text.split(',').map(str::parse).collect::<sandpool::Result<_>>()?)),
    }
}

/// `NAME=VALUE`, or `NAME` for the value that it has here
fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) | None if text.is_empty() || text.starts_with('=') => {
            Err("the name is missing".to_owned())
        }
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(std::env::VarError::NotPresent) => Err("it is not set here; NAME=VALUE sets it".to_owned()),
            Err(std::env::VarError::NotUnicode(_)) => Err("its value here is not UTF-8".to_owned()),
        },
    }
}

/// Bytes, or a number with KiB, MiB or GiB
fn size(text: &str) -> Result<u64, String> {
    let units = [("KiB", 1_u64 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let (number, unit) = units
        .into_iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
        .unwrap_or((text, 1));
    let number: u64 =
        number.trim().parse().map_err(|_| "give bytes, or a number with KiB, MiB or GiB".to_owned())?;
    number.checked_mul(unit).filter(|bytes| *bytes > 0).ok_or_else(|| "out of range".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn variables() {
        assert_eq!(variable("A=1=2").unwrap(), ("A".to_owned(), "1=2".to_owned()));
        assert_eq!(variable("A=").unwrap(), ("A".to_owned(), String::new()));
        assert_eq!(variable("PATH").unwrap().1, std::env::var("PATH").unwrap());
        for bad in ["", "=", "=1", "SANDPOOL_NOT_SET_ANYWHERE"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4096").unwrap(), 4096);
        assert_eq!(size("64MiB").unwrap(), 64 << 20);
        assert_eq!(size("1 GiB").unwrap(), 1 << 30);
        for bad in ["", "0", "MiB", "1.5GiB", "-1", "10MB", "18446744073709551615KiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
