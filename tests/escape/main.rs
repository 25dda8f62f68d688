//! Attempts to escape: what a guest does that has broken out of WebAssembly. This program is its own supervisor, and runs
//! native code in guest processes, in the jail.
//!
//! Each attempt is made in the whole jail; then once for each layer that is to hold it by itself, with all others
//! switched off; and with all of them off, where it must succeed: an attempt that can't succeed would show nothing.
//! Layers that this kernel or this user can't have are named and left out.
//!
//! It has a `main` of its own, because the supervisor is this program, started once more. Arguments are parts of names of
//! attempts to make. If it is root who runs it, it is run as an ordinary user as well.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a panic is how a test fails"
)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a test says what it does, and why it fails")]
#![allow(unsafe_code, reason = "System V's shared memory has no safe interface")]

mod attempts;
mod calls;
#[path = "../delegated.rs"]
mod delegated;
#[path = "../hidden.rs"]
mod hidden;
mod survival;
mod user;
mod world;

use std::io;
use std::process::ExitCode;

use sandpool::Limits;
use sandpool::jail::Layer;

use Layer::{
    Capabilities, ControlGroup, Descriptors, IpcNamespace, Landlock, MountNamespace, NetworkNamespace,
    PidNamespace, ProcessLimit, Rlimits, Seccomp, UserNamespace,
};
use attempts::Targets;
use calls::{call_of, calls};
use hidden::where_processes_are_hidden;
use survival::{
    compute_for_ever, fork_from_a_pool, fork_past_the_table, read_an_inherited_descriptor,
    take_over_the_compiler, write_all_over_a_pool, write_all_over_the_arena, write_for_ever,
};
use user::{Membership, holds_an_ordinary_user};
use world::{Verdict, World};

/// The exit code of a guest process that has got what it wanted.
const ESCAPED: u8 = 7;
/// The exit code of one that was refused.
const REFUSED: u8 = 8;

/// Something to try.
struct Attempt {
    name: &'static str,
    run: fn(&Targets) -> io::Result<()>,
    /// The layers each of which holds it alone.
    alone: &'static [Layer],
}

macro_rules! attempts {
    ($($name:ident: $($layer:ident)*;)*) => {
        &[$(Attempt { name: stringify!($name), run: attempts::$name, alone: &[$($layer),*] }),*]
    };
}

const ATTEMPTS: &[Attempt] = attempts! {
    read_a_file: MountNamespace Landlock Seccomp;
    read_a_file_by_way_of_a_granted_directory: MountNamespace Landlock;
    look_whether_there_is_a_file: MountNamespace;
    write_a_file: MountNamespace Landlock Seccomp;
    remove_a_file: MountNamespace Landlock;
    write_where_only_reading_is_granted: MountNamespace Landlock;
    make_a_device: UserNamespace MountNamespace Capabilities Landlock Seccomp;
    execute: MountNamespace Landlock Seccomp;
    execute_what_may_be_read: MountNamespace Landlock Seccomp;
    execute_what_may_be_written: MountNamespace Landlock Seccomp;
    execute_from_memory: Seccomp;
    connect_by_tcp: NetworkNamespace Landlock Seccomp;
    connect_to_an_abstract_socket: NetworkNamespace Landlock Seccomp;
    trace_the_supervisor: Landlock Seccomp;
    trace_a_process: UserNamespace PidNamespace Landlock Seccomp;
    kill_the_supervisor: PidNamespace Landlock Seccomp;
    kill_a_process: PidNamespace Landlock Seccomp;
    read_another_runs_arena: UserNamespace PidNamespace Landlock Seccomp;
    take_another_runs_descriptor: UserNamespace PidNamespace Landlock Seccomp;
    look_at_another_process: MountNamespace Landlock Seccomp;
    attach_shared_memory_of_others: IpcNamespace Seccomp;
    use_a_socket_of_the_supervisor: Descriptors Seccomp;
    map_executable_memory: Seccomp;
    make_memory_executable: Seccomp;
    read_implies_executable: Seccomp;
    exhaust_memory: Rlimits;
    exhaust_memory_with_others: ControlGroup Seccomp;
    exhaust_shared_memory: Seccomp;
    exhaust_memory_that_grows_down: Seccomp;
    map_huge_pages: Seccomp;
    lock_memory: Seccomp;
    exhaust_memory_with_page_tables: Rlimits;
    use_futexes_as_no_guest_does: Seccomp;
    leave_a_dump: Rlimits Seccomp;
    exhaust_descriptors: Rlimits Seccomp;
    fill_the_disk: Rlimits;
    fork_a_process_of_its_own: Seccomp;
    start_a_thread: Seccomp;
    fork_into_namespaces: Seccomp;
    fork_without_end: ControlGroup ProcessLimit;
};

/// The guest's side: what the first argument says, if it says one.
fn native(args: &[String]) -> Option<u8> {
    let [name, targets @ ..] = args else { return None };
    let targets = Targets::from_args(targets)?;
    let outcome = match name.as_str() {
        "idle" => loop {
            attempts::sleep_millis(60_000);
        },
        "compute_for_ever" => attempts::compute_for_ever(&targets),
        "read_an_inherited_descriptor" => attempts::read_an_inherited_descriptor(&targets),
        "write_all_over_the_arena" => attempts::write_all_over_the_arena(&targets),
        "write_for_ever" => attempts::write_for_ever(&targets),
        "fork_past_the_table" => attempts::fork_past_the_table(&targets),
        name => match (ATTEMPTS.iter().find(|attempt| attempt.name == name), name.strip_prefix("call ")) {
            (Some(attempt), _) => (attempt.run)(&targets),
            (None, Some(name)) => {
                let (number, args) = call_of(name)?;
                attempts::any_call(number, &args)
            }
            (None, None) => return None,
        },
    };
    Some(if outcome.is_ok() { ESCAPED } else { REFUSED })
}

/// Limits that attempts are held to: more than the idle guest needs.
fn limits() -> Limits {
    Limits::default()
        .processes_max(16)
        .memory_max(16 << 20)
        .run_memory_max(64 << 20)
        .arena_size(16 << 20)
        .file_size_max(1 << 20)
}

/// The settings under which a layer is alone.
fn alone(layer: Layer) -> Vec<Layer> {
    match layer {
        Landlock | Seccomp => vec![Layer::NoNewPrivs, layer],
        // It has a limit for each of the two, of which root has the second one only.
        ProcessLimit if nix::unistd::geteuid().is_root() => vec![PidNamespace, layer],
        ProcessLimit => vec![UserNamespace, layer],
        // A user who isn't root has the others only in a namespace of users.
        PidNamespace | MountNamespace | NetworkNamespace | IpcNamespace
            if !nix::unistd::geteuid().is_root() =>
        {
            vec![UserNamespace, layer]
        }
        _ => vec![layer],
    }
}

/// The findings.
#[derive(Default)]
struct Findings {
    wrong: Vec<String>,
    left_out: Vec<String>,
}

impl Findings {
    fn see(&mut self, holds: bool, what: String) {
        if !holds {
            eprintln!("FAILED: {what}");
            self.wrong.push(what);
        }
    }
}

fn main() -> ExitCode {
    sandpool::init_with_native(native);
    let wanted: Vec<_> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()));
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let membership = Membership::new();
    let mut world = World::new();
    let mut findings = Findings::default();
    println!("{:42} {:>10}  held alone by", "attempt", "without");
    for attempt in ATTEMPTS.iter().filter(|attempt| is_wanted(attempt.name)) {
        let name = attempt.name;
        let whole = world.attempt(name, None, limits()).unwrap();
        // Where none of the layers can be had that would hold it, it says so below.
        let could_hold = attempt.alone.iter().any(|layer| world.has(*layer));
        findings.see(whole.holds() || !could_hold, format!("{name} in the whole jail: {whole:?}"));
        let without = world.attempt(name, Some(&[]), limits()).unwrap();
        if without != Verdict::Escaped {
            if nix::unistd::geteuid().is_root() {
                findings.see(false, format!("{name} without a jail doesn't succeed: {without:?}"));
            }
            findings.left_out.push(format!("{name}: this user may not do it anyway"));
            continue;
        }
        let mut held = Vec::new();
        for layer in attempt.alone {
            match world.attempt(name, Some(&alone(*layer)), limits()) {
                None => findings.left_out.push(format!("{name}: {layer} can't be had alone here")),
                Some(verdict) => {
                    findings.see(verdict.holds(), format!("{name} with {layer} alone: {verdict:?}"));
                    held.push(format!(
                        "{layer}{}",
                        if verdict == Verdict::Killed { " (killed)" } else { "" }
                    ));
                }
            }
        }
        println!("{name:42} {:>10}  {}", "escaped", held.join(", "));
    }
    for name in calls().filter(|name| is_wanted(name)) {
        let name = format!("call {name}");
        for only in [None, Some(&alone(Seccomp)[..])] {
            let verdict = world.attempt(&name, only, limits()).unwrap();
            findings.see(verdict == Verdict::Killed, format!("{name}, with {only:?}: {verdict:?}"));
        }
        let without = world.attempt(&name, Some(&[]), limits()).unwrap();
        findings.see(without == Verdict::Escaped, format!("{name} without a jail: {without:?}"));
    }
    if is_wanted("call") {
        println!(
            "{:42} {:>10}  {Seccomp} (killed)",
            format!("{} other system calls", calls().count()),
            "answered"
        );
    }
    for (name, test) in [
        ("read_an_inherited_descriptor", read_an_inherited_descriptor as fn(&mut World, &mut Findings)),
        ("compute_for_ever", compute_for_ever),
        ("write_all_over_the_arena", write_all_over_the_arena),
        ("write_all_over_a_pool", write_all_over_a_pool),
        ("write_for_ever", write_for_ever),
        ("fork_past_the_table", fork_past_the_table),
        ("fork_from_a_pool", fork_from_a_pool),
        ("take_over_the_compiler", take_over_the_compiler),
    ] {
        if is_wanted(name) {
            test(&mut world, &mut findings);
        }
    }
    for left_out in &findings.left_out {
        println!("left out: {left_out}");
    }
    if nix::unistd::geteuid().is_root() {
        println!("\nas an ordinary user");
        drop(world);
        if let Some(membership) = &membership {
            membership.give_to_nobody();
        }
        let wanted: Vec<_> = wanted.iter().map(String::as_str).collect();
        findings.see(holds_an_ordinary_user(&wanted), "an ordinary user".to_owned());
        if is_wanted("fork_past_the_table") {
            println!("\nas an ordinary user, where processes are hidden");
            let holds = where_processes_are_hidden(|| holds_an_ordinary_user(&["fork_past_the_table"]));
            findings.see(holds, "an ordinary user where processes are hidden".to_owned());
        }
    }
    println!("escape result: {}", if findings.wrong.is_empty() { "ok" } else { "FAILED" });
    ExitCode::from(u8::from(!findings.wrong.is_empty()))
}
