//! The attempts of a guest that has native code. Each function runs in a guest process, in the jail, in place of
//! WebAssembly; `Ok` means that it has got what it wanted.

#![allow(unsafe_code, reason = "an attacker isn't held to what is safe")]

use std::ffi::CString;
use std::io;
use std::ptr;

use nix::libc;

/// The targets of attacks, as the embedder tells them.
pub(crate) struct Targets {
    /// A file that wasn't granted.
    pub(crate) secret: CString,
    /// A folder that wasn't granted.
    pub(crate) folder: CString,
    /// A TCP port on which somebody listens.
    pub(crate) port: u16,
    /// An abstract socket on which somebody listens.
    pub(crate) socket: String,
    /// A process that isn't of the run.
    pub(crate) victim: i32,
    /// The supervisor of another run, which nothing hides from its user as guests are hidden, and where its arena lies.
    pub(crate) neighbour: i32,
    pub(crate) arena: usize,
    /// The key of a piece of System V shared memory.
    pub(crate) key: i32,
}

impl Targets {
    pub(crate) fn to_args(&self) -> Vec<String> {
        let Self { secret, folder, port, socket, victim, neighbour, arena, key } = self;
        let [secret, folder] =
            [secret, folder].map(|path| path.to_str().expect("a path in UTF-8").to_owned());
        let numbers =
            [i64::from(*port), i64::from(*victim), i64::from(*neighbour), *arena as i64, i64::from(*key)];
        [secret, folder, socket.clone()].into_iter().chain(numbers.map(|number| number.to_string())).collect()
    }

    pub(crate) fn from_args(args: &[String]) -> Option<Self> {
        let [secret, folder, socket, port, victim, neighbour, arena, key] = args else { return None };
        Some(Self {
            secret: CString::new(secret.as_str()).ok()?,
            folder: CString::new(folder.as_str()).ok()?,
            socket: socket.clone(),
            port: port.parse().ok()?,
            victim: victim.parse().ok()?,
            neighbour: neighbour.parse().ok()?,
            arena: arena.parse().ok()?,
            key: key.parse().ok()?,
        })
    }
}

type Outcome = io::Result<()>;

/// A call of the kernel, without any library between.
fn call(number: libc::c_long, args: &[usize]) -> io::Result<usize> {
    let at = |index: usize| args.get(index).copied().unwrap_or(0);
    // SAFETY: what the arguments point to, if they are addresses, the caller owns or the kernel checks; an attempt that
    // harms this process harms nobody else.
    let result = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}

fn at(path: &std::ffi::CStr) -> usize {
    path.as_ptr() as usize
}

const HERE: usize = libc::AT_FDCWD as usize;

pub(crate) fn read_a_file(targets: &Targets) -> Outcome {
    let fd = call(libc::SYS_openat, &[HERE, at(&targets.secret), libc::O_RDONLY as usize])?;
    let mut bytes = [0_u8; 6];
    call(libc::SYS_read, &[fd, bytes.as_mut_ptr() as usize, bytes.len()]).map(drop)
}

/// An absolute path means the same below any directory.
pub(crate) fn read_a_file_by_way_of_a_granted_directory(targets: &Targets) -> Outcome {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for fd in 4..64 {
        result = call(libc::SYS_openat, &[fd, at(&targets.secret), libc::O_RDONLY as usize]).map(drop);
        if result.is_ok() {
            break;
        }
    }
    result
}

pub(crate) fn look_whether_there_is_a_file(targets: &Targets) -> Outcome {
    let mut status = [0_u8; 256];
    let args = [HERE, at(&targets.secret), 0, libc::STATX_SIZE as usize, status.as_mut_ptr() as usize];
    call(libc::SYS_statx, &args).map(drop)
}

pub(crate) fn write_a_file(targets: &Targets) -> Outcome {
    let path = CString::new([targets.folder.as_bytes(), b"/written"].concat())?;
    let flags = libc::O_WRONLY | libc::O_CREAT;
    call(libc::SYS_openat, &[HERE, at(&path), flags as usize, 0o600]).map(drop)
}

pub(crate) fn remove_a_file(targets: &Targets) -> Outcome {
    let path = CString::new([targets.folder.as_bytes(), b"/precious"].concat())?;
    call(libc::SYS_unlinkat, &[HERE, at(&path), 0]).map(drop)
}

pub(crate) fn write_where_only_reading_is_granted(_: &Targets) -> Outcome {
    // The first directory that was granted is open, behind standard streams and doorbell. With no descriptor closed it
    // has another number.
    for fd in 4..64 {
        let flags = libc::O_WRONLY | libc::O_CREAT;
        if call(libc::SYS_openat, &[fd, at(c"written"), flags as usize, 0o600]).is_ok() {
            return Ok(());
        }
    }
    Err(io::Error::last_os_error())
}

pub(crate) fn make_a_device(targets: &Targets) -> Outcome {
    let path = CString::new([targets.folder.as_bytes(), b"/device"].concat())?;
    call(
        libc::SYS_mknodat,
        &[HERE, at(&path), (libc::S_IFCHR | 0o600) as usize, libc::makedev(1, 3) as usize],
    )
    .map(drop)
}

pub(crate) fn execute(_: &Targets) -> Outcome {
    execute_at(HERE, c"/bin/true")
}

pub(crate) fn execute_what_may_be_read(_: &Targets) -> Outcome {
    execute_what_was_granted()
}

pub(crate) fn execute_what_may_be_written(_: &Targets) -> Outcome {
    execute_what_was_granted()
}

/// A program in a granted directory, which needs nothing that lies elsewhere.
fn execute_what_was_granted() -> Outcome {
    let mut result = Err(io::ErrorKind::NotFound.into());
    for fd in 4..64 {
        result = execute_at(fd, c"program");
        if result.is_ok() {
            break;
        }
    }
    result
}

/// In a child, because a program that is executed could not say so.
fn execute_at(dir: usize, path: &std::ffi::CStr) -> Outcome {
    let none = ptr::null::<libc::c_char>();
    let argv = [path.as_ptr(), none];
    let env = [none];
    let args = [dir, at(path), argv.as_ptr() as usize, env.as_ptr() as usize, 0];
    if call(libc::SYS_clone, &[libc::SIGCHLD as usize])? == 0 {
        let refused = call(libc::SYS_execveat, &args).err().and_then(|error| error.raw_os_error());
        let _ = call(libc::SYS_exit_group, &[refused.unwrap_or(1) as usize]);
    }
    let mut status = 0_i32;
    call(libc::SYS_wait4, &[usize::MAX, (&raw mut status) as usize])?;
    match libc::WEXITSTATUS(status) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// A program that lies in no file system.
pub(crate) fn execute_from_memory(_: &Targets) -> Outcome {
    call(libc::SYS_memfd_create, &[at(c"program"), 0]).map(drop)
}

pub(crate) fn connect_by_tcp(targets: &Targets) -> Outcome {
    let fd = call(libc::SYS_socket, &[libc::AF_INET as usize, libc::SOCK_STREAM as usize])?;
    let mut address = [0_u8; 16];
    address[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    address[2..4].copy_from_slice(&targets.port.to_be_bytes());
    address[4..8].copy_from_slice(&[127, 0, 0, 1]);
    call(libc::SYS_connect, &[fd, address.as_ptr() as usize, address.len()]).map(drop)
}

pub(crate) fn connect_to_an_abstract_socket(targets: &Targets) -> Outcome {
    let fd = call(libc::SYS_socket, &[libc::AF_UNIX as usize, libc::SOCK_STREAM as usize])?;
    let mut address = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    address.push(0);
    address.extend(targets.socket.as_bytes());
    call(libc::SYS_connect, &[fd, address.as_ptr() as usize, address.len()]).map(drop)
}

fn trace(pid: i32) -> Outcome {
    call(libc::SYS_ptrace, &[libc::PTRACE_SEIZE as usize, pid as usize]).map(drop)
}

pub(crate) fn trace_the_supervisor(_: &Targets) -> Outcome {
    trace(call(libc::SYS_getppid, &[])? as i32)
}

pub(crate) fn trace_a_process(targets: &Targets) -> Outcome {
    trace(targets.victim)
}

/// That it was killed, the embedder sees.
pub(crate) fn kill_the_supervisor(_: &Targets) -> Outcome {
    let supervisor = call(libc::SYS_getppid, &[])?;
    call(libc::SYS_kill, &[supervisor, libc::SIGKILL as usize])?;
    // The kernel may have thrown the signal away: init of a PID namespace gets none from inside.
    sleep_millis(300);
    Err(io::ErrorKind::Interrupted.into())
}

pub(crate) fn kill_a_process(targets: &Targets) -> Outcome {
    call(libc::SYS_kill, &[targets.victim as usize, libc::SIGKILL as usize]).map(drop)
}

pub(crate) fn read_another_runs_arena(targets: &Targets) -> Outcome {
    let mut bytes = [0_u8; 8];
    let local = [bytes.as_mut_ptr() as usize, bytes.len()];
    let remote = [targets.arena, bytes.len()];
    let pid = targets.neighbour as usize;
    call(libc::SYS_process_vm_readv, &[pid, local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1])
        .map(drop)
}

pub(crate) fn take_another_runs_descriptor(targets: &Targets) -> Outcome {
    let pidfd = call(libc::SYS_pidfd_open, &[targets.neighbour as usize])?;
    call(libc::SYS_pidfd_getfd, &[pidfd, 3]).map(drop)
}

pub(crate) fn look_at_another_process(targets: &Targets) -> Outcome {
    let path = CString::new(format!("/proc/{}/environ", targets.neighbour))?;
    call(libc::SYS_openat, &[HERE, at(&path), libc::O_RDONLY as usize]).map(drop)
}

pub(crate) fn attach_shared_memory_of_others(targets: &Targets) -> Outcome {
    call(libc::SYS_shmget, &[targets.key as usize]).map(drop)
}

/// The one that its owner listens to, for one.
pub(crate) fn use_a_socket_of_the_supervisor(_: &Targets) -> Outcome {
    for fd in 3..256 {
        let (mut address, mut len) = ([0_u8; 128], 128_u32);
        let args = [fd, address.as_mut_ptr() as usize, (&raw mut len) as usize];
        if call(libc::SYS_getsockname, &args).is_ok() {
            return Ok(());
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// The content of the file that the embedder has left open.
pub(crate) fn read_an_inherited_descriptor(_: &Targets) -> Outcome {
    for fd in 4..256 {
        let mut bytes = [0_u8; 6];
        if call(libc::SYS_pread64, &[fd, bytes.as_mut_ptr() as usize, bytes.len()]).is_ok_and(|len| len == 6)
            && &bytes == b"secret"
        {
            return Ok(());
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn map(len: usize, protection: i32, flags: i32) -> io::Result<usize> {
    call(libc::SYS_mmap, &[0, len, protection as usize, flags as usize, usize::MAX])
}

const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

pub(crate) fn map_executable_memory(_: &Targets) -> Outcome {
    map(4096, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, PRIVATE).map(drop)
}

pub(crate) fn make_memory_executable(_: &Targets) -> Outcome {
    let at = map(4096, libc::PROT_READ | libc::PROT_WRITE, PRIVATE)?;
    call(libc::SYS_mprotect, &[at, 4096, (libc::PROT_READ | libc::PROT_EXEC) as usize]).map(drop)
}

pub(crate) fn read_implies_executable(_: &Targets) -> Outcome {
    const READ_IMPLIES_EXEC: usize = 0x0040_0000;
    call(libc::SYS_personality, &[READ_IMPLIES_EXEC])?;
    map(4096, libc::PROT_READ, PRIVATE).map(drop)
}

/// More than its limits of memory and arena, and what a process has beside.
const MUCH: usize = 512 << 20;

fn touch(at: usize, len: usize) {
    for offset in (0..len).step_by(4096) {
        // SAFETY: the caller has mapped this range, writable.
        unsafe { ptr::write_volatile((at + offset) as *mut u8, 1) };
    }
}

pub(crate) fn exhaust_memory(_: &Targets) -> Outcome {
    let at = map(MUCH, libc::PROT_READ | libc::PROT_WRITE, PRIVATE)?;
    touch(at, MUCH);
    Ok(())
}

/// As much as a process may have, in several at once: each forks the next, and waits for it.
pub(crate) fn exhaust_memory_with_others(_: &Targets) -> Outcome {
    const OTHERS: usize = 8;
    const EACH: usize = 128 << 20;
    let mut to_come = OTHERS;
    loop {
        let mut status = 0_i32;
        let child = call(libc::SYS_clone, &[libc::SIGCHLD as usize])?;
        if child == 0 {
            to_come -= 1;
            match map(EACH, libc::PROT_READ | libc::PROT_WRITE, PRIVATE) {
                Ok(at) => touch(at, EACH),
                Err(_) => call(libc::SYS_exit_group, &[1]).map(drop)?,
            }
            if to_come > 0 {
                continue;
            }
        } else {
            call(libc::SYS_wait4, &[child, (&raw mut status) as usize])?;
        }
        if to_come == OTHERS {
            return if status == 0 { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) };
        }
        call(libc::SYS_exit_group, &[usize::from(status != 0)])?;
    }
}

/// `RLIMIT_DATA` counts private memory only.
pub(crate) fn exhaust_shared_memory(_: &Targets) -> Outcome {
    let at = map(MUCH, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS)?;
    touch(at, MUCH);
    Ok(())
}

/// It counts as a stack, and not as data.
pub(crate) fn exhaust_memory_that_grows_down(_: &Targets) -> Outcome {
    let at = map(MUCH, libc::PROT_READ | libc::PROT_WRITE, PRIVATE | libc::MAP_GROWSDOWN)?;
    touch(at, MUCH);
    Ok(())
}

/// The machine needs to have none: without a reservation they are looked for when they are touched.
pub(crate) fn map_huge_pages(_: &Targets) -> Outcome {
    let flags = PRIVATE | libc::MAP_HUGETLB | libc::MAP_NORESERVE;
    map(2 << 20, libc::PROT_READ | libc::PROT_WRITE, flags).map(drop)
}

/// Memory that the kernel must keep, though others may need it.
pub(crate) fn lock_memory(_: &Targets) -> Outcome {
    map(64 << 10, libc::PROT_READ | libc::PROT_WRITE, PRIVATE | libc::MAP_LOCKED).map(drop)
}

/// Where nothing is written, no memory is had but for the tables that say where it lies: a page for each 2 MiB.
pub(crate) fn exhaust_memory_with_page_tables(_: &Targets) -> Outcome {
    const PIECE: usize = 1 << 30;
    for _ in 0..MUCH / 4096 * (2 << 20) / PIECE {
        let at = map(PIECE, libc::PROT_READ, PRIVATE | libc::MAP_NORESERVE)?;
        for offset in (0..PIECE).step_by(2 << 20) {
            // SAFETY: it was just mapped, to be read.
            unsafe { ptr::read_volatile((at + offset) as *const u8) };
        }
    }
    Ok(())
}

/// A futex that lends priorities, one of which moves those who wait, and one that waits for another word: parts of the kernel
/// that have had their bugs.
pub(crate) fn use_futexes_as_no_guest_does(_: &Targets) -> Outcome {
    let word = 0_u32;
    let at = (&raw const word) as usize;
    call(libc::SYS_futex, &[at, libc::FUTEX_LOCK_PI as usize])?;
    call(libc::SYS_futex, &[at, libc::FUTEX_UNLOCK_PI as usize])?;
    call(libc::SYS_futex, &[at, libc::FUTEX_REQUEUE as usize, 1, 1, at + 4]).map(drop)
}

/// Where the system gives what is dumped to a program, the limit of a dump's size says nothing.
pub(crate) fn leave_a_dump(_: &Targets) -> Outcome {
    match call(libc::SYS_prctl, &[libc::PR_GET_DUMPABLE as usize])? {
        0 => Err(io::ErrorKind::PermissionDenied.into()),
        _ => Ok(()),
    }
}

pub(crate) fn exhaust_descriptors(_: &Targets) -> Outcome {
    for _ in 0..600 {
        call(libc::SYS_dup, &[1])?;
    }
    Ok(())
}

/// The first directory that was granted, which may be written to.
pub(crate) fn fill_the_disk(_: &Targets) -> Outcome {
    let flags = libc::O_WRONLY | libc::O_CREAT;
    let fd = (4..64).find_map(|fd| call(libc::SYS_openat, &[fd, at(c"filled"), flags as usize, 0o600]).ok());
    let fd = fd.ok_or_else(io::Error::last_os_error)?;
    let block = vec![1_u8; 1 << 20];
    for _ in 0..8 {
        call(libc::SYS_write, &[fd, block.as_ptr() as usize, block.len()])?;
    }
    Ok(())
}

/// A process that is the attacker's child, and in no table.
pub(crate) fn fork_a_process_of_its_own(_: &Targets) -> Outcome {
    fork(libc::SIGCHLD)
}

pub(crate) fn start_a_thread(_: &Targets) -> Outcome {
    // The use of its memory doesn't matter: it ends at once.
    fork(libc::CLONE_VM | libc::SIGCHLD)
}

/// In namespaces of its own one has all capabilities there.
pub(crate) fn fork_into_namespaces(_: &Targets) -> Outcome {
    fork(libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::SIGCHLD)
}

fn fork(flags: i32) -> Outcome {
    let stack = map(1 << 16, libc::PROT_READ | libc::PROT_WRITE, PRIVATE)?;
    let stack = if flags & libc::CLONE_VM != 0 { stack + (1 << 16) - 4096 } else { 0 };
    if flags & libc::CLONE_VM != 0 {
        // With a stack of zeros the child returns to nowhere and dies, which is all the same.
        return call(libc::SYS_clone, &[flags as usize, stack]).map(drop);
    }
    if call(libc::SYS_clone, &[flags as usize, stack])? == 0 {
        let _ = call(libc::SYS_exit_group, &[0]);
    }
    Ok(())
}

/// Forks that look to the kernel as guests' own do, but without a place in the process table.
pub(crate) fn fork_past_the_table(_: &Targets) -> Outcome {
    let mut number = 0_i32;
    let flags = (libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID) as usize;
    for _ in 0..200 {
        match call(libc::SYS_clone, &[flags, 0, (&raw mut number) as usize]) {
            Ok(0) => loop {
                sleep_millis(60_000);
            },
            Ok(_) => {}
            // As many as the kernel allows.
            Err(_) => break,
        }
    }
    sleep_millis(30_000);
    Ok(())
}

/// The same, and as many as can be had, which don't end before the run, or after a while.
pub(crate) fn fork_without_end(_: &Targets) -> Outcome {
    const MANY: usize = 1000;
    let mut number = 0_i32;
    let flags = (libc::CLONE_PARENT | libc::CLONE_PARENT_SETTID) as usize;
    let parent = call(libc::SYS_getppid, &[])?;
    for _ in 0..MANY {
        if call(libc::SYS_clone, &[flags, 0, (&raw mut number) as usize])? == 0 {
            for _ in 0..20 {
                sleep_millis(100);
                if call(libc::SYS_getppid, &[]).ok() != Some(parent) {
                    break;
                }
            }
            let _ = call(libc::SYS_exit_group, &[0]);
        }
    }
    Ok(())
}

pub(crate) fn sleep_millis(millis: i64) {
    let time = [millis / 1000, millis % 1000 * 1_000_000];
    let _ = call(libc::SYS_clock_nanosleep, &[libc::CLOCK_MONOTONIC as usize, 0, time.as_ptr() as usize]);
}

pub(crate) fn compute_for_ever(_: &Targets) -> Outcome {
    loop {
        std::hint::spin_loop();
    }
}

/// Any bytes all over the arena, while a sibling and the supervisor use it.
pub(crate) fn write_all_over_the_arena(_: &Targets) -> Outcome {
    write_over_the_arena(0x9e37_79b9_7f4a_7c15)
}

/// The same again and again, by two processes, which also take from the doorbell whatever is rung there.
pub(crate) fn write_for_ever(_: &Targets) -> Outcome {
    const DOORBELL: usize = 3;
    if call(libc::SYS_clone, &[libc::SIGCHLD as usize])? == 0 {
        let _ = call(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize]);
    }
    for turn in 1_u64.. {
        write_over_the_arena(u64::from(std::process::id()) << 32 | turn)?;
        let mut rings = [0_u8; 8];
        let _ = call(libc::SYS_read, &[DOORBELL, rings.as_mut_ptr() as usize, rings.len()]);
    }
    Ok(())
}

/// Writes some of many values to each word of the tables, and of the first pages of the heap.
fn write_over_the_arena(mut random: u64) -> Outcome {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for line in maps.lines().filter(|line| line.contains("memfd:sandpool") && line.contains("rw-s")) {
        let (range, _) = line.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
        let (from, to) = range.split_once('-').ok_or(io::ErrorKind::InvalidData)?;
        let [from, to] = [from, to].map(|at| usize::from_str_radix(at, 16).unwrap_or(0));
        for word in (from..to.min(from + (8 << 20))).step_by(8) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let value = match random % 7 {
                0 => 0,
                1 => u64::MAX,
                2 => random % 64,
                3 => 1 << (random % 64),
                _ => continue,
            };
            // SAFETY: the range is mapped and writable; whoever else uses it has to bear with this.
            unsafe { ptr::write_volatile(word as *mut u64, value) };
        }
    }
    Ok(())
}

/// A system call that no guest needs: with arguments that make no sense, it comes back with an error from the kernel
/// where there is no filter.
pub(crate) fn any_call(number: libc::c_long, args: &[usize]) -> Outcome {
    // That there was an answer at all is too much.
    let _ = call(number, args);
    Ok(())
}
