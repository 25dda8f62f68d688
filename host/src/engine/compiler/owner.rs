//! Starts a compiler, and judges its result.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

use super::{HEAD, REPORT_MAX, Report, Settings, output_size, seconds};
use crate::child::{COMPILER, Child, executable};
use crate::config::CompileLimits;
use crate::config::JailSettings;
use crate::control::{self, Reply};
use crate::engine::check::Summary;
use crate::engine::inspection::{TaskInfo, printable};
use crate::error::CompileLimit;
use crate::jail::JailReport;
use crate::sys::memory_file;
use crate::sys::process::KILLED;
use crate::{Error, Result};

/// The most bytes that are kept of a compiler's messages.
const WORDS_MAX: u64 = 16 << 10;

/// The name that `/proc` shows for files between a compiler and its owner.
const MEMORY_FILE: &str = "sandpool-compile";

/// A compiled module: its summary, its artifact, and the jail in which it was compiled.
type Compiled = (Summary, Artifact, JailReport);

/// An artifact, in a file that begins with something else.
#[derive(Debug)]
pub(crate) struct Artifact {
    file: File,
    begin: u64,
    len: u64,
}

impl Artifact {
    /// A reader at the beginning of the artifact.
    pub(crate) fn reader(&mut self) -> Result<impl io::Read> {
        self.file.seek(SeekFrom::Start(self.begin)).map_err(os("read the compiled module"))?;
        Ok((&mut self.file).take(self.len))
    }

    /// Copies the artifact to a file of its own, in memory.
    pub(crate) fn alone(&mut self) -> Result<File> {
        sealed(self.reader()?).map_err(os("keep the compiled module in memory"))
    }
}

/// Compiles a module, in a process of this program.
pub(crate) fn compile(program: &Path, name: &str, module: &[u8], settings: &Settings) -> Result<Compiled> {
    let mut settings = settings.clone();
    // The artifact may not be larger than the shell allows a file to be.
    if let Ok((largest, _)) = getrlimit(Resource::RLIMIT_FSIZE) {
        let room = largest.saturating_sub(output_size(0));
        settings.limits.artifact_max = settings.limits.artifact_max.min(room);
    }
    let (settings, limits) = (&settings, &settings.limits);
    let files = || Ok((sealed(module)?, sized(output_size(limits.artifact_max))?, sized(WORDS_MAX)?));
    let (module, output, words) = files().map_err(os("make memory files for the compiler"))?;
    let time = limits.compile_time_max;
    let start = Instant::now();
    let mut compiler = Compiler::start(program, settings, time, &module, &output, &words)?;
    let limit = |limit| Err(Error::CompileLimit { name: name.to_owned(), limit });
    let failed = |problem| Err(Error::Compile { name: name.to_owned(), problem });
    let require = &settings.jail.require;
    let jail = match compiler.jail() {
        Ok(Some(jail)) if !jail.lacks(require).is_empty() => return Err(jail.refusal(require)),
        Ok(jail) => jail.unwrap_or_else(JailReport::from_unknown_compiler),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return limit(CompileLimit::Time(time)),
        Err(error) => return Err(os("hear from the compiler")(error)),
    };
    let ended = compiler.wait(start, time).map_err(os("wait for the compiler"))?;
    match ended {
        None => limit(CompileLimit::Time(time)),
        // The compiler has reported nothing about its jail, and gone on.
        Some(WaitStatus::Exited(_, 0)) if !jail.lacks(require).is_empty() => Err(jail.refusal(require)),
        Some(WaitStatus::Exited(_, 0)) => match read(output) {
            Ok((Report::Compiled { mut summary, .. }, artifact)) => {
                summary.tasks = summary.tasks.into_iter().map(TaskInfo::into_short).collect();
                Ok((summary, artifact, jail))
            }
            Ok((Report::Refused(refusal), _)) => Err(refusal.into_error(name, limits.artifact_max)),
            Err(error) => {
                failed(format!("the compiler's report is unusable: {}", printable(&error.to_string())))
            }
        },
        Some(status) => {
            let words = printed(&words);
            match status {
                WaitStatus::Exited(_, OUT_OF_TIME) => {
                    limit(CompileLimit::Cpu(Duration::from_secs(seconds(limits.compile_cpu_max))))
                }
                // When Rust has no memory, it aborts with this message.
                WaitStatus::Exited(_, ABORTED) if words.contains("memory allocation of ") => {
                    limit(CompileLimit::Memory(limits.compile_memory_max))
                }
                _ => failed(format!("the compiler {}{}", how(status), last_line(&words))),
            }
        }
    }
}

/// Reports which layers of its jail a compiler would be in, and how fully they hold.
pub(crate) fn survey() -> Result<JailReport> {
    let limits = CompileLimits::default();
    let time = limits.compile_time_max;
    let settings =
        Settings { only_report: true, ..Settings::new(limits, JailSettings::default(), String::new()) };
    let files = || Ok((sealed(io::empty())?, sized(0)?, sized(WORDS_MAX)?));
    let (module, output, words) = files().map_err(os("make memory files for the compiler"))?;
    let mut compiler = Compiler::start(&executable()?, &settings, time, &module, &output, &words)?;
    let jail = compiler.jail().map_err(os("hear from the compiler"))?;
    Ok(jail.unwrap_or_else(JailReport::from_unknown_compiler))
}

fn os(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Os { what, source }
}

/// The exit code of a compiler that has reached its limit of processor time.
const OUT_OF_TIME: i32 = KILLED + Signal::SIGXCPU as i32;
/// The exit code of a compiler that has called abort.
const ABORTED: i32 = KILLED + Signal::SIGABRT as i32;

fn how(status: WaitStatus) -> String {
    match status {
        WaitStatus::Signaled(_, signal, _) => format!("was killed by signal {}", signal as i32),
        WaitStatus::Exited(_, code) if code > KILLED => format!("ended with signal {}", code - KILLED),
        WaitStatus::Exited(_, code) => format!("ended with {code}"),
        status => format!("ended: {status:?}"),
    }
}

/// A compiler that runs. Dropping this kills it.
struct Compiler {
    child: Child,
    socket: OwnedFd,
}

impl Compiler {
    fn start(
        program: &Path,
        settings: &Settings,
        time: Duration,
        module: &File,
        output: &File,
        words: &File,
    ) -> Result<Self> {
        let start = || {
            let (socket, theirs) = control::pair()?;
            control::give_up_after(socket.as_fd(), time)?;
            let streams = [theirs.into(), output.try_clone()?.into(), words.try_clone()?.into()];
            let child = Child::start(program, COMPILER, streams, 0)?;
            let compiler = Self { child, socket };
            // If the compiler is gone already, the way it ended says more than this error.
            let _ = control::send_message_with(compiler.socket.as_fd(), settings, &[module.as_fd()]);
            Ok(compiler)
        };
        start().map_err(os("start the compiler"))
    }

    /// How fully the compiler's jail holds, if the compiler reports it: that happens before it reads the module. `WouldBlock` if
    /// the report takes longer than it may.
    fn jail(&mut self) -> io::Result<Option<JailReport>> {
        match self.child.next_reply(self.socket.as_fd())? {
            Some((Reply::Started(jail) | Reply::Unjailed(jail), _)) => Ok(Some(jail)),
            _ => Ok(None),
        }
    }

    /// Waits for the compiler's end; `None` if that takes longer than it may.
    fn wait(&mut self, start: Instant, time: Duration) -> io::Result<Option<WaitStatus>> {
        loop {
            let left = time.saturating_sub(start.elapsed());
            // Rounded up, so that a remaining fraction isn't zero.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.child.pidfd(), PollFlags::POLLIN)], timeout) {
                Ok(0) if start.elapsed() >= time => return Ok(None),
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => return Ok(Some(self.child.wait()?)),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // If the compiler has been waited for, neither call does anything.
        self.child.kill();
        let _ = self.child.wait();
    }
}

fn sealed(bytes: impl io::Read) -> io::Result<File> {
    memory_file::sealed(MEMORY_FILE, bytes)
}

fn sized(bytes: u64) -> io::Result<File> {
    memory_file::sized(MEMORY_FILE, bytes)
}

/// Splits an output into report and artifact.
fn read(mut output: File) -> io::Result<(Report, Artifact)> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let size = output.metadata()?.len();
    output.rewind()?;
    let mut head = [0; HEAD as usize];
    output.read_exact(&mut head)?;
    let len = Some(u64::from_le_bytes(head)).filter(|len| *len <= REPORT_MAX).ok_or_else(invalid)?;
    let mut report = Vec::new();
    (&mut output).take(len).read_to_end(&mut report)?;
    let report: Report = serde_json::from_slice(&report)?;
    let begin = output.seek(SeekFrom::Start(HEAD + len))?;
    let artifact = match &report {
        Report::Compiled { artifact, .. } => *artifact,
        Report::Refused(_) => 0,
    };
    if artifact > size.saturating_sub(begin) {
        return Err(invalid());
    }
    Ok((report, Artifact { file: output, begin, len: artifact }))
}

/// The text that a compiler printed until it died.
fn printed(words: &File) -> String {
    let mut bytes = vec![0; WORDS_MAX as usize];
    let len = words.read_at(&mut bytes, 0).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(..len).unwrap_or_default());
    text.trim_end_matches('\0').trim().to_owned()
}

/// The last line of the text, to be put after a message: it may tell a person something.
fn last_line(words: &str) -> String {
    words.lines().next_back().map(|line| format!(": {}", printable(line))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The result of compiling with a compiler that runs this shell script instead.
    fn compiled(instead: &str) -> Result<(Summary, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("compiler");
        fs::write(&program, format!("#!/bin/sh\n{instead}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let limits = CompileLimits {
            artifact_max: 4096,
            compile_time_max: Duration::from_secs(20),
            ..CompileLimits::default()
        };
        let settings = Settings::new(limits, JailSettings::default(), String::new());
        let (summary, mut artifact, _) = compile(&program, "m", b"", &settings)?;
        let mut bytes = Vec::new();
        artifact.reader().unwrap().read_to_end(&mut bytes).unwrap();
        let mut alone = Vec::new();
        artifact.alone().unwrap().read_to_end(&mut alone).unwrap();
        assert_eq!(alone, bytes);
        Ok((summary, bytes))
    }

    /// The script that writes this report, and claims that the report is longer by `longer` bytes.
    fn says(report: &str, longer: usize) -> String {
        let head: String =
            (report.len() + longer).to_le_bytes().iter().map(|byte| format!("\\{byte:03o}")).collect();
        format!("printf '{head}'; printf '%s' '{report}'; printf '%4096s' | tr ' ' x")
    }

    #[track_caller]
    fn problem(instead: &str) -> String {
        match compiled(instead).unwrap_err() {
            Error::Compile { problem, .. } => problem,
            other => other.to_string(),
        }
    }

    #[test]
    fn an_artifact_is_taken_as_it_is() {
        let report = |artifact: u64| {
            says(
                &format!(
                    r#"{{"Compiled":{{"summary":{{"is_component":false,"is_program":true,"has_start":false,"has_collected":false,"unknown_import":null,"tasks":[]}},"artifact":{artifact}}}}}"#
                ),
                0,
            )
        };
        let (summary, artifact) = compiled(&report(7)).unwrap();
        assert!(summary.is_program && summary.tasks.is_empty());
        assert_eq!(artifact, b"xxxxxxx");
        assert!(problem(&report(u64::MAX)).contains("report is unusable"));
        assert!(problem(&report(output_size(4096))).contains("report is unusable"));
        assert_eq!(compiled(&report(0)).unwrap().1, b"");
    }

    #[test]
    fn a_report_that_is_none_is_an_error() {
        for instead in ["", "printf hello", "printf '\\377\\377\\377\\377\\377\\377\\377\\377'"] {
            assert!(problem(instead).contains("report is unusable"), "{instead}");
        }
        for (report, longer) in
            [("{}", 0), ("null", 0), (r#"{"Refused":"MissingStart"}"#, 1), ("{}", 4 << 20)]
        {
            assert!(problem(&says(report, longer)).contains("report is unusable"), "{report}");
        }
        assert!(problem(&says(&"[".repeat(100_000), 0)).contains("report is unusable"));
    }

    #[test]
    fn what_a_compiler_says_cannot_steer_a_terminal() {
        let text = "\\u001b[2J".repeat(1000);
        let refused = problem(&says(&format!(r#"{{"Refused":{{"Compile":{{"problem":"{text}"}}}}}}"#), 0));
        assert!(refused.starts_with("\\u{1b}[2J") && refused.chars().count() < 10_000, "{refused}");
        let task = format!(r#"{{"name":"{text}","input":null,"output":null,"error":null,"docs":"{text}"}}"#);
        let report = format!(
            r#"{{"Compiled":{{"summary":{{"is_component":false,"is_program":true,"has_start":false,"has_collected":false,"unknown_import":null,"tasks":[{task}]}},"artifact":0}}}}"#
        );
        let (summary, _) = compiled(&says(&report, 0)).unwrap();
        let task = summary.tasks.first().unwrap();
        assert!(!task.signature().contains('\u{1b}') && !format!("{task:?}").contains('\u{1b}'));
        assert!(task.name.raw().len() < 2000 && task.docs.raw().len() < 2000, "{task:?}");
    }

    #[test]
    fn ends_that_are_none_are_told() {
        for (instead, words) in [
            ("exit 3", "the compiler ended with 3"),
            (
                "echo first >&2; printf 'last\\033[2J\\n' >&2; exit 1",
                "the compiler ended with 1: last\\u{1b}[2J",
            ),
            ("kill -SEGV $$", "the compiler was killed by signal 11"),
            ("exit 134", "the compiler ended with signal 6"),
            ("exit 152", "cannot compile m: compiling takes more than 600s of processor time"),
            (
                "echo 'memory allocation of 9 bytes failed' >&2; exit 134",
                "cannot compile m: compiling takes more than 4294967296 bytes of memory",
            ),
        ] {
            assert_eq!(problem(instead), words);
        }
    }

    #[test]
    fn no_more_is_written_than_there_is_room_for() {
        let refused = problem("head -c 100000000 /dev/zero");
        assert!(refused.starts_with("the compiler ended with 1"), "{refused}");
        let flood = problem("head -c 100000000 /dev/zero | tr '\\0' x >&2; exit 1");
        assert!(flood.starts_with("the compiler ended with 1") && flood.len() < 1000, "{flood}");
    }
}
