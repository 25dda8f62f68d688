//! What starts a compiler, and judges what comes of it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread;
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
        // Said here, because finding it out takes files, of which the compiler has none.
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let child = Command::new(program)
            .arg0(ARGV0)
            .args(settings.to_args())
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
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
