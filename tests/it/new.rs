//! `sandpool new`: the crates that it makes compile and run, and it makes none where it should not.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::ordinary_user::Home;
use crate::support::{Ended, finish, repository, sandpool};
use crate::toolchain::in_a_shared_cache;

/// `sandpool new` with these arguments, in this directory.
fn new(place: &Path, arguments: &[&str]) -> Ended {
    finish(sandpool().current_dir(place).arg("new").args(arguments))
}

/// Takes the versions that other guests have, which are here already.
fn lock(package: &Path) {
    fs::copy(repository().join("tests/guests/Cargo.lock"), package.join("Cargo.lock")).unwrap();
}

/// The output of a command that gets these bytes on stdin. The command may compile for as long as that takes.
fn output(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn expect_stdout(output: &Output, stdout: &str) {
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        stdout,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_new_program_compiles_and_runs() {
    let (place, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ended = new(place.path(), &["some/where/squares"]).expect_code(0);
    let said = "created the crate `squares`: a program with several processes, in some/where/squares/src/main.rs\n\
                next: sandpool run some/where/squares\n";
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", said));
    let package = place.path().join("some/where/squares");
    lock(&package);
    let ran = output(in_a_shared_cache(cache.path()).arg("run").arg(&package), b"");
    expect_stdout(&ran, "total: 333833500\nProcess-1: exited: 0\nProcess-2: exited: 0\n");
    assert!(fs::read_to_string(package.join(".gitignore")).unwrap().lines().any(|line| line == "/target"));
}

#[test]
fn new_tasks_compile_and_run_over_records() {
    let (place, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ended = new(place.path(), &["--tasks", "--name", "reviews", "it's new"]).expect_code(0);
    let next = r"next: printf 'to be or\nnot to be\n' | sandpool map 'it'\''s new' --task words";
    assert_eq!(ended.stderr.lines().last(), Some(next));
    let package = place.path().join("it's new");
    lock(&package);
    let mut words = in_a_shared_cache(cache.path());
    let words = words.current_dir(&place).args(["map", "it's new", "--task", "words"]);
    expect_stdout(&output(words, b"to be or\nnot to be\n"), "3\n3\n");
    assert!(package.join("target/wasm32-wasip1/release/reviews.wasm").exists());
    let cache = tempfile::tempdir().unwrap();
    let mut score = in_a_shared_cache(cache.path());
    let score = score.arg("map").arg(&package).args(["--task", "score", "--format", "jsonl"]);
    let records = br#"{"text":"good!","stars":4}"#;
    expect_stdout(&output(score, records), "{\"mood\":5}\n");
}

#[test]
fn the_crate_is_made_in_an_empty_directory_of_any_path() {
    let place = tempfile::tempdir().unwrap();
    let here = place.path().join("here");
    fs::create_dir(&here).unwrap();
    let ended = new(&here, &["."]).expect_code(0);
    assert!(
        ended.stderr.contains("created the crate `here`: ")
            && ended.stderr.ends_with("next: sandpool run .\n")
    );
    let manifest = fs::read_to_string(here.join("Cargo.toml")).unwrap();
    assert!(manifest.starts_with("[package]\nname = \"here\"\n"), "{manifest}");
    let sdk = fs::canonicalize(repository().join("guest-sdk/rust")).unwrap();
    assert!(manifest.contains(&format!("sandpool-guest = {{ path = {sdk:?} }}\n")), "{manifest}");
}

#[test]
fn nothing_is_made_where_something_is() {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("full")).unwrap();
    fs::write(place.path().join("full/notes"), "precious").unwrap();
    symlink("nowhere", place.path().join("dangling")).unwrap();
    let refused = |arguments: &[&str], code: i32, said: &str| {
        let ended = new(place.path(), arguments).expect_code(code);
        assert!(ended.stderr.starts_with(said), "{ended}");
    };
    refused(&["full"], 2, "error: full is not empty\nhint: name a new directory, or an empty one\n");
    refused(&["full/notes"], 2, "error: full/notes is not a directory\nhint: ");
    refused(&["full/notes/below"], 2, "error: full/notes/below is not a directory\nhint: ");
    refused(&["dangling"], 125, "error: cannot write dangling");
    let why = "a name begins with a letter from a to z\nhint: give the crate another name with --name NAME\n";
    refused(&["2d"], 2, &format!("error: a crate cannot have the name `2d`: {why}"));
    refused(
        &["fine", "--name", "fn"],
        2,
        "error: a crate cannot have the name `fn`: it is a word of Rust\nhint: ",
    );
    refused(&["/"], 2, "error: / does not name the crate\nhint: give the crate a name with --name NAME\n");
    let mut left: Vec<_> = fs::read_dir(&place)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["dangling", "full"]);
    assert_eq!(fs::read_dir(place.path().join("full")).unwrap().count(), 1);
}

#[test]
fn nothing_is_left_of_a_crate_that_cannot_be_written() {
    let home = Home::new();
    // Root's, so that nobody else writes there.
    let ended = finish(home.sandpool().args(["new", "/usr/lib/sandpool-new"])).expect_code(125);
    assert!(ended.stderr.starts_with("error: cannot write /usr/lib/sandpool-new: "), "{ended}");
    assert!(!Path::new("/usr/lib/sandpool-new").exists());
}

/// The manifest of a new crate asks for the SDK by the version of the command.
#[test]
fn the_sdk_has_the_version_of_the_command() {
    let version = |manifest: &str| {
        let manifest = fs::read_to_string(repository().join(manifest)).unwrap();
        let (_, package) = manifest.split_once("[workspace.package]\n").unwrap();
        package.lines().find(|line| line.starts_with("version = ")).unwrap().to_owned()
    };
    assert_eq!(version("Cargo.toml"), version("guest-sdk/rust/Cargo.toml"));
}
