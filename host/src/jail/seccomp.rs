//! The system calls of guests, those of `policy/guest.json`, and of compilers, those of `policy/compiler.json`, each with its
//! reason, and no other. Whoever makes another is killed.

use std::io;

use seccompiler::{BpfProgram, TargetArch, apply_filter_all_threads, compile_from_json};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Hold;

/// Of whom a policy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// A process that runs WebAssembly, with what was granted to it.
    Guest(Grants),
    /// A process that compiles a module, whose threads run already.
    Compiler,
}

/// What only some guests may do, each with system calls of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Grants {
    /// Fork.
    pub(crate) fork: bool,
    /// Use the files of a directory.
    pub(crate) files: bool,
    /// Map shared memory.
    pub(crate) map: bool,
}

/// For whom a rule is.
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
    /// Which of its uses, if not all.
    #[serde(default)]
    what: String,
    /// Why it is needed.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is for people, and a test sees that it is there"))]
    reason: String,
    /// What its arguments must be, all of them: conditions as seccompiler reads them.
    args: Option<Value>,
    /// The grant that it comes with, if not all guests need it.
    only: Option<Only>,
    /// The architecture that it is for, if not for each.
    arch: Option<String>,
}

impl Rule {
    /// What it is called in tests.
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
pub(super) fn prepare(policy: Policy, without: &[String]) -> io::Result<(Option<BpfProgram>, Hold)> {
    if nix::sys::prctl::get_no_new_privs().is_err() || !is_available() {
        return Ok((None, Hold::Absent("the kernel doesn't have it".to_owned())));
    }
    Ok((Some(policy.compile(std::env::consts::ARCH, without)?), Hold::Full))
}

/// Whether the kernel can kill a process by a filter.
fn is_available() -> bool {
    // Without /proc, nobody knows before it is tried; and then it is an error.
    std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail")
        .map_or(true, |actions| actions.split_whitespace().any(|action| action == "kill_process"))
}

/// From here on, the program decides, for all threads that there are.
pub(super) fn enter(program: &BpfProgram) -> io::Result<()> {
    apply_filter_all_threads(program).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

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
                // A call without conditions would be refused where there are others with some.
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
}
