;; 600 processes that wait for an event, and are all woken again and again; each tenth dies of it, and the main process forks others
(module
  (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
  (import "sandpool_process" "detach" (func $detach (param i64) (result i32)))
  (import "sandpool_sync" "event_create" (func $create (result i64)))
  (import "sandpool_sync" "event_set" (func $set (param i64) (result i32)))
  (import "sandpool_sync" "event_clear" (func $clear (param i64) (result i32)))
  (import "sandpool_sync" "event_wait" (func $wait (param i64 i64) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 520) "at it\n")
  (func (export "_start") (local $e i64) (local $k i32) (local $p i64)
    (local.set $e (call $create))
    (loop $forks
      (call $wait_for_ever (local.get $e) (local.get $k))
      (local.set $k (i32.add (local.get $k) (i32.const 1)))
      (br_if $forks (i32.lt_u (local.get $k) (i32.const 600))))
    (i32.store (i32.const 512) (i32.const 520))
    (i32.store (i32.const 516) (i32.const 6))
    (drop (call $fd_write (i32.const 2) (i32.const 512) (i32.const 1) (i32.const 528)))
    (loop $l
      (drop (call $set (local.get $e)))
      (drop (call $clear (local.get $e)))
      (call $wait_for_ever (local.get $e) (i32.const 0))
      (br $l)))
  (func $wait_for_ever (param $e i64) (param $k i32) (local $p i64)
    (local.set $p (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))
    (if (i64.eqz (local.get $p)) (then
      (loop $l
        (drop (call $wait (local.get $e) (i64.const -1)))
        (if (i32.eqz (i32.rem_u (local.get $k) (i32.const 10))) (then unreachable))
        (br $l))))
    (if (i64.gt_s (local.get $p) (i64.const 0)) (then (drop (call $detach (local.get $p)))))))
