//! Files in memory whose size, or all of whose bytes, nobody can change: memfd_create(2), and the seals of fcntl(2).

use std::fs::File;
use std::io::{self, Read, Seek as _};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// How often a file's bytes are tried to be sealed. Each time, the kernel itself waits for some 150 ms at most until nobody else
/// works on the file's pages, as the kernel does when it moves pages, or watches which of them are used.
const ATTEMPTS: usize = 20;

const OF_SIZE: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// A file with these bytes, which nobody can change.
pub(crate) fn sealed(name: &str, mut bytes: impl Read) -> io::Result<File> {
    let mut file = create(name)?;
    io::copy(&mut bytes, &mut file)?;
    file.rewind()?;
    seal(&file, OF_SIZE.union(SealFlag::F_SEAL_WRITE))?;
    Ok(file)
}

/// A file of this number of zeros, whose size nobody can change.
pub(crate) fn sized(name: &str, bytes: u64) -> io::Result<File> {
    let file = create(name)?;
    file.set_len(bytes)?;
    seal(&file, OF_SIZE)?;
    Ok(file)
}

fn create(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?))
}

fn seal(file: &File, seals: SealFlag) -> io::Result<()> {
    let mut sealed = Err(Errno::EBUSY);
    for _ in 0..ATTEMPTS {
        sealed = fcntl(file, FcntlArg::F_ADD_SEALS(seals));
        if sealed != Err(Errno::EBUSY) {
            break;
        }
    }
    sealed?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    use nix::libc;

    use super::*;

    #[test]
    fn nobody_changes_what_is_sealed() {
        let mut file = sealed("sandpool-test", b"some bytes".as_slice()).unwrap();
        assert_eq!(io::read_to_string(&file).unwrap(), "some bytes");
        assert!(file.write_all(b"others").is_err() && file.set_len(0).is_err() && file.set_len(100).is_err());
        let mut file = sized("sandpool-test", 10).unwrap();
        file.write_all(b"some bytes").unwrap();
        assert!(file.write_all(b"more").is_err() && file.set_len(0).is_err());
    }

    /// A page of the file lies in a pipe, where the kernel takes it for one that is being worked on.
    #[test]
    fn a_file_whose_pages_are_in_use_is_sealed_when_they_are_not() {
        let mut file = create("sandpool-test").unwrap();
        file.write_all(b"some bytes").unwrap();
        file.rewind().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let no_offset = std::ptr::null_mut();
        // SAFETY: both descriptors are open, and no memory is passed.
        let moved =
            unsafe { libc::splice(file.as_raw_fd(), no_offset, writer.as_raw_fd(), no_offset, 10, 0) };
        assert_eq!(moved, 10);
        let all = OF_SIZE.union(SealFlag::F_SEAL_WRITE);
        assert_eq!(fcntl(&file, FcntlArg::F_ADD_SEALS(all)), Err(Errno::EBUSY));
        std::thread::scope(|scope| {
            let (begins, begun) = std::sync::mpsc::channel();
            let file = &file;
            let sealing = scope.spawn(move || {
                begins.send(()).unwrap();
                seal(file, all)
            });
            begun.recv().unwrap();
            // Each takes as long as an attempt of the other thread, which has its turn in between.
            for _ in 0..4 {
                assert_eq!(fcntl(file, FcntlArg::F_ADD_SEALS(all)), Err(Errno::EBUSY));
            }
            reader.read_exact(&mut [0; 10]).unwrap();
            sealing.join().unwrap().unwrap();
        });
        let mut again = [0; 1];
        assert!(file.write_all(&again).is_err());
        drop(writer);
        assert_eq!(reader.read(&mut again).unwrap(), 0);
    }

    /// Memory that is mapped may be written to at any time, so such a file is never sealed; but the attempts come to an end.
    #[test]
    fn a_file_that_stays_in_use_is_an_error() {
        let mut file = create("sandpool-test").unwrap();
        file.write_all(&[1; 4096]).unwrap();
        // SAFETY: a mapping at an address that the kernel chooses, which nobody looks at.
        let mapped = unsafe {
            let writable = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), 4096, writable, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        assert_ne!(mapped, libc::MAP_FAILED);
        let sealed = seal(&file, SealFlag::F_SEAL_WRITE);
        // SAFETY: the mapping from above, which nobody has used.
        assert_eq!(unsafe { libc::munmap(mapped, 4096) }, 0);
        assert_eq!(sealed.unwrap_err().raw_os_error(), Some(libc::EBUSY));
    }
}
