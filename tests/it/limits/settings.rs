//! Limits as flags and in the configuration file.

use std::time::Duration;

use sandpool::pool::Isolation;
use sandpool::{Error, Limits, Pool, Run, Sandbox};

use crate::support::{finish, guest, load_text, run, sandpool};

use super::{holds, limited, tasks};

#[test]
fn a_limit_of_nothing_is_refused_wherever_it_is_set() {
    for key in sandpool::limits::LimitKey::ALL {
        let zero = match key.value {
            "TIME" => "0s",
            _ => "0",
        };
        let ended = finish(run(guest("hello")).args([&*format!("--{}", key.name), zero])).expect_code(2);
        let said = format!("invalid value '{zero}' for '--{} <{}>'", key.name, key.value);
        assert!(ended.stderr.contains(&said), "{ended}");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("[limits]\n{} = '{zero}'\n", key.name)).unwrap();
        let ended = finish(run(guest("hello")).arg("--config").arg(file.path())).expect_code(2);
        assert!(ended.stderr.contains(&format!("is no value for limits.{}", key.name)), "{ended}");
    }
    // Nor is it one by the library, where nothing was parsed.
    let module = tasks();
    let program = load_text("program", r#"(module (memory (export "memory") 1) (func (export "_start")))"#);
    let (time, base) = (Some(Duration::ZERO), Limits::default());
    for limits in [
        base.clone().processes_max(0),
        base.clone().objects_max(0),
        base.clone().arena_size(0),
        base.clone().queue_items_max(0),
        base.clone().memory_max(0),
        base.clone().run_memory_max(0),
        base.clone().stack_max(0),
        base.clone().cpu_time(time),
        base.clone().wall_time(time),
        base.clone().run_cpu_time(time),
        base.clone().run_wall_time(time),
        base.clone().fuel(0),
        base.clone().stdio_max(0),
        base.clone().run_stdio_max(0),
        base.clone().file_size_max(0),
        base.clone().file_bytes_max(0),
        base.clone().run_file_bytes_max(0),
        base.open_files_max(0),
    ] {
        let sandbox = Sandbox::new().limits(limits);
        let pool = Pool::builder(&module).isolation(Isolation::Task).sandbox(sandbox.clone()).build();
        assert!(matches!(pool, Err(Error::Invalid { .. })), "{sandbox:?}");
        let run = Run::builder(&program).sandbox(sandbox.clone()).start();
        assert!(matches!(run, Err(Error::Invalid { .. })), "{sandbox:?}");
    }
}

#[test]
fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[limits]\nstdio-max = 5000\nqueue-items-max = 3\n").unwrap();
    let config = ["--config", file.path().to_str().unwrap()];
    let of = |limits: &[&str]| limited(&[&config, limits].concat(), &["items"]).expect_code(0);
    of(&[]).expect_stdout(&[&holds(3), &holds(3), &holds(2)]);
    of(&["--queue-items-max", "4"]).expect_stdout(&[&holds(4), &holds(4), &holds(2)]);
    of(&["--queue-items-max", "none"]).expect_stdout(&[&holds(2000), &holds(1000), &holds(2)]);
}

#[test]
fn what_is_wrong_with_a_configuration_is_said() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    for (text, message, hint) in [
        (
            "[limits]\nmemroy-max = 1\n",
            "line 2: there is no key limits.memroy-max",
            "the nearest name is limits.memory-max",
        ),
        (
            "[limits]\ncpu-time = 5\n",
            "line 2: `5` is no value for limits.cpu-time",
            "give a number with ms, s, min or h; or none",
        ),
    ] {
        std::fs::write(file.path(), text).unwrap();
        let ended = limited(&["--config", path], &[]).expect_code(2);
        let expected = format!("error: cannot use the configuration file {path}: {message}\nhint: {hint}\n");
        assert_eq!(ended.stderr, expected);
    }
    let ended = limited(&["--config", "/no/such.toml"], &[]).expect_code(2);
    assert!(
        ended.stderr.starts_with("error: cannot use the configuration file /no/such.toml: cannot read it: "),
        "{ended}"
    );
    let ended = limited(&["--cpu-time", "5"], &[]).expect_code(2);
    assert!(ended.stderr.contains("give a number with ms, s, min or h; or none"), "{ended}");
    let ended = limited(&["--stack-max", "1"], &[]).expect_code(2);
    assert_eq!(ended.stderr, "error: `1` is no value for stack-max\nhint: at least 64KiB\n");
}

#[test]
fn the_command_prints_a_file_with_what_holds_without_one() {
    let ended = finish(sandpool().arg("config")).expect_code(0);
    assert_eq!(ended.stdout, sandpool::limits::DEFAULT_CONFIG);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &ended.stdout).unwrap();
    let ended = limited(&["--config", file.path().to_str().unwrap()], &["items"]).expect_code(0);
    ended.expect_stdout(&[2000, 1000, 2].map(holds).each_ref().map(String::as_str));
}
