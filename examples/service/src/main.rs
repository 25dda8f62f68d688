//! Runs the tasks of modules that clients upload: `service [ADDRESS]`, by default `127.0.0.1:8080`.
//!
//! ```text
//! POST   /modules                          a module                     its id and its tasks
//! GET    /modules/{id}                                                  the same
//! DELETE /modules/{id}                                                  nothing
//! POST   /modules/{id}/tasks/{task}        an input, JSON               the output, JSON
//! POST   /modules/{id}/tasks/{task}/batch  inputs, a line of JSON each  a line for each, as they are done
//! ```

mod api;
mod modules;
mod refusal;

use std::env;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use self::modules::Modules;

/// How long running work may take when the service is to end.
const GRACE: Duration = Duration::from_secs(10);

fn main() -> anyhow::Result<()> {
    // Called before there is any thread: hence no `#[tokio::main]`.
    sandpool::init();
    let runtime = Runtime::new()?;
    let served = runtime.block_on(serve());
    // The service doesn't wait for a module that is being compiled.
    runtime.shutdown_background();
    served
}

async fn serve() -> anyhow::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener =
        TcpListener::bind(&address).await.with_context(|| format!("cannot listen at {address}"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    println!("listening at http://{}", listener.local_addr()?);

    let modules = Arc::new(Modules::new());
    let (stopping, stopped) = oneshot::channel();
    let until_stopped = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = stopping.send(());
    };
    let server = axum::serve(listener, api::routes(modules.clone())).with_graceful_shutdown(until_stopped);
    tokio::select! {
        served = server.into_future() => served?,
        () = async { let _ = stopped.await; tokio::time::sleep(GRACE).await } => {}
    }
    modules.close().await
}
