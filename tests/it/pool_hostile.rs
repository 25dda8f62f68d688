//! Tasks that use what Sandpool gives them as weapons against their pool: the imports, in plain WebAssembly. Exactly the
//! task fails that does so, and the pool can always be ended.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::time::{Duration, Instant};

use sandpool::limits::Limit;
use sandpool::pool::{Builder, Failure, Format, Isolation, PoolEnd, TaskFuture};
use sandpool::{Limits, Module, Pool, Sandbox};

use crate::procfs;
use crate::support::{Run, deadline, load_text, sandpool};

const ISOLATIONS: [Isolation; 2] = [Isolation::Worker, Isolation::Task];

const TIMEOUT: Duration = Duration::from_millis(500);

/// The handles of a pool's queues: they are the first two objects of the arena.
const TASKS: u64 = 0x1_0000_0001;
const RESULTS: u64 = 0x1_0000_0002;

/// Each task reports what wasn't refused as `BADF`: pairs of bytes, which call and what it returned.
fn text() -> String {
    let setup: String = [
        // Isolation, output, bytes of output, tasks, no initializer: then the queues.
        &[0_u8; 8] as &[u8],
        &(1_u64 << 20).to_le_bytes(),
        &[0; 9],
        &TASKS.to_le_bytes(),
        &RESULTS.to_le_bytes(),
    ]
    .concat()
    .iter()
    .map(|byte| format!("\\{byte:02x}"))
    .collect();
    let text = r#"(module
        (import "sandpool_task" "input" (func $input (param i32 i32) (result i64)))
        (import "sandpool_task" "output" (func $output (param i32 i32) (result i32)))
        (import "sandpool_task" "begin" (func $begin (param i32) (result i32)))
        (import "sandpool_task" "follow" (func $follow (param i64) (result i32)))
        (import "sandpool_task" "finish" (func $finish (param i64 i32 i32 i32 i32 i64) (result i32)))
        (import "sandpool_task" "finish_parts" (func $finish_parts (param i64 i32 i32 i32 i32 i64) (result i32)))
        (import "sandpool_task" "claims" (func $claims (param i64 i32) (result i32)))
        (import "sandpool_task" "kill" (func $kill (param i64 i64) (result i32)))
        (import "sandpool_queue" "create" (func $create (param i64 i32) (result i64)))
        (import "sandpool_queue" "put" (func $put (param i64 i32 i32 i32 i32 i64) (result i32)))
        (import "sandpool_queue" "get" (func $get (param i64 i32 i32 i64 i32) (result i32)))
        (import "sandpool_queue" "put_many" (func $put_many (param i64 i32 i32 i32 i32 i64) (result i64)))
        (import "sandpool_queue" "get_many" (func $get_many (param i64 i32 i32 i32 i32 i64) (result i64)))
        (import "sandpool_queue" "peek" (func $peek (param i32 i32) (result i64)))
        (import "sandpool_queue" "qsize" (func $qsize (param i64) (result i64)))
        (import "sandpool_queue" "maxsize" (func $maxsize (param i64) (result i64)))
        (import "sandpool_queue" "close" (func $close (param i64) (result i32)))
        (import "sandpool_queue" "task_done" (func $task_done (param i64) (result i32)))
        (import "sandpool_queue" "join" (func $join (param i64 i64) (result i64)))
        (import "sandpool_handle" "retain" (func $retain (param i64) (result i32)))
        (import "sandpool_handle" "release" (func $release (param i64) (result i32)))
        (import "sandpool_handle" "wait" (func $wait (param i32 i32 i64 i32) (result i64)))
        (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
        (import "sandpool_process" "spawn" (func $spawn (param i32 i32 i32 i32 i32 i32 i32) (result i64)))
        (import "sandpool_process" "parent" (func $parent (result i64)))
        (import "sandpool_process" "signal" (func $signal (param i64 i32) (result i32)))
        (import "sandpool_process" "close" (func $forget (param i64) (result i32)))
        (import "sandpool_process" "status" (func $status (param i64 i32) (result i32)))
        (import "sandpool_process" "stderr" (func $stderr (param i64 i32 i32) (result i64)))
        (import "sandpool_process" "detach" (func $detach (param i64) (result i32)))
        (import "sandpool_shared" "create" (func $share (param i64 i32 i32 i32) (result i64)))
        (import "sandpool_shared" "open" (func $open (param i32 i32) (result i64)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 8)
        (global $reported (mut i32) (i32.const 0))
        (global $kept (mut i64) (i64.const 0))
        (data (i32.const 60000) "SETUP")
        (func (export "_start"))

        (func $note (param $call i32) (param $errno i32)
            (if (i32.ne (local.get $errno) (i32.const 9)) (then
                (i32.store8 offset=32768 (global.get $reported) (local.get $call))
                (i32.store8 offset=32769 (global.get $reported) (local.get $errno))
                (global.set $reported (i32.add (global.get $reported) (i32.const 2))))))
        (func $note64 (param $call i32) (param $value i64)
            (call $note (local.get $call)
                (select (i32.wrap_i64 (i64.sub (i64.const 0) (local.get $value))) (i32.const 0)
                    (i64.lt_s (local.get $value) (i64.const 0)))))
        (func $report (result i32)
            (drop (call $output (i32.const 32768) (global.get $reported)))
            (global.set $reported (i32.const 0))
            (i32.const 0))
        (func $spin (loop $l (br $l)))
        (func $pass (param $n i32)
            (loop $l (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))

        (func (export "sandpool_task_echo") (param i32 i32) (result i32)
            (drop (call $input (i32.const 1024) (i32.const 30000)))
            (drop (call $output (i32.const 1024) (local.get 1))) (i32.const 0))

        ;; tries all that takes a handle with one
        (func $try (param $h i64)
            (i64.store (i32.const 512) (local.get $h))
            (i32.store (i32.const 520) (i32.const 1))
            (call $note64 (i32.const 1) (call $qsize (local.get $h)))
            (call $note64 (i32.const 2) (call $maxsize (local.get $h)))
            (call $note (i32.const 3) (call $get (local.get $h) (i32.const 1024) (i32.const 1024) (i64.const 0) (i32.const 528)))
            (call $note64 (i32.const 4)
                (call $get_many (local.get $h) (i32.const 1024) (i32.const 1024) (i32.const 524) (i32.const 1) (i64.const 0)))
            (call $note (i32.const 5) (call $put (local.get $h) (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0) (i64.const 0)))
            (call $note64 (i32.const 6)
                (call $put_many (local.get $h) (i32.const 0) (i32.const 1) (i32.const 520) (i32.const 1) (i64.const 0)))
            (call $note (i32.const 7) (call $task_done (local.get $h)))
            (call $note64 (i32.const 8) (call $join (local.get $h) (i64.const 0)))
            (call $note (i32.const 9) (call $retain (local.get $h)))
            (call $note64 (i32.const 10) (call $wait (i32.const 512) (i32.const 1) (i64.const 0) (i32.const 528)))
            (call $note (i32.const 11) (call $close (local.get $h)))
            (call $note (i32.const 12) (call $release (local.get $h))))
        (func (export "sandpool_task_reach") (param i32 i32) (result i32) (local $g i64) (local $i i64)
            (loop $generations
                (local.set $g (i64.add (local.get $g) (i64.const 0x100000000)))
                (local.set $i (i64.const 0))
                (loop $slots
                    (local.set $i (i64.add (local.get $i) (i64.const 1)))
                    (call $try (i64.or (local.get $g) (local.get $i)))
                    (br_if $slots (i64.lt_u (local.get $i) (i64.const 40))))
                (br_if $generations (i64.lt_u (local.get $g) (i64.const 0x300000000))))
            (call $report))

        ;; sends one to itself, and to others
        (func $send (param $h i64) (param $own i64)
            (i64.store (i32.const 512) (local.get $h))
            (call $note (i32.const 21)
                (call $put (local.get $own) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 1) (i64.const 0)))
            (call $note64 (i32.const 22)
                (call $spawn (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 60000) (i32.const 41) (i32.const 512) (i32.const 1))))
        (func (export "sandpool_task_send") (param i32 i32) (result i32) (local $own i64)
            (local.set $own (call $create (i64.const 0) (i32.const 0)))
            (call $send (i64.const 0x100000001) (local.get $own))
            (call $send (i64.const 0x100000002) (local.get $own))
            (drop (call $release (local.get $own)))
            (call $report))

        ;; spawns what is told to be a worker
        (func (export "sandpool_task_impostor") (param i32 i32) (result i32) (local $child i64)
            (i64.store (i32.const 512) (i64.const 0x100000001))
            (i64.store (i32.const 520) (i64.const 0x100000002))
            (call $note64 (i32.const 23)
                (call $spawn (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 60000) (i32.const 41) (i32.const 512) (i32.const 2)))
            (drop (call $spawn (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 60000) (i32.const 41) (i32.const 512) (i32.const 0)))
            (call $pass (i32.const 200000000))
            (call $report))
        ;; whose child does this task
        (func (export "sandpool_task_who") (param i32 i32) (result i32)
            (i64.store (i32.const 0) (call $parent))
            (drop (call $output (i32.const 0) (i32.const 8))) (i32.const 0))

        ;; what serves the pools of guests, in a task of the host's
        (func (export "sandpool_task_claim") (param i32 i32) (result i32) (local $own i64)
            (local.set $own (call $create (i64.const 0) (i32.const 2)))
            (drop (call $put (local.get $own) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0)))
            (call $note (i32.const 31) (call $begin (i32.const 0)))
            (call $note (i32.const 32) (call $get (local.get $own) (i32.const 0) (i32.const 8) (i64.const 0) (i32.const 528)))
            (call $note64 (i32.const 33)
                (call $get_many (local.get $own) (i32.const 0) (i32.const 8) (i32.const 524) (i32.const 1) (i64.const 0)))
            (call $note (i32.const 34)
                (call $finish (local.get $own) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0)))
            (call $note (i32.const 35)
                (call $finish_parts (local.get $own) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0)))
            (call $note (i32.const 36) (call $follow (local.get $own)))
            (call $note (i32.const 37) (call $begin (i32.const 0)))
            (drop (call $release (local.get $own)))
            (call $report))
        ;; gives its claim up into a queue of its own; goes on for ever; begins anew all the time
        (func $lose (drop (call $finish (call $create (i64.const 0) (i32.const 0))
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0))))
        (func (export "sandpool_task_lost") (param i32 i32) (result i32) (call $lose) (i32.const 0))
        (func (export "sandpool_task_spin") (param i32 i32) (result i32) (call $lose) (call $spin) (i32.const 0))
        (func (export "sandpool_task_late") (param i32 i32) (result i32)
            (loop $l (drop (call $begin (i32.const 0))) (br $l)) (i32.const 0))
        ;; puts results of its own, of which there is no end
        (func (export "sandpool_task_flood") (param i32 i32) (result i32)
            (i32.store (i32.const 16) (i32.const 7))
            (loop $l (br_if $l (i32.eqz
                (call $put (i64.const 0x100000002) (i32.const 0) (i32.const 28) (i32.const 0) (i32.const 0) (i64.const -1)))))
            (call $report))
        ;; asks about, and kills, the worker and the owner
        (func (export "sandpool_task_relatives") (param i32 i32) (result i32) (local $i i64)
            (loop $l
                (call $relative (i64.or (i64.const 0x80000001) (local.get $i)))
                (call $relative (i64.or (i64.const 0x180000001) (local.get $i)))
                (local.set $i (i64.add (local.get $i) (i64.const 1)))
                (br_if $l (i64.lt_u (local.get $i) (i64.const 8))))
            (call $report))
        (func $relative (param $h i64)
            (call $note (i32.const 41) (call $known (call $claims (local.get $h) (i32.const 512))))
            (call $note (i32.const 42) (call $known (call $kill (local.get $h) (i64.const 1))))
            (call $note (i32.const 43) (call $known (call $signal (local.get $h) (i32.const 9))))
            (call $note (i32.const 44) (call $known (call $forget (local.get $h))))
            (call $note (i32.const 45) (call $known (call $detach (local.get $h))))
            (call $note (i32.const 46) (call $known (call $status (local.get $h) (i32.const 512))))
            (call $note (i32.const 47)
                (call $known (i32.wrap_i64 (i64.sub (i64.const 0) (call $stderr (local.get $h) (i32.const 512) (i32.const 64)))))))
        ;; that it is no child is as good an answer
        (func $known (param $errno i32) (result i32)
            (select (i32.const 9) (local.get $errno) (i32.eq (local.get $errno) (i32.const 10))))

        ;; both sides of a fork come back from the task, the child soon or late
        (func $fork_back (param $passes i32)
            (i32.store (i32.const 0) (i32.const 1))
            (if (i64.eqz (call $fork (i32.const 0) (i32.const 0) (i32.const 0))) (then
                (i32.store (i32.const 0) (i32.const 2))
                (if (local.get $passes) (then (call $pass (local.get $passes))))))
            (drop (call $output (i32.const 0) (i32.const 4))))
        (func (export "sandpool_task_back") (param i32 i32) (result i32) (call $fork_back (i32.const 0)) (i32.const 0))
        (func (export "sandpool_task_back_late") (param i32 i32) (result i32)
            (call $fork_back (i32.const 10000000)) (i32.const 0))
        ;; leaves a child behind that doesn't end: of its own, daemonic, detached, and by exit
        (func $leave (param $flags i32) (result i64) (local $child i64)
            (local.set $child (call $fork (i32.const 0) (i32.const 0) (local.get $flags)))
            (if (i64.eqz (local.get $child)) (then (call $spin)))
            (local.get $child))
        (func (export "sandpool_task_leave") (param i32 i32) (result i32) (drop (call $leave (i32.const 0))) (i32.const 0))
        (func (export "sandpool_task_leave_detached") (param i32 i32) (result i32)
            (drop (call $detach (call $leave (i32.const 0)))) (i32.const 0))
        (func (export "sandpool_task_leave_exit") (param i32 i32) (result i32)
            (drop (call $leave (i32.const 0))) (call $exit (i32.const 3)) (i32.const 0))
        (func (export "sandpool_task_leave_trap") (param i32 i32) (result i32)
            (drop (call $leave (i32.const 0))) unreachable)
        (func (export "sandpool_task_leave_deep") (param i32 i32) (result i32)
            (if (i64.eqz (call $fork (i32.const 0) (i32.const 0) (i32.const 0))) (then (drop (call $leave (i32.const 0)))))
            (i32.const 0))
        (func (export "sandpool_task_leave_daemon") (param i32 i32) (result i32)
            (drop (call $leave (i32.const 1))) (i32.const 0))
        ;; a child that ends at once, and that nobody asks about; what fork says is the output
        (func (export "sandpool_task_child") (param i32 i32) (result i32) (local $child i64)
            (local.set $child (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))
            (if (i64.eqz (local.get $child)) (then (call $exit (i32.const 0))))
            (call $note64 (i32.const 51) (local.get $child))
            (if (i64.ge_s (local.get $child) (i64.const 0)) (then (global.set $reported (i32.const 0))))
            (call $report))

        ;; forks whatever it can
        (func (export "sandpool_task_bomb") (param i32 i32) (result i32)
            (loop $l (drop (call $leave (i32.const 0))) (br $l)) (i32.const 0))
        ;; makes whatever it can
        (func (export "sandpool_task_grab") (param i32 i32) (result i32)
            (loop $l (br_if $l (i64.gt_s (call $create (i64.const 0) (i32.const 0)) (i64.const 0))))
            (call $spin) (i32.const 0))
        (func (export "sandpool_task_make") (param i32 i32) (result i32) (local $own i64)
            (local.set $own (call $create (i64.const 0) (i32.const 0)))
            (call $note64 (i32.const 91) (local.get $own))
            (drop (call $release (local.get $own)))
            (call $report))

        ;; receives what it doesn't take
        (func (export "sandpool_task_hold") (param i32 i32) (result i32) (local $own i64)
            (local.set $own (call $create (i64.const 0) (i32.const 0)))
            (drop (call $put (local.get $own) (i32.const 0) (i32.const 30000) (i32.const 0) (i32.const 0) (i64.const 0)))
            (drop (call $get (local.get $own) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 528)))
            (drop (call $release (local.get $own))) (i32.const 0))
        (func (export "sandpool_task_held") (param i32 i32) (result i32)
            (call $note64 (i32.const 61) (call $peek (i32.const 1024) (i32.const 30000)))
            (call $report))
        ;; keeps a queue in which there is all that has room
        (func (export "sandpool_task_hoard") (param i32 i32) (result i32) (call $hoard) (i32.const 0))
        (func (export "sandpool_task_hoard_and_spin") (param i32 i32) (result i32) (call $hoard) (call $spin)
            (i32.const 0))
        (func (export "sandpool_task_hoard_and_say") (param i32 i32) (result i32) (call $hoard)
            (drop (call $output (i32.const 0) (i32.const 30000))) (i32.const 0))
        (func $hoard
            (if (i64.eqz (global.get $kept)) (then (global.set $kept (call $create (i64.const 0) (i32.const 0)))))
            (call $fill (i32.const 200000)) (call $fill (i32.const 60000))
            (call $fill (i32.const 20000)) (call $fill (i32.const 9000)))
        (func $fill (param $len i32)
            (loop $l (br_if $l (i32.eqz
                (call $put (global.get $kept) (i32.const 0) (local.get $len) (i32.const 0) (i32.const 0) (i64.const 0))))))
        ;; a name, as the input says
        (func (export "sandpool_task_name") (param i32 i32) (result i32)
            (drop (call $input (i32.const 1024) (i32.const 30000)))
            (call $note64 (i32.const 71) (call $share (i64.const 100000) (i32.const 0) (i32.const 1024) (local.get 1)))
            (call $report))
        ;; and traps, if nobody has refused it
        (func (export "sandpool_task_name_and_trap") (param i32 i32) (result i32)
            (drop (call $input (i32.const 1024) (i32.const 30000)))
            (if (i64.gt_s (call $share (i64.const 100000) (i32.const 0) (i32.const 1024) (local.get 1)) (i64.const 0))
                (then (unreachable)))
            (i32.const 0))
        (func (export "sandpool_task_named") (param i32 i32) (result i32)
            (drop (call $input (i32.const 1024) (i32.const 30000)))
            (call $note64 (i32.const 72) (call $open (i32.const 1024) (local.get 1)))
            (call $report))
        ;; a queue that holds itself, and two that hold each other
        (func $hold_each_other (param $a i64) (param $b i64)
            (i64.store (i32.const 512) (local.get $b))
            (call $note (i32.const 81)
                (call $put (local.get $a) (i32.const 0) (i32.const 0) (i32.const 512) (i32.const 1) (i64.const 0))))
        (func (export "sandpool_task_cycle") (param i32 i32) (result i32) (local $a i64) (local $b i64)
            (local.set $a (call $create (i64.const 0) (i32.const 0)))
            (local.set $b (call $create (i64.const 0) (i32.const 0)))
            (call $hold_each_other (local.get $a) (local.get $a))
            (call $hold_each_other (local.get $a) (local.get $b))
            (call $hold_each_other (local.get $b) (local.get $a))
            (drop (call $release (local.get $a)))
            (drop (call $release (local.get $b)))
            (call $report))
        ;; in a process that it has forked, and of which nobody knows
        (func (export "sandpool_task_deep_cycle") (param i32 i32) (result i32) (local $a i64)
            (if (i64.eqz (call $fork (i32.const 0) (i32.const 0) (i32.const 0))) (then
                (local.set $a (call $create (i64.const 0) (i32.const 0)))
                (call $hold_each_other (local.get $a) (local.get $a))
                (call $exit (i32.const 0))))
            (i32.const 0))
        ;; what an initializer does
        (func (export "sandpool_task_init_back") (param i32 i32) (result i32) (call $fork_back (i32.const 0)) (i32.const 0))
    )"#;
    text.replace("SETUP", &setup)
}

fn module() -> Module {
    load_text("attacks", &text())
}

fn pool(module: &Module, isolation: Isolation) -> Builder<'_> {
    Pool::builder(module).processes(2).isolation(isolation).task_timeout(TIMEOUT)
}

fn limits(limits: Limits) -> Sandbox {
    Sandbox::new().limits(limits)
}

fn submit(pool: &Pool, task: &str, input: &[u8]) -> TaskFuture<Vec<u8>> {
    pool.submit_record(task, Format::Bytes, input).unwrap()
}

/// The result of a task, which is there in time.
#[track_caller]
fn result(future: TaskFuture<Vec<u8>>, pool: &Pool) -> Result<Vec<u8>, Failure> {
    assert!(future.wait_timeout(deadline()), "it never ends: {pool:?}");
    future.result().map_err(|error| error.cause)
}

#[track_caller]
fn apply(pool: &Pool, task: &str, input: &[u8]) -> Result<Vec<u8>, Failure> {
    result(submit(pool, task, input), pool)
}

/// The result of a task among honest ones, of which each has its own.
#[track_caller]
fn among_others(pool: &Pool, task: &str) -> Result<Vec<u8>, Failure> {
    let echo = |n: u32| submit(pool, "echo", &n.to_le_bytes());
    let before: Vec<_> = (0..20).map(echo).collect();
    let bad = submit(pool, task, b"");
    let after: Vec<_> = (20..40).map(echo).collect();
    let outcome = result(bad, pool);
    for (n, future) in before.into_iter().chain(after).enumerate() {
        assert_eq!(result(future, pool), Ok((n as u32).to_le_bytes().to_vec()), "{task}");
    }
    outcome
}

#[test]
fn no_import_reaches_what_is_the_pools() {
    let module = module();
    for isolation in ISOLATIONS {
        let pool = pool(&module, isolation).task_timeout(deadline()).build().unwrap();
        for task in ["reach", "send", "relatives", "flood"] {
            // That something isn't `BADF`, its output says.
            assert_eq!(among_others(&pool, task), Ok(Vec::new()), "{isolation:?} {task}");
        }
        let parents = || -> BTreeSet<Vec<u8>> {
            let futures: Vec<_> = (0..500).map(|_| submit(&pool, "who", b"")).collect();
            futures.into_iter().map(|future| result(future, &pool).unwrap()).collect()
        };
        let before = parents();
        let impostor = submit(&pool, "impostor", b"");
        let beside = parents();
        assert_eq!(result(impostor, &pool), Ok(Vec::new()), "{isolation:?}");
        assert!(beside.is_subset(&before) && parents().is_subset(&before), "{isolation:?}: {beside:?}");
        assert_eq!(pool.stats().failed, 0);
        pool.close();
        pool.join().unwrap();
    }
}

/// The same by the command, which ends in time.
#[test]
fn a_map_whose_tasks_mean_harm_fails_where_they_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("attacks.wat");
    std::fs::write(&path, text()).unwrap();
    for isolation in ["worker", "task"] {
        for (task, code, failures) in [
            ("lost", 0, 0),
            ("reach", 0, 0),
            ("flood", 0, 0),
            ("spin", 118, 3),
            ("late", 118, 3),
            ("leave", 118, 3),
        ] {
            let mut command = sandpool();
            command.args(["map", "--task", task, "--isolation", isolation, "--task-timeout", "500ms"]);
            command.args(["--format", "raw", "--on-error", "record"]).arg(&path);
            let (run, mut stdin) = Run::start_with_stdin(&mut command);
            // Three records of no bytes.
            stdin.write_all(&[0; 12]).unwrap();
            drop(stdin);
            let ended = run.finish().expect_code(code);
            let timeouts = ended.stderr.matches(r#""cause":"timeout""#).count();
            assert_eq!(timeouts, failures, "{isolation} {task}: {ended}");
        }
    }
}

/// `PERM`, whatever it is called with.
#[test]
fn what_serves_pools_of_guests_is_refused_in_a_task() {
    let module = module();
    let all: Vec<u8> = (31..=37).flat_map(|call| [call, 1]).collect();
    for isolation in ISOLATIONS {
        let pool = pool(&module, isolation).build().unwrap();
        assert_eq!(among_others(&pool, "claim"), Ok(all.clone()), "{isolation:?}");
        assert_eq!(among_others(&pool, "lost"), Ok(Vec::new()), "{isolation:?}");
        for task in ["spin", "late"] {
            assert_eq!(among_others(&pool, task), Err(Failure::TimedOut(TIMEOUT)), "{isolation:?} {task}");
        }
    }
}

#[test]
fn what_is_forked_from_a_task_comes_back_from_none() {
    let module = module();
    for isolation in ISOLATIONS {
        let pool = pool(&module, isolation).task_timeout(deadline()).build().unwrap();
        for _ in 0..10 {
            for task in ["back", "back_late"] {
                assert_eq!(among_others(&pool, task), Ok(vec![1, 0, 0, 0]), "{isolation:?} {task}");
            }
        }
        assert_eq!(pool.stats().failed, 0);
        // Nor is what is forked from an initializer a worker.
        let pool = self::pool(&module, isolation)
            .initializer("init_back", &())
            .sandbox(limits(Limits::default().processes_max(16)))
            .build()
            .unwrap();
        for _ in 0..100 {
            assert_eq!(apply(&pool, "echo", b"1"), Ok(b"1".to_vec()));
        }
        let supervisor = pool.supervisor_pid();
        assert!(procfs::eventually(|| procfs::children(supervisor).len() == 2), "{isolation:?}");
    }
}

#[test]
fn a_task_lasts_as_long_as_a_process_that_it_has_started() {
    let module = module();
    let late = || Err(Failure::TimedOut(TIMEOUT));
    for isolation in ISOLATIONS {
        let pool = pool(&module, isolation).build().unwrap();
        let supervisor = pool.supervisor_pid();
        for task in ["leave", "leave_detached", "leave_exit", "leave_deep"] {
            assert_eq!(among_others(&pool, task), late(), "{isolation:?} {task}");
            let is_gone = procfs::eventually(|| procfs::children(supervisor).len() == 2);
            assert!(is_gone, "{isolation:?} {task}: {:?}", procfs::children(supervisor));
        }
        let trapped = among_others(&pool, "leave_trap");
        assert!(matches!(trapped, Err(Failure::Ended(_))), "{isolation:?}: {trapped:?}");
        // A daemonic process ends with the one that started it.
        assert_eq!(among_others(&pool, "leave_daemon"), Ok(Vec::new()), "{isolation:?}");
        let is_gone = procfs::eventually(|| procfs::children(supervisor).len() == 2);
        assert!(is_gone, "{isolation:?}: {:?}", procfs::children(supervisor));
        assert_eq!(pool.stats().failed, 5);
    }
}

#[test]
fn processes_that_nobody_asks_about_leave_nothing_behind() {
    let module = module();
    for isolation in ISOLATIONS {
        let pool = pool(&module, isolation)
            .processes(1)
            .sandbox(limits(Limits::default().processes_max(6)))
            .task_timeout(deadline())
            .build()
            .unwrap();
        for _ in 0..100 {
            assert_eq!(apply(&pool, "child", b""), Ok(Vec::new()), "{isolation:?}");
        }
    }
}

/// Processes, or objects: those of others have theirs.
#[test]
fn a_task_that_takes_all_it_can_takes_nothing_from_others() {
    let module = module();
    for isolation in ISOLATIONS {
        let few = limits(Limits::default().processes_max(20).objects_max(50));
        let pool = pool(&module, isolation).sandbox(few).build().unwrap();
        for greedy in ["bomb", "grab"] {
            for task in ["child", "make"] {
                let bad = submit(&pool, greedy, b"");
                while !bad.is_done() {
                    let made = if task == "make" { vec![91, 0] } else { Vec::new() };
                    assert_eq!(apply(&pool, task, b""), Ok(made), "{isolation:?} {greedy} {task}");
                }
                assert_eq!(result(bad, &pool), Err(Failure::TimedOut(TIMEOUT)), "{isolation:?} {greedy}");
            }
        }
        assert_eq!(pool.stats().failed, 4);
    }
}

#[test]
fn what_a_task_has_received_is_not_the_next_ones() {
    let module = module();
    let pool = pool(&module, Isolation::Worker)
        .processes(1)
        .sandbox(limits(Limits::default().arena_size(4 << 20)))
        .build()
        .unwrap();
    // `NOENT`, and the memory is there again.
    for _ in 0..300 {
        assert_eq!(apply(&pool, "hold", b""), Ok(Vec::new()));
        assert_eq!(apply(&pool, "held", b""), Ok(vec![61, 2]));
    }
}

#[test]
fn a_pool_is_ended_at_once_while_tasks_flood_it() {
    let module = module();
    for isolation in ISOLATIONS {
        let pool = pool(&module, isolation).task_timeout(deadline()).build().unwrap();
        for _ in 0..4 {
            drop(submit(&pool, "flood", b""));
        }
        let (mut feed, results) = pool.stream("echo", Format::Bytes);
        let feeder = std::thread::spawn(move || while feed.put(b"input") {});
        assert_eq!(results.take(1000).count(), 1000);
        let begun = Instant::now();
        pool.terminate();
        assert_eq!(pool.ended(), Some(PoolEnd::Terminated));
        drop(pool);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "{isolation:?}: {took:?}");
        feeder.join().unwrap();
    }
}

#[test]
fn a_pool_whose_room_is_gone_ends_and_says_so() {
    const SIZE: u64 = 8 << 20;
    let module = module();
    let end = PoolEnd::Limited(Limit::Arena(SIZE));
    // There is none for an input, and none for an output.
    for (before, task) in [(Some("hoard"), "echo"), (None, "hoard_and_say")] {
        let pool = pool(&module, Isolation::Worker)
            .processes(1)
            .sandbox(limits(Limits::default().arena_size(SIZE)))
            .build()
            .unwrap();
        if let Some(before) = before {
            assert_eq!(apply(&pool, before, b""), Ok(Vec::new()));
        }
        let outcome = apply(&pool, task, &[1; 20_000]).map(|output| output.len());
        assert_eq!(outcome, Err(Failure::PoolEnded(end.clone())), "{task}");
        assert_eq!(pool.ended(), Some(end.clone()));
    }
}

#[test]
fn what_a_task_has_made_ends_with_it() {
    let module = module();
    let small = limits(Limits::default().objects_max(40).arena_size(8 << 20));
    let pool = pool(&module, Isolation::Task).sandbox(small).build().unwrap();
    for n in 0..200_u32 {
        for task in ["cycle", "deep_cycle"] {
            let made = if task == "cycle" { vec![81, 0, 81, 0, 81, 0] } else { Vec::new() };
            assert_eq!(apply(&pool, task, b""), Ok(made), "{task} {n}");
        }
        let name = format!("name-{n}");
        assert_eq!(apply(&pool, "name", name.as_bytes()).map(|said| said[1]), Ok(0), "{n}");
        assert_eq!(apply(&pool, "named", name.as_bytes()), Ok(vec![72, 2]), "{n}");
    }
    assert_eq!(pool.stats().failed, 0);
}

/// A name keeps its memory. If those of the dead stayed, no room would be left after 80 of them.
#[test]
fn names_of_a_worker_that_has_died_are_gone() {
    let module = module();
    let small = limits(Limits::default().objects_max(60).arena_size(8 << 20));
    let pool = pool(&module, Isolation::Worker).sandbox(small).build().unwrap();
    for n in 0..200_u32 {
        let outcome = apply(&pool, "name_and_trap", format!("name-{n}").as_bytes());
        assert!(matches!(outcome, Err(Failure::Ended(_))), "{n}: {outcome:?}");
    }
    assert_eq!(apply(&pool, "echo", b"echo"), Ok(b"echo".to_vec()));
}

/// Its end gives room back: the pool waits for that, however long the task takes.
#[test]
fn a_pool_has_room_gone_only_if_no_task_can_give_any_back() {
    // Longer than a pool waits for room.
    let timeout = Duration::from_secs(8);
    let module = module();
    let small = limits(Limits::default().arena_size(8 << 20));
    let pool = pool(&module, Isolation::Worker).processes(1).task_timeout(timeout).sandbox(small);
    let pool = pool.build().unwrap();
    let long = submit(&pool, "hoard_and_spin", b"");
    let echo = submit(&pool, "echo", &[1; 20_000]);
    assert_eq!(result(long, &pool), Err(Failure::TimedOut(timeout)));
    assert_eq!(result(echo, &pool), Ok(vec![1; 20_000]));
}
