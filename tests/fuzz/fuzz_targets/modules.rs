//! Any module, as far as it is read without being compiled: see `sandpool::testing::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sandpool::testing::fuzzing::module(data);
});
