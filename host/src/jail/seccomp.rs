//! The system calls of guests, in `policy/guest.json`, and of compilers, in `policy/compiler.json`, each with its reason. A process
//! that makes any other call is killed.

use std::io;

use seccompiler::{BpfProgram, TargetArch, apply_filter_all_threads, compile_from_json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::report::LayerStatus;

/// The kind of process that a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// A process that runs WebAssembly, with what was granted to it.
    Guest(Grants),
    /// A process that compiles a module, whose threads run already.
    Compiler,
}

/// Abilities that only some guests have, each with system calls of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Grants {
    /// Fork.
    pub(crate) fork: bool,
    /// Use the files of a directory.
    pub(crate) files: bool,
    /// Map shared memory.
    pub(crate) map: bool,
}

/// The ability that a rule belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Only {
    Fork,
    Files,
    Map,
}

impl Grants {
    fn has(self, only: Only) -> bool {
        match only {
            Only::Fork => self.fork,
            Only::Files => self.files,
            Only::Map => self.map,
        }
    }
}

/// A system call that is allowed.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Its name.
    call: String,
    /// The use of the call that is allowed, if not every use is.
    #[serde(default)]
    what: String,
    /// Why it is needed.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is for people, and a test sees that it is there"))]
    reason: String,
    /// Conditions that all must hold for its arguments, as seccompiler reads them.
    args: Option<Value>,
    /// The grant that the rule comes with, if not all guests need the call.
    only: Option<Only>,
    /// The architecture that the rule is for, if not for each.
    arch: Option<String>,
}

impl Rule {
    /// The rule's name in tests.
    fn name(&self) -> String {
        format!("{} {}", self.call, self.what).trim_end().to_owned()
    }
}

impl Policy {
    fn rules(self) -> serde_json::Result<Vec<Rule>> {
        match self {
            Self::Guest(_) => serde_json::from_str(include_str!("../../policy/guest.json")),
            Self::Compiler => serde_json::from_str(include_str!("../../policy/compiler.json")),
        }
    }

    /// The program that the kernel runs at each system call. Rules named in `without` are left out.
    fn compile(self, arch: &str, without: &[String]) -> io::Result<BpfProgram> {
        let grants = match self {
            Self::Guest(grants) => grants,
            Self::Compiler => Grants::default(),
        };
        let filter: Vec<_> = self
            .rules()?
            .into_iter()
            .filter(|rule| rule.arch.as_deref().is_none_or(|only| only == arch))
            .filter(|rule| rule.only.is_none_or(|only| grants.has(only)))
            .filter(|rule| !without.contains(&rule.name()))
            .map(|rule| json!({ "syscall": rule.call, "args": rule.args }))
            .collect();
        let policy = json!({
            "policy": { "mismatch_action": "kill_process", "match_action": "allow", "filter": filter }
        });
        let arch = TargetArch::try_from(arch).map_err(io::Error::other)?;
        let programs = compile_from_json(policy.to_string().as_bytes(), arch).map_err(io::Error::other)?;
        programs.into_values().next().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// The program for processes of this policy, and how fully it holds.
pub(super) fn prepare(policy: Policy, without: &[String]) -> io::Result<(Option<BpfProgram>, LayerStatus)> {
    if nix::sys::prctl::get_no_new_privs().is_err() || !is_available() {
        return Ok((None, LayerStatus::Absent("the kernel doesn't have it".to_owned())));
    }
    Ok((Some(policy.compile(std::env::consts::ARCH, without)?), LayerStatus::Full))
}

/// Whether the kernel can kill a process by a filter.
fn is_available() -> bool {
    // Without /proc, this shows only when it is tried; a failure is then an error.
    std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail")
        .map_or(true, |actions| actions.split_whitespace().any(|action| action == "kill_process"))
}

/// Puts all threads of this process under the program, which decides from here on.
pub(super) fn enter(program: &BpfProgram) -> io::Result<()> {
    apply_filter_all_threads(program).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use nix::libc;

    use super::*;

    const ALL: Policy = Policy::Guest(Grants { fork: true, files: true, map: true });
    const NONE: Policy = Policy::Guest(Grants { fork: false, files: false, map: false });

    #[test]
    fn the_policy_compiles_for_each_architecture() {
        for arch in ["x86_64", "aarch64"] {
            let [all, none] = [ALL, NONE].map(|policy| policy.compile(arch, &[]).unwrap().len());
            assert!(none < all, "{arch}: what isn't granted isn't in it");
            Policy::Compiler.compile(arch, &[]).unwrap();
        }
    }

    #[test]
    fn each_rule_has_a_reason_and_a_name_of_its_own() {
        for policy in [ALL, Policy::Compiler] {
            let rules = policy.rules().unwrap();
            let names: Vec<_> = rules.iter().map(Rule::name).collect();
            for rule in &rules {
                assert!(!rule.reason.is_empty(), "{}", rule.name());
                assert_eq!(names.iter().filter(|name| **name == rule.name()).count(), 1, "{}", rule.name());
                // Beside other rules for a call with conditions, a rule without conditions would be refused.
                let others = rules.iter().filter(|other| other.call == rule.call).count();
                assert!(rule.args.is_some() || others == 1, "{}", rule.name());
            }
        }
    }

    #[test]
    fn a_rule_that_is_left_out_is_not_in_it() {
        let all = ALL.compile("x86_64", &[]).unwrap().len();
        for rule in ALL.rules().unwrap().iter().filter(|rule| rule.arch.as_deref() != Some("aarch64")) {
            assert!(ALL.compile("x86_64", &[rule.name()]).unwrap().len() < all, "{}", rule.name());
        }
    }

    /// How a rule with conditions is tested, and which values of which argument it must forbid.
    struct Held {
        rule: &'static str,
        number: libc::c_long,
        allowed: &'static [[u64; 6]],
        forbidden: &'static [(usize, &'static [u64])],
    }

    /// Numbers and flags as the kernel has them, not as the policy writes them: these are tested.
    #[rustfmt::skip]
    const HELD: &[Held] = &[
        Held { rule: "futex WAIT_BITSET", number: libc::SYS_futex, allowed: &[[0, 9, 0, 0, 0, 0]], forbidden: FUTEXES },
        Held { rule: "futex WAKE", number: libc::SYS_futex, allowed: &[[0, 1, 0, 0, 0, 0]], forbidden: FUTEXES },
        Held { rule: "rt_sigaction SIGSEGV", number: libc::SYS_rt_sigaction, allowed: &[[11, 0, 0, 0, 0, 0]],
            forbidden: &[(0, &[0, 1, 2, 4, 6, 7, 9, 10, 12, 15, 17, 31, 64])] },
        Held { rule: "ioctl TCGETS", number: libc::SYS_ioctl, allowed: &[[1, 0x5401, 0, 0, 0, 0]],
            // TCSETS, calls that type into a terminal (TIOCSTI, TIOCLINUX), FIONBIO, FIOCLEX, block devices, tunnels.
            forbidden: &[(1, &[0, 0x5402, 0x5412, 0x5413, 0x541c, 0x5421, 0x5451, 0x1277, 0x4004_54ca, u64::MAX])] },
        Held { rule: "mmap", number: libc::SYS_mmap,
            allowed: &[[0, 1, 0, 0x22, 0, 0], [0, 1, 1, 0x22, 0, 0], [0, 1, 3, 0x22, 0, 0], [0, 1, 3, 0x4022, 0, 0]],
            forbidden: &[
                // PROT_EXEC, PROT_SEM, PROT_GROWSDOWN, and bits that the lower half doesn't show.
                (2, &[4, 5, 7, 8, 0x0100_0000, 1 << 32, 1 << 63]),
                // Shared, of a file, MAP_FIXED, _GROWSDOWN, _LOCKED, _POPULATE, _STACK, _HUGETLB, _FIXED_NOREPLACE.
                (3, &[0x21, 0x02, 0x20, 0x23, 0x32, 0x122, 0x2022, 0x8022, 0x2_0022, 0x4_0022, 0x10_0022, 1 << 32 | 0x22]),
            ] },
        Held { rule: "mmap FIXED", number: libc::SYS_mmap, allowed: &[[0, 1, 3, 0x4032, 0, 0]],
            forbidden: &[(2, &[0, 1, 4, 7, 1 << 32 | 3]), (3, &[0x32, 0x4033, 0x4031, 0x4012, 0x4_4032, 1 << 32 | 0x4032])] },
        Held { rule: "mprotect", number: libc::SYS_mprotect,
            allowed: &[[0, 1, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 1, 3, 0, 0, 0]],
            forbidden: &[(2, &[4, 5, 6, 7, 8, 0x0100_0000, 0x0200_0000, 1 << 32])] },
        Held { rule: "mremap MAYMOVE", number: libc::SYS_mremap, allowed: &[[0, 4096, 8192, 1, 0, 0]],
            forbidden: &[(1, &[0]), (3, &[0, 2, 3, 4, 5, 7, 1 << 32 | 1])] },
        Held { rule: "mremap MAYMOVE|FIXED", number: libc::SYS_mremap, allowed: &[[0, 0, 4096, 3, 0, 0]],
            forbidden: &[(1, &[1, 4096, 1 << 32]), (3, &[0, 1, 2, 5, 7, 1 << 32 | 3])] },
        Held { rule: "madvise HUGEPAGE", number: libc::SYS_madvise, allowed: &[[0, 0, 14, 0, 0, 0]], forbidden: ADVICE },
        Held { rule: "madvise COLLAPSE", number: libc::SYS_madvise, allowed: &[[0, 0, 25, 0, 0, 0]], forbidden: ADVICE },
        Held { rule: "madvise REMOVE", number: libc::SYS_madvise, allowed: &[[0, 0, 9, 0, 0, 0]], forbidden: ADVICE },
        Held { rule: "tgkill SIGABRT", number: libc::SYS_tgkill, allowed: &[[1, 1, 6, 0, 0, 0]], forbidden: SIGNALS },
        Held { rule: "clone", number: libc::SYS_clone, allowed: &[[0x10_8000, 0, 0, 0, 0, 0]],
            // A child of its own, with a signal; memory, files or a thread shared; namespaces; and the upper half.
            forbidden: &[(0, &[0, 17, 0x8000, 0x10_8011, 0x10_8100, 0x10_8400, 0x11_8000, 0x1010_8000, 0x3010_8000,
                1 << 32 | 0x10_8000])] },
        Held { rule: "prctl PR_SET_PDEATHSIG", number: libc::SYS_prctl, allowed: &[[1, 9, 0, 0, 0, 0]],
            forbidden: &[(0, OPTIONS), (1, &[0, 1, 15, 17, 1 << 32 | 9])] },
        Held { rule: "prctl PR_SET_NAME", number: libc::SYS_prctl, allowed: &[[15, 0, 0, 0, 0, 0], [15, 1 << 40, 0, 0, 0, 0]],
            forbidden: &[(0, OPTIONS)] },
        Held { rule: "openat2", number: libc::SYS_openat2, allowed: &[[3, 0, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0]], forbidden: HERE },
        Held { rule: "openat", number: libc::SYS_openat, allowed: &[[3, 0, 0, 0, 0, 0]], forbidden: HERE },
        Held { rule: "pwritev2 RWF_APPEND", number: libc::SYS_pwritev2, allowed: &[[3, 0, 0, 0, 0, 16]],
            forbidden: &[(5, &[0, 1, 2, 4, 8, 17, 32, 64, 128])] },
        Held { rule: "fcntl F_GETFL", number: libc::SYS_fcntl, allowed: &[[3, 3, 0, 0, 0, 0]],
            // Duplicates, flags, locks, owners and their signals, leases, notes of changes, sizes of pipes, seals.
            forbidden: &[(1, &[0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 15, 37, 1024, 1026, 1030, 1031, 1033])] },
    ];

    #[rustfmt::skip]
    const HELD_COMPILERS: &[Held] = &[
        Held { rule: "futex WAIT|PRIVATE", number: libc::SYS_futex, allowed: &[[0, 128, 0, 0, 0, 0]], forbidden: PRIVATE_FUTEXES },
        Held { rule: "futex WAIT_BITSET|PRIVATE", number: libc::SYS_futex, allowed: &[[0, 137, 0, 0, 0, 0]],
            forbidden: PRIVATE_FUTEXES },
        Held { rule: "futex WAKE|PRIVATE", number: libc::SYS_futex, allowed: &[[0, 129, 0, 0, 0, 0]], forbidden: PRIVATE_FUTEXES },
        Held { rule: "mmap", number: libc::SYS_mmap, allowed: &[[0, 1, 3, 0x22, 0, 0], [0, 1, 0, 0x4022, 0, 0]],
            forbidden: &[
                (2, &[4, 5, 7, 8, 0x0100_0000, 1 << 32]),
                (3, &[0x21, 0x02, 0x20, 0x32, 0x4032, 0x122, 0x2022, 0x8022, 0x4_0022, 1 << 32 | 0x22]),
            ] },
        Held { rule: "mprotect", number: libc::SYS_mprotect, allowed: &[[0, 1, 3, 0, 0, 0]],
            forbidden: &[(2, &[4, 5, 7, 8, 0x0100_0000, 1 << 32])] },
        Held { rule: "mremap", number: libc::SYS_mremap, allowed: &[[0, 4096, 8192, 1, 0, 0]],
            forbidden: &[(1, &[0]), (3, &[0, 2, 3, 5, 1 << 32 | 1])] },
        Held { rule: "madvise", number: libc::SYS_madvise, allowed: &[[0, 0, 4, 0, 0, 0]],
            forbidden: &[(2, &[0, 1, 2, 3, 8, 9, 10, 12, 14, 15, 25, 100])] },
        Held { rule: "openat", number: libc::SYS_openat, allowed: &[[0xffff_ff9c, 0, 0o2_000_000, 0, 0, 0]],
            forbidden: &[(2, &[0, 1, 2, 0o100, 0o2_000_001, 0o2_000_100, 0o12_000_000])] },
        Held { rule: "tgkill", number: libc::SYS_tgkill, allowed: &[[1, 1, 6, 0, 0, 0]], forbidden: SIGNALS },
    ];

    type Forbidden = &'static [(usize, &'static [u64])];

    /// Private ones, those of the clock of the day, and all other operations.
    const FUTEXES: Forbidden =
        &[(1, &[0, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 128, 129, 137, 256 | 9, 0xffff_ffff])];
    const PRIVATE_FUTEXES: Forbidden = &[(1, &[0, 1, 9, 130, 131, 132, 133, 134, 138, 140, 141, 256 | 137])];
    /// Advice that gives memory back that others see, takes it out of reach, or poisons it.
    const ADVICE: Forbidden =
        &[(2, &[0, 1, 2, 3, 4, 8, 10, 11, 12, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 100, 101])];
    const SIGNALS: Forbidden = &[(2, &[0, 1, 2, 3, 5, 7, 9, 10, 11, 13, 15, 18, 19, 31, 64])];
    /// AT_FDCWD, in 32 bits and extended.
    const HERE: Forbidden = &[(0, &[0xffff_ff9c, 0xffff_ffff_ffff_ff9c])];
    /// Other options: dumps, capabilities, securebits, mappings, seccomp, subreapers, tracers, system calls that are passed on.
    const OPTIONS: &[u64] = &[0, 2, 3, 4, 8, 16, 22, 24, 28, 35, 36, 38, 40, 47, 52, 59, 0x5961_6d61];

    /// Calls that are allowed with any arguments: no argument lets them do more.
    const ANY: &str = "read write sched_yield clock_nanosleep clock_gettime clock_getres getrandom close exit_group \
        rt_sigreturn poll ppoll brk munmap getpid gettid rt_sigprocmask getppid statx pread64 pwrite64 getdents64 mkdirat \
        unlinkat renameat linkat symlinkat readlinkat utimensat ftruncate fadvise64 fsync fdatasync";
    const ANY_OF_COMPILERS: &str = "read write close sched_yield clock_gettime getrandom exit_group brk munmap getpid gettid \
        rt_sigprocmask";

    const ALLOW: u32 = 0x7fff_0000;
    const KILL: u32 = 0x8000_0000;

    /// The kernel's numbers of architectures.
    const X86_64: u32 = 0xc000_003e;
    const AARCH64: u32 = 0xc000_00b7;

    const fn own_arch() -> u32 {
        if cfg!(target_arch = "x86_64") { X86_64 } else { AARCH64 }
    }

    /// Decides as the kernel does at a system call: runs the program, which is classic BPF, over the call's data.
    fn decide(program: &BpfProgram, arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = [number.to_ne_bytes(), arch.to_ne_bytes(), [0; 4], [0; 4]].concat();
        args.iter().for_each(|argument| data.extend(argument.to_ne_bytes()));
        let (mut accumulator, mut at) = (0_u32, 0_usize);
        loop {
            let (code, jt, jf, k) =
                program.get(at).map(|step| (step.code, step.jt, step.jf, step.k)).unwrap();
            at += 1;
            let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
            match code {
                // A word of the data, absolute.
                0x20 => {
                    let word = data.get(k as usize..k as usize + 4).unwrap();
                    accumulator = u32::from_ne_bytes(word.try_into().unwrap());
                }
                0x54 => accumulator &= k,
                0x05 => at += k as usize,
                0x15 => jump(accumulator == k),
                0x25 => jump(accumulator > k),
                0x35 => jump(accumulator >= k),
                0x45 => jump(accumulator & k != 0),
                0x06 => return k,
                other => panic!("no filter has the instruction {other:#x}"),
            }
        }
    }

    fn policies() -> [(Policy, &'static [Held], &'static str); 2] {
        [(ALL, HELD, ANY), (Policy::Compiler, HELD_COMPILERS, ANY_OF_COMPILERS)]
    }

    #[test]
    fn each_rule_forbids_other_arguments() {
        for (policy, held, _) in policies() {
            let program = policy.compile(std::env::consts::ARCH, &[]).unwrap();
            for Held { rule, number, allowed, forbidden } in held {
                let decide = |args| decide(&program, own_arch(), u32::try_from(*number).unwrap(), args);
                for args in *allowed {
                    assert_eq!(decide(*args), ALLOW, "{policy:?}: {rule} with {args:?}");
                    for (index, values) in *forbidden {
                        for value in *values {
                            let mut args = *args;
                            *args.get_mut(*index).unwrap() = *value;
                            assert_eq!(decide(args), KILL, "{policy:?}: {rule} with {args:x?}");
                        }
                    }
                }
            }
        }
    }

    /// A rule without conditions must be intended; and each condition on an argument must be seen to be checked.
    #[test]
    fn each_rule_is_tested_in_each_argument_that_it_asks_for() {
        for (policy, held, any) in policies() {
            let rules = policy.rules().unwrap();
            for rule in &rules {
                let name = rule.name();
                let found = held.iter().find(|held| held.rule == name);
                assert_eq!(
                    any.split_whitespace().any(|any| any == name),
                    found.is_none(),
                    "{policy:?}: {name}"
                );
                let Some(found) = found else {
                    assert!(rule.args.is_none(), "{policy:?}: {name} isn't for any arguments");
                    continue;
                };
                let args = rule.args.as_ref().and_then(Value::as_array);
                let args = args.unwrap_or_else(|| panic!("{policy:?}: {name} asks for no arguments"));
                for index in args.iter().map(|condition| condition.get("index").unwrap().as_u64().unwrap()) {
                    let is_tested = found.forbidden.iter().any(|(tested, _)| *tested as u64 == index);
                    assert!(is_tested, "{policy:?}: {name}, argument {index}");
                }
            }
            for Held { rule, .. } in held {
                assert!(
                    rules.iter().any(|known| known.name() == *rule),
                    "{policy:?}: there is no rule {rule}"
                );
            }
        }
    }

    /// A call that isn't granted is forbidden even with the arguments that it would have.
    #[test]
    fn what_is_not_granted_is_forbidden() {
        let rules = ALL.rules().unwrap();
        for (grants, only) in [
            (Grants { fork: false, files: true, map: true }, Only::Fork),
            (Grants { fork: true, files: false, map: true }, Only::Files),
            (Grants { fork: true, files: true, map: false }, Only::Map),
        ] {
            let program = Policy::Guest(grants).compile(std::env::consts::ARCH, &[]).unwrap();
            for Held { rule, number, allowed, .. } in HELD {
                let of = rules.iter().find(|known| known.name() == *rule).unwrap().only;
                let expected = if of == Some(only) { KILL } else { ALLOW };
                for args in *allowed {
                    let decided = decide(&program, own_arch(), u32::try_from(*number).unwrap(), *args);
                    assert_eq!(decided, expected, "{rule} without {only:?}");
                }
            }
        }
    }

    /// A call of another architecture is forbidden, and one in the other convention of this one, whose numbers mean others.
    #[test]
    fn calls_of_other_kinds_are_forbidden() {
        const X32: u32 = 0x4000_0000;
        for (policy, held, _) in policies() {
            let program = policy.compile(std::env::consts::ARCH, &[]).unwrap();
            let read = u32::try_from(libc::SYS_read).unwrap();
            assert_eq!(decide(&program, own_arch(), read, [0; 6]), ALLOW);
            for arch in
                [0, 0x4000_0003, 0x4000_0028, X86_64, AARCH64].into_iter().filter(|arch| *arch != own_arch())
            {
                assert_eq!(decide(&program, arch, read, [0; 6]), KILL, "{arch:#x}");
            }
            assert_eq!(decide(&program, own_arch(), read | X32, [0; 6]), KILL);
            // No more calls are allowed than there are rules for.
            let allowed = (0..2000)
                .filter(|number| held.iter().all(|held| held.number != i64::from(*number)))
                .filter(|number| decide(&program, own_arch(), *number, [0; 6]) != KILL);
            let is_here =
                |rule: &&Rule| rule.arch.as_deref().is_none_or(|arch| arch == std::env::consts::ARCH);
            let rules = policy.rules().unwrap();
            let without_arguments = rules.iter().filter(is_here).filter(|rule| rule.args.is_none());
            assert_eq!(allowed.count(), without_arguments.count());
        }
    }
}
