//! Any configuration file: see `sandpool::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sandpool::fuzzing::limits(data);
});
