//! Any messages of the control protocol, and values of tasks: see `sandpool::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sandpool::fuzzing::control(data);
});
