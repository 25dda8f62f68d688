//! Guests in C: compiled by `sandpool build`, which finds the header, and run as all others.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Ended, Run, finish, repository, sandpool};

fn example(name: &str) -> PathBuf {
    repository().join("guest-sdk/c/examples").join(name)
}

/// Compiles, and keeps the repository as it is.
fn build(folder: &TempDir, source: impl AsRef<Path>) -> Ended {
    finish(sandpool().arg("build").arg("--target-dir").arg(folder.path().join("out")).arg(source.as_ref()))
}

fn module(folder: &TempDir, source: impl AsRef<Path>) -> PathBuf {
    path_of(&build(folder, source).expect_code(0))
}

/// A large program, which takes a compiler half a minute to optimize.
fn large_module(folder: &TempDir, source: &Path) -> PathBuf {
    let mut command = sandpool();
    command.args(["build", "--debug", "--target-dir"]).arg(folder.path().join("out")).arg(source);
    path_of(&finish(&mut command).expect_code(0))
}

fn path_of(ended: &Ended) -> PathBuf {
    let lines: Vec<_> = ended.stdout.lines().collect();
    let [path] = lines[..] else { panic!("{ended}") };
    PathBuf::from(path)
}

fn map(module: &Path, task: &str, input: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input");
    fs::write(&path, input).unwrap();
    finish(sandpool().arg("map").arg(module).args(["--task", task, "--input"]).arg(path))
}

#[test]
fn tasks_and_a_program_of_c_are_one_module() {
    let folder = tempfile::tempdir().unwrap();
    let words = module(&folder, example("words.c"));
    assert_eq!(words, folder.path().join("out/wasm32-wasip1/release/words.wasm"));
    map(&words, "words", "to be or\nnot to be\n\n").expect_code(0).expect_stdout(&["3", "3", "0"]);
    let ended = map(&words, "not_empty", "x\n\n").expect_code(119);
    assert!(
        ended.stderr.contains("record 1 failed: the text is empty\n  this goes with the failure"),
        "{ended}"
    );
    let ended = finish(
        sandpool()
            .arg("map")
            .arg(&words)
            .args(["--task", "words", "--format", "jsonl", "--input"])
            .arg(example("words.c")),
    );
    assert!(ended.stderr.contains("the task does not know the format jsonl"), "{ended}");
    finish(sandpool().arg("run").arg(&words)).expect_code(0).expect_stdout(&["0"]);
    let ended = finish(sandpool().arg("inspect").arg(&words)).expect_code(0);
    assert!(ended.stdout.contains("ABI version      1 ("), "{ended}");
}

#[test]
fn processes_of_c_share_queues() {
    let folder = tempfile::tempdir().unwrap();
    let squares = module(&folder, example("squares.c"));
    for (processes, count, sum) in [("1", "10", "385"), ("4", "1000", "333833500")] {
        finish(sandpool().arg("run").arg(&squares).args(["--", processes, count]))
            .expect_code(0)
            .expect_stdout(&[sum]);
    }
    // An error has a text.
    let mut few = sandpool();
    few.args(["run", "--processes-max", "3"]).arg(&squares).args(["--", "4", "10"]);
    let ended = finish(&mut few).expect_code(0).expect_stdout(&["385"]);
    assert!(ended.stderr.contains("2 processes and no more: too many processes"), "{ended}");
}

#[test]
fn a_folder_is_one_module_and_needs_no_main() {
    let folder = tempfile::tempdir().unwrap();
    let sources = folder.path().join("length");
    fs::create_dir(&sources).unwrap();
    let page = fs::read_to_string(repository().join("guest-sdk/c/README.md")).unwrap();
    let task = page.split("```c\n").nth(1).unwrap().split("```").next().unwrap();
    fs::write(sources.join("task.c"), task).unwrap();
    // Constructors run before a task, in a module that has tasks only.
    let ready = "#include \"sandpool.h\"\nstatic int ready;\n__attribute__((constructor)) static void begin(void) { ready = 1; }\n\
        SANDPOOL_TASK(ready) { (void)format; return sandpool_done(ready ? \"yes\" : \"no\", ready ? 3 : 2); }\n\
        SANDPOOL_TASK(odd) { sandpool_task_output(\"odd\", 3); return 7; }\n";
    fs::write(sources.join("ready.c"), ready).unwrap();
    let length = module(&folder, &sources);
    assert!(length.ends_with("length.wasm"));
    map(&length, "length", "four\n\n").expect_code(0).expect_stdout(&["4", "0"]);
    map(&length, "ready", "x\n").expect_code(0).expect_stdout(&["yes"]);
    let ended = map(&length, "odd", "x\n").expect_code(119);
    assert!(ended.stderr.contains("record 0 failed: odd"), "{ended}");
    let ended = finish(sandpool().arg("run").arg(&length));
    assert!(!ended.status.success() && ended.stderr.contains("not a program"), "{ended}");
}

#[test]
fn a_source_is_compiled_where_a_module_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("hello.c");
    fs::write(
        &source,
        "#include <stdio.h>\nint main(int n, char **args) { printf(\"%d %s\\n\", n, args[1]); return 3; }\n",
    )
    .unwrap();
    let mut run = sandpool();
    run.arg("run").arg(&source).args(["--", "x"]).env_remove("SANDPOOL_GUEST_TARGET_DIR");
    finish(&mut run).expect_code(3).expect_stdout(&["2 x"]);
    assert!(folder.path().join("target/wasm32-wasip1/release/hello.wasm").is_file());
    let ended = finish(sandpool().args(["run", "--require-jail", "seccomp"]).arg(&source)).expect_code(2);
    assert!(ended.stderr.contains("would be compiled outside of the jail that is required"), "{ended}");
}

#[test]
fn what_does_not_compile_is_an_error_with_the_compilers_words() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("wrong.c");
    for (text, word) in [
        ("int main(void) { return x; }", "undeclared identifier 'x'"),
        ("int f(void); int main(void) { return f(); }", "undefined symbol: f"),
    ] {
        fs::write(&source, text).unwrap();
        let ended = build(&folder, &source).expect_code(120);
        assert!(
            ended.stderr.contains(word)
                && ended.stderr.contains("hint: see the messages of the compiler above"),
            "{ended}"
        );
        assert_eq!(ended.stdout, "");
    }
    let ended = finish(sandpool().arg("build").arg("--bin").arg("x").arg(&source)).expect_code(2);
    assert!(ended.stderr.contains("no cargo package"), "{ended}");
    fs::write(
        folder.path().join("hello.cpp"),
        "struct Two { int value = 2; };\nint main() { return Two().value; }\n",
    )
    .unwrap();
    let hello = module(&folder, folder.path().join("hello.cpp"));
    finish(sandpool().arg("run").arg(hello)).expect_code(2);
}

/// The folder of a package that carries the source of a program which nobody here wrote.
fn package(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "wasm32-wasip1"]);
    let ended = finish(command.current_dir(repository())).expect_code(0);
    let told: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let packages = told["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == name).unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
}

/// Copies these files into a folder that is to be compiled.
fn copy(from: &Path, names: &[&str], to: &Path) {
    for name in names {
        fs::copy(from.join(name), to.join(Path::new(name).file_name().unwrap())).unwrap();
    }
}

/// Parts of WASI's C library that a program for POSIX wants.
const EMULATED: &str = "-D_WASI_EMULATED_MMAN\n-D_WASI_EMULATED_SIGNAL\n-D_WASI_EMULATED_GETPID\n-D_WASI_EMULATED_PROCESS_CLOCKS\n\
    -lwasi-emulated-mman\n-lwasi-emulated-signal\n-lwasi-emulated-getpid\n-lwasi-emulated-process-clocks\n";

/// A folder with the files of a program and the flags to compile it with.
fn program(folder: &TempDir, name: &str, flags: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("compile_flags.txt"), format!("{flags}{EMULATED}")).unwrap();
    path
}

#[test]
fn two_processes_write_to_a_database_of_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let source = program(
        &folder,
        "sqlite",
        "-DSQLITE_THREADSAFE=0\n-DSQLITE_OMIT_LOAD_EXTENSION\n-DSQLITE_OMIT_WAL\n",
    );
    copy(&package("libsqlite3-sys").join("sqlite3"), &["sqlite3.c", "sqlite3.h"], &source);
    copy(&repository().join("tests/guests/c"), &["sqlite.c"], &source);
    let sqlite = large_module(&folder, &source);
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut command = sandpool();
    command.arg("run").arg(&sqlite).arg("--dir").arg(format!("{}:/data", data.display()));
    finish(command.args(["--", "50"])).expect_code(0).expect_stdout(&["100 4950", "ok", "2.5"]);
    assert_eq!(&fs::read(data.join("numbers.db")).unwrap()[..15], b"SQLite format 3");
}

#[test]
fn quickjs_runs_a_script_for_each_record() {
    let folder = tempfile::tempdir().unwrap();
    let source = program(&folder, "qjs", "-D_GNU_SOURCE\n");
    let quickjs = package("rquickjs-sys").join("quickjs");
    let files: Vec<_> = fs::read_dir(&quickjs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let headers = files.iter().filter_map(|file| file.to_str().filter(|name| name.ends_with(".h")));
    copy(&quickjs, &headers.collect::<Vec<_>>(), &source);
    let parts = ["quickjs.c", "quickjs-libc.c", "libregexp.c", "libunicode.c", "dtoa.c", "qjs.c"];
    copy(&quickjs, &parts, &source);
    copy(&quickjs, &["gen/repl.c", "gen/standalone.c"], &source);
    let qjs = large_module(&folder, &source);
    finish(sandpool().arg("run").arg(&qjs).args(["--", "-e", "console.log(0.1 + 0.2)"]))
        .expect_code(0)
        .expect_stdout(&["0.30000000000000004"]);
    let input = folder.path().join("in.jsonl");
    fs::write(&input, "{\"words\":\"to be or not\"}\n{\"words\":\"sandboxed multiprocessing\"}\n{}\n")
        .unwrap();
    let mut command = sandpool();
    command
        .arg("map")
        .arg(&qjs)
        .arg("--dir")
        .arg(repository().join("tests/guests/c"))
        .arg("--input")
        .arg(&input);
    let script = repository().join("tests/guests/c/longest.js");
    let ended = finish(command.args(["--", "-m"]).arg(script)).expect_code(119);
    assert_eq!(ended.stdout, "{\"longest\":\"not\"}\n{\"longest\":\"multiprocessing\"}\n");
    assert!(ended.stderr.contains("record 2 failed: its process ended: exited: 1"), "{ended}");
    assert!(ended.stderr.contains("TypeError: a record without words"), "{ended}");
}

#[test]
fn the_library_of_cplusplus_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = repository().join("tests/guests/c/sorted.cc");
    let sorted = module(&folder, &tasks);
    let input = folder.path().join("input");
    fs::write(&input, "to be or not\nb a\n\n").unwrap();
    let mut command = sandpool();
    command.arg("map").arg(&sorted).args(["--task", "sort", "--workers", "1", "--input"]).arg(&input);
    finish(&mut command).expect_code(0).expect_stdout(&["be not or to 1", "a b 2", "3"]);
    let lines = module(&folder, repository().join("tests/guests/c/lines.cc"));
    let (run, mut stdin) = Run::start_with_stdin(sandpool().arg("run").arg(&lines));
    stdin.write_all(b"c b a\nb a\nb a\n").unwrap();
    drop(stdin);
    run.finish().expect_code(0).expect_stdout(&["c b a 1", "b a 1", "b a 2", "2 different lines"]);
}

/// The linker would run the constructors of all globals before each task, and their destructors after it.
#[test]
fn tasks_of_cplusplus_are_no_program_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("both.cc");
    fs::write(&source, "#include \"sandpool.h\"\nSANDPOOL_GUEST\nSANDPOOL_TASK(t) { return sandpool_done(\"\", 0); }\nint main() {}")
        .unwrap();
    let ended = build(&folder, &source).expect_code(120);
    assert!(ended.stderr.contains("both.cc has both tasks and a main\nhint: "), "{ended}");
    assert!(!folder.path().join("out").exists(), "{ended}");
}

#[test]
fn flags_that_could_do_more_than_compile_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("main.c"), "int main(void) { return ANSWER; }").unwrap();
    let with = |flags: &str| {
        fs::write(folder.path().join("compile_flags.txt"), flags).unwrap();
        build(&folder, folder.path())
    };
    with("-DANSWER=0\n\n  -Wall  \n").expect_code(0);
    for flag in ["-fplugin=x.so", "-Wl,--export-all", "-o/etc/passwd", "x.c", "@more"] {
        let ended = with(&format!("-DANSWER=0\n{flag}\n")).expect_code(120);
        assert!(
            ended.stderr.contains(&format!("compile_flags.txt has {flag:?}, which is not allowed")),
            "{ended}"
        );
        assert!(ended.stderr.contains("hint: each line is one argument"), "{ended}");
    }
}
