//! WASI's clock, where a `std::time::Instant` isn't enough, because the host has reported a time.

declare! { "wasi_snapshot_preview1":
    unsafe fn clock_time_get(clock: u32, precision: u64, time: *mut u64) -> i32;
}

const MONOTONIC: u32 = 1;

/// Returns nanoseconds of the monotonic clock, which all processes and the host share.
pub(crate) fn monotonic() -> u64 {
    let mut time = 0;
    // SAFETY: the host writes 8 bytes there, which is exclusively ours; any bits are a valid `u64`. The call
    // doesn't fail for an existing clock; if it fails, the time is 0.
    let _ = unsafe { import::clock_time_get(MONOTONIC, 1, &raw mut time) };
    time
}
