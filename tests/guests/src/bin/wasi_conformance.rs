//! WASI preview 1, call by call: files and directories in `/rw`, descriptors, clocks, random numbers. Each
//! result must be the one of the specification, to the errno where programs depend on it.

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant, SystemTime};

use sandpool_guest::Process;
use sandpool_test_guests::{Outcome, check, ended_well, same};

/// The calls that `std` doesn't reach.
#[allow(unsafe_code, reason = "these have no other interface")]
mod raw {
    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        pub unsafe fn path_symlink(
            old: *const u8,
            old_len: usize,
            fd: i32,
            new: *const u8,
            new_len: usize,
        ) -> i32;
        pub unsafe fn path_link(
            old_fd: i32,
            old_flags: i32,
            old: *const u8,
            old_len: usize,
            new_fd: i32,
            new: *const u8,
            new_len: usize,
        ) -> i32;
        pub unsafe fn path_readlink(
            fd: i32,
            path: *const u8,
            path_len: usize,
            buffer: *mut u8,
            capacity: usize,
            used: *mut usize,
        ) -> i32;
        pub safe fn fd_renumber(from: i32, to: i32) -> i32;
        pub safe fn fd_close(fd: i32) -> i32;
        pub safe fn fd_sync(fd: i32) -> i32;
        pub safe fn fd_datasync(fd: i32) -> i32;
        pub safe fn fd_advise(fd: i32, offset: i64, len: i64, advice: i32) -> i32;
        pub safe fn fd_allocate(fd: i32, offset: i64, len: i64) -> i32;
        pub safe fn sched_yield() -> i32;
        pub safe fn fd_seek(fd: i32, offset: i64, whence: i32, at: i32) -> i32;
        pub unsafe fn clock_res_get(clock: i32, resolution: *mut u64) -> i32;
        pub unsafe fn clock_time_get(clock: i32, precision: u64, time: *mut u64) -> i32;
    }

    pub fn symlink(old: &str, fd: i32, new: &str) -> i32 {
        // SAFETY: both are read only, and as long as is said.
        unsafe { path_symlink(old.as_ptr(), old.len(), fd, new.as_ptr(), new.len()) }
    }

    /// The standard library and the C library of some toolchains don't agree on how this is called.
    pub fn link(old: &str, fd: i32, new: &str) -> i32 {
        // SAFETY: both are read only, and as long as is said.
        unsafe { path_link(fd, 0, old.as_ptr(), old.len(), fd, new.as_ptr(), new.len()) }
    }

    pub fn readlink(fd: i32, path: &str) -> Result<String, i32> {
        let (mut buffer, mut used) = ([0; 64], 0);
        // SAFETY: the buffer is as long as is said, and `used` is a word.
        let errno = unsafe {
            path_readlink(fd, path.as_ptr(), path.len(), buffer.as_mut_ptr(), buffer.len(), &raw mut used)
        };
        if errno == 0 { Ok(String::from_utf8_lossy(&buffer[..used]).into_owned()) } else { Err(errno) }
    }

    pub fn clock(id: i32) -> Option<(u64, u64)> {
        let (mut time, mut resolution) = (0, 0);
        // SAFETY: both are words.
        let errnos =
            unsafe { [clock_time_get(id, 1, &raw mut time), clock_res_get(id, &raw mut resolution)] };
        (errnos == [0, 0]).then_some((time, resolution))
    }
}

const BADF: i32 = 8;
const NOTCAPABLE: i32 = 76;
const NOTEMPTY: i32 = 55;
const PERM: i32 = 63;

#[sandpool_guest::main]
fn main() -> Outcome {
    opening()?;
    positions()?;
    directories()?;
    links()?;
    times()?;
    descriptors()?;
    clocks()?;
    forked()
}

fn kind<T>(result: io::Result<T>) -> Result<(), ErrorKind> {
    result.map(drop).map_err(|error| error.kind())
}

fn opening() -> Outcome {
    let path = "/rw/file";
    same("opening what isn't there", kind(File::open(path)), Err(ErrorKind::NotFound))?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(b"0123456789")?;
    let again = OpenOptions::new().write(true).create_new(true).open(path);
    same("creating what is there", kind(again), Err(ErrorKind::AlreadyExists))?;
    same("reading what is open for writing", File::read(&mut file, &mut [0; 4]).is_err(), true)?;
    same("writing what is open for reading", File::open(path)?.write(b"x").is_err(), true)?;
    let mut appended = OpenOptions::new().append(true).open(path)?;
    appended.seek(SeekFrom::Start(2))?;
    appended.write_all(b"ab")?;
    same("an append goes to the end", fs::read(path)?, b"0123456789ab".to_vec())?;
    OpenOptions::new().write(true).open(path)?.write_all(b"XY")?;
    same("a write without truncation", fs::read(path)?, b"XY23456789ab".to_vec())?;
    OpenOptions::new().write(true).truncate(true).open(path)?;
    same("a truncation by opening", fs::read(path)?, vec![])?;
    same("a directory is no file", File::options().write(true).open("/rw").is_err(), true)?;
    same("a file is no directory", kind(fs::read_dir(path)), Err(ErrorKind::NotADirectory))
}

fn positions() -> Outcome {
    let mut file =
        File::options().read(true).write(true).create(true).truncate(true).open("/rw/positions")?;
    file.write_all(b"0123456789")?;
    same("seek from the start", file.seek(SeekFrom::Start(3))?, 3)?;
    same("seek from here", file.seek(SeekFrom::Current(2))?, 5)?;
    same("seek from the end", file.seek(SeekFrom::End(-1))?, 9)?;
    same("seek before the start", kind(file.seek(SeekFrom::Current(-20))), Err(ErrorKind::InvalidInput))?;
    same("and it stays", file.stream_position()?, 9)?;
    let mut byte = [0];
    same("a read moves", (file.read(&mut byte)?, byte), (1, [b'9']))?;
    same("the end", file.read(&mut byte)?, 0)?;
    file.seek(SeekFrom::Start(12))?;
    file.write_all(b"!")?;
    same("a hole is of zeros", fs::read("/rw/positions")?, b"0123456789\0\0!".to_vec())?;
    file.set_len(4)?;
    same("shorter", fs::read("/rw/positions")?, b"0123".to_vec())?;
    file.set_len(6)?;
    same("longer", fs::read("/rw/positions")?, b"0123\0\0".to_vec())?;
    same("its size", file.metadata()?.len(), 6)?;
    file.sync_all()?;
    Ok(file.sync_data()?)
}

fn directories() -> Outcome {
    fs::create_dir("/rw/folder")?;
    same("a directory twice", kind(fs::create_dir("/rw/folder")), Err(ErrorKind::AlreadyExists))?;
    // More than fit into one call.
    for number in 0..300 {
        fs::write(format!("/rw/folder/a-rather-long-name-of-a-file-{number:03}"), "")?;
    }
    let mut names = Vec::new();
    for entry in fs::read_dir("/rw/folder")? {
        let entry = entry?;
        check_quietly("entries are files", entry.file_type()?.is_file())?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    let expected: Vec<_> =
        (0..300).map(|number| format!("a-rather-long-name-of-a-file-{number:03}")).collect();
    same("all entries, each once", names, expected)?;
    let not_empty = fs::remove_dir("/rw/folder").map_err(|error| error.raw_os_error());
    same("removing what isn't empty", not_empty, Err(Some(NOTEMPTY)))?;
    same("removing a directory as a file", fs::remove_file("/rw/folder").is_err(), true)?;
    same("removing a file as a directory", kind(fs::remove_dir("/rw/file")), Err(ErrorKind::NotADirectory))?;
    fs::rename("/rw/folder", "/rw/renamed")?;
    fs::write("/rw/one", "1")?;
    fs::write("/rw/two", "2")?;
    fs::rename("/rw/one", "/rw/two")?;
    same("a rename replaces", fs::read_to_string("/rw/two")?, "1".to_owned())?;
    same("and moves", kind(File::open("/rw/one")), Err(ErrorKind::NotFound))?;
    same("a rename of what isn't there", kind(fs::rename("/rw/one", "/rw/x")), Err(ErrorKind::NotFound))?;
    fs::rename("/rw/two", "/rw/renamed/two")?;
    fs::remove_dir_all("/rw/renamed")?;
    same("all of it is gone", kind(fs::metadata("/rw/renamed")), Err(ErrorKind::NotFound))
}

fn check_quietly(what: &str, holds: bool) -> Outcome {
    if holds { Ok(()) } else { Err(format!("failed: {what}").into()) }
}

/// The descriptor of the first directory that was granted.
const ROOT: i32 = 3;

fn links() -> Outcome {
    fs::write("/rw/target", "target")?;
    same("a symbolic link", raw::symlink("target", ROOT, "link"), 0)?;
    same("what it says", raw::readlink(ROOT, "link"), Ok("target".to_owned()))?;
    same("through it", fs::read_to_string("/rw/link")?, "target".to_owned())?;
    check("it is one", fs::symlink_metadata("/rw/link")?.file_type().is_symlink())?;
    check("what isn't one", raw::readlink(ROOT, "target").is_err())?;
    let absolute = raw::symlink("/etc/passwd", ROOT, "absolute");
    check("none with an absolute path", absolute == NOTCAPABLE || absolute == PERM)?;
    same("one that leads out", raw::symlink("../../../../etc/passwd", ROOT, "outside"), 0)?;
    check("is not followed", fs::read("/rw/outside").is_err())?;
    check("nor with a slash behind it", fs::read_dir("/rw/outside/").is_err())?;
    raw::symlink("circle", ROOT, "circle");
    check("a circle", fs::read("/rw/circle").is_err())?;
    same("a link", raw::link("target", ROOT, "second"), 0)?;
    fs::remove_file("/rw/target")?;
    same("a second name", fs::read_to_string("/rw/second")?, "target".to_owned())?;
    check("a link to nothing", fs::read("/rw/link").is_err())?;
    for name in ["link", "outside", "circle", "second"] {
        fs::remove_file(format!("/rw/{name}"))?;
    }
    Ok(())
}

fn times() -> Outcome {
    fs::write("/rw/times", "")?;
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let file = File::options().write(true).open("/rw/times")?;
    file.set_times(FileTimes::new().set_modified(then).set_accessed(then + Duration::from_secs(1)))?;
    let metadata = fs::metadata("/rw/times")?;
    same("when it was changed, to the nanosecond", metadata.modified()?, then)?;
    same("when it was read", metadata.accessed()?, then + Duration::from_secs(1))?;
    fs::write("/rw/times", "x")?;
    let age = SystemTime::now().duration_since(fs::metadata("/rw/times")?.modified()?);
    check("a write changes it", age.is_ok_and(|age| age < Duration::from_secs(600)))
}

fn descriptors() -> Outcome {
    same("closing what isn't open", raw::fd_close(700), BADF)?;
    same("seeking what isn't open", raw::fd_seek(700, 0, 0, 0), BADF)?;
    same("renumbering what isn't open", raw::fd_renumber(700, 701), BADF)?;
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open("/rw/numbers")?;
    file.write_all(b"some bytes")?;
    let number = file.as_raw_fd();
    same("what will be read", raw::fd_advise(number, 0, 4, 0), 0)?;
    same("to the disk", [raw::fd_sync(number), raw::fd_datasync(number)], [0, 0])?;
    // Which file systems can't all do.
    let allocated = raw::fd_allocate(number, 0, 100);
    check("room in advance, or that there is none to be had", [0, 58].contains(&allocated))?;
    same("the turn of others", raw::sched_yield(), 0)?;
    // Very many, one after the other: none stays.
    for _ in 0..2000 {
        File::open("/rw/numbers")?;
    }
    Ok(())
}

fn clocks() -> Outcome {
    let wall = raw::clock(0).ok_or("failed: no wall clock")?;
    let system = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64;
    check("the wall clock is the system's", system - wall.0 < 60_000_000_000)?;
    let (first, resolution) = raw::clock(1).ok_or("failed: no monotonic clock")?;
    check("clocks are fine", resolution <= 1_000_000 && wall.1 <= 1_000_000)?;
    let mut last = first;
    for _ in 0..1000 {
        let (now, _) = raw::clock(1).ok_or("failed: no monotonic clock")?;
        check_quietly("the monotonic clock goes forward", now >= last)?;
        last = now;
    }
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(20));
    check("a sleep is at least as long", start.elapsed() >= Duration::from_millis(20))
}

/// A child has the same files open, with the same position; what it opens and closes is its own.
fn forked() -> Outcome {
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open("/rw/forked")?;
    file.write_all(b"parent ")?;
    let child = Process::fork(|| -> Outcome {
        let mut file = File::options().append(true).open("/rw/forked")?;
        file.write_all(b"child")?;
        fs::create_dir("/rw/made by a child")?;
        Ok(())
    })?;
    ended_well(&child)?;
    same("what both wrote", fs::read_to_string("/rw/forked")?, "parent child".to_owned())?;
    fs::remove_dir("/rw/made by a child")?;
    let mut random = [[0_u8; 100_000]; 2];
    for bytes in &mut random {
        getrandom::fill(bytes).map_err(|error| error.to_string())?;
    }
    let ones: u32 = random[0].iter().map(|byte| byte.count_ones()).sum();
    check("random bytes are random", random[0] != random[1] && (390_000..410_000).contains(&ones))
}
