//! Any module, as far as it is read without being compiled: see `sandpool::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sandpool::fuzzing::module(data);
});
