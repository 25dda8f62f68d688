//! The profile for untrusted code.

use crate::support::{Ended, finish, guest, run, sandpool};

use super::limited;

/// Without the jail, which not every machine has whole.
fn untrusted(more: &[&str], what: &[&str]) -> Ended {
    limited(&[&["--profile", "untrusted", "--require-jail", "none"], more].concat(), what)
}

#[test]
fn a_profile_bounds_what_has_no_limit_by_default() {
    let ended = finish(sandpool().args(["config", "--profile", "untrusted"])).expect_code(0);
    assert_eq!(ended.stdout, sandpool::limits::Profile::Untrusted.config());
    for line in [
        "profile = \"untrusted\"",
        "memory-max = \"256MiB\"",
        "run-wall-time = \"600s\"",
        "objects-max = 4096",
    ] {
        assert!(ended.stdout.lines().any(|there| there == line), "{line}: {ended}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let hoards = |limits: &[&str], figure: &str| {
        let ended = limited(limits, &["hoard"]).expect_code(0);
        assert!(ended.stderr.contains(&format!("offender limited: memory {figure}")), "{ended}");
    };
    std::fs::write(path, &ended.stdout).unwrap();
    hoards(&["--profile", "untrusted", "--require-jail", "none"], "256 MiB");
    hoards(&["--config", path, "--require-jail", "none"], "256 MiB");
    // A flag goes before both.
    hoards(
        &["--config", path, "--profile", "untrusted", "--require-jail", "none", "--memory-max", "300MiB"],
        "300 MiB",
    );
    // Of the profile and the file, the lower one; but a file with a profile of its own says what it is to be.
    for (text, flag, figure) in [
        ("[limits]\nmemory-max = '64MiB'", &["--profile", "untrusted"][..], "64 MiB"),
        ("[limits]\nmemory-max = '300MiB'", &["--profile", "untrusted"], "256 MiB"),
        ("profile = 'untrusted'\n[limits]\nmemory-max = '300MiB'", &[], "300 MiB"),
    ] {
        std::fs::write(path, text).unwrap();
        hoards(&[flag, &["--config", path, "--require-jail", "none"]].concat(), figure);
    }
    let ended = untrusted(&["--run-cpu-time", "300ms"], &["spin"]).expect_code(134);
    assert!(ended.stderr.ends_with("error: the guest was limited: cpu time of the run 300 ms\n"), "{ended}");
    let ended = untrusted(&[], &["queues"]).expect_code(0);
    assert!(ended.stdout.starts_with("refused after 409"), "{ended}");
    let ended = finish(sandpool().args(["run", "--profile", "trusted", "x"])).expect_code(2);
    assert!(ended.stderr.contains("there is no profile trusted"), "{ended}");
}

#[test]
fn a_profile_requires_the_whole_jail() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "profile = 'untrusted'").unwrap();
    for profile in [["--profile", "untrusted"], ["--config", file.path().to_str().unwrap()]] {
        let full = finish(run(guest("hello")).args(["--require-jail", "full"]));
        let ended = finish(run(guest("hello")).args(profile));
        assert_eq!((ended.status, &ended.stderr), (full.status, &full.stderr));
        let ended =
            finish(run(guest("hello")).args(profile).args(["--without-layer", "seccomp"])).expect_code(2);
        assert!(
            ended.stderr.contains("the layer seccomp of the jail is required, and switched off"),
            "{ended}"
        );
        finish(run(guest("hello")).args(profile).args([
            "--require-jail",
            "rlimits",
            "--without-layer",
            "seccomp",
        ]))
        .expect_code(0);
        finish(run(guest("hello")).args(profile).args([
            "--require-jail",
            "none",
            "--without-layer",
            "seccomp",
        ]))
        .expect_code(0);
    }
}

#[test]
fn a_profile_bounds_each_task_of_a_map() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in"), "a\nloop\nb\n").unwrap();
    let map = |arguments: &[&str]| {
        let mut command = sandpool();
        command.current_dir(&folder).args([
            "map",
            "--task",
            "behave",
            "--input",
            "in",
            "--on-error",
            "record",
        ]);
        command
            .args(["--profile", "untrusted", "--require-jail", "none"])
            .args(arguments)
            .arg(guest("tasks"));
        finish(&mut command).expect_code(118).expect_stdout(&["a", "b"])
    };
    for (arguments, detail) in [
        (&[][..], "it took longer than 10s"),
        (&["--task-timeout", "300ms", "--isolation", "task"], "it took longer than 300ms"),
    ] {
        let ended = map(arguments);
        assert!(ended.stderr.contains(&format!(r#""cause":"timeout","detail":"{detail}""#)), "{ended}");
    }
    // No more workers than there may be processes.
    let ended = map(&["--processes-max", "2", "--task-timeout", "300ms"]);
    assert!(ended.stderr.contains("timeout"), "{ended}");
}

/// Its build scripts are native code.
#[test]
fn a_crate_is_not_built_where_a_jail_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("src")).unwrap();
    std::fs::write(path("Cargo.toml"), "[package]\nname = 'evil'\nversion = '0.0.0'\nedition = '2024'\n")
        .unwrap();
    std::fs::write(path("src/main.rs"), "fn main() {}").unwrap();
    let touch = format!("fn main() {{ std::fs::write({:?}, \"\").unwrap(); }}", path("owned"));
    std::fs::write(path("build.rs"), touch).unwrap();
    std::fs::write(path("limits.toml"), "profile = 'untrusted'").unwrap();
    let config = path("limits.toml");
    for command in [&["run"][..], &["map", "--task", "t"]] {
        for required in [
            ["--profile", "untrusted"],
            ["--config", config.to_str().unwrap()],
            ["--require-jail", "full"],
            ["--require-jail", "seccomp"],
        ] {
            let ended = finish(sandpool().args(command).args(required).arg(folder.path())).expect_code(2);
            assert!(ended.stderr.contains("would run outside of the jail that is required"), "{ended}");
            assert!(
                ended.stderr.contains("hint: if you trust the crate, build it with `sandpool build`"),
                "{ended}"
            );
            assert!(!path("owned").exists());
        }
        let help = finish(sandpool().args([command[0], "--help"])).expect_code(0).stdout;
        assert!(
            help.split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .contains("The build scripts and macros of a crate run outside of any jail"),
            "{help}"
        );
    }
}
