;; 900 children that sleep; then SIGKILL to all of them at once, with 65000 objects alive
(module
  (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
  (import "sandpool_process" "signal" (func $signal (param i64 i32) (result i32)))
  (import "sandpool_process" "detach" (func $detach (param i64) (result i32)))
  (import "sandpool_process" "join" (func $join (param i64 i64) (result i32)))
  (import "sandpool_shared" "create" (func $create (param i64 i32 i32 i32) (result i64)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (data (i32.const 520) "at it\n")
  (func (export "_start") (local $k i32) (local $p i64) (local $n i32)
    (i64.store (i32.const 24) (i64.const 1000000000))
    (loop $more
      (local.set $p (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))
      (if (i64.eqz (local.get $p)) (then
         (loop $z (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))) (br $z))))
      (i64.store (i32.add (i32.const 4096) (i32.shl (local.get $k) (i32.const 3))) (local.get $p))
      (local.set $k (i32.add (local.get $k) (i32.const 1)))
      (br_if $more (i32.lt_u (local.get $k) (i32.const 900))))
    (local.set $n (i32.const 65000))
    (if (local.get $n) (then
    (loop $o
      (drop (call $create (i64.const 8) (i32.const 1) (i32.const 0) (i32.const 0)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $o (local.get $n)))))
    (i32.store (i32.const 512) (i32.const 520))
    (i32.store (i32.const 516) (i32.const 6))
    (drop (call $fd_write (i32.const 2) (i32.const 512) (i32.const 1) (i32.const 528)))
    (local.set $k (i32.const 0))
    (loop $s
      (local.set $p (i64.load (i32.add (i32.const 4096) (i32.shl (local.get $k) (i32.const 3)))))
      (drop (call $signal (local.get $p) (i32.const 9)))
      (local.set $k (i32.add (local.get $k) (i32.const 1)))
      (br_if $s (i32.lt_u (local.get $k) (i32.const 900))))
    (loop $z (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))) (br $z)))
)
