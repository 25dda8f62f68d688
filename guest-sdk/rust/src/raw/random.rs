//! WASI's random numbers, for numbers that nobody may guess.

declare! { "wasi_snapshot_preview1":
    unsafe fn random_get(buffer: *mut u8, len: usize) -> i32;
}

/// Returns random bytes. `None` if the host has none.
pub(crate) fn bytes<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the host writes `N` bytes there, which are exclusively ours; any bits are a valid `u8`.
    let code = unsafe { import::random_get(bytes.as_mut_ptr(), N) };
    (code == 0).then_some(bytes)
}
