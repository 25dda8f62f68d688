//! The page of imports, for people.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fmt::Write as _;

use sandpool_abi::{Errno, Import, MODULES};

use super::plain_text;

const INTRODUCTION: &str = "\
# Imports

The functions that a guest may import, beside those of WASI preview 1, with their types in WebAssembly. A guest that is
written in Rust doesn't need this page: the crate `sandpool-guest` declares and wraps them. The whole contract, with
each function's errors, constants and structures, is the crate [`sandpool-abi`](../../guest-sdk/abi/src/lib.rs) or, for
C, [`sandpool.h`](../../guest-sdk/c/sandpool.h).

A function with an `i32` result returns 0 or an error number. A function with an `i64` result returns a value of zero
or more, or a negated error number. Addresses and lengths are in bytes of the guest's memory. A timeout is in
nanoseconds, read as unsigned: 0 doesn't wait, and all bits set is without end.

This page is made from the table of `sandpool-abi`, and a test fails if the two differ.
";

pub(crate) fn text() -> String {
    let mut text = INTRODUCTION.to_owned();
    for module in MODULES {
        write!(text, "\n## {}\n\n| function | type | |\n| --- | --- | --- |\n", module.name).unwrap();
        for import in module.imports {
            writeln!(text, "| `{}` | `{}` | {} |", import.name, signature(import), summary(import.docs))
                .unwrap();
        }
    }
    text.push_str("\n## Error numbers\n\n| number | name | |\n| --- | --- | --- |\n");
    let mut all = Errno::ALL.to_vec();
    all.sort_by_key(|errno| *errno as i32);
    for errno in all {
        let name = format!("{errno:?}").to_uppercase();
        writeln!(text, "| {} | `{name}` | {} |", errno as i32, errno.message()).unwrap();
    }
    text
}

fn signature(import: &Import) -> String {
    let params: Vec<_> =
        import.params.iter().map(|param| format!("{}: {}", param.name, param.ty.value_type())).collect();
    format!("({}) -> {}", params.join(", "), import.result.value_type())
}

/// The first sentence.
fn summary(docs: &[&str]) -> String {
    let text = plain_text(docs).join(" ");
    match text.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => text,
    }
}
