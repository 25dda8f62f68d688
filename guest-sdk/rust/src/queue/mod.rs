//! Queues: the errors of [`Queue`](crate::Queue), [`JoinableQueue`](crate::JoinableQueue) and
//! [`SimpleQueue`](crate::SimpleQueue), and the iterator over a queue's items.

mod error;
pub(crate) mod fifo;
pub(crate) mod joinable;
pub(crate) mod simple;

pub use error::{GetError, GetManyError, PutError, PutManyError};
pub use fifo::Iter;
pub use joinable::{JoinError, TaskDoneError};
