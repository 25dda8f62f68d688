//! Modules that are made to hurt whoever compiles them, and compilers that are hurt.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sandpool::{CompileLimit, Error, ExitStatus, Limit, Module, ModuleBuilder, Run, Trap};

use crate::procfs::{self, Pid};
use crate::support::{self, load_text, sandpool_bin};

/// A program with this beside its memory and its `_start`.
fn program(beside: &str) -> String {
    format!(r#"(module (memory (export "memory") 1) (func (export "_start")) {beside})"#)
}

/// What takes minutes to compile: at the head of each of many loops in one another, each of many variables has a value of
/// its own. The number is to be another one for each test, as all tests share a cache.
fn bomb(number: u32) -> String {
    const MANY: usize = 700;
    let mut sets = String::new();
    for at in 0..MANY {
        let next = (at + 1) % MANY;
        let _ = write!(sets, "(local.set {at} (i32.add (local.get {at}) (local.get {next})))");
    }
    let (begin, end) = ("loop ".repeat(MANY), "(br_if 0 (local.get 0)) end ".repeat(MANY));
    let locals = "i32 ".repeat(MANY);
    program(&format!("(func (drop (i32.const {number}))) (func (local {locals}) {begin} {sets} {end})"))
}

fn builder() -> ModuleBuilder {
    sandpool::set_executable(sandpool_bin());
    Module::builder()
}

/// The compiler among the children in a file of `/proc`, as soon as it is one.
#[track_caller]
fn compiler(children: &str) -> Pid {
    let mut found = None;
    assert!(procfs::eventually(|| {
        let children = fs::read_to_string(children).unwrap_or_default();
        found = children.split_whitespace().find_map(|child| {
            let comm = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            (comm == "sandpool-compil\n").then(|| child.parse().unwrap())
        });
        found.is_some()
    }));
    found.unwrap()
}

/// Where `/proc` lists the children of this thread.
fn own_children() -> String {
    format!("/proc/self/task/{}/children", nix::unistd::gettid())
}

/// No child of this thread is left, and soon no file that was made for one.
#[track_caller]
fn expect_nothing_left() {
    assert_eq!(fs::read_to_string(own_children()).unwrap(), "");
    // Those of other tests come and go.
    assert!(procfs::eventually(|| {
        let mut open = fs::read_dir("/proc/self/fd").unwrap();
        !open.any(|descriptor| {
            let file = fs::read_link(descriptor.unwrap().path());
            file.is_ok_and(|file| file.to_string_lossy().contains("sandpool-compile"))
        })
    }));
}

#[track_caller]
fn expect_limit(result: sandpool::Result<Module>, expected: CompileLimit) {
    match result {
        Err(Error::CompileLimit { name, limit }) => assert_eq!((name.as_str(), limit), ("bomb", expected)),
        other => panic!("{other:?}"),
    }
    expect_nothing_left();
    // And the next module is none the worse for it.
    load_text("honest", &program(""));
}

#[test]
fn a_module_that_takes_too_long_is_refused() {
    let time = Duration::from_millis(300);
    let before = Instant::now();
    expect_limit(builder().compile_time_max(time).load("bomb", bomb(1).as_bytes()), CompileLimit::Time(time));
    assert!(before.elapsed() >= time);
}

#[test]
fn a_module_that_takes_too_much_processor_time_is_refused() {
    let cpu = Duration::from_secs(1);
    expect_limit(builder().compile_cpu_max(cpu).load("bomb", bomb(2).as_bytes()), CompileLimit::Cpu(cpu));
}

#[test]
fn a_module_that_takes_too_much_memory_is_refused() {
    let memory = 64 << 20;
    let functions = "(func (result i64) (i64.const 1))".repeat(200_000);
    expect_limit(
        builder().compile_memory_max(memory).load("bomb", program(&functions).as_bytes()),
        CompileLimit::Memory(memory),
    );
}

#[test]
fn modules_and_artifacts_that_are_too_large_are_refused() {
    // One that no cache has.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let module = program(&format!(r#"(data (i32.const 0) "{now:?}")"#));
    let size = module.len() as u64;
    expect_limit(builder().size_max(size - 1).load("bomb", module.as_bytes()), CompileLimit::Size(size - 1));
    expect_limit(builder().artifact_max(1000).load("bomb", module.as_bytes()), CompileLimit::Artifact(1000));
    builder().size_max(size).artifact_max(1 << 20).load("bomb", module.as_bytes()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb");
    fs::write(&path, &module).unwrap();
    expect_limit(builder().size_max(size - 1).load_file(&path), CompileLimit::Size(size - 1));
    builder().size_max(size).load_file(&path).unwrap();
}

/// Of each kind of thing that a module may have too many of, too large or too deep.
#[test]
fn hostile_modules_are_refused_or_do_no_harm() {
    let refusals = [
        ("(func)".repeat(1_000_001), "functions count exceeds limit of 1000000"),
        (r#"(data (i32.const 0) "a")"#.repeat(100_001), "data segments count exceeds limit of 100000"),
        ("(table 1 funcref)".repeat(101), "tables count exceeds limit of 100"),
        ("(memory 0)".repeat(100), "memories count exceeds limit of 100"),
        (format!("(func (local {}))", "i64 ".repeat(50_001)), "locals exceed maximum"),
        (format!("(type (func (param {})))", "i64 ".repeat(1001)), "function params size is out of bounds"),
        (format!("(func (block $b (br_table {} (i32.const 0))))", "$b ".repeat(100_000)), "br_table"),
        (format!("(func {} {})", "(block ".repeat(20_000), ")".repeat(20_000)), ""),
        (format!("(func {} {})", "block ".repeat(100_000), "end ".repeat(100_000)), ""),
        (format!("(func {} {})", "i32.const 1 if ".repeat(50_000), "end ".repeat(50_000)), ""),
        ("(global i64 (i64.const 0))".repeat(100_000), ""),
        (format!(r#"(data "{}")"#, "a".repeat(8 << 20)), ""),
    ];
    for (hostile, words) in refusals {
        match builder().load("bomb", program(&hostile).as_bytes()) {
            Ok(_) => assert_eq!(words, ""),
            Err(error) => assert!(!words.is_empty() && error.to_string().contains(words), "{words}: {error}"),
        }
    }
    expect_nothing_left();
}

#[test]
fn what_a_module_takes_from_the_start_is_limited() {
    let limited = ExitStatus::Limited(Limit::Memory(100 << 20));
    for (hostile, status) in [
        (r#"(data (i32.const 65536) "a")"#.to_owned(), ExitStatus::Trapped(Trap::MemoryOutOfBounds)),
        ("(table 1 funcref) (elem (i32.const 9) 0)".to_owned(), ExitStatus::Trapped(Trap::TableOutOfBounds)),
        ("(func $loop call $loop) (start $loop)".to_owned(), ExitStatus::Limited(Limit::Stack(1 << 20))),
        ("(table 4294967295 funcref)".to_owned(), limited),
        ("(table 100000 funcref)".repeat(99), limited),
        ("(memory 100)".repeat(99), limited),
        ("(memory 100)".to_owned(), ExitStatus::Exited(0)),
    ] {
        let module = load_text("bomb", &program(&hostile));
        let summary = Run::builder(&module).memory_max(100 << 20).start().unwrap().wait().unwrap();
        assert_eq!(summary.status, status, "{hostile:.100}");
    }
}

/// Each memory, and each table, counts towards the one limit of a process.
#[test]
fn memories_and_tables_grow_within_one_limit() {
    for grow in ["(memory.grow $other (i32.const 400))", "(table.grow (ref.null func) (i32.const 1700000))"] {
        let text = format!(
            r#"(module (memory (export "memory") 1) (memory $other 1) (table 1 funcref)
                (func (export "_start")
                    (if (i32.eq (memory.grow 0 (i32.const 400)) (i32.const -1)) (then unreachable))
                    (if (i32.eq {grow} (i32.const -1)) (then unreachable))))"#
        );
        let module = load_text("growing", &text);
        for (memory_max, status) in
            [(60 << 20, ExitStatus::Exited(0)), (40 << 20, ExitStatus::Limited(Limit::Memory(40 << 20)))]
        {
            let summary = Run::builder(&module).memory_max(memory_max).start().unwrap().wait().unwrap();
            assert_eq!(summary.status, status, "{grow}");
        }
    }
}

#[test]
fn a_compiler_that_is_killed_is_an_error() {
    thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::channel();
        let loading = scope.spawn(move || {
            send.send(own_children()).unwrap();
            let result = builder().load("bomb", bomb(3).as_bytes());
            expect_nothing_left();
            result
        });
        let compiler = compiler(&receive.recv().unwrap());
        assert!(procfs::kill(compiler, Signal::SIGKILL, |_| true));
        let error = loading.join().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "cannot compile bomb: the compiler was killed by signal 9");
    });
}

#[test]
fn a_module_that_is_loaded_twice_at_once_is_one_in_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let (module, cache) = (folder.path().join("a.wat"), folder.path().join("cache"));
    fs::write(&module, program("")).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut run = support::run(&module);
                support::finish(run.env("SANDPOOL_CACHE_DIR", &cache)).expect_code(0);
            });
        }
    });
    let files: Vec<_> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!(file.extension().unwrap(), "cwasm");
}

/// A run whose module is being compiled, the compiler, and the cache.
struct Compiling {
    run: support::Run,
    compiler: Pid,
    cache: PathBuf,
    _folder: tempfile::TempDir,
}

impl Compiling {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (module, cache) = (folder.path().join("bomb.wat"), folder.path().join("cache"));
        fs::write(&module, bomb(0)).unwrap();
        let run = support::Run::start(support::run(module).env("SANDPOOL_CACHE_DIR", &cache));
        let compiler = compiler(&format!("/proc/{}/task/{0}/children", run.embedder()));
        Self { run, compiler, cache, _folder: folder }
    }

    /// Waits for the end of the run by this signal, and looks whether anything is left.
    #[track_caller]
    fn finish(self, signal: Signal) {
        let ended = self.run.finish().expect_signal(signal);
        assert_eq!(ended.stderr, "");
        assert!(procfs::eventually(|| procfs::parent(self.compiler).is_none()), "the compiler is alive");
        assert_eq!(fs::read_dir(&self.cache).unwrap().count(), 0);
    }
}

#[test]
fn a_compiler_is_in_a_jail() {
    let compiling = Compiling::start();
    let compiler = compiling.compiler;
    // The last layer comes when all threads run.
    assert!(procfs::eventually(|| procfs::status(compiler, "Seccomp") == 2));
    for thread in fs::read_dir(format!("/proc/{compiler}/task")).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        for line in
            ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"]
        {
            assert!(status.lines().any(|found| found == line), "{line}\n{status}");
        }
    }
    let limits = fs::read_to_string(format!("/proc/{compiler}/limits")).unwrap();
    for (limit, value) in [("Max data size", 4_u64 << 30), ("Max open files", 0), ("Max core file size", 0)] {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        assert_eq!(line.split_whitespace().next(), Some(value.to_string().as_str()), "{limits}");
    }
    assert_eq!(fs::read(format!("/proc/{compiler}/environ")).unwrap(), b"");
    for (number, file) in procfs::descriptors(compiler) {
        let file = file.to_string_lossy();
        // A command that is linked statically reads random bytes from the device.
        let is_given = file.starts_with("/memfd:sandpool-compile") || file.contains("landlock");
        assert!(is_given || file == "/dev/urandom", "{number}: {file}");
    }
    assert!(procfs::kill(compiling.run.embedder(), Signal::SIGINT, |_| true));
    compiling.finish(Signal::SIGINT);
}

#[test]
fn an_interrupt_ends_the_compiler() {
    for whole_group in [true, false] {
        let compiling = Compiling::start();
        let embedder = i32::try_from(compiling.run.embedder()).unwrap();
        let target = nix::unistd::Pid::from_raw(if whole_group { -embedder } else { embedder });
        nix::sys::signal::kill(target, Signal::SIGINT).unwrap();
        compiling.finish(Signal::SIGINT);
    }
}

#[test]
fn a_compiler_does_not_outlive_its_owner() {
    let compiling = Compiling::start();
    assert!(procfs::kill(compiling.run.embedder(), Signal::SIGKILL, |_| true));
    compiling.finish(Signal::SIGKILL);
}
