//! The version of the kernel.

/// Major and minor number in the kernel's name for itself: `5.13.2-generic` is `(5, 13)`.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The version of the kernel that runs, as far as `/proc` says.
pub(crate) fn running() -> Option<(u32, u32)> {
    version(std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.trim())
}
