//! Attempts to escape: what a guest does that has broken out of WebAssembly. This program is its own supervisor, and runs
//! native code in guest processes, in the jail.
//!
//! Each attempt is made in the whole jail; then once for each layer that is to hold it by itself, with all others
//! switched off; and with all of them off, where it must succeed: an attempt that can't succeed would show nothing. What
//! this kernel or this user can't have is named and left out.
//!
//! It has a `main` of its own, because the supervisor is this program, started once more. Arguments are parts of names of
//! attempts to make. If it is root who runs it, it is run as an ordinary user as well.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a test fails"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test says what it does, and why it fails")]
#![allow(unsafe_code, reason = "System V's shared memory has no safe interface")]

mod attempts;
#[path = "../delegated.rs"]
mod delegated;

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use sandpool::{
    CompileLimits, DirGrant, Error, ExitStatus, Layer, LayerStatus, Limits, Module, ModuleBuilder, Pool,
    PoolBuilder, PoolEnd, Run, Sandbox, Summary,
};
use tempfile::TempDir;

use Layer::{
    Capabilities, ControlGroup, Descriptors, IpcNamespace, Landlock, MountNamespace, NetworkNamespace,
    PidNamespace, ProcessLimit, Rlimits, Seccomp, UserNamespace,
};
use attempts::Targets;
use delegated::Delegated;

/// What a guest process ends with that has got what it wanted.
const ESCAPED: u8 = 7;
/// What one ends with that was refused.
const REFUSED: u8 = 8;

/// Something to try.
struct Attempt {
    name: &'static str,
    run: fn(&Targets) -> io::Result<()>,
    /// The layers each of which holds it alone.
    alone: &'static [Layer],
}

macro_rules! attempts {
    ($($name:ident: $($layer:ident)*;)*) => {
        &[$(Attempt { name: stringify!($name), run: attempts::$name, alone: &[$($layer),*] }),*]
    };
}

const ATTEMPTS: &[Attempt] = attempts! {
    read_a_file: MountNamespace Landlock Seccomp;
    read_a_file_by_way_of_a_granted_directory: MountNamespace Landlock;
    look_whether_there_is_a_file: MountNamespace;
    write_a_file: MountNamespace Landlock Seccomp;
    remove_a_file: MountNamespace Landlock;
    write_where_only_reading_is_granted: MountNamespace Landlock;
    make_a_device: UserNamespace MountNamespace Capabilities Landlock Seccomp;
    execute: MountNamespace Landlock Seccomp;
    execute_what_may_be_read: MountNamespace Landlock Seccomp;
    execute_what_may_be_written: MountNamespace Landlock Seccomp;
    execute_from_memory: Seccomp;
    connect_by_tcp: NetworkNamespace Landlock Seccomp;
    connect_to_an_abstract_socket: NetworkNamespace Landlock Seccomp;
    trace_the_supervisor: Landlock Seccomp;
    trace_a_process: UserNamespace PidNamespace Landlock Seccomp;
    kill_the_supervisor: PidNamespace Landlock Seccomp;
    kill_a_process: PidNamespace Landlock Seccomp;
    read_another_runs_arena: UserNamespace PidNamespace Landlock Seccomp;
    take_another_runs_descriptor: UserNamespace PidNamespace Landlock Seccomp;
    look_at_another_process: MountNamespace Landlock Seccomp;
    attach_shared_memory_of_others: IpcNamespace Seccomp;
    use_a_socket_of_the_supervisor: Descriptors Seccomp;
    map_executable_memory: Seccomp;
    make_memory_executable: Seccomp;
    read_implies_executable: Seccomp;
    exhaust_memory: Rlimits;
    exhaust_memory_with_others: ControlGroup Seccomp;
    exhaust_shared_memory: Seccomp;
    exhaust_memory_that_grows_down: Seccomp;
    map_huge_pages: Seccomp;
    lock_memory: Seccomp;
    exhaust_memory_with_page_tables: Rlimits;
    use_futexes_as_no_guest_does: Seccomp;
    leave_a_dump: Rlimits Seccomp;
    exhaust_descriptors: Rlimits Seccomp;
    fill_the_disk: Rlimits;
    fork_a_process_of_its_own: Seccomp;
    start_a_thread: Seccomp;
    fork_into_namespaces: Seccomp;
    fork_without_end: ControlGroup ProcessLimit;
};

/// System calls that no guest makes, each of which is a way to reach a part of the kernel.
const CALLS: &[(&str, libc::c_long)] = &[
    ("add_key", libc::SYS_add_key),
    ("bind", libc::SYS_bind),
    ("bpf", libc::SYS_bpf),
    ("capset", libc::SYS_capset),
    ("chroot", libc::SYS_chroot),
    ("clone3", libc::SYS_clone3),
    ("fanotify_init", libc::SYS_fanotify_init),
    ("finit_module", libc::SYS_finit_module),
    ("inotify_init1", libc::SYS_inotify_init1),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("kcmp", libc::SYS_kcmp),
    ("keyctl", libc::SYS_keyctl),
    ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset),
    ("memfd_create", libc::SYS_memfd_create),
    ("mount", libc::SYS_mount),
    ("move_pages", libc::SYS_move_pages),
    ("mq_open", libc::SYS_mq_open),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pivot_root", libc::SYS_pivot_root),
    ("prlimit64", libc::SYS_prlimit64),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("ptrace", libc::SYS_ptrace),
    ("quotactl", libc::SYS_quotactl),
    ("remap_file_pages", libc::SYS_remap_file_pages),
    ("rt_sigaction", libc::SYS_rt_sigaction),
    ("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo),
    ("sched_setscheduler", libc::SYS_sched_setscheduler),
    ("seccomp", libc::SYS_seccomp),
    ("semget", libc::SYS_semget),
    ("setns", libc::SYS_setns),
    ("setpriority", libc::SYS_setpriority),
    ("setuid", libc::SYS_setuid),
    ("socketpair", libc::SYS_socketpair),
    ("splice", libc::SYS_splice),
    ("swapon", libc::SYS_swapon),
    ("timer_create", libc::SYS_timer_create),
    ("tkill", libc::SYS_tkill),
    ("umount2", libc::SYS_umount2),
    ("unshare", libc::SYS_unshare),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("vmsplice", libc::SYS_vmsplice),
    // The same numbers in the other convention of a 64-bit machine.
    #[cfg(target_arch = "x86_64")]
    ("read of x32", libc::SYS_read | 0x4000_0000),
];

/// System calls of the policy with arguments that no guest passes, at least one for each argument that a rule asks for. They
/// make no sense otherwise, so that the kernel answers with an error where there is no filter, or does nothing.
#[rustfmt::skip]
const ARGUMENTS: &[(&str, libc::c_long, [usize; 6])] = &[
    ("futex that is private", libc::SYS_futex, [NOWHERE, 129, 0, 0, 0, 0]),
    ("futex that is requeued", libc::SYS_futex, [NOWHERE, 4, 0, 0, NOWHERE, 0]),
    ("futex of the clock of the day", libc::SYS_futex, [NOWHERE, 265, 0, 0, 0, 1]),
    ("rt_sigaction of SIGTERM", libc::SYS_rt_sigaction, [15, 0, 0, 8, 0, 0]),
    ("ioctl TIOCSTI", libc::SYS_ioctl, [9999, 0x5412, 0, 0, 0, 0]),
    ("ioctl FIONBIO", libc::SYS_ioctl, [9999, 0x5421, 0, 0, 0, 0]),
    ("mmap to be executed", libc::SYS_mmap, [0, 0, 5, 0x22, usize::MAX, 0]),
    ("mmap of a file", libc::SYS_mmap, [0, 0, 3, 2, 9999, 0]),
    ("mmap that is shared", libc::SYS_mmap, [0, 0, 3, 0x21, usize::MAX, 0]),
    ("mmap in a place", libc::SYS_mmap, [0, 0, 1, 0x32, usize::MAX, 0]),
    ("mprotect to be executed", libc::SYS_mprotect, [1, 0, 5, 0, 0, 0]),
    ("mremap to a place", libc::SYS_mremap, [1, 4096, 4096, 3, 0, 0]),
    ("mremap that unmaps nothing", libc::SYS_mremap, [1, 4096, 4096, 5, 0, 0]),
    ("mremap of nothing", libc::SYS_mremap, [1, 0, 4096, 1, 0, 0]),
    ("madvise DONTNEED", libc::SYS_madvise, [1, 0, 4, 0, 0, 0]),
    ("madvise HWPOISON", libc::SYS_madvise, [1, 0, 100, 0, 0, 0]),
    ("tgkill to see who is there", libc::SYS_tgkill, [usize::MAX, 1, 0, 0, 0, 0]),
    ("tgkill SIGKILL", libc::SYS_tgkill, [usize::MAX, 1, 9, 0, 0, 0]),
    // Handlers of signals can't be shared without memory.
    ("clone that shares", libc::SYS_clone, [0x800, 0, 0, 0, 0, 0]),
    ("clone with a signal", libc::SYS_clone, [0x811, 0, 0, 0, 0, 0]),
    ("prctl PR_SET_PDEATHSIG to SIGTERM", libc::SYS_prctl, [1, 15, 0, 0, 0, 0]),
    ("prctl PR_SET_DUMPABLE", libc::SYS_prctl, [4, 9, 0, 0, 0, 0]),
    ("prctl PR_SET_SECCOMP", libc::SYS_prctl, [22, 9, 0, 0, 0, 0]),
    ("fcntl F_DUPFD", libc::SYS_fcntl, [9999, 0, 0, 0, 0, 0]),
    ("fcntl F_SETFL", libc::SYS_fcntl, [9999, 4, 0, 0, 0, 0]),
    ("fcntl F_SETOWN", libc::SYS_fcntl, [9999, 8, 1, 0, 0, 0]),
    ("openat of the working directory", libc::SYS_openat, [libc::AT_FDCWD as usize, 0, 0, 0, 0, 0]),
    ("openat2 of the working directory", libc::SYS_openat2, [libc::AT_FDCWD as usize, 0, 0, 0, 0, 0]),
    ("pwritev2 at once", libc::SYS_pwritev2, [9999, 0, 0, 0, 0, 1]),
];

/// Those of them that a compiler's policy has.
const OF_COMPILERS: [&str; 2] = ["futex that is private", "madvise DONTNEED"];

/// An address of nothing, for a futex.
const NOWHERE: usize = 4;

/// A system call and its arguments, by the name of an attempt.
fn call_of(name: &str) -> Option<(libc::c_long, [usize; 6])> {
    let any = CALLS.iter().find(|(known, _)| *known == name).map(|(_, number)| (*number, [usize::MAX; 6]));
    any.or_else(|| {
        ARGUMENTS.iter().find(|(known, ..)| *known == name).map(|(_, number, args)| (*number, *args))
    })
}

/// The names of all calls to be made.
fn calls() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|(name, _)| *name).chain(ARGUMENTS.iter().map(|(name, ..)| *name))
}

/// The guest's side: what the first argument says, if it says one.
fn native(args: &[String]) -> Option<u8> {
    let [name, targets @ ..] = args else { return None };
    let targets = Targets::from_args(targets)?;
    let outcome = match name.as_str() {
        "idle" => loop {
            attempts::sleep_millis(60_000);
        },
        "compute_for_ever" => attempts::compute_for_ever(&targets),
        "read_an_inherited_descriptor" => attempts::read_an_inherited_descriptor(&targets),
        "write_all_over_the_arena" => attempts::write_all_over_the_arena(&targets),
        "write_for_ever" => attempts::write_for_ever(&targets),
        "fork_past_the_table" => attempts::fork_past_the_table(&targets),
        name => match (ATTEMPTS.iter().find(|attempt| attempt.name == name), name.strip_prefix("call ")) {
            (Some(attempt), _) => (attempt.run)(&targets),
            (None, Some(name)) => {
                let (number, args) = call_of(name)?;
                attempts::any_call(number, &args)
            }
            (None, None) => return None,
        },
    };
    Some(if outcome.is_ok() { ESCAPED } else { REFUSED })
}

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
struct World {
    module: Module,
    targets: Targets,
    victim: Victim,
    folder: TempDir,
    neighbour: Run,
    _port: TcpListener,
    _socket: UnixListener,
    _shared: Shared,
    _left_open: File,
}

impl World {
    fn new() -> Self {
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
    fn attempt(&mut self, name: &str, only: Option<&[Layer]>, limits: Limits) -> Option<Verdict> {
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
            // Who was attacked may be dead, or not yet.
            self.victim = Victim::new();
            self.targets.victim = i32::try_from(self.victim.0.id()).unwrap();
        }
        Some(verdict)
    }
}

impl World {
    /// Whether a layer can be had here.
    fn has(&self, layer: Layer) -> bool {
        *self.neighbour.jail().status(layer) == LayerStatus::Full
    }
}

/// The arguments that tell the guest what to do.
fn arguments(name: &str, targets: &Targets) -> impl Iterator<Item = String> {
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
enum Verdict {
    Escaped,
    Refused,
    Killed,
    Strays,
    Else(String),
}

impl Verdict {
    fn holds(&self) -> bool {
        matches!(self, Self::Refused | Self::Killed)
    }
}

/// Limits that attempts are held to: more than the idle guest needs.
fn limits() -> Limits {
    Limits::default()
        .processes_max(16)
        .memory_max(16 << 20)
        .run_memory_max(64 << 20)
        .arena_size(16 << 20)
        .file_size_max(1 << 20)
}

/// What holds a layer up that is alone.
fn alone(layer: Layer) -> Vec<Layer> {
    match layer {
        Landlock | Seccomp => vec![Layer::NoNewPrivs, layer],
        // It has a limit for each of the two, of which root has the second one only.
        ProcessLimit if nix::unistd::geteuid().is_root() => vec![PidNamespace, layer],
        ProcessLimit => vec![UserNamespace, layer],
        // Who isn't root has the others only in a namespace of users.
        PidNamespace | MountNamespace | NetworkNamespace | IpcNamespace
            if !nix::unistd::geteuid().is_root() =>
        {
            vec![UserNamespace, layer]
        }
        _ => vec![layer],
    }
}

/// What has been found.
#[derive(Default)]
struct Findings {
    wrong: Vec<String>,
    left_out: Vec<String>,
}

impl Findings {
    fn see(&mut self, holds: bool, what: String) {
        if !holds {
            eprintln!("FAILED: {what}");
            self.wrong.push(what);
        }
    }
}

fn main() -> ExitCode {
    sandpool::init_with_native(native);
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let membership = Membership::new();
    let mut world = World::new();
    let mut findings = Findings::default();
    println!("{:42} {:>10}  held alone by", "attempt", "without");
    for attempt in ATTEMPTS.iter().filter(|attempt| is_wanted(attempt.name)) {
        let name = attempt.name;
        let whole = world.attempt(name, None, limits()).unwrap();
        // Where none of the layers can be had that would hold it, it says so below.
        let could_hold = attempt.alone.iter().any(|layer| world.has(*layer));
        findings.see(whole.holds() || !could_hold, format!("{name} in the whole jail: {whole:?}"));
        let without = world.attempt(name, Some(&[]), limits()).unwrap();
        if without != Verdict::Escaped {
            if nix::unistd::geteuid().is_root() {
                findings.see(false, format!("{name} without a jail doesn't succeed: {without:?}"));
            }
            findings.left_out.push(format!("{name}: this user may not do it anyway"));
            continue;
        }
        let mut held = Vec::new();
        for layer in attempt.alone {
            match world.attempt(name, Some(&alone(*layer)), limits()) {
                None => findings.left_out.push(format!("{name}: {layer} can't be had alone here")),
                Some(verdict) => {
                    findings.see(verdict.holds(), format!("{name} with {layer} alone: {verdict:?}"));
                    held.push(format!(
                        "{layer}{}",
                        if verdict == Verdict::Killed { " (killed)" } else { "" }
                    ));
                }
            }
        }
        println!("{name:42} {:>10}  {}", "escaped", held.join(", "));
    }
    for name in calls().filter(|name| is_wanted(name)) {
        let name = format!("call {name}");
        for only in [None, Some(&alone(Seccomp)[..])] {
            let verdict = world.attempt(&name, only, limits()).unwrap();
            findings.see(verdict == Verdict::Killed, format!("{name}, with {only:?}: {verdict:?}"));
        }
        let without = world.attempt(&name, Some(&[]), limits()).unwrap();
        findings.see(without == Verdict::Escaped, format!("{name} without a jail: {without:?}"));
    }
    if is_wanted("call") {
        println!(
            "{:42} {:>10}  {Seccomp} (killed)",
            format!("{} other system calls", calls().count()),
            "answered"
        );
    }
    for (name, test) in [
        ("read_an_inherited_descriptor", read_an_inherited_descriptor as fn(&mut World, &mut Findings)),
        ("compute_for_ever", compute_for_ever),
        ("write_all_over_the_arena", write_all_over_the_arena),
        ("write_all_over_a_pool", write_all_over_a_pool),
        ("write_for_ever", write_for_ever),
        ("fork_past_the_table", fork_past_the_table),
        ("fork_from_a_pool", fork_from_a_pool),
        ("take_over_the_compiler", take_over_the_compiler),
    ] {
        if is_wanted(name) {
            test(&mut world, &mut findings);
        }
    }
    for left_out in &findings.left_out {
        println!("left out: {left_out}");
    }
    if nix::unistd::geteuid().is_root() {
        println!("\nas an ordinary user");
        drop(world);
        if let Some(membership) = &membership {
            membership.give_to_nobody();
        }
        findings.see(holds_an_ordinary_user(&wanted), "an ordinary user".to_owned());
    }
    println!("escape result: {}", if findings.wrong.is_empty() { "ok" } else { "FAILED" });
    ExitCode::from(u8::from(!findings.wrong.is_empty()))
}

/// Of the user and the group.
const NOBODY: u32 = 65534;

/// This process is below a delegated control group, for as long as this lives.
struct Membership {
    delegated: Delegated,
    before: PathBuf,
}

impl Membership {
    fn new() -> Option<Self> {
        let before = delegated::own()?;
        let delegated = Delegated::new()?;
        fs::write(delegated.below().join("cgroup.procs"), "0").unwrap();
        Some(Self { delegated, before })
    }

    /// As systemd does it for a user.
    fn give_to_nobody(&self) {
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            chown(self.delegated.path.join(file), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        fs::write(self.before.join("cgroup.procs"), "0").unwrap();
    }
}

/// Whether this program finds the same when user and group of nobody run it: a copy, where they can read it.
fn holds_an_ordinary_user(arguments: &[String]) -> bool {
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("escape");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [home.path(), &program] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(home.path()).env("HOME", home.path());
    for name in ["SANDPOOL_CACHE_DIR", "XDG_CACHE_HOME", "TMPDIR"] {
        command.env_remove(name);
    }
    // Other groups go with it.
    command.uid(NOBODY).gid(NOBODY).status().unwrap().success()
}

/// The supervisor closes what this program has left open, whatever layers there are.
fn read_an_inherited_descriptor(world: &mut World, findings: &mut Findings) {
    for only in [None, Some(&[][..])] {
        let verdict = world.attempt("read_an_inherited_descriptor", only, limits()).unwrap();
        findings.see(verdict.holds(), format!("a descriptor that was left open, with {only:?}: {verdict:?}"));
    }
    println!("{:42} {:>10}  the supervisor", "read_an_inherited_descriptor", "");
}

/// Time: a loop of native code knows no fuel and no interruption.
fn compute_for_ever(world: &mut World, findings: &mut Findings) {
    for (what, only) in [("the whole jail", None), ("no layer", Some(&[][..]))] {
        for limits in
            [limits().cpu_time(Duration::from_millis(300)), limits().wall_time(Duration::from_millis(300))]
        {
            let verdict = world.attempt("compute_for_ever", only, limits).unwrap();
            let is_limited = matches!(&verdict, Verdict::Else(text) if text.starts_with("limited"));
            findings.see(is_limited, format!("a native loop in {what}: {verdict:?}"));
        }
    }
    println!("{:42} {:>10}  the supervisor", "compute_for_ever", "");
}

/// The arena has no wall around it inside of a run. What reads it has to bear with anything.
fn write_all_over_the_arena(world: &mut World, findings: &mut Findings) {
    for _ in 0..5 {
        // The table of its own memory, by which it finds the arena, is a file.
        let verdict = world.attempt("write_all_over_the_arena", Some(&[]), limits()).unwrap();
        // How it ended may have been overwritten. That it was told how is what counts.
        let is_told = !matches!(&verdict, Verdict::Else(text) if text.starts_with("error"));
        findings.see(is_told, format!("the supervisor didn't survive: {verdict:?}"));
    }
    println!("{:42} {:>10}  the supervisor", "write_all_over_the_arena", "");
}

/// The same by the workers of a pool. Its owner, which reads the arena as well, is this program: it goes on, and can end the
/// pool.
fn write_all_over_a_pool(world: &mut World, findings: &mut Findings) {
    for _ in 0..5 {
        let start = Instant::now();
        let sandbox = Layer::ALL.into_iter().fold(Sandbox::new().limits(limits()), Sandbox::without_layer);
        let builder = Pool::builder(&world.module).sandbox(sandbox).processes(3);
        let builder =
            arguments("write_all_over_the_arena", &world.targets).fold(builder, PoolBuilder::native);
        let ended = builder.start_timeout(Duration::from_secs(3)).build().map(drop);
        // No worker is ever ready.
        let is_ended = ended.is_err() && start.elapsed() < Duration::from_secs(20);
        findings.see(is_ended, format!("the owner of a pool: {ended:?} after {:?}", start.elapsed()));
    }
    println!("{:42} {:>10}  the owner", "write_all_over_a_pool", "");
}

/// Whatever the arena holds, and however often that changes, each turn of the supervisor ends soon: so does the run, by
/// whichever way somebody ends it. Among what is written may be the wish that the writer is killed: then another is tried.
fn write_for_ever(world: &mut World, findings: &mut Findings) {
    const PATIENCE: Duration = Duration::from_secs(6);
    const LIMIT: Duration = Duration::from_secs(2);
    const TRIES: usize = 20;
    /// Its name, the limit of time of the run, and what is done.
    type Way = (&'static str, Option<Duration>, fn(Run));
    let ways: [Way; 3] = [
        ("a stop", None, |run| {
            run.stopper().stop(sandpool::Signal::TERM);
            let _ = run.wait();
        }),
        ("a drop", None, drop),
        ("its limit", Some(LIMIT), |run| {
            let _ = run.wait();
        }),
    ];
    for (way, run_wall_time, end) in ways {
        let was_there_to_be_ended = (0..TRIES).any(|_| {
            // Its second process would be found, and the run ended for it.
            let sandbox = Sandbox::new().without_census().limits(limits().run_wall_time(run_wall_time));
            let off = Layer::ALL.into_iter().filter(|layer| ![PidNamespace, UserNamespace].contains(layer));
            let builder = Run::builder(&world.module)
                .args(arguments("write_for_ever", &world.targets))
                .sandbox(off.fold(sandbox, Sandbox::without_layer));
            let begun = Instant::now();
            let run = builder.start().unwrap();
            let supervisor = run.supervisor_pid();
            if run_wall_time.is_none() {
                std::thread::sleep(LIMIT);
            }
            let has_guests = has_children(supervisor);
            end(run);
            let took = begun.elapsed();
            let is_soon = took < LIMIT + PATIENCE;
            findings.see(is_soon, format!("a run that is written over ended by {way} after {took:?}"));
            let is_gone = !PathBuf::from(format!("/proc/{supervisor}")).exists();
            findings.see(is_gone, format!("the supervisor is left after {way}"));
            if run_wall_time.is_some() { took >= LIMIT } else { has_guests }
        });
        findings.see(was_there_to_be_ended, format!("each of {TRIES} ended before {way}"));
    }
    println!("{:42} {:>10}  the supervisor", "write_for_ever", "");
}

/// Whether a process has any, as the kernel tells.
fn has_children(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .is_ok_and(|children| !children.trim().is_empty())
}

/// The policy allows what a fork needs. What isn't in the process table, the supervisor must find.
fn fork_past_the_table(world: &mut World, findings: &mut Findings) {
    let start = Instant::now();
    let verdict = world.attempt("fork_past_the_table", None, limits()).unwrap();
    let is_ended = start.elapsed() < Duration::from_secs(20) && verdict == Verdict::Strays;
    findings
        .see(is_ended, format!("processes that are in no table: {verdict:?} after {:?}", start.elapsed()));
    println!("{:42} {:>10}  the supervisor: {verdict:?}", "fork_past_the_table", "");
}

/// The same of a worker: it is the pool that ends.
fn fork_from_a_pool(world: &mut World, findings: &mut Findings) {
    let builder = Pool::builder(&world.module).processes(1).sandbox(Sandbox::new().limits(limits()));
    let builder = arguments("fork_past_the_table", &world.targets).fold(builder, PoolBuilder::native);
    let ended = builder.build().map(drop);
    let is_ended = matches!(ended, Err(Error::Pool(PoolEnd::Strays(1..))));
    findings.see(is_ended, format!("a pool with processes that are in no table: {ended:?}"));
    println!("{:42} {:>10}  the supervisor", "fork_from_a_pool", "");
}

/// All the same in a compiler.
fn take_over_the_compiler(world: &mut World, findings: &mut Findings) {
    let attempts = ATTEMPTS.iter().map(|attempt| attempt.name.to_owned());
    let calls = calls().filter(|name| !OF_COMPILERS.contains(name)).map(|name| format!("call {name}"));
    for name in attempts.chain(calls) {
        let verdict = compile(&name, &world.targets, &[]);
        let holds = if name.starts_with("call") { verdict == Verdict::Killed } else { verdict.holds() };
        findings.see(holds, format!("{name} in a compiler: {verdict:?}"));
    }
    for name in ["read_a_file", "write_a_file", "connect_by_tcp", "kill_a_process", "call ptrace"] {
        let verdict = compile(name, &world.targets, &Layer::ALL);
        findings
            .see(verdict == Verdict::Escaped, format!("{name} in a compiler without a jail: {verdict:?}"));
    }
    println!("{:42} {:>10}  the compiler's jail", "take_over_the_compiler", "");
}

/// What comes of native code in the place of a compiler, without these layers.
fn compile(name: &str, targets: &Targets, without: &[Layer]) -> Verdict {
    let module: Vec<_> = arguments(name, targets).collect();
    let limits = CompileLimits::default().compile_memory_max(64 << 20);
    let builder = Module::builder().sandbox(Sandbox::new().compile_limits(limits));
    let builder = without.iter().copied().fold(builder, ModuleBuilder::without_compiler_layer);
    match builder.load("native", module.join("\n").as_bytes()) {
        Err(Error::Compile { problem, .. }) if problem == format!("the compiler ended with {ESCAPED}") => {
            Verdict::Escaped
        }
        Err(Error::Compile { problem, .. }) if problem == format!("the compiler ended with {REFUSED}") => {
            Verdict::Refused
        }
        Err(Error::Compile { problem, .. })
            if problem == format!("the compiler was killed by signal {}", libc::SIGSYS) =>
        {
            Verdict::Killed
        }
        Err(error) => Verdict::Else(error.to_string()),
        Ok(_) => Verdict::Else("it was compiled".to_owned()),
    }
}
