//! The jail of guest processes: which layers hold, what can be said about them, and the policy for system calls.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use sandpool::jail::Layer;

use crate::namespaces::without_namespaces;
use crate::process::module;
use crate::procfs::{self, Pid};
use crate::support::{Run, finish, guest, repository, run, sandpool_bin};

/// The value of a field in `/proc/PID/FILE`.
fn field(pid: Pid, file: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}\n{text}"));
    value.trim_start_matches(':').trim().to_owned()
}

#[test]
fn every_guest_process_is_in_it() {
    let mut command = run(guest("crowd"));
    command.args(["--memory-max", "64MiB", "--arena-size", "64MiB", "--open-files-max", "20"]);
    command.args(["--", "family", "1"]);
    let run = Run::start(&mut command);
    run.wait_for_line("ready");
    assert!(procfs::eventually(|| run.guests().len() == 4), "{}", run.printed());
    for pid in run.guests() {
        let status = |name| field(pid, "status", name);
        assert_eq!(status("NoNewPrivs"), "1");
        assert_eq!(status("Seccomp"), "2");
        assert_eq!(status("Seccomp_filters"), "1");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(set), "0000000000000000", "{set}");
        }
        if nix::unistd::geteuid().is_root() {
            assert_eq!(status("CapBnd"), "0000000000000000");
        }
        let limit = |name| field(pid, "limits", name).split_whitespace().next().unwrap().to_owned();
        assert_eq!(limit("Max core file size"), "0");
        assert_eq!(limit("Max open files"), "25");
        assert_eq!(limit("Max data size"), (256_u64 << 20).to_string());
    }
    for name in ["NoNewPrivs", "Seccomp"] {
        assert_eq!(field(run.supervisor(), "status", name), "0", "the supervisor has to start others");
    }
}

/// The kernel's limits of each guest process, as `/proc` names them, where whoever starts them has none.
#[test]
fn each_limit_of_the_kernel_is_set_by_one_layer() {
    for without in [false, true] {
        // The program that has started this test may have limits of its own.
        let mut command = Command::new("sh");
        let lift =
            "for of in c l t f d v; do ulimit -S -$of $(ulimit -H -$of); done 2>/dev/null; exec \"$@\"";
        let root = "ulimit -c unlimited 2>/dev/null; ulimit -l unlimited 2>/dev/null;";
        command
            .args(["-c", &format!("{root} {lift}"), "sh"])
            .arg(sandpool_bin())
            .arg("run")
            .arg(guest("crowd"));
        command.args(["--memory-max", "64MiB", "--arena-size", "64MiB", "--open-files-max", "20"]);
        command.args(["--cpu-time", "1000s", "--file-size-max", "12345", "--stack-max", "2MiB"]);
        if without {
            command.args(["--without-layer", "rlimits"]);
        }
        let run = Run::start(command.args(["--", "family", "1"]));
        run.wait_for_line("ready");
        assert!(procfs::eventually(|| run.guests().len() == 4), "{}", run.printed());
        for pid in run.guests() {
            let limit = |name| {
                let text = field(pid, "limits", name);
                let mut words = text.split_whitespace();
                [(); 2].map(|()| words.next().unwrap().to_owned())
            };
            let mut expected = vec![
                ("Max core file size", 0, 0),
                ("Max locked memory", 0, 0),
                // Behind what the supervisor sees to, which takes a signal that says so.
                ("Max cpu time", 1002, 1003),
                ("Max file size", 12_345, 12_345),
                ("Max data size", 256 << 20, 256 << 20),
                ("Max stack size", 9 << 20, 9 << 20),
                ("Max open files", 25, 25),
            ];
            for (name, soft, hard) in expected.drain(..) {
                let is_set = limit(name) == [soft, hard].map(|limit: u64| limit.to_string());
                // One that is there anyway shows nothing.
                assert_ne!(is_set, without, "{name}: {:?}", limit(name));
            }
            let [soft, hard] = limit("Max address space");
            let space = soft.parse::<u64>().ok();
            assert_eq!(space.is_some(), !without, "{soft}");
            assert!(
                without || soft == hard && space.is_some_and(|space| (2 << 30..16 << 30).contains(&space))
            );
        }
    }
}

/// The lines of a report: how a layer holds, by its name.
fn report(stderr: &str) -> BTreeMap<&str, &str> {
    stderr.lines().filter_map(|line| line.split_once(' ')).map(|(layer, hold)| (layer, hold.trim())).collect()
}

const OWN: [&str; 6] = ["rlimits", "capabilities", "no-new-privs", "descriptors", "landlock", "seccomp"];

#[test]
fn a_run_says_how_fully_each_layer_holds_it_and_its_compiler() {
    let ended = finish(run(guest("hello")).arg("--jail-report")).expect_code(0);
    let report = report(&ended.stderr);
    assert_eq!(report.len(), 2 * Layer::ALL.len(), "{ended}");
    for layer in OWN {
        assert_eq!(report[layer], "full", "{ended}");
        assert_eq!(report[&*format!("compiler/{layer}")], "full", "{ended}");
    }
    let ended = finish(&mut run(guest("hello"))).expect_code(0);
    assert_eq!(ended.stderr, "", "who doesn't ask isn't told");
}

#[test]
fn a_map_says_it_as_well() {
    let mut command = crate::support::sandpool();
    command.args(["map", "--jail-report", "--without-layer", "landlock", "--task", "upper"]);
    let ended = finish(command.arg(guest("tasks"))).expect_code(0);
    let report = report(&ended.stderr);
    assert_eq!((report["seccomp"], report["landlock"]), ("full", "off"), "{ended}");
}

#[test]
fn a_layer_that_is_off_is_off_and_the_others_are_not() {
    for off in OWN {
        let mut command = run(guest("crowd"));
        command.args(["--jail-report", "--open-files-max", "21", "--without-layer", off]);
        if off == "no-new-privs" {
            command.args(["--without-layer", "landlock", "--without-layer", "seccomp"]);
        }
        let run = Run::start(command.args(["--", "family", "1"]));
        run.wait_for_line("ready");
        let pid = run.guests()[0];
        let is_off =
            |name: &str| name == off || off == "no-new-privs" && ["landlock", "seccomp"].contains(&name);
        let is_root = nix::unistd::geteuid().is_root();
        let printed = run.printed_with_report();
        for (layer, file, name, on) in [
            ("rlimits", "limits", "Max open files", "26 "),
            ("capabilities", "status", "CapBnd", "0000000000000000"),
            ("no-new-privs", "status", "NoNewPrivs", "1"),
            ("seccomp", "status", "Seccomp:", "2"),
        ] {
            if is_root || layer != "capabilities" {
                assert_eq!(field(pid, file, name).starts_with(on), !is_off(layer), "{layer}\n{printed}");
            }
        }
        let has_socket = procfs::descriptors(pid)
            .iter()
            .any(|(_, target)| target.to_str().unwrap().starts_with("socket:"));
        assert_eq!(has_socket, is_off("descriptors"), "{printed}");
        let report = report(printed.split_once("stderr:\n").unwrap().1).into_iter();
        let said_off: Vec<_> = report.filter(|(_, hold)| *hold == "off").map(|(layer, _)| layer).collect();
        assert_eq!(said_off.len(), if off == "no-new-privs" { 3 } else { 1 }, "{printed}");
        assert!(said_off.into_iter().all(is_off), "{printed}");
    }
}

#[test]
fn what_is_required_and_not_there_is_refused() {
    let required = |layers: &str| {
        let mut command = run(guest("hello"));
        command.args(["--require-jail", layers]);
        command
    };
    finish(&mut required("seccomp,landlock,rlimits")).expect_code(0);
    let mut command = without_namespaces("net", &[]);
    command
        .arg(sandpool_bin())
        .args(["run", "--require-jail", "seccomp,network-namespace"])
        .arg(guest("hello"));
    let ended = finish(&mut command).expect_code(117).expect_stdout(&[]);
    assert!(ended.stderr.contains("network-namespace is absent: "), "{ended}");
    assert!(!ended.stderr.contains("seccomp is"), "{ended}");
    assert!(ended.stderr.contains("hint: "), "{ended}");
    // A layer that a machine lacks isn't one that was switched off.
    for layers in ["seccomp", "full"] {
        let ended = finish(required(layers).args(["--without-layer", "seccomp"])).expect_code(2);
        assert!(ended.stderr.contains("required, and switched off"), "{ended}");
    }
    let ended = finish(required("seccomp").args(["--without-layer", "no-new-privs"])).expect_code(2);
    assert!(ended.stderr.contains("needs no-new-privs"), "{ended}");
    let ended = finish(&mut required("seccomp,nonsense")).expect_code(2);
    assert!(ended.stderr.contains("`nonsense` is no layer of the jail"), "{ended}");
}

#[test]
fn a_full_jail_is_one_in_which_all_holds() {
    let mut command = run(guest("hello"));
    let ended = finish(command.args(["--jail-report", "--require-jail", "full"]));
    let lacks: Vec<_> = finish(run(guest("hello")).arg("--jail-report"))
        .stderr
        .lines()
        .filter(|line| !line.ends_with(" full") && !line.contains(" not applicable: "))
        .map(str::to_owned)
        .collect();
    assert_eq!(ended.status.code(), Some(if lacks.is_empty() { 0 } else { 117 }), "{lacks:?}\n{ended}");
}

/// Doctor starts no guest, and knows all the same.
#[test]
fn doctor_says_what_a_run_would_say() {
    let ended = finish(run(guest("hello")).arg("--jail-report")).expect_code(0);
    let run = report(&ended.stderr);
    let doctor = finish(crate::support::sandpool().arg("doctor"));
    for (layer, hold) in run {
        let said = if hold == "full" { "holds" } else { hold };
        let is_line = |line: &str| {
            let mut words = line.split_whitespace();
            words.nth(1) == Some(layer) && line.ends_with(said)
        };
        assert!(doctor.stdout.lines().any(is_line), "{layer}: {hold}\n{doctor}");
    }
}

/// A run of the probe: native code in the place of a guest's.
pub(crate) fn probe() -> Command {
    procfs::default_signals();
    Command::new(env!("CARGO_BIN_EXE_sandpool-probe"))
}

/// It is the supervisor's child, and outlives the process that was to be the last. With a PID namespace, the kernel ends it.
#[test]
fn a_process_that_hides_does_not_keep_a_run_from_its_end() {
    for layers in [&["pid-namespace"][..], &["pid-namespace", "user-namespace"]] {
        let mut command = probe();
        for layer in layers {
            command.args(["--without-layer", layer]);
        }
        // One whose policy lets it fork.
        let ended = finish(command.arg(guest("process_basics")).args(["native", "hide"]));
        // It ends by itself, unless it is found out before.
        assert!([Some(0), Some(159)].contains(&ended.status.code()), "{ended}");
    }
}

/// The proof that a rule of the policy is needed.
enum Needs {
    /// A guest of the tests, with arguments.
    Guest(&'static str, &'static [&'static str]),
    /// A module that makes a file in a granted directory, opens it as `$fd`, and then does this.
    Files(&'static str),
    /// Its work without a directory.
    Wasm(&'static str),
    /// The same, and it traps.
    Trap(&'static str),
    /// Native code, where it depends on the machine or the C library whether a guest needs it.
    Native(&'static str),
}

/// The rules of the policy for system calls, and who needs each.
#[rustfmt::skip]
const RULES: &[(&str, Needs)] = {
    use Needs::{Files, Guest, Native, Trap, Wasm};
    &[
        ("read", Wasm("(call $succeed (call $fd_read (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 96)))")),
        ("write", Guest("hello", &[])),
        ("futex WAIT_BITSET", Guest("process_basics", &[])),
        ("futex WAKE", Guest("sync_event", &[])),
        ("sched_yield", Guest("process_basics", &[])),
        ("clock_nanosleep", Guest("wasi_sleep", &[])),
        ("clock_gettime", Native("clock_gettime")),
        ("clock_getres", Wasm("(call $succeed (call $clock_res_get (i32.const 0) (i32.const 1024)))")),
        ("getrandom", Guest("wasi_random", &[])),
        ("exit_group", Guest("hello", &[])),
        ("rt_sigaction SIGSEGV", Native("fault")),
        ("rt_sigreturn", Trap("(drop (i32.load (i32.const -4)))")),
        (if cfg!(target_arch = "x86_64") { "poll" } else { "ppoll" }, Wasm("
            (i32.store8 (i32.const 520) (i32.const 1))
            (call $succeed (call $poll_oneoff (i32.const 512) (i32.const 640) (i32.const 1) (i32.const 96)))")),
        ("ioctl TCGETS", Guest("hello", &[])),
        ("brk", Wasm("(call $succeed (call $poll_oneoff (i32.const 0x10000) (i32.const 0x40000) (i32.const 2000) (i32.const 96)))")),
        ("mmap", Guest("hello", &[])),
        ("mmap FIXED", Guest("shared_memory", &[])),
        ("munmap", Wasm("(call $succeed (call $poll_oneoff (i32.const 0x10000) (i32.const 0x40000) (i32.const 4096) (i32.const 96)))")),
        ("mprotect", Guest("hello", &[])),
        ("mremap MAYMOVE", Trap(RECURSION)),
        ("mremap MAYMOVE|FIXED", Guest("shared_memory", &[])),
        ("madvise HUGEPAGE", Guest("hello", &[])),
        ("madvise COLLAPSE", Guest("shared_array", &[])),
        ("madvise REMOVE", Guest("shared_array", &[])),
        ("getpid", Native("abort")),
        ("gettid", Native("abort")),
        ("rt_sigprocmask", Native("abort")),
        ("tgkill SIGABRT", Native("abort")),
        ("clone", Wasm(FORK)),
        ("prctl PR_SET_PDEATHSIG", Wasm(FORK)),
        ("prctl PR_SET_NAME", Wasm(SPAWN)),
        ("getppid", Wasm(FORK)),
        ("openat2", Files("")),
        ("openat", Files("(call $succeed (call $fd_readdir (i32.const 3) (i32.const 1024) (i32.const 512) (i64.const 0) (i32.const 96)))")),
        ("close", Files("(call $succeed (call $fd_close (local.get $fd)))")),
        ("statx", Files("(call $succeed (call $fd_filestat_get (local.get $fd) (i32.const 1024)))")),
        ("pread64", Files("(call $succeed (call $fd_pread (local.get $fd) (i32.const 64) (i32.const 1) (i64.const 0) (i32.const 96)))")),
        ("pwrite64", Files("(call $succeed (call $fd_pwrite (local.get $fd) (i32.const 64) (i32.const 1) (i64.const 0) (i32.const 96)))")),
        ("pwritev2 RWF_APPEND", Files("
            (call $succeed (call $fd_fdstat_set_flags (local.get $fd) (i32.const 1)))
            (call $succeed (call $fd_write (local.get $fd) (i32.const 64) (i32.const 1) (i32.const 96)))")),
        ("getdents64", Files("(call $succeed (call $fd_readdir (i32.const 3) (i32.const 1024) (i32.const 512) (i64.const 0) (i32.const 96)))")),
        ("mkdirat", Files("(call $succeed (call $path_create_directory (i32.const 3) (i32.const 8) (i32.const 3)))")),
        ("unlinkat", Files("(call $succeed (call $path_unlink_file (i32.const 3) (i32.const 0) (i32.const 4)))")),
        ("renameat", Files("(call $succeed (call $path_rename (i32.const 3) (i32.const 0) (i32.const 4) (i32.const 3) (i32.const 24) (i32.const 3)))")),
        ("linkat", Files("(call $succeed (call $path_link (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 3) (i32.const 24) (i32.const 3)))")),
        ("symlinkat", Files("(call $succeed (call $path_symlink (i32.const 0) (i32.const 4) (i32.const 3) (i32.const 16) (i32.const 4)))")),
        ("readlinkat", Files("
            (call $succeed (call $path_symlink (i32.const 0) (i32.const 4) (i32.const 3) (i32.const 16) (i32.const 4)))
            (call $succeed (call $path_readlink (i32.const 3) (i32.const 16) (i32.const 4) (i32.const 1024) (i32.const 512) (i32.const 96)))")),
        ("utimensat", Files("(call $succeed (call $fd_filestat_set_times (local.get $fd) (i64.const 0) (i64.const 0) (i32.const 5)))")),
        ("ftruncate", Files("(call $succeed (call $fd_filestat_set_size (local.get $fd) (i64.const 3)))")),
        ("fadvise64", Files("(call $succeed (call $fd_advise (local.get $fd) (i64.const 0) (i64.const 4) (i32.const 0)))")),
        ("fsync", Files("(call $succeed (call $fd_sync (local.get $fd)))")),
        ("fdatasync", Files("(call $succeed (call $fd_datasync (local.get $fd)))")),
        ("fcntl F_GETFL", Files("(call $succeed (call $fd_readdir (i32.const 3) (i32.const 1024) (i32.const 512) (i64.const 0) (i32.const 96)))")),
    ]
};

/// A module that calls WASI.
fn wasi(body: &str) -> tempfile::NamedTempFile {
    let imports = [
        ("clock_res_get", "i32 i32"),
        ("fd_advise", "i32 i64 i64 i32"),
        ("fd_close", "i32"),
        ("fd_datasync", "i32"),
        ("fd_fdstat_set_flags", "i32 i32"),
        ("fd_filestat_get", "i32 i32"),
        ("fd_filestat_set_size", "i32 i64"),
        ("fd_filestat_set_times", "i32 i64 i64 i32"),
        ("fd_pread", "i32 i32 i32 i64 i32"),
        ("fd_pwrite", "i32 i32 i32 i64 i32"),
        ("fd_read", "i32 i32 i32 i32"),
        ("fd_readdir", "i32 i32 i32 i64 i32"),
        ("fd_sync", "i32"),
        ("fd_write", "i32 i32 i32 i32"),
        ("path_create_directory", "i32 i32 i32"),
        ("path_link", "i32 i32 i32 i32 i32 i32 i32"),
        ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
        ("path_readlink", "i32 i32 i32 i32 i32 i32"),
        ("path_rename", "i32 i32 i32 i32 i32 i32"),
        ("path_symlink", "i32 i32 i32 i32 i32"),
        ("path_unlink_file", "i32 i32 i32"),
        ("poll_oneoff", "i32 i32 i32 i32"),
    ];
    let imports: String = imports
        .iter()
        .map(|(name, types)| {
            format!(
                r#"(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {types}) (result i32)))"#
            )
        })
        .collect();
    module(&format!(
        r#"(module {imports}
          (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
          (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
          (import "sandpool_process" "join" (func $join (param i64 i64) (result i32)))
          (import "sandpool_process" "status" (func $status (param i64 i32) (result i32)))
          (import "sandpool_process" "entry" (func $entry (param i32 i32) (result i64)))
          (import "sandpool_process" "spawn" (func $spawn (param i32 i32 i32 i32 i32 i32 i32) (result i64)))
          (memory (export "memory") 8)
          (data (i32.const 0) "file") (data (i32.const 8) "dir") (data (i32.const 16) "link") (data (i32.const 24) "new")
          (func $recurse (call $recurse))
          (func $succeed (param i32) (if (local.get 0) (then unreachable)))
          (func $end_as (param $child i64)
            (call $succeed (call $join (local.get $child) (i64.const -1)))
            (call $succeed (call $status (local.get $child) (i32.const 1024)))
            (if (i32.eq (i32.load (i32.const 1024)) (i32.const 6)) (then (call $proc_exit (i32.const 159)))))
          (func (export "_start") (local $fd i32) (local $child i64)
            ;; One vector of eight bytes.
            (i32.store (i32.const 64) (i32.const 128))
            (i32.store (i32.const 68) (i32.const 8))
            {body}))"#
    ))
}

/// Starts a child by fork. If a forbidden system call ends it, that ends its parent with the same code.
const FORK: &str = "(local.set $child (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))
    (if (i64.ne (local.get $child) (i64.const 0)) (then (call $end_as (local.get $child))))";

/// The same, by spawn. Only the child has a payload.
const SPAWN: &str = "(if (i64.lt_s (call $entry (i32.const 0) (i32.const 0)) (i64.const 0)) (then
    (call $end_as (call $spawn (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1)
      (i32.const 0) (i32.const 0)))))";

/// Its backtrace is long.
const RECURSION: &str = "(call $recurse)";

const OPEN: &str =
    "(call $succeed (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 1)
    (i64.const 0x1fffffff) (i64.const 0x1fffffff) (i32.const 0) (i32.const 96)))
    (local.set $fd (i32.load (i32.const 96)))";

/// The exit code of a run without this rule, or of one with all.
fn run_for(needs: &Needs, without: Option<&str>) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = probe();
    if let Some(rule) = without {
        command.args(["--without-call", rule]);
    }
    let file;
    match needs {
        Needs::Guest(name, arguments) => command.arg(guest(name)).arg(name).args(*arguments),
        Needs::Native(action) => command.arg(guest("hello")).args(["native", action]),
        Needs::Wasm(body) | Needs::Trap(body) => {
            file = wasi(body);
            command.arg(file.path())
        }
        Needs::Files(body) => {
            file = wasi(&format!("{OPEN} {body}"));
            command.arg("--dir").arg(format!("{}:/data", directory.path().display())).arg(file.path())
        }
    };
    let ended = finish(&mut command);
    (ended.status.code(), ended.to_string())
}

/// A call that no guest needs is one more for whoever breaks out.
#[test]
fn each_system_call_of_the_policy_is_needed() {
    const FORBIDDEN: Option<i32> = Some(159);
    let policy = fs::read_to_string(repository().join("host/policy/guest.json")).unwrap();
    let policy: Vec<serde_json::Value> = serde_json::from_str(&policy).unwrap();
    let mut names: Vec<_> = policy
        .iter()
        .filter(|rule| rule["arch"].as_str().is_none_or(|arch| arch == std::env::consts::ARCH))
        .map(|rule| {
            format!("{} {}", rule["call"].as_str().unwrap(), rule["what"].as_str().unwrap_or_default())
                .trim_end()
                .to_owned()
        })
        .collect();
    let mut tested: Vec<_> = RULES.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort();
    tested.sort();
    assert_eq!(tested, names, "each rule needs a row in the table, and each row a rule");

    let mut wrong = Vec::new();
    for (name, needs) in RULES {
        let (with_all, printed) = run_for(needs, None);
        let expected = match needs {
            Needs::Trap(_) | Needs::Native("abort") => 134,
            Needs::Native("fault") => 139,
            _ => 0,
        };
        if with_all != Some(expected) {
            wrong.push(format!("{name}: its guest fails with all of the policy\n{printed}"));
        }
        let (without, printed) = run_for(needs, Some(name));
        if without != FORBIDDEN {
            wrong.push(format!("{name}: its guest doesn't need it\n{printed}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
