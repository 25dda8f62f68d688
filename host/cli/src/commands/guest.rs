//! The arguments of every command that starts guests.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, FromArgMatches};
use sandpool::jail::{JailReport, Layer};
use sandpool::limits::{CompileLimitKey, Key, LimitKey, Profile};
use sandpool::module::UnknownImports;
use sandpool::{AddressGrant, DirGrant, Error, Sandbox};

use crate::text;
use crate::toolchain::{self, BuildOptions};

/// The module that a command runs.
#[derive(Debug, clap::Args)]
pub(crate) struct ModuleArgs {
    /// Name of the program, if the crate has several
    #[arg(long, value_name = "NAME")]
    bin: Option<String>,

    /// WebAssembly module or component (.wasm or .wat), or a source, which is built first: directory of a crate, or file or
    /// directory of C. The build scripts and macros of a crate run outside of any jail, with all rights of this user
    #[arg(value_name = "MODULE|SOURCE")]
    module: PathBuf,
}

impl ModuleArgs {
    /// The module's file that the argument means. Sources are compiled, unless a jail is required: it would hold neither
    /// the compiler, which may have faults, nor build scripts and macros of a crate, which are native code.
    pub(crate) fn path(&self, sandbox: &Sandbox) -> anyhow::Result<PathBuf> {
        let path = self.module.as_path();
        if toolchain::is_source(path) && !sandbox.required_layers().is_empty() {
            let (what, named) = match path.is_dir() {
                true => ("is a crate, whose build scripts and macros would run", "crate"),
                false => ("would be compiled", "file"),
            };
            return Err(Error::Invalid {
            what: format!("{} {what} outside of the jail that is required", path.display()),
            hint: Some(format!(
                "if you trust the {named}, build it with `sandpool build`, and run the module whose path this prints"
            )),
        }
        .into());
        }
        if self.bin.is_some() && path.is_file() {
            return Err(Error::Invalid {
                what: format!("--bin chooses a program of a crate, but {} is a file", path.display()),
                hint: Some("leave --bin out, or name the crate's directory".to_owned()),
            }
            .into());
        }
        let options = BuildOptions { bin: self.bin.clone(), ..BuildOptions::default() };
        toolchain::module_path(path, &options)
    }
}

/// The grants of guests, and how much guests may use.
#[derive(Debug, clap::Args)]
pub(crate) struct GuestArgs {
    /// Grant the guest a directory; with :ro for reading only. GUEST is the directory's name in the guest, by default
    /// HOST. A colon in a name is written \:
    #[arg(long, value_name = "HOST[:GUEST][:ro]")]
    dir: Vec<DirGrant>,

    /// Let the guest listen at an address: tcp:HOST:PORT, unix:PATH, or sandpool:NAME for other runs of this user. * stands
    /// for any HOST or PORT
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<AddressGrant>,

    /// Let the guest connect to an address, written as for --listen. A name of a host is looked up when the run starts
    #[arg(long, value_name = "ADDRESS")]
    connect: Vec<AddressGrant>,

    /// Set a variable in the guest's environment, which is empty by default; NAME alone copies the variable of this
    /// environment
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = variable)]
    env: Vec<(String, String)>,

    /// Set limits, --task-timeout and --require-jail by one word: untrusted is for code that nobody trusts, and
    /// `sandpool config --profile untrusted` prints its settings. A flag overrides the profile; of the limits of
    /// profile and file, the lower one holds
    #[arg(long, value_name = "untrusted")]
    profile: Option<Profile>,

    /// Refuse to compile and to start unless these layers of the jail hold fully; full: all layers; none: no layer
    #[arg(long, value_name = "full|none|LAYER,…", value_parser = layers)]
    require_jail: Option<Layers>,

    /// Load a module that imports functions which Sandpool does not provide: trap ends a process that calls one; refuse
    /// refuses the module
    #[arg(long, value_name = "refuse|trap", default_value = "refuse")]
    unknown_imports: UnknownImports,

    /// Switch off a layer of the jail, for a debugger or a profiler; `sandpool doctor` lists the layers
    #[arg(long, value_name = "LAYER")]
    without_layer: Vec<Layer>,

    /// Print on stderr which layers of the jail hold, and how fully
    #[arg(long)]
    jail_report: bool,

    /// Read limits, or a profile, from a file; `sandpool config` prints a file with all settings. A flag overrides the
    /// file
    #[arg(long, value_name = "FILE", help_heading = LIMITS)]
    config: Option<PathBuf>,

    #[command(flatten)]
    limits: LimitArgs,
}

impl GuestArgs {
    /// The sandbox of the file and the profile, changed as the flags say.
    pub(crate) fn sandbox(&self) -> sandpool::Result<Sandbox> {
        let mut sandbox = self.config.as_ref().map_or_else(|| Ok(Sandbox::new()), Sandbox::from_file)?;
        if let Some(profile) = self.profile {
            let of_profile = profile.sandbox();
            sandbox.limits = sandbox.limits.no_higher_than(&of_profile.limits);
            sandbox.compile_limits = sandbox.compile_limits.no_higher_than(&of_profile.compile_limits);
            sandbox = sandbox.require_jail(of_profile.required_layers().iter().copied());
        }
        for (name, value) in &self.limits.0 {
            match LimitKey::from_name(name) {
                Some(_) => sandbox.limits.set(name, value)?,
                None => sandbox.compile_limits.set(name, value)?,
            }
        }
        if let Some(Layers(layers)) = &self.require_jail {
            sandbox = sandbox.require_jail(layers.iter().copied());
        }
        sandbox = self.without_layer.iter().copied().fold(sandbox, Sandbox::without_layer);
        sandbox = sandbox.unknown_imports(self.unknown_imports);
        sandbox.dirs.extend(self.dir.iter().cloned());
        sandbox.listen.extend(self.listen.iter().cloned());
        sandbox.connect.extend(self.connect.iter().cloned());
        sandbox.env.extend(self.env.iter().cloned());
        Ok(sandbox)
    }

    /// The profile that the command line chooses; if it chooses none, the file's.
    pub(crate) fn profile(&self) -> sandpool::Result<Option<Profile>> {
        match (self.profile, &self.config) {
            (None, Some(file)) => Profile::from_file(file),
            (profile, _) => Ok(profile),
        }
    }

    /// Prints the reports of the compiler and of the run, if they were asked for.
    pub(crate) fn report(&self, compiler: &JailReport, run: &JailReport) {
        if self.jail_report {
            text::note_lines(&format!("{compiler}{run}"));
        }
    }
}

/// Several layers in one value; clap would make several values of them.
#[derive(Debug, Clone)]
struct Layers(Vec<Layer>);

/// `full`, `none`, or layers with commas in between
fn layers(text: &str) -> Result<Layers, Error> {
    match text {
        "full" => Ok(Layers(Layer::ALL.to_vec())),
        "none" => Ok(Layers(Vec::new())),
        _ => Ok(Layers(text.split(',').map(str::parse).collect::<sandpool::Result<_>>()?)),
    }
}

const LIMITS: &str = "Limits";

/// A flag for each limit, and the values of the flags that were given.
#[derive(Debug)]
struct LimitArgs(Vec<(&'static str, String)>);

impl clap::Args for LimitArgs {
    fn augment_args(command: Command) -> Command {
        fn args<L: Clone + Default>(keys: &'static [Key<L>]) -> impl Iterator<Item = Arg> {
            keys.iter().map(|key| {
                let default = Some(key.default()).filter(|default| default != "none");
                let default = default.map(|default| format!(" [default: {default}]")).unwrap_or_default();
                Arg::new(key.name)
                    .long(key.name)
                    .value_name(key.value)
                    .help(format!("{}{default}", key.help))
                    .help_heading(LIMITS)
                    .value_parser(move |value: &str| key.check(value).map(|()| value.to_owned()))
            })
        }
        command.args(args(LimitKey::ALL)).args(args(CompileLimitKey::ALL))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for LimitArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let names = LimitKey::ALL.iter().map(|key| key.name);
        let names = names.chain(CompileLimitKey::ALL.iter().map(|key| key.name));
        let given = |name| Some((name, matches.get_one::<String>(name)?.clone()));
        Ok(Self(names.filter_map(given).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
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
            Err(std::env::VarError::NotPresent) => {
                Err("this environment does not have the variable; NAME=VALUE sets it".to_owned())
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err("the value in this environment is not UTF-8".to_owned())
            }
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn a_variable_without_a_value_is_taken_from_the_environment() {
        assert_eq!(variable("A=1=2").unwrap(), ("A".to_owned(), "1=2".to_owned()));
        assert_eq!(variable("A=").unwrap(), ("A".to_owned(), String::new()));
        assert_eq!(variable("PATH").unwrap().1, std::env::var("PATH").unwrap());
        for bad in ["", "=", "=1", "SANDPOOL_NOT_SET_ANYWHERE"] {
            assert!(variable(bad).is_err(), "{bad}");
        }
    }
}
