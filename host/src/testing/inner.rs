//! The parts that Sandpool is made of, each by itself and in one process, for `host/benches/inner` to measure.
#![allow(clippy::expect_used, reason = "nobody but tests and measurements calls this")]

use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use wasmtime::{InstancePre, Module, Store, TypedFunc};

use crate::config::Flavor;
use crate::engine::config;
use crate::imports;
use crate::ipc::arena::{Geometry, Participant};
use crate::ipc::process_table::Register;
use crate::ipc::queue::{self, Account, Port, QueueState};
use crate::ipc::sync::lock::{self, LockState};
use crate::ipc::waiting::Waiting;
use crate::ipc::{heap, object};
use crate::process::Guest;
use crate::sys::clone::{self, Fork, Parent};
use crate::sys::futex::Deadline;
use crate::sys::process::exit_now;
use crate::testing::alone::Alone;

/// Calls an import that does next to nothing, as often as its argument says.
const CALLER: &str = r#"(module
    (import "sandpool_process" "current" (func $current (result i64)))
    (memory (export "memory") 16)
    (func (export "calls") (param $count i32)
        (loop $again
            (drop (call $current))
            (br_if $again (local.tee $count (i32.sub (local.get $count) (i32.const 1)))))))"#;

/// One of each part.
pub struct Pieces {
    alone: Alone,
    queue: object::Handle,
    lock: object::Handle,
    module: InstancePre<Guest>,
    guest: Empty,
    calls: TypedFunc<i32, ()>,
}

/// A guest without an instance.
pub struct Empty(Store<Guest>);

impl Pieces {
    /// Makes the parts.
    ///
    /// # Panics
    /// If making one of the parts fails.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "it makes an arena, and compiles a module")]
    pub fn new() -> Self {
        let alone = Alone::new(Geometry { processes_max: 8, objects_max: 64, heap_pages: 1 << 14 });
        let engine = config::engine(Flavor::default()).expect("an engine");
        let module = Module::new(&engine, CALLER).expect("a valid module");
        let module = imports::resolve(&engine, &module, false).expect("all imports");
        let mut guest = Empty(Store::new(&engine, alone.guest()));
        let instance = module.instantiate(&mut guest.0).expect("an instance");
        let calls = instance.get_typed_func(&mut guest.0, "calls").expect("an export");
        let queue = queue::create(&alone.participant, 0, Account::Nothing).expect("a queue");
        let lock = lock::create(&alone.participant, false).expect("a lock");
        Self { queue, lock, module, guest, calls, alone }
    }

    fn participant(&self) -> &Participant {
        &self.alone.participant
    }

    /// Puts an item of 8 bytes, and gets it.
    pub fn queue(&self) {
        let found = object::resolve::<QueueState>(self.participant(), self.queue).expect("a queue");
        let port = Port { queue: found.state, object: found.index, waiting: Waiting::Get(found.index) };
        let mut item = [7; 8];
        queue::put(self.participant(), port, &item, &[], Deadline::NEVER).expect("room");
        queue::get(self.participant(), port, || false, &mut item, Deadline::NEVER).expect("an item");
    }

    /// Acquires a lock of the guest's, and releases it.
    pub fn lock(&self) {
        let found = || object::resolve::<LockState>(self.participant(), self.lock).expect("a lock");
        lock::acquire(self.participant(), found(), Deadline::NEVER).expect("nobody has it");
        lock::release(self.participant(), found()).expect("it is ours");
    }

    /// Takes a lock of the arena's own, with its journal, and gives it back.
    pub fn journaled_lock(&self) {
        let head = &self.participant().arena.header().expect("a header").heap;
        let guard = head.lock_word().lock(self.participant()).expect("nobody has it");
        guard.commit();
        guard.unlock();
    }

    /// Allocates a run of 64 KiB, and frees it.
    pub fn heap(&self) {
        let register = self.participant().slot().expect("a slot").register(Register::Segment);
        heap::allocate(self.participant(), 64 << 10, register).expect("room");
        heap::free(self.participant(), register).expect("a run");
    }

    /// Calls the host from WebAssembly this number of times.
    pub fn host_calls(&mut self, count: i32) {
        self.calls.call(&mut self.guest.0, count).expect("no trap");
    }

    /// A guest for [`instantiate`](Self::instantiate).
    #[must_use]
    pub fn empty(&self) -> Empty {
        Empty(Store::new(self.module.module().engine(), self.alone.guest()))
    }

    /// Instantiates a module whose imports are resolved, with a memory of 1 MiB.
    #[must_use]
    pub fn instantiate(&self, mut guest: Empty) -> Empty {
        self.module.instantiate(&mut guest.0).expect("an instance");
        guest
    }

    /// Forks this process, and waits for the end of the new process, which ends at once.
    pub fn fork(&self) {
        let pid = self.participant().arena.process_id(self.participant().index).expect("a slot");
        match clone::fork(Parent::Caller, pid).expect("a process") {
            Fork::Child => exit_now(0),
            Fork::Parent(child) => {
                waitpid(Pid::from_raw(child), None).expect("it ends");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_works_more_than_once() {
        let mut pieces = Pieces::new();
        for _ in 0..3 {
            pieces.queue();
            pieces.lock();
            pieces.journaled_lock();
            pieces.heap();
            pieces.host_calls(10);
            drop(pieces.instantiate(pieces.empty()));
            pieces.fork();
        }
        let found = object::resolve::<QueueState>(pieces.participant(), pieces.queue).expect("a queue");
        assert_eq!(found.state.size(), 0);
    }
}
