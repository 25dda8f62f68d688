//! Lines about what happens: the levels, and the handler's view of a line. See [`log_to_stderr`](crate::log_to_stderr).

pub(crate) mod logger;

pub(crate) use logger::{Escaped, complain, exiting, inherit, settings, started};
pub use logger::{Level, Logger, Record};
