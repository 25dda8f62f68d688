//! `sandpool build`, and what it says about packages that can't be built.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{repository, sandpool};

/// A package with these sources, in a workspace of its own.
fn package(dir: &Path, sources: &[(&str, &str)]) {
    let manifest = "[package]\nname = \"task\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";
    for (path, text) in sources.iter().chain([&("Cargo.toml", manifest)]) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

/// The command in a shared cache, as a user has it, even where `make test` names a target directory. That is
/// linked into the cache, because the standard library may be compiled in it already.
pub(crate) fn in_a_shared_cache(cache: &Path) -> Command {
    let mut command = sandpool();
    if let Some(guests) = std::env::var_os("SANDPOOL_GUEST_TARGET_DIR") {
        fs::set_permissions(cache, fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir_all(&guests).unwrap();
        symlink(fs::canonicalize(guests).unwrap(), cache.join("guests")).unwrap();
        command.env_remove("SANDPOOL_GUEST_TARGET_DIR").env("SANDPOOL_CACHE_DIR", cache);
    }
    command
}

/// Builds in an environment that is full of settings for other builds: none of them may reach the guest.
fn build(dir: &Path) -> Output {
    let cache = tempfile::tempdir().unwrap();
    in_a_shared_cache(cache.path())
        .arg("build")
        .arg(dir)
        .env("RUSTFLAGS", "--no-such-flag")
        .env("CARGO_BUILD_TARGET", "no-such-target")
        .env("RUSTC_WRAPPER", "/no/such/wrapper")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The one path that a build printed.
fn module_in(output: &Output) -> PathBuf {
    PathBuf::from(std::str::from_utf8(&output.stdout).unwrap().trim_end_matches('\n'))
}

fn contains(module: &[u8], text: &str) -> bool {
    module.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_package_becomes_a_module_with_function_names() {
    let dir = tempfile::tempdir().unwrap();
    let source =
        "#[inline(never)] fn a_name_to_find() { std::hint::black_box(()) }\nfn main() { a_name_to_find() }";
    package(dir.path(), &[("src/main.rs", source)]);
    let output = build(dir.path());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let module = fs::read(module_in(&output)).unwrap();
    assert!(module.starts_with(b"\0asm"));
    assert!(contains(&module, "a_name_to_find"), "the names are stripped");
    assert!(dir.path().join("Cargo.lock").exists());
}

#[test]
fn a_package_that_does_not_compile_is_the_compilers_word_and_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    package(dir.path(), &[("src/main.rs", "fn main() { no_such_function() }")]);
    let output = build(dir.path());
    assert_eq!(output.status.code(), Some(120));
    assert!(output.stdout.is_empty());
    let stderr = stderr(&output);
    for part in ["E0425", "error: cannot compile ", "hint: "] {
        assert!(stderr.contains(part), "no {part} in:\n{stderr}");
    }
}

/// Builds a guest with this source, which uses the SDK.
fn build_with_sdk(source: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    package(dir.path(), &[("src/main.rs", source)]);
    let sdk = fs::canonicalize(repository().join("guest-sdk/rust")).unwrap();
    let mut manifest = fs::read_to_string(dir.path().join("Cargo.toml")).unwrap();
    manifest += &format!("[dependencies]\nsandpool-guest = {{ path = {sdk:?} }}\n");
    fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
    // The versions that other guests have, which are here already.
    fs::copy(repository().join("tests/guests/Cargo.lock"), dir.path().join("Cargo.lock")).unwrap();
    build(dir.path())
}

#[test]
fn functions_that_can_be_no_task_are_refused_where_they_stand() {
    let refusals = [
        ("async fn a() {}", "async", "a task can't be async"),
        ("unsafe fn b() {}", "unsafe", "a task is a plain `fn`"),
        ("extern \"C\" fn c() {}", "extern", "a task is a plain `fn`"),
        ("fn d<T>(x: T) {}", "<", "a task can't be generic"),
        ("fn e(x: Vec<u8>, y: impl Clone) {}", "impl", "a task can't be generic"),
        ("fn f(x: &str) {}", "&", "a task can't borrow its input"),
        ("struct S;", "struct", "goes on a function"),
        ("fn h(x: Opaque) {}", "Opaque", "DeserializeOwned` is not satisfied"),
        ("fn i() -> Opaque { Opaque }", "Opaque", "Serialize` is not satisfied"),
        ("fn j() -> Result<u8, Opaque> { Ok(1) }", "Result", "doesn't implement `std::fmt::Display`"),
    ];
    let mut source = "struct Opaque;\nfn main() {}\n".to_owned();
    for (item, ..) in &refusals {
        source += &format!("#[sandpool_guest::task] {item}\n");
    }
    source +=
        "#[sandpool_guest::task(nam = \"x\")] fn k() {}\n#[sandpool_guest::task(name = \"x y\")] fn l() {}\n";
    let output = build_with_sdk(&source);
    assert_eq!(output.status.code(), Some(120));
    let stderr = stderr(&output);
    let expects = |line: usize, column: usize, message: &str| {
        let place = format!("--> src/main.rs:{line}:{column}\n");
        let found = stderr.lines().zip(stderr.lines().skip(1)).any(|(said, below)| {
            said.starts_with("error") && said.contains(message) && format!("{below}\n").ends_with(&place)
        });
        assert!(found, "no {message:?} at {place} in:\n{stderr}");
    };
    for (at, (item, place, message)) in refusals.iter().enumerate() {
        expects(at + 3, "#[sandpool_guest::task] ".len() + item.find(place).unwrap() + 1, message);
    }
    expects(13, "#[sandpool_guest::task(".len() + 1, "takes nothing, or `name = ");
    expects(14, "#[sandpool_guest::task(name = ".len() + 1, "a task's name has letters");
}

#[test]
fn two_tasks_of_one_name_do_not_become_a_guest() {
    let task = "#[sandpool_guest::task] pub fn work(x: u8) -> u8 { x }";
    let output = build_with_sdk(&format!("mod one {{ {task} }}\nmod two {{ {task} }}\nfn main() {{}}\n"));
    assert_eq!(output.status.code(), Some(120));
    assert!(stderr(&output).contains("sandpool_task_work"), "{}", stderr(&output));
}

#[test]
fn a_package_without_a_program_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    package(dir.path(), &[("src/lib.rs", "")]);
    let output = build(dir.path());
    assert_eq!(output.status.code(), Some(120));
    assert!(stderr(&output).contains("error: there is no program in "), "{}", stderr(&output));
}

#[test]
fn a_directory_without_a_manifest_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for dir in [dir.path(), &dir.path().join("missing")] {
        let output = build(dir);
        assert_eq!(output.status.code(), Some(2));
        let expected = format!("error: {} is not a directory with a Cargo.toml\nhint: ", dir.display());
        assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    }
}

#[test]
fn of_several_programs_run_wants_a_choice() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    package(dir.path(), &[("src/bin/one.rs", "fn main() {}"), ("src/bin/two.rs", "fn main() {}")]);
    let output = in_a_shared_cache(cache.path()).arg("run").arg(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = stderr(&output);
    assert!(
        stderr.contains("has several programs: one, two\nhint: choose one of them with `--bin NAME`"),
        "{stderr}"
    );
}

/// They are told apart even if the files are older than the module of the other one, as after a checkout.
#[test]
fn programs_of_one_name_do_not_replace_each_other() {
    let packages = ["the first of them", "the second of them"].map(|text| {
        let dir = tempfile::tempdir().unwrap();
        package(dir.path(), &[("src/main.rs", &format!("fn main() {{ println!(\"{text}\") }}"))]);
        (text, dir)
    });
    let modules = packages.map(|(text, dir)| {
        let output = build(dir.path());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        (module_in(&output), text, dir)
    });
    for (module, text, _dir) in modules {
        assert!(contains(&fs::read(module).unwrap(), text), "{text} is not in its module");
    }
}

#[test]
fn doctor_reports_each_check_on_a_line_of_its_own() {
    let output = sandpool().arg("doctor").output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    for name in ["cargo", "guest toolchain", "linux", "shared memory", "cache directory"] {
        assert!(
            stdout.lines().any(|line| line.starts_with("ok ") && line.contains(name)),
            "no {name} in:\n{stdout}"
        );
    }
}
