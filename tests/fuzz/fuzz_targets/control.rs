//! Any messages of the control protocol, and values of tasks: see `sandpool::testing::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sandpool::testing::fuzzing::control(data);
});
