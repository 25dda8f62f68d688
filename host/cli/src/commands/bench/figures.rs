//! The rounds of one measurement, and their evaluation.

use std::fmt::Write as _;

/// The results of the rounds of one measurement.
#[derive(Debug, Clone)]
pub(super) struct Figures {
    /// From the least to the greatest; never empty.
    sorted: Vec<f64>,
    /// The figure for the same work without Sandpool, if the goal is relative to that and it can be measured here.
    pub(super) reference: Option<f64>,
    /// Another remark about the figure.
    pub(super) remark: Option<String>,
}

impl Figures {
    /// `None` if there are no rounds, or if one of them isn't finite.
    pub(super) fn new(rounds: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = rounds.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let is_usable = !sorted.is_empty() && sorted.iter().all(|figure| figure.is_finite());
        is_usable.then_some(Self { sorted, reference: None, remark: None })
    }

    /// Adds a remark.
    pub(super) fn with_remark(self, remark: String) -> Self {
        let remark = self.remark.into_iter().chain([remark]).collect::<Vec<_>>().join("; ");
        Self { remark: Some(remark), ..self }
    }

    pub(super) fn against(self, reference: f64) -> Self {
        Self { reference: Some(reference), ..self }
    }

    pub(super) fn median(&self) -> f64 {
        let at = |index: usize| self.sorted.get(index).copied().unwrap_or(f64::NAN);
        let len = self.sorted.len();
        (at((len - 1) / 2) + at(len / 2)) / 2.0
    }

    pub(super) fn least(&self) -> f64 {
        self.sorted.first().copied().unwrap_or(f64::NAN)
    }

    pub(super) fn greatest(&self) -> f64 {
        self.sorted.last().copied().unwrap_or(f64::NAN)
    }
}

/// The goal of a figure.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// This multiple of the time of a bare fork and wait, which isn't measured here.
    TimesFloor(f64),
    /// At least this multiple of the reference.
    TimesReference(f64),
}

/// Whether a figure reaches its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Reached,
    Missed,
    /// The goal is relative to something that isn't known here.
    Unknown,
}

impl Goal {
    pub(super) fn verdict(self, figures: &Figures) -> Verdict {
        let median = figures.median();
        let is_reached = match (self, figures.reference) {
            (Self::AtMost(most), _) => median <= most,
            (Self::AtLeast(least), _) => median >= least,
            (Self::TimesReference(times), Some(reference)) => median >= times * reference,
            (Self::TimesFloor(_) | Self::TimesReference(_), _) => return Verdict::Unknown,
        };
        if is_reached { Verdict::Reached } else { Verdict::Missed }
    }
}

/// Three significant digits, or all of a whole number.
pub(super) fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let digits = 2 - value.abs().log10().floor() as i32;
    format!("{value:.*}", usize::try_from(digits).unwrap_or_default())
}

/// One flat object, in this order.
pub(super) fn json(figures: impl Iterator<Item = (String, f64)>) -> String {
    let mut out = "{".to_owned();
    for (index, (key, median)) in figures.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // The keys are ours, and need no escapes. Writing to a string can't fail.
        let _ = write!(out, "{comma}\n  \"{key}\": {}", number(median));
    }
    out.push_str("\n}\n");
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let figures = Figures::new([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((figures.least(), figures.median(), figures.greatest()), (1.0, 2.0, 3.0));
        assert_eq!(Figures::new([4.0, 1.0, 2.0, 3.0]).unwrap().median(), 2.5);
        assert!(Figures::new([]).is_none() && Figures::new([f64::NAN]).is_none());
    }

    #[test]
    fn goals_have_verdicts() {
        let figures = Figures::new([5.0]).unwrap();
        assert_eq!(Goal::AtMost(5.0).verdict(&figures), Verdict::Reached);
        assert_eq!(Goal::AtMost(4.9).verdict(&figures), Verdict::Missed);
        assert_eq!(Goal::AtLeast(5.1).verdict(&figures), Verdict::Missed);
        assert_eq!(Goal::TimesFloor(2.0).verdict(&figures), Verdict::Unknown);
        assert_eq!(Goal::TimesReference(0.95).verdict(&figures), Verdict::Unknown);
        assert_eq!(Goal::TimesReference(0.95).verdict(&figures.against(5.2)), Verdict::Reached);
    }

    #[test]
    fn numbers_have_three_digits() {
        let shown = [0.0123456, 0.5, 1.0, 23.456, 420.4, 12_345.6].map(number);
        assert_eq!(shown, ["0.0123", "0.500", "1.00", "23.5", "420", "12346"]);
    }

    #[test]
    fn json_is_flat() {
        let figures = [("a_us".to_owned(), 1.5), ("b".to_owned(), 0.25)];
        let json = json(figures.into_iter());
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value, serde_json::json!({"a_us": 1.5, "b": 0.25}));
    }
}
