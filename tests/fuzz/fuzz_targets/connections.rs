//! Any bytes that come to the gateway, and what guests ask of it: see `sandpool::testing::fuzzing`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    sandpool::testing::fuzzing::connections(data);
});
