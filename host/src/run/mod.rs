//! Runs of a program: the settings of a [`Run`](crate::Run), how it is stopped, and the report of its end.
//!
//! ```no_run
//! use sandpool::run::OnDeadlock;
//!
//! # fn main() -> sandpool::Result<()> {
//! let module = sandpool::Module::from_file("guest.wasm")?;
//! let run = sandpool::Run::builder(&module).on_deadlock(OnDeadlock::Report).start()?;
//! for report in run.wait()?.reports {
//!     println!("{}: {}, {:?}", report.name, report.status, report.wall);
//! }
//! # Ok(())
//! # }
//! ```

pub(crate) mod handle;

pub use self::handle::{Builder, LimitRefusal, ProcessReport, Stopper, Summary};
pub use crate::config::OnDeadlock;
