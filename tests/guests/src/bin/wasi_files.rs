//! Directories that were granted: `/ro` read-only, with a file `input.txt`, and `/rw` read-write. Nothing else.

use std::fs;

use sandpool_guest::{ExitStatus, Process};
use sandpool_test_guests::{Outcome, check, same};

#[sandpool_guest::main]
fn main() -> Outcome {
    let input = fs::read_to_string("/ro/input.txt")?;
    println!("input: {}", input.trim_end());
    check("no write to a read-only directory", fs::write("/ro/output.txt", "x").is_err())?;
    check("no write to a file in it", fs::OpenOptions::new().append(true).open("/ro/input.txt").is_err())?;
    check("no removal from it", fs::remove_file("/ro/input.txt").is_err())?;
    check("no directory in it", fs::create_dir("/ro/directory").is_err())?;

    fs::write("/rw/main.txt", "written by the main process\n")?;
    let child = Process::fork(|| -> Outcome {
        check("a child reads", fs::read_to_string("/ro/input.txt")? == input)?;
        check("a child doesn't write either", fs::write("/ro/output.txt", "x").is_err())?;
        Ok(fs::write("/rw/child.txt", "written by a child\n")?)
    })?;
    same("a forked child", child.join()?, ExitStatus::Exited(0))?;
    let child = Process::spawn(|()| fs::write("/rw/spawned.txt", "written by a spawned child\n"), ())?;
    same("a spawned child", child.join()?, ExitStatus::Exited(0))?;
    let mut names: Vec<_> = fs::read_dir("/rw")?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, std::io::Error>>()?;
    names.sort();
    println!("files: {}", names.join(" "));

    check("no way out upwards", fs::read_to_string("/ro/../../etc/passwd").is_err())?;
    check("no way out by an absolute path", fs::read_to_string("/etc/passwd").is_err())?;
    check("nothing that wasn't granted", fs::read_dir("/").is_err())
}
