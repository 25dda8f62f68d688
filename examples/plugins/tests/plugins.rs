//! The plugin host does what its page says, and lives through what plugins do.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../../testing.rs"]
mod testing;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use testing::{finish, guest};

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["typography", "privacy", "rogue"] {
        fs::copy(guest(name), folder.path().join(name).with_extension("wasm")).unwrap();
    }
    fs::write(folder.path().join("broken.wasm"), "no module").unwrap();
    fs::write(folder.path().join("notes.txt"), "no plugin").unwrap();
    folder
}

/// Runs the program, and returns its exit code, stdout, and stderr.
fn plugins(folder: &Path, steps: &[&str], text: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugins"));
    command.arg(folder).args(steps).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Dropped, so that the text ends. A program that refuses the steps doesn't read it.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let ended = finish(child);
    let [stdout, stderr] = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (ended.status.code(), stdout, stderr)
}

#[test]
fn plugins_are_listed_with_what_they_do() {
    let (code, stdout, stderr) = plugins(folder().path(), &[], "");
    assert_eq!(code, Some(0), "{stderr}");
    let expected = "
privacy
  privacy.mask_addresses: Addresses of electronic mail become `[address]`.
  privacy.mask_numbers: Numbers of five digits or more become `[number]`.
rogue
  rogue.crash: Panics.
  rogue.flood: Makes the text a hundred thousand times as long.
  rogue.hoard: Takes all memory that it can get.
  rogue.peek: Reads who has an account on this machine.
  rogue.spin: Never comes to an end.
typography
  typography.dashes: Two hyphens become a dash, and three dots an ellipsis.
  typography.quotes: Straight quotation marks become curly ones.
";
    assert_eq!(stdout, expected.trim_start());
    assert_eq!(stderr, LEFT_OUT);
}

#[test]
fn a_text_goes_through_plugins_whatever_one_of_them_does() {
    let text = "\"Don't write to jane.doe@example.org,\" she said -- it's 555-0199 or (555123456)...\n";
    let expected = "“Don’t write to [address],” she said — it’s 555-0199 or ([number])…\n";
    let good = ["privacy.mask_addresses", "typography.quotes", "privacy.mask_numbers", "typography.dashes"];
    assert_eq!(plugins(folder().path(), &good, text), (Some(0), expected.to_owned(), LEFT_OUT.to_owned()));

    let mut steps = Vec::new();
    for (bad, good) in ["peek", "crash", "spin", "flood", "hoard"].iter().zip(good.into_iter().chain([""])) {
        steps.push(format!("rogue.{bad}"));
        steps.extend(Some(good.to_owned()).filter(|step| !step.is_empty()));
    }
    let (code, stdout, stderr) =
        plugins(folder().path(), &steps.iter().map(String::as_str).collect::<Vec<_>>(), text);
    assert_eq!((code, &*stdout), (Some(0), expected), "{stderr}");
    let left_out: Vec<_> = stderr.strip_prefix(LEFT_OUT).unwrap().lines().collect();
    let [peek, crash, spin, flood, hoard] = left_out[..] else { panic!("{stderr}") };
    assert!(peek.starts_with("rogue.peek is left out: task peek failed: "), "{peek}");
    assert!(crash.ends_with("exited: 1") && spin.ends_with("it took longer than 2s"), "{stderr}");
    assert!(
        flood.ends_with("its output is too large: output 1 MiB") && hoard.ends_with("limited: memory 32 MiB"),
        "{stderr}"
    );
}

/// The line about the file that is no module.
const LEFT_OUT: &str =
    "left out: broken.wasm is not a usable WebAssembly module: it is text, but not WebAssembly text
hint: give a .wasm or .wat file
";

#[test]
fn steps_that_do_not_exist_are_errors() {
    for (step, why) in [
        ("quotes", "`quotes` is not PLUGIN.TASK"),
        ("magic.wand", "there is no plugin magic"),
        ("typography.quote", "the nearest name is quotes"),
    ] {
        let (code, stdout, stderr) = plugins(folder().path(), &[step], "text");
        assert_eq!((code, &*stdout), (Some(1), ""), "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
}
