//! Any damage to an arena: see `sandpool::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sandpool::fuzzing::arena(data);
});
