//! Futures of single tasks.

use std::future::Future as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use sandpool::pool::{Failure, PoolEnd, TaskFuture, as_completed};

use crate::procfs;

use super::{pool, tasks};

/// A waker that counts.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_future_can_be_awaited_waited_for_and_cancelled() {
    let module = tasks();
    let pool = pool(&module).processes(1).build().unwrap();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut future = Box::pin(pool.submit::<u64, u64>("sleep", &30).unwrap());
    let mut context = Context::from_waker(&waker);
    assert!(future.as_mut().poll(&mut context).is_pending());
    assert!(procfs::eventually(|| wakes.0.load(Ordering::SeqCst) == 1));
    assert!(matches!(future.as_mut().poll(&mut context), Poll::Ready(Ok(30))));

    let busy = pool.submit::<u64, u64>("sleep", &300_000).unwrap();
    let others: Vec<_> = (0..10).map(|n| pool.submit::<u64, u64>("identity", &n).unwrap()).collect();
    assert!(!busy.wait_timeout(Duration::from_millis(1)));
    assert!(busy.is_running() && !busy.is_done());
    assert!(!busy.cancel(), "it was handed to a worker");
    let last = others.last().unwrap();
    assert!(last.cancel() && last.cancel() && last.is_done());
    assert_eq!(others.into_iter().next_back().unwrap().result().unwrap_err().cause, Failure::Cancelled);
    pool.terminate();
    assert_eq!(busy.result().unwrap_err().cause, Failure::PoolEnded(PoolEnd::Terminated));
    pool.join().unwrap();
}

#[test]
fn futures_come_as_they_are_completed() {
    let module = tasks();
    let pool = pool(&module).build().unwrap();
    let futures: Vec<_> = [400, 1].map(|ms| pool.submit::<u64, u64>("sleep", &ms).unwrap()).into();
    let order: Vec<_> = as_completed(futures).map(|future| future.result().unwrap()).collect();
    assert_eq!(order, [1, 400]);
    assert_eq!(as_completed(Vec::<TaskFuture<u64>>::new()).count(), 0);
}
