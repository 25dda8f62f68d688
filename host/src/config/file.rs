//! Configuration files: what a sandbox and a profile read of them, and the file that says what a profile sets.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{CompileLimitKey, Key, LimitKey, Profile, Sandbox};
use crate::nearest::nearest_name;
use crate::{Error, Result, units};

/// The configuration file with all defaults, and an explanation of every key. `sandpool config` prints it.
pub const DEFAULT_CONFIG: &str = include_str!("../../default-config.toml");

const _: () = assert!(
    have_keys(LimitKey::ALL, DEFAULT_CONFIG) && have_keys(CompileLimitKey::ALL, DEFAULT_CONFIG),
    "a limit has no key in `host/default-config.toml`: explain it there"
);

/// The table of a configuration file that has the limits.
const TABLE: &str = "limits";
/// The key that chooses many limits at once.
const PROFILE: &str = "profile";

/// Settings of a configuration file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) profile: Option<Profile>,
    pub(super) sandbox: Sandbox,
}

/// Reads all settings of a configuration file.
pub(super) fn read_file(path: &Path) -> Result<Settings> {
    let config = |source| Error::Config { path: path.to_owned(), source: Box::new(source) };
    let unreadable = |source| config(Error::Os { what: "read it", source });
    read(&std::fs::read_to_string(path).map_err(unreadable)?).map_err(config)
}

/// Reads all settings from the text of a configuration file. The file's own keys override its profile, wherever the profile stands.
pub(super) fn read(text: &str) -> Result<Settings> {
    let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    let invalid = |at: usize, what: String, hint: Option<String>| Error::Invalid {
        what: format!("line {}: {what}", line(at)),
        hint,
    };
    let nearest = |nearest: Option<String>| nearest.map(|name| format!("the nearest name is {name}"));
    let file = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        invalid(at, error.message().to_owned(), None)
    })?;
    let names =
        || LimitKey::ALL.iter().map(|key| key.name).chain(CompileLimitKey::ALL.iter().map(|key| key.name));
    let profile = file.get_ref().iter().find(|(key, _)| key.get_ref().as_ref() == PROFILE);
    let profile = profile.map(|(key, value)| {
        let at = key.span().start;
        let Some(name) = value.get_ref().as_str() else {
            let found = value.get_ref().type_str();
            return Err(invalid(at, format!("{PROFILE} is a {found}, not a name"), None));
        };
        name.parse().map_err(|error: Error| invalid(at, error.to_string(), error.hint()))
    });
    let profile: Option<Profile> = profile.transpose()?;
    let mut sandbox = profile.map_or_else(Sandbox::default, Profile::sandbox);
    for (table, value) in file.get_ref() {
        let at = table.span().start;
        let table = table.get_ref().as_ref();
        if table == PROFILE {
            continue;
        }
        if table != TABLE {
            let near = nearest_name([TABLE, PROFILE], table).map(str::to_owned);
            // A limit's name outside of the table: the table was forgotten.
            let near =
                near.or_else(|| names().find(|name| *name == table).map(|name| format!("{TABLE}.{name}")));
            return Err(invalid(at, format!("there is no key {table}"), nearest(near)));
        }
        let Some(keys) = value.get_ref().as_table() else {
            let found = value.get_ref().type_str();
            return Err(invalid(at, format!("{TABLE} is a {found}, not a table"), None));
        };
        for (name, value) in keys {
            let (at, name) = (name.span().start, name.get_ref().as_ref());
            let (kind, field) = if let Some(key) = LimitKey::from_name(name) {
                (key.value, (key.field)(&mut sandbox.limits))
            } else if let Some(key) = CompileLimitKey::from_name(name) {
                (key.value, (key.field)(&mut sandbox.compile_limits))
            } else {
                let near = nearest_name(names(), name).map(|name| format!("{TABLE}.{name}"));
                return Err(invalid(at, format!("there is no key {TABLE}.{name}"), nearest(near)));
            };
            let text = match value.get_ref() {
                DeValue::String(text) => text.to_string(),
                DeValue::Integer(number) => number.to_string(),
                other => {
                    let what = match kind {
                        "TIME" => "a time, such as \"5s\"",
                        "SIZE" => "a size, such as \"256MiB\"",
                        _ => "a number",
                    };
                    let found = other.type_str();
                    return Err(invalid(at, format!("{TABLE}.{name} is a {found}, not {what}"), None));
                }
            };
            field
                .set(&text)
                .map_err(|why| invalid(at, format!("`{text}` is no value for {TABLE}.{name}"), Some(why)))?;
        }
    }
    Ok(Settings { profile, sandbox })
}

impl Sandbox {
    /// The sandbox that the text of a configuration file describes: its limits, and what its profile requires. Limits that the file
    /// doesn't set have their defaults.
    ///
    /// ```
    /// use sandpool::Sandbox;
    ///
    /// let sandbox = Sandbox::from_toml("limits.cpu-time = '1.5s'\nlimits.memory-max = '64MiB'")?;
    /// assert_eq!(sandbox.limits.memory_max, 64 << 20);
    /// assert_eq!(Sandbox::from_toml("profile = 'untrusted'")?, Sandbox::untrusted());
    ///
    /// let error = Sandbox::from_toml("[limits]\nmemory-min = '64MiB'").unwrap_err();
    /// assert_eq!(error.to_string(), "line 2: there is no key limits.memory-min");
    /// assert_eq!(error.hint().as_deref(), Some("the nearest name is limits.memory-max"));
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for invalid TOML, unknown keys, and values that aren't allowed.
    pub fn from_toml(text: &str) -> Result<Self> {
        Ok(read(text)?.sandbox)
    }

    /// The sandbox that a configuration file describes, as [`from_toml`](Self::from_toml) reads it.
    ///
    /// ```no_run
    /// let sandbox = sandpool::Sandbox::from_file("sandpool.toml")?;
    /// # Ok::<(), sandpool::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), with the error of [`from_toml`](Self::from_toml) or the reason why the file can't be
    /// read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        Ok(read_file(path.as_ref())?.sandbox)
    }
}

impl Profile {
    /// The profile that a configuration file chooses, if the file chooses one.
    ///
    /// # Errors
    /// The same errors as for [`Sandbox::from_file`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Option<Self>> {
        Ok(read_file(path.as_ref())?.profile)
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

/// Whether a configuration file sets all of these limits.
const fn have_keys<L>(mut keys: &[Key<L>], file: &str) -> bool {
    while let [key, rest @ ..] = keys {
        if !sets(file.as_bytes(), key.name.as_bytes()) {
            return false;
        }
        keys = rest;
    }
    true
}

/// Whether a line begins with this key.
const fn sets(mut file: &[u8], key: &[u8]) -> bool {
    while let [byte, rest @ ..] = file {
        if *byte == b'\n' && begins_with(rest, key) {
            return true;
        }
        file = rest;
    }
    false
}

const fn begins_with(mut text: &[u8], mut key: &[u8]) -> bool {
    while let ([byte, rest @ ..], [expected, keys @ ..]) = (text, key) {
        if *byte != *expected {
            return false;
        }
        (text, key) = (rest, keys);
    }
    key.is_empty() && matches!(text, [b' ', b'=', ..])
}
