//! The version of the kernel.

/// Reads major and minor number from the kernel's release: `5.13.2-generic` is `(5, 13)`.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The version of the running kernel, if `/proc` tells it.
pub(crate) fn running() -> Option<(u32, u32)> {
    version(std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?.trim())
}
