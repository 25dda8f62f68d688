//! What starts a compiler, and judges what comes of it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;

use super::child::Settings;
use super::{ARGV0, HEAD, Limits, REPORT_MAX, Report, Summary, output_size};
use crate::engine::inspect::{TaskInfo, printable};
use crate::sys::process::pidfd_open;
use crate::{CompileLimit, Error, Result};

/// As much of what a compiler prints is kept.
const WORDS_MAX: u64 = 16 << 10;

/// Compiles a module, in this program. Returns what there is to know of it, and the artifact, to be read from where it
/// begins.
///
/// `compatibility` is what the compiler's engine must have in common with the caller's.
pub(crate) fn compile(
    program: &Path,
    name: &str,
    module: &[u8],
    compatibility: String,
    limits: &Limits,
) -> Result<(Summary, io::Take<File>)> {
    let os = |what| move |source| Error::Os { what, source };
    let files = || Ok((sealed(module)?, sized(output_size(limits.artifact))?, sized(WORDS_MAX)?));
    let (module, output, words) = files().map_err(os("make memory files for the compiler"))?;
    let settings = Settings {
        owner: std::process::id(),
        memory: limits.memory,
        cpu: limits.cpu.as_secs().max(1),
        artifact: limits.artifact,
        compatibility,
    };
    let mut compiler =
        Compiler::start(program, &settings, module, &output, &words).map_err(os("start the compiler"))?;
    let ended = compiler.wait(limits.time).map_err(os("wait for the compiler"))?;
    let limit = |limit| Err(Error::CompileLimit { name: name.to_owned(), limit });
    let failed = |problem| Err(Error::Compile { name: name.to_owned(), problem });
    match ended {
        None => limit(CompileLimit::Time(limits.time)),
        Some(status) if status.success() => match read(output) {
            Ok((Report::Compiled { mut summary, .. }, artifact)) => {
                summary.tasks = summary.tasks.into_iter().map(TaskInfo::into_printable).collect();
                Ok((summary, artifact))
            }
            Ok((Report::Refused(refusal), _)) => Err(refusal.into_error(name, limits.artifact)),
            Err(error) => {
                failed(format!("the compiler's report is unusable: {}", printable(&error.to_string())))
            }
        },
        Some(status) => {
            let words = printed(&words);
            match status.signal().and_then(|signal| Signal::try_from(signal).ok()) {
                Some(Signal::SIGXCPU) => limit(CompileLimit::Cpu(Duration::from_secs(settings.cpu))),
                // What Rust does when there is no memory, and what it says.
                Some(Signal::SIGABRT) if words.contains("memory allocation of ") => {
                    limit(CompileLimit::Memory(limits.memory))
                }
                _ => failed(format!("the compiler {}{}", how(status), last_line(&words))),
            }
        }
    }
}

fn how(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("was killed by signal {signal}"),
        None => format!("ended with {}", status.code().unwrap_or_default()),
    }
}

/// A compiler that runs. Dropped, it is killed.
struct Compiler(Child);

impl Compiler {
    fn start(
        program: &Path,
        settings: &Settings,
        module: File,
        output: &File,
        words: &File,
    ) -> io::Result<Self> {
        let child = Command::new(program)
            .arg0(ARGV0)
            .args(settings.to_args())
            .env_clear()
            .current_dir("/")
            .stdin(module)
            .stdout(output.try_clone()?)
            .stderr(words.try_clone()?)
            .spawn()?;
        Ok(Self(child))
    }

    /// Waits for its end; `None`, and it is killed, if that takes longer than it may.
    fn wait(&mut self, time: Duration) -> io::Result<Option<ExitStatus>> {
        let pidfd = pidfd_open(i32::try_from(self.0.id()).map_err(io::Error::other)?)?;
        let start = Instant::now();
        loop {
            let left = time.saturating_sub(start.elapsed());
            // Rounded up: what is left is not nothing.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(0) if start.elapsed() >= time => return Ok(None),
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => return self.0.wait().map(Some),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        // If it has been waited for, neither does anything.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A file in memory that holds this, and of which nobody can change anything.
fn sealed(bytes: &[u8]) -> io::Result<File> {
    let mut file = memory_file()?;
    file.write_all(bytes)?;
    file.rewind()?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// A file in memory of so many zeros, of which nobody can change the size.
fn sized(bytes: u64) -> io::Result<File> {
    let file = memory_file()?;
    file.set_len(bytes)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

fn memory_file() -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    Ok(File::from(memfd_create("sandpool-compile", flags)?))
}

/// Takes an output apart.
fn read(mut output: File) -> io::Result<(Report, io::Take<File>)> {
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
    Ok((report, output.take(artifact)))
}

/// What a compiler has printed, until it died.
fn printed(words: &File) -> String {
    let mut bytes = vec![0; WORDS_MAX as usize];
    let len = words.read_at(&mut bytes, 0).unwrap_or_default();
    let text = String::from_utf8_lossy(bytes.get(..len).unwrap_or_default());
    text.trim_end_matches('\0').trim().to_owned()
}

/// The last line of it, to be put behind a message: it may say something to a person.
fn last_line(words: &str) -> String {
    words.lines().next_back().map(|line| format!(": {}", printable(line))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// What comes of a compiler that does this instead, in the language of the shell.
    fn compiled(instead: &str) -> Result<(Summary, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("compiler");
        fs::write(&program, format!("#!/bin/sh\n{instead}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let limits = Limits { artifact: 4096, time: Duration::from_secs(20), ..Limits::default() };
        let (summary, mut artifact) = compile(&program, "m", b"", String::new(), &limits)?;
        let mut bytes = Vec::new();
        artifact.read_to_end(&mut bytes).unwrap();
        Ok((summary, bytes))
    }

    /// What says that in a report, which claims to be so much longer than it is.
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
                    r#"{{"Compiled":{{"summary":{{"is_program":true,"has_start":false,"tasks":[]}},"artifact":{artifact}}}}}"#
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
            r#"{{"Compiled":{{"summary":{{"is_program":true,"has_start":false,"tasks":[{task}]}},"artifact":0}}}}"#
        );
        let (summary, _) = compiled(&says(&report, 0)).unwrap();
        let task = summary.tasks.first().unwrap();
        assert!(!task.name.contains('\u{1b}') && !task.docs.contains('\u{1b}'), "{task:?}");
        assert!(task.name.len() < 2000 && task.docs.len() < 2000, "{task:?}");
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
            ("kill -ABRT $$", "the compiler was killed by signal 6"),
            ("kill -XCPU $$", "cannot compile m: it takes more than 600s of processor time"),
            (
                "echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$",
                "cannot compile m: it takes more than 4294967296 bytes of memory",
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
