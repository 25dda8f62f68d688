//! The directories of the host that guests may use.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A directory of the host that guests may use.
///
/// ```
/// let grant: sandpool::DirGrant = "/tmp:/data:ro".parse()?;
/// assert_eq!(grant.guest, "/data");
/// assert!(grant.is_read_only);
/// # Ok::<(), sandpool::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DirGrant {
    /// the directory on the host
    pub host: PathBuf,
    /// its name for guests
    pub guest: String,
    /// whether guests may only read it
    pub is_read_only: bool,
}

impl DirGrant {
    /// Grants a directory of the host, which guests may read under the second name.
    ///
    /// ```
    /// use sandpool::DirGrant;
    ///
    /// assert_eq!(DirGrant::read_only("./data", "/data"), "./data:/data:ro".parse()?);
    /// assert_eq!(DirGrant::writable("./out", "/out"), "./out:/out".parse()?);
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    pub fn read_only(host: impl Into<PathBuf>, guest: impl Into<String>) -> Self {
        Self { host: host.into(), guest: guest.into(), is_read_only: true }
    }

    /// Grants a directory of the host, which guests may read and change under the second name.
    pub fn writable(host: impl Into<PathBuf>, guest: impl Into<String>) -> Self {
        Self { host: host.into(), guest: guest.into(), is_read_only: false }
    }
}

impl fmt::Display for DirGrant {
    /// Writes `HOST:GUEST` or `HOST:GUEST:ro`, as it can be read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |name: &str| name.replace('\\', r"\\").replace(':', r"\:");
        write!(f, "{}:{}", escaped(&self.host.to_string_lossy()), escaped(&self.guest))?;
        if self.is_read_only { f.write_str(":ro") } else { Ok(()) }
    }
}

impl std::str::FromStr for DirGrant {
    type Err = Error;

    /// Reads `HOST[:GUEST][:ro]`. Without `GUEST`, guests see it under the name it has on the host. A colon that is part of a
    /// name is written `\:`, and a backslash before a colon `\\`.
    ///
    /// ```
    /// let grant: sandpool::DirGrant = r"/tmp/a\:b:/d:ro".parse()?;
    /// assert_eq!((grant.host.to_str(), &*grant.guest), (Some("/tmp/a:b"), "/d"));
    /// assert_eq!(grant.to_string(), r"/tmp/a\:b:/d:ro");
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    fn from_str(text: &str) -> Result<Self> {
        let mut parts = parts(text);
        let is_read_only = parts.len() > 1 && parts.pop_if(|last| last == "ro").is_some();
        let (host, guest) = match parts.as_slice() {
            [host] => (host, host),
            [host, guest] => (host, guest),
            _ => (&String::new(), &String::new()),
        };
        if host.is_empty() || guest.is_empty() {
            return Err(Error::Invalid {
                // The hint is part of the text, because a refused command line has a hint of its own.
                what: format!(
                    "`{text}` is not a directory grant: it is HOST, HOST:GUEST or HOST:GUEST:ro, where a colon in a name is \
                     written `\\:`"
                ),
                hint: Some(r"write it like ./data:/data:ro, or like '/data/a\:b:/data'".to_owned()),
            });
        }
        Ok(Self { host: host.into(), guest: guest.clone(), is_read_only })
    }
}

/// The parts between colons. A colon after a backslash separates nothing; a backslash elsewhere stands for itself.
fn parts(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => part.push(rest.next_if(|next| matches!(next, ':' | '\\')).unwrap_or(c)),
            ':' => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    parts.push(part);
    parts
}
