//! One timeout for several calls of the host.

use std::time::{Duration, Instant};

use sandpool_abi::{FOREVER, NO_WAIT};

/// Converts a timeout for the host. A timeout of centuries becomes one without end.
pub(crate) fn nanoseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_nanos()).unwrap_or(FOREVER)
}

/// The end of a timeout that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// At this time.
    At(Instant),
    /// A timeout in the host's form: at once, or never.
    Fixed(u64),
}

impl Deadline {
    pub(crate) const NOW: Self = Self::Fixed(NO_WAIT);
    pub(crate) const NEVER: Self = Self::Fixed(FOREVER);

    pub(crate) fn after(timeout: Duration) -> Self {
        match nanoseconds(timeout) {
            NO_WAIT => Self::NOW,
            FOREVER => Self::NEVER,
            _ => Instant::now().checked_add(timeout).map_or(Self::NEVER, Self::At),
        }
    }

    /// This deadline, or an earlier one after `timeout`.
    pub(crate) fn at_most(self, timeout: Duration) -> Self {
        match self {
            Self::NOW => self,
            Self::At(end) => {
                Self::At(Instant::now().checked_add(timeout).map_or(end, |other| end.min(other)))
            }
            Self::Fixed(_) => Self::after(timeout),
        }
    }

    /// Whether the deadline is a time that has passed. A deadline of "at once" never has: a look takes everything
    /// that is there.
    pub(crate) fn has_passed(self) -> bool {
        matches!(self, Self::At(end) if Instant::now() >= end)
    }

    /// The earlier of the two deadlines.
    pub(crate) fn earlier(self, other: Self) -> Self {
        if self.left() < other.left() { self } else { other }
    }

    /// The time that is left, in the host's form.
    pub(crate) fn left(self) -> u64 {
        match self {
            Self::At(end) => nanoseconds(end.saturating_duration_since(Instant::now())),
            Self::Fixed(timeout) => timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_gets_less() {
        let hour = Duration::from_secs(3600);
        let deadline = Deadline::after(hour);
        assert!(deadline.left() <= nanoseconds(hour));
        assert!(deadline.left() > nanoseconds(hour / 2));
        assert_eq!(Deadline::after(Duration::ZERO).left(), NO_WAIT);
        assert_eq!(Deadline::after(Duration::MAX).left(), FOREVER);
        assert_eq!(Deadline::At(Instant::now()).left(), NO_WAIT);
        assert!(Deadline::At(Instant::now()).has_passed());
        assert!(!Deadline::after(hour).has_passed() && !Deadline::NOW.has_passed());
    }
}
