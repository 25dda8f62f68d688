//! The edges of a program's sandbox: pipes of others, and their directories.

#![forbid(unsafe_code)]

use std::io::{self, Read as _, Write as _};
use std::{env, fs};

/// Writes lines until that fails, and says on stderr how.
fn write() {
    let mut out = io::stdout();
    let line = format!("{}\n", "x".repeat(999));
    for count in 0.. {
        if let Err(error) = out.write_all(line.as_bytes()) {
            eprintln!("{:?} after some lines: {}", error.kind(), count > 0);
            return;
        }
    }
}

/// Copies stdin to stdout, and says on stderr how much that was.
fn copy() -> io::Result<()> {
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    io::stdout().write_all(&bytes)?;
    eprintln!("{} bytes", bytes.len());
    Ok(())
}

/// The names in a directory, in order, with what each is.
fn list(path: &str) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let kind = match (kind.is_dir(), kind.is_file(), kind.is_symlink()) {
            (true, ..) => "directory",
            (_, true, _) => "file",
            (.., true) => "link",
            _ => "other",
        };
        names.push(format!("{} {kind}", entry.file_name().display()));
    }
    names.sort();
    println!("{}", names.join("\n"));
    Ok(())
}

fn main() -> io::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["write"] => write(),
        ["copy"] => copy()?,
        ["list", path] => list(path)?,
        _ => panic!("what shall it do?"),
    }
    Ok(())
}
