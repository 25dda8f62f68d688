//! Processes: the settings of a [`Process`], and what a program can ask about itself, its parent and its children.

mod builder;
pub(crate) mod child;
mod identity;
pub(crate) mod known;

pub use builder::Builder;
pub use child::{CloseError, Sentinel};
pub use known::{Child, CurrentProcess, ParentProcess};
pub use sandpool_abi::process::{Limit, Trap};

pub(crate) use child::Process;
use child::{SIGINT, SIGKILL, SIGTERM};
