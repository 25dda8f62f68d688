//! The batch program does what its page says.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../../testing.rs"]
mod testing;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use testing::{finish, guest};

fn text() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wordcount/data/kjv.txt")
}

/// Runs the program, and returns its exit code, stdout, and stderr.
fn batch(module: &Path, text: &Path) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_batch"));
    command.args([module, text]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = finish(command.spawn().unwrap());
    let [stdout, stderr] = [ended.stdout, ended.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (ended.status.code(), stdout, stderr)
}

#[test]
fn each_verse_is_judged_or_said_not_to_be() {
    let (code, stdout, stderr) = batch(&guest("batch"), &text());
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    // A formula in another language gives the same grades.
    let expected = "
grade  37.7, 90 words: Esther 8:9
grade  32.4, 83 words: Jeremiah 21:7
grade  32.1, 80 words: Ezekiel 48:21
grade  32.1, 79 words: 2 Kings 16:15
grade  31.6, 75 words: Esther 3:12
2 words are too few to judge: John 11:35 Jesus wept.
2 words are too few to judge: 1 Thessalonians 5:16 Rejoice evermore.
31100 verses judged, 2 not
";
    assert_eq!(stdout, expected.trim_start());
    assert_eq!(stderr.lines().last(), Some("31102 of 31102 verses"));
}

#[test]
fn a_module_without_the_task_is_an_error() {
    let (code, stdout, stderr) = batch(&guest("wordcount"), &text());
    assert_eq!((code, &*stdout), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("readability"), "{stderr}");
}
