//! How a task ended: its output with the figures of how the task ran, or its error.

use serde::de::DeserializeOwned;

use crate::error::{Failure, TaskError, Usage};
use crate::{GuestText, codec};

/// Output of a task, and figures of how the task ran.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completed<T> {
    /// The task's output.
    pub value: T,
    /// The task's stdout, with [`Output::Capture`](crate::pool::Output::Capture).
    pub stdout: Vec<u8>,
    /// The task's stderr, with [`Output::Capture`](crate::pool::Output::Capture).
    pub stderr: Vec<u8>,
    /// Use of time and memory by the task.
    pub usage: Usage,
    /// How often the task was tried.
    pub attempts: u32,
}

pub(super) type Outcome = Result<Completed<Vec<u8>>, TaskError>;

/// Makes a value from an output. The text is the task's name.
pub(super) type Decode<T> = fn(Completed<Vec<u8>>, &str) -> Result<Completed<T>, TaskError>;

impl Completed<Vec<u8>> {
    /// The output as a value.
    pub(super) fn decode<T: DeserializeOwned>(self, task: &str) -> Result<Completed<T>, TaskError> {
        self.decode_by(task, |value| codec::decode_all(value).map_err(|error| error.to_string()))
    }

    /// The output in JSON as a value.
    pub(super) fn decode_json<T: DeserializeOwned>(self, task: &str) -> Result<Completed<T>, TaskError> {
        self.decode_by(task, |value| serde_json::from_slice(value).map_err(|error| error.to_string()))
    }

    fn decode_by<T>(
        self,
        task: &str,
        decode: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<Completed<T>, TaskError> {
        let Self { value, stdout, stderr, usage, attempts } = self;
        match decode(&value) {
            Ok(value) => Ok(Completed { value, stdout, stderr, usage, attempts }),
            Err(error) => Err(TaskError {
                task: task.to_owned(),
                cause: Failure::Decode(error.into()),
                stderr: GuestText::from_bytes(&stderr),
                attempts,
                usage: Box::new(usage),
            }),
        }
    }
}
