//! A flag that processes wait for.

use std::sync::Arc;
use std::time::Duration;

use sandpool_abi::{Errno, FOREVER};

use crate::deadline::nanoseconds;
use crate::object::Object;
use crate::{Error, raw, wait};

/// A flag that any process sets or clears, and any number of processes wait for.
///
/// ```no_run
/// use sandpool_guest::{Event, Process};
///
/// let ready = Event::new()?;
/// let process = Process::fork(|| {
///     println!("preparing");
///     ready.set()
/// })?;
/// ready.wait()?;
/// println!("prepared");
/// process.join()?;
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// A forked process has all events of its creator. An event is also data: it can be an argument of a spawned process
/// and an item, or part of an item, of a queue. A clone is the same event. A process that waits for the event or sets
/// it, and ends in whatever way, leaves the event in order.
#[derive(Clone)]
pub struct Event {
    object: Arc<Object>,
}

same_object!(Event, "event", EVENT);

impl Event {
    /// Makes an event that isn't set.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn new() -> Result<Self, Error> {
        Ok(Self { object: Object::adopt(raw::sync::event_create()?) })
    }

    /// Sets the event: all waiting processes go on, and no process waits until the event is cleared. To set it again
    /// is no error.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn set(&self) -> Result<(), Error> {
        Ok(raw::sync::event_set(self.object.handle())?)
    }

    /// Clears the event: a process that waits from now on waits until the event is set. To clear it again is no
    /// error.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn clear(&self) -> Result<(), Error> {
        Ok(raw::sync::event_clear(self.object.handle())?)
    }

    /// Whether the event is set. With other processes at work, the answer may have changed already.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn is_set(&self) -> Result<bool, Error> {
        Ok(raw::sync::event_is_set(self.object.handle())?)
    }

    /// Waits until the event is set. A process that waits when the event is set goes on, even if the event is cleared
    /// again at once.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn wait(&self) -> Result<(), Error> {
        Ok(raw::sync::event_wait(self.object.handle(), FOREVER)?)
    }

    /// Waits until the event is set, but not for longer than `timeout`. Returns whether it was set; a timeout of zero
    /// only looks.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// let stop = sandpool_guest::Event::new()?;
    /// while !stop.wait_timeout(Duration::from_secs(1))? {
    ///     println!("still here");
    /// }
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, Error> {
        match raw::sync::event_wait(self.object.handle(), nanoseconds(timeout)) {
            Ok(()) => Ok(true),
            Err(Errno::Again | Errno::Timedout) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }
}

impl wait::Waitable for Event {}

impl wait::Handle for Event {
    fn handle(&self) -> u64 {
        self.object.handle()
    }
}
