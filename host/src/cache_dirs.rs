//! The places of Sandpool's folders in a user's cache.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::{Error, Result};

/// Sandpool's folders in the user's cache. They need not exist.
#[derive(Debug, PartialEq, Eq)]
pub struct CacheDirs {
    /// compiled modules
    pub modules: PathBuf,
    /// builds of guests
    pub guests: PathBuf,
}

impl CacheDirs {
    /// Finds the folders that the environment names.
    pub fn find() -> Result<Self> {
        Self::named_by(|name| env::var_os(name)).ok_or_else(|| Error::Invalid {
            what: "there is no cache directory: neither XDG_CACHE_HOME nor HOME is set".to_owned(),
            hint: Some("set SANDPOOL_CACHE_DIR".to_owned()),
        })
    }

    fn named_by(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(own) = path("SANDPOOL_CACHE_DIR") {
            return Some(Self { guests: own.join("guests"), modules: own });
        }
        // The XDG specification says that relative paths are ignored.
        let cache = path("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let own = cache.or_else(|| Some(path("HOME")?.join(".cache")))?.join("sandpool");
        Some(Self { modules: own.join("modules"), guests: own.join("guests") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_come_from_the_environment() {
        let found = |set: &[(&str, &str)]| {
            CacheDirs::named_by(|name| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
            })
        };
        let dirs = |modules: &str, guests: &str| {
            Some(CacheDirs { modules: PathBuf::from(modules), guests: PathBuf::from(guests) })
        };
        let (own, xdg, home) =
            (("SANDPOOL_CACHE_DIR", "/own"), ("XDG_CACHE_HOME", "/xdg"), ("HOME", "/home/me"));
        let in_xdg = dirs("/xdg/sandpool/modules", "/xdg/sandpool/guests");
        let in_home = dirs("/home/me/.cache/sandpool/modules", "/home/me/.cache/sandpool/guests");
        assert_eq!(found(&[own, xdg, home]), dirs("/own", "/own/guests"));
        assert_eq!(found(&[xdg, home]), in_xdg);
        assert_eq!(found(&[("SANDPOOL_CACHE_DIR", ""), xdg, home]), in_xdg);
        assert_eq!(found(&[home]), in_home);
        assert_eq!(found(&[("XDG_CACHE_HOME", "relative"), home]), in_home);
        assert_eq!(found(&[("XDG_CACHE_HOME", "relative")]), None);
        assert_eq!(found(&[]), None);
    }
}
