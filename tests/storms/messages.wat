;; children that fill queues with messages, each of which carries a queue that only it holds, and are killed with them
(module
  (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
  (import "sandpool_process" "detach" (func $detach (param i64) (result i32)))
  (import "sandpool_queue" "create" (func $create (param i64 i32) (result i64)))
  (import "sandpool_queue" "put" (func $put (param i64 i32 i32 i32 i32 i64) (result i32)))
  (import "sandpool_handle" "release" (func $release (param i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 520) "at it\n")
  (func (export "_start") (local $k i32) (local $p i64)
    (i32.store (i32.const 512) (i32.const 520))
    (i32.store (i32.const 516) (i32.const 6))
    (loop $more
      (local.set $p (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))
      (if (i64.eqz (local.get $p)) (then (call $fill)))
      (if (i64.gt_s (local.get $p) (i64.const 0)) (then (drop (call $detach (local.get $p)))))
      (local.set $k (i32.add (local.get $k) (i32.const 1)))
      (if (i32.eq (local.get $k) (i32.const 8)) (then
        (drop (call $fd_write (i32.const 2) (i32.const 512) (i32.const 1) (i32.const 528)))))
      (br $more)))
  (func $fill (local $q i64) (local $inner i64) (local $n i32)
    (local.set $q (call $create (i64.const 0) (i32.const 0)))
    (local.set $n (i32.const 5000))
    (loop $l
      (local.set $inner (call $create (i64.const 0) (i32.const 0)))
      (i64.store (i32.const 0) (local.get $inner))
      (if (i64.gt_s (local.get $inner) (i64.const 0)) (then
        (drop (call $put (local.get $q) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i64.const 0)))
        (drop (call $release (local.get $inner)))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $l (local.get $n)))
    unreachable))
