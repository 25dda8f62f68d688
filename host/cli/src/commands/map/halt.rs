//! When a map stops before its end: the words are GNU parallel's.

use std::str::FromStr;

use sandpool::Error;

/// When to stop, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Halt {
    pub(super) when: When,
    pub(super) why: Why,
    count: Count,
}

/// The end of records that are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// They are finished.
    Soon,
    /// They are ended.
    Now,
}

/// Which records count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Fail,
    Success,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Count {
    Number(u64),
    /// A part of the records that are done by then, from 0 to 100.
    Percent(f64),
}

/// A percentage of fewer records says little.
const PERCENT_OF: u64 = 3;

impl Halt {
    /// Whether it is time, when of `done` records this number has failed.
    pub(super) fn is_reached(&self, done: u64, failed: u64) -> bool {
        let count = match self.why {
            Why::Fail => failed,
            Why::Success => done.saturating_sub(failed),
            Why::Done => done,
        };
        match self.count {
            Count::Number(number) => count >= number,
            Count::Percent(percent) => count >= PERCENT_OF && count as f64 * 100.0 >= percent * done as f64,
        }
    }
}

impl FromStr for Halt {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| Error::Invalid {
            what: format!("`{text}` does not say when to halt, as soon,fail=3 or now,fail=10% do"),
            hint: Some(
                "write soon or now, then fail, success or done, and a number or percentage".to_owned(),
            ),
        })
    }
}

fn parse(text: &str) -> Option<Halt> {
    let (when, rest) = text.split_once(',')?;
    let (why, count) = rest.split_once('=')?;
    let when = match when {
        "soon" => When::Soon,
        "now" => When::Now,
        _ => return None,
    };
    let why = match why {
        "fail" => Why::Fail,
        "success" => Why::Success,
        "done" => Why::Done,
        _ => return None,
    };
    let count = match count.strip_suffix('%') {
        Some(percent) => {
            Count::Percent(percent.parse().ok().filter(|percent| (0.0..=100.0).contains(percent))?)
        }
        None => Count::Number(count.parse().ok().filter(|number| *number > 0)?),
    };
    Some(Halt { when, why, count })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn a_halt_is_reached_when_enough_records_say_so() {
        for (text, done, failed, expected) in [
            ("soon,fail=3", 100, 2, false),
            ("soon,fail=3", 3, 3, true),
            ("now,success=2", 3, 2, false),
            ("now,success=2", 3, 1, true),
            ("soon,done=5", 4, 4, false),
            ("soon,done=5", 5, 0, true),
            ("now,fail=10%", 2, 2, false),
            ("now,fail=10%", 31, 3, false),
            ("now,fail=10%", 30, 3, true),
            ("now,fail=0.5%", 600, 3, true),
            ("now,fail=100%", 4, 3, false),
        ] {
            assert_eq!(
                text.parse::<Halt>().unwrap().is_reached(done, failed),
                expected,
                "{text} {done} {failed}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "",
            "never",
            "soon",
            "soon,fail",
            "soon,fail=",
            "soon,fail=0",
            "soon,fail=-1",
            "later,fail=1",
            "now,failure=1",
            "now,fail=101%",
            "now,fail=x%",
            "now,fail=NaN%",
            "now,fail=1.5",
        ] {
            assert!(text.parse::<Halt>().is_err(), "{text}");
        }
    }
}
