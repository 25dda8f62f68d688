//! Waiting for several things at once.

use std::time::Duration;

use sandpool_abi::{Errno, NO_WAIT, WAIT_MAX};

use crate::deadline::Deadline;
use crate::{Error, raw};

/// Something that [`wait`] can wait for.
///
/// | what | is ready when |
/// | --- | --- |
/// | [`Sentinel`](crate::process::Sentinel) | its process has ended |
/// | [`Connection`](crate::Connection) | it has a message to receive, or nobody is left to send one |
/// | [`Queue`](crate::Queue), [`JoinableQueue`](crate::JoinableQueue), [`SimpleQueue`](crate::SimpleQueue) | it has an item, or is closed |
/// | [`Event`](crate::Event) | it is set |
///
/// The trait can't be implemented for other types.
#[allow(private_bounds, reason = "that is what seals it")]
pub trait Waitable: Handle {}

/// The handle that the host is asked to wait for.
pub(crate) trait Handle {
    fn handle(&self) -> u64;

    /// The only process that may wait for the object, if there is such a process.
    fn owner(&self) -> Option<u64> {
        None
    }
}

impl<W: Waitable + ?Sized> Waitable for &W {}

impl<W: Handle + ?Sized> Handle for &W {
    fn handle(&self) -> u64 {
        (**self).handle()
    }

    fn owner(&self) -> Option<u64> {
        (**self).owner()
    }
}

/// Waits until at least one of several things is ready, or the time is over, and returns the indices of the ready
/// things.
///
/// ```no_run
/// use sandpool_guest::{Process, Queue, Waitable, wait};
///
/// let processes = [Process::fork(|| 1)?, Process::fork(|| 2)?];
/// let sentinels: Vec<_> = processes.iter().map(Process::sentinel).collect();
/// for index in wait(&sentinels, None)? {
///     println!("{} has ended", processes[index].name());
/// }
///
/// // Of different types:
/// let results = Queue::<u64>::new()?;
/// let ready = wait(&[&results as &dyn Waitable, &sentinels[0], &sentinels[1]], None)?;
/// if ready.first() == Some(&0) {
///     println!("there is a result");
/// }
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// Without a timeout, the wait has no end. The indices are in order; the list is empty when the time is over, or when
/// `things` is empty. A ready thing stays ready until a process takes the item or the message: with other processes
/// at work, that may have happened when this function returns, so go on with `try_get` or `try_recv`. A process that
/// was joined or closed counts as ended.
///
/// # Errors
/// [`Error::NotAChild`] for a sentinel that was made by another process. [`Error::OutOfRange`] for more than 4096 things.
#[doc(alias = "connection.wait")]
pub fn wait<W: Waitable>(things: &[W], timeout: Option<Duration>) -> Result<Vec<usize>, Error> {
    wait_until(things, timeout.map_or(Deadline::NEVER, Deadline::after))
}

/// Like [`wait`], for a caller that waits several times.
pub(crate) fn wait_until<W: Waitable>(things: &[W], deadline: Deadline) -> Result<Vec<usize>, Error> {
    let current = raw::process::current()?;
    if things.iter().any(|thing| thing.owner().is_some_and(|owner| owner != current)) {
        return Err(Error::NotAChild);
    }
    if things.is_empty() {
        return Ok(Vec::new());
    }
    if things.len() > WAIT_MAX {
        return Err(Error::OutOfRange("at most 4096 things can be waited for"));
    }
    let handles: Vec<_> = things.iter().map(Handle::handle).collect();
    let mut ready = vec![0; handles.len()];
    match raw::handle::wait(&handles, deadline.left(), &mut ready) {
        Ok(_) => {}
        // Some handles no longer name a process: these processes are ready, so all other things are only checked.
        Err(Errno::Badf) => {
            for ((thing, handle), ready) in things.iter().zip(&handles).zip(&mut ready) {
                match raw::handle::wait(&[*handle], NO_WAIT, std::slice::from_mut(ready)) {
                    Ok(_) => {}
                    Err(Errno::Badf) if thing.owner().is_some() => *ready = 1,
                    Err(other) => return Err(other.into()),
                }
            }
        }
        Err(other) => return Err(other.into()),
    }
    Ok(ready.iter().enumerate().filter(|(_, ready)| **ready != 0).map(|(index, _)| index).collect())
}
