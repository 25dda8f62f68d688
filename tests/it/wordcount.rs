//! The demo counts right: its result is compared with that of another way to count.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::{guest_example, sandpool};

/// One word after another, byte by byte, in one process: nothing of this is shared with the guest.
fn expected(text: &str, processes: usize) -> String {
    let mut counts = BTreeMap::<String, u64>::new();
    let mut word = String::new();
    for character in text.chars().chain([' ']) {
        match character {
            'a'..='z' | '\'' => word.push(character),
            'A'..='Z' => word.push(character.to_ascii_lowercase()),
            _ => {
                let found = word.trim_matches('\'');
                if !found.is_empty() {
                    *counts.entry(found.to_owned()).or_default() += 1;
                }
                word.clear();
            }
        }
    }

    let (words, different) = (counts.values().sum::<u64>(), counts.len());
    let mut ranking: Vec<_> = counts.into_iter().collect();
    // A stable sort of what the map has in the order of the alphabet.
    ranking.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let top: String = ranking.iter().take(10).map(|(word, count)| format!("{count:>8} {word}\n")).collect();
    format!("{top}{words} words, {different} different; processes that counted: {processes}\n")
}

fn compare(directory: &Path, file: &str, processes: usize) {
    let text = std::fs::read_to_string(directory.join(file)).expect("the text is readable");
    let output = sandpool()
        .arg("run")
        .arg("--dir")
        .arg(format!("{}:/data:ro", directory.display()))
        .arg(guest_example("wordcount"))
        .arg("--")
        .arg(format!("/data/{file}"))
        .arg(processes.to_string())
        .output()
        .expect("sandpool starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected(&text, processes), "{stderr}");
    for percent in [0, 25, 50, 75, 100] {
        assert!(stderr.contains(&format!("counting: {percent} %\n")), "no {percent} % in: {stderr}");
    }
}

fn data() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/wordcount/data")
}

#[test]
fn counts_the_text_of_the_demo_as_an_independent_count_does() {
    for processes in [1, 2, 5] {
        compare(&data(), "kjv.txt", processes);
    }
}

#[test]
fn words_on_the_cuts_between_pieces_are_counted_once() {
    // No piece of 64 KiB ends between two of these words by itself, and one of them is longer than a piece.
    let long = "long".repeat(40_000);
    let text = format!("{} 'tis {long} -- sons' {long}", "It's é a word's ".repeat(60_000));
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(directory.path().join("words.txt"), text).expect("the text is written");
    compare(directory.path(), "words.txt", 3);
}

#[test]
fn a_missing_text_is_one_line_of_error() {
    let output =
        sandpool().arg("run").arg(guest_example("wordcount")).args(["--", "/data/none.txt"]).output();
    let output = output.expect("sandpool starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: cannot read /data/none.txt: "), "{stderr}");
}
