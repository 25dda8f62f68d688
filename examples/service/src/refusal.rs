//! The answer to a client when there is no output.

use anyhow::anyhow;
use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use sandpool::pool::{Failure, PoolEnd, TaskError};
use sandpool::{Error, ErrorKind};
use serde::Serialize;

/// The reason why there is no output, as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Refusal {
    #[serde(skip)]
    status: StatusCode,
    /// one word, for programs
    kind: &'static str,
    /// for people
    error: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// the end of the text that a task has written to stderr
    #[serde(skip_serializing_if = "String::is_empty")]
    stderr: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, kind: &'static str, error: impl ToString) -> Self {
        Self { status, kind, error: error.to_string(), hint: None, stderr: String::new() }
    }

    pub(crate) fn with_hint(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let (status, kind) = match &error {
            Error::UnknownTask { .. } => (StatusCode::NOT_FOUND, "no-task"),
            // The module traps, or doesn't come to an end, before it has a task.
            Error::Pool(PoolEnd::Worker(_)) => (StatusCode::UNPROCESSABLE_ENTITY, "module"),
            error if error.kind() == ErrorKind::Module => (StatusCode::BAD_REQUEST, "module"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let hint = error.hint();
        Self::new(status, kind, format!("{:#}", anyhow!(error))).with_hint(hint)
    }
}

impl From<TaskError> for Refusal {
    fn from(error: TaskError) -> Self {
        let status = match &error.cause {
            Failure::NoTask(_) => StatusCode::NOT_FOUND,
            Failure::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
            Failure::InputTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Failure::NotRunning | Failure::PoolEnded(_) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self { stderr: error.stderr.to_string(), ..Self::new(status, error.cause.kind(), error.cause) }
    }
}

impl From<BytesRejection> for Refusal {
    fn from(rejection: BytesRejection) -> Self {
        let kind = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE { "too-large" } else { "request" };
        Self::new(rejection.status(), kind, rejection.body_text())
    }
}
