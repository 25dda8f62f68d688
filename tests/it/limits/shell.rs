//! Limits of the shell that Sandpool is started by.

use std::process::Command;

use crate::support::{Ended, finish, guest, sandpool_bin};

/// In a shell that allows less than a run takes by default.
fn in_shell(limit: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limit} && exec \"$@\""), "sh"]).arg(sandpool_bin()).args(arguments);
    finish(&mut command)
}

#[test]
fn a_run_does_with_the_addresses_that_the_shell_allows_if_it_may() {
    let path = |name: &str| guest(name).to_str().unwrap().to_owned();
    let (hello, limits, tasks) = (path("hello"), path("limits"), path("tasks"));
    let little = "ulimit -v 4000000";
    let small = ["--memory-max", "128MiB", "--arena-size", "256MiB"];
    let ended = in_shell(little, &["run", &hello]).expect_code(125);
    assert!(ended.stderr.contains("error: there is no room for the memory of a process, "), "{ended}");
    assert!(ended.stderr.contains("hint: that is the shell's limit: `ulimit -v unlimited`"), "{ended}");
    assert!(ended.stderr.contains("--memory-max"), "{ended}");
    assert_eq!(ended.stdout, "");
    // Memory that grows, is shared, is copied by a fork, and is no larger than it may be.
    for name in ["hello", "shared_memory", "process_basics", "process_spawn"] {
        let module = path(name);
        let arguments = [&["run"][..], &small, &[module.as_str()]].concat();
        in_shell(little, &arguments).expect_code(0);
    }
    // More is refused, as elsewhere.
    let arguments = ["run", "--memory-max", "16MiB", &limits, "--", "hoard"];
    let [here, there] = ["true", little].map(|limit| in_shell(limit, &arguments));
    assert_eq!(here.status, there.status, "{here}\n{there}");
    assert_eq!(here.stderr.lines().last(), there.stderr.lines().last(), "{here}\n{there}");
    // A pool's owner has it as well.
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    std::fs::write(&input, "[1,2]\n").unwrap();
    let map = ["map", "--task", "forked_sum", "--input", input.to_str().unwrap()];
    let arguments = [&map[..], &small, &[tasks.as_str()]].concat();
    in_shell(little, &arguments).expect_code(0).expect_stdout(&["3"]);
}

/// Where memory is no larger than it may be, what lies behind it isn't reached either.
#[test]
fn an_access_outside_of_memory_traps_there_as_well() {
    let folder = tempfile::tempdir().unwrap();
    for (at, code) in [(0_u32, 0), (65_532, 0), (65_533, 134), (65_536, 134), (1 << 30, 134), (u32::MAX, 134)]
    {
        let path = folder.path().join(format!("{at}.wat"));
        let text = format!(
            r#"(module (memory (export "memory") 1) (func (export "_start") (i32.store (i32.const {}) (i32.const 7))))"#,
            at.cast_signed()
        );
        std::fs::write(&path, text).unwrap();
        let arguments = ["run", "--memory-max", "1MiB", path.to_str().unwrap()];
        for limit in ["true", "ulimit -v 4000000"] {
            let ended = in_shell(limit, &arguments).expect_code(code);
            assert!(
                code == 0 || ended.stderr.contains("out of bounds memory access"),
                "{at}, {limit}: {ended}"
            );
        }
    }
}

#[test]
fn an_arena_is_no_larger_than_the_shell_allows_files_to_be() {
    let path = guest("hello");
    let path = path.to_str().unwrap();
    let blocks = "ulimit -f 1000000";
    let ended = in_shell(blocks, &["run", path]).expect_code(125);
    let message = "there is no room for an arena of 1073741824 bytes and its tables: a file may have 512000000 bytes here";
    assert!(ended.stderr.contains(message), "{ended}");
    assert!(ended.stderr.contains("`ulimit -f unlimited`, or a smaller --arena-size"), "{ended}");
    in_shell(blocks, &["run", "--arena-size", "128MiB", path]).expect_code(0);
    // Compiled anew there, too.
    let folder = tempfile::tempdir().unwrap();
    let cache = format!("{blocks} && export SANDPOOL_CACHE_DIR={}", folder.path().join("c").display());
    let ended = in_shell(&cache, &["run", "--arena-size", "128MiB", path]).expect_code(0);
    assert_eq!(ended.stderr, "");
}

#[test]
fn doctor_sees_what_the_shell_allows() {
    for (limit, name, fix) in [
        ("ulimit -v 4000000", "address space", "ulimit -v unlimited"),
        ("ulimit -f 1000000", "file size", "ulimit -f unlimited"),
    ] {
        let ended = in_shell(limit, &["doctor"]);
        let warns = |line: &str| line.starts_with("warn") && line.contains(name);
        assert!(ended.stdout.lines().any(warns) && ended.stdout.contains(fix), "{ended}");
        let ended = in_shell("true", &["doctor"]);
        assert!(!ended.stdout.lines().any(warns), "{ended}");
    }
}
