//! Helpers that the tests of these programs share.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Output};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before it counts as a hang. No test waits for this unless it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A guest, compiled.
pub(crate) fn guest(name: &str) -> PathBuf {
    let target = std::env::var_os("SANDPOOL_GUEST_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/guests"), PathBuf::from);
    let path = target.join("wasm32-wasip1/release").join(name).with_extension("wasm");
    assert!(path.is_file(), "{} is missing: run `make guests`", path.display());
    path
}

/// Tries `holds` again and again until it is true. Returns whether it was true in time.
pub(crate) fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + DEADLINE;
    while !holds() {
        if Instant::now() > until {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Waits for the end of a program, and returns its status and output. The program, and all processes that it has
/// started, must end in time.
pub(crate) fn finish(mut child: Child) -> Output {
    let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
    let mut status = None;
    let has_ended = eventually(|| {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !has_ended {
        child.kill().unwrap();
    }
    let [stdout, stderr] = [stdout, stderr].map(|read| {
        read.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("a process is left that has its streams"))
    });
    let printed = [&stdout, &stderr].map(|bytes| String::from_utf8_lossy(bytes));
    Output { status: status.unwrap_or_else(|| panic!("no end in time: {printed:?}")), stdout, stderr }
}

/// Reads to the end, on a thread of its own: a program that prints doesn't wait for a test.
fn read(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, bytes) = mpsc::channel();
    thread::spawn(move || {
        let mut read = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut read).unwrap();
        }
        sender.send(read)
    });
    bytes
}
