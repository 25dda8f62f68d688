//! A task that was submitted.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::outcome::{Completed, Decode};
use super::sink::{Cell, locked};
use crate::error::{Failure, TaskError};

/// A task that was submitted. A thread can wait for the task; async code can `await` it as a [`Future`].
///
/// ```no_run
/// use sandpool::pool::TaskFuture;
///
/// # fn example(pool: &sandpool::Pool) -> Result<(), sandpool::pool::TaskError> {
/// let first: TaskFuture<u64> = pool.submit("score", &"some text")?;
/// let second: TaskFuture<u64> = pool.submit("score", &"another")?;
/// println!("{}", first.result()? + second.result()?);
/// # Ok(())
/// # }
/// ```
///
/// If the future is dropped, the task goes on, as in Python, and nobody learns of its result. To give the task up,
/// [`cancel`](Self::cancel) it. The future needs no runtime: a thread of the pool wakes it.
#[must_use = "the task runs, but nobody learns of its result"]
pub struct TaskFuture<T> {
    cell: Arc<Cell>,
    task: Arc<str>,
    decode: Decode<T>,
    value: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for TaskFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskFuture").field("task", &self.task).field("is_done", &self.is_done()).finish()
    }
}

impl<T> TaskFuture<T> {
    pub(super) fn new(task: Arc<str>, decode: Decode<T>) -> (Self, Arc<Cell>) {
        let cell = Arc::new(Cell::default());
        (Self { cell: cell.clone(), task, decode, value: PhantomData }, cell)
    }

    /// Whether the task has a result, has failed or was cancelled.
    #[must_use]
    pub fn is_done(&self) -> bool {
        locked(&self.cell.state).is_done
    }

    /// Whether the task was handed to a worker and isn't done. A task that was handed over waits there only for a moment.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let state = locked(&self.cell.state);
        state.has_begun && !state.is_done
    }

    /// Prevents the task from being run, if it wasn't handed to a worker yet. Returns whether the task is cancelled now.
    ///
    /// The result of a cancelled task is [`Failure::Cancelled`].
    pub fn cancel(&self) -> bool {
        let mut state = locked(&self.cell.state);
        if state.is_cancelled {
            return true;
        }
        if state.has_begun || state.is_done {
            return false;
        }
        state.is_cancelled = true;
        drop(state);
        self.cell.complete(Err(self.error(Failure::Cancelled)));
        true
    }

    /// Waits for the task's output.
    ///
    /// # Errors
    /// [`TaskError`], which says why there is no output.
    pub fn result(self) -> Result<T, TaskError> {
        self.completed().map(|completed| completed.value)
    }

    /// Waits for the task's output, and returns it with the figures of how the task ran.
    ///
    /// # Errors
    /// [`TaskError`], which says why there is no output.
    pub fn completed(self) -> Result<Completed<T>, TaskError> {
        self.wait();
        self.take()
    }

    /// Waits until the task is done.
    pub fn wait(&self) {
        let mut state = locked(&self.cell.state);
        while !state.is_done {
            state = self.cell.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until the task is done, but no longer than `timeout`. Returns whether the task is done; if not, it goes on.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let end = Instant::now().checked_add(timeout);
        let mut state = locked(&self.cell.state);
        while !state.is_done {
            let Some(left) =
                end.map_or(Some(Duration::MAX), |end| end.checked_duration_since(Instant::now()))
            else {
                return false;
            };
            state = self.cell.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn take(&self) -> Result<Completed<T>, TaskError> {
        match locked(&self.cell.state).outcome.take() {
            Some(Ok(completed)) => (self.decode)(completed, &self.task),
            Some(Err(error)) => Err(error),
            // The future was awaited again after it was ready.
            None => Err(self.error(Failure::Cancelled)),
        }
    }

    fn error(&self, cause: Failure) -> TaskError {
        TaskError::untried(&self.task, cause)
    }

    fn tell(&self, sender: Sender<usize>, number: usize) {
        let mut state = locked(&self.cell.state);
        if state.is_done {
            drop(state);
            let _ = sender.send(number);
        } else {
            state.told = Some((sender, number));
        }
    }
}

impl<T> Future for TaskFuture<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = locked(&self.cell.state);
        if !state.is_done {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        Poll::Ready(self.take().map(|completed| completed.value))
    }
}

/// Iterates over futures in the order in which they are done.
///
/// ```no_run
/// # fn example(pool: &sandpool::Pool) -> Result<(), sandpool::pool::TaskError> {
/// let futures: Vec<_> =
///     (1..10).map(|n| pool.submit::<u64, u64>("slow", &n)).collect::<Result<_, _>>()?;
/// for future in sandpool::pool::as_completed(futures) {
///     println!("{}", future.result()?);
/// }
/// # Ok(())
/// # }
/// ```
pub fn as_completed<T>(futures: impl IntoIterator<Item = TaskFuture<T>>) -> AsCompleted<T> {
    let (sender, done) = mpsc::channel();
    let futures: Vec<_> = futures.into_iter().map(Some).collect();
    for (number, future) in futures.iter().enumerate() {
        if let Some(future) = future {
            future.tell(sender.clone(), number);
        }
    }
    AsCompleted { left: futures.len(), futures, done }
}

/// Iterator that [`as_completed`] returns.
#[derive(Debug)]
pub struct AsCompleted<T> {
    futures: Vec<Option<TaskFuture<T>>>,
    left: usize,
    done: Receiver<usize>,
}

impl<T> Iterator for AsCompleted<T> {
    type Item = TaskFuture<T>;

    fn next(&mut self) -> Option<TaskFuture<T>> {
        while self.left > 0 {
            let number = self.done.recv().ok()?;
            self.left -= 1;
            if let Some(future) = self.futures.get_mut(number).and_then(Option::take) {
                return Some(future);
            }
        }
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::{Wake, Waker};
    use std::thread;

    use super::super::outcome::Outcome;
    use super::super::sink::Sink;
    use super::*;
    use crate::error::Usage;
    use crate::testing::deadline::{wait_until_asleep, within_deadline};

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Count {
        fn get(&self) -> u32 {
            self.0.load(Ordering::SeqCst)
        }
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as it must");
        }
    }

    fn future() -> (TaskFuture<()>, Arc<Cell>) {
        TaskFuture::new("task".into(), |completed, name| completed.decode(name))
    }

    fn completed(attempts: u32) -> Outcome {
        Ok(Completed {
            value: Vec::new(),
            stdout: Vec::new(),
            stderr: Vec::new(),
            usage: Usage::default(),
            attempts,
        })
    }

    /// The future may have moved to another task of the runtime. Only that task must be woken.
    #[test]
    fn the_one_who_has_polled_last_is_woken() {
        let (future, cell) = future();
        let mut future = pin!(future);
        let counts = [(); 3].map(|()| Arc::<Count>::default());
        for count in &counts {
            let waker = Waker::from(count.clone());
            let mut context = Context::from_waker(&waker);
            assert!(future.as_mut().poll(&mut context).is_pending());
        }
        cell.complete(completed(1));
        assert_eq!(counts.each_ref().map(|count| count.get()), [0, 0, 1]);
        // The future is woken once, whatever comes later.
        cell.complete(completed(2));
        assert_eq!(counts.each_ref().map(|count| count.get()), [0, 0, 1]);
        let mut context = Context::from_waker(Waker::noop());
        assert!(matches!(future.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
        // The future has no second result.
        assert!(matches!(future.as_mut().poll(&mut context), Poll::Ready(Err(_))));
    }

    #[test]
    fn who_waits_is_told_although_a_waker_panics() {
        let (future, cell) = future();
        let mut pinned = pin!(future);
        let waker = Waker::from(Arc::new(Panics));
        assert!(pinned.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let (sender, told) = mpsc::channel();
        pinned.tell(sender, 7);
        cell.complete(completed(1));
        assert_eq!(told.try_recv(), Ok(7));
        assert!(pinned.is_done());
    }

    #[test]
    fn the_first_result_is_the_one() {
        let (future, cell) = future();
        assert!(!future.is_done() && !future.is_running());
        assert!(!future.wait_timeout(Duration::ZERO));
        assert!(Sink::Cell(cell.clone()).begin());
        assert!(future.is_running() && !future.cancel());
        cell.complete(completed(1));
        cell.complete(completed(2));
        assert!(future.is_done() && !future.is_running() && !future.cancel());
        assert!(future.wait_timeout(Duration::MAX));
        assert_eq!(within_deadline(|| future.completed()).unwrap().attempts, 1);
    }

    #[test]
    fn all_threads_that_wait_are_told() {
        let (future, cell) = future();
        let (sender, numbers) = mpsc::channel();
        within_deadline(|| {
            thread::scope(|scope| {
                for _ in 0..3 {
                    let (sender, future) = (sender.clone(), &future);
                    scope.spawn(move || {
                        sender.send(nix::unistd::gettid()).unwrap();
                        future.wait();
                    });
                }
                (0..3).for_each(|_| wait_until_asleep(numbers.recv().unwrap()));
                cell.complete(completed(1));
            });
        });
    }

    #[test]
    fn what_is_cancelled_is_not_begun_and_has_no_other_result() {
        let (future, cell) = future();
        assert!(future.cancel() && future.cancel() && future.is_done());
        assert!(!Sink::Cell(cell.clone()).begin());
        cell.complete(completed(1));
        assert_eq!(within_deadline(|| future.result()).unwrap_err().cause, Failure::Cancelled);
    }

    #[test]
    fn futures_come_in_the_order_in_which_they_are_done() {
        let (futures, cells): (Vec<_>, Vec<_>) = (0..4).map(|_| future()).unzip();
        let complete = |at: usize| cells.get(at).unwrap().complete(completed(at as u32));
        complete(2);
        let mut done = as_completed(futures);
        assert_eq!(done.size_hint(), (4, Some(4)));
        for at in [3, 0, 1] {
            complete(at);
        }
        let order: Vec<_> =
            within_deadline(|| done.by_ref().map(|future| future.completed().unwrap().attempts).collect());
        assert_eq!(order, [2, 3, 0, 1]);
        assert_eq!(done.size_hint(), (0, Some(0)));
    }
}
