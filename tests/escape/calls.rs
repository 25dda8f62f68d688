//! System calls that no guest makes.

use nix::libc;

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
pub(crate) const OF_COMPILERS: [&str; 2] = ["futex that is private", "madvise DONTNEED"];

/// An address of nothing, for a futex.
const NOWHERE: usize = 4;

/// A system call and its arguments, by the name of an attempt.
pub(crate) fn call_of(name: &str) -> Option<(libc::c_long, [usize; 6])> {
    let any = CALLS.iter().find(|(known, _)| *known == name).map(|(_, number)| (*number, [usize::MAX; 6]));
    any.or_else(|| {
        ARGUMENTS.iter().find(|(known, ..)| *known == name).map(|(_, number, args)| (*number, *args))
    })
}

/// The names of all calls to be made.
pub(crate) fn calls() -> impl Iterator<Item = &'static str> {
    CALLS.iter().map(|(name, _)| *name).chain(ARGUMENTS.iter().map(|(name, ..)| *name))
}
