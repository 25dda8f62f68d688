#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fmt::Debug;

use super::key::{NONE, set};
use super::*;
use crate::config::file::{DEFAULT_CONFIG, Settings, read};
use crate::config::{Profile, Sandbox};

/// A value that isn't the default, for each kind.
fn other<L>(key: &Key<L>) -> &'static str {
    match key.value {
        "N" => "7",
        "SIZE" => "2MiB",
        _ => "90s",
    }
}

#[test]
fn the_default_file_says_what_holds_without_one() {
    let nothing = || defaults(Limits::default(), CompileLimits::default());
    assert_eq!(read(DEFAULT_CONFIG).unwrap(), nothing());
    assert_eq!(read("").unwrap(), nothing());
    are_documented(LimitKey::ALL);
    are_documented(CompileLimitKey::ALL);
}

fn defaults(limits: Limits, compile: CompileLimits) -> Settings {
    Settings { profile: None, sandbox: Sandbox::new().limits(limits).compile_limits(compile) }
}

fn are_documented<L: Clone + Default>(keys: &[Key<L>]) {
    for key in keys {
        let found = DEFAULT_CONFIG
            .lines()
            .zip(DEFAULT_CONFIG.lines().skip(1))
            .find(|(_, line)| line.strip_prefix(key.name).is_some_and(|rest| rest.starts_with(" = ")));
        let (above, line) = found.unwrap_or_else(|| panic!("{} is missing", key.name));
        assert!(above.starts_with("# "), "nothing is said of {}", key.name);
        assert!(line.trim_matches('"').ends_with(&key.default()), "{line}, not {}", key.default());
    }
}

/// A field without a row can't be set by name.
#[test]
fn every_field_is_a_key_and_every_key_another_field() {
    are_fields(LimitKey::ALL);
    are_fields(CompileLimitKey::ALL);
    assert!(LimitKey::ALL.iter().all(|key| CompileLimitKey::from_name(key.name).is_none()));
}

fn are_fields<L: Clone + Default + PartialEq + Debug + Serialize>(keys: &[Key<L>]) {
    let fields = |limits: &L| -> Vec<String> {
        let value = serde_json::to_value(limits).unwrap();
        value.as_object().unwrap().iter().map(|(name, value)| format!("{name} {value}")).collect()
    };
    let default = fields(&L::default());
    assert_eq!(default.len(), keys.len());
    for key in keys {
        let mut limits = L::default();
        set(keys, &mut limits, key.name, other(key)).unwrap();
        let changed = fields(&limits);
        let changed: Vec<_> = changed.iter().filter(|field| !default.contains(field)).collect();
        let [changed] = changed[..] else { panic!("{}: {changed:?}", key.name) };
        assert!(changed.starts_with(&format!("{} ", key.name.replace('-', "_"))), "{changed:?}");
        assert_eq!(key.show(&limits), other(key));
        set(keys, &mut limits, key.name, &key.default()).unwrap();
        assert_eq!(limits, L::default());
    }
}

#[test]
fn every_key_has_the_code_that_guests_know_it_by() {
    for key in LimitKey::ALL {
        let code = Limit::code_of(key.name).unwrap();
        let mut limits = Limits::default();
        limits.set(key.name, other(key)).unwrap();
        let limit = limits.by_code(code).unwrap();
        assert_eq!((limit.name(), limit.code()), (key.name, code));
        let figure = match key.value {
            "N" => 7,
            "SIZE" => 2 << 20,
            _ => 90_000_000,
        };
        assert_eq!(limit.figure(), figure);
        limits.set(key.name, &key.default()).unwrap();
        assert_eq!(limits.by_code(code).is_none(), key.default() == NONE);
    }
    assert_eq!(Limits::default().by_code(0), None);
}

#[test]
fn a_file_sets_each_and_leaves_the_others() {
    for key in LimitKey::ALL {
        let text = format!("# mine\n[limits]\n{} = {:?}\n", key.name, other(key));
        let mut expected = Limits::default();
        expected.set(key.name, other(key)).unwrap();
        assert_eq!(Sandbox::from_toml(&text).unwrap().limits, expected);
    }
    for key in CompileLimitKey::ALL {
        let text = format!("[limits]\n{} = {:?}\n", key.name, other(key));
        let mut expected = CompileLimits::default();
        expected.set(key.name, other(key)).unwrap();
        assert_eq!(expected.get(key.name).as_deref(), Some(other(key)));
        assert_eq!(read(&text).unwrap(), defaults(Limits::default(), expected));
    }
    let Sandbox { limits, .. } =
        Sandbox::from_toml("limits = { processes-max = 8, memory-max = 65536 }").unwrap();
    assert_eq!((limits.processes_max, limits.memory_max), (8, 65_536));
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line() {
    for (text, message, hint) in [
        ("[limits]\n\nmemroy-max = 1", "line 3: there is no key limits.memroy-max", "limits.memory-max"),
        ("[limits]\ncompile-time = '1s'", "line 2: there is no key limits.compile-time", "compile-time-max"),
        (
            "[limits]\ncompile-cpu-max = 'none'",
            "line 2: `none` is no value for limits.compile-cpu-max",
            "ms, s",
        ),
        ("artifact-max = '1MiB'", "line 1: there is no key artifact-max", "limits.artifact-max"),
        ("[limits]\ncolour = 1", "line 2: there is no key limits.colour", ""),
        ("[limit]\n", "line 1: there is no key limit", "limits"),
        ("\nmemory-max = '1MiB'", "line 2: there is no key memory-max", "limits.memory-max"),
        ("limits = 3", "line 1: limits is a integer, not a table", ""),
        ("[limits]\ncpu-time = 5.0", "line 2: limits.cpu-time is a float, not a time, such as \"5s\"", ""),
        ("[limits]\nprocesses-max = true", "line 2: limits.processes-max is a boolean, not a number", ""),
        ("[limits]\ncpu-time = 5", "line 2: `5` is no value for limits.cpu-time", "ms, s, min or h; or none"),
        (
            "[limits]\nmemory-max = '1MB'",
            "line 2: `1MB` is no value for limits.memory-max",
            "KiB, MiB or GiB",
        ),
        ("[limits]\nprocesses-max = -1", "line 2: `-1` is no value for limits.processes-max", "1 or more"),
        ("[limits\n", "line 1: ", ""),
        ("[limits]\nstack-max = '1MiB'\nstack-max = '2MiB'", "line 3: ", ""),
    ] {
        let error = Sandbox::from_toml(text).unwrap_err();
        assert!(error.to_string().starts_with(message), "{text}: {error}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{text}: {:?}", error.hint());
    }
}

/// Everything that a run uses is bounded, for the run as a whole or by the number of processes.
#[test]
fn untrusted_code_is_bounded_in_everything() {
    let limits = Limits::untrusted();
    limits.check().unwrap();
    CompileLimits::untrusted().check().unwrap();
    for key in LimitKey::ALL {
        let of_the_run = LimitKey::from_name(&format!("run-{}", key.name)).unwrap_or(key);
        let is_bounded = limits.get(of_the_run.name).unwrap() != NONE;
        // Other limits already bound these: instructions take time, and items take room.
        assert!(is_bounded || ["fuel", "queue-items-max"].contains(&key.name), "{}", key.name);
    }
    assert_eq!(Limits::default().no_higher_than(&limits), limits);
    assert_eq!(limits.clone().no_higher_than(&Limits::default()), limits);
    let compile = CompileLimits::untrusted();
    assert_eq!(CompileLimits::default().no_higher_than(&compile), compile);
}

#[test]
fn a_profile_is_a_file_and_the_files_keys_go_before_it() {
    let text = Profile::Untrusted.config();
    let untrusted =
        |limits| Settings { profile: Some(Profile::Untrusted), sandbox: Sandbox::untrusted().limits(limits) };
    assert_eq!(read(&text).unwrap(), untrusted(Limits::untrusted()));
    // The file has no more keys than the profile sets, and each has an explanation.
    let keys: Vec<_> = text.lines().filter_map(|line| line.split_once(" = ")).collect();
    assert_eq!(keys.len(), 1 + 13 + 5, "{text}");
    assert!(keys.contains(&("memory-max", "\"256MiB\"")) && keys.contains(&("processes-max", "128")));
    let shorter: String =
        text.lines().filter(|line| !line.contains("-max = ")).map(|line| format!("{line}\n")).collect();
    assert_eq!(read(&shorter).unwrap(), untrusted(Limits::untrusted()));

    for text in [
        "profile = 'untrusted'\n[limits]\nmemory-max = '1GiB'\nrun-cpu-time = 'none'",
        "limits = { memory-max = '1GiB', run-cpu-time = 'none' }\nprofile = 'untrusted'",
    ] {
        let limits = Limits { memory_max: 1 << 30, run_cpu_time: None, ..Limits::untrusted() };
        assert_eq!(read(text).unwrap(), untrusted(limits));
    }
    for (text, message, hint) in [
        ("\nprofile = 'trusted'", "line 2: there is no profile trusted", "untrusted"),
        ("profile = 1", "line 1: profile is a integer, not a name", ""),
        ("profil = 'untrusted'", "line 1: there is no key profil", "profile"),
    ] {
        let error = read(text).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(error.hint().unwrap_or_default().contains(hint), "{error:?}");
    }
}

/// The default limits but for this one.
fn limited(name: &str, value: &str) -> Limits {
    let mut limits = Limits::default();
    limits.set(name, value).unwrap();
    limits
}

#[test]
fn the_lower_of_two_limits_of_each_kind() {
    for (name, low, high) in [
        ("memory-max", "1MiB", "2MiB"),
        ("processes-max", "3", "4"),
        ("fuel", "5", "6"),
        ("stdio-max", "1MiB", "2MiB"),
        ("cpu-time", "1s", "2s"),
    ] {
        let [low, high] = [low, high].map(|value| limited(name, value));
        assert_eq!(low.clone().no_higher_than(&high), low);
        assert_eq!(high.no_higher_than(&low), low);
    }
    for name in ["fuel", "cpu-time", "stdio-max", "processes-max"] {
        let limited = limited(name, other(LimitKey::from_name(name).unwrap()));
        assert_eq!(Limits::default().no_higher_than(&limited), limited);
        assert_eq!(limited.clone().no_higher_than(&Limits::default()), limited);
    }
}

#[test]
fn what_cannot_be_had_is_refused() {
    Limits::default().check().unwrap();
    for (name, value, hint) in [
        ("processes-max", "40000", "between 1 and 32768"),
        ("objects-max", "2000000", "between 1 and 1048576"),
        ("arena-size", "100", "between 1MiB and 1024GiB"),
        ("stack-max", "1KiB", "at least 64KiB"),
        ("open-files-max", "1000000", "between 1 and 524288"),
    ] {
        assert_eq!(limited(name, value).check().unwrap_err().hint().as_deref(), Some(hint));
    }
    let limits = Limits { wall_time: Some(Duration::ZERO), ..Limits::default() };
    assert_eq!(limits.check().unwrap_err().to_string(), "`0` is no value for wall-time");
    let error = Limits::default().set("memory", "1MiB").unwrap_err();
    assert_eq!(error.to_string(), "there is no limit memory");
    let limits = CompileLimits { compile_time_max: Duration::ZERO, ..CompileLimits::default() };
    assert_eq!(limits.check().unwrap_err().to_string(), "`0` is no value for compile-time-max");
}

/// Some people write nothing for no limit: for a queue without a bound, for one.
#[test]
fn no_limit_is_nothing() {
    are_not_nothing(LimitKey::ALL, Limits::check);
    are_not_nothing(CompileLimitKey::ALL, CompileLimits::check);
}

fn are_not_nothing<L: Clone + Default>(keys: &[Key<L>], check: fn(&L) -> Result<()>) {
    for key in keys {
        let mut limits = L::default();
        match (key.field)(&mut limits) {
            Field::Count(count) => *count = 0,
            Field::Size(size) => *size = 0,
            Field::MaybeCount(count) | Field::MaybeSize(count) => *count = Some(0),
            Field::MaybeTime(time) => *time = Some(Duration::ZERO),
            Field::Time(time) => *time = Duration::ZERO,
        }
        let error = check(&limits).unwrap_err();
        assert!(error.to_string().ends_with(&format!(" is no value for {}", key.name)), "{error}");
        assert!(error.hint().is_some(), "{}", key.name);
        // Zero isn't a limit in any unit in which people may write it.
        for text in ["0", "00", "0B", "0KiB", "0GiB", "0s", "0ms", "0.0s", "0h", "-1", "", " "] {
            assert!(key.check(text).is_err(), "{}: {text:?}", key.name);
        }
        // The least value is allowed, as far as that makes sense.
        match (key.field)(&mut limits) {
            Field::Count(count) => *count = 1,
            Field::Size(size) => *size = 1 << 20,
            Field::MaybeCount(count) | Field::MaybeSize(count) => *count = Some(1),
            Field::MaybeTime(time) => *time = Some(Duration::from_nanos(1)),
            Field::Time(time) => *time = Duration::from_nanos(1),
        }
        check(&limits).unwrap();
    }
}
