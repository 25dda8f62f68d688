//! Modules that are made to hurt whoever compiles them, and compilers that are hurt.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sandpool::jail::{Jailed, Layer, LayerStatus};
use sandpool::limits::{CompileLimit, CompileLimits, Limit};
use sandpool::module::Builder;
use sandpool::{Error, ExitStatus, Limits, Module, Run, Sandbox, Trap};

use crate::jail;
use crate::namespaces::without_namespaces;
use crate::procfs::{self, Pid};
use crate::support::{self, load_text, sandpool_bin};

/// A program with this beside its memory and its `_start`.
fn program(beside: &str) -> String {
    format!(r#"(module (memory (export "memory") 1) (func (export "_start")) {beside})"#)
}

/// A module that takes minutes to compile: at the head of each of many loops in one another, each of many variables has a value of
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

fn builder() -> Builder {
    sandpool::set_executable(sandpool_bin());
    Module::builder()
}

fn limited(limits: CompileLimits) -> Builder {
    builder().sandbox(Sandbox::new().compile_limits(limits))
}

fn memory(max: u64) -> Sandbox {
    Sandbox::new().limits(Limits::default().memory_max(max))
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
    expect_limit(
        limited(CompileLimits::default().compile_time_max(time)).load("bomb", bomb(1).as_bytes()),
        CompileLimit::Time(time),
    );
    assert!(before.elapsed() >= time);
}

#[test]
fn a_module_that_takes_too_much_processor_time_is_refused() {
    let cpu = Duration::from_secs(1);
    expect_limit(
        limited(CompileLimits::default().compile_cpu_max(cpu)).load("bomb", bomb(2).as_bytes()),
        CompileLimit::Cpu(cpu),
    );
}

#[test]
fn a_module_that_takes_too_much_memory_is_refused() {
    let memory = 64 << 20;
    let functions = "(func (result i64) (i64.const 1))".repeat(200_000);
    expect_limit(
        limited(CompileLimits::default().compile_memory_max(memory))
            .load("bomb", program(&functions).as_bytes()),
        CompileLimit::Memory(memory),
    );
}

#[test]
fn modules_and_artifacts_that_are_too_large_are_refused() {
    let module = unknown();
    let size = module.len() as u64;
    expect_limit(
        limited(CompileLimits::default().module_size_max(size - 1)).load("bomb", module.as_bytes()),
        CompileLimit::Size(size - 1),
    );
    expect_limit(
        limited(CompileLimits::default().artifact_max(1000)).load("bomb", module.as_bytes()),
        CompileLimit::Artifact(1000),
    );
    limited(CompileLimits::default().module_size_max(size).artifact_max(1 << 20))
        .load("bomb", module.as_bytes())
        .unwrap();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bomb");
    fs::write(&path, &module).unwrap();
    expect_limit(
        limited(CompileLimits::default().module_size_max(size - 1)).load_file(&path),
        CompileLimit::Size(size - 1),
    );
    limited(CompileLimits::default().module_size_max(size)).load_file(&path).unwrap();
}

/// On the command line and in a file, by the same names.
#[test]
fn each_limit_is_a_flag_and_a_key_of_the_configuration() {
    let functions = "(func (result i64) (i64.const 2))".repeat(200_000);
    let data = format!(r#"(data (i32.const 0) "{}")"#, "a".repeat(1024));
    for (key, value, hostile, words) in [
        ("module-size-max", "1KiB", program(&data), "the module has more than 1024 bytes"),
        ("compile-time-max", "300ms", bomb(4), "compiling takes longer than 300ms"),
        ("compile-cpu-max", "1s", bomb(5), "compiling takes more than 1s of processor time"),
        (
            "compile-memory-max",
            "64MiB",
            program(&functions),
            "compiling takes more than 67108864 bytes of memory",
        ),
        ("artifact-max", "1KiB", program(""), "the machine code takes more than 1024 bytes"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (module, config) = (folder.path().join("hostile.wat"), folder.path().join("config"));
        fs::write(&module, hostile).unwrap();
        fs::write(&config, format!("[limits]\n{key} = \"{value}\"\n")).unwrap();
        let (flag, file) = (format!("--{key}={value}"), format!("--config={}", config.display()));
        for said in [&[&*flag][..], &[&*file], &[&*file, &*flag]] {
            let mut run = support::run(&module);
            run.args(said).env("SANDPOOL_CACHE_DIR", folder.path().join("cache"));
            let ended = support::finish(&mut run).expect_code(121);
            let hint = format!("hint: if you trust the module, raise the limit {key}");
            let expected = format!("error: cannot compile hostile.wat: {words}\n{hint}\n");
            assert_eq!(ended.stderr, expected, "{said:?}");
        }
    }
    let ended = support::finish(support::run("x.wat").arg("--compile-time-max=none")).expect_code(2);
    assert!(ended.stderr.contains("give a number with ms, s, min or h"), "{ended}");
}

/// Of each kind of thing that a module may have too many of, too large or too deep.
#[test]
fn hostile_modules_are_refused_or_do_no_harm() {
    let refusals = [
        ("(func)".repeat(1_000_001), "functions count exceeds limit of 1000000"),
        (r#"(data (i32.const 0) "a")"#.repeat(100_001), "data segments count exceeds limit of 100000"),
        ("(table 1 funcref)".repeat(101), "tables count exceeds limit of 100"),
        ("(memory 0)".repeat(100), "it has 101 memories"),
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
        ("(memory 300)".repeat(7), limited),
        ("(memory 100)".to_owned(), ExitStatus::Exited(0)),
    ] {
        let module = load_text("bomb", &program(&hostile));
        let summary = Run::builder(&module).sandbox(memory(100 << 20)).start().unwrap().wait().unwrap();
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
            let summary = Run::builder(&module).sandbox(memory(memory_max)).start().unwrap().wait().unwrap();
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
    for kind in ["user", "pid", "mnt", "net", "ipc"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_ne!(of(&compiler.to_string()), of("self"), "{kind}");
    }
    assert_eq!(procfs::inner_number(compiler), Some(1));
    assert_eq!(fs::read_dir(format!("/proc/{compiler}/root")).unwrap().count(), 0);
    for thread in fs::read_dir(format!("/proc/{compiler}/task")).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        for line in
            ["NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"]
        {
            assert!(status.lines().any(|found| found == line), "{line}\n{status}");
        }
    }
    let limits = fs::read_to_string(format!("/proc/{compiler}/limits")).unwrap();
    let processes = thread::available_parallelism().unwrap().get() as u64 + 8;
    for (limit, value) in [
        ("Max data size", 4_u64 << 30),
        ("Max open files", 0),
        ("Max core file size", 0),
        ("Max processes", processes),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
        assert_eq!(line.split_whitespace().next(), Some(value.to_string().as_str()), "{limits}");
    }
    // On AMD's processors, exactly a setting of the C library.
    let environ = fs::read_to_string(format!("/proc/{compiler}/environ")).unwrap();
    let is_amd = fs::read_to_string("/proc/cpuinfo").unwrap().contains("AuthenticAMD");
    let setting = "GLIBC_TUNABLES=glibc.cpu.x86_rep_movsb_threshold=0x10000000\0";
    assert_eq!(environ, if is_amd { setting } else { "" });
    for (number, file) in procfs::descriptors(compiler) {
        let file = file.to_string_lossy();
        // A command that is linked statically reads random bytes from the device.
        let is_given = file.starts_with("/memfd:sandpool-compile") || file.contains("landlock");
        assert!(is_given || file == "/dev/urandom", "{number}: {file}");
    }
    assert!(procfs::kill(compiling.run.embedder(), Signal::SIGINT, |_| true));
    compiling.finish(Signal::SIGINT);
}

/// A module that no cache has, of which nothing is known.
fn unknown() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    program(&format!(r#"(data (i32.const 0) "{now:?}")"#))
}

#[test]
fn a_module_says_what_held_its_compiler() {
    let module = unknown();
    let load = |builder: Builder| builder.load("module", module.as_bytes());
    let without = load(builder().without_compiler_layer(Layer::Seccomp)).unwrap();
    assert_eq!(without.jail().of(), Jailed::Compiler);
    for (layer, status) in without.jail().layers() {
        let is_expected = match layer {
            Layer::Seccomp => *status == LayerStatus::Off,
            Layer::ControlGroup => matches!(status, LayerStatus::NotApplicable(_)),
            _ => *status == LayerStatus::Full,
        };
        assert!(is_expected, "{layer}: {status}");
    }
    // It is in the cache so, until somebody requires more.
    assert_eq!(load(builder()).unwrap().jail(), without.jail());
    assert!(load(builder().sandbox(Sandbox::new().require_jail(Layer::ALL))).unwrap().jail().is_full());
    assert!(load(builder()).unwrap().jail().is_full());
}

#[test]
fn what_is_required_and_not_there_is_refused_before_a_module_is_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let (module, cache) = (folder.path().join("bomb.wat"), folder.path().join("cache"));
    // It would take as long as it may.
    fs::write(&module, bomb(6)).unwrap();
    let mut command = without_namespaces("net", &[]);
    command.arg(sandpool_bin()).args(["run", "--compile-time-max", "20s"]);
    command.args(["--require-jail", "seccomp,network-namespace"]);
    let ended = support::finish(command.arg(&module).env("SANDPOOL_CACHE_DIR", &cache)).expect_code(117);
    let absent = "compiler/network-namespace is absent: no more of them are allowed (/proc/sys/user)";
    assert!(
        ended.stderr.starts_with(&format!("error: the jail does not hold as required: {absent}\n")),
        "{ended}"
    );
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);

    let sandbox = Sandbox::new().require_jail([Layer::Landlock]);
    let refused = builder().sandbox(sandbox).without_compiler_layer(Layer::Landlock).load("m", b"");
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
}

/// Shows that a rule of the policy is needed: the work of a compiler that has all of it, and dies without.
enum Needs {
    /// Compile a module.
    Module(&'static str),
    /// Compile one that takes more memory than it may.
    Abort,
    /// Native code, where it depends on the machine or the C library whether a compiler needs it.
    Native(&'static str),
}

/// The rules of the policy for system calls of compilers, and who needs each.
const RULES: &[(&str, Needs)] = {
    use Needs::{Abort, Module, Native};
    &[
        ("read", Module("")),
        ("write", Module("")),
        ("close", Module("")),
        ("futex WAIT|PRIVATE", Native("futex_wait")),
        ("futex WAIT_BITSET|PRIVATE", Module(MANY)),
        ("futex WAKE|PRIVATE", Module(MANY)),
        ("sched_yield", Module(MANY)),
        ("clock_gettime", Native("clock_gettime")),
        ("getrandom", Module("")),
        ("exit_group", Module("")),
        ("brk", Module(MANY)),
        ("mmap", Module(MANY)),
        ("munmap", Module(MANY)),
        ("mprotect", Module(MANY)),
        ("mremap", Module(MANY)),
        ("madvise", Module(LARGE)),
        ("openat", Module(LARGE)),
        ("getpid", Abort),
        ("gettid", Abort),
        ("rt_sigprocmask", Abort),
        ("tgkill", Abort),
    ]
};

/// Stands for many functions.
const MANY: &str = "many";

/// Stands for large ones, each of which takes more memory than a thread keeps for the next.
const LARGE: &str = "large";

/// How a compiler ends without a rule, or with all: what it says, or nothing if it has compiled the module.
fn compile_for(needs: &Needs, without: Option<&str>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module");
    let functions = "(func (result i64) (i64.mul (i64.const 3) (i64.const 4)))".repeat(20_000);
    let module = match needs {
        Needs::Module(MANY) | Needs::Abort => program(&functions),
        Needs::Module(LARGE) => {
            let store = "(i64.store (i32.const 8) (i64.mul (i64.load (i32.const 16)) (i64.const 3)))";
            program(&format!("(func {})", store.repeat(5000)).repeat(4))
        }
        Needs::Module(beside) => program(beside),
        Needs::Native(action) => format!("native\n{action}"),
    };
    fs::write(&path, module).unwrap();
    let mut probe = jail::probe();
    if let Needs::Abort = needs {
        probe.args(["--compile-memory-max", "64MiB"]);
    }
    if let Some(rule) = without {
        probe.args(["--without-compiler-call", rule]);
    }
    let ended = support::finish(probe.arg(&path).env("SANDPOOL_CACHE_DIR", folder.path().join("cache")));
    ended.stderr
}

/// A call that no compiler needs is one more for whoever takes one over.
#[test]
fn each_system_call_of_the_policy_of_compilers_is_needed() {
    let policy = fs::read_to_string(support::repository().join("host/policy/compiler.json")).unwrap();
    let policy: Vec<serde_json::Value> = serde_json::from_str(&policy).unwrap();
    let name = |rule: &serde_json::Value| {
        let [call, what] = ["call", "what"].map(|part| rule[part].as_str().unwrap_or_default());
        format!("{call} {what}").trim_end().to_owned()
    };
    let mut names: Vec<_> = policy.iter().map(name).collect();
    let mut tested: Vec<_> = RULES.iter().map(|(name, _)| (*name).to_owned()).collect();
    names.sort_unstable();
    tested.sort_unstable();
    assert_eq!(tested, names, "each rule needs a row in the table, and each row a rule");
    let mut wrong = Vec::new();
    for (name, needs) in RULES {
        let with_all = compile_for(needs, None);
        let is_expected = match needs {
            Needs::Module(_) => with_all.is_empty(),
            Needs::Abort => with_all.contains("compiling takes more than 67108864 bytes of memory"),
            Needs::Native(_) => with_all.contains("report is unusable"),
        };
        if !is_expected {
            wrong.push(format!("{name}: its compiler fails with all of the policy: {with_all}"));
        }
        // Which threads free how much at once, and with it what the allocator asks the kernel, differs from time to time.
        let attempts = if matches!(needs, Needs::Module(LARGE)) { 50 } else { 1 };
        let mut without = String::new();
        let is_needed = (0..attempts).any(|_| {
            without = compile_for(needs, Some(name));
            without.contains("the compiler was killed by signal 31")
        });
        if !is_needed {
            wrong.push(format!("{name}: its compiler doesn't need it: {without}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
