//! Attempts that no layer holds: the supervisor, the owner or the compiler's jail bears them.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::libc;
use sandpool::jail::Layer::{self, PidNamespace, UserNamespace};
use sandpool::limits::CompileLimits;
use sandpool::pool::PoolEnd;
use sandpool::{Error, Module, Pool, Run, Sandbox, module, pool};

use crate::attempts::Targets;
use crate::calls::{OF_COMPILERS, calls};
use crate::world::{Verdict, World, arguments};
use crate::{ATTEMPTS, ESCAPED, Findings, REFUSED, limits};

/// The supervisor closes what this program has left open, whatever layers there are.
pub(crate) fn read_an_inherited_descriptor(world: &mut World, findings: &mut Findings) {
    for only in [None, Some(&[][..])] {
        let verdict = world.attempt("read_an_inherited_descriptor", only, limits()).unwrap();
        findings.see(verdict.holds(), format!("a descriptor that was left open, with {only:?}: {verdict:?}"));
    }
    println!("{:42} {:>10}  the supervisor", "read_an_inherited_descriptor", "");
}

/// Time: a loop of native code knows no fuel and no interruption.
pub(crate) fn compute_for_ever(world: &mut World, findings: &mut Findings) {
    for (what, only) in [("the whole jail", None), ("no layer", Some(&[][..]))] {
        for limits in
            [limits().cpu_time(Duration::from_millis(300)), limits().wall_time(Duration::from_millis(300))]
        {
            let verdict = world.attempt("compute_for_ever", only, limits).unwrap();
            let is_limited = matches!(&verdict, Verdict::Else(text) if text.starts_with("limited"));
            findings.see(is_limited, format!("a native loop in {what}: {verdict:?}"));
        }
    }
    println!("{:42} {:>10}  the supervisor", "compute_for_ever", "");
}

/// The arena has no wall around it inside of a run. Code that reads it has to bear with anything.
pub(crate) fn write_all_over_the_arena(world: &mut World, findings: &mut Findings) {
    for _ in 0..5 {
        // The table of its own memory, by which it finds the arena, is a file.
        let verdict = world.attempt("write_all_over_the_arena", Some(&[]), limits()).unwrap();
        // How it ended may have been overwritten. That it was told how is what counts.
        let is_told = !matches!(&verdict, Verdict::Else(text) if text.starts_with("error"));
        findings.see(is_told, format!("the supervisor didn't survive: {verdict:?}"));
    }
    println!("{:42} {:>10}  the supervisor", "write_all_over_the_arena", "");
}

/// The same by the workers of a pool. Its owner, which reads the arena as well, is this program: it goes on, and can end the
/// pool.
pub(crate) fn write_all_over_a_pool(world: &mut World, findings: &mut Findings) {
    for _ in 0..5 {
        let start = Instant::now();
        let sandbox = Layer::ALL.into_iter().fold(Sandbox::new().limits(limits()), Sandbox::without_layer);
        let builder = Pool::builder(&world.module).sandbox(sandbox).processes(3);
        let builder =
            arguments("write_all_over_the_arena", &world.targets).fold(builder, pool::Builder::native);
        let ended = builder.start_timeout(Duration::from_secs(3)).build().map(drop);
        // No worker is ever ready.
        let is_ended = ended.is_err() && start.elapsed() < Duration::from_secs(20);
        findings.see(is_ended, format!("the owner of a pool: {ended:?} after {:?}", start.elapsed()));
    }
    println!("{:42} {:>10}  the owner", "write_all_over_a_pool", "");
}

/// Each turn of the supervisor ends soon, for any content of the arena, however often it changes: so does the run, by
/// whichever way somebody ends it. Among what is written may be the wish that the writer is killed: then another is tried.
pub(crate) fn write_for_ever(world: &mut World, findings: &mut Findings) {
    const PATIENCE: Duration = Duration::from_secs(6);
    const LIMIT: Duration = Duration::from_secs(2);
    const TRIES: usize = 20;
    /// Its name, the limit of time of the run, and what is done.
    type Way = (&'static str, Option<Duration>, fn(Run));
    let ways: [Way; 3] = [
        ("a stop", None, |run| {
            run.stopper().stop(sandpool::Signal::TERM);
            let _ = run.wait();
        }),
        ("a drop", None, drop),
        ("its limit", Some(LIMIT), |run| {
            let _ = run.wait();
        }),
    ];
    for (way, run_wall_time, end) in ways {
        let was_there_to_be_ended = (0..TRIES).any(|_| {
            // Its second process would be found, and the run ended for it.
            let sandbox = Sandbox::new().without_census().limits(limits().run_wall_time(run_wall_time));
            let off = Layer::ALL.into_iter().filter(|layer| ![PidNamespace, UserNamespace].contains(layer));
            let builder = Run::builder(&world.module)
                .args(arguments("write_for_ever", &world.targets))
                .sandbox(off.fold(sandbox, Sandbox::without_layer));
            let begun = Instant::now();
            let run = builder.start().unwrap();
            let supervisor = run.supervisor_pid();
            if run_wall_time.is_none() {
                std::thread::sleep(LIMIT);
            }
            let has_guests = has_children(supervisor);
            end(run);
            let took = begun.elapsed();
            let is_soon = took < LIMIT + PATIENCE;
            findings.see(is_soon, format!("a run that is written over ended by {way} after {took:?}"));
            let is_gone = !PathBuf::from(format!("/proc/{supervisor}")).exists();
            findings.see(is_gone, format!("the supervisor is left after {way}"));
            if run_wall_time.is_some() { took >= LIMIT } else { has_guests }
        });
        findings.see(was_there_to_be_ended, format!("each of {TRIES} ended before {way}"));
    }
    println!("{:42} {:>10}  the supervisor", "write_for_ever", "");
}

/// Whether a process has any, as the kernel tells.
fn has_children(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .is_ok_and(|children| !children.trim().is_empty())
}

/// The policy allows the calls that a fork needs. The supervisor must find processes that aren't in the process table.
pub(crate) fn fork_past_the_table(world: &mut World, findings: &mut Findings) {
    let start = Instant::now();
    let verdict = world.attempt("fork_past_the_table", None, limits()).unwrap();
    let is_ended = start.elapsed() < Duration::from_secs(20) && verdict == Verdict::Strays;
    findings
        .see(is_ended, format!("processes that are in no table: {verdict:?} after {:?}", start.elapsed()));
    println!("{:42} {:>10}  the supervisor: {verdict:?}", "fork_past_the_table", "");
}

/// The same of a worker: it is the pool that ends.
pub(crate) fn fork_from_a_pool(world: &mut World, findings: &mut Findings) {
    let builder = Pool::builder(&world.module).processes(1).sandbox(Sandbox::new().limits(limits()));
    let builder = arguments("fork_past_the_table", &world.targets).fold(builder, pool::Builder::native);
    let ended = builder.build().map(drop);
    let is_ended = matches!(ended, Err(Error::Pool(PoolEnd::Strays(1..))));
    findings.see(is_ended, format!("a pool with processes that are in no table: {ended:?}"));
    println!("{:42} {:>10}  the supervisor", "fork_from_a_pool", "");
}

/// All the same in a compiler.
pub(crate) fn take_over_the_compiler(world: &mut World, findings: &mut Findings) {
    let attempts = ATTEMPTS.iter().map(|attempt| attempt.name.to_owned());
    let calls = calls().filter(|name| !OF_COMPILERS.contains(name)).map(|name| format!("call {name}"));
    for name in attempts.chain(calls) {
        let verdict = compile(&name, &world.targets, &[]);
        let holds = if name.starts_with("call") { verdict == Verdict::Killed } else { verdict.holds() };
        findings.see(holds, format!("{name} in a compiler: {verdict:?}"));
    }
    for name in ["read_a_file", "write_a_file", "connect_by_tcp", "kill_a_process", "call ptrace"] {
        let verdict = compile(name, &world.targets, &Layer::ALL);
        findings
            .see(verdict == Verdict::Escaped, format!("{name} in a compiler without a jail: {verdict:?}"));
    }
    println!("{:42} {:>10}  the compiler's jail", "take_over_the_compiler", "");
}

/// The outcome of native code in the place of a compiler, without these layers.
fn compile(name: &str, targets: &Targets, without: &[Layer]) -> Verdict {
    let module: Vec<_> = arguments(name, targets).collect();
    let limits = CompileLimits::default().compile_memory_max(64 << 20);
    let builder = Module::builder().sandbox(Sandbox::new().compile_limits(limits));
    let builder = without.iter().copied().fold(builder, module::Builder::without_compiler_layer);
    match builder.load("native", module.join("\n").as_bytes()) {
        Err(Error::Compile { problem, .. }) if problem == format!("the compiler ended with {ESCAPED}") => {
            Verdict::Escaped
        }
        Err(Error::Compile { problem, .. }) if problem == format!("the compiler ended with {REFUSED}") => {
            Verdict::Refused
        }
        Err(Error::Compile { problem, .. })
            if problem == format!("the compiler was killed by signal {}", libc::SIGSYS) =>
        {
            Verdict::Killed
        }
        Err(error) => Verdict::Else(error.to_string()),
        Ok(_) => Verdict::Else("it was compiled".to_owned()),
    }
}
