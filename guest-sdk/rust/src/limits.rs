//! The values of the limits of this process and of its run.

use std::fmt;

use sandpool_abi::process::Limit;

use crate::raw;

/// Returns the value of a limit that the host has set for this process, or for its run; `None` if it isn't set. The names
/// are those of `sandpool run --help`.
///
/// ```no_run
/// use sandpool_guest::limit;
/// use sandpool_guest::process::Limit;
///
/// if let Some(Limit::FileBytes(bytes)) = limit("file-bytes-max") {
///     println!("{bytes} bytes may be written to files");
/// }
/// ```
#[must_use]
pub fn limit(name: &str) -> Option<Limit> {
    let code = Limit::code_of(name)?;
    Some(Limit::from_parts(code, raw::process::limit(code)?))
}

/// Returns the limit of this kind, with its value.
pub(crate) fn of(kind: fn(u64) -> Limit) -> Option<Limit> {
    raw::process::limit(kind(0).code()).map(kind)
}

/// The refused request, and the limit that caused the refusal.
pub(crate) struct LimitRefusal(pub(crate) &'static str, pub(crate) Option<Limit>);

impl fmt::Display for LimitRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(what, limit) = self;
        f.write_str(what)?;
        let Some(limit) = limit else { return Ok(()) };
        let whose = if limit.is_of_the_run() { "run" } else { "process" };
        write!(f, ": the {whose}'s limit is {} (`{}`)", limit.amount(), limit.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_which_limit_it_was_and_where_it_lies() {
        let say = |limit| LimitRefusal("too much", limit).to_string();
        assert_eq!(say(Some(Limit::Processes(64))), "too much: the run's limit is 64 (`processes-max`)");
        assert_eq!(say(Some(Limit::OpenFiles(16))), "too much: the process's limit is 16 (`open-files-max`)");
        assert_eq!(say(Some(Limit::Arena(1 << 20))), "too much: the run's limit is 1 MiB (`arena-size`)");
        assert_eq!(say(None), "too much");
    }

    #[test]
    fn each_limit_has_a_code_and_a_name_of_its_own() {
        let all: Vec<_> = (1..Limit::CODES).map(|code| Limit::from_parts(code, 7)).collect();
        for (code, limit) in (1..).zip(&all) {
            assert_eq!((limit.code(), limit.figure()), (code, 7));
            assert_eq!(all.iter().filter(|other| other.name() == limit.name()).count(), 1);
        }
        assert_eq!(Limit::from_parts(Limit::CODES, 7), Limit::Other);
    }
}
