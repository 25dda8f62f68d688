;; a chain of 400 processes, each of which waits for the next; all hold 20000 objects, and the last ones die and are forked anew
(module
  (import "sandpool_process" "fork" (func $fork (param i32 i32 i32) (result i64)))
  (import "sandpool_process" "join" (func $join (param i64 i64) (result i32)))
  (import "sandpool_process" "close" (func $close (param i64) (result i32)))
  (import "sandpool_shared" "create" (func $create (param i64 i32 i32 i32) (result i64)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 520) "at it\n")
  (func (export "_start") (local $n i32)
    (local.set $n (i32.const 20000))
    (loop $o
      (drop (call $create (i64.const 8) (i32.const 1) (i32.const 0) (i32.const 0)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $o (local.get $n)))
    (call $descend (i32.const 400)))
  (func $descend (param $depth i32) (local $p i64)
    (if (i32.eqz (local.get $depth)) (then
      (i32.store (i32.const 512) (i32.const 520))
      (i32.store (i32.const 516) (i32.const 6))
      (drop (call $fd_write (i32.const 2) (i32.const 512) (i32.const 1) (i32.const 528)))
      unreachable))
    (loop $again
      (local.set $p (call $fork (i32.const 0) (i32.const 0) (i32.const 0)))
      (if (i64.eqz (local.get $p)) (then
        (call $descend (i32.sub (local.get $depth) (i32.const 1)))
        unreachable))
      (drop (call $join (local.get $p) (i64.const -1)))
      (drop (call $close (local.get $p)))
      ;; only those that are deep fork again
      (br_if $again (i32.lt_u (local.get $depth) (i32.const 3))))))
