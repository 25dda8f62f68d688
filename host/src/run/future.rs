//! A run that is awaited.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use super::{RunOutput, Stopper, Summary};
use crate::{Error, Result, Run, Signal};

/// The end of a [`Run`], as a future: of `run.await`, or of [`Run::into_output_future`].
///
/// ```no_run
/// # async fn example(module: sandpool::Module) -> sandpool::Result<()> {
/// let run = sandpool::Run::builder(&module).start()?;
/// println!("{}", run.await?.status);
/// # Ok(())
/// # }
/// ```
///
/// The future needs no runtime: a thread waits for the run and wakes it. Dropping the future ends the run, by SIGKILL.
#[must_use = "dropping it ends the run"]
pub struct RunFuture<T> {
    state: Arc<Mutex<RunFutureState<T>>>,
    stopper: Stopper,
}

struct RunFutureState<T> {
    /// How the thread has ended.
    ended: Option<thread::Result<Result<T>>>,
    waker: Option<Waker>,
}

impl Run {
    /// Returns a future of [`wait_with_output`](Self::wait_with_output).
    pub fn into_output_future(self) -> RunFuture<RunOutput> {
        RunFuture::new(self, Self::wait_with_output)
    }
}

impl IntoFuture for Run {
    type Output = Result<Summary>;
    type IntoFuture = RunFuture<Summary>;

    fn into_future(self) -> RunFuture<Summary> {
        RunFuture::new(self, Self::wait)
    }
}

impl<T: Send + 'static> RunFuture<T> {
    fn new(run: Run, wait: fn(Run) -> Result<T>) -> Self {
        let stopper = run.stopper();
        let state = Arc::new(Mutex::new(RunFutureState { ended: None, waker: None }));
        let shared = state.clone();
        let work = move || {
            let ended = catch_unwind(AssertUnwindSafe(|| wait(run)));
            let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
            state.ended = Some(ended);
            let waker = state.waker.take();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        };
        // Without a thread, the run was dropped with the closure, and has ended.
        if let Err(source) = thread::Builder::new().name("sandpool-wait".to_owned()).spawn(work) {
            let error = Error::Os { what: "start a thread", source };
            state.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(Ok(Err(error)));
        }
        Self { state, stopper }
    }
}

impl<T> Future for RunFuture<T> {
    type Output = Result<T>;

    /// # Panics
    /// If a callback of the run has panicked.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.ended.take() {
            Some(Ok(ended)) => Poll::Ready(ended),
            Some(Err(panic)) => {
                drop(state);
                resume_unwind(panic)
            }
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for RunFuture<T> {
    fn drop(&mut self) {
        // A run that has ended isn't changed.
        self.stopper.stop(Signal::KILL);
    }
}

impl<T> fmt::Debug for RunFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunFuture").field("stopper", &self.stopper).finish_non_exhaustive()
    }
}
