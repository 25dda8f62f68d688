//! The targets of attempts, and the outcome of an attempt.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use sandpool::jail::{Layer, LayerStatus};
use sandpool::run::Summary;
use sandpool::{DirGrant, Error, ExitStatus, Limits, Module, Run, Sandbox};
use tempfile::TempDir;

use crate::attempts::Targets;
use crate::{ESCAPED, REFUSED};

/// A process that is somebody else's.
struct Victim(Child);

impl Victim {
    fn new() -> Self {
        Self(Command::new("sleep").arg("100000").stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A piece of shared memory that is somebody else's.
struct Shared {
    key: i32,
    id: i32,
}

impl Shared {
    fn new() -> Self {
        let key = i32::try_from(std::process::id()).unwrap();
        // SAFETY: the call takes integers.
        let id = unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | 0o600) };
        assert!(id >= 0, "{}", io::Error::last_os_error());
        Self { key, id }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the call takes integers, and a null pointer where it needs nothing.
        unsafe { libc::shmctl(self.id, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// A program that ends at once, with 0, and needs no other file.
fn program() -> Vec<u8> {
    // exit_group(0)
    #[cfg(target_arch = "x86_64")]
    const CODE: &[u8] = &[0x31, 0xff, 0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05];
    #[cfg(target_arch = "aarch64")]
    const CODE: &[u8] = &[0, 0, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 1, 0, 0, 0xd4];
    const MACHINE: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
    const AT: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let len = HEADERS + CODE.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // Executable; where it begins, and its one program header.
    [2_u16, MACHINE].iter().for_each(|half| file.extend(half.to_le_bytes()));
    file.extend(1_u32.to_le_bytes());
    [AT + HEADERS, 64, 0].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(0_u32.to_le_bytes());
    [64_u16, 56, 1, 64, 0, 0].iter().for_each(|half| file.extend(half.to_le_bytes()));
    // All of it, to be read and executed.
    [1_u32, 5].iter().for_each(|word| file.extend(word.to_le_bytes()));
    [0, AT, AT, len, len, 0x1_0000].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(CODE);
    file
}

/// All that is attacked.
pub(crate) struct World {
    pub(crate) module: Module,
    pub(crate) targets: Targets,
    victim: Victim,
    folder: TempDir,
    neighbour: Run,
    _port: TcpListener,
    _socket: UnixListener,
    _shared: Shared,
    _left_open: File,
}

impl World {
    pub(crate) fn new() -> Self {
        // It could fork, so that its jail allows what a fork needs.
        let text = r#"(module (import "sandpool_process" "fork" (func (param i32 i32 i32) (result i64)))
            (memory (export "memory") 1) (func (export "_start")))"#;
        let module = Module::from_bytes("guest", text.as_bytes()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["readable", "writable", "outside"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("program"), program()).unwrap();
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(folder.path().join(name).join("program"), mode).unwrap();
        }
        let secret = folder.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let left_open = File::open(&secret).unwrap();
        // SAFETY: the call takes integers. From here on the descriptor is inherited.
        assert_eq!(unsafe { libc::fcntl(left_open.as_raw_fd(), libc::F_SETFD, 0) }, 0);
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = format!("sandpool-escape-{}", std::process::id());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&socket).unwrap()).unwrap();
        let shared = Shared::new();
        let victim = Victim::new();
        let path =
            |name: &str| std::ffi::CString::new(folder.path().join(name).as_os_str().as_bytes()).unwrap();
        let mut targets = Targets {
            secret: path("secret"),
            folder: path("outside"),
            port: port.local_addr().unwrap().port(),
            socket,
            victim: i32::try_from(victim.0.id()).unwrap(),
            neighbour: 1,
            arena: 0,
            key: shared.key,
        };
        let neighbour = Run::builder(&module).args(arguments("idle", &targets)).start().unwrap();
        targets.neighbour = i32::try_from(neighbour.supervisor_pid()).unwrap();
        targets.arena = arena_of(neighbour.supervisor_pid());
        Self {
            module,
            targets,
            victim,
            folder,
            neighbour,
            _port: port,
            _socket: listener,
            _shared: shared,
            _left_open: left_open,
        }
    }

    /// Makes an attempt in a run that has these layers only, or all. `None` if one of these can't be had.
    pub(crate) fn attempt(&mut self, name: &str, only: Option<&[Layer]>, limits: Limits) -> Option<Verdict> {
        if only.is_some_and(|only| only.iter().any(|layer| !self.has(*layer))) {
            return None;
        }
        fs::write(self.folder.path().join("outside/precious"), "").unwrap();
        let (folder, grant): (_, fn(PathBuf, &'static str) -> DirGrant) = match name {
            "fill_the_disk" | "execute_what_may_be_written" => ("writable", DirGrant::writable),
            _ => ("readable", DirGrant::read_only),
        };
        let host = self.folder.path().join(folder);
        let off = Layer::ALL.into_iter().filter(|layer| only.is_some_and(|only| !only.contains(layer)));
        let mut sandbox = off.fold(Sandbox::new(), Sandbox::without_layer).limits(limits);
        sandbox = sandbox.dir(grant(host, "/granted"));
        if name == "fork_without_end" {
            // The supervisor would count its children, and end the run.
            sandbox = sandbox.without_census();
        }
        let builder = Run::builder(&self.module).args(arguments(name, &self.targets)).sandbox(sandbox);
        let run = match builder.start() {
            // It was killed before it could say that it has started.
            Err(Error::SupervisorLost(_)) => return Some(Verdict::Escaped),
            started => started.unwrap(),
        };
        if only.is_some_and(|only| {
            only.iter().any(|layer| !matches!(run.jail().status(*layer), LayerStatus::Full))
        }) {
            return None;
        }
        let outcome = run.wait();
        for name in ["outside/written", "outside/device", "readable/written", "writable/filled"] {
            let _ = fs::remove_file(self.folder.path().join(name));
        }
        let verdict = match outcome {
            Ok(Summary { status: ExitStatus::Exited(ESCAPED), .. }) => Verdict::Escaped,
            Err(Error::SupervisorLost(_)) => Verdict::Escaped,
            Ok(Summary { status: ExitStatus::Exited(REFUSED), .. }) => Verdict::Refused,
            Ok(Summary { status: ExitStatus::Forbidden, .. }) => Verdict::Killed,
            Ok(Summary { status: ExitStatus::Strays(_), .. }) => Verdict::Strays,
            Ok(summary) => Verdict::Else(summary.status.to_string()),
            Err(error) => Verdict::Else(format!("error: {error}")),
        };
        if verdict == Verdict::Escaped {
            // The process that was attacked may be dead, or not yet.
            self.victim = Victim::new();
            self.targets.victim = i32::try_from(self.victim.0.id()).unwrap();
        }
        Some(verdict)
    }

    /// Whether a layer can be had here.
    pub(crate) fn has(&self, layer: Layer) -> bool {
        *self.neighbour.jail().status(layer) == LayerStatus::Full
    }
}

/// The arguments that tell the guest what to do.
pub(crate) fn arguments(name: &str, targets: &Targets) -> impl Iterator<Item = String> {
    [name.to_owned()].into_iter().chain(targets.to_args())
}

/// Where this supervisor has its arena.
fn arena_of(supervisor: u32) -> usize {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let maps = fs::read_to_string(format!("/proc/{supervisor}/maps")).unwrap();
        let arena = maps.lines().find(|line| line.contains("memfd:sandpool") && line.contains("rw-s"));
        if let Some(line) = arena {
            return usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
        }
        assert!(Instant::now() < until, "the neighbour has no arena");
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Escaped,
    Refused,
    Killed,
    Strays,
    Else(String),
}

impl Verdict {
    pub(crate) fn holds(&self) -> bool {
        matches!(self, Self::Refused | Self::Killed)
    }
}
