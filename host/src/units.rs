//! Sizes and times, as people write them on the command line and in configuration files.

use std::time::Duration;

const SIZES: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads bytes, or a number with KiB, MiB or GiB.
///
/// # Errors
/// The text says what to write instead.
pub fn size(text: &str) -> Result<u64, &'static str> {
    let (number, unit) = SIZES
        .into_iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))
        .unwrap_or((text, 1));
    let number: u64 =
        number.trim_end().parse().map_err(|_| "give bytes, or a number with KiB, MiB or GiB")?;
    number.checked_mul(unit).filter(|bytes| *bytes > 0).ok_or("out of range")
}

/// Reads a number with ms, s, min or h.
///
/// # Errors
/// The text says what to write instead.
pub fn time(text: &str) -> Result<Duration, &'static str> {
    const UNITS: [(&str, f64); 4] = [("ms", 1e-3), ("min", 60.0), ("h", 3600.0), ("s", 1.0)];
    const HINT: &str = "give a number with ms, s, min or h";
    let (number, unit) =
        UNITS.into_iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit))).ok_or(HINT)?;
    let number: f64 = number.trim_end().parse().map_err(|_| HINT)?;
    let time = Duration::try_from_secs_f64(number * unit).map_err(|_| "out of range")?;
    if time.is_zero() { Err("it is no time") } else { Ok(time) }
}

/// Writes a size as [`size`] reads it, in the largest unit of which it is a multiple.
pub(crate) fn of_size(bytes: u64) -> String {
    let unit = SIZES.into_iter().rev().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    unit.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Writes a time as [`time`] reads it.
pub(crate) fn of_time(time: Duration) -> String {
    match time.subsec_nanos() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_secs_f64() * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, bytes, written) in [
            ("4096", 4096, "4KiB"),
            ("64MiB", 64 << 20, "64MiB"),
            ("1 GiB", 1 << 30, "1GiB"),
            ("1001", 1001, "1001"),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
            assert_eq!(of_size(bytes), written);
            assert_eq!(size(written), Ok(bytes));
        }
        for bad in ["", "0", "MiB", "1.5GiB", "-1", "10MB", "18446744073709551615KiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        for (text, milliseconds, written) in [
            ("5s", 5000, "5s"),
            ("300ms", 300, "300ms"),
            ("0.5 s", 500, "500ms"),
            ("2min", 120_000, "120s"),
            ("1h", 3_600_000, "3600s"),
        ] {
            let expected = Duration::from_millis(milliseconds);
            assert_eq!(time(text), Ok(expected), "{text}");
            assert_eq!(of_time(expected), written);
            assert_eq!(time(written), Ok(expected));
        }
        for bad in ["", "5", "s", "0s", "-1s", "nans", "infs", "1d", "1e300h"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
