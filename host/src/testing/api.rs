//! Rules of the public interface.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::fs;
use std::path::Path;
use std::str::FromStr;

use crate::jail::{JailReport, Layer};
use crate::limits::{CompileLimits, Profile};
use crate::module::{Inspection, TaskInfo, UnknownImports};
use crate::pool::{
    Completed, Event, Feed, Isolation, PoolEnd, Results, Stats, StreamStopper, TaskError, TaskFuture,
};
use crate::run::{OnDeadlock, ProcessReport, Stopper, Summary};
use crate::*;

/// Any thread can hold and use the values that an embedder holds.
#[test]
fn handles_are_shared_by_threads() {
    fn check<T: Debug + Send + Sync + 'static>() {}

    check::<Module>();
    check::<module::Builder>();
    check::<pool::Builder<'static>>();
    check::<run::Builder<'static>>();
    check::<Pool>();
    check::<Run>();
    check::<Stopper>();
    check::<StreamStopper>();
    check::<TaskFuture<Vec<u8>>>();
    check::<Feed>();
    check::<Results>();
    check::<pool::CommandFeed>();
    check::<pool::CommandResults>();
    check::<run::RunFuture<Summary>>();
    check::<Error>();
}

/// Settings and reports can be kept, copied and compared.
#[test]
fn values_are_values() {
    fn check<T: Debug + Clone + PartialEq + Send + Sync + 'static>() {}

    check::<Sandbox>();
    check::<DirGrant>();
    check::<AddressGrant>();
    check::<Limits>();
    check::<CompileLimits>();
    check::<Summary>();
    check::<ProcessReport>();
    check::<JailReport>();
    check::<Inspection>();
    check::<TaskInfo>();
    check::<TaskError>();
    check::<PoolEnd>();
    check::<Event>();
    check::<Stats>();
    check::<Completed<u64>>();
    check::<pool::Command>();
    check::<pool::CommandOutput>();
    check::<pool::Usage>();
    check::<run::RunOutput>();
    check::<run::Captured>();
    check::<run::Keep>();
    check::<ExitStatus>();
    check::<Signal>();
}

#[test]
fn text_that_is_read_can_be_written() {
    fn check<T: Display + FromStr<Err = Error> + PartialEq + Debug>(texts: &[&str]) {
        for text in texts {
            assert_eq!(text.parse::<T>().unwrap().to_string(), *text);
        }
    }

    check::<DirGrant>(&["./data:/data:ro", r"/tmp/a\:b\\c:/d"]);
    check::<AddressGrant>(&["tcp:127.0.0.1:6000", "tcp:*:*", "unix:/tmp/a", "sandpool:name"]);
    check::<Isolation>(&["worker", "task"]);
    check::<Layer>(&["seccomp", "no-new-privs"]);
    check::<OnDeadlock>(&["kill", "report"]);
    check::<Profile>(&["untrusted"]);
    check::<UnknownImports>(&["refuse", "trap"]);
}

#[test]
fn every_failure_becomes_an_error() {
    fn check<T: Into<Error>>() {}

    check::<TaskError>();
    check::<PoolEnd>();
}

/// The names at the root are those that most programs use. Each other name is in one module, and none is in two places.
#[test]
fn each_name_has_one_place() {
    const ROOT: [&str; 16] = [
        "AddressGrant",
        "DirGrant",
        "Error",
        "ErrorKind",
        "ExitStatus",
        "GuestText",
        "Limits",
        "Module",
        "Pool",
        "Result",
        "Run",
        "Sandbox",
        "Signal",
        "Trap",
        "init",
        "set_executable",
    ];
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |file: &str| fs::read_to_string(sources.join(file)).unwrap();
    let root = read("lib.rs");
    let mut places = BTreeMap::<String, Vec<String>>::new();
    let mut add = |place: &str, text: &str| {
        for name in exported(text) {
            // Each of them has a builder.
            let name = if name == "Builder" { format!("{place}::{name}") } else { name };
            places.entry(name).or_default().push(place.to_owned());
        }
    };
    let mut own = String::new();
    let mut rest = &*root;
    while let Some((before, behind)) = rest.split_once("\npub mod ") {
        own.push_str(before);
        let (head, behind) = behind.split_once('\n').unwrap();
        rest = behind;
        if let Some(module) = head.strip_suffix(" {") {
            let (names, behind) = behind.split_once("\n}").unwrap();
            rest = behind;
            // A name that is hidden from the documentation is for nobody to use.
            if module != "command_support" {
                add(module, names);
            }
        }
        own.push('\n');
    }
    own.push_str(rest);
    add("", &own.replace("#[doc(hidden)]\npub ", ""));
    for line in root.lines() {
        if let Some(module) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';'))
            && module != "testing"
        {
            add(module, &read(&format!("{module}/mod.rs")));
        }
    }
    let twice: Vec<_> = places.iter().filter(|(_, places)| places.len() != 1).collect();
    assert!(twice.is_empty(), "names in several places: {twice:?}");
    let at_root: Vec<_> = places
        .iter()
        .filter(|(_, places)| places.iter().all(String::is_empty))
        .map(|(name, _)| &**name)
        .collect();
    assert_eq!(at_root, ROOT, "a name that few programs use belongs into a module");
    assert!(places.len() > 50, "only {} names were found: is this all?", places.len());
}

/// The names that a source makes public at its own level, by `pub use` or as items.
fn exported(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for found in text.split("pub use ").skip(1) {
        let path = found.split(';').next().unwrap_or_default();
        let list = path
            .split_once('{')
            .map_or_else(|| path.rsplit("::").next().unwrap_or_default(), |(_, list)| list);
        names.extend(
            list.split([',', '}']).map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()),
        );
    }
    for kind in ["\npub struct ", "\npub enum ", "\npub fn ", "\npub const ", "\npub type ", "\npub trait "] {
        let items = text.split(kind).skip(1);
        names.extend(
            items.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()),
        );
    }
    names
}

/// The types that are complete, and why nothing is ever added to them.
const COMPLETE: [&str; 10] = [
    // An embedder's match over the kinds of errors is complete.
    "pub enum ErrorKind {",
    // The folders of the cache are the command's.
    "pub struct CacheDirs {",
    // Code that is made from the table of imports has a case for each of these.
    "pub enum ValueType {",
    "pub enum Type {",
    "pub enum Pointee {",
    "pub enum Value {",
    // The two owners of a scheduler carry out each of its decisions, and a new one is work for both.
    "pub enum Lateness {",
    "pub enum Phase<E> {",
    "pub enum Take {",
    "pub struct Claims {",
];

/// Builders are taken and returned by value, no parameter is a bare `bool`, and what may get more variants or fields says so: in
/// the library, in the guest SDK, and in what both are made of.
#[test]
fn signatures_keep_to_the_rules() {
    let crates = ["src", "../guest-sdk/rust/src", "../guest-sdk/scheduler/src", "../guest-sdk/abi/src"];
    let mut complete = COMPLETE.to_vec();
    for sources in crates {
        keeps_to_the_rules(sources, &mut complete);
    }
    assert!(complete.is_empty(), "no such type, or it may get more: {complete:?}");
}

/// Checks the sources of a crate, and removes the complete types that it has from the list.
fn keeps_to_the_rules(sources: &str, complete: &mut Vec<&str>) {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for_each_source(&Path::new(env!("CARGO_MANIFEST_DIR")).join(sources), &mut |path, text| {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let (above, below) = lines.split_at(at);
            let is_wrong =
                if ["pub fn ", "pub const fn ", "pub unsafe fn "].iter().any(|start| line.starts_with(start))
                {
                    let end = below.iter().position(|line| line.contains('{')).unwrap();
                    let signature: String = below.iter().take(end + 1).copied().collect();
                    seen += 1;
                    signature.contains("&mut Self") || signature.contains(": bool")
                } else if (line.starts_with("pub enum ") || line.starts_with("pub struct "))
                && line.contains('{')
                // Guests and the host agree on the bytes of a layout: another one is another version of the contract.
                && !line.contains(": ")
                {
                    let mut attributes = above.iter().rev().take_while(|line| line.starts_with(['#', '/']));
                    let fields = below.iter().skip(1).take_while(|line| **line != "}");
                    let has_public =
                        line.starts_with("pub enum ") || fields.clone().any(|line| line.starts_with("pub "));
                    let may_get_more = attributes.any(|line| *line == "#[non_exhaustive]");
                    if has_public && !may_get_more {
                        complete.retain(|known| known != line);
                    }
                    has_public && !may_get_more && !COMPLETE.contains(line)
                } else {
                    false
                };
            if is_wrong {
                wrong.push(format!("{}:{}: {line}", path.display(), at + 1));
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 10, "only {seen} functions of {sources} were found");
}

fn for_each_source(folder: &Path, see: &mut dyn FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            for_each_source(&path, see);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            see(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}
