use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sandpool_guest::{Error, Pipe, Process};

fn sum(path: &Path) -> io::Result<u64> {
    Ok(std::fs::read(path)?.into_iter().map(u64::from).sum())
}

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    impl Temporary {
        fn create(path: &str) -> io::Result<Self> {
            File::create_new(path)?.write_all(&[1, 2, 3])?;
            Ok(Self(path.into()))
        }
    }

    /// Removes its file when it is dropped.
    struct Temporary(PathBuf);

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    let temporary = Temporary::create("/data/input")?;
    let (results, sender) = Pipe::simplex()?;
    // The child has the file, and removes it. Its parent has no copy of the sender any more, and so sees the end of the pipe.
    let child = Process::fork(move || -> Result<(), Error> {
        sender.send(&sum(&temporary.0)?)?;
        Ok(())
    })?;
    while let Ok(sum) = results.recv::<u64>() {
        println!("{sum}");
    }
    child.join()?;
    Ok(())
}
