//! Settings that are chosen by one word.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use super::file::{DEFAULT_CONFIG, PROFILE, TABLE, read_file};
use crate::config::Sandbox;
use crate::{Error, Result, units};

/// Settings that are chosen by one word: the flag `--profile`, or the key `profile` of a configuration file.
///
/// ```no_run
/// # fn main() -> sandpool::Result<()> {
/// use sandpool::{Module, Run};
/// use sandpool::limits::Profile;
///
/// let sandbox = "untrusted".parse::<Profile>()?.sandbox();
/// let module = Module::builder().sandbox(sandbox.clone()).load_file("stranger.wasm")?;
/// Run::builder(&module).sandbox(sandbox).start()?.wait()?;
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
    /// The same errors as for [`Sandbox::from_file`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Option<Self>> {
        Ok(read_file(path.as_ref())?.profile)
    }

    /// The sandbox of the profile: its limits, and the layers of the jail that it requires.
    ///
    /// ```
    /// use sandpool::Sandbox;
    /// use sandpool::limits::Profile;
    ///
    /// assert_eq!(Profile::Untrusted.sandbox(), Sandbox::untrusted());
    /// ```
    #[must_use]
    pub fn sandbox(self) -> Sandbox {
        match self {
            Self::Untrusted => Sandbox::untrusted(),
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
    /// let text = sandpool::limits::Profile::Untrusted.config();
    /// assert_eq!(sandpool::Sandbox::from_toml(&text)?, sandpool::Sandbox::untrusted());
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    #[must_use]
    pub fn config(self) -> String {
        let Sandbox { limits, compile_limits, .. } = self.sandbox();
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
            let Some(value) = limits.get(name).or_else(|| compile_limits.get(name)) else { continue };
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
