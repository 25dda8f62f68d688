//! The list of promises, `host/docs/SPECIFICATION.md`, is true of what it says of the tests.

use std::collections::BTreeSet;
use std::fs;

use crate::support::repository;

#[test]
fn every_promise_is_held_by_tests_that_exist() {
    let text = fs::read_to_string(repository().join("host/docs/SPECIFICATION.md")).unwrap();
    let mut numbers = BTreeSet::new();
    for line in text.lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", number, promise, tests, ""] = cells[..] else { continue };
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !number.split_at_checked(1).is_some_and(|(_, digits)| is_number(digits)) {
            continue;
        }
        assert!(numbers.insert(number), "there are two promises {number}");
        assert!(!promise.is_empty() && !tests.is_empty(), "{number} promises nothing, or no test holds it");
        for test in tests.split(", ") {
            let test =
                test.strip_prefix('`').and_then(|test| test.strip_suffix('`')).expect("a name in backticks");
            let (folder, path) = match test.split_once(' ') {
                Some(("it", path)) => ("tests/it", path),
                Some(("lib", path)) => ("host/src", path),
                Some(("cli", path)) => ("host/cli/src", path),
                Some(("scheduler", path)) => ("guest-sdk/scheduler/src", path),
                Some(("escape", name)) => {
                    let is_in = |file| fs::read_to_string(repository().join(file)).unwrap().contains(name);
                    let is_one = is_in("tests/escape/main.rs") || is_in("tests/escape/calls.rs");
                    assert!(is_one, "{number}: there is no attempt {name}");
                    continue;
                }
                _ => panic!(
                    "{number}: {test} is a test of neither `it` nor `lib` nor `cli` nor `scheduler` nor `escape`"
                ),
            };
            let (file, name) = path.rsplit_once("::").expect("a module and a name");
            let file = file.strip_suffix("::tests").unwrap_or(file).replace("::", "/");
            let sources = ["", "/mod", "/tests"].map(|end| format!("{folder}/{file}{end}.rs"));
            let mut sources =
                sources.iter().filter_map(|path| fs::read_to_string(repository().join(path)).ok());
            let has_it = sources.any(|source| source.contains(&format!("fn {name}(")));
            assert!(has_it, "{number}: there is no test {test}");
        }
    }
    assert!(numbers.len() > 20, "only {} promises were found: is this the table?", numbers.len());
}
