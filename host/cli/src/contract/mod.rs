//! The contract with guests, as others than Rust read it: a header for C, and a page. Both are made from the table of
//! `sandpool-abi`, and copies of both are in the repository, which the tests compare. To write the copies again after a change:
//!
//! ```sh
//! SANDPOOL_REWRITE=1 cargo test --release --locked --workspace --bin sandpool contract
//! ```

pub(crate) mod header;
#[cfg(test)]
mod page;

/// Documentation as plain text, in lines: without Rust's links.
fn plain_text(docs: &[&str]) -> Vec<String> {
    let text = docs.iter().map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n");
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, link)) = rest.split_once('[') {
        plain.push_str(before);
        let (name, behind) = link.split_once(']').unwrap_or((link, ""));
        plain.push_str(name);
        rest = match behind.strip_prefix('(') {
            Some(target) => target.split_once(')').map_or("", |(_, behind)| behind),
            None => behind,
        };
    }
    plain.push_str(rest);
    plain.lines().map(str::to_owned).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]
mod tests {
    use std::env;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    /// Fails unless a file has this text, or writes the file if that is asked for.
    #[track_caller]
    fn expect(file: &str, text: &str) {
        let path = repository().join(file);
        if env::var_os("SANDPOOL_REWRITE").is_some() {
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

    /// With the compilers of the machine, of which one links Rust's programs as well.
    #[test]
    fn the_header_is_valid_in_c_and_without_its_helpers() {
        for (file, options) in
            [("queue.c", &[][..]), ("queue.c", &["-DSANDPOOL_NO_HELPERS"]), ("words.c", &[])]
        {
            let strict = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"];
            let mut cc = Command::new("cc");
            cc.args(strict).args(options).arg(repository().join("guest-sdk/c/examples").join(file));
            let output = cc.output().expect("cc");
            assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    #[test]
    fn documentation_loses_its_links() {
        assert_eq!(plain_text(&[" a [`b`](c::d), [`e`]: f", "", " g"]), ["a `b`, `e`: f", "", "g"]);
    }
}
