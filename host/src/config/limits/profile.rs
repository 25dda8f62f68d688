//! Settings that are chosen by one word.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use super::file::{DEFAULT_CONFIG, PROFILE, TABLE, read_file};
use super::{CompileLimits, Limits};
use crate::config::Layer;
use crate::{Error, Result, units};

/// Settings that are chosen by one word: the flag `--profile`, or the key `profile` of a configuration file.
///
/// ```no_run
/// # fn main() -> sandpool::Result<()> {
/// use sandpool::{Module, Profile, Run};
///
/// let profile = Profile::Untrusted;
/// let layers = profile.required_layers();
/// let module = Module::builder()
///     .limits(profile.compile_limits())
///     .require_jail(layers.iter().copied())
///     .load_file("stranger.wasm")?;
/// Run::builder(&module).limits(profile.limits()).require_jail(layers.iter().copied()).start()?.wait()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Profile {
    /// Settings for untrusted code.
    Untrusted,
}

impl Profile {
    /// All profiles.
    pub const ALL: &[Self] = &[Self::Untrusted];

    /// Name of the profile.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
        }
    }

    /// The profile that a configuration file chooses, if the file chooses one.
    ///
    /// # Errors
    /// The same errors as for [`Limits::from_file`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Option<Self>> {
        Ok(read_file(path.as_ref())?.profile)
    }

    /// Limits of the processes of a run.
    #[must_use]
    pub fn limits(self) -> Limits {
        match self {
            Self::Untrusted => Limits::untrusted(),
        }
    }

    /// Limits of compiling a module.
    #[must_use]
    pub fn compile_limits(self) -> CompileLimits {
        match self {
            Self::Untrusted => CompileLimits::untrusted(),
        }
    }

    /// Layers of the jail that the profile requires.
    #[must_use]
    pub fn required_layers(self) -> &'static [Layer] {
        match self {
            Self::Untrusted => &Layer::ALL,
        }
    }

    /// How long each task of a pool may run.
    #[must_use]
    pub fn task_timeout(self) -> Duration {
        match self {
            Self::Untrusted => Duration::from_secs(10),
        }
    }

    /// A configuration file that chooses the profile, with all limits that the profile sets.
    ///
    /// ```
    /// let text = sandpool::Profile::Untrusted.config();
    /// assert_eq!(sandpool::Limits::from_toml(&text)?, sandpool::Limits::untrusted());
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    #[must_use]
    pub fn config(self) -> String {
        let (limits, compile) = (self.limits(), self.compile_limits());
        let mut text = format!(
            "# The profile {name}, as --profile {name} chooses it, and what it sets. The command line has two more:\n\
             #   --require-jail full   nothing is compiled or run unless all layers of the jail hold\n\
             #   --task-timeout {}    for each task of `sandpool map`\n\
             # A flag of the same name sets one otherwise, as do the keys below.\n\n\
             {PROFILE} = \"{name}\"\n\n[{TABLE}]\n",
            units::of_time(self.task_timeout()),
            name = self.name(),
        );
        // In that file, each key has a paragraph of its own, below its explanation.
        for paragraph in DEFAULT_CONFIG.split("\n\n") {
            let paragraph = paragraph.trim_end();
            let (about, line) = paragraph.rsplit_once('\n').unwrap_or(("", paragraph));
            let Some((name, default)) = line.split_once(" = ") else { continue };
            let Some(value) = limits.get(name).or_else(|| compile.get(name)) else { continue };
            let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
            let value = if is_number { value } else { format!("\"{value}\"") };
            if value != default {
                text.push_str(&format!("\n{about}\n{name} = {value}\n"));
            }
        }
        text
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|profile| profile.name() == name).ok_or_else(|| Error::Invalid {
            what: format!("there is no profile {name}"),
            hint: Some(format!(
                "there is: {}",
                Self::ALL.iter().map(|profile| profile.name()).collect::<Vec<_>>().join(", ")
            )),
        })
    }
}
