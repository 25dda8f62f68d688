//! The tests share this: where the command and the guests are, and runs that are watched.

use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::procfs::{self, Pid};

/// How long anything may take before it counts as a hang: `SANDPOOL_TEST_DEADLINE`, in seconds, or two minutes. Far
/// longer than it takes on a slow machine, because no test waits for this unless it fails.
pub(crate) fn deadline() -> Duration {
    let seconds = std::env::var("SANDPOOL_TEST_DEADLINE").map_or(120, |seconds| seconds.parse().unwrap());
    Duration::from_secs(seconds)
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The command that is tested.
pub(crate) fn sandpool() -> Command {
    procfs::default_signals();
    Command::new(sandpool_bin())
}

/// `SANDPOOL_BIN`, or the one that was built beside this test.
pub(crate) fn sandpool_bin() -> PathBuf {
    let bin = std::env::var_os("SANDPOOL_BIN").map_or_else(
        || {
            let test = std::env::current_exe().unwrap();
            // The test is <target>/release/deps/it-….
            test.parent().and_then(Path::parent).unwrap().join("sandpool")
        },
        PathBuf::from,
    );
    assert!(bin.is_file(), "{} is missing: run `make setup`, or let SANDPOOL_BIN name it", bin.display());
    bin
}

/// Loads a module by the library. This program doesn't call `init` first in `main`, which is the test harness's; the
/// command does.
#[track_caller]
pub(crate) fn load(module: impl AsRef<Path>) -> sandpool::Module {
    sandpool::set_executable(sandpool_bin());
    sandpool::Module::from_file(module).unwrap()
}

/// The same, from text.
#[track_caller]
pub(crate) fn load_text(name: &str, text: &str) -> sandpool::Module {
    sandpool::set_executable(sandpool_bin());
    sandpool::Module::from_bytes(name, text.as_bytes()).unwrap()
}

/// A guest of `tests/guests`, compiled.
pub(crate) fn guest(name: &str) -> PathBuf {
    let target = std::env::var_os("SANDPOOL_GUEST_TARGET_DIR")
        .map_or_else(|| repository().join("target/guests"), PathBuf::from);
    let path = target.join("wasm32-wasip1/release").join(name).with_extension("wasm");
    assert!(path.is_file(), "{} is missing: run `make guests`", path.display());
    path
}

/// A guest of `examples/guests`, compiled.
pub(crate) fn guest_example(name: &str) -> PathBuf {
    // All guests have one target directory.
    guest(name)
}

/// `sandpool run` of a guest.
pub(crate) fn run(guest: impl AsRef<Path>) -> Command {
    let mut command = sandpool();
    command.arg("run").arg(guest.as_ref());
    command
}

/// `sandpool run` of a guest with arguments for it.
pub(crate) fn run_with(name: &str, arguments: &[&str]) -> Command {
    let mut command = run(guest(name));
    command.arg("--").args(arguments);
    command
}

/// How a run ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// Fails unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self
    }

    /// Fails unless a signal killed it: the embedder, not the guest.
    #[track_caller]
    pub(crate) fn expect_signal(self, signal: Signal) -> Self {
        assert_eq!(self.status.signal(), Some(signal as i32), "{self}");
        self
    }

    /// Fails unless these are all the lines that were printed.
    #[track_caller]
    pub(crate) fn expect_stdout(self, lines: &[&str]) -> Self {
        assert_eq!(self.stdout.lines().collect::<Vec<_>>(), lines, "{self}");
        self
    }

    /// Fails unless the guest made these checks, among others, each with success: it printed `ok: CHECK` for each.
    #[track_caller]
    pub(crate) fn expect_checks(self, checks: &[&str]) -> Self {
        let made = self.all("ok: ");
        for check in checks {
            assert!(made.contains(check), "no {check:?}\n{self}");
        }
        self
    }

    /// The names in lines such as `done: NAME`.
    pub(crate) fn all(&self, start: &str) -> Vec<&str> {
        self.stdout.lines().filter_map(|line| line.strip_prefix(start)).collect()
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nstdout:\n{}\nstderr:\n{}", self.status, self.stdout, self.stderr)
    }
}

/// Runs a command to its end with nothing on stdin.
#[track_caller]
pub(crate) fn finish(command: &mut Command) -> Ended {
    Run::start(command).finish()
}

/// The bytes that come out of a pipe, as they come.
#[derive(Debug)]
struct Output {
    state: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
    inode: u64,
}

impl Output {
    /// Reads on a thread of its own: a guest that prints must never wait for a test.
    fn read(mut pipe: impl Read + std::os::fd::AsFd + Send + 'static) -> Arc<Self> {
        let file = std::fs::File::from(pipe.as_fd().try_clone_to_owned().unwrap());
        let inode = file.metadata().unwrap().ino();
        drop(file);
        let output = Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), inode });
        let reader = output.clone();
        std::thread::spawn(move || {
            let mut chunk = vec![0; 64 << 10];
            loop {
                let len = pipe.read(&mut chunk).unwrap_or(0);
                let mut state = reader.state.lock().unwrap();
                state.0.extend_from_slice(&chunk[..len]);
                state.1 = len == 0;
                reader.changed.notify_all();
                if len == 0 {
                    return;
                }
            }
        });
        output
    }

    /// Waits until this holds of text and end; whether it did in time.
    fn wait_until(&self, holds: impl Fn(&[u8], bool) -> bool) -> bool {
        let state = self.state.lock().unwrap();
        let waiting = |state: &mut (Vec<u8>, bool)| !holds(&state.0, state.1);
        !self.changed.wait_timeout_while(state, deadline(), waiting).unwrap().1.timed_out()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.state.lock().unwrap().0).into_owned()
    }
}

/// A `sandpool run` that is under way. Dropped, it is killed, with all its processes.
#[derive(Debug)]
pub(crate) struct Run {
    child: Child,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
}

impl Run {
    /// Starts a command, in a process group of its own.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_with(command, Stdio::null())
    }

    /// Starts a command that reads from a pipe.
    #[track_caller]
    pub(crate) fn start_with_stdin(command: &mut Command) -> (Self, ChildStdin) {
        let mut run = Self::start_with(command, Stdio::piped());
        let stdin = run.child.stdin.take().unwrap();
        (run, stdin)
    }

    #[track_caller]
    fn start_with(command: &mut Command, stdin: Stdio) -> Self {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let stdout = Output::read(child.stdout.take().unwrap());
        let stderr = Output::read(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// The embedder: the `sandpool run` process.
    pub(crate) fn embedder(&self) -> Pid {
        self.child.id()
    }

    /// The supervisor, which is the embedder's only child.
    #[track_caller]
    pub(crate) fn supervisor(&self) -> Pid {
        let mut children = procfs::children(self.embedder());
        // The one that it comes from may not have ended yet.
        let moved = |pid: &Pid| procfs::inner_number(*pid) == Some(1);
        if children.iter().any(moved) {
            children.retain(moved);
        }
        assert_eq!(children.len(), 1, "{children:?} are children of the embedder\n{}", self.printed());
        children[0]
    }

    /// All guest processes that there are at the moment, oldest first as long as process numbers don't wrap.
    #[track_caller]
    pub(crate) fn guests(&self) -> Vec<Pid> {
        let all = procfs::children(self.supervisor());
        all.into_iter().filter(|pid| procfs::name(*pid) == "sandpool-guest").collect()
    }

    /// The process that stands by to become a spawned one, if there is one.
    pub(crate) fn standby(&self) -> Option<Pid> {
        procfs::children(self.supervisor()).into_iter().find(|pid| procfs::name(*pid) == "sandpool-spare")
    }

    /// The guest process that has this number in the run, as guests print it.
    #[track_caller]
    pub(crate) fn guest(&self, number: Pid) -> Pid {
        let found = self.guests().into_iter().find(|pid| procfs::inner_number(*pid) == Some(number));
        found.unwrap_or_else(|| panic!("no guest has the number {number}\n{}", self.printed()))
    }

    /// Waits until a line has been printed.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, line: &str) {
        self.wait_for_line_in(&self.stdout, line);
    }

    /// Waits until a line has been printed on stderr.
    #[track_caller]
    pub(crate) fn wait_for_error_line(&self, line: &str) {
        self.wait_for_line_in(&self.stderr, line);
    }

    #[track_caller]
    fn wait_for_line_in(&self, output: &Output, line: &str) {
        let wanted = format!("{line}\n");
        let is_there =
            |text: &[u8]| String::from_utf8_lossy(text).split_inclusive('\n').any(|found| found == wanted);
        let in_time = output.wait_until(|text, ended| ended || is_there(text));
        let is_there = is_there(&output.state.lock().unwrap().0);
        assert!(
            is_there,
            "no {line:?} {}\n{}",
            if in_time { "was printed" } else { "in time" },
            self.printed()
        );
    }

    /// The text that was printed so far.
    pub(crate) fn printed(&self) -> String {
        format!("stdout:\n{}\nstderr:\n{}", self.stdout.text(), self.stderr.text())
    }

    /// The text that was printed so far, with the whole report of the jail, which guests may be quicker than.
    #[track_caller]
    pub(crate) fn printed_with_report(&self) -> String {
        let last_line = format!("\n{} ", sandpool::jail::Layer::Seccomp);
        let is_whole = |text: &[u8], _| {
            let text = String::from_utf8_lossy(text);
            text.split_once(&last_line).is_some_and(|(_, rest)| rest.contains('\n'))
        };
        assert!(self.stderr.wait_until(is_whole), "no report in time\n{}", self.printed());
        self.printed()
    }

    /// All processes that have one of this run's pipes open as a standard stream, whoever is their parent; and those that
    /// come from these: a pool's have no such stream.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let pipes =
            [&self.stdout, &self.stderr].map(|output| PathBuf::from(format!("pipe:[{}]", output.inode)));
        let (mut found, mut others): (Vec<_>, Vec<_>) = procfs::all().into_iter().partition(|pid| {
            *pid != std::process::id()
                && [0, 1, 2].iter().any(|fd| {
                    std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok_and(|link| pipes.contains(&link))
                })
        });
        loop {
            let (new, rest): (Vec<_>, _) = others
                .into_iter()
                .partition(|pid| procfs::parent(*pid).is_some_and(|parent| found.contains(&parent)));
            if new.is_empty() {
                return found;
            }
            found.extend(new);
            others = rest;
        }
    }

    /// Waits until no process of the run is left, and fails if one is.
    #[track_caller]
    pub(crate) fn expect_all_gone(&self) {
        if !procfs::eventually(|| self.processes().is_empty()) {
            let left = self.processes();
            let mut who = String::new();
            for pid in &left {
                let _ = writeln!(who, "{}", procfs::describe(*pid));
            }
            panic!("{} processes are left:\n{who}{}", left.len(), self.printed());
        }
    }

    /// Ends the embedder by a signal, and waits.
    #[track_caller]
    pub(crate) fn finish_by(self, signal: Signal) -> Ended {
        assert!(procfs::kill(self.embedder(), signal, |pid| pid == self.child.id()));
        self.finish()
    }

    /// Waits for the end of the embedder and of everything that it started.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Ended {
        let mut status = None;
        let ended = procfs::eventually(|| {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "no end in time: {:?} are alive\n{}", self.processes(), self.printed());
        self.expect_all_gone();
        // Their ends of the pipes are closed, so all that was printed has come.
        for output in [&self.stdout, &self.stderr] {
            assert!(output.wait_until(|_, ended| ended), "a pipe stays open\n{}", self.printed());
        }
        Ended { status: status.unwrap(), stdout: self.stdout.text(), stderr: self.stderr.text() }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // If Sandpool works, there are none; if it doesn't, the machine is to be clean all the same.
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for pid in left {
                procfs::kill(pid, Signal::SIGKILL, |pid| self.processes().contains(&pid));
            }
        }
    }
}

/// Numbers for delays and choices. Not the same in each run: what matters is that some run finds what is wrong.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        Self(RandomState::new().hash_one(0) | 1)
    }

    /// A number below this.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// Lets up to this time pass.
    pub(crate) fn pause(&mut self, longest: Duration) {
        let micros = u64::try_from(longest.as_micros()).unwrap();
        std::thread::sleep(Duration::from_micros(self.below(micros)));
    }
}

/// Every guest is there for a test.
#[test]
fn every_guest_is_run_by_a_test() {
    let mut sources = String::new();
    let mut folders = vec![repository().join("tests/it")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    for entry in std::fs::read_dir(repository().join("tests/guests/src/bin")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(sources.contains(&format!("\"{name}\"")), "no test runs {}", path.display());
    }
}
