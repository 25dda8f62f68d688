//! Any configuration file: see `sandpool::testing::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sandpool::testing::fuzzing::limits(data);
});
