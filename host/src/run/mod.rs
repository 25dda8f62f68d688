//! Runs of a program: the settings of a [`Run`](crate::Run), its streams, how it is stopped or awaited, and the report of
//! its end.
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

mod future;
pub(crate) mod handle;
mod output;
mod stdio;
mod summary;

pub use self::future::RunFuture;
pub use self::handle::{Builder, Stopper};
pub use self::output::{Captured, Keep, RunOutput};
pub use self::stdio::Stdio;
pub use self::summary::{LimitRefusal, ProcessReport, Summary};
pub use crate::config::OnDeadlock;
