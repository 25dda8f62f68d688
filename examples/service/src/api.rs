//! The requests that clients can make.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{StreamExt as _, stream};
use sandpool::pool::{Format, TaskFuture};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::modules::{Hosted, Modules, Open};
use crate::refusal::Refusal;

/// The maximum size in bytes of a module, and of a batch.
const BODY_MAX: usize = 16 << 20;
/// The maximum size in bytes of one input.
const INPUT_MAX: usize = 1 << 20;
/// The number of inputs of a batch that are at work at once.
const WINDOW: usize = 64;

type Request = Result<Bytes, BytesRejection>;

pub(crate) fn routes(modules: Arc<Modules>) -> Router {
    Router::new()
        .route("/modules", post(upload))
        .route("/modules/{id}", get(describe).delete(remove))
        .route("/modules/{id}/tasks/{task}/batch", post(run_batch))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .route("/modules/{id}/tasks/{task}", post(run).layer(DefaultBodyLimit::max(INPUT_MAX)))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "no-page", "there is nothing here") })
        .with_state(modules)
}

#[derive(Serialize)]
struct Description {
    id: String,
    tasks: Vec<Task>,
}

#[derive(Serialize)]
struct Task {
    name: String,
    signature: String,
    docs: String,
}

impl Description {
    fn new(hosted: &Hosted) -> Self {
        let tasks = hosted.module.tasks().iter().map(|task| Task {
            name: task.name.to_string(),
            signature: task.signature(),
            docs: task.docs.lines().map(|line| line.to_string()).collect::<Vec<_>>().join("\n"),
        });
        Self { id: hosted.id.clone(), tasks: tasks.collect() }
    }
}

async fn upload(
    State(modules): State<Arc<Modules>>,
    module: Request,
) -> Result<(StatusCode, Json<Description>), Refusal> {
    let hosted = modules.add(module?).await?;
    Ok((StatusCode::CREATED, Json(Description::new(&hosted))))
}

async fn describe(
    State(modules): State<Arc<Modules>>,
    Path(id): Path<String>,
) -> Result<Json<Description>, Refusal> {
    Ok(Json(Description::new(&*modules.get(&id)?)))
}

async fn remove(State(modules): State<Arc<Modules>>, Path(id): Path<String>) -> Result<StatusCode, Refusal> {
    modules.remove(&id)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn run(
    State(modules): State<Arc<Modules>>,
    Path((id, task)): Path<(String, String)>,
    input: Request,
) -> Result<Response, Refusal> {
    let open = open(&modules, &id, &task).await?;
    let output = call(&open, &task, &input?).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], output.get().to_owned()).into_response())
}

/// The content of a line of a batch's results.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Output(Box<RawValue>),
    Failed(Refusal),
}

async fn run_batch(
    State(modules): State<Arc<Modules>>,
    Path((id, task)): Path<(String, String)>,
    inputs: Request,
) -> Result<Response, Refusal> {
    let open = open(&modules, &id, &task).await?;
    let inputs = inputs?;
    let lines: Vec<_> = inputs
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| inputs.slice_ref(line))
        .collect();
    // Tasks are submitted as the client takes results.
    let results = stream::iter(lines).map(move |input| {
        let (open, task) = (open.clone(), task.clone());
        async move {
            let line = match call(&open, &task, &input).await {
                Ok(output) => Line::Output(output),
                Err(refusal) => Line::Failed(refusal),
            };
            let mut line = serde_json::to_vec(&line)?;
            line.push(b'\n');
            Ok::<_, serde_json::Error>(line)
        }
    });
    let body = Body::from_stream(results.buffered(WINDOW));
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], body).into_response())
}

/// Returns the pool of a module that has such a task.
async fn open(modules: &Modules, id: &str, task: &str) -> Result<Arc<Open>, Refusal> {
    let hosted = modules.get(id)?;
    hosted.module.task(task)?;
    modules.pool(&hosted).await
}

/// Runs a task. The output is checked, because a module can claim that anything is JSON.
async fn call(open: &Open, task: &str, input: &[u8]) -> Result<Box<RawValue>, Refusal> {
    let mut submitted = Submitted(open.pool.submit_record(task, Format::Json, input)?);
    let output = (&mut submitted.0).await?;
    let no_json = |error| {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "no-json", format!("the output is no JSON: {error}"))
    };
    let mut output = String::from_utf8(output).map_err(|error| no_json(error.to_string()))?;
    // Between values there may be line breaks.
    if output.contains(['\n', '\r']) {
        output = output.replace(['\n', '\r'], " ");
    }
    RawValue::from_string(output).map_err(|error| no_json(error.to_string()))
}

/// A task of a client that may go away, which drops this value. The task isn't run then, if it hasn't begun.
struct Submitted(TaskFuture<Vec<u8>>);

impl Drop for Submitted {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
