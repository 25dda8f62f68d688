//! Pipes of bytes in Rust, as `std` has them elsewhere.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};

use sandpool_guest::{Process, io};

#[sandpool_guest::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().nth(1).as_deref() == Some("full") {
        return files_beyond_the_limit();
    }
    let (reader, writer) = io::pipe()?;
    let other = writer.try_clone()?;
    let child = Process::fork(|| {
        // Each is one write: no other bytes come in between.
        for line in ["from\n", "the\n", "child\n"] {
            (&writer).write_all(line.as_bytes()).unwrap();
        }
    })?;
    drop(writer);
    (&other).write_all(b"and the parent\n")?;
    child.join()?;
    // The last descriptor of the end that writes: without this, the lines would have no end.
    drop(other);
    let mut lines = BufReader::new(reader).lines().collect::<Result<Vec<_>, _>>()?;
    lines.sort();
    println!("{}", lines.join(", "));

    let (reader, mut writer) = io::pipe()?;
    drop(reader);
    println!("{:?}", writer.write(b"x").map_err(|error| error.kind()));
    assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);

    // A pipe takes 64 KiB before it waits.
    let (mut reader, writer) = io::pipe()?;
    let child = Process::fork(|| (&writer).write_all(&[7; 300_000]).unwrap())?;
    drop(writer);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    child.join()?;
    println!("{} {}", bytes.len(), bytes.iter().all(|byte| *byte == 7));
    Ok(())
}

/// While pipes have all descriptors, no file is opened; afterwards one is, so that none of those has kept one.
fn files_beyond_the_limit() -> Result<(), Box<dyn std::error::Error>> {
    std::fs::write("/files/file", "x")?;
    let mut pipes = Vec::new();
    while let Ok(pipe) = io::pipe() {
        pipes.push(pipe);
    }
    let refused = (0..1000).filter(|_| File::open("/files/file").is_err()).count();
    let had = pipes.len();
    pipes.truncate(1);
    let opened = (0..had).map_while(|_| File::open("/files/file").ok()).collect::<Vec<_>>();
    println!("{had} {refused} {}", opened.len());
    Ok(())
}
