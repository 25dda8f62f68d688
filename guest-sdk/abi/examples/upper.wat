;; A task without an SDK: `upper` makes small ASCII letters of its input large ones.
;;
;;     sandpool map upper.wat --task upper --input text.txt
(module
  (import "sandpool_task" "input" (func $input (param i32 i32) (result i64)))
  (import "sandpool_task" "output" (func $output (param i32 i32) (result i32)))

  ;; The input lies at 0, whatever was there before.
  (memory (export "memory") 1)
  (data $no_room "no memory for the input")

  ;; Five texts, each ended by a zero byte: name, input, output, error, documentation.
  (@custom "sandpool-tasks" "upper\00text\00text\00\00Makes small ASCII letters large.\00")

  (func (export "sandpool_task_upper") (param $format i32) (param $len i32) (result i32)
    (local $at i32)
    (local $byte i32)
    ;; Text is 2, bytes are 3; anything else is UNSUPPORTED.
    (if (i32.or (i32.lt_u (local.get $format) (i32.const 2)) (i32.gt_u (local.get $format) (i32.const 3)))
      (then (return (i32.const 3))))

    ;; As many pages as it takes. If they aren't there: REFUSED, and why.
    (if (i32.gt_u (local.get $len) (i32.shl (memory.size) (i32.const 16)))
      (then
        (if (i32.eq (i32.const -1) (memory.grow (i32.shr_u (local.get $len) (i32.const 16))))
          (then
            (memory.init $no_room (i32.const 0) (i32.const 0) (i32.const 23))
            (drop (call $output (i32.const 0) (i32.const 23)))
            (return (i32.const 2))))))
    (drop (call $input (i32.const 0) (local.get $len)))

    (loop $next
      (if (i32.lt_u (local.get $at) (local.get $len))
        (then
          (local.set $byte (i32.load8_u (local.get $at)))
          (if (i32.lt_u (i32.sub (local.get $byte) (i32.const 97)) (i32.const 26))
            (then (i32.store8 (local.get $at) (i32.sub (local.get $byte) (i32.const 32)))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next))))

    ;; DONE, if the output was taken.
    (select (i32.const 0) (i32.const 2) (i32.eqz (call $output (i32.const 0) (local.get $len))))))
