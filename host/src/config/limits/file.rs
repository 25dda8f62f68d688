//! Configuration files.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::{CompileLimitKey, LimitKey, Profile};
use crate::config::Sandbox;
use crate::nearest::nearest_name;
use crate::{Error, Result};

/// The configuration file with all defaults, and an explanation of every key. `sandpool config` prints it.
pub const DEFAULT_CONFIG: &str = include_str!("../../../default-config.toml");

/// The table of a configuration file that has the limits.
pub(super) const TABLE: &str = "limits";
/// The key that chooses many limits at once.
pub(super) const PROFILE: &str = "profile";

/// Settings of a configuration file.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) struct Settings {
    pub(in crate::config) profile: Option<Profile>,
    pub(in crate::config) sandbox: Sandbox,
}

/// Reads all settings of a configuration file.
pub(in crate::config) fn read_file(path: &Path) -> Result<Settings> {
    let config = |source| Error::Config { path: path.to_owned(), source: Box::new(source) };
    let unreadable = |source| config(Error::Os { what: "read it", source });
    read(&std::fs::read_to_string(path).map_err(unreadable)?).map_err(config)
}

/// Reads all settings from the text of a configuration file. The file's own keys override its profile, wherever the profile stands.
pub(in crate::config) fn read(text: &str) -> Result<Settings> {
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
