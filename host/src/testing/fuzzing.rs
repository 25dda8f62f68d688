//! Runs code that takes untrusted bytes with arbitrary bytes: for the fuzz targets, and for a short run of each in the tests. A
//! panic is a finding, and so is a run that never ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic is the finding"
)]
#![allow(clippy::disallowed_methods, reason = "nobody else has mapped what it looks at")]

use std::fmt::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::{Arc, LazyLock};

use sandpool_abi::{Import, ValueType};
use wasmtime::{Engine, InstancePre, Memory, Store, Val};

use crate::codec;
use crate::config::{AddressGrant, LimitKey, RunConfig, Sandbox, granted};
use crate::control;
use crate::engine::Inspection;
use crate::engine::known::{self, Function};
use crate::gateway::frames::{Frames, Next};
use crate::imports;
use crate::ipc::arena::{Arena, Geometry, Participant};
use crate::ipc::outside::{self, Chores};
use crate::ipc::process_table::Register;
use crate::ipc::{message, object};
use crate::process::{Guest, Held};
use crate::testing::alone::Alone;
use crate::wire;

const MEMORY_PAGES: u32 = 2;
const MEMORY: i64 = MEMORY_PAGES as i64 * 65_536;
/// A list of one part stands at 8: 256 bytes at 512.
const PART: &str = r"\00\02\00\00\00\01\00\00";
/// Calls in one sequence.
const CALLS_MAX: usize = 64;

static CALLER: LazyLock<InstancePre<Guest>> = LazyLock::new(|| {
    let (mut declared, mut exported) = (String::new(), String::new());
    for (index, import) in sandpool_abi::imports().enumerate() {
        let Import { module, name, .. } = import;
        let params = import.params.iter().fold(String::new(), |mut all, param| {
            let _ = write!(all, " {}", param.ty.value_type());
            all
        });
        let signature = format!("(param{params}) (result {})", import.result.value_type());
        let arguments: String = (0..import.params.len()).fold(String::new(), |mut all, at| {
            let _ = write!(all, "(local.get {at})");
            all
        });
        let _ = write!(declared, "(import \"{module}\" \"{name}\" (func $f{index} {signature}))");
        let _ = write!(exported, "(func (export \"{index}\") {signature} (call $f{index} {arguments}))");
    }
    let text = format!(
        "(module {declared} (memory (export \"memory\") {MEMORY_PAGES}) (data (i32.const 8) \"{PART}\") {exported})"
    );
    let engine = Engine::default();
    let module = wasmtime::Module::new(&engine, text).expect("a valid module");
    imports::resolve(&engine, &module, false).expect("all imports")
});

/// Calls that depend on each other: every other call is one of them.
const OFTEN: [(&str, &str); 25] = [
    ("sandpool_queue", "create"),
    ("sandpool_queue", "put"),
    ("sandpool_queue", "get"),
    ("sandpool_queue", "take"),
    ("sandpool_pipe", "create"),
    ("sandpool_pipe", "send"),
    ("sandpool_pipe", "recv"),
    ("sandpool_sync", "lock_create"),
    ("sandpool_sync", "lock_acquire"),
    ("sandpool_sync", "semaphore_create"),
    ("sandpool_sync", "condition_create"),
    ("sandpool_sync", "condition_wait"),
    ("sandpool_sync", "barrier_create"),
    ("sandpool_sync", "barrier_wait"),
    ("sandpool_shared", "create"),
    ("sandpool_shared", "map"),
    ("sandpool_shared", "read"),
    ("sandpool_shared", "load"),
    ("sandpool_shared", "store"),
    ("sandpool_shared", "rmw"),
    ("sandpool_shared", "compare_exchange"),
    ("sandpool_sync", "condition_notify"),
    ("sandpool_queue", "put_parts"),
    ("sandpool_pipe", "send_parts"),
    ("sandpool_queue", "peek"),
];

/// The import layer: makes the calls that `data` says, and returns the imports that succeeded: module and name.
///
/// The input is a sequence of calls: which import, and for each argument how it is made. A module that exports one function for
/// each import passes the calls on, so that they come from wasm as a guest's do. No argument of a guest may make the host lose
/// anything: at the end, when everything that the process holds is given back, the arena is empty.
///
/// # Panics
///
/// If the host panics, or if something is left in the arena: these are the findings.
pub fn imports(data: &[u8]) -> Vec<(&'static str, &'static str)> {
    let mut input = Input(data);
    // As a guest process has it, for functions of the library that tell whether a descriptor is open.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _entered = runtime.enter();
    // There is only one process: a fork or spawn is refused after all its checks, and nothing waits for a supervisor.
    let alone = Alone::new(Geometry { processes_max: 1, objects_max: 8, heap_pages: 64 });
    let (arena, participant, handle) =
        (alone.participant.arena.clone(), alone.participant.clone(), alone.handle);
    outside::create_requests(&arena).expect("a queue");
    let mut guest = alone.guest();
    guest.process.has_gateway = true;
    let mut store = Store::new(CALLER.module().engine(), guest);
    let instance = CALLER.instantiate(&mut store).expect("an instance");
    let memory = instance.get_memory(&mut store, "memory").expect("a memory");
    store.data_mut().memory = Some(memory);

    let all: Vec<_> = sandpool_abi::imports().collect();
    let mut handles = vec![handle.0 as i64];
    let mut succeeded = Vec::new();
    for _ in 0..CALLS_MAX {
        let Some(choice) = input.byte() else { break };
        // Every other call is one of those that depend on each other.
        let index = match choice {
            0..128 => usize::from(choice) % all.len(),
            _ => {
                let (module, name) = OFTEN[usize::from(choice - 128) % OFTEN.len()];
                let wanted = |import: &&Import| import.module == module && import.name == name;
                all.iter().position(wanted).expect("an import")
            }
        };
        let import = all[index];
        let function = instance.get_func(&mut store, &index.to_string()).expect("an export");
        let mut arguments: Vec<Val> =
            import.params.iter().map(|param| input.argument(param.ty.value_type(), &handles)).collect();
        wait_for_nobody(import, &mut arguments);
        let mut results =
            [if import.result.value_type() == ValueType::I32 { Val::I32(0) } else { Val::I64(0) }];
        let called = function.call(&mut store, &arguments, &mut results);
        // Some imports return all 64 bits as their result, so these have no room for an errno.
        let may_trap = ["load", "store", "rmw", "compare_exchange"].contains(&import.name);
        match results[0] {
            _ if called.is_err() => assert!(may_trap, "{} is to answer with an errno", import.name),
            Val::I32(0) => {
                succeeded.push((import.module, import.name));
                handles.extend(written(import, &arguments, &memory, &store));
            }
            Val::I64(value) if value >= 0 => {
                succeeded.push((import.module, import.name));
                let is_descriptor = import.module == sandpool_abi::descriptor::MODULE;
                if import.name.ends_with("create")
                    || (import.name == "open" && !is_descriptor)
                    || import.name == "handle"
                {
                    handles.push(value);
                    // Imports look here for a list of handles, or for a few bytes. All of the memory may be mapped by now.
                    let _ = memory.write(&mut store, 0, &value.to_le_bytes());
                }
            }
            _ => {}
        }
    }

    give_all_back(&mut store, &participant);
    assert_nothing_is_left(&arena);
    succeeded
}

/// Gives back all that the guest's process holds, as its end does.
fn give_all_back(store: &mut Store<Guest>, participant: &Participant) {
    let process = &mut store.data_mut().process;
    if let Some(Held::Message(_)) = process.held.take() {
        message::discard(
            participant,
            participant.slot().expect("a slot").register(Register::Incoming),
            &mut Vec::new(),
        )
        .expect("a message");
    }
    for handle in process.holds.keys() {
        object::release(participant, *handle).expect("a hold");
    }
}

fn assert_nothing_is_left(arena: &Arc<Arena>) {
    // Requests to the gateway go with it.
    let mut chores = Chores::new();
    chores.release(outside::REQUESTS);
    while chores.work(&outside::gateway(arena.clone()), 64).expect("no lock is held") {}
    // Objects that hold themselves, by a message in them, are left: a cycle. They hold only their own pages and those of their
    // messages.
    let live = object::count_live(arena).expect("a table");
    let used = arena.header().expect("a header").heap.used_pages();
    assert!(live > 0 || used == 0, "{used} pages are left");
}

/// Changes the arguments of a call that may wait so that it doesn't: nobody would end the wait.
fn wait_for_nobody(import: &Import, arguments: &mut [Val]) {
    let timeout = match import.name {
        "put" | "put_parts" | "put_many" | "get_many" | "finish" | "finish_parts" | "send" | "send_parts"
        | "join" | "lock_acquire" | "semaphore_acquire" | "event_wait" | "condition_wait"
        | "barrier_wait" => arguments.len() - 1,
        "get" | "recv" => 3,
        "wait" => 2,
        _ => return,
    };
    arguments[timeout] = Val::I64(0);
}

/// The handles that a call which succeeded has written to the guest's memory.
fn written(import: &Import, arguments: &[Val], memory: &Memory, store: &Store<Guest>) -> Vec<i64> {
    let (at, count) = match (import.module, import.name) {
        (sandpool_abi::connection::MODULE, _) => (3, 1),
        (sandpool_abi::pipe::MODULE, "create") => (2, 2),
        _ => return Vec::new(),
    };
    let at = arguments[at].unwrap_i32() as u32 as usize;
    let mut ends = vec![0; 8 * count];
    memory.read(store, at, &mut ends).expect("what was just written");
    ends.as_chunks::<8>().0.iter().map(|end| i64::from_le_bytes(*end)).collect()
}

/// The arena: damages an arena as `data` says, uses it, and sweeps up in it.
pub fn arena(data: &[u8]) {
    crate::ipc::tests::damage::case(data, 1);
}

/// A configuration file. An accepted file can be shown, and is the same when it is read again.
///
/// # Panics
///
/// If the file isn't the same.
pub fn limits(data: &[u8]) -> bool {
    let sandbox = std::str::from_utf8(data).ok().and_then(|text| Sandbox::from_toml(text).ok());
    let Some(Sandbox { limits, .. }) = sandbox else { return false };
    let shown: String = LimitKey::ALL
        .iter()
        .map(|key| format!("limits.{} = '{}'\n", key.name, limits.get(key.name).expect("a limit")))
        .collect();
    let again = Sandbox::from_toml(&shown).expect("what was shown");
    assert_eq!(again.limits, limits, "{shown}");
    true
}

/// The control protocol, and results of tasks: messages of any bytes, in either direction. An accepted message is encoded as one
/// that means the same. Returns whether the message was accepted.
///
/// # Panics
///
/// If the message isn't the same.
pub fn control(data: &[u8]) -> bool {
    fn stays<T: serde::Serialize + serde::de::DeserializeOwned>(bytes: &[u8]) -> bool {
        let Ok(message) = codec::decode::<T>(bytes) else { return false };
        let encoded = codec::encode(&message).expect("what was decoded");
        let again = codec::decode_all::<T>(&encoded).expect("what was encoded");
        assert_eq!(codec::encode(&again).expect("what was decoded"), encoded);
        true
    }
    let Some((kind, bytes)) = data.split_first() else { return false };
    match kind % 6 {
        0 => stays::<RunConfig>(bytes),
        1 => stays::<control::Reply>(bytes),
        2 => stays::<control::Request>(bytes),
        3 => stays::<wire::Setup>(bytes),
        // Values that applications use for tasks.
        4 => stays::<Vec<(String, Option<Vec<u8>>, u128)>>(bytes),
        _ => {
            let (ours, theirs) = control::pair().expect("two sockets");
            let bytes = bytes.get(..60_000).unwrap_or(bytes);
            if bytes.is_empty() {
                return false;
            }
            nix::sys::socket::send(theirs.as_raw_fd(), bytes, nix::sys::socket::MsgFlags::empty())
                .expect("room");
            control::receive_message::<control::Reply>(ours.as_fd()).is_ok()
        }
    }
}

/// The gateway: bytes that come from outside, and what guests ask for. Returns whether there was a message, or a granted address.
///
/// # Panics
///
/// If the messages depend on the pieces in which their bytes come, if a message is longer than allowed, or if an address is granted
/// by a grant that isn't read as it is written.
pub fn connections(data: &[u8]) -> bool {
    const MAX: u64 = 1000;
    let Some((piece, bytes)) = data.split_first() else { return false };
    let messages = |piece: usize| {
        let mut frames = Frames::new(MAX);
        let (mut found, mut is_bad) = (Vec::new(), false);
        for piece in bytes.chunks(piece) {
            let filled = frames.fill(piece.len(), |room| {
                room.copy_from_slice(piece);
                Ok(piece.len())
            });
            assert_eq!(filled.expect("bytes"), piece.len());
            while !is_bad && let Ok(Next::Whole(place)) = frames.next() {
                found.push(frames.message(&place).to_vec());
                frames.advance(&place);
            }
            is_bad |= frames.next().is_err();
        }
        (found, is_bad)
    };
    let (found, is_bad) = messages(usize::from(*piece).max(1));
    assert_eq!((&found, is_bad), (&messages(bytes.len().max(1)).0, is_bad));
    assert!(found.iter().all(|message| message.len() as u64 <= MAX));
    let _ = codec::decode_all::<wire::Asked>(bytes);
    let text = String::from_utf8_lossy(bytes);
    let Ok(grant) = text.parse::<AddressGrant>() else { return !found.is_empty() };
    assert_eq!(grant.to_string().parse::<AddressGrant>().expect("what was written"), grant);
    let _ = granted(&[grant], &text, "");
    true
}

/// The records in the queues of a pool: tasks and results. An accepted record is the same when it is written again.
///
/// # Panics
///
/// If the record isn't the same.
pub fn records(data: &[u8]) -> bool {
    let mut bytes = Vec::new();
    let task = wire::TaskRecord::decode(data);
    if let Some(record) = task {
        record.encode(&mut bytes);
        assert_eq!(wire::TaskRecord::decode(&bytes), Some(record));
    }
    let result = wire::ResultRecord::decode(data);
    if let Some(record) = result {
        record.encode(&mut bytes);
        assert_eq!(bytes, data);
    }
    task.is_some() || result.is_some()
}

/// A module, as far as it is read without being compiled. Returns whether the bytes are a module.
pub fn module(data: &[u8]) -> bool {
    static KNOWN: LazyLock<Vec<Function>> = LazyLock::new(|| known::functions().expect("the imports"));
    Inspection::from_wasm(&KNOWN, data).is_ok()
}

/// The rest of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn number(&mut self) -> i64 {
        (0..8).fold(0, |number, _| number << 8 | i64::from(self.byte().unwrap_or(0)))
    }

    /// An argument: any bits, something small, something at the edge of the memory, or a handle that exists.
    fn argument(&mut self, ty: ValueType, handles: &[i64]) -> Val {
        let kind = self.byte().unwrap_or(0) % 8;
        let value = match (kind, ty) {
            (0, _) => self.number(),
            (1, _) => -1,
            (2, ValueType::I64) => i64::from(self.byte().unwrap_or(0)),
            (4, ValueType::I64) => i64::from(self.byte().unwrap_or(0) % 4),
            // The newest handle comes first.
            (_, ValueType::I64) => {
                handles[handles.len() - 1 - usize::from(self.byte().unwrap_or(0)) % handles.len().min(3)]
            }
            (2, _) => MEMORY - i64::from(self.byte().unwrap_or(0)),
            (3, _) => i64::from(self.byte().unwrap_or(0)) << 8,
            // A list of one handle is at 0.
            (4, _) => 0,
            (5, _) => 1,
            // The first mapping begins here.
            (6, _) => MEMORY,
            _ => i64::from(self.byte().unwrap_or(0)),
        };
        if ty == ValueType::I32 { Val::I32(value as i32) } else { Val::I64(value) }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    /// This number of inputs, the same ones each time.
    fn random(count: usize, len: usize) -> impl Iterator<Item = Vec<u8>> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        std::iter::repeat_with(move || {
            let byte = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            };
            std::iter::repeat_with(byte).take(len).collect()
        })
        .take(count)
    }

    /// The inputs that a fuzz target starts from.
    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let folder = format!("{}/../tests/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let seeds: Vec<_> = fs::read_dir(folder)
            .expect("a corpus")
            .map(|seed| fs::read(seed.expect("a seed").path()).expect("bytes"))
            .collect();
        assert!(!seeds.is_empty(), "{target} has no seeds");
        seeds
    }

    /// Runs a target for each seed, and for each seed with some bytes changed. Most seeds must be accepted: messages of the control
    /// protocol change with the program, whose two ends are the same.
    fn seeds_and_what_comes_of_them(name: &str, target: fn(&[u8]) -> bool, rounds: usize) {
        let seeds = corpus(name);
        let accepted = seeds.iter().filter(|seed| target(seed)).count();
        assert!(accepted * 2 > seeds.len(), "of {} seeds of {name}, {accepted} are accepted", seeds.len());
        for seed in seeds {
            for changes in random(rounds, 12) {
                let mut input = seed.clone();
                for change in changes.as_chunks::<3>().0.iter().take(usize::from(changes[0] % 4) + 1) {
                    let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % input.len();
                    match change[2] {
                        0..16 => drop(input.remove(at)),
                        16..32 => input.insert(at, changes[1]),
                        32..40 => input.truncate(at + 1),
                        // Bytes from 251 on, more often than by chance.
                        40..56 => input[at] = 251 + changes[2] % 5,
                        other => input[at] = other,
                    }
                    if input.is_empty() {
                        break;
                    }
                }
                target(&input);
            }
        }
    }

    #[test]
    fn any_configuration_is_answered() {
        seeds_and_what_comes_of_them("limits", super::limits, 3000);
        for input in random(1000, 100) {
            super::limits(&input);
        }
    }

    #[test]
    fn any_message_is_answered() {
        seeds_and_what_comes_of_them("control", super::control, 5000);
        for input in random(20_000, 60) {
            super::control(&input);
        }
    }

    #[test]
    fn any_bytes_from_outside_are_answered() {
        seeds_and_what_comes_of_them("connections", super::connections, 5000);
        for input in random(20_000, 60) {
            super::connections(&input);
        }
    }

    #[test]
    fn any_record_is_answered() {
        seeds_and_what_comes_of_them("records", super::records, 5000);
        for input in random(20_000, 40) {
            super::records(&input);
        }
    }

    #[test]
    fn any_module_is_answered() {
        seeds_and_what_comes_of_them("modules", super::module, 60);
        for input in random(1000, 200) {
            super::module(&input);
            super::module(&[b"\0asm\x01\0\0\0", &input[..]].concat());
        }
    }

    #[test]
    fn any_damage_that_bytes_ask_for_is_borne() {
        for seed in corpus("arena") {
            super::arena(&seed);
        }
        for input in random(300, 800) {
            super::arena(&input);
        }
    }

    /// The sequences that the fuzz target starts from do what they are meant to do.
    #[test]
    fn the_corpus_is_answered() {
        let mut succeeded = std::collections::BTreeSet::new();
        for seed in corpus("imports") {
            succeeded.extend(super::imports(&seed));
        }
        for called in super::OFTEN {
            assert!(succeeded.contains(&called), "{called:?} never succeeded");
        }
    }

    /// Runs the fuzz target for a short while, with the same sequences each time.
    #[test]
    fn any_calls_of_a_guest_are_answered() {
        let mut succeeded = std::collections::BTreeSet::new();
        for data in random(40_000, 600) {
            succeeded.extend(super::imports(&data));
        }
        // The sequences must not see only errors. Some imports need another process; and a count that an import returns is no
        // status.
        let exceptions = [
            (
                "sandpool_process",
                "fork spawn entry entry_handles join status signal close detach cpu_count stderr",
            ),
            ("sandpool_sync", "barrier_release"),
            ("sandpool_queue", "task_done"),
            ("sandpool_shared", "open unlink unmap view write"),
            ("sandpool_shelf", "read change"),
            ("sandpool_handle", "record"),
            ("sandpool_descriptor", "handle open"),
            ("sandpool_task", "begin follow finish finish_parts claims kill input output"),
        ];
        let may_fail = |import: &sandpool_abi::Import| {
            let of_module = |(module, _): &&(&str, &str)| *module == import.module;
            exceptions
                .iter()
                .find(of_module)
                .is_some_and(|(_, all)| all.split(' ').any(|name| name == import.name))
        };
        let never: Vec<_> = sandpool_abi::imports()
            .filter(|import| !may_fail(import))
            .map(|import| (import.module, import.name))
            // The corpus has sequences for imports that depend on others.
            .filter(|called| !succeeded.contains(called) && !super::OFTEN.contains(called))
            .collect();
        assert_eq!(never, [], "they never succeeded");
    }
}
