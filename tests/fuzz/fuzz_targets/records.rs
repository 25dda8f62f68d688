//! Any tasks and results in the queues of a pool: see `sandpool::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sandpool::fuzzing::records(data);
});
