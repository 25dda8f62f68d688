//! Files that are made from the table of the contract are what the table says.
//!
//! To make them again after a change of the table:
//!
//! ```sh
//! SANDPOOL_REWRITE=1 cargo test --release --locked --workspace --test generated
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod header;
mod page;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Fails unless a file has this text, or writes the file if that is asked for.
#[track_caller]
fn expect(file: &str, text: &str) {
    let path = repository().join(file);
    if env::var_os("SANDPOOL_REWRITE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let (mut made, mut known) = (text.lines(), there.lines());
    for line in 1.. {
        let (made, known) = (made.next(), known.next());
        assert_eq!(
            made, known,
            "{file}, line {line}: the table has what is on the left; SANDPOOL_REWRITE=1 writes the file again"
        );
        if made.is_none() {
            break;
        }
    }
    assert_eq!(there, text, "{file}: white space at the end");
}

#[test]
fn the_header_for_c_is_what_the_table_says() {
    expect("guest-sdk/c/sandpool.h", &header::text());
}

#[test]
fn the_page_of_imports_is_what_the_table_says() {
    expect("host/docs/imports.md", &page::text());
}

const GUEST_IN_C: &str = "guest-sdk/c/examples/queue.c";

fn compile(compiler: &str, arguments: &[&str]) -> Option<Output> {
    Command::new(compiler).args(arguments).arg(repository().join(GUEST_IN_C)).output().ok()
}

#[track_caller]
fn expect_success(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// With the compiler of the machine, which links Rust's programs as well.
#[test]
fn a_guest_in_c_is_valid() {
    let output = compile("cc", &["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]);
    expect_success(&output.expect("cc"));
}

/// Only clang compiles C to WebAssembly, and not every machine has it.
#[test]
fn a_guest_in_c_imports_what_the_table_has() {
    let module = env::temp_dir().join(format!("sandpool-c-{}.o", std::process::id()));
    let to = module.to_str().unwrap();
    let Some(output) = compile("clang", &["--target=wasm32", "-O2", "-Wall", "-Werror", "-c", "-o", to])
    else {
        return;
    };
    expect_success(&output);
    let bytes = fs::read(&module).unwrap();
    fs::remove_file(&module).unwrap();
    for name in ["sandpool_queue", "create", "sandpool_process", "fork"] {
        assert!(
            bytes.windows(name.len()).any(|window| window == name.as_bytes()),
            "it doesn't import {name}"
        );
    }
}

/// Documentation as plain text: without Rust's links.
fn plain(docs: &[&str]) -> Vec<String> {
    let text = docs.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n");
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, link)) = rest.split_once('[') {
        plain.push_str(before);
        let (name, behind) = link.split_once(']').unwrap();
        plain.push_str(name);
        rest = match behind.strip_prefix('(') {
            Some(target) => target.split_once(')').unwrap().1,
            None => behind,
        };
    }
    plain.push_str(rest);
    plain.lines().map(str::to_owned).collect()
}

#[test]
fn documentation_loses_its_links() {
    assert_eq!(plain(&[" a [`b`](c::d), [`e`]: f", "", " g"]), ["a `b`, `e`: f", "", "g"]);
}
