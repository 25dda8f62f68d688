//! Guests in C: compiled by `sandpool build`, which finds the header, and run as all others.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{Ended, finish, repository, sandpool};

fn example(name: &str) -> PathBuf {
    repository().join("guest-sdk/c/examples").join(name)
}

/// Compiles, and keeps the repository as it is.
fn build(folder: &TempDir, source: impl AsRef<Path>) -> Ended {
    finish(sandpool().arg("build").arg("--target-dir").arg(folder.path().join("out")).arg(source.as_ref()))
}

fn module(folder: &TempDir, source: impl AsRef<Path>) -> PathBuf {
    let ended = build(folder, source).expect_code(0);
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
