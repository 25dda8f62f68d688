//! Other processes of this program, supervisors, compilers and gateways: which program to start, and how its owner starts the process, hears
//! from it and waits for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use crate::control::{self, Reply};
use crate::sys::process::{leave_room_for_stack, pidfd_open, send_signal};
use crate::{Error, Result};

/// The name (`argv[0]`) that makes a program a supervisor.
pub(crate) const SUPERVISOR: &str = "sandpool-supervisor";

/// The name that makes a program a compiler.
pub(crate) const COMPILER: &str = "sandpool-compiler";

/// The name that makes a program a gateway.
pub(crate) const GATEWAY: &str = "sandpool-gateway";

static INITIALIZED: AtomicBool = AtomicBool::new(false);
static EXECUTABLE: RwLock<Option<PathBuf>> = RwLock::new(None);

/// Sets the program that Sandpool starts as the supervisor of runs and the compiler of modules, instead of this one. That program
/// must call [`init`](crate::init) first in `main`, and be built with the same version of Sandpool. The `sandpool` command is such
/// a program.
///
/// `set_executable` is for code that doesn't own `main`: libraries that another program loads, and tests.
/// `multiprocessing.set_executable()` has the same role.
///
/// ```no_run
/// sandpool::set_executable("/usr/bin/sandpool");
/// let module = sandpool::Module::from_file("guest.wasm")?;
/// # Ok::<(), sandpool::Error>(())
/// ```
pub fn set_executable(program: impl Into<PathBuf>) {
    *EXECUTABLE.write().unwrap_or_else(PoisonError::into_inner) = Some(program.into());
}

/// Notes that [`init`](crate::init) was called, so this program may be started again.
pub(crate) fn note_init() {
    INITIALIZED.store(true, Ordering::Relaxed);
}

/// The program to start for work that Sandpool does not do in this process.
pub(crate) fn executable() -> Result<PathBuf> {
    match &*EXECUTABLE.read().unwrap_or_else(PoisonError::into_inner) {
        Some(program) => Ok(program.clone()),
        None if INITIALIZED.load(Ordering::Relaxed) => Ok(PathBuf::from("/proc/self/exe")),
        None => Err(Error::NotInitialized),
    }
}

/// A setting of the C library of a supervisor, and so of all guests, which are forked from the supervisor.
///
/// On AMD's processors, `rep movsb` takes up to 17 times as long as a loop if source and destination lie alike within their pages,
/// as items of queues with pages of their own do. glibc's `memcpy` used `rep movsb` there from 2112 bytes on, before version 2.40
/// (its bug 30994). Other C libraries ignore the setting.
fn tunables() -> Option<(&'static str, &'static str)> {
    #[cfg(target_arch = "x86_64")]
    {
        let vendor = std::arch::x86_64::__cpuid(0);
        if [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD" {
            return Some(("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=0x10000000"));
        }
    }
    None
}

/// A program has room for a stack of this size below its mappings, whatever its limits were when it was started.
const USUAL_STACK: u64 = 72 << 20;

/// A child of this process, a supervisor, a compiler or a gateway, that nobody else waits for.
#[derive(Debug)]
pub(crate) struct Child {
    pid: u32,
    pidfd: OwnedFd,
}

impl Child {
    /// Starts a program by this name, with these standard streams, room for a stack of this size, and no environment but settings of
    /// its C library.
    pub(crate) fn start(program: &Path, name: &str, streams: [Stdio; 3], stack: u64) -> io::Result<Self> {
        let [stdin, stdout, stderr] = streams;
        let mut command = Command::new(program);
        command.arg0(name).env_clear().envs(tunables()).stdin(stdin).stdout(stdout).stderr(stderr);
        if stack > USUAL_STACK {
            leave_room_for_stack(&mut command, stack);
        }
        Self::from_pid(command.spawn()?.id())
    }

    fn from_pid(pid: u32) -> io::Result<Self> {
        Ok(Self { pid, pidfd: pidfd_open(i32::try_from(pid).map_err(io::Error::other)?)? })
    }

    /// Returns the next reply with its descriptors; `None` if the child says nothing more. If the child says that another process
    /// has taken its place, this becomes that process.
    pub(crate) fn next_reply(&mut self, socket: BorrowedFd<'_>) -> io::Result<Option<(Reply, Vec<OwnedFd>)>> {
        loop {
            match control::receive_message_with(socket)? {
                Some((Reply::Moved(pid), _)) => {
                    let child = Self::from_pid(pid)?;
                    let _ = std::mem::replace(self, child).wait();
                }
                reply => return Ok(reply),
            }
        }
    }

    /// The child's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// A descriptor that becomes readable when the child ends.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(crate) fn kill(&self) {
        let _ = send_signal(self.pidfd.as_fd(), Signal::SIGKILL);
    }

    /// Waits until the child has ended, and returns how it ended.
    pub(crate) fn wait(&self) -> nix::Result<WaitStatus> {
        loop {
            match waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED) {
                Err(Errno::EINTR) => {}
                ended => return ended,
            }
        }
    }
}
