//! Settings that are chosen by one word.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::Sandbox;
use crate::{Error, Result};

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
