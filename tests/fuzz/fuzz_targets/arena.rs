//! Any damage to an arena: see `sandpool::testing::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sandpool::testing::fuzzing::arena(data);
});
